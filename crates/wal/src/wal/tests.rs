//! What can only be tried from inside: a disk that fails under a handle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use crate::disk::plain::Fails;
use crate::disk::{FileId, Io, IoFault};
use crate::{Error, Lsn, Wal, WalOptions};

/// Small segments, no watermark between two steps of a test, and every read goes to the files.
fn options() -> WalOptions {
    let mut options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    options.log.idle_micros = u64::MAX / 2;
    options.log.tail_bytes = 0;
    options
}

fn fail_with(wal: &Wal, fails: Fails) {
    wal.shared().with_core(|core| core.expect("it is open").disk.fail_with(fails));
}

fn record(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(12_500)
}

/// Appends record `n` and waits until it is durable.
fn put(wal: &Wal, n: u64) -> Result<Lsn, Error> {
    wal.wait_durable(wal.append(&record(n))?.end).blocking()
}

/// How many records can be read: they are the first ones, each as it was appended.
fn readable(wal: &Wal) -> u64 {
    let mut reader = wal.reader(Lsn::ZERO).expect("the log begins there");
    let mut found = 0;
    while let Ok(Some(read)) = reader.next() {
        assert!(read.body == record(found), "record {found}");
        found += 1;
    }
    found
}

fn reopened(dir: &Path) -> Wal {
    Wal::open(dir, &options()).expect("the disk is sound again")
}

fn no_space() -> IoFault {
    IoFault::NoSpace { file: "it".to_owned(), operation: "write" }
}

fn broken() -> IoFault {
    IoFault::Failed { file: "it".to_owned(), operation: "write", cause: "broken".to_owned() }
}

#[test]
fn after_an_error_of_the_disk_acked_records_are_readable_and_nothing_is_tried_again() {
    // One operation fails; from then on the disk is sound. Nobody is told "durable" any more by this
    // handle, what was acked is read through it, and the next opening has it. Also where the write of
    // a block finds no room: the file has its size, so that is the device's error, not a full disk.
    type Which = fn(&Io) -> bool;
    let cases: [(&str, Which, IoFault); 6] = [
        ("a block's write", |io| matches!(io, Io::Write { .. }), broken()),
        ("a block's write, no room", |io| matches!(io, Io::Write { .. }), no_space()),
        ("the next segment's creation", |io| matches!(io, Io::Create(_)), broken()),
        ("its sync", |io| matches!(io, Io::Sync(_)), broken()),
        ("its name", |io| matches!(io, Io::Rename(..)), broken()),
        ("its name's sync", |io| matches!(io, Io::SyncDir(_)), broken()),
    ];
    for (name, which, fault) in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let wal = Wal::open(dir.path(), &options()).expect("a new log");
        let mut acked = 0;
        for n in 0..4 {
            put(&wal, n).expect("nothing has failed yet");
            acked += 1;
        }
        let (once, answer) = (AtomicBool::new(true), fault.clone());
        let fails = move |io: &Io| {
            (which(io) && once.swap(false, Ordering::Relaxed)).then(|| answer.clone())
        };
        fail_with(&wal, Box::new(fails));
        let poisoned = Error::Poisoned { cause: fault };
        let error = loop {
            match put(&wal, acked) {
                Ok(_) => acked += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, poisoned, "{name}");
        for n in 0..5 {
            assert_eq!(put(&wal, n), Err(poisoned.clone()), "{name}: it was taken back");
            assert_eq!(wal.delete_below(wal.durable()), Err(poisoned.clone()), "{name}");
        }
        assert_eq!(readable(&wal), acked, "{name}");
        assert_eq!(wal.close(), Err(poisoned), "{name}");

        let again = reopened(dir.path());
        let found = readable(&again);
        assert!(found >= acked, "{name}: {found} of {acked} acked records are there");
        put(&again, found).expect("it goes on");
    }
}

#[test]
fn on_a_full_disk_acked_records_are_readable_and_writing_resumes_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let wal = Wal::open(dir.path(), &options()).expect("a new log");
    put(&wal, 0).expect("there is room");
    let is_full = Arc::new(AtomicBool::new(true));
    let (told, hears) = mpsc::channel();
    let full = Arc::clone(&is_full);
    let fails = move |io: &Io| {
        let grows = matches!(io, Io::Zero { file: FileId::Prepared(_), .. });
        let refused = grows && full.load(Ordering::Relaxed);
        // Nobody listens any more: the test is over.
        let _heard = refused.then(|| told.send(()).is_ok());
        refused.then(no_space)
    };
    fail_with(&wal, Box::new(fails));
    // More than the segments that are there can take.
    let mut last = Lsn::ZERO;
    for n in 1..40 {
        last = wal.append(&record(n)).expect("less waits than may").end;
    }
    hears.recv().expect("a segment is asked for");
    // It is tried again, and is refused again.
    hears.recv().expect("a segment is asked for again");
    let acked = wal.durable();
    assert!(acked < last && acked >= Lsn(1 << 20), "{acked} of {last}");
    let before = readable(&wal);
    assert!((10..40).contains(&before), "{before}");

    is_full.store(false, Ordering::Relaxed);
    assert!(wal.wait_durable(last).blocking().expect("there is room") >= last);
    assert_eq!(readable(&wal), 40);
    wal.close().expect("all is written");
    assert_eq!(readable(&reopened(dir.path())), 40);
}

#[test]
fn a_kill_within_a_truncation_leaves_it_whole_or_made_from_the_end_or_not_begun() {
    // The process dies before the nth operation of the disk, for each n. No record below the cut is
    // ever missed; those behind it are there up to some place, and none behind that.
    const RECORDS: u64 = 24;
    const KEPT: u64 = 7;
    let whole = tempfile::tempdir().expect("a folder");
    let wal = Wal::open(whole.path(), &options()).expect("a new log");
    let mut cut = Lsn::ZERO;
    for n in 0..RECORDS {
        put(&wal, n).expect("the disk is sound");
        cut = if n < KEPT { wal.durable() } else { cut };
    }
    wal.close().expect("the disk is sound");

    let mut seen = std::collections::BTreeSet::new();
    for n in 0.. {
        let dir = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(whole.path()).expect("it is there").flatten() {
            if entry.path().is_file() {
                let to = dir.path().join(entry.file_name());
                std::fs::copy(entry.path(), to).expect("it is copied");
            }
        }
        let wal = reopened(dir.path());
        let left = AtomicU64::new(n);
        let dies = move |_: &Io| {
            let lives =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            lives.is_err().then_some(IoFault::Closed)
        };
        fail_with(&wal, Box::new(dies));
        let outcome = wal.truncate(cut);
        let is_cut = outcome.is_ok();
        drop((wal, outcome));

        let again = reopened(dir.path());
        let found = readable(&again);
        assert!((KEPT..=RECORDS).contains(&found), "{found} records after {n} operations");
        assert!(again.recovered().end >= cut);
        put(&again, found).expect("it goes on");
        drop(again);
        assert_eq!(readable(&reopened(dir.path())), found + 1, "after {n} operations");
        seen.insert(found);
        if is_cut {
            assert_eq!(found, KEPT);
            break;
        }
    }
    assert!(seen.contains(&RECORDS) && seen.len() > 2, "{seen:?}");
}

#[test]
fn a_poisoned_log_fails_every_waiter_and_every_later_caller() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    let wal = Wal::open(dir.path(), &options).expect("a new log");
    let (mut reader, mut durable) = (wal.reader(Lsn::ZERO).expect("a reader"), wal.subscribe());
    let cause = broken();
    let poisoned = Error::Poisoned { cause: cause.clone() };

    let end = wal.shared().with_core(|core| {
        let log = &mut core.expect("it is open").log;
        let end = log.appender().append(b"lost").expect("it is sound").end;
        let (now, mut sealed, mut out) = (crate::Micros(0), Vec::new(), Vec::new());
        while log.end() < end {
            // The writes go nowhere, and this one fails.
            log.pump(now, &mut sealed, &mut out);
            let (op, _) = out.iter().rfind(|(_, io)| matches!(io, Io::Write { .. })).expect("one");
            let _is_ours = log.done(now, *op, &Err(cause.clone()), &mut Vec::new());
        }
        end
    });
    let waiting = wal.wait_durable(end);
    wal.shared().drive();
    assert_eq!(waiting.blocking(), Err(poisoned.clone()));
    assert_eq!(wal.append(b"more"), Err(poisoned.clone()));
    assert_eq!(reader.next_blocking().map(|record| record.lsn), Err(poisoned.clone()));
    while let Ok(at) = durable.next_blocking() {
        assert!(at < end);
    }
    assert_eq!(wal.close(), Err(poisoned));
    assert_eq!(
        wal.append(b"more").map_err(|error| matches!(error, Error::Poisoned { .. })),
        Err(true)
    );
    assert!(!dir.path().join("clean").exists());
}

#[test]
fn an_append_beside_somebody_who_looks_at_the_log_is_written() {
    // A reader has the lock for a moment; the appender finds it taken and leaves the writing to him.
    // Nothing else happens on this log: if the reader does not look, nobody ever does.
    let dir = tempfile::tempdir().expect("a folder");
    let wal = Wal::open(dir.path(), &options()).expect("a new log");
    for n in 0..20 {
        let end = wal.shared().with_core(|_| wal.append(&record(n)).expect("it is sound").end);
        let (waiting, (tell, told)) = (wal.wait_durable(end), mpsc::channel());
        std::thread::spawn(move || tell.send(waiting.blocking()));
        let heard = told.recv_timeout(std::time::Duration::from_secs(20));
        assert!(matches!(heard, Ok(Ok(_))), "append {n}: {heard:?}");
    }
}
