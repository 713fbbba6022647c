//! Where in the log the primary is killed, and how much may be written behind that place.
//!
//! Guarantees: the kill lies beyond the middle of what the log is at the end, whatever the machine's
//! speed is, and however much faster a primary alone is than one with a mirror. By positions, not by time:
//! time only spreads what may be written. Not here: who writes.

use std::time::Duration;

/// What the burst takes in the log, with what settles its writes after the failover.
const BURST_BYTES: u64 = 9 << 20;
/// What is written beside rows at least, after the kill.
const BESIDE_BYTES: u64 = 8 << 20;
/// For what is on its way when writing stops, first blocks, padding.
const MARGIN_BYTES: u64 = 2 << 20;
/// What may be written after the kill is spread over so long.
const SPREAD: Duration = Duration::from_secs(4);

/// Follows the log's committed end, and holds writers back behind the kill.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brake {
    position: u64,
    killed: Option<Killed>,
}

#[derive(Clone, Copy, Debug)]
struct Killed {
    at: u64,
    rows_bytes: u64,
}

impl Brake {
    /// The log is committed up to here.
    pub(super) fn note(&mut self, end: u64) {
        self.position = self.position.max(end);
    }

    /// Whether the primary may be killed here, when rows that are to come take `rows_bytes` at most.
    pub(super) const fn may_kill(&self, rows_bytes: u64) -> bool {
        let after = rows_bytes.saturating_add(BURST_BYTES + BESIDE_BYTES + MARGIN_BYTES);
        self.position >= after
    }

    /// It is killed, no earlier in the log than here.
    pub(super) const fn killed(&mut self, rows_bytes: u64) {
        self.killed = Some(Killed { at: self.position, rows_bytes });
    }

    /// Whether who writes beside the rows must wait, so long after the kill; rows to come take
    /// `rows_bytes`.
    pub(super) fn must_wait(&self, since: Duration, rows_bytes: u64) -> bool {
        let Some(killed) = self.killed else { return false };
        let fixed = killed.rows_bytes.saturating_add(BURST_BYTES);
        let free = killed.at.saturating_sub(fixed).saturating_sub(MARGIN_BYTES);
        let share = u64::try_from(since.min(SPREAD).as_millis()).unwrap_or(u64::MAX);
        let spread = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX);
        let allowed = killed.at.saturating_add(fixed).saturating_add(free / spread * share);
        self.position.saturating_add(rows_bytes) > allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn whatever_is_written_behind_the_kill_is_less_than_what_lies_before_it() {
        // A log with rows still to come; who writes beside them writes all that it may, at once.
        for rows in [0, 5 * MIB, 40 * MIB] {
            let mut brake = Brake::default();
            while !brake.may_kill(rows) {
                brake.note(brake.position + 4096);
            }
            let at = brake.position;
            brake.killed(rows);
            brake.note(at + BURST_BYTES);
            let mut left = rows;
            let mut step = |brake: &mut Brake, since| {
                while !brake.must_wait(since, left) {
                    brake.note(brake.position + 4096);
                }
                left = left.saturating_sub(left / 3 + 4096);
                brake.note(brake.position + 4096);
            };
            for millis in [0, 1, 100, 2_000, 4_000, 60_000] {
                step(&mut brake, Duration::from_millis(millis));
            }
            assert!(brake.position + left <= 2 * at, "{} of {at}", brake.position);
            assert!(brake.position + left >= at + rows + BURST_BYTES, "nobody starves");
        }
    }

    #[test]
    fn nobody_waits_before_the_kill_nor_for_the_first_commit_behind_it() {
        let mut brake = Brake::default();
        brake.note(30 * MIB);
        assert!(!brake.must_wait(Duration::ZERO, 0));
        brake.killed(0);
        assert!(!brake.must_wait(Duration::ZERO, 0));
    }
}
