//! The reigns of a log, as far back as anybody remembers.
//!
//! A log whose first segments are gone names the last 64 reigns before its start; the control file kept
//! the older ones, from which a commit's fate is told. Not here: the answer ([`crate::fate`]).

use outrigger_wal::format::EpochEntry;

use crate::control::MAX_EPOCHS;

/// The reigns of the log, behind those that began before any that it names itself.
#[must_use]
pub(crate) fn joined(kept: &[EpochEntry], log: &[EpochEntry]) -> Vec<EpochEntry> {
    let Some(first) = log.first() else { return Vec::new() };
    let is_older =
        |entry: &&EpochEntry| entry.epoch.number < first.epoch.number && entry.start <= first.start;
    let mut all: Vec<EpochEntry> = kept.iter().take_while(is_older).copied().collect();
    all.extend_from_slice(log);
    all.drain(..all.len().saturating_sub(MAX_EPOCHS));
    all
}

#[cfg(test)]
mod tests {
    use outrigger_wal::{Epoch, InstanceId, Lsn};

    use super::*;

    fn reigns(numbers: impl IntoIterator<Item = u64>) -> Vec<EpochEntry> {
        let entry = |number| EpochEntry {
            epoch: Epoch { number, nonce: 7 },
            start: Lsn(number * 4096),
            instance: InstanceId(1),
        };
        numbers.into_iter().map(entry).collect()
    }

    #[test]
    fn reigns_whose_log_is_recycled_are_remembered() {
        assert_eq!(joined(&reigns(1..=90), &reigns(27..=91)), reigns(1..=91));
        assert_eq!(joined(&reigns(1..=90), &reigns(91..=91)), reigns(1..=91));
        assert_eq!(joined(&[], &reigns(3..=4)), reigns(3..=4));
    }

    #[test]
    fn what_the_log_says_of_a_reign_counts_alone() {
        let mut other = reigns(1..=5);
        for entry in other.iter_mut().skip(2) {
            entry.epoch.nonce = 8;
        }
        assert_eq!(joined(&other, &reigns(3..=4)), reigns(1..=4));
        assert_eq!(joined(&reigns(1..=5), &[]), [], "a log without a reign has none");
    }

    #[test]
    fn no_more_are_kept_than_the_control_file_holds() {
        let all = joined(&reigns(1..=5_000), &reigns(4_990..=5_010));
        assert_eq!(all, reigns(5_010 - MAX_EPOCHS as u64 + 1..=5_010));
    }
}
