//! `outrigger state -b -s -f`: the counts, each segment, the standby.
//!
//! Guarantees: pure; LSNs are as last reported. Not here: problems.

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::Up;
use outrigger_cluster::operator::ClusterState;

use super::problems::recovery_type;
use super::seats::{CATALOG, Pair, Seat, data_pairs, pairs};
use super::tables::{port, role};
use crate::cli::page::{Cell, Fact, Name, Page, Row};

const CONTENTS: &[Name] = &[
    ("Content", "content"),
    ("Primary", "primary"),
    ("Port", "port"),
    ("Epoch", "epoch"),
    ("In-sync set", "in_sync_set"),
    ("Bytes behind", "lag_bytes"),
    ("What", "note"),
];

fn up_word(up: &Up) -> &'static str {
    match up {
        Up::Founding => "Being made",
        Up::Running => "Running",
        Up::Stopped => "Stopped",
        Up::ShutDown { .. } => "Shut down by itself",
    }
}

fn head(state: &ClusterState) -> Vec<Fact> {
    let mut facts = vec![
        (("Cluster", "id"), state.cluster.to_string().into()),
        (("Cluster state", "state"), up_word(&state.up).into()),
        (("Coordinator's epoch", "coordinator_epoch"), state.coordinator_epoch.into()),
    ];
    if let Up::ShutDown { why } = &state.up {
        facts.push((("Why", "why"), why.as_str().into()));
    }
    if let Some((moved, planned)) = state.expanding {
        let text = format!("expanding: {moved} of {planned} buckets of rows have moved");
        facts.push((("Expansion", "expansion"), text.into()));
    }
    let catalog = pairs(state).into_iter().find(|pair| pair.content == CATALOG);
    if let Some(pair) = catalog.filter(|pair| !pair.seats.is_empty()) {
        if let Some(coordinator) = pair.primary() {
            facts.push((("Coordinator instance", "coordinator"), standing_of(coordinator)));
        }
        let standby = pair.mirrors().find(|seat| !seat.is_going());
        let none = Cell::Nothing("No coordinator standby configured");
        facts.push((("Coordinator standby", "standby"), standby.map_or(none, standing_of)));
    }
    facts
}

fn standing_of(seat: &Seat<'_>) -> Cell {
    let alive = if seat.is_alive() { "active" } else { "not active" };
    format!("{} port {}, {alive}", seat.host(), seat.port()).into()
}

/// `-b`: the counts.
pub(super) fn brief(state: &ClusterState) -> Page {
    let pairs = data_pairs(state);
    let mut page = Page::default();
    let mut facts = head(state);
    let total: usize = pairs.iter().map(|pair| pair.seats.len()).sum();
    facts.push((("Total segment instance count from metadata", "instances"), count(total)));
    page.facts("cluster", "", facts).rule();
    let of = |preferred: bool| -> Vec<&Seat<'_>> {
        let seats = pairs.iter().flat_map(|pair| &pair.seats);
        seats.filter(|seat| seat.prefers_primary() == preferred).collect()
    };
    page.facts("primaries", "Primary Segment Status", counts(&of(true))).rule();
    let mirrors = of(false);
    let acting = mirrors.iter().filter(|seat| seat.is_primary()).count();
    let mut facts = counts(&mirrors);
    facts.push((("Acting as primary", "acting_as_primary"), count(acting)));
    facts.push((("Acting as mirror", "acting_as_mirror"), count(mirrors.len() - acting)));
    page.facts("mirrors", "Mirror Segment Status", facts).rule();
    page.rows("summary", "Contents and their acting primary", CONTENTS, contents(&pairs));
    page
}

fn count(count: usize) -> Cell {
    (count as u64).into()
}

fn counts(seats: &[&Seat<'_>]) -> Vec<Fact> {
    let of = |test: &dyn Fn(&Seat<'_>) -> bool| seats.iter().filter(|seat| test(seat)).count();
    let valid = of(&|seat| seat.status() == 'u');
    let runs = of(&|seat| matches!(seat.process(), Some(Process::Running { .. })));
    let unknown = of(&|seat| seat.process().is_none());
    vec![
        (("Total", "total"), count(seats.len())),
        (("Valid at coordinator", "valid"), count(valid)),
        (("Failures at coordinator", "failures"), count(seats.len() - valid)),
        (("In touch with coordinator", "in_touch"), count(of(&|seat| seat.is_alive()))),
        (("Processes found", "processes_found"), count(runs)),
        (("Processes missing", "processes_missing"), count(seats.len() - runs - unknown)),
        (("Processes that no agent tells of", "processes_unknown"), count(unknown)),
    ]
}

fn contents(pairs: &[Pair<'_>]) -> Vec<Row> {
    let row = |pair: &Pair<'_>| {
        let nothing = || Cell::Nothing("-");
        let primary = pair.primary();
        let behind = pair.mirrors().filter(|seat| !seat.is_going()).map(Seat::lag_bytes).max();
        Row::new([
            Cell::Signed(i64::from(pair.content.0)),
            primary.map_or(nothing(), |seat| seat.host().into()),
            primary.map_or(nothing(), port),
            pair.state.map_or(nothing(), |state| state.epoch.number.into()),
            pair.in_sync_set().into(),
            behind.map_or(nothing(), Cell::from),
            pair.note().into(),
        ])
        .bad_if(!pair.is_usable())
    };
    pairs.iter().map(row).collect()
}

/// `-s`: each segment.
pub(super) fn detailed(state: &ClusterState) -> Page {
    let mut page = Page::default();
    page.facts("cluster", "", head(state)).rule();
    let pairs = pairs(state);
    let seats = pairs.iter().flat_map(|pair| pair.seats.iter().map(move |seat| (pair, seat)));
    page.blocks("segments", seats.map(|(pair, seat)| segment(pair, seat)).collect());
    page
}

fn segment(pair: &Pair<'_>, seat: &Seat<'_>) -> Vec<Fact> {
    let unknown = || Cell::Nothing("Unknown");
    let word = |primary: bool| if primary { "Primary" } else { "Mirror" };
    let dbid = seat.dbid().map_or(Cell::Nothing("-"), |dbid| u64::from(dbid.0).into());
    let mut facts: Vec<Fact> = vec![
        (("Hostname", "hostname"), seat.host().into()),
        (("Address", "address"), seat.address().into()),
        (("Datadir", "datadir"), seat.data_dir().into()),
        (("Port", "port"), port(seat)),
        (("Dbid", "dbid"), dbid),
        (("Content", "content"), Cell::Signed(i64::from(seat.content.0))),
        (("Instance", "instance"), seat.id().to_string().into()),
        (("Acts as", "acts_as"), role(seat).into()),
        (("Current role", "role"), word(seat.is_primary()).into()),
        (("Preferred role", "preferred_role"), word(seat.prefers_primary()).into()),
        (("Mirror status", "mirror_status"), mirror_status(pair, seat).into()),
    ];
    if let Some(Process::Rebuilding { done_bytes, total_bytes }) = seat.process() {
        facts.push((("Recovery type", "recovery_type"), recovery_type(seat).into()));
        facts.push((("Recovered bytes", "recovered_bytes"), (*done_bytes).into()));
        facts.push((("Bytes to recover", "total_bytes"), (*total_bytes).into()));
    }
    if let Some(copy) = seat.copy {
        let (durable, applied) = (copy.durable, copy.applied);
        let at = |lsn| if copy.in_touch || seat.is_primary() { Cell::At(lsn) } else { unknown() };
        facts.push((("Flush Location", "durable_lsn"), at(durable)));
        facts.push((("Commit Location", "commit_lsn"), at(copy.commit)));
        facts.push((("Replay Location", "applied_lsn"), at(applied)));
        if !seat.is_primary() {
            let known = copy.in_touch;
            let bytes = |bytes: u64| if known { bytes.into() } else { unknown() };
            facts.push((("Bytes remaining to send to mirror", "lag_bytes"), bytes(copy.lag_bytes)));
            facts.push((
                ("Bytes received but remain to replay", "replay_bytes"),
                bytes(durable.since(applied)),
            ));
        }
    }
    let pid = match seat.process() {
        Some(Process::Running { pid }) => u64::from(*pid).into(),
        Some(_) => Cell::Nothing("Not found"),
        None => unknown(),
    };
    facts.push((("PID", "pid"), pid));
    let configured = if seat.status() == 'u' { "Up" } else { "Down" };
    facts.push((("Configuration reports status as", "config_status"), configured.into()));
    facts.push((("Database status", "status"), seat.seen().into()));
    facts.push((("Waits for it", "in_sync"), seat.in_sync().into()));
    facts.push((("Out until it is recovered", "held"), seat.is_held().into()));
    if let Some(state) = pair.state {
        facts.push((("Epoch", "epoch"), state.epoch.number.into()));
        facts.push((("Configuration version", "version"), state.version.0.into()));
    }
    facts.push((("In-sync set", "in_sync_set"), pair.in_sync_set().into()));
    facts.push((("What goes on", "note"), pair.note().into()));
    facts
}

fn mirror_status(pair: &Pair<'_>, seat: &Seat<'_>) -> &'static str {
    let others = pair.seats.iter().filter(|other| other.id() != seat.id());
    if seat.is_primary() {
        return match (others.count(), pair.is_synchronized()) {
            (0, _) => "Not configured",
            (_, true) => "Synchronized",
            (_, false) => "Not In Sync",
        };
    }
    match seat.stream() {
        Some("backup") if recovery_type(seat) == "differential" => {
            "Copying what differs from primary"
        }
        Some("backup") => "Copying files from primary",
        Some("catchup" | "startup") => "Catchup",
        Some(_) => "Streaming",
        None => "Not In Sync",
    }
}

/// `-f`: the standby, as it is.
pub(super) fn standby(state: &ClusterState) -> Page {
    let mut page = Page::default();
    let pair = pairs(state).into_iter().find(|pair| pair.content == CATALOG);
    let standby = pair.as_ref().and_then(|pair| pair.mirrors().find(|seat| !seat.is_going()));
    let Some(standby) = standby else {
        page.remark("notes", "Standby coordinator instance not configured");
        page.rule().line("-pg_stat_replication").rule().remark("notes", "No entries found.");
        return page;
    };
    let (pid, status) = match standby.process() {
        Some(Process::Running { pid }) => {
            (Cell::from(u64::from(*pid)), Cell::from("Standby host passive"))
        }
        Some(Process::Rebuilding { .. } | Process::Rebuilt) => {
            (Cell::Nothing("-"), "Copying files from coordinator".into())
        }
        Some(_) => (Cell::Nothing("-"), "Standby process not running".into()),
        None if standby.is_alive() => (Cell::Nothing("Unknown"), "Standby host passive".into()),
        None => (Cell::Nothing("Unknown"), "Status could not be determined".into()),
    };
    let facts = vec![
        (("Standby address", "address"), standby.address().into()),
        (("Standby host", "host"), standby.host().into()),
        (("Standby data directory", "datadir"), standby.data_dir().into()),
        (("Standby port", "port"), port(standby)),
        (("Standby PID", "pid"), pid),
        (("Standby status", "status"), status),
    ];
    page.facts("standby", "Standby coordinator details", facts).rule();
    page.line("-pg_stat_replication").rule();
    let Some((copy, stream)) = standby.copy.zip(standby.stream()) else {
        page.remark("notes", "No entries found.");
        return page;
    };
    let sync = if copy.in_sync { "sync" } else { "not in sync" };
    let facts = vec![
        (("WAL Sender State", "sender_state"), stream.into()),
        (("Sync state", "sync_state"), sync.into()),
        (("Flush Location", "durable_lsn"), Cell::At(copy.durable)),
        (("Replay Location", "applied_lsn"), Cell::At(copy.applied)),
        (("Bytes behind", "lag_bytes"), copy.lag_bytes.into()),
    ];
    page.facts("replication", "", facts);
    page
}
