//! Copies in sync that come and go, or live and take nothing: how long commits wait for them, each as a scripted run.

mod scripted;

use outrigger_sim::cluster::Cluster;
use outrigger_sim::disk::Latency;
use scripted::{comes_together, serving, write_some};

/// Of the options by default, in milliseconds.
const GRACE: u64 = 200;
const STALL: u64 = 5_000;

fn hangs(cluster: &mut Cluster) {
    let long = 3_600_000_000..3_600_000_001;
    let hanging = Latency { sync_micros: long.clone(), write_micros: long, ..Latency::default() };
    cluster.slow_down(1, hanging);
}

/// How long a write waited, in milliseconds, while this was done every `every` of them.
fn waits(cluster: &mut Cluster, most: u64, every: u64, mut act: impl FnMut(&mut Cluster)) -> u64 {
    let (began, commits) = (cluster.now().0, cluster.stats().commits);
    assert!(cluster.append(0, 3_000));
    while cluster.stats().commits == commits {
        assert!(cluster.violation().is_none(), "{:?}", cluster.violation());
        let waited = (cluster.now().0 - began) / 1_000;
        assert!(waited <= most, "a commit waits for {waited} ms");
        for _ in 0..every / 10 {
            if cluster.stats().commits == commits {
                cluster.run_millis(10);
            }
        }
        act(cluster);
    }
    (cluster.now().0 - began) / 1_000
}

/// Its disk takes nothing, its line breaks again and again before anybody could call it silent, and each time it is
/// back within the grace. The grace is counted from the first break: commits do not wait for it without end.
#[test]
fn a_copy_that_flaps_and_never_catches_up_holds_no_commit_longer_than_its_grace_and_one_flap() {
    for (seed, flap) in [(0, 30), (1, 60), (2, 100), (3, 150), (4, 190), (5, 400)] {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        hangs(&mut cluster);
        let waited = waits(&mut cluster, 2 * flap + GRACE + 100, flap, |c| c.cut_all(2_000));
        assert!(waited >= flap, "seed {seed}: it was not waited for at all");
        assert!(!cluster.in_sync(1), "seed {seed}: the commit was not safe");
    }
}

/// It flaps as fast, and catches up each time: it stays, and commits wait for a reconnection at most.
#[test]
fn a_copy_that_flaps_and_catches_up_stays_in_sync() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        for _ in 0..20 {
            waits(&mut cluster, 150, 100, |_| ());
            cluster.cut_all(2_000);
            cluster.run_millis(60);
            assert!(cluster.in_sync(1), "seed {seed}: it was let go of");
        }
        comes_together(cluster);
    }
}

/// Its line lives, it answers, and its disk takes nothing.
#[test]
fn a_copy_that_lives_and_takes_nothing_holds_no_commit_for_ever() {
    for seed in 0..5 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        hangs(&mut cluster);
        let waited = waits(&mut cluster, 2 * STALL + GRACE + 1_000, 50, |_| ());
        assert!(waited >= STALL, "seed {seed}: {waited} ms");
        assert!(!cluster.in_sync(1), "seed {seed}");
    }
}

/// However long nothing is written: nobody owes anything, and nobody is let go of.
#[test]
fn a_copy_that_has_everything_is_not_let_go_of_while_nothing_is_written() {
    for seed in 0..5 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        for _ in 0..10 {
            cluster.run_millis(2 * STALL);
            assert!(cluster.in_sync(1), "seed {seed}");
            waits(&mut cluster, 100, 10, |_| ());
        }
        comes_together(cluster);
    }
}
