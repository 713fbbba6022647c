//! A block that was promised rots on one copy's disk: scripted runs (docs/failover.md lists them).

mod scripted;

use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::cluster::Cluster;
use scripted::{serving_under, write_some};

/// The mirror holds 30 writes, and has promised most of them in both slots of its control file. One bit of a promised
/// block flips, the mirror is killed and started again.
fn a_promised_block_rots(rules: Rules, seed: u64) -> Cluster {
    let mut cluster = serving_under(rules, seed, 2);
    write_some(&mut cluster, 0, 30);
    cluster.run_millis(2_500);
    cluster.flip(1);
    assert_eq!(cluster.stats().flips, 1, "there was no promised block to hit");
    cluster.kill(1);
    cluster.restart(1);
    cluster.run_millis(500);
    cluster
}

/// It says damage and stays away; its primary goes on without it, and loses nothing.
#[test]
fn a_copy_whose_promised_block_rotted_refuses_to_open() {
    for seed in 0..10 {
        let mut cluster = a_promised_block_rots(Rules::all(), seed);
        assert_eq!(cluster.violation(), None, "seed {seed}");
        assert_eq!(cluster.stats().damaged, 1, "seed {seed}: it did not refuse");
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "seed {seed}");
        assert!(cluster.append(0, 3_000));
        cluster.run_millis(100);
        assert_eq!(cluster.violation(), None, "seed {seed}");
    }
}

/// Without the rule its log ends at the bad block, and what was acknowledged is cut: found at once.
#[test]
fn truncating_at_the_first_bad_checksum_is_found() {
    for seed in 0..10 {
        let cluster = a_promised_block_rots(Rules::without(Rule::L5Judge), seed);
        let found = cluster.violation().is_some_and(|text| text.contains("flipped bit"));
        assert!(found, "seed {seed}: {:?}", cluster.violation());
    }
}
