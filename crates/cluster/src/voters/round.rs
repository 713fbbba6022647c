//! What a candidate is about, and how far it is.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_net::config::Config;
use outrigger_wal::Epoch;

use super::list::Seat;
use super::message::Question;

/// What the voters are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Purpose {
    /// To know what is recorded.
    Look,
    /// To act as the coordinator that this one is already; `force`: it was forced, and goes on with
    /// fewer voters.
    Start { nonce: u128, number: u64, force: bool },
    /// To become coordinator; `force`: with fewer voters, or without having been in sync.
    Activate { nonce: u128, force: bool },
    /// To begin the catalog anew, in a log of its own, where nobody holds the old one any more. `above`: what was held when
    /// that was found out, by (epoch, version): whoever changed it since holds one. `force`: with fewer voters.
    Replace { nonce: u128, force: bool, above: (u64, u64) },
}

impl Purpose {
    pub(super) const fn is_forced(self) -> bool {
        matches!(
            self,
            Self::Activate { force: true, .. }
                | Self::Start { force: true, .. }
                | Self::Replace { force: true, .. }
        )
    }
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    Idle,
    /// Asks without promising.
    Reading {
        purpose: Purpose,
        held: BTreeMap<Seat, Config>,
    },
    /// Asks to refuse everything below `epoch`; `short`: fewer than a majority had answered before.
    Promising {
        purpose: Purpose,
        epoch: Epoch,
        short: bool,
        held: BTreeMap<Seat, Config>,
    },
    /// Asks to hold `value`. It is open until it is what was `recorded` last in its epoch.
    Voting {
        value: Config,
        held: BTreeSet<Seat>,
        recorded: Option<Config>,
    },
}

impl Stage {
    /// What is asked, and who has answered.
    pub(super) fn question(&self) -> Option<Question> {
        match self {
            Self::Idle => None,
            Self::Reading { .. } => Some(Question::Read),
            Self::Promising { epoch, .. } => Some(Question::Promise { epoch: *epoch }),
            Self::Voting { value, .. } => Some(Question::Accept { config: value.clone() }),
        }
    }

    /// Whether this voter has answered.
    pub(super) fn has(&self, seat: Seat) -> bool {
        match self {
            Self::Idle => false,
            Self::Reading { held, .. } | Self::Promising { held, .. } => held.contains_key(&seat),
            Self::Voting { held, .. } => held.contains(&seat),
        }
    }

    /// How many voters have answered.
    pub(super) fn answered(&self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Reading { held, .. } | Self::Promising { held, .. } => held.len(),
            Self::Voting { held, .. } => held.len(),
        }
    }
}

/// The newest of these values.
pub(super) fn newest(held: &BTreeMap<Seat, Config>) -> Option<Config> {
    held.values().max_by_key(|config| super::name_of(config)).cloned()
}
