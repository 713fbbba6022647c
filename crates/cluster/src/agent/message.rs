//! What an agent is asked, and what it answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response) on a connection to an agent.
//!
//! Layout: version `u8` (1), kind `u8`, fields, in little-endian. Guarantees: decoding is total, each value has one
//! encoding. Not here: what becomes of it ([`super::Agent`]).

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_replica::control::Identity;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId};

use super::codec;
use crate::catalog::tables::{Dbid, Wanted};
use crate::error::CodecError;

/// What is asked of an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ask {
    /// Work for this cluster from now on. An agent works for one cluster, for good.
    Claim {
        /// Which cluster.
        cluster: ClusterId,
        /// The name of the agent's host in it.
        host: String,
    },
    /// What is wanted of the host's instances; those that are not named stay as they are.
    Want {
        /// Names the answer: [`Say::Taken`] repeats it.
        number: u64,
        /// The cluster.
        cluster: ClusterId,
        /// The reign of the coordinator that says so; lower ones than heard are refused (S0).
        coordinator_epoch: u64,
        /// The orders.
        orders: Vec<(Dbid, Order)>,
        /// What is kept here against the loss of the catalog (a [`Keepsake`](crate::catalog::Keepsake)); empty: what is
        /// kept already.
        kept: Bytes,
    },
    /// An administrator starts or stops a coordinator or standby on this host.
    Run {
        /// Which instance, of content -1.
        dbid: Dbid,
        /// Whether it should run.
        up: bool,
    },
    /// Look whether the data directories of instances that do not run are whole as far as can be told at once.
    Check,
    /// Become a voter (S8): only when a cluster is made.
    MakeVoter {
        /// The voter's first state.
        body: Bytes,
    },
    /// A candidate asks this host's voter.
    Vote {
        /// The question.
        body: Bytes,
    },
    /// Tell everything that is remembered, and what the control files of the instances say: a catalog is being made
    /// anew. Nothing is changed.
    Inspect,
    /// Forget a coordinator or standby that does not run: another one takes its place. Its data stays where it is.
    Forget {
        /// The cluster.
        cluster: ClusterId,
        /// The reign of the coordinator that takes its place; lower ones than heard are refused (S0).
        coordinator_epoch: u64,
        /// Which, of content -1.
        dbid: Dbid,
    },
    /// Tell what is seen, as soon as it is something else than generation `seen`; 0: at once.
    Watch {
        /// The generation that is known.
        seen: u64,
    },
}

/// What is wanted of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Its content; -1 for a coordinator or standby.
    pub content: ContentId,
    /// Its identity.
    pub instance: InstanceId,
    /// Its content's log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
    /// Where it listens: `host:port`, in order of preference.
    pub addresses: Vec<String>,
    /// Its data directory.
    pub data_dir: String,
    /// What is wanted.
    pub wanted: Wanted,
    /// Counts what was wanted of it.
    pub run: u64,
    /// Where coordinators are: the coordinator's address, the standby's.
    pub coordinators: Vec<String>,
    /// The voters, of a coordinator or standby, in their fixed order: each agent's addresses.
    pub voters: Vec<Vec<String>>,
    /// Where a rebuild copies from: the addresses of the acting primary.
    pub source: Vec<String>,
    /// Bytes a second that a rebuild may copy; 0 is no limit.
    pub max_rate_bytes: u64,
    /// Settings of its process, by name.
    pub settings: Vec<(String, u64)>,
}

/// What an agent sees of an instance's process.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Process {
    /// It does not run.
    #[default]
    Stopped,
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Its number on the host.
        pid: u32,
    },
    /// Its data is being made anew.
    Rebuilding {
        /// Bytes done.
        done_bytes: u64,
        /// Of so many.
        total_bytes: u64,
    },
    /// Its data was made anew; it starts next.
    Rebuilt,
    /// It ended by itself.
    Ended {
        /// How, in words.
        how: String,
    },
    /// It does not run and its data is removed.
    Gone,
}

/// An instance as its agent sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Which.
    pub dbid: Dbid,
    /// Its content.
    pub content: ContentId,
    /// Its identity.
    pub instance: InstanceId,
    /// The order that was carried out last, or is.
    pub run: u64,
    /// Its process.
    pub process: Process,
}

/// What a coordinator has left here against the loss of its catalog.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Kept {
    /// The reign that left it.
    pub coordinator_epoch: u64,
    /// Which of its wishes it came with: the higher, the newer.
    pub number: u64,
    /// The bytes; empty: nothing was left yet.
    pub body: Bytes,
}

/// What an instance's control file says of its authority and its promises.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Who it is.
    pub identity: Identity,
    /// The highest epoch accepted.
    pub epoch: Epoch,
    /// The highest version heard of.
    pub version: Version,
    /// The highest epoch of a coordinator accepted.
    pub coordinator_epoch: u64,
    /// What it has held durably.
    pub durable: Promise,
    /// What it knew to be committed.
    pub commit: Promise,
    /// The newest configuration that it was told.
    pub config: Option<Config>,
}

/// What is in an instance's data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// It is not there, or empty.
    Nothing,
    /// Something that is no whole copy.
    Unreadable {
        /// Why, in words.
        why: String,
    },
    /// A copy.
    Copy(Box<Accepted>),
}

/// An instance, with everything that its host knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Which.
    pub dbid: Dbid,
    /// What is wanted of it.
    pub order: Order,
    /// Its process.
    pub process: Process,
    /// Its data.
    pub data: Data,
}

/// What an agent answers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Say {
    /// It is refused; nothing was changed by it.
    Denied {
        /// Why, in words.
        text: String,
    },
    /// It is remembered durably, and carried out from here on.
    Taken {
        /// The number of what was wanted; 0 for a claim, and for what an administrator runs.
        number: u64,
    },
    /// What the voter says.
    Voted {
        /// The answer.
        body: Bytes,
    },
    /// Which instances cannot be started, and why.
    Checked {
        /// Each with the reason.
        bad: Vec<(Dbid, String)>,
    },
    /// Everything that it remembers, and what its instances' control files say.
    Holds {
        /// The cluster it works for; nil: none yet.
        cluster: ClusterId,
        /// Its host's name there.
        host: String,
        /// The highest epoch of a coordinator that it has heard.
        coordinator_epoch: u64,
        /// What a coordinator has left here.
        kept: Kept,
        /// Its instances.
        instances: Vec<Holding>,
    },
    /// What it sees.
    Status {
        /// Counts what is seen.
        generation: u64,
        /// The cluster it works for; nil: none yet.
        cluster: ClusterId,
        /// Its host's name there.
        host: String,
        /// The highest epoch of a coordinator that it has heard.
        coordinator_epoch: u64,
        /// Its instances.
        instances: Vec<Seen>,
    },
}

impl Ask {
    /// The bytes of it.
    ///
    /// # Errors
    /// When there is more of something than fits.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        codec::encode_ask(self)
    }

    /// What the bytes ask.
    ///
    /// # Errors
    /// When they are none of ours, or of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_ask(bytes)
    }
}

impl Say {
    /// The bytes of it.
    ///
    /// # Errors
    /// When there is more of something than fits.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        codec::encode_say(self)
    }

    /// What the bytes say.
    ///
    /// # Errors
    /// When they are none of ours, or of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_say(bytes)
    }
}
