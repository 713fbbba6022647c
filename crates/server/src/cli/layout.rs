//! A cluster that exists, as the planner sees one; and rows for what it plans.
//!
//! The order of hosts is that of their first content, which is the order in which the cluster's file listed them; those
//! without segments come last. What the catalog does not say is taken from the settings `mirroring`,
//! `block_hosts`, `port_base` and `mirror_port_base`, else from what is there: mirrors listen behind the highest
//! port, and lie beside the primaries' folders.
//!
//! Guarantees: pure but for random identities; of a content that has more mirrors than one (one is being replaced)
//! the oldest counts. Not here: the planner (cluster).

use std::collections::{BTreeMap, BTreeSet};

use outrigger_cluster::catalog::tables::{self, Dbid, Instance, Preferred, Rebuild, Wanted};
use outrigger_cluster::operator::ClusterState;
use outrigger_cluster::placement::{
    Directories, HOST_IN_PATH, Host, Layout, Mirroring, Place, Placed, Ports, Role,
};
use outrigger_wal::{ContentId, InstanceId};

use super::state::seats::{CATALOG, Seat, pairs};
use super::state::tables::{mirroring, setting};
use crate::error::Error;

/// The cluster as the planner sees it.
pub(super) fn layout(state: &ClusterState) -> Layout {
    let instances = instances(state);
    let first: BTreeMap<&str, ContentId> = first_contents(state);
    let mut hosts: Vec<Host> = state
        .hosts
        .iter()
        .map(|at| host(&at.host, first.contains_key(at.host.name.as_str())))
        .collect();
    hosts.sort_by_key(|host| match first.get(host.name.as_str()) {
        Some(content) => (0, *content, String::new()),
        None => (1, CATALOG, host.name.clone()),
    });
    let primaries_per_host = slots(state).values().map(Vec::len).max().unwrap_or(0);
    let data = || instances.iter().filter(|placed| placed.content != CATALOG);
    let lowest = data().filter(|placed| placed.role == Role::Primary);
    let lowest = lowest.map(|placed| placed.place.port).min().unwrap_or(0);
    let port = |name, other| match u16::try_from(setting(state, name)) {
        Ok(port) if port > 0 => port,
        _ => other,
    };
    let behind = free_base(&hosts, &instances, primaries_per_host);
    Layout {
        mirroring: mirroring(state).unwrap_or(Mirroring::Group),
        primaries_per_host,
        ports: Ports {
            primaries: port("port_base", lowest),
            mirrors: port("mirror_port_base", behind),
        },
        directories: directories(state, primaries_per_host),
        hosts,
        instances,
    }
}

/// A host of the catalog.
fn host(row: &tables::Host, segments: bool) -> Host {
    let agent = row.agent.first().and_then(|agent| agent.rsplit_once(':'));
    Host {
        name: row.name.clone(),
        addresses: row.addresses.clone(),
        agent_port: agent.and_then(|(_, port)| port.parse().ok()),
        rack: row.rack.clone(),
        storage: row.storage.clone(),
        segments,
    }
}

fn instances(state: &ClusterState) -> Vec<Placed> {
    let mut placed = Vec::new();
    for pair in pairs(state) {
        let acts = |seat: &Seat<'_>| match pair.state {
            Some(_) => seat.is_primary(),
            None => seat.prefers_primary(),
        };
        let mut add = |seat: Option<&Seat<'_>>, role| {
            if let Some((seat, dbid)) = seat.and_then(|seat| Some((seat, seat.dbid()?))) {
                placed.push(Placed { dbid, content: pair.content, role, place: place_of(seat) });
            }
        };
        add(pair.seats.iter().find(|seat| acts(seat)), Role::Primary);
        let mirrors = pair.seats.iter().filter(|seat| !acts(seat) && !seat.is_going());
        add(mirrors.min_by_key(|seat| seat.dbid()), Role::Mirror);
    }
    placed.sort_by_key(|placed| placed.dbid);
    placed
}

/// Where a copy is.
pub(super) fn place_of(seat: &Seat<'_>) -> Place {
    Place {
        host: seat.host().to_owned(),
        address: seat.address().to_owned(),
        port: seat.port(),
        data_dir: seat.data_dir().to_owned(),
    }
}

/// The contents that each host was given as primaries, in their order.
fn slots(state: &ClusterState) -> BTreeMap<&str, Vec<(ContentId, &str)>> {
    let mut slots: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let rows = state.instances.iter().map(|instance| &instance.row);
    for row in rows.filter(|row| row.content != CATALOG && row.preferred == Preferred::Primary) {
        slots.entry(&row.host).or_default().push((row.content, row.data_dir.as_str()));
    }
    slots.values_mut().for_each(|slots| slots.sort_unstable());
    slots
}

fn first_contents(state: &ClusterState) -> BTreeMap<&str, ContentId> {
    let slots = slots(state).into_iter();
    slots.filter_map(|(host, slots)| Some((host, slots.first()?.0))).collect()
}

/// The lowest port behind all segments from which `count` in a row are free on every host.
fn free_base(hosts: &[Host], instances: &[Placed], count: usize) -> u16 {
    let data = instances.iter().filter(|placed| placed.content != CATALOG);
    let highest = data.map(|placed| placed.place.port).max().unwrap_or(0);
    let taken: BTreeSet<u16> = instances
        .iter()
        .map(|placed| placed.place.port)
        .chain(hosts.iter().filter_map(|host| host.agent_port))
        .collect();
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let is_free = |base: &u16| {
        base.checked_add(count).is_some_and(|end| taken.range(*base..end).next().is_none())
    };
    (highest.saturating_add(1)..u16::MAX).find(is_free).unwrap_or(u16::MAX)
}

fn directories(state: &ClusterState, slots_per_host: usize) -> Directories {
    let of_hosts = slots(state);
    let fullest = of_hosts.iter().max_by_key(|(_, slots)| slots.len());
    let (name, slots) = fullest.map_or(("", &[][..]), |(name, slots)| (name, &slots[..]));
    let primaries: Vec<_> = slots.iter().map(|(_, dir)| general(folder_of(dir), name)).collect();
    let rows = state.instances.iter().map(|instance| &instance.row);
    let first_mirror =
        rows.clone().find(|row| row.content != CATALOG && row.preferred == Preferred::Mirror);
    let mut mirrors: Vec<_> = match first_mirror {
        Some(first) => {
            let here = rows.filter(|row| {
                row.host == first.host
                    && row.content != CATALOG
                    && row.preferred == Preferred::Mirror
            });
            here.map(|row| general(folder_of(&row.data_dir), &row.host)).collect()
        }
        None => primaries.iter().map(|folder| beside(folder)).collect(),
    };
    if mirrors.len() != slots_per_host {
        mirrors.truncate(1);
    }
    let one = |mut folders: Vec<String>| {
        if folders.windows(2).all(|pair| pair[0] == pair[1]) {
            folders.truncate(1);
        }
        folders
    };
    Directories { primaries: one(primaries), mirrors: one(mirrors) }
}

fn folder_of(dir: &str) -> &str {
    dir.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A folder with the host's name in it made general.
fn general(folder: &str, host: &str) -> String {
    let parts = folder.split('/');
    let parts =
        parts.map(|part| if part == host && !host.is_empty() { HOST_IN_PATH } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Where mirrors go whose primaries are in this folder.
fn beside(folder: &str) -> String {
    match folder.rsplit_once('/') {
        Some((above, "primary")) => format!("{above}/mirror"),
        _ => format!("{folder}/mirror"),
    }
}

/// The number for the next instance.
pub(super) fn next_dbid(state: &ClusterState) -> u16 {
    let numbers = state.instances.iter().map(|instance| instance.dbid.0);
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// A row for a copy that is to be made from its primary; `addresses` are its host's.
///
/// # Errors
/// When no random numbers can be drawn.
pub(super) fn new_row(
    (content, preferred): (ContentId, Preferred),
    place: &Place,
    addresses: &[String],
    max_rate_bytes: u64,
) -> Result<Instance, Error> {
    // Its own address first: the other copy uses another network.
    let others = addresses.iter().filter(|address| **address != place.address);
    let addresses = std::iter::once(&place.address).chain(others);
    Ok(Instance {
        content,
        instance: InstanceId(crate::process::random()?),
        preferred,
        host: place.host.clone(),
        addresses: addresses.map(|address| format!("{address}:{}", place.port)).collect(),
        data_dir: place.data_dir.clone(),
        wanted: Wanted::Rebuild(Rebuild::Full),
        run: 1,
        max_rate_bytes,
    })
}

/// Numbers for rows, from the next one on.
pub(super) fn numbered(state: &ClusterState, rows: Vec<Instance>) -> Vec<(Dbid, Instance)> {
    let numbers = next_dbid(state)..;
    numbers.map(Dbid).zip(rows).collect()
}

/// The addresses of a host.
pub(super) fn addresses_of<'a>(layout: &'a Layout, host: &str) -> &'a [String] {
    layout.host(host).map_or(&[], |host| &host.addresses)
}
