//! What a copy's log is applied to: rows, or the shipped catalog over slots in memory.
//!
//! Guarantees: a crash leaves the last checkpoint. Not here: what rows mean (`cluster::store`).

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_cluster::catalog::{Catalog, Record};
use outrigger_cluster::slots::MemorySlots;
use outrigger_replica::rules::Rules;
use outrigger_replica::store::StateStore as _;
use outrigger_wal::Lsn;
use outrigger_wal::format::{Block, Record as LogRecord, RecordFlag};
use xxhash_rust::xxh3::xxh3_64;

use crate::cluster::node::Held;
use crate::cluster::store::{AppliedRecord, Decided, Store};

/// The store of a copy.
#[derive(Debug)]
pub(super) enum Holding {
    Rows(Store),
    Catalog(CatalogCopy),
}

/// A copy of the catalog.
#[derive(Debug)]
pub(super) struct CatalogCopy {
    slots: MemorySlots,
    rules: Rules,
    pub(super) catalog: Arc<Catalog>,
    handed: Lsn,
    waiting: Vec<LogRecord>,
    records: BTreeMap<Lsn, u64>,
}

impl Held for Holding {
    fn checkpoint(&self) -> Lsn {
        match self {
            Self::Rows(store) => store.checkpoint(),
            Self::Catalog(copy) => copy.catalog.checkpointed(),
        }
    }
}

impl Holding {
    pub(super) fn rows() -> Self {
        Self::Rows(Store::new())
    }

    pub(super) fn catalog(rules: Rules) -> Result<Self, String> {
        CatalogCopy::over(MemorySlots::default(), rules, BTreeMap::new()).map(Self::Catalog)
    }

    /// What is left of it when its process is gone.
    pub(super) fn crash(&self) -> Result<Self, String> {
        match self {
            Self::Rows(store) => Ok(Self::Rows(store.crash())),
            Self::Catalog(copy) => {
                let to = copy.catalog.checkpointed();
                let kept = copy.records.range(..to).map(|(at, digest)| (*at, *digest)).collect();
                let copy = CatalogCopy::over(copy.slots.clone(), copy.rules, kept)?;
                Ok(Self::Catalog(copy))
            }
        }
    }

    /// Takes blocks; returns their records that are new.
    pub(super) fn take(&mut self, blocks: &[Block]) -> Result<Vec<AppliedRecord>, String> {
        match self {
            Self::Rows(store) => store.take(blocks),
            Self::Catalog(copy) => copy.take(blocks),
        }
    }

    /// Applies everything up to `to`; what a store of rows decided.
    pub(super) fn apply(&mut self, to: Lsn) -> Result<Vec<Decided>, String> {
        match self {
            Self::Rows(store) => store.apply(to),
            Self::Catalog(copy) => copy.apply(to).map(|()| Vec::new()),
        }
    }

    pub(super) fn make_durable(&self) -> Result<Lsn, String> {
        match self {
            Self::Rows(store) => store.make_durable(),
            Self::Catalog(copy) => copy.catalog.checkpoint().map_err(|error| error.to_string()),
        }
    }

    pub(super) fn applied(&self) -> Lsn {
        match self {
            Self::Rows(store) => store.applied(),
            Self::Catalog(copy) => copy.catalog.applied(),
        }
    }

    pub(super) const fn records(&self) -> &BTreeMap<Lsn, u64> {
        match self {
            Self::Rows(store) => store.records(),
            Self::Catalog(copy) => &copy.records,
        }
    }

    /// Whether both hold the same.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rows(one), Self::Rows(two)) => {
                one.records() == two.records() && one.hash() == two.hash()
            }
            (Self::Catalog(one), Self::Catalog(two)) => {
                one.records == two.records
                    && one.catalog.read(|state| two.catalog.read(|other| state == other))
            }
            _ => false,
        }
    }

    pub(super) const fn as_rows(&self) -> Option<&Store> {
        match self {
            Self::Rows(store) => Some(store),
            Self::Catalog(_) => None,
        }
    }

    pub(super) const fn as_catalog(&self) -> Option<&CatalogCopy> {
        match self {
            Self::Rows(_) => None,
            Self::Catalog(copy) => Some(copy),
        }
    }
}

impl CatalogCopy {
    fn over(slots: MemorySlots, rules: Rules, records: BTreeMap<Lsn, u64>) -> Result<Self, String> {
        let catalog =
            Catalog::open(Box::new(slots.clone()), rules).map_err(|error| error.to_string())?;
        let handed = catalog.applied();
        let catalog = Arc::new(catalog);
        Ok(Self { slots, rules, catalog, handed, waiting: Vec::new(), records })
    }

    fn take(&mut self, blocks: &[Block]) -> Result<Vec<AppliedRecord>, String> {
        let mut new = Vec::new();
        for block in blocks {
            if block.end() <= self.handed {
                continue;
            }
            if block.lsn() != self.handed {
                let (at, here) = (block.lsn(), self.handed);
                return Err(format!("the catalog was given {at} where it is at {here}"));
            }
            self.handed = block.end();
            for record in block.records().map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.flag != RecordFlag::Void {
                    new.push(AppliedRecord { lsn: record.lsn, digest: xxh3_64(&record.body) });
                    self.waiting.push(record);
                }
            }
        }
        Ok(new)
    }

    fn apply(&mut self, to: Lsn) -> Result<(), String> {
        let behind = self.waiting.partition_point(|record| record.lsn < to);
        let run: Vec<LogRecord> = self.waiting.drain(..behind).collect();
        for record in &run {
            Record::decode(&record.body).map_err(|error| error.to_string())?;
            self.records.insert(record.lsn, xxh3_64(&record.body));
        }
        self.catalog.apply(&run).map_err(|error| error.to_string())?;
        self.catalog.advance(to);
        Ok(())
    }
}
