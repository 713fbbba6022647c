//! Why a cluster cannot be laid out as asked, one variant per reason, each with what to do.

use outrigger_wal::ContentId;

use super::layout::Dbid;

/// Why there is no layout, or why it may not be changed so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing to place on.
    #[error("no host carries segments: add one")]
    NoHosts,
    /// Nothing to place.
    #[error("a host needs at least one primary: raise segments_per_host")]
    NoPrimaries,
    /// More than can be numbered, or than is planned for.
    #[error("{found} {what} are too many: at most {most}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        found: usize,
        /// The most.
        most: usize,
    },
    /// A name that cannot be part of a path or a table.
    #[error("host name {name:?}: use letters, digits, '.', '_' and '-', and begin with no '.'")]
    HostName {
        /// The name.
        name: String,
    },
    /// Two hosts have one name.
    #[error("host {name} is there twice: each needs a name of its own")]
    HostTwice {
        /// The name.
        name: String,
    },
    /// A host cannot be reached.
    #[error("host {host} has no address: give at least one")]
    NoAddress {
        /// The host.
        host: String,
    },
    /// Two hosts, or one twice, have one address.
    #[error(
        "address {address} is given for {first} and again for {second}: it can lead to one only"
    )]
    AddressTwice {
        /// The address.
        address: String,
        /// The host that is listed first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A host that is not in the list.
    #[error(
        "{what} is to be on host {name}, which is not among the hosts: add it, or correct the name"
    )]
    UnknownHost {
        /// What is to be there.
        what: String,
        /// The name.
        name: String,
    },
    /// An address that its host does not have.
    #[error("{what}: {address} is no address of host {host}: take one of its own")]
    ForeignAddress {
        /// What is to have it.
        what: String,
        /// The host.
        host: String,
        /// The address.
        address: String,
    },
    /// Mirrors need another host.
    #[error(
        "{mirroring} mirroring needs at least two hosts that carry segments, and there is {hosts}: \
             add a host, or take no mirroring"
    )]
    OneHost {
        /// The mirroring asked for.
        mirroring: String,
        /// How many there are.
        hosts: usize,
    },
    /// Spread has too few hosts.
    #[error(
        "spread mirroring needs more hosts than primaries per host: {hosts} hosts, {primaries} \
             primaries per host; add hosts, or take group or block mirroring"
    )]
    SpreadHosts {
        /// How many hosts there are.
        hosts: usize,
        /// Primaries per host.
        primaries: usize,
    },
    /// An expansion in group is too small.
    #[error(
        "an expansion in {mirroring} mirroring needs at least two new hosts, and there is {hosts}: \
             existing mirrors are not moved; add more hosts at once"
    )]
    FewNewHosts {
        /// The mirroring asked for.
        mirroring: String,
        /// How many are new.
        hosts: usize,
    },
    /// An expansion in spread is too small.
    #[error(
        "an expansion in spread mirroring needs more new hosts than primaries per host: {hosts} \
             new hosts, {primaries} primaries per host; add more hosts at once, or expand in group"
    )]
    FewNewHostsToSpread {
        /// How many are new.
        hosts: usize,
        /// Primaries per host.
        primaries: usize,
    },
    /// A block of one host has no room for mirrors.
    #[error(
        "a block of {hosts} hosts has no other host for a mirror: block_hosts must be at least 2"
    )]
    BlockSize {
        /// The block's size.
        hosts: usize,
    },
    /// The last block would be another size.
    #[error(
        "{hosts} hosts cannot be cut into blocks of {block}: make their number a multiple of \
             block_hosts"
    )]
    BlockHosts {
        /// How many hosts there are.
        hosts: usize,
        /// The block's size.
        block: usize,
    },
    /// Rack mirroring without racks.
    #[error("host {host} names no rack, and rack mirroring needs that of each host: name it")]
    NoRack {
        /// The host.
        host: String,
    },
    /// A rack is larger than all others together.
    #[error(
        "rack {rack} holds {hosts} of {of} hosts: no more than half may stand in one rack, or \
             the others have no room for its mirrors; move hosts, or take another mirroring"
    )]
    RackTooLarge {
        /// The rack.
        rack: String,
        /// How many of them.
        hosts: usize,
        /// Of how many hosts, or of how many in a block.
        of: usize,
    },
    /// A storage system serves more hosts than all others together.
    #[error(
        "storage system {storage} serves {hosts} of {of} hosts: no more than half may share one, \
             or the others have no room for their mirrors; move hosts to other storage"
    )]
    StorageTooLarge {
        /// The storage system.
        storage: String,
        /// How many of them.
        hosts: usize,
        /// Of how many hosts, or of how many in a block.
        of: usize,
    },
    /// Spread, and too few hosts have other storage.
    #[error(
        "host {host}: {others} hosts have other storage than {storage}, and spread mirroring \
             needs {needed}, one for each primary; add hosts, or take group mirroring"
    )]
    StorageLeavesTooFew {
        /// The host.
        host: String,
        /// Its storage system.
        storage: String,
        /// How many hosts have another.
        others: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Every single rule could be kept, and not all of them together.
    #[error(
        "host {host}: racks and storage systems together leave no host for its mirrors with the \
             same number on each; spread racks over storage systems otherwise, or add hosts"
    )]
    NoPartner {
        /// The host.
        host: String,
    },
    /// Two copies would die together.
    #[error("content {content}: both copies are on host {host}: put the mirror on another host")]
    SameHost {
        /// The content; -1: coordinator and standby.
        content: ContentId,
        /// The host.
        host: String,
    },
    /// Two copies would lose their disks together.
    #[error(
        "content {content}: {one} and {other} share storage system {storage}: put the mirror on a \
             host with other storage"
    )]
    SameStorage {
        /// The content; -1: coordinator and standby.
        content: ContentId,
        /// The primary's host.
        one: String,
        /// The mirror's host.
        other: String,
        /// The storage system.
        storage: String,
    },
    /// Two copies would stand in one rack.
    #[error(
        "content {content}: {one} and {other} are both in rack {rack}, against rack mirroring: put \
             the mirror into another rack"
    )]
    SameRack {
        /// The content.
        content: ContentId,
        /// The primary's host.
        one: String,
        /// The mirror's host.
        other: String,
        /// The rack.
        rack: String,
    },
    /// A port outside of what may be used.
    #[error(
        "{what} on host {host}: port {port} is not between {least} and 65535: change the base port"
    )]
    PortRange {
        /// What is to have it.
        what: String,
        /// The host.
        host: String,
        /// The port.
        port: usize,
        /// The lowest that is allowed.
        least: u16,
    },
    /// A port is taken.
    #[error(
        "host {host}: port {port} is wanted by {one} and by {other}: move one of the base ports"
    )]
    PortTaken {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Who has it.
        one: String,
        /// Who wants it too.
        other: String,
    },
    /// Too few or too many folders.
    #[error(
        "{found} folders for {what}: give one for all, or one for each of the {primaries} on a host"
    )]
    DirectoryCount {
        /// Of primaries or mirrors.
        what: &'static str,
        /// How many are given.
        found: usize,
        /// Primaries per host.
        primaries: usize,
    },
    /// A data directory that cannot be one.
    #[error("{what}: data directory {path:?}: {cause}")]
    DirectoryPath {
        /// Whose.
        what: String,
        /// The path.
        path: String,
        /// What is wrong, and what would be right.
        cause: &'static str,
    },
    /// A data directory is, or lies in, another one.
    #[error(
        "host {host}: {path} of {one} and {other_path} of {other} are on one machine, and one is or \
             holds the other: give them folders of their own (\"{{host}}\" stands for the host's name)"
    )]
    DirectoryTaken {
        /// The host of the first.
        host: String,
        /// Its path.
        path: String,
        /// Whose it is.
        one: String,
        /// The other path.
        other_path: String,
        /// Whose it is.
        other: String,
    },
    /// A number is used twice.
    #[error("dbid {dbid} is there twice: the catalog this was read from is damaged")]
    DbidTwice {
        /// The number.
        dbid: Dbid,
    },
    /// Two primaries or two mirrors.
    #[error(
        "content {content} has two copies in one role, dbid {one} and {other}: settle that first"
    )]
    RoleTwice {
        /// The content.
        content: ContentId,
        /// One of them.
        one: Dbid,
        /// The other.
        other: Dbid,
    },
    /// Nobody to follow.
    #[error("content {content} has a mirror and no primary: recover it first")]
    NoPrimary {
        /// The content.
        content: ContentId,
    },
    /// Mirrors are added to a cluster without any.
    #[error(
        "content {content} has a mirror already, dbid {dbid}: mirrors are added to a cluster without \
             any; see recover and move-mirrors"
    )]
    HasMirrors {
        /// The content.
        content: ContentId,
        /// Its mirror.
        dbid: Dbid,
    },
    /// No mirroring where some is needed.
    #[error("the mirroring to add is none: say which")]
    NothingToAdd,
    /// Hosts have different numbers of primaries.
    #[error(
        "host {host} has {found} acting primaries, and the layout is for {expected} on each: bring \
             every instance back to its own role first"
    )]
    Uneven {
        /// The host.
        host: String,
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// An expansion with mirrors of a cluster without.
    #[error(
        "the cluster has no mirrors, so an expansion has none either: expand without, then add \
             mirrors to all of it"
    )]
    Mirrorless,
    /// An expansion without mirrors of a cluster with.
    #[error("the cluster has mirrors, so an expansion needs them too: say in which mirroring")]
    NeedsMirrors,
    /// No such instance.
    #[error("there is no instance with dbid {dbid}: see `outrigger state`")]
    NoInstance {
        /// The number.
        dbid: Dbid,
    },
    /// The coordinator or the standby.
    #[error(
        "dbid {dbid} is the coordinator or the standby, which are not moved so: see init-standby"
    )]
    OfCatalog {
        /// The number.
        dbid: Dbid,
    },
    /// An acting primary.
    #[error(
        "dbid {dbid} acts as the primary of content {content}, and only mirrors are moved: \
             rebalance, or move the other copy"
    )]
    ActsAsPrimary {
        /// The number.
        dbid: Dbid,
        /// Its content.
        content: ContentId,
    },
    /// One instance is moved twice.
    #[error("dbid {dbid} is named twice: once is enough")]
    NamedTwice {
        /// The number.
        dbid: Dbid,
    },
}
