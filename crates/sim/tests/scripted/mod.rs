//! Where a scripted run begins: copies of which node 0 serves, in sync, and one client that writes when told.

#![allow(dead_code, reason = "each script uses a part")]

use outrigger_replica::rules::Rules;
use outrigger_sim::cluster::{Cluster, Plan};

/// The authority is the node behind the last of two copies.
pub(crate) const AUTHORITY: usize = 2;

/// Two copies; node 0 serves, both are in sync.
pub(crate) fn serving(seed: u64) -> Cluster {
    serving_of(seed, 2)
}

/// As many copies; node 0 serves, all are in sync.
pub(crate) fn serving_of(seed: u64, copies: usize) -> Cluster {
    serving_under(Rules::all(), seed, copies)
}

/// The same under these rules.
pub(crate) fn serving_under(rules: Rules, seed: u64, copies: usize) -> Cluster {
    let mut plan = Plan::quiet(seed, copies);
    plan.rules = rules;
    plan.clients = 1;
    let mut cluster = Cluster::new(plan);
    cluster.start();
    assert!(cluster.run_while(5_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
    cluster.run_millis(200);
    cluster
}

/// A node takes so many writes, one behind the other.
pub(crate) fn write_some(cluster: &mut Cluster, node: usize, writes: usize) {
    for _ in 0..writes {
        assert!(cluster.append(node, 3_000));
        cluster.run_millis(3);
    }
}

/// Everything heals: all copies are in sync and equal, and nothing was broken on the way.
pub(crate) fn comes_together(mut cluster: Cluster) {
    cluster.converge();
    assert_eq!(cluster.violation(), None);
}
