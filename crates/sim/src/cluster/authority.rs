//! The authority as a node of its own: a compare-and-swap register with the configuration.
//!
//! Guarantees: a swap is decided when it is applied; each version names one value for good; what a copy is
//! recorded to hold is what the authority heard of it (S6). Not here: how messages come and go.

use std::collections::BTreeMap;

use outrigger_net::config::{Config, Version};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

/// What a member asks of the authority.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// What is recorded?
    Read,
    /// Replace it.
    Swap {
        /// The version it replaces.
        seen: Version,
        /// By what.
        new: Config,
    },
    /// How far the copy is.
    Report {
        /// Whose history.
        epoch: Epoch,
        /// How far it is durable.
        durable: Lsn,
        /// The fork, when it was cut.
        cut: Option<Lsn>,
    },
}

/// The register.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    config: Config,
    /// All that was ever recorded.
    past: Vec<Config>,
    /// What was heard of each copy.
    heard: BTreeMap<InstanceId, Promise>,
    /// Where each copy was cut for which epoch.
    cuts: BTreeMap<(InstanceId, u64), Lsn>,
}

impl Authority {
    pub(crate) fn new(config: Config) -> Self {
        let past = vec![config.clone()];
        Self { config, past, heard: BTreeMap::new(), cuts: BTreeMap::new() }
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn past(&self) -> &[Config] {
        &self.past
    }

    pub(crate) fn heard(&self, instance: InstanceId) -> Promise {
        self.heard.get(&instance).copied().unwrap_or_default()
    }

    /// Applies a swap; whether it was recorded.
    pub(crate) fn swap(&mut self, seen: Version, new: Config) -> bool {
        let current = &self.config;
        let next = seen == current.version && new.version == seen.next();
        let reign = new.epoch.number > current.epoch.number
            || (new.epoch == current.epoch && new.primary == current.primary);
        if !next || !reign {
            return false;
        }
        self.record(new);
        true
    }

    /// Records a promotion of `to` in a new epoch; the in-sync set does not change (S3).
    pub(crate) fn promote(&mut self, to: InstanceId, nonce: u128) {
        let mut new = self.config.clone();
        new.version = new.version.next();
        new.epoch = Epoch { number: new.epoch.number + 1, nonce };
        new.primary = to;
        self.record(new);
    }

    fn record(&mut self, mut new: Config) {
        for copy in &mut new.copies {
            let mut heard = self.heard(copy.instance);
            if copy.in_sync && !self.config.in_sync(copy.instance) {
                // What the proposer saw of it in this epoch is newer than any report of an earlier one.
                heard = heard.max(Promise { epoch: new.epoch.number, lsn: copy.durable.lsn });
                self.heard.insert(copy.instance, heard);
            }
            copy.durable = heard;
        }
        self.past.push(new.clone());
        self.config = new;
    }

    /// Notes a report: a higher epoch replaces, the same takes the higher LSN. That holds only while a copy is
    /// cut once for an epoch: `false` when it was cut twice.
    pub(crate) fn report(
        &mut self,
        from: InstanceId,
        epoch: Epoch,
        durable: Lsn,
        cut: Option<Lsn>,
    ) -> bool {
        let entry = self.heard.entry(from).or_default();
        *entry = (*entry).max(Promise { epoch: epoch.number, lsn: durable });
        cut.is_none_or(|cut| *self.cuts.entry((from, epoch.number)).or_insert(cut) == cut)
    }
}
