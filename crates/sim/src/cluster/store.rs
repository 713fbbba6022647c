//! A state store in memory: what was applied, by LSN, with loss back to the checkpoint at a crash.
//!
//! Not here: whether it was allowed to apply it (the checker).

use std::collections::BTreeMap;

use outrigger_wal::Lsn;
use outrigger_wal::format::{Block, RecordFlag};
use xxhash_rust::xxh3::xxh3_64;

/// One copy's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    applied: Lsn,
    checkpoint: Lsn,
    /// Blocks that were handed over: up to where.
    handed: Lsn,
    waiting: Vec<(Lsn, u64)>,
    records: BTreeMap<Lsn, u64>,
}

/// A record as it was applied.
#[derive(Clone, Debug)]
pub(crate) struct AppliedRecord {
    pub(crate) lsn: Lsn,
    /// Client and sequence, from its body.
    pub(crate) name: Option<(u64, u64)>,
    pub(crate) digest: u64,
}

impl Store {
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
                let digest = xxh3_64(&record.body);
                let name = name_of(&record.body);
                self.waiting.push((record.lsn, digest));
                new.push(AppliedRecord { lsn: record.lsn, name, digest });
            }
        }
        Ok(new)
    }

    /// Everything up to `to` is in.
    pub(crate) fn applied_is(&mut self, to: Lsn) {
        let (now, later) = self.waiting.iter().partition(|(lsn, _)| *lsn < to);
        self.waiting = later;
        let now: Vec<(Lsn, u64)> = now;
        self.records.extend(now);
        self.applied = self.applied.max(to);
    }

    /// Everything up to `to` is durable.
    pub(crate) fn checkpoint_is(&mut self, to: Lsn) {
        self.checkpoint = self.checkpoint.max(to);
    }

    /// The process is gone: back to the checkpoint.
    pub(crate) fn crash(&mut self) {
        self.records.split_off(&self.checkpoint);
        self.waiting.clear();
        self.applied = self.checkpoint;
        self.handed = self.checkpoint;
    }

    pub(crate) const fn applied(&self) -> Lsn {
        self.applied
    }

    pub(crate) const fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    pub(crate) const fn records(&self) -> &BTreeMap<Lsn, u64> {
        &self.records
    }
}

/// The client and sequence that a simulated client's record begins with.
fn name_of(body: &[u8]) -> Option<(u64, u64)> {
    let (client, rest) = body.split_first_chunk::<8>()?;
    let sequence = rest.first_chunk::<8>()?;
    Some((u64::from_le_bytes(*client), u64::from_le_bytes(*sequence)))
}
