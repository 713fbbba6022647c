//! Hosts and their agents: processes that start and end, votes, and what coordinators command.
//!
//! What an agent must not forget is durable when it says so, and all it has after a crash; its voter is the
//! shipped file over slots in memory. Guarantees checked here: an agent that has accepted a coordinator obeys
//! no lower one; one order is carried out once, but for an agent that crashed meanwhile.
//! Not here: who is commanded what (the shipped coordinator).

use std::collections::VecDeque;

use bytes::Bytes;
use outrigger_cluster::agent::{Agent, Ask, In, Order, Out, Say};
use outrigger_cluster::catalog::tables::{Dbid, Rebuild, Wanted};
use outrigger_cluster::coordinator;
use outrigger_cluster::slots::MemorySlots;
use outrigger_cluster::voters::{self, Seat, VoterFile, VoterList};

use super::Whole;
use super::event::{Asker, Brought, Event, Seated};
use super::holding::Holding;
use super::plan::Bug;
use crate::checker::Shadow;
use crate::cluster::queue::Life;
use crate::disk::{SimDisk, SimDiskOptions};

/// How often a coordinator looks after its connections to agents, in microseconds.
const REACH_MICROS: std::ops::Range<u64> = 50_000..120_000;

/// A machine.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) agent: Option<Agent>,
    /// Counts the starts of its agent.
    pub(super) life: Life,
    pub(super) paused: bool,
    inbox: VecDeque<(Asker, Ask)>,
    /// What the agent saved.
    memory: Bytes,
    pub(super) voter_slots: MemorySlots,
    voter: Option<VoterFile>,
    /// The highest coordinator's epoch that it has obeyed.
    obeyed: u64,
    /// Who asked what, by the name of the question.
    asked: Vec<(u64, Asker, u64)>,
    ops: u64,
}

/// A coordinator's connection to an agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgentLine {
    pub(super) conn: u64,
    host: usize,
    /// The start of the agent at the other end.
    agent: Life,
    op: u64,
    blocked: u32,
    /// Nothing overtakes on one connection.
    last: u64,
}

impl Host {
    pub(super) fn new(number: usize, memory: Bytes, voter_slots: MemorySlots) -> Self {
        Self {
            name: format!("h{number}"),
            up: true,
            agent: None,
            life: 0,
            paused: false,
            inbox: VecDeque::new(),
            memory,
            voter_slots,
            voter: None,
            obeyed: 0,
            asked: Vec::new(),
            ops: 0,
        }
    }

    pub(super) fn agent_address(&self) -> String {
        format!("{}:1", self.name)
    }

    /// Whether its agent can vote.
    pub(super) const fn votes(&self) -> bool {
        self.voter.is_some()
    }
}

impl Whole {
    pub(super) fn voter_list(&self) -> VoterList {
        let addresses = self.hosts.iter().map(|host| vec![host.agent_address()]).collect();
        VoterList { version: 1, addresses }
    }

    pub(super) fn start_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() || !self.hosts[host].up {
            return;
        }
        let memory = match Agent::decode(&self.hosts[host].memory) {
            Ok(memory) => memory,
            Err(error) => return self.violate(format!("the agent of h{host} forgot all: {error}")),
        };
        let found: Vec<_> = self
            .on(host)
            .into_iter()
            .filter(|at| self.places[*at].runs())
            .map(|at| (self.places[at].dbid, self.places[at].pid))
            .collect();
        let rules = self.plan.rules();
        let slots = self.hosts[host].voter_slots.clone();
        let this = &mut self.hosts[host];
        this.life += 1;
        this.paused = false;
        this.inbox.clear();
        this.asked.clear();
        // One whose file is lost does not vote.
        this.voter = VoterFile::open(Box::new(slots), rules).ok();
        let mut agent = Agent::new(memory);
        let mut out = Vec::new();
        agent.begin(&found, &mut out);
        this.agent = Some(agent);
        let life = this.life;
        self.note(|| format!("the agent of h{host} starts"));
        self.mix(7, host, life);
        self.agent_asks(host, out);
        self.at(1_000_000, Event::AgentTick { host, life });
    }

    pub(super) fn kill_agent(&mut self, host: usize) {
        if self.hosts[host].agent.take().is_none() {
            return;
        }
        self.note(|| format!("the agent of h{host} dies"));
        self.hosts[host].voter = None;
        self.hosts[host].inbox.clear();
        self.hosts[host].life += 1;
        if self.hosts[host].up {
            let micros = self.faults.range(10_000..1_500_000);
            self.at(micros, Event::AgentStart { host });
        }
    }

    pub(super) fn host_up(&mut self, host: usize) {
        self.hosts[host].up = true;
        self.note(|| format!("h{host} is up"));
        let micros = self.faults.range(5_000..200_000);
        self.at(micros, Event::AgentStart { host });
    }

    pub(super) fn agent_tick(&mut self, host: usize, life: Life) {
        if self.hosts[host].life != life {
            return;
        }
        self.at(1_000_000, Event::AgentTick { host, life });
        let mut out = Vec::new();
        let this = &mut self.hosts[host];
        if let Some(agent) = this.agent.as_mut().filter(|_| !this.paused) {
            agent.tell_all(&mut out);
            self.agent_asks(host, out);
        }
    }

    fn step_agent(&mut self, host: usize, event: In) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let mut out = Vec::new();
        agent.step(event, &mut out);
        self.agent_asks(host, out);
    }

    /// Carries out what an agent asks for, as its process does: saved first, answered then.
    fn agent_asks(&mut self, host: usize, out: Vec<Out>) {
        let life = self.hosts[host].life;
        let mut waiting = VecDeque::from(out);
        while let Some(out) = waiting.pop_front() {
            if self.hosts[host].life != life {
                return;
            }
            let event = match out {
                Out::Save { number, memory } => {
                    match Agent::encode(&memory) {
                        Ok(bytes) => self.hosts[host].memory = bytes,
                        Err(error) => return self.violate(error.to_string()),
                    }
                    if self.faults.chance(self.plan.kill_agent_saving_per_mille) && !self.healed {
                        self.counts.count("agents killed behind a save");
                        return self.kill_agent(host);
                    }
                    Some(In::Saved { number })
                }
                Out::Start { dbid, order } => self.start_process(host, dbid, &order),
                Out::Stop { dbid } => {
                    self.stop_process(host, dbid);
                    None
                }
                Out::Remove { dbid, .. } => Some(In::Removed { dbid }),
                Out::Check { op, orders } => {
                    let half = |dbid: Dbid| {
                        let places = self.on(host);
                        places
                            .iter()
                            .any(|at| self.places[*at].dbid == dbid && self.places[*at].half_made)
                    };
                    let bad = orders.iter().filter(|(dbid, _)| half(*dbid));
                    let bad = bad.map(|(dbid, _)| (*dbid, "it is half made".to_owned())).collect();
                    Some(In::Checked { op, bad })
                }
                // Nobody's catalog is made anew here.
                Out::Inspect { op, .. } => Some(In::Inspected { op, data: Vec::new() }),
                Out::Say { op, say } => {
                    self.answer(host, op, say);
                    None
                }
            };
            if let (Some(event), Some(agent)) = (event, &mut self.hosts[host].agent) {
                let mut more = Vec::new();
                agent.step(event, &mut more);
                waiting.extend(more);
            }
        }
    }

    fn place_on(&self, host: usize, dbid: Dbid) -> Option<usize> {
        self.on(host).into_iter().find(|at| self.places[*at].dbid == dbid)
    }

    fn start_process(&mut self, host: usize, dbid: Dbid, order: &Order) -> Option<In> {
        let at = self.place_on(host, dbid)?;
        let agent = self.hosts[host].life;
        let before = self.carried_out.insert((dbid.0, order.run), agent);
        // What was made anew is started by the same order.
        let remakes = matches!(order.wanted, Wanted::Rebuild(_));
        if before == Some(agent)
            && !self.places[at].half_made
            && self.places[at].remade != order.run
        {
            self.violate(format!("h{host} carries out order {} for {dbid} twice", order.run));
        }
        if self.places[at].runs() {
            self.violate(format!("h{host} starts a second process of {dbid}"));
        }
        let now = self.now;
        self.note(|| format!("h{host} starts p{at}: {:?} run {}", order.wanted, order.run));
        let (incarnation, pid) = (self.rng.next_u64(), self.name());
        if remakes {
            if !self.is_lent_to(at) {
                // Nothing of it was touched.
                self.counts.count("copies that are lent nothing");
                self.at(2_000, Event::Open { at, life: u64::MAX });
                let how = "exit status 2: no primary lends it anything".to_owned();
                return Some(In::Ended { dbid, how, good: false });
            }
            self.check_remake(at);
        }
        let place = &mut self.places[at];
        place.incarnation = incarnation;
        place.pid = u32::try_from(pid).unwrap_or(u32::MAX);
        place.cloned = None;
        place.was_cloned = false;
        place.node.life += 1;
        let (life, pid) = (place.node.life, place.pid);
        if remakes {
            place.remaking = true;
            place.half_made = true;
            place.remade = order.run;
            let micros = self.rng.range(20_000..600_000);
            self.counts.count(match order.wanted {
                Wanted::Rebuild(Rebuild::Full) => "copies made anew in full",
                _ => "copies made anew by what differs",
            });
            if self.faults.chance(self.plan.kill_remake_per_mille) {
                self.at(micros / 2, Event::Kill { at, life, row: None });
            }
            self.at(micros, Event::Remade { at, life });
            return Some(In::Rebuilding { dbid, done_bytes: 0, total_bytes: 0 });
        }
        place.starting = Some(now);
        if !place.made {
            // Nothing of an earlier try is left.
            place.node.disk = SimDisk::new(SimDiskOptions::new(place.incarnation));
            place.node.identity.log = order.log;
            place.node.identity.segment_bytes = order.segment_bytes;
            let first = self.groups[place.group].config.as_ref();
            let in_sync = first.is_some_and(|config| config.in_sync(place.node.instance));
            if let Err(text) = place.node.initialise(in_sync) {
                self.violate(format!("p{at}: {text}"));
                return None;
            }
            place.made = true;
        }
        let slow = self.faults.chance(100) && !self.healed;
        let micros = if slow { 200_000..1_500_000 } else { 3_000..80_000 };
        let micros = self.rng.range(micros);
        if self.places[at].half_made {
            // What is half made does not start.
            self.at(2_000, Event::Open { at, life: u64::MAX });
            self.places[at].starting = None;
            let how = "exit status 2: it is half made".to_owned();
            return Some(In::Ended { dbid, how, good: false });
        }
        self.at(micros, Event::Open { at, life });
        Some(In::Runs { dbid, pid })
    }

    /// Whether a primary that serves lends a copy what it takes to be made anew: not while commits wait for it.
    fn is_lent_to(&self, at: usize) -> bool {
        let place = &self.places[at];
        self.groups[place.group].members.iter().filter(|other| **other != at).any(|other| {
            let process = self.places[*other].node.process.as_ref();
            process.is_some_and(|it| it.member.lend_to(place.node.instance).is_ok())
        })
    }

    /// Neither a primary nor a copy of the in-sync set is ever made anew.
    fn check_remake(&mut self, at: usize) {
        let place = &self.places[at];
        let config = self.groups[place.group].config.as_ref();
        if config.is_some_and(|config| config.in_sync(place.node.instance)) && !self.lossy {
            self.violate(format!("p{at} is in sync, and is made anew"));
        }
    }

    /// A copy was made anew: it begins with nothing, and streams everything.
    pub(super) fn remade(&mut self, at: usize, life: Life) {
        let place = &mut self.places[at];
        if place.node.life != life || !place.remaking {
            return;
        }
        let seed = self.rng.next_u64();
        let holding = if place.group == 0 {
            Holding::catalog(self.plan.rules())
        } else {
            Ok(Holding::rows())
        };
        place.node.disk = SimDisk::new(SimDiskOptions::new(seed));
        place.node.shadow = Shadow::default();
        match holding {
            Ok(holding) => place.node.store = holding,
            Err(text) => return self.violate(text),
        }
        if let Err(text) = place.node.initialise(false) {
            return self.violate(format!("p{at}: {text}"));
        }
        place.half_made = false;
        place.remaking = false;
        place.node.life += 1;
        let (host, dbid) = (place.host, place.dbid);
        let how = "it ended in order".to_owned();
        self.at(500, Event::Ended { host, dbid, how, good: true });
    }

    fn stop_process(&mut self, host: usize, dbid: Dbid) {
        let Some(at) = self.place_on(host, dbid) else { return };
        self.note(|| format!("h{host} stops p{at}"));
        if self.places[at].node.process.is_some() {
            self.bring(at, Brought::Member(outrigger_replica::member::In::Close));
        } else if self.places[at].runs() {
            self.places[at].node.disk.kill();
            self.end(at, "signal 15", false);
        }
    }

    pub(super) fn process_ended(&mut self, host: usize, dbid: Dbid, how: String, good: bool) {
        // An agent that starts later finds by itself what runs.
        if self.hosts[host].agent.is_none() || !self.hosts[host].up {
            return;
        }
        if self.hosts[host].paused {
            return self.at(100_000, Event::Ended { host, dbid, how, good });
        }
        if self.place_on(host, dbid).is_some_and(|at| self.places[at].runs()) {
            return;
        }
        if self.plan.bug == Some(Bug::RunAgain)
            && how.starts_with("signal")
            && let Some(order) = self.hosts[host].agent.as_ref().and_then(|agent| {
                agent.memory().orders.get(&dbid).filter(|order| order.wanted.runs()).cloned()
            })
        {
            self.start_process(host, dbid, &order);
            return;
        }
        self.step_agent(host, In::Ended { dbid, how, good });
    }

    // What is asked and answered.

    pub(super) fn send_to_agent(&mut self, at: usize, host: &str, ask: Ask) {
        let now = self.now.0;
        let delay = self.net.delay();
        let life = self.places[at].node.life;
        let Some(seat) = &mut self.places[at].seat else { return };
        let Some(line) = seat.agents.get_mut(host) else { return };
        line.op += 1;
        line.last = line.last.max(now + delay);
        let (conn, op, agent, when) = (line.conn, line.op, line.agent, line.last - now);
        let host = line.host;
        let from = Asker::Coordinator { at, life, conn, op };
        self.at(when, Event::Ask { host, agent, from, ask: Box::new(ask) });
    }

    /// A question reaches an agent; `agent`: which start of it was meant, `u64::MAX` any.
    pub(super) fn ask_agent(&mut self, host: usize, agent: Life, from: Asker, ask: Ask) {
        if self.hosts[host].agent.is_none() || (agent != u64::MAX && self.hosts[host].life != agent)
        {
            return;
        }
        if let Asker::Coordinator { at, .. } = from
            && !self.passes(self.places[at].host, host)
        {
            let micros = self.net.rng.range(10_000..40_000);
            return self.at(micros, Event::Ask { host, agent, from, ask: Box::new(ask) });
        }
        if self.hosts[host].paused {
            return self.hosts[host].inbox.push_back((from, ask));
        }
        self.agent_hears(host, from, ask);
    }

    pub(super) fn agent_hears(&mut self, host: usize, from: Asker, ask: Ask) {
        let this = &mut self.hosts[host];
        this.ops += 1;
        let op = this.ops;
        let (mut epoch, mut ask) = (0, ask);
        if let Ask::Want { coordinator_epoch, .. } = &mut ask {
            epoch = *coordinator_epoch;
            if self.plan.bug == Some(Bug::ObeyLower)
                && let Some(agent) = &this.agent
            {
                *coordinator_epoch = agent.memory().coordinator_epoch.max(epoch);
            }
        }
        this.asked.push((op, from, epoch));
        self.step_agent(host, In::Ask { op, ask });
    }

    fn answer(&mut self, host: usize, op: u64, say: Say) {
        let this = &mut self.hosts[host];
        let Some(found) = this.asked.iter().position(|(known, ..)| *known == op) else { return };
        let (_, asker, epoch) = this.asked.swap_remove(found);
        if matches!(say, Say::Taken { .. }) && epoch > 0 {
            let obeyed = this.obeyed;
            this.obeyed = obeyed.max(epoch);
            if epoch < obeyed {
                self.violate(format!(
                    "the agent of h{host} has obeyed a coordinator of epoch {obeyed}, and obeys one of {epoch}"
                ));
            }
        }
        if let Say::Denied { text } = &say {
            self.note(|| format!("the agent of h{host} refuses: {text}"));
            if text.contains("commands nothing any more") {
                self.counts.count("commands that agents refused");
            }
        }
        let delay = self.net.delay();
        let agent = this_life(&self.hosts[host]);
        self.at(delay, Event::Say { host, agent, to: asker, say: Box::new(say) });
    }

    pub(super) fn agent_says(&mut self, host: usize, agent: Life, to: Asker, say: Say) {
        let Asker::Coordinator { at, life, conn, .. } = to else { return };
        if !self.is_open(at, life) {
            return;
        }
        if !self.passes(host, self.places[at].host) {
            let micros = self.net.rng.range(10_000..40_000);
            return self.at(micros, Event::Say { host, agent, to, say: Box::new(say) });
        }
        let name = self.hosts[host].name.clone();
        let Some(seat) = &self.places[at].seat else { return };
        if seat.agents.get(&name).is_none_or(|line| line.conn != conn) {
            return;
        }
        if let Say::Status { generation, .. } = &say {
            let seen = *generation;
            self.send_to_agent(at, &name, Ask::Watch { seen });
        }
        let said = coordinator::In::AgentSaid { host: name, say };
        self.bring(at, Brought::Seat(Seated::Coordinator(said)));
    }

    /// A coordinator connects to agents it should reach, and learns which connections are gone.
    pub(super) fn look_after_agents(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) {
            return;
        }
        let micros = self.rng.range(REACH_MICROS);
        self.at(micros, Event::Reach { at, life });
        if self.places[at].node.clock.is_paused() {
            return;
        }
        for host in 0..self.hosts.len() {
            let name = self.hosts[host].name.clone();
            let here = self.places[at].host;
            let passes = self.passes(here, host) && self.passes(host, here);
            let alive = self.hosts[host].agent.is_some();
            let agent = self.hosts[host].life;
            let conn = self.name();
            let Some(seat) = &mut self.places[at].seat else { return };
            let wanted = seat.reach.contains(&name);
            let mut told = None;
            match seat.agents.get_mut(&name) {
                Some(line) => {
                    line.blocked = if passes { 0 } else { line.blocked + 1 };
                    if line.agent != agent || !alive || line.blocked > 15 || !wanted {
                        seat.agents.remove(&name);
                        told = Some(false);
                    }
                }
                None if wanted && passes && alive => {
                    let line = AgentLine { conn, host, agent, op: 0, blocked: 0, last: 0 };
                    seat.agents.insert(name.clone(), line);
                    told = Some(true);
                }
                None => {}
            }
            if let Some(here) = told {
                let event = coordinator::In::Agent { host: name.clone(), here };
                self.seat(at, Seated::Coordinator(event));
                if here {
                    self.send_to_agent(at, &name, Ask::Watch { seen: 0 });
                }
            }
        }
    }

    // Votes.

    pub(super) fn ask_voter(&mut self, from: usize, ask: voters::Ask) {
        let life = self.places[from].node.life;
        for micros in self.ways() {
            self.at(micros, Event::Vote { from, life, ask: Box::new(ask.clone()) });
        }
    }

    pub(super) fn vote(&mut self, from: usize, life: Life, ask: &voters::Ask) {
        let host = usize::from(ask.seat.0);
        let here = self.places[from].host;
        if host >= self.hosts.len() || !self.passes(here, host) {
            // Nobody answers: the asker hears that after a while.
            let micros = self.net.rng.range(300_000..1_200_000);
            return self.at(micros, Event::NoVoter { to: from, life, seat: ask.seat });
        }
        if self.hosts[host].paused {
            return self.at(50_000, Event::Vote { from, life, ask: Box::new(ask.clone()) });
        }
        let Some(voter) = self.hosts[host].voter.as_mut() else {
            let delay = self.net.delay();
            return self.at(delay, Event::NoVoter { to: from, life, seat: ask.seat });
        };
        match voter.answer(ask) {
            Ok(say) => {
                if ask.question != voters::Question::Read {
                    self.note(|| format!("h{host} votes: {:?} -> {:?}", ask.question, say.reply));
                }
                for micros in self.ways() {
                    self.at(micros, Event::Voted { to: from, life, say: Box::new(say.clone()) });
                }
            }
            Err(error) => self.violate(format!("the voter of h{host}: {error}")),
        }
    }

    pub(super) fn voted(&mut self, to: usize, life: Life, say: voters::Say) {
        let host = usize::from(say.seat.0);
        if self.is_open(to, life) && self.passes(host, self.places[to].host) {
            self.bring(to, Brought::Seat(Seated::Council(voters::In::Say(say))));
        }
    }

    pub(super) fn no_voter(&mut self, to: usize, life: Life, seat: Seat) {
        if self.is_open(to, life) {
            self.bring(to, Brought::Seat(Seated::Council(voters::In::Unreachable(seat))));
        }
    }

    pub(super) fn agent_resumes(&mut self, host: usize, life: Life) {
        if self.hosts[host].life != life {
            return;
        }
        self.hosts[host].paused = false;
        for (from, ask) in std::mem::take(&mut self.hosts[host].inbox) {
            if self.hosts[host].life == life && !self.hosts[host].paused {
                self.agent_hears(host, from, ask);
            }
        }
    }
}

const fn this_life(host: &Host) -> Life {
    host.life
}
