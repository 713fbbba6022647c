//! One copy of one content: member, apply, checkpoint, promote, rejoin.
//!
//! # Layout
//! - [`store`]: the state that the log drives, and the stores that keep it
//! - [`conformance`]: the suite that every store has to pass
#![forbid(unsafe_code)]

pub mod conformance;
pub mod store;
