//! The interleavings that shaped the rules, each as a scripted run (docs/failover.md lists them).

mod scripted;

use outrigger_replica::rules::{Rule, Rules};
use outrigger_sim::cluster::Cluster;
use outrigger_sim::disk::Latency;
use scripted::{AUTHORITY, comes_together, serving, serving_of, serving_under, write_some};

/// The primary sends its last block and restarts while the block is still on its way to the mirror's
/// disk. If the mirror told its end before draining, the primary would begin its new reign below a
/// block that the mirror then holds durably (S5: drain, then report).
#[test]
fn a_primary_restarts_while_its_last_block_is_on_its_way_to_the_mirrors_disk() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        let before = cluster.member(1).map(|member| member.log().end());
        assert!(cluster.append(0, 9_000));
        // Until the mirror has it, and its disk has not.
        let arrived = cluster.run_while(100, |c| c.member(1).map(|m| m.log().end()) == before);
        assert!(arrived, "{:?}", cluster.violation());
        cluster.cut_power(0);
        cluster.restart(0);
        assert!(cluster.run_while(5_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
        write_some(&mut cluster, 0, 5);
        comes_together(cluster);
    }
}

/// A copy is asked for, that is recorded, and the reply is lost; then the copy leaves. The primary
/// may not commit without it before a configuration without it is recorded (S4: giving up).
#[test]
fn the_reply_to_a_grow_request_is_lost_and_the_mirror_leaves() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        cluster.run_millis(50);
        cluster.restart(1);
        // The authority records the copy, and the primary does not hear of it.
        let authority = 2;
        cluster.block(authority, 0);
        assert!(cluster.run_while(5_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        cluster.kill(1);
        let committed = cluster.committed();
        assert!(cluster.append(0, 5_000));
        cluster.run_millis(3_000);
        assert!(cluster.committed() <= committed.saturating_add(4096), "it committed alone");
        cluster.unblock(authority, 0);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        cluster.run_millis(100);
        assert!(cluster.committed() > committed);
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// A configuration without the mirror was recorded once; the mirror is back in sync since. The old
/// message comes again: it releases nobody (S0: versions).
#[test]
fn a_delayed_release_of_an_older_version_releases_nobody() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        let release = cluster.config().clone();
        cluster.restart(1);
        assert!(cluster.run_while(5_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        cluster.run_millis(100);
        cluster.block(0, 1);
        cluster.block(1, 0);
        cluster.block(0, AUTHORITY);
        let committed = cluster.committed();
        assert!(cluster.append(0, 5_000));
        cluster.release(0, release);
        cluster.run_millis(2_000);
        assert!(cluster.committed() <= committed.saturating_add(4096), "it committed alone");
        for (from, to) in [(0, 1), (1, 0), (0, AUTHORITY)] {
            cluster.unblock(from, to);
        }
        comes_together(cluster);
    }
}

/// Everything loses power; the copies come up one by one, in either order, and the first is cut off again
/// before the second is there. Whoever is primary takes a new epoch each time, and what was
/// committed is there in the end (S5).
#[test]
fn an_aborted_power_up_of_both_copies_in_either_order_loses_nothing() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 5);
        let committed = cluster.committed();
        assert!(cluster.append(0, 9_000));
        let (first, second) = if seed % 2 == 0 { (0, 1) } else { (1, 0) };
        cluster.cut_power(0);
        cluster.cut_power(1);
        cluster.run_millis(50);
        cluster.restart(first);
        cluster.run_millis(seed * 17);
        cluster.cut_power(first);
        cluster.restart(second);
        cluster.run_millis(seed * 17);
        cluster.cut_power(second);
        cluster.restart(first);
        cluster.restart(second);
        assert!(cluster.run_while(10_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
        assert!(cluster.committed() >= committed);
        write_some(&mut cluster, 0, 3);
        comes_together(cluster);
    }
}

/// Counterexample 6: the old primary is ahead of the fork, truncates, and is promoted back. The authority
/// must have heard of the cut: else an in-sync copy could not be promoted (S6).
#[test]
fn a_truncation_lowers_the_floor_at_the_authority_too() {
    let mut cluster = serving(7);
    write_some(&mut cluster, 0, 5);
    // The primary goes on alone for a moment, and promises what nobody else holds.
    cluster.block(0, 1);
    for _ in 0..5 {
        assert!(cluster.append(0, 9_000));
    }
    cluster.run_millis(300);
    cluster.promote_to(1);
    cluster.kill(0);
    cluster.unblock(0, 1);
    assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
    cluster.restart(0);
    assert!(cluster.run_while(9_000, |c| !c.in_sync(0)), "{:?}", cluster.violation());
    cluster.run_millis(500);
    cluster.promote_to(0);
    cluster.kill(1);
    assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
    cluster.restart(1);
    comes_together(cluster);
}

/// Counterexample 8: two primaries of their own opinion ask on the same base. The register decides
/// when it applies: each epoch has one nonce (the checker asserts it), each version one value.
#[test]
fn two_swaps_on_one_base_record_one() {
    let mut cluster = serving_of(8, 3);
    write_some(&mut cluster, 0, 3);
    cluster.kill(0);
    cluster.restart(0);
    cluster.promote_to(1);
    cluster.promote_to(2);
    assert!(cluster.run_while(9_000, |c| !c.is_serving(2)), "{:?}", cluster.violation());
    let versions: Vec<u64> = cluster.past().map(|config| config.version.0).collect();
    assert!(versions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{versions:?}");
    comes_together(cluster);
}

/// Counterexample 9: the place from which commits wait for a copy is not below the commit LSN. A copy
/// joins while its primary writes as fast as it can; it is killed and promoted at once.
#[test]
fn a_copy_that_just_joined_holds_everything_committed() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        cluster.run_millis(20);
        cluster.restart(1);
        for _ in 0..4_000 {
            if cluster.in_sync(1) {
                break;
            }
            cluster.append(0, 2_000);
            cluster.run_millis(1);
        }
        assert!(cluster.in_sync(1), "{:?}", cluster.violation());
        cluster.kill(0);
        cluster.promote_to(1);
        assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        cluster.restart(0);
        comes_together(cluster);
    }
}

/// A primary is alone in the in-sync set; its mirror acknowledges bytes that the primary itself loses
/// in a power cut. In the next reign the mirror has cut them and is in sync again, and the old
/// acknowledgement comes late, on the new connection: it must release nothing (S1).
fn a_late_ack(rules: Rules) -> Option<String> {
    let slow =
        || Latency { sync_micros: 400_000..400_001, slow_per_mille: 0, ..Latency::default() };
    let mut cluster = serving_under(rules, 3, 2);
    cluster.kill(1);
    assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
    cluster.run_millis(100);
    cluster.restart(1);
    // The mirror streams, and is not recorded: the authority does not hear the primary.
    cluster.block(0, AUTHORITY);
    let streams = |c: &Cluster| c.last_ack(1, 0).is_some();
    assert!(cluster.run_while(5_000, |c| !streams(c)), "{:?}", cluster.violation());
    cluster.run_millis(400);
    // What the primary writes now reaches the mirror's disk, and not its own.
    cluster.disk(0).set_latency(slow());
    for _ in 0..20 {
        assert!(cluster.append(0, 30_000));
    }
    cluster.run_millis(100);
    let ack = cluster.last_ack(1, 0)?;
    let held = cluster.member(1).map(|member| member.log().durable());
    cluster.cut_power(0);
    cluster.disk(0).set_latency(Latency::default());
    cluster.unblock(0, AUTHORITY);
    cluster.restart(0);
    assert!(
        cluster.run_while(9_000, |c| !(c.is_serving(0) && c.in_sync(1))),
        "{:?}",
        cluster.violation()
    );
    cluster.run_millis(300);
    assert!(cluster.member(0).map(|member| member.log().end()) < held, "nothing was lost");
    // Now the mirror's disk is slow, and the old acknowledgement comes.
    cluster.disk(1).set_latency(slow());
    assert!(cluster.append(0, 30_000));
    cluster.run_millis(20);
    assert!(cluster.bring_late(1, 0, ack));
    cluster.run_millis(20);
    if cluster.violation().is_none() {
        cluster.disk(1).set_latency(Latency::default());
        cluster.converge();
    }
    cluster.violation().map(str::to_owned)
}

#[test]
fn a_late_acknowledgement_of_an_old_session_releases_nothing() {
    assert_eq!(a_late_ack(Rules::all()), None);
    assert!(a_late_ack(Rules::without(Rule::S1Session)).is_some());
}
