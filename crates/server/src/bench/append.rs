//! `bench append`: callers of a log of one's own, each waiting until its record is durable.

use std::time::{Duration, Instant};

use outrigger_wal::{Wal, WalOptions};

use super::figures::Measured;
use super::report::{Ours, Report};
use super::slices::Raw;
use super::{Interrupts, Options, Scratch};
use crate::demo::memory::Sampler;
use crate::error::{Error, Verdict};

/// Measures, and prints.
///
/// # Errors
/// The disk's.
pub(crate) fn append(options: &Options) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let scratch = Scratch::new(&options.dir)?;
    let dir = scratch.path().join("wal");
    let failed = |error| Error::log(&dir, error);
    let mut raw = Raw::new(scratch.path(), options.record_bytes)?;
    let wal = Wal::open(&dir, &WalOptions { create: true, ..WalOptions::default() });
    let wal = wal.map_err(failed)?;
    let limit = wal.max_record_bytes() as usize;
    if options.record_bytes > limit {
        let cause = format!("{} is more than a record of {limit} bytes", options.record_bytes);
        return Err(Error::Option { option: "--record-bytes", cause });
    }
    let sampler = Sampler::start();
    sampler.watch("bench", std::process::id());
    let mut measured = Measured::new()?;
    for _ in 0..options.rounds() {
        interrupts.check()?;
        raw.turn(options.slice())?;
        let work = || one(&wal, options.record_bytes, options.slice()).map_err(failed);
        measured.add(&together(options.writers, work)?)?;
    }
    let peaks = sampler.peaks();
    drop(sampler);
    let syncs = wal.writes().map_err(failed)?;
    wal.close().map_err(failed)?;
    let ours = Ours { bench: "append", measured, syncs, peaks, replicated: false };
    Report::new(options, &ours, &raw.measured())?.say(options.json)?;
    Ok(Verdict::Good)
}

/// One caller, for so long.
fn one(wal: &Wal, bytes: usize, time: Duration) -> Result<Vec<Duration>, outrigger_wal::Error> {
    let record = vec![b'a'; bytes];
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let at = Instant::now();
        let appended = wal.append(&record)?;
        wal.wait_durable(appended.end).blocking()?;
        latencies.push(at.elapsed());
    }
    Ok(latencies)
}

/// The same work on so many threads at once.
///
/// # Errors
/// The first thread's that failed.
pub(super) fn together(
    writers: usize,
    work: impl Fn() -> Result<Vec<Duration>, Error> + Sync,
) -> Result<Measured, Error> {
    let began = Instant::now();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let elapsed = began.elapsed();
    let mut measured = Measured::new()?;
    for latencies in all {
        let panicked = |_| Error::Partial("a caller of the benchmark panicked".to_owned());
        for latency in latencies.map_err(panicked)?? {
            measured.note(latency);
        }
    }
    measured.took(elapsed);
    Ok(measured)
}
