//! What control blocks say: SegmentHead, EpochBegin and Open, and the entries of an epoch table.
//!
//! Guarantees: decoding takes exactly what encoding put, or `None`; each fits into one page with its
//! header. Not here: what they mean for a log (recovery), and Watermark, which says nothing.

use bytes::{Buf, BufMut};

use super::block::{Block, checked_payload};
use super::error::BlockError;
use super::header::{BlockHeader, HEADER_BYTES, Kind};
use super::limits::is_segment_bytes;
use crate::lsn::{ContentId, Epoch, InstanceId, LogId, Lsn, PAGE_BYTES, RunningHash};

/// How many epochs a [`SegmentHead`] lists, at most.
pub const MAX_EPOCH_ENTRIES: usize = 64;

const EPOCH_BYTES: usize = 24;
const ENTRY_BYTES: usize = 48;
const SEGMENT_HEAD_BYTES: usize = 64;
const EPOCH_BEGIN_BYTES: usize = 72;
const OPEN_BYTES: usize = 40;
const HEADER_LENGTH_AT: usize = 10;

/// One line of an epoch table: whose reign started where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEntry {
    /// The reign.
    pub epoch: Epoch,
    /// The LSN of its EpochBegin: where the log of the reign before ended.
    pub start: Lsn,
    /// Its primary.
    pub instance: InstanceId,
}

impl EpochEntry {
    /// Writes the entry's 48 bytes.
    pub fn put(&self, out: &mut impl BufMut) {
        put_epoch(out, self.epoch);
        out.put_u64_le(self.start.0);
        out.put_u128_le(self.instance.0);
    }

    /// Takes an entry's 48 bytes; `None` when fewer are there.
    #[must_use]
    pub fn take(from: &mut impl Buf) -> Option<Self> {
        (from.remaining() >= ENTRY_BYTES).then(|| Self {
            epoch: take_epoch(from),
            start: Lsn(from.get_u64_le()),
            instance: InstanceId(from.get_u128_le()),
        })
    }
}

/// The first block of each segment: whose it is, and what came before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHead {
    /// The log.
    pub log: LogId,
    /// The content that the log is of.
    pub content: ContentId,
    /// The size of each segment of this log.
    pub segment_bytes: u64,
    /// Where the segment starts.
    pub start: Lsn,
    /// Where the segment before it ends.
    pub predecessor_end: Lsn,
    /// The running hash there.
    pub predecessor_hash: RunningHash,
    /// The latest epochs, at most [`MAX_EPOCH_ENTRIES`], oldest first.
    pub epochs: Vec<EpochEntry>,
}

impl SegmentHead {
    /// The epoch that begins with this segment: one whose primary sealed this head as its first
    /// block. Its `EpochBegin` follows right behind.
    #[must_use]
    pub fn begins(&self) -> Option<&EpochEntry> {
        self.epochs.last().filter(|entry| entry.start == self.start)
    }

    /// Reads a segment's first page without knowing whose it is: takes the log id, which stands
    /// there in clear, and verifies everything with it. Where the page lies is for the caller to
    /// compare with `start`.
    ///
    /// # Errors
    /// Why the page holds no head of a segment.
    pub fn peek(page: &[u8]) -> Result<Self, BlockError> {
        let mut clear = page.get(HEADER_LENGTH_AT..).unwrap_or_default();
        let length = clear.try_get_u16_le().map_or(HEADER_BYTES, usize::from);
        let mut clear = page.get(length..).unwrap_or_default();
        let log = LogId(clear.try_get_u128_le().unwrap_or_default());
        let header = BlockHeader::decode(page, log)?;
        let payload = checked_payload(&header, page)?;
        if header.kind != Kind::SegmentHead {
            return Err(BlockError::Payload);
        }
        Self::take(payload)
            .filter(|head| head.log == log && head.is_of(&header))
            .ok_or(BlockError::Payload)
    }

    pub(super) fn put(&self, out: &mut impl BufMut) {
        let skipped = self.epochs.len().saturating_sub(MAX_EPOCH_ENTRIES);
        let count = u32::try_from(self.epochs.len() - skipped).unwrap_or(u32::MAX);
        out.put_u128_le(self.log.0);
        out.put_u64_le(self.segment_bytes);
        out.put_i32_le(self.content.0);
        out.put_u32_le(count);
        out.put_u64_le(self.start.0);
        out.put_u64_le(self.predecessor_end.0);
        out.put_u128_le(self.predecessor_hash.0);
        for entry in self.epochs.iter().skip(skipped) {
            entry.put(out);
        }
    }

    pub(super) fn take(mut from: &[u8]) -> Option<Self> {
        if from.len() < SEGMENT_HEAD_BYTES {
            return None;
        }
        let log = LogId(from.get_u128_le());
        let segment_bytes = from.get_u64_le();
        let content = ContentId(from.get_i32_le());
        let count = usize::try_from(from.get_u32_le()).ok()?;
        let start = Lsn(from.get_u64_le());
        let predecessor_end = Lsn(from.get_u64_le());
        let predecessor_hash = RunningHash(from.get_u128_le());
        if count > MAX_EPOCH_ENTRIES || from.len() != count * ENTRY_BYTES {
            return None;
        }
        let mut epochs = Vec::with_capacity(count);
        while let Some(entry) = EpochEntry::take(&mut from) {
            epochs.push(entry);
        }
        Some(Self { log, content, segment_bytes, start, predecessor_end, predecessor_hash, epochs })
    }

    /// Whether this can be what the block with `header` says: at the start of a segment.
    const fn is_of(&self, header: &BlockHeader) -> bool {
        is_segment_bytes(self.segment_bytes)
            && self.start.0 == header.lsn.0
            && self.start.0.is_multiple_of(self.segment_bytes)
    }
}

/// The first block of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochBegin {
    /// The reign that begins.
    pub epoch: Epoch,
    /// Its primary.
    pub instance: InstanceId,
    /// This block's own LSN: where the log of the reign before ended.
    pub from: Lsn,
    /// The reign before.
    pub previous: Epoch,
}

impl EpochBegin {
    /// Whether the block may lie at `lsn`: where its epoch begins, or right behind the head of the
    /// segment that the epoch begins with.
    fn is_at(&self, lsn: Lsn) -> bool {
        self.from == lsn || self.from.checked_add(PAGE_BYTES) == Some(lsn)
    }

    pub(super) fn put(&self, out: &mut impl BufMut) {
        put_epoch(out, self.epoch);
        out.put_u128_le(self.instance.0);
        out.put_u64_le(self.from.0);
        put_epoch(out, self.previous);
    }

    pub(super) fn take(mut from: &[u8]) -> Option<Self> {
        (from.len() == EPOCH_BEGIN_BYTES).then(|| Self {
            epoch: take_epoch(&mut from),
            instance: InstanceId(from.get_u128_le()),
            from: Lsn(from.get_u64_le()),
            previous: take_epoch(&mut from),
        })
    }
}

/// The mark of an opening for append: from here on, this instance seals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// The reign it is opened in.
    pub epoch: Epoch,
    /// Who opened it.
    pub instance: InstanceId,
}

impl Open {
    pub(super) fn put(&self, out: &mut impl BufMut) {
        put_epoch(out, self.epoch);
        out.put_u128_le(self.instance.0);
    }

    pub(super) fn take(mut from: &[u8]) -> Option<Self> {
        (from.len() == OPEN_BYTES).then(|| Self {
            epoch: take_epoch(&mut from),
            instance: InstanceId(from.get_u128_le()),
        })
    }
}

/// Whether a control block's payload is what its kind demands, and agrees with the header.
pub(super) fn check(block: &Block, log: LogId) -> Result<(), BlockError> {
    let header = block.header();
    let sound = match header.kind {
        Kind::Data => true,
        Kind::Pad | Kind::Watermark => block.stored().len() == HEADER_BYTES,
        Kind::SegmentHead => {
            block.segment_head_entry().is_some_and(|head| head.log == log && head.is_of(header))
        }
        Kind::EpochBegin => block
            .epoch_begin_entry()
            .is_some_and(|begin| begin.is_at(header.lsn) && begin.epoch.number == header.epoch),
        Kind::Open => block.open_entry().is_some_and(|open| open.epoch.number == header.epoch),
    };
    if sound { Ok(()) } else { Err(BlockError::Payload) }
}

fn put_epoch(out: &mut impl BufMut, epoch: Epoch) {
    out.put_u64_le(epoch.number);
    out.put_u128_le(epoch.nonce);
}

/// The caller has checked that `EPOCH_BYTES` are there.
fn take_epoch(from: &mut impl Buf) -> Epoch {
    debug_assert!(from.remaining() >= EPOCH_BYTES, "an epoch is {EPOCH_BYTES} bytes");
    Epoch { number: from.get_u64_le(), nonce: from.get_u128_le() }
}
