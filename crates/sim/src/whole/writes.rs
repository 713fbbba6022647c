//! What clients do: they write to the acting primaries, and see to what is in doubt, as in `cluster::writes`.
//!
//! Not here: what must hold (the checker).

use bytes::Bytes;
use outrigger_replica::member::{In, Role};
use outrigger_replica::store::kv::Outcome;
use outrigger_wal::Lsn;
use xxhash_rust::xxh3::xxh3_64;

use super::Whole;
use super::event::{Brought, Event};
use crate::cluster::clients::{Client, Request, Write};

/// A client, and the content it writes to.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) client: Client,
    pub(super) group: usize,
}

impl Whole {
    /// A client writes, sees to what is in doubt, or waits.
    pub(super) fn client(&mut self, at: usize) {
        if self.quiet {
            return;
        }
        let think = self.plan.think_micros.clone();
        let group = self.customers[at].group;
        let client = &mut self.customers[at].client;
        let micros = client.rng.range(think);
        let retries = !client.doubts.is_empty() && client.rng.chance(400);
        let free = client.in_flight < 6;
        let doubt = if retries && free { client.doubts.pop_front() } else { None };
        let slot = client.target;
        self.at(micros, Event::Client { client: at });
        if !free {
            return;
        }
        let target = self.groups[group].members[slot];
        let request = match doubt {
            None => self.customers[at].client.request(),
            Some(doubt) => match self.ask_for(at, target, doubt) {
                None => return,
                Some(request) => request,
            },
        };
        if let Err(request) = self.write(at, target, request) {
            let members = self.groups[group].members.len() as u64;
            let client = &mut self.customers[at].client;
            if request.again {
                client.doubts.push_back(request);
            }
            client.target = usize::try_from(client.rng.below(members)).unwrap_or(0);
        }
    }

    /// What is to be done about a write in doubt; `None`: nothing more.
    fn ask_for(&mut self, at: usize, target: usize, doubt: Request) -> Option<Request> {
        let asks = self.customers[at].client.rng.chance(600);
        if asks && self.places[target].node.is_serving() {
            let outcome = self.outcome(target, &doubt);
            let again = self.customers[at].client.rng.chance(150);
            if outcome != Some(Outcome::Unknown) && !again {
                return None;
            }
        }
        let settles = self.customers[at].client.rng.chance(200);
        Some(Request { again: true, settles, ..doubt })
    }

    /// Appends a client's records; gives them back when they are not taken there.
    fn write(&mut self, client: usize, at: usize, request: Request) -> Result<(), Request> {
        if self.places[at].node.clock.is_paused() {
            return Err(request);
        }
        let group = self.places[at].group;
        let Some(process) = self.places[at].node.process.as_mut() else { return Err(request) };
        let bodies = request.bodies();
        let batch: Vec<&[u8]> = bodies.iter().map(Bytes::as_ref).collect();
        let Ok(appended) = process.member.appender().append_batch(&batch) else {
            return Err(request);
        };
        let epoch = process.member.epoch();
        process.writes.push_back(Write {
            client,
            start: appended.start,
            end: appended.end,
            epoch,
            digest: bodies.first().map_or(0, |body| xxh3_64(body)),
            request,
        });
        self.customers[client].client.in_flight += 1;
        let recorded = self.groups[group].config.as_ref();
        if recorded.is_some_and(|config| config.epoch.number > epoch.number) {
            self.counts.row(42);
        }
        self.bring(at, Brought::Member(In::Kick));
        Ok(())
    }

    /// Writes that are committed wait to be applied.
    pub(super) fn settle_writes(&mut self, at: usize) {
        let (group, slot) = (self.places[at].group, self.places[at].slot);
        while let Some(process) = self.places[at].node.process.as_mut() {
            let member = &process.member;
            let reigns = member.role() == Role::Primary;
            let (commit, epoch) = (member.commit(), member.epoch());
            let committed = |write: &Write| reigns && epoch == write.epoch && commit >= write.end;
            if !process.writes.front().is_some_and(committed) {
                return;
            }
            let Some(write) = process.writes.pop_front() else { return };
            self.counts.count("commits");
            self.groups[group].commits += 1;
            let verdict =
                self.groups[group].checker.acknowledged(slot, write.start, write.end, write.digest);
            process.committed.push_back(write);
            self.verdict(group, verdict);
        }
    }

    /// Writes that are committed and applied are answered.
    pub(super) fn answer_writes(&mut self, at: usize) {
        let applied = self.places[at].node.store.applied();
        while let Some(process) = self.places[at].node.process.as_mut() {
            if process.committed.front().is_none_or(|write| write.end > applied) {
                return;
            }
            let Some(Write { client, request, .. }) = process.committed.pop_front() else { return };
            self.customers[client].client.in_flight -= 1;
            let outcome = self.outcome(at, &request);
            let took_effect = matches!(outcome, Some(Outcome::Applied { .. }));
            if outcome == Some(Outcome::Unknown) || !request.again && !took_effect {
                self.violate(format!("p{at} answers {outcome:?} to a write that it committed"));
            }
            if request.again && self.customers[client].client.rng.chance(100) {
                self.customers[client].client.doubts.push_back(request);
            }
        }
    }

    /// What a copy answers about the writes of a request; the last one's outcome.
    fn outcome(&mut self, at: usize, request: &Request) -> Option<Outcome> {
        let (group, slot) = (self.places[at].group, self.places[at].slot);
        let mut last = None;
        for record in &request.records {
            let outcome = self.places[at].node.store.as_rows()?.outcome(record.name);
            let verdict = self.groups[group].checker.answered(slot, record.name, outcome);
            self.verdict(group, verdict);
            last = Some(outcome);
        }
        last
    }

    /// A reign is over: what was not sealed is refused, the rest is in doubt.
    pub(super) fn doubt(&mut self, at: usize, sealed: Lsn) {
        let Some(process) = self.places[at].node.process.as_mut() else { return };
        for write in std::mem::take(&mut process.writes) {
            self.counts.count(if write.start >= sealed {
                "writes refused"
            } else {
                "writes in doubt"
            });
            self.leave_open(write);
        }
    }

    /// A process is gone: nobody is answered any more.
    pub(super) fn unanswered(&mut self, at: usize) {
        self.doubt(at, Lsn(u64::MAX));
        let Some(process) = self.places[at].node.process.as_mut() else { return };
        for write in std::mem::take(&mut process.committed) {
            self.leave_open(write);
        }
    }

    fn leave_open(&mut self, write: Write) {
        let client = &mut self.customers[write.client].client;
        client.in_flight -= 1;
        client.doubts.push_back(Request { again: true, settles: false, ..write.request });
    }
}
