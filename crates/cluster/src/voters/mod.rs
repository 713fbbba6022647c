//! Who owns the configuration of the catalog (S8): a small register held durably by one agent a host.
//!
//! Guarantees: a value is recorded when a majority of the voters holds it durably; any later start of a
//! coordinator or activation of a standby finds it, or a later one. No clock decides.
//! Not here: connections and files but behind [`Slots`](crate::slots::Slots); what a member does with a recorded
//! configuration (replica); how the list of voters is changed.
//!
//! # Layout
//! - [`VoterList`]: who votes
//! - [`Voter`]: what one voter promised and accepted, as a pure function; [`VoterFile`]: durably
//! - [`Ask`], [`Say`]: what is asked and answered
//! - [`Ballot`]: one candidate's way to a recorded value, without time: checked by a model checker
//! - [`Council`]: a ballot with its retries, between the voters, the process's own member and an operator

mod ballot;
mod council;
mod event;
mod file;
mod list;
mod message;
mod round;
mod text;
mod voter;

use outrigger_net::config::Config;

pub use ballot::{Act, Anew, Ballot, Found, NotChanged, Outcome, Whose, Why};
pub use council::Council;
pub use event::{CouncilOptions, Event, In, Out};
pub use file::VoterFile;
pub use list::{MAX_VOTERS, Seat, VoterList};
pub use message::{Ask, MAX_TEXT_BYTES, Question, Refusal, Reply, Say, VERSION};
pub use voter::Voter;

/// What orders values: the number of the epoch, then the version.
const fn name_of(config: &Config) -> (u64, u64) {
    (config.epoch.number, config.version.0)
}
