//! The demo as a newcomer runs it: it proves what it says, and nothing of it is left, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{BINARY, Running, begin, run, until};

/// A demo in a folder of its own, two levels below one that is there.
fn demo(home: &Path, more: &[&str]) -> (Running, PathBuf) {
    let dir = home.join("new/demo");
    let path = dir.display().to_string();
    (begin(&[&["demo", "--dir", &path], more].concat(), home), dir)
}

/// Those of these processes that still run the demo's program.
fn alive(processes: &[u32]) -> Vec<u32> {
    let ours = |id: &&u32| {
        fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == Path::new(BINARY))
    };
    processes.iter().filter(ours).copied().collect()
}

/// Interrupts a demo that has started so many processes: neither they nor its folder are left.
fn leaves_nothing(demo: Running, dir: &Path, processes: usize) {
    let children = demo.children();
    assert!(children.len() >= processes, "{children:?}");
    demo.interrupt();
    let ran = demo.end();
    assert_eq!(ran.code, Some(130), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("everything was stopped and cleared away"), "{}", ran.err);
    assert!(alive(&children).is_empty(), "{children:?}");
    assert!(!dir.parent().unwrap().exists(), "the folders that it made are gone");
}

#[test]
fn ctrl_c_while_its_processes_start_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (demo, dir) = demo(home.path(), &[]);
    until(|| !demo.children().is_empty());
    leaves_nothing(demo, &dir, 1);
}

#[test]
fn ctrl_c_while_the_mirror_stands_still_leaves_nothing() {
    // A process that is stopped takes no SIGTERM.
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &[]);
    demo.wait_for("the mirror stands still");
    leaves_nothing(demo, &dir, 2);
}

#[test]
fn with_keep_an_interruption_says_where_it_leaves_what_it_made() {
    let home = tempfile::tempdir().unwrap();
    let (mut demo, dir) = demo(home.path(), &["--keep"]);
    demo.wait_for("run below");
    let children = demo.children();
    demo.interrupt();
    let ran = demo.end();
    assert_eq!(ran.code, Some(130));
    assert!(ran.err.contains(&format!("kept in {}", dir.display())), "{}", ran.err);
    assert!(dir.join("first").is_dir());
    assert!(alive(&children).is_empty(), "{children:?}");
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
    assert!(!home.path().join("new").exists());
}

#[test]
fn a_whole_run_proves_itself_and_keeps_what_others_need_to_check_it() {
    let home = tempfile::tempdir().unwrap();
    let (demo, dir) = demo(home.path(), &["--json", "--keep"]);
    let ran = demo.end();
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let found: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    let number = |name: &str| found[name].as_u64().unwrap();
    assert_eq!((number("rows_lost"), &found["logs_identical"]), (0, &true.into()), "{found}");
    assert!(number("cut_bytes") > 0 && number("missed_bytes") >= 1 << 20, "{found}");
    assert!(2 * number("fork") >= number("compared_to"), "killed beyond the middle: {found}");
    assert!(number("compared_from") < number("fork"), "{found}");
    let wire = number("missed_bytes") + number("missed_bytes") / 20 + (64 << 10);
    assert!(number("rejoin_bytes") <= wire, "{found}");
    let acks = fs::read_to_string(dir.join("acks.jsonl")).unwrap();
    assert_eq!(acks.lines().count() as u64, number("rows_acked"));
    for copy in ["first", "second"] {
        run(&["wal", "verify", &dir.join(copy).display().to_string()]).ok();
    }
}
