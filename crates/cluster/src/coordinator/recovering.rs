//! Copies that are out: let back, by the cheapest way that works.
//!
//! A copy that failed is held out by the register until it is let back: by an administrator, or by itself after
//! `auto_rejoin_ms`. Then it comes back by what it missed; where its process cannot go on from its data
//! (it ends with an error), its data is compared and what differs is copied; where that fails, all of it is
//! copied. Guarantees: neither the primary nor a copy of the in-sync set is ever made anew; each step is in the
//! catalog, so another coordinator goes on with it. Not here: how data is copied (replica).

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::config::{Config, Copy};
use outrigger_replica::member::LinkId;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, InstanceId, Micros};

use super::event::Out;
use super::lifecycle::again;
use super::work::Pace;
use super::{CATALOG, Coordinator};
use crate::agent::Process;
use crate::catalog::tables::{Dbid, Host, Instance, Rebuild, Wanted};
use crate::catalog::{Change, State};
use crate::operator::RecoverMode;
use crate::register::Proposer;
use crate::settings;

/// What was asked of a copy on its way back is not asked again before so long; twice as long each time that it does
/// not help.
const AGAIN_MICROS: u64 = 500_000;
const MAX_PAUSE_MICROS: u64 = 60_000_000;
/// A copy that could not be copied as a whole so often stays out until somebody has looked.
const MAX_FULL: u32 = 3;

/// When copies went out, and what was tried.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    out_since: BTreeMap<InstanceId, Micros>,
    /// When the copies of a content were let back last.
    let_back: BTreeMap<ContentId, Micros>,
    tried: BTreeMap<Dbid, Tried>,
    /// An administrator lets their copies back, and they are not proved yet (S8).
    later: BTreeSet<ContentId>,
}

/// What was tried with a copy since it was last in sync.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    /// The order that was seen to fail last.
    run: u64,
    /// How often one has failed.
    times: u32,
    /// How often all of it was copied in vain.
    full: u32,
    /// Nothing more is asked before.
    until: Micros,
}

/// What follows for a copy whose process has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Try(Wanted),
    GiveUp,
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
        if !self.catalog.read(|state| state.up.is_running()) {
            let text = "the cluster is not up: `outrigger start` brings it up".to_owned();
            return self.deny(link, op, text, out);
        }
        let unknown = self.catalog.read(|state| {
            contents.iter().find(|content| !state.contents.contains_key(*content)).copied()
        });
        if let Some(content) = unknown {
            return self.deny(link, op, super::commands::no_content(content), out);
        }
        let named = |content: &ContentId| contents.is_empty() || contents.contains(content);
        let all: Vec<_> = self.catalog.read(|state| state.contents.keys().copied().collect());
        let later = all.into_iter().filter(|content| named(content) && !self.is_proved(*content));
        let later: Vec<_> = later.collect();
        self.recovering.later.extend(later);
        let how = (Proposer::Operator, mode, max_rate_bytes);
        let changes = self.catalog.read(|state| {
            let mut changes = Vec::new();
            for (content, row) in state.contents.iter().filter(|(content, _)| named(content)) {
                if let Some(config) = row.register.config() {
                    self.way_back(state, (*content, config), how, &mut changes);
                }
            }
            changes
        });
        let text = if changes.is_empty() {
            "every copy is in sync, or on its way".to_owned()
        } else {
            let count = self.catalog.read(|state| concerned(state, &changes));
            format!("{count} instances are let come back")
        };
        // An administrator has looked: what was tried before counts no more.
        let again = changes.iter().filter_map(|change| match change {
            Change::PutInstance { dbid, .. } => Some(*dbid),
            _ => None,
        });
        for dbid in again {
            self.recovering.tried.remove(&dbid);
        }
        self.work(changes, Some(asker), text, out);
    }

    /// What lets the copies of a content come back.
    fn way_back(
        &self,
        state: &State,
        (content, config): (ContentId, &Config),
        (by, mode, max_rate_bytes): (Proposer, RecoverMode, u64),
        changes: &mut Vec<Change>,
    ) {
        let mut new = Config { version: config.version.next(), ..config.clone() };
        // Whoever was taken down on purpose is let back by an administrator only.
        let stays = |row: &Instance| match row.wanted {
            Wanted::Gone => true,
            Wanted::Down => by == Proposer::Coordinator,
            _ => false,
        };
        let out = |instance| state.row_of(instance).is_some_and(|(_, row)| stays(row));
        for copy in new.copies.iter_mut().filter(|copy| !out(copy.instance)) {
            copy.held = false;
        }
        // S8: of a content that is not proved nothing is recorded; what it takes to prove it is started all the same.
        if new.copies != config.copies && self.is_proved(content) {
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
            let here = self.hosts.get(&row.host).is_some_and(|link| link.here);
            let seen = self.process(dbid, row).filter(|_| here);
            // What was asked of it and is not seen to have failed is on its way.
            let runs = row.wanted.runs()
                && seen.is_none_or(|seen| {
                    let down = matches!(
                        seen.process,
                        Process::Ended { .. } | Process::Stopped | Process::Gone
                    );
                    !down || seen.run < row.run
                });
            let safe = copy.in_sync || config.primary == copy.instance;
            // Nobody goes on with such a copy later: where its agent does not tell, it is asked for all the same.
            let runs = runs && (seen.is_some() || !safe || self.in_touch(content, copy.instance));
            let wanted = match mode {
                _ if stays(row) => continue,
                _ if safe && runs => continue,
                // What holds every commit is started, and never made anew.
                _ if safe => Wanted::Up,
                RecoverMode::Auto if runs => continue,
                // What was to be made and was not is still to be made.
                RecoverMode::Auto if row.wanted.runs() => row.wanted,
                RecoverMode::Auto => Wanted::Up,
                _ if runs && row.wanted == asked_by(mode) => continue,
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
        let mut changes = self.escalations(out);
        let by_policy = self.due_back().into_iter().map(|at| (at, Proposer::Coordinator));
        let proved = self.recovering.later.iter().copied().filter(|at| self.is_proved(*at));
        let asked_for = proved.map(|at| (at, Proposer::Operator));
        let due: Vec<_> = by_policy.chain(asked_for).collect();
        for (content, by) in due {
            if by == Proposer::Operator {
                self.recovering.later.remove(&content);
            }
            let config = self.config(content);
            let how = (by, RecoverMode::Auto, 0);
            if let Some(config) = config {
                self.catalog
                    .read(|state| self.way_back(state, (content, &config), how, &mut changes));
            }
        }
        if !changes.is_empty() {
            self.work(changes, None, String::new(), out);
        }
    }

    /// Copies that are not in sync, are wanted, and whose process ended: the next way, after a pause.
    fn escalations(&mut self, out: &mut Vec<Out>) -> Vec<Change> {
        let now = self.now;
        let (found, well) = self.catalog.read(|state| self.ended(state));
        self.recovering.tried.retain(|dbid, _| !well.contains(dbid));
        let mut changes = Vec::new();
        for (dbid, row, by_error) in found {
            let tried = self.recovering.tried.entry(dbid).or_default();
            if tried.times == 0 || tried.run < row.run {
                // Seen for the first time: it is asked again after a pause, which grows.
                let pause = AGAIN_MICROS.saturating_mul(1 << tried.times.min(7));
                let full = row.wanted == Wanted::Rebuild(Rebuild::Full) && by_error;
                let first = tried.times == 0;
                *tried = Tried {
                    run: row.run,
                    times: tried.times.saturating_add(1),
                    full: tried.full.saturating_add(u32::from(full)),
                    until: if first { now } else { now.plus(pause.min(MAX_PAUSE_MICROS)) },
                };
            }
            if now < tried.until {
                continue;
            }
            // Where the catalog takes nothing, it is asked again.
            tried.until = now.plus(AGAIN_MICROS);
            match next(row.wanted, by_error, tried.full) {
                Next::Try(wanted) => changes.push(again(dbid, &row, wanted)),
                Next::GiveUp => {
                    let text = format!(
                        "contentid {} dbid {dbid} could not be rebuilt {MAX_FULL} times: it stays out until \
                         `outrigger recover`",
                        row.content
                    );
                    self.note(dbid, text, out);
                    changes.push(again(dbid, &row, Wanted::Down));
                    changes.extend(self.hold_out(&row));
                }
            }
        }
        changes
    }

    /// The copies that should come in sync and whose process has ended, and whether by an error; and those that
    /// are in sync, or out: of these nothing is remembered.
    fn ended(&self, state: &State) -> (Vec<(Dbid, Instance, bool)>, BTreeSet<Dbid>) {
        let (mut found, mut well) = (Vec::new(), BTreeSet::new());
        for (dbid, row) in state.instances.iter().filter(|(_, row)| row.content != CATALOG) {
            let Some(config) = self.config_in(state, row.content) else { continue };
            let Some(copy) = config.copy(row.instance) else { continue };
            if copy.in_sync || config.primary == row.instance || copy.held || !row.wanted.runs() {
                well.insert(*dbid);
                continue;
            }
            let here = self.hosts.get(&row.host).is_some_and(|link| link.here);
            let seen = self.process(*dbid, row).filter(|seen| here && seen.run == row.run);
            if let Some(Process::Ended { how }) = seen.map(|seen| &seen.process) {
                found.push((*dbid, row.clone(), by_error(how)));
            }
        }
        (found, well)
    }

    fn hold_out(&self, row: &Instance) -> Option<Change> {
        let config = self.config(row.content)?;
        let mut new = Config { version: config.version.next(), ..config.clone() };
        new.copies.iter_mut().find(|copy| copy.instance == row.instance)?.held = true;
        Some(Change::Swap {
            content: row.content,
            seen: config.version,
            new,
            proposer: Proposer::Operator,
            reports: Vec::new(),
        })
    }

    /// The contents with copies that were out for long enough.
    fn due_back(&mut self) -> Vec<ContentId> {
        let now = self.now;
        let (limit, out) = self.catalog.read(|state| {
            let limit = settings::value(state, "auto_rejoin_ms");
            let mut out = Vec::new();
            for (content, row) in state.contents.iter().filter(|_| limit != settings::MANUAL) {
                let copies = row.register.config().into_iter().flat_map(|config| &config.copies);
                let held = copies.filter(|copy| copy.held).filter(|copy| {
                    state.row_of(copy.instance).is_some_and(|(_, row)| row.wanted.runs())
                });
                out.extend(held.map(|copy| (copy.instance, *content)));
            }
            (limit.saturating_mul(1000), out)
        });
        let known = std::mem::take(&mut self.recovering.out_since);
        let mut due = BTreeSet::new();
        for (instance, content) in out {
            let since = known.get(&instance).copied().unwrap_or(now);
            self.recovering.out_since.insert(instance, since);
            let asked = self.recovering.let_back.get(&content);
            let waits = asked.is_some_and(|at| now.since(*at) < AGAIN_MICROS);
            if now.since(since) >= limit && !waits {
                due.insert(content);
            }
        }
        self.recovering.let_back.extend(due.iter().map(|content| (*content, now)));
        due.into_iter().collect()
    }

    /// When something has to be looked at again.
    pub(super) fn recovering_deadline(&self) -> Option<Micros> {
        let now = self.now;
        let recovering = &self.recovering;
        let limit = self.catalog.read(|state| settings::value(state, "auto_rejoin_ms"));
        let back = recovering.out_since.values().map(|at| at.plus(limit.saturating_mul(1000)));
        let back = back.map(|at| if at > now { at } else { now.plus(AGAIN_MICROS) });
        let tried = recovering.tried.values().map(|tried| tried.until).filter(|at| *at > now);
        let gone = self.gone_at.map(|at| at.plus(AGAIN_MICROS)).filter(|at| *at > now);
        back.chain(tried).chain(gone).min()
    }

    /// Adds copies: hosts, rows, and their places in the configurations; they are made anew from their primaries.
    pub(super) fn add_copies(
        &mut self,
        asker: (LinkId, u64),
        hosts: Vec<Host>,
        rows: Vec<(Dbid, Instance)>,
        out: &mut Vec<Out>,
    ) {
        let (link, op) = asker;
        let judged = self.catalog.read(|state| {
            rows.iter().try_for_each(|(dbid, row)| self.can_add(state, &hosts, *dbid, row))
        });
        if let Err(text) = judged {
            return self.deny(link, op, text, out);
        }
        let mut changes: Vec<_> = hosts.into_iter().map(Change::PutHost).collect();
        let mut configs: BTreeMap<ContentId, Config> = BTreeMap::new();
        for (dbid, row) in rows {
            let content = row.content;
            if content == CATALOG {
                // Its place in the configuration is the voters' to record: see `settle_standby`.
                changes.push(Change::PutInstance { dbid, row });
                continue;
            }
            let known = configs.get(&content).cloned().or_else(|| self.config(content));
            let Some(config) = known else {
                return self.deny(link, op, super::commands::no_content(content), out);
            };
            let seen = config.version;
            let mut new = Config { version: seen.next(), ..config };
            let most = self.options.copies.saturating_add(1);
            if new.copies.len() >= most {
                let text = format!(
                    "content {content} would have more than {most} copies, one of them on its way out; drop one first"
                );
                return self.deny(link, op, text, out);
            }
            new.copies.push(Copy {
                instance: row.instance,
                addresses: row.addresses.clone(),
                in_sync: false,
                durable: Promise::NONE,
                held: false,
            });
            configs.insert(content, new.clone());
            let proposer = Proposer::Operator;
            let reports = Vec::new();
            changes.push(Change::PutInstance { dbid, row });
            changes.push(Change::Swap { content, seen, new, proposer, reports });
        }
        // A configuration must not name an instance whose row was refused.
        let text = "the copies are being made".to_owned();
        self.work_at(Pace::OneByOne, changes, Some(asker), text, out);
    }

    /// Whether a copy can be added.
    fn can_add(
        &self,
        state: &State,
        hosts: &[Host],
        dbid: Dbid,
        row: &Instance,
    ) -> Result<(), String> {
        let content = row.content;
        if state.instances.contains_key(&dbid) || state.row_of(row.instance).is_some() {
            return Err(format!("there is an instance {dbid}, or one with its identity, already"));
        }
        if !matches!(row.wanted, Wanted::New | Wanted::Rebuild(_)) {
            return Err(format!("instance {dbid} is to be added, and not to be made"));
        }
        if !state.hosts.contains_key(&row.host) && !hosts.iter().any(|host| host.name == row.host) {
            return Err(format!("there is no host {:?}", row.host));
        }
        if content == CATALOG {
            return self.can_stand_by(state, row);
        }
        let on_host = |other: &&Instance| other.content == content && other.host == row.host;
        if state.instances.values().any(|other| on_host(&other)) {
            return Err(format!("content {content} has a copy on host {} already", row.host));
        }
        Ok(())
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
            if row.wanted == Wanted::Gone {
                continue;
            }
            // An administrator may have bumped the number of a standby at its agent.
            let seen = self.process(*dbid, &row).map_or(0, |seen| seen.run);
            let row = Instance { run: row.run.max(seen), ..row };
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
            let gone = state
                .instances
                .iter()
                .filter(|(_, row)| row.wanted == Wanted::Gone && row.content != CATALOG);
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
        let waits = self.gone_at.is_some_and(|at| self.now.since(at) < AGAIN_MICROS);
        if !changes.is_empty() && !waits {
            self.gone_at = Some(self.now);
            self.work(changes, None, String::new(), out);
        }
    }
}

/// What is tried next with a copy whose process has ended.
const fn next(wanted: Wanted, by_error: bool, full: u32) -> Next {
    match wanted {
        // It was killed, or its host began again: once more.
        _ if !by_error => Next::Try(wanted),
        Wanted::Rebuild(Rebuild::Differential) => Next::Try(Wanted::Rebuild(Rebuild::Full)),
        Wanted::Rebuild(Rebuild::Full) if full >= MAX_FULL => Next::GiveUp,
        Wanted::Rebuild(Rebuild::Full) => Next::Try(wanted),
        _ => Next::Try(Wanted::Rebuild(Rebuild::Differential)),
    }
}

const fn asked_by(mode: RecoverMode) -> Wanted {
    match mode {
        RecoverMode::Auto => Wanted::Up,
        RecoverMode::Differential => Wanted::Rebuild(Rebuild::Differential),
        RecoverMode::Full => Wanted::Rebuild(Rebuild::Full),
    }
}

/// How many instances these changes are about.
fn concerned(state: &State, changes: &[Change]) -> usize {
    let mut named = BTreeSet::new();
    for change in changes {
        match change {
            Change::PutInstance { row, .. } => {
                named.insert(row.instance);
            }
            Change::Swap { content, new, .. } => {
                let row = state.contents.get(content);
                let old = row.and_then(|row| row.register.config());
                let freed = new
                    .copies
                    .iter()
                    .filter(|copy| !copy.held && old.is_some_and(|old| old.held(copy.instance)));
                named.extend(freed.map(|copy| copy.instance));
            }
            _ => {}
        }
    }
    named.len()
}

/// Whether a process ended by itself because of what it found: not by a signal, nor while nobody watched.
fn by_error(how: &str) -> bool {
    let others = ["signal", "it ended in order", "it was not running"];
    !others.iter().any(|other| how.starts_with(other))
}
