//! What the demo prints at the end.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check::Proof;
use super::story::Ending;
use crate::error::Error;
use crate::output::Lines;

/// The demo's result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rows_acked: u64,
    acked_before_kill: u64,
    rows_lost: u64,
    in_doubt: u64,
    failover_ms: u64,
    cut_bytes: u64,
    missed_bytes: u64,
    rejoin_bytes: u64,
    logs_identical: bool,
    compared_from: u64,
    compared_to: u64,
    fork_lsn: Option<u64>,
    commit_p50_us: u64,
    commit_p99_us: u64,
    peak_memory_bytes: BTreeMap<&'static str, u64>,
}

impl Report {
    /// The figures of a demo.
    pub(super) fn new(told: &Ending, proof: &Proof) -> Self {
        Self {
            rows_acked: told.acks.len() as u64,
            acked_before_kill: told.acked_before_kill,
            rows_lost: proof.lost,
            in_doubt: told.in_doubt,
            failover_ms: u64::try_from(told.failover.as_millis()).unwrap_or(u64::MAX),
            cut_bytes: told.cut.map_or(0, |cut| cut.bytes),
            missed_bytes: proof.missed_bytes,
            rejoin_bytes: told.joined.map_or(0, |joined| joined.wire_bytes),
            logs_identical: proof.identical,
            compared_from: proof.compared.0.0,
            compared_to: proof.compared.1.0,
            fork_lsn: told.joined.map(|joined| joined.from),
            commit_p50_us: told.commit_p50_micros,
            commit_p99_us: told.commit_p99_micros,
            peak_memory_bytes: told.peaks.clone(),
        }
    }

    /// Whether nothing was lost, and the logs are the same on both sides of the fork.
    pub(super) fn is_good(&self) -> bool {
        let around =
            self.fork_lsn.is_some_and(|fork| self.compared_from < fork && fork < self.compared_to);
        self.rows_lost == 0 && self.in_doubt == 0 && self.logs_identical && around
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// Nobody reads.
    pub(super) fn say(&self) -> Result<(), Error> {
        let mut lines = Lines::new();
        let mut line = |name: &str, value: String| lines.text(format_args!("{name:>24}  {value}"));
        line("rows acknowledged", self.rows_acked.to_string())?;
        line("before the kill", self.acked_before_kill.to_string())?;
        line("rows lost", self.rows_lost.to_string())?;
        line("rows in doubt", self.in_doubt.to_string())?;
        line("failover", format!("{} ms, from the kill to the first commit", self.failover_ms))?;
        line("cut", format!("{} bytes that were never committed", self.cut_bytes))?;
        line("missed by the old one", format!("{} bytes", self.missed_bytes))?;
        line("sent for its rejoin", format!("{} bytes, everything counted", self.rejoin_bytes))?;
        let same = if self.logs_identical { "identical" } else { "NOT identical" };
        let range = format!("{same} from LSN {} to {}", self.compared_from, self.compared_to);
        line("the two logs", range)?;
        line("commit", format!("p50 {} us, p99 {} us", self.commit_p50_us, self.commit_p99_us))?;
        for (name, bytes) in &self.peak_memory_bytes {
            line(&format!("memory of the {name}"), format!("{} MiB at most", bytes >> 20))?;
        }
        lines.finish()
    }
}
