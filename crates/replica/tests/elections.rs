//! Who reigns by which epoch, and who is called or heard: what a member makes of a configuration.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use outrigger_net::config::{Config, Loss, Version};
use outrigger_net::message::{
    Abilities, Envelope, History, Message, Reason, Role as Caller, Session,
};
use outrigger_replica::member::{Event, HandOver, In, LinkId, Out, Role};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, Lsn};
use world::{CLUSTER, CONTENT, LOG, ME, PEER, World};

fn recorded(world: &mut World, config: Config) {
    world.give(In::Config { config, coordinator_epoch: 1 });
}

fn changed(world: &World, change: impl FnOnce(&mut Config)) -> Config {
    let config = world.member.config().unwrap();
    let mut new = Config { version: config.version.next(), ..config.clone() };
    change(&mut new);
    new
}

/// The authority had promised a higher number already: it records the proposal under that. It is the proposer's reign
/// all the same, and with the recorded epoch.
#[test]
fn an_election_that_is_recorded_with_a_higher_number_is_won() {
    let mut world = World::started();
    let mut asked = world.elect();
    asked.epoch.number += 5;
    recorded(&mut world, asked.clone());
    assert_eq!(world.member.role(), Role::Primary);
    assert_eq!(world.member.epoch(), asked.epoch);
    assert_eq!(world.member.serving(), Some(asked.epoch));
}

/// Another nonce, or a lower number than was asked for, is somebody else's or an older one: it is asked for again.
#[test]
fn an_election_with_another_nonce_or_a_lower_number_is_not_won() {
    for (number, nonce) in [(0, 1), (5, 1), (-1, 0)] {
        let mut world = World::started();
        let mut asked = world.elect();
        asked.epoch.number = asked.epoch.number.saturating_add_signed(number);
        asked.epoch.nonce ^= nonce;
        recorded(&mut world, asked.clone());
        assert_eq!(world.member.role(), Role::Rising, "{number} {nonce}");
        let again = world.said.iter().rev().find_map(|out| match out {
            Out::Swap { new, .. } => Some(new.epoch),
            _ => None,
        });
        assert!(again.unwrap() != asked.epoch && again.unwrap().number > asked.epoch.number);
    }
}

/// The copies are [me, peer]; the peer is not in sync. Held out it is not called; let in again it is.
#[test]
fn a_copy_that_is_held_out_is_not_called() {
    let mut world = World::started();
    let mut asked = world.elect();
    asked.copies[1].held = true;
    recorded(&mut world, asked);
    assert_eq!(world.member.role(), Role::Primary);
    let calls = |world: &World| {
        world
            .said
            .iter()
            .filter(|out| matches!(out, Out::Dial { peer, .. } if *peer == PEER))
            .count()
    };
    assert_eq!(calls(&world), 0);
    let let_in = changed(&world, |new| new.copies[1].held = false);
    recorded(&mut world, let_in);
    assert_eq!(calls(&world), 1);
    // Held out again, and removed: the line ends, and no other is tried.
    let out_again = changed(&world, |new| new.copies[1].held = true);
    recorded(&mut world, out_again);
    assert!(matches!(world.said.last(), Some(Out::Hangup(_))), "{:?}", world.said.last());
    let removed = changed(&world, |new| new.copies.truncate(1));
    recorded(&mut world, removed);
    for _ in 0..10_000 {
        world.give(In::Kick);
    }
    assert_eq!(calls(&world), 1);
    assert!(world.member.serving().is_some());
    assert!(world.member.deadline().is_some_and(|at| at.0 > 0), "it would never sleep");
}

fn hello(world: &World, version: Version) -> (Envelope, Message) {
    let epoch = Epoch { number: world.member.epoch().number + 1, nonce: 9 };
    let envelope = Envelope {
        cluster: CLUSTER,
        content: CONTENT,
        epoch,
        coordinator_epoch: 1,
        version,
        session: Session(5),
    };
    let message = Message::Hello {
        role: Caller::Primary,
        from: PEER,
        to: ME,
        log: LOG,
        abilities: Abilities::OURS,
        history: History::default(),
    };
    (envelope, message)
}

/// A copy that is held out calls as a primary: refused. It was let in and promoted since, by a configuration that has not come
/// here yet: heard.
#[test]
fn a_call_of_a_copy_that_is_held_out_is_refused_unless_it_knows_better() {
    for newer in [false, true] {
        let mut world = World::reigning();
        let held = changed(&world, |new| new.copies[1].held = true);
        let version = if newer { held.version.next() } else { held.version };
        recorded(&mut world, held);
        let (envelope, message) = hello(&world, version);
        world.hear(LinkId(2), envelope, message);
        let refused = world.said.iter().any(|out| {
            matches!(
                out,
                Out::Send { message: Message::Refuse { reason: Reason::NotAMember, .. }, .. }
            )
        });
        assert_eq!(refused, !newer);
        assert_eq!(world.member.role() == Role::Mirror, newer);
    }
}

/// This copy is told to reign with a log that ends below what is recorded of it: refused. An operator accepts the loss: it
/// reigns, and its floor is where it ended, whatever epoch the older promise was of.
#[test]
fn an_accepted_loss_bounds_what_is_recorded_of_a_copy() {
    let mut world = World::started();
    let mut config = world.elect();
    let end = world.member.log().end();
    (config.primary, config.version) = (PEER, config.version.next());
    config.copies[1].in_sync = true;
    recorded(&mut world, config.clone());
    config.primary = ME;
    config.epoch = Epoch { number: 7, nonce: 7 };
    config.version = config.version.next();
    config.copies[0].durable = Promise { epoch: 6, lsn: Lsn(1 << 20) };
    recorded(&mut world, config.clone());
    let below = |out: &Out| matches!(out, Out::Event(Event::BelowFloor { .. }));
    assert!(world.said.iter().any(below) && world.member.role() == Role::Mirror);
    config.epoch = Epoch { number: 8, nonce: 8 };
    config.version = config.version.next();
    config.loss = Some(Loss { instance: ME, epoch: 8, end });
    (config.copies[1].in_sync, config.copies[1].held) = (false, true);
    recorded(&mut world, config.clone());
    assert_eq!(world.member.serving(), Some(config.epoch), "{:?}", world.said.last());
    // It bounds nothing that was promised in the new reign, or by another copy.
    assert_eq!(config.accepted(ME, 7), Some(end));
    assert_eq!(config.accepted(ME, 8), None);
    assert_eq!(config.accepted(PEER, 7), None);
}

fn refusals(world: &World) -> usize {
    world.said.iter().filter(|out| matches!(out, Out::NotHandedOver { .. })).count()
}

/// Who answers what: a copy that does not serve, another epoch or version, a deposed coordinator, a copy that is not in sync,
/// one that is not streamed to. Each is refused, and nothing freezes.
#[test]
fn a_hand_over_that_cannot_be_is_refused_and_nothing_freezes() {
    let mut starting = World::started();
    let any = HandOver {
        to: PEER,
        at_most_millis: 100,
        epoch: Epoch::NONE,
        version: Version(0),
        coordinator_epoch: 1,
    };
    starting.give(In::HandOver(any));
    assert_eq!(refusals(&starting), 1);

    let mut world = World::reigning();
    let both = changed(&world, |new| new.copies[1].in_sync = true);
    let version = both.version;
    let right = HandOver { epoch: both.epoch, version, ..any };
    let wrong = [
        HandOver { coordinator_epoch: 0, ..right },
        HandOver { version: version.next(), ..right },
        HandOver { epoch: Epoch { number: right.epoch.number + 1, ..right.epoch }, ..right },
        HandOver { epoch: Epoch { nonce: 0, ..right.epoch }, ..right },
        HandOver { to: ME, ..right },
        // In sync, and nothing streams to it.
        right,
    ];
    recorded(&mut world, both);
    for (refused, asked) in wrong.into_iter().enumerate() {
        world.give(In::HandOver(asked));
        assert_eq!(refusals(&world), refused + 1, "{asked:?}");
        assert_eq!(world.member.handing_over(), None);
        assert!(world.member.appender().append_batch(&[b"it goes on"]).is_ok());
    }
}
