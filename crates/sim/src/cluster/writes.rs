//! What clients do, and what becomes of their writes: committed, applied, answered, in doubt, sent again.
//!
//! A write is answered when the node that committed it has applied it, by what the store says of its
//! name. One whose fate is open is asked for by name, sent again under it, or settled, at whichever node serves
//! then; now and then it comes again although it was answered. Not here: what must hold (the checker).

use bytes::Bytes;
use outrigger_net::config::Loss;
use outrigger_replica::member::{In, Role};
use outrigger_replica::store::kv::Outcome;
use outrigger_wal::Lsn;
use xxhash_rust::xxh3::xxh3_64;

use super::Cluster;
use super::clients::{Request, Write};

impl Cluster {
    /// A client writes, sees to what is in doubt, or waits.
    pub(super) fn client(&mut self, at: usize) {
        let think = self.plan.think_micros.clone();
        let client = &mut self.clients[at];
        let micros = client.rng.range(think);
        let retries = !client.doubts.is_empty() && client.rng.chance(400);
        let free = client.in_flight < 8;
        let doubt = if retries && free { client.doubts.pop_front() } else { None };
        self.at(micros, super::Event::Client { client: at });
        if !free {
            return;
        }
        let request = match doubt {
            None => self.clients[at].request(),
            Some(doubt) => match self.ask_for(at, doubt) {
                None => return,
                Some(request) => request,
            },
        };
        let target = self.clients[at].target;
        if let Err(request) = self.write(at, target, request) {
            if request.again {
                self.clients[at].doubts.push_back(request);
            }
            let nodes = self.nodes.len() as u64;
            let next = self.clients[at].rng.below(nodes);
            self.clients[at].target = usize::try_from(next).unwrap_or(0);
        }
    }

    /// What is to be done about a write in doubt; `None`: nothing more.
    fn ask_for(&mut self, at: usize, doubt: Request) -> Option<Request> {
        let target = self.clients[at].target;
        let asks = self.clients[at].rng.chance(600);
        if asks && self.nodes[target].is_serving() {
            let outcome = self.answer(target, &doubt);
            let again = self.clients[at].rng.chance(150);
            if outcome != Some(Outcome::Unknown) && !again {
                return None;
            }
        }
        let settles = self.clients[at].rng.chance(200);
        Some(Request { again: true, settles, ..doubt })
    }

    /// Appends a client's records at a node; gives them back when they are not taken there.
    pub(super) fn write(
        &mut self,
        client: usize,
        node: usize,
        request: Request,
    ) -> Result<(), Request> {
        if self.nodes[node].clock.is_paused() {
            return Err(request);
        }
        let Some(process) = self.nodes[node].process.as_mut() else { return Err(request) };
        let bodies = request.bodies();
        let batch: Vec<&[u8]> = bodies.iter().map(Bytes::as_ref).collect();
        let Ok(appended) = process.member.appender().append_batch(&batch) else {
            return Err(request);
        };
        self.stats.settled += u64::from(request.settles);
        self.stats.resent += u64::from(request.again && !request.settles);
        process.writes.push_back(Write {
            client,
            start: appended.start,
            end: appended.end,
            epoch: process.member.epoch(),
            digest: bodies.first().map_or(0, |body| xxh3_64(body)),
            request,
        });
        self.clients[client].in_flight += 1;
        self.give(node, In::Kick);
        Ok(())
    }

    /// Writes that are committed wait to be applied.
    pub(super) fn settle_writes(&mut self, node: usize) {
        while let Some(process) = self.nodes[node].process.as_mut() {
            let member = &process.member;
            let reigns = member.role() == Role::Primary;
            let (commit, epoch) = (member.commit(), member.epoch());
            let committed = |write: &Write| reigns && epoch == write.epoch && commit >= write.end;
            if !process.writes.front().is_some_and(committed) {
                return;
            }
            let Some(write) = process.writes.pop_front() else { return };
            self.stats.commits += 1;
            let verdict = self.checker.acknowledged(node, write.start, write.end, write.digest);
            process.committed.push_back(write);
            self.verdict(verdict);
        }
    }

    /// Writes that are committed and applied are answered.
    pub(super) fn answer_writes(&mut self, node: usize) {
        let applied = self.nodes[node].store.applied();
        while let Some(process) = self.nodes[node].process.as_mut() {
            if process.committed.front().is_none_or(|write| write.end > applied) {
                return;
            }
            let Some(write) = process.committed.pop_front() else { return };
            let accepted = self.authority.config().loss;
            let lost = |loss: Loss| write.epoch.number < loss.epoch && write.end > loss.end;
            let is_lost = accepted.is_some_and(lost);
            let Write { client, request, .. } = write;
            self.clients[client].in_flight -= 1;
            // It was committed before the reign was given up, and is among what was accepted as lost since.
            if is_lost {
                continue;
            }
            let outcome = self.answer(node, &request);
            let took_effect = matches!(outcome, Some(Outcome::Applied { .. }));
            // One that was not sent before has an effect; every other one is decided by now.
            if outcome == Some(Outcome::Unknown) || !request.again && !took_effect {
                self.violate(format!(
                    "node {node} answers {outcome:?} to {:?}, which it committed (sent before: {}, settles: {})",
                    request.records.last().map(|record| record.name),
                    request.again,
                    request.settles
                ));
            }
            let late = request.again && self.clients[client].rng.chance(100);
            if late {
                self.clients[client].doubts.push_back(request);
            }
        }
    }

    /// What a node answers about the writes of a request; the last one's outcome.
    fn answer(&mut self, node: usize, request: &Request) -> Option<Outcome> {
        let mut last = None;
        for record in &request.records {
            let outcome = self.nodes[node].store.outcome(record.name);
            let verdict = self.checker.answered(node, record.name, outcome);
            self.verdict(verdict);
            last = Some(outcome);
        }
        last
    }

    /// A reign is over: what was not sealed is refused, the rest is in doubt.
    pub(super) fn doubt(&mut self, node: usize, sealed: Lsn) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        for write in std::mem::take(&mut process.writes) {
            if write.start >= sealed {
                self.stats.refused += 1;
            } else {
                self.stats.in_doubt += 1;
            }
            self.leave_open(write);
        }
    }

    /// A process is gone: nobody is answered any more.
    pub(super) fn unanswered(&mut self, node: usize) {
        self.doubt(node, Lsn(u64::MAX));
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        for write in std::mem::take(&mut process.committed) {
            self.leave_open(write);
        }
    }

    fn leave_open(&mut self, write: Write) {
        let client = &mut self.clients[write.client];
        client.in_flight -= 1;
        client.doubts.push_back(Request { again: true, settles: false, ..write.request });
    }
}
