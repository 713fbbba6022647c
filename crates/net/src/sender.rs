//! One copy as its primary sees it: probed, streamed to, acknowledged.
//!
//! A step function: it is told what arrived and what was shipped, and answers what to say next.
//! `Probing` (a `Hello` is out) becomes `Streaming` once histories agree and the copy is ready, or
//! `NeedsCopy` when there is nothing to continue from.
//!
//! Guarantees: an acknowledgement counts only if it belongs to this session, covers nothing that was
//! not sent, never moves back and carries our running hash (S1). Not here: what acknowledgements
//! commit (replica), sockets (transport), reading the log.

#[cfg(feature = "model")]
mod modelled;

use std::collections::VecDeque;

use outrigger_wal::format::Block;
use outrigger_wal::{InstanceId, Lsn, Micros, RunningHash};

use crate::handshake::{Verdict, compare};
use crate::message::{History, Message, Session};

/// How far the stream to one copy has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Said hello; the answer is out.
    Probing,
    /// Told where to go on; the copy cuts what it must.
    Starting,
    /// Shipping.
    Streaming,
    /// Nothing to continue from; it needs a base backup.
    NeedsCopy,
}

/// Why an acknowledgement was refused; the connection is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadAck {
    /// It came before streaming began.
    #[error("acknowledged before it was streamed to")]
    Early,
    /// It covers what was not sent.
    #[error("acknowledged {durable}, sent up to {sent}")]
    BeyondSent {
        /// What it claims.
        durable: Lsn,
        /// What was sent.
        sent: Lsn,
    },
    /// It moves back.
    #[error("acknowledged {durable} after {before}")]
    MovedBack {
        /// What it claims.
        durable: Lsn,
        /// What it had claimed.
        before: Lsn,
    },
    /// It is not at a block boundary that was sent, or its hash is another one.
    #[error("acknowledged {durable} with another running hash")]
    OtherHash {
        /// Where.
        durable: Lsn,
    },
}

/// What the answer to a `Hello` calls for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Say `Start` at this LSN, with our running hash there.
    Start(Lsn),
    /// The copy cannot be continued.
    NeedsCopy(String),
}

/// The stream to one copy.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Sender {
    peer: InstanceId,
    session: Session,
    stage: Stage,
    next: Lsn,
    received: Lsn,
    durable: Lsn,
    applied: Lsn,
    /// The ends of blocks that were sent and not acknowledged, with the hash there and the stored bytes.
    unacked: VecDeque<(Lsn, RunningHash, u64)>,
    unacked_bytes: u64,
    window_bytes: u64,
    told_commit: Lsn,
    /// Since when the copy does not know of a higher commit LSN.
    owed: Option<Micros>,
    heard: Micros,
    said: Micros,
    reading: bool,
    shipped_bytes: u64,
    began: Lsn,
}

impl Sender {
    /// A stream over a connection that was just made. At most `window_bytes` of stored bytes are on
    /// their way at once (one block more when it is larger).
    #[must_use]
    pub const fn new(peer: InstanceId, session: Session, window_bytes: u64, now: Micros) -> Self {
        Self {
            peer,
            session,
            stage: Stage::Probing,
            next: Lsn::ZERO,
            received: Lsn::ZERO,
            durable: Lsn::ZERO,
            applied: Lsn::ZERO,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            window_bytes,
            told_commit: Lsn::ZERO,
            owed: None,
            heard: now,
            said: now,
            reading: false,
            shipped_bytes: 0,
            began: Lsn::ZERO,
        }
    }

    /// Whose copy.
    #[must_use]
    pub const fn peer(&self) -> InstanceId {
        self.peer
    }

    /// The connection.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// The durable LSN that the copy acknowledged in this session.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// The applied LSN that the copy told.
    #[must_use]
    pub const fn applied(&self) -> Lsn {
        self.applied
    }

    /// The received LSN that the copy told.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.received
    }

    /// Stored bytes shipped in this session.
    #[must_use]
    pub const fn shipped_bytes(&self) -> u64 {
        self.shipped_bytes
    }

    /// Where streaming began in this session.
    #[must_use]
    pub const fn began(&self) -> Lsn {
        self.began
    }

    /// Up to where was shipped in this session.
    #[must_use]
    pub const fn shipped_to(&self) -> Lsn {
        self.next
    }

    /// When something was heard last.
    #[must_use]
    pub const fn heard(&self) -> Micros {
        self.heard
    }

    /// When something was said last.
    #[must_use]
    pub const fn said(&self) -> Micros {
        self.said
    }

    /// Something arrived.
    pub const fn hear(&mut self, now: Micros) {
        self.heard = now;
    }

    /// Compares the copy's history with ours.
    pub fn welcome(&mut self, mine: &History, theirs: &History) -> Next {
        let at = match compare(mine, theirs) {
            Verdict::Continue { at } => at,
            Verdict::Truncate { to } | Verdict::Behind { at: to } => to,
            Verdict::NeedsCopy { why } => {
                self.stage = Stage::NeedsCopy;
                return Next::NeedsCopy(why.to_string());
            }
        };
        self.stage = Stage::Starting;
        self.next = at;
        Next::Start(at)
    }

    /// The copy cannot be continued after all.
    pub const fn give_up(&mut self) {
        self.stage = Stage::NeedsCopy;
    }

    /// The copy is ready at `at`, where it was told to start. `hash` is ours there.
    ///
    /// # Errors
    /// [`BadAck::BeyondSent`] when it is ready elsewhere.
    pub fn ready(&mut self, at: Lsn) -> Result<(), BadAck> {
        if self.stage != Stage::Starting || at != self.next {
            return Err(BadAck::BeyondSent { durable: at, sent: self.next });
        }
        self.stage = Stage::Streaming;
        self.began = at;
        // What it holds up to here is ours: it compared the running hash before it answered.
        self.received = at;
        self.durable = at;
        Ok(())
    }

    /// Where to read on and how much may be shipped, when anything may.
    #[must_use]
    pub const fn wants(&self, end: Lsn) -> Option<(Lsn, u64)> {
        let streaming = matches!(self.stage, Stage::Streaming);
        if !streaming || self.reading || self.next.0 >= end.0 {
            return None;
        }
        if self.unacked_bytes >= self.window_bytes {
            return None;
        }
        Some((self.next, self.window_bytes - self.unacked_bytes))
    }

    /// A read for this stream is out; nothing more is wanted until it is back.
    pub const fn reading(&mut self, reading: bool) {
        self.reading = reading;
    }

    /// Blocks from `wants` on, to be shipped: the message that goes before them.
    pub fn ship(&mut self, now: Micros, blocks: &[Block], commit: Lsn, keep: Lsn) -> Message {
        let start = self.next;
        let mut lens = Vec::with_capacity(blocks.len());
        for block in blocks {
            let stored = block.stored().len() as u64;
            lens.push((block.header().true_len, block.header().stored_len));
            self.unacked.push_back((block.end(), block.hash_after(), stored));
            self.unacked_bytes = self.unacked_bytes.saturating_add(stored);
            self.shipped_bytes = self.shipped_bytes.saturating_add(stored);
            self.next = block.end();
        }
        self.told(now, commit);
        Message::Data { start, commit, keep, lens }
    }

    const fn told(&mut self, now: Micros, commit: Lsn) {
        self.told_commit = commit;
        self.said = now;
        self.owed = None;
    }

    /// The commit LSN, when the copy does not know of it for `delay_micros` (the next block says it
    /// too, and mostly comes first), or when nothing was said for `quiet_micros`.
    pub fn tell_commit(
        &mut self,
        now: Micros,
        commit: Lsn,
        keep: Lsn,
        delay_micros: u64,
        quiet_micros: u64,
    ) -> Option<Message> {
        if !matches!(self.stage, Stage::Streaming) {
            return None;
        }
        if commit > self.told_commit && self.owed.is_none() {
            self.owed = Some(now);
        }
        let owed = self.owed.is_some_and(|since| now.since(since) >= delay_micros);
        if !owed && now.since(self.said) < quiet_micros {
            return None;
        }
        self.told(now, commit);
        Some(Message::Commit { commit, keep })
    }

    /// Since when the copy does not know of a higher commit LSN.
    #[must_use]
    pub const fn owed(&self) -> Option<Micros> {
        self.owed
    }

    /// Takes an acknowledgement. `checked`: whether S1 is held to (only seeded bugs say no).
    ///
    /// # Errors
    /// [`BadAck`]; nothing is released.
    pub fn ack(
        &mut self,
        received: Lsn,
        durable: Lsn,
        hash: RunningHash,
        applied: Lsn,
        checked: bool,
    ) -> Result<(), BadAck> {
        if checked {
            if self.stage != Stage::Streaming {
                return Err(BadAck::Early);
            }
            if durable > self.next || received > self.next {
                return Err(BadAck::BeyondSent { durable: durable.max(received), sent: self.next });
            }
            if durable < self.durable {
                return Err(BadAck::MovedBack { durable, before: self.durable });
            }
        }
        let mut matched = durable == self.durable;
        while let Some((end, ours, stored)) = self.unacked.front().copied() {
            if end > durable {
                break;
            }
            matched = end == durable && ours == hash;
            self.unacked_bytes = self.unacked_bytes.saturating_sub(stored);
            self.unacked.pop_front();
        }
        if checked && !matched {
            return Err(BadAck::OtherHash { durable });
        }
        self.durable = self.durable.max(durable);
        self.received = self.received.max(received);
        self.applied = self.applied.max(applied);
        Ok(())
    }
}
