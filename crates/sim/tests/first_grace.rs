//! Copies that are started together: how long a primary that starts again waits for one that is not there yet.

mod scripted;

use outrigger_sim::cluster::Cluster;
use scripted::{comes_together, serving, write_some};

/// Of the options by default, in milliseconds.
const GRACE: u64 = 200;
const FIRST_GRACE: u64 = 3_000;

/// Both copies are down, in sync.
fn stopped(seed: u64) -> Cluster {
    let mut cluster = serving(seed);
    write_some(&mut cluster, 0, 5);
    for node in [0, 1] {
        cluster.kill(node);
    }
    cluster.run_millis(500);
    assert!(cluster.in_sync(1));
    cluster
}

/// How long this lasts, in milliseconds.
fn lasts(cluster: &mut Cluster, most: u64, wait: impl FnMut(&Cluster) -> bool) -> u64 {
    let began = cluster.now().0;
    assert!(cluster.run_while(most, wait), "after {most} ms; {:?}", cluster.violation());
    (cluster.now().0 - began) / 1_000
}

/// A whole cluster is started on a busy machine. The primary's process is there at once; the mirror's comes a second later,
/// which is five times the grace of a mirror that breaks. It is not let go of.
#[test]
fn a_mirror_that_starts_a_second_after_its_primary_stays_in_sync() {
    for seed in 0..20 {
        let mut cluster = stopped(seed);
        cluster.restart(0);
        cluster.run_millis(1_000);
        assert!(cluster.in_sync(1), "seed {seed}: it was let go of");
        cluster.restart(1);
        lasts(&mut cluster, 2_000, |c| !c.is_serving(0));
        write_some(&mut cluster, 0, 5);
        cluster.run_millis(FIRST_GRACE);
        assert!(cluster.in_sync(1), "seed {seed}: it was let go of later");
        assert!(cluster.past().all(|config| config.in_sync_set().count() == 2), "seed {seed}");
        comes_together(cluster);
    }
}

#[test]
fn a_mirror_that_never_comes_is_let_go_of_when_the_first_grace_is_over() {
    for seed in 0..20 {
        let mut cluster = stopped(seed);
        cluster.restart(0);
        let waited = lasts(&mut cluster, FIRST_GRACE + 1_000, |c| !c.is_serving(0));
        assert!(waited >= FIRST_GRACE - 100, "seed {seed}: after {waited} ms");
        assert!(!cluster.in_sync(1));
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// It was met: it may have died right behind that, and commits wait for it no longer than for any other.
#[test]
fn a_mirror_that_was_met_and_breaks_has_the_ordinary_grace_alone() {
    for seed in 0..20 {
        let mut cluster = stopped(seed);
        cluster.restart(0);
        cluster.restart(1);
        lasts(&mut cluster, 1_500, |c| !c.is_serving(0));
        write_some(&mut cluster, 0, 5);
        cluster.run_millis(100);
        cluster.kill(1);
        let commits = cluster.stats().commits;
        assert!(cluster.append(0, 3_000));
        let waited = lasts(&mut cluster, GRACE + 400, |c| c.stats().commits == commits);
        assert!(waited < FIRST_GRACE / 2, "seed {seed}: {waited} ms");
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// A mirror has just been started when its primary dies. It has never met it as a primary; but it was deposed, and may not
/// come at all: a failover is not longer for it.
#[test]
fn a_deposed_primary_has_no_first_grace() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        cluster.kill(1);
        cluster.restart(1);
        lasts(&mut cluster, 5_000, |c| !c.in_sync(1));
        cluster.run_millis(100);
        cluster.kill(0);
        cluster.promote_to(1);
        let waited = lasts(&mut cluster, GRACE + 600, |c| !c.is_serving(1));
        assert!(waited < FIRST_GRACE / 2, "seed {seed}: {waited} ms");
        let commits = cluster.stats().commits;
        assert!(cluster.append(1, 3_000));
        lasts(&mut cluster, GRACE + 600, |c| c.stats().commits == commits);
        cluster.restart(0);
        comes_together(cluster);
    }
}
