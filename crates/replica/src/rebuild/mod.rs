//! A copy made anew from another one, for when its log cannot be continued: differential or full.
//!
//! The [`Source`] lends a snapshot of its state at an LSN, in ranges with hashes, and the log around it. The
//! [`Target`] compares the ranges with what it has, fetches those that differ, puts a new store together, fetches the
//! log, verifies both, and moves them to the place of what was there. Then the copy opens as usual, as a mirror
//! that is not in sync, and streams.
//!
//! Guarantees (docs/recovery.md, "Rebuilding a copy"): a half-done copy never starts; what was there is set aside
//! only when the new copy is whole and verified; killed at any step and begun again it comes to the same end; a
//! copy that commits wait for is not rebuilt; the state that is verified has the hash of the source's whole state.
//! Not here: the connection between the two, and when a copy is rebuilt (servers).
//!
//! # Layout
//! - [`protocol`]: what is asked and answered
//! - [`Source`], [`Lender`], [`ReplicaLender`]: the side that lends
//! - [`Target`], [`Plan`], [`Ground`], [`DataDir`]: the side that is rebuilt; `checks`, `assembling`: its first and last steps
//! - `chunk`, `overlay`: the state in parts
//! - `taking`: the log
//! - `state`: the file `rebuild`

mod assembling;
mod checks;
mod chunk;
mod error;
mod ground;
mod lender;
mod overlay;
mod plan;
pub mod protocol;
mod source;
mod state;
mod taking;
mod target;

pub use error::RebuildError;
pub use ground::{DataDir, Ground};
pub use lender::ReplicaLender;
pub use plan::{Mode, Next, Plan, Progress};
pub use source::{Lender, Source, SourceOptions};
pub use state::Step;
pub use target::Target;
