//! A whole run: faults for a while, then everything works again, and catalog and reality must agree.
//!
//! Agreed: one coordinator serves and its standby is in sync; every process runs as the agents were told and they
//! were told what the catalog wants; every content serves, all its copies are in sync, equal, and know the newest
//! configuration; everybody has heard of the coordinator; the state says so; what was acknowledged is there and
//! new writes commit.

use outrigger_cluster::agent::Process;
use outrigger_wal::Micros;

use super::rows::Counts;
use super::{Whole, WholePlan};

/// How long it may take until everything has come together, in simulated microseconds.
const CONVERGE_MICROS: u64 = 90_000_000;
/// How many events one run may take.
const MAX_EVENTS: u64 = 8_000_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct WholeOutcome {
    /// Counted.
    pub counts: Counts,
    /// Equal for two runs of one plan.
    pub trace_hash: u64,
    /// What must not happen and did.
    pub violation: Option<String>,
}

/// Runs a plan to its end; `traced`: printing every event to standard error.
#[must_use]
pub fn run_whole(plan: WholePlan, traced: bool) -> WholeOutcome {
    match Whole::new(plan) {
        Ok(whole) => (if traced { whole.traced() } else { whole }).run(),
        Err(text) => {
            let violation = Some(format!("the cluster cannot be made: {text}"));
            WholeOutcome { counts: Counts::default(), trace_hash: 0, violation }
        }
    }
}

impl Whole {
    /// Runs the plan to its end.
    #[must_use]
    pub fn run(mut self) -> WholeOutcome {
        self.start();
        let until = self.now.plus(self.plan.fault_micros);
        self.run_until(until);
        self.heal();
        self.converge();
        WholeOutcome { trace_hash: self.trace_hash(), counts: self.counts, violation: self.broken }
    }

    fn run_until(&mut self, until: Micros) {
        while self.broken.is_none() && self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, event)) = self.queue.pop() else { return };
            self.now = self.now.max(at);
            self.counts.events += 1;
            self.happen(event);
            if self.counts.events > MAX_EVENTS {
                self.violate("the run does not come to an end: too many events".to_owned());
            }
        }
        self.now = self.now.max(until);
    }

    fn converge(&mut self) {
        if self.lossy {
            // What the catalog does not know it cannot bring together: only that nothing is lost is asked.
            self.counts.count("runs that end with a catalog that lost something");
            let until = self.now.plus(8_000_000);
            return self.run_until(until);
        }
        let began = self.now;
        let deadline = began.plus(CONVERGE_MICROS);
        let before: Vec<u64> = self.groups.iter().map(|group| group.commits).collect();
        while self.broken.is_none() {
            let until = self.now.plus(250_000);
            self.run_until(until);
            let wrote =
                self.data_groups().all(|group| self.groups[group].commits > before[group] + 2);
            if wrote && self.now.since(began) > 1_500_000 {
                self.quiet = true;
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

    fn rest(&self) -> bool {
        self.quiet && self.customers.iter().all(|customer| customer.client.in_flight == 0)
    }

    /// What is not yet as it should be in the end.
    fn apart(&self) -> Option<String> {
        let serving: Vec<usize> = self.groups[0]
            .members
            .iter()
            .filter(|at| {
                let seat = self.places[**at].seat.as_ref();
                seat.is_some_and(|seat| seat.coordinator.serving().is_some())
            })
            .copied()
            .collect();
        let [at] = serving[..] else {
            return Some(format!("{} coordinators serve", serving.len()));
        };
        let coordinator = &self.places[at].seat.as_ref()?.coordinator;
        let epoch = coordinator.serving()?.number;
        (0..self.groups.len())
            .find_map(|group| self.apart_in(group, epoch))
            .or_else(|| self.apart_from_catalog(at, epoch))
    }

    /// What is not as it should be between the copies of one content.
    fn apart_in(&self, group: usize, epoch: u64) -> Option<String> {
        let group = &self.groups[group];
        let content = group.content;
        let Some(config) = group.config.as_ref() else {
            return Some(format!("content {content} was not made"));
        };
        let at = self.place_of(config.primary)?;
        let lead = &self.places[at].node;
        if !lead.is_serving() {
            return Some(format!("the primary p{at} of content {content} does not serve"));
        }
        let member = &lead.process.as_ref()?.member;
        let (end, hash) = (member.log().end(), member.log().hash());
        for at in &group.members {
            let node = &self.places[*at].node;
            let Some(process) = &node.process else { return Some(format!("p{at} is down")) };
            let member = &process.member;
            if !config.in_sync(node.instance) {
                let held = config.held(node.instance);
                return Some(format!("p{at} is not in sync ({:?}, held: {held})", member.role()));
            }
            if node.config().map(|known| known.version) != Some(config.version) {
                return Some(format!("p{at} does not know configuration {}", config.version.0));
            }
            if content.0 >= 0 && member.control().coordinator_epoch != epoch {
                let known = member.control().coordinator_epoch;
                return Some(format!("p{at} knows coordinator's epoch {known}, not {epoch}"));
            }
            if (member.log().end(), member.log().hash()) != (end, hash) {
                return Some(format!("the log of p{at} ends at {}, not {end}", member.log().end()));
            }
            let (commit, applied) = (member.commit(), node.store.applied());
            if commit != end || applied != end {
                return Some(format!("p{at} committed {commit}, applied {applied} of {end}"));
            }
            if !node.store.equals(&lead.store) {
                return Some(format!("the store of p{at} differs"));
            }
        }
        let records = lead.store.records();
        let missing =
            group.checker.acked().iter().find(|(at, digest)| records.get(at) != Some(digest));
        if let Some((at, _)) = missing {
            return Some(format!("the write acknowledged at {at} is not there"));
        }
        if group.checker.top() != end {
            return Some(format!("{end} of content {content} is not committed"));
        }
        let rows = lead.store.as_rows()?.rows();
        (rows.as_ref() != Ok(&group.checker.rows()))
            .then(|| format!("the rows of content {content} are not what took effect"))
    }

    /// What the catalog says and agents do otherwise.
    fn apart_from_catalog(&self, at: usize, epoch: u64) -> Option<String> {
        let state = self.places[at].seat.as_ref()?.coordinator.state();
        if !state.up.is_running() {
            return Some(format!("the cluster is {:?}", state.up));
        }
        if let Some(content) = state.contents.iter().find(|content| content.note != "ok") {
            return Some(format!("content {}: {}", content.content, content.note));
        }
        for instance in &state.instances {
            let (dbid, row) = (instance.dbid, &instance.row);
            if !matches!(instance.process, Some(Process::Running { .. })) {
                return Some(format!("dbid {dbid} is seen as {:?}", instance.process));
            }
            if row.content.0 >= 0 && instance.seen != "up" {
                return Some(format!("dbid {dbid} is seen as {}", instance.seen));
            }
            let host = self.hosts.iter().find(|host| host.name == row.host)?;
            let Some(agent) = &host.agent else { return Some(format!("no agent on {}", row.host)) };
            let memory = agent.memory();
            if memory.coordinator_epoch != epoch {
                let known = memory.coordinator_epoch;
                return Some(format!(
                    "{} knows coordinator's epoch {known}, not {epoch}",
                    row.host
                ));
            }
            let order = memory.orders.get(&dbid)?;
            if !order.wanted.runs() || (row.content.0 >= 0 && order.run != row.run) {
                return Some(format!("dbid {dbid} has order {} ({:?})", order.run, order.wanted));
            }
            if !self.places.iter().any(|place| place.dbid == dbid && place.runs()) {
                return Some(format!("the process of dbid {dbid} does not run"));
            }
        }
        None
    }
}
