//! The one thread that wakes the log when a moment comes and nobody else would.
//!
//! Guarantees: a wake-up comes at the earliest moment asked for, or later when the machine is busy;
//! nothing is polled. Not here: what is due ([`crate::Log::deadline`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::IoFault;
use crate::lsn::Micros;

const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Asked {
    at: Option<Micros>,
    stopped: bool,
}

/// A clock that counts from its making, and an alarm on it.
#[derive(Debug)]
pub(super) struct Timer {
    began: Instant,
    asked: Mutex<Asked>,
    changed: Condvar,
    /// What `asked.at` is, to be compared without the lock.
    at: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Timer {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            asked: Mutex::default(),
            changed: Condvar::new(),
            at: AtomicU64::new(NEVER),
            thread: Mutex::default(),
        })
    }

    /// Calls `due` on a thread of its own at the moments asked for, until it answers `false`.
    pub(super) fn start(
        self: &Arc<Self>,
        due: impl Fn() -> bool + Send + 'static,
    ) -> Result<(), IoFault> {
        let timer = Arc::clone(self);
        let started = thread::Builder::new()
            .name("outrigger-timer".to_owned())
            .spawn(move || while timer.sleep() && due() {});
        match started {
            Ok(thread) => {
                *self.thread.lock() = Some(thread);
                Ok(())
            }
            Err(error) => Err(IoFault::Failed {
                file: "timer thread".to_owned(),
                operation: "start",
                cause: error.to_string(),
            }),
        }
    }

    /// The time that has passed.
    pub(super) fn now(&self) -> Micros {
        Micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(NEVER))
    }

    /// Asks to be woken at `deadline`, unless an earlier wake-up was asked for: whoever is woken
    /// too early asks again.
    pub(super) fn wake_at(&self, deadline: Micros) {
        if self.at.load(Ordering::Relaxed) <= deadline.0 {
            return;
        }
        let mut asked = self.asked.lock();
        if asked.at.is_none_or(|at| deadline < at) {
            asked.at = Some(deadline);
            self.at.store(deadline.0, Ordering::Relaxed);
            drop(asked);
            self.changed.notify_one();
        }
    }

    /// Ends the thread and waits for it, unless it is the calling one.
    pub(super) fn stop(&self) {
        self.asked.lock().stopped = true;
        self.changed.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|other| other.thread().id() != thread::current().id()) {
            // If it panicked it has said so already.
            drop(thread.join());
        }
    }

    /// Sleeps until the moment that was asked for; `false` when stopped.
    fn sleep(&self) -> bool {
        let mut asked = self.asked.lock();
        loop {
            if asked.stopped {
                return false;
            }
            match asked.at {
                Some(at) if self.now() >= at => break,
                Some(at) => match self.began.checked_add(Duration::from_micros(at.0)) {
                    Some(until) => {
                        self.changed.wait_until(&mut asked, until);
                    }
                    None => self.changed.wait(&mut asked),
                },
                None => self.changed.wait(&mut asked),
            }
        }
        asked.at = None;
        self.at.store(NEVER, Ordering::Relaxed);
        true
    }
}
