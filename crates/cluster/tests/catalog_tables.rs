//! The catalog's tables: what may stand in them, and what the history tells of a change.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use outrigger_cluster::catalog::tables::{
    Dbid, Host, Instance, MAX_HISTORY, Preferred, Up, Wanted,
};
use outrigger_cluster::catalog::{Catalog, Change, Refused, State};
use outrigger_cluster::register::Proposer;
use outrigger_cluster::slots::MemorySlots;
use outrigger_net::config::Version;
use outrigger_replica::rules::Rules;
use outrigger_replica::store::{KeyRange, StateStore};
use outrigger_wal::{ContentId, Epoch, InstanceId};
use support::{A, B, CONTENT, Log, catalog, create, next, pair};

fn host(name: &str) -> Host {
    let addresses = vec![format!("{name}-a"), format!("{name}-b")];
    Host {
        name: name.to_owned(),
        addresses,
        agent: vec![format!("{name}:6900")],
        rack: None,
        storage: None,
    }
}

fn row(instance: InstanceId, host: &str, port: u16) -> Instance {
    Instance {
        content: CONTENT,
        instance,
        preferred: if instance == A { Preferred::Primary } else { Preferred::Mirror },
        host: host.to_owned(),
        addresses: vec![format!("{host}:{port}")],
        data_dir: format!("/data/{port}"),
        wanted: Wanted::New,
        run: 1,
        max_rate_bytes: 0,
    }
}

/// Two hosts, a pair on them.
fn filled() -> State {
    let mut state = State::default();
    let changes = [
        Change::PutHost(host("sdw1")),
        Change::PutHost(host("sdw2")),
        create(pair()),
        Change::PutInstance { dbid: Dbid(2), row: row(A, "sdw1", 7001) },
        Change::PutInstance { dbid: Dbid(3), row: row(B, "sdw2", 7002) },
    ];
    for change in changes {
        state.apply(1, &change, Rules::all()).unwrap();
    }
    state
}

fn told(state: &State, from: usize) -> Vec<String> {
    let rows = state.history.iter().skip(from);
    rows.map(|row| format!("{} {}", row.dbid, row.description)).collect()
}

#[test]
fn a_failover_is_told_in_the_history_for_both_instances() {
    let mut state = filled();
    let before = state.history.len();
    let promoted = next(&pair(), |new| {
        new.epoch = Epoch { number: 2, nonce: 9 };
        new.primary = B;
    });
    let swap = |seen, new, proposer| Change::Swap {
        content: CONTENT,
        seen: Version(seen),
        new,
        proposer,
        reports: Vec::new(),
    };
    state.apply(77, &swap(5, promoted, Proposer::Coordinator), Rules::all()).unwrap();
    let recorded = state.contents[&CONTENT].register.config().cloned().unwrap();
    let alone = next(&recorded, |new| new.copies[0].in_sync = false);
    state.apply(78, &swap(6, alone, Proposer::Instance(B)), Rules::all()).unwrap();
    assert_eq!(
        told(&state, before),
        [
            "2 FTS: update role, status, and mode for dbid 2 with contentid 0 to m, u, and s",
            "3 FTS: update role, status, and mode for dbid 3 with contentid 0 to p, u, and s",
            "2 FTS: update role, status, and mode for dbid 2 with contentid 0 to m, d, and n",
            "3 FTS: update role, status, and mode for dbid 3 with contentid 0 to p, u, and n",
        ]
    );
    assert_eq!(state.history.back().unwrap().at, 78);
}

#[test]
fn an_instance_needs_a_host_a_place_and_an_identity_of_its_own() {
    let mut state = filled();
    let mut put =
        |dbid, row| state.apply(1, &Change::PutInstance { dbid: Dbid(dbid), row }, Rules::all());
    let other = InstanceId(0xE);
    assert_eq!(put(4, row(other, "nowhere", 7003)), Err(Refused::NoHost));
    assert_eq!(put(4, row(A, "sdw2", 7003)), Err(Refused::Taken { dbid: Dbid(2) }));
    assert_eq!(put(4, row(other, "sdw1", 7001)), Err(Refused::Taken { dbid: Dbid(2) }));
    let moved = Instance { content: ContentId(1), ..row(A, "sdw1", 7001) };
    assert_eq!(put(2, moved), Err(Refused::OtherInstance { dbid: Dbid(2) }));
    assert_eq!(put(2, row(other, "sdw1", 7001)), Err(Refused::OtherInstance { dbid: Dbid(2) }));
    assert_eq!(put(4, row(other, "sdw1", 7003)), Ok(()));
}

#[test]
fn what_is_in_use_is_not_forgotten() {
    let mut state = filled();
    let mut apply = |change: Change| state.apply(1, &change, Rules::all());
    let host = |name: &str| Change::RemoveHost { name: name.to_owned() };
    assert_eq!(apply(host("sdw1")), Err(Refused::HostInUse { dbid: Dbid(2) }));
    let remove = |dbid| Change::RemoveInstance { dbid: Dbid(dbid) };
    assert_eq!(apply(remove(2)), Err(Refused::InstanceInUse { dbid: Dbid(2) }));
    assert_eq!(apply(remove(9)), Err(Refused::NoInstance { dbid: Dbid(9) }));
    let spare = row(InstanceId(0xE), "sdw1", 7009);
    assert_eq!(apply(Change::PutInstance { dbid: Dbid(9), row: spare }), Ok(()));
    assert_eq!(apply(remove(9)), Ok(()));
}

#[test]
fn a_checkpoint_and_a_snapshot_hold_every_table() {
    let mut log = Log::default();
    log.change(1, Change::PutHost(Host { rack: Some("r1".to_owned()), ..host("sdw1") }));
    log.change(2, Change::PutHost(host("sdw2")));
    log.change(3, create(pair()));
    log.change(4, Change::PutInstance { dbid: Dbid(2), row: row(A, "sdw1", 7001) });
    log.change(5, Change::PutInstance { dbid: Dbid(3), row: row(B, "sdw2", 7002) });
    log.change(6, Change::Set { key: "fts_probe_interval_ms".to_owned(), value: 100 });
    log.change(7, Change::SetUp(Up::Running));
    log.change(8, Change::Note { dbid: Dbid(2), text: "double fault".to_owned() });
    let slots = MemorySlots::default();
    let first = catalog(&slots);
    first.apply(&log.records).unwrap();
    first.checkpoint().unwrap();
    let state = |catalog: &Catalog| catalog.read(Clone::clone);
    let reopened = catalog(&slots);
    assert_eq!(state(&first), state(&reopened));
    let second = catalog(&MemorySlots::default());
    let mut pairs = first.snapshot(&KeyRange::all()).unwrap();
    let at = pairs.at();
    second.restore(at, &mut pairs).unwrap();
    assert_eq!(state(&first), state(&second));
    let hash = |catalog: &Catalog| catalog.hash(&KeyRange::all()).unwrap().hash;
    assert_eq!(hash(&first), hash(&second));
}

#[test]
fn the_history_is_bounded_and_a_restored_one_goes_on() {
    let mut state = State::default();
    let note = |text: String| Change::Note { dbid: Dbid(1), text };
    for number in 0..MAX_HISTORY + 3 {
        state.apply(number as u64, &note(number.to_string()), Rules::all()).unwrap();
    }
    assert_eq!((state.history.len(), state.forgotten), (MAX_HISTORY, 3));
    assert_eq!(state.history.front().unwrap().description, "3");
}
