//! Kills and power cuts at any moment: what was durable is there, and nothing that was not appended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod wal_support;

use outrigger_wal::Lsn;
use wal_support::{SEGMENT, Story};

#[test]
fn acked_records_survive_kills_and_power_cuts() {
    let (mut crashes, mut torn, mut durable, mut deleted) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut story = Story::new(seed);
        for _ in 0..3 {
            let steps = story.rng.below(400);
            story.live(steps);
            durable += story.log.durable().0;
            story.crash();
        }
        crashes += story.crashes;
        torn += story.torn;
        deleted += story.deleted;
    }
    // What was not reached was not tested.
    assert!(
        crashes > 1200 && torn > 100 && durable > (400 << 20) && deleted > 50,
        "{crashes} crashes, {torn} torn tails, {durable} bytes, {deleted} deletions"
    );
}

#[test]
fn old_segments_go_without_leaving_a_hole() {
    let mut at_a_boundary = 0;
    for seed in 0..100 {
        let mut story = Story::new(seed);
        let segments = story.rng.range(1..4);
        story.fill(Lsn(segments * SEGMENT - 50_000));
        let durable = story.log.durable();
        at_a_boundary += u64::from(durable.0.is_multiple_of(SEGMENT));
        story.delete_below(durable);
        for _ in 0..story.rng.below(20) {
            story.step(100);
        }
        story.crash();
        story.fill(durable.saturating_add(100_000));
        story.crash();
    }
    assert!(at_a_boundary > 20, "{at_a_boundary}");
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut story = Story::new(seed);
        story.live(300);
        story.crash();
        story.live(100);
        (story.disk.trace_hash(), story.log.durable_hash())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
