//! The conformance suite can fail: for each of its checks there is a store that breaks just that
//! promise, and the check finds it.

mod store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use outrigger_replica::conformance::{self, Factory, Subject};
use outrigger_replica::store::kv::{self, ClientId, Holdings, Op, Outcome, OutcomeLimits, Write};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{KeyRange, Pair, Partition, Rows, Snapshot, StateStore, StoreError};
use outrigger_wal::Lsn;
use outrigger_wal::format::{Record, RecordFlag};
use parking_lot::Mutex;
use store_support::put;

/// What a store does wrong, and the check that must find it.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::SwapsNeighbours, "later_records_win_over_earlier_ones"),
    (Fault::ShowsHalfABatch, "readers_see_whole_batches_and_never_go_back"),
    (Fault::AppliesAgain, "what_is_applied_is_not_applied_again"),
    (Fault::TakesAnyRun, "a_run_that_breaks_the_contract_is_refused_whole"),
    (Fault::IgnoresAdvance, "advancing_moves_the_applied_lsn_and_nothing_else"),
    (Fault::CountsRuns, "stores_fed_alike_are_equal_however_the_log_is_cut"),
    (Fault::ReadsSnapshotsLate, "a_snapshot_is_unmoved_by_what_is_applied_later"),
    (Fault::IgnoresRanges, "pairs_come_in_key_order_and_ranges_add_up"),
    (Fault::KeepsWhatWasNotDurable, "a_crash_falls_back_to_exactly_the_checkpoint"),
    (Fault::LosesTheCheckpoint, "a_crash_falls_back_to_exactly_the_checkpoint"),
    (Fault::LosesTheCheckpoint, "a_clean_reopening_finds_the_checkpoint"),
    (Fault::RestoresAllButOne, "a_restored_store_equals_the_one_that_was_exported"),
    (Fault::KeepsHalfARestore, "an_interrupted_restore_leaves_nothing"),
    (Fault::HidesEmptyRows, "rows_are_read_as_they_were_written"),
    (Fault::ScansFromBehind, "scans_page_through_all_rows_in_order"),
    (Fault::ForgetsNames, "a_named_write_takes_effect_at_most_once"),
    (Fault::IgnoresSettling, "a_settled_write_never_takes_effect"),
    (Fault::SettlesAnything, "settling_does_not_undo_what_was_applied"),
    (Fault::SplitsBatches, "a_batch_takes_effect_whole_or_not_at_all"),
    (Fault::ForgetsOutcomesInACrash, "outcomes_survive_crashes_and_restores"),
    (Fault::CallsTooOldUnknown, "outcomes_beyond_the_window_are_in_doubt"),
    (Fault::Forgives, "errors_are_sticky_and_reading_goes_on"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    SwapsNeighbours,
    ShowsHalfABatch,
    AppliesAgain,
    TakesAnyRun,
    IgnoresAdvance,
    CountsRuns,
    ReadsSnapshotsLate,
    IgnoresRanges,
    KeepsWhatWasNotDurable,
    LosesTheCheckpoint,
    RestoresAllButOne,
    KeepsHalfARestore,
    HidesEmptyRows,
    ScansFromBehind,
    ForgetsNames,
    IgnoresSettling,
    SettlesAnything,
    SplitsBatches,
    ForgetsOutcomesInACrash,
    CallsTooOldUnknown,
    Forgives,
}

struct Broken {
    fault: Fault,
    inner: Arc<MemoryStore>,
    /// Is a record behind.
    behind: MemoryStore,
    settled: Mutex<BTreeMap<(ClientId, u64), Lsn>>,
    runs: AtomicU64,
}

impl Broken {
    fn new(fault: Fault, inner: MemoryStore) -> Self {
        Self {
            fault,
            inner: Arc::new(inner),
            behind: MemoryStore::default(),
            settled: Mutex::default(),
            runs: AtomicU64::new(0),
        }
    }

    /// The run as this store takes it; `None`: it is refused.
    fn garble(&self, run: &[Record]) -> Result<Vec<Record>, StoreError> {
        let mut run = run.to_vec();
        match self.fault {
            Fault::SwapsNeighbours => {
                for pair in run.chunks_exact_mut(2) {
                    let (first, second) = pair.split_at_mut(1);
                    std::mem::swap(&mut first[0].body, &mut second[0].body);
                }
            }
            Fault::AppliesAgain => {
                let moved = self.inner.applied().0;
                for record in &mut run {
                    record.lsn.0 += moved;
                    record.end.0 += moved;
                }
            }
            Fault::CountsRuns => {
                let count = self.runs.fetch_add(1, Ordering::Relaxed).to_string();
                if let Some(last) = run.last_mut() {
                    last.body = put(Bytes::from_static(b"runs"), count);
                }
            }
            Fault::SplitsBatches => {
                run.iter_mut().for_each(|record| record.flag = RecordFlag::Record);
            }
            Fault::ForgetsNames | Fault::IgnoresSettling | Fault::SettlesAnything => {
                run.iter_mut().for_each(|record| self.rename(record));
            }
            Fault::Forgives => {
                for record in &run {
                    Write::decode(&record.body)
                        .map_err(|cause| StoreError::Record { lsn: record.lsn, cause })?;
                }
            }
            _ => {}
        }
        Ok(run)
    }

    fn rename(&self, record: &mut Record) {
        let Ok(mut write) = Write::decode(&record.body) else {
            return;
        };
        match self.fault {
            Fault::ForgetsNames if write.op != Op::Settle => write.client = ClientId::NONE,
            Fault::IgnoresSettling if write.op == Op::Settle => write.client = ClientId(1),
            Fault::SettlesAnything if write.op == Op::Settle => {
                self.settled.lock().insert((write.client, write.sequence), record.end);
            }
            _ => {}
        }
        record.body = write.encode().unwrap_or_default();
    }
}

impl StateStore for Broken {
    fn partition(&self, record: &Record) -> Partition {
        self.inner.partition(record)
    }

    fn apply(&self, run: &[Record]) -> Result<(), StoreError> {
        let mut run = self.garble(run)?;
        let applied = self.inner.apply(&run);
        run.pop();
        if let Some(last) = run.last_mut() {
            last.flag = RecordFlag::Record;
        }
        if self.fault == Fault::ShowsHalfABatch {
            self.behind.apply(&run)?;
        }
        match applied {
            Err(error) if error.is_about_the_run() && self.fault == Fault::TakesAnyRun => Ok(()),
            applied => applied,
        }
    }

    fn applied(&self) -> Lsn {
        self.inner.applied()
    }

    fn advance(&self, to: Lsn) {
        if self.fault != Fault::IgnoresAdvance {
            self.inner.advance(to);
        }
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        self.inner.checkpoint()
    }

    fn checkpointed(&self) -> Lsn {
        self.inner.checkpointed()
    }

    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError> {
        match self.fault {
            Fault::ShowsHalfABatch => self.behind.snapshot(range),
            Fault::IgnoresRanges => self.inner.snapshot(&KeyRange::all()),
            Fault::ReadsSnapshotsLate => {
                let (inner, range) = (Arc::clone(&self.inner), range.clone());
                let late = std::iter::once_with(move || inner.snapshot(&range));
                Ok(Snapshot::new(self.inner.applied(), late.flatten().flatten()))
            }
            _ => self.inner.snapshot(range),
        }
    }

    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut failed = Ok(());
        let mut taken: Vec<Pair> = Vec::new();
        for pair in pairs {
            match pair {
                Ok(pair) => taken.push(pair),
                Err(error) => failed = Err(error),
            }
        }
        match self.fault {
            Fault::RestoresAllButOne => drop(taken.pop()),
            Fault::KeepsHalfARestore => {}
            _ => failed.clone()?,
        }
        self.inner.restore(at, &mut taken.into_iter().map(Ok))?;
        failed
    }
}

impl Rows for Broken {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.inner.get(key)?;
        Ok(value.filter(|value| self.fault != Fault::HidesEmptyRows || !value.is_empty()))
    }

    fn scan(&self, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut from = from.to_vec();
        if self.fault == Fault::ScansFromBehind {
            from.push(0);
        }
        self.inner.scan(&from, limit)
    }

    fn count(&self) -> Result<u64, StoreError> {
        self.inner.count()
    }

    fn outcome(&self, client: ClientId, sequence: u64) -> Outcome {
        if let Some(end) = self.settled.lock().get(&(client, sequence)) {
            return Outcome::Refused { end: *end };
        }
        match self.inner.outcome(client, sequence) {
            Outcome::TooOld if self.fault == Fault::CallsTooOldUnknown => Outcome::Unknown,
            outcome => outcome,
        }
    }

    fn holdings(&self) -> &Holdings {
        self.inner.holdings()
    }
}

struct BrokenStores {
    fault: Fault,
    stores: BTreeMap<u64, Arc<Broken>>,
}

impl BrokenStores {
    fn hand_out(&mut self, id: u64, inner: MemoryStore) -> Subject {
        let store = Arc::new(Broken::new(self.fault, inner));
        self.stores.insert(id, Arc::clone(&store));
        Subject { id, state: store.clone(), rows: Some(store) }
    }
}

impl Factory for BrokenStores {
    fn create(&mut self) -> Result<Subject, StoreError> {
        let id = self.stores.len() as u64;
        Ok(self.hand_out(id, MemoryStore::new(OutcomeLimits::default())))
    }

    fn reopen(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        self.crash(subject)
    }

    fn crash(&mut self, subject: Subject) -> Result<Subject, StoreError> {
        let before = Arc::clone(&self.stores[&subject.id].inner);
        let found = match self.fault {
            Fault::LosesTheCheckpoint => MemoryStore::default(),
            Fault::KeepsWhatWasNotDurable => {
                let found = MemoryStore::default();
                let mut pairs = before.snapshot(&KeyRange::all())?;
                found.restore(before.checkpointed(), &mut pairs)?;
                found
            }
            Fault::ForgetsOutcomesInACrash => {
                let (kept, found) = (before.crash(), MemoryStore::default());
                found.restore(kept.applied(), &mut kept.snapshot(&kv::rows())?)?;
                found
            }
            _ => before.crash(),
        };
        Ok(self.hand_out(subject.id, found))
    }
}

#[test]
fn every_check_finds_a_store_that_breaks_its_promise() {
    let checks = conformance::checks();
    for (fault, name) in FAULTS {
        let check = checks.iter().find(|check| check.name() == *name).unwrap();
        let mut factory = BrokenStores { fault: *fault, stores: BTreeMap::new() };
        assert!(check.run(&mut factory).is_err(), "{name} misses a store that {fault:?}");
    }
    let covered: BTreeSet<_> = FAULTS.iter().map(|(_, name)| *name).collect();
    let all: BTreeSet<_> = checks.iter().map(|check| check.name()).collect();
    assert_eq!(covered, all, "each check has a store that it must find");
}

#[test]
fn a_store_without_rows_is_checked_for_all_the_rest() {
    struct RowLess(store_support::Memory);
    impl Factory for RowLess {
        fn create(&mut self) -> Result<Subject, StoreError> {
            Ok(Subject { rows: None, ..self.0.create()? })
        }
        fn reopen(&mut self, subject: Subject) -> Result<Subject, StoreError> {
            Ok(Subject { rows: None, ..self.0.reopen(subject)? })
        }
        fn crash(&mut self, subject: Subject) -> Result<Subject, StoreError> {
            Ok(Subject { rows: None, ..self.0.crash(subject)? })
        }
    }
    let report = conformance::run(&mut RowLess(store_support::Memory::default()));
    assert!(report.is_conformant(), "{report}");
    assert_eq!(report.skipped.len(), 9, "{report}");
    assert_eq!(report.passed.len(), 12, "{report}");
}
