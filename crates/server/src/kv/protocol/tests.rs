//! The codec is total: what is encoded is decoded, and nothing else is taken.

use super::*;

fn requests() -> Vec<Request> {
    let key = Bytes::from_static(b"key");
    let put = Change::Put { key: key.clone(), value: Bytes::from_static(b"value") };
    let delete = Change::Delete { key: key.clone() };
    vec![
        Request::Write { client: 7, sequence: 1, map: 3, changes: vec![put, delete] },
        Request::Write { client: u128::MAX, sequence: u64::MAX, map: 0, changes: vec![] },
        Request::Get { key: key.clone() },
        Request::Scan { from: Bytes::new(), limit: 9, of: None },
        Request::Scan { from: Bytes::new(), limit: 9, of: Some(some_buckets()) },
        Request::Count { of: None },
        Request::Count { of: Some(some_buckets()) },
        Request::Status { content: None },
        Request::Status { content: Some(4) },
        Request::Outcome { client: 1, sequence: 2, map: 3, key: Some(key.clone()) },
        Request::Settle { client: 1, sequence: 2, map: 3, key: Some(key) },
        Request::Settle { client: 1, sequence: 2, map: 0, key: None },
        Request::Map,
    ]
}

fn some_buckets() -> BucketSet {
    let mut set = BucketSet::EMPTY;
    for bucket in Bucket::all().filter(|bucket| bucket.number() % 3 == 0) {
        set.insert(bucket);
    }
    set
}

fn answers() -> Vec<Answer> {
    let place = Place { content: 2, epoch: 3, lsn: 4096, end: 4200 };
    let full = Status {
        epoch: 1,
        serving: true,
        commit: 2,
        applied: 3,
        durable: 4,
        end: 5,
        cut: Some(Cut { from: 6, to: 7, bytes: 8 }),
        joined: Some(Joined { instance: 9, from: 10, to: 11, stored_bytes: 12, wire_bytes: 13 }),
    };
    vec![
        Answer::Committed(place),
        Answer::Refused { text: "no".to_owned() },
        Answer::InDoubt(place),
        Answer::Unknown,
        Answer::TooOld,
        Answer::NotPrimary { hint: String::new() },
        Answer::Busy,
        Answer::Value(None),
        Answer::Value(Some(Bytes::from_static(b""))),
        Answer::Rows(vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))]),
        Answer::Count(5),
        Answer::Status(Status::default()),
        Answer::Status(full),
        Answer::Failed { text: "x".repeat(1024) },
        Answer::Moved { map: 7 },
        Answer::Map { version: 7, contents: 8 },
    ]
}

#[test]
fn what_is_encoded_is_decoded() {
    for request in requests() {
        assert_eq!(Request::decode(request.encode().unwrap()), Ok(request));
    }
    for answer in answers() {
        assert_eq!(Answer::decode(answer.encode().unwrap()), Ok(answer));
    }
}

#[test]
fn nothing_cut_short_or_too_long_is_taken() {
    for body in requests().iter().map(|request| request.encode().unwrap()) {
        for len in 0..body.len() {
            assert!(Request::decode(body.slice(..len)).is_err());
        }
        let longer = Bytes::from([&body[..], &[0]].concat());
        assert!(Request::decode(longer).is_err());
    }
    for body in answers().iter().map(|answer| answer.encode().unwrap()) {
        for len in 0..body.len() {
            assert!(Answer::decode(body.slice(..len)).is_err());
        }
    }
}

#[test]
fn any_changed_byte_is_refused_or_means_something_else_without_a_panic() {
    for request in requests() {
        let body = request.encode().unwrap();
        for at in 0..body.len() {
            for byte in 0..=255 {
                let mut changed = body.to_vec();
                changed[at] = byte;
                // The version before says some of it in the same bytes.
                if (at, byte) == (0, 1) {
                    continue;
                }
                let same = changed == body;
                if let Ok(found) = Request::decode(changed.into()) {
                    assert_eq!(found == request, same);
                }
            }
        }
    }
}

#[test]
fn a_newer_version_is_told_apart() {
    let newer = Bytes::from_static(&[3, 4]);
    assert_eq!(Request::decode(newer), Err(ProtocolError::Newer { found: 3 }));
}

#[test]
fn requests_of_the_version_before_are_read_and_name_no_map() {
    let name = [&9_u128.to_le_bytes()[..], &5_u64.to_le_bytes()].concat();
    let read = |kind: u8, rest: &[u8]| Request::decode([&[1, kind], rest].concat().into());
    assert_eq!(
        read(1, &[&name[..], &[0, 0]].concat()),
        Ok(Request::Write { client: 9, sequence: 5, map: 0, changes: vec![] })
    );
    assert_eq!(read(4, &[]), Ok(Request::Count { of: None }));
    assert_eq!(read(5, &[]), Ok(Request::Status { content: None }));
    let settle = Request::Settle { client: 9, sequence: 5, map: 0, key: None };
    assert_eq!(read(7, &name), Ok(settle));
}

#[test]
fn a_set_of_buckets_holds_what_was_put_into_it() {
    let set = some_buckets();
    for bucket in Bucket::all() {
        assert_eq!(set.contains(bucket), bucket.number() % 3 == 0);
    }
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let value = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let put = Change::Put { key: Bytes::new(), value };
    let write = Request::Write { client: 1, sequence: 1, map: 1, changes: vec![put] };
    assert!(matches!(write.encode(), Err(ProtocolError::TooLong { .. })));
}
