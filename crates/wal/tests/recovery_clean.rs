//! The mark of a clean close, and files that are not segments. The row numbers are those of
//! docs/recovery.md.

mod support;

use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{FileId, Io};
use outrigger_wal::format::CleanMark;
use outrigger_wal::recover::{Promises, RecoverOptions};
use outrigger_wal::{Error, LogId, Lsn, RunningHash};
use support::*;

fn closed() -> (Sealer, MemoryDisk) {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    log.data(100);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    log.close(&mut disk);
    (log, disk)
}

// R27
#[test]
fn a_cleanly_closed_log_is_opened_without_a_write() {
    let (log, mut disk) = closed();
    let before = snapshot(&mut disk);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert!(found.was_clean);
    assert_eq!((found.end, found.hash, found.floor), (log.at, log.hash, log.at));
    assert_eq!(snapshot(&mut disk), before);
}

// R27
#[test]
fn a_log_that_ends_before_its_clean_mark_is_damaged() {
    let (log, mut disk) = closed();
    let last = log.blocks.last().unwrap().lsn();
    zero(&mut disk, last, log.at);
    let error = refused(&mut disk, &options(HERE, Promises::default()));
    assert_eq!(damage_at(&error), last);
    assert!(error.to_string().contains("clean close"), "{error}");
    for number in [0, 1] {
        run(&mut disk, Io::Remove(FileId::Segment(number)));
    }
    let error = refused(&mut disk, &options(HERE, Promises::default()));
    assert_eq!(damage_at(&error), Lsn::ZERO);
}

// R27
#[test]
fn a_log_that_goes_on_behind_its_clean_mark_is_refused() {
    let (mut log, mut disk) = closed();
    let next = log.data(100);
    for at in [next.lsn(), next.lsn().saturating_add(4096)] {
        log.at = at;
        write_block(&mut disk, &log.watermark());
        let error = refused(&mut disk, &options(HERE, Promises::default()));
        assert!(error.is_damage() && error.to_string().contains("goes on"), "{error}");
        zero(&mut disk, at, at.saturating_add(4096));
    }
}

// R27
#[test]
fn a_clean_mark_with_another_hash_or_of_another_log_is_refused() {
    let (log, mut disk) = closed();
    let mut mark = log.mark();
    mark.hash = RunningHash(1);
    write_mark(&mut disk, &mark.encode());
    let error = refused(&mut disk, &options(HERE, Promises::default()));
    assert!(error.is_damage() && error.to_string().contains("hash"), "{error}");
    let mark = CleanMark { log: LogId(9), ..log.mark() };
    write_mark(&mut disk, &mark.encode());
    let error = refused(&mut disk, &options(HERE, Promises::default()));
    assert!(matches!(error, Error::WrongLog { .. }), "{error}");
}

// R28
#[test]
fn an_unreadable_clean_mark_counts_as_none() {
    let (log, mut disk) = closed();
    let whole = log.mark().encode();
    let mut flipped = whole;
    flipped[30] ^= 4;
    for bytes in [&[][..], &whole[..40], &flipped] {
        write_mark(&mut disk, bytes);
        let found = recovered(&mut disk, &options(HERE, log.control()));
        assert_eq!((found.end, found.was_clean), (log.at, false));
        let left = snapshot(&mut disk).contains_key(&FileId::CleanMark);
        assert!(!left, "recovery wrote, so the mark had to go");
    }
}

// R29
#[test]
fn what_was_prepared_goes_and_a_clean_log_stays_clean() {
    // Whole, short, not zeros, and a mark of a clean close that never got its name.
    let files = [
        (FileId::Prepared(0), SEGMENT),
        (FileId::Prepared(1), SEGMENT - 4096),
        (FileId::Prepared(7), 0),
        (FileId::NEW_CLEAN_MARK, 64),
    ];
    for is_clean in [true, false] {
        let (log, mut disk) = closed();
        if !is_clean {
            run(&mut disk, Io::Remove(FileId::CleanMark));
        }
        for (file, len) in files {
            run(&mut disk, Io::Create(file));
            run(&mut disk, Io::Zero { file, at: 0, len });
        }
        write_at(&mut disk, FileId::Prepared(0), 5_000, &[1]);
        let found = recovered(&mut disk, &options(HERE, log.control()));
        assert_eq!((found.end, found.was_clean), (log.at, is_clean));
        let left = snapshot(&mut disk);
        assert!(!left.keys().any(|file| matches!(file, FileId::Prepared(_))));
        assert_eq!(left.contains_key(&FileId::CleanMark), is_clean);
    }
}

// R29
#[test]
fn a_half_made_copy_of_a_segment_is_removed() {
    let (log, mut disk) = closed();
    run(&mut disk, Io::Create(FileId::Fresh(0)));
    write_at(&mut disk, FileId::Fresh(0), 0, &[7; 100]);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!(found.end, log.at);
    assert!(!snapshot(&mut disk).contains_key(&FileId::Fresh(0)));
}

/// A log that takes long to read back says how far it is: whoever waits for it can tell that it advances.
#[test]
fn recovery_tells_how_far_it_has_read() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let (log, mut disk) = closed();
    let progress = Arc::new(AtomicU64::new(0));
    let told =
        RecoverOptions { progress: Some(Arc::clone(&progress)), ..options(HERE, log.control()) };
    let found = recovered(&mut disk, &told);
    assert_eq!(Lsn(progress.load(Ordering::Relaxed)), found.end);
    // It never falls: also when only a part of the log is read the next time.
    progress.store(u64::MAX, Ordering::Relaxed);
    recovered(&mut disk, &told);
    assert_eq!(progress.load(Ordering::Relaxed), u64::MAX);
}
