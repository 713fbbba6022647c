//! What a voter promises, accepts and refuses, row by row; its bytes and its file.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use outrigger_cluster::slots::MemorySlots;
use outrigger_cluster::voters::{
    Ask, Question, Refusal, Reply, Say, Seat, Voter, VoterFile, VoterList,
};
use outrigger_cluster::{CodecError, Error};
use outrigger_net::config::{Config, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::{ClusterId, Epoch};
use proptest::prelude::*;
use support::{A, B, CLUSTER, epoch, next, pair};

fn list() -> VoterList {
    VoterList { version: 3, addresses: vec![vec!["host:1".to_owned()]; 3] }
}

/// Holds version 5 of epoch 1.
fn voter() -> Voter {
    Voter::create(CLUSTER, list(), Seat(1), pair()).unwrap()
}

fn ask(question: Question) -> Ask {
    Ask { cluster: CLUSTER, list: 3, seat: Seat(1), from: A, op: 9, question }
}

fn step(voter: &mut Voter, question: Question) -> (bool, Reply) {
    let (next, say) = voter.step(&ask(question), Rules::all());
    assert_eq!((say.op, say.seat, say.cluster), (9, Seat(1), CLUSTER));
    let changed = next.is_some();
    if let Some(next) = next {
        *voter = next;
    }
    (changed, say.reply)
}

fn promise(voter: &mut Voter, epoch: Epoch) -> (bool, Reply) {
    step(voter, Question::Promise { epoch })
}

fn accept(voter: &mut Voter, config: &Config) -> (bool, Reply) {
    step(voter, Question::Accept { config: config.clone() })
}

fn why(reply: &Reply) -> Option<Refusal> {
    match reply {
        Reply::Refused { why, .. } => Some(*why),
        _ => None,
    }
}

#[test]
fn reading_changes_nothing_and_tells_what_is_held() {
    let mut voter = voter();
    let (changed, reply) = step(&mut voter, Question::Read);
    assert_eq!((changed, reply), (false, Reply::Holds { promised: epoch(1), newest: pair() }));
}

#[test]
fn a_promise_is_given_once_and_repeated_when_it_is_asked_for_again() {
    let mut voter = voter();
    let promised = Reply::Promised { epoch: epoch(4), newest: pair() };
    assert_eq!(promise(&mut voter, epoch(4)), (true, promised.clone()));
    assert_eq!(promise(&mut voter, epoch(4)), (false, promised), "doubled: nothing to be saved");
    assert_eq!(voter.promised(), epoch(4));
}

#[test]
fn nothing_below_the_promise_and_no_foreign_nonce_is_promised_or_accepted() {
    let mut voter = voter();
    assert!(promise(&mut voter, epoch(4)).0);
    let foreign = Epoch { number: 4, nonce: 1 };
    let rows = [(epoch(3), Refusal::LowerEpoch), (foreign, Refusal::ForeignNonce)];
    for (epoch_asked, refusal) in rows {
        let (changed, reply) = promise(&mut voter, epoch_asked);
        assert_eq!((changed, why(&reply)), (false, Some(refusal)));
        let late = next(&pair(), |new| new.epoch = epoch_asked);
        let (changed, reply) = accept(&mut voter, &late);
        assert_eq!((changed, why(&reply)), (false, Some(refusal)));
        let current = Reply::Refused { why: refusal, promised: epoch(4), newest: pair() };
        assert_eq!(reply, current, "a refusal names the current numbers");
    }
    let (_, reply) = accept(&mut voter, &next(&pair(), |_| {}));
    assert_eq!(why(&reply), Some(Refusal::LowerEpoch), "a late accept of the epoch before");
}

#[test]
fn to_accept_a_higher_epoch_is_to_promise_it() {
    let mut voter = voter();
    let value = next(&pair(), |new| new.epoch = epoch(7));
    let accepted = Reply::Accepted { epoch: epoch(7), version: Version(6) };
    assert_eq!(accept(&mut voter, &value), (true, accepted.clone()));
    assert_eq!((voter.promised(), voter.accepted()), (epoch(7), &value));
    assert_eq!(accept(&mut voter, &value), (false, accepted), "doubled");
}

#[test]
fn epoch_and_version_name_one_value_for_good() {
    let mut voter = voter();
    let six = next(&pair(), |new| new.copies[1].in_sync = false);
    let seven = next(&six, |_| {});
    assert!(accept(&mut voter, &six).0);
    let other = next(&pair(), |_| {});
    let (changed, reply) = accept(&mut voter, &other);
    assert_eq!((changed, why(&reply)), (false, Some(Refusal::OtherValue)));
    assert!(accept(&mut voter, &seven).0);
    let (changed, reply) = accept(&mut voter, &six);
    assert_eq!((changed, why(&reply)), (false, Some(Refusal::LowerVersion)), "a late accept");
}

#[test]
fn who_is_not_meant_says_so_and_tells_nothing_else() {
    let voter = voter();
    let promise = || ask(Question::Promise { epoch: epoch(9) });
    let strangers = [
        (Ask { cluster: ClusterId(0xBAD), ..promise() }, "belongs to cluster"),
        (Ask { list: 2, ..promise() }, "version 3 of the list"),
        (Ask { seat: Seat(2), ..promise() }, "this is voter 1"),
    ];
    for (ask, text) in strangers {
        let (next, say) = voter.step(&ask, Rules::all());
        assert_eq!(next, None);
        assert!(matches!(say.reply, Reply::Denied { text: said } if said.contains(text)));
    }
}

#[test]
fn a_voter_without_a_seat_or_with_an_unsound_value_is_not_made() {
    assert!(Voter::create(CLUSTER, list(), Seat(3), pair()).is_err());
    let unsound = Config { primary: support::C, ..pair() };
    assert!(Voter::create(CLUSTER, list(), Seat(0), unsound).is_err());
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let slots = MemorySlots::default();
    let boxed = || Box::new(slots.clone());
    let mut file = VoterFile::create(boxed(), voter(), Rules::all()).unwrap();
    let say = file.answer(&ask(Question::Promise { epoch: epoch(4) })).unwrap();
    assert_eq!(say.reply, Reply::Promised { epoch: epoch(4), newest: pair() });
    let again = VoterFile::open(boxed(), Rules::all()).unwrap();
    assert_eq!(again.voter(), file.voter());
    assert_eq!(again.voter().promised(), epoch(4));
    let twice = VoterFile::create(boxed(), voter(), Rules::all());
    assert!(matches!(twice, Err(Error::Exists { .. })));
}

#[test]
fn a_voter_that_lost_its_file_does_not_vote() {
    let lost = VoterFile::open(Box::new(MemorySlots::default()), Rules::all());
    assert!(matches!(lost, Err(Error::VoterLost { .. })));
    let slots = MemorySlots::default();
    drop(VoterFile::create(Box::new(slots.clone()), voter(), Rules::all()).unwrap());
    for slot in [0, 1] {
        slots.set(slot, Some(bytes::Bytes::from_static(b"rot")));
    }
    let rotten = VoterFile::open(Box::new(slots), Rules::all());
    assert!(matches!(rotten, Err(Error::Damaged { .. })));
}

#[test]
fn nothing_is_answered_after_a_promise_could_not_be_saved() {
    let slots = MemorySlots::default();
    let mut file = VoterFile::create(Box::new(slots.clone()), voter(), Rules::all()).unwrap();
    slots.fail_after(Some(1));
    assert!(file.answer(&ask(Question::Promise { epoch: epoch(4) })).is_err());
    slots.fail_after(None);
    assert!(file.answer(&ask(Question::Read)).is_err(), "it is not known what it promised");
    let again = VoterFile::open(Box::new(slots), Rules::all()).unwrap();
    assert_eq!(again.voter().promised(), epoch(4), "one slot had it: the newer counts");
}

fn says() -> Vec<Say> {
    let replies = vec![
        Reply::Holds { promised: epoch(2), newest: pair() },
        Reply::Promised { epoch: epoch(2), newest: pair() },
        Reply::Accepted { epoch: epoch(2), version: Version(8) },
        Reply::Refused { why: Refusal::OtherValue, promised: epoch(2), newest: pair() },
        Reply::Denied { text: "no".to_owned() },
    ];
    let say = |reply| Say { cluster: CLUSTER, seat: Seat(2), op: 77, reply };
    replies.into_iter().map(say).collect()
}

#[test]
fn what_is_written_is_read_back_and_nothing_behind_it() {
    let questions = [
        Question::Read,
        Question::Promise { epoch: epoch(3) },
        Question::Accept { config: next(&pair(), |new| new.primary = B) },
    ];
    for question in questions {
        let bytes = ask(question.clone()).encode().unwrap();
        assert_eq!(Ask::decode(&bytes), Ok(ask(question)));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Ask::decode(&longer), Err(CodecError::Trailing));
    }
    for say in says() {
        let bytes = say.encode().unwrap();
        assert_eq!(Say::decode(&bytes), Ok(say));
        let newer = [&[2], &bytes[1..]].concat();
        assert_eq!(Say::decode(&newer), Err(CodecError::Newer { found: 2, known: 1 }));
    }
    let bytes = voter().encode().unwrap();
    assert_eq!(Voter::decode(&bytes), Ok(voter()));
}

proptest! {
    #[test]
    fn no_bytes_bring_a_decoder_down(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let total = |bytes: &[u8]| {
            if let Ok(ask) = Ask::decode(bytes) {
                assert_eq!(ask.encode().unwrap(), bytes);
            }
            if let Ok(say) = Say::decode(bytes) {
                assert_eq!(say.encode().unwrap(), bytes);
            }
            if let Ok(voter) = Voter::decode(bytes) {
                assert_eq!(voter.encode().unwrap(), bytes);
            }
        };
        total(&bytes);
        let mut good: Vec<_> = says().iter().map(|say| say.encode().unwrap().to_vec()).collect();
        good.push(voter().encode().unwrap().to_vec());
        for mut bytes in good {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            total(&bytes);
            total(&bytes[..at]);
        }
    }
}
