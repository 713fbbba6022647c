//! Where a coordinator's step function works: its queue, and whoever carries out what it asks for.
//!
//! Guarantees: events are taken in the order in which they come; nothing here waits for the disk or the network.
//! As long as its own copy of the catalog does not reign, it answers one question only: to become the
//! coordinator. Not here: decisions (cluster).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outrigger_cluster::catalog::Catalog;
use outrigger_cluster::coordinator::{Coordinator, Event as Happened, Identity as Whose, In, Out};
use outrigger_cluster::operator::{Answer, Request};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role};
use outrigger_net::transport::ConnectionId;
use outrigger_replica::member::LinkId;
use outrigger_replica::runtime::{Replica, Status, StreamStatus, Streaming, Visitor, Visits};
use outrigger_wal::Micros;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::agents::Agents;
use super::carrying::Carrying;
use super::voting::Voting;
use crate::kv::places::Board;
use crate::process::pinging::Pinging;
use crate::process::places;

/// It looks after itself so often, at least.
const LOOK_MICROS: u64 = 250_000;

/// What the machine's queue holds.
pub(super) enum Heard {
    /// For the machine.
    Machine(In),
    /// A message of a visitor.
    Message(Visitor, Envelope, Message),
    /// A visitor is gone.
    Left(ConnectionId),
    /// The voters say that this process has nothing to coordinate, and what to do.
    NotACopy(String),
    /// An activation came to its end: who asked, and the answer.
    Activated(Visitor, Envelope, u64, Answer),
}

/// Puts what the network brings into the queue.
pub(super) struct Door {
    pub(super) events: UnboundedSender<Heard>,
}

impl Visits for Door {
    fn message(&self, visitor: &Visitor, envelope: Envelope, message: Message) {
        // Without a queue the process is ending.
        drop(self.events.send(Heard::Message(visitor.clone(), envelope, message)));
    }

    fn left(&self, visitor: ConnectionId) {
        drop(self.events.send(Heard::Left(visitor)));
    }
}

/// Steps the machine, and carries out what it asks for.
pub(super) struct Desk {
    pub(super) machine: Coordinator,
    pub(super) replica: Replica,
    pub(super) born: Instant,
    pub(super) visitors: BTreeMap<LinkId, Visitor>,
    /// Who was greeted while this process did not coordinate.
    pub(super) waiting: BTreeSet<LinkId>,
    pub(super) events: UnboundedSender<Heard>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) whose: Whose,
    /// Where the router reads the places of the contents.
    pub(super) board: Board,
    pub(super) voting: Option<Arc<Voting>>,
    pub(super) agents: Agents,
    pub(super) carrying: Carrying,
    pub(super) pinging: Pinging,
}

impl Desk {
    /// Works until the replica has failed, or there is nothing to coordinate; returns why.
    pub(super) async fn work(&mut self, mut queue: UnboundedReceiver<Heard>) -> String {
        loop {
            let now = self.now();
            let due = self.machine.deadline().map_or(LOOK_MICROS, |at| at.since(now));
            let event = tokio::select! {
                biased;
                heard = queue.recv() => heard,
                () = tokio::time::sleep(Duration::from_micros(due.min(LOOK_MICROS))) => {
                    let status = self.replica.status();
                    if let Some(why) = status.failed {
                        return why;
                    }
                    self.tell_figures(&status);
                    Some(Heard::Machine(In::Tick))
                }
            };
            match event {
                Some(Heard::NotACopy(why)) => return why,
                Some(event) => self.step(event),
                None => return "its queue is gone".to_owned(),
            }
        }
    }

    /// How far the copies of the catalog are.
    fn tell_figures(&mut self, status: &Status) {
        let Status { durable, commit, applied, .. } = *status;
        let instance = self.whose.instance;
        self.take(In::Figures { instance, here: true, durable, commit, applied });
        for stream in self.replica.streams() {
            let StreamStatus { copy: instance, streaming, durable, applied, .. } = stream;
            let here = matches!(streaming, Streaming::Catchup | Streaming::InSync);
            let commit = durable.min(commit);
            self.take(In::Figures { instance, here, durable, commit, applied });
        }
    }

    fn now(&self) -> Micros {
        Micros(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn step(&mut self, heard: Heard) {
        match heard {
            Heard::Machine(event) => self.take(event),
            Heard::Message(visitor, envelope, message) => {
                let link = LinkId(visitor.id().0);
                let passive = self.voting.is_some() && self.machine.serving().is_none();
                if (passive || self.waiting.contains(&link))
                    && self.at_the_door(link, &visitor, &envelope, &message)
                {
                    return;
                }
                self.visitors.entry(link).or_insert(visitor);
                self.take(In::Frame { link, envelope, message });
            }
            Heard::Left(id) => {
                let link = LinkId(id.0);
                self.visitors.remove(&link);
                self.waiting.remove(&link);
                self.take(In::Closed(link));
            }
            Heard::Activated(visitor, envelope, op, answer) => {
                let body = answer.encode().unwrap_or_default();
                visitor.send(&envelope, &Message::Response { op, body });
            }
            Heard::NotACopy(_) => {}
        }
    }

    /// An administrator at a process that does not coordinate: `true` when that was answered here.
    fn at_the_door(
        &mut self,
        link: LinkId,
        visitor: &Visitor,
        envelope: &Envelope,
        message: &Message,
    ) -> bool {
        match message {
            Message::Hello { role: Role::Operator, .. } => {
                self.waiting.insert(link);
                let welcome = Message::Welcome {
                    from: self.whose.instance,
                    protocol: 1,
                    abilities: Abilities::OURS,
                    history: History::default(),
                };
                visitor.send(envelope, &welcome);
                true
            }
            Message::Keepalive if self.waiting.contains(&link) => true,
            Message::Request { op, body } if self.waiting.contains(&link) => {
                self.asked_at_the_door(visitor, envelope, *op, body);
                true
            }
            _ => false,
        }
    }

    fn asked_at_the_door(&self, visitor: &Visitor, envelope: &Envelope, op: u64, body: &Bytes) {
        let (Ok(Request::Activate { force }), Some(voting)) =
            (Request::decode(body), self.voting.clone())
        else {
            let text = "this process is no coordinator now: ask the one that is".to_owned();
            visitor.send(envelope, &Message::Refuse { reason: Reason::NotReady, text });
            visitor.hang_up();
            return;
        };
        let (visitor, envelope, events) = (visitor.clone(), *envelope, self.events.clone());
        tokio::spawn(async move {
            let answer = voting.activate(force).await;
            drop(events.send(Heard::Activated(visitor, envelope, op, answer)));
        });
    }

    fn take(&mut self, event: In) {
        let mut out = Vec::new();
        self.machine.step(self.now(), event, &mut out);
        for action in out {
            self.perform(action);
        }
        let serving = self.machine.serving().is_some();
        if !serving {
            self.agents.forget_all();
            self.carrying.end();
        }
        self.board.tell(places::look(&self.catalog, self.whose, serving));
    }

    fn perform(&mut self, action: Out) {
        match action {
            Out::Send { link, envelope, message } => {
                if let Some(visitor) = self.visitors.get(&link) {
                    visitor.send(&envelope, &message);
                }
            }
            Out::Hangup(link) => {
                if let Some(visitor) = self.visitors.get(&link) {
                    visitor.hang_up();
                }
            }
            Out::Event(event) => log(&event),
            Out::SwapOwn { seen, new } => {
                if let Some(voting) = &self.voting {
                    voting.place(seen, new);
                }
            }
            Out::Reach { agents } => self.agents.reach(agents),
            Out::Agent { host, ask } => self.agents.ask(&host, &ask),
            Out::Carry { id, content, ask } => {
                let places = self.board.now();
                self.carrying.carry(&places, self.events.clone(), (id, content, ask));
            }
            Out::Ping { address, ping } => {
                let addresses = self.catalog.read(|state| {
                    let row = state.contents.get(&ping.content)?;
                    let config = row.register.config()?;
                    config.copy(ping.to).map(|copy| copy.addresses.clone())
                });
                self.pinging.ask(addresses.unwrap_or_else(|| vec![address]), &ping);
            }
            Out::Append { ticket, record } => {
                let events = self.events.clone();
                match self.replica.append(&record) {
                    Ok(pending) => {
                        let replica = self.replica.clone();
                        tokio::spawn(async move {
                            // In doubt: the machine hears of the reign's end.
                            let end = pending.end();
                            if pending.committed().await.is_committed()
                                && replica.applied(end).await.is_ok()
                            {
                                drop(events.send(Heard::Machine(In::Applied)));
                            }
                        });
                    }
                    Err(error) => {
                        let text = error.to_string();
                        drop(events.send(Heard::Machine(In::NotAppended { ticket, text })));
                    }
                }
            }
        }
    }
}

fn log(event: &Happened) {
    match event {
        Happened::Alarm { text } => tracing::error!(%text, "alarm"),
        Happened::Refused { text } => tracing::info!(%text, "refused"),
        Happened::Recorded { content, version, epoch, primary } => {
            tracing::info!(%content, version = version.0, %epoch, %primary, "recorded");
        }
        event => tracing::info!(?event, "coordinator"),
    }
}
