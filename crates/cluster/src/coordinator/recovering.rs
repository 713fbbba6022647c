//! Copies that are out: let back, by the cheapest way that works.
//!
//! A copy that failed is held out by the register until it is let back: by an administrator, or by itself after
//! `auto_rejoin_ms`. Then it comes back by what it missed; where its process cannot go on from its data
//! (it ends with an error), its data is compared and what differs is copied; where that fails, all of it is
//! copied. Guarantees: neither the primary nor a copy of the in-sync set is ever made anew; each step is in the
//! catalog, so another coordinator goes on with it. Not here: how data is copied (replica).

use std::collections::BTreeMap;

use outrigger_net::config::Config;
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, InstanceId, Micros};

use super::event::Out;
use super::lifecycle::again;
use super::{CATALOG, Coordinator};
use crate::agent::{NOT_RUNNING, Process};
use crate::catalog::tables::{Dbid, Instance, Rebuild, Wanted};
use crate::catalog::{Change, State};
use crate::operator::RecoverMode;
use crate::register::Proposer;
use crate::settings;

/// What was asked of a copy on its way back is not asked again before so long.
const AGAIN_MICROS: u64 = 500_000;

/// When copies went out, and what was tried.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    out_since: BTreeMap<InstanceId, Micros>,
    tried: BTreeMap<Dbid, (u64, Micros)>,
}

impl Coordinator {
    pub(super) fn bring_back(
        &mut self,
        asker: (LinkId, u64),
        contents: &[ContentId],
        (mode, max_rate_bytes): (RecoverMode, u64),
        out: &mut Vec<Out>,
    ) {
        let (link, op) = asker;
        let unknown = self.catalog.read(|state| {
            contents.iter().find(|content| !state.contents.contains_key(*content)).copied()
        });
        if let Some(content) = unknown {
            return self.deny(link, op, super::commands::no_content(content), out);
        }
        let named = |content: &ContentId| contents.is_empty() || contents.contains(content);
        let changes = self.catalog.read(|state| {
            let mut changes = Vec::new();
            for (content, row) in state.contents.iter().filter(|(content, _)| named(content)) {
                if let Some(config) = row.register.config() {
                    self.way_back(state, (*content, config), (mode, max_rate_bytes), &mut changes);
                }
            }
            changes
        });
        let count = changes.iter().filter(|change| matches!(change, Change::PutInstance { .. }));
        let count = count.count();
        let text = if changes.is_empty() {
            "every copy is in sync, or on its way".to_owned()
        } else {
            format!("{} instances are let come back", count.max(1))
        };
        self.work(changes, Some(asker), text, out);
    }

    /// What lets the copies of a content come back.
    fn way_back(
        &self,
        state: &State,
        (content, config): (ContentId, &Config),
        (mode, max_rate_bytes): (RecoverMode, u64),
        changes: &mut Vec<Change>,
    ) {
        let mut new = Config { version: config.version.next(), ..config.clone() };
        for copy in &mut new.copies {
            copy.held = false;
        }
        if new.copies != config.copies {
            changes.push(Change::Swap {
                content,
                seen: config.version,
                new,
                proposer: Proposer::Operator,
                reports: Vec::new(),
            });
        }
        for copy in &config.copies {
            let Some((dbid, row)) = state.row_of(copy.instance) else { continue };
            let runs = self.process(dbid, row).is_some_and(|seen| {
                matches!(seen.process, Process::Running { .. } | Process::Starting)
            });
            let safe = copy.in_sync || config.primary == copy.instance;
            let wanted = match mode {
                _ if safe && runs => continue,
                // What holds every commit is started, and never made anew.
                _ if safe => Wanted::Up,
                RecoverMode::Auto if runs => continue,
                RecoverMode::Auto => Wanted::Up,
                RecoverMode::Differential => Wanted::Rebuild(Rebuild::Differential),
                RecoverMode::Full => Wanted::Rebuild(Rebuild::Full),
            };
            let row = Instance { max_rate_bytes, ..row.clone() };
            changes.push(again(dbid, &row, wanted));
        }
    }

    /// Goes on with copies that were let back and cannot go on by themselves, and lets those back that were out
    /// for as long as the policy says.
    pub(super) fn settle_recovering(&mut self, out: &mut Vec<Out>) {
        let running = self.catalog.read(|state| state.up.is_running());
        if self.serving.is_none() || !running {
            return;
        }
        let mut changes = self.escalations();
        let (due, waiting) = self.due_back();
        self.recovering.out_since = waiting;
        if !due.is_empty() {
            let more = self.catalog.read(|state| {
                let mut more = Vec::new();
                for content in due {
                    let config = state.contents.get(&content).and_then(|row| row.register.config());
                    if let Some(config) = config {
                        let how = (RecoverMode::Auto, 0);
                        self.way_back(state, (content, config), how, &mut more);
                    }
                }
                more
            });
            changes.extend(more);
        }
        if !changes.is_empty() {
            self.work(changes, None, String::new(), out);
        }
    }

    /// Copies that are not in sync, are wanted, and whose process ended with an error: the next way.
    fn escalations(&mut self) -> Vec<Change> {
        let now = self.now;
        let found: Vec<(Dbid, Instance, Wanted)> = self.catalog.read(|state| {
            let mut found = Vec::new();
            for (dbid, row) in &state.instances {
                let Some(config) = self.config_in(state, row.content) else { continue };
                let Some(copy) = config.copy(row.instance) else { continue };
                let out_of_sync = !copy.in_sync && config.primary != row.instance && !copy.held;
                let Some(seen) = self.process(*dbid, row).filter(|_| out_of_sync) else { continue };
                // An administrator may have started a copy of the catalog at its agent since: a higher one.
                if seen.run < row.run {
                    continue;
                }
                let row = Instance { run: seen.run, ..row.clone() };
                let next = match (&seen.process, row.wanted) {
                    (Process::Ended { how }, Wanted::Up | Wanted::New) if by_error(how) => {
                        Wanted::Rebuild(Rebuild::Differential)
                    }
                    (Process::Ended { how }, Wanted::Rebuild(Rebuild::Differential))
                        if by_error(how) =>
                    {
                        Wanted::Rebuild(Rebuild::Full)
                    }
                    // It was killed, or the host began again: once more.
                    (Process::Ended { .. }, wanted) if wanted.runs() => wanted,
                    _ => continue,
                };
                found.push((*dbid, row, next));
            }
            found
        });
        let tried = &mut self.recovering.tried;
        let fresh = found.into_iter().filter(|(dbid, row, _)| {
            let again = tried
                .get(dbid)
                .is_none_or(|(run, at)| *run < row.run && now.since(*at) >= AGAIN_MICROS);
            if again {
                tried.insert(*dbid, (row.run, now));
            }
            again
        });
        fresh.map(|(dbid, row, wanted)| again(dbid, &row, wanted)).collect()
    }

    /// The contents with copies that were out for long enough, and since when each copy is out.
    fn due_back(&self) -> (Vec<ContentId>, BTreeMap<InstanceId, Micros>) {
        let now = self.now;
        self.catalog.read(|state| {
            let limit = settings::value(state, "auto_rejoin_ms");
            let mut due = Vec::new();
            let mut waiting = BTreeMap::new();
            if limit == settings::MANUAL {
                return (due, waiting);
            }
            for (content, row) in &state.contents {
                let Some(config) = row.register.config() else { continue };
                for copy in config.copies.iter().filter(|copy| copy.held) {
                    let known = self.recovering.out_since.get(&copy.instance).copied();
                    let since = known.unwrap_or(now);
                    if now.since(since) >= limit.saturating_mul(1000) {
                        due.push(*content);
                    } else {
                        waiting.insert(copy.instance, since);
                    }
                }
            }
            due.dedup();
            (due, waiting)
        })
    }

    /// Adds copies: hosts, rows, and their places in the configurations; they are made anew from their primaries.
    pub(super) fn add_copies(
        &mut self,
        asker: (LinkId, u64),
        hosts: Vec<crate::catalog::tables::Host>,
        rows: Vec<(Dbid, Instance)>,
        out: &mut Vec<Out>,
    ) {
        let (link, op) = asker;
        let mut changes: Vec<_> = hosts.into_iter().map(Change::PutHost).collect();
        for (dbid, row) in rows {
            let content = row.content;
            if content == CATALOG {
                let text = "a standby is added by `outrigger init-standby`".to_owned();
                return self.deny(link, op, text, out);
            }
            let Some(config) = self.config(content) else {
                return self.deny(link, op, super::commands::no_content(content), out);
            };
            let taken = self.catalog.read(|state| {
                let on_host = |at: &outrigger_net::config::Copy| {
                    state.row_of(at.instance).is_some_and(|(_, other)| other.host == row.host)
                };
                config.copies.iter().any(on_host)
            });
            if taken {
                let text = format!("content {content} has a copy on host {} already", row.host);
                return self.deny(link, op, text, out);
            }
            let mut new = Config { version: config.version.next(), ..config.clone() };
            if new.copy(row.instance).is_none() {
                new.copies.push(outrigger_net::config::Copy {
                    instance: row.instance,
                    addresses: row.addresses.clone(),
                    in_sync: false,
                    durable: outrigger_wal::recover::Promise::NONE,
                    held: false,
                });
            }
            changes.push(Change::PutInstance { dbid, row });
            changes.push(Change::Swap {
                content,
                seen: config.version,
                new,
                proposer: Proposer::Operator,
                reports: Vec::new(),
            });
        }
        self.work(changes, Some(asker), "the copies are being made".to_owned(), out);
    }

    /// Removes copies that are not primary: they are stopped, leave the in-sync set by that, and are forgotten.
    pub(super) fn drop_copies(&mut self, asker: (LinkId, u64), dbids: &[Dbid], out: &mut Vec<Out>) {
        let (link, op) = asker;
        let mut changes = Vec::new();
        for dbid in dbids {
            let row = self.catalog.read(|state| state.instances.get(dbid).cloned());
            let Some(row) = row else {
                return self.deny(link, op, format!("there is no instance {dbid}"), out);
            };
            let config = self.config(row.content);
            if config.as_ref().is_some_and(|config| config.primary == row.instance) {
                let text = format!("instance {dbid} is primary: hand it over first");
                return self.deny(link, op, text, out);
            }
            changes.push(again(*dbid, &row, Wanted::Gone));
        }
        self.work(changes, Some(asker), "the copies are being removed".to_owned(), out);
    }

    /// Forgets copies that should be gone: first the configuration, once nothing waits for them, then the row.
    pub(super) fn settle_gone(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() {
            return;
        }
        let changes: Vec<Change> = self.catalog.read(|state| {
            let gone = state.instances.iter().filter(|(_, row)| row.wanted == Wanted::Gone);
            gone.filter_map(|(dbid, row)| {
                let config = self.config_in(state, row.content)?;
                match config.copy(row.instance) {
                    Some(copy) if copy.in_sync => None,
                    Some(_) => {
                        let mut new = Config { version: config.version.next(), ..config.clone() };
                        new.copies.retain(|copy| copy.instance != row.instance);
                        Some(Change::Swap {
                            content: row.content,
                            seen: config.version,
                            new,
                            proposer: Proposer::Operator,
                            reports: Vec::new(),
                        })
                    }
                    None => {
                        let seen = self.process(*dbid, row)?;
                        let removed = seen.process == Process::Gone && seen.run == row.run;
                        removed.then_some(Change::RemoveInstance { dbid: *dbid })
                    }
                }
            })
            .collect()
        });
        let fresh = self.now.since(self.gone_at) >= AGAIN_MICROS;
        if !changes.is_empty() && fresh {
            self.gone_at = self.now;
            self.work(changes, None, String::new(), out);
        }
    }
}

/// Whether a process ended by itself because of what it found: not by a signal, in order, or with its host.
fn by_error(how: &str) -> bool {
    let otherwise = ["signal", "it ended in order", NOT_RUNNING, "it ended; its agent"];
    !otherwise.iter().any(|begins| how.starts_with(begins))
}
