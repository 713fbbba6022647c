//! The hosts of mirrors, by mirroring: group, spread, block and rack.
//!
//! Guarantees: a mirror is on another host than its primary, never on the same named storage system,
//! and under rack mirroring in another rack; every host takes as many as it gives. What cannot be so is
//! refused with the reason.
//! Not here: ports and directories.

use super::layout::{Host, Mirroring};
use super::matching::arrange;
use super::refusal::Refusal;

/// For each host of the ring, in order, the places in the ring of its mirrors' hosts, by slot.
///
/// # Errors
/// Why there is no such arrangement.
pub(super) fn partners(
    ring: &[&Host],
    primaries: usize,
    mirroring: Mirroring,
) -> Result<Vec<Vec<usize>>, Refusal> {
    if mirroring == Mirroring::None {
        return Ok(vec![Vec::new(); ring.len()]);
    }
    if ring.len() < 2 {
        return Err(Refusal::OneHost { mirroring: mirroring.to_string(), hosts: ring.len() });
    }
    match mirroring {
        Mirroring::Spread if ring.len() <= primaries => {
            Err(Refusal::SpreadHosts { hosts: ring.len(), primaries })
        }
        Mirroring::Spread => {
            arrange(ring.len(), primaries, 1, &|one, other| apart(ring[one], ring[other]))
                .map_err(|host| why(ring, host, mirroring, primaries))
        }
        Mirroring::Block { hosts } => blocks(ring, primaries, hosts),
        Mirroring::Rack => {
            if let Some(host) = ring.iter().find(|host| host.rack.is_none()) {
                return Err(Refusal::NoRack { host: host.name.clone() });
            }
            together(ring, primaries, mirroring, |one, other| {
                apart(one, other) && one.rack != other.rack
            })
        }
        _ => together(ring, primaries, mirroring, apart),
    }
}

/// Whether two hosts lose no disk together.
pub(super) fn apart(one: &Host, other: &Host) -> bool {
    one.name != other.name && (one.storage.is_none() || one.storage != other.storage)
}

/// All mirrors of a host on one other.
fn together(
    ring: &[&Host],
    primaries: usize,
    mirroring: Mirroring,
    may: impl Fn(&Host, &Host) -> bool,
) -> Result<Vec<Vec<usize>>, Refusal> {
    let found = arrange(ring.len(), 1, 1, &|one, other| may(ring[one], ring[other]))
        .map_err(|host| why(ring, host, mirroring, 1))?;
    let repeated = |hosts: Vec<usize>| hosts.into_iter().cycle().take(primaries).collect();
    Ok(found.into_iter().map(repeated).collect())
}

/// The mirrors of a host on the others of its block, as evenly as its storage systems let.
fn blocks(ring: &[&Host], primaries: usize, block: usize) -> Result<Vec<Vec<usize>>, Refusal> {
    if block < 2 {
        return Err(Refusal::BlockSize { hosts: block });
    }
    if !ring.len().is_multiple_of(block) {
        return Err(Refusal::BlockHosts { hosts: ring.len(), block });
    }
    let mirroring = Mirroring::Block { hosts: block };
    let mut all = Vec::with_capacity(ring.len());
    for (number, hosts) in ring.chunks(block).enumerate() {
        let may = |one: usize, other: usize| apart(hosts[one], hosts[other]);
        let even = primaries.div_ceil(block - 1);
        let mut found = Err(0);
        for at_most_together in even..=primaries {
            found = arrange(block, primaries, at_most_together, &may);
            if found.is_ok() {
                break;
            }
        }
        let found = found.map_err(|host| why(hosts, host, mirroring, 1))?;
        let in_ring = |of_host: Vec<usize>| {
            of_host.into_iter().map(|partner| number * block + partner).collect::<Vec<_>>()
        };
        all.extend(found.into_iter().map(in_ring));
    }
    Ok(all)
}

/// Why this host found nobody; `needed` is how many others it needs.
fn why(ring: &[&Host], host: usize, mirroring: Mirroring, needed: usize) -> Refusal {
    let of = ring.len();
    let too_large = |name: &dyn Fn(&Host) -> Option<String>| {
        ring.iter().filter_map(|host| name(host)).find_map(|found| {
            let hosts = ring.iter().filter(|host| name(host).as_ref() == Some(&found)).count();
            (hosts * 2 > of).then_some((found, hosts))
        })
    };
    if let Some((storage, hosts)) = too_large(&|host| host.storage.clone()) {
        return Refusal::StorageTooLarge { storage, hosts, of };
    }
    if mirroring == Mirroring::Rack
        && let Some((rack, hosts)) = too_large(&|host| host.rack.clone())
    {
        return Refusal::RackTooLarge { rack, hosts, of };
    }
    let others = |host: &Host| ring.iter().filter(|other| apart(host, other)).count();
    let shared = |host: &&&Host| host.storage.is_some() && others(host) < needed;
    match ring.iter().find(shared).and_then(|host| Some((host, host.storage.clone()?))) {
        Some((host, storage)) => Refusal::StorageLeavesTooFew {
            host: host.name.clone(),
            storage,
            others: others(host),
            needed,
        },
        None => Refusal::NoPartner { host: ring[host].name.clone() },
    }
}
