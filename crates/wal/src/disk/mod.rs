//! The disk seam: what the log asks of a disk, as operations that are submitted and completed.
//!
//! Guarantees that every implementation gives: operations may complete in any order; a completed
//! `Write { dsync: true }` or `Sync` is durable; a name made by `Create` or `Rename`, or taken away
//! by `Remove`, is durable only after the `SyncDir` of its folder; a request owns its buffers until it is
//! reaped. Implementations: [`plain`] (files), [`memory`], and the simulator's.
//!
//! Not here: what any byte means, and when to sync. File names come from [`FileId`] alone, never
//! from a peer.

use std::fmt;

use bytes::Bytes;

use crate::lsn::{Lsn, Micros};

pub mod lock;
pub mod memory;
pub mod plain;
pub mod probe;
mod sync;

pub use sync::{Blocking, DiskExt};

/// Names one submitted operation; chosen by the caller, unique among those in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// A folder of one instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dir {
    /// The log: segments, prepared segments, the clean-close mark.
    Log,
    /// Bytes that were cut off or torn, kept aside: `saved/` below the log's folder.
    Saved,
    /// What belongs to the instance and not to the log: the control file, a rebuild's state and chunks.
    Instance,
}

/// A file of one instance. Its name follows from this and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// The segment with this number (its start LSN / segment size): `{:016x}.seg`.
    Segment(u64),
    /// A zero-filled file that will become a segment by rename: `prepared-{:04x}.tmp`.
    Prepared(u32),
    /// A rewritten copy of a segment, about to be renamed over it: `{:016x}.fresh`.
    Fresh(u64),
    /// The clean-close mark: `clean`.
    CleanMark,
    /// Bytes saved aside before they are zeroed, (from, serial): `{:016x}-{:04x}.cut`.
    Saved(Lsn, u32),
    /// A slot of the control file: `control-{0,1}`.
    Control(u8),
    /// A control slot in the making: `control-new`, renamed into place.
    ControlNew,
    /// How far a copy that is rebuilt has come: `rebuild`. While it is there, the instance does not start.
    Rebuild,
    /// The next content of it: `rebuild-new`, renamed into place.
    RebuildNew,
    /// A part of the state that was fetched for a copy in the making, by number: `{:016x}.chunk`.
    Chunk(u64),
}

impl FileId {
    /// The name under which the mark of a clean close is written before it gets its own. Recovery
    /// removes what has it.
    pub const NEW_CLEAN_MARK: Self = Self::Prepared(u32::MAX);

    /// The folder the file lies in.
    #[must_use]
    pub const fn dir(self) -> Dir {
        match self {
            Self::Segment(_) | Self::Prepared(_) | Self::Fresh(_) | Self::CleanMark => Dir::Log,
            Self::Saved(..) => Dir::Saved,
            Self::Control(_)
            | Self::ControlNew
            | Self::Rebuild
            | Self::RebuildNew
            | Self::Chunk(_) => Dir::Instance,
        }
    }

    /// The file's name within its folder.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Segment(n) => format!("{n:016x}.seg"),
            Self::Prepared(n) => format!("prepared-{n:04x}.tmp"),
            Self::Fresh(n) => format!("{n:016x}.fresh"),
            Self::CleanMark => "clean".to_owned(),
            Self::Saved(at, n) => format!("{:016x}-{n:04x}.cut", at.0),
            Self::Control(slot) => format!("control-{slot}"),
            Self::ControlNew => "control-new".to_owned(),
            Self::Rebuild => "rebuild".to_owned(),
            Self::RebuildNew => "rebuild-new".to_owned(),
            Self::Chunk(n) => format!("{n:016x}.chunk"),
        }
    }

    /// The file with this name in `dir`; `None` for a foreign name.
    #[must_use]
    pub fn parse(dir: Dir, name: &str) -> Option<Self> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let hex32 = |text: &str| u32::from_str_radix(text, 16).ok();
        let id = match dir {
            Dir::Log if name == "clean" => Self::CleanMark,
            Dir::Log => {
                if let Some(stem) = name.strip_suffix(".seg") {
                    Self::Segment(hex(stem)?)
                } else if let Some(stem) = name.strip_suffix(".fresh") {
                    Self::Fresh(hex(stem)?)
                } else {
                    Self::Prepared(hex32(name.strip_prefix("prepared-")?.strip_suffix(".tmp")?)?)
                }
            }
            Dir::Saved => {
                let (at, serial) = name.strip_suffix(".cut")?.split_once('-')?;
                Self::Saved(Lsn(hex(at)?), hex32(serial)?)
            }
            Dir::Instance => match name {
                "control-0" => Self::Control(0),
                "control-1" => Self::Control(1),
                "control-new" => Self::ControlNew,
                "rebuild" => Self::Rebuild,
                "rebuild-new" => Self::RebuildNew,
                name => Self::Chunk(hex(name.strip_suffix(".chunk")?)?),
            },
        };
        (id.name() == name).then_some(id)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One operation on a disk.
#[derive(Clone, Debug)]
pub enum Io {
    /// Writes `parts` one behind the other from byte `at`; never grows the file's meaning, may grow
    /// the file. With `dsync`, completes only when the bytes are durable.
    Write {
        /// The file.
        file: FileId,
        /// The byte to start at.
        at: u64,
        /// What to write; held until the completion is reaped.
        parts: Vec<Bytes>,
        /// Whether the bytes must be durable at the completion.
        dsync: bool,
    },
    /// Writes `len` zeros from byte `at`, not durable by itself.
    Zero {
        /// The file.
        file: FileId,
        /// The byte to start at.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Makes everything written to the file durable (`fdatasync`), its size included.
    Sync(FileId),
    /// Reads up to `len` bytes from byte `at`; fewer at the file's end.
    Read {
        /// The file.
        file: FileId,
        /// The byte to start at.
        at: u64,
        /// How many, at most.
        len: u32,
    },
    /// Makes an empty file, or empties the one that is there.
    Create(FileId),
    /// Gives `from` the name `to` (same folder), replacing what has it.
    Rename(FileId, FileId),
    /// Takes the name away; no error when there is none.
    Remove(FileId),
    /// Makes creations, renames and removals in the folder durable.
    SyncDir(Dir),
    /// The size of a file in bytes, or `None` when it is not there.
    Len(FileId),
    /// The files of a folder whose names are ours, sorted, and how many others there are.
    List(Dir),
}

/// What a completed operation brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoDone {
    /// It is done: `Write`, `Zero`, `Sync`, `Create`, `Rename`, `Remove`, `SyncDir`.
    Done,
    /// The bytes of a `Read`.
    Bytes(Bytes),
    /// The answer of `Len`.
    Len(Option<u64>),
    /// The answer of `List`.
    Files {
        /// The files whose names are ours, sorted.
        ours: Vec<FileId>,
        /// Names that are not ours, sorted; nothing touches them.
        foreign: Vec<String>,
    },
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IoFault {
    /// The device or file system reported an error.
    #[error("{file}: {operation} failed: {cause}")]
    Failed {
        /// The file or folder.
        file: String,
        /// What was tried.
        operation: &'static str,
        /// The operating system's words.
        cause: String,
    },
    /// There is no room.
    #[error("{file}: {operation} failed: no space left on the device")]
    NoSpace {
        /// The file or folder.
        file: String,
        /// What was tried.
        operation: &'static str,
    },
    /// The file is not there.
    #[error("{file}: not found")]
    NotFound {
        /// The file.
        file: String,
    },
    /// The disk is gone: a simulated crash, or a disk that was closed.
    #[error("the disk is closed")]
    Closed,
}

/// A disk: operations go in, completions come out, in any order.
pub trait Disk: Send {
    /// Starts an operation, which owns its buffers until it is reaped. Never blocks on the device.
    fn submit(&mut self, op: OpId, io: Io);

    /// Moves finished operations into `done`. With `wait`, blocks until at least one is there or so
    /// many microseconds are over (`None`: returns at once).
    fn reap(&mut self, wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>);
}
