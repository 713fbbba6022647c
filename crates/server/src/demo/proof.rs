//! The proof that nothing was lost: every line of the ack log against the logs and stores of all copies.
//!
//! Read from the files of stopped copies, without any code that served them. Guarantees: an acked row counts as
//! there only if its record lies at its LSN, with its key and value, in the log of every copy of its content, and
//! the last record of its key is what every one of their stores holds. Not here: how the rows got there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use outrigger_replica::store::Rows;
use outrigger_replica::store::kv::{Op, Write};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::format::{Block, RecordFlag};
use outrigger_wal::verify::blocks;
use outrigger_wal::{ContentId, Lsn};

use crate::error::Error;
use crate::load::ack_log::Ack;

/// The copies of one content.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    pub(super) content: ContentId,
    /// Their data directories.
    pub(super) dirs: Vec<PathBuf>,
    /// What a copy missed: its blocks are counted, and must lie within what is compared.
    pub(super) missed: Option<(u64, u64)>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) rows_acked: u64,
    pub(super) rows_lost: u64,
    /// The first few losses, in words.
    pub(super) losses: Vec<String>,
    pub(super) logs_identical: bool,
    /// Whether logs were compared on both sides of each place from which a copy missed something.
    pub(super) forks_compared: bool,
    /// Stored bytes of the blocks that copies missed.
    pub(super) missed_bytes: u64,
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

/// Compares acks with the logs and stores of all copies. `catalog`: copies whose logs alone are compared.
pub(super) fn prove(acks: Vec<Ack>, contents: &[Copies], catalog: &Copies) -> Result<Proof, Error> {
    let mut proof = Proof {
        rows_acked: acks.len() as u64,
        logs_identical: true,
        forks_compared: true,
        ..Proof::default()
    };
    let mut by_content: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
    for ack in acks {
        by_content.entry(ack.content).or_default().push(ack);
    }
    for copies in contents {
        let mut acks = by_content.remove(&copies.content.0).unwrap_or_default();
        acks.sort_by_key(|ack| ack.lsn);
        compare(copies, &mut proof)?;
        for dir in &copies.dirs {
            let latest = check_log(dir, &acks, &mut proof)?;
            check_store(dir, &acks, &latest, &mut proof)?;
        }
    }
    compare(catalog, &mut proof)?;
    for ack in by_content.into_values().flatten() {
        proof.lost(format!("content {} of row {} is none of the cluster's", ack.content, ack.key));
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

/// Block by block, byte by byte, over the range that the logs of two copies hold.
fn compare(copies: &Copies, proof: &mut Proof) -> Result<(), Error> {
    let missed = copies.missed.unwrap_or((0, 0));
    let (mut first, mut end) = (None, 0);
    let [one, others @ ..] = copies.dirs.as_slice() else { return Ok(()) };
    for other in others {
        let (mut one_disk, mut other_disk) = (log_of(one)?, log_of(other)?);
        let wrong = |dir: &Path, error: outrigger_wal::Error| bad(dir, &error.to_string());
        let ones = blocks(&mut one_disk, Lsn::ZERO).map_err(|error| wrong(one, error))?;
        let theirs = blocks(&mut other_disk, Lsn::ZERO).map_err(|error| wrong(other, error))?;
        for (a, b) in ones.zip(theirs) {
            let a = a.map_err(|error| wrong(one, error))?;
            let b = b.map_err(|error| wrong(other, error))?;
            first = first.or(Some(a.lsn().0));
            if a.lsn() != b.lsn() || a.stored() != b.stored() {
                proof.logs_identical = false;
                let text = format!("the logs of content {} differ at {}", copies.content, a.lsn());
                proof.losses.push(text);
                return Ok(());
            }
            if a.lsn().0 >= missed.0 && a.lsn().0 < missed.1 {
                let bytes = a.stored().len() as u64;
                proof.missed_bytes = proof.missed_bytes.saturating_add(bytes);
            }
            end = a.end().0;
        }
    }
    let both_sides =
        copies.missed.is_none_or(|(from, to)| first.is_some_and(|at| at < from) && to <= end);
    proof.forks_compared &= both_sides;
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
