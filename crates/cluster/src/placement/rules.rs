//! What every layout keeps to, whoever made it.
//!
//! Guarantees: of what passes, two copies of a content share neither host nor named storage system
//! (nor, under rack mirroring, a rack), and no two instances a port or a directory.
//! Not here: whether every host has as many mirrors as any other, which an administrator may change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Component, Path};

use super::layout::{CATALOG, Host, Layout, Mirroring, Place, Placed, Role};
use super::mirrors::apart;
use super::refusal::Refusal;

/// The lowest port that an instance may have: those below are the system's.
pub const LEAST_PORT: u16 = 1024;
/// LIMIT: so many hosts are planned for.
pub const MAX_HOSTS: usize = 1000;
/// LIMIT: so many instances can be numbered in the catalog, whose dbid has 16 bits and a sign.
pub const MAX_INSTANCES: usize = i16::MAX as usize;

impl Layout {
    /// Whether it keeps to the rules.
    ///
    /// # Errors
    /// The first rule that is broken, where, and what to do.
    pub fn check(&self) -> Result<(), Refusal> {
        hosts(&self.hosts)?;
        directories(self)?;
        let found = self.instances.len();
        if found > MAX_INSTANCES {
            return Err(Refusal::TooMany { what: "instances", found, most: MAX_INSTANCES });
        }
        copies(self)?;
        for placed in &self.instances {
            let host = known(self, &placed.place, || placed.title())?;
            place(host, &placed.place, || placed.title())?;
        }
        apart_as_told(self)?;
        let title = |placed: &Placed| placed.title();
        collisions(self, self.instances.iter().map(|placed| (&placed.place, title(placed))))
    }
}

/// The host of a place.
pub(super) fn known<'a>(
    layout: &'a Layout,
    place: &Place,
    what: impl Fn() -> String,
) -> Result<&'a Host, Refusal> {
    layout
        .host(&place.host)
        .ok_or_else(|| Refusal::UnknownHost { what: what(), name: place.host.clone() })
}

/// What a list of hosts must be.
pub(super) fn hosts(hosts: &[Host]) -> Result<(), Refusal> {
    if hosts.len() > MAX_HOSTS {
        return Err(Refusal::TooMany { what: "hosts", found: hosts.len(), most: MAX_HOSTS });
    }
    let mut names = BTreeSet::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for host in hosts {
        let name = host.name.clone();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(Refusal::HostName { name });
        }
        if !names.insert(&host.name) {
            return Err(Refusal::HostTwice { name });
        }
        if host.addresses.is_empty() {
            return Err(Refusal::NoAddress { host: name });
        }
        for address in &host.addresses {
            if let Some(first) = owners.insert(address, &host.name) {
                let (address, first) = (address.clone(), first.to_owned());
                return Err(Refusal::AddressTwice { address, first, second: name });
            }
        }
    }
    Ok(())
}

fn directories(layout: &Layout) -> Result<(), Refusal> {
    let primaries = layout.primaries_per_host;
    let count = |what, found: usize| {
        let is_right = found == 1 || found == primaries;
        if is_right { Ok(()) } else { Err(Refusal::DirectoryCount { what, found, primaries }) }
    };
    count("primaries", layout.directories.primaries.len())?;
    // A cluster that has no mirrors may do without folders for them.
    match layout.directories.mirrors.len() {
        0 if layout.segments(Role::Mirror).is_empty() => Ok(()),
        found => count("mirrors", found),
    }
}

/// Each number once; of each content one primary, and one mirror at most.
fn copies(layout: &Layout) -> Result<(), Refusal> {
    let mut numbers = BTreeSet::new();
    let mut roles = BTreeMap::new();
    for placed in &layout.instances {
        if !numbers.insert(placed.dbid) {
            return Err(Refusal::DbidTwice { dbid: placed.dbid });
        }
        if let Some(one) = roles.insert((placed.content, placed.role), placed.dbid) {
            let (content, other) = (placed.content, placed.dbid);
            return Err(Refusal::RoleTwice { content, one, other });
        }
    }
    let lonely = roles.keys().find(|(content, _)| !roles.contains_key(&(*content, Role::Primary)));
    lonely.map_or(Ok(()), |(content, _)| Err(Refusal::NoPrimary { content: *content }))
}

/// What a place must be, whatever else is there.
pub(super) fn place(host: &Host, place: &Place, what: impl Fn() -> String) -> Result<(), Refusal> {
    if !host.addresses.contains(&place.address) {
        let (host, address) = (place.host.clone(), place.address.clone());
        return Err(Refusal::ForeignAddress { what: what(), host, address });
    }
    if place.port < LEAST_PORT {
        let (host, port) = (place.host.clone(), usize::from(place.port));
        return Err(Refusal::PortRange { what: what(), host, port, least: LEAST_PORT });
    }
    let path = Path::new(&place.data_dir);
    let steps_back = path.components().any(|part| part == Component::ParentDir);
    let cause = if !path.is_absolute() {
        "it must begin with '/'"
    } else if steps_back {
        "it must not hold '..'"
    } else if place.data_dir.chars().any(char::is_control) {
        "it must not hold control characters"
    } else {
        return Ok(());
    };
    Err(Refusal::DirectoryPath { what: what(), path: place.data_dir.clone(), cause })
}

/// No two copies of a content where one loss takes both.
fn apart_as_told(layout: &Layout) -> Result<(), Refusal> {
    let of_role = |role| layout.instances.iter().filter(move |placed| placed.role == role);
    let primaries: BTreeMap<_, _> =
        of_role(Role::Primary).map(|primary| (primary.content, primary)).collect();
    for mirror in of_role(Role::Mirror) {
        if let Some(primary) = primaries.get(&mirror.content) {
            pair(layout, primary, &mirror.place.host)?;
        }
    }
    Ok(())
}

/// Whether a host may hold the other copy of this one's content.
pub(super) fn pair(layout: &Layout, one: &Placed, other: &str) -> Result<(), Refusal> {
    let content = one.content;
    let unknown = |name: &str| Refusal::UnknownHost { what: one.title(), name: name.to_owned() };
    let host = layout.host(&one.place.host).ok_or_else(|| unknown(&one.place.host))?;
    let other = layout.host(other).ok_or_else(|| unknown(other))?;
    if host.name == other.name {
        return Err(Refusal::SameHost { content, host: host.name.clone() });
    }
    let (one, name) = (host.name.clone(), other.name.clone());
    match (&host.storage, &host.rack) {
        (Some(storage), _) if !apart(host, other) => {
            let storage = storage.clone();
            Err(Refusal::SameStorage { content, one, other: name, storage })
        }
        (_, Some(rack))
            if layout.mirroring == Mirroring::Rack
                && content != CATALOG
                && host.rack == other.rack =>
        {
            let rack = rack.clone();
            Err(Refusal::SameRack { content, one, other: name, rack })
        }
        _ => Ok(()),
    }
}

/// No port and no directory for two of these places.
pub(super) fn collisions<'a>(
    layout: &Layout,
    places: impl Iterator<Item = (&'a Place, String)>,
) -> Result<(), Refusal> {
    let mut ports: BTreeMap<(&str, u16), String> = BTreeMap::new();
    for host in &layout.hosts {
        if let Some(port) = host.agent_port {
            ports.insert((&host.name, port), "the agent".to_owned());
        }
    }
    // A loopback address is this machine's, so hosts that have one share their files.
    let machines: BTreeMap<&str, Option<&str>> = layout
        .hosts
        .iter()
        .map(|host| (host.name.as_str(), (!is_loopback(host)).then_some(host.name.as_str())))
        .collect();
    let mut paths = Vec::new();
    for (place, title) in places {
        if let Some(one) = ports.insert((&place.host, place.port), title.clone()) {
            let (host, port) = (place.host.clone(), place.port);
            return Err(Refusal::PortTaken { host, port, one, other: title });
        }
        let machine = machines.get(place.host.as_str()).copied().flatten();
        paths.push((machine, Path::new(&place.data_dir), place, title));
    }
    // Paths compare by their parts, so whatever lies in a folder comes right behind it.
    paths.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    for neighbours in paths.windows(2) {
        let [(machine, path, one, title), (other_machine, other_path, other, other_title)] =
            neighbours
        else {
            continue;
        };
        if machine == other_machine && other_path.starts_with(path) {
            return Err(Refusal::DirectoryTaken {
                host: one.host.clone(),
                path: one.data_dir.clone(),
                one: title.clone(),
                other_path: other.data_dir.clone(),
                other: other_title.clone(),
            });
        }
    }
    Ok(())
}

fn is_loopback(host: &Host) -> bool {
    host.addresses.iter().any(|address| {
        address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
