//! What was acknowledged, and how long it took.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::Error;
use crate::load::ack_log::{Ack, AckLog};

/// The longest commit that is told apart, in microseconds: a minute.
const MAX_MICROS: u64 = 60_000_000;

/// The acknowledgements of all writers, as they come.
pub(super) struct Book {
    log: AckLog,
    latencies: Histogram<u64>,
    /// How many there are.
    pub(super) acked: u64,
    /// The highest epoch in which one was given.
    pub(super) epoch: u64,
}

impl Book {
    /// An empty book, kept in a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let latencies = Histogram::new_with_bounds(1, MAX_MICROS, 3).map_err(|error| {
            let cause = std::io::Error::other(error.to_string());
            Error::System { what: "no histogram", cause, advice: "report this" }
        })?;
        Ok(Self { log: AckLog::create(path)?, latencies, acked: 0, epoch: 0 })
    }

    /// Notes a row that is committed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn note(&mut self, ack: &Ack, latency: Duration) -> Result<(), Error> {
        self.acked += 1;
        self.epoch = self.epoch.max(ack.epoch);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(MAX_MICROS);
        self.latencies.saturating_record(micros.max(1));
        self.log.note(ack)?;
        self.log.flush()
    }

    /// The latency that this share of the commits did not exceed, in microseconds.
    pub(super) fn micros_at(&self, quantile: f64) -> u64 {
        self.latencies.value_at_quantile(quantile)
    }
}
