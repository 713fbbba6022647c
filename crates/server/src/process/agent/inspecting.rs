//! What the control files of a host's instances say, whether they run or not.
//!
//! Guarantees: nothing is locked or written. Not here: what is made of it (cluster).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use outrigger_cluster::agent::{Accepted, Data, Order};
use outrigger_cluster::catalog::tables::Dbid;
use outrigger_replica::control::Control;
use outrigger_replica::runtime::Replica;
use outrigger_wal::disk::lock::LOCK_NAME;

use crate::process::init::NEWBORN;

/// Both slots may be caught while they are written, the one after the other: rare once, never so often.
const TRIES: usize = 5;

/// Looks into the data directories of these.
pub(super) fn look(orders: &[(Dbid, Order)]) -> Vec<(Dbid, Data)> {
    orders.iter().map(|(dbid, order)| (*dbid, data(Path::new(&order.data_dir)))).collect()
}

fn data(dir: &Path) -> Data {
    match is_empty(dir) {
        Ok(true) => return Data::Nothing,
        Ok(false) => {}
        Err(error) => return Data::Unreadable { why: format!("{}: {error}", dir.display()) },
    }
    let mut why = String::new();
    for _ in 0..TRIES {
        match Replica::control(dir) {
            Ok(control) => return Data::Copy(Box::new(accepted(control))),
            Err(error) => why = format!("{}: {error}", dir.display()),
        }
    }
    Data::Unreadable { why }
}

fn accepted(control: Control) -> Accepted {
    let Control { identity, epoch, version, coordinator_epoch, durable, commit, config, .. } =
        control;
    Accepted { identity, epoch, version, coordinator_epoch, durable, commit, config }
}

/// Whether nothing is there but what is made before an instance is.
fn is_empty(dir: &Path) -> std::io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        if name != LOCK_NAME && name != NEWBORN {
            return Ok(false);
        }
    }
    Ok(true)
}
