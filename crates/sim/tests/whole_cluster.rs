//! Whole runs of the whole cluster: the same every time, clean, and not with a defect.

use outrigger_sim::whole::{Bug, Counts, ROWS, WholeOutcome, WholePlan, run_whole};

fn run_seed(seed: u64) -> WholeOutcome {
    run_whole(WholePlan::swarm(seed), false)
}

#[test]
fn one_seed_is_one_run() {
    for seed in [0, 3, 8, 41] {
        let (one, two) = (run_seed(seed), run_seed(seed));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
        assert_eq!(one.counts, two.counts, "seed {seed}");
    }
    assert_ne!(run_seed(1).trace_hash, run_seed(2).trace_hash);
}

/// Each row of the fault table that concerns failover happens, and nothing is lost, nobody obeys two, and catalog
/// and reality agree in the end.
#[test]
fn whole_runs_lose_nothing_and_see_every_row() {
    let mut counts = Counts::default();
    for seed in 0..150 {
        let outcome = run_seed(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        counts.add(&outcome.counts);
    }
    for (row, what) in ROWS {
        assert!(counts.of_row(row) > 0, "row {row} never happened: {what}");
    }
    assert!(counts.of("processes that are stuck, and answer") > 0);
}

fn is_found(bug: Bug, seeds: u64) {
    let goes_wrong = |seed| {
        let mut plan = WholePlan::swarm(seed);
        plan.bug = Some(bug);
        run_whole(plan, false).violation.is_some()
    };
    assert!((0..seeds).any(goes_wrong), "{bug:?} can be seeded in {seeds} runs");
}

#[test]
fn an_agent_that_obeys_a_lower_coordinator_is_found() {
    is_found(Bug::ObeyLower, 300);
}

#[test]
fn an_agent_that_starts_again_by_itself_is_found() {
    is_found(Bug::RunAgain, 20);
}

#[test]
fn a_failover_before_every_copy_has_reported_is_found() {
    is_found(Bug::FailoverUnproved, 300);
}
