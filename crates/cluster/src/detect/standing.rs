//! What a coordinator thinks of an instance.

use outrigger_wal::{Lsn, Micros};

/// How an instance stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It answers.
    Up,
    /// It is overdue, was refused once, or its connection was lost; or it was never heard yet. Nothing is
    /// done about it.
    Suspect {
        /// When it was last heard, or since when it is watched.
        since: Micros,
    },
    /// It answers, and reads its log back.
    Recovering {
        /// How far it is, as far as it knows.
        at: Option<Lsn>,
        /// Whether it got further a short while ago.
        advancing: bool,
    },
    /// It failed, or cannot be reached.
    Dead {
        /// Why.
        why: Why,
        /// Since when, as far as it is known.
        since: Micros,
    },
}

/// Why an instance counts as dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its agent saw its process end.
    Exited,
    /// Its host answers that nobody is there.
    Refused,
    /// Nothing is heard of it: it may be alive, and served by others.
    Silent,
    /// Its disk takes too long, or fails.
    Disk,
    /// Its recovery stands still, or begins again and again.
    Stalled,
    /// It answers, and its threads that serve do not get on.
    Stuck,
    /// It says itself that it is down.
    Failed,
    /// It answers, is recorded as primary, and does not come to reign.
    Idle,
}

impl Standing {
    /// Whether it answers and is open.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// Whether it counts as dead.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self, Self::Dead { .. })
    }

    /// Whether both are the same but for figures that move all the time.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Up, Self::Up) | (Self::Suspect { .. }, Self::Suspect { .. }) => true,
            (Self::Recovering { advancing: a, .. }, Self::Recovering { advancing: b, .. }) => {
                a == b
            }
            (Self::Dead { why: a, .. }, Self::Dead { why: b, .. }) => a == b,
            _ => false,
        }
    }

    /// The same with its moments moved by `micros`.
    pub(super) const fn later(self, micros: u64) -> Self {
        match self {
            Self::Suspect { since } => Self::Suspect { since: since.plus(micros) },
            Self::Dead { why, since } => Self::Dead { why, since: since.plus(micros) },
            other => other,
        }
    }
}

impl Why {
    /// For the table of instances, and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "its process ended",
            Self::Refused => "its port refuses",
            Self::Silent => "nothing is heard of it",
            Self::Disk => "its disk does not take writes",
            Self::Stalled => "its recovery does not get on",
            Self::Stuck => "its threads do not get on",
            Self::Failed => "it says that it failed",
            Self::Idle => "it does not serve",
        }
    }
}
