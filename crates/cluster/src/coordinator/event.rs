//! What a coordinator is told and what it asks for.
//!
//! Not here: who carries it out (the simulator, or the drivers of a server).

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_net::message::{Envelope, Message};
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, Epoch, InstanceId};

use crate::catalog::Ticket;

/// What a coordinator is told.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most events are frames")]
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
