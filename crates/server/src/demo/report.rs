//! What the demo found, as text and as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::cluster::Rejoin;
use super::proof::Proof;
use crate::error::Error;
use crate::output::{say, say_json};

/// An old primary that missed less would not show that it came back by what it missed alone.
pub(super) const MISSED_BYTES: u64 = 1 << 20;

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    rows_acked: u64,
    acked_before_kill: u64,
    rows_lost: u64,
    in_doubt: u64,
    failover_ms: u64,
    cut_bytes: u64,
    /// Stored bytes from the fork to the LSN at which the old primary joined.
    missed_bytes: u64,
    /// Bytes on the wire.
    rejoin_bytes: u64,
    logs_identical: bool,
    compared_from: u64,
    compared_to: u64,
    fork: u64,
    joined_at: u64,
    commit_p50_us: u64,
    commit_p99_us: u64,
    peak_memory_bytes: BTreeMap<&'static str, u64>,
    losses: Vec<String>,
}

impl Summary {
    pub(super) fn new(
        proof: Proof,
        acked_before_kill: u64,
        failover: Duration,
        rejoin: &Rejoin,
        peak_memory_bytes: BTreeMap<&'static str, u64>,
        latency: &Histogram<u64>,
        in_doubt: u64,
    ) -> Self {
        Self {
            rows_acked: proof.rows_acked,
            acked_before_kill,
            rows_lost: proof.rows_lost,
            in_doubt,
            failover_ms: u64::try_from(failover.as_millis()).unwrap_or(u64::MAX),
            cut_bytes: rejoin.cut_bytes,
            missed_bytes: proof.range_bytes,
            rejoin_bytes: rejoin.wire_bytes,
            logs_identical: proof.logs_identical,
            compared_from: proof.compared_from,
            compared_to: proof.compared_to,
            fork: rejoin.from,
            joined_at: rejoin.to,
            commit_p50_us: latency.value_at_quantile(0.5),
            commit_p99_us: latency.value_at_quantile(0.99),
            peak_memory_bytes,
            losses: proof.losses,
        }
    }

    /// Whether nothing was lost, and that was seen.
    pub(super) fn is_good(&self) -> bool {
        self.rows_lost == 0 && self.logs_identical && self.vacuous().is_none()
    }

    /// Why this run proves less than it should, if it does.
    fn vacuous(&self) -> Option<&'static str> {
        let not = [
            (self.rows_acked > 0, "no row was acknowledged"),
            (
                self.compared_from <= self.fork && self.fork < self.compared_to,
                "the logs were not compared on both sides of the fork",
            ),
            (
                self.fork >= self.compared_to / 2,
                "the primary was killed before the middle of the log",
            ),
            (self.cut_bytes > 0, "nothing was cut off the old primary's log"),
            (self.missed_bytes >= MISSED_BYTES, "the old primary missed less than 1 MiB"),
        ];
        not.into_iter().find_map(|(holds, why)| (!holds).then_some(why))
    }

    pub(super) fn tell(&self, json: bool, kept: Option<&Path>) -> Result<(), Error> {
        if json {
            return say_json(self);
        }
        let line = |name: &str, value: String| say(format_args!("  {name:<22} {value}"));
        say(format_args!(""))?;
        line("rows acknowledged", self.rows_acked.to_string())?;
        line("before the kill", self.acked_before_kill.to_string())?;
        line("rows lost", self.rows_lost.to_string())?;
        line("in doubt", self.in_doubt.to_string())?;
        line("failover", format!("{} ms, kill to first commit", self.failover_ms))?;
        line("cut from old primary", format!("{} bytes", self.cut_bytes))?;
        line("missed by it", format!("{} bytes", self.missed_bytes))?;
        line("sent to it", format!("{} bytes on the wire", self.rejoin_bytes))?;
        let same = if self.logs_identical { "identical" } else { "DIFFERENT" };
        let (from, to) = (self.compared_from, self.compared_to);
        line("logs", format!("{same} from {from} to {to}, fork at {}", self.fork))?;
        let (p50, p99) = (self.commit_p50_us, self.commit_p99_us);
        line("commit", format!("p50 {p50} us, p99 {p99} us"))?;
        for (name, bytes) in &self.peak_memory_bytes {
            line("peak memory", format!("{name} {} MiB", bytes >> 20))?;
        }
        for loss in &self.losses {
            say(format_args!("  LOST: {loss}"))?;
        }
        if let Some(path) = kept {
            say(format_args!("  kept in {}", path.display()))?;
        }
        say(format_args!(""))?;
        match self.vacuous() {
            _ if self.rows_lost > 0 || !self.logs_identical => {
                say(format_args!("SOMETHING IS WRONG."))
            }
            Some(why) => say(format_args!("This run proves too little: {why}. Run it again.")),
            None => say(format_args!("No acknowledged row was lost.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            rows_acked: 1000,
            acked_before_kill: 600,
            rows_lost: 0,
            in_doubt: 0,
            failover_ms: 50,
            cut_bytes: 1,
            missed_bytes: MISSED_BYTES,
            rejoin_bytes: MISSED_BYTES,
            logs_identical: true,
            compared_from: 0,
            compared_to: 8192,
            fork: 4096,
            joined_at: 8192,
            commit_p50_us: 1,
            commit_p99_us: 1,
            peak_memory_bytes: BTreeMap::new(),
            losses: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_good_only_if_it_could_have_shown_a_loss() {
        assert!(good().is_good());
        assert!(!Summary { rows_lost: 1, ..good() }.is_good());
        assert!(!Summary { logs_identical: false, ..good() }.is_good());
        for (vacuous, why) in [
            (Summary { rows_acked: 0, ..good() }, "no row"),
            (Summary { cut_bytes: 0, ..good() }, "nothing was cut"),
            (Summary { missed_bytes: MISSED_BYTES - 1, ..good() }, "less than 1 MiB"),
            (Summary { compared_to: 8194, ..good() }, "the middle"),
            (Summary { compared_to: 4096, ..good() }, "both sides"),
            (Summary { compared_from: 4097, ..good() }, "both sides"),
        ] {
            assert!(!vacuous.is_good(), "{why}");
            assert!(vacuous.vacuous().unwrap().contains(why));
        }
    }
}
