//! What the demo found, as text and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::proof::Proof;
use super::victim::Kill;
use super::writers::Written;
use crate::error::Error;
use crate::output::{say, say_json};

/// Copies that missed less would not show that they came back by what they missed alone.
pub(super) const MISSED_BYTES: u64 = 1 << 20;

/// What was seen while it ran; times in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) acked_before_kill: u64,
    pub(super) detect_ms: Option<u64>,
    pub(super) failover_ms: Option<u64>,
    pub(super) stall_p99_ms: Option<u64>,
    pub(super) rebalance_pause_ms: Option<u64>,
    pub(super) recover_mode: Option<&'static str>,
    pub(super) recover_bytes: u64,
    pub(super) cut_bytes: u64,
    /// How many instances have another role than they were made for, at the end.
    pub(super) out_of_role: u64,
    /// Why a start was refused while a content had no valid instance.
    pub(super) start_refused: Option<String>,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    kill: &'static str,
    mirroring: &'static str,
    hosts: u8,
    segments_per_host: u8,
    rows_acked: u64,
    acked_before_kill: u64,
    rows_lost: u64,
    requests_failed: u64,
    in_doubt: u64,
    detect_ms: Option<u64>,
    failover_ms: Option<u64>,
    stall_p99_ms: Option<u64>,
    rebalance_pause_ms: Option<u64>,
    recover_mode: Option<&'static str>,
    recover_bytes: u64,
    /// Stored bytes that copies missed.
    missed_bytes: u64,
    cut_bytes: u64,
    logs_identical: bool,
    forks_compared: bool,
    out_of_role: u64,
    start_refused: Option<String>,
    commit_p50_us: u64,
    commit_p99_us: u64,
    peak_memory_bytes: BTreeMap<&'static str, u64>,
    losses: Vec<String>,
    first_failure: Option<String>,
    /// Where a cluster that is kept can be asked: the coordinator and its standby.
    coordinator: Option<String>,
    dir: Option<String>,
    #[serde(skip)]
    killed: Kill,
}

impl Summary {
    pub(super) fn new(
        (kill, hosts): (Kill, super::cluster::Hosts),
        proof: Proof,
        seen: Seen,
        written: &Written,
        peak_memory_bytes: BTreeMap<&'static str, u64>,
    ) -> Self {
        Self {
            kill: kill.as_str(),
            mirroring: hosts.mirroring.as_str(),
            hosts: hosts.hosts,
            segments_per_host: hosts.segments_per_host,
            rows_acked: proof.rows_acked,
            acked_before_kill: seen.acked_before_kill,
            rows_lost: proof.rows_lost,
            requests_failed: written.failed,
            in_doubt: written.in_doubt,
            detect_ms: seen.detect_ms,
            failover_ms: seen.failover_ms,
            stall_p99_ms: seen.stall_p99_ms,
            rebalance_pause_ms: seen.rebalance_pause_ms,
            recover_mode: seen.recover_mode,
            recover_bytes: seen.recover_bytes,
            missed_bytes: proof.missed_bytes,
            cut_bytes: seen.cut_bytes,
            logs_identical: proof.logs_identical,
            forks_compared: proof.forks_compared,
            out_of_role: seen.out_of_role,
            start_refused: seen.start_refused,
            commit_p50_us: written.latency.value_at_quantile(0.5),
            commit_p99_us: written.latency.value_at_quantile(0.99),
            peak_memory_bytes,
            losses: proof.losses,
            first_failure: written.first_failure.clone(),
            coordinator: None,
            dir: None,
            killed: kill,
        }
    }

    /// It stays up, and can be asked there.
    pub(super) fn kept(&mut self, coordinator: String, dir: &Path) {
        self.coordinator = Some(coordinator);
        self.dir = Some(dir.display().to_string());
    }

    /// Whether nothing was lost, and that was seen.
    pub(super) fn is_good(&self) -> bool {
        self.wrong().is_none() && self.vacuous().is_none()
    }

    fn has_mirrors(&self) -> bool {
        self.start_refused.is_none()
    }

    /// What went wrong, if anything did.
    fn wrong(&self) -> Option<&'static str> {
        let not = [
            (self.rows_lost == 0, "acknowledged rows are lost"),
            (self.logs_identical, "the logs of copies differ"),
            // Without a mirror requests fail: a part of the data is never served.
            (self.requests_failed == 0 || !self.has_mirrors(), "requests failed"),
            (self.out_of_role == 0, "not every instance has its preferred role again"),
        ];
        not.into_iter().find_map(|(holds, why)| (!holds).then_some(why))
    }

    /// Why this run proves less than it should, if it does.
    fn vacuous(&self) -> Option<&'static str> {
        let recovered = self.has_mirrors() && self.killed.takes_data();
        let not = [
            (self.rows_acked > 0 && self.acked_before_kill > 0, "no row was acknowledged"),
            (self.rows_acked > self.acked_before_kill, "nothing was acknowledged after the kill"),
            (self.forks_compared, "the logs were not compared on both sides of a fork"),
            (
                self.failover_ms.is_some() || !self.has_mirrors(),
                "no content was seen to go on after the kill",
            ),
            (
                self.detect_ms.is_some() || self.killed == Kill::Coordinator,
                "the kill is not in the coordinator's history",
            ),
            (!recovered || self.recover_mode.is_some(), "no copy came back"),
            (
                !recovered || self.missed_bytes >= MISSED_BYTES,
                "the copies that were killed missed less than 1 MiB",
            ),
        ];
        not.into_iter().find_map(|(holds, why)| (!holds).then_some(why))
    }

    pub(super) fn tell(&self, json: bool) -> Result<(), Error> {
        if json {
            return say_json(self);
        }
        let line = |name: &str, value: String| say(format_args!("  {name:<22} {value}"));
        let millis = |value: Option<u64>| value.map_or("-".to_owned(), |at| format!("{at} ms"));
        say(format_args!(""))?;
        line("rows acknowledged", self.rows_acked.to_string())?;
        line("before the kill", self.acked_before_kill.to_string())?;
        line("rows lost", self.rows_lost.to_string())?;
        line("requests failed", format!("{}, {} in doubt", self.requests_failed, self.in_doubt))?;
        if let Some(why) = &self.first_failure {
            line("the first", why.clone())?;
        }
        line("detected after", millis(self.detect_ms))?;
        if self.has_mirrors() {
            let failover = millis(self.failover_ms);
            line("failover", format!("{failover}, last write before the kill to the first after"))?;
            line("writes stalled", format!("{} at most, of 99 in 100", millis(self.stall_p99_ms)))?;
            line("missed by copies", format!("{} bytes", self.missed_bytes))?;
            let mode = self.recover_mode.unwrap_or("nothing to recover");
            line("recovered", format!("{mode}, {} bytes on the wire", self.recover_bytes))?;
            line("cut from old primaries", format!("{} bytes", self.cut_bytes))?;
            line("rebalanced", format!("{} the longest pause", millis(self.rebalance_pause_ms)))?;
        }
        if let Some(why) = &self.start_refused {
            line("start was refused", why.clone())?;
        }
        line("logs", if self.logs_identical { "identical" } else { "DIFFERENT" }.to_owned())?;
        let (p50, p99) = (self.commit_p50_us, self.commit_p99_us);
        line("commit", format!("p50 {p50} us, p99 {p99} us"))?;
        for (name, bytes) in &self.peak_memory_bytes {
            line("peak memory", format!("{name} {} MiB", bytes >> 20))?;
        }
        for loss in &self.losses {
            say(format_args!("  LOST: {loss}"))?;
        }
        say(format_args!(""))?;
        match (self.wrong(), self.vacuous()) {
            (Some(why), _) => say(format_args!("SOMETHING IS WRONG: {why}.")),
            (_, Some(why)) => say(format_args!("This run proves too little: {why}. Run it again.")),
            _ => say(format_args!("No acknowledged row was lost.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            kill: "host",
            mirroring: "group",
            hosts: 4,
            segments_per_host: 2,
            rows_acked: 1000,
            acked_before_kill: 600,
            rows_lost: 0,
            requests_failed: 0,
            in_doubt: 0,
            detect_ms: Some(20),
            failover_ms: Some(50),
            stall_p99_ms: Some(50),
            rebalance_pause_ms: Some(10),
            recover_mode: Some("incremental"),
            recover_bytes: MISSED_BYTES,
            missed_bytes: MISSED_BYTES,
            cut_bytes: 0,
            logs_identical: true,
            forks_compared: true,
            out_of_role: 0,
            start_refused: None,
            commit_p50_us: 1,
            commit_p99_us: 1,
            peak_memory_bytes: BTreeMap::new(),
            losses: Vec::new(),
            first_failure: None,
            coordinator: None,
            dir: None,
            killed: Kill::Host,
        }
    }

    #[test]
    fn a_run_is_good_only_if_nothing_went_wrong() {
        assert!(good().is_good());
        for bad in [
            Summary { rows_lost: 1, ..good() },
            Summary { logs_identical: false, ..good() },
            Summary { requests_failed: 1, ..good() },
            Summary { out_of_role: 1, ..good() },
        ] {
            assert!(bad.wrong().is_some() && !bad.is_good(), "{bad:?}");
        }
    }

    #[test]
    fn a_run_is_good_only_if_it_could_have_shown_a_loss() {
        for (vacuous, why) in [
            (Summary { rows_acked: 0, ..good() }, "no row"),
            (Summary { acked_before_kill: 0, ..good() }, "no row"),
            (Summary { rows_acked: 600, ..good() }, "nothing was acknowledged after"),
            (Summary { forks_compared: false, ..good() }, "both sides"),
            (Summary { failover_ms: None, ..good() }, "go on"),
            (Summary { detect_ms: None, ..good() }, "history"),
            (Summary { recover_mode: None, ..good() }, "came back"),
            (Summary { missed_bytes: MISSED_BYTES - 1, ..good() }, "less than 1 MiB"),
        ] {
            assert!(!vacuous.is_good(), "{why}");
            assert!(vacuous.vacuous().unwrap().contains(why), "{why}");
        }
    }

    #[test]
    fn a_coordinator_that_dies_takes_no_data_and_is_not_detected_by_itself() {
        let found = Summary {
            killed: Kill::Coordinator,
            detect_ms: None,
            missed_bytes: 0,
            recover_mode: None,
            ..good()
        };
        assert!(found.is_good());
        assert!(!Summary { failover_ms: None, ..found }.is_good());
    }

    #[test]
    fn without_mirrors_requests_fail_and_a_refused_start_is_what_counts() {
        let found = Summary {
            killed: Kill::Primary,
            requests_failed: 9,
            failover_ms: None,
            missed_bytes: 0,
            recover_mode: None,
            start_refused: Some("content 1".to_owned()),
            ..good()
        };
        assert!(found.is_good());
        assert!(!Summary { start_refused: None, ..found }.is_good());
    }
}
