//! A sparse map of where blocks start, so that a reader need not walk a segment from its head.
//!
//! Guarantees: one entry for each 256 KiB of log space at most, the first block start in it that was
//! inserted lowest; what it answers is always a start that was inserted. Not here: what lies between
//! two entries, which the reader walks by the headers.

use std::collections::BTreeMap;

use crate::lsn::Lsn;

/// Log space that one entry stands for.
const STRETCH_BYTES: u64 = 256 << 10;

/// Block starts, the first of each 256 KiB of log space.
///
/// ```
/// use outrigger_wal::{BlockIndex, Lsn};
/// let mut index = BlockIndex::default();
/// index.insert(Lsn(0));
/// index.insert(Lsn(4096));
/// index.insert(Lsn(1 << 20));
/// assert_eq!(index.at_or_before(Lsn(8192)), Some(Lsn(0)));
/// assert_eq!(index.at_or_before(Lsn(2 << 20)), Some(Lsn(1 << 20)));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct BlockIndex {
    starts: BTreeMap<u64, Lsn>,
}

impl BlockIndex {
    /// Notes that a block starts at `lsn`.
    pub fn insert(&mut self, lsn: Lsn) {
        let first = self.starts.entry(lsn.0 / STRETCH_BYTES).or_insert(lsn);
        *first = (*first).min(lsn);
    }

    /// The last known block start that is not behind `lsn`.
    #[must_use]
    pub fn at_or_before(&self, lsn: Lsn) -> Option<Lsn> {
        self.starts
            .range(..=lsn.0 / STRETCH_BYTES)
            .rev()
            .map(|(_, start)| *start)
            .find(|start| *start <= lsn)
    }

    /// Forgets the starts at and behind `from`, which was cut off.
    pub fn truncate(&mut self, from: Lsn) {
        self.starts.retain(|_, start| *start < from);
    }

    /// Forgets the starts below `lsn`, which were recycled.
    pub fn drop_below(&mut self, lsn: Lsn) {
        self.starts.retain(|_, start| *start >= lsn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_found_from_anywhere_behind_it() {
        let mut index = BlockIndex::default();
        assert_eq!(index.at_or_before(Lsn(0)), None);
        for start in (0..40).map(|n| Lsn(n * 100 * 4096)) {
            index.insert(start);
        }
        for at in (0..4_000).map(|n| Lsn(n * 4096)) {
            let found = index.at_or_before(at).expect("the first block starts at 0");
            assert!(found <= at && found.0.is_multiple_of(100 * 4096));
            assert!(at.since(found) < 2 * 100 * 4096 + STRETCH_BYTES);
        }
    }

    #[test]
    fn nothing_cut_or_recycled_is_answered() {
        let mut index = BlockIndex::default();
        for start in (0..40).map(|n| Lsn(n * 100 * 4096)) {
            index.insert(start);
        }
        index.truncate(Lsn(30 * 100 * 4096));
        index.drop_below(Lsn(10 * 100 * 4096));
        assert_eq!(index.at_or_before(Lsn(5 * 100 * 4096)), None);
        let last = index.at_or_before(Lsn(u64::MAX)).expect("twenty are left");
        assert!(last < Lsn(30 * 100 * 4096) && last >= Lsn(27 * 100 * 4096));
    }
}
