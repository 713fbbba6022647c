//! What a rebuild is to do, what it asks of its driver, and how far it is.

use bytes::Bytes;
use outrigger_wal::{Lsn, Micros};

use super::state::Step;
use crate::control::Identity;

/// Where the pairs come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Mode {
    /// Ranges whose hash is the same are taken from the store that is there.
    Differential,
    /// All are fetched.
    Full,
}

impl Mode {
    /// Its name, as in logs and progress lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Full => "full",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Whose copy; the segment size may be 0: the source's is taken.
    pub identity: Identity,
    /// Where the pairs come from; `None`: from the store that is there where it can be opened.
    pub mode: Option<Mode>,
    /// At most so many bytes a second, on average. `None`: as fast as it goes. Default none.
    pub bytes_per_second: Option<u64>,
    /// How long the pairs of a range are, in bytes, about: what differs is fetched in such pieces. Default 256 KiB.
    pub chunk_bytes: u32,
    /// Whether what was there stays in `set-aside/`. Default no.
    pub keep_old: bool,
}

impl Plan {
    /// The defaults, for this copy.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self {
            identity,
            mode: None,
            bytes_per_second: None,
            chunk_bytes: 256 << 10,
            keep_old: false,
        }
    }
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Ask the source this, and bring the answer.
    Ask(Bytes),
    /// Nothing before then.
    Wait(Micros),
    /// Something was done here; go on.
    Worked,
    /// The copy can be started.
    Ready,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Where the pairs come from.
    pub mode: Mode,
    /// What is being done.
    pub step: Step,
    /// Bytes of state and log that are there, fetched or kept.
    pub done_bytes: u64,
    /// How many that are in the end, about.
    pub total_bytes: u64,
    /// Bytes that the source sent to this process.
    pub moved_bytes: u64,
    /// The LSN of the state; 0 until a source told it.
    pub at: Lsn,
}
