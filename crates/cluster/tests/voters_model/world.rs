//! The world of the model: three voters, coordinator and standby, and every message ever sent.
//!
//! Shipped: `Voter::step` and `Council::step`, with everything below them. Abstract: the members. A
//! member keeps a set of writes as its log, durable at once. It follows what its council tells it, as
//! `crates/replica/src/member/configured.rs` does (versions and epochs never go back; who waits elects; who follows is
//! promoted; who reigns steps down). A write is acknowledged when it is in the log of the acting one and of every
//! copy that is in sync in the highest version it has seen (S1, S2), or that it has asked for (S4). A copy takes the
//! log of who acts in one step, if it has accepted no higher epoch (S0, S7).
//! A message, once sent, can be delivered at any time and any number of times, or never.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use outrigger_cluster::register::Proposer;
use outrigger_cluster::voters::{
    Ask, Council, CouncilOptions, In, Out, Question, Say, Seat, Voter, VoterList,
};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, Epoch, InstanceId, Micros};

pub(crate) const VOTERS: usize = 3;
const CLUSTER: ClusterId = ClusterId(0xC1);
pub(crate) const NODES: [InstanceId; 2] = [InstanceId(0xC), InstanceId(0x5)];
const NOW: Micros = Micros(0);

/// Something sent, with its hash, by which it is ordered and told from others.
#[derive(Clone, Debug)]
pub(crate) struct Sent<T> {
    hash: u64,
    pub(crate) body: Arc<T>,
}

impl<T: Hash> Sent<T> {
    fn new(body: T) -> Self {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        body.hash(&mut hasher);
        Self { hash: hasher.finish(), body: Arc::new(body) }
    }
}

impl<T> Hash for Sent<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T> PartialEq for Sent<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Sent<T> {}

fn insert<T>(set: &mut Vec<Sent<T>>, one: Sent<T>) {
    if let Err(at) = set.binary_search_by_key(&one.hash, |sent| sent.hash) {
        set.insert(at, one);
    }
}

/// A member, as far as its council and the writes are concerned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Waiting,
    Electing(u128),
    Following,
    Acting(Acting),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Acting {
    pub(crate) config: Arc<Config>,
    /// What the other one holds, as seen in this epoch.
    pub(crate) acked: u8,
    /// S4: the other one is waited for, because it was asked for.
    waits: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    /// `None`: down.
    council: Option<Arc<Council>>,
    pub(crate) phase: Phase,
    /// Writes that it holds durably, a bit each.
    pub(crate) log: u8,
    epoch: u64,
    version: Version,
}

impl Node {
    pub(crate) const fn acting(&self) -> Option<&Acting> {
        match &self.phase {
            Phase::Acting(acting) => Some(acting),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) voters: [Arc<Voter>; VOTERS],
    pub(crate) nodes: [Node; 2],
    pub(crate) asks: Vec<Sent<Ask>>,
    pub(crate) says: Vec<Sent<(usize, Say)>>,
    /// Which nonce each epoch was recorded with.
    pub(crate) reigns: BTreeMap<u64, u128>,
    pub(crate) two_reigns: bool,
    drawn: u8,
    pub(crate) written: u8,
    /// The lowest epoch in which each write was acknowledged; 0: it was not.
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) crashes: u8,
    pub(crate) activations: u8,
    pub(crate) proposals: u8,
}

fn list() -> VoterList {
    VoterList { version: 1, addresses: vec![Vec::new(); VOTERS] }
}

fn first() -> Config {
    let copy = |instance| Copy {
        instance,
        addresses: vec![],
        in_sync: true,
        durable: Promise::NONE,
        held: false,
    };
    Config {
        version: Version(1),
        epoch: Epoch::NONE,
        primary: NODES[0],
        copies: NODES.map(copy).to_vec(),
        rule: Rule::All,
        loss: None,
    }
}

impl World {
    /// The coordinator acts in its first epoch, the standby follows; nothing is on its way but what
    /// comes late.
    pub(crate) fn new(rules: Rules) -> Self {
        let voter = |seat| {
            Arc::new(Voter::create(CLUSTER, list(), Seat(seat), first()).expect("a sound value"))
        };
        let node = || Node {
            council: None,
            phase: Phase::Following,
            log: 0,
            epoch: 0,
            version: Version(1),
        };
        let mut world = Self {
            voters: [voter(0), voter(1), voter(2)],
            nodes: [node(), node()],
            asks: Vec::new(),
            says: Vec::new(),
            reigns: BTreeMap::new(),
            two_reigns: false,
            drawn: 0,
            written: 0,
            acknowledged: vec![0; 8],
            crashes: 0,
            activations: 0,
            proposals: 0,
        };
        world.restart(0, rules);
        while world.nodes[0].acting().is_none() {
            for at in 0..world.asks.len() {
                world.ask(at, rules);
            }
            world.hear_all();
        }
        for at in 0..world.asks.len() {
            world.ask(at, rules);
        }
        world.hear_all();
        world.restart(1, rules);
        world.nodes[1].phase = Phase::Following;
        world.asks.clear();
        world.prune();
        world
    }

    fn hear_all(&mut self) {
        while let Some(say) = self.says.pop() {
            let (node, say) = (*say.body).clone();
            self.council(node, In::Say(say));
        }
    }

    /// The coordinator asked to go on alone, one voter accepted that, the coordinator crashed and is back: so far
    /// with every rule.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn one_voter_holds_a_shrink(rules: Rules) -> Self {
        let mut world = Self::new(Rules::all());
        world.propose(0, false);
        let first = world.asks.iter().position(|ask| ask.body.seat == Seat(0)).expect("an ask");
        world.ask(first, Rules::all());
        world.crash(0);
        world.asks.clear();
        world.restart(0, rules);
        world
    }

    /// The coordinator starts again and has read what the voters hold; then the standby was activated, and goes on
    /// alone: so far with every rule.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn a_start_is_overtaken_by_an_activation(rules: Rules) -> Self {
        let mut world = Self::new(Rules::all());
        world.crash(0);
        world.restart(0, rules);
        let mut turn = 0;
        while !matches!(world.nodes[0].phase, Phase::Electing(_)) {
            world.exchange(turn % world.asks.len(), rules);
            turn += 1;
        }
        let late = std::mem::take(&mut world.asks);
        world.activate(1);
        world.run_alone(rules);
        world.propose(1, false);
        world.proposals = 0;
        world.run_alone(rules);
        for ask in late {
            insert(&mut world.asks, ask);
        }
        world
    }

    /// Delivers everything, once.
    #[cfg(feature = "seeded-bugs")]
    fn run_alone(&mut self, rules: Rules) {
        while !self.asks.is_empty() {
            let ask = self.asks.remove(0);
            let voter = &mut self.voters[usize::from(ask.body.seat.0)];
            let (next, say) = voter.step(&ask.body, rules);
            if let Some(next) = next {
                *voter = Arc::new(next);
            }
            self.council(usize::from(ask.body.from != NODES[0]), In::Say(say));
        }
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        u128::from(self.drawn)
    }

    /// A voter is asked: what it holds then is durable, and its answer is on its way.
    pub(crate) fn ask(&mut self, at: usize, rules: Rules) {
        let ask = Arc::clone(&self.asks[at].body);
        let voter = &mut self.voters[usize::from(ask.seat.0)];
        let (next, say) = voter.step(&ask, rules);
        if let Some(next) = next {
            *voter = Arc::new(next);
        }
        let node = usize::from(ask.from != NODES[0]);
        if self.awaits(node, say.op) {
            insert(&mut self.says, Sent::new((node, say)));
        }
    }

    /// Whether the voter would change, or its answer be waited for.
    pub(crate) fn matters(&self, at: usize, rules: Rules) -> bool {
        let ask = &self.asks[at].body;
        let (next, say) = self.voters[usize::from(ask.seat.0)].step(ask, rules);
        next.is_some() || self.awaits(usize::from(ask.from != NODES[0]), say.op)
    }

    /// A voter is asked, and its answer heard at once.
    pub(crate) fn exchange(&mut self, at: usize, rules: Rules) {
        let before = self.says.clone();
        self.ask(at, rules);
        let fresh = self.says.iter().position(|say| !before.contains(say));
        if let Some(at) = fresh {
            let (node, say) = (*self.says.remove(at).body).clone();
            self.council(node, In::Say(say));
            self.prune();
        }
    }

    pub(crate) fn say(&mut self, at: usize) {
        let (node, say) = (*self.says[at].body).clone();
        self.council(node, In::Say(say));
        self.prune();
    }

    fn awaits(&self, node: usize, op: u64) -> bool {
        self.nodes[node].council.as_ref().is_some_and(|council| council.awaits(op))
    }

    /// What nobody waits for any more counts for nothing (a test of its own shows so).
    fn prune(&mut self) {
        let mut says = std::mem::take(&mut self.says);
        says.retain(|say| self.awaits(say.body.0, say.body.1.op));
        self.says = says;
        let mut asks = std::mem::take(&mut self.asks);
        asks.retain(|ask| {
            ask.body.question != Question::Read
                || self.awaits(usize::from(ask.body.from != NODES[0]), ask.body.op)
        });
        self.asks = asks;
    }

    /// Steps a council; `true` when it did anything.
    fn council(&mut self, node: usize, event: In) -> bool {
        let Some(before) = self.nodes[node].council.clone() else { return false };
        let mut council = Council::clone(&before);
        let mut out = Vec::new();
        council.step(NOW, event, &mut out);
        let changed = council != *before || !out.is_empty();
        self.nodes[node].council = Some(Arc::new(council));
        for out in out {
            match out {
                Out::Ask(ask) => insert(&mut self.asks, Sent::new(ask)),
                Out::Recorded { config, .. } => self.recorded(node, config),
                _ => {}
            }
        }
        changed
    }

    /// The member is told.
    fn recorded(&mut self, at: usize, config: Config) {
        let me = NODES[at];
        let node = &mut self.nodes[at];
        if config.epoch.number < node.epoch
            || (config.version <= node.version && node.phase != Phase::Waiting)
        {
            return;
        }
        node.epoch = config.epoch.number;
        node.version = config.version;
        let mine = config.primary == me;
        let acts = Acting { config: Arc::new(config.clone()), acked: 0, waits: false };
        match &mut node.phase {
            Phase::Waiting if mine => self.elect(at, &config),
            Phase::Electing(nonce) if mine && config.epoch.nonce != *nonce => {
                self.elect(at, &config);
            }
            Phase::Acting(acting) if mine && acting.config.epoch == config.epoch => {
                acting.config = Arc::new(config);
                acting.waits = false;
            }
            _ if mine => {
                let nonce = config.epoch.nonce;
                let known = *self.reigns.entry(config.epoch.number).or_insert(nonce);
                self.two_reigns |= known != nonce;
                self.nodes[at].phase = Phase::Acting(acts);
            }
            _ => node.phase = Phase::Following,
        }
    }

    fn elect(&mut self, at: usize, config: &Config) {
        let nonce = self.draw();
        let epoch = Epoch { number: config.epoch.number + 1, nonce };
        let new = Config { version: config.version.next(), epoch, ..config.clone() };
        self.nodes[at].phase = Phase::Electing(nonce);
        let by = Proposer::Instance(NODES[at]);
        self.council(at, In::Swap { seen: config.version, new, by });
    }

    pub(crate) fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.council = None;
        node.phase = Phase::Waiting;
        self.crashes += 1;
        self.prune();
    }

    pub(crate) fn restart(&mut self, at: usize, rules: Rules) {
        let seed = self.draw() << 72;
        let options = CouncilOptions { back_off_millis: 0, ..CouncilOptions::default() };
        let council = Council::new(CLUSTER, NODES[at], &list(), options, rules, seed, NOW);
        self.nodes[at].council = Some(Arc::new(council));
        self.nodes[at].phase = Phase::Waiting;
        if self.reigns.is_empty() || at == 0 || self.crashes > 0 {
            self.read(at);
        }
    }

    pub(crate) fn read(&mut self, at: usize) -> bool {
        self.council(at, In::Read)
    }

    /// Whoever was overtaken tries again.
    pub(crate) fn tick(&mut self, at: usize) -> bool {
        let changed = self.council(at, In::Tick);
        self.prune();
        changed
    }

    pub(crate) fn activate(&mut self, at: usize) {
        self.activations += 1;
        self.council(at, In::Activate { op: 0, force: false });
        self.prune();
    }

    pub(crate) fn write(&mut self, at: usize) {
        self.nodes[at].log |= 1 << self.written;
        self.written += 1;
    }

    /// The other one takes over the log of who acts: `false` when it refuses.
    pub(crate) fn replicate(&mut self, at: usize) -> bool {
        let log = self.nodes[at].log;
        let Some(acting) = self.nodes[at].acting() else { return false };
        let epoch = acting.config.epoch.number;
        let other = &mut self.nodes[1 - at];
        if other.council.is_none() || other.epoch > epoch {
            return false;
        }
        other.epoch = epoch;
        other.log = log;
        if matches!(other.phase, Phase::Acting(_) | Phase::Electing(_)) {
            other.phase = Phase::Following;
        }
        if let Phase::Acting(acting) = &mut self.nodes[at].phase {
            acting.acked = log;
        }
        true
    }

    /// S1: what is on all of the in-sync set is acknowledged.
    pub(crate) fn commit(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(acting) = node.acting() else { return };
        let waits = acting.waits || acting.config.in_sync(NODES[1 - at]);
        let held = if waits { node.log & acting.acked } else { node.log };
        let epoch = acting.config.epoch.number;
        for write in 0..self.written {
            let at = &mut self.acknowledged[usize::from(write)];
            if held & (1 << write) != 0 && (*at == 0 || *at > epoch) {
                *at = epoch;
            }
        }
    }

    /// S2, S4: asks for the other one to be in sync or not; `false` when that makes no sense.
    pub(crate) fn propose(&mut self, at: usize, in_sync: bool) -> bool {
        let log = self.nodes[at].log;
        let Phase::Acting(acting) = &mut self.nodes[at].phase else { return false };
        let config = Arc::clone(&acting.config);
        let other = NODES[1 - at];
        if in_sync && !config.in_sync(other) {
            if acting.acked != log {
                return false;
            }
            acting.waits = true;
        }
        let mut new = Config { version: config.version.next(), ..(*config).clone() };
        for copy in new.copies.iter_mut().filter(|copy| copy.instance == other) {
            copy.in_sync = in_sync;
        }
        self.proposals += 1;
        let by = Proposer::Instance(NODES[at]);
        self.council(at, In::Swap { seen: config.version, new, by });
        self.prune();
        true
    }

    pub(crate) fn is_up(&self, at: usize) -> bool {
        self.nodes[at].council.is_some()
    }
}
