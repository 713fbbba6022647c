//! The operator besides promotions: hands reigns over, holds copies out and lets them in, accepts losses.
//!
//! A hand-over goes to the primary or through the mirror that takes over, is repeated until it is answered, and
//! comes late now and then, when everything has moved on. Not here: what the copies make of it (the shipped
//! member), promotions (`faults`).

use outrigger_net::config::Loss;
use outrigger_replica::member::{HandOver, In};
use outrigger_wal::{Epoch, InstanceId, Lsn};

use super::Cluster;
use super::node::instance;
use super::queue::Event;

/// How often a hand-over that is not answered is asked for again.
const ASKED: u64 = 4;

/// A hand-over that the coordinator waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) epoch: Epoch,
    pub(super) to: InstanceId,
}

impl Cluster {
    /// What an operator does in a tick of faults.
    pub(super) fn manage(&mut self) {
        let faults = self.plan.faults;
        if self.faults.chance(faults.hand_over) {
            self.hand_over_some();
        }
        if self.faults.chance(faults.hold) {
            self.hold_some();
        }
        if self.faults.chance(faults.give_up) {
            self.give_up_some();
        }
    }

    /// A primary that may well live is asked to give up for a copy that is not in sync. Once in a run the loss is
    /// recorded then; else the operator changes its mind.
    fn give_up_some(&mut self) {
        let config = self.authority.config().clone();
        let Some(primary) = self.node_of(config.primary) else { return };
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|node| *node != primary && !config.in_sync(instance(*node)))
            .filter(|node| self.nodes[*node].process.is_some())
            .collect();
        let Some(to) = self.faults.pick(&others).copied() else { return };
        let at_most_millis = self.faults.range(20..500);
        let Some(asked) = self.give_up(to, at_most_millis) else { return };
        if self.stats.losses > 0 || self.faults.chance(100) {
            self.losing = None;
        }
        for longest in [200_000, 200_000, 4_000_000] {
            let micros = self.faults.range(0..longest);
            self.at(micros, Event::GiveUp { node: primary, asked: Box::new(asked) });
        }
    }

    /// Asks the primary to give its reign up for node `to`, whose loss is accepted then; what was asked for.
    pub fn give_up(&mut self, to: usize, at_most_millis: u64) -> Option<HandOver> {
        if self.coordinator_down {
            return None;
        }
        let config = self.authority.config();
        let (epoch, version) = (config.epoch, config.version);
        let at = self.node_of(config.primary)?;
        let (to, coordinator_epoch) = (instance(to), self.authority.epoch());
        self.losing = Some(Wanted { epoch, to });
        let asked = HandOver { to, at_most_millis, epoch, version, coordinator_epoch };
        self.note(|| format!("n{at} is asked to give up: {asked:?}"));
        let micros = self.net.rng.range(self.plan.authority_delay_micros.clone());
        self.at(micros, Event::GiveUp { node: at, asked: Box::new(asked) });
        Some(asked)
    }

    /// An order to give a reign up, however old, reaches a node.
    pub fn ask_give_up(&mut self, node: usize, asked: HandOver) {
        let authority = self.nodes.len();
        if !self.net.is_blocked(authority, node) {
            self.give(node, In::GiveUp(asked));
        }
    }

    fn hand_over_some(&mut self) {
        let config = self.authority.config().clone();
        let mirrors: Vec<usize> = (0..self.nodes.len())
            .filter(|node| instance(*node) != config.primary && config.in_sync(instance(*node)))
            .collect();
        let Some(to) = self.faults.pick(&mirrors).copied() else { return };
        let through_mirror = self.faults.chance(500);
        let at_most_millis = self.faults.range(20..800);
        let Some(primary) = self.node_of(config.primary) else { return };
        let at = if through_mirror { to } else { primary };
        let Some(asked) = self.hand_over(at, to, at_most_millis) else { return };
        // The repeats go on while it is pending, the last one comes when it may be long over.
        for _ in 1..ASKED {
            let micros = self.faults.range(0..at_most_millis * 1000);
            self.at(micros, Event::HandOver { node: at, asked: Box::new(asked) });
        }
        let micros = self.faults.range(0..4_000_000);
        let other = self.faults.chance(300);
        let node = if other { primary } else { at };
        self.at(micros, Event::HandOver { node, asked: Box::new(asked) });
    }

    /// Asks node `at`, the primary or the mirror, for a hand-over to node `to`; what was asked for.
    pub fn hand_over(&mut self, at: usize, to: usize, at_most_millis: u64) -> Option<HandOver> {
        if self.coordinator_down {
            return None;
        }
        let config = self.authority.config();
        let (epoch, version) = (config.epoch, config.version);
        let (to, coordinator_epoch) = (instance(to), self.authority.epoch());
        self.wanted = Some(Wanted { epoch, to });
        self.stats.hand_overs_asked += 1;
        let asked = HandOver { to, at_most_millis, epoch, version, coordinator_epoch };
        self.note(|| format!("n{at} is asked to hand over: {asked:?}"));
        let micros = self.net.rng.range(self.plan.authority_delay_micros.clone());
        self.at(micros, Event::HandOver { node: at, asked: Box::new(asked) });
        Some(asked)
    }

    /// A hand-over, however old, reaches a node.
    pub fn ask_hand_over(&mut self, node: usize, asked: HandOver) {
        let authority = self.nodes.len();
        if !self.net.is_blocked(authority, node) {
            self.give(node, In::HandOver(asked));
        }
    }

    /// A node says that an epoch is given up: whoever was to take over is promoted.
    pub(super) fn gave_up(&mut self, epoch: Epoch) {
        let current = self.authority.config().epoch;
        if let Some(losing) =
            self.losing.take_if(|losing| losing.epoch == epoch && epoch == current)
            && let Some(to) = self.node_of(losing.to)
        {
            return self.accept_loss(to);
        }
        let Some(wanted) = self.wanted.filter(|wanted| wanted.epoch == epoch && epoch == current)
        else {
            return;
        };
        let nonce = self.rng.u128();
        self.wanted = None;
        let asked = self.authority.hand_over(wanted.to, nonce);
        self.verdict(asked);
        self.stats.handed_over += 1;
        self.served = self.now;
        self.decide_soon();
    }

    /// Holds out a copy that nobody waits for, or lets one come back.
    fn hold_some(&mut self) {
        let config = self.authority.config().clone();
        let out: Vec<usize> =
            (0..self.nodes.len()).filter(|node| !config.in_sync(instance(*node))).collect();
        let Some(node) = self.faults.pick(&out).copied() else { return };
        let held = !config.held(instance(node));
        self.hold(node, held);
    }

    /// Holds a copy out, or lets it come back.
    pub fn hold(&mut self, node: usize, held: bool) {
        if self.coordinator_down {
            return;
        }
        self.note(|| format!("n{node} is held out: {held}"));
        self.stats.held += u64::from(held);
        let asked = self.authority.hold(instance(node), held);
        self.verdict(asked);
        self.decide_soon();
    }

    /// Everything works again: whoever is held out comes back.
    pub(super) fn let_all_in(&mut self) {
        let config = self.authority.config().clone();
        for node in (0..self.nodes.len()).filter(|node| config.held(instance(*node))) {
            self.hold(node, false);
        }
    }

    /// An operator accepts that what node `to` does not hold is lost, and makes it primary (S10). From now on only what
    /// it holds counts as committed.
    pub fn accept_loss(&mut self, to: usize) {
        let nonce = self.rng.u128();
        let durable = self.nodes[to].shadow.durable;
        // What is about to be cut off it is not counted: it would end below its floor, and refuse to reign.
        let cut = self.nodes[to].process.as_ref().and_then(|it| it.member.control().truncating);
        let end = cut.map_or(durable, |cut| durable.min(cut.to));
        self.note(|| format!("n{to} is promoted at {end}, the rest is lost"));
        let asked = self.authority.accept_loss(instance(to), nonce, end);
        self.verdict(asked);
        self.served = self.now;
        self.decide_soon();
    }

    /// An accepted loss is recorded.
    pub(super) fn lose(&mut self, loss: Loss) {
        self.stats.losses += 1;
        if let Some(to) = self.node_of(loss.instance) {
            self.checker.accept_loss(loss.end, &self.nodes[to].shadow);
        }
        for node in self.nodes.iter_mut().filter(|node| node.instance != loss.instance) {
            node.shadow.outcast = true;
        }
    }

    /// Whether the log of a node ends where the loss was accepted, or it holds what was lost.
    #[must_use]
    pub fn log_end(&self, node: usize) -> Lsn {
        self.nodes[node].shadow.durable
    }

    /// The node of an instance.
    pub(super) fn node_of(&self, of: InstanceId) -> Option<usize> {
        self.nodes.iter().position(|node| node.instance == of)
    }
}
