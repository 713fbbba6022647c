//! The store's thread: committed blocks in, records applied in order, checkpoints now and then.
//!
//! Guarantees: records are applied in LSN order, batches whole; a store's error ends the replica.
//! Not here: what is committed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use outrigger_wal::format::{Record, RecordFlag};
use parking_lot::Mutex;

use super::ReplicaError;
use super::core::{Blocks, Shared};
use crate::member::In;
use crate::store::StateStore;

/// How many records are given to the store at once, at most about.
const RUN_RECORDS: usize = 4096;

/// The handle to the store's thread.
pub(super) struct Applier {
    sender: Mutex<Option<Sender<Blocks>>>,
    thread: Mutex<Option<JoinHandle<Result<(), ReplicaError>>>>,
}

impl Applier {
    /// Starts the thread; `home` is filled before the first blocks come.
    pub(super) fn start(
        store: Arc<dyn StateStore>,
        checkpoint_bytes: u64,
        home: Arc<OnceLock<Weak<Shared>>>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let work = move || {
            let result = run(&*store, checkpoint_bytes, &home, &receiver);
            if let Err(error) = &result
                && let Some(shared) = home.get().and_then(Weak::upgrade)
            {
                shared.fail(format!("the store failed: {error}"));
            }
            result
        };
        let thread = std::thread::Builder::new().name("apply".to_owned()).spawn(work)?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn apply(&self, blocks: Blocks) {
        if let Some(sender) = self.sender.lock().as_ref() {
            // A thread that ended has told why.
            sender.send(blocks).ok();
        }
    }

    /// Ends the thread: everything that was handed over is applied, a checkpoint is made.
    pub(super) fn close(&self) -> Result<(), ReplicaError> {
        self.sender.lock().take();
        match self.thread.lock().take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(ReplicaError::Down("the store's thread panicked".to_owned())),
            None => Ok(()),
        }
    }
}

fn run(
    store: &dyn StateStore,
    checkpoint_bytes: u64,
    home: &OnceLock<Weak<Shared>>,
    receiver: &Receiver<Blocks>,
) -> Result<(), ReplicaError> {
    let mut told = store.checkpointed();
    while let Ok(mut blocks) = receiver.recv() {
        while let Ok(more) = receiver.try_recv() {
            blocks.extend(more);
            if blocks.len() > RUN_RECORDS {
                break;
            }
        }
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
