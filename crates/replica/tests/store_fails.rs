//! A primary whose store fails while it serves.
//!
//! What is promised here: it serves no more, what waits is in doubt, and the copy is down: it does not go on
//! shipping and acknowledging what it cannot apply.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod register;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::control::Identity;
use outrigger_replica::member::{Event, Role};
use outrigger_replica::runtime::{Authority, Outcome, Replica, ReplicaError, ReplicaOptions};
use outrigger_replica::store::kv::{ClientId, Op, OutcomeLimits, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Pair, Partition, Snapshot, StateStore, StoreError};
use outrigger_wal::format::Record;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};
use parking_lot::{Condvar, Mutex};
use register::Register;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    #[default]
    Open,
    Shut,
    Broken,
}

/// A store whose applying waits while the gate is shut, and fails once it is broken.
struct Gated {
    inner: MemoryStore,
    gate: Mutex<Gate>,
    waits: AtomicBool,
    changed: Condvar,
}

impl Gated {
    fn set(&self, gate: Gate) {
        *self.gate.lock() = gate;
        self.changed.notify_all();
    }
}

impl StateStore for Gated {
    fn partition(&self, record: &Record) -> Partition {
        self.inner.partition(record)
    }

    fn apply(&self, run: &[Record]) -> Result<(), StoreError> {
        let mut gate = self.gate.lock();
        while *gate == Gate::Shut {
            self.waits.store(true, Ordering::SeqCst);
            self.changed.wait(&mut gate);
        }
        if *gate == Gate::Broken {
            return Err(StoreError::Other { cause: "its disk is gone".to_owned() });
        }
        drop(gate);
        self.inner.apply(run)
    }

    fn applied(&self) -> Lsn {
        self.inner.applied()
    }

    fn advance(&self, to: Lsn) {
        self.inner.advance(to);
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        self.inner.checkpoint()
    }

    fn checkpointed(&self) -> Lsn {
        self.inner.checkpointed()
    }

    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError> {
        self.inner.snapshot(range)
    }

    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        self.inner.restore(at, pairs)
    }
}

fn open(home: &Path, instance: u128, register: &Arc<Register>) -> (Replica, Arc<Gated>) {
    let identity = Identity {
        cluster: ClusterId(9),
        content: ContentId(0),
        instance: InstanceId(instance),
        log: LogId(77),
        segment_bytes: 1 << 20,
    };
    Replica::init(home, identity).expect("made");
    let store = Arc::new(Gated {
        inner: MemoryStore::new(OutcomeLimits::default()),
        gate: Mutex::default(),
        waits: AtomicBool::new(false),
        changed: Condvar::new(),
    });
    let options = ReplicaOptions::new(home, "127.0.0.1:0");
    let state: Arc<dyn StateStore> = store.clone();
    let authority: Arc<dyn Authority> = register.clone();
    (Replica::open(options, state, authority, None).expect("opens"), store)
}

fn put(sequence: u64) -> Vec<u8> {
    let op = Op::Put { key: "key".into(), value: "value".into() };
    Write { client: ClientId(5), sequence, op }.encode().expect("fits").to_vec()
}

/// The primary's store hangs on a committed write and then fails, while another write waits for a mirror
/// that is gone and may not be left behind.
#[test]
fn a_primary_whose_store_fails_steps_down_in_order() {
    let dirs = tempfile::tempdir().expect("a folder");
    let register = Arc::new(Register::default());
    let (a, store) = open(&dirs.path().join("a"), 1, &register);
    let (b, _) = open(&dirs.path().join("b"), 2, &register);
    let copy = |replica: &Replica| Copy {
        instance: replica.instance(),
        addresses: vec![replica.local_addr().to_string()],
        in_sync: replica.instance() == InstanceId(1),
        held: false,
        durable: Promise::NONE,
    };
    *register.config.lock() = Some(Config {
        version: Version(1),
        epoch: Epoch { number: 1, nonce: 1 },
        primary: InstanceId(1),
        copies: vec![copy(&a), copy(&b)],
        rule: Rule::All,
        loss: None,
    });
    register.push();
    let both = |status: &outrigger_replica::runtime::Status| {
        let config = status.config.as_ref();
        status.serving.is_some() && config.is_some_and(|config| config.in_sync_set().count() == 2)
    };
    assert!(a.wait_until(PATIENCE, both), "{:?}", a.status());
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    a.on_event(move |event| {
        match event {
            Event::SteppedDown { .. } => heard.lock().push("stepped down"),
            Event::Failed { .. } => heard.lock().push("failed"),
            _ => {}
        }
        true
    });

    store.set(Gate::Shut);
    let first = a.append(&put(1)).expect("serves");
    assert!(first.blocking().is_committed());
    assert!(a.wait_until(PATIENCE, |_| store.waits.load(Ordering::SeqCst)));
    register.silent.store(true, Ordering::SeqCst);
    b.close().expect("closes");
    let waiting = a.append(&put(2)).expect("serves");
    store.set(Gate::Broken);
    assert!(matches!(waiting.blocking(), Outcome::InDoubt { .. }));

    let down = |status: &outrigger_replica::runtime::Status| status.role == Role::Down;
    assert!(a.wait_until(PATIENCE, down), "{:?}", a.status());
    let status = a.status();
    assert!(status.serving.is_none(), "{status:?}");
    assert!(status.failed.is_some_and(|text| text.contains("its disk is gone")));
    assert_eq!(*said.lock(), ["stepped down", "failed"]);
    assert!(matches!(a.append(&put(3)), Err(ReplicaError::NotPrimary)));
    assert!(a.close().is_err(), "it says at its close too that it failed");
}
