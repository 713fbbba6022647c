//! Recovery over a page cache that lies, power cuts, failing operations, and its own interruption at
//! every step. The row numbers are those of docs/recovery.md.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of a test, which may panic")]

mod support;

use outrigger_sim::disk::{OpKind, SimDisk, SimDiskOptions};
use outrigger_wal::disk::{Dir, DiskExt, FileId, Io, IoFault};
use outrigger_wal::format::Block;
use outrigger_wal::recover::{RecoverOptions, Recovered, recover};
use outrigger_wal::{Error, Lsn, RunningHash};
use support::*;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskOptions::immediate(seed))
}

/// A log over two segments, durable and promised up to somewhere, with more behind that was written
/// and not synced.
fn with_unsynced_end(seed: u64) -> (Sealer, SimDisk) {
    let mut log = Sealer::begun_by(HERE);
    while log.at.0 < SEGMENT - 200_000 {
        log.data(90_000);
    }
    log.data(20_000);
    log.promise_all();
    let mut disk = disk(seed);
    log.write(&mut disk);
    prepare(&mut disk, [2]);
    let durable = log.blocks.len();
    for bytes in [100, 30_000, 70_000, 5_000, 50_000, 9_000, 300, 40_000] {
        log.data(bytes);
    }
    for block in &log.blocks[durable..] {
        write_block(&mut disk, block);
    }
    (log, disk)
}

fn known(log: &Sealer) -> RecoverOptions {
    let mut known = options(HERE, log.control());
    known.promises.durable = promise(1, log.durable);
    known.promises.commit = promise(1, log.commit);
    known.promises.in_sync = true;
    known
}

/// The hash of the log at a block boundary.
fn hash_at(log: &Sealer, end: Lsn) -> RunningHash {
    let block = log.blocks.iter().find(|block| block.end() == end);
    block.map(Block::hash_after).expect("the end is a boundary")
}

fn assert_prefix(found: &Recovered, log: &Sealer) {
    assert!(found.end >= log.durable, "promised bytes were cut");
    assert_eq!(found.hash, hash_at(log, found.end));
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    Kill,
    PowerCut,
}

fn crash(disk: &SimDisk, how: Crash) -> SimDisk {
    match how {
        Crash::Kill => disk.kill(),
        Crash::PowerCut => disk.power_cut(),
    };
    disk.reopen()
}

// R23
#[test]
fn what_recovery_accepts_survives_a_power_cut_after_it() {
    let mut beyond = 0;
    for seed in 0..40 {
        let (log, disk) = with_unsynced_end(seed);
        let mut disk = crash(&disk, Crash::Kill);
        let found = recover(&mut disk, &known(&log)).unwrap().unwrap();
        assert_prefix(&found, &log);
        assert_eq!(found.end, log.at, "the page cache survived");
        beyond += u32::from(found.end > log.durable);
        let mut disk = crash(&disk, Crash::PowerCut);
        let mut told = known(&log);
        told.promises.durable = promise(1, found.end);
        let again = recover(&mut disk, &told).unwrap().unwrap();
        assert_eq!((again.end, again.hash, again.torn), (found.end, found.hash, None));
    }
    assert!(beyond > 30);
}

// R35
#[test]
fn bytes_whose_sync_failed_are_written_anew() {
    for seed in 0..40 {
        let (log, mut disk) = with_unsynced_end(seed);
        // The kernel now holds these pages for clean, and the device does not have them.
        for number in [0, 1] {
            disk.fail_nth(OpKind::Sync, 1);
            let file = FileId::Segment(number);
            disk.blocking().run(Io::Sync(file)).expect_err("it fails");
        }
        let mut disk = crash(&disk, Crash::Kill);
        let found = recover(&mut disk, &known(&log)).unwrap().unwrap();
        assert_eq!(found.end, log.at);
        let mut disk = crash(&disk, Crash::PowerCut);
        let mut told = known(&log);
        told.promises.durable = promise(1, found.end);
        assert_eq!(recover(&mut disk, &told).unwrap().unwrap().end, found.end);
    }
}

// R6
#[test]
fn a_power_cut_never_makes_damage_of_what_was_not_promised() {
    let mut torn = 0;
    for seed in 0..200 {
        let (log, disk) = with_unsynced_end(seed);
        let mut disk = crash(&disk, Crash::PowerCut);
        let found = recover(&mut disk, &known(&log)).unwrap().unwrap();
        assert_prefix(&found, &log);
        torn += u32::from(found.torn.is_some());
    }
    assert!(torn > 100, "only {torn} tails were torn");
}

/// Interrupts recovery at every operation, in both ways; returns how often that was.
fn interrupt_everywhere(
    seed: u64,
    disk: &SimDisk,
    told: &RecoverOptions,
    first: Crash,
    check: impl Fn(&Recovered),
) -> u64 {
    let expected = recover(&mut disk.copy(seed).reopen(), told).unwrap().unwrap();
    let mut interruptions = 0;
    for how in [Crash::Kill, Crash::PowerCut] {
        for n in 0.. {
            let disk = disk.copy(seed * 1_000 + n);
            disk.crash_after(n);
            let outcome = recover(&mut disk.reopen(), told);
            let complete = !disk.is_crashed();
            match outcome {
                Ok(_) => assert!(complete),
                Err(Error::Io(IoFault::Closed)) => assert!(!complete),
                Err(other) => panic!("seed {seed}, step {n}: {other}"),
            }
            let mut disk = crash(&disk, how);
            let again = recover(&mut disk, told).unwrap().unwrap();
            check(&again);
            // A kill leaves the same bytes to see, and so does a power cut when there was one before.
            if complete || matches!((first, how), (Crash::PowerCut, _) | (_, Crash::Kill)) {
                assert_eq!(again.end, expected.end, "seed {seed}, {how:?} at step {n}");
            }
            let mut disk = crash(&disk, Crash::PowerCut);
            let last = recover(&mut disk, told).unwrap().unwrap();
            assert_eq!((last.end, last.hash), (again.end, again.hash), "seed {seed}, step {n}");
            assert_eq!((last.torn, last.cut), (None, None), "seed {seed}, step {n}: came back");
            interruptions += 1;
            if complete {
                break;
            }
        }
    }
    interruptions
}

// R30
#[test]
fn interrupted_recovery_of_a_torn_tail_comes_to_the_same_end() {
    let mut interruptions = 0;
    for seed in 0..5 {
        for first in [Crash::Kill, Crash::PowerCut] {
            let (log, disk) = with_unsynced_end(seed);
            let mut disk = crash(&disk, first);
            if matches!(first, Crash::Kill) {
                // A block whose payload was never written, in the middle of what the cache holds.
                let at = log.blocks[log.blocks.len() - 4].lsn();
                write_bytes(&mut disk, at.saturating_add(1_000), &[0; 600]);
            }
            let check = |found: &Recovered| assert_prefix(found, &log);
            interruptions += interrupt_everywhere(seed, &disk, &known(&log), first, check);
        }
    }
    assert!(interruptions > 300, "only {interruptions}");
}

// R31
#[test]
fn an_interrupted_cut_comes_to_the_same_end() {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    log.promise_all();
    let cut = log.data(100).end();
    while log.at.0 < 2 * SEGMENT {
        log.data(200_000);
        log.durable = log.at;
    }
    let mut told = known(&log);
    told.cut = Some(cut);
    for (seed, closed) in [(0, false), (1, true), (2, false)] {
        let mut disk = disk(seed);
        log.write(&mut disk);
        if closed {
            log.close(&mut disk);
        }
        let check = |found: &Recovered| {
            assert_eq!((found.end, found.hash), (cut, hash_at(&log, cut)));
        };
        interrupt_everywhere(seed, &disk, &told, Crash::PowerCut, check);
    }
}

// R31
#[test]
fn what_a_cut_took_is_aside_before_it_is_gone() {
    let mut log = Sealer::begun_by(HERE);
    let cut = log.at;
    let lost = log.data(5_000);
    let told = RecoverOptions { cut: Some(cut), ..options(HERE, log.control()) };
    for n in 0.. {
        let mut first = disk(n);
        log.write(&mut first);
        first.crash_after(n);
        let outcome = recover(&mut first.reopen(), &told);
        let mut disk = crash(&first, Crash::PowerCut);
        let segment = disk.file_bytes(FileId::Segment(0)).unwrap();
        let at = usize::try_from(cut.0).unwrap();
        let there = segment[at..].starts_with(lost.stored());
        let aside = disk.blocking().list(Dir::Saved).unwrap().0;
        let aside = aside.iter().any(|file| disk.file_bytes(*file).unwrap() == lost.stored());
        assert!(there || aside, "step {n}: the cut bytes are nowhere");
        if outcome.is_ok() {
            assert!(!there && aside);
            break;
        }
    }
}

// R32
#[test]
fn a_failing_operation_in_recovery_changes_nothing_about_its_end() {
    for kind in [OpKind::Read, OpKind::Write, OpKind::Sync, OpKind::Name] {
        for nth in 1.. {
            let (log, first) = with_unsynced_end(nth);
            let mut disk = crash(&first, Crash::PowerCut);
            let expected = recover(&mut disk.copy(1).reopen(), &known(&log));
            let expected = expected.unwrap().unwrap().end;
            disk.fail_nth(kind, nth);
            let outcome = recover(&mut disk, &known(&log));
            let failed = outcome.is_err();
            if let Err(error) = outcome {
                assert!(matches!(error, Error::Io(_)), "{error}");
            }
            let mut disk = crash(&disk, Crash::Kill);
            if !failed {
                break;
            }
            let again = recover(&mut disk, &known(&log)).unwrap().unwrap();
            assert_eq!(again.end, expected, "{kind:?} {nth}");
            let mut disk = crash(&disk, Crash::PowerCut);
            let last = recover(&mut disk, &known(&log)).unwrap().unwrap();
            assert_eq!((last.end, last.torn), (expected, None), "{kind:?} {nth}");
        }
    }
}

// R33
#[test]
fn without_room_recovery_waits_and_loses_nothing() {
    let (log, first) = with_unsynced_end(3);
    let mut disk = crash(&first, Crash::PowerCut);
    let before = snapshot(&mut disk);
    disk.set_capacity(Some(disk.used_bytes() + 100_000));
    for _ in 0..3 {
        let error = recover(&mut disk, &known(&log)).unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    for (file, bytes) in &before {
        assert_eq!(disk.file_bytes(*file).as_ref(), Some(bytes), "{file}");
    }
    disk.set_capacity(None);
    assert_prefix(&recover(&mut disk, &known(&log)).unwrap().unwrap(), &log);
}

// R34
#[test]
fn what_cannot_be_read_is_an_error_and_never_a_torn_tail() {
    let (log, mut disk) = with_unsynced_end(1);
    sync(&mut disk);
    disk.break_sector(FileId::Segment(1), 8192);
    let before = disk.files();
    let error = recover(&mut disk, &known(&log)).unwrap_err();
    assert!(matches!(error, Error::Io(_)), "{error}");
    assert_eq!(disk.files(), before);
}

// R21
#[test]
fn files_with_foreign_names_are_left_alone() {
    let (log, mut disk) = with_unsynced_end(1);
    disk.add_foreign(Dir::Log, "1.seg");
    disk.add_foreign(Dir::Log, "notes.txt");
    recovered(&mut disk, &known(&log));
    let (_, foreign) = disk.blocking().list(Dir::Log).unwrap();
    assert_eq!(foreign, ["1.seg", "notes.txt"]);
}
