//! The key-value state: what its records say, which writes take effect, and how it is exported.
//!
//! Guarantees: both stores share this code, so that the same log gives the same state on every copy;
//! nothing here depends on time, on hash-map order, or on when a checkpoint is made.
//! Not here: where rows are kept ([`super::memory`], [`super::lsm`]).
//!
//! # The exported state
//! Pairs in key order. A key's first byte says what the pair is:
//!
//! | first byte | key | value |
//! |---|---|---|
//! | `h` | bucket, 2 bytes big-endian | whether the content holds the bucket (when it was told) |
//! | `o` | nothing | how many clients were forgotten (when any were) |
//! | `o` | client id, 16 bytes big-endian | the client's window of outcomes |
//! | `r` | the row's key | the row's value |

mod codec;
mod decide;
pub mod holdings;
mod outcomes;

pub use codec::{ClientId, MAX_KEY_BYTES, Op, Write, WriteError};
pub use decide::{Change, decide};
pub use holdings::{Held, Hold, Holdings, HoldingsError, Token, bucket_of};
pub use outcomes::{Outcome, OutcomeLimits, Outcomes, OutcomesError};

use bytes::{BufMut, Bytes, BytesMut};
use outrigger_wal::format::{Record, RecordFlag};
use xxhash_rust::xxh3::xxh3_64;

use outrigger_wal::Lsn;

use super::{KeyRange, Partition, StoreError};

/// The first byte of the exported key of what is known of a bucket.
pub const HOLDING_PREFIX: u8 = b'h';
/// The first byte of the exported key of an outcome window.
pub const OUTCOME_PREFIX: u8 = b'o';
/// The first byte of the exported key of a row.
pub const ROW_PREFIX: u8 = b'r';

/// The exported key of a row.
#[must_use]
pub fn row_key(key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 1);
    out.put_u8(ROW_PREFIX);
    out.put_slice(key);
    out.freeze()
}

/// The range of all rows in the exported state.
#[must_use]
pub fn rows() -> KeyRange {
    KeyRange::prefix(ROW_PREFIX)
}

/// The range of all outcomes in the exported state.
#[must_use]
pub fn outcomes() -> KeyRange {
    KeyRange::prefix(OUTCOME_PREFIX)
}

/// What orders a record against others: the hash of its key; everything else is a barrier.
#[must_use]
pub fn partition(record: &Record) -> Partition {
    if record.flag != RecordFlag::Record {
        return Partition::Barrier;
    }
    match Write::decode(&record.body).map(|write| write.op) {
        Ok(Op::Put { key, .. } | Op::Delete { key } | Op::Fill { key, .. }) => {
            Partition::Key(xxh3_64(&key))
        }
        Ok(Op::Settle | Op::Hold { .. }) | Err(_) => Partition::Barrier,
    }
}

/// Refuses a restore into a store that holds something.
pub(super) const fn check_empty(applied: Lsn, no_rows: bool) -> Result<(), StoreError> {
    if applied.0 == 0 && no_rows { Ok(()) } else { Err(StoreError::NotEmpty { applied }) }
}

/// What a pair says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PairKind {
    Holding,
    Outcomes,
    Row,
}

/// Checks pairs being restored: in key order, and each of a known kind.
#[derive(Debug, Default)]
pub(super) struct PairOrder {
    last: Option<Bytes>,
}

impl PairOrder {
    /// What the next pair is.
    pub(super) fn kind(&mut self, key: &Bytes) -> Result<PairKind, StoreError> {
        if self.last.as_ref().is_some_and(|last| last >= key) {
            return Err(StoreError::PairOrder);
        }
        self.last = Some(key.clone());
        match key.first().copied() {
            Some(ROW_PREFIX) if key.len() <= MAX_KEY_BYTES + 1 => Ok(PairKind::Row),
            Some(OUTCOME_PREFIX) => Ok(PairKind::Outcomes),
            Some(HOLDING_PREFIX) => Ok(PairKind::Holding),
            first => Err(StoreError::ForeignPair { first }),
        }
    }
}
