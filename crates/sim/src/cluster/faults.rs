//! What goes wrong, and the operator who promotes.
//!
//! Not here: bytes that rot (`rot`).

use outrigger_replica::rules::Rule;

use super::Cluster;
use super::node::{State, instance};
use super::queue::Event;
use crate::clock::Pause;
use crate::disk::{FaultRates, Latency};

/// About every so often a fault is drawn.
const TICK_MICROS: std::ops::Range<u64> = 20_000..80_000;

impl Cluster {
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let micros = self.faults.range(TICK_MICROS);
        self.at(micros, Event::Fault);
        let faults = self.plan.faults;
        let node = self.any_node();
        if self.faults.chance(faults.kill) {
            self.kill(node);
        }
        if self.faults.chance(faults.power) {
            // Most of the time where something is on its way to the disk: that is what is torn.
            let busy = |at: &usize| self.nodes[*at].disk.next_due().is_some();
            let writing = (0..self.nodes.len()).find(busy).filter(|_| !busy(&node));
            let careful = self.faults.chance(200);
            self.cut_power(writing.filter(|_| !careful).unwrap_or(node));
        }
        if self.faults.chance(faults.power_all) {
            (0..self.nodes.len()).for_each(|node| self.cut_power(node));
        }
        if self.faults.chance(faults.pause) {
            self.pause(node);
        }
        if self.faults.chance(faults.partition) {
            self.partition();
        }
        if self.faults.chance(faults.cut) {
            self.cut_one();
        }
        if self.faults.chance(faults.stall) {
            self.stall_some();
        }
        if self.faults.chance(faults.disk_error) {
            let rate = u32::try_from(self.faults.range(1..40)).unwrap_or(1);
            let read_per_mille = if self.faults.chance(500) { 0 } else { rate };
            let rates = FaultRates {
                read_per_mille,
                write_per_mille: rate,
                sync_per_mille: rate,
                name_per_mille: rate,
            };
            self.nodes[node].disk.set_faults(rates);
            self.nodes[node].shadow.flaky = true;
        } else if self.faults.chance(100) {
            self.nodes[node].disk.set_faults(FaultRates::default());
        }
        if self.faults.chance(faults.disk_full) {
            let used = self.nodes[node].disk.used_bytes();
            let room = self.faults.range(0..3 << 20);
            self.nodes[node].disk.set_capacity(Some(used + room));
        } else if self.faults.chance(50) {
            self.nodes[node].disk.set_capacity(None);
        }
        if self.faults.chance(faults.disk_slow) {
            let slow = self.faults.range(1_000..60_000);
            let latency =
                Latency { sync_micros: 100..slow, slow_per_mille: 50, ..Latency::default() };
            self.nodes[node].disk.set_latency(latency);
        } else if self.faults.chance(100) {
            self.nodes[node].disk.set_latency(Latency::default());
        }
        if self.faults.chance(faults.clock) {
            let now = self.now;
            let drift = self.faults.range(0..400_000);
            let jump = self.faults.range(0..4_000_000);
            let clock = &mut self.nodes[node].clock;
            clock.set_drift(now, i32::try_from(drift).unwrap_or(0) - 200_000);
            if jump < 2_000_000 {
                clock.jump(now, i64::try_from(jump).unwrap_or(0) - 1_000_000);
            }
        }
        if self.faults.chance(faults.old_config) {
            let past = self.authority.past();
            let newest = past.len().saturating_sub(4);
            let recent = self.faults.chance(700);
            let from = if recent { &past[newest..] } else { past };
            if let Some(old) = self.faults.pick(from).cloned() {
                self.note(|| format!("an old configuration {} for n{node}", old.1.version.0));
                self.send_config(node, Some(old));
            }
        }
        if faults.hand_over > 0 || faults.hold > 0 || faults.give_up > 0 {
            self.manage();
        }
        if self.faults.chance(faults.promote_alive) {
            self.promote();
        }
        if faults.coordinator > 0 {
            self.trouble_coordinator(node);
        }
        if self.faults.chance(faults.flip) {
            self.flip(node);
        }
        if self.faults.chance(faults.rollback) {
            self.snapshot(node);
        }
    }

    /// The disk of a node takes so long from now on.
    pub fn slow_down(&mut self, node: usize, latency: Latency) {
        self.nodes[node].disk.set_latency(latency);
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.faults.below(self.nodes.len() as u64)).unwrap_or(0)
    }

    /// A process dies; the page cache stays.
    pub fn kill(&mut self, node: usize) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.note(|| format!("n{node} is killed"));
        self.stats.kills += 1;
        let report = self.nodes[node].disk.kill();
        self.mix(4, node, report.in_flight);
        self.crash(node, 500..3_000);
    }

    /// A machine loses power.
    pub fn cut_power(&mut self, node: usize) {
        self.note(|| format!("n{node} loses power"));
        self.stats.power_cuts += 1;
        let report = self.nodes[node].disk.power_cut();
        self.mix(5, node, report.pages_lost);
        let notice = if self.faults.chance(500) { 1_000..5_000 } else { 10_000..3_000_000 };
        self.crash(node, notice);
    }

    /// A process ends by itself, or its disk is gone.
    pub(super) fn end_process(&mut self, node: usize) {
        if self.faults.chance(500) {
            self.nodes[node].disk.kill();
        } else {
            self.nodes[node].disk.power_cut();
            self.stats.power_cuts += 1;
        }
        self.crash(node, 500..3_000);
    }

    fn crash(&mut self, node: usize, notice: std::ops::Range<u64>) {
        self.unanswered(node);
        if let Some(process) = self.nodes[node].process.take() {
            let counters = process.member.counters();
            self.stats.promotions += counters.promotions;
            self.stats.restarts += counters.restarts;
            self.stats.truncations += counters.truncations;
            self.stats.refusals += counters.refusals;
        }
        let now = self.now;
        let slot = &mut self.nodes[node];
        slot.life += 1;
        slot.store = slot.store.crash();
        if slot.clock.is_paused() {
            slot.clock.resume(now);
        }
        if slot.state == State::Up {
            slot.state = State::Down;
        }
        for conn in self.net.of(node) {
            let read = self.net.cut(now, conn, notice.clone(), &mut self.queue);
            self.verdict(read);
        }
        self.maybe_roll_back(node);
        if self.faults.chance(self.plan.faults.rot) && !self.healed {
            let slot = u8::try_from(self.faults.below(2)).unwrap_or(0);
            self.rot_control(node, slot);
        }
        if !self.plan_is_scripted() {
            self.restart_later(node);
        }
    }

    pub(super) const fn plan_is_scripted(&self) -> bool {
        self.plan.fault_micros == 0
    }

    /// A node stands still, until it is told to go on.
    pub fn stand_still(&mut self, node: usize) {
        self.nodes[node].clock.pause(self.now, Pause::Process);
    }

    /// It goes on.
    pub fn go_on(&mut self, node: usize) {
        self.resume(node);
    }

    /// A node stands still for a while.
    fn pause(&mut self, node: usize) {
        if self.nodes[node].clock.is_paused() || self.nodes[node].process.is_none() {
            return;
        }
        let now = self.now;
        let kind = if self.faults.chance(500) { Pause::Process } else { Pause::Machine };
        self.stats.pauses += 1;
        self.note(|| format!("n{node} stands still"));
        self.nodes[node].clock.pause(now, kind);
        let micros = self.faults.range(5_000..2_500_000);
        self.at(micros, Event::Resume { node });
    }

    fn partition(&mut self) {
        let from = self.any_node();
        let others = self.nodes.len() as u64;
        let to = (from + 1 + usize::try_from(self.faults.below(others)).unwrap_or(0))
            % (self.nodes.len() + 1);
        let (from, to) = if self.faults.chance(500) { (from, to) } else { (to, from) };
        self.stats.partitions += 1;
        let both = self.faults.chance(500);
        let micros = self.faults.range(20_000..3_000_000);
        self.note(|| format!("nothing passes from n{from} to n{to} ({both}) for {micros}"));
        self.block(from, to);
        self.at(micros, Event::Mend { from, to });
        if both {
            self.block(to, from);
            self.at(micros, Event::Mend { from: to, to: from });
        }
    }

    /// Nothing passes from one node to another; the authority is the node behind the last.
    pub fn block(&mut self, from: usize, to: usize) {
        self.net.blocked.insert((from, to));
    }

    /// It passes again.
    pub fn unblock(&mut self, from: usize, to: usize) {
        self.net.blocked.remove(&(from, to));
    }

    fn cut_one(&mut self) {
        let open = self.net.open();
        if let Some(conn) = self.faults.pick(&open).copied() {
            self.stats.cuts += 1;
            let notice = if self.faults.chance(700) { 0..3_000 } else { 0..1_500_000 };
            self.note(|| format!("connection {conn} is cut"));
            let read = self.net.cut(self.now, conn, notice, &mut self.queue);
            self.verdict(read);
        }
    }

    /// Every connection is cut, and both ends hear it within so many microseconds.
    pub fn cut_all(&mut self, micros: u64) {
        for conn in self.net.open() {
            self.stats.cuts += 1;
            let read = self.net.cut(self.now, conn, 0..micros.max(1), &mut self.queue);
            self.verdict(read);
        }
    }

    /// Some directions of connections are not read for a while, others go on.
    fn stall_some(&mut self) {
        for conn in self.net.open() {
            for side in 0..2 {
                if self.faults.chance(500) {
                    self.stats.stalls += 1;
                    let micros = self.faults.range(5_000..900_000);
                    self.note(|| format!("connection {conn} stalls from side {side} for {micros}"));
                    self.net.stall(conn, side, self.now.plus(micros));
                }
            }
        }
    }

    /// Remembers a disk, to come back with it once; not while another copy is damaged.
    pub fn snapshot(&mut self, node: usize) {
        if self.rolled_back || self.nodes[node].process.is_none() {
            return;
        }
        let seed = self.faults.next_u64();
        let slot = &mut self.nodes[node];
        if slot.snapshot.is_none() {
            let disk = slot.disk.copy(seed);
            let report = disk.power_cut();
            self.mix(6, node, report.in_flight);
            let slot = &mut self.nodes[node];
            slot.snapshot = Some((disk, slot.store.crash(), slot.shadow.clone()));
        }
    }

    /// A disk comes back as it once was, but only where the authority knows of everything it had
    /// promised since: beyond that no rule can help.
    fn maybe_roll_back(&mut self, node: usize) {
        // What no record carries is gone with the coordinator.
        let heard = self.authority.heard(instance(node), self.plan.faults.coordinator == 0);
        let slot = &mut self.nodes[node];
        let durable = slot.shadow.durable;
        let worth = slot.snapshot.as_ref().is_some_and(|(_, _, then)| then.durable < durable);
        let known = heard.epoch >= slot.shadow.epoch && heard.lsn >= durable;
        if !worth || !known || self.rolled_back || self.healed {
            return;
        }
        if let Some((disk, store, mut shadow)) = slot.snapshot.take() {
            shadow.forgiven = durable;
            // What was accepted as lost since then is on the old disk, too.
            shadow.outcast |= slot.shadow.outcast;
            slot.disk = disk;
            slot.store = store;
            slot.shadow = shadow;
            self.rolled_back = true;
            self.stats.rollbacks += 1;
            self.note(|| format!("n{node} comes back with an old disk"));
        }
    }

    /// Promotes a copy of the in-sync set.
    pub fn promote(&mut self) {
        let config = self.authority.config().clone();
        let member = self.plan.rules.hold(Rule::S3Member);
        let candidates: Vec<usize> = (0..self.nodes.len())
            .filter(|node| instance(*node) != config.primary)
            .filter(|node| !member || config.in_sync(instance(*node)))
            .filter(|node| !self.healed || self.nodes[*node].state == State::Up)
            .collect();
        let Some(to) = self.faults.pick(&candidates).copied() else { return };
        self.promote_to(to);
    }

    /// Promotes this copy.
    pub fn promote_to(&mut self, to: usize) {
        let nonce = self.rng.u128();
        if self.coordinator_down {
            return;
        }
        self.note(|| format!("n{to} is to be promoted"));
        let asked = self.authority.promote(instance(to), nonce);
        self.verdict(asked);
        self.served = self.now;
        self.decide_soon();
    }

    /// The operator looks whether the primary serves.
    pub(super) fn operate(&mut self) {
        let micros = self.faults.range(150_000..400_000);
        self.at(micros, Event::Operator);
        if self.healed {
            self.let_all_in();
        }
        let authority = self.nodes.len();
        let primary = self.authority.config().primary;
        let Some(node) = self.nodes.iter().position(|node| node.instance == primary) else {
            return;
        };
        let reached =
            !self.net.is_blocked(node, authority) && !self.net.is_blocked(authority, node);
        let stalled = self.net.is_stalled(node, self.now);
        if stalled && !self.healed && self.faults.chance(self.plan.faults.promote_stalled) {
            self.promote();
        }
        if reached && self.nodes[node].is_serving() {
            self.served = self.now;
            return;
        }
        let patience = if self.healed { 4_000_000 } else { 700_000 };
        if self.now.since(self.served) > patience
            && (self.healed || self.faults.chance(self.plan.promote_per_mille))
        {
            self.promote();
        }
    }

    /// Everything works again: disks, network, clocks; every node is up or coming up.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.note(|| "everything works again".to_owned());
        self.net.blocked.clear();
        self.plan.authority_loss_per_mille = 0;
        self.plan.authority_delay_micros = 200..2_000;
        self.net.weather.slow_per_mille = 0;
        let now = self.now;
        for node in 0..self.nodes.len() {
            let slot = &mut self.nodes[node];
            slot.disk.set_faults(FaultRates::default());
            slot.disk.set_latency(Latency::default());
            slot.disk.set_capacity(None);
            slot.snapshot = None;
            slot.clock.set_drift(now, 0);
            if slot.clock.is_paused() {
                self.resume(node);
            }
            if self.nodes[node].process.is_none() {
                self.nodes[node].starting = false;
                self.restart_later(node);
            }
        }
    }
}
