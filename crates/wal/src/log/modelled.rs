//! What a model checker needs of a running log: a copy that shares nothing, and a fingerprint.
//!
//! Guarantees: two logs of one fingerprint behave alike from here on, as long as their disks do. Operation ids,
//! times, counts and what is merely kept in memory are left out. Not here: anything that is shipped.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Log;

impl Log {
    /// Gives this log, which was just cloned, an appender of its own.
    pub fn part(&mut self) {
        self.appender = Arc::new(self.appender.fork());
    }

    /// Everything that decides what it does.
    pub fn fingerprint<H: Hasher>(&self, into: &mut H) {
        let Self { end, hash, durable, commit, epoch, sealing, .. } = self;
        (end, hash.0, durable, commit, epoch.number, epoch.nonce, sealing).hash(into);
        self.beginning.is_some().hash(into);
        self.busy_since.is_some().hash(into);
        for entry in &self.epochs {
            (entry.epoch.number, entry.start).hash(into);
        }
        for flight in &self.flights {
            (flight.end, flight.done).hash(into);
        }
        (self.flights.len(), self.waiting.len(), self.poison.is_some()).hash(into);
        self.appender.fingerprint(into);
    }
}
