//! Whole runs of the simulated cluster: the same every time, clean with all rules, and not without one.

use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::suite::{coverage, run_seed, run_seeds};

#[test]
fn one_seed_is_one_run() {
    for seed in [0, 3, 17, 42] {
        let (one, two) = (run_seed(seed, Rules::all()), run_seed(seed, Rules::all()));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
        assert_eq!(one.stats, two.stats, "seed {seed}");
    }
    assert_ne!(run_seed(1, Rules::all()).trace_hash, run_seed(2, Rules::all()).trace_hash);
}

#[test]
fn no_seed_loses_a_commit() {
    let summary = run_seeds(0..80, Rules::all(), 1);
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
    for (what, seen) in coverage(&summary.stats) {
        assert!(seen > 0, "no {what} in {} seeds", summary.seeds);
    }
}

fn is_found(rule: Rule, seeds: u64) {
    let summary = run_seeds(0..seeds, Rules::without(rule), 1);
    assert!(!summary.failures.is_empty(), "{rule:?} can be left out of {seeds} seeds");
}

#[test]
fn acknowledging_what_is_not_durable_is_found() {
    is_found(Rule::S1Durable, 5);
}

#[test]
fn no_longer_waiting_before_that_is_recorded_is_found() {
    is_found(Rule::S2Shrink, 5);
}

#[test]
fn asking_for_a_copy_without_waiting_for_it_is_found() {
    is_found(Rule::S4Wait, 30);
}
