//! Layouts of group, spread, block and rack as they are documented, what is refused, and what the loss
//! of hosts does to them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod placement;

use outrigger_cluster::placement::{
    Dbid, Fatal, Host, Layout, Mirroring, Refusal, Role, Seat, Shape, outlook, plan,
};
use outrigger_wal::ContentId;
use placement::{host, mirrors_on, pairs, shape};

/// The partners of each host's primaries, by slot, as numbers of hosts.
fn partners(layout: &Layout, primaries: usize) -> Vec<Vec<usize>> {
    let number = |name: &str| layout.hosts.iter().position(|host| host.name == name).unwrap();
    let pairs = pairs(layout);
    for (at, (primary, _)) in pairs.iter().enumerate() {
        assert_eq!(number(primary), at / primaries, "content {at} is on its host");
    }
    pairs
        .chunks(primaries)
        .map(|of_host| of_host.iter().map(|(_, mirror)| number(mirror)).collect())
        .collect()
}

fn with_storage(mut shape: Shape, storage: &[Option<&str>]) -> Shape {
    for (host, storage) in shape.hosts.iter_mut().zip(storage) {
        host.storage = storage.map(str::to_owned);
    }
    shape.standby = None;
    shape
}

fn with_racks(mut shape: Shape, racks: &[&str]) -> Shape {
    for (host, rack) in shape.hosts.iter_mut().zip(racks) {
        host.rack = Some((*rack).to_owned());
    }
    shape
}

#[test]
fn group_puts_all_mirrors_of_a_host_on_the_next_one() {
    let layout = plan(&shape(4, 4, Mirroring::Group)).unwrap();
    assert_eq!(partners(&layout, 4), [[1; 4], [2; 4], [3; 4], [0; 4]]);
}

#[test]
fn spread_puts_the_kth_mirror_on_the_kth_host_behind() {
    let layout = plan(&shape(5, 4, Mirroring::Spread)).unwrap();
    let expected = [[1, 2, 3, 4], [2, 3, 4, 0], [3, 4, 0, 1], [4, 0, 1, 2], [0, 1, 2, 3]];
    assert_eq!(partners(&layout, 4), expected);
}

#[test]
fn spread_needs_more_hosts_than_primaries_per_host() {
    let refusal = plan(&shape(4, 4, Mirroring::Spread)).unwrap_err();
    assert_eq!(refusal, Refusal::SpreadHosts { hosts: 4, primaries: 4 });
    assert!(refusal.to_string().contains("4 hosts, 4 primaries per host"), "{refusal}");
    plan(&shape(5, 4, Mirroring::Spread)).unwrap();
}

#[test]
fn block_spreads_within_each_block_as_evenly_as_can_be() {
    // The administrator's guide's example: four hosts a block, eight primaries a host. Nobody serves
    // more than 8 + 3 after a loss.
    let layout = plan(&shape(8, 8, Mirroring::Block { hosts: 4 })).unwrap();
    let partners = partners(&layout, 8);
    assert_eq!(partners[0], [1, 2, 3, 1, 2, 3, 1, 2]);
    assert_eq!(partners[5], [6, 7, 4, 6, 7, 4, 6, 7]);
    assert_eq!(outlook(&layout).most_acting_primaries, 11);
    let of = |hosts, block| plan(&shape(hosts, 2, Mirroring::Block { hosts: block })).unwrap_err();
    assert_eq!(of(6, 4), Refusal::BlockHosts { hosts: 6, block: 4 });
    assert_eq!(of(6, 1), Refusal::BlockSize { hosts: 1 });
    assert_eq!(of(6, 0), Refusal::BlockSize { hosts: 0 });
}

#[test]
fn rack_goes_to_the_next_host_of_another_rack() {
    let rack = |racks: &[&str]| plan(&with_racks(shape(4, 2, Mirroring::Rack), racks));
    assert_eq!(
        partners(&rack(&["r1", "r1", "r2", "r2"]).unwrap(), 2),
        [[2; 2], [3; 2], [0; 2], [1; 2]]
    );
    assert_eq!(
        partners(&rack(&["r1", "r2", "r1", "r2"]).unwrap(), 2),
        [[1; 2], [2; 2], [3; 2], [0; 2]]
    );
    let large = Refusal::RackTooLarge { rack: "r1".to_owned(), hosts: 3, of: 4 };
    assert_eq!(rack(&["r1", "r1", "r1", "r2"]).unwrap_err(), large);
    let unnamed = plan(&shape(4, 2, Mirroring::Rack)).unwrap_err();
    assert_eq!(unnamed, Refusal::NoRack { host: "h0".to_owned() });
}

#[test]
fn a_mirror_never_shares_its_primarys_storage_system() {
    let storage = [Some("a"), Some("a"), Some("b"), Some("b")];
    let layout = plan(&with_storage(shape(4, 3, Mirroring::Group), &storage)).unwrap();
    assert_eq!(partners(&layout, 3), [[2; 3], [3; 3], [0; 3], [1; 3]]);
    let of = |mirroring, primaries, storage: &[Option<&str>]| {
        plan(&with_storage(shape(storage.len(), primaries, mirroring), storage)).unwrap_err()
    };
    let too_large = Refusal::StorageTooLarge { storage: "a".to_owned(), hosts: 3, of: 4 };
    let storage = [Some("a"), Some("a"), None, Some("a")];
    assert_eq!(of(Mirroring::Group, 2, &storage), too_large);
    assert_eq!(of(Mirroring::Block { hosts: 4 }, 2, &storage), too_large);
    let storage = [Some("a"), Some("a"), None, None];
    let few = Refusal::StorageLeavesTooFew {
        host: "h0".to_owned(),
        storage: "a".to_owned(),
        others: 2,
        needed: 3,
    };
    assert_eq!(of(Mirroring::Spread, 3, &storage), few);
}

#[test]
fn mirrors_need_a_second_host_and_one_host_does_without() {
    for mirroring in [Mirroring::Group, Mirroring::Spread, Mirroring::Rack] {
        let refusal = plan(&shape(1, 1, mirroring)).unwrap_err();
        assert!(matches!(refusal, Refusal::OneHost { hosts: 1, .. }), "{refusal}");
    }
    let alone = plan(&shape(1, 3, Mirroring::None)).unwrap();
    assert_eq!(alone.instances.len(), 4);
    let outlook = outlook(&alone);
    assert_eq!(outlook.most_acting_primaries, 3);
    assert_eq!(outlook.fatal_hosts.len(), 1);
    assert_eq!(plan(&shape(0, 1, Mirroring::None)).unwrap_err(), Refusal::NoHosts);
    assert_eq!(plan(&shape(2, 0, Mirroring::Group)).unwrap_err(), Refusal::NoPrimaries);
}

#[test]
fn the_standby_is_on_another_host_with_other_storage() {
    let mut same = shape(2, 1, Mirroring::None);
    same.standby = Some(Seat { host: "h0".to_owned(), data_dir: "/data/standby".to_owned() });
    let content = ContentId(-1);
    assert_eq!(plan(&same).unwrap_err(), Refusal::SameHost { content, host: "h0".to_owned() });
    let mut shared = shape(2, 1, Mirroring::None);
    for host in &mut shared.hosts {
        host.storage = Some("san".to_owned());
    }
    assert!(matches!(
        plan(&shared).unwrap_err(),
        Refusal::SameStorage { content: ContentId(-1), .. }
    ));
    let mut unknown = shape(2, 1, Mirroring::None);
    unknown.coordinator.host = "mdw".to_owned();
    assert!(matches!(plan(&unknown).unwrap_err(), Refusal::UnknownHost { .. }));
}

#[test]
fn hosts_without_segments_carry_the_catalog_alone() {
    let mut wanted = shape(4, 2, Mirroring::Group);
    wanted.hosts[0].segments = false;
    wanted.hosts[1].segments = false;
    let layout = plan(&wanted).unwrap();
    let on = |name: &str| layout.instances.iter().filter(|one| one.place.host == name).count();
    assert_eq!(["h0", "h1", "h2", "h3"].map(on), [1, 1, 4, 4]);
}

#[test]
fn numbers_addresses_ports_and_directories_follow_the_order() {
    let layout = plan(&shape(2, 2, Mirroring::Group)).unwrap();
    let rows: Vec<_> = layout
        .instances
        .iter()
        .map(|one| {
            let place = &one.place;
            let role = if one.role == Role::Primary { 'p' } else { 'm' };
            let (dbid, content, port) = (one.dbid, one.content, place.port);
            format!("{dbid} {content} {role} {} {port} {}", place.address, place.data_dir)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "1 -1 p h0-a 5432 /data/catalog",
            "2 0 p h0-a 6000 /data/primary/gpseg0",
            "3 1 p h0-b 6001 /data/primary/gpseg1",
            "4 2 p h1-a 6000 /data/primary/gpseg2",
            "5 3 p h1-b 6001 /data/primary/gpseg3",
            "6 0 m h1-b 6500 /data/mirror/gpseg0",
            "7 1 m h1-a 6501 /data/mirror/gpseg1",
            "8 2 m h0-b 6500 /data/mirror/gpseg2",
            "9 3 m h0-a 6501 /data/mirror/gpseg3",
            "10 -1 m h1-b 5432 /data/catalog",
        ]
    );
}

#[test]
fn ports_that_collide_or_do_not_exist_are_refused() {
    let with = |primaries, mirrors| {
        let mut shape = shape(4, 4, Mirroring::Group);
        shape.ports.primaries = primaries;
        shape.ports.mirrors = mirrors;
        plan(&shape).unwrap_err()
    };
    assert!(matches!(with(6000, 6003), Refusal::PortTaken { port: 6003, .. }));
    assert!(matches!(with(5430, 6500), Refusal::PortTaken { port: 5432, .. }));
    assert!(matches!(with(7068, 6500), Refusal::PortTaken { port: 7070, .. }));
    assert!(matches!(with(1000, 6500), Refusal::PortRange { port: 1000, .. }));
    assert!(matches!(with(6000, 65_533), Refusal::PortRange { port: 65_536, .. }));
}

#[test]
fn directories_that_collide_are_refused() {
    let with = |change: &dyn Fn(&mut Shape)| {
        let mut shape = shape(2, 2, Mirroring::Group);
        change(&mut shape);
        plan(&shape).map(|_| ())
    };
    let loopback = |shape: &mut Shape| {
        for (at, host) in shape.hosts.iter_mut().enumerate() {
            host.addresses = vec![format!("127.0.0.{}", at + 1)];
        }
        shape.standby = None;
    };
    // One folder for both, on different machines, as WarehousePG has it: content 0 is here and there.
    with(&|shape| shape.directories.mirrors = vec!["/data/primary".to_owned()]).unwrap();
    let refusal = with(&|shape| {
        loopback(shape);
        shape.directories.mirrors = vec!["/data/primary".to_owned()];
    });
    assert!(matches!(refusal.unwrap_err(), Refusal::DirectoryTaken { .. }));
    with(&|shape| {
        loopback(shape);
        shape.directories.primaries = vec!["/data/{host}".to_owned()];
        shape.directories.mirrors = vec!["/data/{host}".to_owned()];
    })
    .unwrap();
    let refusal = with(&|shape| shape.coordinator.data_dir = "/data/primary/".to_owned());
    assert!(matches!(refusal.unwrap_err(), Refusal::DirectoryTaken { .. }), "one in another");
    let refusal = with(&|shape| shape.directories.primaries = vec!["/data/../x".to_owned()]);
    assert!(matches!(refusal.unwrap_err(), Refusal::DirectoryPath { .. }));
    let refusal = with(&|shape| shape.directories.primaries = vec!["data".to_owned()]);
    assert!(matches!(refusal.unwrap_err(), Refusal::DirectoryPath { .. }));
    let refusal = with(&|shape| shape.directories.mirrors = vec!["/a".to_owned(); 3]);
    assert!(matches!(refusal.unwrap_err(), Refusal::DirectoryCount { found: 3, .. }));
}

#[test]
fn hosts_that_cannot_be_told_apart_are_refused() {
    let with = |change: &dyn Fn(&mut Vec<Host>)| {
        let mut shape = shape(2, 1, Mirroring::Group);
        change(&mut shape.hosts);
        plan(&shape).unwrap_err()
    };
    let twice = with(&|hosts| hosts.push(host("h0")));
    assert_eq!(twice, Refusal::HostTwice { name: "h0".to_owned() });
    for name in ["", "../x", "a b", ".hidden", "a/b"] {
        let refusal = with(&|hosts| hosts[0].name = name.to_owned());
        assert_eq!(refusal, Refusal::HostName { name: name.to_owned() });
    }
    let refusal = with(&|hosts| hosts[1].addresses.clear());
    assert_eq!(refusal, Refusal::NoAddress { host: "h1".to_owned() });
    let refusal = with(&|hosts| hosts[1].addresses = vec!["h0-b".to_owned()]);
    assert!(matches!(refusal, Refusal::AddressTwice { .. }));
    let refusal = with(&|hosts| {
        hosts.extend((0..1000).map(|at| host(&format!("x{at}"))));
    });
    assert!(matches!(refusal, Refusal::TooMany { what: "hosts", .. }));
}

#[test]
fn the_loss_of_a_host_in_group_doubles_one_and_two_neighbours_are_fatal() {
    let mut wanted = shape(4, 4, Mirroring::Group);
    wanted.standby = None;
    let outlook = outlook(&plan(&wanted).unwrap());
    let load = |lost: usize| -> Vec<usize> {
        outlook.losses[lost].load.iter().map(|load| load.after).collect()
    };
    assert_eq!([load(0), load(1), load(2), load(3)], [[8, 4, 4], [4, 8, 4], [4, 4, 8], [8, 4, 4]]);
    assert_eq!(outlook.most_acting_primaries, 8);
    let pairs: Vec<_> = outlook
        .fatal_pairs
        .iter()
        .map(|fatal| format!("{} {} {:?}", fatal.hosts.0, fatal.hosts.1, fatal.contents))
        .collect();
    // Not with h0: without a standby its loss alone takes the catalog.
    assert_eq!(pairs, ["h1 h2 [4, 5, 6, 7]", "h2 h3 [8, 9, 10, 11]"]);
    let alone = Fatal { hosts: "h0".to_owned(), contents: vec![ContentId(-1)] };
    assert_eq!(outlook.fatal_hosts, [alone]);
}

#[test]
fn the_loss_of_a_host_in_spread_is_shared_and_any_second_one_is_fatal() {
    let outlook = outlook(&plan(&shape(5, 4, Mirroring::Spread)).unwrap());
    for loss in &outlook.losses {
        assert!(loss.load.iter().all(|load| load.after == 5), "{loss:?}");
    }
    assert_eq!((outlook.most_acting_primaries, outlook.fatal_pairs.len()), (5, 10));
    assert!(outlook.fatal_hosts.is_empty());
}

#[test]
fn the_outlook_after_a_failover_counts_acting_primaries_and_what_is_left() {
    let mut layout = plan(&shape(4, 2, Mirroring::Group)).unwrap();
    // h0 is gone: its mirrors on h1 act, and its own copies cannot take over.
    let lost: Vec<Dbid> =
        layout.instances.iter().filter(|one| one.place.host == "h0").map(|one| one.dbid).collect();
    for one in &mut layout.instances {
        if one.place.host == "h1" && one.role == Role::Mirror {
            one.role = Role::Primary;
        }
    }
    layout.instances.retain(|one| !lost.contains(&one.dbid));
    let outlook = outlook(&layout);
    let fatal: Vec<_> = outlook.fatal_hosts.iter().map(|fatal| fatal.hosts.as_str()).collect();
    // h1 has the only copies of contents 0 and 1 and of the catalog, h3 those of 6 and 7.
    assert_eq!(fatal, ["h1", "h3"]);
    assert_eq!(outlook.fatal_hosts[0].contents, [-1, 0, 1].map(ContentId));
    assert_eq!(
        outlook.losses.iter().map(|loss| loss.host.as_str()).collect::<Vec<_>>(),
        ["h1", "h2", "h3"]
    );
    let h1_lost = &outlook.losses[0];
    assert_eq!(h1_lost.load.iter().map(|load| load.after).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(outlook.most_acting_primaries, 4);
}

#[test]
fn every_host_has_as_many_mirrors_as_primaries() {
    for (hosts, primaries, mirroring) in [
        (6, 5, Mirroring::Spread),
        (6, 5, Mirroring::Group),
        (6, 5, Mirroring::Block { hosts: 3 }),
        (12, 7, Mirroring::Block { hosts: 4 }),
    ] {
        let layout = plan(&shape(hosts, primaries, mirroring)).unwrap();
        for host in &layout.hosts {
            assert_eq!(mirrors_on(&layout, &host.name), primaries, "{mirroring} {}", host.name);
        }
    }
}

#[test]
fn hundreds_of_hosts_on_shared_storage_are_planned() {
    for (mirroring, systems) in [
        (Mirroring::Spread, 2),
        (Mirroring::Spread, 30),
        (Mirroring::Group, 2),
        (Mirroring::Block { hosts: 300 }, 2),
    ] {
        let mut wanted = shape(300, 15, mirroring);
        wanted.standby = None;
        for (at, host) in wanted.hosts.iter_mut().enumerate() {
            host.storage = Some(format!("s{}", at * systems / 300));
        }
        let layout = plan(&wanted).unwrap();
        assert!(layout.hosts.iter().all(|host| mirrors_on(&layout, &host.name) == 15));
    }
}

#[test]
fn more_instances_than_the_catalog_has_numbers_for_are_refused() {
    for (primaries, mirroring) in [(17, Mirroring::Group), (33, Mirroring::None)] {
        let refusal = plan(&shape(1000, primaries, mirroring)).map(|_| ()).unwrap_err();
        assert!(matches!(refusal, Refusal::TooMany { most: 32_767, .. }), "{refusal}");
    }
}
