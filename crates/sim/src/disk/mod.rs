//! A simulated disk: a page cache over a platter, in simulated time, with crashes and faults.
//!
//! Guarantees: it keeps the promises of [`outrigger_wal::disk`] and no others. Operations complete
//! in an order drawn from the seed. A power cut keeps what was durable and, of the rest, any
//! subset of 512-byte sectors; a kill keeps the page cache. One seed and one sequence of calls give
//! one run, in debug and in release.
//!
//! Two ways to drive it. The simulator calls [`SimDisk::advance`] as its time goes on. Synchronous
//! callers use [`SimDiskOptions::immediate`], or wait when they reap (as
//! [`outrigger_wal::disk::Blocking`] does): who waits is served at once, in no simulated time.
//!
//! Clones and [`SimDisk::reopen`] share one disk. A handle that was made before a crash answers
//! [`IoFault::Closed`] after it; what concerns the disk and not the process (everything but the
//! [`Disk`] trait) works through any handle.
//!
//! Not here: what is in the files; when a process crashes; short writes: at the seam a write is done as a whole
//! or fails, partly done. Going on behind a short one is the plain files' own loop, which has its own tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use outrigger_wal::Micros;
use outrigger_wal::disk::{Dir, Disk, FileId, Io, IoDone, IoFault, OpId};

mod crash;
mod file;
mod names;
mod options;
mod state;
mod survival;
#[cfg(test)]
mod tests;
mod trace;

use file::SimFile;
use state::State;

pub use options::{FaultRates, Latency, OpKind, SimDiskOptions};
pub use survival::CrashReport;

/// A handle of a simulated disk.
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
    /// Operations that this handle submitted after its end.
    refused: Vec<OpId>,
}

impl Clone for SimDisk {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), generation: self.generation, refused: Vec::new() }
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(options: SimDiskOptions) -> Self {
        let state = Arc::new(Mutex::new(State::new(options)));
        Self { state, generation: 0, refused: Vec::new() }
    }

    /// A handle for the next process, after a crash or without one.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let generation = self.lock().generation;
        Self { state: Arc::clone(&self.state), generation, refused: Vec::new() }
    }

    /// Another disk with the same content, faults and operations in flight, whose chances are
    /// drawn from another seed: to try several ends of one story.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let mut state = self.lock().clone();
        state.rng = crate::rng::Rng::new(seed).fork("disk");
        let generation = self.generation;
        Self { state: Arc::new(Mutex::new(state)), generation, refused: Vec::new() }
    }

    /// Completes what is due at this moment of true time.
    pub fn advance(&self, now: Micros) {
        self.lock().advance(now);
    }

    /// When the next operation completes; `None` when none is in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<Micros> {
        self.lock().next_due()
    }

    /// The process dies: each operation in flight took effect wholly, in part or not, and the page
    /// cache survives.
    pub fn kill(&self) -> CrashReport {
        self.lock().kill()
    }

    /// The machine loses power: what was not made durable survives in any part.
    pub fn power_cut(&self) -> CrashReport {
        self.lock().power_cut()
    }

    /// Accepts `n` more operations. The next one, all later ones, and those that are then in flight
    /// are answered [`IoFault::Closed`]; call [`Self::kill`] or [`Self::power_cut`] then.
    pub fn crash_after(&self, n: u64) {
        let mut state = self.lock();
        state.crash_at = Some(state.operations.saturating_add(n));
    }

    /// Whether the point of [`Self::crash_after`] was reached.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Lets the n-th operation of a kind from now on fail; 1 is the next one.
    pub fn fail_nth(&self, kind: OpKind, nth: u64) {
        self.lock().fail_nth(kind, nth);
    }

    /// Changes how often operations fail, for those submitted from now on.
    pub fn set_faults(&self, faults: FaultRates) {
        self.lock().options.faults = faults;
    }

    /// Changes how long operations take, for those submitted from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().options.latency = latency;
    }

    /// Changes how much fits on the disk; what is there stays.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().options.capacity_bytes = capacity_bytes;
    }

    /// Changes between completing at once and completing by [`Self::advance`].
    pub fn set_immediate(&self, immediate: bool) {
        self.lock().options.immediate = immediate;
    }

    /// Turns one bit of a file over, in the cache and on the platter; `false` when there is no
    /// such byte.
    pub fn flip_bit(&self, file: FileId, at: u64, bit: u8) -> bool {
        self.lock().file_mut(file).is_some_and(|file| file.flip_bit(at, bit))
    }

    /// Makes the 512-byte sector at this byte unreadable until it is written again; `false` when
    /// there is no such file.
    pub fn break_sector(&self, file: FileId, at: u64) -> bool {
        self.lock().file_mut(file).map(|file| file.break_sector(at)).is_some()
    }

    /// The page cache gives up what it need not write any more: reads then see the platter.
    pub fn drop_clean_pages(&self) {
        self.lock().files.values_mut().for_each(SimFile::drop_clean_pages);
    }

    /// What a process reads from the file now; `None` when it is not there.
    #[must_use]
    pub fn file_bytes(&self, file: FileId) -> Option<Bytes> {
        self.lock().file(file).map(|file| file.cache().read(0, u64::MAX))
    }

    /// What is on the platter under this name: what a power cut leaves when nothing else gets there
    /// before it; `None` when the name itself is not there.
    #[must_use]
    pub fn durable_bytes(&self, file: FileId) -> Option<Bytes> {
        let state = self.lock();
        let inode = state.names.durable(file)?;
        state.files.get(&inode).map(|file| file.platter().read(0, u64::MAX))
    }

    /// Puts a file with this content in place, durable under its name: to prepare a test.
    pub fn set_file(&self, file: FileId, content: &[u8]) {
        let mut state = self.lock();
        let inode = state.add_file(SimFile::durable(content));
        state.names.force(file, Some(inode));
        state.forget_nameless();
    }

    /// Takes a file away, durably: to prepare a test.
    pub fn remove_file(&self, file: FileId) {
        let mut state = self.lock();
        state.names.force(file, None);
        state.forget_nameless();
    }

    /// Puts a name that is not ours into a folder.
    pub fn add_foreign(&self, dir: Dir, name: &str) {
        self.lock().foreign.insert((dir, name.to_owned()));
    }

    /// The files that a process sees now, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<FileId> {
        self.lock().names.seen().map(|(name, _)| name).collect()
    }

    /// How much of the capacity is used: whole pages, holes included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// How many operations were accepted since the disk was made.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// A hash of everything that happened so far: operations, contents, results, moments, crashes.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.lock().trace.hash()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, op: OpId, io: Io) {
        let mut state = self.lock();
        let accepted = state.generation == self.generation && state.submit(op, io);
        drop(state);
        if !accepted {
            self.refused.push(op);
        }
    }

    fn reap(&mut self, wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        done.extend(self.refused.drain(..).map(|op| (op, Err(IoFault::Closed))));
        let mut state = self.lock();
        if state.generation != self.generation {
            return;
        }
        if state.crashed {
            state.answer_closed(done);
            return;
        }
        if state.options.immediate || wait.is_some() && state.done.is_empty() {
            state.complete_all();
        }
        done.append(&mut state.done);
    }
}
