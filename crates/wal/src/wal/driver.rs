//! Who steps the log: whoever has just given it something to do, on the thread that did.
//!
//! A producer that appended, a disk thread with a completion and the timer all call
//! [`Shared::drive`]. One of them gets the lock and does what is due for all of them, the others go
//! on at once (flat combining). So a block is submitted by the thread that appended its
//! last record, and the next one by the thread that completed the last, without a change of thread.
//!
//! Guarantees: what was appended or completed before a call of `drive` is seen by a step that begins
//! after it; waiters are woken outside the lock; a poisoned log fails every waiter.
//! Not here: what a step does ([`Log`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::timer::Timer;
use crate::append::Appender;
use crate::disk::lock::DirLock;
use crate::disk::plain::PlainDisk;
use crate::disk::{Disk, DiskExt, FileId, Io, IoDone, IoFault, OpId};
use crate::error::Error;
use crate::format::{Block, CleanMark};
use crate::log::Log;
use crate::lsn::{Lsn, Micros};
use crate::watermark::Watermark;

/// How long one wait for a completion lasts; another follows.
const WAIT: Micros = Micros(1_000_000);

/// The log and its disk: what one thread at a time has.
pub(super) struct Core {
    pub(super) log: Log,
    pub(super) disk: PlainDisk,
    /// Held as long as anything may be written.
    pub(super) lock: DirLock,
    done: Vec<(OpId, Result<IoDone, IoFault>)>,
    sealed: Vec<Block>,
    out: Vec<(OpId, Io)>,
}

/// What all handles of one opened log share.
pub(super) struct Shared {
    /// `None` once the log is closed.
    core: Mutex<Option<Core>>,
    /// Whether something is to be done that the thread in the lock may not have seen.
    dirty: AtomicBool,
    pub(super) appender: Arc<Appender>,
    pub(super) durable: Arc<Watermark>,
    timer: Arc<Timer>,
}

impl Core {
    pub(super) fn new(log: Log, disk: PlainDisk, lock: DirLock) -> Self {
        Self { log, disk, lock, done: Vec::new(), sealed: Vec::new(), out: Vec::new() }
    }

    fn step(&mut self, now: Micros) {
        self.disk.reap(None, &mut self.done);
        for (op, result) in self.done.drain(..) {
            self.log.done(now, op, &result, &mut self.out);
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.log.wall_clock_is(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX));
        self.log.pump(now, &mut self.sealed, &mut self.out);
        // A lone log has nobody to send them to.
        self.sealed.clear();
        self.submit();
    }

    fn submit(&mut self) {
        for (op, io) in self.out.drain(..) {
            self.disk.submit(op, io);
        }
    }

    /// Forgets what lies below `floor`, in whole segments.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub(super) fn delete_below(&mut self, floor: Lsn) -> Result<Lsn, Error> {
        if let Some(cause) = self.log.poison() {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let start = self.log.drop_below(floor, &mut self.out);
        self.submit();
        Ok(start)
    }

    /// Writes everything that was appended, and waits until nothing is in flight.
    ///
    /// # Errors
    /// [`Error::Poisoned`], and the missing room that keeps blocks from being written.
    pub(super) fn finish(&mut self, timer: &Timer) -> Result<(), Error> {
        loop {
            self.step(timer.now());
            if let Some(cause) = self.log.poison() {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            if self.log.is_idle() && !self.log.appender().has_pending() {
                return Ok(());
            }
            if !self.log.is_busy() {
                // Blocks wait for a segment that cannot be made.
                let fault = self.log.space_fault().cloned();
                return Err(fault.map_or(Error::Closed, Error::Io));
            }
            self.disk.reap(Some(WAIT), &mut self.done);
        }
    }

    /// Writes the mark of a clean close. Nothing is in flight.
    pub(super) fn mark_clean(&mut self) -> Result<(), IoFault> {
        let mark =
            CleanMark { log: self.log.id(), end: self.log.end(), hash: self.log.hash() }.encode();
        // A power cut leaves none, or this one.
        self.disk.blocking().replace(
            FileId::NEW_CLEAN_MARK,
            FileId::CleanMark,
            mark.to_vec().into(),
        )
    }
}

impl Shared {
    pub(super) fn new(core: Core, timer: Arc<Timer>) -> Self {
        Self {
            appender: Arc::clone(core.log.appender()),
            durable: Arc::new(Watermark::new(core.log.durable())),
            dirty: AtomicBool::new(false),
            core: Mutex::new(Some(core)),
            timer,
        }
    }

    /// Does what is due, or leaves it to the thread that is at it.
    pub(super) fn drive(&self) {
        self.dirty.store(true, Ordering::Relaxed);
        loop {
            // Against the fence below: either we get the lock, or its holder sees `dirty`.
            fence(Ordering::SeqCst);
            let Some(mut guard) = self.core.try_lock() else { return };
            self.dirty.store(false, Ordering::Relaxed);
            // What was done before somebody set `dirty` is seen by the step.
            fence(Ordering::SeqCst);
            let Some(core) = guard.as_mut() else { return };
            core.step(self.timer.now());
            let durable = core.log.durable();
            let poison = core.log.poison().cloned();
            let deadline = core.log.deadline();
            drop(guard);
            self.durable.advance(durable);
            if let Some(cause) = poison {
                self.durable.fail(Error::Poisoned { cause });
            }
            if let Some(deadline) = deadline {
                self.timer.wake_at(deadline);
            }
            fence(Ordering::SeqCst);
            if !self.dirty.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Looks at the log, or changes it, without a step. Whoever finds the lock taken meanwhile has left his
    /// step to us.
    pub(super) fn with_core<R>(&self, look: impl FnOnce(Option<&mut Core>) -> R) -> R {
        let result = look(self.core.lock().as_mut());
        // Against the fence in `drive`: either he got the lock, or we see `dirty`.
        fence(Ordering::SeqCst);
        if self.dirty.load(Ordering::Relaxed) {
            self.drive();
        }
        result
    }

    /// Takes the log away from all handles; `None` when somebody else has done so.
    pub(super) fn take(&self) -> Option<Core> {
        self.appender.close();
        self.core.lock().take()
    }

    /// The folder and its disk again, for a next opening; the handles of this one are at their end.
    pub(super) fn release(&self, core: Core) -> (PlainDisk, DirLock) {
        self.timer.stop();
        (core.disk, core.lock)
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Ends what was taken: nothing more is written, the threads are waited for, then the folder is
    /// free. Who still waits gets `error`.
    pub(super) fn end(&self, core: Core, error: Error) {
        core.disk.close();
        self.timer.stop();
        // ORDER: nobody writes any more when the next one may have the folder.
        drop(core.lock);
        self.durable.fail(error);
    }
}
