//! A primary and the folder of a copy, in memory; whoever uses the folder can be killed at any operation.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support: each test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_replica::control::{Control, Identity};
use outrigger_replica::member::{LendError, Lent};
use outrigger_replica::reading_back::read_back;
use outrigger_replica::rebuild::protocol::Ask;
use outrigger_replica::rebuild::{
    Ground, Lender, Next, Plan, RebuildError, Source, SourceOptions, Target,
};
use outrigger_replica::rules::Rules;
use outrigger_replica::store::kv::{ClientId, Op, OutcomeLimits, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Rows, Snapshot, StateStore, StoreError};
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Dir, Disk, DiskExt, FileId, Io, IoDone, IoFault, OpId};
use outrigger_wal::format::Block;
use outrigger_wal::recover::recover;
use outrigger_wal::verify::{VerifyOptions, verify};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Epoch, InstanceId, Log, LogId, LogOptions, Lsn, Micros,
    create,
};

pub const SEGMENT: u64 = 1 << 20;
pub const PRIMARY: InstanceId = InstanceId(10);
pub const COPY: InstanceId = InstanceId(20);

pub const fn identity(instance: InstanceId) -> Identity {
    Identity {
        cluster: ClusterId(1),
        content: ContentId(2),
        instance,
        log: LogId(4),
        segment_bytes: SEGMENT,
    }
}

/// A primary: log, store, and all it sealed.
pub struct Primary {
    pub disk: MemoryDisk,
    pub log: Log,
    pub store: Arc<MemoryStore>,
    pub blocks: Vec<Block>,
    /// The hash of the state at each place where a snapshot was taken.
    pub states: BTreeMap<Lsn, u128>,
    pub held: BTreeMap<u64, Lsn>,
    pub refuses: Option<LendError>,
    pub version: Version,
    sequence: u64,
}

impl Primary {
    pub fn new(epoch: u64) -> Self {
        let mut disk = MemoryDisk::new();
        let Identity { log, content, segment_bytes, .. } = identity(PRIMARY);
        create(&mut disk, &CreateOptions { log, content, segment_bytes }).unwrap();
        Self::open(disk, Arc::new(MemoryStore::new(OutcomeLimits::default())), epoch)
    }

    /// Goes on with a log and a store, in a reign of its own.
    pub fn open(mut disk: MemoryDisk, store: Arc<MemoryStore>, epoch: u64) -> Self {
        let control = Control { identity: identity(PRIMARY), ..Control::default() };
        let recovered = recover(&mut disk, &control.recover_options(Lsn::ZERO)).unwrap();
        let mut log = Log::new(recovered.unwrap(), LogOptions::default(), OpId(0));
        log.begin_epoch(Epoch { number: epoch, nonce: u128::from(epoch) + 100 }, PRIMARY).unwrap();
        let mut primary = Self {
            disk,
            log,
            store,
            blocks: Vec::new(),
            states: BTreeMap::new(),
            held: BTreeMap::new(),
            refuses: None,
            version: Version(5),
            sequence: 0,
        };
        primary.pump();
        primary
    }

    pub fn put(&mut self, key: &str, value: &[u8]) {
        let op =
            Op::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.to_vec().into() };
        self.sequence += 1;
        let write = Write { client: ClientId(7), sequence: self.sequence, op };
        assert!(self.log.appender().append(&write.encode().unwrap()).is_ok());
        self.pump();
    }

    /// Seals what is pending, makes it durable, commits and applies it.
    fn pump(&mut self) {
        let (mut sealed, mut out) = (Vec::new(), Vec::new());
        self.log.pump(Micros(0), &mut sealed, &mut out);
        while !out.is_empty() {
            for (op, io) in std::mem::take(&mut out) {
                let result = self.disk.blocking().run(io);
                assert!(self.log.done(Micros(0), op, &result, &mut out));
            }
            self.log.pump(Micros(0), &mut sealed, &mut out);
        }
        self.log.commit_is(self.log.durable());
        for block in &sealed {
            apply(&self.store, block);
        }
        self.blocks.append(&mut sealed);
    }

    /// Many rows, and some that are wide, so that the log has several segments.
    pub fn fill(&mut self, rows: u32) {
        for row in 0..rows {
            self.put(&format!("row-{row:05}"), format!("value {row} {:0100}", row).as_bytes());
        }
        for row in 0..6_u8 {
            self.put(&format!("wide-{row}"), &[row; 250_000]);
        }
    }
}

pub fn apply(store: &MemoryStore, block: &Block) {
    let records: Vec<_> = block.records().unwrap().map(Result::unwrap).collect();
    store.apply(&records).unwrap();
    store.advance(block.end());
}

impl Lender for Primary {
    fn lend(&mut self, _: InstanceId) -> Result<Lent, LendError> {
        if let Some(error) = &self.refuses {
            return Err(error.clone());
        }
        Ok(Lent {
            epoch: self.log.epoch(),
            version: self.version,
            coordinator_epoch: 1,
            commit: self.log.commit(),
            epochs: self.log.epochs().to_vec(),
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        let state = self.store.hash(&KeyRange::all())?;
        self.states.insert(state.at, state.hash);
        self.store.snapshot(&KeyRange::all())
    }

    fn about_bytes(&self) -> Option<u64> {
        self.store.about_bytes()
    }

    fn hold(&mut self, name: u64, from: Option<Lsn>) -> Lsn {
        match from {
            Some(from) => self.held.insert(name, from),
            None => self.held.remove(&name),
        };
        self.log.start()
    }

    fn read(&mut self, file: FileId, at: u64, len: u32) -> Result<Bytes, IoFault> {
        self.disk.blocking().read(file, at, len)
    }
}

/// How many operations a process still carries out before it is killed.
#[derive(Clone)]
pub struct Fuse(Arc<AtomicI64>);

impl Fuse {
    pub fn of(operations: i64) -> Self {
        Self(Arc::new(AtomicI64::new(operations)))
    }

    fn burns(&self) -> Result<(), IoFault> {
        if self.0.fetch_sub(1, Ordering::Relaxed) > 0 { Ok(()) } else { Err(IoFault::Closed) }
    }

    pub fn is_blown(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }
}

/// A disk that does nothing any more once its process is killed.
#[derive(Clone)]
pub struct Mortal {
    disk: MemoryDisk,
    fuse: Fuse,
    refused: Vec<OpId>,
}

impl Disk for Mortal {
    fn submit(&mut self, op: OpId, io: Io) {
        let reads = matches!(io, Io::Read { .. } | Io::Len(_) | Io::List(_));
        if !reads && self.fuse.burns().is_err() || self.fuse.is_blown() {
            self.refused.push(op);
        } else {
            self.disk.submit(op, io);
        }
    }

    fn reap(&mut self, wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        done.extend(self.refused.drain(..).map(|op| (op, Err(IoFault::Closed))));
        self.disk.reap(wait, done);
    }
}

/// The folder of a copy.
pub struct Folder {
    pub home: Mortal,
    pub made: Mortal,
    pub aside: MemoryDisk,
    pub store: Option<Arc<MemoryStore>>,
    pub made_store: Option<Arc<MemoryStore>>,
    pub aside_store: Option<Arc<MemoryStore>>,
    pub base_is_damaged: bool,
}

impl Default for Folder {
    fn default() -> Self {
        let mortal =
            || Mortal { disk: MemoryDisk::new(), fuse: Fuse::of(i64::MAX), refused: Vec::new() };
        Self {
            home: mortal(),
            made: mortal(),
            aside: MemoryDisk::new(),
            store: None,
            made_store: None,
            aside_store: None,
            base_is_damaged: false,
        }
    }
}

fn files(disk: &mut MemoryDisk) -> Vec<FileId> {
    let mut found = disk.blocking().list(Dir::Instance).unwrap().0;
    found.retain(|file| matches!(file, FileId::Control(_)));
    found.extend(disk.blocking().list(Dir::Log).unwrap().0);
    found
}

fn copy(from: &mut MemoryDisk, to: &mut MemoryDisk, file: FileId) {
    let len = from.blocking().len(file).unwrap().unwrap();
    let bytes = from.blocking().read(file, 0, u32::try_from(len).unwrap()).unwrap();
    let mut to = to.blocking();
    to.run(Io::Create(file)).unwrap();
    to.run(Io::Write { file, at: 0, parts: vec![bytes], dsync: true }).unwrap();
    from.blocking().remove(file).unwrap();
}

impl Folder {
    pub fn with_fuse(&mut self, fuse: &Fuse) {
        self.home.fuse = fuse.clone();
        self.made.fuse = fuse.clone();
    }

    /// The copy of a primary as it is now, which was told that it is in sync.
    pub fn copy_of(primary: &mut Primary) -> Self {
        let mut folder = Self::default();
        let mut disk = folder.home.disk.clone();
        for file in primary.disk.clone().blocking().list(Dir::Log).unwrap().0 {
            let len = primary.disk.blocking().len(file).unwrap().unwrap();
            let len = u32::try_from(len).unwrap();
            let bytes = primary.disk.blocking().read(file, 0, len).unwrap();
            disk.blocking().run(Io::Create(file)).unwrap();
            let write = Io::Write { file, at: 0, parts: vec![bytes], dsync: true };
            disk.blocking().run(write).unwrap();
        }
        let store = Arc::new(MemoryStore::new(OutcomeLimits::default()));
        for block in &primary.blocks {
            apply(&store, block);
        }
        store.checkpoint().unwrap();
        folder.store = Some(store);
        let epoch = primary.log.epoch();
        let promise =
            outrigger_wal::recover::Promise { epoch: epoch.number, lsn: primary.log.durable() };
        let control = Control {
            identity: identity(COPY),
            epoch,
            version: Version(4),
            durable: promise,
            commit: promise,
            in_sync: true,
            epochs: primary.log.epochs().to_vec(),
            ..Control::default()
        };
        control.create(&mut disk.blocking()).unwrap();
        folder
    }

    pub fn whole_store(&self) -> u128 {
        self.store.as_ref().unwrap().hash(&KeyRange::all()).unwrap().hash
    }

    pub fn is_unfinished(&self) -> bool {
        self.home.disk.clone().blocking().len(FileId::Rebuild).unwrap().is_some()
    }

    pub fn has_control(&self) -> bool {
        self.home.disk.clone().blocking().len(FileId::Control(0)).unwrap().is_some()
    }

    pub fn control(&self) -> Control {
        Control::read(&mut self.home.disk.clone().blocking()).unwrap().1
    }
}

impl Ground for Folder {
    fn home(&mut self) -> &mut dyn Disk {
        &mut self.home
    }

    fn made(&mut self) -> &mut dyn Disk {
        &mut self.made
    }

    fn begin(&mut self) -> Result<(), IoFault> {
        self.home.fuse.burns()?;
        self.made.disk = MemoryDisk::new();
        self.made_store = None;
        self.aside = MemoryDisk::new();
        self.aside_store = None;
        Ok(())
    }

    fn base(&mut self) -> Result<Option<Arc<dyn StateStore>>, StoreError> {
        if self.base_is_damaged {
            return Err(StoreError::Other { cause: "damaged".to_owned() });
        }
        Ok(self.store.clone().map(|store| store as Arc<dyn StateStore>))
    }

    fn fresh_store(&mut self) -> Result<Arc<dyn StateStore>, StoreError> {
        let killed = |fault: IoFault| StoreError::Other { cause: fault.to_string() };
        self.home.fuse.burns().map_err(killed)?;
        let store = Arc::new(MemoryStore::new(OutcomeLimits::default()));
        self.made_store = Some(Arc::clone(&store));
        Ok(store)
    }

    fn place(&mut self) -> Result<bool, IoFault> {
        self.home.fuse.burns()?;
        let (mut home, mut made) = (self.home.disk.clone(), self.made.disk.clone());
        // As folders do: what is not there yet is what is left to do.
        let new = files(&mut made);
        if let Some(store) = self.made_store.take() {
            self.aside_store = self.store.replace(store);
            return Ok(true);
        }
        let old = files(&mut home);
        let nothing_placed = self.aside.blocking().list(Dir::Instance).unwrap().0.is_empty()
            && self.aside.blocking().list(Dir::Log).unwrap().0.is_empty()
            && !old.iter().any(|file| !new.contains(file) && matches!(file, FileId::Control(_)));
        if nothing_placed && !new.is_empty() && !old.is_empty() && self.control_is_old() {
            for file in old {
                copy(&mut home, &mut self.aside, file);
            }
            return Ok(true);
        }
        let Some(file) = new.first().copied() else { return Ok(false) };
        copy(&mut made, &mut home, file);
        Ok(true)
    }

    fn clear(&mut self, keep_old: bool) -> Result<(), IoFault> {
        self.home.fuse.burns()?;
        self.made.disk = MemoryDisk::new();
        if !keep_old {
            self.aside = MemoryDisk::new();
            self.aside_store = None;
        }
        Ok(())
    }
}

impl Folder {
    /// Whether no part of the new log and control file is in place.
    fn control_is_old(&self) -> bool {
        let made = files(&mut self.made.disk.clone());
        made.contains(&FileId::Control(0)) && made.contains(&FileId::Control(1))
    }
}

/// Carries questions to a source and answers back.
pub struct Wire {
    pub source: Source,
    pub now: Micros,
    /// Questions so far, by name.
    pub asked: BTreeMap<&'static str, u32>,
    pub moved_bytes: u64,
}

impl Wire {
    pub fn new(seed: u64) -> Self {
        let source = Source::new(identity(PRIMARY), seed, SourceOptions::default());
        Self { source, now: Micros(0), asked: BTreeMap::new(), moved_bytes: 0 }
    }

    pub fn carry(&mut self, primary: &mut Primary, body: Bytes) -> Bytes {
        let ask = Ask::decode(body).unwrap();
        let name = match &ask {
            Ask::Open(_) => "open",
            Ask::List { .. } => "list",
            Ask::Chunk { .. } => "chunk",
            Ask::Log { .. } => "log",
            _ => "keep",
        };
        *self.asked.entry(name).or_default() += 1;
        let answer = self.source.answer(self.now, primary, ask).encode().unwrap();
        self.moved_bytes += answer.len() as u64;
        answer
    }

    /// Runs a rebuild to its end; `between` sees each answer first.
    pub fn run(
        &mut self,
        primary: &mut Primary,
        folder: &mut Folder,
        plan: Plan,
        mut between: impl FnMut(&mut Self, &mut Primary, &mut Target, Bytes) -> Bytes,
    ) -> Result<Target, RebuildError> {
        let mut target = Target::open(folder, plan)?;
        for _ in 0..100_000 {
            match target.next(self.now, folder)? {
                Next::Ready => return Ok(target),
                Next::Worked => {}
                Next::Wait(until) => {
                    assert!(until > self.now);
                    self.now = until;
                }
                Next::Ask(body) => {
                    let answer = self.carry(primary, body);
                    let answer = between(self, primary, &mut target, answer);
                    target.take(self.now, folder, answer)?;
                }
            }
        }
        panic!("it does not come to its end");
    }
}

pub fn plan() -> Plan {
    let mut plan = Plan::new(identity(COPY));
    plan.chunk_bytes = 4096;
    plan
}

pub fn as_it_is(_: &mut Wire, _: &mut Primary, _: &mut Target, answer: Bytes) -> Bytes {
    answer
}

/// The copy has the state the primary had, opens as a copy that is not in sync, and becomes the same as the primary
/// when it is brought the rest.
pub fn check_is_a_copy(primary: &mut Primary, folder: &mut Folder) -> Lsn {
    assert!(!folder.is_unfinished());
    let store = Arc::clone(folder.store.as_ref().unwrap());
    let at = store.checkpointed();
    assert_eq!(store.applied(), at);
    assert_eq!(Some(&folder.whole_store()), primary.states.get(&at), "not the primary's state");

    let mut disk = folder.home.disk.clone();
    let report = verify(&mut disk, &VerifyOptions::default()).unwrap();
    assert!(report.is_sound() && report.tail.is_none(), "{report:?}");
    let (_, mut control) = Control::open(&mut disk.blocking()).unwrap();
    assert!(!control.in_sync && control.truncating.is_none());
    assert_eq!(control.identity, identity(COPY));
    let found = read_back(&mut disk, &mut control, at, Rules::all(), None).unwrap().unwrap();
    assert!(found.start <= at && at <= found.end && found.end <= primary.log.durable());
    assert_eq!((found.floor, control.commit.lsn), (found.end, found.end));
    let end = found.end;
    let mut log = Log::new(found, LogOptions::default(), OpId(0));
    let (mut none, mut out) = (Vec::new(), Vec::new());
    for block in primary.blocks.iter().filter(|block| block.end() > at) {
        if block.lsn() >= end {
            log.receive(Micros(0), block.clone()).unwrap();
        }
        apply(&store, block);
        log.pump(Micros(0), &mut none, &mut out);
        while !out.is_empty() {
            for (op, io) in std::mem::take(&mut out) {
                let result = disk.blocking().run(io);
                assert!(log.done(Micros(0), op, &result, &mut out));
            }
            log.pump(Micros(0), &mut none, &mut out);
        }
    }
    assert_eq!((log.durable(), log.hash()), (primary.log.durable(), primary.log.hash()));
    let (mine, theirs) = (store.hash(&KeyRange::all()), primary.store.hash(&KeyRange::all()));
    assert_eq!(mine.unwrap(), theirs.unwrap());
    assert_eq!(store.count().unwrap(), primary.store.count().unwrap());
    at
}
