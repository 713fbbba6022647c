//! A running replica as a lender.
//!
//! Guarantees: its log is read beside it, by plain reads of files that are durable. Not here: whom it
//! answers (a server).

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::disk::{DiskExt, FileId, IoFault};
use outrigger_wal::{InstanceId, Lsn};

use super::source::Lender;
use crate::member::{LendError, Lent};
use crate::runtime::Replica;
use crate::store::{KeyRange, Snapshot, StateStore, StoreError};

/// A replica that lends. Its calls block on disks.
pub struct ReplicaLender {
    replica: Replica,
    store: Arc<dyn StateStore>,
    disk: PlainDisk,
}

impl std::fmt::Debug for ReplicaLender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaLender").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl ReplicaLender {
    /// The replica in `data_dir`, whose store is `store`.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn new(
        replica: Replica,
        store: Arc<dyn StateStore>,
        data_dir: &Path,
    ) -> Result<Self, IoFault> {
        let options = PlainOptions { threads: 1, ..PlainOptions::new(data_dir.join("wal")) };
        Ok(Self { replica, store, disk: PlainDisk::open(options)? })
    }
}

impl Lender for ReplicaLender {
    fn lend(&mut self, to: InstanceId) -> Result<Lent, LendError> {
        self.replica.lend(to)
    }

    fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.store.snapshot(&KeyRange::all())
    }

    fn about_bytes(&self) -> Option<u64> {
        self.store.about_bytes()
    }

    fn hold(&mut self, name: u64, from: Option<Lsn>) -> Lsn {
        self.replica.hold(name, from)
    }

    fn read(&mut self, file: FileId, at: u64, len: u32) -> Result<Bytes, IoFault> {
        self.disk.blocking().read(file, at, len)
    }
}
