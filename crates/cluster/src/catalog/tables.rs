//! The catalog's rows beside the configurations: hosts, instances, settings, history, and whether the
//! cluster is up.
//!
//! Guarantees: none by themselves; [`super::state`] decides every change. What an instance is now (role, mode,
//! status) is not stored: it follows from its content's configuration, so the two cannot contradict each other.
//! Not here: configurations ([`crate::register`]).

use outrigger_wal::{ContentId, InstanceId};

pub use crate::placement::Dbid;

/// The most hosts of a cluster.
pub const MAX_HOSTS: usize = 4096;
/// The most instances of a cluster.
pub const MAX_INSTANCES: usize = 32_767;
/// The rows of history that are kept; the oldest go first.
pub const MAX_HISTORY: usize = 4096;
/// The longest name, path or text of a row, in bytes.
pub const MAX_ROW_TEXT_BYTES: usize = 1024;

/// The text of a row, cut where it would be too long.
pub(crate) fn cut(mut text: String) -> String {
    let mut end = text.len().min(MAX_ROW_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text
}

/// A machine, or whatever fails as one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// Its name, unique.
    pub name: String,
    /// Its addresses without ports, in order of preference.
    pub addresses: Vec<String>,
    /// Where its agent listens: `host:port`, in order of preference.
    pub agent: Vec<String>,
    /// The rack it stands in, if one is named.
    pub rack: Option<String>,
    /// The storage system its disks are on, if one is named.
    pub storage: Option<String>,
}

/// The role that was given to an instance when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Preferred {
    /// Primary.
    Primary,
    /// Mirror.
    Mirror,
}

/// What the cluster wants of an instance's process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Wanted {
    /// It should not run.
    #[default]
    Down,
    /// It should be made, with an empty log, then run.
    New,
    /// It should run. An agent starts it once for each new `run`: one that ends by itself stays down.
    Up,
    /// It should be made anew from its content's primary, then run.
    Rebuild(Rebuild),
    /// It should be gone, with its data directory.
    Gone,
}

/// How an instance is made anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rebuild {
    /// What exists is compared by hashes of key ranges, and what differs is copied.
    Differential,
    /// Everything is copied.
    Full,
}

/// An instance: where it is and what is wanted of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Its content.
    pub content: ContentId,
    /// Its identity.
    pub instance: InstanceId,
    /// The role that it was given when it was made.
    pub preferred: Preferred,
    /// The name of its host.
    pub host: String,
    /// Where it listens: `host:port`, in order of preference.
    pub addresses: Vec<String>,
    /// Its data directory, on its host.
    pub data_dir: String,
    /// What is wanted of its process.
    pub wanted: Wanted,
    /// Counts what was wanted: a higher one is carried out by the agent, once.
    pub run: u64,
    /// Bytes a second that a rebuild may copy; 0 is no limit.
    pub max_rate_bytes: u64,
}

impl Instance {
    /// The port of its first address.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self.addresses.first().and_then(|address| address.rsplit_once(':'));
        port.and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }

    /// The first address without its port.
    #[must_use]
    pub fn address(&self) -> &str {
        let address = self.addresses.first().and_then(|address| address.rsplit_once(':'));
        address.map_or("", |(address, _)| address)
    }
}

/// Something that happened to an instance, or to the cluster (dbid 0).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// When, in microseconds UTC, by the coordinator's clock: information only.
    pub at: u64,
    /// To whom.
    pub dbid: Dbid,
    /// What, in words.
    pub description: String,
}

/// Whether the cluster should be up.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Up {
    /// It is being made: nothing is watched yet.
    #[default]
    Founding,
    /// It should serve.
    Running,
    /// An administrator stopped it.
    Stopped,
    /// It went down by itself, and why.
    ShutDown {
        /// Why, in words.
        why: String,
    },
}

impl Up {
    /// Whether instances are watched, and failed over.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}
