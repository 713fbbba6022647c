//! What can go wrong with a store.
//!
//! Guarantees: an error can be kept and returned again (they are sticky), and says what happened,
//! where, and what to do.

use std::path::PathBuf;

use outrigger_wal::Lsn;

use super::kv::{HoldingsError, OutcomesError, WriteError};

/// What went wrong with a store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller's run breaks the contract; nothing of it was applied.
    #[error(
        "the run of records at {lsn} breaks the store's contract: {fault}; nothing was applied"
    )]
    Run {
        /// The record at which it shows.
        lsn: Lsn,
        /// How.
        fault: RunFault,
    },
    /// A record of the log means nothing to this store.
    #[error("the record at {lsn} cannot be applied: {cause}")]
    Record {
        /// Where it starts.
        lsn: Lsn,
        /// Why.
        cause: WriteError,
    },
    /// The disk or the files of the store failed.
    #[error(
        "{path}: {operation} failed: {cause}; the store takes nothing more: reopen it (replay starts at \
         its checkpoint), or rebuild this copy when its files are damaged"
    )]
    Files {
        /// The store's directory.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The words of whoever refused.
        cause: String,
    },
    /// The store's directory was written by a newer release.
    #[error("{path}: store format {found} is newer than this release reads: upgrade this copy")]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The version found.
        found: u16,
    },
    /// The store cannot do this by its nature.
    #[error("this store cannot {what}: it is rebuilt from the log alone")]
    Unable {
        /// What was asked for.
        what: &'static str,
    },
    /// What the store holds about itself makes no sense.
    #[error("{place}: {what}: damaged; rebuild this copy")]
    Damaged {
        /// The store's directory, or where pairs came from.
        place: String,
        /// What.
        what: String,
    },
    /// A window of outcomes cannot be read.
    #[error("a window of outcomes cannot be read: {0}")]
    Outcomes(#[from] OutcomesError),
    /// What is known of a bucket cannot be read.
    #[error("whether a bucket is held cannot be read: {0}")]
    Holdings(#[from] HoldingsError),
    /// Pairs can be restored into an empty store only.
    #[error("restoring needs an empty store, this one is at {applied}: remove its directory first")]
    NotEmpty {
        /// How far this one is.
        applied: Lsn,
    },
    /// Pairs being restored are not in ascending key order.
    #[error(
        "the pairs to restore are not in key order: the backup is damaged or was put together wrongly"
    )]
    PairOrder,
    /// A pair that is no part of this store's state.
    #[error("a pair to restore has a key that means nothing here (first byte {first:?})")]
    ForeignPair {
        /// The first byte of its key.
        first: Option<u8>,
    },
    /// The source of the pairs failed.
    #[error("reading the pairs to restore failed: {cause}")]
    Source {
        /// Why.
        cause: String,
    },
    /// An error of a store of the embedder's own.
    #[error("{cause}")]
    Other {
        /// What, where, why.
        cause: String,
    },
}

impl StoreError {
    /// Whether the caller's run is at fault, and the store is as it was.
    #[must_use]
    pub const fn is_about_the_run(&self) -> bool {
        matches!(self, Self::Run { .. })
    }
}

/// How a run of records breaks the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFault {
    /// Voids are the caller's to leave out.
    #[error("it holds a void")]
    Void,
    /// Records overlap or go backwards.
    #[error("its records are not in LSN order")]
    Order,
    /// The last batch is not whole.
    #[error("it ends inside a batch")]
    OpenBatch,
    /// A batch lies half before what is applied.
    #[error("it begins inside a batch that is applied in part")]
    HalfApplied,
    /// LSNs end at 2^62.
    #[error("its LSN is beyond what a store can number")]
    Beyond,
}
