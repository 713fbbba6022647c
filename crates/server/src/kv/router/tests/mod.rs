//! The router in front of real services: rows, failovers, moves of buckets, hostile clients.

mod limits;
mod moves;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outrigger_replica::store::Rows;

use super::super::client::{Client, ClientError, ClientOptions};
use super::super::finding::Route;
use super::super::protocol::{Answer, Place, Request};
use super::RouterOptions;
use world::{World, begin, put};

fn write(client: u128, sequence: u64, key: &Bytes, value: &str) -> Request {
    Request::Write { client, sequence, map: 1, changes: vec![put(key, value)] }
}

/// A router that gives up soon.
fn hasty() -> RouterOptions {
    RouterOptions { patience: Duration::from_millis(200), ..RouterOptions::default() }
}

fn all_rows(world: &World, client: &Client, limit: u32) -> Vec<(Bytes, Bytes)> {
    let (mut all, mut from) = (Vec::new(), Bytes::new());
    loop {
        let scan = Request::Scan { from: from.clone(), limit, of: None };
        let Answer::Rows(rows) = world.runtime.block_on(client.read(&scan)).unwrap() else {
            panic!("rows are answered with rows");
        };
        let Some((last, _)) = rows.last() else { return all };
        from = [&last[..], &[0]].concat().into();
        all.extend(rows);
    }
}

#[test]
fn rows_lie_on_the_content_of_their_bucket_and_come_back_in_key_order() {
    let world = World::new(3, 1, RouterOptions::default());
    let client = world.client(&[&world.port.address]);
    let rows: BTreeMap<Bytes, Bytes> =
        (0..300).map(|n| (format!("row/{n}").into(), format!("value {n}").into())).collect();
    for (key, value) in &rows {
        let value = std::str::from_utf8(value).unwrap();
        let place = world.runtime.block_on(client.write(vec![put(key, value)])).unwrap();
        assert_eq!(place.content, world.buckets.content_of(key).0);
    }
    let stored = world.stored();
    for (content, held) in (0..).zip(&stored) {
        assert!(held.len() > 50, "content {content} holds {} of 300 rows", held.len());
        assert!(held.keys().all(|key| world.buckets.content_of(key).0 == content));
    }
    assert_eq!(stored.into_iter().flatten().collect::<BTreeMap<_, _>>(), rows);
    for limit in [1, 7, 4096] {
        let found = all_rows(&world, &client, limit);
        assert!(found.iter().eq(
            rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>().iter()
        ));
    }
    let count = world.runtime.block_on(client.read(&Request::Count { of: None }));
    assert_eq!(count, Ok(Answer::Count(300)));
    let key = Bytes::from("row/17");
    let get = Request::Get { key: key.clone() };
    assert_eq!(
        world.runtime.block_on(client.read(&get)),
        Ok(Answer::Value(Some("value 17".into())))
    );
}

#[test]
fn large_rows_of_all_contents_are_scanned_without_a_gap() {
    // Each content's page ends by its bytes, at another place.
    let world = World::new(2, 1, RouterOptions::default());
    let client = world.client(&[&world.port.address]);
    let value = "x".repeat(100 << 10);
    for n in 0..12 {
        let key = Bytes::from(format!("large/{n:02}"));
        world.runtime.block_on(client.write(vec![put(&key, &value)])).unwrap();
    }
    let keys: Vec<_> = all_rows(&world, &client, 4096).into_iter().map(|(key, _)| key).collect();
    let expected: Vec<_> = (0..12).map(|n| Bytes::from(format!("large/{n:02}"))).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_batch_on_one_content_takes_effect_and_one_that_spans_contents_is_refused_in_words() {
    let world = World::new(2, 1, RouterOptions::default());
    let client = world.client(&[&world.port.address]);
    let (here, too, there) = (world.key_on(0, 0), world.key_on(0, 5), world.key_on(1, 0));
    let together = vec![put(&here, "1"), put(&too, "2")];
    assert_eq!(world.runtime.block_on(client.write(together)).unwrap().content, 0);
    let across = vec![put(&here, "3"), put(&there, "4")];
    match world.runtime.block_on(client.write(across)) {
        Err(ClientError::Refused(text)) => {
            assert!(text.contains("spans contents 0 and 1"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    let stored = world.stored();
    assert_eq!((stored[0][&here].as_ref(), stored[0][&too].as_ref()), (&b"1"[..], &b"2"[..]));
    assert_eq!(stored[1].len(), 0);
}

#[test]
fn requests_wait_for_the_new_primary_and_go_on_while_other_contents_serve() {
    let world = World::new(2, 2, RouterOptions::default());
    let line = world.line(&world.port.address);
    let (here, there) = (world.key_on(0, 0), world.key_on(1, 0));
    assert!(matches!(world.ask(&line, &write(1, 1, &there, "before")), Answer::Committed(_)));
    world.close_primary(1);
    // Nothing of content 1 is answered, and content 0 does not wait for it.
    let get = Request::Get { key: there.clone() };
    let (waits, reads) = (begin(&line, &write(1, 2, &there, "after")), begin(&line, &get));
    let count = begin(&line, &Request::Count { of: None });
    assert!(matches!(world.ask(&line, &write(1, 3, &here, "beside")), Answer::Committed(_)));
    world.promote(1);
    world.tell(world.places());
    // The write may have met the connection's end: then it is in doubt, and settled by its name.
    let answer = match world.hear(waits) {
        Answer::InDoubt(_) => {
            let settle = |kind: fn(u128, u64, u64, Option<Bytes>) -> Request| {
                kind(1, 2, 1, Some(there.clone()))
            };
            world.ask(
                &line,
                &settle(|client, sequence, map, key| Request::Settle {
                    client,
                    sequence,
                    map,
                    key,
                }),
            )
        }
        answer => answer,
    };
    assert!(matches!(answer, Answer::Committed(_) | Answer::Refused { .. }), "{answer:?}");
    assert!(matches!(world.hear(reads), Answer::Value(Some(_))));
    // It may have been counted on content 0 before the write there.
    assert!(matches!(world.hear(count), Answer::Count(1..=2)));
    let again = world.ask(&line, &write(1, 4, &there, "served"));
    assert!(matches!(again, Answer::Committed(Place { epoch, .. }) if epoch > 1), "{again:?}");
}

#[test]
fn writes_that_waited_for_a_primary_enter_its_log_in_their_order() {
    let world = World::new(2, 1, RouterOptions::default());
    let line = world.line(&world.port.address);
    // Nobody is known to serve content 1 when they come.
    let mut places = world.places();
    places.contents.get_mut(&outrigger_wal::ContentId(1)).unwrap().acting = false;
    world.tell(places);
    let keys: Vec<_> = (0..60).map(|n| world.key_on(1, n)).collect();
    let asked: Vec<_> = (1_u64..)
        .zip(&keys)
        .map(|(sequence, key)| begin(&line, &write(1, sequence, key, "x")))
        .collect();
    let sixty_first = begin(&line, &write(1, 61, &keys[0], "the last"));
    world.tell(world.places());
    let mut ends = Vec::new();
    for asked in asked.into_iter().chain([sixty_first]) {
        match world.hear(asked) {
            Answer::Committed(place) => ends.push(place.end),
            other => panic!("{other:?}"),
        }
    }
    assert!(ends.is_sorted(), "{ends:?}");
    assert_eq!(world.stored()[1][&keys[0]], "the last");
}

#[test]
fn a_write_that_was_sent_to_a_primary_that_goes_silent_is_in_doubt_and_settled_by_its_client() {
    // The content's primary takes the write and never answers; then another is made primary.
    let world = World::new(1, 1, RouterOptions::default());
    let (mute, seat) = world.mute(0);
    let mut silent = world.places();
    silent.contents.insert(outrigger_wal::ContentId(0), seat);
    world.tell(silent.clone());
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    let asked = begin(&line, &write(1, 1, &key, "in doubt"));
    let router = &world.port.router;
    world.runtime.block_on(async {
        while router.pool.waiting(outrigger_wal::ContentId(0)) == 0 {
            tokio::task::yield_now().await;
        }
    });
    world.tell(world.places());
    assert!(matches!(world.hear(asked), Answer::InDoubt(Place { content: 0, .. })));
    let settle = Request::Settle { client: 1, sequence: 1, map: 1, key: Some(key.clone()) };
    assert!(matches!(world.ask(&line, &settle), Answer::Refused { .. }));
    // The whole way, by the client: the value is there once, and was never called refused.
    world.tell(silent);
    let client = world.client(&[&world.port.address]);
    let stored = world.runtime.block_on(async {
        let begun = client.begin(vec![put(&key, "stored")]).await;
        while router.pool.waiting(outrigger_wal::ContentId(0)) == 0 {
            tokio::task::yield_now().await;
        }
        world.tell(world.places());
        begun.end().await
    });
    assert!(stored.is_ok(), "{stored:?}");
    assert_eq!(world.stored()[0][&key], "stored");
    mute.close().unwrap();
}

#[test]
fn what_nobody_took_in_time_is_answered_so_and_has_no_effect() {
    let world = World::new(1, 1, hasty());
    let mut places = world.places();
    places.contents.get_mut(&outrigger_wal::ContentId(0)).unwrap().acting = false;
    world.tell(places);
    let (line, key) = (world.line(&world.port.address), world.key_on(0, 0));
    match world.ask(&line, &write(1, 1, &key, "late")) {
        Answer::NotPrimary { hint } => assert!(hint.contains("content 0"), "{hint}"),
        other => panic!("{other:?}"),
    }
    let get = Request::Get { key };
    assert!(matches!(world.ask(&line, &get), Answer::NotPrimary { .. }));
    world.tell(world.places());
    assert_eq!(world.ask(&line, &get), Answer::Value(None));
}

#[test]
fn a_client_goes_to_the_address_that_serves() {
    let mut world = World::new(1, 1, RouterOptions::default());
    let other = world.open_port(RouterOptions::default());
    let both = [other.address.clone(), world.port.address.clone()];
    let client = world.client(&[&both[0], &both[1]]);
    let key = world.key_on(0, 0);
    let first = world.runtime.block_on(client.write(vec![put(&key, "1")]));
    assert!(first.is_ok(), "the first address does not serve, the second does: {first:?}");
    // The other takes over: the client is sent away here.
    let places = world.places();
    world.tell(super::super::places::Places { serving: false, ..places.clone() });
    other.board.tell(places);
    let second = world.runtime.block_on(client.write(vec![put(&key, "2")]));
    assert!(second.is_ok(), "{second:?}");
    assert_eq!(world.stored()[0][&key], "2");
}

#[test]
fn without_a_coordinator_a_content_is_asked_straight() {
    let world = World::new(1, 2, RouterOptions::default());
    let copies = &world.contents[0].copies;
    // The mirror's address first: it does not serve.
    let addresses = [1, 0].map(|at: usize| copies[at].replica.local_addr().to_string()).to_vec();
    let route = Route::Direct { content: outrigger_wal::ContentId(0), addresses };
    let options = ClientOptions { coordinators: vec![], route, patience: Duration::from_secs(60) };
    let client = Client::new(options).unwrap();
    let key = Bytes::from("straight");
    world.runtime.block_on(client.write(vec![put(&key, "1")])).unwrap();
    let get = Request::Get { key: key.clone() };
    let found = world.runtime.block_on(client.read(&get));
    assert_eq!(found, Ok(Answer::Value(Some("1".into()))));
    assert_eq!(copies[0].rows.get(&key).unwrap().unwrap(), "1");
}

#[test]
fn the_primary_of_a_content_tells_how_it_stands() {
    let world = World::new(2, 1, hasty());
    let line = world.line(&world.port.address);
    let status = |content| Request::Status { content };
    assert!(matches!(world.ask(&line, &status(Some(1))), Answer::Status(told) if told.serving));
    assert!(matches!(world.ask(&line, &status(Some(9))), Answer::NotPrimary { .. }));
    assert!(matches!(world.ask(&line, &status(None)), Answer::Failed { .. }));
    assert_eq!(world.ask(&line, &Request::Map), Answer::Map { version: 1, contents: 2 });
}
