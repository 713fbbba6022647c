//! The log of one instance: append, group commit, read, recover, retain.
//!
//! # Layout
//! - [`Wal`]: a log in a folder, for whoever wants just that
//! - [`lsn`]: positions, reigns, identities
//! - [`disk`]: the seam to a disk, and its implementations
//! - [`mod@format`]: blocks and records, byte by byte
//! - [`Appender`], [`Log`], [`Watermark`]: producers, the running log, those who wait
//! - [`create()`], [`mod@recover`], [`verify`]: a new log; what a log holds after any end; whether it is sound
#![forbid(unsafe_code)]

mod append;
mod create;
pub mod disk;
mod error;
mod follow;
pub mod format;
mod index;
mod log;
pub mod lsn;
pub mod recover;
pub mod verify;
mod wal;
mod watermark;

pub use append::{Appended, Appender, Opening};
pub use create::{CreateOptions, create};
pub use error::Error;
pub use index::BlockIndex;
pub use log::{Fetch, Log, LogOptions};
pub use lsn::{
    ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros, PAGE_BYTES, RunningHash,
};
pub use wal::{Reader, Wal, WalOptions};
pub use watermark::{Subscription, Wait, Watermark};
