//! Layouts that grow, gain mirrors, and whose mirrors move.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod placement;

use outrigger_cluster::placement::{
    Dbid, Host, Layout, Mirroring, Move, Place, Refusal, Role, add_mirrors, expand, move_mirrors,
    plan, recovery_target,
};
use outrigger_wal::ContentId;
use placement::{host, mirrors_on, pairs, shape};

fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|name| host(name)).collect()
}

fn group() -> Layout {
    plan(&shape(4, 2, Mirroring::Group)).unwrap()
}

fn mirror(layout: &Layout, content: i32) -> (Dbid, Place) {
    let found = layout.copy(ContentId(content), Role::Mirror).unwrap();
    (found.dbid, found.place.clone())
}

#[test]
fn mirrors_added_later_are_where_the_plan_would_have_put_them() {
    for mirroring in [Mirroring::Group, Mirroring::Spread, Mirroring::Block { hosts: 2 }] {
        let bare = plan(&shape(4, 3, Mirroring::None)).unwrap();
        let later = add_mirrors(&bare, mirroring).unwrap();
        assert_eq!(pairs(&later), pairs(&plan(&shape(4, 3, mirroring)).unwrap()));
        assert_eq!(later.mirroring, mirroring);
        assert!(later.instances.starts_with(&bare.instances), "nothing else changes");
        let again = add_mirrors(&later, mirroring).unwrap_err();
        assert!(matches!(again, Refusal::HasMirrors { content: ContentId(0), .. }), "{again}");
    }
    let bare = plan(&shape(4, 4, Mirroring::None)).unwrap();
    assert!(matches!(add_mirrors(&bare, Mirroring::Spread), Err(Refusal::SpreadHosts { .. })));
    assert_eq!(add_mirrors(&bare, Mirroring::None).unwrap_err(), Refusal::NothingToAdd);
}

#[test]
fn mirrors_are_not_added_to_hosts_with_unequal_numbers_of_primaries() {
    let mut bare = plan(&shape(4, 2, Mirroring::None)).unwrap();
    bare.instances.retain(|one| one.content != ContentId(3));
    let refusal = add_mirrors(&bare, Mirroring::Group).unwrap_err();
    assert_eq!(refusal, Refusal::Uneven { host: "h1".to_owned(), found: 1, expected: 2 });
}

#[test]
fn an_expansion_is_a_ring_of_its_own_and_moves_nothing() {
    let before = group();
    let after = expand(&before, &hosts(&["n0", "n1"]), Mirroring::Group).unwrap();
    assert!(after.instances.starts_with(&before.instances));
    let as_named = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
    };
    let expected = as_named(&[("n0", "n1"), ("n0", "n1"), ("n1", "n0"), ("n1", "n0")]);
    assert_eq!(pairs(&after)[8..], expected);
    assert_eq!(mirrors_on(&after, "n0"), 2);
    let spread = expand(&before, &hosts(&["n0", "n1", "n2"]), Mirroring::Spread).unwrap();
    assert_eq!(pairs(&spread)[8..10], as_named(&[("n0", "n1"), ("n0", "n2")]));
    // A second expansion goes on from the first one's numbers.
    let twice = expand(&after, &hosts(&["n2", "n3"]), Mirroring::Group).unwrap();
    assert_eq!(twice.instances.last().unwrap().dbid, Dbid(2 + 2 * 16));
}

#[test]
fn an_expansion_that_is_too_small_is_refused() {
    let before = group();
    let few = expand(&before, &hosts(&["n0"]), Mirroring::Group).unwrap_err();
    assert!(matches!(few, Refusal::FewNewHosts { hosts: 1, .. }), "{few}");
    let few = expand(&before, &hosts(&["n0", "n1"]), Mirroring::Spread).unwrap_err();
    assert_eq!(few, Refusal::FewNewHostsToSpread { hosts: 2, primaries: 2 });
    let none = expand(&before, &[], Mirroring::Group).unwrap_err();
    assert_eq!(none, Refusal::NoHosts);
    let known = expand(&before, &hosts(&["n0", "h1"]), Mirroring::Group).unwrap_err();
    assert_eq!(known, Refusal::HostTwice { name: "h1".to_owned() });
    let bare = expand(&before, &hosts(&["n0", "n1"]), Mirroring::None).unwrap_err();
    assert_eq!(bare, Refusal::NeedsMirrors);
}

#[test]
fn a_cluster_without_mirrors_expands_without() {
    let bare = plan(&shape(2, 2, Mirroring::None)).unwrap();
    let after = expand(&bare, &hosts(&["n0"]), Mirroring::None).unwrap();
    assert_eq!(after.segments(Role::Primary).len(), 6);
    assert_eq!(
        expand(&bare, &hosts(&["n0", "n1"]), Mirroring::Group).unwrap_err(),
        Refusal::Mirrorless
    );
}

#[test]
fn a_moved_mirror_comes_back_by_the_inverse() {
    let before = group();
    let (dbid, old) = mirror(&before, 0);
    let to = Place { host: "h2".to_owned(), address: "h2-a".to_owned(), port: 6510, ..old.clone() };
    let moved = move_mirrors(&before, &[Move { dbid, to: to.clone() }]).unwrap();
    assert_eq!(moved.layout.instance(dbid).unwrap().place, to);
    assert_eq!(moved.inverse, [Move { dbid, to: old.clone() }]);
    assert_eq!(move_mirrors(&moved.layout, &moved.inverse).unwrap().layout, before);
    let idle = move_mirrors(&before, &[Move { dbid, to: old }]).unwrap();
    assert_eq!((idle.layout, idle.inverse, idle.unchanged), (before, vec![], vec![dbid]));
}

#[test]
fn a_move_that_would_hurt_is_refused() {
    let before = group();
    let (dbid, old) = mirror(&before, 0);
    let to = |change: &dyn Fn(&mut Place)| {
        let mut to =
            Place { host: "h2".to_owned(), address: "h2-a".to_owned(), port: 6510, ..old.clone() };
        change(&mut to);
        move_mirrors(&before, &[Move { dbid, to }]).map(|_| ()).unwrap_err()
    };
    let onto = |host: &'static str| {
        to(&|place| {
            place.host = host.to_owned();
            place.address = format!("{host}-a");
        })
    };
    assert_eq!(onto("h0"), Refusal::SameHost { content: ContentId(0), host: "h0".to_owned() });
    assert!(matches!(onto("h9"), Refusal::UnknownHost { .. }));
    assert!(matches!(
        to(&|place| place.address = "h1-a".to_owned()),
        Refusal::ForeignAddress { .. }
    ));
    assert!(matches!(to(&|place| place.port = 6000), Refusal::PortTaken { .. }));
    assert!(matches!(to(&|place| place.port = 7070), Refusal::PortTaken { .. }));
    assert!(matches!(to(&|place| place.port = 80), Refusal::PortRange { .. }));
    assert!(matches!(
        to(&|place| place.data_dir = "/data/primary/gpseg4".to_owned()),
        Refusal::DirectoryTaken { .. }
    ));
    assert!(matches!(
        to(&|place| place.data_dir = "mirror".to_owned()),
        Refusal::DirectoryPath { .. }
    ));
    let refused = |moves: &[Move]| move_mirrors(&before, moves).map(|_| ()).unwrap_err();
    let there = Move { dbid, to: old.clone() };
    assert_eq!(refused(&[there.clone(), there]), Refusal::NamedTwice { dbid });
    let with = |dbid: u16| refused(&[Move { dbid: Dbid(dbid), to: old.clone() }]);
    assert_eq!(with(99), Refusal::NoInstance { dbid: Dbid(99) });
    assert_eq!(with(1), Refusal::OfCatalog { dbid: Dbid(1) });
    assert_eq!(with(18), Refusal::OfCatalog { dbid: Dbid(18) });
    assert_eq!(with(2), Refusal::ActsAsPrimary { dbid: Dbid(2), content: ContentId(0) });
}

#[test]
fn a_place_that_another_mirror_leaves_is_not_free_before_the_move_is_over() {
    // The new mirror is built beside the old one: for a while both are there.
    let before = group();
    let ((one, old), (other, target)) = (mirror(&before, 0), mirror(&before, 2));
    let moves = [
        Move { dbid: one, to: Place { data_dir: old.data_dir.clone(), ..target.clone() } },
        Move {
            dbid: other,
            to: Place { port: 6900, data_dir: "/data/other/gpseg2".to_owned(), ..target },
        },
    ];
    let refusal = move_mirrors(&before, &moves).unwrap_err();
    assert!(matches!(refusal, Refusal::PortTaken { .. }), "{refusal}");
}

#[test]
fn group_becomes_spread_by_moves() {
    let before = plan(&shape(4, 3, Mirroring::Group)).unwrap();
    let wanted = plan(&shape(4, 3, Mirroring::Spread)).unwrap();
    let moves: Vec<_> = wanted
        .segments(Role::Mirror)
        .into_iter()
        .map(|mirror| {
            let to = Place {
                port: mirror.place.port + 1000,
                data_dir: format!("/moved/gpseg{}", mirror.content),
                ..mirror.place.clone()
            };
            Move { dbid: mirror.dbid, to }
        })
        .collect();
    let moved = move_mirrors(&before, &moves).unwrap();
    assert_eq!(pairs(&moved.layout), pairs(&wanted));
    assert_eq!(move_mirrors(&moved.layout, &moved.inverse).unwrap().layout, before);
}

#[test]
fn failed_mirrors_go_to_the_lowest_free_ports_of_another_host() {
    let layout = group();
    let failed = [mirror(&layout, 0).0, mirror(&layout, 1).0];
    let found = recovery_target(&layout, &failed, &host("spare")).unwrap();
    let places: Vec<_> = failed.iter().map(|dbid| found.layout.instance(*dbid).unwrap()).collect();
    let ports: Vec<_> = places.iter().map(|one| one.place.port).collect();
    assert_eq!(ports, [6000, 6001]);
    assert_eq!(places[0].place.address, "spare-b", "the other network than the primary's");
    assert_eq!(places[0].place.data_dir, "/data/mirror/gpseg0");
    let found = recovery_target(&layout, &failed, &host("h2")).unwrap();
    let ports: Vec<_> =
        failed.iter().map(|dbid| found.layout.instance(*dbid).unwrap().place.port).collect();
    assert_eq!(ports, [6002, 6003], "behind those of its own primaries");
    let refusal = recovery_target(&layout, &failed, &host("h0")).unwrap_err();
    assert!(matches!(refusal, Refusal::SameHost { .. }), "{refusal}");
}

#[test]
fn a_failed_instance_that_was_the_primary_goes_elsewhere_too() {
    let mut layout = group();
    let content = ContentId(0);
    for one in layout.instances.iter_mut().filter(|one| one.content == content) {
        one.role = if one.role == Role::Primary { Role::Mirror } else { Role::Primary };
    }
    let dbid = mirror(&layout, 0).0;
    let acting = layout.copy(content, Role::Primary).unwrap().place.host.clone();
    assert_eq!(dbid, Dbid(2));
    let onto = layout.host(&acting).unwrap().clone();
    assert!(matches!(recovery_target(&layout, &[dbid], &onto), Err(Refusal::SameHost { .. })));
    let found = recovery_target(&layout, &[dbid], &host("h3")).unwrap();
    assert_eq!(found.layout.instance(dbid).unwrap().place.data_dir, "/data/primary/gpseg0");
}

#[test]
fn on_one_machine_the_hosts_name_in_the_directory_keeps_recovered_mirrors_apart() {
    let mut wanted = shape(3, 1, Mirroring::Group);
    for (at, host) in wanted.hosts.iter_mut().enumerate() {
        host.addresses = vec![format!("127.0.0.{}", at + 1)];
    }
    wanted.standby = None;
    wanted.directories.primaries = vec!["/data/{host}/primary".to_owned()];
    wanted.directories.mirrors = vec!["/data/{host}/mirror".to_owned()];
    let layout = plan(&wanted).unwrap();
    let dbid = mirror(&layout, 0).0;
    let found = recovery_target(&layout, &[dbid], &wanted.hosts[2]).unwrap();
    assert_eq!(found.layout.instance(dbid).unwrap().place.data_dir, "/data/h2/mirror/gpseg0");
}

#[test]
fn under_rack_mirroring_no_change_brings_both_copies_into_one_rack() {
    let mut wanted = shape(4, 2, Mirroring::Rack);
    for (at, host) in wanted.hosts.iter_mut().enumerate() {
        host.rack = Some(format!("r{}", at % 2));
    }
    let layout = plan(&wanted).unwrap();
    let (dbid, _) = mirror(&layout, 0);
    let refusal = recovery_target(&layout, &[dbid], &wanted.hosts[2]).unwrap_err();
    assert!(matches!(refusal, Refusal::SameRack { .. }), "{refusal}");
    recovery_target(&layout, &[dbid], &wanted.hosts[3]).unwrap();
}
