//! Many seeds, one after the other: what they saw, and the first that went wrong.

use outrigger_replica::rules::Rules;

use crate::cluster::{Cluster, Outcome, Plan, Stats};

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Counted over all of them.
    pub stats: Stats,
    /// Seeds that went wrong, and how.
    pub failures: Vec<Failure>,
}

/// A seed that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Its trace hash.
    pub trace_hash: u64,
    /// What happened.
    pub text: String,
}

/// What each suite must have seen, and how often it did.
#[must_use]
pub const fn coverage(stats: &Stats) -> [(&'static str, u64); 16] {
    [
        ("commits", stats.commits),
        ("power cuts", stats.power_cuts),
        ("torn tails", stats.torn_tails),
        ("promotions", stats.promotions),
        ("hand-overs", stats.handed_over),
        ("reigns given up for a copy that lacks commits", stats.resigned),
        ("accepted losses", stats.losses),
        ("copies held out", stats.held),
        ("truncations", stats.truncations),
        ("grows", stats.grows),
        ("shrinks", stats.shrinks),
        ("frames of old connections", stats.late),
        ("damage that was refused", stats.damaged),
        ("writes sent again", stats.resent),
        ("restarts of the coordinator", stats.coordinator_restarts),
        ("words of a deposed coordinator", stats.deposed_words),
    ]
}

/// Runs one seed.
#[must_use]
pub fn run_seed(seed: u64, rules: Rules) -> Outcome {
    let mut plan = Plan::swarm(seed);
    plan.rules = rules;
    Cluster::new(plan).run()
}

/// Runs seeds until so many went wrong.
pub fn run_seeds(seeds: impl Iterator<Item = u64>, rules: Rules, stop_after: usize) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        let outcome = run_seed(seed, rules);
        summary.seeds += 1;
        summary.stats.add(&outcome.stats);
        if let Some(text) = outcome.violation {
            let trace_hash = outcome.trace_hash;
            summary.failures.push(Failure { seed, trace_hash, text });
            if summary.failures.len() >= stop_after {
                break;
            }
        }
    }
    summary
}
