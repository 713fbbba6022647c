//! Every content and every copy of it, as JSON: the truth beyond WarehousePG's columns.
//!
//! Guarantees: LSNs are numbers, as last reported. Not here: tables.

use outrigger_cluster::agent::Process;
use outrigger_cluster::operator::ClusterState;
use serde_json::{Value, json};

use super::seats::{Pair, Seat, pairs};

pub(super) fn json(state: &ClusterState) -> Value {
    pairs(state).iter().map(content).collect()
}

fn content(pair: &Pair<'_>) -> Value {
    let state = pair.state;
    json!({
        "content": pair.content.0,
        "log": state.map(|state| state.log.to_string()),
        "segment_bytes": state.map(|state| state.segment_bytes),
        "version": state.map(|state| state.version.0),
        "epoch": state.map(|state| state.epoch.number),
        "primary": state.map(|state| state.primary.to_string()),
        "usable": pair.is_usable(),
        "double_fault": pair.is_double_fault(),
        "note": pair.note(),
        "copies": pair.seats.iter().map(copy).collect::<Vec<_>>(),
    })
}

fn copy(seat: &Seat<'_>) -> Value {
    let copy = seat.copy;
    let addresses = match (seat.instance, copy) {
        (Some(instance), _) => instance.row.addresses.clone(),
        (None, Some(copy)) => copy.addresses.clone(),
        (None, None) => Vec::new(),
    };
    let pid = match seat.process() {
        Some(Process::Running { pid }) => Some(*pid),
        _ => None,
    };
    json!({
        "dbid": seat.dbid().map(|dbid| dbid.0),
        "instance": seat.id().to_string(),
        "role": if seat.is_primary() { "primary" } else { "mirror" },
        "preferred_role": if seat.prefers_primary() { "primary" } else { "mirror" },
        "host": seat.host(),
        "datadir": seat.data_dir(),
        "addresses": addresses,
        "in_sync": seat.in_sync(),
        "held": seat.is_held(),
        "in_touch": copy.is_some_and(|copy| copy.in_touch),
        "catching_up": seat.is_coming_back(),
        "seen": seat.seen(),
        "pid": pid,
        "durable_lsn": seat.durable().0,
        "commit_lsn": copy.map_or(0, |copy| copy.commit.0),
        "applied_lsn": copy.map_or(0, |copy| copy.applied.0),
        "lag_bytes": seat.lag_bytes(),
    })
}
