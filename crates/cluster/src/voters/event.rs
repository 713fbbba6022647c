//! What a council is told, what it asks for, and its numbers.

use outrigger_net::config::{Config, Version};
use outrigger_wal::{Epoch, InstanceId};

use super::ballot::Outcome;
use super::list::Seat;
use super::message::{Ask, Say};
use crate::register::{Proposer, Report};

/// The council's times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CouncilOptions {
    /// A voter that has not answered is asked again after so long; default 200 ms.
    pub ask_again_millis: u64,
    /// So long a majority is waited for, before an activation is refused and a start says what it waits for;
    /// default 3 s.
    pub patience_millis: u64,
    /// A coordinator asks the voters so often whether it was deposed; default 1 s.
    pub watch_millis: u64,
    /// Who was overtaken tries again after one to two times this; default 50 ms.
    pub back_off_millis: u64,
    /// How often an activation is tried against another candidate; default 5.
    pub tries: u32,
}

impl Default for CouncilOptions {
    fn default() -> Self {
        Self {
            ask_again_millis: 200,
            patience_millis: 3000,
            watch_millis: 1000,
            back_off_millis: 50,
            tries: 5,
        }
    }
}

/// What a council is told.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum In {
    /// The member asks what is recorded.
    Read,
    /// The member, or an operator, asks for a change: a higher epoch is a start (S5), the same one a change
    /// within it (S2, S4).
    Swap {
        /// The version to be replaced.
        seen: Version,
        /// What should be recorded.
        new: Config,
        /// Who asks.
        by: Proposer,
    },
    /// A copy of the catalog says what it holds (S6).
    Report(Report),
    /// An operator makes this process the coordinator.
    Activate {
        /// Repeated by the answer.
        op: u64,
        /// With fewer voters than a majority, and without proof that this copy was in sync.
        force: bool,
    },
    /// A voter's answer.
    Say(Say),
    /// A voter cannot be reached now.
    Unreachable(Seat),
    /// The deadline has come.
    Tick,
}

/// What a council asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Out {
    /// Send this to the voter at its seat.
    Ask(Ask),
    /// Tell the member that this is recorded; the coordinator's epoch is that of the configuration.
    Recorded {
        /// What.
        config: Config,
    },
    /// The activation is recorded.
    Activated {
        /// The question's.
        op: u64,
        /// What is recorded.
        config: Config,
        /// What was proved.
        outcome: Outcome,
        /// The same in words.
        text: String,
    },
    /// The activation is refused, or did not come about.
    Denied {
        /// The question's.
        op: u64,
        /// Why, in words, and what to do.
        text: String,
    },
    /// Something worth a line in the log.
    Event(Event),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A configuration is recorded by this council.
    Recorded {
        /// Its version.
        version: Version,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A majority does not answer: nothing can be started or changed. It goes on asking.
    NoMajority {
        /// How many have answered.
        answered: usize,
        /// Of how many.
        voters: usize,
        /// Who has not.
        missing: Vec<Seat>,
    },
    /// A voter knows a higher or foreign number; this one takes a new epoch if it still is the primary.
    Overtaken {
        /// What the voter promised.
        by: Epoch,
    },
    /// Another one is the coordinator.
    Deposed {
        /// Who.
        primary: InstanceId,
        /// The same in words, and what to do.
        text: String,
    },
    /// This instance is no copy of the catalog.
    NotACopy {
        /// What to do.
        text: String,
    },
    /// A change is refused.
    Refused {
        /// Why.
        text: String,
    },
    /// A voter says that it is not meant.
    Alarm {
        /// Which.
        seat: Seat,
        /// Why, in its words.
        text: String,
    },
    /// A change is under way and no majority holds it yet; it is known later.
    Unsettled,
    /// What was forced is held by a majority of the voters now.
    Healed,
}
