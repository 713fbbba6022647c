//! A mirror whose folder is lost, or whose log is damaged, is made anew from its primary, under load, as processes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Cluster, Process, ask, config, in_sync, more, run, until};

/// The rows of a stopped copy.
fn rows(dir: &str) -> BTreeMap<String, String> {
    let lines = run(&["store", "dump", dir, "--json"]).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines[1..].iter().map(|row| (text(&row["key"]), text(&row["value"]))).collect()
}

/// A file of rows of some 400 bytes.
fn table(path: &str, rows: std::ops::Range<u32>) {
    let mut text = "id,name\n".to_owned();
    for row in rows {
        text.push_str(&format!("{row:06},{row:0380}\n"));
    }
    std::fs::write(path, text).unwrap();
}

fn load(cluster: &Cluster, name: &str, rows: std::ops::Range<u32>) {
    let file = cluster.path(name);
    table(&file, rows);
    cluster.ask(&["kv", "load", &file, "--key", "id"]).ok();
}

/// Who the instance in a data directory is: instance, cluster, log.
fn identity(dir: &Path) -> [String; 3] {
    let who = outrigger_replica::runtime::Replica::identity(dir).unwrap();
    [who.instance.to_string(), who.cluster.to_string(), who.log.to_string()]
}

/// Waits until the primary goes on without its mirror.
fn left(cluster: &Process) {
    until(|| {
        let state = ask(cluster, &["state", "--json"]).json();
        let copies = state[0]["contents"][0]["copies"].as_array().unwrap();
        copies.iter().filter(|copy| copy["in_sync"] == true).count() == 1
    });
}

fn rebuild(config: &Path, from: &Process, more: &[&str]) -> Vec<Value> {
    let config = config.display().to_string();
    let arguments = ["rebuild", "--config", &config, "--from", &from.address];
    run(&[&arguments[..], &["--progress", "json"], more].concat()).json()
}

/// Starts the mirror again, waits until it is in sync, and compares the two copies.
fn check_same(cluster: Cluster, mirror: &Path) {
    let Cluster { home, coordinator, primary, mirror: old } = cluster;
    drop(old);
    let mirror = Process::start("instance", mirror, false);
    in_sync(&coordinator);
    ask(&coordinator, &["kv", "put", "last", "one"]).ok();
    // The primary first: going down, it tells its copy of the last commit.
    assert_eq!(primary.stop(), Some(0));
    assert_eq!(mirror.stop(), Some(0));
    assert_eq!(coordinator.stop(), Some(0));
    let dir = |name: &str| home.path().join(name).display().to_string();
    let (theirs, mine) = (rows(&dir("one")), rows(&dir("two")));
    assert!(theirs == mine, "{} rows, and {} of the copy", theirs.len(), mine.len());
    for name in ["one", "two"] {
        let report = run(&["wal", "verify", &dir(name), "--json"]).json();
        assert_eq!(report[0]["sound"], true, "{report:?}");
    }
    // The same blocks, where both have any.
    let blocks = |name| -> BTreeMap<u64, Value> {
        let lines = run(&["wal", "dump", &dir(name), "--json"]).json();
        lines.into_iter().map(|line| (line["lsn"].as_u64().unwrap(), line)).collect()
    };
    let (mine, theirs) = (blocks("two"), blocks("one"));
    let common: Vec<_> = mine.iter().filter(|(lsn, _)| theirs.contains_key(lsn)).collect();
    assert!(common.len() + 1 >= mine.len().min(theirs.len()) && common.len() > 2);
    assert!(common.iter().all(|(lsn, block)| theirs[lsn] == **block));
}

fn stop_mirror(cluster: &mut Cluster, config: &Path) {
    // Whatever runs in its place is stopped with it.
    let gone = Process::start("coordinator", config, true);
    std::mem::replace(&mut cluster.mirror, gone).kill();
}

/// A process to stand in for the mirror, which is killed.
fn placeholder(cluster: &Cluster) -> PathBuf {
    config(cluster.home.path(), "nobody", "")
}

#[test]
fn a_mirror_whose_folder_was_wiped_is_rebuilt_under_load_and_gets_in_sync() {
    // Log is recycled as soon as may be: only what is held for the copy is still there when it comes.
    let mut cluster = Cluster::start_with(
        "segment_bytes = 1048576\nretain_bytes = 0\nmemtable_bytes = 1048576\n",
    );
    load(&cluster, "first.csv", 0..8_000);
    let dir = cluster.home.path().join("two");
    let [instance, to, log] = identity(&dir);
    let stand_in = placeholder(&cluster);
    stop_mirror(&mut cluster, &stand_in);
    std::fs::remove_dir_all(&dir).unwrap();
    left(&cluster.coordinator);

    let more =
        format!("{}retain_bytes = 0\nmemtable_bytes = 1048576\n", more(&cluster.coordinator));
    let mirror = config(cluster.home.path(), "two", &more);
    let file = cluster.path("second.csv");
    table(&file, 4_000..20_000);
    let load = cluster.begin(&["kv", "load", &file, "--key", "id"]);
    let who = ["--instance", &instance, "--cluster", &to, "--log", &log];
    let slowly = [&["--max-rate", "8000000"], &who[..]].concat();
    let told = rebuild(&mirror, &cluster.primary, &slowly);
    let last = told.last().unwrap();
    assert_eq!((&last["step"], &last["mode"]), (&"ready".into(), &"full".into()), "{last}");
    assert!(last["moved_bytes"].as_u64().unwrap() > 3_000_000, "{last}");
    assert_eq!(last["done_bytes"], last["total_bytes"], "{last}");
    assert!(told.iter().any(|line| line["step"] == "fetching"));
    assert_eq!(load.end().code, Some(0));
    for gone in ["rebuild", "rebuilding", "set-aside"] {
        assert!(!dir.join(gone).exists(), "{gone} is left");
    }
    check_same(cluster, &mirror);
}

#[test]
fn a_mirror_with_a_damaged_log_refuses_to_start_and_differential_brings_it_back() {
    let mut cluster = Cluster::start();
    load(&cluster, "first.csv", 0..12_000);
    let stand_in = placeholder(&cluster);
    stop_mirror(&mut cluster, &stand_in);
    left(&cluster.coordinator);
    let mirror = config(cluster.home.path(), "two", &more(&cluster.coordinator));
    let dir = cluster.home.path().join("two");

    // A bit flips far below what was durable, behind the header of a page's block or in its payload.
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    segments.sort();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&segments[0]).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(73 * 4096 + 150)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(73 * 4096 + 150)).unwrap();
    file.write_all(&[byte[0] ^ 0x08]).unwrap();
    drop(file);
    let config = mirror.display().to_string();
    let refused = run(&["instance", "--config", &config]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("damage"), "{}", refused.err);

    load(&cluster, "second.csv", 3_000..3_010);
    let told = rebuild(&mirror, &cluster.primary, &["--mode", "differential", "--keep-old"]);
    let last = told.last().unwrap();
    assert_eq!((&last["step"], &last["mode"]), (&"ready".into(), &"differential".into()), "{last}");
    let (moved, total) = (&last["moved_bytes"], &last["total_bytes"]);
    // The store had its last checkpoint some way back; the log's segment is fetched as it is.
    assert!(moved.as_u64().unwrap() < total.as_u64().unwrap(), "{last}");
    assert!(dir.join("set-aside").join("wal").is_dir());
    check_same(cluster, &mirror);
}

#[test]
fn a_rebuild_that_is_killed_leaves_a_copy_that_does_not_start_and_goes_on() {
    let mut cluster = Cluster::start();
    load(&cluster, "first.csv", 0..12_000);
    let stand_in = placeholder(&cluster);
    stop_mirror(&mut cluster, &stand_in);
    left(&cluster.coordinator);
    let mirror = config(cluster.home.path(), "two", &more(&cluster.coordinator));
    let text = mirror.display().to_string();
    let from = &cluster.primary.address;
    let full = ["rebuild", "--config", &text, "--from", from, "--mode", "full"];
    let mut slow = support::begin(
        &[&full[..], &["--progress", "json", "--max-rate", "600000"]].concat(),
        cluster.home.path(),
    );
    slow.wait_for("fetching");
    let chunks = || {
        let made = std::fs::read_dir(cluster.home.path().join("two/rebuilding"));
        made.map_or(0, |made| {
            made.flatten()
                .filter(|at| at.path().extension().is_some_and(|ending| ending == "chunk"))
                .count()
        })
    };
    until(|| chunks() >= 3);
    // SIGKILL.
    drop(slow);

    let error = run(&["instance", "--config", &text]).error(2);
    assert!(error.contains("a rebuild of this copy has begun"), "{error}");
    let dir = cluster.path("two");
    assert!(Path::new(&dir).join("wal").is_dir(), "what was there is where it was");
    let told = rebuild(&mirror, &cluster.primary, &["--mode", "full"]);
    let last = told.last().unwrap();
    assert_eq!(last["step"], "ready");
    // What was fetched before it was killed is not fetched again.
    let saved = last["total_bytes"].as_u64().unwrap() - last["moved_bytes"].as_u64().unwrap();
    assert!(saved > 300_000, "{last}");
    check_same(cluster, &mirror);
}

#[test]
fn a_mirror_in_sync_is_not_rebuilt_and_a_running_one_neither() {
    let cluster = Cluster::start();
    let mirror = config(cluster.home.path(), "two", &more(&cluster.coordinator));
    let text = mirror.display().to_string();
    let from = &cluster.primary.address;
    let arguments = ["rebuild", "--config", &text, "--from", from, "--timeout", "1"];
    let error = run(&arguments).error(2);
    assert!(error.contains("in use by process"), "{error}");

    // Under another directory, with the same name.
    let [instance, to, log] = identity(&cluster.home.path().join("two"));
    let more = format!("{}log = \"error\"\n", more(&cluster.coordinator));
    let other = config(cluster.home.path(), "clone", &more);
    let text = other.display().to_string();
    let who = ["--instance", &instance, "--cluster", &to, "--log", &log];
    let arguments = ["rebuild", "--config", &text, "--from", from, "--timeout", "1"];
    let error = run(&[&arguments[..], &["--progress", "none"], &who].concat()).error(2);
    assert!(error.contains("commits wait for this copy"), "{error}");
}
