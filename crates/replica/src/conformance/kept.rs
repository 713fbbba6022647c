//! Checks of what survives: checkpoints, crashes, reopening, restoring.

use outrigger_wal::Lsn;

use super::log::{Log, hash};
use super::{Factory, Failure, Run, ensure, ensure_eq};
use crate::store::{KeyRange, Pair, StoreError};

pub(super) const CHECKS: &[(&str, Run)] = &[
    ("a_crash_falls_back_to_exactly_the_checkpoint", crashes),
    ("a_clean_reopening_finds_the_checkpoint", reopening),
    (
        "a_restored_store_equals_the_one_that_was_exported",
        restoring,
    ),
    ("an_interrupted_restore_leaves_nothing", half_restored),
];

fn crashes(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 60);
    let expected = log.hashes(factory)?;
    let mut store = factory.create()?;
    for (n, run) in log.runs(4).enumerate() {
        store.state.apply(run)?;
        if n % 3 == 1 {
            let at = store.state.checkpoint()?;
            ensure_eq!(
                at,
                store.state.applied(),
                "the LSN that a checkpoint returned"
            );
            ensure_eq!(
                store.state.checkpointed(),
                at,
                "the LSN that a store tells afterwards"
            );
        }
        let told = store.state.checkpointed();
        store = factory.crash(store)?;
        let found = store.state.applied();
        // At least: the store may have made a checkpoint by itself meanwhile.
        ensure!(
            found >= told,
            "after a crash applied is {found}, and {told} was told as durable"
        );
        ensure_eq!(
            store.state.checkpointed(),
            found,
            "checkpoint after a crash"
        );
        let hash = hash(&store)?;
        ensure!(
            expected.get(&found) == Some(&hash),
            "after a crash the state at {found} is not that of the log there"
        );
        // Replay from the log's start: what is there already is ignored.
        let replayed = log
            .records
            .iter()
            .take_while(|record| record.end <= run_end(run));
        let replayed: Vec<_> = replayed.cloned().collect();
        store.state.apply(&replayed)?;
    }
    ensure_eq!(
        store.state.applied(),
        log.end(),
        "applied LSN after crashes and replays"
    );
    let last = expected.get(&log.end()).copied();
    ensure_eq!(Some(hash(&store)?), last, "hash after crashes and replays");
    Ok(())
}

fn run_end(run: &[outrigger_wal::format::Record]) -> Lsn {
    run.last().map_or(Lsn::ZERO, |last| last.end)
}

fn reopening(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let store = factory.reopen(store)?;
    ensure_eq!(
        store.state.applied(),
        Lsn::ZERO,
        "applied LSN of an empty store"
    );
    let log = Log::of_batches(factory, 20);
    store.state.apply(&log.records)?;
    let (at, before) = (store.state.checkpoint()?, hash(&store)?);
    let store = factory.reopen(store)?;
    ensure_eq!(store.state.applied(), at, "applied LSN after reopening");
    ensure_eq!(hash(&store)?, before, "hash after reopening");
    ensure_eq!(store.state.checkpoint()?, at, "a checkpoint of nothing new");
    Ok(())
}

fn restoring(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 40);
    let (first, rest) = log.records.split_at(60);
    let source = factory.create()?;
    source.state.apply(first)?;
    let mut snapshot = source.state.snapshot(&KeyRange::all())?;
    let at = snapshot.at();
    let before = hash(&source)?;
    let copy = factory.create()?;
    copy.state.restore(at, &mut snapshot)?;
    ensure_eq!(copy.state.applied(), at, "applied LSN after restoring");
    ensure_eq!(copy.state.checkpointed(), at, "checkpoint after restoring");
    ensure_eq!(hash(&copy)?, before, "hash after restoring");
    let copy = factory.crash(copy)?;
    ensure_eq!(
        copy.state.applied(),
        at,
        "applied LSN after restoring and a crash"
    );
    ensure_eq!(hash(&copy)?, before, "hash after restoring and a crash");
    let again = copy
        .state
        .restore(at, &mut source.state.snapshot(&KeyRange::all())?);
    ensure!(
        again.is_err(),
        "a store that is not empty let itself be restored"
    );
    for store in [&source, &copy] {
        store.state.apply(rest)?;
    }
    ensure_eq!(hash(&copy)?, hash(&source)?, "hash after both went on");
    Ok(())
}

fn half_restored(factory: &mut dyn Factory) -> Result<(), Failure> {
    let log = Log::of_batches(factory, 20);
    let source = factory.create()?;
    source.state.apply(&log.records)?;
    let pairs: Vec<Pair> = source
        .state
        .snapshot(&KeyRange::all())?
        .collect::<Result<_, StoreError>>()?;
    let cut = pairs.len() / 2;
    let failing = pairs
        .iter()
        .take(cut)
        .cloned()
        .map(Ok)
        .chain(std::iter::once_with(|| {
            Err(StoreError::Source {
                cause: "the link broke".to_owned(),
            })
        }));
    let mut backwards = pairs.iter().rev().cloned().map(Ok);
    let copy = factory.create()?;
    let empty = hash(&copy)?;
    let failed = copy.state.restore(log.end(), &mut { failing });
    ensure!(failed.is_err(), "a restore whose source failed succeeded");
    ensure_eq!(
        copy.state.applied(),
        Lsn::ZERO,
        "applied LSN after a failed restore"
    );
    ensure_eq!(hash(&copy)?, empty, "hash after a failed restore");
    let failed = copy.state.restore(log.end(), &mut backwards);
    ensure!(failed.is_err(), "pairs in descending order were restored");
    let copy = factory.crash(copy)?;
    ensure_eq!(
        copy.state.applied(),
        Lsn::ZERO,
        "applied LSN after failed restores and a crash"
    );
    ensure_eq!(
        hash(&copy)?,
        empty,
        "hash after failed restores and a crash"
    );
    copy.state
        .restore(log.end(), &mut pairs.into_iter().map(Ok))?;
    ensure_eq!(hash(&copy)?, hash(&source)?, "hash after restoring at last");
    Ok(())
}
