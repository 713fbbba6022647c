//! Copies that are held out, and losses that an operator accepts (S10), each as a scripted run (docs/failover.md lists them).

mod scripted;

use outrigger_replica::member::{HandOver, Role};
use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::cluster::Cluster;
use outrigger_wal::Epoch;
use scripted::{AUTHORITY, comes_together, serving, serving_under, write_some};

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

/// Node 0 reigns alone and lives; node 1 is up, let in, and lacks commits: nothing passes between the two.
fn parted(seed: u64) -> Cluster {
    parted_under(Rules::all(), seed)
}

fn parted_under(rules: Rules, seed: u64) -> Cluster {
    let mut cluster = serving_under(rules, seed, 2);
    write_some(&mut cluster, 0, 5);
    cluster.block(0, 1);
    cluster.block(1, 0);
    assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
    write_some(&mut cluster, 0, 5);
    cluster.run_millis(50);
    assert!(cluster.log_end(1) < cluster.committed(), "nothing would be lost");
    cluster
}

fn given_up(cluster: &Cluster) -> Epoch {
    cluster.member(0).map_or(Epoch::NONE, |member| member.control().given_up)
}

/// The old primary lives, and answers: it gives its reign up durably, and only then the loss is recorded. Nothing that it
/// committed after it said so is lost, since it commits nothing more; a write that was under way is in doubt.
#[test]
fn an_old_primary_that_lives_gives_its_reign_up_before_a_loss_is_recorded() {
    for seed in 0..20 {
        let mut cluster = parted(seed);
        let epoch = cluster.config().epoch;
        assert!(cluster.append(0, 9_000));
        assert!(cluster.give_up(1, 500).is_some());
        let lost = cluster.run_while(2_000, |c| c.config().loss.is_none());
        assert!(lost, "seed {seed}: {:?}", cluster.violation());
        assert_eq!(given_up(&cluster), epoch, "seed {seed}");
        assert!(!cluster.is_serving(0) && !cluster.append(0, 100));
        assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        write_some(&mut cluster, 1, 5);
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        cluster.kill(0);
        stays_out(cluster, seed);
    }
}

/// Without the rule it only says so: it serves on in a reign that was said to be over, and what it commits then is lost.
#[test]
fn a_reign_that_is_only_said_to_be_given_up_is_found() {
    let mut cluster = parted_under(Rules::without(Rule::S9GiveUp), 1);
    assert!(cluster.give_up(1, 500).is_some());
    cluster.run_millis(500);
    assert!(
        cluster
            .violation()
            .is_some_and(|text| text.contains("gave it up") || text.contains("given up"))
    );
}

/// The primary gives up, and nobody records anything: the operator went away. It takes a new epoch and serves, with all
/// that it had committed. The order comes again, late and doubled: it was for a reign that is over.
#[test]
fn a_reign_that_is_given_up_for_nothing_is_followed_by_a_new_one() {
    for seed in 0..20 {
        let mut cluster = parted(seed);
        let epoch = cluster.config().epoch;
        let Some(asked) = cluster.give_up(1, 100) else { panic!("nobody coordinates") };
        // The word does not come to the coordinator.
        cluster.run_while(100, |c| given_up(c) != epoch && c.is_serving(0));
        cluster.block(0, AUTHORITY);
        cluster.run_millis(150);
        assert!(!cluster.is_serving(0), "seed {seed}");
        cluster.restart_coordinator();
        cluster.unblock(0, AUTHORITY);
        assert!(cluster.run_while(3_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
        assert!(cluster.config().loss.is_none() && cluster.config().epoch.number > epoch.number);
        for _ in 0..2 {
            cluster.ask_give_up(0, asked);
            cluster.run_millis(20);
            assert!(cluster.is_serving(0), "seed {seed}: a late order ends another reign");
        }
        write_some(&mut cluster, 0, 3);
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        comes_together(cluster);
    }
}

/// An order of a coordinator that was deposed, or for another version of the configuration, ends no reign.
#[test]
fn an_order_of_a_deposed_coordinator_ends_no_reign() {
    for seed in 0..10 {
        let mut cluster = parted(seed);
        let config = cluster.config();
        let (epoch, version, to) = (config.epoch, config.version, config.copies[1].instance);
        let old = HandOver { to, at_most_millis: 500, epoch, version, coordinator_epoch: 1 };
        cluster.restart_coordinator();
        cluster.run_millis(400);
        let coordinator_epoch = cluster.member(0).map_or(0, |m| m.control().coordinator_epoch);
        assert!(coordinator_epoch > 1, "seed {seed}");
        let other = HandOver { coordinator_epoch, version: version.next(), ..old };
        let earlier = HandOver { coordinator_epoch, epoch: Epoch::NONE, ..old };
        for asked in [old, other, earlier] {
            cluster.ask_give_up(0, asked);
            cluster.run_millis(20);
            assert!(cluster.is_serving(0), "seed {seed}: {asked:?}");
        }
        assert_eq!(cluster.stats().resigned, 0);
        write_some(&mut cluster, 0, 3);
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        comes_together(cluster);
    }
}

/// The old primary dies between giving up and the record, at any moment, by a kill or a power cut. Either the loss was recorded, and it
/// does not reign again; or nothing was, and it takes a new epoch. What it committed in between is never half lost.
#[test]
fn an_old_primary_that_dies_while_it_gives_up_leaves_one_primary() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..60 {
        let mut cluster = parted(seed);
        let epoch = cluster.config().epoch;
        assert!(cluster.append(0, 9_000));
        assert!(cluster.give_up(1, 200).is_some());
        let until = cluster.now().plus(100 + seed * 150);
        cluster.run_until(until);
        if seed % 2 == 0 {
            cluster.kill(0);
        } else {
            cluster.cut_power(0);
        }
        cluster.run_millis(20);
        cluster.restart(0);
        let reigns = |c: &Cluster| {
            let of = usize::from(c.config().primary != c.config().copies[0].instance);
            c.member(of).and_then(|m| m.serving()) == Some(c.config().epoch)
        };
        let serves = cluster.run_while(6_000, |c| !reigns(c));
        assert!(serves, "seed {seed}: {:?}", cluster.violation());
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        if cluster.config().loss.is_some() {
            lost += 1;
            write_some(&mut cluster, 1, 3);
            cluster.kill(0);
            stays_out(cluster, seed);
        } else {
            kept += 1;
            assert!(
                cluster.config().epoch.number > epoch.number,
                "seed {seed}: it reigns in {epoch}"
            );
            write_some(&mut cluster, 0, 3);
            comes_together(cluster);
        }
    }
    assert!(lost > 5 && kept > 5, "{lost} lost, {kept} kept: one of the two was not tried");
}

/// The old primary stands still for 30 s, with the order in its ears. Everybody takes it for dead, and the loss is accepted
/// because an administrator fenced it; when it goes on it finds the order and its time run out. Or it had given up before it stood
/// still, and its time is over when the loss is recorded: it asks for a new epoch, and is refused.
#[test]
fn an_old_primary_that_stood_still_acknowledges_nothing_of_its_own() {
    for seed in 0..20 {
        let mut cluster = parted(seed);
        if seed % 2 == 0 {
            assert!(cluster.give_up(1, 200).is_some());
            cluster.stand_still(0);
        } else {
            // What is on its way to its disk when it gives up is never committed, however long it stands still.
            assert!(cluster.append(0, 9_000));
            assert!(cluster.give_up(1, 200).is_some());
            cluster.block(0, AUTHORITY);
            let gave = cluster.run_while(400, |c| c.stats().resigned == 0);
            assert!(gave, "seed {seed}: {:?}", cluster.violation());
            cluster.stand_still(0);
            cluster.unblock(0, AUTHORITY);
        }
        cluster.run_millis(30_000);
        if cluster.config().loss.is_none() {
            cluster.accept_loss(1);
        }
        assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        write_some(&mut cluster, 1, 5);
        cluster.go_on(0);
        let steps_down = cluster.run_while(2_000, |c| c.is_serving(0));
        assert!(steps_down, "seed {seed}: it serves on: {:?}", cluster.violation());
        for _ in 0..20 {
            cluster.run_millis(100);
            assert!(!cluster.is_serving(0), "seed {seed}: it serves again");
        }
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        cluster.kill(0);
        stays_out(cluster, seed);
    }
}
