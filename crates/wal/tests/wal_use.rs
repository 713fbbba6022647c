//! Appending, reading, cutting and deleting through the handle, on real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use outrigger_wal::format::RecordFlag;
use outrigger_wal::{Appended, Error, Lsn, Wal, WalOptions};
use proptest::prelude::*;

fn options() -> WalOptions {
    let mut options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    options.log.idle_micros = u64::MAX / 2;
    options
}

/// Few blocks stay in memory, so that most reads go to the files.
fn cold() -> WalOptions {
    let mut options = options();
    options.log.tail_bytes = 0;
    options
}

fn put(wal: &Wal, body: &[u8]) -> Range<Lsn> {
    let at = wal.append(body).unwrap();
    wal.wait_durable(at.end).blocking().unwrap();
    at.start..at.end
}

fn body(n: u64, len: usize) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(len.max(8)).collect()
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn twenty_segments_are_read_back_from_memory_and_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    for options in [cold(), options()] {
        let wal = Wal::open(dir.path(), &options).unwrap();
        let from = wal.end();
        let mut last = from;
        let mut places = Vec::new();
        while last.since(from) < 20 << 20 {
            let n = places.len() as u64;
            let at = wal.append(&body(n, 40_000 + (places.len() % 7) * 9_000)).unwrap();
            places.push(at);
            last = at.end;
        }
        wal.wait_durable(last).blocking().unwrap();
        let mut reader = wal.reader(places[0].start).unwrap();
        for (n, at) in places.iter().enumerate() {
            let record = reader.next().unwrap().expect("it is durable");
            assert_eq!((record.lsn, record.end), (at.start, at.end));
            assert!(record.body == body(n as u64, 40_000 + (n % 7) * 9_000));
        }
        assert_eq!(reader.next().unwrap(), None);
        wal.close().unwrap();
    }
}

#[test]
fn a_reader_begins_at_any_record_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    for options in [cold(), options()] {
        let wal = Wal::open(dir.path(), &options).unwrap();
        let mut places = Vec::new();
        for n in 0..300 {
            places.push(wal.append(&body(n, 10 + usize::try_from(n).unwrap() * 20)).unwrap());
            if n % 10 == 0 {
                wal.wait_durable(places.last().unwrap().end).blocking().unwrap();
            }
        }
        wal.wait_durable(places.last().unwrap().end).blocking().unwrap();
        for (n, at) in places.iter().enumerate() {
            let mut reader = wal.reader(at.start).unwrap();
            let record = reader.next().unwrap().unwrap();
            assert_eq!((record.lsn, record.end), (at.start, at.end));
            assert!(record.body == body(n as u64, 10 + n * 20));
            let second = reader.next().unwrap().map(|record| record.lsn);
            assert_eq!(second, places.get(n + 1).map(|at| at.start));
            for wrong in [at.start.0 + 1, at.start.0 + 2, at.end.0 - 1] {
                let refused = wal.reader(Lsn(wrong)).unwrap_err();
                assert_eq!(refused, Error::NotABoundary { lsn: Lsn(wrong), what: "record" });
            }
        }
        // A block's boundary will do, too: the durable LSN is one.
        assert_eq!(wal.reader(wal.durable()).unwrap().next().unwrap(), None);
        wal.close().unwrap();
    }
}

#[test]
fn readers_follow_the_tail_from_threads_and_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let (mut blocking, mut task) =
        (wal.reader(Lsn(0)).unwrap(), wal.reader(wal.durable()).unwrap());
    let records = 2000_u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..records {
                assert!(wal.append(&body(n, 100)).is_ok());
            }
        });
        scope.spawn(move || {
            for n in 0..records {
                assert!(blocking.next_blocking().unwrap().body == body(n, 100));
            }
        });
        scope.spawn(move || {
            for n in 0..records {
                assert!(block_on(task.next_durable()).unwrap().body == body(n, 100));
            }
        });
    });
}

#[test]
fn a_reader_yields_nothing_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let mut reader = wal.reader(wal.durable()).unwrap();
    for n in 0..500 {
        let at = wal.append(&body(n, 50)).unwrap();
        // Made for a place that may not even be sealed.
        let mut early = wal.reader(at.start).unwrap();
        if let Some(record) = reader.next().unwrap() {
            assert!(record.end <= wal.durable());
        }
        assert_eq!(early.next_blocking().unwrap().lsn, at.start);
        let wrong = Lsn(wal.end().0 + 1);
        let mut wrong = wal.reader(wrong).unwrap();
        put(&wal, b"another");
        assert!(matches!(wrong.next_blocking(), Err(Error::NotABoundary { .. })));
    }
}

#[test]
fn waiting_readers_end_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let mut reader = wal.reader(Lsn(0)).unwrap();
    let waiting = thread::spawn(move || reader.next_blocking());
    wal.close().unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
}

#[test]
fn a_batch_lies_in_one_block_and_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let at = wal.append_batch(&[b"a", b"", b"c"]).unwrap();
    wal.wait_durable(at.end).blocking().unwrap();
    let mut reader = wal.reader(at.start).unwrap();
    let read: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(
        read.iter().map(|record| &record.body[..]).collect::<Vec<_>>(),
        [&b"a"[..], b"", b"c"]
    );
    use RecordFlag::{BatchContinues, Record};
    assert_eq!(
        read.iter().map(|record| record.flag).collect::<Vec<_>>(),
        [BatchContinues, BatchContinues, Record]
    );
    assert_eq!(read.last().unwrap().end, at.end);
    let limit = usize::try_from(wal.max_record_bytes()).unwrap();
    let refused = wal.append(&vec![0; limit + 1]).unwrap_err();
    assert!(refused.to_string().contains(&limit.to_string()), "{refused}");
    put(&wal, &vec![0; limit]);
}

#[test]
fn a_blocking_append_waits_for_room_and_a_trying_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.log.max_pending_bytes = 16 << 10;
    let wal = Wal::open(dir.path(), &options).unwrap();
    let mut refused = 0;
    for n in 0..200 {
        assert!(wal.append(&body(n, 9_000)).is_ok());
        match wal.try_append(&body(n, 9_000)) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, Error::Full { limit: 16384, .. }), "{error}");
                refused += 1;
            }
        }
        let pending = wal.end().since(wal.durable());
        // The limit, and two records that were let in just below it.
        assert!(pending < 40 << 10, "{pending} bytes wait");
    }
    assert!(refused > 0);
    wal.close().unwrap();
}

#[test]
fn what_is_deleted_is_refused_and_the_rest_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let places: Vec<_> = (0..50).map(|n| wal.append(&body(n, 100_000)).unwrap()).collect();
    wal.wait_durable(places[49].end).blocking().unwrap();
    let mut behind = wal.reader(Lsn(0)).unwrap();
    assert_eq!(wal.delete_below(Lsn((3 << 20) - 1)).unwrap(), Lsn(2 << 20));
    assert_eq!(wal.delete_below(Lsn(1 << 20)).unwrap(), Lsn(2 << 20));
    let recycled = |lsn, start| Error::Recycled { lsn, start };
    assert_eq!(wal.reader(Lsn(0)).unwrap_err(), recycled(Lsn(0), Lsn(2 << 20)));
    assert_eq!(behind.next().unwrap_err(), recycled(Lsn(0), Lsn(2 << 20)));
    // Beyond what is durable nothing goes, whatever is asked for.
    let start = wal.delete_below(Lsn(u64::MAX)).unwrap();
    assert!(start <= wal.durable());
    wal.close().unwrap();

    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert_eq!(wal.start_lsn().unwrap(), start);
    let mut reader = wal.reader(start).unwrap();
    let kept: Vec<_> = places.iter().filter(|at| at.start >= start).collect();
    for at in &kept {
        assert_eq!(reader.next().unwrap().unwrap().lsn, at.start);
    }
    assert!(!kept.is_empty() && kept.len() < 50);
    put(&wal, b"goes on");
    let segments = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".seg"));
    assert!(segments.count() <= 3);
}

#[test]
fn a_cut_log_goes_on_from_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let mut boundaries = Vec::new();
    for n in 0..30 {
        put(&wal, &body(n, 100_000));
        boundaries.push(wal.durable());
    }
    let (to, end) = (boundaries[9], wal.durable());
    let inside = Lsn(to.0 - 4096);
    assert_eq!(
        wal.truncate(inside).unwrap_err(),
        Error::NotABoundary { lsn: inside, what: "record" }
    );
    let beyond = Lsn(end.0 + 4096);
    assert_eq!(
        wal.truncate(beyond).unwrap_err(),
        Error::NotABoundary { lsn: beyond, what: "block" }
    );
    assert!(matches!(wal.truncate(Lsn(0)), Err(Error::Recycled { .. })));

    let waiting = wal.wait_durable(end.saturating_add(1));
    let cut = wal.truncate(to).unwrap();
    assert_eq!(waiting.blocking(), Err(Error::Closed));
    assert_eq!(wal.append(b"old handle"), Err(Error::Closed));
    let saved = cut.recovered().cut.expect("something was cut");
    assert_eq!((saved.from, cut.recovered().end), (to, to));
    put(&cut, b"new");
    drop((wal, cut));

    let wal = Wal::open(dir.path(), &options()).unwrap();
    let mut reader = wal.reader(Lsn(0)).unwrap();
    for n in 0..10 {
        assert!(reader.next().unwrap().unwrap().body == body(n, 100_000));
    }
    assert_eq!(&reader.next().unwrap().unwrap().body[..], b"new");
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn what_is_committed_is_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    let boundaries: Vec<_> = (0..5)
        .map(|n| {
            put(&wal, &body(n, 10));
            wal.durable()
        })
        .collect();
    let commit = boundaries[2];
    wal.commit(commit);
    let refused = |to| Error::BelowCommit { to, commit };
    assert_eq!(wal.truncate(boundaries[1]).unwrap_err(), refused(boundaries[1]));
    put(&wal, b"carries the commit LSN");
    drop(wal);
    let wal = Wal::open(dir.path(), &options()).unwrap();
    assert_eq!(wal.truncate(boundaries[1]).unwrap_err(), refused(boundaries[1]));
    let cut = wal.truncate(commit).unwrap();
    assert_eq!(cut.recovered().end, commit);
}

#[test]
fn waits_are_futures_and_dropping_one_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), &options()).unwrap();
    for n in 0..100 {
        let at = wal.append(&body(n, 64)).unwrap();
        drop(wal.wait_durable(at.end));
        assert!(block_on(wal.wait_durable(at.end)).unwrap() >= at.end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever they append and whether they wait or not: all see one order, in which each
    /// producer's records keep their own, and every record is there once.
    #[test]
    fn many_producers_make_one_order(
        producers in prop::collection::vec(
            prop::collection::vec((1_usize..4, 8_usize..3000, any::<bool>()), 1..40), 1..8),
        target in 200_u32..60_000,
        in_flight in 1_usize..5,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = cold();
        options.log.target_block_bytes = target;
        options.log.max_writes_in_flight = in_flight;
        let wal = Wal::open(dir.path(), &options).unwrap();
        let appended: Vec<(Appended, Vec<Vec<u8>>)> = thread::scope(|scope| {
            let threads: Vec<_> = producers.iter().enumerate().map(|(who, plan)| {
                let wal = &wal;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    for (n, (records, len, waits)) in plan.iter().enumerate() {
                        let batch: Vec<_> = (0..*records)
                            .map(|part| body((who * 1_000_000 + n * 10 + part) as u64, *len))
                            .collect();
                        let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
                        let at = wal.append_batch(&slices).unwrap();
                        if *waits {
                            wal.wait_durable(at.end).blocking().unwrap();
                        }
                        mine.push((at, batch));
                    }
                    assert!(mine.is_sorted_by_key(|(at, _)| at.start));
                    mine
                })
            }).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let expected: BTreeMap<Lsn, (Lsn, Vec<Vec<u8>>)> =
            appended.into_iter().map(|(at, batch)| (at.start, (at.end, batch))).collect();
        prop_assert_eq!(expected.len(), producers.iter().map(Vec::len).sum::<usize>());
        wal.close().unwrap();

        let wal = Wal::open(dir.path(), &options).unwrap();
        let mut reader = wal.reader(Lsn(0)).unwrap();
        for (start, (end, batch)) in &expected {
            let mut at = *start;
            for body in batch {
                let record = reader.next().unwrap().unwrap();
                prop_assert_eq!(record.lsn, at);
                prop_assert!(record.body == *body);
                at = record.end;
            }
            prop_assert_eq!(at, *end);
        }
        prop_assert_eq!(reader.next().unwrap(), None);
    }
}
