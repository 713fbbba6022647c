//! The control file when one of its slots rots: scripted runs (docs/failover.md lists them).

mod scripted;

use outrigger_replica::control::{Control, ControlError};
use outrigger_sim::cluster::Cluster;
use outrigger_sim::disk::SimDisk;
use outrigger_wal::disk::{DiskExt, FileId, IoFault};
use scripted::{comes_together, serving, write_some};

/// What is left of a node's disk when its power goes now.
fn left(cluster: &Cluster, node: usize, seed: u64) -> SimDisk {
    let disk = cluster.disk(node).copy(seed);
    disk.power_cut();
    let disk = disk.reopen();
    disk.set_immediate(true);
    disk
}

fn read(disk: &mut SimDisk) -> Result<Control, ControlError> {
    Control::read(&mut disk.blocking()).map(|(_, control)| control)
}

/// The mirror is back in sync: it promised so, and the authority recorded it for that. At this very moment
/// its power goes and one slot of its control file rots, the newer one or the other: it must still know
/// that commits wait for it (S4), and in which epoch it answered (S0).
#[test]
fn a_promise_outlives_either_slot() {
    for seed in 0..20 {
        let mut cluster = serving(seed);
        cluster.kill(1);
        assert!(cluster.run_while(5_000, |c| c.in_sync(1)), "{:?}", cluster.violation());
        cluster.kill(0);
        cluster.restart(0);
        cluster.restart(1);
        assert!(cluster.run_while(9_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        for slot in [0, 1] {
            let mut disk = left(&cluster, 1, seed);
            assert!(disk.flip_bit(FileId::Control(slot), 40 + seed, 3));
            let control = read(&mut disk).unwrap();
            assert!(control.in_sync, "seed {seed}, slot {slot}: it forgot that it is in sync");
            assert_eq!(control.epoch, cluster.config().epoch, "seed {seed}, slot {slot}");
        }
    }
}

/// Each copy loses a slot while it is down, and goes on where it was, through a takeover as well.
#[test]
fn a_copy_goes_on_with_either_slot() {
    for (seed, slot) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut cluster = serving(seed);
        write_some(&mut cluster, 0, 3);
        cluster.kill(1);
        cluster.run_millis(50);
        assert!(cluster.rot_control(1, slot));
        assert!(!cluster.rot_control(1, 1 - slot), "the only slot that is left");
        cluster.restart(1);
        assert!(cluster.run_while(9_000, |c| !c.in_sync(1)), "{:?}", cluster.violation());
        cluster.run_millis(300);
        cluster.cut_power(0);
        assert!(cluster.rot_control(0, slot));
        cluster.promote_to(1);
        assert!(cluster.run_while(9_000, |c| !c.is_serving(1)), "{:?}", cluster.violation());
        cluster.restart(0);
        comes_together(cluster);
    }
}

/// A process was killed and another one takes over: what it reads may be in the page cache alone. It writes
/// both slots again before it acts, and whenever the power goes meanwhile, a whole slot is left.
#[test]
fn what_is_read_back_after_a_kill_is_made_durable_in_both_slots_before_it_counts() {
    for seed in 0..200 {
        let mut cluster = serving(seed);
        assert!(cluster.append(0, 3_000));
        cluster.promote_to(1);
        cluster.run_millis(seed % 13);
        cluster.kill(1);
        let mut disk = cluster.disk(1).copy(seed).reopen();
        disk.set_immediate(true);
        let before = read(&mut disk).unwrap();
        disk.crash_after(seed % 4);
        let opened = Control::open(&mut disk.blocking());
        disk.power_cut();
        let mut disk = disk.reopen();
        let after = read(&mut disk).unwrap();
        if opened.is_ok() {
            assert_eq!(after, before, "seed {seed}");
            for slot in [0, 1] {
                let disk = disk.copy(seed);
                assert!(disk.flip_bit(FileId::Control(slot), 30, 1));
                assert_eq!(read(&mut disk.reopen()).unwrap(), before, "seed {seed}");
            }
        }
    }
}

/// With both slots bad a copy cannot tell what it promised. It says which files those are.
#[test]
fn two_bad_slots_are_refused_by_name() {
    let mut cluster = serving(1);
    cluster.kill(1);
    let mut disk = left(&cluster, 1, 1);
    for slot in [0, 1] {
        assert!(disk.flip_bit(FileId::Control(slot), 50, 1));
    }
    let text = read(&mut disk).unwrap_err().to_string();
    assert!(text.contains("control-0") && text.contains("control-1"), "{text}");
    let mut disk = left(&cluster, 1, 1);
    assert!(disk.break_sector(FileId::Control(0), 0) && disk.break_sector(FileId::Control(1), 0));
    let error = read(&mut disk).unwrap_err();
    assert!(
        matches!(&error, ControlError::Io(IoFault::Failed { file, .. }) if file.contains("control-"))
    );
}

/// Every bit of a slot: none is believed, none keeps the other slot from being read.
#[test]
fn any_single_bit_of_a_slot_may_flip() {
    let mut cluster = serving(2);
    cluster.kill(1);
    let mut whole = left(&cluster, 1, 2);
    let before = read(&mut whole).unwrap();
    let bytes = whole.file_bytes(FileId::Control(0)).unwrap();
    for at in 0..before.encode(1).len() as u64 {
        for bit in 0..8 {
            assert!(whole.flip_bit(FileId::Control(0), at, bit));
            assert_eq!(read(&mut whole).unwrap(), before, "byte {at}, bit {bit}");
            assert!(whole.flip_bit(FileId::Control(0), at, bit));
        }
    }
    assert_eq!(whole.file_bytes(FileId::Control(0)).unwrap(), bytes);
}

/// A slot that is gone, or that the device cannot read, is made again at the next opening.
#[test]
fn a_slot_that_is_gone_or_unreadable_is_made_again() {
    for slot in [0, 1] {
        let mut cluster = serving(3);
        cluster.kill(1);
        let mut disk = left(&cluster, 1, 3);
        let before = read(&mut disk).unwrap();
        if slot == 0 {
            disk.remove_file(FileId::Control(slot));
        } else {
            assert!(disk.break_sector(FileId::Control(slot), 0));
        }
        assert_eq!(Control::open(&mut disk.blocking()).unwrap().1, before);
        assert!(disk.flip_bit(FileId::Control(1 - slot), 60, 2));
        assert_eq!(read(&mut disk).unwrap(), before);
    }
}
