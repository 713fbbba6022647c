//! A disk of plain files, worked by a small pool of threads.
//!
//! Guarantees: what [`super`] demands, by `pwritev2` with `RWF_DSYNC` (or a write and `fdatasync`
//! where the file system does not know it), `fdatasync`, and `fsync` of folders. Short writes go on
//! where they stopped, interrupted calls are made again, a write of nothing is an error. New
//! files have mode 0600, new folders 0700; symbolic links are not followed.
//!
//! A completion can be acted on where it happens: the hook of [`PlainDisk::set_on_done`] runs on
//! the worker, and what it submits is carried out by the same worker, so that a chain of operations
//! costs no change of thread.
//!
//! Not here: order between operations on one file (the caller does not let them conflict), and
//! any retry after a failure.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Disk, Io, IoDone, IoFault, OpId};
use crate::lsn::Micros;

mod files;
mod folder;
mod pool;
#[cfg(test)]
mod tests;

use files::Files;
pub(super) use files::no_follow;
pub use folder::{make_dir, move_to, remove_all, replace};
#[cfg(test)]
pub(crate) use pool::Fails;
use pool::Pool;

/// How a [`PlainDisk`] is opened.
#[derive(Clone, Debug)]
pub struct PlainOptions {
    /// The log's folder; `saved/` lies below it.
    pub log_dir: PathBuf,
    /// The instance's folder. `None`: its files are not found, for a lone log.
    pub instance_dir: Option<PathBuf>,
    /// Worker threads, which is how many operations run at a time; default 3, at least 1.
    pub threads: usize,
    /// Whether folders that are missing are made; default no: a missing one is an error.
    pub create: bool,
}

impl PlainOptions {
    /// The defaults, for a log in this folder.
    #[must_use]
    pub fn new(log_dir: impl Into<PathBuf>) -> Self {
        Self { log_dir: log_dir.into(), instance_dir: None, threads: 3, create: false }
    }
}

/// A disk of plain files; clones share its threads and its completions.
///
/// The threads end when the last clone is dropped, or with [`PlainDisk::close`]. A hook that owns
/// a clone keeps the disk open until `close`; let it own something weak instead.
#[derive(Clone)]
pub struct PlainDisk {
    pool: Arc<Pool>,
    _owner: Arc<Owner>,
}

/// Closes the pool when the last clone of the disk goes; the workers do not hold it.
struct Owner(Arc<Pool>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl PlainDisk {
    /// Opens the folders and starts the threads.
    ///
    /// # Errors
    /// A folder is missing (and was not to be made), is no folder, or could not be made; a
    /// thread could not be started.
    pub fn open(options: PlainOptions) -> Result<Self, IoFault> {
        let threads = options.threads.max(1);
        let files = Files::open(options)?;
        let pool = Pool::start(threads, files)?;
        Ok(Self { _owner: Arc::new(Owner(Arc::clone(&pool))), pool })
    }

    /// Calls `hook` after each completion from now on, on the thread that carried it out, with
    /// no lock held. It may reap and submit; the first operation it submits is carried out by the
    /// same thread, once the hook returns.
    pub fn set_on_done(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        self.pool.set_on_done(Some(hook));
    }

    /// Lets operations fail, in a test.
    #[cfg(test)]
    pub(crate) fn fail_with(&self, fails: Fails) {
        self.pool.fail_with(fails);
    }

    /// Ends the disk for all clones: what runs is finished, what is queued and what comes later is
    /// answered [`IoFault::Closed`], the hook is let go, the threads are waited for (but for
    /// the calling one, when it is of them).
    pub fn close(&self) {
        self.pool.close();
    }
}

impl Disk for PlainDisk {
    fn submit(&mut self, op: OpId, io: Io) {
        self.pool.submit(op, io);
    }

    fn reap(&mut self, wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        // A wait that is too long to be a moment on this clock has no end.
        let until = wait.map(|wait| Instant::now().checked_add(Duration::from_micros(wait.0)));
        self.pool.reap(until, done);
    }
}
