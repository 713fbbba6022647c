//! The thread that flushes: writers seal a memtable and go on, it makes the sealed one durable.
//!
//! Guarantees: one flush at a time, in the order of sealing, so that each leaves exactly a prefix; a
//! writer waits only when it has filled a memtable before the last was flushed. An error fails the
//! store, for good.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use outrigger_wal::Lsn;
use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::compactor::Compactor;
use crate::store::StoreError;

#[derive(Default)]
struct State {
    /// A memtable was sealed at this LSN, and is to be flushed.
    sealed: Option<Lsn>,
    /// From sealing until the flush is done and compaction keeps up.
    busy: bool,
    stop: bool,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

/// The flushing thread.
pub(super) struct Flusher {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(
        shared: Arc<Shared>,
        compactor: Arc<Compactor>,
    ) -> Result<Self, StoreError> {
        let signal = Arc::new(Signal::default());
        let theirs = Arc::clone(&signal);
        let path = shared.path.clone();
        let thread = std::thread::Builder::new()
            .name("outrigger-flush".to_owned())
            .spawn(move || run(&shared, &compactor, &theirs))
            .map_err(|cause| StoreError::Files {
                path,
                operation: "starting the flushing thread",
                cause: cause.to_string(),
            })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Seals what is applied, to be flushed; waits while the last is not flushed yet. Returns the LSN
    /// that will be durable.
    pub(super) fn seal(&self, shared: &Shared) -> Result<Lsn, StoreError> {
        let mut state = self.signal.state.lock();
        while state.busy {
            self.signal.changed.wait(&mut state);
        }
        shared.check()?;
        // Lock order: this state, then the writer.
        let mut writer = shared.writer.lock();
        let at = shared.tree.visible();
        if at == writer.sealed {
            return Ok(at);
        }
        writer.seal(&shared.tree, &shared.holdings, at).map_err(|error| shared.fail(error))?;
        state.sealed = Some(at);
        state.busy = true;
        self.signal.changed.notify_all();
        Ok(at)
    }

    /// Waits until everything before `at`, which was sealed, is durable.
    pub(super) fn wait(&self, shared: &Shared, at: Lsn) -> Result<(), StoreError> {
        let mut state = self.signal.state.lock();
        while shared.checkpointed() < at {
            shared.check()?;
            self.signal.changed.wait(&mut state);
        }
        Ok(())
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.signal.state.lock().stop = true;
        self.signal.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the flushing thread panicked");
        }
    }
}

fn run(shared: &Shared, compactor: &Compactor, signal: &Signal) {
    loop {
        let mut state = signal.state.lock();
        while state.sealed.is_none() && !state.stop {
            signal.changed.wait(&mut state);
        }
        let Some(at) = state.sealed.take().filter(|_| !state.stop) else {
            return;
        };
        drop(state);
        match shared.tree.flush() {
            Ok(()) => {
                shared.checkpointed.store(at.0, Ordering::Release);
                tracing::debug!(path = %shared.path.display(), %at, "checkpoint");
            }
            Err(error) => {
                let error = shared.fail(error);
                tracing::error!(%error, "flushing failed");
            }
        }
        // Whoever waits for this checkpoint goes on; whoever wants to seal waits for compaction.
        drop(signal.state.lock());
        signal.changed.notify_all();
        compactor.flushed(shared);
        signal.state.lock().busy = false;
        signal.changed.notify_all();
    }
}
