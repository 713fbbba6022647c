//! The next segment, made before it is needed: created, zero-filled, synced, linked.
//!
//! Guarantees: a segment is written to only after its zeros, its size and its name are durable;
//! running out of space shows here, never inside a record, and is tried again, with another file; any
//! other error is the log's first and last; old segments go from the first one on, each durably before
//! the next, so that a power cut never leaves a hole. Not here: what is written into it.

use std::collections::BTreeSet;

use crate::disk::{Dir, FileId, Io, IoDone, IoFault, OpId};
use crate::lsn::Micros;

/// How long to wait after there was no room.
const RETRY_MICROS: u64 = 500_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Create,
    Zero,
    Sync,
    Rename,
    SyncDir,
    /// There was no room: what was made of it goes.
    Discard,
}

#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Making {
    segment: u64,
    step: Step,
    op: OpId,
}

/// A segment on its way out.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Removing {
    segment: u64,
    /// Whether the name is taken away, and only that has to become durable.
    is_gone: bool,
    op: OpId,
}

/// Which segments are linked, and the one that is being made.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(crate) struct Segments {
    segment_bytes: u64,
    ready: BTreeSet<u64>,
    making: Option<Making>,
    retry_at: Option<Micros>,
    /// Old segments that are to go.
    retired: BTreeSet<u64>,
    removing: Option<Removing>,
    /// Why the next segment is late.
    fault: Option<IoFault>,
}

const SCRATCH: u32 = 0;

impl Segments {
    pub(crate) fn new(segment_bytes: u64, ready: impl IntoIterator<Item = u64>) -> Self {
        Self {
            segment_bytes,
            ready: ready.into_iter().collect(),
            making: None,
            retry_at: None,
            retired: BTreeSet::new(),
            removing: None,
            fault: None,
        }
    }

    pub(crate) fn is_ready(&self, segment: u64) -> bool {
        self.ready.contains(&segment)
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.ready.first().copied()
    }

    pub(crate) const fn deadline(&self) -> Option<Micros> {
        self.retry_at
    }

    pub(crate) const fn fault(&self) -> Option<&IoFault> {
        self.fault.as_ref()
    }

    /// Starts making the first segment that is not there, from `first` (where the next write goes) to
    /// the one behind `last` (where the log ends: far ahead when room was short for a while), and goes
    /// on with what is to be removed.
    pub(crate) fn prepare(
        &mut self,
        now: Micros,
        first: u64,
        last: u64,
        mut op: impl FnMut() -> OpId,
        out: &mut Vec<(OpId, Io)>,
    ) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.remove_next(&mut op, out);
        if self.making.is_some() {
            return;
        }
        let mut wanted = first..=last.saturating_add(1);
        let Some(segment) = wanted.find(|segment| !self.ready.contains(segment)) else { return };
        let op = op();
        self.making = Some(Making { segment, step: Step::Create, op });
        out.push((op, Io::Create(FileId::Prepared(SCRATCH))));
    }

    /// Takes a completion; `None` when the operation is not one of ours. A fault but for missing room is
    /// handed back: nothing is tried again then.
    pub(crate) fn done(
        &mut self,
        now: Micros,
        op: OpId,
        result: &Result<IoDone, IoFault>,
        mut next_op: impl FnMut() -> OpId,
        out: &mut Vec<(OpId, Io)>,
    ) -> Option<Result<(), IoFault>> {
        if let Some(removing) = self.removing.take_if(|removing| removing.op == op) {
            return Some(self.removed(now, removing, result, next_op, out));
        }
        let making = self.making.as_mut().filter(|making| making.op == op)?;
        let scratch = FileId::Prepared(SCRATCH);
        match result {
            Ok(_) => {}
            Err(fault @ IoFault::NoSpace { .. }) => {
                tracing::warn!(segment = making.segment, %fault, "the next segment cannot be made; trying again");
                self.fault = Some(fault.clone());
                if making.step == Step::Discard {
                    self.try_later(now);
                } else {
                    // The half-made file takes the room that others need to make some, and one whose
                    // sync has failed is never synced again: the next attempt makes another.
                    making.step = Step::Discard;
                    making.op = next_op();
                    out.push((making.op, Io::Remove(scratch)));
                }
                return Some(Ok(()));
            }
            Err(fault) => {
                self.making = None;
                return Some(Err(fault.clone()));
            }
        }
        // ORDER: zeros and size are durable before the name, the name before anything is written.
        let (step, io) = match making.step {
            Step::Create => {
                (Step::Zero, Io::Zero { file: scratch, at: 0, len: self.segment_bytes })
            }
            Step::Zero => (Step::Sync, Io::Sync(scratch)),
            Step::Sync => (Step::Rename, Io::Rename(scratch, FileId::Segment(making.segment))),
            Step::Rename => (Step::SyncDir, Io::SyncDir(Dir::Log)),
            Step::SyncDir => {
                self.ready.insert(making.segment);
                self.making = None;
                self.fault = None;
                return Some(Ok(()));
            }
            Step::Discard => {
                self.try_later(now);
                return Some(Ok(()));
            }
        };
        making.step = step;
        making.op = next_op();
        out.push((making.op, io));
        Some(Ok(()))
    }

    /// Takes a completion for a log that is poisoned: nothing follows from it. `false` when the
    /// operation is not one of ours.
    pub(crate) fn abandon(&mut self, op: OpId) -> bool {
        let making = self.making.take_if(|making| making.op == op).is_some();
        let removing = self.removing.take_if(|removing| removing.op == op).is_some();
        making || removing
    }

    fn try_later(&mut self, now: Micros) {
        self.making = None;
        self.retry_at = Some(now.plus(RETRY_MICROS));
    }

    /// Forgets the segments below `first` and removes their files.
    pub(crate) fn drop_below(
        &mut self,
        first: u64,
        mut op: impl FnMut() -> OpId,
        out: &mut Vec<(OpId, Io)>,
    ) {
        let kept = self.ready.split_off(&first);
        self.retired.append(&mut std::mem::replace(&mut self.ready, kept));
        self.remove_next(&mut op, out);
    }

    fn remove_next(&mut self, op: &mut impl FnMut() -> OpId, out: &mut Vec<(OpId, Io)>) {
        if self.removing.is_some() {
            return;
        }
        let Some(segment) = self.retired.first().copied() else { return };
        let op = op();
        self.removing = Some(Removing { segment, is_gone: false, op });
        out.push((op, Io::Remove(FileId::Segment(segment))));
    }

    fn removed(
        &mut self,
        now: Micros,
        removing: Removing,
        result: &Result<IoDone, IoFault>,
        mut next_op: impl FnMut() -> OpId,
        out: &mut Vec<(OpId, Io)>,
    ) -> Result<(), IoFault> {
        let segment = removing.segment;
        match result {
            Ok(_) if removing.is_gone => {
                self.retired.remove(&segment);
                self.remove_next(&mut next_op, out);
            }
            Ok(_) => {
                // ORDER: a name is gone durably before the next one goes.
                let op = next_op();
                self.removing = Some(Removing { segment, is_gone: true, op });
                out.push((op, Io::SyncDir(Dir::Log)));
            }
            Err(fault @ IoFault::NoSpace { .. }) => {
                tracing::warn!(segment, %fault, "an old segment cannot be removed; trying again");
                self.retry_at = Some(now.plus(RETRY_MICROS));
            }
            Err(fault) => return Err(fault.clone()),
        }
        Ok(())
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.making.is_none() && self.removing.is_none()
    }
}
