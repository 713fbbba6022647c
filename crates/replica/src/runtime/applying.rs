//! The store's thread: committed blocks in, records applied in order, checkpoints now and then.
//!
//! Guarantees: records are applied in LSN order, batches whole; a store's error ends the replica.
//! Not here: what is committed.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use outrigger_wal::format::{Record, RecordFlag};
use parking_lot::{Condvar, Mutex};

use super::ReplicaError;
use super::core::{Blocks, Shared};
use crate::member::In;
use crate::store::StateStore;

/// How many records are given to the store at once, at most about.
const RUN_RECORDS: usize = 4096;

/// How long the thread lets blocks gather after it has applied some, unless somebody waits for them:
/// waking it for each commit would take the processor from whoever waits for the next one.
const GATHER: Duration = Duration::from_millis(1);

/// What was handed over and not taken yet.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    blocks: Blocks,
    closed: bool,
    /// The thread sleeps until it is woken.
    parked: bool,
}

impl Queue {
    /// What waits; nothing once it is closed and empty. Blocks gather
    /// for a moment where the last ones were just applied (`worked`).
    fn take(&self, worked: bool) -> Option<Blocks> {
        let mut state = self.state.lock();
        if worked && !state.closed {
            self.changed.wait_for(&mut state, GATHER);
        }
        while state.blocks.is_empty() {
            if state.closed {
                return None;
            }
            state.parked = true;
            self.changed.wait(&mut state);
            state.parked = false;
        }
        Some(std::mem::take(&mut state.blocks))
    }
}

/// The handle to the store's thread.
pub(super) struct Applier {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<Result<(), ReplicaError>>>>,
}

impl Applier {
    /// Starts the thread; `home` is filled before the first blocks come.
    pub(super) fn start(
        store: Arc<dyn StateStore>,
        checkpoint_bytes: u64,
        home: Arc<OnceLock<Weak<Shared>>>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let from = Arc::clone(&queue);
        let work = move || {
            let result = run(&*store, checkpoint_bytes, &home, &from);
            if let Err(error) = &result
                && let Some(shared) = home.get().and_then(Weak::upgrade)
            {
                shared.fail(format!("the store failed: {error}"));
            }
            result
        };
        let thread = std::thread::Builder::new().name("apply".to_owned()).spawn(work)?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Hands blocks over; the thread looks at them once it is woken. One that ended has told why.
    pub(super) fn queue(&self, blocks: Blocks) {
        self.queue.state.lock().blocks.extend(blocks);
    }

    /// Sees to it that the thread looks soon, or at once where somebody waits for it (`awaited`).
    pub(super) fn wake(&self, awaited: bool) {
        if awaited || self.queue.state.lock().parked {
            self.queue.changed.notify_one();
        }
    }

    /// Ends the thread: everything that was handed over is applied, a checkpoint is made.
    pub(super) fn close(&self) -> Result<(), ReplicaError> {
        self.queue.state.lock().closed = true;
        self.wake(true);
        match self.thread.lock().take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(ReplicaError::Down("the store's thread panicked".to_owned())),
            None => Ok(()),
        }
    }
}

impl Drop for Applier {
    /// The thread ends, and lets go of the store. It is not waited for: it may be the one that drops this.
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.wake(true);
    }
}

fn run(
    store: &dyn StateStore,
    checkpoint_bytes: u64,
    home: &OnceLock<Weak<Shared>>,
    queue: &Queue,
) -> Result<(), ReplicaError> {
    let mut told = store.checkpointed();
    let mut worked = false;
    while let Some(blocks) = queue.take(worked) {
        worked = true;
        let Some(end) = blocks.last().map(outrigger_wal::format::Block::end) else { continue };
        apply(store, &blocks)?;
        store.advance(end);
        let Some(shared) = home.get().and_then(Weak::upgrade) else { continue };
        shared.applied_to(end);
        if end.since(store.checkpointed()) >= checkpoint_bytes {
            store.checkpoint()?;
        }
        if store.checkpointed() > told {
            told = store.checkpointed();
            shared.push(In::Checkpointed(told));
        }
    }
    store.checkpoint()?;
    Ok(())
}

fn apply(store: &dyn StateStore, blocks: &Blocks) -> Result<(), ReplicaError> {
    let mut records: Vec<Record> = Vec::new();
    for block in blocks {
        let inside = block.records().map_err(|error| bad(block, &error.to_string()))?;
        for record in inside {
            let record = record.map_err(|error| bad(block, &error.to_string()))?;
            if record.flag != RecordFlag::Void {
                records.push(record);
            }
        }
        // A batch lies in one block, so a run that ends with a block ends with a batch.
        if records.len() >= RUN_RECORDS {
            store.apply(&records)?;
            records.clear();
        }
    }
    if !records.is_empty() {
        store.apply(&records)?;
    }
    Ok(())
}

fn bad(block: &outrigger_wal::format::Block, cause: &str) -> ReplicaError {
    ReplicaError::Down(format!("the block at {} cannot be read: {cause}", block.lsn()))
}
