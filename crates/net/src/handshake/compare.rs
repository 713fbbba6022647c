//! Where two histories part.
//!
//! Guarantees: the fork is the exact end of the common prefix whenever the tables share an epoch:
//! an epoch's first block carries the hash of everything before it, so equal entries (number, nonce
//! *and* start) mean equal logs up to that start, and within one reign both hold a prefix of what
//! one primary wrote. Equal numbers prove nothing (S7). Not here: the running hash inside a log,
//! which `Start` carries.

use std::fmt;

use outrigger_wal::format::EpochEntry;
use outrigger_wal::{Epoch, Lsn};

use crate::message::History;

/// What a copy has to do to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Its log is a beginning of mine: streaming goes on at `at`, its end.
    Continue {
        /// Where.
        at: Lsn,
    },
    /// Its log and mine part at `to`; what it has behind is cut first.
    Truncate {
        /// The fork.
        to: Lsn,
    },
    /// My log is a proper beginning of its. A restarted primary that looks for the greatest end
    /// fetches the rest (S5); one that reigns has the copy truncate to `at`.
    Behind {
        /// My end.
        at: Lsn,
    },
    /// It cannot go on from my log.
    NeedsCopy {
        /// Why.
        why: Why,
    },
}

/// Why a copy cannot go on from a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// A table that is not in order, or lies behind its log's end.
    Malformed,
    /// No epoch in common.
    NothingInCommon,
    /// What follows the fork was recycled here.
    Recycled {
        /// Where they part.
        fork: Lsn,
        /// Where my log begins.
        start: Lsn,
    },
    /// The copy recycled what lies before the fork: nothing would be left of it.
    BeforeItsStart {
        /// Where they part.
        fork: Lsn,
        /// Where its log begins.
        start: Lsn,
    },
    /// The copy would have to cut what it knows as committed.
    BelowCommit {
        /// Where they part.
        fork: Lsn,
        /// Its commit LSN.
        commit: Lsn,
    },
    /// The same epochs, the same end, another running hash.
    HashDiffers {
        /// The end.
        at: Lsn,
    },
}

impl Why {
    /// Whether this must never happen while the rules hold: somebody should look.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        matches!(self, Self::Malformed | Self::BelowCommit { .. } | Self::HashDiffers { .. })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("ALARM: an epoch table is not in order"),
            Self::NothingInCommon => f.write_str(
                "the epoch tables share no reign; the copy is too old or of another past",
            ),
            Self::Recycled { fork, start } => {
                write!(f, "the logs part at {fork}, and the primary's now begins at {start}")
            }
            Self::BeforeItsStart { fork, start } => {
                write!(f, "the logs part at {fork}, before the copy's begins at {start}")
            }
            Self::BelowCommit { fork, commit } => write!(
                f,
                "ALARM: the logs part at {fork}, and the copy holds commits up to {commit}: \
                 following would lose commits; nothing is cut"
            ),
            Self::HashDiffers { at } => {
                write!(f, "ALARM: both logs end at {at} with the same epochs and differ in content")
            }
        }
    }
}

/// Compares the log of a primary (`mine`) with that of a copy (`theirs`).
#[must_use]
pub fn compare(mine: &History, theirs: &History) -> Verdict {
    if !is_in_order(mine) || !is_in_order(theirs) {
        return Verdict::NeedsCopy { why: Why::Malformed };
    }
    let Some(fork) = fork(mine, theirs) else {
        return Verdict::NeedsCopy { why: Why::NothingInCommon };
    };
    if let Some(why) = obstacle(mine, theirs, fork) {
        return Verdict::NeedsCopy { why };
    }
    if theirs.end == fork {
        Verdict::Continue { at: fork }
    } else if mine.end == fork {
        Verdict::Behind { at: fork }
    } else {
        Verdict::Truncate { to: fork }
    }
}

/// Where the common prefix ends.
fn fork(mine: &History, theirs: &History) -> Option<Lsn> {
    for (index, entry) in mine.epochs.iter().enumerate().rev() {
        let same = |other: &EpochEntry| other.epoch == entry.epoch && other.start == entry.start;
        if let Some(at) = theirs.epochs.iter().position(same) {
            return Some(end_of(mine, index).min(end_of(theirs, at)));
        }
    }
    // A copy without any reign holds nothing, or a piece of the log's first segment head: streaming
    // the whole log is cheaper than a copy of it. And where both tables go back to the log's start,
    // the first reigns were other ones: one that was taken up and lost before anybody followed it.
    let whole = |history: &History| history.epochs.first().is_some_and(|e| e.start == Lsn::ZERO);
    let none = theirs.epochs.is_empty() && theirs.start == Lsn::ZERO;
    (none || whole(mine) && whole(theirs)).then_some(Lsn::ZERO)
}

fn obstacle(mine: &History, theirs: &History, fork: Lsn) -> Option<Why> {
    if fork < theirs.commit {
        return Some(Why::BelowCommit { fork, commit: theirs.commit });
    }
    if fork < theirs.start {
        return Some(Why::BeforeItsStart { fork, start: theirs.start });
    }
    if fork < mine.start {
        return Some(Why::Recycled { fork, start: mine.start });
    }
    // At zero nothing was hashed yet, and a copy without a log knows no hash.
    let both_end_here = fork == mine.end && fork == theirs.end && fork > Lsn::ZERO;
    (both_end_here && mine.hash != theirs.hash).then_some(Why::HashDiffers { at: fork })
}

/// Where the epoch at `index` ends: where the next begins, or the log's end.
fn end_of(history: &History, index: usize) -> Lsn {
    index
        .checked_add(1)
        .and_then(|next| history.epochs.get(next))
        .map_or(history.end, |next| next.start)
}

/// Epoch numbers and starts grow, and lie within the log.
fn is_in_order(history: &History) -> bool {
    let grows = |pair: &[EpochEntry]| match pair {
        [a, b] => a.epoch.number < b.epoch.number && a.start < b.start,
        _ => true,
    };
    let within = history.epochs.last().is_none_or(|last| last.start < history.end);
    let has_epoch = history.epochs.iter().all(|entry| entry.epoch != Epoch::NONE);
    history.start <= history.end && within && has_epoch && history.epochs.windows(2).all(grows)
}
