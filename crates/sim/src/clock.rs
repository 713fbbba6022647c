//! Simulated time: one true time, and what each node's clock makes of it.
//!
//! Guarantees: without a jump a node's clock never goes back; a node that is paused does not run,
//! and whether its clock runs meanwhile is chosen. Not here: what the nodes do with it (no rule of
//! safety may depend on any of this).

use outrigger_wal::Micros;

const MILLION: i128 = 1_000_000;

/// What stands still while a node is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// The process alone, as by SIGSTOP: its clock has moved on when it wakes.
    Process,
    /// The whole machine, as a suspended virtual machine: its clock goes on where it stood.
    Machine,
}

/// One node's clock.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// The true time of the last change of pace.
    since: Micros,
    /// What the clock showed then.
    shown: Micros,
    /// Parts in a million by which it runs too fast (or, below zero, too slowly).
    drift_ppm: i32,
    paused: Option<Pause>,
}

impl Default for NodeClock {
    fn default() -> Self {
        Self::new(Micros(0))
    }
}

impl NodeClock {
    /// A clock without drift that shows `shown` at true time 0.
    #[must_use]
    pub const fn new(shown: Micros) -> Self {
        Self { since: Micros(0), shown, drift_ppm: 0, paused: None }
    }

    /// What the node's clock shows at this true time.
    #[must_use]
    pub fn node_now(&self, global: Micros) -> Micros {
        if self.paused == Some(Pause::Machine) {
            return self.shown;
        }
        let passed = i128::from(global.since(self.since));
        let passed = passed * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        self.shown.plus(u64::try_from(passed.max(0)).unwrap_or(u64::MAX))
    }

    /// The first true time, not before `global`, at which the clock shows `node` or more; `None`
    /// while the node is paused, or when its clock stands still.
    #[must_use]
    pub fn global_at(&self, node: Micros, global: Micros) -> Option<Micros> {
        if self.is_paused() {
            return None;
        }
        let pace = MILLION + i128::from(self.drift_ppm);
        if self.node_now(global) >= node {
            return Some(global);
        }
        if pace <= 0 {
            return None;
        }
        let needed = i128::from(node.since(self.shown)) * MILLION;
        let passed = u64::try_from((needed + pace - 1) / pace).unwrap_or(u64::MAX);
        Some(self.since.plus(passed).max(global))
    }

    /// Whether the node stands still: then nothing may step it.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Stops the node.
    pub fn pause(&mut self, global: Micros, pause: Pause) {
        self.rebase(global);
        self.paused = Some(pause);
    }

    /// Lets the node run again.
    pub fn resume(&mut self, global: Micros) {
        self.rebase(global);
        self.paused = None;
    }

    /// Changes the pace from now on: parts in a million too fast or, below zero, too slow. At
    /// -1,000,000 and below the clock stands still.
    pub fn set_drift(&mut self, global: Micros, drift_ppm: i32) {
        self.rebase(global);
        self.drift_ppm = drift_ppm;
    }

    /// Sets the clock on or back.
    pub fn jump(&mut self, global: Micros, micros: i64) {
        self.rebase(global);
        self.shown = Micros(self.shown.0.saturating_add_signed(micros));
    }

    fn rebase(&mut self, global: Micros) {
        self.shown = self.node_now(global);
        self.since = self.since.max(global);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_wakes_up_late_and_a_stopped_machine_does_not_know() {
        let (mut process, mut machine) = (NodeClock::default(), NodeClock::default());
        process.pause(Micros(100), Pause::Process);
        machine.pause(Micros(100), Pause::Machine);
        assert!(process.is_paused() && machine.is_paused());
        assert_eq!(process.global_at(Micros(200), Micros(100)), None);
        assert_eq!(machine.node_now(Micros(5000)), Micros(100));
        process.resume(Micros(5000));
        machine.resume(Micros(5000));
        assert_eq!(process.node_now(Micros(5010)), Micros(5010));
        assert_eq!(machine.node_now(Micros(5010)), Micros(110));
    }

    #[test]
    fn a_change_of_pace_does_not_move_the_clock() {
        let mut clock = NodeClock::new(Micros(7));
        clock.set_drift(Micros(1000), 100_000);
        assert_eq!(clock.node_now(Micros(1000)), Micros(1007));
        assert_eq!(clock.node_now(Micros(2000)), Micros(2107));
        clock.set_drift(Micros(2000), -100_000);
        assert_eq!(clock.node_now(Micros(2000)), Micros(2107));
        assert_eq!(clock.node_now(Micros(3000)), Micros(3007));
        clock.set_drift(Micros(3000), -2_000_000);
        assert_eq!(clock.node_now(Micros(9000)), Micros(3007));
        assert_eq!(clock.global_at(Micros(3008), Micros(9000)), None);
    }

    #[test]
    fn clocks_can_be_set_back() {
        let mut clock = NodeClock::default();
        clock.jump(Micros(1000), -600);
        assert_eq!(clock.node_now(Micros(1000)), Micros(400));
        clock.jump(Micros(1000), i64::MIN);
        assert_eq!(clock.node_now(Micros(1001)), Micros(1));
    }

    #[test]
    fn a_deadline_is_found_at_the_first_moment_that_shows_it() {
        for drift in [-500_000, -37, 0, 41, 900_000] {
            let mut clock = NodeClock::new(Micros(13));
            clock.set_drift(Micros(50), drift);
            for wanted in 0..400 {
                let at = clock.global_at(Micros(wanted), Micros(60)).unwrap();
                assert!(clock.node_now(at) >= Micros(wanted));
                if at > Micros(60) {
                    assert!(clock.node_now(Micros(at.0 - 1)) < Micros(wanted));
                }
            }
        }
    }
}
