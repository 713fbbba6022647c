//! What a peer claims about a log, when it cannot be: a refusal to that peer, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_net::message::{Abilities, Envelope, History, Message, Role as Caller, Session};
use outrigger_replica::control::{Control, Identity};
use outrigger_replica::member::{Event, In, LinkId, Member, MemberOptions, Out, Role};
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Disk, DiskExt};
use outrigger_wal::recover::{Promise, RecoverOptions, recover};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Epoch, InstanceId, LogId, Lsn, Micros, create,
};

const CLUSTER: ClusterId = ClusterId(9);
const CONTENT: ContentId = ContentId(0);
const LOG: LogId = LogId(77);
const ME: InstanceId = InstanceId(1);
const PEER: InstanceId = InstanceId(2);

/// A member over a disk in memory; what it asks of others is kept.
struct World {
    member: Member,
    disk: MemoryDisk,
    now: u64,
    said: Vec<Out>,
}

impl World {
    /// It reigns; its log holds some blocks of three pages each, none of them in memory any more.
    fn reigning() -> Self {
        let mut disk = MemoryDisk::new();
        let segment_bytes = 1 << 20;
        create(&mut disk, &CreateOptions { log: LOG, content: CONTENT, segment_bytes }).unwrap();
        let identity =
            Identity { cluster: CLUSTER, content: CONTENT, instance: ME, log: LOG, segment_bytes };
        let control = Control { identity, in_sync: true, ..Control::default() };
        control.create(&mut disk.blocking()).unwrap();
        let control = Control::open(&mut disk.blocking()).unwrap();
        let options = RecoverOptions {
            log: Some(LOG),
            content: Some(CONTENT),
            segment_bytes: Some(segment_bytes),
            instance: ME,
            promises: control.1.promises(),
            ..RecoverOptions::default()
        };
        let recovered = recover(&mut disk, &options).unwrap().unwrap();
        let mut options = MemberOptions::default();
        options.log.tail_bytes = 0;
        let member =
            Member::new(recovered, control, Lsn::ZERO, 3, Rules::all(), options, Micros(1));
        let mut world = Self { member, disk, now: 1, said: Vec::new() };
        let copy = |instance| Copy {
            instance,
            addresses: Vec::new(),
            in_sync: instance == ME,
            held: false,
            durable: Promise::NONE,
        };
        let config = Config {
            version: Version(1),
            epoch: Epoch::NONE,
            primary: ME,
            copies: vec![copy(ME), copy(PEER)],
            rule: Rule::All,
            loss: None,
        };
        world.give(In::Config { config, coordinator_epoch: 1 });
        let asked = world.said.iter().find_map(|out| match out {
            Out::Swap { new, .. } => Some(new.clone()),
            _ => None,
        });
        world.give(In::Config { config: asked.unwrap(), coordinator_epoch: 1 });
        assert_eq!(world.member.role(), Role::Primary);
        for _ in 0..4 {
            assert!(world.member.appender().append_batch(&[&[7; 9_000]]).is_ok());
            world.give(In::Kick);
        }
        assert!(world.member.serving().is_some());
        world
    }

    /// Brings an event, and carries out what follows on the disk and in the store.
    fn give(&mut self, event: In) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.now += 10;
            let mut out = Vec::new();
            self.member.step(Micros(self.now), event, &mut out);
            for out in out {
                match out {
                    Out::Io(op, io) => self.disk.submit(op, io),
                    Out::Apply(blocks) => {
                        events.extend(blocks.last().map(|block| In::Applied(block.end())));
                    }
                    other => self.said.push(other),
                }
            }
            let mut done = Vec::new();
            self.disk.reap(None, &mut done);
            events.extend(done.into_iter().map(|(op, result)| In::Io(op, result)));
        }
    }

    fn hear(&mut self, link: LinkId, envelope: Envelope, message: Message) {
        self.give(In::Frame { link, envelope, message, body: Bytes::new() });
    }

    /// A place within the last block.
    fn within(&self) -> Lsn {
        Lsn(self.member.log().end().0 - 8192)
    }

    fn history(&self, end: Lsn) -> History {
        History { epochs: self.member.log().epochs().to_vec(), end, ..History::default() }
    }
}

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
