//! Format 1: what a block is, byte by byte (`docs/format.md` has the tables and the reasons).
//!
//! Guarantees: decoding never panics and never allocates from a length that was not verified; zeros
//! never decode as valid; a block read at a place that is not its LSN is [`BlockError::Stale`]; a
//! block of another log is [`BlockError::HeaderChecksum`].
//! Not here: where blocks lie in files, and what a bad one means (recovery decides that).
//!
//! ```
//! use outrigger_wal::format::{Block, BlockBuilder, RecordFlag, Seal};
//! use outrigger_wal::{LogId, Lsn, RunningHash};
//!
//! let seal = Seal {
//!     log: LogId(7),
//!     lsn: Lsn(4096),
//!     epoch: 1,
//!     hash_before: RunningHash(0),
//!     durable: Lsn::ZERO,
//!     commit: Lsn::ZERO,
//!     sealed_micros: 0,
//! };
//! let mut open = BlockBuilder::new();
//! let (start, _) = open.push(b"a record", RecordFlag::Record);
//! let sealed = open.seal(&seal);
//!
//! let read = Block::open(sealed.stored().clone(), Lsn(4096), LogId(7))?;
//! let record = read.records()?.next().unwrap()?;
//! assert_eq!(record.lsn, Lsn(4096 + u64::from(start)));
//! assert_eq!(&record.body[..], b"a record");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod block;
mod builder;
mod clean;
mod compress;
mod control;
mod error;
mod header;
mod limits;
mod record;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use builder::{BlockBuilder, Seal};
pub use clean::{CLEAN_MARK_BYTES, CleanMark, CleanMarkError};
pub use control::{EpochBegin, EpochEntry, MAX_EPOCH_ENTRIES, Open, SegmentHead};
pub use error::BlockError;
pub use header::{
    BlockHeader, COMPRESSION_NONE, COMPRESSION_ZSTD, HEADER_BYTES, Kind, MAGIC, VERSION,
};
pub use limits::{
    DEFAULT_SEGMENT_BYTES, MAX_BLOCK_BYTES, MAX_RECORD_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES,
    is_segment_bytes, max_record_bytes,
};
pub use record::{Record, RecordError, RecordFlag, Records, record_frame_bytes};
