//! Hand-overs (S9) that something goes wrong in, each as a scripted run (docs/failover.md lists them).

mod scripted;

use outrigger_replica::member::HandOver;
use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::cluster::Cluster;
use outrigger_sim::disk::Latency;
use outrigger_wal::Epoch;
use scripted::{AUTHORITY, comes_together, serving, serving_of, serving_under, write_some};

fn until_serving(cluster: &mut Cluster, node: usize, millis: u64) {
    let serves = cluster.run_while(millis, |c| !c.is_serving(node));
    assert!(serves, "n{node} does not serve: {:?}", cluster.violation());
}

/// What node 0 durably knows to have given up.
fn given_up(cluster: &Cluster, node: usize) -> Epoch {
    cluster.member(node).map_or(Epoch::NONE, |member| member.control().given_up)
}

fn is_frozen(cluster: &Cluster, node: usize) -> bool {
    cluster.member(node).is_some_and(|member| member.handing_over().is_some())
}

/// Asked of the primary, or of the mirror when the coordinator cannot reach the primary: the mirror reigns where
/// the primary stopped, no write is left in doubt, and the old primary is in sync at once.
#[test]
fn a_reign_is_handed_over_at_the_primary_and_through_the_mirror() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        assert!(cluster.append(0, 9_000));
        let through = usize::from(seed % 2 == 1);
        if through == 1 {
            cluster.block(0, AUTHORITY);
            cluster.block(AUTHORITY, 0);
        }
        assert!(cluster.hand_over(through, 1, 500).is_some());
        until_serving(&mut cluster, 1, 400);
        assert_eq!(cluster.stats().in_doubt, 0, "seed {seed}: a write was left in doubt");
        assert_eq!(cluster.stats().handed_over, 1);
        assert!(cluster.in_sync(0), "seed {seed}: redundancy was lost on the way");
        if through == 1 {
            // Only then does the old primary hear of it, from the copy that was its mirror.
            cluster.run_millis(100);
            cluster.unblock(0, AUTHORITY);
            cluster.unblock(AUTHORITY, 0);
        }
        write_some(&mut cluster, 1, 5);
        comes_together(cluster);
    }
}

/// Whoever hands over one pair after the other waits until both copies are heard in the new reign. They once told the
/// authority with their next report, which came up to a second later: four pairs took three seconds.
#[test]
fn both_copies_tell_the_authority_of_a_new_reign_at_once() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        assert!(cluster.hand_over(0, 1, 500).is_some());
        until_serving(&mut cluster, 1, 400);
        let epoch = cluster.config().epoch.number;
        cluster.run_millis(60);
        assert_eq!([0, 1].map(|node| cluster.heard_epoch(node)), [epoch; 2], "seed {seed}");
    }
}

/// The primary gives its epoch up and says so, and the coordinator does not hear it. Asked again it says it again; nobody
/// serves in between.
#[test]
fn a_lost_word_that_the_epoch_is_given_up_is_said_again() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        cluster.block(0, AUTHORITY);
        let asked = cluster.hand_over(0, 1, 500);
        let epoch = cluster.config().epoch;
        let gave = cluster.run_while(400, |c| c.stats().given_up == 0);
        assert!(gave, "{:?}", cluster.violation());
        assert_eq!(given_up(&cluster, 0), epoch);
        assert!(!cluster.append(0, 100) && !cluster.append(1, 100), "seed {seed}: it is taken");
        cluster.run_millis(50);
        assert_eq!(cluster.stats().handed_over, 0);
        cluster.unblock(0, AUTHORITY);
        // Through the mirror this time.
        let Some(asked) = asked else { panic!("nothing was asked") };
        let other = usize::from(seed % 2 == 1);
        if other == 1 {
            cluster.block(0, AUTHORITY);
        }
        cluster.ask_hand_over(other, asked);
        until_serving(&mut cluster, 1, 400);
        cluster.unblock(0, AUTHORITY);
        write_some(&mut cluster, 1, 5);
        comes_together(cluster);
    }
}

/// The word never gets through: after twice the time the primary takes a new epoch, as after a restart, and serves again.
/// The epoch that was given up stays over, and the word of it that comes then promotes nobody.
#[test]
fn a_primary_that_gave_up_for_nothing_takes_a_new_epoch() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        let epoch = cluster.config().epoch;
        cluster.block(0, AUTHORITY);
        assert!(cluster.hand_over(0, 1, 100).is_some());
        let gave = cluster.run_while(400, |c| c.stats().given_up == 0);
        assert!(gave, "{:?}", cluster.violation());
        cluster.run_millis(100);
        assert!(!cluster.is_serving(0));
        cluster.run_millis(150);
        cluster.unblock(0, AUTHORITY);
        until_serving(&mut cluster, 0, 2_000);
        assert!(cluster.config().epoch.number > epoch.number, "seed {seed}: it went back");
        assert!(cluster.in_sync(1));
        write_some(&mut cluster, 0, 5);
        comes_together(cluster);
    }
}

/// The primary dies right after it gave up: by a kill or with its power, before or after the coordinator heard. Either the
/// mirror takes over, or the primary comes back under a new epoch; it has not forgotten what it gave up.
#[test]
fn a_primary_that_dies_after_giving_up_leaves_one_primary() {
    for seed in 0..40 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        let epoch = cluster.config().epoch;
        if seed % 2 == 0 {
            cluster.block(0, AUTHORITY);
        }
        assert!(cluster.hand_over(0, 1, 500).is_some());
        let gave = cluster.run_while(400, |c| c.stats().given_up == 0);
        assert!(gave, "{:?}", cluster.violation());
        if seed % 4 < 2 {
            cluster.kill(0);
        } else {
            cluster.cut_power(0);
        }
        cluster.unblock(0, AUTHORITY);
        cluster.run_millis(20);
        cluster.restart(0);
        assert_eq!(given_up(&cluster, 0), epoch, "seed {seed}");
        let served = cluster.run_while(5_000, |c| !c.is_serving(0) && !c.is_serving(1));
        assert!(served, "seed {seed}: {:?}", cluster.violation());
        comes_together(cluster);
    }
}

/// The primary dies at any moment of a hand-over, before it is frozen, frozen, while it gives up and after: one primary is
/// left, and everything acknowledged.
#[test]
fn a_crash_at_any_step_leaves_one_primary() {
    for seed in 0..60 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 3);
        assert!(cluster.append(0, 9_000));
        let (slow, most) = (if seed % 3 == 0 { 8_000 } else { 1_500 }, seed * 170);
        let latency = Latency { sync_micros: 100..slow, slow_per_mille: 0, ..Latency::default() };
        cluster.slow_down(0, latency);
        assert!(cluster.hand_over(usize::from(seed % 2 == 1), 1, 300).is_some());
        let until = cluster.now().plus(most);
        cluster.run_until(until);
        let dies = usize::from(seed % 5 == 4);
        if seed % 2 == 0 {
            cluster.cut_power(dies);
        } else {
            cluster.kill(dies);
        }
        cluster.slow_down(0, Latency::default());
        cluster.run_millis(30);
        cluster.restart(dies);
        let served = cluster.run_while(5_000, |c| !c.is_serving(0) && !c.is_serving(1));
        assert!(served, "seed {seed}: {:?}", cluster.violation());
        comes_together(cluster);
    }
}

/// The mirror dies while the primary is frozen for it: the primary thaws at once and goes on in its epoch; the mirror leaves
/// by S2, and what was appended before commits.
#[test]
fn a_mirror_that_dies_while_its_primary_is_frozen_holds_nobody() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        let epoch = cluster.config().epoch;
        // What the mirror has is durable late, so that the freeze lasts.
        let slow =
            Latency { sync_micros: 300_000..300_001, slow_per_mille: 0, ..Latency::default() };
        cluster.slow_down(1, slow);
        assert!(cluster.append(0, 9_000));
        assert!(cluster.hand_over(usize::from(seed % 2 == 1), 1, 5_000).is_some());
        assert!(cluster.run_while(100, |c| !is_frozen(c, 0)), "{:?}", cluster.violation());
        assert!(!cluster.append(0, 100), "seed {seed}: it is not frozen");
        cluster.kill(1);
        assert!(cluster.run_while(1_500, |c| is_frozen(c, 0)), "seed {seed}: it stays frozen");
        assert!(cluster.is_serving(0) && cluster.config().epoch == epoch);
        assert!(cluster.append(0, 100));
        assert!(cluster.run_while(3_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        cluster.slow_down(1, Latency::default());
        cluster.restart(1);
        write_some(&mut cluster, 0, 3);
        comes_together(cluster);
    }
}

/// The mirror dies when the primary has given up, before the coordinator heard: nobody takes over, and the primary gets
/// a new epoch; the mirror leaves by S2 under that.
#[test]
fn a_mirror_that_dies_after_its_primary_gave_up_leaves_it_a_new_epoch() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        cluster.block(0, AUTHORITY);
        assert!(cluster.hand_over(0, 1, 100).is_some());
        let gave = cluster.run_while(400, |c| c.stats().given_up == 0);
        assert!(gave, "{:?}", cluster.violation());
        cluster.kill(1);
        cluster.run_millis(50);
        cluster.unblock(0, AUTHORITY);
        until_serving(&mut cluster, 0, 5_000);
        assert!(!cluster.in_sync(1));
        write_some(&mut cluster, 0, 3);
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// A hand-over was decided on an older version or for an older epoch and comes late, to either copy: nobody freezes.
#[test]
fn a_late_hand_over_of_an_older_version_moves_nobody() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        let config = cluster.config();
        let (epoch, version) = (config.epoch, config.version);
        let to = config.copies[1].instance;
        let old = HandOver { to, at_most_millis: 500, epoch, version, coordinator_epoch: 1 };
        if seed % 2 == 0 {
            // The same epoch, and a version that moved.
            cluster.kill(1);
            assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
            cluster.restart(1);
            assert!(cluster.run_while(9_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        } else {
            cluster.kill(0);
            cluster.restart(0);
            until_serving(&mut cluster, 0, 5_000);
        }
        cluster.run_millis(300);
        for node in [0, 1] {
            cluster.ask_hand_over(node, old);
            cluster.run_millis(5);
            assert!(!is_frozen(&cluster, 0), "seed {seed}: n{node} took it");
            assert!(cluster.append(0, 100));
        }
        assert_eq!(cluster.stats().given_up, 0);
        comes_together(cluster);
    }
}

/// A coordinator that was deposed asks for a hand-over, of a version and epoch that are current (S0).
#[test]
fn a_deposed_coordinator_hands_nothing_over() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        let config = cluster.config();
        let (epoch, version, to) = (config.epoch, config.version, config.copies[1].instance);
        cluster.restart_coordinator();
        cluster.run_millis(500);
        let old = HandOver { to, at_most_millis: 500, epoch, version, coordinator_epoch: 1 };
        cluster.ask_hand_over(usize::from(seed % 2 == 1), old);
        cluster.run_millis(50);
        assert_eq!(cluster.stats().given_up, 0, "seed {seed}");
        assert!(cluster.append(0, 100));
        comes_together(cluster);
    }
}

/// The primary is stopped for long, at any moment of the hand-over. Either it had given up, or the coordinator promotes the mirror
/// meanwhile, as it does with any silent primary. When it goes on it thaws or finds itself deposed; it acknowledges nothing
/// that is not in the new history.
#[test]
fn a_primary_that_stands_still_during_its_hand_over_acknowledges_nothing_of_its_own() {
    for seed in 0..40 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 3);
        assert!(cluster.append(0, 9_000));
        assert!(cluster.hand_over(usize::from(seed % 2 == 1), 1, 300).is_some());
        let until = cluster.now().plus(seed * 150);
        cluster.run_until(until);
        cluster.stand_still(0);
        cluster.run_millis(3_000);
        if !cluster.is_serving(1) {
            cluster.promote_to(1);
            until_serving(&mut cluster, 1, 5_000);
        }
        write_some(&mut cluster, 1, 5);
        cluster.run_millis(27_000);
        cluster.go_on(0);
        cluster.run_millis(5);
        cluster.append(0, 3_000);
        cluster.run_millis(3_000);
        assert!(cluster.is_serving(1) && !cluster.is_serving(0), "seed {seed}");
        // Four were appended before it stood still and may be on both copies, five at the new primary.
        assert!(cluster.stats().commits <= 9, "seed {seed}: it acknowledged");
        comes_together(cluster);
    }
}

/// Two of three copies take part, and the third is dead: the hand-over waits for it to leave by S2, since what it has not
/// acknowledged is not committed; or the time is over and the reign goes on.
#[test]
fn a_third_copy_that_is_dead_delays_a_hand_over_and_does_not_break_it() {
    for seed in 0..10 {
        let mut cluster = serving_of(seed, 3);
        write_some(&mut cluster, 0, 3);
        cluster.kill(2);
        assert!(cluster.append(0, 9_000));
        let patient = seed % 2 == 0;
        assert!(cluster.hand_over(0, 1, if patient { 5_000 } else { 100 }).is_some());
        if patient {
            until_serving(&mut cluster, 1, 4_000);
            assert!(!cluster.in_sync(2));
        } else {
            cluster.run_millis(200);
            assert!(cluster.is_serving(0) && cluster.append(0, 100), "seed {seed}: still frozen");
            assert_eq!(cluster.stats().not_handed_over, 1);
        }
        cluster.restart(2);
        comes_together(cluster);
    }
}

/// A mirror that is not in sync, the primary itself and a stranger take nothing over; each request is answered.
#[test]
fn only_an_in_sync_mirror_takes_over() {
    let mut cluster = serving_of(3, 3);
    cluster.kill(2);
    assert!(cluster.run_while(5_000, |c| c.in_sync(2)), "{:?}", cluster.violation());
    cluster.run_millis(300);
    for (refused, to) in [(1, 0), (2, 2)] {
        assert!(cluster.hand_over(0, to, 500).is_some());
        cluster.run_millis(50);
        assert_eq!(cluster.stats().not_handed_over, refused);
        assert!(!is_frozen(&cluster, 0));
    }
    assert!(cluster.append(0, 100));
    cluster.restart(2);
    comes_together(cluster);
}

/// Without the rule the primary says that it gave its epoch up, and serves on: found at once.
#[test]
fn serving_on_after_giving_up_is_found() {
    let mut cluster = serving_under(Rules::without(Rule::S9GiveUp), 1, 2);
    assert!(cluster.hand_over(0, 1, 500).is_some());
    cluster.run_millis(100);
    let found = cluster.violation().is_some_and(|text| text.contains("given up"));
    assert!(found, "{:?}", cluster.violation());
}
