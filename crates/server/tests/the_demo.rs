//! The demo as a newcomer runs it: it proves what it says, and nothing of it is left, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{BINARY, Running, begin, run, until};

/// A cluster that is soon made, on a machine with other things to do.
const SMALL: [&str; 4] = ["--hosts", "3", "--segments-per-host", "1"];

/// A demo in a folder of its own, two levels below one that is there.
fn demo(home: &Path, more: &[&str]) -> (Running, PathBuf) {
    let dir = home.join("new/demo");
    let path = dir.display().to_string();
    (begin(&[&["demo", "--dir", &path], more].concat(), home), dir)
}

/// The processes of the demo's program that work in this folder: the demo, agents, instances.
fn processes(dir: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let below = dir.display().to_string();
    let ours = |id: &u32| {
        fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == Path::new(BINARY))
            && fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|at| at.contains(&below))
    };
    ids.filter(ours).collect()
}

/// Interrupts a demo that has started so many processes: neither they nor its folder are left.
fn leaves_nothing(demo: Running, dir: &Path, at_least: usize) {
    let found = processes(dir);
    assert!(found.len() > at_least, "{found:?}");
    demo.interrupt();
    let ran = demo.end();
    assert_eq!(ran.code, Some(130), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("everything was stopped and cleared away"), "{}", ran.err);
    assert_eq!(processes(dir), [0_u32; 0]);
    assert!(!dir.parent().unwrap().exists(), "the folders that it made are gone");
}

/// Runs a small demo to its end: what it found.
fn found(more: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let (demo, dir) = demo(home.path(), &[&SMALL[..], &["--json"], more].concat());
    let ran = demo.end();
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(processes(&dir), [0_u32; 0]);
    assert!(!dir.parent().unwrap().exists(), "the folders that it made are gone");
    let found: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!((number(&found, "rows_lost"), &found["logs_identical"]), (0, &true.into()));
    assert!(number(&found, "rows_acked") > number(&found, "acked_before_kill"), "{found}");
    found
}

fn number(found: &Value, name: &str) -> u64 {
    found[name].as_u64().unwrap_or_else(|| panic!("{name}: {found}"))
}

/// Copies of data died: they came back by what they missed, and nobody noticed but by waiting.
fn recovered(found: &Value) {
    assert_eq!((number(found, "requests_failed"), number(found, "out_of_role")), (0, 0), "{found}");
    assert_eq!(found["recover_mode"], "incremental", "{found}");
    let missed = number(found, "missed_bytes");
    assert!(missed >= 1 << 20, "{found}");
    assert!(number(found, "recover_bytes") <= missed + missed / 100 + (64 << 10), "{found}");
    assert!(found["detect_ms"].is_u64() && found["failover_ms"].is_u64(), "{found}");
}

#[test]
fn ctrl_c_while_its_processes_start_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (demo, dir) = demo(home.path(), &[]);
    until(|| processes(&dir).len() > 1);
    leaves_nothing(demo, &dir, 1);
}

#[test]
fn ctrl_c_while_a_host_is_lost_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &SMALL);
    demo.wait_for("is killed");
    leaves_nothing(demo, &dir, 7);
}

#[test]
fn a_demo_that_is_killed_takes_its_processes_with_it() {
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &SMALL);
    demo.wait_for("instances run below");
    drop(demo);
    until(|| processes(&dir).is_empty());
}

#[test]
fn with_keep_an_interruption_says_where_it_leaves_what_it_made() {
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &[&SMALL[..], &["--keep"]].concat());
    demo.wait_for("instances run below");
    demo.interrupt();
    let ran = demo.end();
    assert_eq!(ran.code, Some(130));
    assert!(ran.err.contains(&format!("kept in {}", dir.display())), "{}", ran.err);
    assert!(dir.join("h1/coordinator").is_dir());
    assert_eq!(processes(&dir), [0_u32; 0]);
}

#[test]
fn what_it_cannot_use_is_told_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    fs::write(home.path().join("file"), "id,name\na,1\n").unwrap();
    fs::create_dir(home.path().join("full")).unwrap();
    fs::write(home.path().join("full/mine"), "x").unwrap();
    let demo = |arguments: &[&str]| run(&[&["demo"], arguments].concat()).error(2);
    let error = demo(&["--dir", &path("file/below")]);
    assert!(error.contains("file/below") && error.contains("cannot be made"), "{error}");
    let error = demo(&["--dir", &path("full")]);
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(fs::read(home.path().join("full/mine")).unwrap(), b"x");
    let new = path("new");
    let error = demo(&["--dir", &new, "--input", &path("none.csv"), "--key", "id"]);
    assert!(error.contains("none.csv"), "{error}");
    let error = demo(&["--dir", &new, "--input", &path("file"), "--key", "nope"]);
    assert!(error.contains("no column \"nope\""), "{error}");
    for (arguments, why) in [
        (&["--kill", "host", "--hosts", "2"][..], "--hosts 3"),
        (&["--kill", "coordinator", "--hosts", "2"], "no majority"),
        (&["--kill", "mirror", "--mirroring", "none"], "--mirroring none"),
        (&["--mirroring", "spread", "--hosts", "2"], "spread"),
    ] {
        let error = demo(&[&["--dir", &new], arguments].concat());
        assert!(error.contains(why), "{error}");
    }
    assert!(!home.path().join("new").exists());
}

#[test]
fn a_lost_host_costs_no_row_and_what_is_kept_can_be_checked_from_outside() {
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &[&SMALL[..], &["--json", "--keep"]].concat());
    // It is up until it is told to end.
    let line = demo.lines.next().unwrap().unwrap();
    let found: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&found["kill"], &found["mirroring"]), (&"host".into(), &"group".into()));
    assert_eq!(number(&found, "rows_lost"), 0, "{found}");
    recovered(&found);
    let acks = fs::read_to_string(dir.join("acks.jsonl")).unwrap();
    assert_eq!(acks.lines().count() as u64, number(&found, "rows_acked"));
    let coordinator = found["coordinator"].as_str().unwrap();
    let ack: Value = serde_json::from_str(acks.lines().last().unwrap()).unwrap();
    let key = ack["key"].as_str().unwrap();
    run(&["kv", "get", key, "--coordinator", coordinator]).ok();
    demo.interrupt();
    let ran = demo.end();
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(processes(&dir), [0_u32; 0]);
    let copies = [("h1", "primaries", 0), ("h2", "mirrors", 0), ("h3", "primaries", 2)];
    for (host, kind, content) in copies {
        let copy = dir.join(host).join(kind).join(format!("gpseg{content}"));
        run(&["wal", "verify", &copy.display().to_string()]).ok();
    }
}

#[test]
fn a_lost_primary_costs_no_row_where_mirrors_are_spread() {
    let found = found(&["--kill", "primary", "--mirroring", "spread"]);
    recovered(&found);
    assert!(found["rebalance_pause_ms"].is_u64(), "{found}");
}

#[test]
fn a_lost_mirror_costs_no_row() {
    recovered(&found(&["--kill", "mirror"]));
}

#[test]
fn a_lost_coordinator_is_replaced_by_its_standby_and_comes_back_as_one() {
    let found = found(&["--kill", "coordinator"]);
    assert_eq!(number(&found, "requests_failed"), 0, "{found}");
    assert!(found["failover_ms"].is_u64(), "{found}");
}

#[test]
fn a_lost_standby_stops_nothing_and_comes_back() {
    let found = found(&["--kill", "standby"]);
    assert_eq!(number(&found, "requests_failed"), 0, "{found}");
}

#[test]
fn without_mirrors_the_cluster_goes_down_and_starts_only_with_all_of_its_data() {
    let found = found(&["--mirroring", "none"]);
    let why = found["start_refused"].as_str().unwrap();
    assert!(why.contains("not enough valid instances"), "{found}");
    assert!(found["detect_ms"].is_u64(), "{found}");
}

#[test]
fn all_rows_of_a_file_go_in_around_the_kill() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("rows.csv");
    let rows = (0..900).map(|n| format!("k{},v{n}\n", n % 890));
    fs::write(&file, std::iter::once("id,v\n".to_owned()).chain(rows).collect::<String>()).unwrap();
    let file = file.display().to_string();
    let more = ["--input", &file, "--key", "id", "--kill", "primary", "--json"];
    let (demo, _) = demo(home.path(), &[&SMALL[..], &more].concat());
    let ran = demo.end();
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let found: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert!(number(&found, "rows_acked") > 900, "{found}");
}
