//! A member over a disk in memory, stepped by the test itself.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_net::message::{Envelope, History, Message};
use outrigger_replica::control::{Control, Identity};
use outrigger_replica::member::{In, LinkId, Member, MemberOptions, Out, Role};
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Disk, DiskExt};
use outrigger_wal::recover::{Promise, RecoverOptions, recover};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Epoch, InstanceId, LogId, Lsn, Micros, create,
};

pub(crate) const CLUSTER: ClusterId = ClusterId(9);
pub(crate) const CONTENT: ContentId = ContentId(0);
pub(crate) const LOG: LogId = LogId(77);
pub(crate) const ME: InstanceId = InstanceId(1);
pub(crate) const PEER: InstanceId = InstanceId(2);

/// A member over a disk in memory; what it asks of others is kept.
pub(crate) struct World {
    pub(crate) member: Member,
    disk: MemoryDisk,
    now: u64,
    pub(crate) said: Vec<Out>,
}

impl World {
    /// It has just started; what it writes does not stay in memory.
    pub(crate) fn started() -> Self {
        Self::started_with_tail(0)
    }

    /// It has just started; so many bytes of its log stay in memory.
    pub(crate) fn started_with_tail(tail_bytes: u64) -> Self {
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
        options.log.tail_bytes = tail_bytes;
        let member =
            Member::new(recovered, control, Lsn::ZERO, 3, Rules::all(), options, Micros(1));
        Self { member, disk, now: 1, said: Vec::new() }
    }

    /// Told that it is primary, it asks for an epoch; what it asks for.
    pub(crate) fn elect(&mut self) -> Config {
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
        self.give(In::Config { config, coordinator_epoch: 1 });
        let asked = self.said.iter().find_map(|out| match out {
            Out::Swap { new, .. } => Some(new.clone()),
            _ => None,
        });
        asked.unwrap()
    }

    /// It reigns; its log holds some blocks of three pages each, none of them in memory any more.
    pub(crate) fn reigning() -> Self {
        let mut world = Self::started();
        let asked = world.elect();
        world.give(In::Config { config: asked, coordinator_epoch: 1 });
        assert_eq!(world.member.role(), Role::Primary);
        for _ in 0..4 {
            assert!(world.member.appender().append_batch(&[&[7; 9_000]]).is_ok());
            world.give(In::Kick);
        }
        assert!(world.member.serving().is_some());
        world
    }

    /// Brings an event, and carries out what follows on the disk and in the store.
    pub(crate) fn give(&mut self, event: In) {
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

    pub(crate) fn hear(&mut self, link: LinkId, envelope: Envelope, message: Message) {
        self.give(In::Frame { link, envelope, message, body: Bytes::new() });
    }

    /// A place within the last block.
    pub(crate) fn within(&self) -> Lsn {
        Lsn(self.member.log().end().0 - 8192)
    }

    pub(crate) fn history(&self, end: Lsn) -> History {
        History { epochs: self.member.log().epochs().to_vec(), end, ..History::default() }
    }
}
