//! Making logs block by block, so that a test can leave out, tear or flip what it likes.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file includes this module and uses a part of it; a test may panic"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_wal::disk::{Dir, Disk, DiskExt, FileId, Io};
use outrigger_wal::format::{
    Block, BlockBuilder, CleanMark, EpochBegin, EpochEntry, Kind, Open, RecordFlag, Seal,
    SegmentHead,
};
use outrigger_wal::recover::{Judging, Promise, Promises, RecoverOptions, Recovered, recover};
use outrigger_wal::{ContentId, Epoch, Error, InstanceId, LogId, Lsn, RunningHash};

pub(crate) const LOG: LogId = LogId(0x5EED);
pub(crate) const CONTENT: ContentId = ContentId(3);
pub(crate) const SEGMENT: u64 = 1 << 20;
pub(crate) const HERE: InstanceId = InstanceId(1);
pub(crate) const THERE: InstanceId = InstanceId(2);

/// A log in the making: seals blocks one behind the other, and writes none.
#[derive(Clone)]
pub(crate) struct Sealer {
    pub(crate) at: Lsn,
    pub(crate) hash: RunningHash,
    pub(crate) epoch: Epoch,
    pub(crate) durable: Lsn,
    pub(crate) commit: Lsn,
    pub(crate) epochs: Vec<EpochEntry>,
    pub(crate) blocks: Vec<Block>,
}

impl Sealer {
    pub(crate) fn new() -> Self {
        Self {
            at: Lsn::ZERO,
            hash: RunningHash::default(),
            epoch: Epoch::NONE,
            durable: Lsn::ZERO,
            commit: Lsn::ZERO,
            epochs: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// A log of one epoch, begun by `instance`.
    pub(crate) fn begun_by(instance: InstanceId) -> Self {
        let mut sealer = Self::new();
        sealer.begin(1, instance);
        sealer
    }

    pub(crate) fn seal(&self) -> Seal {
        Seal {
            log: LOG,
            lsn: self.at,
            epoch: self.epoch.number,
            hash_before: self.hash,
            durable: self.durable,
            commit: self.commit,
            sealed_micros: 1,
        }
    }

    pub(crate) fn push(&mut self, block: Block) -> Block {
        assert_eq!(block.lsn(), self.at);
        self.at = block.end();
        self.hash = block.hash_after();
        self.blocks.push(block.clone());
        block
    }

    fn head(&mut self) {
        if self.at.0.is_multiple_of(SEGMENT) {
            let head = SegmentHead {
                log: LOG,
                content: CONTENT,
                segment_bytes: SEGMENT,
                start: self.at,
                predecessor_end: self.at,
                predecessor_hash: self.hash,
                epochs: self.epochs.clone(),
            };
            self.push(Block::segment_head(&head, &self.seal()));
        }
    }

    pub(crate) fn begin(&mut self, number: u64, instance: InstanceId) -> Block {
        let previous = self.epoch;
        let nonce = u128::from(number) << 64 | instance.0;
        self.epoch = Epoch { number, nonce };
        let from = self.at;
        // An epoch that begins with a segment begins with its head.
        self.epochs.push(EpochEntry { epoch: self.epoch, start: from, instance });
        self.head();
        let begin = EpochBegin { epoch: self.epoch, instance, from, previous };
        self.push(Block::epoch_begin(&begin, &self.seal()))
    }

    pub(crate) fn open(&mut self, instance: InstanceId) -> Block {
        self.head();
        let open = Open { epoch: self.epoch, instance };
        self.push(Block::open_mark(&open, &self.seal()))
    }

    pub(crate) fn watermark(&mut self) -> Block {
        self.head();
        self.push(Block::watermark(&self.seal()))
    }

    /// A block with one record of `body_bytes` bytes, behind a Pad where it must be.
    pub(crate) fn data(&mut self, body_bytes: usize) -> Block {
        self.head();
        let mut builder = BlockBuilder::new();
        let fill = (self.at.0 / 4096 % 251) as u8 + 1;
        builder.push(&vec![fill; body_bytes], RecordFlag::Record);
        let extent = u64::from(builder.true_len()).next_multiple_of(4096);
        if self.room() < extent {
            self.pad();
            self.head();
        }
        let seal = self.seal();
        self.push(builder.seal(&seal))
    }

    pub(crate) fn room(&self) -> u64 {
        SEGMENT - self.at.0 % SEGMENT
    }

    pub(crate) fn pad(&mut self) -> Block {
        let extent = u32::try_from(self.room()).unwrap();
        self.push(Block::pad(extent, &self.seal()))
    }

    /// Everything sealed so far is durable and committed from here on.
    pub(crate) fn promise_all(&mut self) {
        self.durable = self.at;
        self.commit = self.at;
    }

    pub(crate) fn mark(&self) -> CleanMark {
        CleanMark { log: LOG, end: self.at, hash: self.hash }
    }

    /// Writes all blocks and syncs them, in as many prepared segments as are needed and one more.
    pub(crate) fn write(&self, disk: &mut dyn Disk) {
        prepare(disk, 0..=self.at.0 / SEGMENT + 1);
        for block in &self.blocks {
            write_block(disk, block);
        }
        sync(disk);
    }

    pub(crate) fn close(&self, disk: &mut dyn Disk) {
        write_mark(disk, &self.mark().encode());
    }

    pub(crate) fn control(&self) -> Promises {
        Promises { epochs: self.epochs.clone(), ..Promises::default() }
    }
}

/// Makes segments of zeros, durably.
pub(crate) fn prepare(disk: &mut dyn Disk, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let file = FileId::Segment(number);
        run(disk, Io::Create(file));
        let len = SEGMENT;
        run(disk, Io::Zero { file, at: 0, len });
        run(disk, Io::Sync(file));
    }
    run(disk, Io::SyncDir(Dir::Log));
}

pub(crate) fn run(disk: &mut dyn Disk, io: Io) {
    disk.blocking().run(io).unwrap();
}

pub(crate) fn write_at(disk: &mut dyn Disk, file: FileId, at: u64, bytes: &[u8]) {
    run(disk, Io::Write { file, at, parts: vec![Bytes::copy_from_slice(bytes)], dsync: false });
}

/// Writes a block in its place, its padding too.
pub(crate) fn write_block(disk: &mut dyn Disk, block: &Block) {
    let mut page = block.stored().to_vec();
    page.resize(page.len() + block.padding_bytes(), 0);
    write_bytes(disk, block.lsn(), &page);
}

/// Writes bytes at an LSN.
pub(crate) fn write_bytes(disk: &mut dyn Disk, lsn: Lsn, bytes: &[u8]) {
    write_at(disk, FileId::Segment(lsn.0 / SEGMENT), lsn.0 % SEGMENT, bytes);
}

pub(crate) fn write_mark(disk: &mut dyn Disk, bytes: &[u8]) {
    run(disk, Io::Create(FileId::CleanMark));
    write_at(disk, FileId::CleanMark, 0, bytes);
    run(disk, Io::Sync(FileId::CleanMark));
    run(disk, Io::SyncDir(Dir::Log));
}

/// Zeros from `from` up to `to`.
pub(crate) fn zero(disk: &mut dyn Disk, from: Lsn, to: Lsn) {
    write_bytes(disk, from, &vec![0; usize::try_from(to.since(from)).unwrap()]);
}

pub(crate) fn flip(disk: &mut dyn Disk, lsn: Lsn, bit: u8) {
    let file = FileId::Segment(lsn.0 / SEGMENT);
    let byte = disk.blocking().read(file, lsn.0 % SEGMENT, 1).unwrap()[0];
    write_bytes(disk, lsn, &[byte ^ 1 << bit]);
}

/// Makes every segment durable.
pub(crate) fn sync(disk: &mut dyn Disk) {
    let (ours, _) = disk.blocking().list(Dir::Log).unwrap();
    for file in ours {
        run(disk, Io::Sync(file));
    }
    run(disk, Io::SyncDir(Dir::Log));
}

/// The content of every file, saved ones included.
pub(crate) fn snapshot(disk: &mut dyn Disk) -> BTreeMap<FileId, Bytes> {
    let mut disk = disk.blocking();
    let mut files = BTreeMap::new();
    for dir in [Dir::Log, Dir::Saved] {
        for file in disk.list(dir).unwrap().0 {
            let len = disk.len(file).unwrap().unwrap();
            let bytes = disk.read(file, 0, u32::try_from(len).unwrap()).unwrap();
            files.insert(file, bytes);
        }
    }
    files
}

pub(crate) fn options(instance: InstanceId, promises: Promises) -> RecoverOptions {
    RecoverOptions {
        log: Some(LOG),
        content: Some(CONTENT),
        segment_bytes: Some(SEGMENT),
        instance,
        promises,
        cut: None,
        cut_hash: None,
        keep: Lsn::ZERO,
        progress: None,
        judging: Judging::default(),
    }
}

pub(crate) fn promise(epoch: u64, lsn: Lsn) -> Option<Promise> {
    Some(Promise { epoch, lsn })
}

/// Recovers, and checks that doing it again finds the same and changes nothing more.
pub(crate) fn recovered(disk: &mut dyn Disk, options: &RecoverOptions) -> Recovered {
    let first = recover(disk, options).unwrap().expect("there is a log");
    let before = snapshot(disk);
    let again = recover(disk, options).unwrap().expect("there is a log");
    assert_eq!(snapshot(disk), before, "the second time changed something");
    assert_eq!((again.torn, again.cut), (None, None));
    assert_eq!((again.end, again.hash), (first.end, first.hash));
    assert_eq!(again.epochs, first.epochs);
    assert_eq!(again.segments, first.segments);
    assert_eq!(again.index, first.index);
    first
}

/// The error of a recovery that must not change anything.
pub(crate) fn refused(disk: &mut dyn Disk, options: &RecoverOptions) -> Error {
    let before = snapshot(disk);
    let error = recover(disk, options).expect_err("this must be refused");
    assert_eq!(snapshot(disk), before, "a refusal changed something");
    error
}

/// Where the damage is.
pub(crate) fn damage_at(error: &Error) -> Lsn {
    match error {
        Error::Damage { lsn, promised, .. } => {
            assert!(promised >= lsn);
            *lsn
        }
        other => panic!("expected damage, not: {other}"),
    }
}

pub(crate) fn kinds(blocks: &[Block]) -> Vec<Kind> {
    blocks.iter().map(Block::kind).collect()
}
