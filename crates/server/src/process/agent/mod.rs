//! The agent of a host as a process: its instances are child processes, its memory is a file.
//!
//! One task steps the machine; the network, the threads that wait for processes and the disk put events into its
//! queue. Guarantees: what is told to the machine as saved is durable; instances outlive an agent that is
//! killed, and are found again; SIGTERM and Ctrl-C end the instances in order first.
//! Not here: what is carried out when (`outrigger_cluster::agent`).
//!
//! # Layout
//! - `children`: the processes
//! - `files`: their configurations
//! - `inspecting`: what their control files say
//! - `door`: whoever asks

mod children;
mod door;
mod files;
mod inspecting;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use outrigger_cluster::agent::{Agent, Ask, In, Memory, Out, Say};
use outrigger_cluster::slots::{FileSlots, Kind, Saved};
use outrigger_cluster::voters::{self, Voter, VoterFile};
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::lock::DirLock;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::children::Children;
use self::door::Door;
use super::stop::{Signals, Stop};
use super::{announce, ended, init};
use crate::config::AgentConfig;
use crate::error::{Error, Verdict};

/// A watcher is answered after so long, changed or not.
const WATCH_TIME: Duration = Duration::from_secs(1);

/// What happens to an agent.
pub(super) enum Heard {
    /// For the machine.
    Machine(In),
}

/// Runs an agent until it is told to stop. `leash`: its instances die with it.
///
/// # Errors
/// Why it could not start, or failed.
pub(crate) fn run(config: &AgentConfig, leash: bool) -> Result<Verdict, Error> {
    let runtime = super::runtime()?;
    let _within = runtime.enter();
    let mut signals = Signals::new()?;
    let dir = &config.data_dir;
    init::make(dir)?;
    let _lock = DirLock::acquire(dir)?;
    let failed = |error| Error::Catalog { dir: dir.clone(), error };
    let slots = Box::new(FileSlots::new(dir, "agent"));
    let (saved, body) = Saved::open(slots, Kind::Agent).map_err(failed)?;
    let memory = match body {
        None => Memory::default(),
        Some(body) => Agent::decode(&body).map_err(|cause| {
            failed(outrigger_cluster::Error::Content { place: saved.place(), cause })
        })?,
    };
    let (events, queue) = unbounded_channel();
    let children = Children::new(config, leash, events.clone());
    let slots = Box::new(FileSlots::new(dir, "voter"));
    let voter = match VoterFile::open(slots, Rules::all()) {
        Ok(voter) => Some(voter),
        Err(error) => {
            tracing::info!(%error, "this agent has no vote");
            None
        }
    };
    let machine = Agent::new(memory);
    let mut desk = Desk { machine, saved, children, door: None, dir: dir.clone(), voter };
    runtime.block_on(async {
        let door = Door::open(&config.listen, events).await?;
        announce(door.local_addr());
        desk.door = Some(door);
        desk.begin()?;
        let stop = desk.work(queue, &mut signals).await?;
        desk.children.stop_all(config.stop_timeout_ms).await;
        ended(stop)
    })
}

struct Desk {
    machine: Agent,
    saved: Saved,
    children: Children,
    door: Option<Door>,
    dir: PathBuf,
    voter: Option<VoterFile>,
}

impl Desk {
    fn begin(&mut self) -> Result<(), Error> {
        let memory = self.machine.memory();
        self.children.work_for(memory.cluster);
        let found = self.children.find(&memory.orders);
        let mut out = Vec::new();
        self.machine.begin(&found, &mut out);
        self.perform(out)
    }

    async fn work(
        &mut self,
        mut queue: UnboundedReceiver<Heard>,
        signals: &mut Signals,
    ) -> Result<Stop, Error> {
        let mut told = Instant::now();
        loop {
            let wait = WATCH_TIME.saturating_sub(told.elapsed()).min(self.children.due());
            let mut out = Vec::new();
            tokio::select! {
                biased;
                stop = signals.next() => return Ok(stop),
                heard = queue.recv() => match heard {
                    Some(Heard::Machine(In::Ask { op, ask: Ask::Vote { body } })) => {
                        self.vote(op, &body);
                    }
                    Some(Heard::Machine(In::Ask { op, ask: Ask::MakeVoter { body } })) => {
                        self.make_voter(op, &body);
                    }
                    Some(Heard::Machine(event)) => {
                        let event = self.children.note(event);
                        self.machine.step(event, &mut out);
                    }
                    None => return Ok(Stop::Terminated),
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.children.kill_the_late();
            if told.elapsed() >= WATCH_TIME {
                told = Instant::now();
                self.machine.tell_all(&mut out);
            }
            self.perform(out)?;
        }
    }

    fn perform(&mut self, actions: Vec<Out>) -> Result<(), Error> {
        let mut waiting = std::collections::VecDeque::from(actions);
        while let Some(action) = waiting.pop_front() {
            let mut more = Vec::new();
            match action {
                Out::Save { number, memory } => {
                    self.save(&memory)?;
                    self.machine.step(In::Saved { number }, &mut more);
                }
                Out::Start { dbid, order } => {
                    if let Some(event) = self.children.start(dbid, &order) {
                        self.machine.step(event, &mut more);
                    }
                }
                Out::Stop { dbid } => self.children.stop(dbid),
                Out::Remove { dbid, order } => {
                    let event = self.children.remove(dbid, &order);
                    self.machine.step(event, &mut more);
                }
                Out::Check { op, orders } => {
                    let bad = children::check(&orders);
                    self.machine.step(In::Checked { op, bad }, &mut more);
                }
                Out::Inspect { op, orders } => {
                    let data = inspecting::look(&orders);
                    self.machine.step(In::Inspected { op, data }, &mut more);
                }
                Out::Say { op, say } => {
                    if let Some(door) = &self.door {
                        door.answer(op, &say);
                    }
                }
            }
            waiting.extend(more);
        }
        Ok(())
    }

    fn answer(&self, op: u64, say: &Say) {
        if let Some(door) = &self.door {
            door.answer(op, say);
        }
    }

    /// A candidate asks: what the voter says is durable before it is said.
    fn vote(&mut self, op: u64, body: &[u8]) {
        let say = match (voters::Ask::decode(body), &mut self.voter) {
            (Ok(ask), Some(voter)) => match voter.answer(&ask) {
                Ok(say) => say.encode().map(|body| Say::Voted { body }),
                Err(error) => {
                    tracing::error!(%error, "this agent votes no more: start it again");
                    Ok(Say::Denied { text: error.to_string() })
                }
            },
            (Ok(_), None) => {
                let text =
                    "this agent has no vote: it was never given one, or lost its file".to_owned();
                Ok(Say::Denied { text })
            }
            (Err(error), _) => Ok(Say::Denied { text: error.to_string() }),
        };
        match say {
            Ok(say) => self.answer(op, &say),
            Err(error) => self.answer(op, &Say::Denied { text: error.to_string() }),
        }
    }

    /// A cluster is being made: this agent votes in it.
    fn make_voter(&mut self, op: u64, body: &[u8]) {
        let say = match Voter::decode(body) {
            // An earlier try came that far.
            Ok(_) if self.voter.is_some() => Say::Taken { number: 0 },
            Ok(voter) => {
                let slots = Box::new(FileSlots::new(&self.dir, "voter"));
                match VoterFile::create(slots, voter, Rules::all()) {
                    Ok(file) => {
                        self.voter = Some(file);
                        Say::Taken { number: 0 }
                    }
                    Err(error) => Say::Denied { text: error.to_string() },
                }
            }
            Err(error) => Say::Denied { text: error.to_string() },
        };
        self.answer(op, &say);
    }

    fn save(&mut self, memory: &Memory) -> Result<(), Error> {
        let place = self.saved.place();
        let failed = |error| Error::Catalog { dir: place.clone().into(), error };
        let body = Agent::encode(memory).map_err(|cause| {
            failed(outrigger_cluster::Error::Content { place: place.clone(), cause })
        })?;
        self.children.work_for(memory.cluster);
        self.saved.save(&body).map_err(failed)?;
        self.children.configure(&memory.orders);
        Ok(())
    }
}
