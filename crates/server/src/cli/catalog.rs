//! `outrigger catalog`: the catalog's tables, with WarehousePG's columns.
//!
//! Guarantees: columns in WarehousePG's order; what nobody knows here is empty, and null as JSON.
//! Not here: the truth beyond those columns (`outrigger state`).

use clap::{Args, ValueEnum};
use outrigger_cluster::catalog::tables::History;
use outrigger_cluster::operator::ClusterState;
use serde_json::Value;

use super::asking::Asking;
use super::page::{Cell, Name, Page, Row};
use super::state::seats::{CATALOG, Seat, pairs};
use super::time::utc;
use crate::error::{Error, Verdict};
use crate::output::say_json;
use crate::process;

const CONFIGURATION: &[Name] = &[
    ("dbid", "dbid"),
    ("content", "content"),
    ("role", "role"),
    ("preferred_role", "preferred_role"),
    ("mode", "mode"),
    ("status", "status"),
    ("port", "port"),
    ("hostname", "hostname"),
    ("address", "address"),
    ("datadir", "datadir"),
];
const HISTORY: &[Name] = &[("time", "time"), ("dbid", "dbid"), ("description", "description")];
const REPLICATION: &[Name] = &[
    ("gp_segment_id", "gp_segment_id"),
    ("pid", "pid"),
    ("usesysid", "usesysid"),
    ("usename", "usename"),
    ("application_name", "application_name"),
    ("client_addr", "client_addr"),
    ("client_hostname", "client_hostname"),
    ("client_port", "client_port"),
    ("backend_start", "backend_start"),
    ("backend_xmin", "backend_xmin"),
    ("state", "state"),
    ("sent_location", "sent_location"),
    ("write_location", "write_location"),
    ("flush_location", "flush_location"),
    ("replay_location", "replay_location"),
    ("sync_priority", "sync_priority"),
    ("sync_state", "sync_state"),
    ("sync_error", "sync_error"),
];
const SLOTS: &[Name] = &[
    ("gp_segment_id", "gp_segment_id"),
    ("slot_name", "slot_name"),
    ("plugin", "plugin"),
    ("slot_type", "slot_type"),
    ("datoid", "datoid"),
    ("database", "database"),
    ("temporary", "temporary"),
    ("active", "active"),
    ("active_pid", "active_pid"),
    ("xmin", "xmin"),
    ("catalog_xmin", "catalog_xmin"),
    ("restart_lsn", "restart_lsn"),
    ("confirmed_flush_lsn", "confirmed_flush_lsn"),
];
/// Every mirror's connection has this name there.
const WALRECEIVER: &str = "gp_walreceiver";
/// Every primary's slot has this name there.
const SLOT: &str = "internal_wal_replication_slot";

#[derive(Debug, Args)]
pub(super) struct Catalog {
    /// Which table
    #[arg(value_enum)]
    table: Table,
    /// At most so many rows of history, the newest
    #[arg(long, value_name = "N", default_value_t = 4096)]
    limit: u32,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    /// Every instance: role, mode, status, place
    #[value(name = "gp_segment_configuration")]
    Configuration,
    /// What happened, the oldest first
    #[value(name = "gp_configuration_history")]
    History,
    /// One row for each stream from a primary to a mirror or the standby
    #[value(name = "gp_stat_replication")]
    Replication,
    /// One row for each copy that its primary keeps log for
    #[value(name = "gp_replication_slots")]
    Slots,
}

impl Catalog {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let (columns, rows) = process::runtime()?.block_on(async {
            Ok::<_, Error>(match self.table {
                Table::Configuration => (CONFIGURATION, configuration(&self.asking.state().await?)),
                Table::History => (HISTORY, history(&self.asking.history(self.limit).await?)),
                Table::Replication => (REPLICATION, replication(&self.asking.state().await?)),
                Table::Slots => (SLOTS, slots(&self.asking.state().await?)),
            })
        })?;
        let mut page = Page::default();
        page.rows("rows", "", columns, rows);
        if self.asking.json {
            let rows = page.json().remove("rows").unwrap_or(Value::Array(Vec::new()));
            say_json(&rows)?;
        } else {
            page.print(false)?;
        }
        Ok(Verdict::Good)
    }
}

fn empty() -> Cell {
    Cell::Nothing("")
}

fn number(number: u16) -> Cell {
    u64::from(number).into()
}

/// A content as a number, as that table has it.
fn segment(seat: &Seat<'_>) -> Cell {
    Cell::Signed(i64::from(seat.content.0))
}

fn configuration(state: &ClusterState) -> Vec<Row> {
    let mut seats: Vec<_> = pairs(state).into_iter().flat_map(|pair| pair.seats).collect();
    seats.sort_by_key(Seat::dbid);
    let row = |seat: &Seat<'_>| {
        let letter = |primary: bool| if primary { "p" } else { "m" };
        // Meaningless for the catalog's own content there: always these.
        let mode = match (seat.content, seat.is_primary()) {
            (CATALOG, true) => 'n',
            (CATALOG, false) => 's',
            _ => seat.mode(),
        };
        Row::new([
            seat.dbid().map_or_else(empty, |dbid| number(dbid.0)),
            segment(seat),
            letter(seat.is_primary()).into(),
            letter(seat.prefers_primary()).into(),
            mode.to_string().into(),
            seat.status().to_string().into(),
            number(seat.port()),
            seat.host().into(),
            seat.address().into(),
            seat.data_dir().into(),
        ])
    };
    seats.iter().map(row).collect()
}

fn history(rows: &[History]) -> Vec<Row> {
    let row = |row: &History| {
        Row::new([utc(row.at).into(), number(row.dbid.0), row.description.as_str().into()])
    };
    rows.iter().map(row).collect()
}

/// Streams, as far as reports tell. A report says what is durable and what is applied; a copy writes and makes
/// durable in one step, so its write location is its flush location.
fn replication(state: &ClusterState) -> Vec<Row> {
    let mut rows = Vec::new();
    for pair in pairs(state) {
        for seat in pair.mirrors() {
            let Some((stream, copy)) = seat.stream().zip(seat.copy) else { continue };
            let sync = if copy.in_sync { "sync" } else { "async" };
            let at = |known: bool, lsn| if known { Cell::At(lsn) } else { empty() };
            rows.push(Row::new([
                segment(seat),
                empty(),
                empty(),
                empty(),
                WALRECEIVER.into(),
                seat.address().into(),
                seat.host().into(),
                empty(),
                empty(),
                empty(),
                stream.into(),
                empty(),
                Cell::At(copy.durable),
                Cell::At(copy.durable),
                at(copy.in_touch, copy.applied),
                u64::from(copy.in_sync).into(),
                sync.into(),
                "none".into(),
            ]));
        }
    }
    rows
}

/// Copies that log is kept for.
fn slots(state: &ClusterState) -> Vec<Row> {
    let mut rows = Vec::new();
    for pair in pairs(state) {
        for seat in pair.mirrors().filter(|seat| seat.copy.is_some()) {
            rows.push(Row::new([
                segment(seat),
                SLOT.into(),
                empty(),
                "physical".into(),
                empty(),
                empty(),
                false.into(),
                seat.stream().is_some().into(),
                empty(),
                empty(),
                empty(),
                Cell::At(seat.durable()),
                empty(),
            ]));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::world;
    use super::*;

    fn cell(rows: &[Row], columns: &[Name], row: usize, name: &str) -> Cell {
        let at = columns.iter().position(|(title, _)| *title == name).unwrap();
        rows[row].cells[at].clone()
    }

    #[test]
    fn a_healthy_cluster_has_a_row_for_each_instance_in_the_order_of_numbers() {
        let state = world::healthy();
        let rows = configuration(&state);
        let of = |row, name| cell(&rows, CONFIGURATION, row, name);
        assert_eq!(rows.len(), 6);
        let all: Vec<_> = (0..rows.len()).map(|row| of(row, "dbid")).collect();
        assert_eq!(all, (1..=6_u64).map(Cell::from).collect::<Vec<_>>());
        assert_eq!((of(0, "mode"), of(5, "mode")), ("n".into(), "s".into()), "meaningless there");
        assert_eq!((of(1, "mode"), of(1, "status")), ("s".into(), "u".into()));
        assert!(rows.iter().all(|row| row.cells.len() == CONFIGURATION.len()));
    }

    #[test]
    fn a_failed_over_pair_has_its_roles_swapped_and_the_old_primary_is_down() {
        let state = world::failed_over();
        let rows = configuration(&state);
        let of = |row, name| cell(&rows, CONFIGURATION, row, name);
        assert_eq!((of(1, "role"), of(1, "preferred_role")), ("m".into(), "p".into()));
        assert_eq!((of(1, "mode"), of(1, "status")), ("n".into(), "d".into()));
        assert_eq!((of(3, "role"), of(3, "status")), ("p".into(), "u".into()));
    }

    #[test]
    fn there_is_a_row_for_each_stream_and_for_each_slot() {
        let state = world::healthy();
        let rows = replication(&state);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.cells.len() == REPLICATION.len()));
        assert_eq!(cell(&rows, REPLICATION, 1, "state"), "streaming".into());
        assert_eq!(cell(&rows, REPLICATION, 1, "sync_state"), "sync".into());
        assert!(slots(&state).iter().all(|row| row.cells.len() == SLOTS.len()));

        // The one that is out has no stream; log is kept for it.
        let state = world::failed_over();
        assert_eq!(replication(&state).len(), 2);
        let kept = slots(&state);
        assert_eq!(cell(&kept, SLOTS, 1, "active"), false.into());
    }
}
