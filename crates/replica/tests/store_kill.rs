//! A process that writes to a store is killed with SIGKILL at moments it does not choose. What is
//! found afterwards must be one of its checkpoints, no older than the last one it told, and hold
//! exactly the rows of that prefix of the log.

mod store_support;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, StateStore};
use outrigger_wal::format::Record;
use store_support::{put, record};

const DIR: &str = "OUTRIGGER_TEST_STORE_DIR";

fn nth(n: u64) -> Record {
    record(n, put(format!("key-{}", n % 97), format!("value-{n}")))
}

fn options() -> LsmOptions {
    LsmOptions {
        memtable_bytes: 20_000,
        ..LsmOptions::default()
    }
}

/// The child: applies from where the store is, telling each checkpoint, until it is killed.
#[test]
#[ignore = "is the child process of the other test"]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let store = LsmStore::open(Path::new(&dir), options()).unwrap();
    let mut out = std::io::stdout().lock();
    let first = store.applied().0.saturating_sub(4096).div_ceil(1024);
    for n in first.. {
        store.apply(&[nth(n)]).unwrap();
        if n % 50 == 0 {
            writeln!(out, "checkpoint {}", store.checkpoint().unwrap().0).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_falls_back_to_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_writes_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok).filter_map(|line| {
            line.split_once("checkpoint ")
                .map(|(_, lsn)| lsn.parse::<u64>().unwrap())
        });
        let told = told.take(round * 3).last();
        child.kill().unwrap();
        child.wait().unwrap();

        let told = told.expect("the child told checkpoints before it was killed");
        let store = LsmStore::open(dir.path(), options()).unwrap();
        let applied = store.applied();
        assert!(applied.0 >= told, "{applied} was found, {told} was told");
        let memory = MemoryStore::default();
        let log: Vec<_> = (0..)
            .map(nth)
            .take_while(|record| record.end <= applied)
            .collect();
        memory.apply(&log).unwrap();
        assert_eq!(
            memory.applied(),
            applied,
            "what was found ends with a record"
        );
        let all = KeyRange::all();
        assert_eq!(
            store.hash(&all).unwrap(),
            memory.hash(&all).unwrap(),
            "round {round}"
        );
    }
}
