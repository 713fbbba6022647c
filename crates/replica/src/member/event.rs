//! What a member is told and what it asks for.
//!
//! Not here: who carries it out (the simulator, or the drivers of a server).

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_net::message::{Envelope, Message};
use outrigger_wal::disk::{Io, IoDone, IoFault, OpId};
use outrigger_wal::format::Block;
use outrigger_wal::recover::{Recovered, Saved};
use outrigger_wal::{Epoch, Error, InstanceId, Lsn, RunningHash};

use super::handing_over::HandOver;

/// One connection as the driver names it: odd when dialled by the member (which chose the number),
/// even when it came in (the driver chose it). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What a member is told.
#[derive(Clone, Debug)]
pub enum In {
    /// A disk operation ended.
    Io(OpId, Result<IoDone, IoFault>),
    /// Producers appended, or time has passed.
    Kick,
    /// A connection that was dialled is there.
    Connected(LinkId),
    /// A message arrived, with the blocks behind it.
    Frame {
        /// On which connection.
        link: LinkId,
        /// Its envelope.
        envelope: Envelope,
        /// The message.
        message: Message,
        /// What followed it.
        body: Bytes,
    },
    /// A connection ended, or could not be made.
    Closed(LinkId),
    /// The authority answered or pushed: this is recorded.
    Config {
        /// The configuration.
        config: Config,
        /// The reign of the coordinator that says so.
        coordinator_epoch: u64,
    },
    /// The authority asks for a hand-over (S9): at the primary, or at the mirror that takes over, which
    /// passes it on. Answered by [`Out::GaveUp`] or [`Out::NotHandedOver`]; asked again it is answered again.
    HandOver(HandOver),
    /// An administrator accepts that what `to` lacks is lost (S10): the primary is to give its reign up for it, and waits
    /// for nothing. Answered by [`Out::GaveUp`] or [`Out::NotHandedOver`]; asked again it is answered again.
    GiveUp(HandOver),
    /// The store has applied everything up to here.
    Applied(Lsn),
    /// A checkpoint of the store up to here is durable.
    Checkpointed(Lsn),
    /// The store failed for good: nothing more is applied, so nothing more may be served.
    StoreFailed(String),
    /// The answer to [`Out::Reopen`].
    Reopened(Box<Result<Recovered, Error>>),
    /// Go down in order: stop, write what is pending, mark the log as cleanly closed.
    Close,
}

/// What a member asks for.
#[derive(Debug)]
pub enum Out {
    /// Carry out a disk operation and bring its completion.
    Io(OpId, Io),
    /// Connect to a copy: try its addresses in order, once each; answer [`In::Connected`] or [`In::Closed`].
    Dial {
        /// The connection's name from now on.
        link: LinkId,
        /// Whose copy.
        peer: InstanceId,
        /// Where it may listen.
        addresses: Vec<String>,
    },
    /// End a connection; nothing more of it is brought.
    Hangup(LinkId),
    /// Send a message, with blocks behind it.
    Send {
        /// On which connection.
        link: LinkId,
        /// Its envelope.
        envelope: Envelope,
        /// The message.
        message: Message,
        /// What follows it.
        body: Vec<Bytes>,
    },
    /// Ask the authority what is recorded; answered by [`In::Config`].
    ReadConfig,
    /// Ask the authority to replace the configuration at version `seen`; answered by [`In::Config`]
    /// with what is recorded then, won or lost.
    Swap {
        /// The version it replaces.
        seen: Version,
        /// The new configuration.
        new: Config,
    },
    /// Tell the authority how far this copy is.
    Report {
        /// The reign whose history this copy holds.
        epoch: Epoch,
        /// Durable.
        durable: Lsn,
        /// Commit.
        commit: Lsn,
        /// Applied.
        applied: Lsn,
        /// The fork, when the log was just cut.
        cut: Option<Lsn>,
        /// The highest epoch of a coordinator that is accepted durably: whatever happens to this copy, it takes
        /// nothing from lower ones any more.
        obeys: u64,
    },
    /// Tell the authority: this epoch is durably given up, and nothing behind `at` was committed in it. After a
    /// hand-over (S9) its log ends there, durable and applied at the copy that takes over.
    GaveUp {
        /// The reign that ended.
        epoch: Epoch,
        /// What was committed in it at most.
        at: Lsn,
    },
    /// Tell the authority: what it asked for did not come about, and the reign goes on.
    NotHandedOver {
        /// The copy that was to take over.
        to: InstanceId,
        /// Why, in words.
        text: String,
    },
    /// Apply the records of these blocks, in order; answer [`In::Applied`] with the last end.
    Apply(Vec<Block>),
    /// Open the log again with everything from this LSN on cut off, if the running hash there is
    /// the given one; answer [`In::Reopened`]. Nothing of the log is in flight.
    Reopen {
        /// The fork.
        cut: Lsn,
        /// The running hash that must stand there, where it is known.
        hash: Option<RunningHash>,
    },
    /// Something an administrator should know.
    Event(Event),
    /// It is down: everything is written and marked.
    Closed,
}

/// What an administrator should know.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// This copy reigns; serving follows when its first block is committed.
    Reigns {
        /// Its epoch.
        epoch: Epoch,
        /// Where it begins.
        from: Lsn,
    },
    /// Commits and reads are served.
    Serves {
        /// The epoch.
        epoch: Epoch,
    },
    /// This copy reigns no more; commits that were not committed are in doubt.
    SteppedDown {
        /// Its epoch.
        epoch: Epoch,
        /// What was sealed; beyond this nothing left the process.
        sealed: Lsn,
        /// Why.
        why: &'static str,
    },
    /// This copy gave its reign up for another one (S9).
    GaveUp {
        /// Its epoch.
        epoch: Epoch,
        /// Where its log ends.
        at: Lsn,
        /// The copy that takes over.
        to: InstanceId,
    },
    /// This copy gave its reign up on an administrator's word (S10).
    Resigned {
        /// Its epoch.
        epoch: Epoch,
        /// What was committed in it at most.
        at: Lsn,
    },
    /// A copy joined the in-sync set.
    Grown {
        /// Whose copy.
        copy: InstanceId,
        /// Over which connection.
        link: Option<LinkId>,
        /// Where streaming to it began, on the first line since it was last in sync: the fork, or the
        /// end it had.
        from: Lsn,
        /// What it was sent by then.
        to: Lsn,
        /// Stored bytes that it was sent to get there, on all of these lines.
        shipped_bytes: u64,
    },
    /// A copy left the in-sync set.
    Shrunk {
        /// Whose copy.
        copy: InstanceId,
    },
    /// The log was cut; the bytes are kept.
    Cut(Saved),
    /// A peer was refused, or refused us.
    Refused {
        /// In words.
        text: String,
    },
    /// An acknowledgement that lies.
    BadAck {
        /// In words.
        text: String,
    },
    /// This copy cannot be continued and needs a base backup.
    NeedsCopy {
        /// In words.
        text: String,
    },
    /// This copy may not reign: its log ends below its floor.
    BelowFloor {
        /// Where it ends.
        end: Lsn,
        /// What it had promised.
        floor: Lsn,
    },
    /// Two reigns have one number.
    ForeignNonce {
        /// Ours.
        ours: Epoch,
        /// Theirs.
        theirs: Epoch,
    },
    /// The log, the control file or the store failed for good.
    Failed {
        /// In words.
        text: String,
    },
}
