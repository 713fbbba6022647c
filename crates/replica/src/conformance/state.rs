//! Checks of what applying does: order, atomicity, idempotence, refusals, snapshots, hashes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use outrigger_wal::Lsn;
use outrigger_wal::format::RecordFlag;

use super::log::{Log, hash};
use super::{Factory, Failure, Run, Subject, ensure, ensure_eq};
use crate::store::KeyRange;

pub(super) const CHECKS: &[(&str, Run)] = &[
    ("later_records_win_over_earlier_ones", order),
    ("readers_see_whole_batches_and_never_go_back", atomicity),
    ("what_is_applied_is_not_applied_again", idempotence),
    ("a_run_that_breaks_the_contract_is_refused_whole", refusals),
    ("advancing_moves_the_applied_lsn_and_nothing_else", advance),
    ("stores_fed_alike_are_equal_however_the_log_is_cut", alike),
    ("a_snapshot_is_unmoved_by_what_is_applied_later", snapshots),
    ("pairs_come_in_key_order_and_ranges_add_up", ranges),
];

fn order(factory: &mut dyn Factory) -> Result<(), Failure> {
    let mut hashes = Vec::new();
    for values in [[1, 2], [2, 1], [2, 2]] {
        let store = factory.create()?;
        let mut log = Log::new();
        for value in values {
            log.one(factory.body(7, value));
        }
        store.state.apply(&log.records)?;
        ensure_eq!(store.state.applied(), log.end(), "applied LSN after a run");
        hashes.push(hash(&store)?);
    }
    ensure!(
        hashes[0] != hashes[1],
        "two records in either order give the same state"
    );
    ensure!(hashes[0] == hashes[2], "an overwritten record shows");
    Ok(())
}

fn atomicity(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 200);
    let expected = log.hashes(factory)?;
    let store = factory.create()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&store, &expected, &done));
        let mut applied = Ok(());
        for run in log.runs(3) {
            applied = applied.and_then(|()| store.state.apply(run));
        }
        done.store(true, Ordering::Release);
        let read = reader
            .join()
            .map_err(|_| Failure("the reader panicked".to_owned()))?;
        applied?;
        read
    })?;
    ensure_eq!(store.state.applied(), log.end(), "applied LSN");
    Ok(())
}

/// Takes hashes until told to stop; each must be the state behind some batch, none before the last.
fn read_until(
    store: &Subject,
    expected: &BTreeMap<Lsn, u128>,
    done: &AtomicBool,
) -> Result<(), Failure> {
    let mut last = Lsn::ZERO;
    loop {
        let stop = done.load(Ordering::Acquire);
        let applied = store.state.applied();
        let found = store.state.hash(&KeyRange::all())?;
        ensure!(
            found.at >= applied,
            "a snapshot at {} behind applied {applied}",
            found.at
        );
        ensure!(
            found.at >= last,
            "a reader went back from {last} to {}",
            found.at
        );
        let Some(hash) = expected.get(&found.at) else {
            return Err(Failure(format!(
                "a reader saw LSN {}, inside a batch",
                found.at
            )));
        };
        ensure!(
            *hash == found.hash,
            "what a reader saw at {} is not the state there",
            found.at
        );
        last = found.at;
        if stop {
            return Ok(());
        }
    }
}

fn idempotence(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 12);
    let store = factory.create()?;
    store.state.apply(&log.records)?;
    let once = hash(&store)?;
    store.state.apply(&log.records)?;
    ensure_eq!(hash(&store)?, once, "hash after the whole run came again");
    for run in log.runs(1) {
        store.state.apply(run)?;
        ensure_eq!(hash(&store)?, once, "hash after an old batch came again");
        ensure_eq!(
            store.state.applied(),
            log.end(),
            "applied LSN after an old batch came again"
        );
    }
    let other = factory.create()?;
    let half = log.runs(6).next().unwrap_or_default();
    other.state.apply(half)?;
    other.state.apply(&log.records)?;
    ensure_eq!(
        hash(&other)?,
        once,
        "hash after a run that overlaps what is applied"
    );
    Ok(())
}

fn refusals(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let log = Log::of_batches(factory, 4);
    let (first, rest) = log.records.split_at(3);
    store.state.apply(first)?;
    let before = hash(&store)?;
    let mut void = rest.to_vec();
    void[4].flag = RecordFlag::Void;
    let mut backwards = rest.to_vec();
    backwards.swap(3, 6);
    let (open, inside) = (&rest[..5], &log.records[1..3]);
    let mut half = inside.to_vec();
    half[1].end = rest[0].end;
    let runs = [
        ("a void", void.as_slice()),
        ("records out of order", backwards.as_slice()),
        ("an open batch", open),
        ("a batch applied in part", half.as_slice()),
    ];
    for (what, run) in runs {
        let refused = store.state.apply(run);
        let about_the_run = refused
            .as_ref()
            .is_err_and(|error| error.is_about_the_run());
        ensure!(
            about_the_run,
            "a run with {what} is not refused as such: {refused:?}"
        );
        ensure_eq!(
            hash(&store)?,
            before,
            "hash after a refused run with {what}"
        );
        ensure_eq!(
            store.state.applied(),
            first[2].end,
            "applied LSN after {what}"
        );
    }
    store.state.apply(rest)?;
    ensure_eq!(
        store.state.applied(),
        log.end(),
        "applied LSN after refusals"
    );
    Ok(())
}

fn advance(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let log = Log::of_batches(factory, 4);
    let (first, rest) = log.records.split_at(6);
    store.state.apply(first)?;
    let (before, at) = (hash(&store)?, store.state.applied());
    store.state.advance(Lsn(1));
    ensure_eq!(
        store.state.applied(),
        at,
        "applied LSN after advancing backwards"
    );
    store.state.advance(log.end());
    ensure_eq!(
        store.state.applied(),
        log.end(),
        "applied LSN after advancing"
    );
    store.state.apply(rest)?;
    ensure_eq!(
        hash(&store)?,
        before,
        "hash after records before the advanced LSN"
    );
    ensure_eq!(
        store.state.checkpoint()?,
        log.end(),
        "checkpoint after advancing"
    );
    let store = factory.crash(store)?;
    ensure_eq!(
        store.state.applied(),
        log.end(),
        "applied LSN after advancing and a crash"
    );
    ensure_eq!(hash(&store)?, before, "hash after advancing and a crash");
    Ok(())
}

fn alike(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 60);
    let mut hashes = Vec::new();
    for (batches, checkpoints) in [(60, false), (1, true), (7, true)] {
        let store = factory.create()?;
        for run in log.runs(batches) {
            store.state.apply(run)?;
            if checkpoints {
                store.state.checkpoint()?;
            }
        }
        hashes.push(store.state.hash(&KeyRange::all())?);
    }
    ensure_eq!(
        hashes[1],
        hashes[0],
        "hash of a store fed batch by batch, with checkpoints"
    );
    ensure_eq!(
        hashes[2],
        hashes[0],
        "hash of a store fed seven batches at a time"
    );
    let store = factory.create()?;
    let mut other = Log::of_batches(factory, 59);
    other.batch([factory.body(0, 0)]);
    store.state.apply(&other.records)?;
    ensure!(
        hash(&store)? != hashes[0].hash,
        "stores fed differently have one hash"
    );
    Ok(())
}

fn snapshots(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 40);
    let (first, rest) = log.records.split_at(60);
    let store = factory.create()?;
    store.state.apply(first)?;
    let (expected, at) = (hash(&store)?, store.state.applied());
    let early = store.state.snapshot(&KeyRange::all())?;
    let late = store.state.snapshot(&KeyRange::all())?;
    store.state.apply(rest)?;
    ensure_eq!(early.at(), at, "the LSN of a snapshot");
    ensure_eq!(
        early.into_hash()?.hash,
        expected,
        "a snapshot read after more was applied"
    );
    store.state.checkpoint()?;
    ensure_eq!(
        late.into_hash()?.hash,
        expected,
        "a snapshot read after a checkpoint"
    );
    Ok(())
}

fn ranges(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    store.state.apply(&Log::of_batches(factory, 20).records)?;
    let all = store
        .state
        .snapshot(&KeyRange::all())?
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(
        all.len() >= 2,
        "nine things were written, {} pairs exported",
        all.len()
    );
    ensure!(
        all.is_sorted_by(|a, b| a.0 < b.0),
        "pairs are not in ascending key order"
    );
    for at in 0..all.len() {
        let middle = &all[at].0;
        let low = KeyRange {
            from: KeyRange::all().from,
            to: Some(middle.clone()),
        };
        let high = KeyRange {
            from: middle.clone(),
            to: None,
        };
        let low = store.state.snapshot(&low)?.collect::<Result<Vec<_>, _>>()?;
        let high = store
            .state
            .snapshot(&high)?
            .collect::<Result<Vec<_>, _>>()?;
        ensure_eq!(low.as_slice(), &all[..at], "the pairs before pair {at}");
        ensure_eq!(high.as_slice(), &all[at..], "the pairs from pair {at} on");
    }
    Ok(())
}
