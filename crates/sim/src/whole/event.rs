//! What will happen in the whole cluster, and what a process is brought.

use outrigger_cluster::agent::{Ask as AgentAsk, Say as AgentSay};
use outrigger_cluster::catalog::tables::Dbid;
use outrigger_cluster::voters::{Ask as VoterAsk, Say as VoterSay, Seat};
use outrigger_cluster::{coordinator, voters};
use outrigger_net::beat::{Beat, Ping};
use outrigger_replica::member::{HandOver, In, LinkId};
use outrigger_wal::recover::Recovered;
use outrigger_wal::{Error, InstanceId, Lsn};

use crate::cluster::network::Parcel;
use crate::cluster::queue::{Life, Wire};

/// Something that will happen. `at`, `from`, `to`: processes by number; `life`: which start of one.
#[derive(Debug)]
pub(super) enum Event {
    Wire(Wire),
    /// A member's deadline.
    Kick {
        at: usize,
        life: Life,
    },
    /// Operations on a disk are due.
    Disk {
        at: usize,
        life: Life,
    },
    /// A process that was started has come to reading its log.
    Open {
        at: usize,
        life: Life,
    },
    /// A copy is made anew.
    Remade {
        at: usize,
        life: Life,
    },
    /// A process that stood still goes on.
    Resume {
        at: usize,
    },
    Applied {
        at: usize,
        life: Life,
        to: Lsn,
    },
    Checkpoint {
        at: usize,
        life: Life,
    },
    Checkpointed {
        at: usize,
        life: Life,
    },
    Reopened {
        at: usize,
        life: Life,
        result: Box<Result<Recovered, Error>>,
    },
    Dialled {
        from: usize,
        life: Life,
        link: LinkId,
        to: usize,
    },
    /// An instance looks after its connection to the coordinator.
    Line {
        at: usize,
        life: Life,
    },
    /// A deadline of a coordinator or its council.
    Seat {
        at: usize,
        life: Life,
    },
    /// A coordinator looks after its connections to agents.
    Reach {
        at: usize,
        life: Life,
    },
    /// A question reaches a voter.
    Vote {
        from: usize,
        life: Life,
        ask: Box<VoterAsk>,
    },
    /// A voter's answer comes back.
    Voted {
        to: usize,
        life: Life,
        say: Box<VoterSay>,
    },
    /// A voter cannot be reached.
    NoVoter {
        to: usize,
        life: Life,
        seat: Seat,
    },
    /// A question reaches an agent; `from`: the process that asks, on its connection.
    Ask {
        host: usize,
        agent: Life,
        from: Asker,
        ask: Box<AgentAsk>,
    },
    /// An agent's answer comes back.
    Say {
        host: usize,
        agent: Life,
        to: Asker,
        say: Box<AgentSay>,
    },
    /// An agent answers who waits.
    AgentTick {
        host: usize,
        life: Life,
    },
    AgentStart {
        host: usize,
    },
    /// An agent that stood still goes on.
    AgentResume {
        host: usize,
        life: Life,
    },
    /// An agent learns that a process ended.
    Ended {
        host: usize,
        dbid: Dbid,
        how: String,
        good: bool,
    },
    HostUp {
        host: usize,
    },
    Ping {
        from: usize,
        life: Life,
        ping: Ping,
    },
    Beat {
        to: usize,
        life: Life,
        from: InstanceId,
        beat: Beat,
    },
    Refused {
        to: usize,
        life: Life,
        instance: InstanceId,
    },
    Client {
        client: usize,
    },
    Fault,
    Operator,
    /// A process is killed, if it is still that one.
    Kill {
        at: usize,
        life: Life,
        /// Of the fault table, where it counts by itself.
        row: Option<u8>,
    },
    /// One direction between two hosts works again.
    Mend {
        from: usize,
        to: usize,
    },
    /// A partition comes and goes.
    Flap {
        a: usize,
        b: usize,
        left: u32,
    },
    /// An order to give a reign up (S10) that comes late.
    GiveUp {
        at: usize,
        asked: HandOver,
    },
    /// A hand-over comes again, late.
    HandOver {
        at: usize,
        asked: HandOver,
    },
    /// A disk works again as it should.
    DiskWell {
        at: usize,
    },
}

impl From<Wire> for Event {
    fn from(wire: Wire) -> Self {
        Self::Wire(wire)
    }
}

/// Who asks an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A coordinator, on its connection.
    Coordinator { at: usize, life: Life, conn: u64, op: u64 },
    /// An administrator, or nobody any more.
    Nobody,
}

/// What a process is brought; it waits while the process stands still.
#[derive(Debug)]
pub(super) enum Brought {
    Member(In),
    /// A message on a connection between an instance and a coordinator.
    Line(LinkId, Parcel),
    /// Such a connection ended.
    LineClosed(LinkId),
    Seat(Seated),
    Ping {
        from: usize,
        life: Life,
        ping: Ping,
    },
}

/// What the machines on top of the catalog's member are told.
#[derive(Debug)]
pub(super) enum Seated {
    Council(voters::In),
    Coordinator(coordinator::In),
}
