//! Clusters as a coordinator would tell of them: two contents with mirrors on two hosts, a coordinator and a standby.

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::state::Standing;
use outrigger_cluster::catalog::tables::{Dbid, Host, Instance, Preferred, Rebuild, Up, Wanted};
use outrigger_cluster::operator::{
    ClusterState, ContentState, CopyRole, CopyState, HostState, InstanceState,
};
use outrigger_net::config::Version;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

/// The end of every log, in bytes.
pub(in crate::cli) const END: u64 = 1 << 30;

fn row(content: i32, dbid: u16, host: &str, primary: bool) -> InstanceState {
    let preferred = if primary { Preferred::Primary } else { Preferred::Mirror };
    let kind = if primary { "primary" } else { "mirror" };
    let (port, dir) = match content {
        -1 => (7000, format!("/data/{host}/coordinator")),
        content => {
            let base = if primary { 6000 } else { 8000 };
            (base + content, format!("/data/{host}/{kind}/gpseg{content}"))
        }
    };
    InstanceState {
        dbid: Dbid(dbid),
        row: Instance {
            content: ContentId(content),
            instance: InstanceId(u128::from(dbid)),
            preferred,
            host: host.to_owned(),
            addresses: vec![format!("127.0.0.{}:{port}", host.trim_start_matches("sdw"))],
            data_dir: dir,
            wanted: Wanted::Up,
            run: 1,
            max_rate_bytes: 0,
        },
        standing: Some(Standing { role: if primary { 'p' } else { 'm' }, mode: 's', status: 'u' }),
        process: Some(Process::Running { pid: 100 + u32::from(dbid) }),
        seen: "up".to_owned(),
    }
}

fn copy(instance: &InstanceState) -> CopyState {
    let primary = instance.row.preferred == Preferred::Primary;
    CopyState {
        instance: instance.row.instance,
        addresses: instance.row.addresses.clone(),
        role: if primary { CopyRole::Primary } else { CopyRole::Mirror },
        in_sync: true,
        held: false,
        in_touch: instance.row.content.0 >= 0,
        durable: Lsn(END),
        commit: Lsn(END),
        applied: Lsn(END),
        lag_bytes: 0,
    }
}

/// All is well: dbid 1 and 6 are coordinator and standby, 2 and 4 the pair of content 0, 3 and 5 of content 1.
pub(in crate::cli) fn healthy() -> ClusterState {
    let instances = vec![
        row(-1, 1, "sdw1", true),
        row(0, 2, "sdw1", true),
        row(1, 3, "sdw2", true),
        row(0, 4, "sdw2", false),
        row(1, 5, "sdw1", false),
        row(-1, 6, "sdw2", false),
    ];
    let content = |content: i32| {
        let rows: Vec<_> = instances.iter().filter(|at| at.row.content.0 == content).collect();
        ContentState {
            content: ContentId(content),
            log: LogId(7),
            segment_bytes: 1 << 20,
            version: Version(3),
            epoch: Epoch { number: 1, nonce: 9 },
            primary: rows[0].row.instance,
            copies: rows.into_iter().map(copy).collect(),
            note: "ok".to_owned(),
        }
    };
    let host = |name: &str, number: u8| HostState {
        host: Host {
            name: name.to_owned(),
            addresses: vec![format!("127.0.0.{number}")],
            agent: vec![format!("127.0.0.{number}:7070")],
            ..Host::default()
        },
        agent_here: true,
    };
    ClusterState {
        cluster: ClusterId(5),
        coordinator_epoch: 2,
        up: Up::Running,
        contents: [-1, 0, 1].map(content).into(),
        hosts: vec![host("sdw1", 1), host("sdw2", 2)],
        settings: vec![("mirroring".to_owned(), 2)],
        expanding: None,
        instances,
    }
}

/// The row of an instance.
pub(in crate::cli) fn instance(state: &mut ClusterState, dbid: u16) -> &mut InstanceState {
    state.instances.iter_mut().find(|at| at.dbid.0 == dbid).unwrap()
}

/// The content, and the copy of an instance in it.
pub(in crate::cli) fn with_copy(
    state: &mut ClusterState,
    dbid: u16,
    change: impl Fn(&mut CopyState),
) -> &mut ContentState {
    let id = InstanceId(u128::from(dbid));
    let mut contents = state.contents.iter_mut();
    let content = contents.find(|at| at.copies.iter().any(|copy| copy.instance == id)).unwrap();
    content.copies.iter_mut().filter(|copy| copy.instance == id).for_each(change);
    content
}

fn lose(state: &mut ClusterState, dbid: u16) {
    with_copy(state, dbid, |copy| {
        copy.in_touch = false;
        copy.lag_bytes = 4096;
        copy.durable = Lsn(END - 4096);
    });
    let instance = instance(state, dbid);
    instance.seen = "dead: refused".to_owned();
    instance.process = Some(Process::Ended { how: "signal 9".to_owned() });
}

/// The primary of content 0 was killed, its mirror took over.
pub(in crate::cli) fn failed_over() -> ClusterState {
    let mut state = healthy();
    lose(&mut state, 2);
    instance(&mut state, 2).standing = Some(Standing { role: 'm', mode: 'n', status: 'd' });
    instance(&mut state, 4).standing = Some(Standing { role: 'p', mode: 'n', status: 'u' });
    with_copy(&mut state, 2, |copy| {
        copy.role = CopyRole::Mirror;
        copy.in_sync = false;
        copy.held = true;
    });
    let content = with_copy(&mut state, 4, |copy| copy.role = CopyRole::Primary);
    content.primary = InstanceId(4);
    content.epoch.number = 2;
    content.note = "dbid 2 out".to_owned();
    state
}

/// As [`failed_over`], and the old primary streams what it missed.
pub(in crate::cli) fn catching_up() -> ClusterState {
    let mut state = failed_over();
    let content = with_copy(&mut state, 2, |copy| {
        copy.held = false;
        copy.in_touch = true;
    });
    content.note = "dbid 2 catching up".to_owned();
    let old = instance(&mut state, 2);
    old.process = Some(Process::Running { pid: 300 });
    old.seen = "up".to_owned();
    state
}

/// As [`failed_over`], and the old primary is copied anew: 84% of 1371715 kB.
pub(in crate::cli) fn rebuilding() -> ClusterState {
    let mut state = failed_over();
    with_copy(&mut state, 2, |copy| copy.held = false);
    let old = instance(&mut state, 2);
    old.row.wanted = Wanted::Rebuild(Rebuild::Full);
    let (done, total) = (1_164_848 << 10, 1_371_715 << 10);
    old.process = Some(Process::Rebuilding { done_bytes: done, total_bytes: total });
    old.seen = "rebuilding".to_owned();
    state
}

/// Both copies of content 0 are gone.
pub(in crate::cli) fn double_fault() -> ClusterState {
    let mut state = failed_over();
    lose(&mut state, 4);
    let content = with_copy(&mut state, 4, |_| {});
    content.note = "double fault: dbid 2 not in sync, durable to 0/0; dbid 4 in sync".to_owned();
    state
}

/// Only primaries.
pub(in crate::cli) fn without_mirrors() -> ClusterState {
    let mut state = healthy();
    state.instances.retain(|at| at.row.preferred == Preferred::Primary || at.row.content.0 < 0);
    for content in state.contents.iter_mut().filter(|content| content.content.0 >= 0) {
        content.copies.truncate(1);
    }
    for instance in &mut state.instances {
        instance.standing = instance.standing.map(|at| Standing { mode: 'n', ..at });
    }
    state.settings = vec![("mirroring".to_owned(), 1)];
    state
}

/// No standby.
pub(in crate::cli) fn without_standby() -> ClusterState {
    let mut state = healthy();
    state.instances.retain(|at| at.dbid.0 != 6);
    state.contents[0].copies.truncate(1);
    state
}

/// A cluster without agents, which has no rows.
pub(in crate::cli) fn without_agents() -> ClusterState {
    let mut state = healthy();
    state.instances.clear();
    state.hosts.clear();
    state.settings.clear();
    state.contents.remove(0);
    state.up = Up::Founding;
    state
}
