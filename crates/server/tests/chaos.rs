//! A cluster of real processes is hurt under load, from a fixed seed: on loopback, and in network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn chaos(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.args(["bench", "chaos", "--json"]).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

fn holds(done: &Output) -> Value {
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&done.stdout));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(found["acked"].as_u64().unwrap() > 0, "{found}");
    assert!(found["acked_by_copies"].as_u64().unwrap() > 0, "{found}");
    for nothing in ["lost", "out_of_turn", "requests_failed"] {
        assert_eq!(found[nothing], 0, "{found}");
    }
    assert_eq!((&found["compared"], &found["equal"]), (&4.into(), &4.into()), "{found}");
    assert_eq!(found["sound"], found["logs"], "{found}");
    found
}

#[test]
fn acknowledged_rows_survive_killed_and_stopped_processes() {
    holds(&chaos(&["--cycles", "8", "--seed", "1", "--longest-stop-ms", "1500"]));
}

#[test]
fn acknowledged_rows_survive_hosts_that_are_cut_off() {
    let done =
        chaos(&["--cycles", "8", "--seed", "24", "--networks", "2", "--longest-stop-ms", "1500"]);
    let said = String::from_utf8_lossy(&done.stderr);
    if said.contains("no network namespaces") {
        // Nothing was tested: whoever reads the output has to see that.
        eprintln!("SKIPPED: hosts in network namespaces: {said}");
        return;
    }
    let found = holds(&done);
    assert!(found["faults"]["network"].as_u64() >= Some(1), "a whole network is lost too: {found}");
}
