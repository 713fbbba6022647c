//! What a peer claims about a log, when it cannot be: a refusal to that peer, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use outrigger_net::message::{Abilities, Envelope, History, Message, Role as Caller, Session};
use outrigger_replica::member::{Event, In, LinkId, Out, Role};
use outrigger_wal::{Epoch, Lsn};
use world::{CLUSTER, CONTENT, LOG, ME, PEER, World};

/// A copy says that its log ends within a block of its primary's. The primary finds nothing there to compare
/// with: that copy cannot be continued, and everything else goes on.
#[test]
fn an_end_that_is_no_block_boundary_is_refused_and_the_primary_serves_on() {
    let mut world = World::reigning();
    let link = world.said.iter().rev().find_map(|out| match out {
        Out::Dial { link, .. } => Some(*link),
        _ => None,
    });
    let link = link.unwrap();
    world.give(In::Connected(link));
    let envelope = world.said.iter().rev().find_map(|out| match out {
        Out::Send { envelope, message: Message::Hello { .. }, .. } => Some(*envelope),
        _ => None,
    });
    let welcome = Message::Welcome {
        from: PEER,
        protocol: Abilities::OURS.protocols.1,
        abilities: Abilities::OURS,
        history: world.history(world.within()),
    };
    world.hear(link, envelope.unwrap(), welcome);
    let refused = |out: &Out| matches!(out, Out::Event(Event::NeedsCopy { .. }));
    assert!(world.said.iter().any(refused), "{:?}", world.said.last());
    assert_eq!(world.member.role(), Role::Primary);
    let commit = world.member.commit();
    assert!(world.member.appender().append_batch(&[b"it goes on"]).is_ok());
    world.give(In::Kick);
    assert!(world.member.commit() > commit && world.member.serving().is_some());
}

/// A restarted primary asks a copy for the tail from a place within a block, or from behind its end. The
/// copy refuses, and is there for the next one who calls.
#[test]
fn a_fetch_from_no_block_boundary_is_refused_and_the_copy_goes_on() {
    for behind in [0, 1 << 30] {
        let mut world = World::reigning();
        let config = world.member.config().unwrap();
        let mut envelope = Envelope {
            cluster: CLUSTER,
            content: CONTENT,
            epoch: Epoch { number: 9, nonce: 9 },
            coordinator_epoch: 1,
            version: config.version,
            session: Session(5),
        };
        for call in 1..3 {
            envelope.session = Session(call);
            let link = LinkId(call * 2);
            let hello = Message::Hello {
                role: Caller::Primary,
                from: PEER,
                to: ME,
                log: LOG,
                abilities: Abilities::OURS,
                history: History::default(),
            };
            world.hear(link, envelope, hello);
            let greeted = |out: &Out| matches!(out, Out::Send { link: at, message: Message::Welcome { .. }, .. } if *at == link);
            assert!(world.said.iter().any(greeted), "call {call}: {:?}", world.said.last());
            let from = Lsn(world.within().0 + behind);
            world.hear(link, envelope, Message::Fetch { from, to: Lsn(u64::MAX) });
            let hung_up = |out: &Out| matches!(out, Out::Hangup(at) if *at == link);
            assert!(world.said.iter().any(hung_up), "call {call}: {:?}", world.said.last());
            assert_eq!(world.member.role(), Role::Mirror);
        }
    }
}
