//! Rows out of a CSV file, and the log of what was acknowledged.
//!
//! # Layout
//! - [`rows`]: a file checked whole, then its rows one by one
//! - [`ack_log`]: one line a row, written only after its commit
//! - [`pace`]: no faster than told
//! - [`progress`]: a bar for whoever watches
//!
//! Not here: how a row is committed.

pub(crate) mod ack_log;
pub(crate) mod pace;
pub(crate) mod progress;
pub(crate) mod rows;
