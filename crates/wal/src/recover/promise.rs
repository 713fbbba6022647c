//! Promises of durability: who made them, and up to where they count.
//!
//! Guarantees: a promise counts at most up to the start of the next epoch, and up to a pending cut;
//! a durable LSN in a block counts only for the instance that sealed it, a commit LSN only while this
//! copy was in sync. Not here: what a broken one means.

use super::tail::{Behind, CarriedByEpoch};
use crate::format::EpochEntry;
use crate::lsn::{InstanceId, Lsn};

/// A position that was durable or committed in a reign.
///
/// Of two, the one of the later epoch is greater: what was promised before is history of that one too, or was
/// taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Promise {
    /// The number of the epoch it was made in.
    pub epoch: u64,
    /// Up to where.
    pub lsn: Lsn,
}

impl Promise {
    /// Nothing is promised.
    pub const NONE: Self = Self { epoch: 0, lsn: Lsn::ZERO };

    /// Up to where it counts for a log of these reigns: at most up to where a later one starts.
    #[must_use]
    pub fn counts(self, epochs: &[EpochEntry]) -> Lsn {
        cap(self, epochs.iter())
    }
}

/// What the control file of this copy promises.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Promises {
    /// What was durable here.
    pub durable: Option<Promise>,
    /// What was committed.
    pub commit: Option<Promise>,
    /// Whether this copy was in the in-sync set: only then is what was committed durable here.
    pub in_sync: bool,
    /// Who reigned from where; an instance's own epochs are recorded here before it serves in them.
    pub epochs: Vec<EpochEntry>,
}

/// The highest promise that counts, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counted {
    pub(crate) lsn: Lsn,
    pub(crate) who: &'static str,
}

/// Everything that promises are counted by.
pub(crate) struct Ledger<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) promises: &'a Promises,
    /// The epochs of the valid chain.
    pub(crate) chain: &'a [EpochEntry],
    /// What the blocks of the valid chain carry.
    pub(crate) carried: &'a CarriedByEpoch,
    /// What lies behind it.
    pub(crate) behind: &'a Behind,
    /// The end that a valid clean-close mark names.
    pub(crate) clean_end: Option<Lsn>,
    /// A cut that was decided: nothing behind it is promised any more.
    pub(crate) cut: Option<Lsn>,
}

impl Ledger<'_> {
    /// The highest promise that counts.
    pub(crate) fn floor(&self) -> Counted {
        let control = "this copy's control file";
        let mut best = Counted { lsn: Lsn::ZERO, who: "nobody" };
        let mut count = |lsn: Lsn, who| {
            let lsn = self.cut.map_or(lsn, |cut| lsn.min(cut));
            if lsn > best.lsn {
                best = Counted { lsn, who };
            }
        };
        if let Some(promise) = self.promises.durable {
            count(self.cap(promise), control);
        }
        if let Some(end) = self.clean_end {
            count(end, "the mark of a clean close");
        }
        if let Some(promise) = self.promises.commit.filter(|_| self.promises.in_sync) {
            count(self.cap(promise), control);
        }
        for (epoch, carried) in self.carried.iter().chain(&self.behind.carried) {
            let cap = |lsn| self.cap(Promise { epoch: *epoch, lsn });
            if self.sealed_here(*epoch) {
                count(cap(carried.durable), "the durable LSN in a block that this instance sealed");
            }
            if self.promises.in_sync {
                count(
                    cap(carried.commit),
                    "the commit LSN in a block, while this copy was in sync",
                );
            }
        }
        best
    }

    /// What is known to be committed, by the valid chain and the control file.
    pub(crate) fn commit(&self) -> Lsn {
        let carried = self
            .carried
            .iter()
            .map(|(epoch, carried)| Promise { epoch: *epoch, lsn: carried.commit });
        carried
            .chain(self.promises.commit)
            .map(|promise| self.cap(promise))
            .max()
            .unwrap_or_default()
    }

    /// What must not be cut: everything committed, capped by this log's own epochs alone, because
    /// the control file may already list the epoch that the cut makes way for.
    pub(crate) fn uncuttable(&self) -> Lsn {
        let carried = self.carried.iter().chain(&self.behind.carried);
        carried
            .map(|(epoch, carried)| Promise { epoch: *epoch, lsn: carried.commit })
            .chain(self.promises.commit)
            .map(|promise| cap(promise, self.chain.iter()))
            .max()
            .unwrap_or_default()
    }

    fn cap(&self, promise: Promise) -> Lsn {
        cap(promise, self.chain.iter().chain(&self.promises.epochs))
    }

    fn sealed_here(&self, epoch: u64) -> bool {
        let listed = self.chain.iter().chain(&self.promises.epochs);
        let mut reigned = listed.filter(|entry| entry.epoch.number == epoch).peekable();
        if reigned.peek().is_some() {
            reigned.any(|entry| entry.instance == self.instance)
        } else {
            self.behind.begins.contains(&(epoch, self.instance))
        }
    }
}

/// Up to where a promise counts: at most up to where a later epoch starts.
pub(crate) fn cap<'a>(promise: Promise, epochs: impl Iterator<Item = &'a EpochEntry>) -> Lsn {
    epochs
        .filter(|entry| entry.epoch.number > promise.epoch)
        .map(|entry| entry.start)
        .fold(promise.lsn, Lsn::min)
}

/// The epochs of the chain that start below `end`.
pub(crate) fn below(chain: &[EpochEntry], end: Lsn) -> Vec<EpochEntry> {
    chain.iter().filter(|entry| entry.start < end).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Epoch;

    const HERE: InstanceId = InstanceId(1);
    const THERE: InstanceId = InstanceId(2);

    fn entry(number: u64, start: u64, instance: InstanceId) -> EpochEntry {
        let epoch = Epoch { number, nonce: 9 };
        EpochEntry { epoch, start: Lsn(start), instance }
    }

    fn floor(promises: &Promises, chain: &[EpochEntry], behind: &Behind, cut: Option<Lsn>) -> Lsn {
        let ledger = Ledger {
            instance: HERE,
            promises,
            chain,
            carried: &CarriedByEpoch::new(),
            behind,
            clean_end: None,
            cut,
        };
        ledger.floor().lsn
    }

    #[test]
    fn a_promise_counts_up_to_the_next_epoch_and_up_to_a_cut() {
        let promises = Promises {
            durable: Some(Promise { epoch: 3, lsn: Lsn(90) }),
            epochs: vec![entry(5, 70, THERE)],
            ..Promises::default()
        };
        let none = Behind::default();
        assert_eq!(floor(&promises, &[], &none, None), Lsn(70));
        let chain = [entry(3, 0, HERE), entry(4, 80, THERE)];
        assert_eq!(floor(&promises, &chain, &none, None), Lsn(70));
        assert_eq!(floor(&promises, &chain, &none, Some(Lsn(60))), Lsn(60));
    }

    #[test]
    fn a_durable_lsn_in_a_block_counts_for_its_sealer_alone() {
        let mut behind = Behind::default();
        let carried = super::super::tail::Carried { durable: Lsn(50), commit: Lsn(40) };
        behind.carried.insert(3, carried);
        let mut promises = Promises::default();
        let there = [entry(3, 0, THERE)];
        assert_eq!(floor(&promises, &there, &behind, None), Lsn::ZERO);
        promises.in_sync = true;
        assert_eq!(floor(&promises, &there, &behind, None), Lsn(40));
        let here = [entry(3, 0, HERE)];
        assert_eq!(floor(&promises, &here, &behind, None), Lsn(50));
        promises.in_sync = false;
        behind.begins.insert((3, HERE));
        assert_eq!(floor(&promises, &[], &behind, None), Lsn(50));
        assert_eq!(floor(&promises, &there, &behind, None), Lsn::ZERO);
    }
}
