//! What operators, clients and new instances get from the coordinator.

mod support;

use outrigger_cluster::coordinator::{CATALOG, In};
use outrigger_cluster::operator::{Answer, CopyRole, Loss, Registration, Request};
use outrigger_net::config::Version;
use outrigger_net::message::{Envelope, Message, Role};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ClusterId, ContentId, InstanceId, Lsn};
use support::{
    A, B, C, CLUSTER, CONTENT, OPERATOR, World, create, epoch, next, pair, registration,
};

const PROMOTE: Request = Request::Promote { content: CONTENT, loss: Loss::None };

#[test]
fn a_content_whose_primary_is_gone_is_failed_over_to_its_in_sync_copy() {
    let mut world = World::with_pair();
    let b = world.connect(B);
    world.report(B, epoch(1), 4_000, None);
    let answer = world.ask(&PROMOTE);
    let config = world.config();
    let Answer::Promoted { primary, epoch: reign, version, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((primary, reign.number, version), (B, 2, Version(6)));
    assert_eq!((config.primary, config.epoch), (B, reign));
    assert!(config.in_sync(A), "the old primary leaves later, by S2");
    assert_eq!(config.copy(B).unwrap().durable.lsn, Lsn(4_000), "it carries the floor");
    assert_ne!(reign.nonce, epoch(1).nonce);
    assert_eq!(world.pushed(b), [5, 6]);
    assert_eq!(world.coordinator.counters().promotions, 1);
}

#[test]
fn a_content_whose_primary_is_in_touch_is_not_failed_over() {
    let mut world = World::with_pair();
    world.connect(A);
    world.connect(B);
    let text = world.denied(&PROMOTE);
    assert!(text.contains("is alive and in touch"), "{text}");
    world.step(In::Closed(LinkId(0xA)));
    assert!(matches!(world.ask(&PROMOTE), Answer::Promoted { .. }));
}

#[test]
fn a_primary_that_fell_silent_is_out_of_touch() {
    let mut world = World::with_pair();
    world.connect(A);
    world.connect(B);
    world.pass(2_900);
    world.say(LinkId(0xB), Message::Keepalive);
    assert!(world.denied(&PROMOTE).contains("in touch"));
    world.pass(200);
    assert!(matches!(world.ask(&PROMOTE), Answer::Promoted { .. }));
}

#[test]
fn a_copy_that_may_lack_commits_is_not_promoted() {
    let alone = next(&pair(), |new| new.copies[1].in_sync = false);
    let mut world = World::new(vec![create(alone.clone())]);
    world.connect(B);
    let text = world.denied(&PROMOTE);
    assert!(text.contains("is not in sync and may lack commits"), "{text}");
    assert_eq!(world.config(), alone);
}

/// A copy had everything, lost its disk, and starts with an empty log. Whoever accepts a loss before it has said so would
/// have an end recorded that it does not have, and it would never reign; and a loss is told that is smaller than it is.
#[test]
fn a_loss_is_accepted_by_what_a_copy_says_now_and_not_by_what_it_had() {
    let alone = next(&pair(), |new| new.copies[1].in_sync = false);
    let mut world = World::new(vec![create(alone)]);
    world.connect(B);
    world.report(B, epoch(1), 4_000, None);
    world.step(In::Closed(LinkId(0xB)));
    let promote = Request::Promote { content: CONTENT, loss: Loss::AcceptedAndFenced };
    world.connect(B);
    let text = world.denied(&promote);
    assert!(text.contains("has not said yet where its log"), "{text}");
    world.report(B, epoch(0), 0, None);
    let answer = world.ask(&promote);
    assert!(matches!(answer, Answer::Promoted { primary: B, .. }), "{answer:?}");
    assert_eq!(world.config().loss.map(|loss| loss.end), Some(Lsn(0)));
}

#[test]
fn a_copy_that_is_out_of_touch_is_not_promoted() {
    let mut world = World::with_pair();
    let text = world.denied(&PROMOTE);
    assert!(text.contains("in sync and not in touch: start it"), "{text}");
}

#[test]
fn nothing_is_failed_over_before_a_living_primary_would_have_been_heard() {
    let mut world = World::asleep(vec![create(pair())]);
    world.begin(3);
    world.apply();
    world.connect(B);
    let text = world.denied(&PROMOTE);
    assert!(text.contains("ask again"), "{text}");
    assert_eq!(world.config(), pair());
}

#[test]
fn what_there_is_not_cannot_be_promoted() {
    let mut world = World::with_pair();
    assert!(
        world
            .denied(&Request::Promote { content: CATALOG, loss: Loss::None })
            .contains("activate-standby")
    );
    let unknown = Request::Promote { content: ContentId(8), loss: Loss::None };
    assert!(world.denied(&unknown).contains("no content 8"));
    let single = outrigger_cluster::authority::first_config(A, vec!["a:1".to_owned()]);
    let mut world = World::new(vec![create(single)]);
    assert!(world.denied(&PROMOTE).contains("no other copy"));
}

#[test]
fn a_promotion_that_meets_another_change_is_refused_when_it_is_decided() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    world.connect(B);
    let without_b = next(&pair(), |new| new.copies[1].in_sync = false);
    world.say(a, Message::CompareAndSwap { op: 1, seen: Version(5), new: without_b.clone() });
    world.step(In::Closed(a));
    // The shrink waits in the log before the promotion: B may lack what A commits after it.
    let text = world.denied(&PROMOTE);
    assert!(text.contains("changed meanwhile"), "{text}");
    assert_eq!(world.config().primary, A);
    assert!(!world.config().in_sync(B));
}

#[test]
fn the_first_instance_of_a_content_becomes_its_primary_the_second_a_copy_that_is_not_in_sync() {
    let mut world = World::new(vec![]);
    let Answer::Registered(first) = world.register(A) else { panic!("not admitted") };
    assert_eq!((first.cluster, first.segment_bytes), (CLUSTER, 1 << 20));
    assert_eq!((first.config.primary, first.config.version), (A, Version(1)));
    assert_eq!(first.coordinator_epoch, 3);
    let Answer::Registered(second) = world.register(B) else { panic!("not admitted") };
    assert_eq!(second.log, first.log, "copies of one log");
    assert!(second.config.in_sync(A) && !second.config.in_sync(B));
    assert_eq!(second.config.version, Version(2));
    let again = world.register(B);
    assert_eq!(again, Answer::Registered(second), "asking again changes nothing");
    let text = match world.register(C) {
        Answer::Denied { text } => text,
        other => panic!("{other:?}"),
    };
    assert!(text.contains("has its 2 copies"), "{text}");
}

#[test]
fn two_instances_that_register_at_once_are_both_admitted() {
    let mut world = World::new(vec![]);
    world.hello(OPERATOR, Role::Operator, InstanceId::default());
    for (op, instance) in [(101, A), (102, B)] {
        let body = Request::Register(registration(instance)).encode().unwrap();
        world.say(OPERATOR, Message::Request { op, body });
    }
    assert_eq!(world.waiting.len(), 2);
    world.apply();
    assert!(matches!(world.answer(101), Some(Answer::Registered(_))));
    assert!(matches!(world.answer(102), Some(Answer::Registered(_))));
    assert_eq!(world.config().copies.len(), 2);
}

#[test]
fn an_instance_that_moved_tells_where_it_is_now() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    let addresses = vec!["new-host:1".to_owned(), "new-host:2".to_owned()];
    let moved = Registration { addresses: addresses.clone(), ..registration(B) };
    let Answer::Registered(place) = world.ask(&Request::Register(moved)) else {
        panic!("not admitted")
    };
    assert_eq!(place.config.copy(B).unwrap().addresses, addresses);
    assert!(place.config.in_sync(B), "nothing else changes");
    assert_eq!(world.pushed(a), [5, 6], "its primary learns where to dial");
}

#[test]
fn a_registration_that_makes_no_sense_is_refused() {
    let mut world = World::with_pair();
    let registrations = [
        Registration { content: CATALOG, ..registration(C) },
        Registration { instance: InstanceId::default(), ..registration(C) },
        Registration { addresses: vec![], ..registration(C) },
        Registration { addresses: vec![String::new()], ..registration(C) },
        Registration { content: ContentId(1), ..registration(A) },
        Registration { segment_bytes: 1 << 21, ..registration(B) },
        Registration { content: ContentId(1), segment_bytes: 12345, ..registration(C) },
    ];
    let before = world.catalog.read(|state| state.clone());
    for registration in registrations {
        world.denied(&Request::Register(registration));
    }
    assert_eq!(world.catalog.read(|state| state.clone()), before);
}

#[test]
fn the_state_shows_every_copy_and_how_far_it_is() {
    let mut world = World::with_pair();
    world.connect(A);
    world.report(A, epoch(1), 10_000, None);
    world.connect(B);
    world.report(B, epoch(1), 4_000, None);
    world.step(In::Closed(LinkId(0xB)));
    let Answer::State(state) = world.ask(&Request::State) else { panic!("no state") };
    assert_eq!((state.cluster, state.coordinator_epoch), (CLUSTER, 3));
    let content = state.contents.iter().find(|row| row.content == ContentId(0)).unwrap();
    assert_eq!((content.version, content.epoch, content.primary), (Version(5), epoch(1), A));
    let [a, b] = &content.copies[..] else { panic!("two copies") };
    assert_eq!((a.role, a.in_sync, a.in_touch), (CopyRole::Primary, true, true));
    assert_eq!((a.durable, a.commit, a.lag_bytes), (Lsn(10_000), Lsn(10_000), 0));
    assert_eq!((b.role, b.in_sync, b.in_touch), (CopyRole::Mirror, true, false));
    assert_eq!((b.durable, b.lag_bytes), (Lsn(4_000), 6_000));
}

#[test]
fn recovery_says_what_is_waited_for() {
    let alone = next(&pair(), |new| new.copies[1].in_sync = false);
    let mut world = World::new(vec![create(alone)]);
    let recover = Request::Recover { content: CONTENT };
    let said = |world: &mut World| match world.ask(&recover) {
        Answer::Recovery { done, text, .. } => (done, text),
        other => panic!("{other:?}"),
    };
    let (done, text) = said(&mut world);
    assert!(!done && text.contains("the primary") && text.contains("start its instance"), "{text}");
    world.connect(A);
    world.connect(B);
    let (done, text) = said(&mut world);
    assert!(!done && text.contains("is brought in sync by its primary"), "{text}");
    let (done, text) = said(&mut World::with_pair());
    assert!(done && text.contains("all copies are in sync"), "{text}");
    assert!(world.denied(&Request::Recover { content: ContentId(5) }).contains("no content 5"));
}

#[test]
fn a_client_that_knows_no_cluster_finds_the_primary_and_may_not_command() {
    let mut world = World::with_pair();
    let link = LinkId(500);
    let nameless =
        Envelope { cluster: ClusterId::default(), content: CATALOG, ..world.envelope(link) };
    world.frame(link, nameless, support::hello(Role::Client, InstanceId::default()));
    for (op, request) in [(1, Request::LookUp { content: CONTENT }), (2, PROMOTE)] {
        let body = request.encode().unwrap();
        world.frame(link, nameless, Message::Request { op, body });
    }
    world.frame(link, nameless, Message::Request { op: 3, body: bytes::Bytes::from_static(b"?") });
    let answers: Vec<_> = world
        .sent(link)
        .into_iter()
        .filter_map(|message| match message {
            Message::Response { op, body } => Some((op, Answer::decode(&body).unwrap())),
            _ => None,
        })
        .collect();
    let [(1, Answer::Found(place)), (2, Answer::Denied { .. }), (3, Answer::Denied { .. })] =
        &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!((place.cluster, place.config.primary), (CLUSTER, A));
    assert!(world.waiting.is_empty());
}

#[test]
fn an_operator_of_another_cluster_is_refused() {
    let mut world = World::with_pair();
    let foreign = Envelope { cluster: ClusterId(7), ..world.envelope(OPERATOR) };
    world.frame(OPERATOR, foreign, support::hello(Role::Operator, InstanceId::default()));
    assert_eq!(world.refusal(OPERATOR), Some(outrigger_net::message::Reason::WrongCluster));
}

#[test]
fn a_catalog_that_takes_nothing_denies_in_words() {
    let mut world = World::with_pair();
    world.connect(B);
    world.hello(OPERATOR, Role::Operator, InstanceId::default());
    world.say(OPERATOR, Message::Request { op: 7, body: PROMOTE.encode().unwrap() });
    world.waiting.clear();
    let ticket = world.out.iter().find_map(|out| match out {
        outrigger_cluster::coordinator::Out::Append { ticket, .. } => Some(*ticket),
        _ => None,
    });
    world.step(In::NotAppended { ticket: ticket.unwrap(), text: "the disk is full".to_owned() });
    let Some(Answer::Denied { text }) = world.answer(7) else { panic!("not denied") };
    assert!(text.contains("the disk is full"), "{text}");
}
