//! The authority: the shipped catalog, fed as a coordinator feeds it, through restarts that lose its last records.
//!
//! Guarantees: what is asked for becomes a record of the coordinator's log, and counts once that is durable and
//! applied, in log order; the rules are the shipped register's. A restart finds the last checkpoint and the
//! durable log, and nothing else: reports that no record carries and records that were not durable are gone.
//! Not here: how messages come and go, and when it dies (`coordinator`).

use std::collections::{BTreeMap, VecDeque};

use outrigger_cluster::catalog::{Catalog, Change, Record, State, Ticket};
use outrigger_cluster::register::{Proposer, Register, Report};
use outrigger_cluster::slots::MemorySlots;
use outrigger_net::config::{Config, Version};
use outrigger_replica::rules::Rules;
use outrigger_replica::store::StateStore as _;
use outrigger_wal::format::{Record as LogRecord, RecordFlag};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, InstanceId, Lsn};

use super::node::{CLUSTER, CONTENT, LOG, SEGMENT_BYTES};

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
    /// An epoch is durably given up.
    GaveUp {
        /// Which.
        epoch: Epoch,
    },
}

/// A configuration, and the number of the coordinator's reign that tells it.
pub(crate) type Told = (u64, Config);

/// A coordinator's catalog and log.
pub(crate) struct Authority {
    rules: Rules,
    catalog: Catalog,
    slots: MemorySlots,
    /// Durable records; those before the checkpoint are gone.
    log: Vec<LogRecord>,
    /// Records that are not durable yet, and what each asks for.
    tail: VecDeque<(LogRecord, Change)>,
    end: Lsn,
    /// The coordinator's reign.
    epoch: u64,
    tickets: u64,
    /// Reports that no record carries yet.
    reports: BTreeMap<InstanceId, Report>,
    /// All that was ever recorded, and in whose reign.
    past: Vec<Told>,
    config: Config,
    /// What earlier reigns would have recorded, had their last records not been lost.
    lost: Vec<Told>,
    /// Where each copy was cut for which epoch.
    cuts: BTreeMap<(InstanceId, u64), Lsn>,
}

impl Authority {
    /// The authority of a new content, and whether it could be created.
    #[expect(clippy::expect_used, reason = "empty slots in memory can be read")]
    pub(crate) fn new(config: Config, rules: Rules) -> (Self, Result<(), String>) {
        let slots = MemorySlots::default();
        let catalog = open(&slots, rules).expect("an empty catalog");
        let mut authority = Self {
            rules,
            catalog,
            slots,
            log: Vec::new(),
            tail: VecDeque::new(),
            end: Lsn::ZERO,
            epoch: 1,
            tickets: 0,
            reports: BTreeMap::new(),
            past: vec![(1, config.clone())],
            config: config.clone(),
            lost: Vec::new(),
            cuts: BTreeMap::new(),
        };
        let create =
            Change::Create { content: CONTENT, log: LOG, segment_bytes: SEGMENT_BYTES, config };
        let changes = [Change::Found { cluster: CLUSTER }, create];
        let created = changes.into_iter().try_for_each(|change| {
            authority.append(change)?;
            authority.decide().map(drop)
        });
        (authority, created)
    }

    /// What is recorded.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// The coordinator's reign.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All that was ever recorded, oldest first.
    pub(crate) fn past(&self) -> &[Told] {
        &self.past
    }

    /// What earlier reigns decided alone.
    pub(crate) fn lost(&self) -> &[Told] {
        &self.lost
    }

    /// Whether records wait to be decided.
    pub(crate) fn is_busy(&self) -> bool {
        !self.tail.is_empty()
    }

    /// What was heard of a copy: recorded, and with `unrecorded` also what no record carries yet.
    pub(crate) fn heard(&self, instance: InstanceId, unrecorded: bool) -> Promise {
        let register = if unrecorded { self.register() } else { self.recorded() };
        register.heard(instance)
    }

    /// A copy asks for a change: it becomes a record, unless it has won, cannot win or waits already. Whether
    /// what is recorded answers it.
    pub(crate) fn swap(
        &mut self,
        from: InstanceId,
        seen: Version,
        new: Config,
    ) -> Result<bool, String> {
        let (register, proposer) = (self.recorded(), Proposer::Instance(from));
        let waits =
            |change: &Change| matches!(change, Change::Swap { new: other, .. } if *other == new);
        if register.is_recorded(&new) || register.decide(seen, &new, proposer, self.rules).is_err()
        {
            return Ok(true);
        }
        if !self.tail.iter().any(|(_, change)| waits(change)) {
            self.append_swap(seen, new, proposer)?;
        }
        Ok(false)
    }

    /// Asks for a promotion of `to` in a new epoch (S3).
    pub(crate) fn promote(&mut self, to: InstanceId, nonce: u128) -> Result<(), String> {
        let register = self.register();
        let seen = self.config.version;
        let Ok(new) = register.promotion(to, nonce) else { return Ok(()) };
        if register.decide(seen, &new, Proposer::Coordinator, self.rules).is_err() {
            return Ok(());
        }
        self.append_swap(seen, new, Proposer::Coordinator)
    }

    /// Records that `to` takes over, after the primary gave its epoch up (S9).
    pub(crate) fn hand_over(&mut self, to: InstanceId, nonce: u128) -> Result<(), String> {
        let new = self.register().hand_over(to, nonce);
        self.propose(new.ok(), Proposer::Coordinator)
    }

    /// An operator holds a copy out, or lets it come back.
    pub(crate) fn hold(&mut self, instance: InstanceId, held: bool) -> Result<(), String> {
        let mut new = Config { version: self.config.version.next(), ..self.config.clone() };
        for copy in new.copies.iter_mut().filter(|copy| copy.instance == instance) {
            copy.held = held;
        }
        self.propose(Some(new), Proposer::Operator)
    }

    /// An operator accepts a loss (S10).
    pub(crate) fn accept_loss(
        &mut self,
        to: InstanceId,
        nonce: u128,
        end: Lsn,
    ) -> Result<(), String> {
        let new = self.register().accept_loss(to, nonce, end).map_err(|error| error.to_string())?;
        self.propose(Some(new), Proposer::Operator)
    }

    /// Asks for a change, if it can win.
    fn propose(&mut self, new: Option<Config>, proposer: Proposer) -> Result<(), String> {
        let seen = self.config.version;
        match new {
            Some(new) if self.register().decide(seen, &new, proposer, self.rules).is_ok() => {
                self.append_swap(seen, new, proposer)
            }
            _ => Ok(()),
        }
    }

    /// Notes a report, as the register counts it. A copy is cut once for an epoch: `false` when it was cut twice.
    pub(crate) fn report(
        &mut self,
        instance: InstanceId,
        epoch: Epoch,
        durable: Lsn,
        cut: Option<Lsn>,
    ) -> bool {
        let report = Report { instance, epoch: epoch.number, durable };
        if self.register().report(&report).is_ok() {
            let kept = self.reports.entry(instance).or_insert(report);
            *kept = kept.then(report);
        }
        cut.is_none_or(|cut| *self.cuts.entry((instance, epoch.number)).or_insert(cut) == cut)
    }

    /// The oldest record that waits is durable, and decided; whether something new is recorded.
    pub(crate) fn decide(&mut self) -> Result<bool, String> {
        let Some((record, _)) = self.tail.pop_front() else { return Ok(false) };
        self.catalog.apply(std::slice::from_ref(&record)).map_err(|error| error.to_string())?;
        self.log.push(record);
        let recorded = self.catalog.read(configured).filter(|config| *config != self.config);
        let Some(config) = recorded else { return Ok(false) };
        self.config = config.clone();
        self.past.push((self.epoch, config));
        Ok(true)
    }

    /// A checkpoint of the catalog; what it holds need not be in the log any more.
    pub(crate) fn checkpoint(&mut self) -> Result<(), String> {
        let to = self.catalog.checkpoint().map_err(|error| error.to_string())?;
        self.log.retain(|record| record.end > to);
        Ok(())
    }

    /// It dies and starts again in a higher reign. Of the records that waited, the first `durable` are found.
    /// What was recorded must be there as it was.
    pub(crate) fn restart(&mut self, durable: usize) -> Result<(), String> {
        let before = self.catalog.read(State::clone);
        let lost = self.tail.split_off(durable.min(self.tail.len()));
        self.reports.clear();
        self.epoch += 1;
        self.catalog = open(&self.slots, self.rules)?;
        self.catalog.apply(&self.log).map_err(|error| error.to_string())?;
        if self.catalog.read(|state| *state != before) {
            return Err("the coordinator forgot at its restart what was recorded".to_owned());
        }
        while self.is_busy() {
            self.decide()?;
        }
        self.end = self.catalog.applied();
        let mut alone = self.catalog.read(State::clone);
        for (_, change) in lost {
            if alone.apply(0, &change, self.rules).is_ok()
                && let Some(config) = configured(&alone)
            {
                self.lost.push((self.epoch - 1, config));
            }
        }
        Ok(())
    }

    fn append_swap(
        &mut self,
        seen: Version,
        new: Config,
        proposer: Proposer,
    ) -> Result<(), String> {
        let reports = std::mem::take(&mut self.reports).into_values().collect();
        self.append(Change::Swap { content: CONTENT, seen, new, proposer, reports })
    }

    fn append(&mut self, change: Change) -> Result<(), String> {
        self.tickets += 1;
        let ticket = Ticket { epoch: self.epoch, number: self.tickets };
        let record = Record { ticket, at: 0, change: change.clone() };
        let body = record.encode().map_err(|error| error.to_string())?;
        let lsn = self.end;
        self.end = lsn.saturating_add(body.len() as u64 + 1);
        let record = LogRecord { lsn, end: self.end, flag: RecordFlag::Record, body };
        self.tail.push_back((record, change));
        Ok(())
    }

    fn recorded(&self) -> Register {
        let found = |state: &State| state.contents.get(&CONTENT).map(|row| row.register.clone());
        self.catalog.read(found).unwrap_or_default()
    }

    /// The register with the reports that no record carries yet.
    fn register(&self) -> Register {
        let mut register = self.recorded();
        for report in self.reports.values() {
            // One that was overtaken says nothing.
            if register.report(report).is_err() {
                continue;
            }
        }
        register
    }
}

fn open(slots: &MemorySlots, rules: Rules) -> Result<Catalog, String> {
    Catalog::open(Box::new(slots.clone()), rules).map_err(|error| error.to_string())
}

fn configured(state: &State) -> Option<Config> {
    state.contents.get(&CONTENT)?.register.config().cloned()
}
