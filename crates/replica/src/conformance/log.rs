//! A log for the checks: records at plausible LSNs, and the state that each prefix must give.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::format::{Record, RecordFlag};

use super::{Factory, Failure, Subject};
use crate::store::KeyRange;

/// A log in the making.
pub(super) struct Log {
    next: u64,
    pub(super) records: Vec<Record>,
}

impl Log {
    pub(super) const fn new() -> Self {
        Self {
            next: 4096,
            records: Vec::new(),
        }
    }

    /// Behind the last record.
    pub(super) fn end(&self) -> Lsn {
        self.records.last().map_or(Lsn::ZERO, |last| last.end)
    }

    /// Appends a record; returns its end.
    pub(super) fn push(&mut self, body: Bytes, flag: RecordFlag) -> Lsn {
        let lsn = Lsn(self.next);
        let end = lsn.saturating_add(body.len() as u64 + 2);
        self.records.push(Record {
            lsn,
            end,
            flag,
            body,
        });
        self.next = end.0;
        end
    }

    pub(super) fn one(&mut self, body: Bytes) -> Lsn {
        self.push(body, RecordFlag::Record)
    }

    pub(super) fn batch(&mut self, bodies: impl IntoIterator<Item = Bytes>) -> Lsn {
        for body in bodies {
            self.push(body, RecordFlag::BatchContinues);
        }
        if let Some(last) = self.records.last_mut() {
            last.flag = RecordFlag::Record;
        }
        self.end()
    }

    /// Batches of three records each, over few things, so that all are written again and again.
    pub(super) fn of_batches(factory: &dyn Factory, batches: u64) -> Self {
        let mut log = Self::new();
        for n in 1..=batches {
            log.batch([0, 1 + n % 3, 4 + n % 5].map(|key| factory.body(key, n)));
        }
        log
    }

    /// The log cut into runs of so many batches.
    pub(super) fn runs(&self, batches: usize) -> impl Iterator<Item = &[Record]> {
        let mut whole = 0;
        self.records.split_inclusive(move |record| {
            whole += usize::from(record.flag == RecordFlag::Record);
            record.flag == RecordFlag::Record && whole % batches.max(1) == 0
        })
    }

    /// The hash of the state behind each batch, from a store that takes one at a time.
    pub(super) fn hashes(&self, factory: &mut dyn Factory) -> Result<BTreeMap<Lsn, u128>, Failure> {
        let store = factory.create()?;
        let mut hashes = BTreeMap::from([(Lsn::ZERO, hash(&store)?)]);
        for run in self.runs(1) {
            store.state.apply(run)?;
            hashes.insert(store.state.applied(), hash(&store)?);
        }
        Ok(hashes)
    }
}

/// The hash of the whole state.
pub(super) fn hash(subject: &Subject) -> Result<u128, Failure> {
    Ok(subject.state.hash(&KeyRange::all())?.hash)
}
