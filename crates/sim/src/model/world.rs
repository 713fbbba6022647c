//! The world of the model: two copies, the authority, and what was seen.
//!
//! Not here: what may happen next (`steps`), one copy's disk (`node`), the connections between copies (`lines`).

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outrigger_cluster::register::{Proposer, Register, Report};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_net::message::Session;
use outrigger_replica::member::{Event, In, Member, Out, Role};
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::{FileId, Io, IoDone, OpId};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, Lsn, RunningHash};

use super::lines::{Conn, Item, Late};
use super::node::{NOW, Node, Pending, instance, node_of};

/// Where sessions and epochs' nonces are drawn from.
const SESSIONS: u64 = 0x5E55;

/// What the authority holds.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) register: Register,
    /// What was recorded before, and in which reign of the coordinator.
    pub(super) past: Vec<(u64, Config)>,
    pub(super) coordinator: u64,
}

/// What was done of that which is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Spent {
    pub(super) crashes: u8,
    pub(super) failovers: u8,
    pub(super) hand_overs: u8,
    pub(super) writes: u8,
    pub(super) cuts: u8,
    pub(super) lates: u8,
    pub(super) olds: u8,
    pub(super) reports: u8,
    pub(super) coordinators: u8,
    pub(super) rollbacks: u8,
    pub(super) holds: u8,
}

/// What happened at least once in the whole exploration; not part of a state.
#[derive(Default, Debug)]
pub struct Seen {
    pub(super) promotions: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) truncations: AtomicU64,
    pub(super) regrows: AtomicU64,
    pub(super) hand_overs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) adoptions: AtomicU64,
    pub(super) needs_copy: AtomicU64,
    pub(super) below_floor: AtomicU64,
    pub(super) late_words: AtomicU64,
}

impl Seen {
    /// What was seen, and how often.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 10] {
        [
            ("commits", &self.commits),
            ("failovers served", &self.promotions),
            ("restart epochs served", &self.restarts),
            ("rejoins by truncation", &self.truncations),
            ("tails adopted", &self.adoptions),
            ("regrows", &self.regrows),
            ("hand-overs", &self.hand_overs),
            ("late words", &self.late_words),
            ("refusals for a floor", &self.below_floor),
            ("copies to be made anew", &self.needs_copy),
        ]
        .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A state of the model.
#[derive(Clone)]
pub struct World {
    pub(super) rules: Rules,
    pub(super) slow: bool,
    pub(super) seen: Arc<Seen>,
    pub(super) nodes: [Arc<Node>; 2],
    pub(super) conns: Vec<Conn>,
    pub(super) desk: Arc<Desk>,
    /// Changes that copies asked for and the authority has not heard of.
    pub(super) swaps: Vec<(usize, Arc<(Version, Config)>)>,
    pub(super) reports: Vec<Report>,
    /// Epochs that are said to be given up: by whom, and whether the authority has heard it.
    pub(super) given_up: Vec<(usize, Epoch)>,
    pub(super) late: Option<Late>,
    pub(super) spent: Spent,
    /// Directed links that are down, one bit each; see `steps`.
    pub(super) down: u8,
    /// Ways that are held up, and disks.
    pub(super) held: u8,
    /// Where a rolled back disk goes back to.
    pub(super) snapshot: Option<Arc<[super::node::Stored; 2]>>,
    /// All that is committed: block ends, and the running hash there.
    pub(super) committed: Arc<Vec<(Lsn, RunningHash)>>,
    /// Epochs in which nothing may be served any more.
    pub(super) over: Vec<Epoch>,
    pub(super) broken: Option<String>,
    pub(super) print: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, node) in self.nodes.iter().enumerate() {
            match &node.member {
                Some(member) => write!(
                    f,
                    "n{at} {:?} epoch {} v{} end {} durable {} commit {}{}; ",
                    member.role(),
                    member.epoch().number,
                    member.control().version.0,
                    member.log().end(),
                    member.log().durable(),
                    member.commit(),
                    if member.serving().is_some() { " serving" } else { "" },
                )?,
                None => write!(f, "n{at} down at {}; ", node.durable_end())?,
            }
        }
        let config = self.config();
        let in_sync: Vec<_> = (0..2).filter(|at| config.in_sync(instance(*at))).collect();
        write!(
            f,
            "recorded v{} e{} primary {:?} in sync {in_sync:?}; {} connections, {:?}",
            config.version.0,
            config.epoch.number,
            node_of(config.primary),
            self.conns.len(),
            self.spent
        )?;
        if let Some(text) = &self.broken {
            write!(f, " BROKEN: {text}")?;
        }
        Ok(())
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.print);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl World {
    /// A new content: empty logs, both copies in sync, nobody started.
    #[must_use]
    pub fn cold(rules: Rules, slow: bool, seen: Arc<Seen>) -> Self {
        let copies = (0..2).map(|node| Copy {
            instance: instance(node),
            addresses: Vec::new(),
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
        let mut register = Register::default();
        let created = register.create(config.clone());
        let desk = Desk { register, past: vec![(1, config)], coordinator: 1 };
        let mut world = Self {
            rules,
            slow,
            seen,
            nodes: [0, 1].map(|node| Arc::new(Node::new(node))),
            conns: Vec::new(),
            desk: Arc::new(desk),
            swaps: Vec::new(),
            reports: Vec::new(),
            given_up: Vec::new(),
            late: None,
            spent: Spent::default(),
            down: 0,
            held: 0,
            snapshot: None,
            committed: Arc::new(Vec::new()),
            over: Vec::new(),
            broken: created.err().map(|conflict| conflict.to_string()),
            print: 0,
        };
        world.note();
        world
    }

    /// From here on it is explored: with these links down, and disks that can go back to this moment.
    pub(super) fn begin(&mut self, down: u8, bounds: &super::Bounds) {
        self.down = down;
        self.slow = bounds.slow;
        let stored = [0, 1].map(|node: usize| self.nodes[node].stored.clone());
        self.snapshot = (bounds.rollbacks > 0).then(|| Arc::new(stored));
        self.late = None;
        self.note();
    }

    #[expect(clippy::expect_used, reason = "the register was created with one")]
    pub(super) fn config(&self) -> &Config {
        self.desk.register.config().expect("a configuration")
    }

    pub(super) fn member(&self, node: usize) -> Option<&Member> {
        self.nodes.get(node).and_then(|node| node.member.as_ref())
    }

    pub(super) fn node(&mut self, node: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[node])
    }

    pub(super) fn violate(&mut self, text: impl Into<String>) {
        self.broken.get_or_insert_with(|| text.into());
    }

    /// Brings an event to a copy, and everything that follows from it at once.
    pub(super) fn step(&mut self, node: usize, event: In) {
        let mut events = VecDeque::from([event]);
        let mut out = Vec::new();
        while let Some(event) = events.pop_front() {
            let before = self.commit_of(node);
            let free = matches!(event, In::Connected(_)).then(|| self.free_session());
            let lives = self.nodes[node].lives;
            let Some(member) = self.node(node).member.as_mut() else { return };
            match free {
                Some(free) => member.draw_from(SESSIONS, free),
                None => {
                    let seed = (node as u64 + 1) << 32 | lives;
                    member.draw_from(seed, member.control().version.0 * 64);
                }
            }
            member.step(NOW, event, &mut out);
            member.forget_old_links();
            self.look(node, before);
            for out in out.drain(..) {
                self.carry(node, out, &mut events);
            }
            // A line is dialled again at once: what happens first is for the network to say.
            if events.is_empty()
                && let Some(member) = self.node(node).member.as_mut()
                && member.run_out(outrigger_replica::member::Timer::Redial)
            {
                events.push_back(In::Kick);
            }
        }
    }

    fn commit_of(&self, node: usize) -> Lsn {
        self.member(node).map_or(Lsn::ZERO, Member::commit)
    }

    /// The lowest number that draws a session which nobody knows.
    fn free_session(&self) -> u64 {
        let mut known = Vec::new();
        for node in &self.nodes {
            if let Some(member) = &node.member {
                member.sessions(&mut known);
            }
        }
        for item in self.conns.iter().flat_map(|conn| conn.ways.iter().flatten()) {
            if let Item::Frame(parcel) = item {
                known.push(parcel.envelope.session);
            }
        }
        known.extend(self.late.iter().map(|late| late.parcel.envelope.session));
        let session =
            |drawn| Session(u64::try_from(Member::would_draw(SESSIONS, drawn) >> 64).unwrap_or(1));
        (0..).find(|drawn| !known.contains(&session(*drawn))).unwrap_or(0)
    }

    fn carry(&mut self, node: usize, out: Out, events: &mut VecDeque<In>) {
        match out {
            Out::Io(op, io) => self.disk(node, op, io, events),
            Out::Dial { link, .. } => self.node(node).dials = Some(link),
            Out::Hangup(link) => self.hang_up(node, link),
            Out::Send { link, envelope, message, body } => {
                self.send(node, link, envelope, message, &body);
            }
            Out::ReadConfig | Out::NotHandedOver { .. } => {}
            Out::Swap { seen, new } => {
                if seen == self.config().version
                    && !self.swaps.iter().any(|(from, swap)| *from == node && swap.1 == new)
                {
                    self.swaps.push((node, Arc::new((seen, new))));
                }
            }
            Out::Report { epoch, durable, .. } => {
                let report = Report { instance: instance(node), epoch: epoch.number, durable };
                let mut register = self.desk.register.clone();
                let says = register.report(&report).is_ok() && register != self.desk.register;
                if says && !self.reports.contains(&report) {
                    self.reports.push(report);
                }
            }
            Out::GaveUp { epoch, .. } => {
                if epoch == self.config().epoch && !self.given_up.contains(&(node, epoch)) {
                    self.given_up.push((node, epoch));
                }
                if !self.over.contains(&epoch) {
                    self.over.push(epoch);
                }
            }
            Out::Apply(blocks) => {
                if let Some(last) = blocks.last() {
                    events.push_back(In::Applied(last.end()));
                }
            }
            Out::Reopen { cut, hash } => {
                let pending = Pending::Reopen(cut, hash);
                self.node(node).pending.push_back(pending);
                if !self.slow {
                    self.finish(node, events);
                }
            }
            Out::Event(event) => self.said(node, event),
            Out::Closed => {}
        }
    }

    fn said(&mut self, node: usize, event: Event) {
        match event {
            Event::Serves { epoch } => {
                let member = self.member(node);
                let promoted = member.is_some_and(|member| member.counters().promotions > 0);
                count(if promoted { &self.seen.promotions } else { &self.seen.restarts });
                if self.over.contains(&epoch) {
                    self.violate(format!("n{node} serves in epoch {epoch}, which was given up"));
                }
            }
            Event::Grown { .. } => count(&self.seen.regrows),
            Event::Cut(_) => count(&self.seen.truncations),
            Event::NeedsCopy { .. } => count(&self.seen.needs_copy),
            Event::BelowFloor { .. } => count(&self.seen.below_floor),
            Event::ForeignNonce { ours, theirs } => {
                self.violate(format!("n{node}: two reigns of one number, {ours} and {theirs}"));
            }
            Event::Failed { text } => self.violate(format!("n{node} failed: {text}")),
            _ => {}
        }
    }

    fn disk(&mut self, node: usize, op: OpId, io: Io, events: &mut VecDeque<In>) {
        match io {
            Io::Write { file: FileId::Segment(segment), at, parts, .. } => {
                match Node::blocks_of(segment, at, &parts) {
                    Ok(blocks) => {
                        self.node(node).pending.push_back(Pending::Blocks(op, blocks));
                    }
                    Err(text) => self.violate(text),
                }
            }
            Io::Write { file: FileId::Control(_), parts, .. } => {
                let bytes = parts.into_iter().next().unwrap_or_default();
                if self.slow {
                    self.node(node).pending.push_back(Pending::Slot(op, bytes));
                } else {
                    self.node(node).stored.write_control(bytes);
                    events.push_back(In::Io(op, Ok(IoDone::Done)));
                }
            }
            Io::Read { at, len, .. } => {
                let bytes = self.nodes[node].bytes(at, len);
                events.push_back(In::Io(op, Ok(IoDone::Bytes(bytes))));
            }
            // The next segment is made at once.
            _ => events.push_back(In::Io(op, Ok(IoDone::Done))),
        }
    }

    /// What is on its way to the disk longest is done.
    pub(super) fn sync(&mut self, node: usize) {
        let mut events = VecDeque::new();
        self.finish(node, &mut events);
        for event in events {
            self.step(node, event);
        }
    }

    fn finish(&mut self, node: usize, events: &mut VecDeque<In>) {
        match self.node(node).pending.pop_front() {
            Some(Pending::Blocks(op, blocks)) => {
                self.node(node).stored.blocks.extend(blocks);
                events.push_back(In::Io(op, Ok(IoDone::Done)));
            }
            Some(Pending::Slot(op, bytes)) => {
                self.node(node).stored.write_control(bytes);
                events.push_back(In::Io(op, Ok(IoDone::Done)));
            }
            Some(Pending::Reopen(cut, hash)) => {
                let lost = self.committed.last().filter(|(end, hash)| {
                    cut < *end && self.nodes[node].hash_at(*end) == Some(*hash)
                });
                if lost.is_some() {
                    self.violate(format!("n{node} cuts at {cut} what is committed"));
                }
                match self.node(node).reopen(cut, hash) {
                    Ok(result) => events.push_back(In::Reopened(Box::new(result))),
                    Err(text) => self.violate(text),
                }
            }
            None => {}
        }
    }

    /// Looks at a copy after its step.
    fn look(&mut self, node: usize, before: Lsn) {
        let Some(member) = self.member(node) else { return };
        let (commit, serving, reigns) =
            (member.commit(), member.serving(), member.role() == Role::Primary);
        let (epoch, commits_in) = (member.epoch(), member.commits_in());
        if commit < before {
            self.violate(format!("n{node} moves its commit LSN from {before} back to {commit}"));
        }
        if let Some(epoch) = serving.filter(|epoch| self.over.contains(epoch)) {
            self.violate(format!("n{node} serves in epoch {epoch}, which was given up"));
        }
        let other = self.member(1 - node).and_then(Member::commits_in);
        if commits_in.is_some() && commits_in.map(|at| at.number) == other.map(|at| at.number) {
            self.violate("two primaries act in one epoch");
        }
        if commit > before {
            self.committed_at(node, commit, reigns.then_some(epoch));
        }
    }

    /// A copy holds `commit` for committed: it must be what everybody holds for committed.
    fn committed_at(&mut self, node: usize, commit: Lsn, reigns: Option<Epoch>) {
        let top = self.committed.last().copied().unwrap_or_default();
        if commit <= top.0 {
            let known = self.committed.iter().find(|(end, _)| *end == commit);
            let same = self.nodes[node].hash_at(commit);
            if known.map(|(_, hash)| *hash) != same {
                self.violate(format!("n{node} commits {commit} with another history"));
            }
            return;
        }
        let Some(epoch) = reigns else {
            self.violate(format!("n{node} takes {commit} for committed, and it is not"));
            return;
        };
        if self.nodes[node].hash_at(top.0) != Some(top.1) {
            self.violate(format!(
                "n{node} commits {commit} in epoch {}, and lacks what was acknowledged up to {}",
                epoch.number, top.0
            ));
            return;
        }
        count(&self.seen.commits);
        let blocks = &self.nodes[node].stored.blocks;
        let more = blocks.iter().filter(|block| block.end() > top.0 && block.end() <= commit);
        let more: Vec<_> = more.map(|block| (block.end(), block.hash_after())).collect();
        Arc::make_mut(&mut self.committed).extend(more);
    }

    /// Everything that decides the future, and nothing else.
    pub(super) fn note(&mut self) {
        let mut hasher = DefaultHasher::new();
        for at in 0..2 {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            // Of a node that is shared nothing changed.
            if let Some(node) = Arc::get_mut(node) {
                node.note();
            }
            self.nodes[at].print.hash(&mut hasher);
        }
        for conn in &self.conns {
            for end in &conn.ends {
                let knows = self.member(end.node).map(|member| member.knows(end.link));
                (end.node, end.open, knows.filter(|_| end.open)).hash(&mut hasher);
            }
            for way in &conn.ways {
                for item in way {
                    match item {
                        Item::Frame(parcel) => parcel.print.hash(&mut hasher),
                        Item::Closed => 1u64.hash(&mut hasher),
                    }
                }
                way.len().hash(&mut hasher);
            }
            conn.cut.hash(&mut hasher);
        }
        self.conns.len().hash(&mut hasher);
        (self.config(), self.desk.coordinator).hash(&mut hasher);
        self.desk.register.all_heard().hash(&mut hasher);
        // In whatever order they were asked.
        let mut swaps = 0u64;
        for (from, swap) in &self.swaps {
            let mut one = DefaultHasher::new();
            (from, &swap.1).hash(&mut one);
            swaps = swaps.wrapping_add(one.finish());
        }
        let mut reports = 0u64;
        for report in &self.reports {
            let mut one = DefaultHasher::new();
            report.hash(&mut one);
            reports = reports.wrapping_add(one.finish());
        }
        (swaps, reports, &self.given_up).hash(&mut hasher);
        self.late.as_ref().map(|late| (late.from, late.to, late.parcel.print)).hash(&mut hasher);
        (self.spent, self.down, self.held, &self.over).hash(&mut hasher);
        self.committed.last().map(|(end, hash)| (end, hash.0)).hash(&mut hasher);
        self.broken.is_some().hash(&mut hasher);
        self.print = hasher.finish();
    }

    /// A change that a copy asked for reaches the authority.
    pub(super) fn decide(&mut self, at: usize) {
        let (from, swap) = self.swaps.remove(at);
        self.swap(swap.0, &swap.1, Proposer::Instance(instance(from)));
    }

    pub(super) fn swap(&mut self, seen: Version, new: &Config, proposer: Proposer) {
        let rules = self.rules;
        let desk = Arc::make_mut(&mut self.desk);
        if desk.register.swap(seen, new, proposer, rules).is_err() {
            return;
        }
        let config = desk.register.config().cloned();
        if let Some(config) = config
            && desk.past.last().is_some_and(|(_, last)| last.version < config.version)
        {
            let (version, epoch) = (config.version, config.epoch);
            desk.past.push((desk.coordinator, config));
            // What was asked for on an older version cannot win any more.
            self.swaps.retain(|(_, swap)| swap.0 == version);
            self.given_up.retain(|(_, given)| *given == epoch);
        }
    }
}
