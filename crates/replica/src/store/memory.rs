//! The store in memory: for tests, the simulator, and states that are rebuilt from the log anyway.
//!
//! Guarantees: the whole contract; a crash is [`MemoryStore::crash`], which falls back to the copy kept
//! by the latest checkpoint. A checkpoint copies all rows, so that its cost grows with them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::format::Record;
use parking_lot::RwLock;

use super::kv::{self, ClientId, Holdings, Outcome, OutcomeLimits, Outcomes, PairKind};
use super::{KeyRange, Pair, Partition, Rows, Snapshot, StateStore, StoreError, run, take_rows};

#[derive(Clone, Debug, Default)]
struct State {
    /// By exported key.
    rows: BTreeMap<Bytes, Bytes>,
    outcomes: Outcomes,
    /// Of what is saved; those of the live state are the store's own.
    holdings: Holdings,
    applied: Lsn,
}

#[derive(Debug, Default)]
struct Inner {
    live: State,
    saved: State,
    failed: Option<StoreError>,
}

/// A key-value store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    limits: OutcomeLimits,
    inner: RwLock<Inner>,
    holdings: Holdings,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(limits: OutcomeLimits) -> Self {
        Self::from_state(limits, &State { outcomes: Outcomes::new(limits), ..State::default() })
    }

    fn from_state(limits: OutcomeLimits, state: &State) -> Self {
        let inner = Inner { live: state.clone(), saved: state.clone(), failed: None };
        Self { limits, inner: RwLock::new(inner), holdings: state.holdings.clone() }
    }

    /// The store that a restart finds after a crash now: the state at the latest checkpoint.
    #[must_use]
    pub fn crash(&self) -> Self {
        Self::from_state(self.limits, &self.inner.read().saved)
    }
}

impl State {
    fn rows_from<'a>(&'a self, from: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        self.rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
    }
}

impl StateStore for MemoryStore {
    fn partition(&self, record: &Record) -> Partition {
        kv::partition(record)
    }

    fn apply(&self, run: &[Record]) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        let (decide, mut changes) = (kv::decide, Vec::new());
        for batch in run::batches(run, inner.live.applied)? {
            let state = &mut inner.live;
            if let Err((lsn, cause)) =
                decide(&mut state.outcomes, &self.holdings, batch, &mut changes)
            {
                let error = StoreError::Record { lsn, cause };
                inner.failed = Some(error.clone());
                return Err(error);
            }
            for change in changes.drain(..) {
                let key = kv::row_key(&change.key);
                match change.value {
                    // Copied: a slice would keep the whole block in memory.
                    Some(value) => state.rows.insert(key, Bytes::copy_from_slice(&value)),
                    None => state.rows.remove(&key),
                };
            }
            if let Some(last) = batch.last() {
                state.applied = last.end;
            }
        }
        Ok(())
    }

    fn applied(&self) -> Lsn {
        self.inner.read().live.applied
    }

    fn advance(&self, to: Lsn) {
        let mut inner = self.inner.write();
        inner.live.applied = inner.live.applied.max(to);
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        let mut inner = self.inner.write();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        inner.saved = State { holdings: self.holdings.clone(), ..inner.live.clone() };
        Ok(inner.saved.applied)
    }

    fn checkpointed(&self) -> Lsn {
        self.inner.read().saved.applied
    }

    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError> {
        let inner = self.inner.read();
        let state = &inner.live;
        let rows = state.rows_from(&range.from).map(|(key, value)| (key.clone(), value.clone()));
        let pairs: Vec<_> = self
            .holdings
            .export()
            .into_iter()
            .chain(state.outcomes.export())
            .filter(|(key, _)| range.contains(key))
            .chain(rows.take_while(|(key, _)| range.contains(key)))
            .map(Ok)
            .collect();
        Ok(Snapshot::new(state.applied, pairs.into_iter()))
    }

    fn about_bytes(&self) -> Option<u64> {
        let inner = self.inner.read();
        let bytes = |(key, value): (&Bytes, &Bytes)| (key.len() + value.len()) as u64;
        Some(inner.live.rows.iter().map(bytes).sum())
    }

    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        kv::check_empty(inner.live.applied, inner.live.rows.is_empty())?;
        let mut state =
            State { outcomes: Outcomes::new(self.limits), applied: at, ..State::default() };
        let mut order = kv::PairOrder::default();
        for pair in pairs {
            let (key, value) = pair?;
            match order.kind(&key)? {
                PairKind::Row => drop(state.rows.insert(key, value)),
                PairKind::Outcomes => state.outcomes.import(&key, &value)?,
                PairKind::Holding => state.holdings.import(&key, &value)?,
            }
        }
        self.holdings.become_like(&state.holdings);
        inner.saved = state.clone();
        inner.live = state;
        Ok(())
    }
}

impl Rows for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.read().live.rows.get(&kv::row_key(key)).cloned())
    }

    fn scan(&self, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let inner = self.inner.read();
        let from = kv::row_key(from);
        let rows = inner.live.rows_from(&from);
        take_rows(rows.map(|(key, value)| Ok((key.slice(1..), value.clone()))), limit)
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.inner.read().live.rows.len() as u64)
    }

    fn outcome(&self, client: ClientId, sequence: u64) -> Outcome {
        self.inner.read().live.outcomes.outcome(client, sequence)
    }

    fn holdings(&self) -> &Holdings {
        &self.holdings
    }
}
