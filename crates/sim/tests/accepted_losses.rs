//! Copies that are held out, and losses that an operator accepts (S10), each as a scripted run (docs/failover.md lists them).

mod scripted;

use outrigger_replica::member::Role;
use outrigger_sim::cluster::Cluster;
use scripted::{AUTHORITY, comes_together, serving, write_some};

/// Node 1 left the in-sync set, node 0 committed alone, and is gone.
fn apart(seed: u64) -> Cluster {
    let mut cluster = serving(seed);
    write_some(&mut cluster, 0, 5);
    cluster.kill(1);
    assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
    cluster.run_millis(50);
    write_some(&mut cluster, 0, 5);
    cluster.run_millis(50);
    if seed.is_multiple_of(2) {
        cluster.kill(0);
    } else {
        cluster.cut_power(0);
    }
    cluster.restart(1);
    cluster.run_millis(300);
    assert!(cluster.log_end(1) < cluster.committed(), "nothing would be lost");
    cluster
}

fn loses(cluster: &mut Cluster, to: usize) {
    cluster.accept_loss(to);
    let in_it = |c: &Cluster| c.member(to).and_then(|m| m.serving()) == Some(c.config().epoch);
    let serves = cluster.run_while(5_000, |c| !in_it(c));
    assert!(serves, "n{to} does not serve: {:?}", cluster.violation());
}

/// Node 0 holds what was lost: it neither serves nor comes back in sync, held out or not.
fn stays_out(mut cluster: Cluster, seed: u64) {
    cluster.restart(0);
    cluster.run_millis(2_000);
    assert!(!cluster.in_sync(0) && !cluster.is_serving(0), "seed {seed}: it is back");
    cluster.hold(0, false);
    for _ in 0..40 {
        cluster.run_millis(100);
        assert!(!cluster.in_sync(0) && !cluster.is_serving(0), "seed {seed}: it is back");
    }
    let old = cluster.member(0).map(|member| (member.role(), member.commit()));
    assert!(old.is_some_and(|(role, _)| role == Role::Mirror), "seed {seed}: {old:?}");
    assert!(cluster.is_serving(1));
    assert_eq!(cluster.violation(), None);
}

/// The only copy that held everything is gone for good, as it seems; an operator promotes the one that lacks commits.
/// It serves. Then the old one comes back with the commits that were given up: nobody takes it in, since it would have to
/// take back what it committed; it needs to be rebuilt.
#[test]
fn a_copy_out_of_the_in_sync_set_is_promoted_and_the_other_needs_a_rebuild() {
    for seed in 0..10 {
        let mut cluster = apart(seed);
        loses(&mut cluster, 1);
        write_some(&mut cluster, 1, 8);
        assert!(
            cluster.config().loss.is_some_and(|loss| loss.epoch == cluster.config().epoch.number)
        );
        assert!(cluster.config().held(cluster.config().copies[0].instance));
        stays_out(cluster, seed);
    }
}

/// The copy that is promoted dies before its first block is durable, and once more after: it reigns from what it holds, alone.
#[test]
fn a_loss_that_was_accepted_survives_a_crash_before_the_reign_begins() {
    for seed in 0..20 {
        let mut cluster = apart(seed);
        cluster.accept_loss(1);
        let until = cluster.now().plus(300 + seed * 150);
        cluster.run_until(until);
        if seed % 2 == 0 {
            cluster.kill(1);
        } else {
            cluster.cut_power(1);
        }
        cluster.run_millis(20);
        cluster.restart(1);
        let serves = cluster.run_while(5_000, |c| !c.is_serving(1));
        assert!(serves, "seed {seed}: {:?}", cluster.violation());
        write_some(&mut cluster, 1, 5);
        cluster.cut_power(1);
        cluster.restart(1);
        assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        stays_out(cluster, seed);
    }
}

/// The operator accepts the loss twice: the second is another epoch of the same copy, and loses nothing more.
#[test]
fn a_loss_accepted_twice_is_one_loss() {
    for seed in 0..10 {
        let mut cluster = apart(seed);
        cluster.accept_loss(1);
        if seed % 2 == 0 {
            assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
            write_some(&mut cluster, 1, 5);
            cluster.run_millis(20);
        }
        let (epoch, committed) = (cluster.config().epoch.number, cluster.committed());
        loses(&mut cluster, 1);
        assert!(cluster.config().epoch.number > epoch);
        assert!(cluster.committed() >= committed, "seed {seed}: it lost more");
        write_some(&mut cluster, 1, 5);
        stays_out(cluster, seed);
    }
}

/// The old primary is alive and does not hear: it goes on committing for clients that know it, which is what `--old-primary-is-fenced`
/// is about. As soon as it hears of the new epoch it serves nothing any more.
#[test]
fn a_primary_that_hears_of_an_accepted_loss_serves_nothing_more() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        write_some(&mut cluster, 0, 5);
        cluster.block(1, 0);
        cluster.block(0, 1);
        cluster.restart(1);
        cluster.run_millis(300);
        cluster.stand_still(0);
        loses(&mut cluster, 1);
        cluster.go_on(0);
        cluster.unblock(1, 0);
        cluster.unblock(0, 1);
        assert!(cluster.run_while(1_000, |c| c.is_serving(0)), "seed {seed}: it serves on");
        assert!(!cluster.append(0, 100));
        cluster.kill(0);
        stays_out(cluster, seed);
    }
}

/// A copy that an operator holds out is not called, however long; let in again it comes back by what it missed. A primary
/// that was told to hold it out while it was streaming to it hangs up.
#[test]
fn a_copy_that_is_held_out_stays_out_until_it_is_let_in() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        if seed % 2 == 0 {
            cluster.hold(1, true);
            cluster.run_millis(50);
            cluster.restart(1);
        } else {
            // It streams already, and is not recorded: the authority does not hear the primary.
            cluster.block(0, AUTHORITY);
            cluster.restart(1);
            let streams = |c: &Cluster| c.last_ack(1, 0).is_some();
            assert!(cluster.run_while(5_000, |c| !streams(c)), "{:?}", cluster.violation());
            cluster.run_millis(100);
            cluster.hold(1, true);
            cluster.unblock(0, AUTHORITY);
        }
        for _ in 0..20 {
            cluster.append(0, 2_000);
            cluster.run_millis(100);
            assert!(!cluster.in_sync(1), "seed {seed}: it came back by itself");
        }
        let behind = cluster.log_end(1);
        cluster.run_millis(200);
        assert_eq!(cluster.log_end(1), behind, "seed {seed}: it is streamed to");
        assert!(cluster.log_end(0) > behind);
        cluster.hold(1, false);
        assert!(cluster.run_while(5_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        comes_together(cluster);
    }
}
