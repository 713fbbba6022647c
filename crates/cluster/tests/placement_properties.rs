//! Random clusters: every rule holds, what is refused cannot be done, and what is said of losses is
//! what happens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod placement;

use std::collections::BTreeSet;

use outrigger_cluster::placement::{
    CATALOG, Layout, Mirroring, Move, Place, Role, Shape, add_mirrors, expand, move_mirrors,
    outlook, plan, recovery_target,
};
use placement::{host, mirrors_on, shape};
use proptest::prelude::*;

fn a_mirroring() -> impl Strategy<Value = Mirroring> {
    prop_oneof![
        Just(Mirroring::Group),
        Just(Mirroring::Spread),
        (0..5_usize).prop_map(|hosts| Mirroring::Block { hosts }),
        Just(Mirroring::Rack),
    ]
}

prop_compose! {
    /// A cluster whose hosts have 1 to 3 addresses, and mostly a rack and a storage system.
    fn a_shape(most_hosts: usize, most_primaries: usize)(
        mirroring in a_mirroring(),
        primaries in 1..=most_primaries,
        hosts in prop::collection::vec((1..4_usize, 0..4_usize, 0..6_usize), 1..=most_hosts),
    ) -> Shape {
        let mut shape = shape(hosts.len(), primaries, mirroring);
        shape.standby = None;
        for (host, (addresses, rack, storage)) in shape.hosts.iter_mut().zip(hosts) {
            host.addresses = (0..addresses).map(|at| format!("{}-{at}", host.name)).collect();
            host.rack = (rack > 0 || mirroring == Mirroring::Rack).then(|| format!("r{rack}"));
            host.storage = (storage < 3).then(|| format!("s{storage}"));
        }
        shape
    }
}

/// Every rule about a layout, said once more.
fn assert_rules(layout: &Layout, mirrors_per_host: Option<usize>) {
    let mut ports = BTreeSet::new();
    for one in &layout.instances {
        let host = layout.host(&one.place.host).unwrap();
        assert!(ports.insert((&host.name, one.place.port)), "port {} twice", one.place.port);
        assert!(host.agent_port != Some(one.place.port));
        assert!(host.addresses.contains(&one.place.address));
    }
    for mirror in layout.segments(Role::Mirror) {
        let primary = layout.copy(mirror.content, Role::Primary).unwrap();
        let (one, other) =
            (layout.host(&primary.place.host).unwrap(), layout.host(&mirror.place.host).unwrap());
        assert_ne!(one.name, other.name);
        assert!(one.storage.is_none() || one.storage != other.storage);
        if layout.mirroring == Mirroring::Rack {
            assert_ne!(one.rack, other.rack);
        }
    }
    if let Some(expected) = mirrors_per_host {
        for host in &layout.hosts {
            assert_eq!(mirrors_on(layout, &host.name), expected, "mirrors on {}", host.name);
        }
    }
}

/// The hosts of the mirrors of each host.
fn partners_of(layout: &Layout, host: &str) -> Vec<String> {
    let primaries = layout.segments(Role::Primary);
    let here = primaries.iter().filter(|primary| primary.place.host == host);
    here.map(|primary| layout.copy(primary.content, Role::Mirror).unwrap().place.host.clone())
        .collect()
}

/// Whether there is any arrangement, by trying all of them: `need` partners for each host, each of
/// which takes `need`, at most `together` of one host.
fn exists(shape: &Shape, hosts: &[usize], need: usize, together: usize) -> bool {
    fn search(
        may: &dyn Fn(usize, usize) -> bool,
        state: (usize, usize, usize),
        taken: &mut Vec<usize>,
        here: &mut Vec<usize>,
        (need, together): (usize, usize),
    ) -> bool {
        let (at, slot, from) = state;
        if at == taken.len() {
            return true;
        }
        if slot == need {
            return search(may, (at + 1, 0, 0), taken, &mut Vec::new(), (need, together));
        }
        (from..taken.len()).any(|other| {
            let count = here.iter().filter(|one| **one == other).count();
            if !may(at, other) || taken[other] == need || count == together {
                return false;
            }
            taken[other] += 1;
            here.push(other);
            let found = search(may, (at, slot + 1, other), taken, here, (need, together));
            here.pop();
            taken[other] -= 1;
            found
        })
    }
    let may = |one: usize, other: usize| {
        let (one, other) = (&shape.hosts[hosts[one]], &shape.hosts[hosts[other]]);
        one.name != other.name
            && (one.storage.is_none() || one.storage != other.storage)
            && (shape.mirroring != Mirroring::Rack || one.rack != other.rack)
    };
    search(&may, (0, 0, 0), &mut vec![0; hosts.len()], &mut Vec::new(), (need, together))
}

fn can_be(shape: &Shape) -> bool {
    let all: Vec<_> = (0..shape.hosts.len()).collect();
    let primaries = shape.primaries_per_host;
    match shape.mirroring {
        Mirroring::Spread => all.len() > 1 && exists(shape, &all, primaries, 1),
        Mirroring::Block { hosts } => {
            hosts > 1
                && all.len() > 1
                && all.len().is_multiple_of(hosts)
                && all.chunks(hosts).all(|block| exists(shape, block, primaries, primaries))
        }
        _ => all.len() > 1 && exists(shape, &all, 1, 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_keeps_every_rule(shape in a_shape(24, 6)) {
        let Ok(layout) = plan(&shape) else { return Ok(()) };
        assert_rules(&layout, Some(shape.primaries_per_host));
        prop_assert_eq!(layout.check(), Ok(()));
        prop_assert_eq!(plan(&shape).unwrap(), layout.clone(), "the same again");
        for host in &layout.hosts {
            let mut partners = partners_of(&layout, &host.name);
            partners.sort();
            let mirrors = partners.len();
            partners.dedup();
            match shape.mirroring {
                Mirroring::Spread => prop_assert_eq!(partners.len(), mirrors, "each elsewhere"),
                Mirroring::Group | Mirroring::Rack => prop_assert_eq!(partners.len(), 1),
                Mirroring::Block { hosts } => {
                    let block = |name: &str| {
                        layout.hosts.iter().position(|host| host.name == name).unwrap() / hosts
                    };
                    prop_assert!(partners.iter().all(|one| block(one) == block(&host.name)));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_pair_is_on_two_networks_wherever_the_mirrors_host_has_two(shape in a_shape(12, 5)) {
        let Ok(layout) = plan(&shape) else { return Ok(()) };
        for mirror in layout.segments(Role::Mirror) {
            let primary = layout.copy(mirror.content, Role::Primary).unwrap();
            let network = |place: &Place| {
                let host = layout.host(&place.host).unwrap();
                host.addresses.iter().position(|address| *address == place.address).unwrap()
            };
            if layout.host(&mirror.place.host).unwrap().addresses.len() > 1 {
                prop_assert_ne!(network(&primary.place), network(&mirror.place));
            }
        }
    }

    #[test]
    fn what_is_refused_cannot_be_done(shape in a_shape(6, 3)) {
        let planned = plan(&shape);
        prop_assert_eq!(planned.is_ok(), can_be(&shape), "{:?}", planned.map(|_| ()));
    }

    #[test]
    fn the_outlook_says_what_losing_hosts_does(shape in a_shape(8, 4)) {
        let Ok(layout) = plan(&shape) else { return Ok(()) };
        let said = outlook(&layout);
        let left = |lost: &[&str], role| {
            let all = layout.segments(role);
            all.into_iter().filter(|one| !lost.contains(&one.place.host.as_str())).collect::<Vec<_>>()
        };
        let contents = layout.segments(Role::Primary).len();
        let mut most = 0;
        for loss in &said.losses {
            let lost = [loss.host.as_str()];
            for load in &loss.load {
                let own = left(&lost, Role::Primary);
                let heirs = left(&lost, Role::Mirror);
                let served = own.iter().filter(|one| one.place.host == load.host).count()
                    + heirs
                        .iter()
                        .filter(|one| one.place.host == load.host)
                        .filter(|one| own.iter().all(|primary| primary.content != one.content))
                        .count();
                prop_assert_eq!(load.after, served);
                most = most.max(served);
            }
        }
        prop_assert_eq!(said.most_acting_primaries, most);
        prop_assert_eq!(said.fatal_hosts.len(), 1, "the coordinator's, which has no standby");
        for one in &layout.hosts {
            for other in layout.hosts.iter().filter(|other| one.name < other.name) {
                let lost = [one.name.as_str(), other.name.as_str()];
                let mut alive: BTreeSet<_> =
                    left(&lost, Role::Primary).iter().map(|one| one.content).collect();
                alive.extend(left(&lost, Role::Mirror).iter().map(|one| one.content));
                let is_fatal = alive.len() < contents;
                let is_named = said.fatal_pairs.iter().any(|fatal| {
                    lost.contains(&fatal.hosts.0.as_str()) && lost.contains(&fatal.hosts.1.as_str())
                });
                let catalog = &layout.copy(CATALOG, Role::Primary).unwrap().place.host;
                prop_assert_eq!(is_named, is_fatal && !lost.contains(&catalog.as_str()));
            }
        }
    }

    #[test]
    fn changes_keep_the_rules_and_what_is_not_named(
        shape in a_shape(10, 4),
        further in 0..6_usize,
        mirroring in a_mirroring(),
        pick in any::<prop::sample::Index>(),
    ) {
        let Ok(layout) = plan(&shape) else { return Ok(()) };
        let mut hosts: Vec<_> = (0..further).map(|at| host(&format!("n{at}"))).collect();
        for (at, host) in hosts.iter_mut().enumerate() {
            host.rack = Some(format!("n{}", at % 2));
        }
        if let Ok(after) = expand(&layout, &hosts, mirroring) {
            assert_rules(&after, Some(shape.primaries_per_host));
            prop_assert!(after.instances.starts_with(&layout.instances));
        }
        let mut bare = layout.clone();
        bare.instances.retain(|one| one.content == CATALOG || one.role == Role::Primary);
        if let Ok(after) = add_mirrors(&bare, mirroring) {
            assert_rules(&after, Some(shape.primaries_per_host));
            prop_assert!(after.instances.starts_with(&bare.instances));
        }
        let mirrors = layout.segments(Role::Mirror);
        let mirror = pick.get(&mirrors);
        for onto in &layout.hosts {
            let Ok(found) = recovery_target(&layout, &[mirror.dbid], onto) else { continue };
            assert_rules(&found.layout, None);
            let back = move_mirrors(&found.layout, &found.inverse).unwrap();
            prop_assert_eq!(&back.layout, &layout);
        }
    }

    #[test]
    fn any_move_keeps_the_rules_or_is_refused_and_can_be_undone(
        shape in a_shape(6, 3),
        moves in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 5998..6008_u16, 0..4_u8),
            1..5,
        ),
    ) {
        let Ok(layout) = plan(&shape) else { return Ok(()) };
        let mirrors = layout.segments(Role::Mirror);
        let moves: Vec<_> = moves
            .into_iter()
            .map(|(which, host, port, dir)| {
                let host = host.get(&layout.hosts);
                let (name, address) = (host.name.clone(), host.addresses[0].clone());
                let data_dir = format!("/data/mirror/gpseg{dir}");
                let to = Place { host: name, address, port, data_dir };
                Move { dbid: which.get(&mirrors).dbid, to }
            })
            .collect();
        if let Ok(moved) = move_mirrors(&layout, &moves) {
            assert_rules(&moved.layout, None);
            let back = move_mirrors(&moved.layout, &moved.inverse).unwrap();
            prop_assert_eq!(back.layout, layout);
        }
    }
}
