//! The configuration of one content, as it is recorded, sent and compared.
//!
//! Guarantees: none by itself; the authority that owns it gives each version one value for good.
//! Not here: who may change it, and when (replica, cluster).

use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

/// The version of a configuration; each change adds one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Version(pub u64);

impl Version {
    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which copies must hold a byte before it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// All of the in-sync set.
    #[default]
    All,
}

/// One copy of a content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Copy {
    /// Whose copy.
    pub instance: InstanceId,
    /// Where it listens for its peers and clients, in order of preference: `host:port`.
    pub addresses: Vec<String>,
    /// Whether a commit waits for it.
    pub in_sync: bool,
    /// Whether an administrator has not let it come back yet: its primary does not call it, and refuses
    /// its calls. Never set for a copy that is in sync.
    pub held: bool,
    /// The highest durable LSN the authority had heard from it at the last change, and of which reign's
    /// history: a part of the copy's floor, up to the start of the next epoch (S6).
    pub durable: Promise,
}

/// What an operator accepted to lose when a copy was promoted that may lack commits (S10), or when a standby was
/// activated by force (S8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Loss {
    /// The copy that was promoted.
    pub instance: InstanceId,
    /// The number of its reign: what was promised in lower epochs counts, for that copy, up to `end` at most.
    pub epoch: u64,
    /// Where its log ended when the loss was accepted; the highest LSN: that is not known.
    pub end: Lsn,
}

/// (version, epoch, primary, in-sync set) of one content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Names this value for good.
    pub version: Version,
    /// The reign that this configuration begins or continues.
    pub epoch: Epoch,
    /// Who reigns.
    pub primary: InstanceId,
    /// All copies, in-sync or not.
    pub copies: Vec<Copy>,
    /// When a byte is committed.
    pub rule: Rule,
    /// The last loss that an operator accepted; it stays until the next one.
    pub loss: Option<Loss>,
}

impl Config {
    /// The copy of `instance`, if it has one.
    #[must_use]
    pub fn copy(&self, instance: InstanceId) -> Option<&Copy> {
        self.copies.iter().find(|copy| copy.instance == instance)
    }

    /// Whether `instance` belongs to the in-sync set.
    #[must_use]
    pub fn in_sync(&self, instance: InstanceId) -> bool {
        self.copy(instance).is_some_and(|copy| copy.in_sync)
    }

    /// Whether `instance` has a copy that is held out.
    #[must_use]
    pub fn held(&self, instance: InstanceId) -> bool {
        self.copy(instance).is_some_and(|copy| copy.held)
    }

    /// Up to where the accepted loss lets a promise of `instance` count that was made in `epoch` (S10);
    /// `None`: it says nothing of it.
    #[must_use]
    pub fn accepted(&self, instance: InstanceId, epoch: u64) -> Option<Lsn> {
        let loss = self.loss.filter(|loss| loss.instance == instance && epoch < loss.epoch);
        loss.map(|loss| loss.end)
    }

    /// The in-sync set.
    pub fn in_sync_set(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.copies.iter().filter(|copy| copy.in_sync).map(|copy| copy.instance)
    }
}
