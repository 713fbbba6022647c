//! `outrigger state -e`: what is not as it should be.
//!
//! Guarantees: pure; wrong exactly when there is something to show. Not here: what to do about it.

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::{Rebuild, Up, Wanted};
use outrigger_cluster::operator::ClusterState;

use super::seats::{CATALOG, Pair, Seat, data_pairs, pairs};
use crate::cli::page::{Cell, Name, Page, Row};

const SWITCHED: &[Name] = &[
    ("Content", "content"),
    ("Current Primary", "primary"),
    ("Port", "primary_port"),
    ("Mirror", "mirror"),
    ("Port", "mirror_port"),
];
const UNSYNCHRONIZED: &[Name] = &[
    ("Content", "content"),
    ("Current Primary", "primary"),
    ("Port", "primary_port"),
    ("WAL sync remaining bytes", "remaining_bytes"),
    ("Mirror", "mirror"),
    ("Port", "mirror_port"),
];
const DOWNED: &[Name] = &[
    ("Content", "content"),
    ("Segment", "segment"),
    ("Port", "port"),
    ("Config status", "config_status"),
    ("Status", "status"),
];
const RECOVERING: &[Name] = &[
    ("Content", "content"),
    ("Segment", "segment"),
    ("Port", "port"),
    ("Recovery type", "recovery_type"),
    ("Completed bytes (kB)", "completed_kb"),
    ("Total bytes (kB)", "total_kb"),
    ("Percentage completed", "percent"),
];
const UNDER_WAY: &[Name] =
    &[("Content", "content"), ("Epoch", "epoch"), ("In-sync set", "in_sync_set"), ("What", "note")];
const SUSPECTS: &[Name] =
    &[("Content", "content"), ("Segment", "segment"), ("Port", "port"), ("Seen as", "seen")];
const HOSTS: &[Name] = &[("Host", "host"), ("Agent", "agent")];

/// What is wrong, as a page; and whether anything is.
pub(in crate::cli) fn page(state: &ClusterState) -> (Page, bool) {
    let mut page = Page::default();
    page.line("Segment Mirroring Status Report");
    let wrong = problems(state, &mut page);
    if !wrong {
        page.rule().remark("notes", "All segments are running normally");
    }
    (page, wrong)
}

/// Whether anything is wrong.
pub(in crate::cli) fn is_wrong(state: &ClusterState) -> bool {
    problems(state, &mut Page::default())
}

fn problems(state: &ClusterState, page: &mut Page) -> bool {
    let pairs_of_data = data_pairs(state);
    let banners = banners(state, &pairs_of_data);
    let mut wrong = !banners.is_empty();
    if wrong {
        page.rule();
    }
    for banner in banners {
        page.remark("banners", banner);
    }
    let mut table = |key, title: &str, columns, rows: Vec<Row>| {
        if !rows.is_empty() {
            wrong = true;
            page.rule().rows(key, title, columns, rows);
        }
    };
    let pair_rows = |row: fn(&Pair<'_>, &Seat<'_>, &Seat<'_>) -> Option<Row>| {
        let rows = pairs_of_data.iter().flat_map(|pair| {
            let primary = pair.primary();
            pair.mirrors().filter_map(move |mirror| row(pair, primary?, mirror))
        });
        rows.collect::<Vec<_>>()
    };
    let seat_rows = |row: fn(&Seat<'_>) -> Option<Row>| {
        let seats = pairs_of_data.iter().flat_map(|pair| &pair.seats);
        seats.filter_map(row).collect::<Vec<_>>()
    };
    table(
        "roles_switched",
        "Segments with Primary and Mirror Roles Switched",
        SWITCHED,
        pair_rows(|pair, primary, mirror| {
            (pair.roles_are_switched() && !mirror.is_going()).then(|| {
                Row::new([
                    content(primary),
                    host(primary),
                    port(primary),
                    host(mirror),
                    port(mirror),
                ])
            })
        }),
    );
    table(
        "unsynchronized_pairs",
        "Unsynchronized Segment Pairs",
        UNSYNCHRONIZED,
        pair_rows(|_, primary, mirror| {
            (!mirror.in_sync() && !mirror.is_going()).then(|| {
                let known = primary.is_alive() && mirror.is_alive();
                let remaining =
                    if known { mirror.lag_bytes().into() } else { Cell::Nothing("Unknown") };
                Row::new([
                    content(primary),
                    host(primary),
                    port(primary),
                    remaining,
                    host(mirror),
                    port(mirror),
                ])
            })
        }),
    );
    table(
        "downed_segments",
        "Downed Segments (may include segments where status could not be retrieved)",
        DOWNED,
        seat_rows(|seat| is_down(seat).then(|| downed(seat))),
    );
    table("segments_in_recovery", "Segments in recovery", RECOVERING, seat_rows(recovering));
    table(
        "suspect_segments",
        "Suspect Segments",
        SUSPECTS,
        seat_rows(|seat| {
            seat.seen()
                .starts_with("suspect")
                .then(|| Row::new([content(seat), host(seat), port(seat), seat.seen().into()]))
        }),
    );
    let noted = |test: fn(&Pair<'_>) -> bool| {
        pairs_of_data.iter().filter(|pair| test(pair)).map(under_way).collect::<Vec<_>>()
    };
    table("double_faults", "Double Faults", UNDER_WAY, noted(|pair| pair.is_double_fault()));
    table(
        "under_way",
        "Contents on which something is under way",
        UNDER_WAY,
        noted(|pair| pair.is_under_way()),
    );
    let silent = state.hosts.iter().filter(|host| !host.agent_here);
    let silent = silent
        .map(|host| Row::new([host.host.name.as_str().into(), host.host.agent.join(" ").into()]));
    table("hosts_without_agent", "Hosts whose agent is not connected", HOSTS, silent.collect());
    let catalog = pairs(state).into_iter().filter(|pair| pair.content == CATALOG);
    let behind = catalog.flat_map(|pair| pair.seats.clone()).filter(|seat| {
        !seat.is_primary() && !seat.is_going() && (!seat.in_sync() || !seat.is_alive())
    });
    let behind = behind.map(|seat| downed(&seat));
    table("standby", "Standby coordinator not in sync", DOWNED, behind.collect());
    wrong
}

/// What no table can say loudly enough.
fn banners(state: &ClusterState, pairs: &[Pair<'_>]) -> Vec<String> {
    match &state.up {
        Up::Founding if !state.instances.is_empty() => {
            vec!["The cluster is being made".to_owned()]
        }
        Up::Stopped => vec![
            "The cluster was brought down by an administrator: `outrigger start` brings it up"
                .to_owned(),
        ],
        Up::ShutDown { why } => vec![
            "DATABASE IS PROBABLY UNAVAILABLE".to_owned(),
            format!("The cluster went down by itself: {why}"),
        ],
        _ => {
            let lost: Vec<_> = pairs
                .iter()
                .filter(|pair| !pair.is_usable())
                .map(|pair| pair.content.to_string())
                .collect();
            if lost.is_empty() {
                return Vec::new();
            }
            vec![
                "DATABASE IS PROBABLY UNAVAILABLE".to_owned(),
                format!("Contents without a usable instance: {}", lost.join(", ")),
            ]
        }
    }
}

pub(super) fn is_down(seat: &Seat<'_>) -> bool {
    !seat.is_going() && !seat.is_coming_back() && (seat.is_held() || !seat.is_alive())
}

fn content(seat: &Seat<'_>) -> Cell {
    Cell::Signed(i64::from(seat.content.0))
}

fn host(seat: &Seat<'_>) -> Cell {
    seat.host().into()
}

fn port(seat: &Seat<'_>) -> Cell {
    u64::from(seat.port()).into()
}

fn downed(seat: &Seat<'_>) -> Row {
    let down = seat.status() == 'd';
    let status = match (down, seat.is_held()) {
        (_, true) => format!("Down in configuration, until it is recovered: {}", seat.seen()),
        (true, false) => format!("Down in configuration: {}", seat.seen()),
        (false, false) => seat.seen().to_owned(),
    };
    let configured = if down { "Down" } else { "Up" };
    Row::new([content(seat), host(seat), port(seat), configured.into(), status.into()])
}

fn recovering(seat: &Seat<'_>) -> Option<Row> {
    if !seat.is_coming_back() {
        return None;
    }
    let (done, total) = match (seat.process(), seat.copy) {
        (Some(Process::Rebuilding { done_bytes, total_bytes }), _) => (*done_bytes, *total_bytes),
        (Some(Process::Rebuilt), _) => (1, 1),
        (_, Some(copy)) => (copy.durable.0, copy.durable.0.saturating_add(copy.lag_bytes)),
        _ => (0, 0),
    };
    let kilobytes = |bytes: u64| Cell::from(bytes / 1024);
    let percent = percent(done, total);
    Some(Row::new([
        content(seat),
        host(seat),
        port(seat),
        recovery_type(seat).into(),
        kilobytes(done),
        kilobytes(total),
        percent.map_or(Cell::Nothing("Unknown"), |percent| format!("{percent}%").into()),
    ]))
}

/// How it comes back, as far as can be seen.
pub(in crate::cli) fn recovery_type(seat: &Seat<'_>) -> &'static str {
    let rebuilds = matches!(seat.process(), Some(Process::Rebuilding { .. } | Process::Rebuilt));
    match seat.instance.map(|instance| instance.row.wanted) {
        Some(Wanted::Rebuild(Rebuild::Full)) if rebuilds => "full",
        Some(Wanted::Rebuild(Rebuild::Differential)) if rebuilds => "differential",
        _ => "incremental",
    }
}

/// Whole percents, rounded down, so that 100 is all of it.
pub(in crate::cli) fn percent(done: u64, total: u64) -> Option<u64> {
    let share = u128::from(done.min(total)) * 100;
    share.checked_div(u128::from(total)).and_then(|share| u64::try_from(share).ok())
}

fn under_way(pair: &Pair<'_>) -> Row {
    let epoch = pair.state.map_or(Cell::Nothing(""), |state| state.epoch.number.into());
    Row::new([
        Cell::Signed(i64::from(pair.content.0)),
        epoch,
        pair.in_sync_set().into(),
        pair.note().into(),
    ])
}
