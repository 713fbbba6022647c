//! The checks: files, chain, contents, and what lies behind the end.
//!
//! Guarantees: goes on behind a bad place, at the next whole block, so that one finding does not
//! hide the others. Not here: what a report holds.

use super::{Report, Tail};
use crate::disk::{Blocking, FileId};
use crate::error::Error;
use crate::follow::Identity;
use crate::format::{Block, CleanMark};
use crate::lsn::{Lsn, PAGE_BYTES};
use crate::recover::{
    Behind, Break, Carried, CarriedByEpoch, Chain, Folder, LogBytes, Promise, Step, cap, carry,
    is_zero, look_behind, read_block,
};

/// Checks what the files' names, lengths and first blocks tell.
pub(super) fn files(report: &mut Report, folder: &Folder, identity: Identity) {
    if let Some((file, found)) = folder.other_log(identity.log) {
        let cause = format!("belongs to log {found}, not to {}", identity.log);
        report.find(file, Lsn::ZERO, cause);
    }
    if let Some(mark) = folder.mark.whole().filter(|mark| mark.log != identity.log) {
        let cause = format!("belongs to log {}, not to {}", mark.log, identity.log);
        report.find(FileId::CleanMark, Lsn::ZERO, cause);
    }
    for (number, len) in &folder.segments {
        if *len != identity.segment_bytes {
            let cause = format!("has {len} bytes and not {}", identity.segment_bytes);
            let lsn = Lsn(number.saturating_mul(identity.segment_bytes));
            report.find(FileId::Segment(*number), lsn, cause);
        }
    }
}

/// Looks at a log that nothing names: all zeros, or its first write was torn.
///
/// # Errors
/// The disk's.
pub(super) fn unknown(
    disk: &mut Blocking<'_>,
    folder: &Folder,
    report: &mut Report,
) -> Result<(), Error> {
    const CHUNK_BYTES: u32 = 256 << 10;
    for (number, len) in &folder.segments {
        let file = FileId::Segment(*number);
        let mut at = 0;
        while at < *len {
            let chunk = disk.read(file, at, CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            if !is_zero(&chunk) {
                report.tail = Some(Tail {
                    from: Lsn::ZERO,
                    to: Lsn(at.saturating_add(chunk.len() as u64)),
                    cause: "no segment says which log it belongs to".to_owned(),
                    suspicion: (*number > 0).then(|| format!("{file} is not a first segment")),
                });
                return Ok(());
            }
            at = at.saturating_add(chunk.len() as u64);
        }
    }
    Ok(())
}

/// Checks every block, and what lies behind the last.
///
/// # Errors
/// The disk's, and what only a newer program can read.
pub(super) fn chain(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    folder: &Folder,
    identity: Identity,
    report: &mut Report,
) -> Result<(), Error> {
    let first = bytes.numbers().next().unwrap_or_default();
    report.start = Lsn(first.saturating_mul(identity.segment_bytes));
    let mut chain = Chain::new(identity, report.start);
    let mut carried = CarriedByEpoch::new();
    let mut promised = None;
    loop {
        let why = match chain.step(disk, bytes)? {
            Step::Block(block) => {
                carry(&mut carried, block.header());
                contents(disk, bytes, &block, report)?;
                continue;
            }
            Step::Stop(why) => why,
        };
        // The first break decides whether this is the end; behind it, everything is damage.
        let damaged_to = match promised {
            Some(to) => to,
            None => {
                let behind = look_behind(disk, bytes, chain.at, identity.log)?;
                let to = first_break(report, bytes, &chain, &carried, &behind, folder, &why);
                *promised.insert(to)
            }
        };
        if chain.at >= damaged_to {
            break;
        }
        report.find(bytes.file(chain.at), chain.at, &why);
        let Some(next) = next_block(disk, bytes, &chain, damaged_to)? else {
            break;
        };
        chain.resume(&next);
    }
    report.end = chain.at;
    report.hash = chain.hash.unwrap_or_default();
    report.epochs = chain.epochs;
    Ok(())
}

/// Judges where the chain broke; returns up to where the log should go.
fn first_break(
    report: &mut Report,
    bytes: &LogBytes,
    chain: &Chain,
    carried: &CarriedByEpoch,
    behind: &Behind,
    folder: &Folder,
    why: &Break,
) -> Lsn {
    let end = chain.at;
    if let Some(mark) = folder.mark.whole() {
        check_mark(report, bytes, chain, behind, mark);
        return mark.end;
    }
    let highest = |of: fn(&Carried) -> Lsn| {
        carried
            .iter()
            .chain(&behind.carried)
            .map(|(epoch, carried)| Promise { epoch: *epoch, lsn: of(carried) })
            .map(|promise| cap(promise, chain.epochs.iter()))
            .max()
            .unwrap_or_default()
    };
    let mut to = highest(|carried| carried.commit);
    let headless = report.start > Lsn::ZERO && end == report.start;
    if headless || missing_before(bytes, end, behind).is_some() {
        to = to.max(behind.last_live).max(end.saturating_add(1));
    }
    if to <= end && behind.torn_from.is_some() {
        let durable = highest(|carried| carried.durable);
        report.tail = Some(Tail {
            from: end,
            to: behind.torn_to,
            cause: why.to_string(),
            suspicion: (durable > end).then(|| {
                format!(
                    "a block says that its sealer was durable up to {durable}: damage, \
                     if that was this instance"
                )
            }),
        });
    }
    to
}

/// Compares the end with the mark of a clean close; a log that ends before it is found anyway.
fn check_mark(
    report: &mut Report,
    bytes: &LogBytes,
    chain: &Chain,
    behind: &Behind,
    mark: &CleanMark,
) {
    let end = chain.at;
    if mark.end < end {
        let cause = format!("the log was closed at {} and goes on", mark.end);
        report.find(bytes.file(mark.end), mark.end, cause);
    } else if let (true, Some(live)) = (mark.end == end, behind.live) {
        let cause = format!("a block behind the end at which the log was closed, {end}");
        report.find(bytes.file(live), live, cause);
    }
    if mark.end == end && chain.hash.unwrap_or_default() != mark.hash {
        let cause = "the running hash is not the one with which the log was closed";
        report.find(FileId::CleanMark, end, cause);
    }
}

/// A segment that is missing although a later one holds blocks.
fn missing_before(bytes: &LogBytes, end: Lsn, behind: &Behind) -> Option<u64> {
    behind.live?;
    (bytes.segment(end)..bytes.segment(behind.last_live))
        .find(|number| !bytes.numbers().any(|there| there == *number))
}

/// The next whole block behind a bad place, below `to`.
fn next_block(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    chain: &Chain,
    to: Lsn,
) -> Result<Option<Block>, Error> {
    let mut at = chain.at.saturating_add(PAGE_BYTES);
    while at < to {
        if bytes.file_len(at).is_none() {
            at = bytes.segment_end(at);
            continue;
        }
        if let Ok(block) = read_block(disk, bytes, at, chain.identity.log)? {
            return Ok(Some(block));
        }
        at = at.saturating_add(PAGE_BYTES);
    }
    Ok(None)
}

/// Checks what the chain does not: padding, compression, records.
fn contents(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    block: &Block,
    report: &mut Report,
) -> Result<(), Error> {
    let stored = block.stored().len() as u64;
    report.blocks += 1;
    report.bytes += stored;
    let padding_at = block.lsn().saturating_add(stored);
    let padding = bytes.at(disk, padding_at, block.padding_bytes() as u64)?;
    let file = bytes.file(block.lsn());
    if padding.len() != block.padding_bytes() {
        report.find(file, padding_at, "the file ends within a block's last page");
    } else if !is_zero(&padding) {
        report.find(file, padding_at, "bytes that are not zero behind a block");
    }
    match block.records() {
        Ok(records) => {
            for record in records {
                match record {
                    Ok(_) => report.records += 1,
                    Err(cause) => report.find(file, block.lsn(), cause),
                }
            }
        }
        Err(cause) => report.find(file, block.lsn(), cause),
    }
    Ok(())
}
