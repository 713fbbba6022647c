//! What a benchmark prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Options;
use super::figures::{Figures, Measured, as_f64};
use super::slices::RawMeasured;
use crate::error::Error;
use crate::output::{Lines, say_json};

/// A benchmark's result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    writers: usize,
    record_bytes: usize,
    seconds: f64,
    #[serde(flatten)]
    ours: Figures,
    mb_per_s: f64,
    /// Records per block: a sync covers one block, or several that waited for it.
    records_per_sync: f64,
    peak_memory_bytes: BTreeMap<&'static str, u64>,
    raw: Raw,
    ratios: Ratios,
}

#[derive(Debug, Serialize)]
struct Raw {
    best: &'static str,
    methods: BTreeMap<&'static str, Figures>,
    both_files: Option<Figures>,
    /// Between two processors.
    round_trip: Figures,
    /// Within one.
    round_trip_one_cpu: Figures,
}

#[derive(Debug, Serialize)]
struct Ratios {
    /// Our p50 over the best method's.
    p50_to_raw: f64,
    /// Our rate over the best method's.
    rate_to_raw: f64,
    /// Our p50 over local flush, round trip between two processors and remote flush, one behind the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_to_sum: Option<f64>,
}

/// What else ours showed.
#[derive(Debug)]
pub(super) struct Ours {
    /// Which benchmark.
    pub(super) bench: &'static str,
    /// Latencies.
    pub(super) measured: Measured,
    /// Durable writes that were made for them.
    pub(super) syncs: u64,
    /// Peak memory by process.
    pub(super) peaks: BTreeMap<&'static str, u64>,
    /// Whether commits waited for a mirror.
    pub(super) replicated: bool,
}

impl Report {
    /// From what was measured.
    ///
    /// # Errors
    /// No raw method works here.
    pub(super) fn new(options: &Options, ours: &Ours, raw: &RawMeasured) -> Result<Self, Error> {
        let figures = ours.measured.figures();
        let methods: BTreeMap<_, _> = raw
            .loops
            .iter()
            .map(|(method, measured)| (method.name(), measured.figures()))
            .collect();
        let best =
            methods.iter().min_by(|(_, one), (_, other)| one.p50_us.total_cmp(&other.p50_us));
        let Some((best, flush)) = best.map(|(name, figures)| (*name, *figures)) else {
            let cause = std::io::Error::other("none works in this directory");
            return Err(Error::System { what: "no raw figures", cause, advice: "try another one" });
        };
        let round_trip = raw.ping.figures();
        let sum = flush.p50_us * 2.0 + round_trip.p50_us;
        Ok(Self {
            bench: ours.bench,
            writers: options.writers,
            record_bytes: options.record_bytes,
            seconds: options.time.as_secs_f64(),
            ours: figures,
            mb_per_s: figures.rate_per_s * as_f64(options.record_bytes as u64) / 1e6,
            records_per_sync: as_f64(ours.measured.count()) / as_f64(ours.syncs.max(1)),
            peak_memory_bytes: ours.peaks.clone(),
            ratios: Ratios {
                p50_to_raw: figures.p50_us / flush.p50_us,
                rate_to_raw: figures.rate_per_s / flush.rate_per_s,
                p50_to_sum: ours.replicated.then_some(figures.p50_us / sum),
            },
            raw: Raw {
                best,
                methods,
                both_files: raw.both.as_ref().map(Measured::figures),
                round_trip,
                round_trip_one_cpu: raw.ping_one_cpu.figures(),
            },
        })
    }

    /// Prints it.
    ///
    /// # Errors
    /// Nobody reads.
    pub(super) fn say(&self, json: bool) -> Result<(), Error> {
        if json {
            return say_json(self);
        }
        let mut lines = Lines::new();
        lines.text(format_args!(
            "{} writers, records of {} bytes, {} s",
            self.writers, self.record_bytes, self.seconds
        ))?;
        lines.text(format_args!(
            "{:>20} {:>12} {:>10} {:>10} {:>10}",
            "", "per second", "p50 us", "p99 us", "p99.9 us"
        ))?;
        row(&mut lines, self.bench, &self.ours)?;
        for (name, figures) in &self.raw.methods {
            row(&mut lines, name, figures)?;
        }
        if let Some(figures) = &self.raw.both_files {
            row(&mut lines, "two files at once", figures)?;
        }
        row(&mut lines, "round trip", &self.raw.round_trip)?;
        row(&mut lines, "round trip, one cpu", &self.raw.round_trip_one_cpu)?;
        lines.text(format_args!(
            "{:.1} MB/s, {:.1} records per sync; p50 {:.2} times and rate {:.1} times that of {}",
            self.mb_per_s,
            self.records_per_sync,
            self.ratios.p50_to_raw,
            self.ratios.rate_to_raw,
            self.raw.best
        ))?;
        if let Some(ratio) = self.ratios.p50_to_sum {
            lines.text(format_args!(
                "p50 {ratio:.2} times local flush + round trip + remote flush, as measured raw"
            ))?;
        }
        for (name, bytes) in &self.peak_memory_bytes {
            lines.text(format_args!("{name}: {} MiB of memory at most", bytes >> 20))?;
        }
        lines.finish()
    }
}

fn row(lines: &mut Lines, name: &str, figures: &Figures) -> Result<(), Error> {
    lines.text(format_args!(
        "{name:>20} {:>12.0} {:>10.1} {:>10.1} {:>10.1}",
        figures.rate_per_s, figures.p50_us, figures.p99_us, figures.p999_us
    ))
}
