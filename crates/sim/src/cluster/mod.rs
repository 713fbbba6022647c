//! A simulated cluster: the copies of one content, their disks and stores, the authority, clients, and
//! everything that can go wrong between them.
//!
//! Single-threaded and deterministic: one plan is one run, with the same trace hash in debug and
//! release. The members are the shipped ones, stepped as a server would; the checker watches every step.
//!
//! # Layout
//! - `plan`: what a run is
//! - `queue`: what will happen when
//! - `node`, `store`, `clients`: what there is
//! - `writes`: what clients do, and what becomes of it
//! - `network`, `late`, `authority`, `coordinator`: what lies between
//! - `carry`: carries out what members ask for
//! - `operator`: hand-overs, who is held out, accepted losses
//! - `faults`, `rot`, `start`: what goes wrong, and who comes back
//! - `run`: a whole run, and whether it converges
//! - `stats`, `brief`: what is counted and what is told of it

mod authority;
pub(crate) mod brief;
mod carry;
pub(crate) mod clients;
mod coordinator;
mod faults;
mod late;
pub(crate) mod network;
pub(crate) mod node;
mod operator;
mod plan;
pub(crate) mod queue;
mod rot;
mod run;
mod start;
mod stats;
pub(crate) mod store;
mod writes;

use std::fmt::Write as _;
use std::io::Write as _;

use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::member::{Event as Said, In, Out};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, Lsn, Micros};

pub(crate) use authority::Ask;
use authority::Authority;
use brief::{brief_config, brief_in, brief_out};
use clients::Client;
use network::Network;
use node::{Node, instance};
use queue::{Event, Life, Queue, Wire};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use node::State;
pub use plan::{Faults, Plan};
pub use run::Outcome;
pub use stats::Stats;
pub(crate) use store::{AppliedRecord, Decided, Name};

use crate::checker::{Checker, Shadow, Verdict};
use crate::disk::{SimDisk, SimDiskOptions};
use crate::rng::Rng;

/// A message that was kept, to come late.
#[derive(Clone, Debug)]
pub struct Late(network::Parcel);

/// The cluster and its world.
pub struct Cluster {
    plan: Plan,
    now: Micros,
    queue: Queue,
    nodes: Vec<Node>,
    net: Network,
    authority: Authority,
    /// Nobody answers for the authority.
    coordinator_down: bool,
    /// A record of its is on its way to the disk.
    deciding: bool,
    /// The hand-over that it waits for.
    wanted: Option<operator::Wanted>,
    /// The same, of a reign that is to be given up for a copy that may lack commits.
    losing: Option<operator::Wanted>,
    clients: Vec<Client>,
    checker: Checker,
    stats: Stats,
    rng: Rng,
    faults: Rng,
    hash: u64,
    /// Print what happens.
    tracing: bool,
    broken: Option<String>,
    /// Faults are over.
    healed: bool,
    /// When the recorded primary was last seen serving.
    served: Micros,
    flipped: bool,
    rolled_back: bool,
    /// In scripted runs: the last acknowledgement from one node to another.
    acks: std::collections::BTreeMap<(usize, usize), network::Parcel>,
}

impl Cluster {
    /// A new content: empty logs, all copies in sync, nobody started.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let rng = Rng::new(plan.seed);
        let copies = (0..plan.copies).map(|node| Copy {
            instance: instance(node),
            addresses: vec![format!("node-{node}:1")],
            in_sync: true,
            held: false,
            durable: Promise::NONE,
        });
        let config = Config {
            version: Version(1),
            epoch: Epoch::NONE,
            primary: instance(0),
            copies: copies.collect(),
            rule: Rule::All,
            loss: None,
        };
        let nodes: Vec<Node> = (0..plan.copies)
            .map(|node| {
                let seed = rng.fork("disk").next_u64() ^ (node as u64 + 1);
                Node::new(node, SimDisk::new(SimDiskOptions::new(seed)))
            })
            .collect();
        let clients = (0..plan.clients)
            .map(|client| {
                let mut seeds = rng.fork("clients");
                let seed = seeds.next_u64() ^ (client as u64);
                Client::new(client as u64 + 1, Rng::new(seed))
            })
            .collect();
        let (authority, created) = Authority::new(config, plan.rules);
        let mut cluster = Self {
            now: Micros(1_000_000),
            queue: Queue::default(),
            nodes,
            net: Network::new(plan.weather.clone(), rng.fork("network")),
            authority,
            coordinator_down: false,
            deciding: false,
            wanted: None,
            losing: None,
            clients,
            checker: Checker::default(),
            stats: Stats::default(),
            faults: rng.fork("faults"),
            rng,
            hash: plan.seed,
            tracing: false,
            broken: None,
            healed: false,
            served: Micros(0),
            flipped: false,
            rolled_back: false,
            acks: std::collections::BTreeMap::new(),
            plan,
        };
        cluster.verdict(created);
        for node in 0..cluster.nodes.len() {
            if let Err(text) = cluster.nodes[node].initialise(true) {
                cluster.violate(text);
            }
        }
        cluster
    }

    /// Prints every event to standard error.
    #[must_use]
    pub const fn traced(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// The simulated time.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What must not happen and did.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A hash of everything that happened, disks included.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        let disks = self.nodes.iter().map(|node| node.disk.trace_hash());
        disks.fold(self.hash, |hash, disk| xxh3_64_with_seed(&disk.to_le_bytes(), hash))
    }

    /// The recorded configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        self.authority.config()
    }

    /// All configurations that were ever recorded, oldest first.
    pub fn past(&self) -> impl Iterator<Item = &Config> {
        self.authority.past().iter().map(|(_, config)| config)
    }

    /// The end of the committed log.
    #[must_use]
    pub const fn committed(&self) -> Lsn {
        self.checker.top()
    }

    /// The member of a node, while its process runs.
    #[must_use]
    pub fn member(&self, node: usize) -> Option<&outrigger_replica::member::Member> {
        self.nodes[node].process.as_ref().map(|process| &process.member)
    }

    /// Whether a node serves as primary.
    #[must_use]
    pub fn is_serving(&self, node: usize) -> bool {
        self.nodes[node].is_serving()
    }

    /// The disk of a node.
    #[must_use]
    pub fn disk(&self, node: usize) -> &SimDisk {
        &self.nodes[node].disk
    }

    /// Whether a node is in the recorded in-sync set.
    #[must_use]
    pub fn in_sync(&self, node: usize) -> bool {
        self.config().in_sync(instance(node))
    }

    /// The number of the last reign that the authority heard of a node's log.
    #[must_use]
    pub fn heard_epoch(&self, node: usize) -> u64 {
        self.authority.heard(instance(node), true).epoch
    }

    /// Starts a node's process now.
    pub fn restart(&mut self, node: usize) {
        self.boot(node);
    }

    /// Brings this configuration to a node, however old it is.
    pub fn release(&mut self, node: usize, config: Config) {
        self.told(node, (self.authority.epoch(), config));
    }

    /// Brings a configuration to a node, as told in this reign of the coordinator.
    pub fn tell(&mut self, node: usize, coordinator_epoch: u64, config: Config) {
        self.told(node, (coordinator_epoch, config));
    }

    /// The last acknowledgement that `from` has sent to `to`, as it is to come again later.
    #[must_use]
    pub fn last_ack(&self, from: usize, to: usize) -> Option<Late> {
        self.acks.get(&(from, to)).cloned().map(Late)
    }

    /// Brings it, mixed into the newest connection of the two nodes; `false` when there is none.
    pub fn bring_late(&mut self, from: usize, to: usize, late: Late) -> bool {
        let Some(end) = self.net.newest(from, to) else { return false };
        self.give_frame(end.node, end.link, late.0);
        true
    }

    /// Client 0 appends a record of so many bytes at a node; `false` when it is not taken there.
    pub fn append(&mut self, node: usize, bytes: usize) -> bool {
        let Some(client) = self.clients.first_mut() else { return false };
        let request = client.sized(bytes);
        self.write(0, node, request).is_ok()
    }

    fn violate(&mut self, text: String) {
        if self.broken.is_none() {
            self.note(|| format!("VIOLATION: {text}"));
            self.broken = Some(text);
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        if let Err(text) = verdict {
            self.violate(text);
        }
    }

    /// Tells a line of the trace on standard error, when asked; what counts for the hash goes through `mix`.
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            let mut text = String::new();
            if write!(text, "{:>10} ", self.now.0).is_ok() {
                text.push_str(&line());
                if writeln!(std::io::stderr(), "{text}").is_err() {
                    self.tracing = false;
                }
            }
        }
    }

    fn mix(&mut self, kind: u64, node: usize, value: u64) {
        let mut bytes = [0; 32];
        for (at, word) in [self.now.0, kind, node as u64, value].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
    }

    fn at(&mut self, micros: u64, event: Event) {
        self.queue.push(self.now.plus(micros), event);
    }

    /// Lets the next event happen; `false` when there is none.
    fn turn(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        self.stats.events += 1;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Kick { node, life } => self.kick(node, life),
            Event::Disk { node, life } => self.reap(node, life),
            Event::Boot { node } => self.boot(node),
            Event::Resume { node } => self.resume(node),
            Event::Applied { node, life, to } => {
                if self.is_alive(node, life) {
                    self.applied(node, to);
                }
            }
            Event::Checkpoint { node, life } => self.checkpoint(node, life),
            Event::Checkpointed { node, life } => self.checkpointed(node, life),
            Event::Reopened { node, life, result } => {
                if self.is_alive(node, life) {
                    self.give(node, In::Reopened(result));
                }
            }
            Event::Dialled { from, life, link, to } => self.dialled(from, life, link, to),
            Event::Wire(wire) => self.wire(wire),
            Event::Asked { from, ask } => self.asked(from, *ask),
            Event::Told { node, told } => self.told(node, *told),
            Event::ToldAlone { node, told } => self.told_alone(node, *told),
            Event::Decide { reign } => self.durable_decision(reign),
            Event::Coordinate => self.start_coordinator(),
            Event::Repeat => {
                self.push_config();
                self.at(300_000, Event::Repeat);
            }
            Event::Client { client } => self.client(client),
            Event::Fault => self.fault(),
            Event::Operator => self.operate(),
            Event::HandOver { node, asked } => self.ask_hand_over(node, *asked),
            Event::GiveUp { node, asked } => self.ask_give_up(node, *asked),
            Event::Mend { from, to } => {
                self.net.blocked.remove(&(from, to));
            }
        }
    }

    fn wire(&mut self, wire: Wire) {
        match wire {
            Wire::Arrive { conn, side } => {
                let arrived = self.net.arrive(self.now, conn, side, &mut self.queue);
                if let Some((end, parcel)) = arrived {
                    if self.is_alive(end.node, end.life) {
                        self.give_frame(end.node, end.link, parcel);
                    } else {
                        self.net.keep(self.now, conn, side, parcel, &mut self.queue);
                    }
                }
            }
            Wire::Late { conn, side } => {
                let late = self.net.late(self.now, conn, side, &mut self.queue);
                if let Some((end, parcel)) = late
                    && self.is_alive(end.node, end.life)
                {
                    self.stats.late += 1;
                    self.note(|| format!("n{} gets a late {:?}", end.node, parcel.message));
                    self.give_frame(end.node, end.link, parcel);
                }
            }
            Wire::Closed { conn, side } => {
                let end = &mut self.net.conns[conn].ends[side];
                if !std::mem::replace(&mut end.closed, true) {
                    let end = *end;
                    if self.is_alive(end.node, end.life) {
                        self.give(end.node, In::Closed(end.link));
                    }
                }
            }
        }
    }

    fn is_alive(&self, node: usize, life: Life) -> bool {
        self.nodes[node].life == life && self.nodes[node].process.is_some()
    }

    /// The authority tells a node what is recorded.
    fn told(&mut self, node: usize, (coordinator_epoch, config): authority::Told) {
        self.give(node, In::Config { config, coordinator_epoch });
    }

    fn give_frame(
        &mut self,
        node: usize,
        link: outrigger_replica::member::LinkId,
        parcel: network::Parcel,
    ) {
        let network::Parcel { envelope, message, body } = parcel;
        self.give(node, In::Frame { link, envelope, message, body });
    }

    /// Brings an event to a member, or to its inbox while the node stands still.
    fn give(&mut self, node: usize, event: In) {
        let paused = self.nodes[node].clock.is_paused();
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if paused {
            process.inbox.push_back(event);
        } else {
            self.step(node, event);
        }
    }

    fn kick(&mut self, node: usize, life: Life) {
        if !self.is_alive(node, life) || self.nodes[node].clock.is_paused() {
            return;
        }
        let now = self.now;
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.kick_at.is_some_and(|at| at <= now) {
            process.kick_at = None;
            self.step(node, In::Kick);
        }
    }

    /// Steps a member, checks what it claims, carries out what it asks for.
    fn step(&mut self, node: usize, event: In) {
        let mut out = Vec::new();
        self.note(|| format!("n{node} <- {}", brief_in(&event)));
        let now = self.nodes[node].clock.node_now(self.now);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let known = (process.member.control().coordinator_epoch, process.member.control().version);
        let told = match &event {
            In::Config { coordinator_epoch, .. } => Some(*coordinator_epoch),
            _ => None,
        };
        process.member.step(now, event, &mut out);
        let version = process.member.control().version;
        let deposed = told.filter(|told| *told < known.0 && version != known.1);
        let (commit, durable) = (process.member.commit(), process.member.log().durable());
        self.mix(
            1,
            node,
            commit.0 ^ durable.0.rotate_left(20) ^ (out.len() as u64).rotate_left(50),
        );
        if let Some(told) = deposed {
            self.violate(format!(
                "node {node} knows coordinator's epoch {}, and takes configuration {} of {told}",
                known.0, version.0
            ));
        }
        // A reign counts from the step that takes it up.
        for said in &out {
            if let Out::Event(Said::Reigns { epoch, from }) = said {
                self.reigns(node, *epoch, *from);
            }
        }
        self.look(node);
        let life = self.nodes[node].life;
        for out in out {
            if !self.is_alive(node, life) {
                return;
            }
            self.carry(node, life, out);
        }
        self.settle_writes(node);
        self.schedule(node);
    }

    fn reigns(&mut self, node: usize, epoch: Epoch, from: Lsn) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        // What is adopted is durable by then.
        let log = process.member.log();
        let (durable, hash) = (log.durable(), log.durable_hash());
        self.nodes[node].shadow.bound(durable, hash);
        if self.authority.config().loss.is_none_or(|loss| epoch.number >= loss.epoch) {
            // Whoever reigns after a loss holds what is left.
            self.nodes[node].shadow.outcast = false;
        }
        let shadow = &self.nodes[node].shadow;
        let verdict = self.checker.reigns(node, epoch, from, shadow);
        self.verdict(verdict);
    }

    /// The checker looks at a member after its step.
    fn look(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let member = &process.member;
        let (durable, hash) = (member.log().durable(), member.log().durable_hash());
        let (commit, epoch) = (member.commit(), member.epoch());
        let reigns = (member.role() == outrigger_replica::member::Role::Primary).then_some(epoch);
        let served = self.checker.may_serve(node, member.serving());
        self.verdict(served);
        let shadow = &mut self.nodes[node].shadow;
        shadow.bound(durable, hash);
        shadow.durable = durable;
        shadow.epoch = epoch.number;
        let before = std::mem::replace(&mut shadow.commit, commit);
        if commit < before {
            self.violate(format!(
                "node {node} moves its commit LSN from {before} back to {commit}"
            ));
        } else if commit > before && (reigns.is_some() || !self.nodes[node].shadow.outcast) {
            let config = self.authority.config();
            let in_sync: Vec<usize> =
                (0..self.nodes.len()).filter(|n| config.in_sync(instance(*n))).collect();
            let shadows: Vec<&Shadow> = self.nodes.iter().map(|node| &node.shadow).collect();
            let verdict = self.checker.commits(node, commit, reigns, &shadows, &in_sync);
            self.note(|| format!("n{node} commits {commit}"));
            self.verdict(verdict);
        }
    }

    /// Schedules what a member and its disk wait for.
    fn schedule(&mut self, node: usize) {
        let now = self.now;
        let life = self.nodes[node].life;
        let due = self.nodes[node].disk.next_due();
        let clock = self.nodes[node].clock.clone();
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let kick = process.member.deadline().and_then(|at| clock.global_at(at, now));
        if let Some(at) = kick.map(|at| at.max(now.plus(200)))
            && process.kick_at.is_none_or(|known| at < known || known < now)
        {
            process.kick_at = Some(at);
            self.queue.push(at, Event::Kick { node, life });
        }
        if let Some(at) = due.map(|at| at.max(now))
            && process.disk_at.is_none_or(|known| at < known)
        {
            process.disk_at = Some(at);
            self.queue.push(at, Event::Disk { node, life });
        }
    }

    fn reap(&mut self, node: usize, life: Life) {
        if !self.is_alive(node, life) {
            return;
        }
        let now = self.now;
        self.nodes[node].disk.advance(now);
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.disk_at = None;
        }
        let mut done = Vec::new();
        outrigger_wal::disk::Disk::reap(&mut self.nodes[node].disk, None, &mut done);
        for (op, result) in done {
            if self.is_alive(node, life) {
                self.give(node, In::Io(op, result));
            }
        }
        if self.is_alive(node, life) {
            self.schedule(node);
        }
    }
}
