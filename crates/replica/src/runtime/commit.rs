//! A commit from its append to its outcome.
//!
//! Guarantees: `Committed` comes from the commit LSN of the very reign it was appended in; a wait that is
//! dropped says nothing. Not here: what moves the commit LSN (member).

use std::sync::Arc;

use outrigger_wal::{Appended, Appender, Epoch, Lsn, Opening, Watermark};

/// A reign, as its producers see it.
#[derive(Debug)]
pub(super) struct ReignHandle {
    pub(super) epoch: Epoch,
    pub(super) appender: Arc<Appender>,
    /// Appends are of this reign or refused: the same appender serves a later one.
    pub(super) opening: Opening,
    pub(super) commit: Arc<Watermark>,
}

/// How a commit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is durable on every copy that counts, and will be in every later primary's history.
    Committed {
        /// Its reign.
        epoch: Epoch,
        /// The end of its last record.
        end: Lsn,
    },
    /// The reign ended first: ask for its fate (`fate`), or by its name.
    InDoubt {
        /// Its reign.
        epoch: Epoch,
        /// The end of its last record.
        end: Lsn,
    },
}

impl Outcome {
    /// Whether it is committed.
    #[must_use]
    pub const fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }
}

/// A commit that was appended and has not ended.
#[derive(Debug)]
#[must_use = "nothing is committed before `committed` says so"]
pub struct Pending {
    reign: Arc<ReignHandle>,
    at: Appended,
}

impl Pending {
    pub(super) const fn new(reign: Arc<ReignHandle>, at: Appended) -> Self {
        Self { reign, at }
    }

    /// Where its first record begins.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        self.at.start
    }

    /// Where its last record ends.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.at.end
    }

    /// The reign it was appended in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.reign.epoch
    }

    /// Waits for the outcome.
    ///
    /// # Cancel safety
    /// A dropped wait reports nothing; the commit goes on.
    pub async fn committed(&self) -> Outcome {
        let ended = self.reign.commit.wait(self.at.end).await;
        self.outcome(ended.is_ok())
    }

    /// [`Pending::committed`] for threads.
    #[must_use]
    pub fn blocking(&self) -> Outcome {
        let ended = self.reign.commit.wait(self.at.end).blocking();
        self.outcome(ended.is_ok())
    }

    fn outcome(&self, committed: bool) -> Outcome {
        let (epoch, end) = (self.reign.epoch, self.at.end);
        if committed { Outcome::Committed { epoch, end } } else { Outcome::InDoubt { epoch, end } }
    }
}
