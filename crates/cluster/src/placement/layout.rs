//! What the planner is given and what it makes: hosts, and the instances on them.
//!
//! Guarantees: plain values; what they must not say is refused by [`Layout::check`].
//! Not here: how a layout comes about.

use std::fmt;

use outrigger_wal::ContentId;

/// The content of the catalog: coordinator and standby are its copies.
pub const CATALOG: ContentId = ContentId(-1);

/// What stands for the host's name in a data directory.
pub const HOST_IN_PATH: &str = "{host}";

/// A host that instances can be placed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its addresses, one a network, in the same order of networks on every host.
    pub addresses: Vec<String>,
    /// The port of its agent, which no instance there may have.
    pub agent_port: Option<u16>,
    /// The rack it stands in.
    pub rack: Option<String>,
    /// The storage system its data directories lie on, when it shares one.
    pub storage: Option<String>,
    /// Whether it carries primaries and mirrors; if not, it is for the coordinator, the standby, or
    /// a vote.
    pub segments: bool,
}

/// How mirrors are placed. K is the number of primaries on each host; each gets K mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mirroring {
    /// There are none.
    None,
    /// All mirrors of a host are on the next one.
    Group,
    /// The mirrors of a host are on K hosts: of its k-th primary, on the k-th host behind it.
    Spread,
    /// As spread as can be within a block of hosts.
    Block {
        /// How many hosts a block has.
        hosts: usize,
    },
    /// All mirrors of a host are on the next one in another rack.
    Rack,
}

/// The number of one instance in the catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Dbid(pub u16);

/// What an instance is to its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// It acts as primary; of the catalog, as coordinator.
    Primary,
    /// It follows one; of the catalog, it is the standby.
    Mirror,
}

/// A place that an instance takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The host's name.
    pub host: String,
    /// The host's address that the other copy and clients use.
    pub address: String,
    /// The port it listens on.
    pub port: u16,
    /// Its data directory.
    pub data_dir: String,
}

/// An instance in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Which instance.
    pub dbid: Dbid,
    /// The content it is a copy of.
    pub content: ContentId,
    /// What it is now; in a plan, what it was placed as.
    pub role: Role,
    /// Where it is.
    pub place: Place,
}

/// The first port of the primaries, and of the mirrors, on every host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// Primaries count up from here.
    pub primaries: u16,
    /// Mirrors count up from here.
    pub mirrors: u16,
}

/// The folders that hold the data directories: one for all, or one for each slot of a host.
///
/// A data directory is `<folder>/gpseg<content>`; [`HOST_IN_PATH`] in it stands for the host's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directories {
    /// For primaries.
    pub primaries: Vec<String>,
    /// For mirrors.
    pub mirrors: Vec<String>,
}

/// Every instance of a cluster in its place, and what further ones are placed by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The hosts, in the order in which they are placed on; those of an expansion come last.
    pub hosts: Vec<Host>,
    /// How mirrors are placed.
    pub mirroring: Mirroring,
    /// K: how many primaries each host that carries segments is given.
    pub primaries_per_host: usize,
    /// Where ports begin.
    pub ports: Ports,
    /// Where data directories lie.
    pub directories: Directories,
    /// The instances, by rising dbid.
    pub instances: Vec<Placed>,
}

impl Layout {
    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The instance with this number.
    #[must_use]
    pub fn instance(&self, dbid: Dbid) -> Option<&Placed> {
        self.instances.iter().find(|placed| placed.dbid == dbid)
    }

    /// The copy of this content in this role.
    #[must_use]
    pub fn copy(&self, content: ContentId, role: Role) -> Option<&Placed> {
        self.instances.iter().find(|placed| placed.content == content && placed.role == role)
    }

    /// The copies of data contents in this role, by rising content.
    #[must_use]
    pub fn segments(&self, role: Role) -> Vec<&Placed> {
        let mut found: Vec<_> = self
            .instances
            .iter()
            .filter(|placed| placed.content != CATALOG && placed.role == role)
            .collect();
        found.sort_by_key(|placed| placed.content);
        found
    }

    /// The lowest number above all that are taken.
    pub(super) fn next_dbid(&self) -> u32 {
        self.instances.iter().map(|placed| u32::from(placed.dbid.0) + 1).max().unwrap_or(1)
    }
}

impl Host {
    /// The address with this index, counted on from the first again behind the last.
    pub(super) fn address(&self, index: usize) -> String {
        self.addresses
            .iter()
            .cycle()
            .nth(index % self.addresses.len().max(1))
            .cloned()
            .unwrap_or_default()
    }

    /// Which of its addresses this is.
    pub(super) fn address_index(&self, address: &str) -> usize {
        self.addresses.iter().position(|known| known == address).unwrap_or(0)
    }
}

impl Directories {
    /// The data directory of a content in this slot of this host.
    pub(super) fn of(&self, role: Role, slot: usize, host: &str, content: ContentId) -> String {
        let folders = match role {
            Role::Primary => &self.primaries,
            Role::Mirror => &self.mirrors,
        };
        let folder = folders.get(slot).or_else(|| folders.first()).map_or("", String::as_str);
        let folder = folder.replace(HOST_IN_PATH, host);
        format!("{}/gpseg{content}", folder.trim_end_matches('/'))
    }
}

impl Placed {
    /// What it is called in messages.
    #[must_use]
    pub fn title(&self) -> String {
        match (self.content, self.role) {
            (CATALOG, Role::Primary) => "the coordinator".to_owned(),
            (CATALOG, Role::Mirror) => "the standby".to_owned(),
            (content, Role::Primary) => format!("the primary of content {content}"),
            (content, Role::Mirror) => format!("the mirror of content {content}"),
        }
    }
}

impl fmt::Display for Mirroring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Group => f.write_str("group"),
            Self::Spread => f.write_str("spread"),
            Self::Block { hosts } => write!(f, "block of {hosts}"),
            Self::Rack => f.write_str("rack"),
        }
    }
}

impl fmt::Display for Dbid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
