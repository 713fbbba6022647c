//! A state machine of one's own, in memory: a fold over the log, rebuilt from it at each opening.
//!
//! Guarantees: records come in LSN order, batches are seen whole. It never makes a checkpoint, so the
//! whole log is kept: for small states and examples. Not here: anything durable but the log.

use outrigger_wal::Lsn;
use outrigger_wal::format::Record;
use parking_lot::RwLock;

use super::run::batches;
use super::{KeyRange, Pair, Partition, Snapshot, StateStore, StoreError};

/// A state that takes one committed record after the other.
pub trait Fold: Send + Sync {
    /// Takes a record. A function of the state and the record alone: copies must agree.
    fn fold(&mut self, record: &[u8]);
}

/// A [`Fold`] as a store.
///
/// ```
/// use outrigger_replica::store::{Fold, Replayed, StateStore};
///
/// struct Total(u64);
/// impl Fold for Total {
///     fn fold(&mut self, record: &[u8]) {
///         self.0 += record.len() as u64;
///     }
/// }
/// let store = Replayed::new(Total(0));
/// assert_eq!(store.read(|total| total.0), 0);
/// assert_eq!(store.checkpointed().0, 0);
/// ```
#[derive(Debug)]
pub struct Replayed<S> {
    state: RwLock<(S, Lsn)>,
}

impl<S: Fold> Replayed<S> {
    /// A store that begins with `state`, the state before the first record.
    pub const fn new(state: S) -> Self {
        Self { state: RwLock::new((state, Lsn::ZERO)) }
    }

    /// Looks at the state: what is committed and applied here.
    pub fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.state.read().0)
    }
}

impl<S: Fold> StateStore for Replayed<S> {
    fn partition(&self, _record: &Record) -> Partition {
        Partition::Barrier
    }

    fn apply(&self, run: &[Record]) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let applied = state.1;
        for batch in batches(run, applied)? {
            for record in batch {
                state.0.fold(&record.body);
            }
            state.1 = batch.last().map_or(state.1, |record| record.end);
        }
        Ok(())
    }

    fn applied(&self) -> Lsn {
        self.state.read().1
    }

    fn advance(&self, to: Lsn) {
        let mut state = self.state.write();
        state.1 = state.1.max(to);
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        Ok(Lsn::ZERO)
    }

    fn checkpointed(&self) -> Lsn {
        Lsn::ZERO
    }

    fn snapshot(&self, _range: &KeyRange) -> Result<Snapshot, StoreError> {
        Err(StoreError::Unable { what: "be exported" })
    }

    fn restore(
        &self,
        _at: Lsn,
        _pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Unable { what: "be restored" })
    }
}
