//! A cluster of real processes grows by two hosts under load, while a primary whose rows move and the coordinator are
//! killed: every acknowledged row is there, exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{BINARY, begin, run, until};

const COORDINATORS: &str = "127.0.8.1:5437,127.0.8.2:5437";

/// The agents of six hosts; killed, with their instances, when dropped.
struct Agents(Vec<Child>);

impl Agents {
    fn start(home: &Path) -> Self {
        let agents = (1..=6).map(|host| {
            let file = home.join(format!("agent{host}.toml"));
            let text = format!(
                "data_dir = {:?}\nlisten = \"127.0.8.{host}:6930\"\n",
                home.join(format!("h{host}/agent"))
            );
            std::fs::write(&file, text).unwrap();
            let parent = std::process::id().to_string();
            let mut command = Command::new(BINARY);
            command.arg("agent").arg("--config").arg(file).args(["--die-with", &parent]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        Self(agents.collect())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for agent in &mut self.0 {
            agent.kill().ok();
            agent.wait().ok();
        }
    }
}

/// A cluster's file with so many hosts.
fn file(home: &Path, hosts: u32) -> String {
    let dir = home.display();
    let mut text = format!(
        "name = \"grows\"\nsegments_per_host = 1\nmirroring = \"group\"\n\
         data_dirs = [\"{dir}/{{host}}/p\"]\nmirror_data_dirs = [\"{dir}/{{host}}/m\"]\n\
         port_base = 6030\nmirror_port_base = 7030\nsegment_bytes = 8388608\n\
         coordinator = {{ host = \"h1\", port = 5437, data_dir = \"{dir}/h1/co\" }}\n\
         standby = {{ host = \"h2\", data_dir = \"{dir}/h2/sb\" }}\n"
    );
    for host in 1..=hosts {
        text.push_str(&format!(
            "[[host]]\nname = \"h{host}\"\naddresses = [\"127.0.8.{host}\"]\n\
             agent = \"127.0.8.{host}:6930\"\n"
        ));
    }
    let path = home.join(format!("cluster{hosts}.toml"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn kill(home: &Path, host: u32, dbid: u32) {
    let path = home.join(format!("h{host}/agent/instances/{dbid}.pid"));
    let text = std::fs::read_to_string(path).unwrap();
    let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// How many buckets have moved, and of how many; nothing while nobody answers, or nothing moves.
fn expanding() -> Option<Option<(u64, u64)>> {
    let ran = run(&["state", "--json", "--coordinator", COORDINATORS]);
    let state: Value = serde_json::from_str(ran.out.lines().next()?).ok()?;
    let at = &state["expanding"];
    let count = |name: &str| at[name].as_u64();
    Some(count("buckets_moved").zip(count("buckets_planned")))
}

#[test]
fn every_acknowledged_row_is_there_once_after_an_expansion_in_which_primary_and_coordinator_died() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let _agents = Agents::start(home);
    let small = file(home, 4);
    until(|| run(&["init", &small, "-a"]).code == Some(0));
    let kv =
        |arguments: &[&str]| run(&[&["kv"], arguments, &["--coordinator", COORDINATORS]].concat());
    let csv = |name: &str, rows: u32| {
        let pad = "x".repeat(60);
        let text: String = (0..rows).map(|row| format!("{name}{row:06},{row} {pad}\n")).collect();
        let path = home.join(format!("{name}.csv"));
        std::fs::write(&path, format!("id,value\n{text}")).unwrap();
        path.display().to_string()
    };
    let acks = |name: &str| home.join(name).display().to_string();
    let before = ["load", &csv("before", 15_000), "--key", "id", "--ack-log", &acks("one")];
    kv(&before).ok();
    let (rows, second) = (csv("while", 12_000), acks("two"));
    let load = ["kv", "load", &rows, "--key", "id", "--ack-log", &second, "--rate", "1500"];
    let whom = ["--timeout", "60", "--coordinator", COORDINATORS];
    let load = begin(&[&load[..], &whom].concat(), home);
    until(|| std::fs::read_to_string(&second).is_ok_and(|text| !text.is_empty()));

    run(&["expand", &file(home, 6), "-a", "--coordinator", COORDINATORS]).ok();
    let again = run(&["expand", &file(home, 6), "-a", "--coordinator", COORDINATORS]);
    assert_ne!(again.code, Some(0), "one is under way: {}", again.out);
    let mut killed_at = None;
    until(|| {
        killed_at = expanding().flatten();
        killed_at.is_some_and(|(moved, _)| moved > 0)
    });
    let (moved, planned) = killed_at.unwrap();
    assert!(moved < planned && planned == 340, "{moved} of {planned}");
    // The first content's primary, from which rows move, then the coordinator.
    kill(home, 1, 2);
    kill(home, 1, 1);
    let standby = ["activate-standby", "-a", "--standby", "127.0.8.2:5437"];
    until(|| run(&standby).code == Some(0));
    until(|| expanding() == Some(None));

    load.end().ok();
    let scanned = kv(&["scan", "--limit", "1000000"]).ok();
    let found: Vec<_> = scanned.lines().filter_map(|line| line.split('\t').next()).collect();
    let rows: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(found.len(), rows.len(), "no row is there twice");
    let mut acked = 0;
    for name in ["one", "two"] {
        for line in std::fs::read_to_string(home.join(name)).unwrap().lines() {
            let ack: Value = serde_json::from_str(line).unwrap();
            assert!(rows.contains(ack["key"].as_str().unwrap()), "lost: {line}");
            acked += 1;
        }
    }
    assert_eq!((acked, found.len()), (27_000, 27_000));
    assert_eq!(kv(&["count"]).ok().trim(), "27000");
    // All contents hold rows, each with its own share and nobody else's.
    let counts: Vec<u64> = ["127.0.8.5:6030", "127.0.8.6:6030"]
        .iter()
        .zip(["4", "5"])
        .map(|(at, content)| {
            let direct = ["kv", "count", "--direct", "--content", content, "--at", at];
            run(&direct).ok().trim().parse().unwrap()
        })
        .collect();
    assert!(counts.iter().all(|count| *count > 3_000), "{counts:?}");
}
