//! How a simulated disk behaves: its pace, its faults, its size.
//!
//! Not here: single scripted faults, which are set on the disk as the test runs.

use std::ops::Range;

use outrigger_wal::disk::Io;

/// How a [`super::SimDisk`] is made.
#[derive(Clone, Debug)]
pub struct SimDiskOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long operations take.
    pub latency: Latency,
    /// How often operations fail.
    pub faults: FaultRates,
    /// How much fits on the disk; `None`: everything.
    pub capacity_bytes: Option<u64>,
    /// Whether everything queued completes at once, in any order, when it is reaped; otherwise
    /// the simulator decides by [`super::SimDisk::advance`].
    pub immediate: bool,
    /// How often, in a thousand, the operating system has written a dirty page by itself before it
    /// is written over: so older versions of a page can be what a power cut leaves.
    pub writeback_per_mille: u32,
    /// Whether folders lose only their last changes in a power cut, as a journal does it. By
    /// default any of them may be lost.
    pub ordered_names: bool,
}

impl SimDiskOptions {
    /// An endless disk without faults that is driven by the simulator.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: Latency::default(),
            faults: FaultRates::default(),
            capacity_bytes: None,
            immediate: false,
            writeback_per_mille: 300,
            ordered_names: false,
        }
    }

    /// The same, for synchronous callers.
    #[must_use]
    pub fn immediate(seed: u64) -> Self {
        Self { immediate: true, ..Self::new(seed) }
    }
}

/// How long operations take, in simulated microseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Reads, sizes and lists.
    pub read_micros: Range<u64>,
    /// Writes that need not be durable, and zeros.
    pub write_micros: Range<u64>,
    /// Writes that must be durable, and syncs of files and folders.
    pub sync_micros: Range<u64>,
    /// Creations, renames and removals.
    pub name_micros: Range<u64>,
    /// How often, in a thousand, an operation is slow.
    pub slow_per_mille: u32,
    /// How much longer a slow one takes.
    pub slow_micros: Range<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            read_micros: 20..200,
            write_micros: 5..50,
            sync_micros: 100..1000,
            name_micros: 20..200,
            slow_per_mille: 5,
            slow_micros: 1000..20_000,
        }
    }
}

/// How often operations of each kind fail, in a thousand.
#[derive(Clone, Copy, Default, Debug)]
pub struct FaultRates {
    /// See [`OpKind::Read`].
    pub read_per_mille: u32,
    /// See [`OpKind::Write`].
    pub write_per_mille: u32,
    /// See [`OpKind::Sync`].
    pub sync_per_mille: u32,
    /// See [`OpKind::Name`].
    pub name_per_mille: u32,
}

impl FaultRates {
    pub(super) const fn of(self, kind: OpKind) -> u32 {
        match kind {
            OpKind::Read => self.read_per_mille,
            OpKind::Write => self.write_per_mille,
            OpKind::Sync => self.sync_per_mille,
            OpKind::Name => self.name_per_mille,
        }
    }
}

/// The kinds of operations that can fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OpKind {
    /// `Read`: nothing comes back.
    Read,
    /// `Write` and `Zero`: any beginning of the bytes may have been written.
    Write,
    /// `Sync` and `SyncDir`: some of it became durable; all of it counts as clean from then on.
    Sync,
    /// `Create`, `Rename`, `Remove`: nothing happened.
    Name,
}

impl OpKind {
    /// The kind of an operation; `None` for those that do not fail: `Len` and `List`.
    #[must_use]
    pub const fn of(io: &Io) -> Option<Self> {
        match io {
            Io::Read { .. } => Some(Self::Read),
            Io::Write { .. } | Io::Zero { .. } => Some(Self::Write),
            Io::Sync(_) | Io::SyncDir(_) => Some(Self::Sync),
            Io::Create(_) | Io::Rename(..) | Io::Remove(_) => Some(Self::Name),
            Io::Len(_) | Io::List(_) => None,
        }
    }
}
