//! Changes of a layout: mirrors for a cluster without, more hosts, other places for mirrors.
//!
//! Guarantees: each is a pure function; what it answers keeps to the rules of [`Layout::check`], and
//! instances that are not named stay where they are.
//! Not here: carrying a change out, and in which order.

use std::collections::BTreeSet;

use super::layout::{CATALOG, Dbid, HOST_IN_PATH, Host, Layout, Mirroring, Place, Placed, Role};
use super::plan::{place_mirrors, place_primaries};
use super::refusal::Refusal;
use super::rules::{collisions, known, pair, place};

/// Another place for a mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The mirror; it keeps its number.
    pub dbid: Dbid,
    /// Where it goes.
    pub to: Place,
}

/// A layout with mirrors in other places, and the way back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The layout afterwards.
    pub layout: Layout,
    /// What undoes it.
    pub inverse: Vec<Move>,
    /// Mirrors that are there already.
    pub unchanged: Vec<Dbid>,
}

/// Gives every content of a cluster without mirrors one.
///
/// # Errors
/// There are mirrors already, or there is no such placement.
pub fn add_mirrors(layout: &Layout, mirroring: Mirroring) -> Result<Layout, Refusal> {
    if mirroring == Mirroring::None {
        return Err(Refusal::NothingToAdd);
    }
    if let Some(mirror) = layout.segments(Role::Mirror).first() {
        return Err(Refusal::HasMirrors { content: mirror.content, dbid: mirror.dbid });
    }
    let mut after = layout.clone();
    after.mirroring = mirroring;
    let ring: Vec<&Host> = layout.hosts.iter().filter(|host| host.segments).collect();
    place_mirrors(&mut after, &ring, mirroring)?;
    after.check()?;
    Ok(after)
}

/// Adds hosts with primaries, and with mirrors where the cluster has them, among the new hosts.
///
/// # Errors
/// There are too few new hosts for that mirroring, or there is no such placement.
pub fn expand(layout: &Layout, hosts: &[Host], mirroring: Mirroring) -> Result<Layout, Refusal> {
    let has_mirrors = !layout.segments(Role::Mirror).is_empty();
    match (has_mirrors, mirroring) {
        (true, Mirroring::None) => return Err(Refusal::NeedsMirrors),
        (false, Mirroring::None) | (true, _) => {}
        (false, _) => return Err(Refusal::Mirrorless),
    }
    let mut after = layout.clone();
    after.hosts.extend_from_slice(hosts);
    super::rules::hosts(&after.hosts)?;
    let ring: Vec<&Host> = hosts.iter().filter(|host| host.segments).collect();
    if ring.is_empty() {
        return Err(Refusal::NoHosts);
    }
    place_primaries(&mut after, &ring)?;
    place_mirrors(&mut after, &ring, mirroring).map_err(|refusal| match refusal {
        Refusal::OneHost { mirroring, hosts } => Refusal::FewNewHosts { mirroring, hosts },
        Refusal::SpreadHosts { hosts, primaries } => {
            Refusal::FewNewHostsToSpread { hosts, primaries }
        }
        other => other,
    })?;
    after.check()?;
    Ok(after)
}

/// Moves mirrors. Each is built in its new place while it is still in the old one, so a new place must
/// not be one that any mirror leaves.
///
/// # Errors
/// A move that cannot be, and why.
pub fn move_mirrors(layout: &Layout, moves: &[Move]) -> Result<Moved, Refusal> {
    let mut after = layout.clone();
    let (mut inverse, mut unchanged) = (Vec::new(), Vec::new());
    let mut named = BTreeSet::new();
    for Move { dbid, to } in moves {
        let mirror = movable(layout, *dbid)?;
        if !named.insert(*dbid) {
            return Err(Refusal::NamedTwice { dbid: *dbid });
        }
        let host = known(layout, to, || mirror.title())?;
        place(host, to, || mirror.title())?;
        if let Some(primary) = layout.copy(mirror.content, Role::Primary) {
            pair(layout, primary, &to.host)?;
        }
        if mirror.place == *to {
            unchanged.push(*dbid);
            continue;
        }
        inverse.push(Move { dbid: *dbid, to: mirror.place.clone() });
        if let Some(moved) = after.instances.iter_mut().find(|placed| placed.dbid == *dbid) {
            moved.place = to.clone();
        }
    }
    let old = layout.instances.iter().map(|placed| (&placed.place, placed.title()));
    let new = moves
        .iter()
        .filter(|one| !unchanged.contains(&one.dbid))
        .map(|one| (&one.to, format!("the moved dbid {}", one.dbid)));
    collisions(layout, old.chain(new))?;
    after.check()?;
    Ok(Moved { layout: after, inverse, unchanged })
}

/// Places for failed mirrors on another host, which may be a further one: `recover -p`.
///
/// A host of this name that is there already is taken as it is. Ports are the lowest free ones there from the cluster's lowest segment port; directories are the
/// same, the host's name in them exchanged where it came from [`HOST_IN_PATH`].
///
/// # Errors
/// Why they cannot be there.
pub fn recovery_target(layout: &Layout, failed: &[Dbid], onto: &Host) -> Result<Moved, Refusal> {
    let mut wider = layout.clone();
    if layout.host(&onto.name).is_none() {
        wider.hosts.push(onto.clone());
        super::rules::hosts(&wider.hosts)?;
    }
    let host = known(&wider, &named(onto), || "a recovered mirror".to_owned())?.clone();
    let segments = layout.instances.iter().filter(|placed| placed.content != CATALOG);
    let lowest = segments.map(|placed| placed.place.port).min().unwrap_or(layout.ports.primaries);
    let mut taken: BTreeSet<u16> = layout
        .instances
        .iter()
        .filter(|placed| placed.place.host == host.name)
        .map(|placed| placed.place.port)
        .chain(host.agent_port)
        .collect();
    let mut moves = Vec::new();
    for dbid in failed {
        let mirror = movable(layout, *dbid)?;
        let partner = layout.copy(mirror.content, Role::Primary);
        let index = partner.map_or(0, |partner| {
            layout
                .host(&partner.place.host)
                .map_or(0, |of| of.address_index(&partner.place.address))
        });
        let Some(port) = (lowest..=u16::MAX).find(|port| !taken.contains(port)) else {
            let most = usize::from(u16::MAX - lowest) + 1;
            return Err(Refusal::TooMany { what: "ports", found: taken.len() + 1, most });
        };
        taken.insert(port);
        let to = Place {
            host: host.name.clone(),
            address: host.address(index + 1),
            port,
            data_dir: data_dir(layout, mirror, &host),
        };
        moves.push(Move { dbid: *dbid, to });
    }
    move_mirrors(&wider, &moves)
}

fn named(host: &Host) -> Place {
    let address = host.address(0);
    Place { host: host.name.clone(), address, port: 0, data_dir: String::new() }
}

/// The mirror with this number, if it may go elsewhere.
fn movable(layout: &Layout, dbid: Dbid) -> Result<&Placed, Refusal> {
    let placed = layout.instance(dbid).ok_or(Refusal::NoInstance { dbid })?;
    if placed.content == CATALOG {
        return Err(Refusal::OfCatalog { dbid });
    }
    if placed.role == Role::Primary {
        return Err(Refusal::ActsAsPrimary { dbid, content: placed.content });
    }
    Ok(placed)
}

/// Its data directory on another host.
fn data_dir(layout: &Layout, mirror: &Placed, onto: &Host) -> String {
    let path = &mirror.place.data_dir;
    let folders = layout.directories.mirrors.iter().chain(&layout.directories.primaries);
    let here = |folder: &str, host: &str| {
        format!("{}/", folder.replace(HOST_IN_PATH, host).trim_end_matches('/'))
    };
    folders
        .filter(|folder| folder.contains(HOST_IN_PATH))
        .find_map(|folder| {
            let rest = path.strip_prefix(&here(folder, &mirror.place.host))?;
            Some(format!("{}{rest}", here(folder, &onto.name)))
        })
        .unwrap_or_else(|| path.clone())
}
