//! What a detector makes of beats, refusals, connections and agents, one promise a test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod watched;

use outrigger_cluster::detect::{DetectOptions, Detector, In, Out, Standing, Why};
use outrigger_net::beat::{Beat, Figures, Phase};
use outrigger_wal::{ClusterId, ContentId, InstanceId, Lsn, Micros};
use proptest::prelude::*;
use watched::{Answers, CLUSTER, World, beat, content_of, recovering};

const A: InstanceId = InstanceId(0);
const B: InstanceId = InstanceId(1);

fn why(standing: Standing) -> Why {
    match standing {
        Standing::Dead { why, .. } => why,
        other => panic!("{other:?} is not dead"),
    }
}

/// The milliseconds until this instance was told to be dead.
fn found_after(world: &World, instance: InstanceId, began: u64) -> u64 {
    let found = world.told.iter().find(|(_, whose, now)| *whose == instance && now.is_dead());
    (found.unwrap().0 - began) / 1_000
}

#[test]
fn who_answers_is_up_and_asked_each_interval() {
    let mut world = World::of(2);
    world.asked.clear();
    world.run(10_000);
    assert_eq!((world.told.len(), world.asked[&A].len()), (0, 100));
}

#[test]
fn an_ended_process_is_found_by_its_agent_at_once() {
    let mut world = World::of(2);
    world.set(0, Answers::Silent);
    world.tell(In::Exited { instance: A, incarnation: Some(1) });
    assert_eq!(why(world.standing(A)), Why::Exited);
    assert_eq!(world.told.len(), 1);
}

#[test]
fn a_lost_connection_and_one_refusal_are_proof() {
    let mut world = World::of(2);
    let began = world.now;
    world.set(0, Answers::Refuses);
    world.tell(In::LineClosed { instance: A });
    assert!(matches!(world.standing(A), Standing::Suspect { .. }));
    world.run(2);
    assert_eq!(why(world.standing(A)), Why::Refused);
    assert!(found_after(&world, A, began) < 1);
}

#[test]
fn two_refusals_are_proof_and_the_second_is_asked_for_at_once() {
    let mut world = World::of(2);
    let began = world.now;
    world.set(0, Answers::Refuses);
    world.run(200);
    assert_eq!(why(world.standing(A)), Why::Refused);
    assert!(found_after(&world, A, began) <= 101);
}

#[test]
fn one_refusal_makes_suspect_only() {
    let mut world = World::of(2);
    world.tell(In::Refused { instance: A });
    assert!(matches!(world.standing(A), Standing::Suspect { .. }));
    world.run(10);
    assert_eq!(world.standing(A), Standing::Up);
    // A second one, long afterwards, is a first one again.
    world.tell(In::Refused { instance: A });
    world.run(10);
    assert_eq!(world.standing(A), Standing::Up);
    assert!(world.dead().is_empty());
}

#[test]
fn more_retries_take_more_refusals() {
    let options = |retries| {
        let mut options = DetectOptions::default();
        options.fts_probe_retries = retries;
        options
    };
    for retries in [0, 1, 5] {
        let mut world = World::with(1, options(retries));
        for refusal in 0..=retries {
            assert!(!world.standing(A).is_dead(), "{refusal} of {retries}");
            world.tell(In::Refused { instance: A });
        }
        assert_eq!(why(world.standing(A)), Why::Refused);
    }
}

#[test]
fn a_lost_connection_alone_proves_nothing() {
    let mut world = World::of(2);
    world.tell(In::LineClosed { instance: A });
    assert!(matches!(world.standing(A), Standing::Suspect { .. }));
    // It is asked at once, and answers.
    world.run(1);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn an_answer_from_before_the_connection_was_lost_clears_no_doubt() {
    let mut world = World::of(1);
    world.set(0, Answers::Silent);
    world.run(100);
    let last = *world.asked[&A].last().unwrap();
    world.tell(In::LineClosed { instance: A });
    // It answered before it died.
    world.tell(In::Beat { from: A, beat: Beat { counter: last, ..beat(A, 1) } });
    assert!(matches!(world.standing(A), Standing::Suspect { .. }));
    world.tell(In::Refused { instance: A });
    assert_eq!(why(world.standing(A)), Why::Refused);
}

#[test]
fn silence_makes_suspect_at_half_of_the_timeout_and_dead_at_all_of_it() {
    let mut world = World::of(2);
    world.set(0, Answers::Silent);
    let heard = world.known(A).unwrap().heard.unwrap();
    world.run(1_000);
    let told: Vec<_> =
        world.told.iter().map(|(at, _, standing)| (at - heard.0, *standing)).collect();
    let silent = Standing::Dead { why: Why::Silent, since: heard };
    assert_eq!(told, [(250_000, Standing::Suspect { since: heard }), (500_000, silent)]);
    // It is asked all the while, and comes back.
    world.up(0, 1);
    world.run(101);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn a_few_lost_datagrams_condemn_nobody() {
    let mut world = World::of(2);
    for _ in 0..50 {
        world.set(0, Answers::Silent);
        world.run(300);
        world.up(0, 1);
        world.run(100);
    }
    assert!(world.dead().is_empty(), "{:?}", world.told);
}

#[test]
fn a_slow_instance_delays_nobody() {
    let mut world = World::of(16);
    world.slow.insert(InstanceId(3), 10_000_000);
    world.set(5, Answers::Refuses);
    let began = world.now;
    world.asked.clear();
    world.run(1_000);
    assert!(found_after(&world, InstanceId(5), began) <= 101);
    assert!(found_after(&world, InstanceId(3), began) <= 500);
    for other in [0, 1, 2, 4, 6, 15].map(InstanceId) {
        assert_eq!((world.standing(other), world.asked[&other].len()), (Standing::Up, 10));
    }
}

#[test]
fn a_coordinator_that_stood_still_condemns_nobody() {
    // SIGSTOP for 30 s: nothing was heard, because nobody listened.
    let mut world = World::of(8);
    world.sleep_through(30_000);
    world.run(1_000);
    assert!(world.dead().is_empty(), "{:?}", world.told);
    assert_eq!(world.detector.counters().stood_still, 1);
}

#[test]
fn a_coordinator_that_stumbles_again_and_again_condemns_nobody() {
    let mut world = World::of(8);
    for _ in 0..100 {
        world.sleep_through(350);
        world.run(1);
    }
    assert!(world.dead().is_empty(), "{:?}", world.told);
}

#[test]
fn who_died_while_the_coordinator_stood_still_is_found_afterwards() {
    let mut world = World::of(8);
    world.set(0, Answers::Silent);
    world.set(1, Answers::Refuses);
    world.sleep_through(30_000);
    let began = world.now;
    world.run(1_000);
    assert_eq!(world.dead(), [A, B].into());
    assert!(found_after(&world, B, began) <= 2);
    assert!(found_after(&world, A, began) <= 501);
    // The silence is dated to where it began to count, never into the future.
    let Standing::Dead { since, .. } = world.standing(A) else { panic!() };
    assert!(since.0 <= world.now);
}

#[test]
fn late_and_doubled_beats_move_nothing() {
    let mut world = World::of(1);
    let old = *world.asked[&A].last().unwrap();
    world.set(0, Answers::Silent);
    for _ in 0..5 {
        world.run(100);
        world.tell(In::Beat { from: A, beat: Beat { counter: old, ..beat(A, 1) } });
    }
    assert_eq!(why(world.standing(A)), Why::Silent);
    assert_eq!(world.detector.counters().late, 5);
}

#[test]
fn answers_that_the_network_kept_back_keep_nobody_alive() {
    let mut world = World::of(1);
    world.slow.insert(A, 2_000_000);
    world.run(1_500);
    assert_eq!(why(world.standing(A)), Why::Silent);
    // It dies; what it had answered before comes drop by drop.
    world.set(0, Answers::Silent);
    world.run(3_000);
    assert_eq!(why(world.standing(A)), Why::Silent);
    assert_eq!(world.told.len(), 2, "{:?}", world.told);
}

#[test]
fn an_answer_proves_life_when_it_was_asked_for_not_when_it_arrives() {
    let mut world = World::of(1);
    world.slow.insert(A, 300_000);
    world.run(2_000);
    assert!(world.dead().is_empty());
    world.set(0, Answers::Silent);
    let began = world.now;
    world.run(1_000);
    assert!(found_after(&world, A, began) <= 500);
}

#[test]
fn answers_that_take_less_than_the_timeout_count() {
    let mut world = World::of(1);
    world.slow.insert(A, 200_000);
    world.run(5_000);
    assert!(world.dead().is_empty());
    world.slow.insert(A, 0);
    world.run(100);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn an_answer_to_no_question_is_refused_and_counted() {
    let mut world = World::of(1);
    world.set(0, Answers::Silent);
    world.run(400);
    world.tell(In::Beat { from: A, beat: Beat { counter: 1 << 40, ..beat(A, 1) } });
    world.run(200);
    assert_eq!(why(world.standing(A)), Why::Silent);
    assert_eq!((world.detector.counters().strangers, &world.strangers[..]), (1, &[A][..]));
}

#[test]
fn a_beat_of_another_cluster_content_or_instance_is_refused_and_counted() {
    let own = beat(A, 1);
    let wrong = [
        Beat { cluster: ClusterId(7), ..own },
        Beat { content: ContentId(9), ..own },
        Beat { instance: B, ..own },
    ];
    for beat in wrong {
        let mut world = World::of(1);
        world.set(0, Answers::With(beat));
        world.run(1_000);
        assert_eq!(why(world.standing(A)), Why::Silent);
        assert_eq!(world.detector.counters().strangers, 10);
        // The alarm is raised once, not each time.
        assert_eq!(world.strangers, [A]);
    }
}

#[test]
fn a_cloned_process_under_one_name_is_noticed() {
    let mut world = World::of(1);
    world.up(0, 2);
    world.run(100);
    assert_eq!(world.detector.counters().restarts, 1);
    // The one that was replaced answers newer questions.
    world.up(0, 1);
    world.run(100);
    assert_eq!((world.strangers.clone(), world.standing(A)), (vec![A], Standing::Up));
    world.run(1_000);
    assert_eq!(why(world.standing(A)), Why::Silent);
}

#[test]
fn a_late_beat_of_a_process_that_ended_revives_nobody() {
    let mut world = World::of(1);
    world.set(0, Answers::Silent);
    world.run(100);
    let last = *world.asked[&A].last().unwrap();
    world.tell(In::Exited { instance: A, incarnation: Some(1) });
    world.tell(In::Beat { from: A, beat: Beat { counter: last, ..beat(A, 1) } });
    assert_eq!(why(world.standing(A)), Why::Exited);
    assert_eq!((world.detector.counters().late, world.strangers.len()), (1, 0));
    // Its successor is heard.
    world.up(0, 2);
    world.run(100);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn news_of_an_earlier_process_come_too_late() {
    let mut world = World::of(1);
    world.up(0, 2);
    world.run(100);
    world.tell(In::Exited { instance: A, incarnation: Some(1) });
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn an_exit_without_a_name_is_believed_until_it_answers_again() {
    let mut world = World::of(1);
    world.tell(In::Exited { instance: A, incarnation: None });
    assert_eq!(why(world.standing(A)), Why::Exited);
    world.run(101);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn a_restart_between_two_questions_is_seen() {
    let mut world = World::of(1);
    world.set(0, Answers::With(recovering(A, 2, Some(4096))));
    world.run(100);
    let at = Some(Lsn(4096));
    assert_eq!(world.standing(A), Standing::Recovering { at, advancing: true });
    assert_eq!(world.detector.counters().restarts, 1);
}

#[test]
fn recovery_that_advances_is_not_dead_however_long_it_takes() {
    let mut world = World::of(1);
    for at in 1..100_u64 {
        world.set(0, Answers::With(recovering(A, 2, Some(at * 4096))));
        world.run(900);
        let at = Some(Lsn(at * 4096));
        assert_eq!(world.standing(A), Standing::Recovering { at, advancing: true });
    }
    world.up(0, 2);
    world.run(100);
    assert_eq!(world.standing(A), Standing::Up);
    assert!(world.dead().is_empty());
}

#[test]
fn recovery_that_stands_still_is_dead() {
    let mut world = World::of(1);
    world.set(0, Answers::With(recovering(A, 2, Some(4096))));
    let began = world.now;
    world.run(3_000);
    assert_eq!(why(world.standing(A)), Why::Stalled);
    assert!((2_000..=2_101).contains(&found_after(&world, A, began)));
    // It gets on after all.
    world.set(0, Answers::With(recovering(A, 2, Some(8192))));
    world.run(100);
    let at = Some(Lsn(8192));
    assert_eq!(world.standing(A), Standing::Recovering { at, advancing: true });
}

#[test]
fn recovery_that_cannot_say_how_far_it_is_has_the_time_of_one_that_stands_still() {
    let mut world = World::of(1);
    world.set(0, Answers::With(recovering(A, 2, None)));
    world.run(1_900);
    assert!(!world.standing(A).is_dead());
    world.run(300);
    assert_eq!(why(world.standing(A)), Why::Stalled);
}

#[test]
fn recovery_that_begins_again_and_again_does_not_advance() {
    // It dies at the same block each time, before anybody refuses.
    let mut world = World::of(1);
    for incarnation in 2..40 {
        for at in 1..4_u64 {
            world.set(0, Answers::With(recovering(A, incarnation, Some(at * 4096))));
            world.run(50);
        }
    }
    assert_eq!(why(world.standing(A)), Why::Stalled);
}

#[test]
fn recovery_that_says_zero_for_a_moment_is_not_condemned() {
    let mut world = World::of(1);
    for at in [8192, 0, 0, 16_384, 0, 20_480] {
        world.set(0, Answers::With(recovering(A, 2, Some(at))));
        world.run(300);
    }
    assert!(world.dead().is_empty());
    assert_eq!(world.known(A).unwrap().recovered_to, Some(Lsn(20_480)));
}

#[test]
fn a_disk_that_hangs_is_a_failed_instance() {
    let mut world = World::of(1);
    for (age, dead) in [(1_999_999, false), (2_000_000, true), (u64::MAX - 1, true)] {
        let slow = Beat { probe_age_micros: Some(age), ..beat(A, 1) };
        world.set(0, Answers::With(slow));
        world.run(100);
        assert_eq!(world.standing(A).is_dead(), dead, "{age}");
    }
    assert_eq!(why(world.standing(A)), Why::Disk);
    // It takes writes again.
    world.up(0, 1);
    world.run(100);
    assert_eq!(world.standing(A), Standing::Up);
    let stuck = Beat { oldest_write_micros: Some(2_500_000), ..beat(A, 1) };
    world.set(0, Answers::With(stuck));
    world.run(100);
    assert_eq!(why(world.standing(A)), Why::Disk);
}

/// One that answers each interval, and whose turns are these at the n-th answer.
fn turning(world: &mut World, answers: u64, turns: impl Fn(u64) -> u64) -> Vec<bool> {
    let mut dead = Vec::new();
    for at in 0..answers {
        world.set(0, Answers::With(Beat { turns: turns(at), ..beat(A, 1) }));
        world.run(100);
        dead.push(world.standing(A).is_dead());
    }
    dead
}

#[test]
fn an_instance_that_answers_while_its_threads_stand_still_is_stuck_and_turning_ends_that() {
    let mut world = World::of(1);
    assert!(turning(&mut world, 20, |at| 5 + at).iter().all(|dead| !dead));
    let dead = turning(&mut world, 40, |_| 30);
    // The first answer is what the others are compared with.
    assert_eq!(dead.iter().position(|dead| *dead), Some(30));
    assert_eq!(why(world.standing(A)), Why::Stuck);
    assert!(turning(&mut world, 1, |_| 31).iter().all(|dead| !dead));
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn turns_that_are_not_counted_and_other_processes_make_nobody_stuck() {
    let mut world = World::of(1);
    assert!(turning(&mut world, 60, |_| 0).iter().all(|dead| !dead));
    for incarnation in 2..8 {
        world.set(0, Answers::With(Beat { turns: 7, ..beat(A, incarnation) }));
        world.run(2_000);
        assert_eq!(world.standing(A), Standing::Up);
    }
}

#[test]
fn what_stood_still_whole_is_not_stuck_when_it_goes_on() {
    let mut options = DetectOptions::default();
    options.fts_probe_timeout_millis = 60_000;
    let mut world = World::with(1, options);
    assert!(turning(&mut world, 5, |at| 5 + at).iter().all(|dead| !dead));
    world.set(0, Answers::Silent);
    world.run(20_000);
    // The thread that answers is the first one to go on.
    assert!(turning(&mut world, 10, |_| 9).iter().all(|dead| !dead));
    assert!(turning(&mut world, 10, |at| 10 + at).iter().all(|dead| !dead));
}

#[test]
fn an_unknown_age_condemns_nobody() {
    let mut world = World::of(1);
    let quiet = Beat { probe_age_micros: None, oldest_write_micros: None, ..beat(A, 1) };
    world.set(0, Answers::With(quiet));
    world.run(10_000);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn who_says_that_he_failed_is_believed() {
    let mut world = World::of(1);
    world.set(0, Answers::With(Beat { phase: Phase::Down, ..beat(A, 1) }));
    world.run(100);
    assert_eq!(why(world.standing(A)), Why::Failed);
}

#[test]
fn who_was_never_heard_has_time_to_start() {
    let mut world = World::of(1);
    let (late, never) = (InstanceId(2), InstanceId(3));
    world.set(2, Answers::Refuses);
    world.set(3, Answers::Silent);
    world.watch(late);
    world.watch(never);
    world.run(1_900);
    assert!(world.dead().is_empty());
    world.up(2, 1);
    world.run(200);
    assert_eq!(world.standing(late), Standing::Up);
    assert_eq!(why(world.standing(never)), Why::Silent);
    // From now on it is like any other.
    world.set(2, Answers::Refuses);
    world.run(102);
    assert_eq!(why(world.standing(late)), Why::Refused);
}

#[test]
fn a_process_that_never_came_up_is_found_when_its_agent_says_so() {
    let mut world = World::of(1);
    world.set(2, Answers::Refuses);
    world.watch(InstanceId(2));
    world.tell(In::Exited { instance: InstanceId(2), incarnation: None });
    assert_eq!(why(world.standing(InstanceId(2))), Why::Exited);
}

#[test]
fn a_lost_agent_proves_nothing_and_is_shown() {
    let mut world = World::of(2);
    assert_eq!(world.known(A).unwrap().agent_here, None);
    world.asked.clear();
    world.tell(In::AgentLost { instance: A });
    assert_eq!((world.asked[&A].len(), world.standing(A)), (1, Standing::Up));
    assert_eq!(world.known(A).unwrap().agent_here, Some(false));
    world.tell(In::AgentBack { instance: A });
    assert_eq!(world.known(A).unwrap().agent_here, Some(true));
}

#[test]
fn who_is_watched_no_more_is_neither_asked_nor_judged() {
    let mut world = World::of(2);
    world.tell(In::Forget { instance: A });
    world.set(0, Answers::Silent);
    world.asked.clear();
    world.run(5_000);
    assert!(!world.asked.contains_key(&A) && world.dead().is_empty());
    assert_eq!(world.known(A), None);
}

#[test]
fn an_answer_to_an_earlier_watch_does_not_count() {
    let mut world = World::of(1);
    let old = *world.asked[&A].last().unwrap();
    world.set(0, Answers::Silent);
    world.tell(In::Forget { instance: A });
    world.watch(A);
    world.tell(In::Beat { from: A, beat: Beat { counter: old, ..beat(A, 1) } });
    assert!(matches!(world.standing(A), Standing::Suspect { .. }));
    assert_eq!((world.detector.counters().late, world.strangers.len()), (1, 0));
}

#[test]
fn watching_again_forgets_nothing() {
    let mut world = World::of(1);
    world.watch(A);
    assert_eq!(world.standing(A), Standing::Up);
}

#[test]
fn a_detector_without_instances_asks_for_nothing() {
    // WarehousePG: zero segments, and FTS inactive.
    let mut detector = Detector::new(CLUSTER, DetectOptions::default(), Micros(0));
    let mut out = Vec::new();
    detector.step(Micros(5), In::Tick, &mut out);
    assert_eq!((out.len(), detector.deadline()), (0, None));
}

#[test]
fn a_mirror_tells_when_it_last_heard_its_primary() {
    let mut world = World::of(1);
    let heard = Beat { stream_age_micros: Some(40_000), ..beat(A, 1) };
    world.set(0, Answers::With(heard));
    world.run(100);
    let known = world.known(A).unwrap();
    assert_eq!(known.primary_heard.unwrap().0 + 40_000, known.heard.unwrap().0);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Event(u8, u128, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u64..400_000).prop_map(Step::Pass),
        (0_u8..10, 0_u128..4, 0_u64..40, 0_u64..3).prop_map(|(a, b, c, d)| Step::Event(a, b, c, d)),
    ];
    prop::collection::vec(step, 0..80)
}

fn event(kind: u8, instance: u128, counter: u64, incarnation: u64) -> In {
    let instance = InstanceId(instance);
    let named = Beat { counter, ..beat(instance, incarnation) };
    let reading = Beat { counter, ..recovering(instance, incarnation, Some(counter)) };
    match kind {
        0 | 1 => In::Watch { instance, content: content_of(instance) },
        2 => In::Forget { instance },
        3 => In::Beat { from: instance, beat: named },
        4 => In::Beat { from: instance, beat: reading },
        5 => In::Refused { instance },
        6 => In::LineClosed { instance },
        7 => In::LineOpened { instance },
        8 => In::Exited { instance, incarnation: incarnation.checked_sub(1) },
        _ => In::AgentLost { instance },
    }
}

proptest! {
    /// Whatever comes in whatever order: it does not spin, it tells each change once, dates nothing into the
    /// future, and condemns for silence nobody who has answered within the timeout.
    #[test]
    fn any_sequence_of_events_is_judged_by_the_rules(steps in steps()) {
        let options = DetectOptions::default();
        let mut detector = Detector::new(CLUSTER, options, Micros(0));
        let mut now = Micros(0);
        let mut told: std::collections::BTreeMap<InstanceId, Standing> = Default::default();
        for step in steps {
            let mut out = Vec::new();
            let event = match step {
                Step::Pass(micros) => {
                    now = now.plus(micros);
                    In::Tick
                }
                Step::Event(kind, instance, counter, incarnation) => {
                    event(kind, instance, counter, incarnation)
                }
            };
            if let In::Forget { instance } = event {
                told.remove(&instance);
            }
            detector.step(now, event, &mut out);
            prop_assert!(detector.deadline().is_none_or(|due| due > now));
            for out in out {
                let Out::StandingChanged { instance, standing, .. } = out else { continue };
                let before = told.insert(instance, standing);
                prop_assert!(before.is_none_or(|before| !before.is_like(&standing)));
                let known = detector.known(instance).unwrap();
                prop_assert_eq!(known.standing, standing);
                if let Standing::Dead { why: Why::Silent, since } = standing {
                    prop_assert!(now.since(since) >= 500_000, "{:?} at {:?}", standing, now);
                }
                if let Standing::Dead { since, .. } | Standing::Suspect { since } = standing {
                    prop_assert!(since <= now);
                }
            }
        }
    }
}

fn idle_of(world: &World, instance: InstanceId, from: Micros) -> u64 {
    world.detector.idle_micros(instance, from) / 1_000
}

#[test]
fn who_is_open_and_gets_no_further_is_idle_and_progress_ends_that() {
    let mut world = World::of(2);
    let mut said = beat(A, 1);
    said.phase = Phase::Rising;
    world.set(0, Answers::With(said));
    world.run(5_000);
    let idle = idle_of(&world, A, Micros(0));
    assert!((4_700..=5_000).contains(&idle), "{idle}");
    // Not from before it was recorded.
    let from = Micros(world.detector.awake().0 - 1_000_000);
    assert!((800..=1_000).contains(&idle_of(&world, A, from)));
    // A restart, another phase, a block more: each is progress.
    for change in 0..4_u64 {
        match change {
            0 => said.incarnation = 2,
            1 => said.phase = Phase::Waiting,
            2 => said.figures = Some(Figures { durable: Lsn(4096), ..Figures::default() }),
            _ => said.figures = Some(Figures { applied: Lsn(4096), ..said.figures.unwrap() }),
        }
        world.set(0, Answers::With(said));
        world.run(1_000);
        let idle = idle_of(&world, A, Micros(0));
        assert!((700..=1_000).contains(&idle), "{change}: {idle}");
    }
    // Who reigns is not idle, however long a commit waits for a mirror; nor who reads its log back.
    said.phase = Phase::Primary;
    world.set(0, Answers::With(said));
    world.run(20_000);
    assert_eq!(idle_of(&world, A, Micros(0)), 0);
    world.set(0, Answers::With(recovering(A, 2, Some(1))));
    world.run(20_000);
    assert_eq!(idle_of(&world, A, Micros(0)), 0);
}

#[test]
fn what_was_not_heard_is_no_idleness() {
    let mut world = World::of(2);
    let mut said = beat(A, 1);
    said.phase = Phase::Rising;
    world.set(0, Answers::With(said));
    world.run(1_000);
    world.set(0, Answers::Silent);
    world.run(30_000);
    assert!(idle_of(&world, A, Micros(0)) <= 1_000);
}
