//! `outrigger state -m -c -Q -p`: mirrors, pairs, the catalog's word, ports.
//!
//! Guarantees: pure; the type of mirroring is what was configured, never guessed. Not here: problems.

use outrigger_cluster::operator::ClusterState;
use outrigger_cluster::placement::Mirroring;
use outrigger_cluster::settings;

use super::seats::{CATALOG, Pair, Seat, data_pairs, pairs};
use crate::cli::page::{Cell, Name, Page, Row};

const MIRRORS: &[Name] = &[
    ("Mirror", "mirror"),
    ("Datadir", "datadir"),
    ("Port", "port"),
    ("Status", "status"),
    ("Data Status", "data_status"),
];
const MAP: &[Name] = &[
    ("Status", "status"),
    ("Data State", "data_state"),
    ("Primary", "primary"),
    ("Datadir", "primary_datadir"),
    ("Port", "primary_port"),
    ("Mirror", "mirror"),
    ("Datadir", "mirror_datadir"),
    ("Port", "mirror_port"),
];
const DOWN: &[Name] = &[("Down Segment", "segment"), ("Datadir", "datadir"), ("Port", "port")];
const PORTS: &[Name] = &[
    ("Host", "host"),
    ("Datadir", "datadir"),
    ("Port", "port"),
    ("Content", "content"),
    ("Role", "role"),
];

/// What a setting says in this cluster.
pub(in crate::cli) fn setting(state: &ClusterState, name: &str) -> u64 {
    let set = state.settings.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    set.or_else(|| settings::find(name).map(|setting| setting.default)).unwrap_or(0)
}

/// How mirrors are placed; `None`: nobody has recorded it.
pub(in crate::cli) fn mirroring(state: &ClusterState) -> Option<Mirroring> {
    settings::mirroring(setting(state, "mirroring"), setting(state, "block_hosts"))
}

/// `-m`: the instances that were made as mirrors, and whether any of them is not one that follows.
pub(super) fn mirrors(state: &ClusterState) -> (Page, bool) {
    let mut page = Page::default();
    let pairs = data_pairs(state);
    let made: Vec<_> = pairs
        .iter()
        .flat_map(|pair| pair.seats.iter().map(move |seat| (pair, seat)))
        .filter(|(_, seat)| !seat.prefers_primary() && !seat.is_going())
        .collect();
    if made.is_empty() {
        page.remark("notes", "Mirroring is not configured");
        return (page, false);
    }
    let kind = mirroring(state).map_or(Cell::Nothing("Not recorded"), |kind| {
        let mut word = kind.to_string();
        if let Some(first) = word.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        word.into()
    });
    page.line("Current GPDB mirror list and status");
    page.facts("mirroring", "", vec![(("Type", "type"), kind)]).rule();
    let (mut acting, mut failed, mut behind) = (0_usize, 0_usize, 0_usize);
    let mut rows = Vec::new();
    for (pair, seat) in &made {
        let synced = pair.is_synchronized();
        let status = if seat.is_primary() {
            acting += 1;
            "Acting as Primary"
        } else if seat.is_alive() && !seat.is_held() {
            "Passive"
        } else {
            failed += 1;
            "Failed"
        };
        behind += usize::from(!synced);
        let data = if synced { "Synchronized" } else { "Not In Sync" };
        let cells = [seat.host().into(), seat.data_dir().into(), port(seat), status.into()];
        let row = Row::new(cells.into_iter().chain([data.into()]));
        rows.push(row.bad_if(status != "Passive" || !synced));
    }
    page.rows("mirrors", "", MIRRORS, rows).rule();
    let warnings = [
        (acting, "configured as mirror(s) are acting as primaries"),
        (failed, "configured as mirror(s) have failed"),
        (behind, "configured as mirror(s) are not synchronized"),
    ];
    for (count, what) in warnings.iter().filter(|(count, _)| *count > 0) {
        page.remark("warnings", format!("warning: {count} segment(s) {what}"));
    }
    (page, acting + failed + behind > 0)
}

/// `-c`: each primary with its mirror, by the roles that they were made for.
pub(super) fn map(state: &ClusterState) -> Page {
    let mut page = Page::default();
    page.line("Current primary and mirror mappings");
    let rows = data_pairs(state).iter().map(map_row).collect();
    page.rows("pairs", "", MAP, rows);
    page
}

fn map_row(pair: &Pair<'_>) -> Row {
    let nothing = || Cell::Nothing("-");
    let place = |seat: Option<&Seat<'_>>| match seat {
        Some(seat) => [seat.host().into(), seat.data_dir().into(), port(seat)],
        None => [nothing(), nothing(), nothing()],
    };
    let primary = pair.seats.iter().find(|seat| seat.prefers_primary() && !seat.is_going());
    let mirror = pair.seats.iter().find(|seat| !seat.prefers_primary() && !seat.is_going());
    let is_good = |seat: &Seat<'_>| seat.is_alive() && !seat.is_held();
    let status = match (primary, mirror) {
        (_, Some(mirror)) if mirror.is_primary() => match primary.is_some_and(is_good) {
            true => "Mirror Active, Primary Available",
            false => "Mirror Active, Primary Failed",
        },
        (Some(primary), _) if !is_good(primary) => "Primary Failed",
        (_, None) => "Primary Active, No Mirror",
        (_, Some(mirror)) if is_good(mirror) => "Primary Active, Mirror Available",
        (_, Some(_)) => "Primary Active, Mirror Failed",
    };
    let data = match (mirror, pair.is_synchronized()) {
        (None, _) => nothing(),
        (_, true) => "Synchronized".into(),
        (_, false) => "Not In Sync".into(),
    };
    let cells = [status.into(), data].into_iter().chain(place(primary)).chain(place(mirror));
    let well = status == "Primary Active, Mirror Available" && pair.is_synchronized();
    Row::new(cells).bad_if(!well && mirror.is_some())
}

/// `-Q`: what the configuration says, without asking whether it is so; and whether it says that any is down.
pub(super) fn configured(state: &ClusterState) -> (Page, bool) {
    let pairs = data_pairs(state);
    let (up, down): (Vec<_>, Vec<_>) =
        pairs.iter().flat_map(|pair| &pair.seats).partition(|seat| seat.status() == 'u');
    let mut page = Page::default();
    let count = |count: usize| Cell::from(count as u64);
    page.facts(
        "segments",
        "",
        vec![
            (("# of up segments, from configuration table", "up"), count(up.len())),
            (("# of down segments, from configuration table", "down"), count(down.len())),
        ],
    );
    if !down.is_empty() {
        let row =
            |seat: &&Seat<'_>| Row::new([seat.host().into(), seat.data_dir().into(), port(seat)]);
        page.rule().rows("down_segments", "", DOWN, down.iter().map(row).collect());
    }
    (page, !down.is_empty())
}

/// `-p`: who listens where.
pub(super) fn ports(state: &ClusterState) -> Page {
    let mut page = Page::default();
    page.line("Port assignments");
    let seats = pairs(state).into_iter().flat_map(|pair| pair.seats);
    let rows = seats.map(|seat| {
        Row::new([
            seat.host().into(),
            seat.data_dir().into(),
            port(&seat),
            Cell::Signed(i64::from(seat.content.0)),
            role(&seat).into(),
        ])
    });
    page.rows("ports", "", PORTS, rows.collect());
    page
}

/// What it acts as.
pub(super) fn role(seat: &Seat<'_>) -> &'static str {
    match (seat.content, seat.is_primary()) {
        (CATALOG, true) => "coordinator",
        (CATALOG, false) => "standby",
        (_, true) => "primary",
        (_, false) => "mirror",
    }
}

pub(super) fn port(seat: &Seat<'_>) -> Cell {
    u64::from(seat.port()).into()
}
