//! The rows of the fault table that concern failover, and how often each happened in a run.
//!
//! Not here: what makes them happen (`faults`, `operator`), and what must hold then (the checker).

use std::collections::BTreeMap;

/// The rows, by number, and what is counted.
pub const ROWS: [(u8, &str); 18] = [
    (42, "a write is appended by a primary that was replaced"),
    (43, "a promotion is told when a later one is recorded"),
    (44, "two coordinators at once, or one that was overtaken"),
    (45, "a promotion is asked for and refused: nobody is provably whole"),
    (46, "a primary waits for a copy to be dropped, and nobody can record it"),
    (47, "a process is killed within a promotion"),
    (48, "the log of an old primary is cut at the fork"),
    (49, "a crash while a log is cut"),
    (50, "a crash while a copy is made anew"),
    (51, "a crash while segments are made, named or removed"),
    (52, "a crash while a checkpoint or the control file is written"),
    (53, "a copy's log is longer than that of whoever reigns next"),
    (54, "a coordinator that lacks something: refused, or told so"),
    (55, "both copies are down, and one returns"),
    (56, "two processes answer in one name"),
    (57, "mirrors come and go under load"),
    (58, "a host is stopped in order and started again under load"),
    (59, "a request that makes no sense is refused"),
];

/// What happened, counted.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// By row of the fault table.
    pub rows: BTreeMap<u8, u64>,
    /// By what it is.
    pub others: BTreeMap<&'static str, u64>,
    /// Events.
    pub events: u64,
}

impl Counts {
    pub(super) fn row(&mut self, row: u8) {
        *self.rows.entry(row).or_default() += 1;
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.others.entry(what).or_default() += 1;
    }

    /// How often a row happened.
    #[must_use]
    pub fn of_row(&self, row: u8) -> u64 {
        self.rows.get(&row).copied().unwrap_or(0)
    }

    /// How often something happened.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.others.get(what).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (row, seen) in &other.rows {
            *self.rows.entry(*row).or_default() += seen;
        }
        for (what, seen) in &other.others {
            *self.others.entry(what).or_default() += seen;
        }
        self.events += other.events;
    }
}
