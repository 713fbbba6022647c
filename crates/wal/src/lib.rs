//! The log of one instance: append, group commit, read, recover, retain.
//!
//! # Layout
//! - [`lsn`]: positions, reigns, identities
//! - [`disk`]: the seam to a disk, and its implementations
//! - [`mod@format`]: blocks and records, byte by byte
//! - [`create()`], [`recover`], [`verify`]: a new log; what a log holds after any end; whether it is sound
#![forbid(unsafe_code)]

mod create;
pub mod disk;
mod error;
pub mod format;
mod index;
pub mod lsn;
pub mod recover;
pub mod verify;

pub use create::{CreateOptions, create};
pub use error::Error;
pub use index::BlockIndex;
pub use lsn::{
    ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros, PAGE_BYTES, RunningHash,
};
