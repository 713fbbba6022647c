//! One content's configuration behind compare-and-swap, and what its copies have been heard to hold.
//!
//! Pure: a decision depends on the register and the proposal, and on nothing else. So it can be taken
//! where the catalog applies its log, in memory, and by the coordinator's own file, alike.
//!
//! Guarantees: a version names one value for good; only the changes that the safety rules know are
//! recorded (S2 and S4 by the primary within its epoch, S3 by the coordinator, S5 by the primary, places, what
//! is held out and accepted losses (S10) by an operator); a recorded configuration carries the floor of every
//! copy (S6). Not here: whether the change is wise, durability, and who is alive.

use std::collections::BTreeMap;

use outrigger_net::config::{Config, Copy, Loss, Version};
use outrigger_replica::rules::{Rule, Rules};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

/// Who asks for a change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Proposer {
    /// A copy: only the primary may.
    Instance(InstanceId),
    /// The coordinator, to promote (S3).
    Coordinator,
    /// An operator: to add and remove copies, change their addresses, hold them out or let them come back, and
    /// to accept a loss (S10).
    Operator,
}

/// A copy says what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Report {
    /// Whose copy.
    pub instance: InstanceId,
    /// The number of the reign whose history it holds.
    pub epoch: u64,
    /// Its durable LSN.
    pub durable: Lsn,
}

impl Report {
    /// One report that says what this one and a `later` one of the same copy say one after the other.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        if (later.epoch, later.durable) > (self.epoch, self.durable) { later } else { self }
    }
}

/// Why a change is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The content has no configuration yet.
    #[error("the content has no configuration yet: initialise its first instance")]
    NotCreated,
    /// The content has one already.
    #[error("the content has a configuration already")]
    Exists,
    /// Another change was recorded first.
    #[error("version {} was seen, version {} is recorded", seen.0, current.0)]
    VersionMoved {
        /// What the proposer had seen.
        seen: Version,
        /// What is recorded.
        current: Version,
    },
    /// The proposal is not the version after the one seen.
    #[error("version {} does not follow version {}", new.0, seen.0)]
    NotNext {
        /// What the proposer had seen.
        seen: Version,
        /// What it proposed.
        new: Version,
    },
    /// A lower epoch than the recorded one.
    #[error("epoch {proposed} is lower than {recorded}")]
    StaleEpoch {
        /// The proposal's.
        proposed: Epoch,
        /// The recorded one.
        recorded: Epoch,
    },
    /// The recorded epoch's number with another nonce: two reigns; an alarm.
    #[error("epoch {proposed} has the number of {recorded} and another nonce: two reigns")]
    ForeignNonce {
        /// The proposal's.
        proposed: Epoch,
        /// The recorded one.
        recorded: Epoch,
    },
    /// A new epoch with the nonce of the recorded one.
    #[error("a new epoch needs a fresh nonce")]
    NonceReused,
    /// A copy that is not the primary asked, or for another primary than itself.
    #[error("only the primary may ask for this change, and only for itself")]
    NotThePrimary,
    /// An operator asked for what only copies and the coordinator may change.
    #[error(
        "an operator may add and remove copies, hold them out, change addresses and accept a loss, nothing else"
    )]
    NotAnOperators,
    /// The primary changed and the epoch did not.
    #[error("another primary needs a new epoch")]
    PrimaryWithinEpoch,
    /// The coordinator would promote the copy that is primary already.
    #[error("instance {to} is the primary already")]
    PrimaryAlready {
        /// Which.
        to: InstanceId,
    },
    /// The copy to promote does not belong to the in-sync set (S3).
    #[error("instance {to} is not in the in-sync set: it may lack committed records")]
    NotAMember {
        /// Which.
        to: InstanceId,
    },
    /// A new epoch must leave the in-sync set as it is (S3, S5).
    #[error("the in-sync set cannot change together with the epoch")]
    InSyncWithEpoch,
    /// Nobody would be in sync.
    #[error("the in-sync set cannot be empty")]
    NobodyInSync,
    /// The primary would not be in sync.
    #[error("the primary must be in the in-sync set")]
    PrimaryNotInSync,
    /// Copies were added, removed or moved.
    #[error("the copies of a content are changed by an operator only")]
    CopiesChanged,
    /// Addresses were changed.
    #[error("the addresses of a copy are changed by an operator only")]
    AddressesChanged,
    /// Whether a copy is held out was changed.
    #[error("a copy is held out, or let come back, by an operator only")]
    HeldChanged,
    /// A copy would be held out that commits wait for.
    #[error("instance {instance} is in the in-sync set or primary: it cannot be held out")]
    HeldInSync {
        /// Which.
        instance: InstanceId,
    },
    /// A copy that is in use would be removed.
    #[error("instance {instance} is in the in-sync set or primary: it cannot be removed")]
    InUse {
        /// Which.
        instance: InstanceId,
    },
    /// The accepted loss was changed together with something else, or by somebody else.
    #[error("a loss is accepted by an operator only, with a new epoch and for its primary")]
    LossChanged,
    /// A loss must leave the promoted copy alone in the in-sync set, and hold out all others.
    #[error("with an accepted loss only instance {to} may be in sync, and all others are held out")]
    LossNotAlone {
        /// The copy that is promoted.
        to: InstanceId,
    },
    /// The content has no such copy.
    #[error("instance {to} has no copy of this content")]
    NotACopy {
        /// Which.
        to: InstanceId,
    },
    /// One instance twice.
    #[error("instance {twice} has two copies")]
    Twice {
        /// Which.
        twice: InstanceId,
    },
}

/// Why a report is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportRefused {
    /// The instance has no copy of this content.
    #[error("the reporting instance has no copy of this content")]
    NotACopy,
    /// A report of a lower epoch than one heard before (S6).
    #[error("a report of epoch {reported}, after one of epoch {heard}")]
    Stale {
        /// The report's epoch.
        reported: u64,
        /// What was heard.
        heard: u64,
    },
    /// A report of an epoch that was never recorded.
    #[error("a report of epoch {reported}, and the recorded one is {recorded}")]
    Ahead {
        /// The report's epoch.
        reported: u64,
        /// The recorded one.
        recorded: u64,
    },
}

/// The configuration of one content, and what its copies were heard to hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Register {
    /// The policy for a copy that leaves the in-sync set: whether it stays out until an operator lets it come
    /// back. Default false: it comes back by itself.
    pub hold_out: bool,
    config: Option<Config>,
    /// The highest durable LSN heard of each copy, and of which reign's history.
    heard: BTreeMap<InstanceId, Promise>,
}

impl Register {
    /// A register with this content: of a checkpoint, or of a file.
    #[must_use]
    pub const fn from_parts(config: Option<Config>, heard: BTreeMap<InstanceId, Promise>) -> Self {
        Self { hold_out: false, config, heard }
    }

    /// What is recorded.
    #[must_use]
    pub const fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// What was heard of each copy.
    #[must_use]
    pub const fn all_heard(&self) -> &BTreeMap<InstanceId, Promise> {
        &self.heard
    }

    /// What was heard of a copy: at least what is recorded.
    #[must_use]
    pub fn heard(&self, instance: InstanceId) -> Promise {
        self.heard.get(&instance).copied().unwrap_or_else(|| {
            let copy = self.config.as_ref().and_then(|config| config.copy(instance));
            copy.map_or(Promise::NONE, |copy| copy.durable)
        })
    }

    /// Records the first configuration.
    ///
    /// # Errors
    /// When there is one, or it is none that could be changed later.
    pub fn create(&mut self, config: Config) -> Result<(), Conflict> {
        if self.config.is_some() {
            return Err(Conflict::Exists);
        }
        sound(&config)?;
        if !config.in_sync(config.primary) {
            return Err(Conflict::PrimaryNotInSync);
        }
        self.config = Some(config);
        Ok(())
    }

    /// Whether `new` names the value that is recorded: a proposal that comes again after it won.
    #[must_use]
    pub fn is_recorded(&self, new: &Config) -> bool {
        self.config.as_ref().is_some_and(|current| {
            current.version == new.version
                && current.epoch == new.epoch
                && current.primary == new.primary
                && current.rule == new.rule
                && current.loss == new.loss
                && current.copies.len() == new.copies.len()
                && current.copies.iter().zip(&new.copies).all(|(current, new)| {
                    current.instance == new.instance
                        && current.in_sync == new.in_sync
                        && current.held == new.held
                        && current.addresses == new.addresses
                })
        })
    }

    /// Decides a compare-and-swap: what would be recorded, each copy stamped with its floor (S6).
    ///
    /// # Errors
    /// The first rule that the proposal breaks.
    pub fn decide(
        &self,
        seen: Version,
        new: &Config,
        proposer: Proposer,
        rules: Rules,
    ) -> Result<Config, Conflict> {
        let current = self.config.as_ref().ok_or(Conflict::NotCreated)?;
        if seen != current.version {
            return Err(Conflict::VersionMoved { seen, current: current.version });
        }
        if new.version != seen.next() || new.version <= seen {
            return Err(Conflict::NotNext { seen, new: new.version });
        }
        sound(new)?;
        same_places(current, new, proposer)?;
        if new.loss != current.loss {
            accepted_loss(current, new, proposer)?;
        } else if new.epoch == current.epoch {
            within_epoch(current, new, proposer)?;
        } else {
            new_epoch(current, new, proposer, rules)?;
        }
        let new = &self.held_out(current, new);
        if rules.hold(Rule::S3Member) && !new.in_sync(new.primary) {
            return Err(Conflict::PrimaryNotInSync);
        }
        Ok(self.stamped(current, new))
    }

    /// Decides, and records. A proposal that has won already wins again.
    ///
    /// # Errors
    /// As [`Register::decide`]; nothing has changed then.
    pub fn swap(
        &mut self,
        seen: Version,
        new: &Config,
        proposer: Proposer,
        rules: Rules,
    ) -> Result<(), Conflict> {
        if self.is_recorded(new) {
            return Ok(());
        }
        let recorded = self.decide(seen, new, proposer, rules)?;
        let before = self.config.as_ref().and_then(|current| current.loss);
        let loss = recorded.loss.filter(|_| recorded.loss != before);
        let takes_loss = loss.map(|loss| loss.instance);
        for copy in &recorded.copies {
            let joined = copy.in_sync && !self.is_in_sync(copy.instance);
            if joined || takes_loss == Some(copy.instance) {
                self.heard.insert(copy.instance, copy.durable);
            }
        }
        self.heard.retain(|instance, _| recorded.copy(*instance).is_some());
        self.config = Some(recorded);
        Ok(())
    }

    /// The configuration that would promote `to` (S3): the in-sync set stays as it is.
    ///
    /// # Errors
    /// [`Conflict::NotCreated`]; whether it may be recorded is for [`Register::decide`] to say.
    pub fn promotion(&self, to: InstanceId, nonce: u128) -> Result<Config, Conflict> {
        let current = self.config.as_ref().ok_or(Conflict::NotCreated)?;
        let epoch = Epoch { number: current.epoch.number.saturating_add(1), nonce };
        Ok(Config { version: current.version.next(), epoch, primary: to, ..current.clone() })
    }

    /// The configuration that hands the reign over to `to`, after the primary gave its epoch up (S9): as
    /// [`Register::promotion`], for an in-sync copy alone.
    ///
    /// # Errors
    /// [`Conflict::NotCreated`], [`Conflict::PrimaryAlready`] or [`Conflict::NotAMember`].
    pub fn hand_over(&self, to: InstanceId, nonce: u128) -> Result<Config, Conflict> {
        let promotion = self.promotion(to, nonce)?;
        if self.config.as_ref().is_some_and(|current| current.primary == to) {
            return Err(Conflict::PrimaryAlready { to });
        }
        if !promotion.in_sync(to) {
            return Err(Conflict::NotAMember { to });
        }
        Ok(promotion)
    }

    /// The configuration by which an operator makes `to`, whose log ends at `end`, the primary, whatever it may
    /// lack (S10): it alone is in sync, and all others are held out. To be proposed by [`Proposer::Operator`].
    ///
    /// # Errors
    /// [`Conflict::NotCreated`] or [`Conflict::NotACopy`].
    pub fn accept_loss(&self, to: InstanceId, nonce: u128, end: Lsn) -> Result<Config, Conflict> {
        let mut new = self.promotion(to, nonce)?;
        new.copy(to).ok_or(Conflict::NotACopy { to })?;
        new.loss = Some(Loss { instance: to, epoch: new.epoch.number, end });
        for copy in &mut new.copies {
            copy.in_sync = copy.instance == to;
            copy.held = copy.instance != to;
        }
        Ok(new)
    }

    /// The copy to promote: in sync, not the primary, in touch; of several the one that was heard
    /// to hold most, by (epoch, durable).
    #[must_use]
    pub fn candidate(&self, in_touch: impl Fn(InstanceId) -> bool) -> Option<InstanceId> {
        let config = self.config.as_ref()?;
        let others = config.in_sync_set().filter(|at| *at != config.primary && in_touch(*at));
        others.max_by_key(|at| (self.heard(*at), std::cmp::Reverse(*at)))
    }

    /// Takes a report (S6): a higher epoch's replaces what was heard, of the same epoch the higher
    /// durable LSN counts.
    ///
    /// A log is cut at most once for an epoch, before anything is said of its history in that epoch. So the first
    /// report in an epoch lowers the floor to the fork, whichever it is, and one that comes late, or twice,
    /// cannot lower it again.
    ///
    /// # Errors
    /// Reports of lower epochs than heard, of epochs never recorded, and of strangers change nothing.
    pub fn report(&mut self, report: &Report) -> Result<(), ReportRefused> {
        let config = self.config.as_ref().ok_or(ReportRefused::NotACopy)?;
        config.copy(report.instance).ok_or(ReportRefused::NotACopy)?;
        let (reported, recorded) = (report.epoch, config.epoch.number);
        if reported > recorded {
            return Err(ReportRefused::Ahead { reported, recorded });
        }
        let heard = self.heard(report.instance);
        if reported < heard.epoch {
            return Err(ReportRefused::Stale { reported, heard: heard.epoch });
        }
        let promise = Promise { epoch: reported, lsn: report.durable };
        self.heard.insert(report.instance, heard.max(promise));
        Ok(())
    }

    fn is_in_sync(&self, instance: InstanceId) -> bool {
        self.config.as_ref().is_some_and(|config| config.in_sync(instance))
    }

    /// What would be recorded of a proposal: a copy that leaves the in-sync set stays out, where that is the
    /// policy.
    fn held_out(&self, current: &Config, new: &Config) -> Config {
        let mut new = new.clone();
        let leaves = |copy: &&mut Copy| !copy.in_sync && current.in_sync(copy.instance);
        for copy in new.copies.iter_mut().filter(leaves) {
            copy.held |= self.hold_out;
        }
        new
    }

    /// S6: the recorded configuration carries what was heard of each copy. Of one that is new in the
    /// in-sync set that is also what its primary observed in this epoch: what it held in earlier ones is past.
    fn stamped(&self, current: &Config, new: &Config) -> Config {
        let mut stamped = new.clone();
        for copy in &mut stamped.copies {
            let joins = copy.in_sync && !current.in_sync(copy.instance);
            let observed = Promise { epoch: new.epoch.number, lsn: copy.durable.lsn };
            copy.durable = self.heard(copy.instance);
            if joins {
                copy.durable = copy.durable.max(observed);
            }
        }
        // S10: what was promised before counts up to where the copy ended when the loss was accepted.
        if let Some(loss) = new.loss.filter(|_| new.loss != current.loss) {
            let taken = stamped.copies.iter_mut().find(|copy| copy.instance == loss.instance);
            if let Some(copy) = taken {
                copy.durable = Promise { epoch: loss.epoch, lsn: loss.end };
            }
        }
        stamped
    }
}

/// What holds for every configuration.
fn sound(config: &Config) -> Result<(), Conflict> {
    if config.in_sync_set().next().is_none() {
        return Err(Conflict::NobodyInSync);
    }
    let used = |copy: &&Copy| copy.in_sync || copy.instance == config.primary;
    if let Some(copy) = config.copies.iter().filter(used).find(|copy| copy.held) {
        return Err(Conflict::HeldInSync { instance: copy.instance });
    }
    let mut seen = std::collections::BTreeSet::new();
    match config.copies.iter().find(|copy| !seen.insert(copy.instance)) {
        Some(copy) => Err(Conflict::Twice { twice: copy.instance }),
        None => Ok(()),
    }
}

/// Copies, their addresses and who is held out are an operator's to change: copies are added at the end, not in
/// sync, and removed when nothing waits for them.
fn same_places(current: &Config, new: &Config, proposer: Proposer) -> Result<(), Conflict> {
    let by_operator = proposer == Proposer::Operator;
    let mut rest = new.copies.as_slice();
    for old in &current.copies {
        let now = match rest.split_first() {
            Some((now, behind)) if now.instance == old.instance => {
                rest = behind;
                now
            }
            _ if !by_operator || new.copy(old.instance).is_some() => {
                return Err(Conflict::CopiesChanged);
            }
            _ if old.in_sync || old.instance == current.primary => {
                return Err(Conflict::InUse { instance: old.instance });
            }
            _ => continue,
        };
        if old.addresses != now.addresses && !by_operator {
            return Err(Conflict::AddressesChanged);
        }
        if old.held != now.held && !by_operator {
            return Err(Conflict::HeldChanged);
        }
    }
    if rest.is_empty() || by_operator { Ok(()) } else { Err(Conflict::CopiesChanged) }
}

fn same_in_sync(current: &Config, new: &Config) -> bool {
    new.copies.iter().all(|copy| copy.in_sync == current.in_sync(copy.instance))
}

/// S10, by an operator: one copy takes a new epoch alone.
fn accepted_loss(current: &Config, new: &Config, proposer: Proposer) -> Result<(), Conflict> {
    let to = new.primary;
    let Some(loss) = new.loss.filter(|_| proposer == Proposer::Operator) else {
        return Err(Conflict::LossChanged);
    };
    fresh_epoch(current, new)?;
    if loss.epoch != new.epoch.number || loss.instance != to {
        return Err(Conflict::LossChanged);
    }
    let places = |config: &Config| -> Vec<_> {
        config.copies.iter().map(|copy| (copy.instance, copy.addresses.clone())).collect()
    };
    if places(current) != places(new) {
        return Err(Conflict::CopiesChanged);
    }
    new.copy(to).ok_or(Conflict::NotACopy { to })?;
    let alone =
        |copy: &Copy| (copy.in_sync, copy.held) == (copy.instance == to, copy.instance != to);
    if new.copies.iter().all(alone) { Ok(()) } else { Err(Conflict::LossNotAlone { to }) }
}

/// S2 and S4, by the primary; places, by an operator.
fn within_epoch(current: &Config, new: &Config, proposer: Proposer) -> Result<(), Conflict> {
    if new.primary != current.primary {
        return Err(Conflict::PrimaryWithinEpoch);
    }
    match proposer {
        Proposer::Instance(instance) if instance == current.primary => Ok(()),
        Proposer::Operator if same_in_sync(current, new) => Ok(()),
        Proposer::Operator => Err(Conflict::NotAnOperators),
        _ => Err(Conflict::NotThePrimary),
    }
}

/// S5, by the primary; S3, by the coordinator.
fn new_epoch(
    current: &Config,
    new: &Config,
    proposer: Proposer,
    rules: Rules,
) -> Result<(), Conflict> {
    fresh_epoch(current, new)?;
    match proposer {
        Proposer::Operator => return Err(Conflict::NotAnOperators),
        Proposer::Instance(instance) => {
            if instance != current.primary || new.primary != instance {
                return Err(Conflict::NotThePrimary);
            }
        }
        Proposer::Coordinator => {
            let to = new.primary;
            if to == current.primary {
                return Err(Conflict::PrimaryAlready { to });
            }
            if rules.hold(Rule::S3Member) && !current.in_sync(to) {
                return Err(Conflict::NotAMember { to });
            }
        }
    }
    if same_in_sync(current, new) { Ok(()) } else { Err(Conflict::InSyncWithEpoch) }
}

/// A new reign has a higher number and a nonce of its own.
fn fresh_epoch(current: &Config, new: &Config) -> Result<(), Conflict> {
    let (proposed, recorded) = (new.epoch, current.epoch);
    if proposed.number < recorded.number {
        return Err(Conflict::StaleEpoch { proposed, recorded });
    }
    if proposed.number == recorded.number {
        return Err(Conflict::ForeignNonce { proposed, recorded });
    }
    if proposed.nonce == recorded.nonce {
        return Err(Conflict::NonceReused);
    }
    Ok(())
}
