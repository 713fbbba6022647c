//! Who may talk to whom, and from where they go on: pure functions over what both sides said.
//!
//! Guarantees: a wrong identity is refused with a reason that both sides can log; a refusal for
//! versions or sizes happens only if nothing is common; no verdict asks for a truncation below the
//! copy's commit LSN. The rows are in `docs/replication.md`; each has one test.
//! Not here: epochs and memberships (S0, S2: the member knows them), and the running hash at a fork
//! inside both logs (`Start` carries it; the copy compares).

mod compare;
mod hello;

pub use compare::{Verdict, Why, compare};
pub use hello::{Chosen, Identity, MIN_BLOCK_BYTES, check_hello, check_welcome};
