//! Which writes take effect: each named write at most once, each batch as a whole or not at all.
//!
//! Guarantees: the decision depends on the windows, the holdings and the batch alone. A name may occur several
//! times within one batch (a batch under one name); all of it is decided before any of it. A batch with a row
//! whose bucket is not held has no effect, and is not remembered: as if it had not come.
//! Not here: framing of batches ([`crate::store::run`]).

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::format::Record;

use super::codec::{ClientId, Op, Write, WriteError};
use super::holdings::Holdings;
use super::outcomes::{Outcome, Outcomes};

/// One change of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The record that makes it.
    pub lsn: Lsn,
    /// The row's key.
    pub key: Bytes,
    /// The row's value from now on; `None`: the row is gone.
    pub value: Option<Bytes>,
}

/// Decides one batch (or lone record), notes the outcomes, and appends to `changes` what takes effect.
///
/// A batch has no effect when any of its writes is known already, or lies before what is
/// remembered; its other writes are refused then. Settlements are taken after the writes.
///
/// # Errors
/// The LSN and the reason when a record cannot be read; nothing is noted or appended then.
pub fn decide(
    outcomes: &mut Outcomes,
    holdings: &Holdings,
    batch: &[Record],
    changes: &mut Vec<Change>,
) -> Result<(), (Lsn, WriteError)> {
    let writes = batch
        .iter()
        .map(|record| Write::decode(&record.body).map_err(|error| (record.lsn, error)))
        .collect::<Result<Vec<_>, _>>()?;
    let held = holdings.all_held(writes.iter().filter_map(|write| match &write.op {
        Op::Put { key, .. } | Op::Delete { key } => Some(key),
        _ => None,
    }));
    let takes_effect = held
        && writes.iter().all(|write| {
            write.op == Op::Settle
                || write.client == ClientId::NONE
                || outcomes.is_new(write.client, write.sequence)
        });
    // Known before any of the batch is noted: a name that occurs twice in it is no duplicate.
    let fresh: Vec<bool> =
        writes.iter().map(|write| outcomes.is_new(write.client, write.sequence)).collect();
    for ((record, write), fresh) in batch.iter().zip(&writes).zip(fresh) {
        if write.client == ClientId::NONE || write.op == Op::Settle {
            continue;
        }
        if !held {
            // Its client goes on under the same name, wherever the row is now.
            continue;
        }
        if fresh {
            outcomes.note(write.client, write.sequence, record.lsn, record.end, takes_effect);
        } else {
            outcomes.touch(write.client, record.lsn);
        }
    }
    for (record, write) in batch.iter().zip(writes) {
        let (key, value) = match write.op {
            Op::Put { key, value } => (key, Some(value)),
            Op::Delete { key } => (key, None),
            Op::Settle => {
                if outcomes.outcome(write.client, write.sequence) == Outcome::Unknown {
                    outcomes.note(write.client, write.sequence, record.lsn, record.end, false);
                }
                continue;
            }
            Op::Hold { bucket, hold } => {
                holdings.tell(bucket, hold);
                continue;
            }
            Op::Fill { token, key, value } => {
                if holdings.takes(&key, token) {
                    changes.push(Change { lsn: record.lsn, key, value });
                }
                continue;
            }
        };
        if takes_effect {
            holdings.changes(&key, record.lsn);
            changes.push(Change { lsn: record.lsn, key, value });
        }
    }
    Ok(())
}
