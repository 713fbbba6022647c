//! The catalog's own copies: a standby is added and removed through the voters (S8).
//!
//! The rows of content -1 say what is wanted; the catalog's own configuration follows them. Guarantees: one standby,
//! on another host than the coordinator; a standby is removed from the configuration once nothing waits for it,
//! and its row once its agent has removed its data; whatever is not recorded yet is asked for again, by another
//! coordinator too. Not here: how voters decide ([`crate::voters`]), activation.

use outrigger_net::config::{Config, Copy};
use outrigger_wal::Micros;
use outrigger_wal::recover::Promise;

use super::event::Out;
use super::lifecycle::again;
use super::{CATALOG, Coordinator};
use crate::agent::Process;
use crate::catalog::tables::{Dbid, Instance, Wanted};
use crate::catalog::{Change, State};

/// What is not recorded is asked for again after so long.
const AGAIN_MICROS: u64 = 500_000;

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Standby {
    asked_at: Option<Micros>,
}

/// What is to be done next.
enum Step {
    Own(Config),
    Row(Change),
}

impl Coordinator {
    /// Whether an instance can become the standby.
    pub(super) fn can_stand_by(&self, state: &State, row: &Instance) -> Result<(), String> {
        let rows = state.instances.values().filter(|row| row.content == CATALOG);
        let mine = rows.clone().find(|other| other.instance == self.identity.instance);
        let Some(mine) = mine else {
            return Err("the coordinator has no row: its cluster was not made by `outrigger init`"
                .to_owned());
        };
        if mine.host == row.host {
            return Err(format!(
                "host {} has the coordinator: a standby belongs on another host",
                row.host
            ));
        }
        if mine.port() != row.port() {
            return Err(format!(
                "the standby must listen on the coordinator's port {}, not {}: clients find it there",
                mine.port(),
                row.port()
            ));
        }
        // One that is to be removed, and that nothing waits for, stays in the catalog until its host has removed its data.
        let leaves = |other: &Instance| {
            let copy = self.own.as_ref().and_then(|own| own.copy(other.instance));
            other.wanted == Wanted::Gone && copy.is_none() && other.host != row.host
        };
        let others = |other: &&Instance| other.instance != self.identity.instance;
        if let Some(other) = rows.filter(others).find(|other| !leaves(other)) {
            return Err(format!(
                "there is a standby already, on host {}: remove it first",
                other.host
            ));
        }
        Ok(())
    }

    /// The voters have recorded something else: what follows is asked for at once.
    pub(super) const fn own_changed(&mut self) {
        self.standby.asked_at = None;
    }

    /// Brings the catalog's own configuration and the rows of its copies together.
    pub(super) fn settle_standby(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() || self.waits_for_voters() {
            return;
        }
        let step = self.catalog.read(|state| {
            let mut rows = state.instances.iter().filter(|(_, row)| row.content == CATALOG);
            rows.find_map(|(dbid, row)| self.standby_step(*dbid, row))
        });
        let Some(step) = step else { return };
        self.standby.asked_at = Some(self.now);
        match step {
            Step::Own(new) => {
                let Some(seen) = self.own.as_ref().map(|own| own.version) else { return };
                out.push(Out::SwapOwn { seen, new });
            }
            Step::Row(change) => self.work(vec![change], None, String::new(), out),
        }
    }

    fn standby_step(&self, dbid: Dbid, row: &Instance) -> Option<Step> {
        let own = self.own.as_ref()?;
        if own.primary != self.identity.instance {
            return None;
        }
        let mut new = Config { version: own.version.next(), ..own.clone() };
        match (row.wanted, own.copy(row.instance)) {
            (Wanted::Gone, Some(copy)) if copy.in_sync || own.primary == row.instance => None,
            (Wanted::Gone, Some(_)) => {
                new.copies.retain(|copy| copy.instance != row.instance);
                Some(Step::Own(new))
            }
            (Wanted::Gone, None) => {
                let seen = self.process(dbid, row)?;
                match &seen.process {
                    _ if seen.run < row.run => None,
                    Process::Gone => Some(Step::Row(Change::RemoveInstance { dbid })),
                    Process::Starting => None,
                    // An administrator has used that number up at its agent, while nobody here could see it.
                    _ => {
                        let row = Instance { run: seen.run, ..row.clone() };
                        Some(Step::Row(again(dbid, &row, Wanted::Gone)))
                    }
                }
            }
            // It is made: from now on it only has to run.
            (Wanted::New | Wanted::Rebuild(_), Some(copy)) if copy.in_sync => {
                let row = Instance { wanted: Wanted::Up, ..row.clone() };
                Some(Step::Row(Change::PutInstance { dbid, row }))
            }
            (wanted, None) if wanted.runs() => {
                new.copies.push(Copy {
                    instance: row.instance,
                    addresses: row.addresses.clone(),
                    in_sync: false,
                    held: false,
                    durable: Promise::NONE,
                });
                Some(Step::Own(new))
            }
            _ => None,
        }
    }

    fn waits_for_voters(&self) -> bool {
        self.standby.asked_at.is_some_and(|at| self.now.since(at) < AGAIN_MICROS)
    }

    /// When it is to be asked for again.
    pub(super) fn standby_deadline(&self) -> Option<Micros> {
        let again = self.standby.asked_at?.plus(AGAIN_MICROS);
        (again > self.now).then_some(again)
    }
}
