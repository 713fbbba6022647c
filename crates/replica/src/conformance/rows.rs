//! Checks of key-value stores: rows, writes that take effect at most once, settling, sticky errors.

use bytes::Bytes;
use outrigger_wal::Lsn;

use super::log::{Log, hash};
use super::{Factory, Failure, Run, Subject, ensure, ensure_eq};
use crate::store::kv::{self, ClientId, Op, Outcome, Write};
use crate::store::{KeyRange, Rows};

pub(super) const CHECKS: &[(&str, Run)] = &[
    ("rows_are_read_as_they_were_written", reading),
    ("scans_page_through_all_rows_in_order", scanning),
    ("a_named_write_takes_effect_at_most_once", duplicates),
    ("a_settled_write_never_takes_effect", settling),
    ("settling_does_not_undo_what_was_applied", settled_late),
    ("a_batch_takes_effect_whole_or_not_at_all", batches),
    ("outcomes_survive_crashes_and_restores", kept_outcomes),
    ("outcomes_beyond_the_window_are_in_doubt", window),
    ("errors_are_sticky_and_reading_goes_on", sticky),
];

const CLIENT: ClientId = ClientId(0xC1);

fn rows(subject: &Subject) -> Result<&dyn Rows, Failure> {
    subject
        .rows
        .as_deref()
        .ok_or_else(|| Failure("the factory handed out no rows".to_owned()))
}

fn body(client: ClientId, sequence: u64, op: Op) -> Bytes {
    Write {
        client,
        sequence,
        op,
    }
    .encode()
    .unwrap_or_default()
}

fn put(client: ClientId, sequence: u64, key: &'static str, value: &'static str) -> Bytes {
    let (key, value) = (
        Bytes::from_static(key.as_bytes()),
        Bytes::from_static(value.as_bytes()),
    );
    body(client, sequence, Op::Put { key, value })
}

fn delete(client: ClientId, sequence: u64, key: &'static str) -> Bytes {
    body(
        client,
        sequence,
        Op::Delete {
            key: Bytes::from_static(key.as_bytes()),
        },
    )
}

fn settle(client: ClientId, sequence: u64) -> Bytes {
    body(client, sequence, Op::Settle)
}

/// Appends one record and applies it; returns its end.
fn apply(store: &Subject, log: &mut Log, body: Bytes) -> Result<Lsn, Failure> {
    let end = log.one(body);
    store.state.apply(&log.records[log.records.len() - 1..])?;
    Ok(end)
}

fn value(store: &Subject, key: &str) -> Result<Option<String>, Failure> {
    let value = rows(store)?.get(key.as_bytes())?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn reading(factory: &mut dyn Factory) -> Result<(), Failure> {
    let mut store = factory.create()?;
    let mut log = Log::new();
    let none = ClientId::NONE;
    for crash in [false, true] {
        apply(&store, &mut log, put(none, 0, "a", "1"))?;
        apply(&store, &mut log, put(none, 0, "b", "2"))?;
        ensure_eq!(value(&store, "a")?, some("1"), "a row that was put");
        apply(&store, &mut log, put(none, 0, "a", ""))?;
        apply(&store, &mut log, put(none, 0, "", "no key"))?;
        apply(&store, &mut log, delete(none, 0, "b"))?;
        apply(&store, &mut log, delete(none, 0, "never there"))?;
        if crash {
            store.state.checkpoint()?;
            store = factory.crash(store)?;
        }
        ensure_eq!(value(&store, "a")?, some(""), "a row that was overwritten");
        ensure_eq!(
            value(&store, "")?,
            some("no key"),
            "the row with the empty key"
        );
        ensure_eq!(value(&store, "b")?, None, "a row that was deleted");
        ensure_eq!(value(&store, "c")?, None, "a row that never was");
        ensure_eq!(
            value(&store, &"x".repeat(100_000))?,
            None,
            "a row with too long a key"
        );
        ensure_eq!(rows(&store)?.count()?, 2, "the count of rows");
    }
    Ok(())
}

fn scanning(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    let mut expected = Vec::new();
    for n in 0..50_u8 {
        // A zero byte, the greatest byte, the longest keys: borders of paging.
        let key = Bytes::from(match n % 4 {
            0 => vec![n],
            1 => vec![n, 0],
            2 => vec![n, 0xFF, 0xFF],
            _ => vec![n; kv::MAX_KEY_BYTES],
        });
        let value = Bytes::from(vec![n; usize::from(n) * 10_000]);
        expected.push((key.clone(), value.clone()));
        log.one(body(ClientId::NONE, 0, Op::Put { key, value }));
    }
    store.state.apply(&log.records)?;
    for limit in [1, 7, 1000] {
        let mut found = Vec::new();
        let mut from = Vec::new();
        loop {
            let page = rows(&store)?.scan(&from, limit)?;
            ensure!(
                page.len() <= limit,
                "{} rows for a limit of {limit}",
                page.len()
            );
            let Some((last, _)) = page.last() else { break };
            from = last.to_vec();
            from.push(0);
            found.extend(page);
            ensure!(found.len() <= expected.len(), "paging does not end");
        }
        ensure!(
            found == expected,
            "paging by {limit} rows found others than were put"
        );
    }
    for row in &expected {
        let found = rows(&store)?.scan(&row.0, 1)?;
        ensure!(
            found.first() == Some(row),
            "a scan from a row's key begins elsewhere"
        );
    }
    ensure!(
        rows(&store)?.scan(&[], 0)?.is_empty(),
        "rows for a limit of 0"
    );
    ensure!(
        rows(&store)?.scan(&[0xFF; 100_000], 9)?.is_empty(),
        "rows behind the last"
    );
    Ok(())
}

fn duplicates(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    ensure_eq!(
        rows(&store)?.outcome(CLIENT, 1),
        Outcome::Unknown,
        "outcome before the write"
    );
    let first = apply(&store, &mut log, put(CLIENT, 1, "a", "first"))?;
    let second = apply(&store, &mut log, put(CLIENT, 2, "a", "second"))?;
    apply(&store, &mut log, put(CLIENT, 1, "a", "first"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("second"),
        "the row after a duplicate put"
    );
    apply(&store, &mut log, delete(CLIENT, 2, "a"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("second"),
        "the row after a duplicate under its name"
    );
    let outcome = |sequence| rows(&store).map(|rows| rows.outcome(CLIENT, sequence));
    ensure_eq!(
        outcome(1)?,
        Outcome::Applied { end: first },
        "outcome of the first"
    );
    ensure_eq!(
        outcome(2)?,
        Outcome::Applied { end: second },
        "outcome of the second"
    );
    apply(&store, &mut log, put(ClientId(0xC2), 1, "a", "another's"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("another's"),
        "the row after another client's write"
    );
    for n in ["x", "y"] {
        apply(&store, &mut log, put(ClientId::NONE, 1, "a", n))?;
        ensure_eq!(
            value(&store, "a")?,
            some(n),
            "the row after a write without a name"
        );
    }
    Ok(())
}

fn settling(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    apply(&store, &mut log, put(CLIENT, 1, "a", "1"))?;
    let end = apply(&store, &mut log, settle(CLIENT, 2))?;
    let refused = Outcome::Refused { end };
    ensure_eq!(
        rows(&store)?.outcome(CLIENT, 2),
        refused,
        "outcome after settling"
    );
    apply(&store, &mut log, put(CLIENT, 2, "a", "late"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("1"),
        "the row after the settled write came late"
    );
    apply(&store, &mut log, settle(CLIENT, 2))?;
    ensure_eq!(
        rows(&store)?.outcome(CLIENT, 2),
        refused,
        "outcome after settling again"
    );
    apply(&store, &mut log, put(CLIENT, 3, "a", "3"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("3"),
        "the row after the next write"
    );
    Ok(())
}

fn settled_late(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    let end = apply(&store, &mut log, put(CLIENT, 1, "a", "1"))?;
    apply(&store, &mut log, settle(CLIENT, 1))?;
    let outcome = rows(&store)?.outcome(CLIENT, 1);
    ensure_eq!(
        outcome,
        Outcome::Applied { end },
        "outcome of an applied write after settling"
    );
    ensure_eq!(value(&store, "a")?, some("1"), "the row after settling");
    Ok(())
}

fn batches(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    // One name for a whole batch.
    log.batch([put(CLIENT, 1, "a", "1"), put(CLIENT, 1, "b", "1")]);
    let end = log.end();
    store.state.apply(&log.records)?;
    ensure_eq!(
        value(&store, "a")?,
        some("1"),
        "the first row of a batch under one name"
    );
    ensure_eq!(
        value(&store, "b")?,
        some("1"),
        "the second row of a batch under one name"
    );
    ensure_eq!(
        rows(&store)?.outcome(CLIENT, 1),
        Outcome::Applied { end },
        "outcome of the batch"
    );
    // One of its writes was settled before it came.
    apply(&store, &mut log, settle(CLIENT, 3))?;
    let from = log.records.len();
    log.batch([2, 3, 4].map(|sequence| put(CLIENT, sequence, "a", "half")));
    store.state.apply(&log.records[from..])?;
    ensure_eq!(
        value(&store, "a")?,
        some("1"),
        "the row after a batch with a refused write"
    );
    for sequence in [2, 3, 4] {
        let outcome = rows(&store)?.outcome(CLIENT, sequence);
        let refused = matches!(outcome, Outcome::Refused { .. });
        ensure!(
            refused,
            "write {sequence} of a batch without effect is {outcome:?}"
        );
    }
    Ok(())
}

fn kept_outcomes(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    apply(&store, &mut log, put(CLIENT, 1, "a", "1"))?;
    apply(&store, &mut log, settle(CLIENT, 2))?;
    let outcomes = [1, 2].map(|sequence| rows(&store).map(|rows| rows.outcome(CLIENT, sequence)));
    let at = store.state.checkpoint()?;
    let windows = store.state.hash(&kv::outcomes())?;
    let store = factory.crash(store)?;
    ensure_eq!(
        store.state.hash(&kv::outcomes())?,
        windows,
        "hash of outcomes after a crash"
    );
    let copy = factory.create()?;
    copy.state
        .restore(at, &mut store.state.snapshot(&KeyRange::all())?)?;
    for store in [&store, &copy] {
        let mut replay = Log::new();
        for record in &log.records {
            replay.push(record.body.clone(), record.flag);
        }
        replay.one(put(CLIENT, 1, "a", "again"));
        replay.one(put(CLIENT, 2, "a", "late"));
        store.state.apply(&replay.records)?;
        ensure_eq!(
            value(store, "a")?,
            some("1"),
            "the row after duplicates, after a crash"
        );
        for (sequence, outcome) in (1..).zip(&outcomes) {
            let found = rows(store)?.outcome(CLIENT, sequence);
            ensure_eq!(Ok(found), *outcome, "outcome {sequence} after a crash");
        }
    }
    ensure_eq!(
        hash(&copy)?,
        hash(&store)?,
        "hash of the restored copy after duplicates"
    );
    Ok(())
}

fn window(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    let many = 5_000;
    for sequence in 1..=many {
        log.one(put(CLIENT, sequence, "a", "1"));
    }
    store.state.apply(&log.records)?;
    let last = rows(&store)?.outcome(CLIENT, many);
    ensure_eq!(
        last,
        Outcome::Applied { end: log.end() },
        "outcome of the latest write"
    );
    let first = rows(&store)?.outcome(CLIENT, 1);
    ensure_eq!(
        first,
        Outcome::TooOld,
        "outcome of a write {many} writes ago"
    );
    apply(&store, &mut log, settle(CLIENT, 1))?;
    ensure_eq!(
        rows(&store)?.outcome(CLIENT, 1),
        Outcome::TooOld,
        "outcome after settling it"
    );
    apply(&store, &mut log, put(CLIENT, 1, "a", "again"))?;
    ensure_eq!(
        value(&store, "a")?,
        some("1"),
        "the row after a write that is too old"
    );
    Ok(())
}

fn sticky(factory: &mut dyn Factory) -> Result<(), Failure> {
    let store = factory.create()?;
    let mut log = Log::new();
    apply(&store, &mut log, put(CLIENT, 1, "a", "1"))?;
    let at = store.state.checkpoint()?;
    let good = apply(&store, &mut log, put(CLIENT, 2, "a", "2"))?;
    let bad = apply(&store, &mut log, Bytes::from_static(b"no record"));
    ensure!(bad.is_err(), "a record that means nothing was applied");
    let next = apply(&store, &mut log, put(CLIENT, 3, "a", "3"));
    ensure_eq!(next, bad, "the error of a later record");
    ensure!(
        store.state.checkpoint().is_err(),
        "a checkpoint after an error"
    );
    ensure_eq!(value(&store, "a")?, some("2"), "the row after an error");
    ensure_eq!(store.state.applied(), good, "applied LSN after an error");
    let store = factory.crash(store)?;
    let found = store.state.applied();
    ensure!(
        found == at || found == good,
        "applied LSN after an error and a restart: {found}"
    );
    let expected = some(if found == at { "1" } else { "2" });
    ensure_eq!(
        value(&store, "a")?,
        expected,
        "the row after an error and a restart"
    );
    Ok(())
}
