//! Where producers meet: many of them, one order, and an LSN that never moves once returned.
//!
//! One lock holds the open block, its start and the segment's end. An append claims its place and
//! copies its bytes, nothing else; sealing (checksum, running hash) happens outside, by whoever
//! steps the [`Log`](crate::Log). Closing a block at its fill is a claim too.
//!
//! Guarantees: the blocks taken by [`Appender::take`] tile the log without a gap, segments begin with a
//! `SegmentHead`, no block crosses a segment, a batch lies in one block.
//! Not here: when to seal, and the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::IoFault;
use crate::error::Error;
use crate::format::{BlockBuilder, EpochBegin, HEADER_BYTES, Open, RecordFlag, record_frame_bytes};
use crate::lsn::{Lsn, PAGE_BYTES};

/// Where an appended record, or a batch, lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "nothing is durable before `end` is"]
pub struct Appended {
    /// Where readers begin.
    pub start: Lsn,
    /// What waits take: the record is durable when the durable LSN has reached it.
    pub end: Lsn,
}

/// One time that an [`Appender`] was opened: what is appended in it belongs to one reign.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Opening(u64);

/// A block whose place is claimed and whose header is still to be written.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(crate) enum Claimed {
    Data { lsn: Lsn, body: BlockBuilder },
    Pad { lsn: Lsn, extent: u32 },
    SegmentHead { lsn: Lsn },
    EpochBegin { lsn: Lsn, begin: EpochBegin },
    Open { lsn: Lsn, open: Open },
    Watermark { lsn: Lsn },
}

impl Claimed {
    /// How much of the log space it takes.
    fn extent(&self) -> u64 {
        match self {
            Self::Data { body, .. } => u64::from(body.true_len()).next_multiple_of(PAGE_BYTES),
            Self::Pad { extent, .. } => u64::from(*extent),
            _ => PAGE_BYTES,
        }
    }
}

/// A control block to be claimed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    EpochBegin(EpochBegin),
    Open(Open),
    Watermark,
}

/// Why nothing can be appended.
#[derive(Clone, Debug)]
enum Gate {
    Open,
    /// Its reign is being handed over: what was claimed is sealed, nothing more is taken for now.
    Frozen,
    /// This copy does not reign.
    Shut,
    Poisoned(IoFault),
    Closed,
}

#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Inner {
    gate: Gate,
    opening: Opening,
    body: BlockBuilder,
    /// Where the open block begins.
    start: Lsn,
    claimed: VecDeque<Claimed>,
}

/// The shared end of a log that producers append to.
#[derive(Debug)]
pub struct Appender {
    inner: Mutex<Inner>,
    segment_bytes: u64,
    target_block_bytes: u32,
    max_record_bytes: u32,
    max_pending_bytes: u64,
    /// Log space claimed and not yet durable: what the bound on memory counts.
    durable: AtomicU64,
}

impl Appender {
    pub(crate) fn new(
        segment_bytes: u64,
        max_record_bytes: u32,
        target_block_bytes: u32,
        max_pending_bytes: u64,
    ) -> Self {
        Self {
            inner: Mutex::new(Inner {
                gate: Gate::Shut,
                opening: Opening::default(),
                body: BlockBuilder::new(),
                start: Lsn::ZERO,
                claimed: VecDeque::new(),
            }),
            segment_bytes,
            target_block_bytes,
            max_record_bytes,
            max_pending_bytes,
            durable: AtomicU64::new(0),
        }
    }

    /// Appends one record; returns its place at once. An empty record is legal.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] and [`Error::Full`] change nothing; [`Error::Poisoned`] and [`Error::Closed`] are
    /// for good; [`Error::NotPrimary`] while this copy does not reign.
    ///
    /// # Durability
    /// None: wait for `end`.
    pub fn append(&self, record: &[u8]) -> Result<Appended, Error> {
        self.append_batch(&[record])
    }

    /// Appends records that are read back all together or not at all: they lie in one block.
    ///
    /// # Errors
    /// As [`Appender::append`]; the limit holds for the whole batch. An empty batch is an error.
    pub fn append_batch(&self, records: &[&[u8]]) -> Result<Appended, Error> {
        self.append_in(None, records)
    }

    /// The opening that appends are taken in now.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.inner.lock().opening
    }

    /// [`Appender::append_batch`], in this opening or not at all: a producer that was held up must not
    /// append to a later reign what it takes for part of an earlier one.
    ///
    /// # Errors
    /// As [`Appender::append_batch`]; [`Error::NotPrimary`] when it was opened again since.
    pub fn append_batch_in(&self, opening: Opening, records: &[&[u8]]) -> Result<Appended, Error> {
        self.append_in(Some(opening), records)
    }

    fn append_in(&self, opening: Option<Opening>, records: &[&[u8]]) -> Result<Appended, Error> {
        let Some((last, others)) = records.split_last() else {
            return Err(Error::Config {
                setting: "batch",
                cause: "a batch has at least one record".to_owned(),
            });
        };
        let limit = record_frame_bytes(self.max_record_bytes as usize);
        let framed: u64 = records.iter().map(|record| record_frame_bytes(record.len())).sum();
        if framed > limit {
            // What is named must be what was counted: a record without its frame, a batch with it.
            let (found, limit) = match records {
                [record] => (record.len() as u64, u64::from(self.max_record_bytes)),
                _ => (framed, limit),
            };
            return Err(Error::RecordTooLarge { found, limit });
        }

        let mut inner = self.inner.lock();
        inner.check()?;
        if opening.is_some_and(|opening| opening != inner.opening) {
            return Err(Error::NotPrimary);
        }
        let pending = inner.end().since(Lsn(self.durable.load(Ordering::Relaxed)));
        if pending > self.max_pending_bytes {
            return Err(Error::Full { pending, limit: self.max_pending_bytes });
        }
        let room = u64::from(self.target_block_bytes);
        if !inner.body.is_empty() && u64::from(inner.body.true_len()).saturating_add(framed) > room
        {
            inner.close_body();
        }
        inner.make_room(framed, self.segment_bytes);
        let block = inner.start;
        let mut start = None;
        for record in others {
            let (at, _) = inner.body.push(record, RecordFlag::BatchContinues);
            start.get_or_insert(at);
        }
        let (at, end) = inner.body.push(last, RecordFlag::Record);
        let start = start.unwrap_or(at);
        Ok(Appended {
            start: block.saturating_add(u64::from(start)),
            end: block.saturating_add(u64::from(end)),
        })
    }

    /// Behind everything that was appended so far.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.inner.lock().end()
    }

    /// The largest record, in bytes. A batch may take as much as one framed record of that size.
    #[must_use]
    pub const fn max_record_bytes(&self) -> u32 {
        self.max_record_bytes
    }

    /// Whether anything is claimed that was not taken.
    pub(crate) fn has_pending(&self) -> bool {
        let inner = self.inner.lock();
        !inner.claimed.is_empty() || !inner.body.is_empty()
    }

    /// Begins to take appends at `end`, the end of the sealed log.
    pub(crate) fn open_at(&self, end: Lsn) {
        let mut inner = self.inner.lock();
        inner.gate = Gate::Open;
        inner.opening = Opening(inner.opening.0.wrapping_add(1));
        inner.start = end;
        inner.body = BlockBuilder::new();
        inner.claimed.clear();
        self.durable.store(end.0, Ordering::Relaxed);
    }

    /// Takes no appends for now; what was claimed will be taken.
    pub(crate) fn freeze(&self) {
        let mut inner = self.inner.lock();
        if matches!(inner.gate, Gate::Open) {
            inner.gate = Gate::Frozen;
        }
    }

    /// Takes appends again, in the same opening.
    pub(crate) fn thaw(&self) {
        let mut inner = self.inner.lock();
        if matches!(inner.gate, Gate::Frozen) {
            inner.gate = Gate::Open;
        }
    }

    /// Takes no more appends; what was claimed and not taken is forgotten.
    pub(crate) fn shut(&self) {
        let mut inner = self.inner.lock();
        if matches!(inner.gate, Gate::Open | Gate::Frozen) {
            inner.gate = Gate::Shut;
        }
        inner.body = BlockBuilder::new();
        inner.claimed.clear();
    }

    /// Takes no more appends, for good; what was claimed will still be taken.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        if !matches!(inner.gate, Gate::Poisoned(_)) {
            inner.gate = Gate::Closed;
        }
    }

    /// Every later caller gets `cause`.
    pub(crate) fn poison(&self, cause: &IoFault) {
        let mut inner = self.inner.lock();
        inner.gate = Gate::Poisoned(cause.clone());
        inner.body = BlockBuilder::new();
        inner.claimed.clear();
    }

    pub(crate) fn durable_is(&self, durable: Lsn) {
        self.durable.store(durable.0, Ordering::Relaxed);
    }

    /// Another appender in the same state.
    #[cfg(feature = "model")]
    pub(crate) fn fork(&self) -> Self {
        Self {
            inner: Mutex::new(self.inner.lock().clone()),
            durable: AtomicU64::new(self.durable.load(Ordering::Relaxed)),
            ..*self
        }
    }

    /// Everything that decides what it does; of what is claimed and not taken, where it ends.
    #[cfg(feature = "model")]
    pub(crate) fn fingerprint<H: std::hash::Hasher>(&self, into: &mut H) {
        use std::hash::Hash;
        let inner = self.inner.lock();
        std::mem::discriminant(&inner.gate).hash(into);
        (inner.start, inner.body.true_len(), inner.claimed.len()).hash(into);
    }

    /// Claims the place of a control block behind everything that was appended.
    pub(crate) fn claim(&self, control: Control) -> Lsn {
        let mut inner = self.inner.lock();
        inner.close_body();
        inner.make_room(0, self.segment_bytes);
        let lsn = inner.start;
        let claimed = match control {
            Control::EpochBegin(begin) => Claimed::EpochBegin { lsn, begin },
            Control::Open(open) => Claimed::Open { lsn, open },
            Control::Watermark => Claimed::Watermark { lsn },
        };
        inner.push(claimed);
        lsn
    }

    /// Takes claimed blocks in order, up to about `max_bytes` of log space; closes the open block
    /// when nothing else is left.
    pub(crate) fn take(&self, max_bytes: u64, taken: &mut Vec<Claimed>) {
        let mut inner = self.inner.lock();
        let mut bytes = 0u64;
        loop {
            if inner.claimed.is_empty() {
                inner.close_body();
            }
            let Some(next) = inner.claimed.pop_front() else { return };
            bytes = bytes.saturating_add(next.extent());
            taken.push(next);
            if bytes >= max_bytes {
                return;
            }
        }
    }
}

impl Inner {
    fn check(&self) -> Result<(), Error> {
        match &self.gate {
            Gate::Open => Ok(()),
            Gate::Frozen | Gate::Shut => Err(Error::NotPrimary),
            Gate::Poisoned(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            Gate::Closed => Err(Error::Closed),
        }
    }

    fn end(&self) -> Lsn {
        let open = if self.body.is_empty() { 0 } else { u64::from(self.body.true_len()) };
        self.start.saturating_add(open)
    }

    fn push(&mut self, claimed: Claimed) {
        self.start = self.start.saturating_add(claimed.extent());
        self.claimed.push_back(claimed);
    }

    fn close_body(&mut self) {
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body);
            self.push(Claimed::Data { lsn: self.start, body });
        }
    }

    /// Makes the open block one that takes `framed` more bytes, in the next segment if need be.
    fn make_room(&mut self, framed: u64, segment_bytes: u64) {
        if self.start.0.is_multiple_of(segment_bytes) && self.body.is_empty() {
            self.push(Claimed::SegmentHead { lsn: self.start });
        }
        let left = segment_bytes.saturating_sub(self.start.0 % segment_bytes);
        let fill = u64::from(self.body.true_len()).max(HEADER_BYTES as u64);
        if fill.saturating_add(framed) <= left {
            return;
        }
        self.close_body();
        let left = segment_bytes.saturating_sub(self.start.0 % segment_bytes);
        // A block that ended exactly with the segment leaves nothing to pad.
        if left < segment_bytes {
            let extent = u32::try_from(left).unwrap_or(u32::MAX);
            self.push(Claimed::Pad { lsn: self.start, extent });
        }
        self.push(Claimed::SegmentHead { lsn: self.start });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_takes_nothing_keeps_what_it_has_and_goes_on_in_the_same_opening() {
        let appender = Appender::new(1 << 20, 1 << 16, 1 << 16, 1 << 20);
        appender.freeze();
        appender.thaw();
        assert!(matches!(appender.append(b"shut"), Err(Error::NotPrimary)), "it was not open");
        appender.open_at(Lsn(4096));
        let reign = appender.opening();
        assert!(appender.append_batch_in(reign, &[b"first"]).is_ok());
        let end = appender.end();
        appender.freeze();
        let refused = appender.append_batch_in(reign, &[b"frozen"]);
        assert!(matches!(refused, Err(Error::NotPrimary)), "{refused:?}");
        assert_eq!(appender.end(), end);
        let mut taken = Vec::new();
        appender.take(u64::MAX, &mut taken);
        assert_eq!(taken.len(), 1, "what was appended before is sealed");
        appender.thaw();
        assert!(appender.append_batch_in(reign, &[b"second"]).is_ok());
        appender.freeze();
        appender.shut();
        appender.thaw();
        assert!(matches!(appender.append(b"late"), Err(Error::NotPrimary)));
    }

    #[test]
    fn what_belongs_to_an_earlier_opening_is_not_taken_in_a_later_one() {
        let appender = Appender::new(1 << 20, 1 << 16, 1 << 16, 1 << 20);
        appender.open_at(Lsn(4096));
        let reign = appender.opening();
        assert!(appender.append_batch_in(reign, &[b"first"]).is_ok());
        appender.shut();
        let refused = appender.append_batch_in(reign, &[b"late"]);
        assert!(matches!(refused, Err(Error::NotPrimary)), "{refused:?}");
        appender.open_at(Lsn(4096));
        let refused = appender.append_batch_in(reign, &[b"late"]);
        assert!(matches!(refused, Err(Error::NotPrimary)), "{refused:?}");
        assert!(appender.append_batch_in(appender.opening(), &[b"new"]).is_ok());
    }
}
