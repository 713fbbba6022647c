//! `wal verify`: whether a log is sound.
//!
//! Guarantees: exit code 1 when, and only when, the log could be read and is not sound.

use std::path::Path;

use outrigger_wal::Lsn;
use outrigger_wal::verify::{Finding, Report, Tail, VerifyOptions};
use serde::Serialize;

use super::{log_folder, open};
use crate::error::{Error, Verdict};
use crate::output::{Lines, say_json};

#[derive(Serialize)]
struct ReportJson {
    sound: bool,
    log: Option<String>,
    content: Option<i32>,
    start: u64,
    end: u64,
    hash: String,
    clean: bool,
    segments: usize,
    blocks: u64,
    records: u64,
    stored_bytes: u64,
    epochs: Vec<EpochJson>,
    tail: Option<TailJson>,
    findings: Vec<FindingJson>,
    foreign: Vec<String>,
}

#[derive(Serialize)]
struct EpochJson {
    epoch: u64,
    nonce: String,
    start: u64,
    instance: String,
}

#[derive(Serialize)]
struct TailJson {
    from: u64,
    to: u64,
    cause: String,
    suspicion: Option<String>,
}

#[derive(Serialize)]
struct FindingJson {
    segment: String,
    lsn: u64,
    cause: String,
}

/// Checks every stored byte of the log in `dir`, and prints what was found.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn verify(dir: &Path, json: bool) -> Result<Verdict, Error> {
    let folder = log_folder(dir)?;
    let mut disk = open(&folder)?;
    let report = outrigger_wal::verify::verify(&mut disk, &VerifyOptions::default())
        .map_err(|error| Error::log(&folder, error))?;
    let verdict = Verdict::good_if(report.is_sound());
    let printed = if json { say_json(&as_json(report)) } else { say_text(&folder, &report) };
    match printed {
        // The exit code says it all.
        Err(Error::OutputClosed) | Ok(()) => Ok(verdict),
        Err(error) => Err(error),
    }
}

fn say_text(folder: &Path, report: &Report) -> Result<(), Error> {
    let mut lines = Lines::new();
    let state = if report.is_sound() { "sound" } else { "NOT SOUND" };
    lines.text(format_args!(
        "{}: {state}: {} records in {} blocks, {} bytes, from LSN {} to {}, {}",
        folder.display(),
        report.records,
        report.blocks,
        report.bytes,
        report.start,
        report.end,
        if report.clean { "closed cleanly" } else { "not closed cleanly" }
    ))?;
    for Finding { file, lsn, cause } in &report.findings {
        lines.text(format_args!("  {file}: LSN {lsn} ({}): {cause}", lsn.0))?;
    }
    if let Some(Tail { from, to, cause, suspicion }) = &report.tail {
        lines.text(format_args!("  behind the end, from {from} to {to}: {cause}"))?;
        if let Some(suspicion) = suspicion {
            lines.text(format_args!("    {suspicion}"))?;
        }
    }
    for name in &report.foreign {
        lines.text(format_args!("  {name}: not ours"))?;
    }
    lines.finish()
}

fn as_json(report: Report) -> ReportJson {
    let plain = |lsn: Lsn| lsn.0;
    ReportJson {
        sound: report.is_sound(),
        log: report.log.map(|log| log.to_string()),
        content: report.content.map(|content| content.0),
        start: plain(report.start),
        end: plain(report.end),
        hash: report.hash.to_string(),
        clean: report.clean,
        segments: report.segments.len(),
        blocks: report.blocks,
        records: report.records,
        stored_bytes: report.bytes,
        epochs: report
            .epochs
            .iter()
            .map(|entry| EpochJson {
                epoch: entry.epoch.number,
                nonce: format!("{:032x}", entry.epoch.nonce),
                start: plain(entry.start),
                instance: entry.instance.to_string(),
            })
            .collect(),
        tail: report.tail.map(|tail| TailJson {
            from: plain(tail.from),
            to: plain(tail.to),
            cause: tail.cause,
            suspicion: tail.suspicion,
        }),
        findings: report
            .findings
            .into_iter()
            .map(|finding| FindingJson {
                segment: finding.file.to_string(),
                lsn: plain(finding.lsn),
                cause: finding.cause,
            })
            .collect(),
        foreign: report.foreign,
    }
}
