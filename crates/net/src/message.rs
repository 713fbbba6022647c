//! What instances, the coordinator and clients say to each other.
//!
//! Guarantees: every message travels in an [`Envelope`] that names cluster, content and epoch (S0).
//! Not here: how messages are laid out ([`crate::frame`]), and who answers what (replica, cluster).

use outrigger_wal::format::EpochEntry;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, RunningHash};

use crate::config::{Config, Version};

/// One connection between two peers, named by whoever opened it; random, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Session(pub u64);

/// What every message carries (S0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Envelope {
    /// The cluster; a wrong one is refused.
    pub cluster: ClusterId,
    /// The content; a wrong one is refused.
    pub content: ContentId,
    /// The highest epoch the sender has accepted (of the content; for the authority's own messages
    /// the epoch of the configuration they speak of).
    pub epoch: Epoch,
    /// The epoch number of the coordinator as far as the sender knows; 0 between copies that never heard.
    pub coordinator_epoch: u64,
    /// The version of the configuration the sender acts under.
    pub version: Version,
    /// The connection.
    pub session: Session,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Role {
    /// A primary that dials one of its copies.
    Primary,
    /// An instance that dials the coordinator.
    Instance,
    /// A client of rows.
    Client,
    /// A command of an administrator.
    Operator,
}

/// What one side can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Abilities {
    /// Protocol versions, lowest and highest.
    pub protocols: (u16, u16),
    /// Features without which the sender cannot go on; one unknown to the other side refuses.
    pub required_features: u64,
    /// Features the other side may ignore.
    pub optional_features: u64,
    /// Block formats it can read, lowest and highest.
    pub block_formats: (u16, u16),
    /// The largest block it takes, in bytes.
    pub max_block_bytes: u32,
}

impl Abilities {
    /// What this version can do, with the largest block of any log.
    pub const OURS: Self = Self {
        protocols: (1, 1),
        required_features: 0,
        optional_features: 0,
        block_formats: (1, 1),
        max_block_bytes: outrigger_wal::format::MAX_BLOCK_BYTES,
    };
}

/// Where a copy's history stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// Its recent epochs, oldest first.
    pub epochs: Vec<EpochEntry>,
    /// Where its log begins (what lies before was recycled).
    pub start: Lsn,
    /// Where its log ends; everything before is durable when this is told.
    pub end: Lsn,
    /// The running hash at `end`.
    pub hash: RunningHash,
    /// Its commit LSN.
    pub commit: Lsn,
    /// Its floor (S6): it has durably held everything below.
    pub floor: Lsn,
}

/// Why a peer was refused; both sides log it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Another cluster.
    WrongCluster,
    /// Another content.
    WrongContent,
    /// The message is for another instance.
    WrongInstance,
    /// Another log.
    WrongLog,
    /// The peer is no member of the configuration.
    NotAMember,
    /// No protocol version in common.
    NoCommonVersion,
    /// A required feature is unknown.
    UnknownFeature,
    /// No block format in common.
    NoCommonFormat,
    /// The other side's blocks are too large.
    BlocksTooLarge,
    /// A lower epoch than the one accepted.
    StaleEpoch,
    /// The same epoch number with another nonce: two reigns; an alarm.
    ForeignNonce,
    /// A lower version of the configuration than the one accepted.
    StaleVersion,
    /// A lower coordinator's epoch than the one accepted.
    StaleCoordinator,
    /// The message does not fit the state of the connection.
    OutOfTurn,
    /// The log has damage, or ends below its floor.
    Damaged,
    /// The instance is not ready, or not what the peer takes it for.
    NotReady,
    /// A promotion that is refused, or an operator's error.
    Denied,
    /// A reason that only a newer peer knows; its text says more.
    Other(u8),
}

/// One message. `Data` frames carry blocks behind it, verbatim.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message {
    /// Opens a connection.
    Hello {
        /// What it is for.
        role: Role,
        /// Who speaks; nil for clients.
        from: InstanceId,
        /// Who is meant; nil where any will do.
        to: InstanceId,
        /// The log; nil where none is concerned.
        log: LogId,
        /// What the speaker can do.
        abilities: Abilities,
        /// The speaker's history; empty where none is concerned.
        history: History,
    },
    /// Answers `Hello`. From a copy: everything in flight to its disk is drained and the epoch of
    /// the `Hello` persisted before this is sent (S5).
    Welcome {
        /// Who speaks.
        from: InstanceId,
        /// The protocol version chosen.
        protocol: u16,
        /// What the speaker can do.
        abilities: Abilities,
        /// The speaker's history.
        history: History,
    },
    /// Refuses, and ends the connection. The envelope names the current epoch and version.
    Refuse {
        /// Why.
        reason: Reason,
        /// In words.
        text: String,
    },
    /// A primary tells a copy where to go on; what lies behind `from` in the copy's log is cut
    /// first.
    Start {
        /// Where streaming begins.
        from: Lsn,
        /// The primary's running hash there; another one on the copy means it needs a copy.
        hash: RunningHash,
        /// Whether commits wait for the copy. One that is told they do not persists that before it
        /// writes the session's first block.
        in_sync: bool,
    },
    /// The copy is ready to receive at `at`.
    Ready {
        /// Its end.
        at: Lsn,
    },
    /// The histories share nothing that could be continued from.
    NeedsCopy {
        /// In words.
        text: String,
    },
    /// A restarted primary asks a copy for what it has beyond the primary's own end (S5). Answered by `Data`.
    Fetch {
        /// The first byte.
        from: Lsn,
        /// The end.
        to: Lsn,
    },
    /// Blocks, verbatim, behind this message.
    Data {
        /// The LSN of the first block.
        start: Lsn,
        /// The sender's commit LSN.
        commit: Lsn,
        /// No copy needs log below this.
        keep: Lsn,
        /// (`true_len`, `stored_len`) of each block.
        lens: Vec<(u32, u32)>,
    },
    /// The commit LSN advanced and no block is due.
    Commit {
        /// The commit LSN.
        commit: Lsn,
        /// No copy needs log below this.
        keep: Lsn,
    },
    /// What a copy has; cumulative.
    Ack {
        /// Received and checked.
        received: Lsn,
        /// Durable.
        durable: Lsn,
        /// The running hash at `durable`.
        hash: RunningHash,
        /// Applied to the store.
        applied: Lsn,
    },
    /// Nothing to say; the connection lives.
    Keepalive,
    /// Asks the authority for the configuration of the envelope's content.
    ReadConfig {
        /// Names the answer.
        op: u64,
    },
    /// The copy has reached the LSN from which commits wait for it: it persists that it is in sync,
    /// and its durable LSN, before it answers (S4).
    Join,
    /// Answers `Join`.
    Joined {
        /// Durable, and promised.
        durable: Lsn,
    },
    /// Answers `ReadConfig`, and is pushed at every change.
    ConfigIs {
        /// The question's `op`; 0 when pushed.
        op: u64,
        /// The configuration; `None` when the content is unknown.
        config: Option<Config>,
    },
    /// Asks the authority to replace the configuration at version `seen`.
    CompareAndSwap {
        /// Names the answer.
        op: u64,
        /// The version it replaces.
        seen: Version,
        /// The new configuration, at `seen.next()`.
        new: Config,
    },
    /// Answers `CompareAndSwap`.
    Swapped {
        /// The question's `op`.
        op: u64,
        /// Whether the new configuration was recorded.
        won: bool,
        /// What is recorded now.
        current: Config,
    },
    /// What an instance's copy holds; the authority keeps the highest durable LSN (S6), lowered only
    /// by `cut`.
    Report {
        /// Durable.
        durable: Lsn,
        /// Commit.
        commit: Lsn,
        /// Applied.
        applied: Lsn,
        /// Set when the log was truncated to this fork under the envelope's epoch: the floor
        /// falls to it.
        cut: Option<Lsn>,
    },
    /// The reign is to be handed over to `to` (S9): from the coordinator to the primary, or to the mirror `to`,
    /// which passes it on. Answered by `GaveUp`, or by `Refuse`.
    HandOver {
        /// The copy that takes over.
        to: InstanceId,
        /// How long writes may wait for it, in milliseconds: without success by then the reign goes on.
        at_most_millis: u64,
    },
    /// The primary has durably given its epoch up, and nothing behind `at` was committed in it. After `HandOver`
    /// its log ends there, durable on `to` and applied there (S9). The same way back as `HandOver` or `GiveUp` came.
    GaveUp {
        /// The reign that ended.
        epoch: Epoch,
        /// What was committed in it at most.
        at: Lsn,
    },
    /// An administrator accepts that what `to` lacks is lost (S10): from the coordinator to the primary, which gives
    /// its reign up and waits for nothing. Answered by `GaveUp`, or not at all.
    GiveUp {
        /// The copy that takes over.
        to: InstanceId,
        /// Half the time, in milliseconds, after which it takes a new epoch if nobody took over.
        at_most_millis: u64,
    },
    /// A request whose layout is the server's business.
    Request {
        /// Names the answer.
        op: u64,
        /// The request.
        body: bytes::Bytes,
    },
    /// Answers `Request`.
    Response {
        /// The question's `op`.
        op: u64,
        /// The answer.
        body: bytes::Bytes,
    },
}
