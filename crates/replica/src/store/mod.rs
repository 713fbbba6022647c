//! The state that the log drives: the contract of a store, and the stores that come with it.
//!
//! # Layout
//! - [`StateStore`]: the contract; [`crate::conformance`] checks it
//! - [`kv`]: the key-value records, shared by both stores
//! - [`memory`]: a store in memory, which can fall back to its checkpoint
//! - [`lsm`]: the default store, on disk
//! - [`run`]: what a run of records must look like, for who writes a store of their own
//!
//! Not here: the log, and when to apply or checkpoint (the member decides).

mod error;
mod export;
pub mod kv;
pub mod lsm;
pub mod memory;
mod replayed;
pub mod run;

pub use error::{RunFault, StoreError};
pub(crate) use export::absorb;
pub use export::{KeyRange, Pair, Snapshot, StateHash};
pub use replayed::{Fold, Replayed};

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::format::Record;

use kv::{ClientId, Holdings, Outcome};

/// What orders a record against others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Partition {
    /// Records with the same number are applied in LSN order; with others there is no order.
    Key(u64),
    /// Everything before is applied first, everything behind it later.
    Barrier,
}

/// A state that is a function of the log.
///
/// # The contract
/// - *Order.* [`apply`](Self::apply) is called by one caller at a time, with records in LSN order. The
///   state is a function of the records, and of nothing else: no clock, no randomness.
/// - *Atomicity.* The records of a batch (all but the last flagged
///   [`BatchContinues`](outrigger_wal::format::RecordFlag::BatchContinues)) come in one run. A reader,
///   a [`snapshot`](Self::snapshot) and a restart see all of it or nothing.
/// - *Idempotence.* A record that ends at or before [`applied`](Self::applied) is ignored, so that
///   replay may start before it.
/// - *Exact checkpoints.* After a crash at any moment the store is the state at its latest checkpoint:
///   [`applied`](Self::applied) and [`checkpointed`](Self::checkpointed) are that LSN, and nothing behind
///   it is there. A store may make checkpoints by itself.
/// - *Errors are sticky.* After an error that is not about the caller's run
///   ([`StoreError::is_about_the_run`]), every later call that changes the state returns it again.
///   Nothing is retried; reopening falls back to the checkpoint.
pub trait StateStore: Send + Sync {
    /// What orders this record, when it stands alone; a batch of several is a barrier.
    fn partition(&self, record: &Record) -> Partition;

    /// Applies records in LSN order; voids are left out by the caller, batches are whole. When it
    /// returns, readers see all of it.
    ///
    /// # Errors
    /// When the run breaks the contract (nothing is applied), a record cannot be read, or the store's
    /// disk fails.
    fn apply(&self, run: &[Record]) -> Result<(), StoreError>;

    /// The end of the last applied record, or a later position told by [`advance`](Self::advance).
    fn applied(&self) -> Lsn;

    /// Tells that there is nothing for the state up to `to`; at or before `applied` it is ignored.
    fn advance(&self, to: Lsn);

    /// Makes everything applied so far durable. Returns that LSN; a crash from now on finds it.
    ///
    /// # Durability
    /// Files and directories are synced before this returns.
    ///
    /// # Errors
    /// When the store's disk fails, or failed before.
    fn checkpoint(&self) -> Result<Lsn, StoreError>;

    /// The LSN of the latest durable checkpoint: where replay starts after a crash.
    fn checkpointed(&self) -> Lsn;

    /// The state as pairs in key order, at one LSN, unaffected by what is applied later.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError>;

    /// Loads the pairs of a whole snapshot, in key order, into a store that is empty; durable when it
    /// returns. After an error or a crash before that the store is empty. Nothing reads meanwhile.
    ///
    /// # Errors
    /// When the store is not empty, the pairs bring an error or mean nothing, or the disk fails.
    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError>;

    /// How large the state is, in bytes, about; `None` where that is not cheap to tell. For people: nothing
    /// hangs on it.
    fn about_bytes(&self) -> Option<u64> {
        None
    }

    /// A hash over the pairs of a range, and the LSN at which it holds; two copies of one log have
    /// the same at the same LSN.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn hash(&self, range: &KeyRange) -> Result<StateHash, StoreError> {
        self.snapshot(range)?.into_hash()
    }
}

/// The rows of a key-value store, as of its applied LSN.
pub trait Rows: Send + Sync {
    /// The value of the row at `key`.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows in key order, from the first at or behind `from`: at most `limit`, and none any more once
    /// [`SCAN_BYTES`] are reached. No row at all: there are none behind `from` (or `limit` is 0). Each
    /// answer is one moment's; to go on, ask from the last key with a zero byte added.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn scan(&self, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// How many rows there are. Reads all of them.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn count(&self) -> Result<u64, StoreError>;

    /// What became of a named write.
    fn outcome(&self, client: ClientId, sequence: u64) -> Outcome;

    /// The buckets that the content holds, as of the applied LSN.
    fn holdings(&self) -> &Holdings;
}

/// A [`Rows::scan`] stops behind the row with which its keys and values reach this: 4 MiB.
pub const SCAN_BYTES: usize = 4 * 1024 * 1024;

/// A key-value store: state and rows.
pub trait KvStore: StateStore + Rows {}

impl<T: StateStore + Rows + ?Sized> KvStore for T {}

/// Takes rows until one of the limits of [`Rows::scan`] is reached.
fn take_rows(
    rows: impl Iterator<Item = Result<(Bytes, Bytes), StoreError>>,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut taken = Vec::new();
    let mut bytes = 0_usize;
    for row in rows.take(limit) {
        let (key, value) = row?;
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        taken.push((key, value));
        if bytes >= SCAN_BYTES {
            break;
        }
    }
    Ok(taken)
}
