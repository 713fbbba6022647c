//! The voters as the authority of this process's copy of the catalog (S8).
//!
//! One task steps the council; each voter is asked over a connection of its own to its agent, at the first of its
//! addresses that answers. A seat keeps its place in the list, whatever its addresses are.
//! Guarantees: what the voters recorded is told to the copy and to the coordinator alike. Not here: the
//! protocol (`outrigger_cluster::voters`), the votes themselves (agents).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outrigger_cluster::agent;
use outrigger_cluster::coordinator as machine;
use outrigger_cluster::operator::Answer;
use outrigger_cluster::register::{Proposer, Report};
use outrigger_cluster::voters::{
    Ask, Council, CouncilOptions, Event, In, Out, Say, Seat, VoterList,
};
use outrigger_net::config::{Config, Version};
use outrigger_replica::control::Identity;
use outrigger_replica::rules::Rules;
use outrigger_replica::runtime::{Authority, Told};
use outrigger_wal::{ClusterId, Epoch, Lsn, Micros};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::desk::Heard;
use crate::kv::agents;
use crate::kv::line::Line;

/// How long a voter's answer is waited for, connecting included.
const VOTE_TIME: Duration = Duration::from_millis(1_500);
/// How long a council may rest.
const REST_MICROS: u64 = 500_000;

/// The voters, as the authority of one process. Clones of its `Arc` are the same.
pub(super) struct Voting {
    identity: Identity,
    asked: UnboundedSender<Asked>,
}

enum Asked {
    Attach(Told),
    Council(In),
    Activate {
        force: bool,
        answer: oneshot::Sender<Answer>,
    },
    /// The last activation's asker.
    Voted(Result<Say, Seat>),
}

impl Voting {
    /// An authority whose task runs on this runtime.
    pub(super) fn start(
        identity: Identity,
        voters: Vec<Vec<String>>,
        seed: u128,
        events: UnboundedSender<Heard>,
    ) -> Arc<Self> {
        let list = VoterList { version: 1, addresses: voters };
        let (asked, queue) = unbounded_channel();
        let council = Council::new(
            identity.cluster,
            identity.instance,
            &list,
            CouncilOptions::default(),
            Rules::all(),
            seed,
            Micros(0),
        );
        let seats = list.seats().zip(&list.addresses);
        let lines =
            seats.map(|(seat, at)| (seat, Arc::new(Booth::new(identity.cluster, at.clone()))));
        let session = Session {
            council,
            born: Instant::now(),
            told: None,
            events,
            booths: lines.collect(),
            asked: asked.clone(),
            activations: BTreeMap::new(),
            last_op: AtomicU64::new(0),
        };
        tokio::spawn(session.run(queue));
        Arc::new(Self { identity, asked })
    }

    fn ask(&self, asked: Asked) {
        // Without a task the process is ending.
        drop(self.asked.send(asked));
    }

    /// Makes this process the coordinator.
    pub(super) async fn activate(&self, force: bool) -> Answer {
        let (answer, hear) = oneshot::channel();
        self.ask(Asked::Activate { force, answer });
        let text = "the process is ending".to_owned();
        hear.await.unwrap_or(Answer::Denied { text })
    }

    /// An operator changes the copies of the catalog.
    pub(super) fn place(&self, seen: Version, new: Config) {
        self.ask(Asked::Council(In::Swap { seen, new, by: Proposer::Operator }));
    }
}

impl Authority for Voting {
    fn attach(&self, told: Told) {
        self.ask(Asked::Attach(told));
        self.ask(Asked::Council(In::Read));
    }

    fn read(&self) {
        self.ask(Asked::Council(In::Read));
    }

    fn swap(&self, seen: Version, new: Config) {
        let by = Proposer::Instance(self.identity.instance);
        self.ask(Asked::Council(In::Swap { seen, new, by }));
    }

    fn report(&self, epoch: Epoch, durable: Lsn, _commit: Lsn, _applied: Lsn, _cut: Option<Lsn>) {
        let instance = self.identity.instance;
        let report = Report { instance, epoch: epoch.number, durable };
        self.ask(Asked::Council(In::Report(report)));
    }
}

/// What runs the council.
struct Session {
    council: Council,
    born: Instant,
    told: Option<Told>,
    events: UnboundedSender<Heard>,
    booths: BTreeMap<Seat, Arc<Booth>>,
    asked: UnboundedSender<Asked>,
    activations: BTreeMap<u64, oneshot::Sender<Answer>>,
    last_op: AtomicU64,
}

impl Session {
    async fn run(mut self, mut queue: UnboundedReceiver<Asked>) {
        loop {
            let now = self.now();
            let due = self.council.deadline().map_or(REST_MICROS, |at| at.since(now));
            let event = tokio::select! {
                biased;
                asked = queue.recv() => match asked {
                    Some(asked) => self.event(asked),
                    None => return,
                },
                () = tokio::time::sleep(Duration::from_micros(due.min(REST_MICROS))) => Some(In::Tick),
            };
            let Some(event) = event else { continue };
            let mut out = Vec::new();
            self.council.step(self.now(), event, &mut out);
            for action in out {
                self.perform(action);
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn event(&mut self, asked: Asked) -> Option<In> {
        match asked {
            Asked::Attach(told) => {
                self.told = Some(told);
                None
            }
            Asked::Council(event) => Some(event),
            Asked::Activate { force, answer } => {
                // Relaxed: only this task draws numbers.
                let op = self.last_op.fetch_add(1, Ordering::Relaxed);
                self.activations.insert(op, answer);
                Some(In::Activate { op, force })
            }
            Asked::Voted(Ok(say)) => Some(In::Say(say)),
            Asked::Voted(Err(seat)) => Some(In::Unreachable(seat)),
        }
    }

    fn perform(&mut self, action: Out) {
        match action {
            Out::Ask(ask) => self.vote(ask),
            Out::Recorded { config } => {
                // ORDER: the coordinator hears what its reign rests on before its member can begin it.
                let event = machine::In::Own { config: config.clone() };
                drop(self.events.send(Heard::Machine(event)));
                if let Some(told) = &self.told {
                    let epoch = config.epoch.number;
                    told.recorded(config, epoch);
                }
            }
            Out::Activated { op, text, .. } => self.answer(op, Answer::Done { text }),
            Out::Denied { op, text } => self.answer(op, Answer::Denied { text }),
            Out::Event(event) => self.happened(event),
            _ => {}
        }
    }

    fn answer(&mut self, op: u64, answer: Answer) {
        if let Some(asker) = self.activations.remove(&op) {
            // Who asked may have given up.
            drop(asker.send(answer));
        }
    }

    fn happened(&self, event: Event) {
        match event {
            Event::NotACopy { text } => {
                tracing::error!(%text, "this is no copy of the catalog");
                drop(self.events.send(Heard::NotACopy(text)));
            }
            Event::Alarm { seat, text } => tracing::error!(%seat, %text, "alarm: a voter"),
            Event::NoMajority { answered, voters, .. } => {
                tracing::warn!(answered, voters, "there is no majority of the voters: waiting");
            }
            Event::Deposed { text, .. } => tracing::warn!(%text, "another one coordinates"),
            event => tracing::info!(?event, "voters"),
        }
    }

    fn vote(&self, ask: Ask) {
        let seat = ask.seat;
        let Some(booth) = self.booths.get(&seat).cloned() else { return };
        let asked = self.asked.clone();
        tokio::spawn(async move {
            let said = timeout(VOTE_TIME, booth.ask(&ask)).await;
            if said.is_err() {
                booth.hang_up();
            }
            let said = said.ok().flatten();
            drop(asked.send(Asked::Voted(said.ok_or(seat))));
        });
    }
}

/// The connection to one voter.
struct Booth {
    cluster: ClusterId,
    addresses: Vec<String>,
    line: Mutex<Option<Arc<Line>>>,
    connecting: tokio::sync::Mutex<()>,
}

impl Booth {
    fn new(cluster: ClusterId, addresses: Vec<String>) -> Self {
        Self {
            cluster,
            addresses,
            line: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    async fn ask(&self, ask: &Ask) -> Option<Say> {
        let line = self.line().await?;
        let body = agent::Ask::Vote { body: ask.encode().ok()? }.encode().ok()?;
        let answer = line.ask(body).ok()?.answer().await.ok()?;
        match agent::Say::decode(&answer) {
            Ok(agent::Say::Voted { body }) => Say::decode(&body).ok(),
            Ok(agent::Say::Denied { text }) => {
                tracing::debug!(%text, "an agent does not vote");
                None
            }
            _ => None,
        }
    }

    async fn line(&self) -> Option<Arc<Line>> {
        let _one = self.connecting.lock().await;
        let current = self.line.lock().clone().filter(|line| !line.is_broken());
        if current.is_some() {
            return current;
        }
        let line = Arc::new(agents::open(&self.addresses, self.cluster).await.ok()?);
        *self.line.lock() = Some(Arc::clone(&line));
        Some(line)
    }

    /// A voter did not answer in time: the next question goes over another connection, on whichever network answers.
    fn hang_up(&self) {
        self.line.lock().take();
    }
}
