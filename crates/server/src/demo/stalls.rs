//! When writes were acknowledged: how long each content stood still, and how long its writers waited.
//!
//! Guarantees: pure; times are inputs. Not here: who writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_wal::ContentId;

/// An acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) content: ContentId,
    /// Since the load began.
    pub(super) at: Duration,
    /// How long the write took.
    pub(super) took: Duration,
}

/// A stretch of time since the load began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// The longest time between two acknowledgements of one content that ends behind the stretch's beginning and begins
/// before its end, over these contents; `None`: one of them has none that ends so late.
pub(super) fn longest_gap(
    marks: &[Mark],
    contents: &BTreeSet<ContentId>,
    stretch: Stretch,
) -> Option<Duration> {
    let mut by_content: BTreeMap<ContentId, Vec<Duration>> = BTreeMap::new();
    for mark in marks.iter().filter(|mark| contents.contains(&mark.content)) {
        by_content.entry(mark.content).or_default().push(mark.at);
    }
    let longest = |content: &ContentId| {
        let times = by_content.get_mut(content)?;
        times.sort_unstable();
        let pairs = times.iter().zip(times.iter().skip(1));
        let within = pairs.filter(|(begin, end)| **end > stretch.from && **begin < stretch.to);
        within.map(|(begin, end)| end.saturating_sub(*begin)).max()
    };
    let gaps: Option<Vec<_>> = contents.iter().map(longest).collect();
    gaps?.into_iter().max()
}

/// The time that 99 of 100 writes took at most, of those acknowledged for these contents in the stretch.
pub(super) fn p99(
    marks: &[Mark],
    contents: &BTreeSet<ContentId>,
    stretch: Stretch,
) -> Option<Duration> {
    let within = |mark: &&Mark| {
        contents.contains(&mark.content) && mark.at > stretch.from && mark.at <= stretch.to
    };
    let mut times: Vec<_> = marks.iter().filter(within).map(|mark| mark.took).collect();
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn marks(content: i32, times: &[u32]) -> Vec<Mark> {
        let mark = |at: &u32| Mark { content: ContentId(content), at: *at * MS, took: *at * MS };
        times.iter().map(mark).collect()
    }

    fn both() -> BTreeSet<ContentId> {
        [ContentId(0), ContentId(1)].into()
    }

    fn stretch(from: u32, to: u32) -> Stretch {
        Stretch { from: from * MS, to: to * MS }
    }

    #[test]
    fn a_gap_is_measured_from_the_last_write_before_the_kill_to_the_first_behind_it() {
        let mut all = marks(0, &[0, 900, 990, 1100, 1110]);
        all.extend(marks(1, &[980, 1020, 1030, 1040]));
        // Killed at 1000; the gap of 900 ms lies before, and the other content stood still for less.
        assert_eq!(longest_gap(&all, &both(), stretch(1000, 3000)), Some(110 * MS));
    }

    #[test]
    fn answers_that_come_just_behind_the_kill_do_not_shorten_a_gap() {
        let mut all = marks(0, &[990, 1001, 1500, 1510]);
        all.extend(marks(1, &[990, 1001, 1002]));
        assert_eq!(longest_gap(&all, &both(), stretch(1000, 3000)), Some(499 * MS));
    }

    #[test]
    fn a_content_that_never_answers_again_has_no_gap_and_hides_none() {
        let mut all = marks(0, &[990, 1100]);
        all.extend(marks(1, &[980, 990]));
        assert_eq!(longest_gap(&all, &both(), stretch(1000, 3000)), None);
    }

    #[test]
    fn the_slowest_of_a_hundred_is_left_out_and_the_next_is_told() {
        let times: Vec<u32> = (1..=100).collect();
        assert_eq!(p99(&marks(0, &times), &both(), stretch(0, 100)), Some(99 * MS));
        assert_eq!(p99(&marks(0, &[7]), &both(), stretch(0, 100)), Some(7 * MS));
        assert_eq!(p99(&marks(0, &[7]), &both(), stretch(7, 100)), None);
    }
}
