//! The log of one instance: append, group commit, read, recover, retain.
//!
//! # Layout
//! - [`lsn`]: positions, reigns, identities
//! - [`disk`]: the seam to a disk, and its implementations
//! - [`mod@format`]: blocks and records, byte by byte
#![forbid(unsafe_code)]

pub mod disk;
pub mod format;
pub mod lsn;

pub use lsn::{
    ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros, PAGE_BYTES, RunningHash,
};
