//! Rows find their content: stable hashes, even maps, the fewest moves, and maps that survive their bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use outrigger_cluster::buckets::{
    BUCKETS, Bucket, Buckets, BucketsError, MapVersion, Move, MoveState, bucket_of,
};
use outrigger_wal::ContentId;
use proptest::prelude::*;

fn contents(numbers: impl IntoIterator<Item = i32>) -> Vec<ContentId> {
    numbers.into_iter().map(ContentId).collect()
}

fn all_the_way(map: &mut Buckets, moves: &[Move]) {
    map.begin(moves).unwrap();
    map.hand_over(moves).unwrap();
    map.moved(moves).unwrap();
    map.end(moves).unwrap();
}

fn is_even(map: &Buckets, over: &[ContentId]) -> bool {
    let counts = map.counts();
    let held: Vec<_> =
        over.iter().map(|content| counts.get(content).copied().unwrap_or(0)).collect();
    held.iter().sum::<usize>() == BUCKETS
        && held.iter().max().unwrap() - held.iter().min().unwrap() <= 1
}

#[test]
fn the_bucket_of_a_key_never_changes() {
    // Fixed for good: rows are found by it in clusters that exist. Computed by another implementation.
    for (key, bucket) in FIXED {
        assert_eq!(bucket_of(key.as_bytes()).number(), bucket, "{key:?}");
    }
}

const FIXED: [(&str, u16); 6] =
    [("", 180), ("a", 923), ("b", 349), ("row/1", 952), ("ATL", 941), ("outrigger", 460)];

#[test]
fn a_first_map_is_even_for_every_number_of_contents() {
    for count in 1..=BUCKETS {
        let over = contents(0..i32::try_from(count).unwrap());
        let map = Buckets::even(&over).unwrap();
        assert!(is_even(&map, &over), "{count}");
        assert_eq!(map.version(), MapVersion::FIRST);
    }
}

#[test]
fn contents_that_cannot_hold_rows_are_refused() {
    assert_eq!(Buckets::even(&[]), Err(BucketsError::NoContents));
    let one_too_many = contents(0..=i32::try_from(BUCKETS).unwrap());
    assert_eq!(Buckets::even(&one_too_many), Err(BucketsError::Contents { found: BUCKETS + 1 }));
    assert_eq!(Buckets::even(&contents([-1, 0])), Err(BucketsError::Contents { found: 2 }));
}

#[test]
fn growing_takes_from_the_old_contents_alone_and_only_what_the_others_need() {
    let map = Buckets::even(&contents(0..4)).unwrap();
    let moves = map.expand(&contents(0..6)).unwrap();
    // 6 contents: 4 of 171 and 2 of 170; the new ones get 340 or 341.
    assert_eq!(moves.len(), 340);
    assert!(moves.iter().all(|step| step.from.0 < 4 && step.to.0 >= 4));
    assert_eq!(map.expand(&contents(0..4)).unwrap(), []);
}

#[test]
fn the_steps_of_a_move_come_in_their_order_and_past_owners_are_kept() {
    let mut map = Buckets::even(&contents([0])).unwrap();
    let bucket = Bucket::new(7).unwrap();
    let there = [Move { bucket, from: ContentId(0), to: ContentId(1) }];
    let out_of_step = Err(BucketsError::Step { bucket, owner: ContentId(0) });
    assert_eq!(map.hand_over(&there), out_of_step);
    assert_eq!(map.moved(&there), out_of_step);
    assert_eq!(map.end(&there), out_of_step);
    map.begin(&there).unwrap();
    assert_eq!(map.begin(&there), Err(BucketsError::Moving { bucket }));
    assert_eq!(map.expand(&contents(0..2)), Err(BucketsError::Moving { bucket }));
    assert_eq!(map.holder(bucket).owner, ContentId(0), "it serves while rows are copied");
    map.hand_over(&there).unwrap();
    assert_eq!(map.end(&there), out_of_step, "a hand-over is not undone");
    map.moved(&there).unwrap();
    let holder = map.holder(bucket).clone();
    assert_eq!((holder.owner, holder.since), (ContentId(1), map.version()));
    assert_eq!(holder.past, [ContentId(0)]);
    assert_eq!(holder.moving, Some((ContentId(0), MoveState::Moved)));
    map.end(&there).unwrap();
    // And back: who held it before is remembered, once each.
    let back = [Move { bucket, from: ContentId(1), to: ContentId(0) }];
    all_the_way(&mut map, &back);
    assert_eq!(map.holder(bucket).past, [ContentId(1)]);
    all_the_way(&mut map, &there);
    assert_eq!(map.holder(bucket).past, [ContentId(0)]);
}

#[test]
fn a_copy_that_is_given_up_leaves_everything_with_the_old_owner() {
    let mut map = Buckets::even(&contents([0])).unwrap();
    let bucket = Bucket::new(0).unwrap();
    let there = [Move { bucket, from: ContentId(0), to: ContentId(1) }];
    map.begin(&there).unwrap();
    map.end(&there).unwrap();
    let holder = map.holder(bucket);
    assert_eq!((holder.owner, holder.past.len(), holder.moving), (ContentId(0), 0, None));
    assert_eq!(holder.since, MapVersion::FIRST, "nothing that was sent under it is void");
}

#[test]
fn all_moves_are_begun_or_none() {
    let mut map = Buckets::even(&contents([0])).unwrap();
    let before = map.clone();
    let step = |number, from| Move {
        bucket: Bucket::new(number).unwrap(),
        from: ContentId(from),
        to: ContentId(2),
    };
    assert!(map.begin(&[step(1, 0), step(2, 1)]).is_err());
    assert_eq!(map, before);
}

#[test]
fn maps_that_contradict_themselves_are_refused() {
    let map = Buckets::even(&contents([0])).unwrap();
    let bytes = map.encode().unwrap();
    for len in 0..bytes.len() {
        assert!(Buckets::decode(&bytes[..len]).is_err());
    }
    assert!(Buckets::decode(&[&bytes[..], &[0]].concat()).is_err());
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        Buckets::decode(&bytes)
    };
    assert!(changed(0, 2).is_err(), "a newer version");
    assert!(changed(12, 0x80).is_err(), "a negative owner");
    assert!(changed(13, 2).is_err(), "held since a later map");
    assert!(changed(13, 0).is_err(), "held since no map");
    assert!(changed(21, 200).is_err(), "more past owners than bytes");
    assert!(changed(25, 9).is_err(), "an unknown state");
}

proptest! {
    #[test]
    fn any_chain_of_expansions_is_even_moves_the_fewest_and_survives_its_bytes(
        sets in prop::collection::vec(prop::collection::btree_set(0..40, 1..24), 1..5)
    ) {
        let sets: Vec<BTreeSet<i32>> = sets;
        let mut map = Buckets::even(&contents(sets[0].iter().copied())).unwrap();
        for set in &sets {
            let over = contents(set.iter().copied());
            let before = map.counts();
            let moves = map.expand(&over).unwrap();
            // Whoever holds more than the larger share must give that away, however it is done; and
            // whoever lacks the smaller share must get that.
            let (each, more) = (BUCKETS / over.len(), BUCKETS % over.len());
            let held = |content: &ContentId| before.get(content).copied().unwrap_or(0);
            let mut kept: Vec<_> = over.iter().map(held).collect();
            kept.sort_unstable_by(|a, b| b.cmp(a));
            let stay: usize =
                kept.iter().enumerate().map(|(at, n)| (*n).min(each + usize::from(at < more))).sum();
            prop_assert_eq!(moves.len(), BUCKETS - stay);
            all_the_way(&mut map, &moves);
            prop_assert!(is_even(&map, &over));
            for step in &moves {
                let holder = map.holder(step.bucket);
                prop_assert_eq!(holder.owner, step.to);
                prop_assert!(holder.past.contains(&step.from));
            }
            prop_assert_eq!(Buckets::decode(&map.encode().unwrap()).unwrap(), map.clone());
        }
    }

    #[test]
    fn nothing_panics_on_foreign_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..26_000, byte: u8) {
        Buckets::decode(&bytes).ok();
        let mut whole = Buckets::even(&contents(0..3)).unwrap().encode().unwrap().to_vec();
        if let Some(place) = whole.get_mut(at) {
            *place = byte;
        }
        if let Ok(map) = Buckets::decode(&whole) {
            prop_assert_eq!(&map.encode().unwrap()[..], &whole[..]);
        }
    }
}
