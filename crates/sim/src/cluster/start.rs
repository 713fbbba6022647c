//! Processes that start, start again, and go on after they stood still.
//!
//! Not here: what opening a log comes to (`node`), what stopped them (`faults`).

use outrigger_replica::member::In;

use super::Cluster;
use super::node::{Opened, State};
use super::queue::Event;

impl Cluster {
    pub(super) fn boot(&mut self, node: usize) {
        self.nodes[node].starting = false;
        if self.nodes[node].state == State::Damaged || self.nodes[node].process.is_some() {
            return;
        }
        if self.faults.chance(self.plan.crash_open_per_mille) && !self.healed {
            let after = self.faults.range(0..60);
            self.nodes[node].disk.crash_after(after);
        }
        let seed = self.rng.next_u64();
        let (now, rules) = (self.now, self.plan.rules);
        self.nodes[node].life += 1;
        let opened = self.nodes[node].open(now, seed, rules);
        if self.nodes[node].disk.is_crashed() {
            self.note(|| format!("n{node} crashes while it opens"));
            self.end_process(node);
            return;
        }
        self.nodes[node].disk.crash_after(u64::MAX / 2);
        match opened {
            Opened::Member(member, torn) => {
                self.stats.torn_tails += u64::from(torn);
                let (end, commit) = (member.log().end(), member.commit());
                self.note(|| format!("n{node} starts: end {end}, commit {commit}"));
                self.mix(2, node, end.0);
                self.nodes[node].start(*member);
                let shadow = &self.nodes[node].shadow;
                let verdict = self.checker.opened(node, commit, shadow);
                self.verdict(verdict);
                self.step(node, In::Kick);
            }
            Opened::Fault(text) => {
                self.note(|| format!("n{node} cannot start: {text}"));
                self.restart_later(node);
            }
            Opened::Damage(text) => {
                self.note(|| format!("n{node} refuses to start: {text}"));
                self.stats.damaged += 1;
                self.nodes[node].state = State::Damaged;
            }
            Opened::Violation(text) => self.violate(format!("node {node}: {text}")),
        }
    }

    /// Starts a node's process later, if that is not on its way.
    pub(super) fn restart_later(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].starting, true) {
            return;
        }
        let quick = self.healed || self.faults.chance(self.plan.quick_restart_per_mille);
        let micros = if quick {
            self.faults.range(2_000..120_000)
        } else {
            self.faults.range(200_000..4_000_000)
        };
        self.at(micros, Event::Boot { node });
    }

    pub(super) fn resume(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].clock.resume(now);
        self.note(|| format!("n{node} goes on"));
        let life = self.nodes[node].life;
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        process.kick_at = None;
        for event in std::mem::take(&mut process.inbox) {
            if self.is_alive(node, life) && !self.nodes[node].clock.is_paused() {
                self.step(node, event);
            }
        }
        if self.is_alive(node, life) {
            self.step(node, In::Kick);
        }
    }
}
