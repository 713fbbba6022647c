//! `wal dump`: a log's blocks and records, one block a line.
//!
//! Guarantees: memory is bounded by one block. Not here: what is behind the log's end
//! ([`super::verify`] says).

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrigger_wal::Lsn;
use outrigger_wal::format::{Block, Record, RecordFlag};
use outrigger_wal::verify::blocks;
use serde::Serialize;

use super::{log_folder, open};
use crate::error::{Error, Verdict};
use crate::output::{Lines, complain};

/// What is dumped, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DumpOptions {
    /// Begin with the block that holds this LSN; `None`: where the log begins.
    pub(crate) from: Option<Lsn>,
    /// At most so many blocks.
    pub(crate) limit: Option<u64>,
    /// Records with their bytes.
    pub(crate) data: bool,
    /// A JSON object a block.
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct BlockLine {
    lsn: u64,
    end: u64,
    epoch: u64,
    kind: &'static str,
    stored_len: u32,
    records: Vec<RecordLine>,
}

#[derive(Serialize)]
struct RecordLine {
    lsn: u64,
    end: u64,
    len: usize,
    crc32: u32,
    /// A place that was claimed and never filled.
    #[serde(skip_serializing_if = "is_false")]
    void: bool,
    /// The next record belongs to the same atomic batch.
    #[serde(skip_serializing_if = "is_false")]
    batch_continues: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Prints the blocks of the log in `dir`.
///
/// # Errors
/// When it cannot be read, or does not reach back to where it should begin; when a closed log has a
/// bad block, after the good ones before it.
pub(crate) fn dump(dir: &Path, options: DumpOptions) -> Result<Verdict, Error> {
    let folder = log_folder(dir)?;
    let mut disk = open(&folder)?;
    let mut lines = Lines::new();
    let from = match options.from {
        Some(from) => from,
        None => start(&mut disk, &folder)?,
    };
    let mut walk = blocks(&mut disk, from).map_err(|error| Error::log(&folder, error))?;
    let limit = options.limit.unwrap_or(u64::MAX);
    let mut printed = 0;
    let mut failed = None;
    while printed < limit {
        let Some(block) = walk.next() else { break };
        match block.and_then(|block| line(&block, options.data, &folder)) {
            Ok(block) if options.json => lines.json(&block)?,
            Ok(block) => text(&mut lines, &block)?,
            Err(error) => {
                failed = Some(Error::log(&folder, error));
                break;
            }
        }
        printed += 1;
    }
    lines.finish()?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let (false, Some((lsn, why))) = (options.json, walk.stopped()) {
        complain(format_args!("the log ends at {lsn} ({}): {why}", lsn.0));
    }
    Ok(Verdict::Good)
}

/// Where the log begins.
fn start(disk: &mut outrigger_wal::disk::plain::PlainDisk, folder: &Path) -> Result<Lsn, Error> {
    match blocks(disk, Lsn::ZERO).map(drop) {
        Ok(()) => Ok(Lsn::ZERO),
        Err(outrigger_wal::Error::Recycled { start, .. }) => Ok(start),
        Err(error) => Err(Error::log(folder, error)),
    }
}

fn line(block: &Block, data: bool, folder: &Path) -> Result<BlockLine, outrigger_wal::Error> {
    // The chain has checked the block's bytes: what does not decode was sealed so.
    let unreadable = |cause: String| outrigger_wal::Error::Foreign {
        name: format!("{}: the block at LSN {}", folder.display(), block.lsn()),
        cause,
    };
    let records = block
        .records()
        .map_err(|error| unreadable(error.to_string()))?
        .map(|record| record.map(|record| record_line(&record, data)))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    Ok(BlockLine {
        lsn: block.lsn().0,
        end: block.end().0,
        epoch: block.epoch(),
        kind: block.kind().as_str(),
        stored_len: block.header().stored_len,
        records,
    })
}

fn record_line(record: &Record, data: bool) -> RecordLine {
    RecordLine {
        lsn: record.lsn.0,
        end: record.end.0,
        len: record.body.len(),
        crc32: crc32fast::hash(&record.body),
        void: record.flag == RecordFlag::Void,
        batch_continues: record.flag == RecordFlag::BatchContinues,
        data: data.then(|| BASE64_STANDARD.encode(&record.body)),
    }
}

fn text(lines: &mut Lines, block: &BlockLine) -> Result<(), Error> {
    lines.text(format_args!(
        "{:>12} {:>12}  epoch {:<4} {:<12} {:>8} B  {} records",
        Lsn(block.lsn).to_string(),
        Lsn(block.end).to_string(),
        block.epoch,
        block.kind,
        block.stored_len,
        block.records.len()
    ))?;
    for record in &block.records {
        lines.text(format_args!(
            "  {:>12} {:>12}  {:>8} B  crc32 {:08x}{}{}",
            Lsn(record.lsn).to_string(),
            Lsn(record.end).to_string(),
            record.len,
            record.crc32,
            if record.void { "  void" } else { "" },
            record.data.as_ref().map_or_else(String::new, |data| format!("  {data}"))
        ))?;
    }
    Ok(())
}
