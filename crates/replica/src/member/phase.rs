//! What a copy can be, and the state of each.
//!
//! Not here: how it comes from one to the other (its siblings).

use std::collections::BTreeMap;

use outrigger_net::config::{Config, Version};
use outrigger_net::message::{History, Session};
use outrigger_net::receiver::Receiver;
use outrigger_net::sender::Sender;
use outrigger_wal::{Epoch, InstanceId, Lsn, Micros, RunningHash};

use super::event::LinkId;
use super::handing_over::HandingOver;
use super::resigning::Resigned;

/// What a copy is, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Role {
    /// It does not know yet.
    Waiting,
    /// It follows a primary.
    Mirror,
    /// It is about to reign.
    Rising,
    /// It reigns.
    Primary,
    /// It failed for good, or was closed.
    Down,
}

/// What a copy is.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) enum Phase {
    /// No configuration is known yet, or this copy is in none.
    Waiting,
    /// It follows a primary, or waits for one to call.
    Following(Following),
    /// Restarted as primary: a new epoch is asked for (S5).
    Electing(Config),
    /// The epoch is recorded: the in-sync copies are asked for their ends (S5).
    Gathering(Gathering),
    /// It will reign as soon as what it accepted is durable and its disk is drained.
    Rising(Rising),
    /// It reigns.
    Reigning(Reign),
    /// It failed for good.
    Failed,
    /// It was closed in order.
    Closed,
}

impl Phase {
    pub(super) const fn role(&self) -> Role {
        match self {
            Self::Waiting => Role::Waiting,
            Self::Following(_) => Role::Mirror,
            Self::Electing(_) | Self::Gathering(_) | Self::Rising(_) => Role::Rising,
            Self::Reigning(_) => Role::Primary,
            Self::Failed | Self::Closed => Role::Down,
        }
    }
}

/// A copy and the stream from its primary.
#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Following {
    pub(super) stream: Option<Stream>,
    /// It was primary until an administrator had it give its epoch up (S10).
    pub(super) resigned: Option<Resigned>,
}

/// The stream from a primary.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Stream {
    pub(super) link: LinkId,
    pub(super) receiver: Receiver,
    /// When something came from the primary last.
    pub(super) heard: Micros,
    /// The generation of the control file that must be on disk before the next answer.
    pub(super) generation: u64,
    /// Where the primary told us to start.
    pub(super) start: Option<Start>,
    /// A `Join` waits to be answered.
    pub(super) joining: bool,
    /// An acknowledgement is due whether or not anything moved.
    pub(super) asked: bool,
    /// What a restarted primary wants of our tail: (next, end).
    pub(super) lending: Option<(Lsn, Lsn)>,
}

/// What the primary said in `Start`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) from: Lsn,
    pub(super) hash: RunningHash,
}

/// A restarted primary that collects the ends of the in-sync copies.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Gathering {
    pub(super) epoch: Epoch,
    /// The generation that holds the epoch.
    pub(super) generation: u64,
    pub(super) peers: BTreeMap<InstanceId, Peer>,
    pub(super) swap: Option<Swap>,
    /// The tail that is fetched from another copy.
    pub(super) adopting: Option<Adopting>,
}

/// The tail of another copy that this one takes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adopting {
    pub(super) from: InstanceId,
    pub(super) link: LinkId,
    pub(super) end: Lsn,
    /// Our own log is cut first: to where, and the generation that holds the mark.
    pub(super) cut: Option<(Lsn, u64)>,
    pub(super) asked: bool,
}

/// About to reign.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Rising {
    pub(super) epoch: Epoch,
    pub(super) generation: u64,
    pub(super) peers: BTreeMap<InstanceId, Peer>,
    /// Whether this is a promotion (S3) or a restart (S5).
    pub(super) promoted: bool,
}

/// A reign.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Reign {
    pub(super) epoch: Epoch,
    /// The end of the reign's first block.
    pub(super) begin_end: Lsn,
    /// The control file that lists the reign: before it is durable nothing is served, so that what was
    /// acknowledged is known to be sealed here also where that first block rots.
    pub(super) generation: u64,
    pub(super) peers: BTreeMap<InstanceId, Peer>,
    pub(super) swap: Option<Swap>,
    pub(super) served: bool,
    /// It is being handed over (S9).
    pub(super) handing: Option<HandingOver>,
}

/// A change of the configuration that was asked for.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Swap {
    pub(super) base: Version,
    pub(super) new: Config,
    pub(super) asked: Micros,
}

/// One other copy, as its primary sees it.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Peer {
    pub(super) line: Line,
    /// When the line was first tried, or lost for the first time since the copy had everything.
    pub(super) lost: Micros,
    /// Until when it is not let go of, whatever the grace: it may be starting, as this process is, and was not met yet.
    pub(super) until: Micros,
    /// Where the log ended then: a copy that has not come so far since has the grace that it had.
    pub(super) owes: Lsn,
    /// How often a line ended, or could not be made, since it moved the copy on.
    pub(super) attempts: u32,
    /// How many lines ended since then that had begun to stream.
    pub(super) vain: u32,
    /// Its durable LSN, observed in this epoch (S1).
    pub(super) observed: Lsn,
    /// Commits wait for it from here on, though the configuration does not say so yet (S4).
    pub(super) awaited: Option<Awaited>,
    /// No grace: it was deposed because it cannot be reached. Until it streams.
    pub(super) deposed: bool,
    /// It was deposed, and had been silent for the grace when that came.
    pub(super) silent: bool,
    /// What it was sent on earlier lines while it was not in sync.
    pub(super) earlier: Earlier,
}

/// What a copy was sent on lines that broke before it was in sync.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Earlier {
    /// Where streaming began on the first of them.
    pub(super) from: Option<Lsn>,
    /// Stored bytes.
    pub(super) shipped_bytes: u64,
}

/// The connection to a copy.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) enum Line {
    /// There is none; to be dialled then.
    Down(Micros),
    /// Being made.
    Dialling(LinkId),
    /// There.
    Up(Box<Up>),
}

/// A connection that is there.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Up {
    pub(super) link: LinkId,
    pub(super) session: Session,
    pub(super) sender: Sender,
    /// What it told of its history.
    pub(super) history: Option<History>,
    /// `Start` was said.
    pub(super) started: bool,
    /// When the copy last had everything, or more than before.
    pub(super) moved: Micros,
}

/// A copy that commits wait for before it is in the in-sync set (S4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// From here on nothing is committed without it.
    pub(super) from: Lsn,
    /// `Join` was said.
    pub(super) joining: bool,
    /// The copy answered: it persisted that it is in sync.
    pub(super) joined: bool,
    /// The version on whose base it was asked for.
    pub(super) base: Option<Version>,
}

impl Peer {
    pub(super) const fn new(now: Micros, deposed: bool) -> Self {
        Self {
            line: Line::Down(now),
            lost: now,
            until: Micros(0),
            owes: Lsn::ZERO,
            attempts: 0,
            vain: 0,
            observed: Lsn::ZERO,
            awaited: None,
            deposed,
            silent: false,
            earlier: Earlier { from: None, shipped_bytes: 0 },
        }
    }

    pub(super) fn link(&self) -> Option<LinkId> {
        match &self.line {
            Line::Down(_) => None,
            Line::Dialling(link) => Some(*link),
            Line::Up(up) => Some(up.link),
        }
    }

    pub(super) fn up(&mut self) -> Option<&mut Up> {
        match &mut self.line {
            Line::Up(up) => Some(up),
            _ => None,
        }
    }
}
