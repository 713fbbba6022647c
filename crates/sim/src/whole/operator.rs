//! What an administrator does: makes the cluster, brings back what failed, rebalances, stops hosts, activates the
//! standby, and asks what makes no sense.
//!
//! It speaks to whichever coordinator serves, as an operator; the two commands that go elsewhere are
//! `activate-standby` (to the council in the standby's process) and the start of a coordinator (to its agent).
//! Not here: what comes of it.

use std::collections::BTreeMap;

use outrigger_cluster::agent::Ask as AgentAsk;
use outrigger_cluster::catalog::tables::{Dbid, Host, Instance, Preferred, Up, Wanted};
use outrigger_cluster::coordinator::{self, CATALOG};
use outrigger_cluster::operator::{Answer, Founding, Loss, RecoverMode, Request};
use outrigger_cluster::voters::{self, Outcome};
use outrigger_net::config::Version;
use outrigger_net::message::{Abilities, Envelope, History, Message, Role, Session};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, Epoch, InstanceId, LogId, Lsn, Micros};

use super::Whole;
use super::event::{Asker, Brought, Event, Seated};
use super::world::{CLUSTER, CONTENTS, SEGMENT_BYTES};
use crate::cluster::queue::Life;

/// What was asked of a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Other,
    Promote,
    Nonsense,
    StopHost,
}

/// An administrator.
#[derive(Debug, Default)]
pub(super) struct Operator {
    visit: Option<(usize, Life, LinkId, Session)>,
    op: u64,
    asked: BTreeMap<u64, Asked>,
    /// Since when no coordinator serves.
    absent: Option<Micros>,
    /// When it last brought copies back.
    brought: Micros,
}

impl Whole {
    pub(super) fn operate(&mut self) {
        let micros = self.faults.range(150_000..450_000);
        self.at(micros, Event::Operator);
        let Some(at) = self.coordinator() else {
            let since = *self.operator.absent.get_or_insert(self.now);
            let patience =
                if self.healed { 2_000_000 } else { self.faults.range(500_000..4_000_000) };
            if self.now.since(since) > patience {
                self.find_a_coordinator(self.now.since(since));
            }
            return;
        };
        self.operator.absent = None;
        let Some(copy) = self.places[at].node.store.as_catalog() else { return };
        let up = copy.catalog.read(|state| state.up.clone());
        match up {
            Up::Founding => return self.found(),
            Up::Stopped | Up::ShutDown { .. } => self.ask(&Request::Start, Asked::Other),
            Up::Running => {}
        }
        for standby in self.groups[0].members.clone() {
            if !self.places[standby].runs() && (self.healed || self.faults.chance(250)) {
                self.run_catalog(standby);
            }
        }
        let due = self.now.since(self.operator.brought) > 1_500_000;
        if (self.healed && due) || self.faults.chance(150) {
            self.operator.brought = self.now;
            let contents = Vec::new();
            let mode = match self.faults.below(10) {
                0 if !self.healed => RecoverMode::Full,
                1 if !self.healed => RecoverMode::Differential,
                _ => RecoverMode::Auto,
            };
            let request = Request::BringBack { contents, mode, max_rate_bytes: 0 };
            self.ask(&request, Asked::Other);
        }
        if !self.healed {
            self.meddle();
        }
    }

    /// What it does besides repairing.
    fn meddle(&mut self) {
        let faults = self.plan.faults;
        if self.faults.chance(faults.meddle) {
            self.ask(&Request::Rebalance, Asked::Other);
        }
        if self.faults.chance(faults.meddle) {
            let content = ContentId(i32::from(self.faults.chance(500)));
            let request = Request::Promote { content, loss: Loss::None };
            self.ask(&request, Asked::Promote);
            if self.faults.chance(300) {
                // Two of them, at once.
                self.ask(&request, Asked::Promote);
            }
        }
        if self.faults.chance(faults.meddle / 2) {
            let host = self.faults.below(self.hosts.len() as u64);
            let host = Some(format!("h{host}"));
            self.ask(&Request::Stop { host }, Asked::StopHost);
        }
        if self.faults.chance(faults.meddle / 2) {
            let request = self.nonsense();
            self.ask(&request, Asked::Nonsense);
        }
        if self.faults.chance(faults.activate) {
            self.activate_some(false);
        }
        if self.faults.chance(faults.lose) && !self.lossy {
            self.promote_with_loss();
        }
    }

    /// A content whose primary is away goes on with what its other copy holds, whatever that lacks (S10). That the old
    /// primary is fenced is said only where its process has ended.
    fn promote_with_loss(&mut self) {
        let content = ContentId(i32::from(self.faults.chance(500)));
        let Some(group) = self.groups.iter().find(|group| group.content == content) else { return };
        let Some(config) = &group.config else { return };
        let mut members = group.members.iter();
        let Some(old) = members.find(|at| self.places[**at].node.instance == config.primary) else {
            return;
        };
        let loss = if self.places[*old].runs() { Loss::Accepted } else { Loss::AcceptedAndFenced };
        self.ask(&Request::Promote { content, loss }, Asked::Promote);
    }

    /// A loss was accepted: from now on only what that copy holds counts as committed.
    pub(super) fn loss_is_accepted(&mut self, group: usize, loss: outrigger_net::config::Loss) {
        self.counts.count("losses accepted");
        let members = self.groups[group].members.clone();
        for at in members {
            if self.places[at].node.instance == loss.instance {
                let shadow = &self.places[at].node.shadow;
                self.groups[group].checker.accept_loss(loss.end, shadow);
            } else {
                self.places[at].node.shadow.outcast = true;
            }
        }
    }

    /// Something that must be refused.
    fn nonsense(&mut self) -> Request {
        match self.faults.below(5) {
            0 => Request::Promote { content: CATALOG, loss: Loss::None },
            1 => {
                // A second copy on a host that has one.
                let mut row = self.row(2);
                row.instance = InstanceId(u128::from(self.faults.next_u64()) + 1_000);
                row.data_dir = "/elsewhere".to_owned();
                Request::AddCopies { hosts: Vec::new(), rows: vec![(Dbid(99), row)] }
            }
            2 => Request::Set { key: "fts_probe_intervall_ms".to_owned(), value: 1 },
            3 => {
                // Another cluster, where there is one.
                let mut founding = self.founding();
                founding.rows.truncate(3);
                Request::Found(founding)
            }
            _ => Request::DropCopies { dbids: vec![Dbid(77)] },
        }
    }

    fn row(&self, at: usize) -> Instance {
        let place = &self.places[at];
        let data = place.group > 0;
        Instance {
            content: place.node.identity.content,
            instance: place.node.instance,
            preferred: if place.slot == 0 { Preferred::Primary } else { Preferred::Mirror },
            host: self.hosts[place.host].name.clone(),
            addresses: vec![place.address.clone()],
            data_dir: format!("/data/{}", place.dbid),
            wanted: if data { Wanted::New } else { Wanted::Up },
            run: 1,
            max_rate_bytes: 0,
        }
    }

    fn founding(&self) -> Founding {
        let hosts = self.hosts.iter().map(|host| Host {
            name: host.name.clone(),
            addresses: vec![host.name.clone()],
            agent: vec![host.agent_address()],
            rack: None,
            storage: None,
        });
        let rows = (0..self.places.len()).map(|at| (self.places[at].dbid, self.row(at)));
        let rejoin = self.plan.auto_rejoin_millis;
        let settings = rejoin.map(|millis| ("auto_rejoin_ms".to_owned(), millis));
        Founding {
            hosts: hosts.collect(),
            rows: rows.collect(),
            segment_bytes: SEGMENT_BYTES,
            settings: settings.into_iter().collect(),
        }
    }

    fn found(&mut self) {
        let founding = self.founding();
        self.ask(&Request::Found(founding), Asked::Other);
    }

    /// Nobody coordinates: it is started again, or another one is activated.
    fn find_a_coordinator(&mut self, absent: u64) {
        for at in self.groups[0].members.clone() {
            if !self.places[at].runs() && (self.healed || self.faults.chance(500)) {
                self.run_catalog(at);
            }
        }
        let patient = absent < 8_000_000;
        if (self.healed && !patient) || (!self.healed && self.faults.chance(350)) {
            self.activate_some(self.healed);
        }
    }

    /// Has the agent start a copy of the catalog.
    pub(super) fn run_catalog(&mut self, at: usize) {
        let (host, dbid) = (self.places[at].host, self.places[at].dbid);
        if self.hosts[host].agent.is_some() && !self.hosts[host].paused {
            let ask = Box::new(AgentAsk::Run { dbid, up: true });
            let from = Asker::Nobody;
            self.at(1_000, Event::Ask { host, agent: u64::MAX, from, ask });
        }
    }

    /// `activate-standby`, on the host of a copy of the catalog that does not serve.
    fn activate_some(&mut self, any: bool) {
        let candidates: Vec<usize> = self.groups[0]
            .members
            .iter()
            .filter(|at| {
                let seat = self.places[**at].seat.as_ref();
                seat.is_some_and(|seat| seat.coordinator.serving().is_none())
            })
            .filter(|at| any || !self.is_recorded_coordinator(**at))
            .copied()
            .collect();
        let Some(at) = self.faults.pick(&candidates).copied() else { return };
        self.note(|| format!("p{at} is to be activated"));
        self.counts.count("activations asked for");
        self.activate(at, false);
    }

    fn is_recorded_coordinator(&self, at: usize) -> bool {
        let config = self.groups[0].config.as_ref();
        config.is_some_and(|config| config.primary == self.places[at].node.instance)
    }

    fn activate(&mut self, at: usize, force: bool) {
        let op = self.name();
        let activate = voters::In::Activate { op, force };
        self.bring(at, Brought::Seat(Seated::Council(activate)));
    }

    /// An activation was refused. Where the coordinator is gone it may be forced.
    pub(super) fn not_activated(&mut self, at: usize, text: &str) {
        self.counts.count("activations refused");
        let behind = text.contains("in sync");
        if behind {
            self.counts.row(54);
        }
        let others = self.groups[0].members.iter().filter(|other| **other != at);
        let gone = others.clone().all(|other| !self.places[*other].runs());
        if behind && gone && !self.healed && self.faults.chance(self.plan.faults.force) {
            self.note(|| format!("p{at} is to be activated by force"));
            self.activate(at, true);
        }
    }

    /// An activation is recorded; what it lacks is lost, if it was forced (S8).
    pub(super) fn activated(&mut self, at: usize, outcome: Outcome) {
        self.counts.count("activations");
        if !outcome.is_forced() {
            return;
        }
        self.counts.count("activations by force");
        if let Some(seat) = &mut self.places[at].seat {
            seat.forced = true;
        }
        if self.faults.chance(500) && !self.healed {
            // It may die before it has recorded anything.
            self.counts.count("coordinators that die right behind their activation by force");
            let (life, micros) = (self.places[at].node.life, self.faults.range(0..20_000));
            self.at(micros, Event::Kill { at, life, row: None });
        }
        let end = self.shadow(at).durable;
        let top = self.groups[0].checker.top();
        if end >= top && outcome.answered * 2 > outcome.voters {
            return;
        }
        self.note(|| format!("p{at} has {end} of {top}: the rest of the catalog is lost"));
        self.counts.count("catalogs that lost something");
        self.lossy = true;
        let shadow = &self.places[at].node.shadow;
        self.groups[0].checker.accept_loss(end, shadow);
        self.catalog_top = self.catalog_top.min(end).max(Lsn::ZERO);
        for other in self.groups[0].members.clone() {
            if other != at {
                self.places[other].node.shadow.outcast = true;
            }
        }
    }

    /// Asks the coordinator that serves.
    fn ask(&mut self, request: &Request, kind: Asked) {
        let Some(at) = self.coordinator() else { return };
        let life = self.places[at].node.life;
        let body = match request.encode() {
            Ok(body) => body,
            Err(error) => return self.violate(error.to_string()),
        };
        let known = self.operator.visit.filter(|(there, then, ..)| (*there, *then) == (at, life));
        let (link, session) = match known {
            Some((_, _, link, session)) => (link, session),
            None => {
                let link = LinkId((1 << 30) + self.name());
                let session = Session(self.rng.next_u64());
                self.operator.visit = Some((at, life, link, session));
                let hello = Message::Hello {
                    role: Role::Operator,
                    from: InstanceId::default(),
                    to: InstanceId::default(),
                    log: LogId::default(),
                    abilities: Abilities::OURS,
                    history: History::default(),
                };
                self.say_to_coordinator(at, link, session, hello);
                (link, session)
            }
        };
        self.operator.op += 1;
        let op = self.operator.op;
        self.operator.asked.insert(op, kind);
        self.say_to_coordinator(at, link, session, Message::Request { op, body });
    }

    fn say_to_coordinator(&mut self, at: usize, link: LinkId, session: Session, message: Message) {
        let envelope = Envelope {
            cluster: CLUSTER,
            content: CATALOG,
            epoch: Epoch::NONE,
            coordinator_epoch: 0,
            version: Version(0),
            session,
        };
        let frame = coordinator::In::Frame { link, envelope, message };
        self.seat(at, Seated::Coordinator(frame));
    }

    pub(super) fn operator_hung_up(&mut self, link: LinkId) {
        if self.operator.visit.is_some_and(|(_, _, known, _)| known == link) {
            self.operator.visit = None;
        }
    }

    /// What a coordinator answers.
    pub(super) fn operator_hears(&mut self, message: Message) {
        let Message::Response { op, body } = message else { return };
        let Some(kind) = self.operator.asked.remove(&op) else { return };
        let answer = match Answer::decode(&body) {
            Ok(answer) => answer,
            Err(error) => return self.violate(format!("an answer cannot be read: {error}")),
        };
        self.note(|| format!("the operator hears: {answer:?}"));
        match (kind, answer) {
            (Asked::Nonsense, Answer::Denied { .. }) => self.counts.row(59),
            (Asked::Nonsense, Answer::Done { text }) => {
                self.violate(format!("a request without sense is carried out: {text}"));
            }
            (Asked::Promote, Answer::Denied { text }) => {
                if text.contains("without a loss") {
                    self.counts.row(45);
                } else if text.contains("changed meanwhile") {
                    self.counts.row(44);
                }
            }
            (Asked::Promote, Answer::Promoted { .. }) => {
                self.counts.count("promotions by an operator");
            }
            (Asked::StopHost, Answer::Done { .. }) => self.counts.row(58),
            _ => {}
        }
    }

    /// The contents that hold rows.
    pub(super) fn data_groups(&self) -> std::ops::RangeInclusive<usize> {
        1..=CONTENTS.min(self.groups.len() - 1)
    }
}
