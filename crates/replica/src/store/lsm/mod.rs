//! The default store: rows on disk in an LSM tree that has no log of its own, because ours is its log.
//!
//! Guarantees: the whole contract. A checkpoint is one flush of the memtable: rows, windows of outcomes
//! and the applied LSN become durable together, or not at all, so that what is found after a crash is
//! exactly one checkpoint. Memory is bounded by [`LsmOptions`]: about three memtables, the cache, the
//! windows, and what a compaction reads ahead.
//!
//! The directory belongs to one process at a time; whoever owns the instance's directory locks it.
//! Files are made with the process's mode inside a directory of mode 0700.
//!
//! # Keys in the tree
//! `m` and nothing: the store about itself (`meta`); everything else as in the exported state
//! ([`super::kv`]).
//!
//! Not here: the tree itself (`tree`), the threads that flush (`flusher`) and compact (`compactor`).

mod compactor;
mod flusher;
mod meta;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::format::Record;
use parking_lot::Mutex;

use super::kv::{
    self, Change, ClientId, HOLDING_PREFIX, Holdings, OUTCOME_PREFIX, Outcome, OutcomeLimits,
    Outcomes, PairKind, ROW_PREFIX,
};
use super::{KeyRange, Pair, Partition, Rows, Snapshot, StateStore, StoreError, run, take_rows};
use compactor::Compactor;
use flusher::Flusher;
use meta::{META_KEY, Meta};
use tree::{FIRST_SEQNO, Tree, seqno};

const HOLDINGS_END: u8 = HOLDING_PREFIX + 1;
const OUTCOMES_END: u8 = OUTCOME_PREFIX + 1;
const ROWS_END: u8 = ROW_PREFIX + 1;

/// How much an [`LsmStore`] may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LsmOptions {
    /// The memtable is flushed when it has grown to this many bytes (its own count), while the one before
    /// it may still be in flushing. 12 MiB.
    pub memtable_bytes: u64,
    /// Blocks of tables kept in memory, in bytes. 8 MiB.
    pub cache_bytes: u64,
    /// How many outcomes are remembered; the same on all copies.
    pub outcomes: OutcomeLimits,
}

impl Default for LsmOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 12 * 1024 * 1024,
            cache_bytes: 8 * 1024 * 1024,
            outcomes: OutcomeLimits::default(),
        }
    }
}

/// A key-value store on disk.
pub struct LsmStore {
    // Dropped in this order: the flushing thread may wait for the compacting one.
    flusher: Flusher,
    compactor: Arc<Compactor>,
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    options: LsmOptions,
    tree: Tree,
    writer: Mutex<Writer>,
    /// As of what is applied; changed under the writer's lock.
    holdings: Holdings,
    checkpointed: AtomicU64,
    failed: OnceLock<StoreError>,
}

struct Writer {
    outcomes: Outcomes,
    /// The applied LSN when the memtable was last sealed.
    sealed: Lsn,
    changes: Vec<Change>,
    key: Vec<u8>,
}

enum Applied {
    Whole,
    /// The memtable is full; the rest of the run is yet to come.
    UpToFull,
}

impl LsmStore {
    /// Opens the store in a directory, made when it is missing; what is there is its latest checkpoint.
    /// No snapshot of an earlier opening can be read any more: files that only it needs are deleted.
    ///
    /// # Errors
    /// When the directory cannot be read or made, was written by a newer release, or is damaged.
    pub fn open(path: &Path, options: LsmOptions) -> Result<Self, StoreError> {
        let mut tree = Tree::open(path, options.cache_bytes)?;
        let mut meta = Meta::read(&tree, path)?;
        if meta.restoring {
            tracing::warn!(path = %path.display(), "a restore was interrupted: beginning empty");
            tree.clear()?;
            // Opening once more deletes the files of what was restored.
            drop(tree);
            tree = Tree::open(path, options.cache_bytes)?;
            meta = Meta::default();
        }
        let mut outcomes = Outcomes::new(options.outcomes);
        for pair in tree.newest_range(&[OUTCOME_PREFIX], &[OUTCOMES_END]) {
            let (key, value) = pair?;
            outcomes.import(&key, &value)?;
        }
        outcomes.drain_changed();
        let holdings = Holdings::default();
        for pair in tree.newest_range(&[HOLDING_PREFIX], &[HOLDINGS_END]) {
            let (key, value) = pair?;
            holdings.import(&key, &value)?;
        }
        holdings.drain_changed();
        tree.publish(meta.applied);
        let (changes, key) = (Vec::new(), Vec::new());
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options,
            tree,
            writer: Mutex::new(Writer { outcomes, sealed: meta.applied, changes, key }),
            holdings,
            checkpointed: AtomicU64::new(meta.applied.0),
            failed: OnceLock::new(),
        });
        let compactor = Arc::new(Compactor::start(Arc::clone(&shared))?);
        let flusher = Flusher::start(Arc::clone(&shared), Arc::clone(&compactor))?;
        Ok(Self { flusher, compactor, shared })
    }
}

impl Shared {
    fn checkpointed(&self) -> Lsn {
        Lsn(self.checkpointed.load(Ordering::Acquire))
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Keeps the first error for good, and returns it.
    fn fail(&self, error: StoreError) -> StoreError {
        self.failed.get_or_init(|| error).clone()
    }

    /// Applies whole batches, until the memtable is full or the run is at its end.
    fn apply_until_full(&self, run: &[Record]) -> Result<Applied, StoreError> {
        let writer = &mut *self.writer.lock();
        self.check()?;
        let mut applied = self.tree.visible();
        let mut result = Ok(Applied::Whole);
        for batch in run::batches(run, applied)? {
            let Writer { outcomes, changes, .. } = writer;
            if let Err((lsn, cause)) = kv::decide(outcomes, &self.holdings, batch, changes) {
                result = Err(self.fail(StoreError::Record { lsn, cause }));
                break;
            }
            let bytes = match writer.insert_changes(&self.tree) {
                Ok(bytes) => bytes,
                Err(error) => {
                    result = Err(self.fail(error));
                    break;
                }
            };
            applied = batch.last().map_or(applied, |last| last.end);
            if bytes >= self.options.memtable_bytes {
                result = Ok(Applied::UpToFull);
                break;
            }
        }
        // ORDER: whole batches are in the tree before readers are shown any of them.
        self.tree.publish(applied);
        result
    }
}

impl Writer {
    /// Moves the decided changes into the tree; returns the memtable's size in bytes.
    fn insert_changes(&mut self, tree: &Tree) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for change in self.changes.drain(..) {
            self.key.clear();
            self.key.push(ROW_PREFIX);
            self.key.extend_from_slice(&change.key);
            bytes = tree.insert(&self.key, change.value.as_deref(), seqno(change.lsn))?;
        }
        Ok(bytes)
    }

    /// Completes the memtable with what makes it a checkpoint, and closes it.
    fn seal(&mut self, tree: &Tree, holdings: &Holdings, at: Lsn) -> Result<(), StoreError> {
        // The number of the last record before `at`: at most that, and readers at `at` see it.
        let number = seqno(at).saturating_sub(1);
        for (key, value) in self.outcomes.drain_changed() {
            tree.insert(&key, value.as_deref(), number)?;
        }
        for (key, value) in holdings.drain_changed() {
            tree.insert(&key, Some(&value), number)?;
        }
        let meta = Meta { applied: at, restoring: false };
        tree.insert(META_KEY, Some(&meta.encode()), number)?;
        tree.seal()?;
        self.sealed = at;
        Ok(())
    }

    /// Loads pairs; the tree holds a mark of it from its first flush on.
    fn restore(
        &mut self,
        shared: &Shared,
        compactor: &Compactor,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        let tree = &shared.tree;
        let mut order = kv::PairOrder::default();
        let mark = Meta { applied: Lsn::ZERO, restoring: true };
        tree.insert(META_KEY, Some(&mark.encode()), FIRST_SEQNO)?;
        for pair in pairs {
            let (key, value) = pair?;
            match order.kind(&key)? {
                PairKind::Row => {}
                PairKind::Outcomes => {
                    self.outcomes.import(&key, &value)?;
                    continue;
                }
                PairKind::Holding => {
                    shared.holdings.import(&key, &value)?;
                    continue;
                }
            }
            let bytes = tree.insert(&key, Some(&value), seqno(at).saturating_sub(1))?;
            if bytes >= shared.options.memtable_bytes {
                tree.seal()?;
                tree.flush()?;
                compactor.flushed(shared);
            }
        }
        self.seal(tree, &shared.holdings, at)?;
        tree.flush()
    }
}

impl StateStore for LsmStore {
    fn partition(&self, record: &Record) -> Partition {
        kv::partition(record)
    }

    fn apply(&self, run: &[Record]) -> Result<(), StoreError> {
        loop {
            match self.shared.apply_until_full(run)? {
                Applied::Whole => return Ok(()),
                Applied::UpToFull => self.flusher.seal(&self.shared)?,
            };
        }
    }

    fn applied(&self) -> Lsn {
        self.shared.tree.visible()
    }

    fn advance(&self, to: Lsn) {
        let _writer = self.shared.writer.lock();
        self.shared.tree.publish(to.min(run::LSN_LIMIT));
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        let at = self.flusher.seal(&self.shared)?;
        self.flusher.wait(&self.shared, at)?;
        Ok(at)
    }

    fn checkpointed(&self) -> Lsn {
        self.shared.checkpointed()
    }

    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError> {
        // Under the lock, the windows are those of the visible LSN.
        let writer = self.shared.writer.lock();
        let at = self.shared.tree.visible();
        let holdings = self.shared.holdings.export().into_iter();
        let outcomes: Vec<_> = holdings
            .chain(writer.outcomes.export())
            .filter(|(key, _)| range.contains(key))
            .map(Ok)
            .collect();
        let from = range.from.as_ref().max(&[ROW_PREFIX]);
        let to = range.to.as_deref().unwrap_or(&[ROWS_END]).min(&[ROWS_END]);
        let rows = self.shared.tree.range(from, to);
        Ok(Snapshot::new(at, outcomes.into_iter().chain(rows)))
    }

    fn about_bytes(&self) -> Option<u64> {
        Some(self.shared.tree.file_bytes())
    }

    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.check()?;
        let mut writer = shared.writer.lock();
        kv::check_empty(shared.tree.visible(), shared.tree.is_empty())?;
        if at > run::LSN_LIMIT {
            let fault = super::RunFault::Beyond;
            return Err(StoreError::Run { lsn: at, fault });
        }
        if let Err(error) = writer.restore(shared, &self.compactor, at, pairs) {
            writer.outcomes = Outcomes::new(shared.options.outcomes);
            writer.sealed = Lsn::ZERO;
            shared.holdings.clear();
            shared.tree.clear().map_err(|error| shared.fail(error))?;
            return Err(error);
        }
        shared.tree.publish(at);
        shared.checkpointed.store(at.0, Ordering::Release);
        Ok(())
    }
}

impl Rows for LsmStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if key.len() > kv::MAX_KEY_BYTES {
            return Ok(None);
        }
        self.shared.tree.get(&kv::row_key(key))
    }

    fn scan(&self, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let rows = self.shared.tree.range(&kv::row_key(from), &[ROWS_END]);
        take_rows(rows.map(|row| row.map(|(key, value)| (key.slice(1..), value))), limit)
    }

    fn count(&self) -> Result<u64, StoreError> {
        let rows = self.shared.tree.range(&[ROW_PREFIX], &[ROWS_END]);
        rows.map(|row| row.map(|_| 1)).sum()
    }

    fn outcome(&self, client: ClientId, sequence: u64) -> Outcome {
        self.shared.writer.lock().outcomes.outcome(client, sequence)
    }

    fn holdings(&self) -> &Holdings {
        &self.shared.holdings
    }
}

impl std::fmt::Debug for LsmStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmStore")
            .field("path", &self.shared.path)
            .field("applied", &self.applied())
            .field("checkpointed", &self.checkpointed())
            .finish_non_exhaustive()
    }
}
