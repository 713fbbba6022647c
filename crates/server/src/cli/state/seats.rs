//! Contents and their copies, put together out of what the coordinator says: what every table is made from.
//!
//! Guarantees: pure; a cluster without agents, whose catalog has no rows, is shown by its configurations alone.
//! Not here: tables.

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::{Dbid, Preferred, Wanted};
use outrigger_cluster::operator::{ClusterState, ContentState, CopyRole, CopyState, InstanceState};
use outrigger_wal::{ContentId, InstanceId, Lsn};

use crate::process::instance::short;

/// The content of the catalog.
pub(in crate::cli) const CATALOG: ContentId = ContentId(-1);

/// One copy of one content.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Seat<'a> {
    pub(in crate::cli) content: ContentId,
    /// Its row; `None` in a cluster without agents.
    pub(in crate::cli) instance: Option<&'a InstanceState>,
    /// Its place in the configuration; `None`: it is in none.
    pub(in crate::cli) copy: Option<&'a CopyState>,
}

/// One content.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Pair<'a> {
    pub(in crate::cli) content: ContentId,
    /// What is recorded; `None`: nothing yet.
    pub(in crate::cli) state: Option<&'a ContentState>,
    /// Its copies: the preferred primary first, then by number.
    pub(in crate::cli) seats: Vec<Seat<'a>>,
}

/// Every content, by id; the catalog's own (-1) first.
pub(in crate::cli) fn pairs(state: &ClusterState) -> Vec<Pair<'_>> {
    let recorded = state.contents.iter().map(|content| content.content);
    let rows = state.instances.iter().map(|instance| instance.row.content);
    let mut contents: Vec<_> = recorded.chain(rows).collect();
    contents.sort_unstable();
    contents.dedup();
    contents.into_iter().map(|content| pair(state, content)).collect()
}

/// Every content of data.
pub(in crate::cli) fn data_pairs(state: &ClusterState) -> Vec<Pair<'_>> {
    pairs(state).into_iter().filter(|pair| pair.content != CATALOG).collect()
}

fn pair(state: &ClusterState, content: ContentId) -> Pair<'_> {
    let recorded = state.contents.iter().find(|at| at.content == content);
    let copies = recorded.map_or(&[][..], |at| &at.copies[..]);
    let rows = state.instances.iter().filter(|at| at.row.content == content);
    let mut seats: Vec<_> = rows
        .map(|instance| Seat {
            content,
            instance: Some(instance),
            copy: copies.iter().find(|copy| copy.instance == instance.row.instance),
        })
        .collect();
    let known: Vec<InstanceId> = seats.iter().map(Seat::id).collect();
    let unlisted = copies.iter().filter(|copy| !known.contains(&copy.instance));
    seats.extend(unlisted.map(|copy| Seat { content, instance: None, copy: Some(copy) }));
    seats.sort_by_key(|seat| (!seat.prefers_primary(), seat.dbid()));
    Pair { content, state: recorded, seats }
}

impl<'a> Pair<'a> {
    pub(in crate::cli) fn primary(&self) -> Option<&Seat<'a>> {
        self.seats.iter().find(|seat| seat.is_primary())
    }

    pub(in crate::cli) fn mirrors(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| !seat.is_primary())
    }

    /// Those that are not to be removed: one on a lost host may wait for that for long.
    fn staying(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| !seat.is_going())
    }

    /// What is going on, in words: `ok` when nothing is.
    pub(in crate::cli) fn note(&self) -> &'a str {
        self.state.map_or("not made yet", |state| state.note.as_str())
    }

    pub(in crate::cli) fn is_double_fault(&self) -> bool {
        self.note().starts_with("double fault")
    }

    /// Whether the coordinator is changing something, or waits until it can.
    pub(in crate::cli) fn is_under_way(&self) -> bool {
        let words = ["promoting", "handing over", "waiting", "unproved", "shutting down"];
        words.iter().any(|word| self.note().starts_with(word))
    }

    /// Whether a copy that has every commit is there.
    pub(in crate::cli) fn is_usable(&self) -> bool {
        !self.is_double_fault() && self.seats.iter().any(|seat| seat.in_sync() && seat.is_alive())
    }

    /// Whether all of its copies hold every commit, and there are two at least.
    pub(in crate::cli) fn is_synchronized(&self) -> bool {
        self.staying().count() > 1 && self.staying().all(Seat::in_sync)
    }

    pub(in crate::cli) fn roles_are_switched(&self) -> bool {
        self.staying().any(|seat| seat.is_primary() != seat.prefers_primary())
    }

    /// The copies that commits wait for, by name.
    pub(in crate::cli) fn in_sync_set(&self) -> String {
        let names = self.seats.iter().filter(|seat| seat.in_sync()).map(Seat::name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Seat<'_> {
    pub(in crate::cli) fn id(&self) -> InstanceId {
        match (self.instance, self.copy) {
            (Some(instance), _) => instance.row.instance,
            (None, Some(copy)) => copy.instance,
            (None, None) => InstanceId::default(),
        }
    }

    pub(in crate::cli) fn dbid(&self) -> Option<Dbid> {
        self.instance.map(|instance| instance.dbid)
    }

    /// `dbid 5`; where it has none, the beginning of its identity.
    pub(in crate::cli) fn name(&self) -> String {
        match self.dbid() {
            Some(dbid) => format!("dbid {dbid}"),
            None => short(self.id()),
        }
    }

    fn first_address(&self) -> &str {
        let addresses = match (self.instance, self.copy) {
            (Some(instance), _) => &instance.row.addresses,
            (None, Some(copy)) => &copy.addresses,
            (None, None) => return "",
        };
        addresses.first().map_or("", String::as_str)
    }

    /// The first address without its port.
    pub(in crate::cli) fn address(&self) -> &str {
        self.first_address().rsplit_once(':').map_or("", |(address, _)| address)
    }

    pub(in crate::cli) fn port(&self) -> u16 {
        let port = self.first_address().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or(0)
    }

    /// The name of its host; in a cluster without agents, its address.
    pub(in crate::cli) fn host(&self) -> &str {
        self.instance.map_or_else(|| self.address(), |instance| instance.row.host.as_str())
    }

    pub(in crate::cli) fn data_dir(&self) -> &str {
        self.instance.map_or("", |instance| instance.row.data_dir.as_str())
    }

    pub(in crate::cli) fn is_primary(&self) -> bool {
        self.copy.is_some_and(|copy| copy.role == CopyRole::Primary)
    }

    pub(in crate::cli) fn prefers_primary(&self) -> bool {
        match self.instance {
            Some(instance) => instance.row.preferred == Preferred::Primary,
            None => self.is_primary(),
        }
    }

    pub(in crate::cli) fn in_sync(&self) -> bool {
        self.copy.is_some_and(|copy| copy.in_sync)
    }

    pub(in crate::cli) fn is_held(&self) -> bool {
        self.copy.is_some_and(|copy| copy.held)
    }

    /// Whether it is to be removed.
    pub(in crate::cli) fn is_going(&self) -> bool {
        self.instance.is_some_and(|instance| instance.row.wanted == Wanted::Gone)
    }

    pub(in crate::cli) fn process(&self) -> Option<&Process> {
        self.instance.and_then(|instance| instance.process.as_ref())
    }

    /// Whether the coordinator hears it.
    pub(in crate::cli) fn is_alive(&self) -> bool {
        if self.content == CATALOG {
            // Whoever answers is the coordinator itself; a standby is watched by its agent.
            let runs = matches!(self.process(), Some(Process::Running { .. }));
            return self.is_primary() || runs || self.copy.is_some_and(|copy| copy.in_touch);
        }
        let dead = self.instance.is_some_and(|instance| instance.seen.starts_with("dead"));
        !dead && self.copy.is_some_and(|copy| copy.in_touch)
    }

    /// How it is seen, in words.
    pub(in crate::cli) fn seen(&self) -> &str {
        match self.instance {
            Some(instance) => &instance.seen,
            None if self.is_alive() => "up",
            None => "out of touch",
        }
    }

    /// `s` or `n`, as the tables call it.
    pub(in crate::cli) fn mode(&self) -> char {
        let standing = self.instance.and_then(|instance| instance.standing);
        standing.map_or(if self.in_sync() { 's' } else { 'n' }, |standing| standing.mode)
    }

    /// `u` or `d`, as the tables call it.
    pub(in crate::cli) fn status(&self) -> char {
        let standing = self.instance.and_then(|instance| instance.standing);
        let up = self.is_primary() || self.in_sync();
        standing.map_or(if up { 'u' } else { 'd' }, |standing| standing.status)
    }

    pub(in crate::cli) fn durable(&self) -> Lsn {
        self.copy.map_or(Lsn::ZERO, |copy| copy.durable)
    }

    pub(in crate::cli) fn lag_bytes(&self) -> u64 {
        self.copy.map_or(0, |copy| copy.lag_bytes)
    }

    /// Whether its primary brings it in sync, or its data is made anew.
    pub(in crate::cli) fn is_coming_back(&self) -> bool {
        let rebuilds =
            matches!(self.process(), Some(Process::Rebuilding { .. } | Process::Rebuilt));
        let follows = self.copy.is_some() && !self.in_sync() && !self.is_held() && self.is_alive();
        !self.is_primary() && !self.is_going() && (rebuilds || follows)
    }

    /// `startup`, `backup`, `catchup` or `streaming`, as the tables call it; `None`: there is no stream.
    pub(in crate::cli) fn stream(&self) -> Option<&'static str> {
        if self.is_primary() || self.is_held() {
            return None;
        }
        if matches!(self.process(), Some(Process::Rebuilding { .. })) {
            return Some("backup");
        }
        if !self.is_alive() {
            return None;
        }
        self.copy.map(|copy| match (copy.in_sync, copy.durable) {
            (true, _) => "streaming",
            (false, Lsn::ZERO) => "startup",
            (false, _) => "catchup",
        })
    }
}
