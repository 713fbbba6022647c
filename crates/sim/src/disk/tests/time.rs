//! Simulated time, order, and runs that can be repeated.

use std::collections::BTreeSet;

use outrigger_wal::Micros;
use outrigger_wal::disk::{Disk, OpId};

use super::super::{FaultRates, Latency};
use super::*;
use crate::rng::Rng;

#[test]
fn operations_take_the_time_they_are_given() {
    let mut disk = with_file(1);
    disk.set_immediate(false);
    let latency = Latency { sync_micros: 500..501, slow_per_mille: 0, ..Latency::default() };
    disk.set_latency(latency);
    disk.advance(Micros(1000));
    assert_eq!(disk.next_due(), None);
    disk.submit(OpId(7), write_io(0, vec![2; 4096], true));
    assert_eq!(disk.next_due(), Some(Micros(1500)));
    let mut completions = Vec::new();
    disk.advance(Micros(1499));
    disk.reap(None, &mut completions);
    assert_eq!(completions, []);
    assert_eq!(content(&disk)[0], 1);
    disk.advance(Micros(1500));
    disk.reap(None, &mut completions);
    assert_eq!(completions, [(OpId(7), Ok(IoDone::Done))]);
    assert_eq!(content(&disk)[0], 2);
    assert_eq!(disk.next_due(), None);
}

#[test]
fn operations_in_flight_complete_in_any_order() {
    for immediate in [false, true] {
        let mut orders = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = with_file(seed);
            disk.set_immediate(immediate);
            for op in 0..3 {
                disk.submit(OpId(op), write_io(op * 4096, "x", true));
            }
            disk.advance(Micros(1_000_000));
            let mut completions = Vec::new();
            disk.reap(None, &mut completions);
            orders.insert(completions.into_iter().map(|(op, _)| op).collect::<Vec<_>>());
        }
        assert_eq!(orders.len(), 6);
    }
}

/// A run of random operations, crashes and faults.
fn random_run(seed: u64) -> SimDisk {
    let options = SimDiskOptions {
        faults: FaultRates {
            read_per_mille: 20,
            write_per_mille: 20,
            sync_per_mille: 20,
            name_per_mille: 20,
        },
        capacity_bytes: Some(400_000),
        ..SimDiskOptions::new(seed)
    };
    let mut disk = SimDisk::new(options);
    let mut rng = Rng::new(seed).fork("load");
    let mut now = Micros(0);
    let mut completions = Vec::new();
    for op in 0..400 {
        let file = FileId::Segment(rng.below(4));
        let at = rng.below(20) * 4096;
        let io = match rng.below(12) {
            0 | 1 => Io::Create(file),
            2 => Io::Rename(file, FileId::Segment(rng.below(4))),
            3 => Io::Remove(file),
            4 => Io::SyncDir(outrigger_wal::disk::Dir::Log),
            5 => Io::Sync(file),
            6 => Io::Zero { file, at, len: rng.below(40_000) },
            7 => Io::Read { file, at, len: 4096 },
            _ => {
                let parts = vec![rng.u128().to_le_bytes().repeat(100).into()];
                Io::Write { file, at, parts, dsync: rng.chance(500) }
            }
        };
        disk.submit(OpId(op), io);
        now = now.plus(rng.below(300));
        disk.advance(now);
        disk.reap(None, &mut completions);
        match rng.below(100) {
            0 => drop(disk.kill()),
            1 => drop(disk.power_cut()),
            2 => disk.crash_after(rng.below(5)),
            _ if !disk.is_crashed() => continue,
            _ => drop(disk.power_cut()),
        }
        disk = disk.reopen();
    }
    disk
}

#[test]
fn one_seed_is_one_run() {
    let mut hashes = BTreeSet::new();
    for seed in 0..20 {
        let (one, two) = (random_run(seed), random_run(seed));
        assert_eq!(one.trace_hash(), two.trace_hash());
        assert_eq!(one.operations(), two.operations());
        assert_eq!(one.files(), two.files());
        for file in one.files() {
            assert_eq!(one.file_bytes(file), two.file_bytes(file));
            assert_eq!(one.durable_bytes(file), two.durable_bytes(file));
        }
        hashes.insert(one.trace_hash());
    }
    assert_eq!(hashes.len(), 20);
}

#[test]
fn the_trace_of_a_seed_is_the_same_in_every_build() {
    // Another model of the disk has another number; another build must not.
    assert_eq!(random_run(1).trace_hash(), 16_601_834_917_378_786_753);
}

#[test]
fn contents_are_part_of_the_trace() {
    let hash = |value| {
        let mut disk = with_file(1);
        fill(&mut disk, 0, 64, value);
        disk.trace_hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
