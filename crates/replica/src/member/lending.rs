//! What a primary lends to a copy that is rebuilt: its word on what is committed, and log that is kept.
//!
//! Guarantees: a copy that commits wait for, or may come to wait for, is lent nothing: what it has acknowledged may
//! be on its way here, and what it is rebuilt to would lack it. It leaves by S2 first. Log that is held
//! is neither recycled nor kept for ever. Not here: how the state travels (`rebuild`).

use std::collections::BTreeMap;

use outrigger_net::config::Version;
use outrigger_wal::format::EpochEntry;
use outrigger_wal::{Epoch, InstanceId, Lsn};

use super::Member;
use super::phase::{Line, Phase};

/// Why nothing is lent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LendError {
    /// Only a primary that serves knows who is in sync.
    #[error("this copy does not serve: ask the acting primary")]
    NotServing,
    /// A primary is no copy of itself.
    #[error("an instance cannot be rebuilt from itself")]
    Itself,
    /// Commits wait for the copy.
    #[error(
        "commits wait for this copy: stop it, and ask again once its primary goes on without it"
    )]
    InSync,
    /// It is still there.
    #[error("this copy is connected to its primary: stop it first")]
    Connected,
}

/// What a primary says to a copy that is rebuilt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lent {
    /// The reign in which it serves.
    pub epoch: Epoch,
    /// The version of the configuration by which the copy is not in sync.
    pub version: Version,
    /// The reign of the coordinator that recorded it.
    pub coordinator_epoch: u64,
    /// What is committed.
    pub commit: Lsn,
    /// The reigns of the log.
    pub epochs: Vec<EpochEntry>,
}

/// Log that is held for copies that are rebuilt: from where, by the name of each.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Held(BTreeMap<u64, Lsn>);

impl Held {
    /// From here on the log is held; what lies further behind its end than `max_bytes` is not.
    pub(super) fn floor(&self, end: Lsn, max_bytes: u64) -> Lsn {
        let oldest = Lsn(end.0.saturating_sub(max_bytes));
        let held = self.0.values().copied().filter(|from| *from >= oldest);
        held.min().unwrap_or(Lsn(u64::MAX))
    }
}

impl Member {
    /// What is said to a copy that is to be rebuilt from this one.
    ///
    /// # Errors
    /// [`LendError`].
    pub fn lend_to(&self, to: InstanceId) -> Result<Lent, LendError> {
        let (Some(epoch), Some(config)) = (self.serving(), self.config()) else {
            return Err(LendError::NotServing);
        };
        let Phase::Reigning(reign) = &self.phase else { return Err(LendError::NotServing) };
        if to == self.me() {
            return Err(LendError::Itself);
        }
        let peer = reign.peers.get(&to);
        let asked = reign.swap.as_ref().is_some_and(|swap| swap.new.in_sync(to));
        if config.in_sync(to) || asked || peer.is_some_and(|peer| peer.awaited.is_some()) {
            return Err(LendError::InSync);
        }
        if peer.is_some_and(|peer| matches!(peer.line, Line::Up(_))) {
            return Err(LendError::Connected);
        }
        Ok(Lent {
            epoch,
            version: config.version,
            coordinator_epoch: self.control.coordinator_epoch,
            commit: self.commit,
            epochs: self.log.epochs().to_vec(),
        })
    }

    /// Holds the log for what bears this name, from `from` on or no longer. Answers where it begins: from
    /// there on it is held.
    pub fn hold(&mut self, name: u64, from: Option<Lsn>) -> Lsn {
        match from {
            Some(from) => self.held.0.insert(name, from),
            None => self.held.0.remove(&name),
        };
        self.log.start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_held_for_the_slowest_and_not_beyond_the_limit() {
        let mut held = Held::default();
        assert_eq!(held.floor(Lsn(100), 10), Lsn(u64::MAX));
        held.0.insert(1, Lsn(70));
        held.0.insert(2, Lsn(80));
        assert_eq!(held.floor(Lsn(100), 1000), Lsn(70));
        assert_eq!(held.floor(Lsn(100), 30), Lsn(70));
        assert_eq!(held.floor(Lsn(100), 29), Lsn(80), "one that fell too far behind is let go");
        assert_eq!(held.floor(Lsn(100), 10), Lsn(u64::MAX));
    }
}
