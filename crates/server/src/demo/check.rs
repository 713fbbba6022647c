//! The proof: each acknowledged row in both logs and both stores, and the two logs side by side.
//!
//! Guarantees: reads what the stopped processes left on disk, through the same code as `wal dump` and
//! `store dump`; a row counts as lost when it is missing, or different, in any of the four.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use outrigger_replica::store::Rows;
use outrigger_replica::store::kv::{Op, Write};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_wal::Lsn;
use outrigger_wal::format::Block;
use outrigger_wal::verify::blocks;

use super::stage::Stage;
use super::story::{Ending, FIRST, SECOND};
use crate::error::Error;
use crate::inspect;
use crate::load::ack_log::Ack;

/// What was found.
pub(super) struct Proof {
    /// Acknowledged rows that are missing or different in a log or a store.
    pub(super) lost: u64,
    /// Whether the logs have the same blocks over the range.
    pub(super) identical: bool,
    /// Where the comparison began and ended.
    pub(super) compared: (Lsn, Lsn),
    /// Stored bytes from the fork to the LSN at which the old primary joined.
    pub(super) missed_bytes: u64,
}

/// Looks everything up.
///
/// # Errors
/// A log or store cannot be read.
pub(super) fn prove(stage: &Stage, told: &Ending) -> Result<Proof, Error> {
    let dirs = [stage.data_dir(FIRST), stage.data_dir(SECOND)];
    let mut lost = BTreeSet::new();
    for dir in &dirs {
        in_log(dir, &told.acks, &mut lost)?;
        in_store(dir, &told.acks, &mut lost)?;
    }
    let (identical, compared) = side_by_side(&dirs[0], &dirs[1])?;
    let missed_bytes = match told.joined {
        Some(joined) => stored_bytes(&dirs[1], Lsn(joined.from), Lsn(joined.to))?,
        None => 0,
    };
    Ok(Proof { lost: lost.len() as u64, identical, compared, missed_bytes })
}

/// Notes the acknowledged rows that are not in the log at their LSN.
fn in_log(dir: &Path, acks: &[Ack], lost: &mut BTreeSet<u64>) -> Result<(), Error> {
    let mut missing: BTreeMap<u64, &Ack> = acks.iter().map(|ack| (ack.lsn, ack)).collect();
    each_block(dir, Lsn::ZERO, |block| {
        let Ok(records) = block.records() else { return true };
        for record in records.flatten() {
            let Some(ack) = missing.get(&record.lsn.0) else { continue };
            let found = Write::decode(&record.body).ok().map(|write| write.op);
            let same = matches!(&found, Some(Op::Put { key, value })
                if **key == *ack.key.as_bytes()
                    && crc32fast::hash(value) == ack.value_crc32
                    && record.end.0 == ack.end
                    && block.epoch() == ack.epoch);
            if same {
                missing.remove(&record.lsn.0);
            }
        }
        true
    })?;
    lost.extend(missing.keys());
    Ok(())
}

/// Notes the last acknowledged row of each key that the store does not have.
fn in_store(dir: &Path, acks: &[Ack], lost: &mut BTreeSet<u64>) -> Result<(), Error> {
    let folder = dir.join("store");
    let failed = |error| Error::Store { dir: folder.clone(), error };
    let store = LsmStore::open(&folder, LsmOptions::default()).map_err(failed)?;
    let mut last: BTreeMap<&str, &Ack> = BTreeMap::new();
    for ack in acks {
        let newest = last.entry(&ack.key).or_insert(ack);
        if ack.lsn > newest.lsn {
            *newest = ack;
        }
    }
    for ack in last.values() {
        let value = store.get(ack.key.as_bytes()).map_err(failed)?;
        if value.map(|value| crc32fast::hash(&value)) != Some(ack.value_crc32) {
            lost.insert(ack.lsn);
        }
    }
    Ok(())
}

/// Compares the blocks of two logs, byte by byte, up to the end of the shorter one.
fn side_by_side(one: &Path, other: &Path) -> Result<(bool, (Lsn, Lsn)), Error> {
    let mut theirs = BTreeMap::new();
    each_block(other, Lsn::ZERO, |block| {
        theirs.insert(
            block.lsn(),
            (block.end(), block.hash_after(), crc32fast::hash(block.stored())),
        );
        true
    })?;
    let (mut same, mut first, mut last) = (true, None, Lsn::ZERO);
    let end = theirs.values().map(|(end, ..)| *end).next_back().unwrap_or_default();
    each_block(one, Lsn::ZERO, |block| {
        if block.lsn() >= end {
            return false;
        }
        let ours = (block.end(), block.hash_after(), crc32fast::hash(block.stored()));
        same &= theirs.get(&block.lsn()) == Some(&ours);
        first.get_or_insert(block.lsn());
        last = block.end();
        true
    })?;
    Ok((same && last > Lsn::ZERO, (first.unwrap_or_default(), last)))
}

fn stored_bytes(dir: &Path, from: Lsn, to: Lsn) -> Result<u64, Error> {
    let mut bytes = 0;
    each_block(dir, from, |block| {
        if block.lsn() >= from && block.lsn() < to {
            bytes += u64::from(block.header().stored_len);
        }
        block.lsn() < to
    })?;
    Ok(bytes)
}

/// Shows each block of a log, until there are none or `look` has seen enough.
fn each_block(dir: &Path, from: Lsn, mut look: impl FnMut(&Block) -> bool) -> Result<(), Error> {
    let folder = inspect::log_folder(dir)?;
    let mut disk = inspect::open(&folder)?;
    let walk = blocks(&mut disk, from).map_err(|error| Error::log(&folder, error))?;
    for block in walk {
        if !look(&block.map_err(|error| Error::log(&folder, error))?) {
            break;
        }
    }
    Ok(())
}
