//! The coordinator: serves configurations to instances, and commands to operators, from what its
//! catalog has applied.
//!
//! Events go in, actions come out; there is no clock, socket, thread or random source in here. It
//! serves only while its own member (content -1) does, in that member's epoch. What it tells was
//! applied, so it is committed (S1); changes are pushed until each connected instance was told.
//!
//! Guarantees: S0 for every message that comes in; a change is answered when the catalog has decided
//! it; a content is failed over only to a copy of its in-sync set (S3), or by an accepted loss (S10).
//! Not here: the decisions ([`crate::register`], [`crate::detect`], [`crate::failover`]), the log, sockets, processes.
//!
//! # Layout
//! - `event`: what goes in and comes out
//! - `greeting`: who may connect, and the fence on every message (S0)
//! - `instances`: configurations, swaps, reports
//! - `hosts`: agents: what is wanted of their instances, what they see
//! - `failing`: instances that fail, and failovers
//! - `recovering`: copies that come back, are added, are removed
//! - `standby`: the catalog's own copies
//! - `balancing`: planned changes of primaries
//! - `expanding`: more hosts, and rows that move to them
//! - `lifecycle`: a cluster is made, brought up, brought down
//! - `commands`: what operators and clients ask; `promoting`: by hand; `work`: changes that belong together
//! - `view`: how the cluster looks from here

mod balancing;
mod commands;
mod event;
mod expanding;
mod failing;
mod greeting;
mod hosts;
mod instances;
mod lifecycle;
mod promoting;
mod recovering;
mod standby;
mod view;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_net::config::{Config, Version};
use outrigger_net::message::{Envelope, Message, Reason, Role, Session};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros};
use xxhash_rust::xxh3::xxh3_128;

use crate::catalog::{Catalog, Change, Record, Ticket};
use crate::detect::{self, Detector};
use crate::failover::Decision;
use crate::operator::Registration;
use crate::register::Report;
use crate::settings;
pub use event::{Event, In, Out};
pub(crate) use expanding::VERSIONS_A_REIGN;
pub(crate) use failing::{PROVED, SETTLED, UNPROVED};

/// The content of the coordinator's own catalog.
pub const CATALOG: ContentId = ContentId(-1);

/// How a coordinator behaves. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CoordinatorOptions {
    /// How long an instance may be silent before it is out of touch and its connection is ended.
    /// Instances say something every second at least. Default 3,000.
    pub silence_millis: u64,
    /// How often something is said on a quiet connection to an instance. Default 500.
    pub quiet_millis: u64,
    /// How many copies a content has: more are not admitted. Default 2.
    pub copies: usize,
    /// Changes that wait to be applied at once, at most. Default 1,024.
    pub max_pending: usize,
    /// The time of day, in microseconds UTC, at the zero of its clock: history tells it, nothing depends
    /// on it. Default 0.
    pub utc_micros: u64,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            silence_millis: 3_000,
            quiet_millis: 500,
            copies: 2,
            max_pending: 1_024,
            utc_micros: 0,
        }
    }
}

/// Whose coordinator this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The instance that serves the catalog.
    pub instance: InstanceId,
    /// The catalog's log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
}

/// A connection behind its `Hello`.
#[derive(Debug)]
struct Link {
    role: Role,
    content: ContentId,
    instance: InstanceId,
    session: Session,
    heard: Micros,
    said: Micros,
    /// The version that was told last.
    told: Option<Version>,
}

/// Who waits for a record to be applied.
#[derive(Debug)]
enum Pending {
    Found,
    Work { id: u64 },
    Moves,
    FailOver { content: ContentId },
    ShutDown,
    Unproved,
    Proved,
    Swap { link: LinkId, op: u64, content: ContentId, new: Config },
    Promote { link: LinkId, op: u64, content: ContentId, to: InstanceId },
    Register { link: LinkId, op: u64, registration: Registration, tries: u32 },
}

/// What an instance reported last.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    epoch: u64,
    durable: Lsn,
    commit: Lsn,
    applied: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Serving {
    epoch: Epoch,
    since: Micros,
}

/// What a coordinator has done since it was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Configurations recorded.
    pub recorded: u64,
    /// Promotions among them.
    pub promotions: u64,
    /// Swaps that lost.
    pub lost: u64,
    /// Refused peers and messages.
    pub refusals: u64,
    /// Reports that were not counted.
    pub stale_reports: u64,
    /// How often a content was judged.
    pub judged: u64,
}

/// Serves a cluster from its catalog. See the module's documentation.
#[derive(Debug)]
pub struct Coordinator {
    identity: Identity,
    options: CoordinatorOptions,
    catalog: Arc<Catalog>,
    seed: u128,
    drawn: u64,
    now: Micros,
    serving: Option<Serving>,
    links: BTreeMap<LinkId, Link>,
    pending: BTreeMap<Ticket, Pending>,
    next_ticket: u64,
    /// Reports that no record carries yet.
    reports: BTreeMap<(ContentId, InstanceId), Report>,
    figures: BTreeMap<(ContentId, InstanceId), Figures>,
    /// What an instance said last on the connection that it has, whether that counts or not: a copy that is made anew has
    /// less than it had promised.
    said: BTreeMap<(ContentId, InstanceId), Figures>,
    /// Who has reported at all in this reign, counted or not, and obeys it durably (S8). It acts under nothing that is not
    /// recorded here: the fence has seen to that.
    reported: BTreeSet<(ContentId, InstanceId)>,
    counters: Counters,
    /// The catalog's own configuration.
    own: Option<Config>,
    /// The copies of the catalog that are connected.
    own_here: BTreeSet<InstanceId>,
    /// The agents that vote, as instances of the catalog are told.
    voters: Vec<Vec<String>>,
    hosts: BTreeMap<String, hosts::HostLink>,
    reached: Vec<(String, Vec<String>)>,
    detector: Detector,
    watched: BTreeMap<InstanceId, ContentId>,
    failing: failing::Failing,
    decisions: BTreeMap<ContentId, Decision>,
    unproved: bool,
    /// It is this reign that brings everything down: the coordinator goes last.
    brings_down: bool,
    /// What the orders that were worked out last follow from.
    orders_of: Option<(Lsn, Option<Version>)>,
    /// Counts what agents were told.
    wants: u64,
    works: BTreeMap<u64, work::Work>,
    last_work: u64,
    /// The work that makes the cluster.
    founding: Option<u64>,
    starting: Option<lifecycle::Starting>,
    recovering: recovering::Recovering,
    balancing: balancing::Balancing,
    expanding: expanding::Expanding,
    standby: standby::Standby,
    losing: promoting::Losing,
    gone_at: Option<Micros>,
}

impl Coordinator {
    /// A coordinator over this catalog. `seed`: random, of all 128 bits, new at each start; nonces and log
    /// identities are drawn from it.
    #[must_use]
    pub fn new(
        identity: Identity,
        catalog: Arc<Catalog>,
        seed: u128,
        options: CoordinatorOptions,
        now: Micros,
    ) -> Self {
        Self {
            identity,
            options,
            catalog,
            seed,
            drawn: 0,
            now,
            serving: None,
            links: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_ticket: 0,
            reports: BTreeMap::new(),
            figures: BTreeMap::new(),
            said: BTreeMap::new(),
            reported: BTreeSet::new(),
            counters: Counters::default(),
            own: None,
            own_here: BTreeSet::new(),
            voters: Vec::new(),
            hosts: BTreeMap::new(),
            reached: Vec::new(),
            detector: Detector::new(identity.cluster, detect::DetectOptions::default(), now),
            watched: BTreeMap::new(),
            failing: failing::Failing::default(),
            decisions: BTreeMap::new(),
            unproved: false,
            brings_down: false,
            orders_of: None,
            wants: 0,
            works: BTreeMap::new(),
            last_work: 0,
            founding: None,
            starting: None,
            recovering: recovering::Recovering::default(),
            balancing: balancing::Balancing::default(),
            expanding: expanding::Expanding::new(0, 0),
            standby: standby::Standby::default(),
            losing: promoting::Losing::default(),
            gone_at: None,
        }
    }

    /// The same, whose catalog belongs to these voters: the addresses of their agents, in their fixed order.
    #[must_use]
    pub fn with_voters(self, voters: Vec<Vec<String>>) -> Self {
        Self { voters, ..self }
    }

    /// Takes one event, and asks for whatever follows from it.
    pub fn step(&mut self, now: Micros, event: In, out: &mut Vec<Out>) {
        self.now = self.now.max(now);
        match event {
            In::Serving(epoch) => self.serve(epoch, out),
            In::Frame { link, envelope, message } => self.frame(link, envelope, message, out),
            In::Closed(link) => self.forget(link, out),
            In::Applied | In::Tick => {}
            In::NotAppended { ticket, text } => self.not_appended(ticket, &text, out),
            In::Own { config } => self.owned(config),
            In::Figures { instance, here, durable, commit, applied } => {
                let epoch = self.serving().unwrap_or_default().number;
                let figures = Figures { epoch, durable, commit, applied };
                self.figures.insert((CATALOG, instance), figures);
                if here {
                    self.own_here.insert(instance);
                } else {
                    self.own_here.remove(&instance);
                }
            }
            In::Carried { id, reply } => self.carried(id, reply, out),
            In::Agent { host, here } => self.agent_is(&host, here, out),
            In::AgentSaid { host, say } => self.agent_said(&host, say, out),
            In::Beat { from, beat } => {
                self.hear(from);
                self.detect(detect::In::Beat { from, beat }, out);
            }
            In::Refused { instance } => {
                self.hear(instance);
                self.detect(detect::In::Refused { instance }, out);
            }
        }
        self.take_outcomes(out);
        self.settle_failing(out);
        self.settle_losing(out);
        self.settle_balancing(out);
        self.settle_recovering(out);
        self.settle_gone(out);
        self.settle_expanding(out);
        self.settle_standby(out);
        self.settle_hosts(out);
        self.take_outcomes(out);
        self.push_configs(out);
        self.keep_in_touch(out);
    }

    /// When [`Coordinator::step`] has something to do by itself (with [`In::Tick`]).
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let instances = self.links.values().filter(|link| link.role == Role::Instance);
        let due = instances.map(|link| {
            let silent = link.heard.plus(self.silence_micros());
            silent.min(link.said.plus(self.options.quiet_millis.saturating_mul(1000)))
        });
        let others = [
            self.detector.deadline(),
            self.hosts_deadline(),
            self.failing_deadline(),
            self.losing_deadline(),
            self.balancing_deadline(),
            self.recovering_deadline(),
            self.standby_deadline(),
            self.expanding_deadline(),
        ];
        due.chain(others.into_iter().flatten()).min()
    }

    /// The epoch in which it serves.
    #[must_use]
    pub fn serving(&self) -> Option<Epoch> {
        self.serving.map(|serving| serving.epoch)
    }

    /// What it has done.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    const fn silence_micros(&self) -> u64 {
        self.options.silence_millis.saturating_mul(1000)
    }

    /// Fresh random bits: unlike any drawn before, in this process or another.
    fn draw(&mut self) -> u128 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut input = self.seed.to_le_bytes().to_vec();
        input.extend_from_slice(&self.drawn.to_le_bytes());
        xxh3_128(&input)
    }

    /// The member took up its reign, or lost it.
    fn serve(&mut self, epoch: Option<Epoch>, out: &mut Vec<Out>) {
        if epoch == self.serving() {
            return;
        }
        // What was asked for in another reign stays unanswered: it may or may not have been recorded.
        out.extend(self.links.keys().map(|link| Out::Hangup(*link)));
        self.links.clear();
        self.pending.clear();
        self.reports.clear();
        self.figures.clear();
        self.said.clear();
        self.reported.clear();
        self.hosts.clear();
        if !self.reached.is_empty() {
            // Whoever does not serve commands nobody; connections are made anew in the next reign.
            self.reached.clear();
            out.push(Out::Reach { agents: Vec::new() });
        }
        self.orders_of = None;
        self.brings_down = false;
        self.watched.clear();
        self.failing = failing::Failing::default();
        self.decisions.clear();
        self.works.clear();
        self.founding = None;
        self.starting = None;
        self.recovering = recovering::Recovering::default();
        self.balancing = balancing::Balancing::default();
        let rate = self.catalog.read(settings::expand_rate_bytes);
        let reign = epoch.map_or(0, |epoch| epoch.number);
        self.expanding = self.expanding.anew(reign, rate);
        self.standby = standby::Standby::default();
        self.losing = promoting::Losing::default();
        self.gone_at = None;
        let options = self.catalog.read(settings::detect_options);
        self.detector = Detector::new(self.identity.cluster, options, self.now);
        let since = self.now;
        self.serving = epoch.map(|epoch| Serving { epoch, since });
        self.catalog.listen(epoch.map(|epoch| epoch.number));
        let Some(epoch) = epoch else {
            out.push(Out::Event(Event::Stopped));
            return;
        };
        let cluster = self.identity.cluster;
        match self.catalog.read(|state| state.cluster) {
            Some(found) if found != cluster => {
                self.serving = None;
                let text = format!(
                    "the catalog belongs to cluster {found}, this is a coordinator of {cluster}; \
                     give each its own directory"
                );
                out.push(Out::Event(Event::Alarm { text }));
                return;
            }
            Some(_) => {}
            None => {
                self.append(Change::Found { cluster }, Pending::Found, out);
            }
        }
        out.push(Out::Event(Event::Serves { epoch }));
    }

    /// Asks for a record; `false` when it cannot be written or too many wait.
    fn append(&mut self, change: Change, pending: Pending, out: &mut Vec<Out>) -> bool {
        let Some(serving) = self.serving else { return false };
        if self.must_be_proved(&change) {
            return false;
        }
        // However much is asked for, there is room for a failover.
        let room = match pending {
            Pending::Work { .. } => self.options.max_pending.saturating_mul(3) / 4,
            _ => self.options.max_pending,
        };
        if self.pending.len() >= room.max(1) {
            return false;
        }
        self.next_ticket = self.next_ticket.saturating_add(1);
        let ticket = Ticket { epoch: serving.epoch.number, number: self.next_ticket };
        let at = self.options.utc_micros.saturating_add(self.now.0);
        match (Record { ticket, at, change }).encode() {
            Ok(record) => {
                self.pending.insert(ticket, pending);
                out.push(Out::Append { ticket, record });
                true
            }
            Err(error) => {
                out.push(Out::Event(Event::Refused { text: error.to_string() }));
                false
            }
        }
    }

    fn not_appended(&mut self, ticket: Ticket, text: &str, out: &mut Vec<Out>) {
        match self.pending.remove(&ticket) {
            Some(Pending::Promote { link, op, .. } | Pending::Register { link, op, .. }) => {
                self.deny(link, op, format!("the catalog takes nothing now: {text}"), out);
            }
            // A swap is asked for again by whoever needs it.
            Some(Pending::Swap { .. }) | None => {}
            Some(Pending::FailOver { content }) => self.not_failed_over(content),
            Some(Pending::ShutDown) => self.not_shut_down(),
            Some(Pending::Unproved | Pending::Proved) => self.proof_is_noted(false),
            Some(Pending::Work { id }) => self.not_worked(id, text, out),
            Some(Pending::Moves) => self.moves_decided(Err(text.to_owned()), out),
            Some(Pending::Found) => {
                let text = format!("the cluster could not be founded: {text}");
                out.push(Out::Event(Event::Alarm { text }));
            }
        }
    }

    /// The catalog has decided: whoever asked is told.
    fn take_outcomes(&mut self, out: &mut Vec<Out>) {
        for outcome in self.catalog.take_outcomes() {
            let Some(pending) = self.pending.remove(&outcome.ticket) else { continue };
            if outcome.result.is_ok() {
                self.note_recorded(outcome.content, &pending, out);
            } else {
                self.counters.lost = self.counters.lost.saturating_add(1);
            }
            match pending {
                Pending::Found => {}
                Pending::Work { id } => self.worked(id, outcome.result, out),
                Pending::Moves => self.moves_refused(outcome.result, out),
                Pending::FailOver { content } => self.failed_over(content, &outcome.result),
                Pending::ShutDown => {}
                Pending::Unproved | Pending::Proved => self.proof_is_noted(true),
                Pending::Swap { link, op, content, .. } => {
                    self.swapped(link, op, content, outcome.result.is_ok(), out);
                }
                Pending::Promote { link, op, content, to } => {
                    self.promoted(link, op, content, to, outcome.result, out);
                }
                Pending::Register { link, op, registration, tries } => {
                    self.registered(link, op, registration, tries, outcome.result, out);
                }
            }
        }
    }

    fn note_recorded(&mut self, content: Option<ContentId>, pending: &Pending, out: &mut Vec<Out>) {
        let Some((content, config)) = content.and_then(|at| Some((at, self.config(at)?))) else {
            return;
        };
        self.counters.recorded = self.counters.recorded.saturating_add(1);
        if matches!(pending, Pending::Promote { .. } | Pending::FailOver { .. }) {
            self.counters.promotions = self.counters.promotions.saturating_add(1);
        }
        let Config { version, epoch, primary, .. } = config;
        out.push(Out::Event(Event::Recorded { content, version, epoch, primary }));
    }

    /// The voters have recorded the catalog's own configuration.
    fn owned(&mut self, config: Config) {
        if self.own.as_ref().is_none_or(|own| own.version < config.version) {
            self.own = Some(config);
            self.own_changed();
        }
    }

    /// What is recorded, applied; of the catalog, what its voters recorded.
    fn config(&self, content: ContentId) -> Option<Config> {
        if content == CATALOG {
            return self.own.clone();
        }
        self.catalog.read(|state| state.contents.get(&content)?.register.config().cloned())
    }

    /// Tells each instance the newest configuration of its content, once.
    fn push_configs(&mut self, out: &mut Vec<Out>) {
        let mut due = Vec::new();
        self.catalog.read(|state| {
            for (id, link) in self.links.iter().filter(|(_, link)| link.role == Role::Instance) {
                let config = self.config_in(state, link.content);
                if let Some(config) = config.filter(|config| link.told < Some(config.version)) {
                    due.push((*id, config.clone()));
                }
            }
        });
        for (link, config) in due {
            self.tell(link, 0, Some(config), out);
        }
    }

    fn tell(&mut self, link: LinkId, op: u64, config: Option<Config>, out: &mut Vec<Out>) {
        if let Some(link) = self.links.get_mut(&link) {
            link.told = link.told.max(config.as_ref().map(|config| config.version));
        }
        self.send(link, Message::ConfigIs { op, config }, out);
    }

    /// Who was silent for too long goes; who was told nothing for a while hears something.
    fn keep_in_touch(&mut self, out: &mut Vec<Out>) {
        let (now, silence) = (self.now, self.silence_micros());
        let quiet = self.options.quiet_millis.saturating_mul(1000);
        let instances = self.links.iter().filter(|(_, link)| link.role == Role::Instance);
        let (mut gone, mut quiet_ones) = (Vec::new(), Vec::new());
        for (id, link) in instances {
            if now.since(link.heard) >= silence {
                gone.push(*id);
            } else if now.since(link.said) >= quiet {
                quiet_ones.push(*id);
            }
        }
        for link in gone {
            self.hang_up(link, out);
        }
        for link in quiet_ones {
            self.send(link, Message::Keepalive, out);
        }
    }

    fn send(&mut self, link: LinkId, message: Message, out: &mut Vec<Out>) {
        let Some(known) = self.links.get(&link) else { return };
        let envelope = self.envelope(known.content, known.session);
        out.push(Out::Send { link, envelope, message });
        let now = self.now;
        if let Some(known) = self.links.get_mut(&link) {
            known.said = now;
        }
    }

    fn envelope(&self, content: ContentId, session: Session) -> Envelope {
        let own = self.serving().unwrap_or_default();
        let (epoch, version) = match self.config(content) {
            Some(config) => (config.epoch, config.version),
            None => (own, Version(0)),
        };
        Envelope {
            cluster: self.identity.cluster,
            content,
            epoch,
            coordinator_epoch: own.number,
            version,
            session,
        }
    }

    fn refuse(
        &mut self,
        link: LinkId,
        envelope: &Envelope,
        reason: Reason,
        text: String,
        out: &mut Vec<Out>,
    ) {
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        out.push(Out::Event(Event::Refused { text: text.clone() }));
        let envelope = self.envelope(envelope.content, envelope.session);
        out.push(Out::Send { link, envelope, message: Message::Refuse { reason, text } });
        self.hang_up(link, out);
    }

    fn hang_up(&mut self, link: LinkId, out: &mut Vec<Out>) {
        out.push(Out::Hangup(link));
        self.forget(link, out);
    }

    fn forget(&mut self, link: LinkId, out: &mut Vec<Out>) {
        if let Some(gone) = self.links.remove(&link)
            && gone.role == Role::Instance
        {
            let (content, instance) = (gone.content, gone.instance);
            out.push(Out::Event(Event::Gone { content, instance }));
            if !self.is_connected(content, instance) {
                self.said.remove(&(content, instance));
                self.hear(instance);
                self.detect(detect::In::LineClosed { instance }, out);
            }
        }
    }

    fn is_connected(&self, content: ContentId, instance: InstanceId) -> bool {
        self.links.values().any(|link| {
            link.role == Role::Instance && (link.content, link.instance) == (content, instance)
        })
    }

    /// Whether an instance is connected and was heard of a short while ago.
    fn in_touch(&self, content: ContentId, instance: InstanceId) -> bool {
        if content == CATALOG {
            return self.own_here.contains(&instance);
        }
        self.links.values().any(|link| {
            link.role == Role::Instance
                && (link.content, link.instance) == (content, instance)
                && self.now.since(link.heard) < self.silence_micros()
        })
    }
}
