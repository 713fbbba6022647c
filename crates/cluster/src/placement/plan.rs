//! A cluster from nothing: hosts in, layout out.
//!
//! Guarantees: contents, dbids, addresses, ports and directories follow from what is given and its
//! order, and from nothing else. Not here: changes of a layout.

use std::collections::BTreeMap;

use outrigger_wal::ContentId;

use super::layout::{
    CATALOG, Dbid, Directories, Host, Layout, Mirroring, Place, Placed, Ports, Role,
};
use super::mirrors::partners;
use super::refusal::Refusal;
use super::rules::{LEAST_PORT, MAX_INSTANCES, hosts};

/// Where the coordinator, or the standby, is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// The host's name.
    pub host: String,
    /// The data directory.
    pub data_dir: String,
}

/// A cluster that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The hosts, in the order in which they are placed on.
    pub hosts: Vec<Host>,
    /// K: primaries on each host that carries segments.
    pub primaries_per_host: usize,
    /// How mirrors are placed.
    pub mirroring: Mirroring,
    /// Where the coordinator is.
    pub coordinator: Seat,
    /// Where the standby is, if there is one.
    pub standby: Option<Seat>,
    /// The port of coordinator and standby.
    pub coordinator_port: u16,
    /// Where the ports of segments begin.
    pub ports: Ports,
    /// Where data directories lie.
    pub directories: Directories,
}

/// Lays a cluster out.
///
/// Content i * K + k is the k-th of host i. The coordinator is dbid 1; primaries follow by content,
/// then mirrors by content, then the standby.
///
/// # Errors
/// Why there is no such cluster.
pub fn plan(shape: &Shape) -> Result<Layout, Refusal> {
    let primaries = shape.primaries_per_host;
    hosts(&shape.hosts)?;
    let ring: Vec<&Host> = shape.hosts.iter().filter(|host| host.segments).collect();
    if ring.is_empty() {
        return Err(Refusal::NoHosts);
    }
    if primaries == 0 {
        return Err(Refusal::NoPrimaries);
    }
    let mut layout = Layout {
        hosts: shape.hosts.clone(),
        mirroring: shape.mirroring,
        primaries_per_host: primaries,
        ports: shape.ports,
        directories: shape.directories.clone(),
        instances: Vec::new(),
    };
    seat(&mut layout, shape, &shape.coordinator, Role::Primary)?;
    place_primaries(&mut layout, &ring)?;
    place_mirrors(&mut layout, &ring, shape.mirroring)?;
    if let Some(standby) = &shape.standby {
        seat(&mut layout, shape, standby, Role::Mirror)?;
    }
    layout.check()?;
    Ok(layout)
}

fn seat(layout: &mut Layout, shape: &Shape, seat: &Seat, role: Role) -> Result<(), Refusal> {
    let dbid = dbid(layout.next_dbid())?;
    let what = if role == Role::Primary { "the coordinator" } else { "the standby" };
    let Some(host) = layout.host(&seat.host) else {
        return Err(Refusal::UnknownHost { what: what.to_owned(), name: seat.host.clone() });
    };
    let place = Place {
        host: seat.host.clone(),
        address: host.address(usize::from(role == Role::Mirror)),
        port: shape.coordinator_port,
        data_dir: seat.data_dir.clone(),
    };
    layout.instances.push(Placed { dbid, content: CATALOG, role, place });
    Ok(())
}

/// K primaries on each host of the ring, numbered on from those that are there.
pub(super) fn place_primaries(layout: &mut Layout, ring: &[&Host]) -> Result<(), Refusal> {
    let found = ring.len().saturating_mul(layout.primaries_per_host);
    if found > MAX_INSTANCES {
        return Err(Refusal::TooMany { what: "primaries", found, most: MAX_INSTANCES });
    }
    let primaries = layout.segments(Role::Primary);
    let mut content = primaries.last().map_or(0, |last| last.content.0 + 1);
    let mut number = layout.next_dbid();
    for host in ring {
        for slot in 0..layout.primaries_per_host {
            let id = ContentId(content);
            let place = Place {
                host: host.name.clone(),
                address: host.address(slot),
                port: port(layout.ports.primaries, slot, &host.name, Role::Primary, id)?,
                data_dir: layout.directories.of(Role::Primary, slot, &host.name, id),
            };
            let placed = Placed { dbid: dbid(number)?, content: id, role: Role::Primary, place };
            layout.instances.push(placed);
            content += 1;
            number += 1;
        }
    }
    Ok(())
}

/// A mirror for each primary on the hosts of the ring, within the ring.
pub(super) fn place_mirrors(
    layout: &mut Layout,
    ring: &[&Host],
    mirroring: Mirroring,
) -> Result<(), Refusal> {
    let expected = layout.primaries_per_host;
    let found = partners(ring, expected, mirroring)?;
    if mirroring == Mirroring::None {
        return Ok(());
    }
    let mut by_host: BTreeMap<&str, Vec<&Placed>> = BTreeMap::new();
    for primary in layout.segments(Role::Primary) {
        by_host.entry(&primary.place.host).or_default().push(primary);
    }
    let mut pairs = Vec::new();
    for (host, partners) in ring.iter().zip(&found) {
        let here = by_host.remove(host.name.as_str()).unwrap_or_default();
        if here.len() != expected {
            let host = host.name.clone();
            return Err(Refusal::Uneven { host, found: here.len(), expected });
        }
        for (primary, partner) in here.into_iter().zip(partners) {
            let index = host.address_index(&primary.place.address);
            pairs.push((primary.content, index, *partner));
        }
    }
    pairs.sort_unstable();
    let numbers = layout.next_dbid()..;
    let mut slots = vec![0; ring.len()];
    for (number, (content, index, partner)) in numbers.zip(pairs) {
        let (host, slot) = (ring[partner], slots[partner]);
        let place = Place {
            host: host.name.clone(),
            // The other network, so that one switch does not take both.
            address: host.address(index + 1),
            port: port(layout.ports.mirrors, slot, &host.name, Role::Mirror, content)?,
            data_dir: layout.directories.of(Role::Mirror, slot, &host.name, content),
        };
        let placed = Placed { dbid: dbid(number)?, content, role: Role::Mirror, place };
        layout.instances.push(placed);
        slots[partner] += 1;
    }
    Ok(())
}

fn dbid(number: u32) -> Result<Dbid, Refusal> {
    let found = number as usize;
    let fits = u16::try_from(number).ok().filter(|_| found <= MAX_INSTANCES);
    fits.map(Dbid).ok_or(Refusal::TooMany { what: "instances", found, most: MAX_INSTANCES })
}

fn port(
    base: u16,
    slot: usize,
    host: &str,
    role: Role,
    content: ContentId,
) -> Result<u16, Refusal> {
    let found = usize::from(base) + slot;
    u16::try_from(found).map_err(|_| Refusal::PortRange {
        what: match role {
            Role::Primary => format!("the primary of content {content}"),
            Role::Mirror => format!("the mirror of content {content}"),
        },
        host: host.to_owned(),
        port: found,
        least: LEAST_PORT,
    })
}
