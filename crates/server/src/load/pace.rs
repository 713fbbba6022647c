//! No faster than told: when the next row may go.
//!
//! Guarantees: over any time, at most `rate * time` rows and a burst of 20 ms. Time is an input.

use std::time::Duration;

/// How far a late start of one row may be made up by the next ones.
const BURST: Duration = Duration::from_millis(20);

/// Spaces rows evenly.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Between two rows; `None`: as fast as it goes.
    gap: Option<Duration>,
    /// When the next row is due, since the beginning.
    due: Duration,
}

impl Pace {
    /// At most so many rows a second; `None`: as fast as it goes.
    pub(crate) fn new(rows_per_second: Option<f64>) -> Self {
        let gap = rows_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { gap, due: Duration::ZERO }
    }

    /// Takes the next row's turn, `now` after the beginning: how long it has to wait.
    pub(crate) fn next(&mut self, now: Duration) -> Duration {
        let Some(gap) = self.gap else { return Duration::ZERO };
        let due = self.due.max(now.saturating_sub(BURST));
        self.due = due.saturating_add(gap);
        due.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn rows_are_spaced_by_the_rate() {
        let mut pace = Pace::new(Some(100.0));
        let waits: Vec<_> = (0..4).map(|_| pace.next(Duration::ZERO)).collect();
        assert_eq!(waits, [0, 10, 20, 30].map(|at| at * MS));
    }

    #[test]
    fn a_long_pause_is_made_up_by_a_short_burst_only() {
        let mut pace = Pace::new(Some(100.0));
        let late = 1000 * MS;
        let waits: Vec<_> = (0..5).map(|_| pace.next(late)).collect();
        assert_eq!(waits, [0, 0, 0, 10, 20].map(|at| at * MS));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        assert_eq!(Pace::new(None).next(Duration::ZERO), Duration::ZERO);
    }
}
