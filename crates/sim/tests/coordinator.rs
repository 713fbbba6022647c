//! A coordinator that dies and starts again, and what the copies make of the words of the one before: scripted runs.

mod scripted;

use outrigger_net::config::Config;
use outrigger_sim::cluster::Cluster;
use outrigger_wal::{Epoch, InstanceId};
use scripted::{comes_together, serving, serving_of, write_some};

/// What a coordinator that is cut off decides alone: node 1 is promoted.
fn decided_alone(cluster: &Cluster) -> Config {
    let now = cluster.config().clone();
    let epoch = Epoch { number: now.epoch.number + 1, nonce: 99 };
    Config { version: now.version.next(), epoch, primary: InstanceId(2), ..now }
}

/// The coordinator starts again and records nothing new: its copies hear the version that they know from a
/// higher reign. From then on the one before is deposed for them, whatever version it tells (S0): also
/// after a restart.
#[test]
fn a_copy_that_heard_the_successor_refuses_a_deposed_coordinator() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        let alone = decided_alone(&cluster);
        cluster.restart_coordinator();
        cluster.run_millis(50);
        if seed % 2 == 1 {
            cluster.kill(1);
            cluster.restart(1);
        }
        cluster.tell(1, 1, alone);
        cluster.run_millis(50);
        let version = cluster.member(1).map(|member| member.control().version);
        assert_eq!(version, Some(cluster.config().version), "seed {seed}: it was taken");
        assert!(!cluster.is_serving(1), "seed {seed}: two primaries");
        assert!(cluster.append(0, 3_000));
        comes_together(cluster);
    }
}

/// The floor of a copy is in the catalog: a coordinator that starts again, from its log or from a checkpoint, still
/// refuses to have one promoted that has lost what it promised (S6).
#[test]
fn a_floor_outlives_the_coordinator() {
    for seed in 0..10 {
        let mut cluster = serving_of(seed, 3);
        cluster.snapshot(1);
        write_some(&mut cluster, 0, 5);
        cluster.run_millis(2_500);
        let committed = cluster.committed();
        // A record carries what was reported until then: one copy leaves.
        cluster.kill(2);
        assert!(cluster.run_while(5_000, |c| c.in_sync(2)), "{:?}", cluster.violation());
        if seed % 2 == 1 {
            cluster.checkpoint_coordinator();
        }
        cluster.restart_coordinator();
        cluster.kill(1);
        assert_eq!(cluster.stats().rollbacks, 1, "seed {seed}");
        cluster.restart(1);
        cluster.kill(0);
        cluster.promote_to(1);
        cluster.run_millis(3_000);
        assert!(!cluster.is_serving(1), "seed {seed}: it reigns without what it promised");
        cluster.restart(0);
        cluster.promote_to(0);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        assert!(cluster.committed() >= committed);
    }
}
