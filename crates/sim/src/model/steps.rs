//! What may happen next in a state, and how far a model goes.
//!
//! Not here: what follows from it (`world`).

use outrigger_cluster::register::Proposer;
use outrigger_replica::member::{HandOver, In, Role, Timer};
use outrigger_wal::Lsn;

use super::lines::{Conn, End, Item};
use super::node::{instance, node_of};
use super::world::World;

/// How far a model goes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Bounds {
    /// The highest version of the configuration that is recorded.
    pub versions: u64,
    /// Kills and power cuts.
    pub crashes: u8,
    /// Promotions by the coordinator, whatever it knows.
    pub failovers: u8,
    /// Hand-overs asked for.
    pub hand_overs: u8,
    /// Appends.
    pub writes: u8,
    /// Connections cut.
    pub cuts: u8,
    /// Messages of copies that come late, or twice.
    pub lates: u8,
    /// Configurations that come after later ones.
    pub olds: u8,
    /// Reports without another cause.
    pub reports: u8,
    /// New coordinators.
    pub coordinators: u8,
    /// Disks that go back to what they were when the exploration began.
    pub rollbacks: u8,
    /// With a number, what is under way goes on in one order, and so many times something is held up for as long as
    /// one likes. Without, in every order.
    pub holds: Option<u8>,
    /// Control files and cuts take steps of their own, so that a crash can come in between.
    pub slow: bool,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// What is first in a direction of a connection arrives.
    Deliver(usize, usize),
    /// So does it here, and it will come once more.
    Repeat(usize, usize),
    /// A late message comes over the newest connection.
    Late,
    /// A connection breaks; what is on its way in these directions is lost.
    Cut(usize, [bool; 2]),
    /// A dialled line is there.
    Connect(usize),
    /// It cannot be made.
    Unreachable(usize),
    /// The disk is done with what waits longest.
    Disk(usize),
    /// A change reaches the authority.
    Decide(usize),
    /// A report does.
    Report(usize),
    /// A copy hears what is recorded.
    Tell(usize),
    /// A copy hears what was recorded once, from who was the coordinator then.
    TellOld(usize, usize),
    /// The coordinator promotes.
    Promote(usize),
    /// The coordinator asks this copy for a hand-over.
    HandOver(usize),
    /// It hears that an epoch was given up, and records who takes over.
    TakeOver(usize),
    /// A process dies; blocks and control file that were on their way to the disk are kept or not.
    Crash(usize, bool, bool),
    /// It starts.
    Start(usize),
    /// A timer runs out.
    Timer(usize, Timer),
    /// A client appends.
    Write(usize),
    /// Another coordinator.
    Depose,
    /// A disk is what it was.
    RollBack(usize),
    /// A way is held up.
    Hold(u8),
    /// It is not any more.
    Release(u8),
}

/// Directed links: from primary, mirror and coordinator of the first configuration, by bits of `down`.
const fn bit(from: usize, to: usize) -> u8 {
    match (from, to) {
        (0, 1) => 1,
        (1, 0) => 2,
        (0, _) => 4,
        (_, 0) => 8,
        (1, _) => 16,
        _ => 32,
    }
}
const COORDINATOR: usize = 2;

impl World {
    fn passes(&self, from: usize, to: usize) -> bool {
        self.down & bit(from, to) == 0
    }

    /// The way that a step goes: what it waits for when that is held up.
    fn way(&self, step: &Step) -> Option<u8> {
        let from_copy = |node: usize| if node == 0 { 4 } else { 16 };
        match *step {
            Step::Deliver(at, side) => {
                let conn = self.conns.get(at)?;
                Some(bit(conn.ends[side].node, conn.ends[1 - side].node))
            }
            Step::Decide(at) => self.swaps.get(at).map(|(from, _)| from_copy(*from)),
            Step::Report(at) => {
                let report = self.reports.get(at)?;
                node_of(report.instance).map(from_copy)
            }
            Step::TakeOver(at) => self.given_up.get(at).map(|(who, _)| from_copy(*who)),
            Step::Tell(node) => Some(bit(COORDINATOR, node)),
            Step::Connect(node) => Some(bit(node, 1 - node)),
            Step::Disk(node) => Some(if node == 0 { 64 } else { 128 }),
            _ => None,
        }
    }

    /// Everything that may happen.
    pub(super) fn steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        if self.broken.is_some() {
            return;
        }
        self.any_steps(bounds, steps);
        let Some(holds) = bounds.holds else { return };
        let mut goes_on = false;
        let mut ways = 0u8;
        let mut kept = Vec::with_capacity(steps.len());
        for step in steps.drain(..) {
            let Some(way) = self.way(&step) else {
                kept.push(step);
                continue;
            };
            if self.held & way == 0 {
                ways |= way;
                if !std::mem::replace(&mut goes_on, true) {
                    kept.push(step);
                }
            }
        }
        for way in (0..8).map(|at| 1u8 << at) {
            if self.held & way != 0 {
                kept.push(Step::Release(way));
            } else if ways & way != 0 && self.spent.holds < holds {
                kept.push(Step::Hold(way));
            }
        }
        *steps = kept;
    }

    fn any_steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        let spent = self.spent;
        for (at, conn) in self.conns.iter().enumerate() {
            for side in 0..2 {
                let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
                match conn.ways[side].front() {
                    Some(Item::Closed) => steps.push(Step::Deliver(at, side)),
                    Some(Item::Frame(_)) if self.passes(from, to) => {
                        steps.push(Step::Deliver(at, side));
                        if spent.lates < bounds.lates && self.late.is_none() {
                            steps.push(Step::Repeat(at, side));
                        }
                    }
                    _ => {}
                }
            }
            let stuck = !self.passes(0, 1) || !self.passes(1, 0);
            if !conn.cut
                && conn.ends.iter().all(|end| end.open)
                && (spent.cuts < bounds.cuts || stuck)
            {
                let some = [0, 1].map(|side| !conn.ways[side].is_empty());
                for lose in [[false, false], [true, false], [false, true], [true, true]] {
                    if (0..2).all(|side| some[side] || !lose[side]) {
                        steps.push(Step::Cut(at, lose));
                    }
                }
            }
        }
        if self.late.is_some() && spent.lates < bounds.lates {
            steps.push(Step::Late);
        }
        for at in 0..self.swaps.len() {
            if self.config().version.0 < bounds.versions
                && self.passes(self.swaps[at].0, COORDINATOR)
            {
                steps.push(Step::Decide(at));
            }
        }
        for (at, report) in self.reports.iter().enumerate() {
            if node_of(report.instance).is_some_and(|node| self.passes(node, COORDINATOR)) {
                steps.push(Step::Report(at));
            }
        }
        for (at, (who, _)) in self.given_up.iter().enumerate() {
            if self.config().version.0 < bounds.versions && self.passes(*who, COORDINATOR) {
                steps.push(Step::TakeOver(at));
            }
        }
        if spent.coordinators < bounds.coordinators {
            steps.push(Step::Depose);
        }
        for node in 0..2 {
            self.steps_of(node, bounds, steps);
        }
    }

    fn steps_of(&self, node: usize, bounds: &Bounds, steps: &mut Vec<Step>) {
        let spent = self.spent;
        let config = self.config();
        let version = config.version.0;
        let primary = node_of(config.primary);
        if primary != Some(node) && spent.failovers < bounds.failovers && version < bounds.versions
        {
            steps.push(Step::Promote(node));
        }
        let Some(member) = self.member(node) else {
            steps.push(Step::Start(node));
            if spent.rollbacks < bounds.rollbacks && self.may_roll_back(node) {
                steps.push(Step::RollBack(node));
            }
            return;
        };
        if !self.nodes[node].pending.is_empty() {
            steps.push(Step::Disk(node));
        }
        if self.nodes[node].dials.is_some() {
            let other = self.member(1 - node).is_some();
            if other && self.passes(0, 1) && self.passes(1, 0) {
                steps.push(Step::Connect(node));
            }
            if member.tries_a_deposed_copy() {
                steps.push(Step::Unreachable(node));
            }
        }
        if self.passes(COORDINATOR, node) {
            let control = member.control();
            if control.version < config.version
                || member.config().is_none()
                || control.coordinator_epoch < self.desk.coordinator
            {
                steps.push(Step::Tell(node));
            }
            if spent.olds < bounds.olds {
                let past = self.desk.past.len() - 1;
                steps.extend((past.saturating_sub(3)..past).map(|at| Step::TellOld(node, at)));
            }
            if spent.hand_overs < bounds.hand_overs {
                steps.push(Step::HandOver(node));
            }
        }
        if spent.crashes < bounds.crashes {
            let (blocks, slot) = self.nodes[node].unsynced();
            for keep_blocks in [true, false] {
                for keep_slot in [true, false] {
                    if (keep_blocks || blocks) && (keep_slot || slot) {
                        steps.push(Step::Crash(node, keep_blocks, keep_slot));
                    }
                }
            }
        }
        steps.push(Step::Timer(node, Timer::Grace));
        steps.push(Step::Timer(node, Timer::AskAgain));
        if bounds.hand_overs > 0 {
            steps.push(Step::Timer(node, Timer::HandOver));
        }
        if spent.reports < bounds.reports
            && self.desk.register.heard(instance(node)).lsn != member.log().durable()
        {
            steps.push(Step::Timer(node, Timer::Promise));
        }
        if spent.writes < bounds.writes && member.role() == Role::Primary {
            steps.push(Step::Write(node));
        }
    }

    /// A disk that goes back is survived while what it held is known, and held by another copy as well.
    fn may_roll_back(&self, node: usize) -> bool {
        let end = self.nodes[node].durable_end();
        let other = &self.nodes[1 - node];
        let top = self.committed.last().copied().unwrap_or_default();
        self.desk.register.heard(instance(node)).lsn >= end
            && self.config().in_sync(instance(1 - node))
            && other.hash_at(top.0) == Some(top.1)
            && self.snapshot.is_some()
    }

    /// The state after a step; `None` when nothing came of it.
    #[must_use]
    pub(super) fn after(&self, step: Step) -> Option<Self> {
        let mut world = self.clone();
        let sense = world.take(step);
        if !sense {
            return None;
        }
        world.note();
        (world.print != self.print).then_some(world)
    }

    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Deliver(at, side) => self.deliver(at, side, false),
            Step::Repeat(at, side) => self.deliver(at, side, true),
            Step::Late => return self.bring_late(),
            Step::Cut(at, lose) => {
                self.spent.cuts += u8::from(self.down & 3 == 0);
                self.cut(at, lose);
            }
            Step::Connect(node) => return self.connect(node),
            Step::Unreachable(node) => {
                let Some(link) = self.node(node).dials.take() else { return false };
                self.step(node, In::Closed(link));
            }
            Step::Disk(node) => self.sync(node),
            Step::Decide(at) => self.decide(at),
            Step::Report(at) => {
                let report = self.reports.remove(at);
                let desk = std::sync::Arc::make_mut(&mut self.desk);
                return desk.register.report(&report).is_ok();
            }
            Step::Tell(node) => {
                let (coordinator_epoch, config) = (self.desk.coordinator, self.config().clone());
                self.step(node, In::Config { config, coordinator_epoch });
            }
            Step::TellOld(node, at) => {
                self.spent.olds += 1;
                let (coordinator_epoch, config) = self.desk.past[at].clone();
                let before = self.nodes[node].print;
                self.step(node, In::Config { config, coordinator_epoch });
                self.node(node).note();
                return self.nodes[node].print != before;
            }
            Step::Promote(node) => {
                self.spent.failovers += 1;
                let nonce = 0xC0_0000 + u128::from(self.config().version.0);
                let seen = self.config().version;
                let Ok(new) = self.desk.register.promotion(instance(node), nonce) else {
                    return false;
                };
                self.swap(seen, &new, Proposer::Coordinator);
                return self.config().version != seen;
            }
            Step::HandOver(node) => return self.ask_hand_over(node),
            Step::TakeOver(at) => return self.take_over(at),
            Step::Crash(node, blocks, slot) => {
                self.spent.crashes += 1;
                self.crash(node, blocks, slot);
            }
            Step::Start(node) => self.start(node),
            Step::Timer(node, timer) => {
                let Some(member) = self.node(node).member.as_mut() else { return false };
                if !member.run_out(timer) {
                    return false;
                }
                self.spent.reports += u8::from(timer == Timer::Promise);
                self.step(node, In::Kick);
            }
            Step::Write(node) => {
                self.spent.writes += 1;
                let record = [self.spent.writes, u8::try_from(node).unwrap_or(0)];
                let Some(member) = &self.node(node).member else { return false };
                if member.appender().append(&record).is_err() {
                    return false;
                }
                self.step(node, In::Kick);
            }
            Step::Depose => {
                self.spent.coordinators += 1;
                std::sync::Arc::make_mut(&mut self.desk).coordinator += 1;
                // What was said to the one before is lost.
                self.given_up.clear();
            }
            Step::Hold(way) => {
                self.spent.holds += 1;
                self.held |= way;
            }
            Step::Release(way) => self.held &= !way,
            Step::RollBack(node) => {
                self.spent.rollbacks += 1;
                let Some(snapshot) = self.snapshot.clone() else { return false };
                self.node(node).stored = snapshot[node].clone();
            }
        }
        true
    }

    fn bring_late(&mut self) -> bool {
        self.spent.lates += 1;
        let Some(late) = self.late.take() else { return false };
        let found = self.conns.iter().rev().find_map(|conn| {
            let from = conn.ends.iter().any(|end| end.node == late.from);
            let to = conn.ends.iter().find(|end| end.node == late.to && end.open);
            to.copied().filter(|_| from && !conn.cut)
        });
        let Some(end) = found.filter(|_| self.passes(late.from, late.to)) else { return false };
        self.seen.late_words.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.give(end, &late.parcel);
        true
    }

    fn connect(&mut self, node: usize) -> bool {
        let Some(link) = self.node(node).dials.take() else { return false };
        let other = 1 - node;
        let incoming = self.node(other).incoming_link();
        let ends = [(node, link), (other, incoming)];
        self.conns.push(Conn {
            ends: ends.map(|(node, link)| End { node, link, open: true }),
            ways: Default::default(),
            cut: false,
        });
        self.step(node, In::Connected(link));
        true
    }

    fn ask_hand_over(&mut self, node: usize) -> bool {
        self.spent.hand_overs += 1;
        let config = self.config();
        let Some(primary) = node_of(config.primary) else { return false };
        let asked = HandOver {
            to: instance(1 - primary),
            at_most_millis: 1_000,
            epoch: config.epoch,
            version: config.version,
            coordinator_epoch: self.desk.coordinator,
        };
        self.step(node, In::HandOver(asked));
        true
    }

    fn take_over(&mut self, at: usize) -> bool {
        let (_, epoch) = self.given_up.remove(at);
        let config = self.config();
        let seen = config.version;
        let Some(primary) = node_of(config.primary).filter(|_| config.epoch == epoch) else {
            return false;
        };
        let nonce = 0xD0_0000 + u128::from(seen.0);
        let Ok(new) = self.desk.register.hand_over(instance(1 - primary), nonce) else {
            return false;
        };
        self.swap(seen, &new, Proposer::Coordinator);
        self.seen.hand_overs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    fn crash(&mut self, node: usize, blocks: bool, slot: bool) {
        self.node(node).crash(blocks, slot);
        while let Some((at, side)) = self.conns.iter().enumerate().find_map(|(at, conn)| {
            let side = conn.ends.iter().position(|end| end.node == node && end.open);
            side.map(|side| (at, side))
        }) {
            self.end(at, side);
        }
    }

    pub(super) fn start(&mut self, node: usize) {
        let rules = self.rules;
        if let Err(text) = self.node(node).start(rules) {
            self.violate(format!("n{node} cannot start: {text}"));
            return;
        }
        let commit = self.member(node).map_or(Lsn::ZERO, outrigger_replica::member::Member::commit);
        let top = self.committed.last().map_or(Lsn::ZERO, |top| top.0);
        if commit > top {
            self.violate(format!("n{node} starts with {commit} committed, and it is not"));
        }
        self.step(node, In::Kick);
    }

    /// Lets everything happen that is under way, in one order, until nothing is.
    pub(super) fn settle(&mut self) {
        let bounds = Bounds { versions: u64::MAX, ..Bounds::default() };
        for _ in 0..1_000 {
            let mut steps = Vec::new();
            self.steps(&bounds, &mut steps);
            let quiet = |step: &Step| matches!(step, Step::Timer(..) | Step::Unreachable(_));
            let next =
                steps.into_iter().filter(|step| !quiet(step)).find_map(|step| self.after(step));
            match next {
                Some(next) => *self = next,
                None => return,
            }
        }
    }
}
