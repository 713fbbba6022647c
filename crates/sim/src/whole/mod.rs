//! The whole cluster, simulated: hosts with agents that vote, a coordinator and its standby, contents with a
//! primary and a mirror each, clients, an operator, and everything that can go wrong between them.
//!
//! Single-threaded and deterministic, as [`crate::cluster`], of which it uses the disk, the network, the queue, the
//! instances and the checker. The machines are the shipped ones, driven as the server drives them.
//!
//! # Layout
//! - `plan`: what a run is
//! - `event`: what will happen, and what a process is brought
//! - `world`: what there is at the beginning
//! - `place`: one copy and its process; `holding`: what its log is applied to
//! - `carry`: carries out what members ask for
//! - `lines`: connections between instances and whoever coordinates
//! - `seat`: the machines above the catalog's member: council and coordinator
//! - `agents`: agents, voters, processes that start and end
//! - `beats`: heartbeats
//! - `writes`: what clients do
//! - `operator`: what an administrator does
//! - `faults`: what goes wrong
//! - `rows`: the rows of the fault table, and how often each happened
//! - `run`: a whole run, and whether catalog and reality agree at the end

mod agents;
mod beats;
mod carry;
mod event;
mod faults;
mod holding;
mod lines;
mod operator;
mod place;
mod plan;
mod rows;
mod run;
mod seat;
mod world;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use outrigger_net::config::Config;
use outrigger_replica::member::{Event as Said, In, Out, Role};
use outrigger_wal::{ContentId, InstanceId, Lsn, Micros};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::agents::Host;
use self::event::{Brought, Event};
use self::operator::Operator;
use self::place::Place;
use self::writes::Customer;
use crate::checker::{Checker, Shadow, Verdict};
use crate::cluster::brief::{brief_in, brief_out};
use crate::cluster::network::Network;
use crate::cluster::queue::{Life, Queue, Wire};
use crate::rng::Rng;

pub use plan::{Bug, WholeFaults, WholePlan};
pub use rows::{Counts, ROWS};
pub use run::{WholeOutcome, run_whole};

/// The copies of one content, as the checker sees them.
#[derive(Debug)]
struct Group {
    content: ContentId,
    /// Its copies by number; the catalog's are its own.
    members: Vec<usize>,
    checker: Checker,
    /// What is recorded; `None` before it is.
    config: Option<Config>,
    /// The coordinators' epochs in which it was recorded, oldest first.
    past: Vec<(u64, Config)>,
    /// Writes that were acknowledged.
    commits: u64,
}

/// The cluster and its world. Group 0 is the catalog.
pub struct Whole {
    plan: WholePlan,
    now: Micros,
    queue: Queue<Event>,
    net: Network,
    hosts: Vec<Host>,
    places: Vec<Place>,
    groups: Vec<Group>,
    customers: Vec<Customer>,
    operator: Operator,
    /// Directions between hosts in which nothing passes, and how often each was cut.
    cut: BTreeMap<(usize, usize), u32>,
    /// Up to where the catalog was seen applied.
    catalog_top: Lsn,
    /// Whose records carry each epoch of a coordinator.
    commanders: BTreeMap<u64, usize>,
    /// Orders that were carried out: by which start of the agent.
    carried_out: BTreeMap<(u16, u64), Life>,
    /// A coordinator was forced that had not everything: what it does not know it cannot bring together.
    lossy: bool,
    names: u64,
    rng: Rng,
    faults: Rng,
    counts: Counts,
    hash: u64,
    tracing: bool,
    broken: Option<String>,
    healed: bool,
    /// How far the story of a forced activation is, and whose content it is about.
    story: (u32, usize),
    /// Clients have stopped.
    quiet: bool,
}

impl Whole {
    /// Prints every event to standard error.
    #[must_use]
    pub const fn traced(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// A hash of everything that happened, disks included.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        let disks = self.places.iter().map(|place| place.node.disk.trace_hash());
        disks.fold(self.hash, |hash, disk| xxh3_64_with_seed(&disk.to_le_bytes(), hash))
    }

    /// What was counted.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    fn violate(&mut self, text: String) {
        if self.broken.is_none() {
            self.note(|| format!("VIOLATION: {text}"));
            self.broken = Some(text);
        }
    }

    /// A verdict of the checker of one content.
    fn verdict(&mut self, group: usize, verdict: Verdict) {
        if let Err(text) = verdict {
            let content = self.groups[group].content;
            self.violate(format!("content {content}: {text}"));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing && writeln!(std::io::stderr(), "{:>10} {}", self.now.0, line()).is_err() {
            self.tracing = false;
        }
    }

    fn mix(&mut self, kind: u64, at: usize, value: u64) {
        let mut bytes = [0; 32];
        for (at, word) in [self.now.0, kind, at as u64, value].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
    }

    fn at(&mut self, micros: u64, event: Event) {
        self.queue.push(self.now.plus(micros), event);
    }

    /// A name that nothing else has.
    const fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wire(wire) => self.wire(wire),
            Event::Kick { at, life } => self.kick(at, life),
            Event::Disk { at, life } => self.reap(at, life),
            Event::Open { at, life } => self.open(at, life),
            Event::Remade { at, life } => self.remade(at, life),
            Event::Resume { at } => self.resume(at),
            Event::Applied { at, life, to } => {
                if self.is_open(at, life) {
                    self.applied(at, to);
                }
            }
            Event::Checkpoint { at, life } => {
                if self.is_open(at, life) {
                    let micros = self.rng.range(1_000..20_000);
                    self.at(micros, Event::Checkpointed { at, life });
                }
            }
            Event::Checkpointed { at, life } => self.checkpointed(at, life),
            Event::Reopened { at, life, result } => {
                if self.is_open(at, life) {
                    self.bring(at, Brought::Member(In::Reopened(result)));
                }
            }
            Event::Dialled { from, life, link, to } => self.dialled(from, life, link, to),
            Event::Line { at, life } => self.look_after_line(at, life),
            Event::Seat { at, life } => self.seat_due(at, life),
            Event::Reach { at, life } => self.look_after_agents(at, life),
            Event::Vote { from, life, ask } => self.vote(from, life, &ask),
            Event::Voted { to, life, say } => self.voted(to, life, *say),
            Event::NoVoter { to, life, seat } => self.no_voter(to, life, seat),
            Event::Ask { host, agent, from, ask } => self.ask_agent(host, agent, from, *ask),
            Event::Say { host, agent, to, say } => self.agent_says(host, agent, to, *say),
            Event::AgentTick { host, life } => self.agent_tick(host, life),
            Event::AgentStart { host } => self.start_agent(host),
            Event::AgentResume { host, life } => self.agent_resumes(host, life),
            Event::Ended { host, dbid, how, good } => self.process_ended(host, dbid, how, good),
            Event::HostUp { host } => self.host_up(host),
            Event::Ping { from, life, ping } => self.ping_arrives(from, life, ping),
            Event::Beat { to, life, from, beat } => self.beat_arrives(to, life, from, beat),
            Event::Refused { to, life, instance } => self.refusal_arrives(to, life, instance),
            Event::Client { client } => self.client(client),
            Event::Fault => self.fault(),
            Event::Operator => self.operate(),
            Event::Kill { at, life, row } => {
                if self.places[at].node.life == life && !self.healed {
                    if let Some(row) = row {
                        self.counts.row(row);
                    }
                    self.kill(at);
                }
            }
            Event::Mend { from, to } => self.mend(from, to),
            Event::Flap { a, b, left } => self.flap(a, b, left),
            Event::HandOver { at, asked } => self.bring(at, Brought::Member(In::HandOver(asked))),
            Event::GiveUp { at, asked } => self.bring(at, Brought::Member(In::GiveUp(asked))),
            Event::DiskWell { at } => self.disk_well(at),
        }
    }

    fn wire(&mut self, wire: Wire) {
        match wire {
            Wire::Arrive { conn, side } => {
                let arrived = self.net.arrive(self.now, conn, side, &mut self.queue);
                if let Some((end, parcel)) = arrived {
                    if self.is_open(end.node, end.life) {
                        self.arrives(end.node, end.link, parcel);
                    } else {
                        self.net.keep(self.now, conn, side, parcel, &mut self.queue);
                    }
                }
            }
            Wire::Late { conn, side } => {
                let own = self.net.conns[conn].ends[1 - side].link;
                let late = self.net.late(self.now, conn, side, &mut self.queue);
                if let Some((end, parcel)) = late
                    && self.is_open(end.node, end.life)
                    && lines::is_line(own) == lines::is_line(end.link)
                {
                    self.counts.count("frames of old connections");
                    self.arrives(end.node, end.link, parcel);
                }
            }
            Wire::Closed { conn, side } => {
                let end = &mut self.net.conns[conn].ends[side];
                if !std::mem::replace(&mut end.closed, true) {
                    let end = *end;
                    if self.is_open(end.node, end.life) {
                        let closed = if lines::is_line(end.link) {
                            Brought::LineClosed(end.link)
                        } else {
                            Brought::Member(In::Closed(end.link))
                        };
                        self.bring(end.node, closed);
                    }
                }
            }
        }
    }

    fn is_open(&self, at: usize, life: Life) -> bool {
        self.places[at].node.life == life && self.places[at].node.process.is_some()
    }

    /// Brings something to a process, or keeps it while that stands still.
    fn bring(&mut self, at: usize, brought: Brought) {
        let place = &mut self.places[at];
        if place.node.process.is_none() {
            return;
        }
        if place.node.clock.is_paused() {
            place.inbox.push_back(brought);
            return;
        }
        match brought {
            Brought::Member(event) => self.step(at, event),
            Brought::Line(link, parcel) => self.line_frame(at, link, parcel),
            Brought::LineClosed(link) => self.line_closed(at, link),
            Brought::Seat(event) => self.seat(at, event),
            Brought::Ping { from, life, ping } => self.answer_ping(at, from, life, &ping),
        }
    }

    fn kick(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) || self.places[at].node.clock.is_paused() {
            return;
        }
        let now = self.now;
        let Some(process) = self.places[at].node.process.as_mut() else { return };
        if process.kick_at.is_some_and(|at| at <= now) {
            process.kick_at = None;
            self.step(at, In::Kick);
        }
    }

    /// Steps a member, checks what it claims, carries out what it asks for.
    fn step(&mut self, at: usize, event: In) {
        let mut out = Vec::new();
        self.note(|| format!("p{at} <- {}", brief_in(&event)));
        let now = self.places[at].node.clock.node_now(self.now);
        let Some(process) = self.places[at].node.process.as_mut() else { return };
        let control = process.member.control();
        let known = (control.coordinator_epoch, control.version);
        let told = match &event {
            In::Config { coordinator_epoch, .. } => Some(*coordinator_epoch),
            _ => None,
        };
        process.member.step(now, event, &mut out);
        let version = process.member.control().version;
        let deposed = told.filter(|told| *told < known.0 && version != known.1);
        let (commit, durable) = (process.member.commit(), process.member.log().durable());
        let outs = (out.len() as u64).rotate_left(50);
        self.mix(1, at, commit.0 ^ durable.0.rotate_left(20) ^ outs);
        if let Some(told) = deposed {
            self.violate(format!(
                "p{at} knows coordinator's epoch {}, and takes configuration {} of {told}",
                known.0, version.0
            ));
        }
        for said in &out {
            if let Out::Event(Said::Reigns { epoch, from }) = said {
                self.reigns(at, *epoch, *from);
            }
        }
        self.look(at);
        let life = self.places[at].node.life;
        for out in out {
            if !self.is_open(at, life) {
                return;
            }
            self.note(|| format!("p{at} -> {}", brief_out(&out)));
            self.carry(at, life, out);
        }
        self.settle_writes(at);
        self.schedule(at);
    }

    fn reigns(&mut self, at: usize, epoch: outrigger_wal::Epoch, from: Lsn) {
        let place = &mut self.places[at];
        let Some(process) = place.node.process.as_ref() else { return };
        let log = process.member.log();
        let (durable, hash) = (log.durable(), log.durable_hash());
        place.node.shadow.bound(durable, hash);
        // Whoever reigns after a loss holds what is left.
        let config = self.groups[place.group].config.as_ref();
        let loss = config.and_then(|config| config.loss);
        if loss.is_none_or(|loss| epoch.number >= loss.epoch) {
            place.node.shadow.outcast = false;
        }
        let (group, slot) = (place.group, place.slot);
        let others = self.groups[group].members.clone();
        let ahead = |other: &usize| *other != at && self.places[*other].node.shadow.durable > from;
        if others.iter().any(ahead) {
            self.counts.row(53);
        }
        self.counts.count("reigns");
        let verdict =
            self.groups[group].checker.reigns(slot, epoch, from, &self.places[at].node.shadow);
        self.verdict(group, verdict);
    }

    /// The checker looks at a member after its step.
    fn look(&mut self, at: usize) {
        let place = &mut self.places[at];
        let (group, slot) = (place.group, place.slot);
        let Some(process) = place.node.process.as_ref() else { return };
        let member = &process.member;
        let (durable, hash) = (member.log().durable(), member.log().durable_hash());
        let (commit, epoch) = (member.commit(), member.epoch());
        let reigns = (member.role() == Role::Primary).then_some(epoch);
        let serving = member.serving();
        let shadow = &mut place.node.shadow;
        shadow.bound(durable, hash);
        shadow.durable = durable;
        shadow.epoch = epoch.number;
        let outcast = shadow.outcast;
        let before = std::mem::replace(&mut shadow.commit, commit);
        let served = self.groups[group].checker.may_serve(slot, serving);
        self.verdict(group, served);
        if commit < before {
            self.violate(format!("p{at} moves its commit LSN from {before} back to {commit}"));
        } else if commit > before && (reigns.is_some() || !outcast) {
            let set = &self.groups[group];
            let in_sync: Vec<usize> = (0..set.members.len())
                .filter(|slot| {
                    let instance = self.places[set.members[*slot]].node.instance;
                    set.config.as_ref().is_some_and(|config| config.in_sync(instance))
                })
                .collect();
            let shadows: Vec<&Shadow> =
                set.members.iter().map(|at| &self.places[*at].node.shadow).collect();
            let verdict =
                self.groups[group].checker.commits(slot, commit, reigns, &shadows, &in_sync);
            self.verdict(group, verdict);
        }
    }

    /// Schedules what a member and its disk wait for.
    fn schedule(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.places[at].node;
        let life = node.life;
        let due = node.disk.next_due();
        let clock = node.clock.clone();
        let Some(process) = node.process.as_mut() else { return };
        let kick = process.member.deadline().and_then(|at| clock.global_at(at, now));
        if let Some(when) = kick.map(|at| at.max(now.plus(200)))
            && process.kick_at.is_none_or(|known| when < known || known < now)
        {
            process.kick_at = Some(when);
            self.queue.push(when, Event::Kick { at, life });
        }
        if let Some(when) = due.map(|at| at.max(now))
            && process.disk_at.is_none_or(|known| when < known)
        {
            process.disk_at = Some(when);
            self.queue.push(when, Event::Disk { at, life });
        }
    }

    fn reap(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) {
            return;
        }
        let now = self.now;
        self.places[at].node.disk.advance(now);
        if let Some(process) = self.places[at].node.process.as_mut() {
            process.disk_at = None;
        }
        let mut done = Vec::new();
        outrigger_wal::disk::Disk::reap(&mut self.places[at].node.disk, None, &mut done);
        for (op, result) in done {
            if self.is_open(at, life) {
                self.places[at].doing.remove(&op);
                self.bring(at, Brought::Member(In::Io(op, result)));
            }
        }
        if self.is_open(at, life) {
            self.schedule(at);
        }
    }

    /// Whether something passes from one host to another.
    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains_key(&(from, to)) && self.hosts[from].up && self.hosts[to].up
    }

    /// How long a message between processes takes, and whether it is lost or comes twice.
    fn ways(&mut self) -> Vec<u64> {
        let mut ways = vec![self.net.delay()];
        if self.healed {
            return ways;
        }
        if self.net.rng.chance(self.plan.datagram_loss_per_mille) {
            ways.clear();
        }
        if self.net.rng.chance(self.plan.datagram_double_per_mille) {
            let late = self.net.rng.range(1_000..3_000_000);
            ways.push(late);
        }
        ways
    }

    fn place_of(&self, instance: InstanceId) -> Option<usize> {
        self.places.iter().position(|place| place.node.instance == instance)
    }

    /// The processes of a host.
    fn on(&self, host: usize) -> Vec<usize> {
        (0..self.places.len()).filter(|at| self.places[*at].host == host).collect()
    }

    /// The coordinator that serves and is not standing still, the newest.
    fn coordinator(&self) -> Option<usize> {
        let serving = |at: &usize| {
            let place = &self.places[*at];
            let seat = place.seat.as_ref().filter(|_| !place.node.clock.is_paused())?;
            seat.coordinator.serving().map(|epoch| (epoch.number, *at))
        };
        self.groups[0].members.iter().filter_map(serving).max().map(|(_, at)| at)
    }

    /// What the network knows of the hosts' partitions.
    fn reblock(&mut self) {
        let mut blocked = BTreeSet::new();
        for (from, to) in self.cut.keys() {
            for a in self.on(*from) {
                for b in self.on(*to) {
                    blocked.insert((a, b));
                }
            }
        }
        self.net.blocked = blocked;
    }
}
