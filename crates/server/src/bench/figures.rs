//! Latencies and rates.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::Error;

/// The longest latency that is told apart, in nanoseconds: a minute.
const MAX_NANOS: u64 = 60_000_000_000;

/// Latencies of one thing that was done again and again, and how long all of it took.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    latencies: Histogram<u64>,
    elapsed: Duration,
}

/// What is printed of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) rate_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
}

impl Measured {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(super) fn new() -> Result<Self, Error> {
        let latencies = Histogram::new_with_bounds(1, MAX_NANOS, 3).map_err(|error| {
            let cause = std::io::Error::other(error.to_string());
            Error::System { what: "latencies cannot be kept", cause, advice: "report this" }
        })?;
        Ok(Self { latencies, elapsed: Duration::ZERO })
    }

    /// One more.
    pub(super) fn note(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(MAX_NANOS));
    }

    /// So long was measured.
    pub(super) fn took(&mut self, elapsed: Duration) {
        self.elapsed += elapsed;
    }

    /// What another thread measured at the same time, or this one in another turn.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), Error> {
        self.elapsed += other.elapsed;
        self.latencies.add(&other.latencies).map_err(|error| {
            let cause = std::io::Error::other(error.to_string());
            Error::System { what: "latencies cannot be added up", cause, advice: "report this" }
        })
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.latencies.len()
    }

    /// The figures.
    pub(super) fn figures(&self) -> Figures {
        let micros = |quantile| as_f64(self.latencies.value_at_quantile(quantile)) / 1_000.0;
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        Figures {
            rate_per_s: as_f64(self.count()) / seconds,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people: nobody reads 16 digits")]
pub(super) const fn as_f64(number: u64) -> f64 {
    number as f64
}
