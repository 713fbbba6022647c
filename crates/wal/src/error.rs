//! What can go wrong with a log: what happened, where, the likely cause, and what to do.
//!
//! Not here: what a single block's bytes can be wrong in ([`crate::format::BlockError`]) and what a
//! disk answers ([`IoFault`]); both appear here with their place.

use crate::disk::{FileId, IoFault};
use crate::lsn::{ContentId, Epoch, LogId, Lsn, RunningHash};

/// Why an operation on the log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused an operation.
    #[error("{0}")]
    Io(#[from] IoFault),
    /// The first write or sync error poisoned the log for good; it must be opened again, and
    /// commits that were waiting are in doubt.
    #[error("the log is poisoned by an earlier error and must be reopened: {cause}")]
    Poisoned {
        /// The first error.
        cause: IoFault,
    },
    /// Bytes that were promised durable are bad. Nothing was changed; repair them from a copy.
    #[error(
        "{file} is damaged at LSN {lsn}: {cause}; the log was durable up to {promised} ({promise}). \
         Nothing was cut: restore this copy from another one"
    )]
    Damage {
        /// The segment.
        file: FileId,
        /// Where the bad bytes begin.
        lsn: Lsn,
        /// What is wrong there.
        cause: String,
        /// The LSN up to which durability was promised.
        promised: Lsn,
        /// Who promised it.
        promise: &'static str,
    },
    /// A file that does not belong here.
    #[error("{name} does not belong into a log's folder: {cause}. Move it away")]
    Foreign {
        /// The file's name.
        name: String,
        /// Why.
        cause: String,
    },
    /// A segment or identity of another log.
    #[error("{file} belongs to log {found}, not to {expected}: was a folder copied or swapped?")]
    WrongLog {
        /// The file.
        file: FileId,
        /// The log that was expected.
        expected: LogId,
        /// The log that was found.
        found: LogId,
    },
    /// The log is of another content.
    #[error("this is the log of content {found}, not of {expected}")]
    WrongContent {
        /// The content that was expected.
        expected: ContentId,
        /// The content that was found.
        found: ContentId,
    },
    /// The log was written by a newer version.
    #[error(
        "{file} at LSN {lsn} has format version {found}; this program reads up to {known}: upgrade it"
    )]
    NewerFormat {
        /// The segment.
        file: FileId,
        /// The block.
        lsn: Lsn,
        /// Its version.
        found: u16,
        /// The newest version that can be read.
        known: u16,
    },
    /// The log holds a block that asks for something this program does not know.
    #[error(
        "{file} at LSN {lsn}: {cause}; it was written by a newer version: upgrade this program"
    )]
    UnknownFeature {
        /// The segment.
        file: FileId,
        /// The block.
        lsn: Lsn,
        /// What is unknown.
        cause: String,
    },
    /// A setting makes no sense, or does not fit the log that is there.
    #[error("{setting}: {cause}")]
    Config {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The folder holds no log, and none was to be made.
    #[error(
        "{folder} holds no log; a lost disk must not become an empty database: initialise it explicitly"
    )]
    NoLog {
        /// The folder.
        folder: String,
    },
    /// The record or batch is larger than a block may be.
    #[error(
        "the record, or the batch with its framing, has {found} bytes; this log takes at most {limit} \
         (a quarter of a segment, 16 MiB at most)"
    )]
    RecordTooLarge {
        /// The record's size in bytes; of a batch, with the framing of its records.
        found: u64,
        /// The limit for what was counted, in bytes.
        limit: u64,
    },
    /// The log holds as much unwritten data as it may.
    #[error(
        "{pending} bytes wait to be written, the limit is {limit}: wait for durable and try again"
    )]
    Full {
        /// Bytes that wait.
        pending: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The position lies before the log's start: what was there has been recycled.
    #[error("LSN {lsn} was recycled; the log begins at {start}")]
    Recycled {
        /// The position asked for.
        lsn: Lsn,
        /// Where the log begins.
        start: Lsn,
    },
    /// The position is not the start of a record or block.
    #[error("LSN {lsn} is not the start of a {what}")]
    NotABoundary {
        /// The position.
        lsn: Lsn,
        /// What was expected there.
        what: &'static str,
    },
    /// The operation would cut what must stay.
    #[error("cannot cut the log at {to}: it is committed up to {commit}")]
    BelowCommit {
        /// Where the cut was to be.
        to: Lsn,
        /// The commit LSN.
        commit: Lsn,
    },
    /// The log has another running hash at the cut than the history it was to be cut for.
    #[error("at {lsn} the log has the running hash {found}, not {expected}: it is another history")]
    OtherHistory {
        /// Where the cut was to be.
        lsn: Lsn,
        /// The running hash there.
        found: RunningHash,
        /// The one expected.
        expected: RunningHash,
    },
    /// A block that was received does not continue the log.
    #[error("block at {lsn} does not continue the log at {end} (epoch {epoch}): {cause}")]
    OutOfOrder {
        /// The block's LSN.
        lsn: Lsn,
        /// The log's end.
        end: Lsn,
        /// The log's epoch.
        epoch: Epoch,
        /// In words.
        cause: String,
    },
    /// Nothing can be appended here: this copy does not reign.
    #[error("this copy is not the primary: append there")]
    NotPrimary,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// Another process holds the folder.
    #[error("{folder} is in use by another process{holder}: one process per folder")]
    Locked {
        /// The folder.
        folder: String,
        /// Who, if known.
        holder: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything being mended.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io(IoFault::NoSpace { .. }))
    }

    /// Whether stored bytes are bad.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damage { .. })
    }
}
