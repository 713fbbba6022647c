//! What became of a commit that ended in doubt.
//!
//! Answered from the epoch table and the commit LSN alone; exact, because a reign's bytes survive up
//! to where the next one began, and no further. Not here: asking by a client's own name (the store).

use outrigger_wal::format::EpochEntry;
use outrigger_wal::{Epoch, Lsn};

/// The fate of the bytes before an LSN, appended in an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// They are committed.
    Kept,
    /// They are gone: a later reign that is committed began before them.
    Lost,
    /// Not decided yet.
    Pending,
    /// The epoch is older than the table goes back.
    Unknown,
}

/// The fate of what ended at `end` in `epoch`, by a copy's epoch table (oldest first) and commit LSN.
///
/// ```
/// use outrigger_replica::fate::{Fate, fate};
/// use outrigger_wal::{Epoch, InstanceId, Lsn, format::EpochEntry};
///
/// let entry = |number, start| EpochEntry {
///     epoch: Epoch { number, nonce: 7 }, start: Lsn(start), instance: InstanceId(1),
/// };
/// let table = [entry(1, 0), entry(2, 8192)];
/// let one = Epoch { number: 1, nonce: 7 };
/// assert_eq!(fate(&table, Lsn(16384), one, Lsn(8000)), Fate::Kept);
/// assert_eq!(fate(&table, Lsn(16384), one, Lsn(9000)), Fate::Lost);
/// ```
#[must_use]
pub fn fate(epochs: &[EpochEntry], commit: Lsn, epoch: Epoch, end: Lsn) -> Fate {
    let at = epochs.iter().position(|entry| entry.epoch == epoch);
    let next = match at {
        Some(at) => epochs.get(at.saturating_add(1)),
        None => epochs.iter().find(|entry| entry.epoch.number >= epoch.number),
    };
    // A later reign has begun for good once its first byte is committed.
    let settled = next.filter(|next| commit > next.start);
    match at {
        Some(at) => {
            let start = epochs.get(at).map_or(Lsn::ZERO, |entry| entry.start);
            let limit = next.map_or(Lsn(u64::MAX), |next| next.start);
            if end > start && end <= commit && end <= limit {
                Fate::Kept
            } else if settled.is_some() {
                Fate::Lost
            } else {
                Fate::Pending
            }
        }
        None if epochs.first().is_some_and(|first| epoch.number < first.epoch.number) => {
            Fate::Unknown
        }
        None if settled.is_some() => Fate::Lost,
        None => Fate::Pending,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_wal::InstanceId;

    use super::*;

    fn entry(number: u64, start: u64) -> EpochEntry {
        let epoch = Epoch { number, nonce: u128::from(number) };
        EpochEntry { epoch, start: Lsn(start), instance: InstanceId(1) }
    }

    fn epoch(number: u64) -> Epoch {
        Epoch { number, nonce: u128::from(number) }
    }

    #[test]
    fn what_lies_below_the_commit_lsn_of_its_own_epoch_is_kept() {
        let table = [entry(1, 0), entry(3, 8192)];
        assert_eq!(fate(&table, Lsn(20000), epoch(1), Lsn(8192)), Fate::Kept);
        assert_eq!(fate(&table, Lsn(20000), epoch(3), Lsn(9000)), Fate::Kept);
    }

    #[test]
    fn an_epoch_that_left_no_trace_is_lost_though_its_lsn_is_committed_by_another() {
        // B wrote at 8000 in epoch 2; A's epoch 3 begins above it and A never had epoch 2.
        let table = [entry(1, 0), entry(3, 8192)];
        assert_eq!(fate(&table, Lsn(20000), epoch(2), Lsn(8000)), Fate::Lost);
    }

    #[test]
    fn another_nonce_is_another_epoch() {
        let table = [entry(1, 0), entry(2, 8192)];
        let twin = Epoch { number: 2, nonce: 99 };
        assert_eq!(fate(&table, Lsn(20000), twin, Lsn(9000)), Fate::Lost);
    }

    #[test]
    fn what_is_not_committed_is_pending_until_a_later_epoch_is() {
        let table = [entry(1, 0)];
        assert_eq!(fate(&table, Lsn(4096), epoch(1), Lsn(9000)), Fate::Pending);
        let table = [entry(1, 0), entry(2, 8192)];
        assert_eq!(fate(&table, Lsn(8192), epoch(1), Lsn(9000)), Fate::Pending);
        assert_eq!(fate(&table, Lsn(8193), epoch(1), Lsn(9000)), Fate::Lost);
    }

    #[test]
    fn an_epoch_before_the_table_is_unknown() {
        let table = [entry(5, 40960)];
        assert_eq!(fate(&table, Lsn(50000), epoch(2), Lsn(8000)), Fate::Unknown);
    }
}
