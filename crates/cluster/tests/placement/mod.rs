//! Clusters to place.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of it; a test may panic"
)]

use outrigger_cluster::placement::{
    CATALOG, Directories, Host, Layout, Mirroring, Ports, Role, Seat, Shape,
};

pub(crate) fn host(name: &str) -> Host {
    Host {
        name: name.to_owned(),
        addresses: vec![format!("{name}-a"), format!("{name}-b")],
        agent_port: Some(7070),
        rack: None,
        storage: None,
        segments: true,
    }
}

/// Hosts h0, h1, ... with a standby on h1.
pub(crate) fn shape(hosts: usize, primaries_per_host: usize, mirroring: Mirroring) -> Shape {
    let seat = |host: &str| Seat { host: host.to_owned(), data_dir: "/data/catalog".to_owned() };
    Shape {
        hosts: (0..hosts).map(|at| host(&format!("h{at}"))).collect(),
        primaries_per_host,
        mirroring,
        coordinator: seat("h0"),
        standby: (hosts > 1).then(|| seat("h1")),
        coordinator_port: 5432,
        ports: Ports { primaries: 6000, mirrors: 7000 - 500 },
        directories: Directories {
            primaries: vec!["/data/primary".to_owned()],
            mirrors: vec!["/data/mirror/".to_owned()],
        },
    }
}

/// The hosts of a content's primary and mirror.
pub(crate) fn pairs(layout: &Layout) -> Vec<(String, String)> {
    let host_of = |content, role| layout.copy(content, role).unwrap().place.host.clone();
    let mut contents: Vec<_> = layout.instances.iter().map(|placed| placed.content).collect();
    contents.sort_unstable();
    contents.dedup();
    contents.retain(|content| *content != CATALOG);
    contents
        .into_iter()
        .map(|content| (host_of(content, Role::Primary), host_of(content, Role::Mirror)))
        .collect()
}

/// How many mirrors a host holds.
pub(crate) fn mirrors_on(layout: &Layout, host: &str) -> usize {
    layout.segments(Role::Mirror).iter().filter(|mirror| mirror.place.host == host).count()
}
