//! Rows move between contents while clients write, and everything fails in between: no row is lost, doubled or
//! comes back, and no acknowledged write vanishes. Contents are the shipped store, which decides record by record; the log
//! between appending and applying, the wire and the coordinators are the test's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod rows_world;

use outrigger_cluster::mover::Act;
use rows_world::{Trouble, World};

/// Longer than any move takes.
const STEPS: usize = 4_000;

#[test]
fn rows_that_nobody_disturbs_are_on_their_new_owner_alone() {
    let mut world = World::new(1, 40);
    world.begin_moves(20);
    world.run_to_the_end(STEPS);
    world.check();
    assert!(world.moved > 0);
}

#[test]
fn a_move_that_is_broken_off_at_any_step_by_anything_ends_as_if_it_was_not() {
    let mut steps = 0;
    let mut world = World::new(2, 24);
    world.begin_moves(12);
    while !world.is_over() {
        world.step_mover();
        world.settle_contents();
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
    for trouble in [
        Trouble::CoordinatorChanges,
        Trouble::SourceFailsOver,
        Trouble::TargetFailsOver,
        Trouble::AnswerIsLost,
        Trouble::QuestionComesLate,
        Trouble::All,
    ] {
        for at in 0..steps {
            let mut world = World::new(3 + at as u64, 24);
            world.begin_moves(12);
            for _ in 0..at {
                world.step_mover();
                world.settle_contents();
            }
            world.trouble(trouble);
            // Once more, before the next try has come far.
            for _ in 0..at % 7 {
                world.step_mover();
            }
            world.trouble(trouble);
            world.run_to_the_end(STEPS);
            world.check();
        }
    }
}

#[test]
fn writes_deletes_and_settlements_that_race_with_every_step_are_told_the_truth() {
    let (mut committed, mut settled, mut moved_on, mut troubles) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(1_000 + seed, 16);
        // There, and some of them back, so that contents hold what they held before.
        for _ in 0..2 {
            world.begin_moves(10);
            world.race(1_500);
        }
        world.run_to_the_end(STEPS);
        world.check();
        committed += world.committed;
        settled += world.settled;
        moved_on += world.moved_on;
        troubles += world.troubles;
    }
    // The races happened.
    assert!(
        committed > 10_000 && settled > 500 && moved_on > 100 && troubles > 1_000,
        "{committed} committed, {settled} settled, {moved_on} sent on, {troubles} troubles"
    );
}

#[test]
fn nothing_is_asked_of_a_target_that_is_not_in_sync() {
    let mut world = World::new(7, 16);
    world.begin_moves(8);
    world.ready = false;
    assert_eq!(world.next_act(), None);
    assert!(world.mover_due().is_some(), "it is looked again by itself");
    world.ready = true;
    world.pass(1_000_000);
    assert!(matches!(world.next_act(), Some(Act::Ask(..))));
}
