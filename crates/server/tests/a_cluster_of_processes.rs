//! Coordinator, primary and mirror as processes: rows, errors, a failover, and what is left on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;
use support::{Cluster, Process, ask, config, in_sync, more, run, until};

/// The records of a log by LSN: key and CRC-32 of the value.
fn puts(dir: &str) -> BTreeMap<u64, (String, u32)> {
    use base64::Engine;
    use outrigger_replica::store::kv::{Op, Write};
    let mut found = BTreeMap::new();
    for block in run(&["wal", "dump", dir, "--json", "--data"]).json() {
        for record in block["records"].as_array().unwrap() {
            let data = base64::prelude::BASE64_STANDARD.decode(record["data"].as_str().unwrap());
            let write = Write::decode(&data.unwrap().into()).unwrap();
            if let Op::Put { key, value } = write.op {
                let key = String::from_utf8(key.to_vec()).unwrap();
                found.insert(record["lsn"].as_u64().unwrap(), (key, crc32fast::hash(&value)));
            }
        }
    }
    found
}

/// The rows of a stopped copy.
fn rows(dir: &str) -> BTreeMap<String, String> {
    let lines = run(&["store", "dump", dir, "--json"]).json();
    assert!(lines[0]["applied_lsn"].as_u64().unwrap() > 0);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines[1..].iter().map(|row| (text(&row["key"]), text(&row["value"]))).collect()
}

#[test]
fn rows_are_written_read_and_loaded_and_each_ack_is_in_both_logs() {
    let cluster = Cluster::start();
    let kv = |arguments: &[&str]| cluster.ask(&[&["kv"], arguments].concat());
    assert!(kv(&["put", "a", "1"]).ok().starts_with("committed: epoch 1, LSN "));
    assert_eq!(kv(&["get", "a"]).ok(), "1\n");
    kv(&["put", "b", "2"]).ok();
    assert_eq!(kv(&["scan", "--from", "b"]).ok(), "b\t2\n");
    assert_eq!(kv(&["scan", "--limit", "1"]).ok(), "a\t1\n");
    kv(&["delete", "a"]).ok();
    assert_eq!(kv(&["get", "a"]).code, Some(1));
    assert_eq!(kv(&["count"]).ok(), "1\n");

    let (file, acks) = (cluster.path("rows.csv"), cluster.path("acks"));
    std::fs::write(&file, "id,name\nx,1\ny,2\nx,3\n").unwrap();
    let said = kv(&["load", &file, "--key", "id", "--ack-log", &acks]).ok();
    assert!(said.starts_with("3 of 3 rows committed") && said.contains("1 with a key"), "{said}");
    assert_eq!(kv(&["get", "x"]).ok(), "{\"id\":\"x\",\"name\":\"3\"}\n", "the last one wins");
    let error = kv(&["load", &file, "--key", "nope"]).error(2);
    assert!(error.contains("no column \"nope\"") && error.contains("id, name"), "{error}");
    std::fs::write(&file, "id,name\nz,1\nw\n").unwrap();
    assert!(kv(&["load", &file, "--key", "id"]).error(2).contains("line 3"));
    assert_eq!(kv(&["get", "z"]).code, Some(1), "a malformed file stores nothing");

    let state = cluster.ask(&["state", "--json"]).json();
    let copies = state[0]["contents"][0]["copies"].as_array().unwrap();
    assert_eq!(copies.iter().filter(|copy| copy["in_sync"] == true).count(), 2);
    assert!(cluster.ask(&["state"]).ok().contains("primary"));
    assert!(cluster.ask(&["promote"]).error(2).contains("alive"));
    let running = run(&["store", "dump", &cluster.path("one")]).error(2);
    assert!(running.contains("in use by process"), "{running}");

    let Cluster { home, coordinator, primary, mirror } = cluster;
    let acks: Vec<Value> = std::fs::read_to_string(&acks)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(acks.len(), 3);
    for process in [primary, mirror, coordinator] {
        assert_eq!(process.stop(), Some(0));
    }
    for copy in ["one", "two"] {
        let dir = home.path().join(copy).display().to_string();
        let sound = run(&["wal", "verify", &dir, "--json"]).json();
        assert_eq!((&sound[0]["sound"], &sound[0]["clean"]), (&true.into(), &true.into()));
        let log = puts(&dir);
        for ack in &acks {
            let (key, crc32) = &log[&ack["lsn"].as_u64().unwrap()];
            assert_eq!(
                (ack["key"].as_str().unwrap(), &ack["value_crc32"]),
                (&**key, &(*crc32).into())
            );
            assert_eq!(ack["epoch"], 1);
        }
    }
    let stored = rows(&home.path().join("one").display().to_string());
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["b", "x", "y"]);
    assert_eq!(stored["y"], "{\"id\":\"y\",\"name\":\"2\"}");
}

#[test]
fn a_load_that_ends_by_an_error_leaves_no_acknowledged_row_out_of_its_ack_log() {
    // The file is whole when it is checked, and gets a bad line while its rows go in.
    let cluster = Cluster::start();
    let (file, acks) = (cluster.path("rows.csv"), cluster.path("acks"));
    // Larger than what is read ahead, so that the end is read when the last row is due.
    let pad = "x".repeat(16 << 10);
    let rows: String = (0..40).map(|n| format!("{n},{pad}\n")).collect();
    std::fs::write(&file, format!("id,pad\n{rows}")).unwrap();
    let kv = ["kv", "load", &file, "--key", "id", "--ack-log", &acks, "--rate", "10"];
    let load = cluster.begin(&kv);
    until(|| std::fs::read_to_string(&acks).is_ok_and(|text| !text.is_empty()));
    let mut bad = std::fs::File::options().append(true).open(&file).unwrap();
    bad.write_all(b"no second field\n").unwrap();
    let error = load.end().error(2);
    assert!(error.contains("line 42: has 1 fields"), "{error}");
    // What is committed is in the log: each of the rows before that line.
    let acked = std::fs::read_to_string(&acks).unwrap().lines().count();
    let stored: usize = cluster.ask(&["kv", "count"]).ok().trim().parse().unwrap();
    assert_eq!((acked, stored), (40, 40));
}

#[test]
fn a_killed_primary_is_replaced_and_comes_back_by_what_it_missed() {
    let cluster = Cluster::start();
    cluster.ask(&["kv", "put", "before", "1"]).ok();
    let Cluster { home, coordinator, primary, mirror } = cluster;
    primary.kill();
    // A coordinator that was just started does not know yet who is alive.
    until(|| ask(&coordinator, &["promote"]).code == Some(0));
    let kv = |arguments: &[&str]| ask(&coordinator, &[&["kv"], arguments].concat()).ok();
    assert!(kv(&["put", "after", "2"]).starts_with("committed: epoch 2"));
    assert_eq!(kv(&["get", "before"]), "1\n");
    // It only waits, and says for what when that takes too long.
    let waited = ask(&coordinator, &["recover", "--timeout", "0.2"]).error(1);
    assert!(waited.contains("not in sync within 0.2 s"), "{waited}");
    // Without --init, and on another port.
    let again = config(home.path(), "one", &more(&coordinator));
    let old = Process::start("instance", &again, false);
    in_sync(&coordinator);
    kv(&["put", "both", "3"]);
    for process in [mirror, old, coordinator] {
        assert_eq!(process.stop(), Some(0));
    }
    let [one, two] = ["one", "two"].map(|copy| puts(home.path().join(copy).to_str().unwrap()));
    assert_eq!(one, two);
    assert_eq!(
        one.values().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["before", "after", "both"]
    );
}

#[test]
fn an_instance_whose_store_fails_ends_by_itself() {
    // The folder of its store is gone: what is in memory cannot be written when it has grown.
    let cluster = Cluster::start();
    std::fs::remove_dir_all(cluster.home.path().join("one/store")).unwrap();
    let pad = "x".repeat(200 << 10);
    let rows: String = (0..80).map(|n| format!("{n},{pad}\n")).collect();
    let file = cluster.path("rows.csv");
    std::fs::write(&file, format!("id,pad\n{rows}")).unwrap();
    // Whether all its rows go in before that does not matter.
    cluster.ask(&["kv", "load", &file, "--key", "id", "--timeout", "1"]);
    let Cluster { primary, .. } = cluster;
    assert_eq!(primary.ended(), Some(2));
}

#[test]
fn all_processes_killed_at_once_come_back_with_every_row() {
    let cluster = Cluster::start();
    cluster.ask(&["kv", "put", "a", "1"]).ok();
    let Cluster { home, coordinator, primary, mirror } = cluster;
    let port = coordinator.address.clone();
    for process in [coordinator, primary, mirror] {
        process.kill();
    }
    let path = config(home.path(), "c", "");
    let text = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0", &port);
    std::fs::write(&path, text).unwrap();
    let coordinator = Process::start("coordinator", &path, false);
    let _one = Process::start("instance", &home.path().join("one.toml"), false);
    let _two = Process::start("instance", &home.path().join("two.toml"), false);
    assert_eq!(ask(&coordinator, &["kv", "get", "a", "--timeout", "60"]).ok(), "1\n");
    in_sync(&coordinator);
}

#[test]
fn a_process_that_cannot_start_says_why_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let start = |verb: &str, path: &std::path::Path, init: bool| {
        let path = path.to_str().unwrap();
        let arguments: &[&str] = &[verb, "--config", path, "--init"];
        run(if init { arguments } else { &arguments[..3] })
    };
    let path = config(home.path(), "c", "");
    let error = start("coordinator", &path, false).error(2);
    assert!(error.contains("holds no instance") && error.contains("--init"), "{error}");
    std::fs::create_dir(home.path().join("c")).unwrap();
    let error = start("coordinator", &path, false).error(2);
    assert!(error.contains("holds no instance"), "an empty directory is a lost one: {error}");
    std::fs::write(home.path().join("c/mine"), "x").unwrap();
    assert!(start("coordinator", &path, true).error(2).contains("is not empty"));
    assert_eq!(std::fs::read(home.path().join("c/mine")).unwrap(), b"x");

    let typo = config(home.path(), "t", "lisen = \"x\"\n");
    let error = start("coordinator", &typo, true).error(2);
    assert!(error.contains("line 3: unknown key lisen; did you mean listen?"), "{error}");
    let error = start("instance", &home.path().join("none.toml"), true).error(2);
    assert!(error.contains("none.toml: cannot be read"), "{error}");

    let coordinator = Process::start("coordinator", &config(home.path(), "k", ""), true);
    let second = run(&["coordinator", "--config", home.path().join("k.toml").to_str().unwrap()]);
    assert!(second.error(2).contains("in use by process"));
    let taken = config(home.path(), "p", "");
    let text =
        std::fs::read_to_string(&taken).unwrap().replace("127.0.0.1:0", &coordinator.address);
    std::fs::write(&taken, text).unwrap();
    let error = start("coordinator", &taken, true).error(2);
    assert!(error.contains(&coordinator.address) && error.contains("listened on"), "{error}");
    assert!(!home.path().join("p").exists(), "nothing was made");
}

#[test]
fn nobody_to_ask_is_an_error_and_not_a_wait_without_end() {
    let nobody = ["--coordinator", "127.0.0.1:1", "--timeout", "0.3"];
    for verb in [&["state"][..], &["promote"], &["recover"]] {
        let error = run(&[verb, &nobody].concat()).error(2);
        assert!(error.contains("127.0.0.1:1: the coordinator cannot be asked"), "{error}");
    }
    let error = run(&[&["kv", "get", "a"][..], &nobody].concat()).error(2);
    assert!(error.contains("no primary answered"), "{error}");
}

#[test]
fn rows_are_spread_over_contents_and_each_can_be_asked_straight_without_a_coordinator() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Process::start("coordinator", &config(home.path(), "c", ""), true);
    let instance = |name: &str, content: u32| {
        let keys = format!("{}content = {content}\n", more(&coordinator));
        Process::start("instance", &config(home.path(), name, &keys), true)
    };
    let primaries = [instance("zero", 0), instance("one", 1)];
    // The first content held all rows; the second one gets its share by moves.
    until(|| {
        let history = ask(&coordinator, &["catalog", "gp_configuration_history", "--json"]);
        history.out.contains("expansion ended: 512 buckets")
    });
    let file = home.path().join("rows.csv");
    let rows: String = (0..100).map(|n| format!("{n:03},{n}\n")).collect();
    std::fs::write(&file, format!("id,n\n{rows}")).unwrap();
    let acks = home.path().join("acks").display().to_string();
    let load = ["kv", "load", &file.display().to_string(), "--key", "id", "--ack-log", &acks];
    ask(&coordinator, &load).ok();
    assert_eq!(ask(&coordinator, &["kv", "count"]).ok(), "100\n");
    let scanned = ask(&coordinator, &["kv", "scan"]).ok();
    let keys: Vec<_> = scanned.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(keys, (0..100).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    // Where each row is, as its acknowledgement says.
    let acks = std::fs::read_to_string(&acks).unwrap();
    let acks = acks.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut on = [Vec::new(), Vec::new()];
    for ack in acks {
        let content = usize::try_from(ack["content"].as_u64().unwrap()).unwrap();
        on[content].push(ack["key"].as_str().unwrap().to_owned());
    }
    coordinator.kill();
    for (content, (keys, primary)) in on.iter().zip(&primaries).enumerate() {
        assert!(!keys.is_empty(), "content {content} holds no row");
        let number = content.to_string();
        let straight = ["--direct", "--content", &number, "--at", &primary.address];
        let count = run(&[&["kv", "count"][..], &straight].concat()).ok();
        assert_eq!(count.trim().parse(), Ok(keys.len()));
        run(&[&["kv", "get", &keys[0]][..], &straight].concat()).ok();
        run(&[&["kv", "put", &keys[0], "again"][..], &straight].concat()).ok();
    }
    let error = run(&["kv", "get", "000", "--content", "0"]);
    assert_eq!(error.code, Some(2), "a content is named with --direct alone: {}", error.err);
}
