//! When the member wants to be stepped, and until when the network thread's timer sleeps.
//!
//! Guarantees: the sleeper is woken when, and only when, it would sleep too long; a deadline that moves
//! away is found when the sleep ends. Not here: the sleeper ([`super::links`]).

use outrigger_wal::Micros;
use parking_lot::Mutex;

/// A deadline that moves, and the one that somebody sleeps for.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    due: Option<Micros>,
    slept_for: Option<Micros>,
}

impl Alarm {
    /// The deadline is `due` now; `wake` is called if the sleeper would miss it.
    pub(super) fn set(&self, due: Option<Micros>, wake: impl FnOnce()) {
        let mut state = self.state.lock();
        state.due = due;
        let Some(at) = due else { return };
        if state.slept_for.is_none_or(|slept_for| at < slept_for) {
            state.slept_for = due;
            drop(state);
            wake();
        }
    }

    /// Until when to sleep; `None` is until it is woken.
    pub(super) fn sleep_for(&self) -> Option<Micros> {
        let mut state = self.state.lock();
        state.slept_for = state.due;
        state.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken(alarm: &Alarm, due: u64) -> bool {
        let mut woken = false;
        alarm.set(Some(Micros(due)), || woken = true);
        woken
    }

    #[test]
    fn a_sleeper_is_woken_for_an_earlier_deadline_and_for_no_later_one() {
        let alarm = Alarm::default();
        assert_eq!(alarm.sleep_for(), None);
        assert!(woken(&alarm, 500), "it sleeps without an end");
        assert!(!woken(&alarm, 500), "it was woken already");
        assert_eq!(alarm.sleep_for(), Some(Micros(500)));
        assert!(!woken(&alarm, 900), "it looks again at 500");
        assert!(!woken(&alarm, 600), "and finds this one");
        assert!(woken(&alarm, 400));
        assert_eq!(alarm.sleep_for(), Some(Micros(400)));
        alarm.set(None, || unreachable!("nothing is due"));
        assert_eq!(alarm.sleep_for(), None);
        assert!(woken(&alarm, 1_000));
    }
}
