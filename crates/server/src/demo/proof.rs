//! The proof that nothing was lost: every line of the ack log against both logs and both stores.
//!
//! Read from the files of stopped copies, without any code that served them. Guarantees: an acked row counts as
//! there only if its record lies at its LSN, with its key and value, in both logs, and the last record
//! of its key is what both stores hold. Not here: how the rows got there.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use outrigger_replica::store::Rows;
use outrigger_replica::store::kv::{Op, Write};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_wal::Lsn;
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::format::{Block, RecordFlag};
use outrigger_wal::verify::blocks;

use crate::error::Error;
use crate::load::ack_log::Ack;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) rows_acked: u64,
    pub(super) rows_lost: u64,
    /// The first few losses, in words.
    pub(super) losses: Vec<String>,
    pub(super) logs_identical: bool,
    pub(super) compared_from: u64,
    pub(super) compared_to: u64,
    /// Stored bytes of the blocks in the range that was asked for.
    pub(super) range_bytes: u64,
}

impl Proof {
    fn lost(&mut self, what: String) {
        self.rows_lost = self.rows_lost.saturating_add(1);
        if self.losses.len() < 5 {
            self.losses.push(what);
        }
    }
}

/// The last record of a key in a log: where it starts, the CRC-32 of its value (`None`: deleted).
type Latest = BTreeMap<Bytes, (u64, Option<u32>)>;

/// Compares acks with the logs and stores below two data directories. `range`: the blocks whose
/// stored bytes are counted.
pub(super) fn prove(acks: &mut [Ack], dirs: [&Path; 2], range: (u64, u64)) -> Result<Proof, Error> {
    acks.sort_by_key(|ack| ack.lsn);
    let mut proof = Proof { rows_acked: acks.len() as u64, ..Proof::default() };
    compare(dirs, range, &mut proof)?;
    for dir in dirs {
        let latest = check_log(dir, acks, &mut proof)?;
        check_store(dir, acks, &latest, &mut proof)?;
    }
    Ok(proof)
}

fn log_of(dir: &Path) -> Result<PlainDisk, Error> {
    let mut options = PlainOptions::new(dir.join("wal"));
    options.threads = 1;
    PlainDisk::open(options).map_err(|fault| bad(dir, &fault.to_string()))
}

fn bad(dir: &Path, cause: &str) -> Error {
    Error::Path {
        path: dir.to_owned(),
        cause: cause.to_owned(),
        advice: "keep the folder and look into it with `outrigger wal verify`",
    }
}

/// Block by block, byte by byte, over the range that both logs hold.
fn compare(dirs: [&Path; 2], range: (u64, u64), proof: &mut Proof) -> Result<(), Error> {
    let [one, other] = dirs;
    let (mut one_disk, mut other_disk) = (log_of(one)?, log_of(other)?);
    let ones = blocks(&mut one_disk, Lsn::ZERO).map_err(|error| bad(one, &error.to_string()))?;
    let others =
        blocks(&mut other_disk, Lsn::ZERO).map_err(|error| bad(other, &error.to_string()))?;
    let mut first = true;
    for (a, b) in ones.zip(others) {
        let a = a.map_err(|error| bad(one, &error.to_string()))?;
        let b = b.map_err(|error| bad(other, &error.to_string()))?;
        if first {
            proof.compared_from = a.lsn().0;
            proof.logs_identical = true;
            first = false;
        }
        if a.lsn() != b.lsn() || a.stored() != b.stored() {
            proof.logs_identical = false;
            proof.losses.push(format!("the logs differ at LSN {}", a.lsn()));
            return Ok(());
        }
        if a.lsn().0 >= range.0 && a.lsn().0 < range.1 {
            proof.range_bytes = proof.range_bytes.saturating_add(a.stored().len() as u64);
        }
        proof.compared_to = a.end().0;
    }
    Ok(())
}

fn check_log(dir: &Path, acks: &[Ack], proof: &mut Proof) -> Result<Latest, Error> {
    let mut disk = log_of(dir)?;
    let mut latest = Latest::new();
    let mut due = acks.iter().peekable();
    for block in blocks(&mut disk, Lsn::ZERO).map_err(|error| bad(dir, &error.to_string()))? {
        let block = block.map_err(|error| bad(dir, &error.to_string()))?;
        for (lsn, write) in writes(&block).map_err(|cause| bad(dir, &cause))? {
            while let Some(ack) = due.next_if(|ack| ack.lsn < lsn) {
                proof.lost(format!(
                    "{}: no record at LSN {} ({})",
                    dir.display(),
                    ack.lsn,
                    ack.key
                ));
            }
            let (key, value) = match write.op {
                Op::Put { key, value } => (key, Some(crc32fast::hash(&value))),
                Op::Delete { key } => (key, None),
                _ => continue,
            };
            if let Some(ack) = due.next_if(|ack| ack.lsn == lsn)
                && (ack.key.as_bytes() != &*key || Some(ack.value_crc32) != value)
            {
                proof.lost(format!("{}: another row at LSN {lsn} than {}", dir.display(), ack.key));
            }
            latest.insert(key, (lsn, value));
        }
    }
    for ack in due {
        proof.lost(format!("{}: ends before LSN {} ({})", dir.display(), ack.lsn, ack.key));
    }
    Ok(latest)
}

fn writes(block: &Block) -> Result<Vec<(u64, Write)>, String> {
    let mut found = Vec::new();
    for record in block.records().map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        if record.flag == RecordFlag::Void {
            continue;
        }
        let write = Write::decode(&record.body)
            .map_err(|error| format!("the record at {} cannot be read: {error}", record.lsn))?;
        found.push((record.lsn.0, write));
    }
    Ok(found)
}

fn check_store(dir: &Path, acks: &[Ack], latest: &Latest, proof: &mut Proof) -> Result<(), Error> {
    let store = LsmStore::open(&dir.join("store"), LsmOptions::default())
        .map_err(|error| bad(dir, &error.to_string()))?;
    let mut seen = std::collections::BTreeSet::new();
    for ack in acks.iter().rev() {
        if !seen.insert(ack.key.as_str()) {
            continue;
        }
        let held = store.get(ack.key.as_bytes()).map_err(|error| bad(dir, &error.to_string()))?;
        let expected = latest.get(ack.key.as_bytes());
        let good = expected.is_some_and(|(lsn, value)| {
            *lsn >= ack.lsn && *value == held.as_ref().map(|value| crc32fast::hash(value))
        });
        if !good {
            proof.lost(format!("{}: the store does not hold the last {}", dir.display(), ack.key));
        }
    }
    Ok(())
}
