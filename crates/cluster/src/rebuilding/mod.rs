//! A lost catalog is made anew out of what agents, instances and voters hold.
//!
//! A function of what was found ([`Found`]) to a catalog and a list of what could not be proved, or to a refusal. For each
//! content it records, unchanged, the newest configuration that any copy has accepted: version, epoch and nonce. It
//! invents no version, so that none gets a second value: what the lost catalog recorded last and told nobody was acted on by
//! nobody; and who was told of it names a version above what is recorded here, is refused, and keeps the content unproved.
//! All contents begin unproved (S8): nothing is recorded for one before each of its copies has reported under what is recorded
//! here, and obeys the new coordinator durably.
//!
//! Guarantees: pure; a content is never left out that holds rows. Not here: asking ([`crate::agent`]), the voters
//! ([`crate::voters`]), how a content is proved ([`crate::coordinator`]).
//!
//! # Layout
//! - `found`: what was found
//! - `plan`: what follows
//! - `refusal`: why not, and what is not proved

mod found;
mod plan;
mod refusal;

pub use found::{Found, HostFound, VotersFound, newest_kept};
pub use plan::{Content, Force, Plan, Seat, plan};
pub use refusal::{Doubt, Refusal};
