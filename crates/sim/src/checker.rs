//! What must hold in every run, whatever goes wrong.
//!
//! - A committed byte stays: at the same LSN, with the same running hash, in every later reign.
//! - Each epoch has one reign: one nonce, one instance, taken up once.
//! - Committed means durable on every copy of the recorded in-sync set at that moment.
//! - Nothing above the commit LSN is applied; nothing applied or committed is cut.
//! - An epoch that was given up (S9) commits and serves nothing more; what it committed is durable on the copy that
//!   takes over; a restart has not forgotten it.
//! - The commit LSN of a process never moves back. Across a restart a copy may know less, never less than its
//!   control file says: it answers local reads alone then, and those may fall back. Who serves shows at least
//!   what anybody who served has shown before.
//! - A promised block with a flipped bit is found: it is neither kept nor cut.
//! - Each named write takes effect at most once, however often it is sent, and the same on every copy; what was
//!   acknowledged is there; what a client was told of a name stays true.
//!
//! It sees what no member sees: every copy's writes, and the authority's register. Running hashes cover
//! all bytes before them, so comparing them compares logs. Not here: convergence (the cluster's run).

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_replica::store::kv::Outcome;
use outrigger_wal::recover::Recovered;
use outrigger_wal::{Epoch, Lsn, RunningHash};

use crate::cluster::{AppliedRecord, Decided, Name};

/// A whole block that was durable and promised to be, until one bit of it flipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
}

/// What is known of one copy's log: by its writes, not by its word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    /// The running hash at each block boundary.
    pub(crate) bounds: BTreeMap<Lsn, RunningHash>,
    /// What is durable.
    pub(crate) durable: Lsn,
    /// What the running process knows to be committed.
    pub(crate) commit: Lsn,
    /// The number of the highest epoch it accepted.
    pub(crate) epoch: u64,
    /// The highest epoch it has answered in: it may never be greeted in a lower one.
    pub(crate) fenced: u64,
    /// The number of the last epoch that it gave up.
    pub(crate) gave_up: u64,
    /// A loss was accepted that it may hold: it may know of commits that are none any more.
    pub(crate) outcast: bool,
    /// Its disk was rolled back: promises below this say nothing.
    pub(crate) forgiven: Lsn,
    /// A block of it whose stored bytes were damaged on purpose.
    pub(crate) damage: Option<Damage>,
    /// Its disk failed operations: it may refuse to start, it may not lie.
    pub(crate) flaky: bool,
}

impl Shadow {
    /// Forgets everything behind `end`.
    pub(crate) fn cut(&mut self, end: Lsn) {
        self.bounds.retain(|at, _| *at <= end);
        self.durable = self.durable.min(end);
        self.damage = self.damage.filter(|damage| damage.start < end);
    }

    /// Recovery accepted this: what was durable is there, and is what was written. `cut`: where the log was
    /// to be cut; `promised`: up to where the control file's promise counts. A block that was damaged below that
    /// is neither kept nor sent away.
    pub(crate) fn recovered(
        &mut self,
        found: &Recovered,
        cut: Option<Lsn>,
        promised: Lsn,
    ) -> Verdict {
        let mut expected = cut.map_or(self.durable, |cut| cut.min(self.durable));
        self.damage = self.damage.filter(|damage| damage.start >= found.start);
        if let Some(damage) = self.damage {
            if damage.start < found.end {
                return Err(format!(
                    "the block at {} has a flipped bit, and the log was opened up to {}",
                    damage.start, found.end
                ));
            }
            if cut.map_or(promised, |cut| cut.min(promised)) >= damage.end {
                return Err(format!(
                    "the block at {} has a flipped bit and was cut, promised is {promised} (cut: {cut:?})",
                    damage.start
                ));
            }
            expected = expected.min(damage.start);
        }
        if found.end < expected {
            return Err(format!(
                "the log ends at {} after it was opened; {expected} was durable (torn: {:?})",
                found.end, found.torn
            ));
        }
        if self.bounds.get(&found.end).is_some_and(|hash| *hash != found.hash) {
            return Err(format!(
                "the log ends at {} after it was opened, with another hash than was written",
                found.end
            ));
        }
        self.cut(found.end);
        self.bound(found.end, found.hash);
        self.durable = found.end;
        Ok(())
    }

    /// A block was written, or was durable.
    pub(crate) fn bound(&mut self, at: Lsn, hash: RunningHash) {
        self.bounds.insert(at, hash);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Every block boundary of the committed log.
    committed: BTreeMap<Lsn, RunningHash>,
    top: Lsn,
    /// The reign that committed last.
    last: u64,
    reigns: BTreeMap<u64, (Epoch, usize)>,
    records: BTreeMap<Lsn, u64>,
    /// Which row each record gave which value; `None`: it had no effect.
    effects: BTreeMap<Lsn, Option<(Bytes, u64)>>,
    /// Where each named write took effect.
    names: BTreeMap<Name, Lsn>,
    /// What clients were told of their writes: whether they took effect.
    told: BTreeMap<Name, bool>,
    acked: BTreeMap<Lsn, u64>,
    /// Up to where a copy that served has applied.
    shown: Lsn,
    /// Where the log of each epoch ended that was given up.
    given_up: BTreeMap<u64, Lsn>,
    /// What was committed, and was accepted as lost, if the copy that reigns next does not hold it after all.
    forgone: BTreeMap<Lsn, RunningHash>,
    /// The end of what was kept when a loss was accepted last.
    kept: Option<Lsn>,
}

pub(crate) type Verdict = Result<(), String>;

impl Checker {
    /// The end of the committed log.
    pub(crate) const fn top(&self) -> Lsn {
        self.top
    }

    /// The end of what was committed and kept when a loss was accepted last, if one was.
    pub(crate) const fn kept(&self) -> Option<Lsn> {
        self.kept
    }

    /// What was acknowledged: digests by LSN.
    pub(crate) const fn acked(&self) -> &BTreeMap<Lsn, u64> {
        &self.acked
    }

    /// A copy takes up a reign.
    pub(crate) fn reigns(
        &mut self,
        node: usize,
        epoch: Epoch,
        from: Lsn,
        shadow: &Shadow,
    ) -> Verdict {
        if let Some((other, whose)) = self.reigns.get(&epoch.number) {
            return Err(format!(
                "node {node} reigns in epoch {epoch:?}, and node {whose} did in {other:?}"
            ));
        }
        self.reigns.insert(epoch.number, (epoch, node));
        // One that was told late, after a higher epoch committed, commits nothing: `commits` sees to it.
        if epoch.number < self.last {
            return Ok(());
        }
        self.contains_committed(node, from, shadow)
    }

    /// The history of a copy up to `end` holds everything committed.
    fn contains_committed(&self, node: usize, end: Lsn, shadow: &Shadow) -> Verdict {
        let Some(hash) = self.committed.get(&self.top) else { return Ok(()) };
        if end < self.top || shadow.bounds.get(&self.top) != Some(hash) {
            return Err(format!(
                "node {node} reigns from {end} without what is committed up to {} (it has {:?} there, not {hash:?})",
                self.top,
                shadow.bounds.get(&self.top)
            ));
        }
        Ok(())
    }

    /// The commit LSN of a copy moved from `before` to `to`. `in_sync`: the recorded set.
    pub(crate) fn commits(
        &mut self,
        node: usize,
        to: Lsn,
        reign: Option<Epoch>,
        shadows: &[&Shadow],
        in_sync: &[usize],
    ) -> Verdict {
        let shadow = shadows[node];
        let Some(hash) = shadow.bounds.get(&to).copied() else {
            return Err(format!("node {node} commits {to}, which is no block boundary it holds"));
        };
        if let Some(known) = self.committed.get(&to) {
            return if *known == hash {
                Ok(())
            } else {
                Err(format!("node {node} commits {to} with hash {hash:?}, it was {known:?}"))
            };
        }
        if self.forgone.get(&to) == Some(&hash) {
            // It was on its way to this disk when the loss was accepted: this copy still has it.
            self.commit_up_to(to, shadow);
            return Ok(());
        }
        if to <= self.top {
            return Err(format!(
                "node {node} commits {to}, which is no boundary of what is committed"
            ));
        }
        let Some(epoch) = reign else {
            return Err(format!(
                "node {node} commits {to} and does not reign; known is {}",
                self.top
            ));
        };
        if self.reigns.get(&epoch.number) != Some(&(epoch, node)) {
            return Err(format!(
                "node {node} commits {to} in epoch {epoch:?}, which is not its reign"
            ));
        }
        if let Some(at) = self.given_up.get(&epoch.number).filter(|at| to > **at) {
            return Err(format!("node {node} commits {to} in {epoch:?}, which it gave up at {at}"));
        }
        self.contains_committed(node, to, shadow)?;
        for copy in in_sync {
            let other = shadows[*copy];
            if other.forgiven >= to {
                continue;
            }
            if other.durable < to || other.bounds.get(&to) != Some(&hash) {
                return Err(format!(
                    "node {node} commits {to}, and node {copy}, which is in sync, is durable up to {} ({:?} there, not {hash:?})",
                    other.durable,
                    other.bounds.get(&to)
                ));
            }
        }
        self.commit_up_to(to, shadow);
        self.last = self.last.max(epoch.number);
        Ok(())
    }

    fn commit_up_to(&mut self, to: Lsn, shadow: &Shadow) {
        let new = shadow
            .bounds
            .range((std::ops::Bound::Excluded(self.top), std::ops::Bound::Included(to)));
        self.committed.extend(new.map(|(at, hash)| (*at, *hash)));
        self.top = self.top.max(to);
    }

    /// A copy says that it gave its epoch up, or a mirror passes that on.
    pub(crate) fn gave_up(&mut self, node: usize, epoch: Epoch, at: Lsn) -> Verdict {
        let known = *self.given_up.entry(epoch.number).or_insert(at);
        if known != at {
            return Err(format!("node {node} gives {epoch:?} up at {at}, it was {known}"));
        }
        Ok(())
    }

    /// A reign is handed over at `at`: all that is committed is there, and on the copy that takes over. One that stood
    /// still may say so when a later reign has committed: nobody goes by it then.
    pub(crate) fn hands_over(
        &self,
        (epoch, at): (Epoch, Lsn),
        from: &Shadow,
        to: &Shadow,
    ) -> Verdict {
        if self.last > epoch.number {
            return Ok(());
        }
        let whole =
            at >= self.top && to.durable >= at && from.bounds.get(&at) == to.bounds.get(&at);
        if whole || to.forgiven >= at {
            return Ok(());
        }
        Err(format!(
            "a reign is handed over at {at}: committed is {}, and the other copy is durable up to {}",
            self.top, to.durable
        ))
    }

    /// A copy serves in this epoch, if in any.
    pub(crate) fn may_serve(&self, node: usize, serving: Option<Epoch>) -> Verdict {
        match serving.filter(|epoch| self.given_up.contains_key(&epoch.number)) {
            Some(epoch) => Err(format!("node {node} serves in {epoch:?}, which was given up")),
            None => Ok(()),
        }
    }

    /// A loss was accepted: what lies behind `end`, or is not in the log of the copy that reigns next, is not committed
    /// any more (S10).
    pub(crate) fn accept_loss(&mut self, end: Lsn, next: &Shadow) {
        let common = self.committed.range(..=end).rev();
        let common = common.filter(|(at, hash)| next.bounds.get(at) == Some(hash));
        let end = common.map(|(at, _)| *at).next().unwrap_or(Lsn::ZERO);
        self.kept = Some(end);
        self.forgone = self.committed.split_off(&Lsn(end.0.saturating_add(1)));
        self.top = self.committed.last_key_value().map_or(Lsn::ZERO, |(at, _)| *at);
        let top = self.top;
        self.records.retain(|at, _| *at < top);
        self.effects.retain(|at, _| *at < top);
        self.acked.retain(|at, _| *at < top);
        self.names.retain(|_, at| *at < top);
        let names = &self.names;
        self.told.retain(|name, _| names.contains_key(name));
        self.shown = self.shown.min(top);
    }

    /// A copy that serves has applied so much: its readers see it.
    pub(crate) fn shows(&mut self, applied: Lsn) {
        self.shown = self.shown.max(applied);
    }

    /// A copy begins to serve, with so much applied.
    pub(crate) fn serves(&self, node: usize, applied: Lsn) -> Verdict {
        if applied < self.shown {
            return Err(format!(
                "node {node} serves with {applied} applied, readers have seen {}",
                self.shown
            ));
        }
        Ok(())
    }

    /// A copy was opened with this commit LSN: it was committed. What it has forgotten since it was persisted it
    /// learns again.
    pub(crate) fn opened(&self, node: usize, commit: Lsn, shadow: &Shadow) -> Verdict {
        if commit == Lsn::ZERO || shadow.outcast {
            return Ok(());
        }
        let here = shadow.bounds.get(&commit);
        if here.is_none() || self.committed.get(&commit) != here {
            return Err(format!(
                "node {node} was opened as committed up to {commit} ({here:?}), the committed log ends at {} ({:?})",
                self.top,
                self.committed.get(&commit)
            ));
        }
        Ok(())
    }

    /// A copy hands the block that ends at `end` to its store.
    pub(crate) fn applies(&self, node: usize, end: Lsn, hash: RunningHash, commit: Lsn) -> Verdict {
        if end > commit {
            return Err(format!("node {node} applies up to {end}, committed is {commit}"));
        }
        if self.committed.get(&end) != Some(&hash) {
            return Err(format!(
                "node {node} applies a block that ends at {end} with hash {hash:?}; committed is {:?}",
                self.committed.get(&end)
            ));
        }
        Ok(())
    }

    /// Records that a store was handed.
    pub(crate) fn applied(&mut self, node: usize, records: &[AppliedRecord]) -> Verdict {
        for AppliedRecord { lsn, digest } in records {
            if *self.records.entry(*lsn).or_insert(*digest) != *digest {
                return Err(format!(
                    "node {node} applies another record at {lsn} than was applied there"
                ));
            }
            if self.acked.get(lsn).is_some_and(|acked| acked != digest) {
                return Err(format!(
                    "node {node} applies another record at {lsn} than was acknowledged"
                ));
            }
        }
        Ok(())
    }

    /// A store decided which of its records take effect: as every other, and each name at most once.
    pub(crate) fn decided(&mut self, node: usize, decided: &[Decided]) -> Verdict {
        for Decided { lsn, name, effect } in decided {
            let known = self.effects.entry(*lsn).or_insert_with(|| effect.clone());
            if known != effect {
                return Err(format!(
                    "node {node} decides that write {name:?} at {lsn} does {effect:?}, where {known:?} was decided"
                ));
            }
            if effect.is_none() {
                continue;
            }
            let first = *self.names.entry(*name).or_insert(*lsn);
            if first != *lsn {
                return Err(format!("write {name:?} took effect at {first} and at {lsn}"));
            }
            if self.told.get(name) == Some(&false) {
                return Err(format!(
                    "write {name:?} takes effect at {lsn}, and was refused before"
                ));
            }
        }
        Ok(())
    }

    /// A client was told what became of its write.
    pub(crate) fn answered(&mut self, node: usize, name: Name, outcome: Outcome) -> Verdict {
        let applied = match outcome {
            Outcome::Applied { .. } => true,
            Outcome::Refused { .. } => false,
            // Nothing is claimed.
            Outcome::Unknown | Outcome::TooOld => return Ok(()),
        };
        if self.names.contains_key(&name) != applied {
            return Err(format!(
                "node {node} answers {outcome:?} to {name:?}, which took effect at {:?}",
                self.names.get(&name)
            ));
        }
        self.told.insert(name, applied);
        Ok(())
    }

    /// The rows as they are after everything that took effect: digests of their values.
    pub(crate) fn rows(&self) -> BTreeMap<Bytes, u64> {
        self.effects.values().flatten().cloned().collect()
    }

    /// A write was acknowledged as committed.
    pub(crate) fn acknowledged(
        &mut self,
        node: usize,
        start: Lsn,
        end: Lsn,
        digest: u64,
    ) -> Verdict {
        if end > self.top {
            return Err(format!("node {node} acknowledged {end}, committed is {}", self.top));
        }
        if self.acked.insert(start, digest).is_some() {
            return Err(format!("node {node} acknowledged two writes at {start}"));
        }
        match self.records.get(&start) {
            Some(applied) if *applied != digest => {
                Err(format!("node {node} acknowledged a write at {start} that is another one"))
            }
            _ => Ok(()),
        }
    }

    /// A copy is about to cut its log at `to`.
    pub(crate) fn cuts(&self, node: usize, to: Lsn, commit: Lsn, applied: Lsn) -> Verdict {
        if to < commit || to < applied {
            return Err(format!(
                "node {node} cuts at {to}: it committed up to {commit} and applied up to {applied}"
            ));
        }
        Ok(())
    }
}
