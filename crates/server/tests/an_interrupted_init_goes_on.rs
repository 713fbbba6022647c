//! `--init` that was killed at any step: started again it goes on, under the identity that it told the
//! coordinator, and what somebody else put there is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::Path;

use support::{Process, ask, config, more, run, until};

/// What an `--init` leaves behind that was killed after so many of its steps.
const STEPS: [&str; 6] = [
    "the name is drawn",
    "the log's folder is made",
    "a segment is half prepared",
    "the log is there",
    "the control file is written under another name",
    "the control file is there",
];

/// Takes a directory that was made whole back to a step.
fn back_to(step: usize, dir: &Path, name: &str) {
    fs::write(dir.join("newborn"), name).unwrap();
    // They are made behind all of these steps, and by instances alone.
    for probe in ["probe", "wal/probe"] {
        fs::remove_file(dir.join(probe)).ok();
    }
    if step == 5 {
        return;
    }
    let segment = fs::read_dir(dir.join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file() && path.file_name().is_some_and(|name| name != "lock"))
        .unwrap();
    if step == 4 {
        fs::rename(dir.join("control-0"), dir.join("control-new")).unwrap();
    } else {
        fs::remove_file(dir.join("control-0")).unwrap();
    }
    fs::remove_file(dir.join("control-1")).unwrap();
    fs::remove_dir_all(dir.join("store")).unwrap();
    match step {
        0 => fs::remove_dir_all(dir.join("wal")).unwrap(),
        1 => {
            fs::remove_dir_all(dir.join("wal")).unwrap();
            fs::create_dir_all(dir.join("wal/saved")).unwrap();
        }
        2 => {
            let file = fs::File::options().write(true).open(segment).unwrap();
            file.set_len(4096).unwrap();
        }
        _ => {}
    }
}

#[test]
fn an_instance_killed_at_any_step_of_init_goes_on_under_its_name() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Process::start("coordinator", &config(home.path(), "c", ""), true);
    let path = config(home.path(), "one", &more(&coordinator));
    let dir = home.path().join("one");
    Process::start("instance", &path, true).kill();
    assert!(!dir.join("newborn").exists(), "it is made");
    let copies = || {
        let state = ask(&coordinator, &["state", "--json"]).json();
        state[0]["contents"][0]["copies"].as_array().unwrap().clone()
    };
    let name = copies()[0]["instance"].as_str().unwrap().to_owned();
    for (step, what) in STEPS.iter().enumerate() {
        back_to(step, &dir, &name);
        Process::start("instance", &path, true).kill();
        assert!(!dir.join("newborn").exists(), "{what}");
        let known = copies();
        assert_eq!(known.len(), 1, "{what}: the coordinator counts a copy that is not there");
        assert_eq!(known[0]["instance"], *name, "{what}");
        // From here on it is an instance like any other.
        let again = run(&["instance", "--config", path.to_str().unwrap(), "--init"]).error(2);
        assert!(again.contains("is not empty") && again.contains("leave --init away"), "{again}");
    }
}

#[test]
fn a_coordinator_killed_at_any_step_of_init_can_be_made_again() {
    let home = tempfile::tempdir().unwrap();
    let path = config(home.path(), "c", "");
    let dir = home.path().join("c");
    Process::start("coordinator", &path, true).kill();
    for (step, what) in STEPS.iter().enumerate() {
        back_to(step, &dir, "11111111111111111111111111111111");
        let coordinator = Process::start("coordinator", &path, true);
        assert!(!dir.join("newborn").exists(), "{what}");
        until(|| ask(&coordinator, &["state"]).code == Some(0));
        coordinator.kill();
    }
}

#[test]
fn an_init_that_goes_on_leaves_what_is_not_its_own() {
    // Somebody has put a file into a directory in which an `--init` was killed.
    let home = tempfile::tempdir().unwrap();
    let path = config(home.path(), "c", "");
    let dir = home.path().join("c");
    Process::start("coordinator", &path, true).kill();
    back_to(3, &dir, "11111111111111111111111111111111");
    fs::write(dir.join("mine"), "x").unwrap();
    let error = run(&["coordinator", "--config", path.to_str().unwrap(), "--init"]).error(2);
    assert!(error.contains("is not empty"), "{error}");
    assert!(dir.join("mine").exists() && dir.join("wal").exists());
    // A control file without the mark: an instance, and nothing of it is touched.
    fs::remove_file(dir.join("mine")).unwrap();
    fs::remove_file(dir.join("newborn")).unwrap();
    let error = run(&["coordinator", "--config", path.to_str().unwrap(), "--init"]).error(2);
    assert!(error.contains("is not empty"), "{error}");
    assert!(dir.join("wal").exists());
}
