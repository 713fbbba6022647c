//! From a verdict to the changes of files that it asks for.
//!
//! Guarantees: nothing for a log that was closed cleanly and is not cut. Not here: carrying them out.

use super::folder::{Folder, Mark};
use super::judge::Verdict;
use super::mend::Mending;
use super::read::LogBytes;
use crate::lsn::Lsn;

/// What must be done to the files.
pub(super) fn plan(verdict: &Verdict, folder: &Folder, bytes: &LogBytes) -> Mending {
    let size = bytes.segment_bytes();
    let end = verdict.end;
    let last = bytes.segment(end);
    let clean = folder.mark.whole().is_some() && !verdict.is_cut;
    // A clean log's end was checked; flipped bits in zeros behind it mean nothing.
    let torn = verdict.behind.torn_from.filter(|_| !clean);
    let is_short = |number: &u64| folder.segments.get(number).is_some_and(|len| *len != size);
    // Segments behind the end stay when they are prepared, and continue the others.
    let later: Vec<u64> = bytes.numbers().filter(|number| *number > last).collect();
    let continue_on = bytes
        .numbers()
        .filter(|number| *number >= last)
        .zip(last..)
        .all(|(number, expected)| number == expected);
    let holds =
        later.iter().any(|number| is_short(number) || verdict.behind.torn_to > Lsn(number * size));
    let remove = if continue_on && !(holds && torn.is_some()) && !later.iter().any(is_short) {
        Vec::new()
    } else {
        later
    };
    // Accepted bytes that no promise covers may be in the page cache alone.
    let unsure = verdict.floor.min(end);
    let rewrite = bytes
        .numbers()
        .filter(|number| *number <= last)
        .filter_map(|number| {
            let start = Lsn(number.saturating_mul(size));
            let keep = end.since(start).min(size);
            let unpromised = !clean && keep > 0 && start.saturating_add(keep) > unsure;
            let tail = torn.is_some_and(|from| number == last && from < start.saturating_add(size));
            (unpromised || tail || is_short(&number)).then_some((number, keep))
        })
        .collect();
    let mut mending = Mending {
        save: torn.map(|_| (end, verdict.behind.torn_to)),
        remove,
        rewrite,
        unmark: false,
    };
    mending.unmark = folder.mark != Mark::Absent && !mending.is_nothing();
    mending
}
