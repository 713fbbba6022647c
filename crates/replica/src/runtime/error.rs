//! Why a replica cannot be opened, appended to, or closed.

use outrigger_wal::disk::IoFault;
use outrigger_wal::disk::lock::LockError;

use crate::control::ControlError;
use crate::store::StoreError;

/// What went wrong with a replica.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// This copy does not serve: append at the primary.
    #[error("this copy does not serve commits now; ask the authority who does")]
    NotPrimary,
    /// The folder holds an instance already.
    #[error("{folder} is not empty: an instance is made in an empty folder only")]
    Exists {
        /// The folder.
        folder: String,
    },
    /// The copy is being rebuilt.
    #[error(
        "{folder}: a rebuild of this copy has begun and is not done: finish it (`outrigger rebuild`, \
         with any source); a half-done copy does not start"
    )]
    Rebuilding {
        /// The folder.
        folder: String,
    },
    /// The folder is in use.
    #[error("{0}")]
    Locked(String),
    /// The control file.
    #[error("{folder}: {cause}")]
    Control {
        /// The folder.
        folder: String,
        /// What is wrong.
        cause: ControlError,
    },
    /// The log.
    #[error("{0}")]
    Log(outrigger_wal::Error),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store holds more than the log: one of the two is of another instance, or was rolled back.
    #[error("the store has applied up to {applied} and the log ends at {end}: rebuild this copy")]
    StoreAhead {
        /// What the store has.
        applied: outrigger_wal::Lsn,
        /// Where the log ends.
        end: outrigger_wal::Lsn,
    },
    /// The port, or the threads.
    #[error("{doing} failed: {cause}")]
    System {
        /// What was tried.
        doing: String,
        /// The system's words.
        cause: String,
    },
    /// The disk.
    #[error("{0}")]
    Disk(#[from] IoFault),
    /// The replica failed or was closed.
    #[error("the replica is down: {0}")]
    Down(String),
}

impl From<LockError> for ReplicaError {
    fn from(error: LockError) -> Self {
        Self::Locked(error.to_string())
    }
}

impl From<outrigger_wal::Error> for ReplicaError {
    fn from(error: outrigger_wal::Error) -> Self {
        Self::Log(error)
    }
}
