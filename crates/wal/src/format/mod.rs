//! Format 1: what a block is, byte by byte (`docs/format.md` has the table and the reasons).
//!
//! Guarantees: decoding never panics and never allocates from a length that was not verified; zeros
//! never decode as valid; a block read at a place that is not its LSN is [`BlockError::Stale`].
//! Not here: where blocks lie in files, and what a bad one means (recovery decides that).

mod block;
mod control;
mod header;
mod record;

pub use block::{Block, BlockBuilder, BlockError, Opened};
pub use control::{EpochEntry, EpochBegin, Open, SegmentHead};
pub use header::{BlockHeader, HEADER_BYTES, Kind, MAGIC, VERSION};
pub use record::{Record, RecordError, RecordFlag, Records, record_frame_bytes};
