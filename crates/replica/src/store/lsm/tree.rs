//! The one file that knows the crate `lsm-tree`: a tree of versions without a log of its own.
//!
//! # How its sequence numbers are used
//! A record's LSN, shifted by [`SEQNO_BASE`], is the sequence number of its entries. Readers read at
//! the *visible* LSN, which is published when whole batches are in. The crate also numbers its file
//! versions, from a counter that it expects to be the same, and shows a reader the newest version
//! below the reader's number. Here that counter is set back to 0 before each operation that makes a
//! version, so that every reader gets the newest one; [`SEQNO_BASE`] keeps readers above it.
//!
//! # Why no reader loses the entry it needs
//! Flushing and compacting drop an entry when a newer one of its key is in the same table and the
//! dropped one lies below a threshold. That is harmless to a reader that sees the newer one. So
//! [`Tree::threshold`] takes the visible LSN, at or above all that a sealed memtable or a table holds,
//! and then waits until readers that began before are over (`gate`). A reader that opened an iterator
//! keeps the memtables and tables it began with.
//!
//! # Durability (3.1.10, as read in its source)
//! A flush writes and syncs each table and its directory, then the version file and its directory, then
//! replaces `current` by a synced temporary file and syncs the directory again. Opening deletes tables
//! and versions that `current` does not name. Dropping flushes nothing.
//!
//! Not here: what keys and values mean.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use lsm_tree::compaction::Leveled;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
};
use outrigger_wal::Lsn;
use outrigger_wal::disk::plain::make_dir;
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_128;

use crate::store::kv::MAX_KEY_BYTES;
use crate::store::{Pair, StoreError};

/// Readers' sequence numbers start here; the numbers of file versions stay below.
const SEQNO_BASE: u64 = 16;

/// Below every record's: for what must give way to anything written later.
pub(super) const FIRST_SEQNO: SeqNo = 1;

/// Level 0 is merged into level 1 when it holds so many tables.
pub(super) const LEVEL0_TABLES: u8 = 4;

/// Compaction cuts its tables at this size: 16 MiB.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;

/// One more than the longest key in the tree: prefix and row key.
const LONGEST_BOUND: usize = MAX_KEY_BYTES + 2;

const OPEN_FILES: usize = 128;

/// The sequence number of a record's entries.
pub(super) const fn seqno(lsn: Lsn) -> SeqNo {
    lsn.0.saturating_add(SEQNO_BASE)
}

/// The tree, and what readers see of it.
pub(super) struct Tree {
    path: PathBuf,
    tree: AnyTree,
    /// Numbers file versions; see above.
    versions: SequenceNumberCounter,
    visible: AtomicU64,
    gate: RwLock<()>,
}

impl Tree {
    /// Opens the tree in a directory, made when it is missing.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        // ORDER: the directory's name is durable before anything in it can count.
        make_dir(path).map_err(|fault| StoreError::Files {
            path: path.to_owned(),
            operation: "creating the directory",
            cause: fault.to_string(),
        })?;
        check_version_file(path)?;
        let versions = SequenceNumberCounter::default();
        let config = Config::new(path, versions.clone(), SequenceNumberCounter::default())
            .use_cache(Arc::new(Cache::with_capacity_bytes(cache_bytes)))
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_FILES))));
        let tree = guarded(path, "opening", || config.open())?;
        let (visible, gate) = (AtomicU64::new(0), RwLock::new(()));
        Ok(Self { path: path.to_owned(), tree, versions, visible, gate })
    }

    /// What readers see: everything before this.
    pub(super) fn visible(&self) -> Lsn {
        Lsn(self.visible.load(Ordering::Acquire))
    }

    /// Shows readers everything before `to`; never moves back.
    pub(super) fn publish(&self, to: Lsn) {
        self.visible.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Whether nothing at all is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.tree.approximate_len() == 0
    }

    /// Puts an entry into the memtable (`None`: a deletion); returns the memtable's size in bytes.
    pub(super) fn insert(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        seqno: SeqNo,
    ) -> Result<u64, StoreError> {
        self.guarded("inserting", || {
            let (_, bytes) = match value {
                Some(value) => self.tree.insert(key, value, seqno),
                None => self.tree.remove(key, seqno),
            };
            Ok(bytes)
        })
    }

    /// Closes the memtable and begins another; the closed one waits for [`Tree::flush`].
    pub(super) fn seal(&self) -> Result<(), StoreError> {
        self.guarded("sealing", || {
            self.tree.rotate_memtable();
            Ok(())
        })
    }

    /// Makes sealed memtables durable as one table: all of them, or nothing.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let threshold = self.threshold();
        self.versions.set(0);
        self.guarded("flushing", || {
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, threshold).map(drop)
        })
    }

    /// Runs one compaction, when one is due. Returns whether the files changed.
    pub(super) fn compact(&self) -> Result<bool, StoreError> {
        let strategy =
            Leveled::default().with_l0_threshold(LEVEL0_TABLES).with_table_target_size(TABLE_BYTES);
        let threshold = self.threshold();
        self.versions.set(0);
        self.guarded("compacting", || {
            let before = self.tree.current_version().id();
            self.tree.compact(Arc::new(strategy), threshold)?;
            Ok(self.tree.current_version().id() != before)
        })
    }

    /// How many runs of tables lie above level 1.
    pub(super) fn level0_runs(&self) -> Result<usize, StoreError> {
        self.guarded("counting tables", || Ok(self.tree.l0_run_count()))
    }

    /// What the tables take on disk, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.tree.disk_space()
    }

    /// Forgets everything, durably.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.versions.set(0);
        self.guarded("clearing", || self.tree.clear())
    }

    /// The value of a key among what is visible.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let _reading = self.gate.read();
        let at = seqno(self.visible());
        let value = self.guarded("reading", || self.tree.get(key, at))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The visible entries from one key to before another, as they are now.
    pub(super) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + Send + 'static {
        let _opening = self.gate.read();
        let at = seqno(self.visible());
        self.entries(from, to, at)
    }

    /// Like [`Tree::range`], with everything that is in the tree; for opening.
    pub(super) fn newest_range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + Send + 'static {
        self.entries(from, to, SeqNo::MAX)
    }

    fn entries(
        &self,
        from: &[u8],
        to: &[u8],
        at: SeqNo,
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + Send + 'static {
        let path = self.path.clone();
        // No key is longer, so that cut bounds hold the same keys; the crate asserts 64 KiB.
        let from = from.get(..LONGEST_BOUND).unwrap_or(from);
        let to = to.get(..LONGEST_BOUND).unwrap_or(to);
        let empty = from >= to;
        let opened = self.guarded("reading", || {
            Ok((!empty).then(|| self.tree.range::<&[u8], _>(from..to, at, None)))
        });
        let (mut entries, mut failed) = match opened {
            Ok(entries) => (entries, None),
            Err(error) => (None, Some(error)),
        };
        std::iter::from_fn(move || {
            if let Some(error) = failed.take() {
                return Some(Err(error));
            }
            let next = guarded(&path, "reading", || {
                entries.as_mut().and_then(Iterator::next).map(Guard::into_inner).transpose()
            });
            match next {
                Ok(None) => None,
                Ok(Some((key, value))) => {
                    Some(Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))))
                }
                Err(error) => {
                    entries = None;
                    Some(Err(error))
                }
            }
        })
    }

    /// Below this, entries may be dropped in favour of newer ones; see above.
    fn threshold(&self) -> SeqNo {
        let threshold = seqno(self.visible());
        // ORDER: readers that began below the threshold are over before anything is dropped.
        drop(self.gate.write());
        threshold
    }

    fn guarded<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce() -> lsm_tree::Result<T>,
    ) -> Result<T, StoreError> {
        guarded(&self.path, operation, run)
    }
}

/// Checks the file that lists the tables against the checksum kept in `current`: the crate writes that
/// and does not check it, and deletes every table that the list does not name.
fn check_version_file(path: &Path) -> Result<(), StoreError> {
    let files = |operation, cause: std::io::Error| StoreError::Files {
        path: path.to_owned(),
        operation,
        cause: cause.to_string(),
    };
    let current = match std::fs::read(path.join("current")) {
        Ok(current) => current,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            let mut tables = std::fs::read_dir(path.join("tables")).into_iter().flatten();
            return match tables.next() {
                None => Ok(()),
                Some(_) => Err(damaged(path, "it has tables, and no file `current`".to_owned())),
            };
        }
        Err(cause) => return Err(files("reading `current`", cause)),
    };
    // Version number `u64`, XXH3-128 of the version's file `u128`, checksum kind `u8` (0).
    let mut rest = current.as_slice();
    let fields = (rest.try_get_u64_le(), rest.try_get_u128_le(), rest);
    let (Ok(number), Ok(expected), [0]) = fields else {
        return Err(damaged(path, "`current` is malformed".to_owned()));
    };
    let name = format!("v{number}");
    let list = std::fs::read(path.join(&name))
        .map_err(|cause| files("reading the list of tables", cause))?;
    if xxh3_128(&list) != expected {
        return Err(damaged(path, format!("the list of tables, {name}, has a wrong checksum")));
    }
    Ok(())
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged { place: path.display().to_string(), what }
}

/// Runs a call into the crate; its errors, and its assertions about damaged files, become ours.
fn guarded<T>(
    path: &Path,
    operation: &'static str,
    run: impl FnOnce() -> lsm_tree::Result<T>,
) -> Result<T, StoreError> {
    let cause = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(lsm_tree::Error::Io(cause))) => cause.to_string(),
        Ok(Err(cause)) => cause.to_string(),
        Err(panic) => format!("a check inside the tree failed: {}", message(panic.as_ref())),
    };
    Err(StoreError::Files { path: path.to_owned(), operation, cause })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
