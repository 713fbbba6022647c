//! Crashes: what becomes of the operations in flight, of the page cache, of the names.
//!
//! Guarantees: a completed durable write, sync or folder sync survives everything; nothing else is
//! certain to. Not here: how pages survive ([`super::survival`]).

use super::state::{Pending, State};
use super::survival::CrashReport;

impl State {
    /// The process dies; the operating system and its page cache live on.
    pub(super) fn kill(&mut self) -> CrashReport {
        let report = self.end_process();
        self.trace.add(0x6B69_6C6C);
        report
    }

    /// The machine loses power.
    pub(super) fn power_cut(&mut self) -> CrashReport {
        let mut report = self.end_process();
        let (kept, lost) = self.names.power_cut(self.options.ordered_names, &mut self.rng);
        (report.names_kept, report.names_lost) = (kept, lost);
        self.forget_nameless();
        for file in self.files.values_mut() {
            file.power_cut(&mut self.rng, &mut report);
        }
        for n in [report.pages_kept, report.pages_lost, report.pages_torn, kept, lost] {
            self.trace.add(n);
        }
        report
    }

    fn end_process(&mut self) -> CrashReport {
        let mut in_flight = std::mem::take(&mut self.queue);
        let report = CrashReport { in_flight: in_flight.len() as u64, ..CrashReport::default() };
        self.rng.shuffle(&mut in_flight);
        for pending in in_flight {
            self.interrupt(pending);
        }
        self.done.clear();
        self.crashed = false;
        self.crash_at = None;
        self.generation += 1;
        report
    }

    /// It took effect wholly, or in part, or not at all; nobody is told.
    fn interrupt(&mut self, pending: Pending) {
        match self.rng.below(3) {
            0 => {}
            1 => self.begin(pending),
            _ if pending.fails => drop(self.fail(pending)),
            _ => drop(self.carry_out(pending)),
        }
    }
}
