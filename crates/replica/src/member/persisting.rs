//! The control file's writes, one change after the other.
//!
//! Guarantees: a generation counts as persisted when it is durable in both slots, so that one slot which
//! rots takes back nothing that was acted upon. A crash between the two leaves an old and a new one;
//! both are right, because nothing was acted upon yet. Not here: what is in it ([`crate::control`]).

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::disk::{IoDone, IoFault, OpId};
use outrigger_wal::recover::Promise;

use super::Member;
use super::event::Out;
use crate::control::{SLOTS, write_of};

/// How far the control file is written.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Persisting {
    /// The generation that is durable in both slots.
    pub(super) written: u64,
    /// The one that is being written.
    pub(super) writing: Option<Writing>,
    /// Whether the content changed since the last write began.
    pub(super) dirty: bool,
    /// The coordinator's epoch that is durable in both slots: messages of lower ones are refused for good.
    pub(super) obeyed: u64,
}

/// A generation on its way to the disk.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Writing {
    generation: u64,
    op: OpId,
    bytes: Bytes,
    obeyed: u64,
    /// Whether the first slot is done.
    second: bool,
}

#[cfg(feature = "model")]
impl Writing {
    /// Whether the first slot holds it.
    pub(super) const fn is_second(&self) -> bool {
        self.second
    }
}

impl Persisting {
    /// Both slots hold `generation`, and in it this coordinator's epoch; it is to be written again.
    pub(super) const fn new(generation: u64, obeyed: u64) -> Self {
        Self { written: generation, writing: None, dirty: true, obeyed }
    }

    pub(super) fn is_writing(&self, op: OpId) -> bool {
        self.writing.as_ref().is_some_and(|writing| writing.op == op)
    }
}

impl Member {
    /// Notes that the control file must be written; returns the generation that will hold what is
    /// in it now.
    pub(super) fn persist(&mut self) -> u64 {
        self.persisting.dirty = true;
        let last = self.persisting.writing.as_ref().map(|writing| writing.generation);
        last.unwrap_or(self.persisting.written).saturating_add(1)
    }

    pub(super) const fn is_persisted(&self, generation: u64) -> bool {
        self.persisting.written >= generation
    }

    pub(super) fn write_control(&mut self, out: &mut Vec<Out>) {
        if !self.persisting.dirty || self.persisting.writing.is_some() {
            return;
        }
        // A copy that is about to be cut promises no more than what will stay, in the same write
        // that marks the cut.
        let stays = self.control.truncating.map_or(Lsn(u64::MAX), |cut| cut.to);
        let held = self.log.durable().min(stays);
        // Of which epoch's history that is: of a later one than its last block's where it was cut for that.
        let epoch = self.log.epoch().number.max(self.history_epoch.number);
        self.control.durable = Promise { epoch, lsn: held };
        self.control.commit = Promise { epoch: self.log.epoch().number, lsn: self.commit };
        self.control.epochs.clear();
        self.control.epochs.extend_from_slice(self.log.epochs());
        let generation = self.persisting.written.saturating_add(1);
        let bytes = self.control.encode(generation);
        let obeyed = self.control.coordinator_epoch;
        let [first, _] = SLOTS;
        let op = self.op();
        out.push(Out::Io(op, write_of(first, bytes.clone())));
        self.persisting.writing = Some(Writing { generation, op, bytes, obeyed, second: false });
        self.persisting.dirty = false;
    }

    /// A slot was written, or cannot be.
    pub(super) fn slot_written(&mut self, result: Result<IoDone, IoFault>, out: &mut Vec<Out>) {
        let Some(mut writing) = self.persisting.writing.take() else { return };
        if let Err(fault) = result {
            self.fail(format!("the control file cannot be written: {fault}"), out);
        } else if writing.second {
            self.persisting.written = writing.generation;
            self.persisting.obeyed = writing.obeyed;
        } else {
            // ORDER: the first slot is durable before the second one is touched: a crash tears one at most.
            let [_, second] = SLOTS;
            writing.op = self.op();
            writing.second = true;
            out.push(Out::Io(writing.op, write_of(second, writing.bytes.clone())));
            self.persisting.writing = Some(writing);
        }
    }
}
