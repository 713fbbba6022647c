//! Why a copy cannot be rebuilt.

use outrigger_wal::Epoch;
use outrigger_wal::disk::IoFault;

use super::protocol::ProtocolError;
use crate::control::{ControlError, Identity};
use crate::store::StoreError;

/// What went wrong. What was fetched stays; beginning again goes on from there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The disk.
    #[error("{0}")]
    Io(#[from] IoFault),
    /// A store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The log that was fetched.
    #[error("the log that was fetched: {0}")]
    Log(#[from] outrigger_wal::Error),
    /// The control file.
    #[error("{0}")]
    Control(#[from] ControlError),
    /// The source says something else than it was asked.
    #[error("the source's answer: {0}")]
    Protocol(#[from] ProtocolError),
    /// The source refuses for good.
    #[error("the source refuses: {0}")]
    Denied(String),
    /// The source says what cannot be.
    #[error("the source's answer makes no sense: {0}")]
    Nonsense(String),
    /// What comes is not what was announced, again and again.
    #[error(
        "what comes from the source is not what it announced ({0}): look at its disk and the network"
    )]
    Corrupt(String),
    /// Two reigns have one number.
    #[error(
        "ALARM: the source serves in epoch {theirs} and this copy has accepted {ours}: one number, two reigns"
    )]
    ForeignNonce {
        /// Ours.
        ours: Epoch,
        /// Theirs.
        theirs: Epoch,
    },
    /// The folder belongs to somebody else.
    #[error(
        "the folder belongs to instance {} of content {}, log {}, and not to instance {} of content {}, log {}",
        found.instance, found.content, found.log, expected.instance, expected.content, expected.log
    )]
    OtherIdentity {
        /// Whose it is.
        found: Box<Identity>,
        /// Whose it should be.
        expected: Box<Identity>,
    },
    /// The file that says how far it is cannot be read.
    #[error(
        "the file `rebuild` is damaged: nobody can tell how far the rebuild was; if control file, `wal/` and \
         `store/` are still where they belong, or there are none, remove it and begin again"
    )]
    BadState,
}
