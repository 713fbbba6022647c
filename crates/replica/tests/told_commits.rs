//! A copy was told by a primary up to where its log is committed, further than the copy's own log reached. Then the
//! copy was promoted with that loss accepted, or followed another one that was: from then on its log holds other
//! blocks at the same LSNs. It took them for committed, since "0/500000 is committed" was still what it had been
//! told: blocks that no other copy held were applied, and the primary that had given its reign up committed beyond
//! the LSN that it had said it gave up at. Found by seed 967 of the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use bytes::{Bytes, BytesMut};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_net::message::{Abilities, Envelope, History, Message, Role as Caller, Session};
use outrigger_replica::member::{HandOver, In, LinkId, Out, Role};
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, Fetch, Lsn};
use world::{CLUSTER, CONTENT, LOG, ME, PEER, World};

/// Far beyond every log here.
const FAR: Lsn = Lsn(64 << 20);

/// The peer calls as the primary of `epoch`, and streams from where the log here ends.
fn followed(world: &mut World, link: LinkId, epoch: Epoch) -> Envelope {
    let session = Session(link.0);
    let envelope = Envelope {
        cluster: CLUSTER,
        content: CONTENT,
        epoch,
        coordinator_epoch: 1,
        version: Version(1),
        session,
    };
    let hello = Message::Hello {
        role: Caller::Primary,
        from: PEER,
        to: ME,
        log: LOG,
        abilities: Abilities::OURS,
        history: History::default(),
    };
    world.hear(link, envelope, hello);
    let (from, hash) = (world.member.log().end(), world.member.log().hash());
    world.hear(link, envelope, Message::Start { from, hash, in_sync: false });
    let ready = |out: &Out| matches!(out, Out::Send { link: on, message: Message::Ready { .. }, .. } if *on == link);
    assert!(world.said.iter().any(ready), "{:?}", world.said.last());
    envelope
}

/// The log of another copy that reigned in `epoch`: its blocks from the start.
fn another_history(ahead: u64) -> (Epoch, Message, Bytes) {
    let mut other = World::started_with_tail(8 << 20);
    let mut asked = other.elect();
    asked.epoch.number += ahead;
    let epoch = asked.epoch;
    let start = other.member.log().end();
    other.give(In::Config { config: asked, coordinator_epoch: 1 });
    assert!(other.member.appender().append_batch(&[&[7; 9_000]]).is_ok());
    other.give(In::Kick);
    let Ok(Fetch::Blocks(blocks)) = other.member.log().fetch(start, 1 << 20) else {
        panic!("it is in memory")
    };
    let lens = blocks.iter().map(|b| (b.header().true_len, b.header().stored_len)).collect();
    let mut body = BytesMut::new();
    blocks.iter().for_each(|block| body.extend_from_slice(block.stored()));
    (epoch, Message::Data { start, commit: start, keep: Lsn::ZERO, lens }, body.freeze())
}

/// The first primary said that all up to FAR is committed, and is gone with it. The second one streams blocks that
/// nobody else holds, and says so.
#[test]
fn what_one_primary_said_is_committed_counts_for_its_blocks_only() {
    let (epoch, data, body) = another_history(5);
    let mut world = World::started();
    let before = world.member.commit();
    let first = Epoch { number: 1, nonce: 1 };
    let envelope = followed(&mut world, LinkId(1), first);
    world.hear(LinkId(1), envelope, Message::Commit { commit: FAR, keep: Lsn::ZERO });
    world.give(In::Closed(LinkId(1)));
    let envelope = followed(&mut world, LinkId(2), epoch);
    world.give(In::Frame { link: LinkId(2), envelope, message: data, body });
    assert!(world.member.log().durable() > before, "{:?}", world.said.last());
    assert_eq!(world.member.commit(), before);
    // Said by that primary itself, it counts.
    let durable = world.member.log().durable();
    world.hear(LinkId(2), envelope, Message::Commit { commit: durable, keep: Lsn::ZERO });
    assert_eq!(world.member.commit(), durable);
}

/// A copy that was told FAR is promoted, grows by its peer, seals what the peer never held, and gives its reign up:
/// nothing of that becomes committed here.
#[test]
fn a_reign_that_is_given_up_commits_nothing_that_an_earlier_primary_was_said_to_hold() {
    let mut world = World::started();
    let envelope = followed(&mut world, LinkId(1), Epoch { number: 1, nonce: 1 });
    world.hear(LinkId(1), envelope, Message::Commit { commit: FAR, keep: Lsn::ZERO });
    world.give(In::Closed(LinkId(1)));
    let copy = |instance| Copy {
        instance,
        addresses: Vec::new(),
        in_sync: instance == ME,
        held: false,
        durable: Promise::NONE,
    };
    let known = Config {
        version: Version(2),
        epoch: Epoch { number: 8, nonce: 8 },
        primary: ME,
        copies: vec![copy(ME), copy(PEER)],
        rule: Rule::All,
        loss: None,
    };
    world.give(In::Config { config: known.clone(), coordinator_epoch: 1 });
    assert_eq!(world.member.role(), Role::Primary);
    let mut both = Config { version: known.version.next(), ..known };
    both.copies[1].in_sync = true;
    world.give(In::Config { config: both.clone(), coordinator_epoch: 1 });
    let committed = world.member.commit();
    assert!(world.member.appender().append_batch(&[&[7; 9_000]]).is_ok());
    world.give(In::Kick);
    assert!(world.member.log().durable() > committed);
    assert_eq!(world.member.commit(), committed, "the peer does not hold it");
    world.give(In::GiveUp(HandOver {
        to: PEER,
        at_most_millis: 100,
        epoch: both.epoch,
        version: both.version,
        coordinator_epoch: 1,
    }));
    assert_eq!(world.member.role(), Role::Mirror);
    assert_eq!(world.member.commit(), committed);
    let said = |out: &Out| matches!(out, Out::GaveUp { at, .. } if *at == committed);
    assert!(world.said.iter().any(said), "{:?}", world.said.last());
}
