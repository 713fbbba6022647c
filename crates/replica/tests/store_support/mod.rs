//! Factories of both stores, and a log of rows, for the tests of stores.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test support: each test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use outrigger_replica::conformance::{Factory, Subject};
use outrigger_replica::store::StoreError;
use outrigger_replica::store::kv::{ClientId, Op, OutcomeLimits, Write};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_wal::Lsn;
use outrigger_wal::format::{Record, RecordFlag};

/// Stores in memory.
#[derive(Default)]
pub struct Memory {
    stores: BTreeMap<u64, Arc<MemoryStore>>,
}

impl Memory {
    fn hand_out(&mut self, id: u64, store: MemoryStore) -> Subject {
        let store = Arc::new(store);
        self.stores.insert(id, Arc::clone(&store));
        Subject {
            id,
            state: store.clone(),
            rows: Some(store),
        }
    }
}

impl Factory for Memory {
    fn create(&mut self) -> Result<Subject, StoreError> {
        let id = self.stores.len() as u64;
        Ok(self.hand_out(id, MemoryStore::new(OutcomeLimits::default())))
    }

    fn reopen(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        self.crash(subject)
    }

    fn crash(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        let after = self.stores[&subject.id].crash();
        Ok(self.hand_out(subject.id, after))
    }
}

/// Stores on disk, below a temporary directory.
pub struct Lsm {
    dir: tempfile::TempDir,
    options: LsmOptions,
    made: u64,
}

impl Lsm {
    pub fn new(options: LsmOptions) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            options,
            made: 0,
        }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    fn open(&self, id: u64) -> Result<Subject, StoreError> {
        let store = Arc::new(LsmStore::open(&self.path(id), self.options)?);
        Ok(Subject {
            id,
            state: store.clone(),
            rows: Some(store),
        })
    }
}

impl Factory for Lsm {
    fn create(&mut self) -> Result<Subject, StoreError> {
        self.made += 1;
        self.open(self.made)
    }

    fn reopen(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        let id = subject.id;
        drop(subject);
        self.open(id)
    }

    // Dropping flushes nothing: what is found is what a killed process leaves.
    fn crash(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        self.reopen(subject)
    }
}

/// Copies a directory with all below it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Bytes {
    let op = Op::Put {
        key: key.into(),
        value: value.into(),
    };
    Write {
        client: ClientId::NONE,
        sequence: 0,
        op,
    }
    .encode()
    .unwrap()
}

/// Record number `n` of a log whose records all lie 1 KiB apart.
pub fn record(n: u64, body: Bytes) -> Record {
    let lsn = Lsn(4096 + n * 1024);
    Record {
        lsn,
        end: Lsn(lsn.0 + 1000),
        flag: RecordFlag::Record,
        body,
    }
}
