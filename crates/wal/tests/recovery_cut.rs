//! Truncation at a fork: the same machinery as for a torn tail, from a place that the caller names.
//! The row numbers are those of docs/recovery.md.
#![expect(clippy::unwrap_used, reason = "helpers of a test, which may panic")]

mod support;

use std::collections::BTreeSet;

use outrigger_sim::disk::{SimDisk, SimDiskOptions};
use outrigger_wal::disk::FileId;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::recover::{Promises, RecoverOptions, Recovered, recover};
use outrigger_wal::{Error, Lsn};
use support::*;

/// A log over three segments that is to be cut in the middle, and where.
fn log_to_cut() -> (Sealer, Lsn) {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    log.promise_all();
    log.begin(2, HERE);
    let cut = log.at;
    while log.at.0 < 2 * SEGMENT {
        log.data(200_000);
        log.durable = log.at;
    }
    log.begin(3, HERE);
    log.data(100);
    (log, cut)
}

fn cut_at(log: &Sealer, cut: Lsn) -> RecoverOptions {
    let mut known = options(HERE, log.control());
    known.promises.durable = promise(3, log.at);
    known.cut = Some(cut);
    known
}

fn on_disk(log: &Sealer) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    disk
}

fn assert_cut(found: &Recovered, log: &Sealer, cut: Lsn) {
    let kept = log.blocks.iter().rfind(|block| block.end() == cut).unwrap();
    assert_eq!((found.end, found.hash), (cut, kept.hash_after()));
    assert!(found.epochs.iter().all(|entry| entry.start < cut));
    assert!(found.index.at_or_before(log.at).unwrap() < cut);
    assert!(!found.was_clean);
}

// R24
#[test]
fn a_cut_takes_everything_behind_it_and_keeps_it_aside() {
    let (log, cut) = log_to_cut();
    let mut disk = on_disk(&log);
    let found = recovered(&mut disk, &cut_at(&log, cut));
    assert_cut(&found, &log, cut);
    assert_eq!(found.segments, [0]);
    assert_eq!(found.torn, None);
    let saved = found.cut.expect("three segments went");
    assert_eq!((saved.from, saved.file), (cut, FileId::Saved(cut, 0)));
    let kept = snapshot(&mut disk)[&saved.file].clone();
    for block in log.blocks.iter().filter(|block| block.lsn() >= cut) {
        let at = usize::try_from(block.lsn().since(cut)).unwrap();
        assert_eq!(kept[at..at + block.stored().len()], block.stored()[..]);
    }
    // Without the cut pending, nothing is missed: the control file's promise was lowered with it.
    let mut known = options(HERE, log.control());
    known.promises.durable = promise(2, cut);
    assert_eq!(recovered(&mut disk, &known).end, cut);
}

// R24
#[test]
fn a_cut_at_any_block_leaves_the_log_up_to_there() {
    let (log, first) = log_to_cut();
    for cut in log.blocks.iter().map(|block| block.lsn()) {
        if cut >= first {
            let mut disk = on_disk(&log);
            assert_cut(&recovered(&mut disk, &cut_at(&log, cut)), &log, cut);
        }
    }
}

// R24
#[test]
fn a_cut_at_or_behind_the_end_takes_nothing() {
    let (log, _) = log_to_cut();
    for cut in [log.at, log.at.saturating_add(4096)] {
        let mut disk = on_disk(&log);
        let found = recovered(&mut disk, &cut_at(&log, cut));
        assert_eq!((found.end, found.cut), (log.at, None));
    }
}

// R24
#[test]
fn a_cut_within_a_block_or_below_the_commit_lsn_is_refused() {
    let (log, cut) = log_to_cut();
    let mut disk = on_disk(&log);
    let error = refused(&mut disk, &cut_at(&log, cut.saturating_add(8192)));
    assert!(matches!(error, Error::NotABoundary { .. }), "{error}");
    let below = log.blocks[1].lsn();
    let error = refused(&mut disk, &cut_at(&log, below));
    let Error::BelowCommit { to, commit } = error else {
        panic!("expected a refusal, not: {error}");
    };
    assert_eq!((to, commit), (below, log.commit));
}

// R24
#[test]
fn a_commit_lsn_is_never_cut_by_the_epoch_that_makes_the_cut() {
    let (log, cut) = log_to_cut();
    let mut disk = on_disk(&log);
    let mut known = cut_at(&log, cut);
    known.promises.commit = promise(2, cut.saturating_add(4096));
    known.promises.epochs.push(outrigger_wal::format::EpochEntry {
        epoch: outrigger_wal::Epoch { number: 4, nonce: 4 },
        start: cut,
        instance: THERE,
    });
    let error = refused(&mut disk, &known);
    assert!(matches!(error, Error::BelowCommit { .. }), "{error}");
}

// R24
#[test]
fn the_first_segments_head_is_never_cut() {
    let (log, _) = log_to_cut();
    let mut disk = on_disk(&log);
    run(&mut disk, outrigger_wal::disk::Io::Remove(FileId::Segment(0)));
    let error = refused(&mut disk, &cut_at(&log, Lsn(SEGMENT)));
    assert!(matches!(error, Error::Recycled { .. }), "{error}");
}

// R25
#[test]
fn damage_below_a_pending_cut_is_damage_and_behind_it_is_none() {
    let (log, cut) = log_to_cut();
    let mut disk = on_disk(&log);
    flip(&mut disk, cut.saturating_add(300), 0);
    let found = recovered(&mut disk, &cut_at(&log, cut));
    assert_eq!(found.end, cut);

    let mut disk = on_disk(&log);
    let below = log.blocks[2].lsn();
    flip(&mut disk, below, 0);
    let error = refused(&mut disk, &cut_at(&log, cut));
    assert_eq!(damage_at(&error), below);
}

// R25
#[test]
fn a_pending_cut_behind_a_torn_tail_is_none() {
    let mut log = Sealer::begun_by(HERE);
    let torn = log.data(5_000).lsn();
    let cut = log.data(5_000).end();
    log.data(5_000);
    let mut disk = on_disk(&log);
    flip(&mut disk, torn, 0);
    let mut known = options(HERE, log.control());
    known.cut = Some(cut);
    let found = recover(&mut disk, &known).unwrap().unwrap();
    assert_eq!((found.end, found.cut), (torn, None));
    assert_eq!(found.torn.map(|saved| saved.from), Some(torn));
}

// R25
#[test]
fn a_cut_removes_the_clean_mark() {
    let (log, cut) = log_to_cut();
    let mut disk = on_disk(&log);
    log.close(&mut disk);
    let found = recovered(&mut disk, &cut_at(&log, cut));
    assert_cut(&found, &log, cut);
    assert!(!snapshot(&mut disk).contains_key(&FileId::CleanMark));
}

// R31
#[test]
fn a_cut_that_nobody_remembers_is_whole_or_made_from_the_end_or_not_begun() {
    // A lone log has no control file in which a cut is pending: after a power cut before any operation
    // of it, recovery is not told. It finds the log up to some block at or behind the cut, never damage,
    // and what is gone does not come back.
    let (log, cut) = log_to_cut();
    let lone = options(HERE, Promises::default());
    let told = RecoverOptions { cut: Some(cut), ..lone.clone() };
    let mut ends = BTreeSet::new();
    for n in 0.. {
        let mut disk = SimDisk::new(SimDiskOptions::immediate(n));
        log.write(&mut disk);
        disk.crash_after(n);
        let outcome = recover(&mut disk.reopen(), &told);
        disk.power_cut();
        let found = recovered(&mut disk.reopen(), &lone);
        assert!(found.end >= cut, "step {n}: cut too far");
        let last = log.blocks.iter().rfind(|block| block.end() == found.end);
        let last = last.unwrap_or_else(|| panic!("step {n}: {} is no boundary", found.end));
        assert_eq!(found.hash, last.hash_after(), "step {n}");
        disk.power_cut();
        assert_eq!(recovered(&mut disk.reopen(), &lone).end, found.end, "step {n}");
        ends.insert(found.end);
        if outcome.is_ok() {
            assert_eq!(found.end, cut);
            break;
        }
    }
    assert!(ends.contains(&log.at) && ends.len() > 2, "{ends:?}");
}
