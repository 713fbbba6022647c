//! The running log on the simulated disk, against a model.
//!
//! One seed is one story of several lives of a log. After each crash: every record that was durable
//! is read back, what is read back is a prefix of what was appended, and the log goes on from there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "each test file includes this module and uses a part of it")]

use std::collections::VecDeque;

use outrigger_sim::disk::SimDiskOptions;
use outrigger_sim::{Rng, SimDisk};
use outrigger_wal::disk::{Disk, IoFault, OpId};
use outrigger_wal::format::{Kind, RecordFlag};
use outrigger_wal::recover::{Promise, Promises, RecoverOptions, Recovered, recover};
use outrigger_wal::verify::{VerifyOptions, blocks, verify};
use outrigger_wal::{
    Appended, ContentId, CreateOptions, Epoch, Error, InstanceId, Log, LogId, LogOptions, Lsn,
    Micros, create,
};

pub(crate) const LOG: LogId = LogId(0xA11CE);
pub(crate) const CONTENT: ContentId = ContentId(5);
pub(crate) const HERE: InstanceId = InstanceId(9);
pub(crate) const SEGMENT: u64 = 1 << 20;

/// What was appended, in order.
pub(crate) struct Known {
    pub(crate) at: Appended,
    pub(crate) body: Vec<u8>,
    /// The first record of an atomic batch that this one belongs to.
    pub(crate) batch: Lsn,
}

/// A log, its disk, and everything that was done to it.
pub(crate) struct Story {
    pub(crate) rng: Rng,
    pub(crate) now: Micros,
    pub(crate) disk: SimDisk,
    pub(crate) handle: SimDisk,
    pub(crate) log: Log,
    pub(crate) known: VecDeque<Known>,
    /// What the control file would promise.
    pub(crate) promised: Option<Promise>,
    pub(crate) floor: Lsn,
    pub(crate) epoch: u64,
    pub(crate) next_body: u64,
    pub(crate) crashes: u64,
    pub(crate) torn: u64,
    pub(crate) deleted: u64,
}

pub(crate) fn options(rng: &mut Rng) -> LogOptions {
    let mut options = LogOptions::default();
    options.alone = true;
    options.max_writes_in_flight = usize::try_from(rng.range(1..5)).unwrap();
    options.target_block_bytes = u32::try_from(rng.range(200..100_000)).unwrap();
    options.max_write_bytes = rng.range(4096..(256 << 10));
    options.tail_bytes = rng.range(0..(256 << 10));
    options.idle_micros = 3_000;
    options
}

pub(crate) fn recover_options(promised: Option<Promise>) -> RecoverOptions {
    RecoverOptions {
        log: Some(LOG),
        content: Some(CONTENT),
        segment_bytes: Some(SEGMENT),
        instance: HERE,
        promises: Promises { durable: promised, ..Promises::default() },
        ..RecoverOptions::default()
    }
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork("story");
        let mut disk_options = SimDiskOptions::new(seed);
        disk_options.ordered_names = rng.chance(500);
        let disk = SimDisk::new(disk_options);
        let mut handle = disk.reopen();
        let made = CreateOptions { log: LOG, content: CONTENT, segment_bytes: SEGMENT };
        create(&mut handle, &made).unwrap();
        let recovered = recover(&mut handle, &recover_options(None)).unwrap().unwrap();
        let log = Log::new(recovered, options(&mut rng), OpId(0));
        let mut story = Self {
            rng,
            now: Micros(0),
            disk,
            handle,
            log,
            known: VecDeque::new(),
            promised: None,
            floor: Lsn::ZERO,
            epoch: 0,
            next_body: 0,
            crashes: 0,
            torn: 0,
            deleted: 0,
        };
        story.begin();
        story
    }

    pub(crate) fn begin(&mut self) {
        if self.log.epoch() == Epoch::NONE || self.rng.chance(300) {
            self.epoch = self.epoch.max(self.log.epoch().number) + 1;
            let epoch = Epoch { number: self.epoch, nonce: self.rng.u128() };
            self.log.begin_epoch(epoch, HERE).unwrap();
        } else {
            self.log.reopen(HERE).unwrap();
        }
    }

    /// Lets `micros` pass; carries out what the log asks for.
    pub(crate) fn step(&mut self, micros: u64) {
        self.now = self.now.plus(micros);
        self.disk.advance(self.now);
        let (mut done, mut sealed, mut out) = (Vec::new(), Vec::new(), Vec::new());
        self.handle.reap(None, &mut done);
        for (op, result) in done {
            assert!(self.log.done(self.now, op, &result, &mut out));
        }
        self.log.pump(self.now, &mut sealed, &mut out);
        for (op, io) in out {
            self.handle.submit(op, io);
        }
        if self.rng.chance(20) {
            let (epoch, lsn) = (self.log.epoch().number, self.log.durable());
            self.promised = Some(Promise { epoch, lsn });
        }
    }

    pub(crate) fn append(&mut self) {
        let bodies: Vec<Vec<u8>> = (0..self.batch_len()).map(|_| self.body()).collect();
        let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let whole = match self.log.appender().append_batch(&slices) {
            Ok(at) => at,
            Err(Error::RecordTooLarge { .. } | Error::Full { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mut start = whole.start;
        for body in bodies {
            let frame = outrigger_wal::format::record_frame_bytes(body.len());
            let end = start.saturating_add(frame);
            self.known.push_back(Known { at: Appended { start, end }, body, batch: whole.start });
            start = end;
        }
        assert_eq!(start, whole.end);
    }

    pub(crate) fn batch_len(&mut self) -> u64 {
        if self.rng.chance(100) { self.rng.range(2..6) } else { 1 }
    }

    pub(crate) fn body(&mut self) -> Vec<u8> {
        self.next_body += 1;
        let len = match self.rng.below(100) {
            0..5 => 0,
            5..80 => self.rng.below(300),
            80..97 => self.rng.below(20_000),
            _ => self.rng.below(1 + u64::from(self.log.appender().max_record_bytes())),
        };
        let stamp = self.next_body.to_le_bytes();
        (0..usize::try_from(len).unwrap()).map(|at| stamp[at % 8] ^ (at / 8) as u8).collect()
    }

    /// Ends the process or the machine's power, and recovers, with more crashes on the way.
    pub(crate) fn crash(&mut self) {
        let durable = self.log.durable();
        loop {
            self.crashes += 1;
            if self.rng.chance(500) {
                self.disk.kill();
            } else {
                self.disk.power_cut();
            }
            self.handle = self.disk.reopen();
            if self.rng.chance(300) {
                self.disk.crash_after(self.rng.below(30));
            }
            match recover(&mut self.handle, &recover_options(self.promised)) {
                Ok(recovered) => {
                    // A crash that was armed and did not come about.
                    if self.disk.is_crashed() {
                        continue;
                    }
                    self.disk.crash_after(u64::MAX);
                    let recovered = recovered.expect("a log is there");
                    self.go_on(recovered, durable);
                    return;
                }
                Err(Error::Io(IoFault::Closed)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn go_on(&mut self, recovered: Recovered, durable: Lsn) {
        assert!(recovered.end >= durable, "{} is lost, {durable} was durable", recovered.end);
        assert!(recovered.start <= self.floor.max(Lsn::ZERO));
        self.torn += u64::from(recovered.torn.is_some());
        let read = self.read_back(recovered.start, recovered.end);
        while self.known.front().is_some_and(|known| known.at.start < recovered.start) {
            self.known.pop_front();
        }
        let acked = self.known.iter().take_while(|known| known.at.end <= durable).count();
        assert!(read.len() >= acked, "{} of {acked} acked records are there", read.len());
        assert!(read.len() <= self.known.len());
        for (known, (at, body)) in self.known.iter().zip(&read) {
            assert_eq!(known.at, *at);
            assert!(known.body == *body, "another record at {}", at.start);
        }
        if let Some(next) = self.known.get(read.len()) {
            assert_eq!(next.batch, next.at.start, "half a batch is there");
        }
        self.known.truncate(read.len());
        assert!(verify(&mut self.handle, &VerifyOptions::default()).unwrap().is_sound());
        self.log = Log::new(recovered, options(&mut self.rng), OpId(0));
        self.begin();
    }

    pub(crate) fn read_back(&mut self, start: Lsn, end: Lsn) -> Vec<(Appended, Vec<u8>)> {
        let mut read = Vec::new();
        let mut at = start;
        for block in blocks(&mut self.handle, start).unwrap() {
            let block = block.unwrap();
            assert_eq!(block.lsn(), at);
            at = block.end();
            if block.kind() == Kind::Data {
                for record in block.records().unwrap() {
                    let record = record.unwrap();
                    assert_ne!(record.flag, RecordFlag::Void);
                    let place = Appended { start: record.lsn, end: record.end };
                    read.push((place, record.body.to_vec()));
                }
            }
        }
        assert_eq!(at, end);
        read
    }

    /// Appends until this much is durable, or a segment is, exactly, and nothing of the next one.
    pub(crate) fn fill(&mut self, to: Lsn) {
        while self.log.durable() < to
            || self.rng.chance(900) && !self.log.durable().0.is_multiple_of(SEGMENT)
        {
            let len = usize::try_from(self.rng.range(10_000..200_000)).unwrap();
            if let Ok(at) = self.log.appender().append(&vec![7; len]) {
                self.known.push_back(Known { at, body: vec![7; len], batch: at.start });
            }
            self.step(100);
        }
    }

    pub(crate) fn delete_some(&mut self) {
        let floor = self.rng.below(self.log.durable().0 + 1);
        self.delete_below(Lsn(floor));
    }

    pub(crate) fn delete_below(&mut self, floor: Lsn) {
        let mut out = Vec::new();
        let start = self.log.drop_below(floor, &mut out);
        assert!(start <= self.log.durable());
        self.deleted += u64::from(start > self.floor);
        self.floor = self.floor.max(start);
        for (op, io) in out {
            self.handle.submit(op, io);
        }
    }

    pub(crate) fn live(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.rng.below(100) {
                0..45 => self.append(),
                45..98 => {
                    let micros = self.rng.below(400);
                    self.step(micros);
                }
                98 => self.step(5_000),
                _ => self.delete_some(),
            }
        }
    }
}
