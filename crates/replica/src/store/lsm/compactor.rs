//! The thread that compacts: owned by the store, woken after flushes, joined when the store is dropped.
//!
//! Guarantees: never runs in a reader's or writer's thread; flushing waits for it only when level 0
//! grew to [`STALL_RUNS`]. An error stops it, and fails the store.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::tree::LEVEL0_TABLES;
use crate::store::StoreError;

/// Flushing waits while level 0 has so many runs: reads would have to look into each.
const STALL_RUNS: usize = 12;

#[derive(Default)]
struct State {
    due: bool,
    running: bool,
    stop: bool,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

/// The compacting thread.
pub(super) struct Compactor {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Compactor {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let signal = Arc::new(Signal::default());
        let theirs = Arc::clone(&signal);
        let path = shared.path.clone();
        let thread = std::thread::Builder::new()
            .name("outrigger-compact".to_owned())
            .spawn(move || run(&shared, &theirs))
            .map_err(|cause| StoreError::Files {
                path,
                operation: "starting the compaction thread",
                cause: cause.to_string(),
            })?;
        Ok(Self {
            signal,
            thread: Some(thread),
        })
    }

    /// Wakes the thread when there is something to compact; waits for it when there is far too much.
    pub(super) fn flushed(&self, shared: &Shared) {
        let runs_at_least = |runs| shared.tree.level0_runs().is_ok_and(|found| found >= runs);
        if !runs_at_least(usize::from(LEVEL0_TABLES)) {
            return;
        }
        let mut state = self.signal.state.lock();
        state.due = true;
        self.signal.changed.notify_all();
        while (state.due || state.running) && shared.check().is_ok() && runs_at_least(STALL_RUNS) {
            self.signal.changed.wait(&mut state);
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.signal.state.lock().stop = true;
        self.signal.changed.notify_all();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the compaction thread panicked");
        }
    }
}

fn run(shared: &Shared, signal: &Signal) {
    loop {
        let mut state = signal.state.lock();
        while !state.due && !state.stop {
            signal.changed.wait(&mut state);
        }
        if state.stop {
            return;
        }
        (state.due, state.running) = (false, true);
        drop(state);
        let more = compact(shared);
        let mut state = signal.state.lock();
        state.running = false;
        state.due |= more;
        signal.changed.notify_all();
    }
}

/// One compaction; returns whether another may be due.
fn compact(shared: &Shared) -> bool {
    if shared.check().is_err() {
        return false;
    }
    match shared.tree.compact() {
        Ok(changed) => changed,
        Err(error) => {
            shared.fail(error);
            false
        }
    }
}
