//! A whole run: faults for a while, then everything works again, and all must come together.
//!
//! Converged: the recorded primary serves, all copies that are not damaged are in sync, their logs end at
//! one place with one hash, everything is committed and applied everywhere, the stores are equal and
//! hold what was acknowledged and what took effect, and a new write commits.

use outrigger_wal::{Lsn, Micros};

use super::node::{State, instance};
use super::queue::Event;
use super::{Cluster, Stats};

/// How long it may take until everything has come together, in simulated microseconds.
const CONVERGE_MICROS: u64 = 60_000_000;
/// How many events one run may take.
const MAX_EVENTS: u64 = 5_000_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Counted.
    pub stats: Stats,
    /// Equal for two runs of one plan.
    pub trace_hash: u64,
    /// What must not happen and did.
    pub violation: Option<String>,
}

impl Cluster {
    /// Runs the plan to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.start();
        let until = self.now.plus(self.plan.fault_micros);
        self.run_until(until);
        self.heal();
        self.converge();
        self.finish()
    }

    /// What came of it so far.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                let counters = process.member.counters();
                self.stats.promotions += counters.promotions;
                self.stats.restarts += counters.restarts;
                self.stats.truncations += counters.truncations;
                self.stats.refusals += counters.refusals;
            }
        }
        Outcome { stats: self.stats, trace_hash: self.trace_hash(), violation: self.broken }
    }

    /// Starts every node, the clients, and what else goes on by itself.
    pub fn start(&mut self) {
        for node in 0..self.nodes.len() {
            let micros = self.rng.range(0..50_000);
            self.nodes[node].starting = true;
            self.at(micros, Event::Boot { node });
        }
        self.at(300_000, Event::Repeat);
        if !self.plan_is_scripted() {
            for client in 0..self.clients.len() {
                self.at(10_000, Event::Client { client });
            }
            self.at(200_000, Event::Fault);
            self.at(200_000, Event::Operator);
        }
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: Micros) {
        while self.broken.is_none() && self.queue.next_at().is_some_and(|at| at <= until) {
            if !self.turn() {
                return;
            }
            if self.stats.events > MAX_EVENTS {
                self.violate("the run does not come to an end: too many events".to_owned());
            }
        }
        self.now = self.now.max(until);
    }

    /// Lets so much time pass, in simulated milliseconds.
    pub fn run_millis(&mut self, millis: u64) {
        let until = self.now.plus(millis * 1000);
        self.run_until(until);
    }

    /// Lets time pass until it is true; `false` when it is not within the time.
    pub fn run_while(&mut self, millis: u64, mut wait: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now.plus(millis * 1000);
        while self.broken.is_none() {
            if !wait(self) {
                return true;
            }
            if self.queue.next_at().is_none_or(|at| at > until) || !self.turn() {
                break;
            }
        }
        self.broken.is_none() && !wait(self)
    }

    /// All must come together.
    pub fn converge(&mut self) {
        let deadline = self.now.plus(CONVERGE_MICROS);
        let commits = self.stats.commits;
        let mut clients_until = self.now.plus(1_000_000);
        while self.broken.is_none() {
            let until = self.now.plus(250_000);
            self.run_until(until);
            if self.broken.is_some() || self.is_lost() {
                return;
            }
            let wrote = self.stats.commits > commits || self.plan_is_scripted();
            if wrote && self.now >= clients_until {
                self.clients_rest();
                clients_until = Micros(u64::MAX);
            }
            match self.apart() {
                None if wrote && self.rest() => return,
                why if self.now >= deadline => {
                    let why = why.unwrap_or_else(|| "no new write was committed".to_owned());
                    self.violate(format!("it does not come together: {why}"));
                }
                _ => {}
            }
        }
    }

    fn clients_rest(&mut self) {
        self.plan.think_micros = u64::MAX / 4..u64::MAX / 2;
    }

    fn rest(&self) -> bool {
        self.clients.iter().all(|client| client.in_flight == 0)
    }

    /// Whether every copy that could go on is damaged: then nothing has to come together.
    fn is_lost(&self) -> bool {
        let config = self.authority.config();
        let damaged = |node: usize| {
            self.nodes[node].state == State::Damaged || self.nodes[node].shadow.damage.is_some()
        };
        let rolled = |node: usize| self.nodes[node].shadow.forgiven > Lsn::ZERO;
        (0..self.nodes.len())
            .filter(|node| config.in_sync(instance(*node)))
            .all(|node| damaged(node) || rolled(node))
    }

    /// What is not yet as it should be in the end.
    fn apart(&self) -> Option<String> {
        let config = self.authority.config();
        let primary = self.nodes.iter().position(|node| node.instance == config.primary)?;
        if !self.nodes[primary].is_serving() {
            return Some(format!("the primary n{primary} does not serve"));
        }
        let lead = self.nodes[primary].process.as_ref()?;
        let (end, hash) = (lead.member.log().end(), lead.member.log().hash());
        for (at, node) in self.nodes.iter().enumerate() {
            // A copy that was damaged or rolled back may need what is not here yet: a base backup.
            let rolled = node.shadow.forgiven > Lsn::ZERO && !config.in_sync(node.instance);
            let damaged = node.shadow.damage.is_some() || node.state == State::Damaged;
            // So does one that committed what was accepted as lost.
            let beyond = self.checker.kept().is_some_and(|kept| node.shadow.commit > kept);
            let lost = node.shadow.outcast && beyond && !config.in_sync(node.instance);
            if damaged || rolled || lost {
                continue;
            }
            let Some(process) = &node.process else { return Some(format!("n{at} is down")) };
            let member = &process.member;
            if !config.in_sync(node.instance) {
                return Some(format!("n{at} is not in sync ({:?})", member.role()));
            }
            if node.config().map(|known| known.version) != Some(config.version) {
                return Some(format!("n{at} does not know configuration {}", config.version.0));
            }
            if (member.log().end(), member.log().hash()) != (end, hash) {
                return Some(format!("the log of n{at} ends at {}, not {end}", member.log().end()));
            }
            let (commit, applied) = (member.commit(), node.store.applied());
            if commit != end || applied != end {
                return Some(format!("n{at} committed {commit}, applied {applied} of {end}"));
            }
            let first = &self.nodes[primary].store;
            if node.store.records() != first.records() || node.store.hash() != first.hash() {
                return Some(format!("the store of n{at} differs"));
            }
        }
        let records = self.nodes[primary].store.records();
        let missing =
            self.checker.acked().iter().find(|(at, digest)| records.get(at) != Some(digest));
        if let Some((at, _)) = missing {
            return Some(format!("the write acknowledged at {at} is not there"));
        }
        if self.checker.top() != end {
            return Some(format!("{end} is not committed"));
        }
        let differs = self.nodes[primary].store.rows().as_ref() != Ok(&self.checker.rows());
        differs.then(|| format!("the rows of n{primary} are not what took effect"))
    }
}
