//! The log beside the raw device: both in turns, so that what else the machine does hits both.
//!
//! Raw is a loop of 4 KiB `pwritev2` with `RWF_DSYNC` over a zero-filled file. Ours is `append` and a
//! blocking wait for durable, by so many callers at once. Each round measures raw, then each number
//! of callers; the last lines are the medians over the rounds.
#![expect(clippy::print_stdout, reason = "a program that prints what it measures")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use outrigger_wal::{Wal, WalOptions};
use rustix::io::{ReadWriteFlags, pwritev2};

const RAW_BYTES: u64 = 64 << 20;

#[derive(Parser)]
struct Args {
    /// The folder to work in; its file system is what is measured.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// How many callers append at once; several numbers are measured in turns.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    writers: Vec<usize>,
    #[arg(long, default_value_t = 128)]
    record_bytes: usize,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How long each measurement of a round takes.
    #[arg(long, default_value_t = 500)]
    slice_ms: u64,
}

/// What one measurement gave.
struct Measured {
    latency: Histogram<u64>,
    per_second: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let folder = tempfile::tempdir_in(&args.dir)?;
    let raw = zeroed(&folder.path().join("raw"))?;
    let options = WalOptions { create: true, ..WalOptions::default() };
    let wal = Wal::open(folder.path().join("wal"), &options)?;
    let slice = Duration::from_millis(args.slice_ms);

    let mut latency_ratios = vec![Vec::new(); args.writers.len()];
    let mut rate_ratios = latency_ratios.clone();
    let mut raw_at = 0;
    for round in 0..args.rounds {
        let base = measure_raw(&raw, &mut raw_at, slice)?;
        line(round, "raw", &base);
        for (number, writers) in args.writers.iter().enumerate() {
            let ours = measure_wal(&wal, *writers, args.record_bytes, slice)?;
            line(round, &format!("{writers} callers"), &ours);
            let raw_p50 = base.latency.value_at_quantile(0.5) as f64;
            let p50 = ours.latency.value_at_quantile(0.5) as f64;
            latency_ratios[number].push(p50 / raw_p50);
            rate_ratios[number].push(ours.per_second / base.per_second);
        }
    }
    for (number, writers) in args.writers.iter().enumerate() {
        println!(
            "{writers} callers: p50 {:.2} of the raw loop's, rate {:.2} of the raw loop's",
            median(&mut latency_ratios[number]),
            median(&mut rate_ratios[number]),
        );
    }
    wal.close()?;
    Ok(())
}

fn zeroed(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..RAW_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn measure_raw(file: &File, at: &mut u64, slice: Duration) -> Result<Measured, Box<dyn Error>> {
    let page = [7; 4096];
    let mut latency = Histogram::new(3)?;
    let began = Instant::now();
    while began.elapsed() < slice {
        let start = Instant::now();
        let wrote = pwritev2(file, &[IoSlice::new(&page)], *at, ReadWriteFlags::DSYNC)?;
        assert_eq!(wrote, page.len());
        latency.record(micros_tenths(start))?;
        *at = (*at + 4096) % RAW_BYTES;
    }
    Ok(Measured { per_second: latency.len() as f64 / began.elapsed().as_secs_f64(), latency })
}

fn measure_wal(
    wal: &Wal,
    writers: usize,
    record_bytes: usize,
    slice: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let record = vec![7; record_bytes];
    let began = Instant::now();
    let latency = thread::scope(|scope| {
        let callers: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| -> Result<Histogram<u64>, outrigger_wal::Error> {
                    let mut latency = Histogram::new(3).unwrap_or_else(|_| unreachable!());
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        let end = wal.append(&record)?.end;
                        wal.wait_durable(end).blocking()?;
                        latency.record(micros_tenths(start)).unwrap_or_else(|_| unreachable!());
                    }
                    Ok(latency)
                })
            })
            .collect();
        thread::sleep(slice);
        stop.store(true, Ordering::Relaxed);
        let mut all = Histogram::<u64>::new(3)?;
        for caller in callers {
            match caller.join() {
                Ok(latency) => all.add(latency?)?,
                Err(_) => return Err("a caller panicked".into()),
            }
        }
        Ok::<_, Box<dyn Error>>(all)
    })?;
    Ok(Measured { per_second: latency.len() as f64 / began.elapsed().as_secs_f64(), latency })
}

fn micros_tenths(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos() / 100).unwrap_or(u64::MAX)
}

fn line(round: usize, what: &str, measured: &Measured) {
    let us = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 10.0;
    println!(
        "{round:3} {what:>12}: p50 {:8.1} us  p99 {:8.1} us  {:9.0} per s",
        us(0.5),
        us(0.99),
        measured.per_second
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
