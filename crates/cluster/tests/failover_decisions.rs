//! What is decided about a content: one test a row of the table in `docs/failover.md`.

mod support;
mod watched;

use outrigger_cluster::detect::{DetectOptions, In, Standing, Why};
use outrigger_cluster::failover::{
    CopySight, Decision, HandOverAnswer, Mirrors, Proof, Sight, UnderWay, decide,
};
use outrigger_net::beat::Beat;
use outrigger_net::config::Config;
use outrigger_wal::{InstanceId, Lsn, Micros};
use proptest::prelude::*;
use support::{A, B, C, copy, next, pair};
use watched::{Answers, World, beat, recovering};

const NOW: Micros = Micros(60_000_000);
const UP: Standing = Standing::Up;
const WAKING: Standing = Standing::Recovering { at: Some(Lsn(4096)), advancing: true };

fn ago(millis: u64) -> Micros {
    Micros(NOW.0 - millis * 1_000)
}

fn dead(why: Why) -> Standing {
    Standing::Dead { why, since: ago(500) }
}

fn silent(millis: u64) -> Standing {
    Standing::Dead { why: Why::Silent, since: ago(millis) }
}

fn suspect() -> Standing {
    Standing::Suspect { since: ago(300) }
}

fn seen(instance: InstanceId, standing: Standing) -> CopySight {
    CopySight {
        instance,
        standing,
        stands_since: ago(10_000),
        heard: true,
        primary_heard: None,
        durable: Some(Lsn(8192)),
        attempts: 0,
        below_floor: false,
        idle_micros: 0,
    }
}

struct Case {
    config: Config,
    copies: Vec<CopySight>,
    under_way: Option<UnderWay>,
    mirrors: Mirrors,
    proof: Proof,
}

impl Case {
    /// A reigns, B is in sync.
    fn of(primary: Standing, mirror: Standing) -> Self {
        Self {
            config: pair(),
            copies: vec![seen(A, primary), seen(B, mirror)],
            under_way: None,
            mirrors: Mirrors::Configured,
            proof: Proof::Whole,
        }
    }

    /// The same, while B is not in sync.
    fn lone(primary: Standing, mirror: Standing) -> Self {
        let config = next(&pair(), |new| new.copies[1].in_sync = false);
        Self { config, ..Self::of(primary, mirror) }
    }

    fn mirror(mut self, change: impl FnOnce(&mut CopySight)) -> Self {
        change(&mut self.copies[1]);
        self
    }

    fn decide(&self) -> Decision {
        let sight = Sight {
            config: &self.config,
            copies: &self.copies,
            under_way: self.under_way,
            mirrors: self.mirrors,
            proof: self.proof,
            now: NOW,
        };
        let decision = decide(&sight, &DetectOptions::default());
        assert_eq!(decision, decide(&sight, &DetectOptions::default()));
        decision
    }
}

const PROMOTE_B: Decision = Decision::Promote { to: B };

#[test]
fn nothing_is_done_while_all_copies_do_well() {
    assert_eq!(Case::of(UP, UP).decide(), Decision::Nothing);
}

#[test]
fn nothing_is_done_on_a_suspicion() {
    assert_eq!(Case::of(suspect(), UP).decide(), Decision::Nothing);
    assert_eq!(Case::of(UP, suspect()).decide(), Decision::Nothing);
}

#[test]
fn the_mirror_of_a_primary_that_ended_is_promoted() {
    for why in [Why::Exited, Why::Refused, Why::Failed] {
        assert_eq!(Case::of(dead(why), UP).decide(), PROMOTE_B);
        assert_eq!(Case::of(dead(why), suspect()).decide(), PROMOTE_B);
    }
}

#[test]
fn the_mirror_of_a_primary_that_answers_and_never_serves_is_promoted() {
    let case = |idle_micros| {
        let mut case = Case::of(UP, UP);
        case.copies[0].idle_micros = idle_micros;
        case
    };
    assert_eq!(case(9_999_999).decide(), Decision::Nothing);
    assert_eq!(case(10_000_000).decide(), PROMOTE_B);
    assert_eq!(case(u64::MAX).decide(), PROMOTE_B);
    // S9: a hand-over through the mirror is for a primary that is not reached.
    let hears = case(10_000_000).mirror(|it| it.primary_heard = Some(ago(1)));
    assert_eq!(hears.decide(), PROMOTE_B);
    // S3, S6, S8 hold as ever.
    let mut lacks = Case::lone(UP, UP);
    lacks.copies[0].idle_micros = 10_000_000;
    assert!(matches!(lacks.decide(), Decision::DoubleFault { .. }));
    let below = case(10_000_000).mirror(|it| it.below_floor = true);
    assert!(matches!(below.decide(), Decision::DoubleFault { .. }));
    let mut unproved = case(10_000_000);
    unproved.proof = Proof::Missing;
    assert!(matches!(unproved.decide(), Decision::Unproved { .. }));
}

#[test]
fn without_mirrors_a_primary_that_does_not_serve_yet_takes_nothing_down() {
    let mut case = Case::of(UP, UP);
    case.copies[0].idle_micros = u64::MAX;
    case.mirrors = Mirrors::Absent;
    case.config.copies.truncate(1);
    case.copies.truncate(1);
    assert_eq!(case.decide(), Decision::Nothing);
}

#[test]
fn a_mirror_that_is_idle_is_as_it_should_be() {
    let idle = Case::of(UP, UP).mirror(|it| it.idle_micros = u64::MAX);
    assert_eq!(idle.decide(), Decision::Nothing);
}

#[test]
fn the_mirror_of_a_primary_whose_disk_failed_is_promoted() {
    assert_eq!(Case::of(dead(Why::Disk), UP).decide(), PROMOTE_B);
}

#[test]
fn the_mirror_of_a_primary_that_answers_and_is_stuck_is_promoted() {
    assert_eq!(Case::of(dead(Why::Stuck), UP).decide(), PROMOTE_B);
}

#[test]
fn the_mirror_of_a_silent_host_is_promoted_at_the_timeout() {
    // It heard its primary last when the coordinator did.
    let case = Case::of(silent(500), UP).mirror(|it| it.primary_heard = Some(ago(480)));
    assert_eq!(case.decide(), PROMOTE_B);
    assert_eq!(Case::of(silent(500), UP).decide(), PROMOTE_B);
}

#[test]
fn a_primary_that_only_its_mirror_hears_is_asked_through_it_to_hand_over() {
    for millis in [500, 700, 999] {
        let case = Case::of(silent(millis), UP).mirror(|it| it.primary_heard = Some(ago(200)));
        assert_eq!(case.decide(), Decision::HandOverThrough { mirror: B });
    }
}

#[test]
fn a_hand_over_is_asked_for_again_but_not_without_end() {
    let mut case = Case::of(silent(800), UP).mirror(|it| it.primary_heard = Some(ago(200)));
    let asked = |since| Some(UnderWay::HandOver { to: B, since, answer: HandOverAnswer::Awaited });
    case.under_way = asked(ago(50));
    assert_eq!(case.decide(), Decision::Nothing);
    case.under_way = asked(ago(150));
    assert_eq!(case.decide(), Decision::HandOverThrough { mirror: B });
}

#[test]
fn after_twice_the_timeout_it_is_failed_over_regardless() {
    let mut case = Case::of(silent(1_000), UP).mirror(|it| it.primary_heard = Some(ago(100)));
    assert_eq!(case.decide(), PROMOTE_B);
    let since = ago(50);
    case.under_way = Some(UnderWay::HandOver { to: B, since, answer: HandOverAnswer::Awaited });
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn who_was_given_an_epoch_up_for_reigns_next() {
    let mut case = Case::of(UP, UP);
    let gave_up = UnderWay::HandOver { to: B, since: ago(10), answer: HandOverAnswer::GaveUp };
    case.under_way = Some(gave_up);
    assert_eq!(case.decide(), PROMOTE_B);
    // It died meanwhile: the old primary takes an epoch by itself.
    case.copies[1].standing = dead(Why::Exited);
    assert_eq!(case.decide(), Decision::MirrorDown { mirrors: vec![B] });
    case = Case::lone(UP, UP);
    case.under_way = Some(gave_up);
    assert_eq!(case.decide(), Decision::Nothing);
}

#[test]
fn a_planned_hand_over_is_left_alone() {
    let mut case = Case::of(UP, UP);
    let since = ago(400);
    case.under_way = Some(UnderWay::HandOver { to: B, since, answer: HandOverAnswer::Awaited });
    assert_eq!(case.decide(), Decision::Nothing);
    // Its primary dies meanwhile.
    case.copies[0].standing = dead(Why::Exited);
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn a_promotion_that_was_asked_for_has_its_time_and_is_asked_for_again() {
    let mut case = Case::of(dead(Why::Exited), UP);
    case.under_way = Some(UnderWay::Promotion { to: B, since: ago(499) });
    assert_eq!(case.decide(), Decision::Nothing);
    case.under_way = Some(UnderWay::Promotion { to: B, since: ago(500) });
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn who_is_promoted_and_dies_before_it_reigns_is_followed_by_the_old_primary() {
    // The set still has both: either holds every commit.
    let mut case = Case::of(UP, dead(Why::Exited));
    case.config = next(&case.config, |new| new.primary = B);
    assert_eq!(case.decide(), Decision::Promote { to: A });
}

#[test]
fn both_lost_is_a_double_fault_with_what_both_hold() {
    let case = Case::of(dead(Why::Exited), silent(900)).mirror(|it| it.durable = Some(Lsn(4096)));
    let Decision::DoubleFault { copies } = case.decide() else { panic!("{:?}", case.decide()) };
    let shown: Vec<_> = copies.iter().map(|it| (it.instance, it.in_sync, it.durable)).collect();
    assert_eq!(shown, [(A, true, Some(Lsn(8192))), (B, true, Some(Lsn(4096)))]);
}

#[test]
fn a_mirror_that_may_lack_commits_is_never_promoted() {
    for standing in [UP, suspect(), WAKING] {
        for why in [Why::Exited, Why::Silent, Why::Disk, Why::Stalled] {
            let case = Case::lone(dead(why), standing);
            assert!(matches!(case.decide(), Decision::DoubleFault { .. }), "{standing:?} {why:?}");
        }
    }
}

#[test]
fn a_mirror_below_its_floor_is_never_promoted() {
    let case = Case::of(dead(Why::Exited), UP).mirror(|it| it.below_floor = true);
    let Decision::DoubleFault { copies } = case.decide() else { panic!("{:?}", case.decide()) };
    assert!(copies[1].below_floor);
}

#[test]
fn a_double_fault_ends_when_the_primary_returns() {
    let mut case = Case::of(dead(Why::Exited), dead(Why::Exited));
    assert!(matches!(case.decide(), Decision::DoubleFault { .. }));
    case.copies[0].standing = WAKING;
    assert_eq!(case.decide(), Decision::WaitFor { copy: A });
    // It restarts by S5, and lets go of the mirror.
    case.copies[0].standing = UP;
    assert_eq!(case.decide(), Decision::MirrorDown { mirrors: vec![B] });
}

#[test]
fn a_double_fault_ends_when_an_in_sync_mirror_returns() {
    let mut case = Case::of(dead(Why::Exited), WAKING);
    assert_eq!(case.decide(), Decision::WaitFor { copy: B });
    case.copies[1].standing = UP;
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn a_double_fault_does_not_end_with_a_mirror_that_may_lack_commits() {
    let case = Case::lone(dead(Why::Exited), UP);
    assert!(matches!(case.decide(), Decision::DoubleFault { .. }));
}

#[test]
fn a_primary_that_reads_its_log_back_is_waited_for() {
    assert_eq!(Case::of(WAKING, UP).decide(), Decision::WaitFor { copy: A });
}

#[test]
fn the_mirror_of_a_primary_whose_recovery_stands_still_is_promoted() {
    assert_eq!(Case::of(dead(Why::Stalled), UP).decide(), PROMOTE_B);
}

#[test]
fn a_mirror_that_was_never_heard_is_waited_for() {
    let case = Case::of(dead(Why::Exited), suspect()).mirror(|it| it.heard = false);
    assert_eq!(case.decide(), Decision::WaitFor { copy: B });
}

#[test]
fn silence_of_both_accuses_the_coordinator_itself() {
    assert_eq!(Case::of(silent(500), suspect()).decide(), Decision::WaitFor { copy: B });
    // Its own network came back a moment ago, the mirror's answer first.
    let case = Case::of(silent(5_000), UP).mirror(|it| it.stands_since = ago(1));
    assert_eq!(case.decide(), Decision::WaitFor { copy: B });
    let case = Case::of(silent(5_000), UP).mirror(|it| it.stands_since = ago(151));
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn nothing_is_promoted_before_a_catalog_activated_by_force_is_proved() {
    let mut case = Case::of(dead(Why::Exited), UP);
    case.proof = Proof::Missing;
    assert_eq!(case.decide(), Decision::Unproved { candidates: vec![B] });
    let since = ago(10);
    case.under_way = Some(UnderWay::HandOver { to: B, since, answer: HandOverAnswer::GaveUp });
    assert_eq!(case.decide(), Decision::Unproved { candidates: vec![B] });
}

#[test]
fn without_mirrors_an_invalid_instance_takes_the_cluster_down() {
    for why in [Why::Exited, Why::Refused, Why::Disk, Why::Stalled, Why::Failed] {
        let mut case = Case::of(dead(why), UP);
        case.mirrors = Mirrors::Absent;
        (case.config, case.copies) =
            (next(&pair(), |new| drop(new.copies.pop())), vec![case.copies[0]]);
        assert_eq!(case.decide(), Decision::Shutdown { instance: A, why });
    }
}

#[test]
fn without_mirrors_a_short_silence_takes_nothing_down() {
    let mut case = Case::of(silent(999), UP);
    case.mirrors = Mirrors::Absent;
    assert_eq!(case.decide(), Decision::WaitFor { copy: A });
    case.copies[0].standing = silent(1_000);
    assert_eq!(case.decide(), Decision::Shutdown { instance: A, why: Why::Silent });
    case.copies[0].standing = WAKING;
    assert_eq!(case.decide(), Decision::WaitFor { copy: A });
}

#[test]
fn a_dead_mirror_is_named_and_left_to_its_primary() {
    for why in [Why::Exited, Why::Silent, Why::Disk] {
        assert_eq!(Case::of(UP, dead(why)).decide(), Decision::MirrorDown { mirrors: vec![B] });
        assert_eq!(Case::lone(UP, dead(why)).decide(), Decision::MirrorDown { mirrors: vec![B] });
    }
}

#[test]
fn a_mirror_that_reads_its_log_back_is_not_down() {
    assert_eq!(Case::of(UP, WAKING).decide(), Decision::Nothing);
}

#[test]
fn a_mirror_that_hears_nothing_of_its_primary_is_down_after_the_grace_period() {
    let case = |millis| Case::of(UP, UP).mirror(|it| it.primary_heard = Some(ago(millis)));
    assert_eq!(case(499).decide(), Decision::Nothing);
    assert_eq!(case(500).decide(), Decision::MirrorDown { mirrors: vec![B] });
}

#[test]
fn a_mirror_that_never_catches_up_is_dropped() {
    let case = |attempts| Case::of(UP, UP).mirror(|it| it.attempts = attempts);
    assert_eq!(case(10).decide(), Decision::Nothing);
    assert_eq!(case(11).decide(), Decision::DropMirror { mirror: B, attempts: 11 });
    // Between two attempts, too.
    let down = Case::of(UP, suspect()).mirror(|it| it.attempts = 11);
    assert_eq!(down.decide(), Decision::DropMirror { mirror: B, attempts: 11 });
}

#[test]
fn a_mirror_that_flaps_is_promoted_all_the_same_when_its_primary_dies() {
    let case = Case::of(dead(Why::Exited), UP).mirror(|it| it.attempts = 99);
    assert_eq!(case.decide(), PROMOTE_B);
}

#[test]
fn of_several_mirrors_the_one_that_answers_and_holds_most_is_promoted() {
    let mut case = Case::of(dead(Why::Exited), suspect());
    case.config = next(&case.config, |new| new.copies.push(copy(C, true, 0)));
    case.copies.push(CopySight { durable: Some(Lsn(1)), ..seen(C, UP) });
    assert_eq!(case.decide(), Decision::Promote { to: C });
    case.copies[1].standing = UP;
    assert_eq!(case.decide(), PROMOTE_B);
    // Not in sync, it may hold what it likes.
    case.config.copies[1].in_sync = false;
    assert_eq!(case.decide(), Decision::Promote { to: C });
}

#[test]
fn a_primary_that_is_not_watched_yet_is_left_alone() {
    let mut case = Case::of(UP, UP);
    case.copies.remove(0);
    assert_eq!(case.decide(), Decision::Nothing);
}

/// The state, as detector and decision make it together.
fn decided(world: &World, config: &Config) -> Decision {
    let sight = Sight {
        config,
        copies: &world.detector.sights(config),
        under_way: None,
        mirrors: Mirrors::Configured,
        proof: Proof::Whole,
        now: Micros(world.now),
    };
    decide(&sight, world.detector.options())
}

/// Content n: instance 2n reigns, 2n + 1 is in sync.
fn content(n: u128) -> Config {
    let copies = vec![copy(InstanceId(2 * n), true, 0), copy(InstanceId(2 * n + 1), true, 0)];
    Config { primary: InstanceId(2 * n), copies, ..pair() }
}

/// Runs until it is decided otherwise than before, at most so many milliseconds; which.
fn until_decided(world: &mut World, config: &Config, millis: u64) -> (u64, Decision) {
    let before = decided(world, config);
    for passed in 1..=millis {
        world.run(1);
        let now = decided(world, config);
        if now != before {
            return (passed, now);
        }
    }
    (millis, before)
}

#[test]
fn a_killed_primary_is_failed_over_within_one_interval() {
    for line in [true, false] {
        let mut world = World::of(2);
        world.set(0, Answers::Refuses);
        if line {
            world.tell(In::LineClosed { instance: InstanceId(0) });
        }
        let (took, decision) = until_decided(&mut world, &content(0), 1_000);
        assert_eq!(decision, Decision::Promote { to: InstanceId(1) });
        assert!(took <= if line { 1 } else { 101 }, "{took} ms");
    }
}

#[test]
fn a_silent_host_is_failed_over_at_the_timeout() {
    let mut world = World::of(2);
    world.set(0, Answers::Silent);
    let (took, decision) = until_decided(&mut world, &content(0), 2_000);
    assert_eq!(decision, Decision::Promote { to: InstanceId(1) });
    assert!(took <= 500, "{took} ms");
}

#[test]
fn a_cut_between_coordinator_and_primary_is_handed_over_and_then_failed_over() {
    let mut world = World::of(2);
    world.set(0, Answers::Silent);
    // The stream says something every 200 ms at least.
    let hears = Beat { stream_age_micros: Some(199_000), ..beat(InstanceId(1), 1) };
    world.set(1, Answers::With(hears));
    let (took, decision) = until_decided(&mut world, &content(0), 2_000);
    assert_eq!(decision, Decision::HandOverThrough { mirror: InstanceId(1) });
    let (more, decision) = until_decided(&mut world, &content(0), 2_000);
    assert_eq!(decision, Decision::Promote { to: InstanceId(1) });
    assert!(took <= 500 && took + more <= 1_000, "{took} + {more} ms");
}

#[test]
fn a_coordinator_cut_off_from_everybody_promotes_nobody_then_or_afterwards() {
    let mut world = World::of(2);
    let config = content(0);
    world.set(0, Answers::Silent);
    world.set(1, Answers::Silent);
    for _ in 0..3_000 {
        world.run(1);
        let decision = decided(&world, &config);
        assert!(!matches!(decision, Decision::Promote { .. }), "{decision:?}");
    }
    // The mirror's answer comes back first.
    world.slow.insert(InstanceId(0), 50_000);
    world.up(0, 1);
    world.up(1, 1);
    for _ in 0..1_000 {
        world.run(1);
        let decision = decided(&world, &config);
        assert!(!matches!(decision, Decision::Promote { .. }), "{decision:?}");
    }
    assert_eq!(decided(&world, &config), Decision::Nothing);
}

#[test]
fn five_pairs_are_decided_each_on_its_own() {
    // WarehousePG's mixed case: a retry of one delays neither switching off sync nor promotion elsewhere.
    let mut world = World::of(10);
    world.slow.insert(InstanceId(0), 220_000); // content 0: slow, nothing
    world.set(3, Answers::Refuses); // content 1: its mirror is gone
    world.set(4, Answers::Refuses); // content 2: its primary is gone
    world.set(6, Answers::With(recovering(InstanceId(6), 2, Some(4096)))); // content 3: restarting
    world.set(8, Answers::Refuses); // content 4: both are gone
    world.set(9, Answers::Refuses);
    world.run(102);
    let wanted = [
        Decision::Nothing,
        Decision::MirrorDown { mirrors: vec![InstanceId(3)] },
        Decision::Promote { to: InstanceId(5) },
        Decision::WaitFor { copy: InstanceId(6) },
    ];
    for (n, wanted) in (0..).zip(wanted) {
        assert_eq!(decided(&world, &content(n)), wanted, "content {n}");
    }
    assert!(matches!(decided(&world, &content(4)), Decision::DoubleFault { .. }));
}

fn standings() -> impl Strategy<Value = Standing> {
    let whys = vec![Why::Exited, Why::Refused, Why::Silent, Why::Disk, Why::Stalled, Why::Failed];
    prop_oneof![
        Just(UP),
        (0_u64..2_000).prop_map(|millis| Standing::Suspect { since: ago(millis) }),
        any::<bool>().prop_map(|advancing| Standing::Recovering { at: None, advancing }),
        (prop::sample::select(whys), 0_u64..2_000)
            .prop_map(|(why, millis)| Standing::Dead { why, since: ago(millis) }),
    ]
}

prop_compose! {
    fn sights(instance: InstanceId)(
        standing in standings(),
        stood in 0_u64..2_000,
        heard: bool,
        hears in prop::option::of(0_u64..2_000),
        durable in prop::option::of(0_u64..100),
        attempts in 0_u32..20,
        below_floor: bool,
        idle_micros in 0_u64..20_000_000,
    ) -> CopySight {
        CopySight {
            instance,
            standing,
            stands_since: ago(stood),
            heard,
            primary_heard: hears.map(ago),
            durable: durable.map(Lsn),
            attempts,
            below_floor,
            idle_micros,
        }
    }
}

fn begun() -> impl Strategy<Value = Option<UnderWay>> {
    let who = || prop::sample::select(vec![A, B, C]);
    let answers = vec![HandOverAnswer::Awaited, HandOverAnswer::GaveUp];
    prop::option::of(prop_oneof![
        (who(), 0_u64..2_000).prop_map(|(to, at)| UnderWay::Promotion { to, since: ago(at) }),
        (who(), 0_u64..2_000, prop::sample::select(answers))
            .prop_map(|(to, at, answer)| UnderWay::HandOver { to, since: ago(at), answer }),
    ])
}

proptest! {
    /// Whatever the coordinator sees, it never wishes for what S3, S6, S8 and S9 forbid.
    #[test]
    fn whatever_is_seen_only_a_copy_that_has_every_commit_is_promoted(
        seen in (sights(A), sights(B), sights(C)),
        watched in prop::array::uniform3(any::<bool>()),
        in_sync in prop::array::uniform2(any::<bool>()),
        under_way in begun(),
        configured: bool,
        proved: bool,
    ) {
        let config = next(&pair(), |new| {
            new.copies.push(copy(C, in_sync[1], 0));
            new.copies[1].in_sync = in_sync[0];
        });
        let all = [seen.0, seen.1, seen.2];
        let copies: Vec<_> =
            all.iter().zip(watched).filter(|(_, it)| *it).map(|(copy, _)| *copy).collect();
        let mirrors = if configured { Mirrors::Configured } else { Mirrors::Absent };
        let proof = if proved { Proof::Whole } else { Proof::Missing };
        let sight = Sight { config: &config, copies: &copies, under_way, mirrors, proof, now: NOW };
        let gave_up = matches!(
            under_way,
            Some(UnderWay::HandOver { answer: HandOverAnswer::GaveUp, .. })
        );
        // One that answers and never serves counts as dead.
        let idle = configured && all[0].standing == UP && all[0].idle_micros >= 10_000_000;
        let stands = if idle { dead(Why::Idle) } else { all[0].standing };
        let primary = watched[0].then_some(stands);
        match decide(&sight, &DetectOptions::default()) {
            Decision::Promote { to } => {
                let copy = copies.iter().find(|copy| copy.instance == to).unwrap();
                prop_assert!(to != A && config.in_sync(to) && !copy.below_floor && proved);
                prop_assert!(gave_up || primary.is_some_and(|it| it.is_dead()));
                prop_assert!(copy.standing == UP || copy.heard);
            }
            Decision::HandOverThrough { mirror } => {
                prop_assert!(mirror != A && config.in_sync(mirror) && proved);
                prop_assert!(configured && primary.is_some_and(|it| it.is_dead()));
            }
            Decision::Shutdown { instance, .. } => prop_assert!(!configured && instance == A),
            Decision::DoubleFault { copies } => {
                prop_assert!(configured && primary.is_some_and(|it| it.is_dead()));
                prop_assert_eq!(copies.len(), 3);
            }
            Decision::MirrorDown { .. } | Decision::DropMirror { .. } => {
                prop_assert_eq!(primary, Some(UP));
            }
            Decision::WaitFor { .. } | Decision::Nothing | Decision::Unproved { .. } => {}
        }
    }
}
