//! The stream from a primary as its copy sees it.
//!
//! A step function over one session: greeted, told where to start, streamed to. Guarantees: blocks
//! are taken only from the session that is current, in the epoch that was accepted, at exactly the
//! end of what was received; each is checked before it is given on. Not here: the log that takes
//! them, persisting what was accepted (replica).

#[cfg(feature = "model")]
mod modelled;

use bytes::Bytes;
use outrigger_wal::format::Block;
use outrigger_wal::{Epoch, InstanceId, LogId, Lsn, RunningHash};

use crate::error::Error;
use crate::frame::split_blocks;
use crate::message::{Message, Session};

/// How far the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The epoch is being persisted and the disk drained; then the history is told.
    Greeted,
    /// The history is told; the primary compares.
    Told,
    /// What lies behind the start is being cut.
    Cutting,
    /// Blocks are taken.
    Streaming,
}

/// The stream from the primary of `epoch`.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Receiver {
    primary: InstanceId,
    session: Session,
    epoch: Epoch,
    stage: Stage,
    /// What was acknowledged last: (received, durable, applied).
    told: (Lsn, Lsn, Lsn),
}

impl Receiver {
    /// A stream that begins with a `Hello` from `primary`.
    #[must_use]
    pub const fn new(primary: InstanceId, session: Session, epoch: Epoch) -> Self {
        Self {
            primary,
            session,
            epoch,
            stage: Stage::Greeted,
            told: (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO),
        }
    }

    /// Who streams.
    #[must_use]
    pub const fn primary(&self) -> InstanceId {
        self.primary
    }

    /// The connection.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// The reign.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Moves on.
    pub const fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// Cuts a data frame's body into checked blocks.
    ///
    /// # Errors
    /// [`Error`] for lengths that do not fit, or for a block that fails its checks.
    pub fn blocks(
        &self,
        log: LogId,
        start: Lsn,
        lens: &[(u32, u32)],
        body: &Bytes,
    ) -> Result<Vec<Block>, Error> {
        split_blocks(start, lens, body.clone(), log)
    }

    /// The acknowledgement that is due, if anything moved since the last one; always when `asked`.
    pub fn ack(
        &mut self,
        received: Lsn,
        durable: Lsn,
        hash: RunningHash,
        applied: Lsn,
        asked: bool,
    ) -> Option<Message> {
        if self.stage != Stage::Streaming || (!asked && self.told == (received, durable, applied)) {
            return None;
        }
        // An applied LSN alone is told along with the next durable advance, or when asked.
        if !asked && self.told.1 == durable {
            return None;
        }
        self.told = (received, durable, applied);
        Some(Message::Ack { received, durable, hash, applied })
    }
}
