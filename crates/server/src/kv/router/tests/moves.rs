//! A bucket moves while a write is in doubt. Whoever may have got the write is asked; a late copy of it finds no content
//! that takes it once it was called refused; a router that missed the move can neither settle nor write.

use bytes::Bytes;

use super::super::super::protocol::{Answer, Place, Request};
use super::super::RouterOptions;
use super::world::{World, bucket, put};
use super::{hasty, write};

fn outcome(sequence: u64, map: u64, key: &Bytes) -> Request {
    Request::Outcome { client: 1, sequence, map, key: Some(key.clone()) }
}

fn settle(sequence: u64, map: u64, key: &Bytes) -> Request {
    Request::Settle { client: 1, sequence, map, key: Some(key.clone()) }
}

#[test]
fn a_write_that_took_effect_before_its_bucket_moved_is_found_committed() {
    let mut world = World::new(2, 1, RouterOptions::default());
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    assert!(matches!(world.ask(&line, &write(1, 1, &key, "x")), Answer::Committed(_)));
    // Its answer was lost; meanwhile:
    world.move_bucket(bucket(&key), 1);
    world.tell(world.places());
    for request in [outcome(1, 1, &key), settle(1, 1, &key)] {
        let answer = world.ask(&line, &request);
        assert!(matches!(answer, Answer::Committed(Place { content: 0, .. })), "{answer:?}");
    }
}

#[test]
fn a_write_that_was_settled_is_taken_nowhere_after_its_bucket_moved() {
    let mut world = World::new(2, 1, hasty());
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    // It named the first map and was never seen; its bucket moves, and its client settles it.
    world.move_bucket(bucket(&key), 1);
    world.tell(world.places());
    assert_eq!(world.ask(&line, &outcome(1, 1, &key)), Answer::Unknown);
    assert!(matches!(world.ask(&line, &settle(1, 1, &key)), Answer::Refused { .. }));
    assert!(matches!(world.ask(&line, &outcome(1, 1, &key)), Answer::Refused { .. }));
    // Late copies of it: through the router, at the old owner, at the new one.
    let late = write(1, 1, &key, "late");
    let map = world.buckets.version().0;
    assert_eq!(world.ask(&line, &late), Answer::Moved { map });
    assert_eq!(world.ask(&world.direct(0), &late), Answer::Moved { map: 0 });
    assert_eq!(world.ask(&world.direct(1), &late), Answer::Moved { map: 0 });
    assert!(world.stored().iter().all(|rows| !rows.contains_key(&key)));
}

#[test]
fn a_bucket_that_moved_there_and_back_takes_no_late_copy_either() {
    let mut world = World::new(2, 1, hasty());
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    let first = world.buckets.version().0;
    world.move_bucket(bucket(&key), 1);
    world.move_bucket(bucket(&key), 0);
    world.tell(world.places());
    // Named under the first map, by which content 0 held it as it does now.
    let late = write(1, 1, &key, "late");
    let map = world.buckets.version().0;
    assert_eq!(world.ask(&line, &late), Answer::Moved { map });
    assert_eq!(world.ask(&world.direct(0), &late), Answer::Moved { map: 0 });
    // By the newest map it goes.
    let Request::Write { client, sequence, changes, .. } = late else { unreachable!() };
    let now = Request::Write { client, sequence, map, changes };
    assert!(matches!(world.ask(&line, &now), Answer::Committed(_)));
    assert!(matches!(world.ask(&line, &outcome(1, first, &key)), Answer::Committed(_)));
}

#[test]
fn a_router_that_missed_the_move_neither_writes_nor_reads_nor_settles() {
    // A coordinator that was deposed and does not know it: its map is old.
    let mut world = World::new(2, 1, hasty());
    let old = world.open_port(hasty());
    old.board.tell(world.places());
    let key = world.key_on(0, 0);
    world.move_bucket(bucket(&key), 1);
    world.tell(world.places());
    let map = world.buckets.version().0;
    let (line, stale) = (world.line(&world.port.address), world.line(&old.address));
    let put = Request::Write { client: 1, sequence: 1, map, changes: vec![put(&key, "x")] };
    assert!(matches!(world.ask(&line, &put), Answer::Committed(Place { content: 1, .. })));
    // To call it unknown, or refused, would be false.
    for request in [outcome(1, map, &key), settle(1, map, &key)] {
        assert!(matches!(world.ask(&stale, &request), Answer::NotPrimary { .. }));
    }
    // In doubt when the time is over while it is asked once more: never committed, and never there.
    let answer = world.ask(&stale, &write(1, 2, &key, "y"));
    assert!(matches!(answer, Answer::NotPrimary { .. } | Answer::InDoubt(_)), "{answer:?}");
    assert!(!world.stored()[0].contains_key(&key));
    let get = Request::Get { key: key.clone() };
    assert!(matches!(world.ask(&stale, &get), Answer::NotPrimary { .. }));
    let count = Request::Count { of: None };
    assert!(matches!(world.ask(&stale, &count), Answer::NotPrimary { .. }));
    assert_eq!(world.ask(&line, &get), Answer::Value(Some("x".into())));
    assert!(matches!(world.ask(&line, &outcome(1, map, &key)), Answer::Committed(_)));
}

#[test]
fn a_bucket_on_its_way_is_waited_for_and_its_copies_are_not_shown() {
    let mut world = World::new(2, 1, RouterOptions::default());
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    assert!(matches!(world.ask(&line, &write(1, 1, &key, "x")), Answer::Committed(_)));
    // Its row is copied; the old owner serves it.
    let copied = Request::Write { client: 9, sequence: 1, map: 0, changes: vec![put(&key, "x")] };
    assert!(matches!(world.ask(&world.direct(1), &copied), Answer::Committed(_)));
    let count = Request::Count { of: None };
    let scan = Request::Scan { from: Bytes::new(), limit: 10, of: None };
    assert_eq!(world.ask(&line, &count), Answer::Count(1));
    let rows = Answer::Rows(vec![(key.clone(), "x".into())]);
    assert_eq!(world.ask(&line, &scan), rows);
    // Handed over, and the router has not heard of it: it waits.
    world.move_bucket(bucket(&key), 1);
    let reads = super::begin(&line, &Request::Get { key: key.clone() });
    let scans = super::begin(&line, &scan);
    let counts = super::begin(&line, &count);
    let writes = super::begin(&line, &write(1, 2, &key, "y"));
    world.tell(world.places());
    assert_eq!(world.hear(reads), Answer::Value(Some("x".into())));
    assert_eq!((world.hear(scans), world.hear(counts)), (rows, Answer::Count(1)));
    // It named the old map: its client sends it again.
    assert_eq!(world.hear(writes), Answer::Moved { map: world.buckets.version().0 });
}

#[test]
fn a_client_goes_on_by_the_newer_map_under_the_same_name() {
    let mut world = World::new(2, 1, RouterOptions::default());
    let client = world.client(&[&world.port.address]);
    let key = world.key_on(0, 0);
    world.runtime.block_on(client.write(vec![put(&key, "1")])).unwrap();
    world.move_bucket(bucket(&key), 1);
    world.tell(world.places());
    let place = world.runtime.block_on(client.write(vec![put(&key, "2")])).unwrap();
    assert_eq!(place.content, 1);
    assert_eq!(world.stored()[1][&key], "2");
}
