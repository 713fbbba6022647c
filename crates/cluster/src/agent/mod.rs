//! The agent of a host, as a step function: it starts, stops and watches the host's instances as it was
//! told, and remembers that across its own restarts.
//!
//! Whoever commands sends the whole list of what is wanted ([`Order`]), any number of times; each order has
//! a number (`run`) that is carried out once. So a resent or late command is harmless, and an instance that
//! ends by itself stays down until a higher number comes.
//!
//! Guarantees: commands of a coordinator's lower epoch are refused, the highest is durable before an answer (S0);
//! an order is durable before it is carried out; two processes never run in one data directory by its doing.
//! Not here: processes, files (the driver), votes ([`crate::voters`]), what is wanted (the coordinator).
//!
//! # Layout
//! - [`message`]: what is asked and answered
//! - `codec`: both as bytes, and what is remembered

mod codec;
pub mod message;

use std::collections::BTreeMap;

use outrigger_wal::ClusterId;

pub(crate) use codec::{put_process, take_process};
pub use message::{Accepted, Ask, Data, Holding, Kept, Order, Process, Say, Seen};

use crate::catalog::tables::{Dbid, Wanted};

/// What an agent must not forget.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Memory {
    /// The cluster that it works for; nil before it was claimed.
    pub cluster: ClusterId,
    /// The name of its host.
    pub host: String,
    /// The highest epoch of a coordinator that it has heard (S0).
    pub coordinator_epoch: u64,
    /// What is wanted of each of its instances.
    pub orders: BTreeMap<Dbid, Order>,
    /// The order that was carried out last, by number.
    pub done: BTreeMap<Dbid, u64>,
    /// What a coordinator has left here against the loss of its catalog.
    pub kept: Kept,
}

/// What an agent is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum In {
    /// Somebody asks.
    Ask {
        /// Names the answer.
        op: u64,
        /// What.
        ask: Ask,
    },
    /// What was to be saved is durable.
    Saved {
        /// The number of the save.
        number: u64,
    },
    /// A process runs: it was started.
    Runs {
        /// Which instance's.
        dbid: Dbid,
        /// Its number.
        pid: u32,
    },
    /// A process ended, or could not be started.
    Ended {
        /// Which instance's.
        dbid: Dbid,
        /// How, in words.
        how: String,
        /// Whether it had come to its end in order.
        good: bool,
    },
    /// A rebuild goes on.
    Rebuilding {
        /// Which instance's.
        dbid: Dbid,
        /// Bytes done.
        done_bytes: u64,
        /// Of so many.
        total_bytes: u64,
    },
    /// A data directory was removed.
    Removed {
        /// Which instance's.
        dbid: Dbid,
    },
    /// The data directories were looked at.
    Checked {
        /// Who asked.
        op: u64,
        /// Which are bad, and why.
        bad: Vec<(Dbid, String)>,
    },
    /// The data directories were looked into.
    Inspected {
        /// Who asked.
        op: u64,
        /// What is in each.
        data: Vec<(Dbid, Data)>,
    },
}

/// What an agent asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// Save what must not be forgotten, durably; answered by [`In::Saved`].
    Save {
        /// Counts the saves.
        number: u64,
        /// What.
        memory: Memory,
    },
    /// Start this instance's process: [`In::Runs`], then [`In::Ended`].
    Start {
        /// Which.
        dbid: Dbid,
        /// How: `wanted` says whether its directory is made first, or made anew from its primary.
        order: Order,
    },
    /// End a process in order (SIGTERM); [`In::Ended`] follows.
    Stop {
        /// Which instance's.
        dbid: Dbid,
    },
    /// Remove a data directory: [`In::Removed`].
    Remove {
        /// Which instance's.
        dbid: Dbid,
        /// Where it is.
        order: Order,
    },
    /// Look at these data directories: [`In::Checked`].
    Check {
        /// Who asks.
        op: u64,
        /// Whose.
        orders: Vec<(Dbid, Order)>,
    },
    /// Read the control files in these data directories: [`In::Inspected`].
    Inspect {
        /// Who asks.
        op: u64,
        /// Whose.
        orders: Vec<(Dbid, Order)>,
    },
    /// Answer.
    Say {
        /// The question's name.
        op: u64,
        /// What.
        say: Say,
    },
}

/// What runs of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Local {
    process: Process,
    /// Something was asked of the driver and has not been answered.
    busy: bool,
    /// It was told to end.
    stopping: bool,
}

/// A host's agent. See the module's documentation.
#[derive(Debug, Default)]
pub struct Agent {
    memory: Memory,
    local: BTreeMap<Dbid, Local>,
    /// Counts changes of what is seen, so that a watcher can ask for the next.
    generation: u64,
    saves: u64,
    saved: u64,
    /// Answers that wait for a save.
    owed: Vec<(u64, u64, Say)>,
    /// Who waits for something to change: (question, generation seen).
    watching: Vec<(u64, u64)>,
}

impl Agent {
    /// An agent that remembers this.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self { memory, generation: 1, ..Self::default() }
    }

    /// What it remembers.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What it must not forget, as bytes.
    ///
    /// # Errors
    /// When there is more of something than fits.
    pub fn encode(memory: &Memory) -> Result<bytes::Bytes, crate::CodecError> {
        codec::encode_memory(memory)
    }

    /// What these bytes say.
    ///
    /// # Errors
    /// When they are none of ours.
    pub fn decode(bytes: &[u8]) -> Result<Memory, crate::CodecError> {
        codec::decode_memory(bytes)
    }

    /// Begins, with the processes of its instances that were found running. One that should run and was not
    /// found has ended while nobody watched, and stays down.
    pub fn begin(&mut self, found: &[(Dbid, u32)], out: &mut Vec<Out>) {
        for (dbid, order) in &self.memory.orders {
            let local = self.local.entry(*dbid).or_default();
            let running = found.iter().find(|(running, _)| running == dbid);
            let carried_out = self.memory.done.get(dbid) == Some(&order.run);
            if let Some((_, pid)) = running {
                local.process = Process::Running { pid: *pid };
            } else if carried_out && order.wanted.runs() {
                let how = "it was not running when its agent started".to_owned();
                local.process = Process::Ended { how };
            } else if carried_out && order.wanted == Wanted::Gone {
                // It may have been killed before the data was removed, and nobody was told.
                self.memory.done.remove(dbid);
            }
        }
        self.settle(out);
    }

    /// Takes one event, and asks for whatever follows from it.
    pub fn step(&mut self, event: In, out: &mut Vec<Out>) {
        match event {
            In::Ask { op, ask } => self.asked(op, ask, out),
            In::Saved { number } => self.saved = self.saved.max(number),
            In::Runs { dbid, pid } => {
                let local = self.local.entry(dbid).or_default();
                local.busy = false;
                self.see(dbid, Process::Running { pid });
            }
            In::Ended { dbid, how, good } => self.ended(dbid, how, good),
            In::Rebuilding { dbid, done_bytes, total_bytes } => {
                self.see(dbid, Process::Rebuilding { done_bytes, total_bytes });
            }
            In::Removed { dbid } => {
                if let Some(local) = self.local.get_mut(&dbid) {
                    local.busy = false;
                }
                self.see(dbid, Process::Gone);
            }
            In::Checked { op, bad } => out.push(Out::Say { op, say: Say::Checked { bad } }),
            In::Inspected { op, data } => out.push(Out::Say { op, say: self.holds(data) }),
        }
        self.settle(out);
    }

    fn asked(&mut self, op: u64, ask: Ask, out: &mut Vec<Out>) {
        match ask {
            Ask::Claim { cluster, host } => {
                let mine = self.memory.cluster;
                if mine == ClusterId::default() {
                    self.memory.cluster = cluster;
                    self.memory.host = host;
                } else if mine != cluster || self.memory.host != host {
                    let text = format!(
                        "this agent works for cluster {mine} as host {:?}; give the new cluster \
                         an agent with a directory of its own",
                        self.memory.host
                    );
                    return out.push(Out::Say { op, say: Say::Denied { text } });
                }
                self.answer_when_saved(op, Say::Taken { number: 0 }, out);
            }
            Ask::Want { number, cluster, coordinator_epoch, orders, kept } => {
                if let Err(text) = self.fence(cluster, coordinator_epoch) {
                    return out.push(Out::Say { op, say: Say::Denied { text } });
                }
                let before = self.memory.clone();
                self.memory.coordinator_epoch = coordinator_epoch;
                self.keep(Kept { coordinator_epoch, number, body: kept });
                for (dbid, order) in orders {
                    self.want(dbid, order);
                }
                if before == self.memory {
                    out.push(Out::Say { op, say: Say::Taken { number } });
                } else {
                    self.answer_when_saved(op, Say::Taken { number }, out);
                }
            }
            Ask::Run { dbid, up } => match self.memory.orders.get_mut(&dbid) {
                Some(order) if order.content.0 < 0 => {
                    let up_already = order.wanted.runs() && self.runs(dbid);
                    if up != up_already
                        && let Some(order) = self.memory.orders.get_mut(&dbid)
                    {
                        order.wanted = if up { Wanted::Up } else { Wanted::Down };
                        order.run = order.run.saturating_add(1);
                    }
                    self.answer_when_saved(op, Say::Taken { number: 0 }, out);
                }
                Some(_) => {
                    let text = "the coordinator says which instances of data run".to_owned();
                    out.push(Out::Say { op, say: Say::Denied { text } });
                }
                None => {
                    let text = format!("instance {dbid} is not on this host");
                    out.push(Out::Say { op, say: Say::Denied { text } });
                }
            },
            Ask::Inspect => {
                let orders = self.memory.orders.iter();
                let orders = orders.map(|(dbid, order)| (*dbid, order.clone())).collect();
                out.push(Out::Inspect { op, orders });
            }
            Ask::Forget { cluster, coordinator_epoch, dbid } => {
                match self.forget(cluster, coordinator_epoch, dbid) {
                    Ok(()) => self.answer_when_saved(op, Say::Taken { number: 0 }, out),
                    Err(text) => out.push(Out::Say { op, say: Say::Denied { text } }),
                }
            }
            Ask::Watch { seen } => self.watching.push((op, seen)),
            Ask::MakeVoter { .. } | Ask::Vote { .. } => {
                // The driver has the voter's file, and answers by itself.
                let text = "this agent does not vote".to_owned();
                out.push(Out::Say { op, say: Say::Denied { text } });
            }
            Ask::Check => {
                let data = self.memory.orders.iter().filter(|(dbid, order)| {
                    let is_data = order.content.0 >= 0 && order.wanted != Wanted::Gone;
                    // One that was never made has nothing to look at.
                    is_data && !self.runs(**dbid) && self.memory.done.contains_key(*dbid)
                });
                let orders = data.map(|(dbid, order)| (*dbid, order.clone())).collect();
                out.push(Out::Check { op, orders });
            }
        }
    }

    /// Takes an order. A lower number is an older wish: it comes late. Another instance takes the number of
    /// one that is gone, and begins anew.
    fn want(&mut self, dbid: Dbid, order: Order) {
        let Some(known) = self.memory.orders.get(&dbid) else {
            self.memory.orders.insert(dbid, order);
            return;
        };
        if known.instance != order.instance {
            let gone = self.local.get(&dbid).is_some_and(|local| local.process == Process::Gone);
            if known.wanted != Wanted::Gone || !gone {
                return;
            }
            self.local.remove(&dbid);
            self.memory.done.remove(&dbid);
            self.memory.orders.insert(dbid, order);
        } else if known.run <= order.run {
            self.memory.orders.insert(dbid, order);
        }
    }

    /// Keeps the newest of what coordinators leave here. What comes late, or with nothing, is no news.
    fn keep(&mut self, kept: Kept) {
        let name = |kept: &Kept| (kept.coordinator_epoch, kept.number);
        if !kept.body.is_empty() && name(&kept) > name(&self.memory.kept) {
            self.memory.kept = kept;
        }
    }

    /// An administrator replaces a coordinator or standby that is lost.
    fn forget(
        &mut self,
        cluster: ClusterId,
        coordinator_epoch: u64,
        dbid: Dbid,
    ) -> Result<(), String> {
        self.fence(cluster, coordinator_epoch)?;
        let busy = self.local.get(&dbid).is_some_and(|local| {
            local.busy || matches!(local.process, Process::Running { .. } | Process::Starting)
        });
        match self.memory.orders.get(&dbid) {
            Some(order) if order.content.0 >= 0 => {
                Err("only a coordinator or standby is forgotten so".to_owned())
            }
            Some(_) if busy => Err(format!("instance {dbid} runs: stop it first")),
            _ => {
                self.memory.coordinator_epoch = coordinator_epoch;
                self.memory.orders.remove(&dbid);
                self.memory.done.remove(&dbid);
                self.local.remove(&dbid);
                self.generation = self.generation.saturating_add(1);
                Ok(())
            }
        }
    }

    fn holds(&self, data: Vec<(Dbid, Data)>) -> Say {
        let holding = |(dbid, data)| {
            let order = self.memory.orders.get(&dbid)?.clone();
            let process = self.local.get(&dbid).map_or(Process::Stopped, |at| at.process.clone());
            Some(Holding { dbid, order, process, data })
        };
        Say::Holds {
            cluster: self.memory.cluster,
            host: self.memory.host.clone(),
            coordinator_epoch: self.memory.coordinator_epoch,
            kept: self.memory.kept.clone(),
            instances: data.into_iter().filter_map(holding).collect(),
        }
    }

    /// S0: who may command.
    fn fence(&self, cluster: ClusterId, coordinator_epoch: u64) -> Result<(), String> {
        let mine = self.memory.cluster;
        if mine == ClusterId::default() {
            return Err(
                "this agent works for no cluster yet: `outrigger init` claims it".to_owned()
            );
        }
        if cluster != mine {
            return Err(format!("this agent works for cluster {mine}, not {cluster}"));
        }
        let heard = self.memory.coordinator_epoch;
        if coordinator_epoch < heard {
            return Err(format!(
                "a coordinator of epoch {coordinator_epoch} commands nothing any more: this agent has \
                 heard one of epoch {heard}; make the old one a standby with `outrigger init-standby`"
            ));
        }
        Ok(())
    }

    fn runs(&self, dbid: Dbid) -> bool {
        self.local.get(&dbid).is_some_and(|local| matches!(local.process, Process::Running { .. }))
    }

    fn answer_when_saved(&mut self, op: u64, say: Say, out: &mut Vec<Out>) {
        self.saves = self.saves.saturating_add(1);
        out.push(Out::Save { number: self.saves, memory: self.memory.clone() });
        self.owed.push((self.saves, op, say));
    }

    fn ended(&mut self, dbid: Dbid, how: String, good: bool) {
        let order = self.memory.orders.get(&dbid);
        let rebuilding = order.is_some_and(|order| matches!(order.wanted, Wanted::Rebuild(_)));
        let Some(local) = self.local.get_mut(&dbid) else { return };
        local.busy = false;
        let asked = std::mem::take(&mut local.stopping);
        let rebuilt = rebuilding && good && matches!(local.process, Process::Rebuilding { .. });
        let process = match (asked, rebuilt) {
            (true, _) => Process::Stopped,
            (false, true) => Process::Rebuilt,
            (false, false) => Process::Ended { how },
        };
        self.see(dbid, process);
    }

    fn see(&mut self, dbid: Dbid, process: Process) {
        let local = self.local.entry(dbid).or_default();
        if local.process != process {
            local.process = process;
            self.generation = self.generation.saturating_add(1);
        }
    }

    /// Answers what is durable, carries out what is wanted.
    fn settle(&mut self, out: &mut Vec<Out>) {
        let saved = self.saved;
        let (ready, owed) =
            std::mem::take(&mut self.owed).into_iter().partition(|owed| owed.0 <= saved);
        self.owed = owed;
        let ready: Vec<(u64, u64, Say)> = ready;
        out.extend(ready.into_iter().map(|(_, op, say)| Out::Say { op, say }));
        // ORDER: an order is durable before it is carried out.
        if self.saved == self.saves {
            self.carry_out(out);
        }
        self.tell(out);
    }

    fn carry_out(&mut self, out: &mut Vec<Out>) {
        let mut begun = Vec::new();
        for (dbid, order) in &self.memory.orders {
            let local = self.local.entry(*dbid).or_default();
            if local.busy {
                continue;
            }
            let running =
                matches!(local.process, Process::Running { .. } | Process::Rebuilding { .. });
            let fresh = self.memory.done.get(dbid).is_none_or(|done| *done < order.run);
            let action = match order.wanted {
                Wanted::Down if running && !local.stopping => Some(Out::Stop { dbid: *dbid }),
                Wanted::Rebuild(_) | Wanted::Gone if running && fresh && !local.stopping => {
                    Some(Out::Stop { dbid: *dbid })
                }
                Wanted::Rebuild(_) if !running && local.process == Process::Rebuilt => {
                    let order = Order { wanted: Wanted::Up, ..order.clone() };
                    Some(Out::Start { dbid: *dbid, order })
                }
                Wanted::New | Wanted::Up | Wanted::Rebuild(_) if !running && fresh => {
                    Some(Out::Start { dbid: *dbid, order: order.clone() })
                }
                Wanted::Gone if !running && fresh => {
                    Some(Out::Remove { dbid: *dbid, order: order.clone() })
                }
                _ => None,
            };
            match action {
                Some(stop @ Out::Stop { .. }) => {
                    local.stopping = true;
                    out.push(stop);
                }
                Some(action) => {
                    local.busy = true;
                    local.process = Process::Starting;
                    begun.push((*dbid, order.run));
                    out.push(action);
                }
                None if fresh && !local.stopping => begun.push((*dbid, order.run)),
                None => {}
            }
        }
        if begun.is_empty() {
            return;
        }
        let changed = begun.iter().any(|(dbid, run)| self.memory.done.get(dbid) != Some(run));
        self.memory.done.extend(begun);
        self.generation = self.generation.saturating_add(1);
        if changed {
            // Not waited for: carried out twice is what a restart of the agent may do, and harmless.
            self.saves = self.saves.saturating_add(1);
            out.push(Out::Save { number: self.saves, memory: self.memory.clone() });
        }
    }

    /// Tells whoever waits what has changed.
    fn tell(&mut self, out: &mut Vec<Out>) {
        let generation = self.generation;
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watching)
            .into_iter()
            .partition(|(_, seen)| *seen != generation);
        self.watching = waiting;
        out.extend(due.into_iter().map(|(op, _)| Out::Say { op, say: self.status() }));
    }

    /// Answers everybody who waits, changed or not: for the driver, when they have waited long enough.
    pub fn tell_all(&mut self, out: &mut Vec<Out>) {
        let waiting = std::mem::take(&mut self.watching);
        out.extend(waiting.into_iter().map(|(op, _)| Out::Say { op, say: self.status() }));
    }

    /// Everything about its instances.
    #[must_use]
    pub fn status(&self) -> Say {
        let seen = |(dbid, order): (&Dbid, &Order)| Seen {
            dbid: *dbid,
            content: order.content,
            instance: order.instance,
            run: self.memory.done.get(dbid).copied().unwrap_or(0),
            process: self.local.get(dbid).map_or(Process::Stopped, |local| local.process.clone()),
        };
        Say::Status {
            generation: self.generation,
            cluster: self.memory.cluster,
            host: self.memory.host.clone(),
            coordinator_epoch: self.memory.coordinator_epoch,
            instances: self.memory.orders.iter().map(seen).collect(),
        }
    }
}

impl Wanted {
    /// Whether a process should run at the end.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::New | Self::Up | Self::Rebuild(_))
    }
}
