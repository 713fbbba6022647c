//! The decision table of the handshake in docs/replication.md: a test a row.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;

use outrigger_net::handshake::{Chosen, Identity, check_hello, check_welcome};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role, Session};
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};
use samples::{LOG, MAX_BLOCK_BYTES, abilities, envelope};

const PRIMARY: InstanceId = InstanceId(1);
const COPY: InstanceId = InstanceId(2);

fn identity(instance: InstanceId) -> Identity {
    Identity {
        cluster: envelope().cluster,
        content: envelope().content,
        instance,
        log: LOG,
        abilities: abilities(),
    }
}

struct Greeting {
    envelope: Envelope,
    role: Role,
    from: InstanceId,
    to: InstanceId,
    log: LogId,
    abilities: Abilities,
}

fn judge(me: &Identity, change: impl FnOnce(&mut Greeting)) -> Result<Chosen, Reason> {
    let mut greeting = Greeting {
        envelope: envelope(),
        role: Role::Primary,
        from: PRIMARY,
        to: COPY,
        log: LOG,
        abilities: abilities(),
    };
    change(&mut greeting);
    let Greeting { envelope, role, from, to, log, abilities } = greeting;
    let hello = Message::Hello { role, from, to, log, abilities, history: History::default() };
    check_hello(me, &envelope, &hello).map_err(|(reason, text)| {
        assert!(!text.is_empty());
        reason
    })
}

fn refused(change: impl FnOnce(&mut Greeting)) -> Reason {
    judge(&identity(COPY), change).unwrap_err()
}

#[test]
fn equals_agree_on_what_both_can_do() {
    let chosen =
        Chosen { protocol: 2, features: 7, block_format: 1, max_block_bytes: MAX_BLOCK_BYTES };
    assert_eq!(judge(&identity(COPY), |_| {}), Ok(chosen));
}

#[test]
fn the_first_message_must_be_a_hello() {
    let judged = check_hello(&identity(COPY), &envelope(), &Message::Keepalive);
    assert_eq!(judged.unwrap_err().0, Reason::OutOfTurn);
}

#[test]
fn another_cluster_is_refused() {
    assert_eq!(refused(|g| g.envelope.cluster = ClusterId(1)), Reason::WrongCluster);
}

#[test]
fn another_content_is_refused() {
    assert_eq!(refused(|g| g.envelope.content = ContentId(5)), Reason::WrongContent);
}

#[test]
fn a_message_for_another_instance_is_refused() {
    assert_eq!(refused(|g| g.to = InstanceId(9)), Reason::WrongInstance);
    assert_eq!(refused(|g| g.to = InstanceId(0)), Reason::WrongInstance);
    let client = |g: &mut Greeting| {
        (g.role, g.from, g.to, g.log) = (Role::Client, InstanceId(0), InstanceId(0), LogId(0));
    };
    assert!(judge(&identity(COPY), client).is_ok(), "a client may mean any");
}

#[test]
fn nobody_is_its_own_primary() {
    assert_eq!(refused(|g| g.from = COPY), Reason::WrongInstance);
    assert_eq!(refused(|g| g.from = InstanceId(0)), Reason::WrongInstance);
}

#[test]
fn another_log_is_refused_and_a_copy_without_one_takes_it() {
    assert_eq!(refused(|g| g.log = LogId(5)), Reason::WrongLog);
    assert_eq!(refused(|g| g.log = LogId(0)), Reason::WrongLog);
    let other_log = |g: &mut Greeting| (g.role, g.log) = (Role::Instance, LogId(5));
    assert_eq!(refused(other_log), Reason::WrongLog);
    let without = Identity { log: LogId(0), ..identity(COPY) };
    assert!(judge(&without, |_| {}).is_ok());
}

#[test]
fn protocols_need_one_in_common_and_the_highest_is_taken() {
    assert_eq!(refused(|g| g.abilities.protocols = (3, 9)), Reason::NoCommonVersion);
    assert_eq!(refused(|g| g.abilities.protocols = (0, 0)), Reason::NoCommonVersion);
    assert_eq!(refused(|g| g.abilities.protocols = (2, 1)), Reason::NoCommonVersion);
    for (range, best) in [((0, 1), 1), ((2, 9), 2), ((1, 1), 1)] {
        let chosen = judge(&identity(COPY), |g| g.abilities.protocols = range).unwrap();
        assert_eq!(chosen.protocol, best);
    }
}

#[test]
fn a_required_feature_must_be_known_to_both_and_an_optional_one_need_not() {
    assert_eq!(refused(|g| g.abilities.required_features = 9), Reason::UnknownFeature);
    let poor = |g: &mut Greeting| {
        (g.abilities.required_features, g.abilities.optional_features) = (0, 6);
    };
    assert_eq!(refused(poor), Reason::UnknownFeature, "what this side requires");
    let rich = judge(&identity(COPY), |g| g.abilities.optional_features = 0xF0).unwrap();
    assert_eq!(rich.features, 1);
}

#[test]
fn block_formats_need_one_in_common_where_blocks_will_flow() {
    assert_eq!(refused(|g| g.abilities.block_formats = (2, 3)), Reason::NoCommonFormat);
    let client = |g: &mut Greeting| {
        (g.role, g.log, g.abilities.block_formats) = (Role::Client, LogId(0), (0, 0));
    };
    assert_eq!(judge(&identity(COPY), client).unwrap().block_format, 0);
}

#[test]
fn blocks_larger_than_this_side_takes_are_refused() {
    assert_eq!(
        refused(|g| g.abilities.max_block_bytes = MAX_BLOCK_BYTES + 1),
        Reason::BlocksTooLarge
    );
    assert_eq!(refused(|g| g.abilities.max_block_bytes = 4095), Reason::BlocksTooLarge);
    let chosen = judge(&identity(COPY), |g| g.abilities.max_block_bytes = 8192).unwrap();
    assert_eq!(chosen.max_block_bytes, 8192);
}

fn answer(change: impl FnOnce(&mut Envelope, &mut Message)) -> Result<Chosen, Reason> {
    let mut welcome = Message::Welcome {
        from: COPY,
        protocol: 2,
        abilities: abilities(),
        history: History::default(),
    };
    let mut answered = envelope();
    change(&mut answered, &mut welcome);
    check_welcome(&identity(PRIMARY), &envelope(), &samples::hello(1), &answered, &welcome)
        .map_err(|(reason, _)| reason)
}

#[test]
fn a_welcome_is_judged_like_a_hello() {
    assert_eq!(answer(|_, _| {}).unwrap().protocol, 2);
    assert_eq!(answer(|_, m| *m = Message::Keepalive), Err(Reason::OutOfTurn));
    assert_eq!(answer(|e, _| e.cluster = ClusterId(1)), Err(Reason::WrongCluster));
    assert_eq!(answer(|e, _| e.content = ContentId(1)), Err(Reason::WrongContent));
    assert_eq!(answer(|e, _| e.session = Session(1)), Err(Reason::OutOfTurn));
    let set = |id| {
        move |_: &mut Envelope, m: &mut Message| {
            if let Message::Welcome { from, .. } = m {
                *from = InstanceId(id);
            }
        }
    };
    assert_eq!(answer(set(9)), Err(Reason::WrongInstance));
}

#[test]
fn a_welcome_must_choose_the_best_protocol_in_common() {
    let choose = |n| {
        move |_: &mut Envelope, m: &mut Message| {
            if let Message::Welcome { protocol, .. } = m {
                *protocol = n;
            }
        }
    };
    for n in [0, 1, 3] {
        assert_eq!(answer(choose(n)), Err(Reason::NoCommonVersion));
    }
}

#[test]
fn a_copy_may_take_larger_blocks_than_the_primary_sends_and_not_smaller_ones() {
    let cap = |bytes| {
        move |_: &mut Envelope, m: &mut Message| {
            if let Message::Welcome { abilities, .. } = m {
                abilities.max_block_bytes = bytes;
            }
        }
    };
    assert_eq!(answer(cap(u32::MAX)).unwrap().max_block_bytes, MAX_BLOCK_BYTES);
    assert_eq!(answer(cap(MAX_BLOCK_BYTES - 1)), Err(Reason::BlocksTooLarge));
}
