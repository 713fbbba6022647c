//! What the authority records: accepted durably first, acted on then, in order of version.
//!
//! S0: a lower coordinator's epoch, then a lower version, is ignored however late it comes. S3: only
//! a recorded configuration makes this copy primary.

use outrigger_net::config::{Config, Version};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

use super::event::{Event, Out};
use super::phase::{Following, Gathering, Peer, Phase, Rising};
use super::{BTreeMap, Member};
use crate::rules::Rule;

impl Member {
    /// The authority says that `config` is recorded: an answer, a push, or the outcome of a swap.
    pub(super) fn recorded(&mut self, config: Config, coordinator_epoch: u64, out: &mut Vec<Out>) {
        if coordinator_epoch < self.control.coordinator_epoch {
            self.counters.refusals = self.counters.refusals.saturating_add(1);
            return;
        }
        if coordinator_epoch > self.control.coordinator_epoch {
            // Also with a version that is known: from now on the coordinators before it are deposed.
            self.control.coordinator_epoch = coordinator_epoch;
            self.persist();
        }
        self.asked_at = Some(self.now);
        let newest = self.accepting.back().map(|(_, config)| config).or(self.config.as_ref());
        let known = newest.map(|config| config.version);
        if known == Some(config.version) && self.rules.hold(Rule::S0Version) {
            return;
        }
        let stale = config.version < known.unwrap_or(self.control.version);
        if stale && self.rules.hold(Rule::S0Version) {
            // A delayed message of an older version releases nobody.
            self.counters.refusals = self.counters.refusals.saturating_add(1);
            if known.is_none() {
                out.push(Out::ReadConfig);
            }
            return;
        }
        self.control.version = self.control.version.max(config.version);
        self.control.config = Some(config.clone());
        let generation = self.persist();
        self.accepting.push_back((generation, config));
    }

    /// Acts on what was accepted, once that is durable.
    pub(super) fn act_on_config(&mut self, out: &mut Vec<Out>) {
        while let Some((generation, _)) = self.accepting.front() {
            // ORDER: accepted durably before anything is done or said under it.
            if !self.is_persisted(*generation) || self.is_reopening() {
                return;
            }
            if let Some((_, config)) = self.accepting.pop_front() {
                self.act(config, out);
            }
        }
    }

    fn act(&mut self, config: Config, out: &mut Vec<Out>) {
        let previous = self.config.replace(config.clone());
        let me = self.me();
        match &self.phase {
            Phase::Waiting => {
                if config.primary == me {
                    self.elect(&config, out);
                } else if config.copy(me).is_some() {
                    self.phase = Phase::Following(Following::default());
                }
            }
            Phase::Following(_) => {
                if config.primary == me && config.epoch.number > self.control.epoch.number {
                    self.promote(&config, previous.as_ref(), out);
                }
            }
            Phase::Electing(proposed) => {
                // Whoever decides may have given it a higher number: the nonce is this proposal's alone.
                let (theirs, ours) = (config.epoch, proposed.epoch);
                let named = theirs.nonce == ours.nonce && theirs.number >= ours.number;
                let won = config.primary == me && named;
                if won {
                    self.gather(&config);
                } else if config.primary == me {
                    self.elect(&config, out);
                } else {
                    self.phase = Phase::Following(Following::default());
                }
            }
            Phase::Gathering(_) | Phase::Rising(_) | Phase::Reigning(_) => {
                let mine = self.control.epoch;
                if config.epoch.number < mine.number {
                    return;
                }
                if config.epoch != mine {
                    if config.epoch.number == mine.number {
                        out.push(Out::Event(Event::ForeignNonce {
                            ours: mine,
                            theirs: config.epoch,
                        }));
                    }
                    self.step_down("another configuration is recorded", out);
                    // It may have been promoted back before it heard that it was deposed.
                    if config.primary == me && config.epoch.number > mine.number {
                        self.promote(&config, previous.as_ref(), out);
                    }
                    return;
                }
                self.configuration_changed(previous.as_ref(), &config, out);
            }
            Phase::Failed | Phase::Closed => {}
        }
    }

    /// S5: a restarted primary takes a new epoch by compare-and-swap before anything else.
    pub(super) fn elect(&mut self, config: &Config, out: &mut Vec<Out>) {
        self.forget_told_commit();
        let number = config
            .epoch
            .number
            .max(self.control.epoch.number)
            .max(self.log.epoch().number)
            .saturating_add(1);
        let epoch = Epoch { number, nonce: self.draw() };
        let new = Config { version: config.version.next(), epoch, ..config.clone() };
        if !self.rules.hold(Rule::S5Epoch) {
            self.control.epoch = epoch;
            let generation = self.persist();
            let peers = self.copies_that_may_start(config);
            self.phase = Phase::Rising(Rising { epoch, generation, peers, promoted: false });
            return;
        }
        out.push(Out::Swap { seen: config.version, new: new.clone() });
        self.asked_at = Some(self.now);
        self.phase = Phase::Electing(new);
    }

    /// S5: the new epoch is recorded; the in-sync copies are asked for their ends.
    fn gather(&mut self, config: &Config) {
        self.control.epoch = config.epoch;
        let generation = self.persist();
        self.phase = Phase::Gathering(Gathering {
            epoch: config.epoch,
            generation,
            peers: self.copies_that_may_start(config),
            swap: None,
            adopting: None,
        });
    }

    /// S3: a recorded configuration names this copy primary. It adopts its whole valid log.
    fn promote(&mut self, config: &Config, previous: Option<&Config>, out: &mut Vec<Out>) {
        let me = self.me();
        if self.rules.hold(Rule::S3Member) && !config.in_sync(me) {
            let text = "told to reign without being in the in-sync set".to_owned();
            out.push(Out::Event(Event::Refused { text }));
            return;
        }
        // S6: the configuration that promotes carries the floor.
        let floor = self.recorded_floor(config);
        if self.rules.hold(Rule::S6Floor) && self.log.end() < floor {
            out.push(Out::Event(Event::BelowFloor { end: self.log.end(), floor }));
            self.report(None, out);
            return;
        }
        let grace = self.options.copy_grace_millis.saturating_mul(1000);
        let silent = self.stream_heard().is_some_and(|at| self.now.since(at) >= grace);
        self.drop_stream(out);
        self.forget_told_commit();
        self.control.truncating = None;
        self.control.epoch = config.epoch;
        let generation = self.persist();
        let deposed = previous.map(|config| config.primary).filter(|deposed| *deposed != me);
        let mut peers = self.other_copies(config, deposed);
        for peer in peers.values_mut().filter(|peer| peer.deposed) {
            peer.silent = silent;
        }
        self.phase =
            Phase::Rising(Rising { epoch: config.epoch, generation, peers, promoted: true });
    }

    fn other_copies(
        &self,
        config: &Config,
        deposed: Option<InstanceId>,
    ) -> BTreeMap<InstanceId, Peer> {
        let others = config.copies.iter().map(|copy| copy.instance).filter(|at| *at != self.me());
        others.map(|at| (at, Peer::new(self.now, Some(at) == deposed))).collect()
    }

    /// The same where nobody was deposed: this process may have been started together with theirs.
    fn copies_that_may_start(&self, config: &Config) -> BTreeMap<InstanceId, Peer> {
        let until = self.born.plus(self.options.first_copy_grace_millis.saturating_mul(1000));
        let mut peers = self.other_copies(config, None);
        for peer in peers.values_mut() {
            peer.until = until;
        }
        peers
    }

    /// The version that the authority is asked to replace, and the configuration it should record:
    /// today's, with `instance` in or out of the in-sync set.
    pub(super) fn changed(&self, instance: InstanceId, in_sync: bool) -> Option<(Version, Config)> {
        let config = self.config.as_ref()?;
        let mut new = Config { version: config.version.next(), ..config.clone() };
        let me = self.me();
        let epoch = self.history_epoch.number;
        for copy in &mut new.copies {
            if copy.instance == instance {
                copy.in_sync = in_sync;
            }
            if copy.instance == me {
                copy.durable = Promise { epoch, lsn: self.log.durable() };
            } else if let Some(lsn) = self.observed(copy.instance).filter(|lsn| *lsn > Lsn::ZERO) {
                // It was observed in this epoch: what it held in an earlier one is past.
                copy.durable = copy.durable.max(Promise { epoch, lsn });
            }
        }
        Some((config.version, new))
    }
}
