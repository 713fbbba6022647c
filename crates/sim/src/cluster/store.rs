//! A copy's state: the shipped key-value store in memory, with loss back to the checkpoint at a crash.
//!
//! Beside it: which record was applied where, and what the store decided about it. Not here: whether it was
//! allowed to apply it, and whether it decided well (the checker).

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_replica::store::kv::{ClientId, Op, Outcome, OutcomeLimits, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Rows, SCAN_BYTES, StateHash, StateStore};
use outrigger_wal::Lsn;
use outrigger_wal::format::{Block, Record, RecordFlag};
use xxhash_rust::xxh3::xxh3_64;

/// A client's number, and its own number of a write.
pub(crate) type Name = (u64, u64);

/// One copy's state.
#[derive(Debug)]
pub(crate) struct Store {
    kv: MemoryStore,
    /// Blocks that were handed over: up to where.
    handed: Lsn,
    waiting: Vec<Record>,
    records: BTreeMap<Lsn, u64>,
}

/// A record as it was handed over.
#[derive(Clone, Debug)]
pub(crate) struct AppliedRecord {
    pub(crate) lsn: Lsn,
    pub(crate) digest: u64,
}

/// What the store made of a record.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) lsn: Lsn,
    pub(crate) name: Name,
    /// The row that it gives a value, and a digest of that; `None` when it has no effect.
    pub(crate) effect: Option<(Bytes, u64)>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::over(MemoryStore::new(OutcomeLimits::default()), BTreeMap::new())
    }

    /// What is left of it when its process is gone: the latest checkpoint.
    pub(crate) fn crash(&self) -> Self {
        let kv = self.kv.crash();
        let kept = self.records.range(..kv.applied()).map(|(at, digest)| (*at, *digest)).collect();
        Self::over(kv, kept)
    }

    fn over(kv: MemoryStore, records: BTreeMap<Lsn, u64>) -> Self {
        Self { handed: kv.applied(), kv, waiting: Vec::new(), records }
    }

    /// Takes blocks; returns their records that are new, or what is wrong with them.
    pub(crate) fn take(&mut self, blocks: &[Block]) -> Result<Vec<AppliedRecord>, String> {
        let mut new = Vec::new();
        for block in blocks {
            if block.end() <= self.handed {
                continue;
            }
            if block.lsn() != self.handed {
                return Err(format!(
                    "the store was given {} where it is at {}",
                    block.lsn(),
                    self.handed
                ));
            }
            self.handed = block.end();
            let records = block.records().map_err(|error| error.to_string())?;
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                if record.flag == RecordFlag::Void {
                    continue;
                }
                new.push(AppliedRecord { lsn: record.lsn, digest: xxh3_64(&record.body) });
                self.waiting.push(record);
            }
        }
        Ok(new)
    }

    /// Applies everything up to `to`; returns what was decided.
    pub(crate) fn apply(&mut self, to: Lsn) -> Result<Vec<Decided>, String> {
        let behind = self.waiting.partition_point(|record| record.lsn < to);
        let run: Vec<Record> = self.waiting.drain(..behind).collect();
        let mut decided = Vec::with_capacity(run.len());
        for batch in run.split_inclusive(|record| record.flag == RecordFlag::Record) {
            decided.extend(self.apply_batch(batch)?);
        }
        self.kv.advance(to);
        Ok(decided)
    }

    /// Applies one batch, and sees by the row of its last record whether it had an effect: a value belongs to
    /// one write. What the store answers would not do: of an old name it may remember nothing.
    fn apply_batch(&mut self, batch: &[Record]) -> Result<Vec<Decided>, String> {
        let mut writes = Vec::with_capacity(batch.len());
        for record in batch {
            self.records.insert(record.lsn, xxh3_64(&record.body));
            writes.push(Write::decode(&record.body).map_err(|error| error.to_string())?);
        }
        let last = writes.iter().rev().find_map(|write| match &write.op {
            Op::Put { key, value } => Some((key, value)),
            _ => None,
        });
        let is_there = |kv: &MemoryStore| {
            last.is_some_and(|(key, value)| kv.get(key).ok().flatten().as_ref() == Some(value))
        };
        let before = is_there(&self.kv);
        self.kv.apply(batch).map_err(|error| error.to_string())?;
        let took_effect = !before && is_there(&self.kv);
        let decided = batch.iter().zip(&writes).map(|(record, write)| {
            let effect = match &write.op {
                Op::Put { key, value } if took_effect => Some((key.clone(), xxh3_64(value))),
                _ => None,
            };
            let number = u64::try_from(write.client.0).unwrap_or(u64::MAX);
            Decided { lsn: record.lsn, name: (number, write.sequence), effect }
        });
        Ok(decided.collect())
    }

    /// Everything applied is durable; up to where that is.
    pub(crate) fn make_durable(&self) -> Result<Lsn, String> {
        self.kv.checkpoint().map_err(|error| error.to_string())
    }

    pub(crate) fn applied(&self) -> Lsn {
        self.kv.applied()
    }

    pub(crate) fn checkpoint(&self) -> Lsn {
        self.kv.checkpointed()
    }

    pub(crate) const fn records(&self) -> &BTreeMap<Lsn, u64> {
        &self.records
    }

    /// What became of a write, as far as this copy knows.
    pub(crate) fn outcome(&self, (client, sequence): Name) -> Outcome {
        self.kv.outcome(ClientId(u128::from(client)), sequence)
    }

    /// A hash of rows and outcomes.
    pub(crate) fn hash(&self) -> Result<StateHash, String> {
        self.kv.hash(&KeyRange::all()).map_err(|error| error.to_string())
    }

    /// A digest of each row's value.
    pub(crate) fn rows(&self) -> Result<BTreeMap<Bytes, u64>, String> {
        let mut rows = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let some = self.kv.scan(&from, SCAN_BYTES).map_err(|error| error.to_string())?;
            let Some((last, _)) = some.last() else { return Ok(rows) };
            from = [last, &[0][..]].concat();
            rows.extend(some.iter().map(|(key, value)| (key.clone(), xxh3_64(value))));
        }
    }
}
