//! What instances get from the coordinator: recorded configurations, answers that hold, and refusals.

mod support;

use outrigger_cluster::coordinator::{Event, In, Out};
use outrigger_net::config::Config;
use outrigger_net::message::{Envelope, Message, Reason, Role, Session};
use outrigger_replica::member::LinkId;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, LogId, Lsn};
use support::{A, B, C, CONTENT, World, create, epoch, hello, next, pair};

fn ask(op: u64, seen: &Config, new: Config) -> Message {
    Message::CompareAndSwap { op, seen: seen.version, new }
}

#[test]
fn an_instance_is_told_its_configuration_when_it_connects_and_at_every_change() {
    let mut world = World::with_pair();
    let (a, b) = (world.connect(A), world.connect(B));
    assert_eq!((world.pushed(a), world.pushed(b)), (vec![5], vec![5]));
    world.say(a, ask(9, &pair(), next(&pair(), |new| new.epoch = epoch(2))));
    assert_eq!(world.pushed(b), [5], "nothing is told before it is applied");
    world.apply();
    assert_eq!(world.pushed(b), [5, 6]);
    let (won, current) = world.swapped(a, 9).unwrap();
    assert!(won && current.epoch == epoch(2));
    world.step(In::Closed(b));
    let again = LinkId(77);
    world.hello(again, Role::Instance, B);
    assert_eq!(world.pushed(again), [6], "again after it was gone");
}

#[test]
fn every_message_carries_cluster_content_epochs_version_and_session() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    let carried = world.out.iter().find_map(|out| match out {
        Out::Send { link, envelope, .. } if *link == a => Some(*envelope),
        _ => None,
    });
    let expected = Envelope {
        epoch: epoch(1),
        coordinator_epoch: 3,
        version: pair().version,
        session: Session(a.0),
        ..world.envelope(a)
    };
    assert_eq!(carried, Some(expected));
}

#[test]
fn a_question_is_answered_from_what_is_applied() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    world.say(a, ask(1, &pair(), next(&pair(), |new| new.epoch = epoch(2))));
    world.say(a, Message::ReadConfig { op: 2 });
    let answer = Message::ConfigIs { op: 2, config: Some(pair()) };
    assert!(world.sent(a).contains(&answer), "what waits to be applied is not recorded");
}

#[test]
fn of_two_swaps_that_wait_at_once_the_log_decides() {
    let mut world = World::with_pair();
    let (a, b) = (world.connect(A), world.connect(B));
    let of = |nonce| next(&pair(), |new| new.epoch = Epoch { number: 2, nonce });
    world.say(a, ask(1, &pair(), of(1)));
    world.say(a, ask(2, &pair(), of(2)));
    assert_eq!(world.waiting.len(), 2);
    assert_eq!(world.swapped(a, 1), None, "nothing is answered before it is applied");
    world.apply();
    let (first, second) = (world.swapped(a, 1).unwrap(), world.swapped(a, 2).unwrap());
    assert_eq!((first.0, second.0), (true, false));
    assert_eq!(first.1, second.1, "the loser is told what is recorded");
    assert_eq!(world.config().epoch.nonce, 1);
    assert_eq!(world.pushed(b), [5, 6]);
}

#[test]
fn a_swap_asked_for_again_is_logged_once_and_answered_to_the_last_question() {
    let mut world = World::with_pair();
    world.connect(A);
    let new = next(&pair(), |new| new.epoch = epoch(2));
    world.say(LinkId(0xA), ask(1, &pair(), new.clone()));
    world.step(In::Closed(LinkId(0xA)));
    let again = LinkId(81);
    world.hello(again, Role::Instance, A);
    world.say(again, ask(2, &pair(), new.clone()));
    assert_eq!(world.waiting.len(), 1);
    world.apply();
    assert!(world.swapped(again, 2).unwrap().0);
    world.say(again, ask(3, &pair(), new));
    assert!(world.swapped(again, 3).unwrap().0, "the answer was lost: it has won still");
    assert!(world.waiting.is_empty());
}

#[test]
fn a_swap_that_cannot_win_is_answered_at_once_and_not_logged() {
    let mut world = World::with_pair();
    let b = world.connect(B);
    let stolen = next(&pair(), |new| {
        new.primary = B;
        new.epoch = epoch(2);
    });
    world.say(b, ask(4, &pair(), stolen));
    assert_eq!(world.swapped(b, 4), Some((false, pair())));
    assert!(world.waiting.is_empty());
}

#[test]
fn reports_are_recorded_with_the_next_change() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    world.connect(B);
    world.report(B, epoch(1), 500, None);
    world.report(B, epoch(1), 400, None);
    assert!(world.waiting.is_empty(), "a report alone is not logged");
    world.say(a, ask(1, &pair(), next(&pair(), |new| new.epoch = epoch(2))));
    world.apply();
    assert_eq!(world.config().copy(B).unwrap().durable.lsn, Lsn(500));
    world.report(B, epoch(0), 900, None);
    let config = world.config();
    world.say(a, ask(2, &config, next(&config, |_| {})));
    world.apply();
    assert_eq!(world.config().copy(B).unwrap().durable.lsn, Lsn(500), "a lower epoch says nothing");
    world.report(B, epoch(2), 300, Some(300));
    let config = world.config();
    world.say(a, ask(3, &config, next(&config, |_| {})));
    world.apply();
    assert_eq!(world.config().copy(B).unwrap().durable.lsn, Lsn(300), "a cut lowers the floor");
    assert_eq!(world.coordinator.counters().stale_reports, 1);
}

/// A held 900, is cut to 300 for epoch 2 and is durable up to 700 in that, which commits rely on. Then the
/// report of the cut comes again, or only now: A tells it to each coordinator anew. The floor of A stays where its promise is (S6), also for the
/// coordinator that reads the catalog after a restart.
#[test]
fn a_report_of_a_cut_that_comes_late_or_twice_lowers_no_floor() {
    for first in [true, false] {
        let mut world = World::with_pair();
        let a = world.connect(A);
        world.report(A, epoch(1), 900, None);
        world.say(a, ask(1, &pair(), next(&pair(), |new| new.epoch = epoch(2))));
        world.apply();
        if first {
            world.report(A, epoch(2), 300, Some(300));
        }
        world.report(A, epoch(2), 700, None);
        world.report(A, epoch(2), 300, Some(300));
        let mut asked = 2;
        let mut record = |world: &mut World| {
            let config = world.config();
            world.say(a, ask(asked, &config, next(&config, |_| {})));
            world.apply();
            asked += 1;
            world.config().copy(A).unwrap().durable
        };
        let promise = Promise { epoch: 2, lsn: Lsn(700) };
        assert_eq!(record(&mut world), promise, "{first}");
        // Another reign of the coordinator: what was heard is in the catalog alone.
        world.step(In::Serving(None));
        world.begin(7);
        world.connect(A);
        world.report(A, epoch(2), 300, Some(300));
        assert_eq!(record(&mut world), promise, "{first}, after a restart");
        world.report(A, epoch(2), 800, None);
        assert_eq!(record(&mut world).lsn, Lsn(800));
    }
}

#[test]
fn whoever_has_no_place_here_is_refused_with_the_reason() {
    let link = LinkId(50);
    let at = |change: fn(&mut Envelope)| {
        let mut world = World::with_pair();
        let mut envelope = world.envelope(link);
        change(&mut envelope);
        world.frame(link, envelope, hello(Role::Instance, A));
        (world.refusal(link), world.hung_up(link), world.alarms())
    };
    let refused = |reason, alarms| (Some(reason), true, alarms);
    assert_eq!(at(|envelope| envelope.cluster = ClusterId(9)), refused(Reason::WrongCluster, 0));
    assert_eq!(
        at(|envelope| envelope.cluster = ClusterId::default()),
        refused(Reason::WrongCluster, 0)
    );
    assert_eq!(at(|envelope| envelope.content = ContentId(9)), refused(Reason::WrongContent, 0));
    assert_eq!(at(|envelope| envelope.coordinator_epoch = 4), refused(Reason::StaleCoordinator, 1));
    assert_eq!(at(|envelope| envelope.version.0 = 6), refused(Reason::StaleVersion, 1));
    assert_eq!(at(|envelope| envelope.epoch = epoch(2)), refused(Reason::StaleEpoch, 1));
    let foreign = |envelope: &mut Envelope| envelope.epoch = Epoch { number: 1, nonce: 1 };
    assert_eq!(at(foreign), refused(Reason::ForeignNonce, 1));
    assert_eq!(at(|envelope| envelope.epoch = epoch(1)), (None, false, 0));
    assert_eq!(at(|envelope| envelope.coordinator_epoch = 2), (None, false, 0));
}

#[test]
fn a_greeting_that_does_not_fit_is_refused_with_the_reason() {
    let greet = |message: Message| {
        let mut world = World::with_pair();
        world.say(LinkId(50), message);
        world.refusal(LinkId(50))
    };
    assert_eq!(greet(Message::Keepalive), Some(Reason::OutOfTurn));
    assert_eq!(greet(hello(Role::Instance, C)), Some(Reason::NotAMember));
    assert_eq!(greet(hello(Role::Primary, A)), Some(Reason::NotAMember));
    assert_eq!(greet(hello(Role::Operator, A)), Some(Reason::WrongContent));
    let other_log = match hello(Role::Instance, A) {
        Message::Hello { role, from, to, abilities, history, .. } => {
            Message::Hello { role, from, to, log: LogId(5), abilities, history }
        }
        other => other,
    };
    assert_eq!(greet(other_log), Some(Reason::WrongLog));
    let newer = match hello(Role::Instance, A) {
        Message::Hello { role, from, to, log, mut abilities, history } => {
            abilities.protocols = (7, 9);
            Message::Hello { role, from, to, log, abilities, history }
        }
        other => other,
    };
    assert_eq!(greet(newer), Some(Reason::NoCommonVersion));
}

#[test]
fn the_fence_holds_for_every_message_after_the_greeting() {
    let after = |change: fn(&mut Envelope)| {
        let mut world = World::with_pair();
        let a = world.connect(A);
        let mut envelope = world.envelope(a);
        change(&mut envelope);
        world.frame(a, envelope, Message::ReadConfig { op: 1 });
        assert!(!world.sent(a).iter().any(|sent| matches!(sent, Message::ConfigIs { op: 1, .. })));
        world.refusal(a)
    };
    assert_eq!(after(|envelope| envelope.session = Session(1)), Some(Reason::OutOfTurn));
    assert_eq!(after(|envelope| envelope.content = ContentId(1)), Some(Reason::WrongContent));
    assert_eq!(after(|envelope| envelope.cluster = ClusterId(1)), Some(Reason::WrongCluster));
    assert_eq!(after(|envelope| envelope.version.0 = 99), Some(Reason::StaleVersion));
    let mut world = World::with_pair();
    let a = world.connect(A);
    world.say(a, Message::Ready { at: Lsn(0) });
    assert_eq!(world.refusal(a), Some(Reason::OutOfTurn));
}

#[test]
fn it_serves_only_while_its_own_member_does() {
    let mut world = World::asleep(vec![create(pair())]);
    world.connect(A);
    assert_eq!(world.refusal(LinkId(0xA)), Some(Reason::NotReady));
    world.step(In::Serving(Some(epoch(3))));
    world.apply();
    let a = LinkId(60);
    world.hello(a, Role::Instance, A);
    world.say(a, ask(1, &pair(), next(&pair(), |new| new.epoch = epoch(2))));
    world.out.clear();
    world.step(In::Serving(None));
    assert!(world.hung_up(a));
    world.apply();
    assert_eq!(world.sent(a), [], "an outcome of a reign that is over is nobody's answer");
    world.step(In::Frame {
        link: LinkId(61),
        envelope: world.envelope(LinkId(61)),
        message: hello(Role::Instance, A),
    });
    assert_eq!(world.refusal(LinkId(61)), Some(Reason::NotReady));
}

#[test]
fn a_coordinator_over_the_catalog_of_another_cluster_does_not_serve() {
    let founded = outrigger_cluster::catalog::Change::Found { cluster: ClusterId(0xBAD) };
    let mut world = World::asleep(vec![founded, create(pair())]);
    world.step(In::Serving(Some(epoch(3))));
    assert_eq!((world.alarms(), world.coordinator.serving()), (1, None));
}

#[test]
fn an_instance_that_is_silent_is_hung_up_on_and_a_quiet_one_hears_something() {
    let mut world = World::with_pair();
    let (a, b) = (world.connect(A), world.connect(B));
    for _ in 0..4 {
        let due = world.coordinator.deadline().unwrap().since(world.now);
        world.now = world.now.plus(due);
        world.step(In::Tick);
        world.say(a, Message::Keepalive);
    }
    assert!(world.sent(a).contains(&Message::Keepalive));
    world.pass(2_000);
    assert!(world.hung_up(b) && !world.hung_up(a));
    let gone = Out::Event(Event::Gone { content: CONTENT, instance: B });
    assert!(world.out.contains(&gone));
}

#[test]
fn of_two_connections_of_one_instance_the_newest_counts() {
    let mut world = World::with_pair();
    let old = world.connect(A);
    world.hello(LinkId(70), Role::Instance, A);
    assert!(world.hung_up(old));
    world.say(LinkId(70), Message::ReadConfig { op: 5 });
    assert!(world.sent(LinkId(70)).contains(&Message::ConfigIs { op: 5, config: Some(pair()) }));
}

#[test]
fn a_swap_that_could_not_be_appended_can_be_asked_for_again() {
    let mut world = World::with_pair();
    let a = world.connect(A);
    let new = next(&pair(), |new| new.epoch = epoch(2));
    world.say(a, ask(1, &pair(), new.clone()));
    world.waiting.clear();
    let ticket = world.out.iter().find_map(|out| match out {
        Out::Append { ticket, .. } => Some(*ticket),
        _ => None,
    });
    world.step(In::NotAppended { ticket: ticket.unwrap(), text: "full".to_owned() });
    world.say(a, ask(2, &pair(), new));
    world.apply();
    assert!(world.swapped(a, 2).unwrap().0);
}

#[test]
fn an_instance_may_look_up_and_not_command() {
    use outrigger_cluster::operator::{Answer, Loss, Request};
    let mut world = World::with_pair();
    let a = world.connect(A);
    let request = |request: Request| Message::Request { op: 1, body: request.encode().unwrap() };
    world.say(a, request(Request::Promote { content: CONTENT, loss: Loss::None }));
    world.say(a, request(Request::LookUp { content: CONTENT }));
    let answers: Vec<_> = world
        .sent(a)
        .into_iter()
        .filter_map(|message| match message {
            Message::Response { body, .. } => Some(Answer::decode(&body).unwrap()),
            _ => None,
        })
        .collect();
    assert!(matches!(answers[..], [Answer::Denied { .. }, Answer::Found(_)]));
}
