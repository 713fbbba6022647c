//! A primary and a mirror in one process, over real files and sockets.
//!
//! What is promised here: commits are on both copies, a promotion loses nothing that was
//! acknowledged, the old primary comes back by what it missed.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod register;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::control::Identity;
use outrigger_replica::runtime::{
    Authority, Outcome, Replica, ReplicaError, ReplicaOptions, Status,
};
use outrigger_replica::store::Rows;
use outrigger_replica::store::kv::{ClientId, Op, OutcomeLimits, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};
use register::Register;

const PATIENCE: Duration = Duration::from_secs(20);

fn identity(instance: u128) -> Identity {
    Identity {
        cluster: ClusterId(9),
        content: ContentId(0),
        instance: InstanceId(instance),
        log: LogId(77),
        segment_bytes: 1 << 20,
    }
}

fn open(dir: &Path, port: &str, register: &Arc<Register>) -> (Replica, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new(OutcomeLimits::default()));
    let options = ReplicaOptions::new(dir, format!("127.0.0.1:{port}"));
    let state: Arc<dyn outrigger_replica::store::StateStore> = store.clone();
    let authority: Arc<dyn Authority> = register.clone();
    let replica = Replica::open(options, state, authority, None).expect("opens");
    (replica, store)
}

/// The homes of two copies, made.
fn homes(dir: &Path) -> [PathBuf; 2] {
    let homes = [dir.join("a"), dir.join("b")];
    for (at, home) in homes.iter().enumerate() {
        Replica::init(home, identity(at as u128 + 1)).expect("made");
    }
    homes
}

/// The first configuration of `a`, which serves it alone, and of the copy that listens at `b`.
fn pair(register: &Register, a: &Replica, b: SocketAddr) {
    let copy = |instance, address: SocketAddr| Copy {
        instance: InstanceId(instance),
        addresses: vec![address.to_string()],
        in_sync: instance == 1,
        held: false,
        durable: Promise::NONE,
    };
    *register.config.lock() = Some(Config {
        version: Version(1),
        epoch: Epoch { number: 1, nonce: 1 },
        primary: InstanceId(1),
        copies: vec![copy(1, a.local_addr()), copy(2, b)],
        rule: Rule::All,
        loss: None,
    });
    register.push();
    assert!(a.wait_serving(PATIENCE), "{:?}", a.status());
}

/// Both copies are in sync.
fn both(status: &Status) -> bool {
    status.config.as_ref().is_some_and(|config| config.in_sync_set().count() == 2)
}

fn put(key: &str, value: &str, sequence: u64) -> Vec<u8> {
    let (key, value) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
    let write = Write { client: ClientId(5), sequence, op: Op::Put { key, value } };
    write.encode().expect("fits").to_vec()
}

#[test]
fn an_acknowledged_commit_survives_a_promotion_and_the_old_primary_returns() {
    let dirs = tempfile::tempdir().expect("a folder");
    let register = Arc::new(Register::default());
    let homes = homes(dirs.path());
    let (a, _) = open(&homes[0], "0", &register);
    let (b, b_rows) = open(&homes[1], "0", &register);
    pair(&register, &a, b.local_addr());
    assert!(a.wait_until(PATIENCE, both), "{:?}", a.status());

    let mut acked = Vec::new();
    for n in 0..200_u64 {
        let pending = a.append(&put(&format!("k{n}"), "v", n + 1)).expect("serves");
        assert!(pending.blocking().is_committed());
        acked.push(format!("k{n}"));
    }
    let address = a.local_addr().port().to_string();
    // Like a kill: nothing is closed in order.
    let last = a.append(&put("doubt", "v", 900)).expect("serves");
    let end = last.end();
    drop(last);
    a.close().expect("closes");
    drop(a);

    register.change(|config| {
        config.primary = InstanceId(2);
        config.epoch = Epoch { number: config.epoch.number + 1, nonce: 2 };
    });
    assert!(b.wait_serving(PATIENCE), "{:?}", b.status());
    let outcome = b.append(&put("after", "v", 901)).expect("serves").blocking();
    let Outcome::Committed { end: after, .. } = outcome else { panic!("{outcome:?}") };
    assert!(b.wait_until(PATIENCE, |status| status.applied >= after));
    for key in &acked {
        assert!(b_rows.get(key.as_bytes()).expect("reads").is_some(), "{key} is lost");
    }
    assert!(after > end, "the log goes on");

    let (a, a_rows) = open(&homes[0], &address, &register);
    assert!(b.wait_until(PATIENCE, both), "{:?} {:?}", b.status(), a.status());
    assert!(a.wait_until(PATIENCE, |status| status.applied >= after), "{:?}", a.status());
    assert!(a_rows.get(b"after").expect("reads").is_some());
    a.close().expect("closes");
    b.close().expect("closes");
}

/// The reign goes to and fro between two copies under load, asked of the primary and through the mirror in turn: every
/// write that was taken is committed, none is in doubt, and both copies hold all of them.
#[test]
fn a_reign_is_handed_to_and_fro_and_no_write_is_left_in_doubt() {
    let dirs = tempfile::tempdir().expect("a folder");
    let register = Arc::new(Register::default());
    let homes = homes(dirs.path());
    let progress = Arc::new(AtomicU64::new(u64::MAX));
    let (a, a_rows) = open(&homes[0], "0", &register);
    let (b, b_rows) = open(&homes[1], "0", &register);
    pair(&register, &a, b.local_addr());
    assert!(a.wait_until(PATIENCE, both), "{:?}", a.status());
    let knows = |status: &Status| status.stream_heard_micros.is_some();
    assert!(b.wait_until(PATIENCE, knows), "{:?}", b.status());

    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (replicas, stop) = ([a.clone(), b.clone()], Arc::clone(&stop));
        std::thread::spawn(move || {
            let (mut taken, mut sequence) = (Vec::new(), 0);
            while !stop.load(Ordering::SeqCst) {
                for replica in &replicas {
                    let key = format!("k{sequence}");
                    let record = put(&key, "v", sequence + 1);
                    match replica.append(&record) {
                        Ok(pending) => {
                            assert!(pending.blocking().is_committed(), "{key} is in doubt");
                            taken.push(key);
                            sequence += 1;
                        }
                        Err(ReplicaError::NotPrimary) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            taken
        })
    };
    let replicas = [&a, &b];
    for turn in 0..6_usize {
        let to = replicas[(turn + 1) % 2];
        let asked = if turn % 3 == 2 { to } else { replicas[turn % 2] };
        register.hand_to(to.instance(), turn as u128 + 10);
        asked.hand_over(to.instance(), Duration::from_secs(10)).expect("knows a configuration");
        assert!(to.wait_serving(PATIENCE), "turn {turn}: {:?}", to.status());
        assert!(to.wait_until(PATIENCE, both), "turn {turn}: {:?}", to.status());
        let from = replicas[turn % 2];
        let follows =
            |status: &Status| status.stream_heard_micros.is_some() && status.serving.is_none();
        assert!(from.wait_until(PATIENCE, follows), "turn {turn}: {:?}", from.status());
        let known = to.status().config.map(|config| config.version);
        let same = |status: &Status| status.config.as_ref().map(|config| config.version) == known;
        assert!(from.wait_until(PATIENCE, same), "turn {turn}: {:?}", from.status());
        // So that there is load on it before it goes on.
        let some = to.status().commit.saturating_add(20 * 4096);
        assert!(to.wait_until(PATIENCE, |status| status.commit >= some), "{:?}", to.status());
    }
    stop.store(true, Ordering::SeqCst);
    let taken = writer.join().expect("writes");
    assert!(taken.len() > 60, "{} writes", taken.len());
    let end = a.status().end.max(b.status().end);
    for (replica, rows) in [(&a, &a_rows), (&b, &b_rows)] {
        assert!(replica.wait_until(PATIENCE, |status| status.applied >= end));
        for key in &taken {
            assert!(rows.get(key.as_bytes()).expect("reads").is_some(), "{key} is lost");
        }
        assert_eq!(replica.status().counters.truncations, 0, "nothing had to be cut");
    }
    b.close().expect("closes");
    a.close().expect("closes");
    let home = &homes[1];
    drop((a, b));
    let mut options = ReplicaOptions::new(home, "127.0.0.1:0");
    progress.store(0, Ordering::SeqCst);
    options.progress = Some(Arc::clone(&progress));
    let store = Arc::new(MemoryStore::new(OutcomeLimits::default()));
    let b = Replica::open(options, store, register, None).expect("opens");
    assert_eq!(progress.load(Ordering::SeqCst), b.status().end.0, "how far it was read back");
    b.close().expect("closes");
}

#[test]
fn a_way_back_over_several_lines_is_counted_whole() {
    // A mirror that missed much is stopped in the middle of its way back, and started again.
    let dirs = tempfile::tempdir().expect("a folder");
    let register = Arc::new(Register::default());
    let homes = homes(dirs.path());
    let (a, _) = open(&homes[0], "0", &register);
    let (b, _) = open(&homes[1], "0", &register);
    let address = b.local_addr();
    b.close().expect("closes");
    drop(b);
    pair(&register, &a, address);
    let value = "v".repeat(200 << 10);
    let mut end = Lsn::ZERO;
    for n in 0..300 {
        let pending = a.append(&put("k", &value, n + 1)).expect("serves");
        end = pending.end();
        assert!(pending.blocking().is_committed());
    }
    let stored = 300 * value.len() as u64;

    let port = address.port().to_string();
    let (b, _) = open(&homes[1], &port, &register);
    assert!(b.wait_until(PATIENCE, |status| status.durable.0 > end.0 / 4), "{:?}", b.status());
    b.close().expect("closes");
    drop(b);
    let (b, _) = open(&homes[1], &port, &register);
    let joined = |status: &Status| {
        let both = status.config.as_ref().is_some_and(|config| config.in_sync_set().count() == 2);
        both && status.last_join.is_some()
    };
    assert!(a.wait_until(PATIENCE, joined), "{:?}", a.status());
    let join = a.status().last_join.expect("seen");
    assert_eq!((join.copy, join.from), (InstanceId(2), Lsn::ZERO), "{join:?}");
    assert!(join.to >= end, "{join:?}");
    assert!(join.stored_bytes >= stored, "{join:?}");
    assert!(join.wire_bytes >= join.stored_bytes, "{join:?}");
    a.close().expect("closes");
    b.close().expect("closes");
}
