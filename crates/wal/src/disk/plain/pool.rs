//! The worker threads: a queue of operations, a queue of completions, and the hook between them.
//!
//! Guarantees: each submitted operation gets exactly one completion, also when the pool is closed
//! or a hook panics (then the pool closes: nobody waits for a thread that is gone). Not here:
//! what an operation does ([`super::files`]).

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Files;
use crate::disk::{Io, IoDone, IoFault, OpId};

type Completion = (OpId, Result<IoDone, IoFault>);
type Hook = Arc<dyn Fn() + Send + Sync>;
/// What a test makes fail: asked before each operation, which is not carried out then.
#[cfg(test)]
pub(crate) type Fails = Box<dyn FnMut(&Io) -> Option<IoFault> + Send>;

thread_local! {
    /// Set while this thread runs the hook of a pool.
    static IN_HOOK: Cell<Option<InHook>> = const { Cell::new(None) };
}

/// A worker that runs the hook: soon idle.
#[derive(Clone, Copy)]
struct InHook {
    /// The pool's address: another pool's operations are not for this thread.
    pool: usize,
    /// Whether an operation is already left for this thread to take.
    has_next: bool,
}

/// Shared by the handles and the workers.
pub(super) struct Pool {
    files: Files,
    queue: Mutex<Queue>,
    queued: Condvar,
    done: Mutex<Done>,
    reapable: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    #[cfg(test)]
    fails: Mutex<Option<Fails>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(OpId, Io)>,
    closed: bool,
}

#[derive(Default)]
struct Done {
    completions: Vec<Completion>,
    hook: Option<Hook>,
}

impl Pool {
    pub(super) fn start(threads: usize, files: Files) -> Result<Arc<Self>, IoFault> {
        let pool = Arc::new(Self {
            files,
            queue: Mutex::default(),
            queued: Condvar::new(),
            done: Mutex::default(),
            reapable: Condvar::new(),
            threads: Mutex::default(),
            #[cfg(test)]
            fails: Mutex::default(),
        });
        for number in 0..threads {
            let shared = Arc::clone(&pool);
            let started = thread::Builder::new()
                .name(format!("outrigger-disk-{number}"))
                .spawn(move || shared.work());
            match started {
                Ok(thread) => pool.threads.lock().push(thread),
                Err(error) => {
                    pool.close();
                    return Err(IoFault::Failed {
                        file: "disk thread".to_owned(),
                        operation: "start",
                        cause: error.to_string(),
                    });
                }
            }
        }
        Ok(pool)
    }

    pub(super) fn set_on_done(&self, hook: Option<Hook>) {
        // The old one is dropped behind the lock: it may own a handle of this very disk.
        let old = std::mem::replace(&mut self.done.lock().hook, hook);
        drop(old);
    }

    pub(super) fn submit(&self, op: OpId, io: Io) {
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            self.complete(op, Err(IoFault::Closed));
            return;
        }
        queue.waiting.push_back((op, io));
        drop(queue);
        if !self.is_left_for_this_thread() {
            self.queued.notify_one();
        }
    }

    /// Whether the caller is one of our workers in its hook, which takes from the queue next and
    /// was not yet counted on: then nobody else needs to be woken.
    fn is_left_for_this_thread(&self) -> bool {
        IN_HOOK.with(|cell| match cell.get() {
            Some(in_hook) if in_hook.pool == self.address() && !in_hook.has_next => {
                cell.set(Some(InHook { has_next: true, ..in_hook }));
                true
            }
            _ => false,
        })
    }

    /// `until`: `None` returns at once, `Some(None)` waits without an end.
    pub(super) fn reap(&self, until: Option<Option<Instant>>, into: &mut Vec<Completion>) {
        let mut done = self.done.lock();
        if let Some(until) = until {
            while done.completions.is_empty() {
                match until {
                    None => self.reapable.wait(&mut done),
                    Some(until) if self.reapable.wait_until(&mut done, until).timed_out() => break,
                    Some(_) => {}
                }
            }
        }
        into.append(&mut done.completions);
    }

    pub(super) fn close(&self) {
        self.stop();
        self.set_on_done(None);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A worker that drops the last handle, or closes in its hook, cannot wait for itself;
            // one that panicked has said so already.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }

    /// Answers what is queued and lets the workers end.
    fn stop(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.queued.notify_all();
        for (op, _) in waiting {
            self.complete(op, Err(IoFault::Closed));
        }
    }

    /// Hands a completion over; the hook to call then, if there is one.
    fn complete(&self, op: OpId, result: Result<IoDone, IoFault>) -> Option<Hook> {
        let mut done = self.done.lock();
        done.completions.push((op, result));
        let hook = done.hook.clone();
        drop(done);
        self.reapable.notify_one();
        hook
    }

    fn work(&self) {
        let _guard = StopOnPanic(self);
        while let Some((op, io)) = self.next() {
            let result = self.carry_out(&io);
            drop(io);
            if let Some(hook) = self.complete(op, result) {
                IN_HOOK.set(Some(InHook { pool: self.address(), has_next: false }));
                hook();
                IN_HOOK.set(None);
            }
        }
    }

    fn carry_out(&self, io: &Io) -> Result<IoDone, IoFault> {
        #[cfg(test)]
        if let Some(fault) = self.fails.lock().as_mut().and_then(|fails| fails(io)) {
            return Err(fault);
        }
        self.files.carry_out(io)
    }

    #[cfg(test)]
    pub(super) fn fail_with(&self, fails: Fails) {
        *self.fails.lock() = Some(fails);
    }

    /// The next operation; `None` when the pool is closed.
    fn next(&self) -> Option<(OpId, Io)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(task) = queue.waiting.pop_front() {
                return Some(task);
            }
            if queue.closed {
                return None;
            }
            self.queued.wait(&mut queue);
        }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// Closes the pool when a worker unwinds: later operations are answered instead of lost.
struct StopOnPanic<'a>(&'a Pool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}
