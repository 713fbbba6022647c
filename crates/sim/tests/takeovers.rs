//! Interleavings of takeovers, restarts and cuts that the review of the rules found, each as a scripted run.

mod scripted;

use outrigger_sim::cluster::Cluster;
use outrigger_sim::disk::Latency;
use scripted::{AUTHORITY, comes_together, serving, write_some};

/// Node 0 holds what nobody else holds and is down; node 1 was promoted and began its reign below that,
/// alone: it reaches neither node 0 nor the authority.
fn deposed_with_a_tail(seed: u64) -> Cluster {
    let mut cluster = serving(seed);
    write_some(&mut cluster, 0, 3);
    // So that the next report to the authority falls here or there.
    cluster.run_millis(seed % 20 * 50);
    cluster.block(0, 1);
    cluster.block(1, 0);
    // Until the connection is given up; not until the mirror leaves.
    cluster.run_millis(520);
    for _ in 0..4 {
        assert!(cluster.append(0, 9_000));
        cluster.run_millis(1);
    }
    cluster.run_millis(70);
    assert!(cluster.in_sync(1));
    let end = cluster.member(0).map(|member| member.log().end());
    cluster.block(1, AUTHORITY);
    cluster.promote_to(1);
    cluster.kill(0);
    let reigns = |c: &Cluster| c.member(1).is_some_and(|m| m.counters().promotions == 1);
    assert!(cluster.run_while(5_000, |c| !reigns(c)), "{:?}", cluster.violation());
    cluster.run_millis(300);
    let other = cluster.member(1).map(|member| member.log().end());
    assert!(other < end, "{other:?} {end:?}");
    cluster
}

/// The same, and node 0 is recorded as primary again. When it starts, its tail must give way to node 1's.
fn histories_parted(seed: u64) -> Cluster {
    let mut cluster = deposed_with_a_tail(seed);
    cluster.promote_to(0);
    cluster.run_millis(50);
    for (from, to) in [(0, 1), (1, 0), (1, AUTHORITY)] {
        cluster.unblock(from, to);
    }
    cluster
}

/// The primary does not hear that it was deposed before it hears that it is primary again, of a later
/// epoch. Nobody else is going to reign: it must.
#[test]
fn a_primary_that_was_deposed_and_promoted_back_unheard_reigns_again() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 3);
        let cut_off = [(AUTHORITY, 0), (0, 1), (1, 0), (1, AUTHORITY)];
        cut_off.iter().for_each(|(from, to)| cluster.block(*from, *to));
        cluster.promote_to(1);
        cluster.run_millis(5);
        cluster.unblock(AUTHORITY, 0);
        cluster.promote_to(0);
        cluster.run_millis(5);
        cut_off.iter().for_each(|(from, to)| cluster.unblock(*from, *to));
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        comes_together(cluster);
    }
}

/// A restarted primary adopts the greatest end, and cuts its own longer tail for it. What it was heard to
/// hold before says nothing then: it holds all that the copy it adopted from holds.
#[test]
fn a_primary_that_adopted_a_shorter_log_of_a_later_reign_serves() {
    let mut promised = 0;
    for seed in 0..20 {
        let mut cluster = histories_parted(seed);
        let other = cluster.member(1).map(|member| member.log().end());
        promised += u32::from(Some(cluster.config().copies[0].durable.lsn) > other);
        cluster.restart(0);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        comes_together(cluster);
    }
    assert!(promised > 0, "the authority never knew of the longer tail");
}

/// A restarted primary cut its own tail, adopted the greatest end and serves, while the write of its
/// control file that clears the mark of that cut is on its way. It loses power, and the other copy
/// is gone: what was committed must be there, and so the mark must be gone before anything is adopted.
#[test]
fn what_was_adopted_behind_a_cut_is_not_cut_again() {
    for seed in 0..150 {
        let mut cluster = histories_parted(seed);
        cluster.slow_down(0, Latency { sync_micros: 100..60_000, ..Latency::default() });
        cluster.restart(0);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
        cluster.kill(1);
        cluster.cut_power(0);
        cluster.restart(0);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "{:?}", cluster.violation());
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// The disk of the primary came back older than it was, and the mirror is away for a while: it is the only
/// one that holds everything, so it may not leave the in-sync set (S5, S6).
#[test]
fn a_primary_below_its_floor_does_not_drop_the_copy_that_holds_everything() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        cluster.snapshot(0);
        write_some(&mut cluster, 0, 5);
        cluster.run_millis(3_000);
        let committed = cluster.committed();
        cluster.kill(0);
        assert_eq!(cluster.stats().rollbacks, 1);
        cluster.kill(1);
        cluster.restart(0);
        cluster.run_millis(4_000);
        assert!(cluster.in_sync(1), "seed {seed}: nobody that may reign is left");
        cluster.restart(1);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        assert!(cluster.committed() >= committed);
        comes_together(cluster);
    }
}

/// The mirror's connection was lost, a configuration without it is asked for, and it comes back and
/// is told that it is in sync before that is recorded. From then on commits pass it: a commit LSN in a
/// later block, durable before an earlier one, is no promise of its own. It must start after a power cut.
#[test]
fn a_copy_that_left_while_it_is_streamed_to_promises_nothing_more() {
    for seed in 0..100 {
        let mut cluster = serving(seed);
        cluster.block(0, 1);
        cluster.block(1, 0);
        cluster.block(AUTHORITY, 0);
        cluster.block(AUTHORITY, 1);
        let asked = cluster.run_while(5_000, |c| c.in_sync(1));
        assert!(asked, "{:?}", cluster.violation());
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        cluster.run_millis(3_000);
        cluster.slow_down(1, Latency { sync_micros: 100..30_000, ..Latency::default() });
        for _ in 0..20 {
            cluster.append(0, 3_000);
            cluster.run_millis(1);
        }
        cluster.unblock(AUTHORITY, 0);
        let knows = |c: &Cluster| {
            c.member(0).and_then(|m| m.config()).is_some_and(|config| !config.copies[1].in_sync)
        };
        for _ in 0..600 {
            cluster.append(0, 3_000);
            cluster.run_millis(1);
            if knows(&cluster) {
                break;
            }
        }
        assert!(knows(&cluster), "{:?}", cluster.violation());
        for _ in 0..seed % 40 + 1 {
            cluster.append(0, 3_000);
            cluster.run_millis(1);
        }
        cluster.cut_power(1);
        cluster.unblock(AUTHORITY, 1);
        cluster.slow_down(1, Latency::default());
        cluster.restart(1);
        comes_together(cluster);
    }
}

/// A deposed primary is killed while its log is cut, and recovery finishes the cut; its new primary dies
/// before it streams. The authority must hear that the floor fell: the copy is in sync and may reign (S6).
#[test]
fn a_cut_that_recovery_finished_lowers_the_floor_at_the_authority_too() {
    promoted_after_a_finished_cut(|cluster| cluster.run_millis(2_500));
}

/// The same, and the promotion comes before the copy has reported for the first time: it carries what was heard
/// before the cut, which counts up to the fork alone.
#[test]
fn a_cut_that_recovery_finished_keeps_nobody_from_reigning_before_it_is_reported() {
    promoted_after_a_finished_cut(|cluster| {
        let follows = |c: &Cluster| c.member(0).is_some_and(|m| m.config().is_some());
        assert!(cluster.run_while(900, |c| !follows(c)), "it hears nothing of the configuration");
        cluster.run_millis(50);
    });
}

fn promoted_after_a_finished_cut(wait: impl Fn(&mut Cluster)) {
    let mut promised = 0;
    for seed in 0..20 {
        let mut cluster = deposed_with_a_tail(seed);
        let heard = cluster.config().copies[0].durable.lsn;
        cluster.block(0, AUTHORITY);
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        cluster.restart(0);
        let is_cut = |c: &Cluster| c.member(0).is_some_and(|m| m.counters().truncations == 1);
        assert!(cluster.run_while(9_000, |c| !is_cut(c)), "{:?}", cluster.violation());
        cluster.kill(0);
        cluster.kill(1);
        cluster.run_millis(5);
        cluster.unblock(0, AUTHORITY);
        cluster.unblock(1, AUTHORITY);
        cluster.restart(0);
        let end = cluster.member(0).map(|member| member.log().end());
        promised += u32::from(Some(heard) > end);
        wait(&mut cluster);
        cluster.promote_to(0);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        cluster.restart(1);
        comes_together(cluster);
    }
    assert!(promised > 0, "the authority never knew of the longer tail");
}

/// A deposed primary is cut by its successor, and the report of that is lost; its successor never dropped
/// it from the in-sync set. It is promoted back, at once or a moment later: the configuration carries what it held
/// in its own reign, which is more than it holds now, and counts up to the fork alone (S6).
#[test]
fn a_copy_that_was_cut_is_promoted_before_the_authority_hears_of_the_cut() {
    let mut promised = 0;
    for seed in 0..120 {
        let mut cluster = deposed_with_a_tail(seed);
        cluster.block(0, AUTHORITY);
        cluster.unblock(0, 1);
        cluster.unblock(1, 0);
        cluster.restart(0);
        let is_cut = |c: &Cluster| c.member(0).is_some_and(|m| m.counters().truncations == 1);
        assert!(cluster.run_while(9_000, |c| !is_cut(c)), "{:?}", cluster.violation());
        // Before a block of the new reign is there, or after it.
        cluster.run_millis(seed % 2 * 100);
        assert!(cluster.in_sync(0), "seed {seed}");
        let end = cluster.member(0).map(|member| member.log().end());
        cluster.promote_to(0);
        promised += u32::from(Some(cluster.config().copies[0].durable.lsn) > end);
        cluster.unblock(0, AUTHORITY);
        cluster.unblock(1, AUTHORITY);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(0)), "seed {seed}");
        comes_together(cluster);
    }
    assert!(promised > 4, "the authority hardly knew of the longer tail: {promised}");
}

/// A deposed primary that cannot be reached is not waited for: it leaves at once. This one could be reached, and
/// streams; when its line is lost later, it has the grace that every copy has (S2).
#[test]
fn a_deposed_primary_that_streams_again_has_the_grace_of_any_copy() {
    for seed in 0..10 {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 3);
        cluster.promote_to(1);
        assert!(cluster.run_while(5_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        write_some(&mut cluster, 1, 3);
        assert!(cluster.in_sync(0), "it never left");
        cluster.kill(0);
        cluster.run_millis(150);
        assert!(cluster.in_sync(0), "seed {seed}: it was given no time");
        assert!(cluster.run_while(2_000, |c| c.in_sync(0)), "{:?}", cluster.violation());
        cluster.restart(0);
        comes_together(cluster);
    }
}
