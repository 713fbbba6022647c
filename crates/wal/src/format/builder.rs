//! Making blocks: the open block that records are pushed into, and the sealing of every kind.
//!
//! Guarantees: a block is built in one buffer with its header's place kept free in front, so sealing
//! copies no payload; checksums are computed once, over the whole. Not here: when to seal, and
//! compression.

use bytes::{BufMut, BytesMut};

use super::block::Block;
use super::control::{EpochBegin, Open, SegmentHead};
use super::header::{BlockHeader, COMPRESSION_NONE, HEADER_BYTES, HEADER_BYTES_U32, Kind};
use super::limits::MAX_BLOCK_BYTES;
use super::record::{RecordFlag, put_frame, record_frame_bytes};
use crate::lsn::{LogId, Lsn, RunningHash};

/// What sealing adds to a block's content: its place in the log, and the promises of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    /// The log it belongs to.
    pub log: LogId,
    /// Where it starts.
    pub lsn: Lsn,
    /// The number of the epoch it is sealed in.
    pub epoch: u64,
    /// The running hash of the log before it.
    pub hash_before: RunningHash,
    /// What the sealer has durable.
    pub durable: Lsn,
    /// What is committed.
    pub commit: Lsn,
    /// The wall clock, microseconds UTC; decides nothing.
    pub sealed_micros: u64,
}

/// A Data block in the making.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct BlockBuilder {
    bytes: BytesMut,
    record_count: u32,
}

impl BlockBuilder {
    /// An empty block.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(HEADER_BYTES)
    }

    /// An empty block with room for `bytes` bytes, header included, before its buffer must grow.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: headed(bytes), record_count: 0 }
    }

    /// Whether a record with a body of `body_len` bytes still fits into the largest block there is.
    #[must_use]
    pub fn fits(&self, body_len: usize) -> bool {
        record_frame_bytes(body_len)
            .checked_add(self.bytes.len() as u64)
            .is_some_and(|len| len <= u64::from(MAX_BLOCK_BYTES))
    }

    /// Adds a record; returns where it starts and ends, counted from the block's start.
    ///
    /// # Panics
    /// When it does not fit ([`BlockBuilder::fits`]): nobody could read the block.
    pub fn push(&mut self, body: &[u8], flag: RecordFlag) -> (u32, u32) {
        assert!(self.fits(body.len()), "a block of more than {MAX_BLOCK_BYTES} bytes");
        let start = self.true_len();
        put_frame(&mut self.bytes, body.len(), flag);
        self.bytes.put_slice(body);
        self.record_count += 1;
        (start, self.true_len())
    }

    /// The block's length so far: header and records.
    #[must_use]
    pub fn true_len(&self) -> u32 {
        len_u32(&self.bytes)
    }

    /// The records so far, voids included.
    #[must_use]
    pub const fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether nothing was pushed yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Closes the block, without copying what is in it.
    #[must_use]
    pub fn seal(self, seal: &Seal) -> Block {
        let true_len = self.true_len();
        finish(Kind::Data, self.bytes, true_len, self.record_count, seal)
    }
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Block {
    /// A Pad that takes `extent` bytes of log space: a multiple of 4096, up to its segment's end.
    #[must_use]
    pub fn pad(extent: u32, seal: &Seal) -> Self {
        finish(Kind::Pad, headed(HEADER_BYTES), extent, 0, seal)
    }

    /// The first block of a segment. Of more than [`MAX_EPOCH_ENTRIES`](super::MAX_EPOCH_ENTRIES)
    /// epochs the latest are kept.
    #[must_use]
    pub fn segment_head(head: &SegmentHead, seal: &Seal) -> Self {
        control(Kind::SegmentHead, seal, |out| head.put(out))
    }

    /// The first block of an epoch.
    #[must_use]
    pub fn epoch_begin(begin: &EpochBegin, seal: &Seal) -> Self {
        control(Kind::EpochBegin, seal, |out| begin.put(out))
    }

    /// The mark of an opening for append.
    #[must_use]
    pub fn open_mark(open: &Open, seal: &Seal) -> Self {
        control(Kind::Open, seal, |out| open.put(out))
    }

    /// A block that holds nothing but the promises in `seal`.
    #[must_use]
    pub fn watermark(seal: &Seal) -> Self {
        control(Kind::Watermark, seal, |_| {})
    }
}

fn control(kind: Kind, seal: &Seal, put: impl FnOnce(&mut BytesMut)) -> Block {
    let mut bytes = headed(HEADER_BYTES);
    put(&mut bytes);
    let true_len = len_u32(&bytes);
    finish(kind, bytes, true_len, 0, seal)
}

fn headed(capacity: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(capacity.max(HEADER_BYTES));
    bytes.put_bytes(0, HEADER_BYTES);
    bytes
}

fn len_u32(bytes: &BytesMut) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn finish(kind: Kind, mut bytes: BytesMut, true_len: u32, record_count: u32, seal: &Seal) -> Block {
    let (head, payload) = bytes.split_at_mut(HEADER_BYTES);
    let header = BlockHeader {
        kind,
        skip_flags: 0,
        refuse_flags: 0,
        compression: COMPRESSION_NONE,
        payload_crc: crc32fast::hash(payload),
        true_len,
        stored_len: HEADER_BYTES_U32
            .saturating_add(u32::try_from(payload.len()).unwrap_or(u32::MAX)),
        record_count,
        lsn: seal.lsn,
        epoch: seal.epoch,
        hash_before: seal.hash_before,
        durable: seal.durable,
        commit: seal.commit,
        sealed_micros: seal.sealed_micros,
    };
    head.copy_from_slice(&header.encode(seal.log));
    Block::sealed(header, bytes.freeze())
}
