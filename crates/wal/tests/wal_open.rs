//! Opening a log in a folder, after each end it can have come to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use outrigger_wal::format::Record;
use outrigger_wal::{Error, Lsn, Wal, WalOptions};

fn options() -> WalOptions {
    let mut options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    // No watermark comes between two steps of a test.
    options.log.idle_micros = u64::MAX / 2;
    options
}

fn put(wal: &Wal, body: &[u8]) -> Range<Lsn> {
    let at = wal.append(body).unwrap();
    assert!(wal.wait_durable(at.end).blocking().unwrap() >= at.end);
    at.start..at.end
}

fn all(wal: &Wal) -> Vec<Record> {
    let mut reader = wal.reader(wal.start_lsn().unwrap()).unwrap();
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn bodies(wal: &Wal) -> Vec<String> {
    all(wal).iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
}

fn flip(dir: &Path, at: u64) {
    let path = dir.join("0000000000000000.seg");
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn what_was_durable_is_there_after_a_drop_without_close() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let wal = Wal::open(dir.path(), &options()).unwrap();
        assert_eq!(bodies(&wal).len(), round);
        assert_eq!(wal.recovered().torn, None);
        put(&wal, format!("{round}").as_bytes());
        drop(wal);
    }
    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert_eq!(bodies(&wal), ["0", "1", "2", "3"]);
    assert!(!wal.recovered().was_clean);
}

#[test]
fn a_closed_log_needs_no_recovery_and_its_mark_goes_before_it_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    // Not waited for: closing writes what was appended.
    let at = wal.append(b"one").unwrap();
    wal.close().unwrap();
    assert!(dir.path().join("clean").exists());
    assert_eq!(wal.durable(), Lsn(16384));
    assert!(wal.wait_durable(at.end).blocking().is_ok());

    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert!(wal.recovered().was_clean);
    assert_eq!(wal.recovered().end, Lsn(16384));
    assert!(!dir.path().join("clean").exists());
    assert_eq!(bodies(&wal), ["one"]);
}

#[test]
fn a_closed_log_refuses_everything() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let clone = wal.clone();
    let mut reader = wal.reader(Lsn(0)).unwrap();
    put(&wal, b"one");
    wal.close().unwrap();
    for wal in [&wal, &clone] {
        assert_eq!(wal.append(b"two"), Err(Error::Closed));
        assert_eq!(wal.try_append(b"two"), Err(Error::Closed));
        let beyond = wal.durable().saturating_add(1);
        assert_eq!(wal.wait_durable(beyond).blocking(), Err(Error::Closed));
        assert_eq!(wal.close(), Err(Error::Closed));
        assert_eq!(wal.delete_below(Lsn(0)), Err(Error::Closed));
        assert!(matches!(wal.reader(Lsn(0)), Err(Error::Closed)));
        assert!(matches!(wal.truncate(wal.durable()), Err(Error::Closed)));
    }
    assert!(matches!(reader.next(), Err(Error::Closed)));
}

#[test]
fn a_folder_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let refused = Wal::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    wal.close().unwrap();
    // The closed handle still lives; the folder is free.
    let again = Wal::open(dir.path(), &options()).unwrap();
    drop(wal);
    put(&again, b"one");
    let clone = again.clone();
    drop(again);
    assert!(matches!(Wal::open(dir.path(), &options()), Err(Error::Locked { .. })));
    drop(clone);
    assert_eq!(bodies(&Wal::open(dir.path(), &options()).unwrap()), ["one"]);
}

#[test]
fn a_lost_folder_does_not_become_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let strict = WalOptions { create: false, ..options() };
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let refused = Wal::open(&path, &strict).unwrap_err();
        assert!(
            matches!(&refused, Error::NoLog { folder } if *folder == path.display().to_string())
        );
    }
    assert!(!dir.path().join("missing").exists());
    drop(Wal::open(dir.path(), &options()).unwrap());
    Wal::open(dir.path(), &strict).unwrap();
}

#[test]
fn a_log_that_is_there_keeps_its_size_and_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let id = wal.id();
    wal.close().unwrap();
    let larger = WalOptions { segment_bytes: 2 << 20, ..options() };
    let wal = Wal::open(dir.path(), &larger).unwrap();
    assert_eq!((wal.id(), wal.max_record_bytes()), (id, 1 << 18));
    drop(wal);
    let other = WalOptions { content: outrigger_wal::ContentId(7), ..options() };
    assert!(matches!(Wal::open(dir.path(), &other), Err(Error::WrongContent { .. })));
    let odd = WalOptions { segment_bytes: 3 << 20, ..options() };
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Wal::open(empty.path(), &odd), Err(Error::Config { .. })));
}

#[test]
fn a_torn_tail_is_kept_aside_and_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    put(&wal, b"one");
    let two = put(&wal, b"two");
    drop(wal);
    flip(dir.path(), two.start.0);

    let wal = Wal::open(dir.path(), &options()).unwrap();
    let torn = wal.recovered().torn.expect("the last block is torn");
    assert_eq!((torn.from, torn.to), (Lsn(16384), two.end));
    let saved = fs::read(dir.path().join("saved").join(torn.file.name())).unwrap();
    assert_eq!(saved.len() as u64, torn.bytes);
    assert_eq!(bodies(&wal), ["one"]);
    put(&wal, b"three");
    drop(wal);
    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert_eq!(wal.recovered().torn, None);
    assert_eq!(bodies(&wal), ["one", "three"]);
}

#[test]
fn a_bad_byte_below_a_promise_is_damage_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let one = put(&wal, b"one");
    put(&wal, b"two");
    drop(wal);
    flip(dir.path(), one.end.0 - 1);
    for _ in 0..2 {
        let refused = Wal::open(dir.path(), &options()).unwrap_err();
        assert!(matches!(refused, Error::Damage { lsn: Lsn(12288), .. }), "{refused}");
    }
    flip(dir.path(), one.end.0 - 1);
    assert_eq!(bodies(&Wal::open(dir.path(), &options()).unwrap()), ["one", "two"]);
}

#[test]
fn a_damaged_head_is_never_taken_for_a_new_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    put(&wal, b"one");
    drop(wal);
    flip(dir.path(), 50);
    assert!(Wal::open(dir.path(), &options()).is_err());
    flip(dir.path(), 50);
    assert_eq!(bodies(&Wal::open(dir.path(), &options()).unwrap()), ["one"]);
}

#[test]
fn stale_blocks_behind_the_end_are_neither_read_nor_reported() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    put(&wal, b"one");
    let end = wal.durable();
    drop(wal);
    let path = dir.path().join("0000000000000000.seg");
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, 12288).unwrap();
    file.write_all_at(&block, end.0).unwrap();
    file.write_all_at(&block, end.0 + 4096).unwrap();

    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert_eq!((wal.recovered().end, wal.recovered().torn), (end, None));
    put(&wal, b"two");
    assert_eq!(bodies(&wal), ["one", "two"]);
}

#[test]
fn an_interrupted_creation_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("prepared-0000.tmp"), [7; 5000]).unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    put(&wal, b"one");
    assert_eq!(bodies(&wal), ["one"]);
}

#[test]
fn the_last_record_is_promised_once_the_log_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let mut quick = options();
    quick.log.idle_micros = 1000;
    let wal = Wal::open(dir.path(), &quick).unwrap();
    let mut durable = wal.subscribe();
    let one = put(&wal, b"one");
    // The timer seals a watermark; nothing else moves the durable LSN past this block.
    while durable.next_blocking().unwrap() < one.end.page_up().unwrap().saturating_add(4096) {}
    drop(wal);
    flip(dir.path(), one.start.0);
    assert!(Wal::open(dir.path(), &options()).unwrap_err().is_damage());
}
