//! What verify finds in a lone folder, and what a dump walks. The row numbers are those of
//! docs/recovery.md.
#![expect(clippy::unwrap_used, reason = "helpers of a test, which may panic")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Disk, FileId, Io, IoDone, IoFault, OpId};
use outrigger_wal::format::{Block, BlockHeader, COMPRESSION_ZSTD, CleanMark, HEADER_BYTES, Kind};
use outrigger_wal::verify::{Report, VerifyOptions, blocks, verify};
use outrigger_wal::{Error, LogId, Lsn, Micros};
use support::*;

fn report(disk: &mut dyn Disk) -> Report {
    verify(disk, &VerifyOptions::default()).unwrap()
}

/// The only finding there is.
fn finding(disk: &mut dyn Disk) -> (FileId, Lsn, String) {
    let mut findings = report(disk).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings.remove(0);
    (finding.file, finding.lsn, finding.cause)
}

/// A block whose payload is compressed, its extent larger than what is stored.
fn compressed(log: &Sealer) -> Block {
    let mut plain = outrigger_wal::format::BlockBuilder::new();
    plain.push(&[7; 20_000], outrigger_wal::format::RecordFlag::Record);
    let plain = plain.seal(&log.seal());
    let payload = zstd::bulk::compress(&plain.plain().unwrap(), 3).unwrap();
    let header = BlockHeader {
        compression: COMPRESSION_ZSTD,
        stored_len: u32::try_from(HEADER_BYTES + payload.len()).unwrap(),
        payload_crc: crc32fast::hash(&payload),
        ..*plain.header()
    };
    let stored = [header.encode(LOG).as_slice(), &payload].concat();
    Block::open(Bytes::from(stored), log.at, LOG).unwrap()
}

/// A closed log with every kind of block, over two segments.
fn closed() -> (Sealer, MemoryDisk) {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    let block = compressed(&log);
    log.push(block);
    log.open(HERE);
    log.promise_all();
    log.pad();
    log.begin(2, THERE);
    log.data(3);
    log.watermark();
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    log.close(&mut disk);
    (log, disk)
}

// V1
#[test]
fn a_sound_log_is_counted_and_left_alone() {
    let (log, mut disk) = closed();
    let before = snapshot(&mut disk);
    let found = report(&mut disk);
    assert_eq!(snapshot(&mut disk), before);
    let stored: usize = log.blocks.iter().map(|block| block.stored().len()).sum();
    assert!(found.is_sound() && found.clean && found.tail.is_none());
    assert_eq!((found.blocks, found.records), (log.blocks.len() as u64, 3));
    assert_eq!(found.bytes, stored as u64);
    assert_eq!((found.start, found.end, found.hash), (Lsn::ZERO, log.at, log.hash));
    assert_eq!((found.log, found.content), (Some(LOG), Some(CONTENT)));
    assert_eq!((found.epochs, found.segments), (log.epochs, vec![0, 1, 2]));
}

/// Segment files that are read without a copy, and a mark.
struct Frozen {
    segments: Vec<Bytes>,
    mark: Bytes,
    done: Vec<(OpId, Result<IoDone, IoFault>)>,
}

impl Disk for Frozen {
    fn submit(&mut self, op: OpId, io: Io) {
        let of = |file| match file {
            FileId::Segment(number) => &self.segments[usize::try_from(number).unwrap()],
            _ => &self.mark,
        };
        let numbers = 0..self.segments.len() as u64;
        let done = match io {
            Io::List(_) => IoDone::Files {
                ours: numbers.map(FileId::Segment).chain([FileId::CleanMark]).collect(),
                foreign: Vec::new(),
            },
            Io::Len(file) => IoDone::Len(Some(of(file).len() as u64)),
            Io::Read { file, at, len } => {
                let bytes = of(file);
                let from = usize::try_from(at).unwrap().min(bytes.len());
                let to = (from + len as usize).min(bytes.len());
                IoDone::Bytes(bytes.slice(from..to))
            }
            other => panic!("verify must not do {other:?}"),
        };
        self.done.push((op, Ok(done)));
    }

    fn reap(&mut self, _wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        done.append(&mut self.done);
    }
}

/// A closed log with every kind of block, as short as it can be: over two segments, the second of
/// which begins with an epoch.
fn short() -> Sealer {
    let mut log = Sealer::begun_by(HERE);
    log.data(40);
    let block = compressed(&log);
    log.push(block);
    log.open(HERE);
    log.promise_all();
    log.watermark();
    log.pad();
    log.begin(2, THERE);
    log.data(3);
    log
}

// V2
#[test]
fn every_flipped_bit_of_a_closed_log_is_found() {
    // In every byte that is stored, of every kind of block, each bit; in every byte of the zeros
    // behind it, one bit, another in each; in the mark, each.
    let log = short();
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    let files = snapshot(&mut disk);
    let mut segments: Vec<_> = [0, 1].map(|n| files[&FileId::Segment(n)].to_vec()).into();
    let mark = log.mark().encode();
    let sound = |segments: &mut Vec<Vec<u8>>, mark: &[u8]| {
        let lent = std::mem::take(segments).into_iter().map(Bytes::from).collect();
        let mark = Bytes::copy_from_slice(mark);
        let mut disk = Frozen { segments: lent, mark, done: Vec::new() };
        let is_sound = report(&mut disk).is_sound();
        let back = |bytes: Bytes| Vec::from(bytes.try_into_mut().expect("nobody else holds it"));
        *segments = disk.segments.into_iter().map(back).collect();
        is_sound
    };
    assert!(sound(&mut segments, &mark));

    let mut found = BTreeMap::<_, u64>::new();
    for block in &log.blocks {
        let segment = usize::try_from(block.lsn().0 / SEGMENT).unwrap();
        let from = usize::try_from(block.lsn().0 % SEGMENT).unwrap();
        let stored = block.stored().len();
        for at in 0..stored + block.padding_bytes() {
            let bits = if at < stored { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                segments[segment][from + at] ^= 1 << bit;
                let place = format!("{} at {}, byte {at}, bit {bit}", block.kind(), block.lsn());
                assert!(!sound(&mut segments, &mark), "{place}");
                segments[segment][from + at] ^= 1 << bit;
                *found.entry(block.kind().as_str()).or_default() += 1;
            }
        }
    }
    for at in 0..mark.len() {
        for bit in 0..8 {
            let mut mark = mark;
            mark[at] ^= 1 << bit;
            assert!(!sound(&mut segments, &mark), "mark: byte {at}, bit {bit}");
        }
    }
    assert!(sound(&mut segments, &mark));
    let kinds = ["data", "epoch_begin", "open", "pad", "segment_head", "watermark"];
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), kinds);
    assert!(found.values().all(|bits| *bits > 4096), "{found:?}");
}

// V3
#[test]
fn further_pages_of_a_compressed_block_and_zeros_behind_the_end_mean_nothing() {
    let (log, mut disk) = closed();
    let block = &log.blocks[3];
    let stored = block.stored().len() + block.padding_bytes();
    write_bytes(&mut disk, block.lsn().saturating_add(stored as u64), &[9; 50]);
    write_bytes(&mut disk, log.at.saturating_add(10_000), &[9; 50]);
    assert!(report(&mut disk).is_sound());
}

// V4
#[test]
fn one_finding_does_not_hide_the_next() {
    let (log, mut disk) = closed();
    let flips = [2, 3, 8];
    for number in flips {
        flip(&mut disk, log.blocks[number].lsn().saturating_add(99), 1);
    }
    flip(&mut disk, log.blocks[4].lsn().saturating_add(2_000), 1);
    let found: Vec<_> = report(&mut disk).findings.iter().map(|f| f.lsn).collect();
    let padding = log.blocks[4].lsn().saturating_add(log.blocks[4].stored().len() as u64);
    let expected = [log.blocks[2].lsn(), padding, log.blocks[8].lsn()];
    assert_eq!(found, expected);
}

// V5
#[test]
fn a_mark_that_contradicts_the_log_is_found() {
    let (mut log, mut disk) = closed();
    let right = log.mark();
    let mark = CleanMark { log: LogId(9), ..right };
    write_mark(&mut disk, &mark.encode());
    assert_eq!(finding(&mut disk).0, FileId::CleanMark);
    write_mark(&mut disk, &right.encode()[..20]);
    assert_eq!(finding(&mut disk).0, FileId::CleanMark);
    write_mark(&mut disk, &right.encode());
    write_block(&mut disk, &log.watermark());
    assert_eq!(finding(&mut disk).1, right.end);
    log.at = right.end.saturating_add(8192);
    zero(&mut disk, right.end, log.at);
    write_block(&mut disk, &log.watermark());
    assert!(finding(&mut disk).2.contains("behind the end"));
}

// V6
#[test]
fn a_missing_or_short_segment_is_found() {
    let (log, mut disk) = closed();
    run(&mut disk, Io::Remove(FileId::Segment(1)));
    assert_eq!(finding(&mut disk).1, Lsn(SEGMENT));
    run(&mut disk, Io::Remove(FileId::CleanMark));
    run(&mut disk, Io::Remove(FileId::Segment(2)));
    let sound = report(&mut disk);
    assert!(sound.is_sound() && sound.end == Lsn(SEGMENT), "{sound:?}");

    let (_, mut disk) = closed();
    let bytes = snapshot(&mut disk)[&FileId::Segment(2)].clone();
    run(&mut disk, Io::Create(FileId::Segment(2)));
    write_at(&mut disk, FileId::Segment(2), 0, &bytes[4096..]);
    assert_eq!(finding(&mut disk).0, FileId::Segment(2));
    for number in [0, 1, 2] {
        run(&mut disk, Io::Remove(FileId::Segment(number)));
    }
    assert!(finding(&mut disk).2.contains("missing"));
    run(&mut disk, Io::Remove(FileId::CleanMark));
    let error = verify(&mut disk, &VerifyOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoLog { .. }), "{error}");
    drop(log);
}

// V7
#[test]
fn without_a_mark_a_torn_tail_is_told_apart_from_broken_promises() {
    for (durable, commit) in [(false, false), (true, false), (true, true)] {
        let mut log = Sealer::begun_by(HERE);
        let torn = log.data(5_000);
        if durable {
            log.durable = log.at;
        }
        if commit {
            log.commit = log.at;
        }
        log.data(100);
        let mut disk = MemoryDisk::new();
        log.write(&mut disk);
        flip(&mut disk, torn.lsn().saturating_add(99), 0);
        if commit {
            assert_eq!(finding(&mut disk).1, torn.lsn());
            continue;
        }
        let found = report(&mut disk);
        assert!(found.is_sound() && !found.clean);
        let tail = found.tail.expect("a torn tail");
        assert_eq!((found.end, tail.from), (torn.lsn(), torn.lsn()));
        assert_eq!(tail.suspicion.is_some(), durable);
    }
}

// V8
#[test]
fn records_that_do_not_decode_are_found() {
    let mut log = Sealer::begun_by(HERE);
    // Sealed by someone who was wrong: the header counts a record more than there is.
    let plain = log.data(100);
    log.blocks.pop();
    let header = BlockHeader { record_count: 2, ..*plain.header() };
    let stored = [header.encode(LOG).as_slice(), &plain.stored()[HEADER_BYTES..]].concat();
    log.at = plain.lsn();
    log.push(Block::open(Bytes::from(stored), plain.lsn(), LOG).unwrap());
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    log.close(&mut disk);
    assert_eq!(finding(&mut disk).1, plain.lsn());
}

// V9
#[test]
fn a_dump_walks_the_blocks_from_any_place() {
    let (log, mut disk) = closed();
    for block in &log.blocks {
        for from in [block.lsn(), Lsn(block.end().0 - 1)] {
            let found: Vec<_> =
                blocks(&mut disk, from).unwrap().map(|block| block.unwrap().lsn()).collect();
            let rest = log.blocks.iter().map(Block::lsn);
            assert_eq!(found, rest.filter(|lsn| *lsn >= block.lsn()).collect::<Vec<_>>());
        }
    }
    let mut all = blocks(&mut disk, Lsn::ZERO).unwrap();
    let kinds: Vec<_> = all.by_ref().map(|block| block.unwrap().kind()).collect();
    assert_eq!(kinds[0], Kind::SegmentHead);
    assert_eq!(all.stopped().map(|(lsn, _)| lsn), Some(log.at));
}

// V9
#[test]
fn a_dump_of_a_damaged_closed_log_says_so() {
    let (log, mut disk) = closed();
    flip(&mut disk, log.blocks[2].lsn(), 0);
    let mut all = blocks(&mut disk, Lsn::ZERO).unwrap();
    assert!(all.by_ref().take(2).all(|block| block.is_ok()));
    let error = all.next().unwrap().unwrap_err();
    assert_eq!(damage_at(&error), log.blocks[2].lsn());
    assert!(all.next().is_none());
}
