//! What a coordinator is told and what it asks for.
//!
//! Not here: who carries it out (the simulator, or the drivers of a server).

use bytes::Bytes;
use outrigger_net::beat::{Beat, Ping};
use outrigger_net::config::{Config, Version};
use outrigger_net::message::{Envelope, Message};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, Epoch, InstanceId, Lsn};

use crate::agent::{Ask, Say};
use crate::catalog::Ticket;
use crate::detect::Standing;
use crate::mover::{self, Reply};

/// What a coordinator is told.
#[derive(Clone, Debug)]
pub enum In {
    /// Its own member serves in this epoch, or serves no more.
    Serving(Option<Epoch>),
    /// A message arrived.
    Frame {
        /// On which connection; a number is never used again.
        link: LinkId,
        /// Its envelope.
        envelope: Envelope,
        /// The message.
        message: Message,
    },
    /// A connection ended.
    Closed(LinkId),
    /// The catalog has applied more.
    Applied,
    /// A record could not be appended, and will not be.
    NotAppended {
        /// Which.
        ticket: Ticket,
        /// Why, in words.
        text: String,
    },
    /// What the voters have recorded of the catalog's own configuration. A coordinator that serves records no change of a
    /// content before it has heard that of its own reign: only then does it know whether the catalog may lack something.
    Own {
        /// The configuration.
        config: Config,
    },
    /// How far a copy of the catalog is: its own member, and those it streams to.
    Figures {
        /// Whose.
        instance: InstanceId,
        /// Whether it is connected.
        here: bool,
        /// Durable.
        durable: Lsn,
        /// Commit.
        commit: Lsn,
        /// Applied.
        applied: Lsn,
    },
    /// The connection to a host's agent was made, or ended.
    Agent {
        /// The host.
        host: String,
        /// Whether it is there.
        here: bool,
    },
    /// An agent answered.
    AgentSaid {
        /// Of which host.
        host: String,
        /// What.
        say: Say,
    },
    /// What [`Out::Carry`] asked was answered, or will not be.
    Carried {
        /// Its number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// A heartbeat came from an instance's address.
    Beat {
        /// Whose address.
        from: InstanceId,
        /// What it says.
        beat: Beat,
    },
    /// Nobody listens at an instance's address.
    Refused {
        /// Whose.
        instance: InstanceId,
    },
    /// Time has passed.
    Tick,
}

/// What a coordinator asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Out {
    /// Append a record to the log of the coordinator's own member; the catalog applies it once it is
    /// committed. Answered by [`In::Applied`] or [`In::NotAppended`].
    Append {
        /// Its name.
        ticket: Ticket,
        /// Its bytes.
        record: Bytes,
    },
    /// Send a message.
    Send {
        /// On which connection.
        link: LinkId,
        /// Its envelope.
        envelope: Envelope,
        /// The message.
        message: Message,
    },
    /// End a connection, after what was sent on it; nothing more of it is brought.
    Hangup(LinkId),
    /// Keep connections to these agents, and to no others: [`In::Agent`] tells how they are.
    Reach {
        /// Hosts by name, and where their agents listen.
        agents: Vec<(String, Vec<String>)>,
    },
    /// Ask an agent; its answers come as [`In::AgentSaid`].
    Agent {
        /// Of which host.
        host: String,
        /// What.
        ask: Ask,
    },
    /// Ask the acting primary of a content; answered by [`In::Carried`], once.
    Carry {
        /// Counts questions within a reign.
        id: u64,
        /// Which content.
        content: ContentId,
        /// What.
        ask: mover::Ask,
    },
    /// Send a heartbeat's question to an instance.
    Ping {
        /// Where it listens.
        address: String,
        /// What.
        ping: Ping,
    },
    /// Have the voters asked to change the catalog's own configuration, for an operator; what they record comes as
    /// [`In::Own`]. Asked for again until it is recorded.
    SwapOwn {
        /// The version to be replaced.
        seen: Version,
        /// What should be recorded.
        new: Config,
    },
    /// Something an administrator should know.
    Event(Event),
}

/// What an administrator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It serves.
    Serves {
        /// In which epoch.
        epoch: Epoch,
    },
    /// It serves no more.
    Stopped,
    /// A configuration was recorded.
    Recorded {
        /// Of which content.
        content: ContentId,
        /// Its version.
        version: Version,
        /// Its epoch.
        epoch: Epoch,
        /// Its primary.
        primary: InstanceId,
    },
    /// An instance is in touch.
    Arrived {
        /// Its content.
        content: ContentId,
        /// Which.
        instance: InstanceId,
    },
    /// An instance is seen in another way than before.
    Standing {
        /// Its content.
        content: ContentId,
        /// Which.
        instance: InstanceId,
        /// How.
        standing: Standing,
    },
    /// A failover was asked for.
    FailsOver {
        /// Of which content.
        content: ContentId,
        /// To whom.
        to: InstanceId,
    },
    /// An instance is in touch no more.
    Gone {
        /// Its content.
        content: ContentId,
        /// Which.
        instance: InstanceId,
    },
    /// A peer was refused.
    Refused {
        /// In words.
        text: String,
    },
    /// Something that must not happen: somebody has to look.
    Alarm {
        /// In words.
        text: String,
    },
}
