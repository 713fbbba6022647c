//! Commit, apply, keep: what may be shown, what is shown, and what log is still needed.
//!
//! S1: the commit LSN is what is durable on all of the in-sync set of the recorded configuration,
//! observed in this epoch, and on every copy that is waited for (S4). State follows the commit LSN, here as on
//! every copy. Not here: the store.

use std::collections::VecDeque;

use outrigger_wal::disk::{Io, OpId};
use outrigger_wal::format::Block;
use outrigger_wal::{Fetch, Lsn};

use super::event::{Event, Out};
use super::phase::{Line, Phase};
use super::{Member, Reading};
use crate::rules::Rule;

/// Blocks handed to the store at once, in stored bytes, about.
const APPLY_BYTES: u64 = 256 << 10;

/// How far the store has come.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Applying {
    /// The next block to hand over starts here.
    next: Lsn,
    reached: Lsn,
    /// Blocks that were handed over: (end, stored bytes).
    out: VecDeque<(Lsn, u64)>,
    out_bytes: u64,
    reading: bool,
}

impl Applying {
    pub(super) const fn from(next: Lsn, applied: Lsn) -> Self {
        Self { next, reached: applied, out: VecDeque::new(), out_bytes: 0, reading: false }
    }

    pub(super) const fn reached(&self) -> Lsn {
        self.reached
    }

    pub(super) fn applied(&mut self, to: Lsn) {
        self.reached = self.reached.max(to);
        while let Some((end, bytes)) = self.out.front().copied() {
            if end > to {
                return;
            }
            self.out.pop_front();
            self.out_bytes = self.out_bytes.saturating_sub(bytes);
        }
    }
}

impl Member {
    /// Moves the commit LSN: never back, never beyond what is durable here.
    pub(super) fn advance_commit(&mut self, out: &mut Vec<Out>) {
        let durable = self.log.durable();
        let commit = match &self.phase {
            Phase::Reigning(_) => self.agreed(),
            _ => self.told_commit.min(durable),
        };
        if commit > self.commit {
            self.commit = commit;
            self.log.commit_is(commit);
        }
        self.tell_commit(self.options.tell_commit_micros, out);
    }

    /// What another primary said is committed is about its history: it says nothing about blocks that this copy
    /// gets from anybody else, or seals itself, at the same LSNs. After a loss that was accepted they differ.
    pub(super) const fn forget_told_commit(&mut self) {
        self.told_commit = self.commit;
    }

    /// What is durable on all that count (S1).
    fn agreed(&self) -> Lsn {
        let Phase::Reigning(reign) = &self.phase else { return Lsn::ZERO };
        let Some(config) = self.config.as_ref() else { return Lsn::ZERO };
        let me = self.me();
        let mut agreed = self.log.durable();
        for copy in config.copies.iter().filter(|copy| copy.instance != me) {
            let peer = reign.peers.get(&copy.instance);
            let observed = peer.map_or(Lsn::ZERO, |peer| peer.observed);
            if copy.in_sync {
                agreed = agreed.min(observed);
            } else if let Some(awaited) = peer.and_then(|peer| peer.awaited)
                && self.rules.hold(Rule::S4Wait)
            {
                agreed = agreed.min(observed.max(awaited.from));
            }
        }
        agreed
    }

    /// Tells the copies of a commit LSN that they do not know for `delay` microseconds.
    pub(super) fn tell_commit(&mut self, delay: u64, out: &mut Vec<Out>) {
        let (now, commit, keep) = (self.now, self.commit, self.control.keep);
        let quiet = self.options.quiet_millis.saturating_mul(1000);
        let mut said = Vec::new();
        if let Phase::Reigning(reign) = &mut self.phase {
            for peer in reign.peers.values_mut() {
                if let Line::Up(up) = &mut peer.line
                    && let Some(message) = up.sender.tell_commit(now, commit, keep, delay, quiet)
                {
                    said.push((up.link, up.session, message));
                }
            }
        }
        for (link, session, message) in said {
            self.send(link, session, message, out);
        }
    }

    /// Hands committed blocks to the store, as many as it may hold.
    pub(super) fn settle_applying(&mut self, out: &mut Vec<Out>) {
        let limit = self.commit.min(self.log.durable());
        while !self.applying.reading
            && self.applying.next < limit
            && self.applying.out_bytes < self.options.apply_bytes
            && !self.is_reopening()
        {
            let next = self.applying.next;
            match self.log.fetch(next, APPLY_BYTES) {
                Ok(Fetch::Blocks(blocks)) => {
                    self.apply(next, blocks, out);
                    // No whole block more is committed.
                    if self.applying.next == next {
                        break;
                    }
                }
                Ok(Fetch::Read { file, at, len }) => {
                    self.applying.reading = true;
                    self.read(Reading::Apply(next), file, at, len, out);
                }
                Ok(Fetch::AtEnd) => break,
                Err(error) => {
                    let text = format!("the store needs log that is gone: {error}");
                    self.fail(text, out);
                    return;
                }
            }
        }
        let serving = self.serving();
        if let Phase::Reigning(reign) = &mut self.phase
            && let Some(epoch) = serving
            && !reign.served
        {
            reign.served = true;
            out.push(Out::Event(Event::Serves { epoch }));
        }
    }

    pub(super) fn apply(&mut self, from: Lsn, mut blocks: Vec<Block>, out: &mut Vec<Out>) {
        self.applying.reading = false;
        if from != self.applying.next {
            return;
        }
        let limit = self.commit.min(self.log.durable());
        blocks.retain(|block| block.end() <= limit);
        let Some(last) = blocks.last() else { return };
        self.applying.next = last.end();
        let bytes = blocks.iter().map(|block| block.stored().len() as u64).sum();
        self.applying.out.push_back((last.end(), bytes));
        self.applying.out_bytes = self.applying.out_bytes.saturating_add(bytes);
        out.push(Out::Apply(blocks));
    }

    /// What log is still needed: below the last synced checkpoint and what every copy has, the rest
    /// may go, once that floor is durable itself.
    pub(super) fn settle_keep(&mut self, io: &mut Vec<(OpId, Io)>) {
        let me = self.me();
        let copies = match (&self.phase, &self.config) {
            (Phase::Reigning(reign), Some(config)) => {
                let needs = config.copies.iter().filter(|copy| copy.instance != me).map(|copy| {
                    let observed = reign.peers.get(&copy.instance).map(|peer| peer.observed);
                    let slot = self.slot(copy.instance);
                    (copy.instance, observed.unwrap_or_default().max(slot))
                });
                let slots: Vec<_> = needs.collect();
                let keep = slots.iter().map(|(_, needs)| *needs).min().unwrap_or(self.commit);
                self.control.slots = slots;
                keep.min(self.commit)
            }
            _ => self.told_keep,
        };
        let keep = copies.max(self.control.keep);
        // What the store is still read from stays, a read that is on its way included: it begins at a
        // boundary that may lie before the checkpoint.
        let recent = Lsn(self.log.end().0.saturating_sub(self.options.retain_bytes));
        let held = self.held.floor(self.log.end(), self.options.max_held_bytes);
        let stored = if self.rules.hold(Rule::L10Recycle) {
            self.checkpointed
        } else {
            // Seeded bug: what is applied would be gone after a crash.
            self.applying.reached()
        };
        let floor = keep.min(stored).min(self.applying.next).min(recent).min(held);
        let segment = self.log.segment_bytes();
        if keep.0 / segment > self.control.keep.0 / segment {
            self.control.keep = keep;
            self.persist();
        }
        // ORDER: the floor is durable before anything below it goes.
        let settled = !self.persisting.dirty && self.persisting.writing.is_none();
        if settled && floor.0 / segment > self.log.start().0 / segment && !self.is_reopening() {
            self.log.drop_below(floor, io);
        }
    }

    /// What a copy needed when it was last heard of.
    fn slot(&self, instance: outrigger_wal::InstanceId) -> Lsn {
        let known = self.control.slots.iter().find(|(at, _)| *at == instance);
        known.map_or(self.control.keep, |(_, needs)| *needs)
    }
}
