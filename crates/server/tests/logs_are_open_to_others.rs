//! `wal dump` and `wal verify`: what others need to check a log without our code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrigger_wal::{Appended, Wal, WalOptions};
use serde_json::Value;
use support::{BINARY, run};

/// A closed log of these records, each in a block of its own, and where they are.
fn log(dir: &Path, records: &[&[u8]]) -> Vec<Appended> {
    let options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    let wal = Wal::open(dir, &options).unwrap();
    let places = records
        .iter()
        .map(|record| {
            let at = wal.append(record).unwrap();
            wal.wait_durable(at.end).blocking().unwrap();
            at
        })
        .collect();
    wal.close().unwrap();
    places
}

fn records(blocks: &[Value]) -> Vec<Value> {
    blocks.iter().flat_map(|block| block["records"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_dump_has_every_record_at_its_place_with_its_bytes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("wal");
    let bodies: [&[u8]; 4] = [b"one", b"", b"\xFF\x00", &[7; 5000]];
    let places = log(&dir, &bodies);
    // A data directory and the lone folder are the same to it.
    for given in [home.path(), &dir] {
        let given = given.to_str().unwrap();
        let blocks = run(&["wal", "dump", given, "--json", "--data"]).json();
        let found = records(&blocks);
        assert_eq!(found.len(), bodies.len());
        for ((record, place), body) in found.iter().zip(&places).zip(bodies) {
            assert_eq!(record["lsn"], place.start.0);
            assert_eq!(record["end"], place.end.0);
            assert_eq!(record["len"], body.len());
            assert_eq!(record["crc32"], crc32fast::hash(body));
            assert_eq!(record["data"], BASE64_STANDARD.encode(body));
        }
        let mut end = 0;
        for block in &blocks {
            assert_eq!(block["lsn"], end, "blocks lie one behind the other");
            end = block["end"].as_u64().unwrap();
            assert!(block["epoch"].is_u64() && block["stored_len"].as_u64().unwrap() >= 96);
        }
        assert_eq!(blocks[0]["kind"], "segment_head");
    }
}

#[test]
fn a_dump_begins_where_it_is_told_and_ends_when_it_is_enough() {
    let home = tempfile::tempdir().unwrap();
    let places = log(home.path(), &[b"one", b"two", b"three"]);
    let dir = home.path().to_str().unwrap();
    let second = places[1].start;
    for from in [second.0.to_string(), second.to_string()] {
        let blocks = run(&["wal", "dump", dir, "--json", "--from", &from, "--limit", "1"]).json();
        assert_eq!(blocks.len(), 1);
        assert_eq!(records(&blocks)[0]["lsn"], second.0);
        assert!(records(&blocks)[0].get("data").is_none(), "bytes only when asked for");
    }
    let text = run(&["wal", "dump", dir]);
    assert!(text.err.contains("the log ends at"));
    assert!(text.ok().contains("segment_head"));
}

#[test]
fn what_was_recycled_is_an_error_that_says_where_the_log_begins() {
    let home = tempfile::tempdir().unwrap();
    let options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    let wal = Wal::open(home.path(), &options).unwrap();
    for _ in 0..12 {
        let at = wal.append(&[1; 200_000]).unwrap();
        wal.wait_durable(at.end).blocking().unwrap();
    }
    let start = wal.delete_below(wal.durable()).unwrap();
    wal.close().unwrap();
    assert!(start.0 >= 1 << 20);
    let dir = home.path().to_str().unwrap();
    let error = run(&["wal", "dump", dir, "--from", "4096"]).error(2);
    assert!(error.contains("recycled") && error.contains(&start.0.to_string()), "{error}");
    let first = run(&["wal", "dump", dir, "--json", "--limit", "1"]).json();
    assert_eq!(first[0]["lsn"], start.0, "without --from it begins where the log does");
}

#[test]
fn a_sound_log_is_told_from_one_with_a_flipped_bit() {
    let home = tempfile::tempdir().unwrap();
    let places = log(home.path(), &[b"one", b"two"]);
    let dir = home.path().to_str().unwrap();
    let sound = run(&["wal", "verify", dir, "--json"]).json();
    assert_eq!(sound[0]["sound"], true);
    assert_eq!(sound[0]["clean"], true);
    assert_eq!(sound[0]["records"], 2);
    assert!(run(&["wal", "verify", dir]).ok().contains(": sound: 2 records"));

    let segment = home.path().join("0000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[usize::try_from(places[1].start.0).unwrap() + 2] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let broken = run(&["wal", "verify", dir, "--json"]);
    assert_eq!(broken.code, Some(1));
    let broken: Value = serde_json::from_str(&broken.out).unwrap();
    assert_eq!(broken["sound"], false);
    let finding = &broken["findings"][0];
    assert_eq!(finding["segment"], "0000000000000000.seg");
    assert_eq!(finding["lsn"], places[1].start.0 / 4096 * 4096);
    assert!(!finding["cause"].as_str().unwrap().is_empty());
    let text = run(&["wal", "verify", dir]);
    assert_eq!(text.code, Some(1));
    assert!(text.out.contains("NOT SOUND") && text.out.contains("0000000000000000.seg"));
    // The good blocks before it are dumped, then it is an error.
    let dump = run(&["wal", "dump", dir, "--json"]);
    assert_eq!(dump.code, Some(1));
    assert!(!dump.out.is_empty() && dump.err.contains("damaged at LSN"), "{}", dump.err);
}

#[test]
fn what_is_no_log_is_an_error_that_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_str().unwrap();
    let missing = home.path().join("none");
    for verb in ["dump", "verify"] {
        let error = run(&["wal", verb, missing.to_str().unwrap()]).error(2);
        assert!(error.contains("none: cannot be read") && error.contains("check the path"));
    }
    let error = run(&["wal", "verify", dir]).error(2);
    assert!(error.contains("holds no log") && error.contains("give a data directory"), "{error}");
    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = run(&["wal", "dump", file.to_str().unwrap()]).error(2);
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn a_reader_that_has_enough_ends_a_dump_quietly() {
    let home = tempfile::tempdir().unwrap();
    let body = vec![1; 100_000];
    log(home.path(), &[body.as_slice(); 8]);
    let mut child = Command::new(BINARY)
        .args(["wal", "dump", home.path().to_str().unwrap(), "--json", "--data"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(err, "");
}
