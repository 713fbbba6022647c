//! Making a cluster, bringing it up, bringing it down.
//!
//! Guarantees: asking again for what is done already changes nothing; a start is refused until every content has a
//! copy that holds every commit and whose data directory is there; nothing is served before.
//! Not here: processes (agents), the order in which they stop ([`super::hosts`]).

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::member::LinkId;
use outrigger_wal::format::DEFAULT_SEGMENT_BYTES;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, Epoch, LogId};

use super::event::Out;
use super::{CATALOG, Coordinator};
use crate::agent::Ask;
use crate::catalog::tables::{Dbid, Host, Instance, Preferred, Up, Wanted};
use crate::catalog::{Change, State, state::is_segment_size};
use crate::operator::Founding;
use crate::settings;

/// A start that waits for the agents to look at the data directories.
#[derive(Debug)]
pub(super) struct Starting {
    asker: (LinkId, u64),
    /// Whose answer is missing.
    hosts: BTreeSet<String>,
    bad: BTreeMap<Dbid, String>,
}

impl Coordinator {
    pub(super) fn found(
        &mut self,
        (link, op): (LinkId, u64),
        founding: Founding,
        out: &mut Vec<Out>,
    ) {
        let (up, known) = self.catalog.read(|state| (state.up.clone(), state.instances.clone()));
        let wanted: BTreeMap<_, _> =
            founding.rows.iter().map(|(dbid, row)| (*dbid, row.clone())).collect();
        let same = |a: &Instance, b: &Instance| {
            (a.content, a.instance, &a.host) == (b.content, b.instance, &b.host)
        };
        let again = known.len() == wanted.len()
            && known.iter().zip(&wanted).all(|(a, b)| a.0 == b.0 && same(a.1, b.1));
        if up != Up::Founding {
            let text = "the cluster is made already".to_owned();
            return if again {
                self.done(link, op, text, out)
            } else {
                self.deny(link, op, text, out)
            };
        }
        // What an earlier attempt has left, this one must be about.
        let other =
            known.iter().find(|(dbid, row)| !wanted.get(*dbid).is_some_and(|at| same(row, at)));
        if let Some((dbid, _)) = other {
            let text =
                format!("another cluster is half made here: instance {dbid} is not of this one");
            return self.deny(link, op, text, out);
        }
        if self.founding.is_some_and(|id| self.works.contains_key(&id)) {
            let text = "a cluster is being made already: ask again".to_owned();
            return self.deny(link, op, text, out);
        }
        match self.founding_changes(founding) {
            Ok(mut changes) => {
                changes.push(Change::SetUp(Up::Running));
                self.work(changes, Some((link, op)), "the cluster is made".to_owned(), out);
                self.founding = Some(self.last_work);
            }
            Err(text) => self.deny(link, op, text, out),
        }
    }

    /// The changes that make hosts, instances and the contents among them that are not there yet.
    pub(super) fn founding_changes(&mut self, founding: Founding) -> Result<Vec<Change>, String> {
        let Founding { hosts, rows, segment_bytes, settings } = founding;
        let segment_bytes = if segment_bytes == 0 { DEFAULT_SEGMENT_BYTES } else { segment_bytes };
        if !is_segment_size(segment_bytes) {
            return Err(format!(
                "segments of {segment_bytes} bytes: a power of two from 1 MiB to 1 GiB"
            ));
        }
        for (name, value) in &settings {
            settings::check(name, *value)?;
        }
        self.catalog.read(|state| check_rows(state, &hosts, &rows))?;
        let mut changes: Vec<_> = hosts.into_iter().map(Change::PutHost).collect();
        changes.extend(settings.into_iter().map(|(key, value)| Change::Set { key, value }));
        let contents: BTreeSet<_> =
            rows.iter().map(|(_, row)| row.content).filter(|content| content.0 >= 0).collect();
        let there: BTreeSet<ContentId> =
            self.catalog.read(|state| state.contents.keys().copied().collect());
        for (dbid, row) in &rows {
            changes.push(Change::PutInstance { dbid: *dbid, row: row.clone() });
        }
        // ORDER: before the contents, the first of which would hold everything. Where a map is there it stays.
        if !contents.is_empty() {
            changes.push(Change::Spread { contents: contents.iter().copied().collect() });
        }
        for content in contents.difference(&there) {
            let copies: Vec<_> = rows.iter().filter(|(_, row)| row.content == *content).collect();
            let primary = copies.iter().find(|(_, row)| row.preferred == Preferred::Primary);
            let Some((_, primary)) = primary else {
                return Err(format!("content {content} has no primary"));
            };
            let copy = |row: &Instance| Copy {
                instance: row.instance,
                addresses: row.addresses.clone(),
                in_sync: row.instance == primary.instance,
                durable: Promise::NONE,
                held: false,
            };
            let config = Config {
                version: Version(1),
                epoch: Epoch::NONE,
                primary: primary.instance,
                copies: copies.iter().map(|(_, row)| copy(row)).collect(),
                rule: Rule::All,
                loss: None,
            };
            let log = LogId(self.draw());
            changes.push(Change::Create { content: *content, log, segment_bytes, config });
        }
        Ok(changes)
    }

    /// Brings the cluster up, when every content has a copy that can be started.
    pub(super) fn start(&mut self, (link, op): (LinkId, u64), out: &mut Vec<Out>) {
        let (up, hosts) = self.catalog.read(|state| {
            let data = state.instances.values().filter(|row| row.content.0 >= 0);
            let hosts: BTreeSet<_> = data.map(|row| row.host.clone()).collect();
            (state.up.clone(), hosts)
        });
        match up {
            Up::Running => return self.done(link, op, "the cluster is up already".to_owned(), out),
            Up::Founding => {
                let text = "there is no cluster yet: `outrigger init` makes one".to_owned();
                return self.deny(link, op, text, out);
            }
            Up::Stopped | Up::ShutDown { .. } => {}
        }
        if self.starting.is_some() {
            return self.deny(link, op, "a start is under way already".to_owned(), out);
        }
        // What is about to end says that it failed, and would take the new cluster down with it.
        if self.catalog.read(|state| self.data_runs(state)) {
            let text = "the cluster is still going down: ask again when it is down".to_owned();
            return self.deny(link, op, text, out);
        }
        let mut starting =
            Starting { asker: (link, op), hosts: BTreeSet::new(), bad: BTreeMap::new() };
        for host in hosts {
            if self.hosts.get(&host).is_some_and(|at| at.here) {
                out.push(Out::Agent { host: host.clone(), ask: Ask::Check });
                starting.hosts.insert(host);
            } else {
                starting.bad.extend(self.catalog.read(|state| out_of_reach(state, &host)));
            }
        }
        self.starting = Some(starting);
        self.settle_start(out);
    }

    /// An agent has looked at its data directories.
    pub(super) fn checked(&mut self, host: &str, bad: Vec<(Dbid, String)>, out: &mut Vec<Out>) {
        if let Some(starting) = &mut self.starting
            && starting.hosts.remove(host)
        {
            starting.bad.extend(bad);
            self.settle_start(out);
        }
    }

    /// The connection to an agent ended: it will not answer.
    pub(super) fn unchecked(&mut self, host: &str, out: &mut Vec<Out>) {
        let bad = self.catalog.read(|state| out_of_reach(state, host));
        self.checked(host, bad, out);
    }

    fn settle_start(&mut self, out: &mut Vec<Out>) {
        if self.starting.as_ref().is_none_or(|starting| !starting.hosts.is_empty()) {
            return;
        }
        let Some(Starting { asker: (link, op), bad, .. }) = self.starting.take() else { return };
        match self.catalog.read(|state| missing(state, &bad)) {
            Some(text) => self.deny(link, op, text, out),
            None => {
                let mut changes = self.catalog.read(|state| {
                    // What was to be made, and is not in sync yet, is still to be made.
                    let rows = state.instances.iter().filter(|(_, row)| starts(state, row));
                    let up = |wanted: Wanted| if wanted.runs() { wanted } else { Wanted::Up };
                    rows.map(|(dbid, row)| again(*dbid, row, up(row.wanted))).collect::<Vec<_>>()
                });
                changes.push(Change::SetUp(Up::Running));
                self.brings_down = false;
                let text = "the cluster is being brought up".to_owned();
                self.work(changes, Some((link, op)), text, out);
            }
        }
    }

    /// Brings everything down in order, or one host.
    pub(super) fn stop(
        &mut self,
        (link, op): (LinkId, u64),
        host: Option<String>,
        out: &mut Vec<Out>,
    ) {
        let up = self.catalog.read(|state| state.up.clone());
        if up == Up::Founding {
            let text = "there is no cluster yet: `outrigger init` makes one".to_owned();
            return self.deny(link, op, text, out);
        }
        let Some(host) = host else {
            self.brings_down = true;
            self.orders_of = None;
            let changes = vec![Change::SetUp(Up::Stopped)];
            let text = "the cluster is being brought down".to_owned();
            return self.work(changes, Some((link, op)), text, out);
        };
        if !up.is_running() {
            let text = "the cluster is not up: its hosts can be stopped".to_owned();
            return self.deny(link, op, text, out);
        }
        if let Some(busy) = self.balancing.busy() {
            return self.deny(link, op, busy, out);
        }
        match self.catalog.read(|state| self.can_stop(state, &host)) {
            Ok(primaries) => {
                self.balancing.empty_host(host, (link, op), primaries);
                self.settle_balancing(out);
            }
            Err(text) => self.deny(link, op, text, out),
        }
    }

    /// The contents whose primary is on a host that can be stopped without anything being lost from sight.
    pub(super) fn can_stop(&self, state: &State, host: &str) -> Result<Vec<ContentId>, String> {
        if !state.hosts.contains_key(host) {
            return Err(format!("there is no host {host:?}"));
        }
        let rows: Vec<_> = state.instances.values().filter(|row| row.host == host).collect();
        if rows.iter().any(|row| row.content == CATALOG) {
            return Err(format!(
                "host {host} has the coordinator or its standby: activate or remove the standby first"
            ));
        }
        let mut primaries = Vec::new();
        for row in rows {
            let Some(config) = self.config_in(state, row.content) else { continue };
            let elsewhere = config.copies.iter().any(|copy| {
                let other = state.row_of(copy.instance);
                copy.in_sync
                    && other.is_some_and(|(_, other)| other.host != host && other.wanted.runs())
            });
            if !elsewhere {
                return Err(format!(
                    "content {} would have no copy in sync outside of host {host}; recover it first",
                    row.content
                ));
            }
            if config.primary == row.instance {
                primaries.push(row.content);
            }
        }
        Ok(primaries)
    }
}

/// A row that is wanted once more.
pub(super) fn again(dbid: Dbid, row: &Instance, wanted: Wanted) -> Change {
    let row = Instance { wanted, run: row.run.saturating_add(1), ..row.clone() };
    Change::PutInstance { dbid, row }
}

/// Whether a start starts it: what should run, and whatever has every commit.
fn starts(state: &State, row: &Instance) -> bool {
    let content = state.contents.get(&row.content);
    let config = content.and_then(|content| content.register.config());
    let whole = config.is_some_and(|config| config.in_sync(row.instance));
    row.content.0 >= 0 && (row.wanted.runs() || (whole && row.wanted != Wanted::Gone))
}

/// The instances of a host whose agent does not answer.
fn out_of_reach(state: &State, host: &str) -> Vec<(Dbid, String)> {
    let rows = state.instances.iter().filter(|(_, row)| row.host == host && row.content.0 >= 0);
    let why = format!("the agent of host {host} is not connected");
    rows.map(|(dbid, _)| (*dbid, why.clone())).collect()
}

/// What the rows of a new cluster, or of a new part of one, must keep to.
fn check_rows(state: &State, hosts: &[Host], rows: &[(Dbid, Instance)]) -> Result<(), String> {
    for (at, (dbid, row)) in rows.iter().enumerate() {
        let behind = rows.get(at.saturating_add(1)..).unwrap_or_default();
        if !state.hosts.contains_key(&row.host) && !hosts.iter().any(|host| host.name == row.host) {
            return Err(format!("instance {dbid} is on host {:?}, which is not listed", row.host));
        }
        for (other_dbid, other) in behind {
            let both = format!("instances {dbid} and {other_dbid}");
            let same_host = other.host == row.host;
            if other_dbid == dbid || other.instance == row.instance {
                return Err(format!("{both} have one number or one identity"));
            }
            if same_host && other.content == row.content {
                let content = row.content;
                return Err(format!("{both} are copies of content {content} on one host"));
            }
            if same_host && (other.data_dir == row.data_dir || other.addresses == row.addresses) {
                return Err(format!("{both} have one data directory or one address"));
            }
            let primary = Preferred::Primary;
            if other.content == row.content
                && other.preferred == primary
                && row.preferred == primary
            {
                return Err(format!("{both} are both primary of content {}", row.content));
            }
        }
    }
    Ok(())
}

/// Which contents have no copy that could serve, and why.
fn missing(state: &State, bad: &BTreeMap<Dbid, String>) -> Option<String> {
    let mut lines = Vec::new();
    for (id, content) in &state.contents {
        let Some(config) = content.register.config() else { continue };
        let rows: Vec<_> =
            config.in_sync_set().filter_map(|instance| state.row_of(instance)).collect();
        let startable =
            |row: &(Dbid, &Instance)| row.1.wanted != Wanted::Gone && !bad.contains_key(&row.0);
        if rows.is_empty() || rows.iter().any(startable) {
            continue;
        }
        let whys: Vec<_> = rows
            .iter()
            .map(|(dbid, _)| format!("dbid {dbid}: {}", bad.get(dbid).map_or("", String::as_str)))
            .collect();
        lines.push(format!("content {id}: {}", whys.join("; ")));
    }
    (!lines.is_empty()).then(|| {
        format!(
            "there are not enough valid instances to start the cluster: {}; bring one copy of each \
             content back, then start again",
            lines.join(", ")
        )
    })
}
