//! What is to be done about a content.

use outrigger_wal::{InstanceId, Lsn};

use crate::detect::{Standing, Why};

/// What follows from what is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Nothing: all is well, or it is too early to say, or what was begun has its time.
    Nothing,
    /// Have a configuration recorded with the next epoch and this primary, then tell it (S3).
    Promote {
        /// Whom.
        to: InstanceId,
    },
    /// The primary is out of reach, and its mirror hears it: have it asked through the mirror to hand over
    /// (S9). Repeating it is harmless.
    HandOverThrough {
        /// Which.
        mirror: InstanceId,
    },
    /// No copy that certainly has every commit can be reached. Nothing is promoted; it ends when one is back, or
    /// by an accepted loss (S10).
    DoubleFault {
        /// All of its copies.
        copies: Vec<Fault>,
    },
    /// A copy that has every commit is on its way: it reads its log back, or was not heard yet, or is
    /// silent for a short while only.
    WaitFor {
        /// Which.
        copy: InstanceId,
    },
    /// The catalog may be behind what is recorded at the copies: nothing is promoted before they have reported.
    Unproved {
        /// Whose report is waited for, of those that could be promoted.
        candidates: Vec<InstanceId>,
    },
    /// There are no mirrors, and this copy is the only one: the whole cluster goes down in order. A part of the
    /// data is never served.
    Shutdown {
        /// Which.
        instance: InstanceId,
        /// Why it is invalid.
        why: Why,
    },
    /// The primary does well. These mirrors do not follow it; it lets go of them itself (S2).
    MirrorDown {
        /// Which.
        mirrors: Vec<InstanceId>,
    },
    /// The primary does well. This mirror connects again and again without ever catching up: the primary has to
    /// stop waiting for it (S2, S4), and to keep it out until somebody has looked.
    DropMirror {
        /// Which.
        mirror: InstanceId,
        /// How often it has connected.
        attempts: u32,
    },
}

/// One copy of a content that has none to serve it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Whose.
    pub instance: InstanceId,
    /// Whether it belongs to the recorded in-sync set.
    pub in_sync: bool,
    /// How it stands; `None`: it is not watched.
    pub standing: Option<Standing>,
    /// What was durable there, if it said so.
    pub durable: Option<Lsn>,
    /// Whether its log ends below its floor.
    pub below_floor: bool,
}

impl Decision {
    /// The word for the table of contents.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "ok",
            Self::Promote { .. } => "promoting",
            Self::HandOverThrough { .. } => "handing over",
            Self::DoubleFault { .. } => "double fault",
            Self::WaitFor { .. } => "waiting",
            Self::Unproved { .. } => "unproved",
            Self::Shutdown { .. } => "shutting down",
            Self::MirrorDown { .. } => "mirror down",
            Self::DropMirror { .. } => "mirror flapping",
        }
    }
}
