//! The store on disk beyond the suite: crashes at awkward moments, compaction, readers beside
//! writers, large values, damaged files.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, outside their functions"
)]

mod store_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use outrigger_replica::store::kv::{ClientId, Op, OutcomeLimits, Write};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Pair, Rows, StateStore, StoreError};
use outrigger_wal::Lsn;
use outrigger_wal::format::Record;
use store_support::{copy_dir, put, record};

fn open(path: &Path) -> LsmStore {
    LsmStore::open(path, LsmOptions::default()).unwrap()
}

/// Flushes every few dozen records, and so compacts all the time.
const SMALL: LsmOptions = LsmOptions {
    memtable_bytes: 4000,
    cache_bytes: 64 * 1024,
    outcomes: OutcomeLimits {
        writes_per_client: 4,
        clients: 3,
    },
};

/// A small generator, so that each run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// Puts, deletes and settlements of a few clients over a few keys.
fn mixed_log(seed: u64, records: u64) -> Vec<Record> {
    let mut random = Random(seed);
    (0..records)
        .map(|n| {
            let key = Bytes::from(format!("key-{}", random.below(40)));
            let op = match random.below(8) {
                0 => Op::Settle,
                1 | 2 => Op::Delete { key },
                _ => Op::Put {
                    key,
                    value: Bytes::from(b"value-".repeat(usize::from(random.byte() % 20))),
                },
            };
            let client = ClientId(1 + u128::from(random.below(5)));
            record(
                n,
                Write {
                    client,
                    sequence: 1 + random.below(200),
                    op,
                }
                .encode()
                .unwrap(),
            )
        })
        .collect()
}

#[test]
fn both_stores_are_equal_whatever_is_flushed_compacted_and_reopened() {
    for seed in 1..=4 {
        let log = mixed_log(seed, 1500);
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new(SMALL.outcomes);
        let mut store = LsmStore::open(dir.path(), SMALL).unwrap();
        for (n, run) in log.chunks(150).enumerate() {
            let before = memory.hash(&KeyRange::all()).unwrap();
            let held = store.snapshot(&KeyRange::all()).unwrap();
            memory.apply(run).unwrap();
            store.apply(run).unwrap();
            assert_eq!(
                held.into_hash().unwrap(),
                before,
                "a snapshot held while applying"
            );
            if n % 4 == 3 {
                drop(store);
                store = LsmStore::open(dir.path(), SMALL).unwrap();
                assert!(store.applied() >= log[0].end, "it flushed by itself");
                store.apply(&log[..(n + 1) * 150]).unwrap();
            }
            let expected = memory.hash(&KeyRange::all()).unwrap();
            let found = store.hash(&KeyRange::all()).unwrap();
            assert_eq!(found, expected, "seed {seed}, run {n}");
            assert_eq!(store.count().unwrap(), memory.count().unwrap());
            for key in 0..40 {
                let key = format!("key-{key}");
                assert_eq!(store.get(key.as_bytes()), memory.get(key.as_bytes()));
            }
        }
    }
}

#[test]
fn a_copy_of_the_folder_at_any_time_holds_exactly_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("live"));
    let mut expected = store.hash(&KeyRange::all()).unwrap();
    for n in 0..3_u64 {
        let body = |value: &'static str| put(format!("key-{n}"), value);
        store.apply(&[record(2 * n, body("kept"))]).unwrap();
        if n > 0 {
            assert_eq!(store.checkpoint().unwrap(), store.applied());
            expected = store.hash(&KeyRange::all()).unwrap();
        }
        store.apply(&[record(2 * n + 1, body("lost"))]).unwrap();
        let copy = dir.path().join(format!("copy-{n}"));
        copy_dir(&dir.path().join("live"), &copy);
        let copy = open(&copy);
        assert_eq!(copy.applied(), store.checkpointed());
        assert_eq!(copy.hash(&KeyRange::all()).unwrap(), expected);
    }
}

#[test]
fn a_crash_in_the_middle_of_a_restore_leaves_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let store = LsmStore::open(&live, SMALL).unwrap();
    let pairs = |n: u64| -> Pair {
        (
            Bytes::from(format!("rkey-{n:05}")),
            Bytes::from(vec![b'v'; 100]),
        )
    };
    let mut all = (0..500).map(|n| {
        if n == 400 {
            assert!(
                std::fs::read_dir(live.join("tables")).unwrap().count() > 2,
                "it has flushed"
            );
            copy_dir(&live, &copy);
        }
        Ok::<_, StoreError>(pairs(n))
    });
    store.restore(Lsn(8192), &mut all).unwrap();
    assert_eq!(store.count(), Ok(500));
    let copy_store = LsmStore::open(&copy, SMALL).unwrap();
    assert_eq!(
        (copy_store.applied(), copy_store.count()),
        (Lsn::ZERO, Ok(0))
    );
    let files = std::fs::read_dir(copy.join("tables")).unwrap().count();
    assert_eq!(files, 0, "the files of the half restore are gone");
    copy_store
        .restore(Lsn(8192), &mut (0..500).map(|n| Ok(pairs(n))))
        .unwrap();
    drop(copy_store);
    let copy_store = LsmStore::open(&copy, SMALL).unwrap();
    let all = KeyRange::all();
    assert_eq!(copy_store.hash(&all).unwrap(), store.hash(&all).unwrap());
}

#[test]
fn point_reads_beside_flushes_and_compactions_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(dir.path(), SMALL).unwrap();
    let count = 6000_u64;
    store
        .apply(&[record(0, put("counter", 0_u64.to_be_bytes().to_vec()))])
        .unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    // Record n lies from 4096 + 1024 n on, and is visible with its end.
                    let applied = (store.applied().0 - 4096) / 1024;
                    let value = store.get(b"counter").unwrap().expect("it is never gone");
                    let value = u64::from_be_bytes(value.as_ref().try_into().unwrap());
                    assert!(
                        value >= applied && value >= last,
                        "{value} after {last}, {applied}"
                    );
                    last = value;
                }
            });
        }
        for n in 1..=count {
            store
                .apply(&[record(n, put("counter", n.to_be_bytes().to_vec()))])
                .unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(store.checkpointed() > Lsn(4096), "it flushed meanwhile");
}

#[test]
fn the_largest_rows_survive_flushes_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let value = |n: u64| Bytes::from(vec![n.to_le_bytes()[0]; 15 * 1024 * 1024]);
    for n in 0..6 {
        store
            .apply(&[record(n, put(format!("key-{}", n % 2), value(n)))])
            .unwrap();
        store.checkpoint().unwrap();
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.get(b"key-0").unwrap(), Some(value(4)));
    assert_eq!(store.get(b"key-1").unwrap(), Some(value(5)));
    assert_eq!(
        store.scan(b"", 10).unwrap().len(),
        1,
        "a scan stops at its byte limit"
    );
}

#[test]
fn deleted_and_overwritten_rows_give_their_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::open(
        dir.path(),
        LsmOptions {
            memtable_bytes: 100_000,
            ..SMALL
        },
    )
    .unwrap();
    for round in 0..40_u64 {
        let run: Vec<_> = (0..100)
            .map(|n| record(round * 100 + n, put(format!("key-{n}"), vec![b'v'; 1000])))
            .collect();
        store.apply(&run).unwrap();
    }
    store.checkpoint().unwrap();
    drop(store);
    let tables = std::fs::read_dir(dir.path().join("tables")).unwrap();
    let bytes: u64 = tables
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    // 4 MB were written, 100 kB are live; level 0 may wait with a dozen flushes.
    assert!(bytes < 1_900_000, "{bytes} bytes on disk");
}

#[test]
fn damaged_files_are_reported_or_harmless_and_never_give_other_rows() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let store = open(&sound);
    for n in 0..300 {
        store
            .apply(&[record(n, put(format!("key-{n}"), format!("value-{n}")))])
            .unwrap();
    }
    store.checkpoint().unwrap();
    let rows = store.scan(b"", 1000).unwrap();
    let applied = store.applied();
    drop(store);
    let mut seen = BTreeMap::from([("refused", 0), ("unreadable", 0), ("harmless", 0)]);
    for (file, len) in files_below(&sound) {
        for at in (0..len).step_by(if len > 1000 { 211 } else { 1 }) {
            let copy = dir.path().join("copy");
            copy_dir(&sound, &copy);
            let damaged = copy.join(&file);
            let mut bytes = std::fs::read(&damaged).unwrap();
            bytes[at] ^= 0x10;
            std::fs::write(&damaged, bytes).unwrap();
            let what = match LsmStore::open(&copy, LsmOptions::default()) {
                Err(_) => "refused",
                Ok(store) => {
                    assert_eq!(store.applied(), applied, "{} at {at}", file.display());
                    match store.scan(b"", 1000) {
                        Err(_) => "unreadable",
                        Ok(found) => {
                            assert!(found == rows, "other rows: {} at {at}", file.display());
                            "harmless"
                        }
                    }
                }
            };
            *seen.entry(what).or_default() += 1;
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
    assert!(seen["refused"] > 50 && seen["unreadable"] > 0, "{seen:?}");
}

/// The files below a directory, relative to it, and their lengths.
fn files_below(dir: &Path) -> Vec<(std::path::PathBuf, usize)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let len = std::fs::read(entry.path()).unwrap().len();
                files.push((entry.path().strip_prefix(dir).unwrap().to_owned(), len));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_store_without_its_list_of_tables_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&[record(0, put("a", "1"))]).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("current")).unwrap();
    assert!(matches!(
        LsmStore::open(dir.path(), LsmOptions::default()),
        Err(StoreError::Damaged { .. })
    ));
}

/// The tree numbers its files from the same range as records; readers at the smallest LSNs must not
/// be shown an old list of files.
#[test]
fn lsns_as_dense_as_they_can_be_are_read_as_any_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..200_u64 {
        let body = put("key", n.to_be_bytes().to_vec());
        let dense = Record {
            lsn: Lsn(n),
            end: Lsn(n + 1),
            ..record(n, body)
        };
        store.apply(&[dense]).unwrap();
        assert_eq!(store.checkpoint(), Ok(Lsn(n + 1)));
        let value = store.get(b"key").unwrap().unwrap();
        assert_eq!(value.as_ref(), n.to_be_bytes());
        assert_eq!(store.count(), Ok(1));
    }
}

#[test]
fn a_failed_flush_fails_the_store_for_good_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    store.apply(&[record(0, put("a", "1"))]).unwrap();
    std::fs::remove_dir_all(path.join("tables")).unwrap();
    let failed = store.checkpoint().unwrap_err();
    assert!(
        matches!(
            failed,
            StoreError::Files {
                operation: "flushing",
                ..
            }
        ),
        "{failed}"
    );
    assert_eq!(store.checkpointed(), Lsn::ZERO);
    std::fs::create_dir(path.join("tables")).unwrap();
    assert_eq!(
        store.checkpoint(),
        Err(failed.clone()),
        "nothing is retried"
    );
    assert_eq!(store.apply(&[record(1, put("a", "2"))]), Err(failed));
    assert_eq!(store.get(b"a").unwrap().unwrap().as_ref(), b"1");
}
