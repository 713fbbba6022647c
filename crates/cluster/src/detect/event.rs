//! What a detector is told and what it asks for.
//!
//! Not here: who carries it out (the simulator, or the drivers of a server).

use outrigger_net::beat::Beat;
use outrigger_wal::{ContentId, InstanceId, Lsn, Micros};

use super::standing::Standing;

/// What a detector is told.
#[expect(clippy::large_enum_variant, reason = "it is told one at a time, and nothing keeps it")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum In {
    /// Watch this instance from now on; watching it already changes nothing, unless its content is another.
    Watch {
        /// Which.
        instance: InstanceId,
        /// Its content.
        content: ContentId,
    },
    /// Watch it no more: it is being stopped, or was removed.
    Forget {
        /// Which.
        instance: InstanceId,
    },
    /// A heartbeat arrived.
    Beat {
        /// From whose address.
        from: InstanceId,
        /// What it says.
        beat: Beat,
    },
    /// The host of this instance says that nobody listens at its address.
    Refused {
        /// Whose.
        instance: InstanceId,
    },
    /// Its connection to the coordinator was made.
    LineOpened {
        /// Whose.
        instance: InstanceId,
    },
    /// Its connection to the coordinator ended.
    LineClosed {
        /// Whose.
        instance: InstanceId,
    },
    /// Its agent saw its process end.
    Exited {
        /// Whose.
        instance: InstanceId,
        /// Which of its processes, where the agent knows; what that one said is late from now on.
        incarnation: Option<u64>,
    },
    /// The connection to its host's agent ended.
    AgentLost {
        /// Whose.
        instance: InstanceId,
    },
    /// The agent of its host is connected, and says that its process runs.
    AgentBack {
        /// Whose.
        instance: InstanceId,
    },
    /// Time has passed.
    Tick,
}

/// What a detector asks for.
#[expect(clippy::large_enum_variant, reason = "it is asked one at a time, and nothing keeps it")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Out {
    /// Ask an instance.
    Ping {
        /// Which.
        instance: InstanceId,
        /// Its content.
        content: ContentId,
        /// The question's name.
        counter: u64,
    },
    /// It is seen in another way than before.
    StandingChanged {
        /// Which.
        instance: InstanceId,
        /// Its content.
        content: ContentId,
        /// How it stands now.
        standing: Standing,
    },
    /// Somebody else answers at its address, or a second process answers in its name: an alarm. Said once until it is
    /// heard itself.
    Stranger {
        /// Whose address.
        instance: InstanceId,
        /// What was answered.
        found: Beat,
    },
}

/// What a detector has done since it was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Questions asked.
    pub pings: u64,
    /// Beats that counted.
    pub beats: u64,
    /// Beats that came late or twice.
    pub late: u64,
    /// Beats of another cluster, content or instance, to a question that was not asked, or from a process that
    /// another has replaced.
    pub strangers: u64,
    /// Refusals.
    pub refusals: u64,
    /// Processes that replaced another.
    pub restarts: u64,
    /// How often the coordinator itself stood still.
    pub stood_still: u64,
}

/// All that is known of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Known {
    /// Its content.
    pub content: ContentId,
    /// How it stands.
    pub standing: Standing,
    /// Since when it stands so.
    pub stands_since: Micros,
    /// When the last question was asked that it has answered, if ever.
    pub heard: Option<Micros>,
    /// When it last heard its primary, if it is a mirror that has a stream.
    pub primary_heard: Option<Micros>,
    /// What it said last.
    pub beat: Option<Beat>,
    /// How far its recovery ever got, since it was last open.
    pub recovered_to: Option<Lsn>,
    /// Whether its agent is connected; `None`: it never was.
    pub agent_here: Option<bool>,
}
