//! The catalog as a state store: who wins is decided in log order, on every replay the same, and
//! a checkpoint is exactly a prefix.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use bytes::Bytes;
use outrigger_cluster::catalog::{Catalog, Change, Refused};
use outrigger_cluster::register::{Conflict, Proposer, Report};
use outrigger_cluster::slots::MemorySlots;
use outrigger_net::config::Version;
use outrigger_replica::rules::Rules;
use outrigger_replica::store::{KeyRange, Pair, StateStore, StoreError};
use outrigger_wal::format::RecordFlag;
use outrigger_wal::{ContentId, Epoch, InstanceId, LogId, Lsn};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{A, B, C, CLUSTER, CONTENT, Log, catalog, copy, create, log_record, next, pair};

fn swap(seen: u64, new: outrigger_net::config::Config, proposer: Proposer) -> Change {
    let seen = Version(seen);
    Change::Swap { content: CONTENT, seen, new, proposer, reports: Vec::new() }
}

fn new_epoch(nonce: u128) -> outrigger_net::config::Config {
    next(&pair(), |new| new.epoch = Epoch { number: 2, nonce })
}

fn recorded(catalog: &Catalog) -> outrigger_net::config::Config {
    catalog.read(|state| state.contents[&CONTENT].register.config().cloned().unwrap())
}

/// A log with a few changes of every kind, refused ones among them.
fn a_log() -> Log {
    let mut log = Log::default();
    log.change(1, Change::Found { cluster: CLUSTER });
    log.change(2, create(pair()));
    log.change(3, swap(5, new_epoch(11), Proposer::Instance(A)));
    log.change(4, swap(5, new_epoch(12), Proposer::Instance(A)));
    let moved = next(&new_epoch(11), |new| new.copies.push(copy(C, false, 0)));
    log.change(5, swap(6, moved, Proposer::Operator));
    log.change(
        6,
        Change::Create {
            content: ContentId(7),
            log: LogId(7),
            segment_bytes: 1 << 26,
            config: outrigger_cluster::authority::first_config(InstanceId(7), vec![]),
        },
    );
    log
}

fn hash(catalog: &Catalog) -> u128 {
    catalog.hash(&KeyRange::all()).unwrap().hash
}

#[test]
fn of_two_swaps_that_both_passed_the_check_against_the_applied_state_one_wins() {
    // Counterexample 8: decided when appended, both are recorded and one epoch gets two nonces.
    let catalog = catalog(&MemorySlots::default());
    catalog.listen(Some(1));
    let mut log = Log::default();
    log.change(1, create(pair()));
    catalog.apply(&log.records).unwrap();
    for nonce in [11, 12] {
        let (seen, by) = (Version(5), Proposer::Instance(A));
        let both_pass = catalog.read(|state| {
            let register = &state.contents[&CONTENT].register;
            register.decide(seen, &new_epoch(nonce), by, Rules::all()).is_ok()
        });
        assert!(both_pass);
        log.change(u64::try_from(nonce).unwrap(), swap(5, new_epoch(nonce), by));
    }
    catalog.apply(&log.records).unwrap();
    let results: Vec<_> = catalog
        .take_outcomes()
        .into_iter()
        .map(|outcome| (outcome.ticket.number, outcome.result))
        .collect();
    let lost = Conflict::VersionMoved { seen: Version(5), current: Version(6) };
    assert_eq!(results, [(1, Ok(())), (11, Ok(())), (12, Err(Refused::Conflict(lost)))]);
    assert_eq!(recorded(&catalog).epoch, Epoch { number: 2, nonce: 11 });
}

#[test]
fn a_refused_swap_still_counts_the_reports_it_carries() {
    let catalog = catalog(&MemorySlots::default());
    let mut log = Log::default();
    log.change(1, create(pair()));
    let stale = Report { instance: C, epoch: 1, durable: Lsn(5) };
    let report = Report { instance: B, epoch: 1, durable: Lsn(222) };
    let reports = vec![stale, report];
    let (seen, new, proposer) = (Version(1), new_epoch(11), Proposer::Instance(A));
    log.change(2, Change::Swap { content: CONTENT, seen, new, proposer, reports });
    catalog.apply(&log.records).unwrap();
    assert_eq!(recorded(&catalog), pair());
    let heard = catalog.read(|state| state.contents[&CONTENT].register.heard(B));
    assert_eq!(heard.lsn, Lsn(222));
}

#[test]
fn what_a_catalog_cannot_hold_is_refused_and_changes_nothing() {
    let catalog = catalog(&MemorySlots::default());
    catalog.listen(Some(1));
    let mut log = a_log();
    catalog.apply(&log.records).unwrap();
    let before = hash(&catalog);
    catalog.take_outcomes();
    let of = |content, segment_bytes, instance| Change::Create {
        content: ContentId(content),
        log: LogId(1),
        segment_bytes,
        config: outrigger_cluster::authority::first_config(instance, vec![]),
    };
    log.change(20, Change::Found { cluster: outrigger_wal::ClusterId(2) });
    log.change(21, create(pair()));
    log.change(22, of(3, 3 << 20, C));
    log.change(23, of(3, 1 << 20, A));
    let nowhere = Change::Swap {
        content: ContentId(99),
        seen: Version(1),
        new: next(&pair(), |new| new.copies.clear()),
        proposer: Proposer::Operator,
        reports: Vec::new(),
    };
    log.change(24, nowhere);
    let taken = next(&recorded(&catalog), |new| new.copies.push(copy(InstanceId(7), false, 0)));
    log.change(25, swap(7, taken, Proposer::Operator));
    catalog.apply(&log.records).unwrap();
    let whys: Vec<_> =
        catalog.take_outcomes().into_iter().map(|of| of.result.unwrap_err()).collect();
    assert!(matches!(
        whys[..],
        [
            Refused::WrongCluster { .. },
            Refused::ContentExists { .. },
            Refused::SegmentBytes { .. },
            Refused::ServesAnother { .. },
            Refused::NoContent { .. },
            Refused::ServesAnother { .. },
        ]
    ));
    assert_eq!(hash(&catalog), before);
}

#[test]
fn a_crash_falls_back_to_exactly_the_checkpoint_and_replay_leads_to_the_same_state() {
    let log = a_log();
    let straight = catalog(&MemorySlots::default());
    straight.apply(&log.records).unwrap();
    for at in 0..=log.records.len() {
        let slots = MemorySlots::default();
        let (first, rest) = log.records.split_at(at);
        let before = catalog(&slots);
        before.apply(first).unwrap();
        let (there, kept) = (before.checkpoint().unwrap(), hash(&before));
        before.apply(rest).unwrap();
        let after = catalog(&slots);
        assert_eq!((after.applied(), after.checkpointed()), (there, there));
        assert_eq!(hash(&after), kept);
        after.apply(&log.records).unwrap();
        assert_eq!(hash(&after), hash(&straight), "replayed over a checkpoint at {at}");
        after.apply(&log.records).unwrap();
        assert_eq!(hash(&after), hash(&straight), "applied again");
    }
}

#[test]
fn a_run_that_breaks_the_contract_is_refused_whole() {
    let catalog = catalog(&MemorySlots::default());
    let log = a_log();
    let (mut void, mut open, mut backwards) =
        (log.records.clone(), log.records.clone(), log.records.clone());
    void[3].flag = RecordFlag::Void;
    open[5].flag = RecordFlag::BatchContinues;
    backwards.swap(1, 4);
    for run in [void, open, backwards] {
        assert!(catalog.apply(&run).unwrap_err().is_about_the_run());
        assert_eq!(catalog.applied(), Lsn::ZERO);
    }
    catalog.apply(&log.records).unwrap();
    assert_eq!(catalog.applied(), log.end());
}

#[test]
fn a_record_that_means_nothing_stops_the_catalog_for_good_and_nothing_of_its_batch_shows() {
    let catalog = catalog(&MemorySlots::default());
    let mut log = a_log();
    log.records.truncate(2);
    catalog.apply(&log.records).unwrap();
    let before = hash(&catalog);
    log.change(9, swap(5, new_epoch(1), Proposer::Instance(A)));
    log.records[2].flag = RecordFlag::BatchContinues;
    log.push(Bytes::from_static(&[9, 9, 9]));
    let failed = catalog.apply(&log.records).unwrap_err();
    assert!(failed.to_string().contains("upgrade"), "{failed}");
    assert_eq!(hash(&catalog), before);
    assert_eq!(catalog.apply(&[]), Err(failed.clone()));
    assert_eq!(catalog.checkpoint(), Err(failed));
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_an_error_for_good_and_the_old_one_stays() {
    let slots = MemorySlots::default();
    let log = a_log();
    let store = catalog(&slots);
    store.apply(&log.records[..2]).unwrap();
    let kept = store.checkpoint().unwrap();
    store.apply(&log.records[2..]).unwrap();
    slots.fail_after(Some(0));
    let failed = store.checkpoint().unwrap_err();
    slots.fail_after(None);
    assert_eq!(store.checkpoint(), Err(failed));
    assert_eq!(store.checkpointed(), kept);
    assert_eq!(catalog(&slots).applied(), kept);
}

#[test]
fn a_restored_catalog_equals_the_exported_one_and_half_a_restore_leaves_nothing() {
    let source = catalog(&MemorySlots::default());
    source.apply(&a_log().records).unwrap();
    let pairs: Vec<Pair> =
        source.snapshot(&KeyRange::all()).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(pairs.is_sorted_by(|a, b| a.0 < b.0));
    let slots = MemorySlots::default();
    let copy = catalog(&slots);
    let broken = || Err(StoreError::Source { cause: "the link broke".to_owned() });
    let mut half = pairs.iter().take(2).cloned().map(Ok).chain(std::iter::once_with(broken));
    assert!(copy.restore(source.applied(), &mut half).is_err());
    let mut backwards = pairs.iter().rev().cloned().map(Ok);
    assert_eq!(copy.restore(source.applied(), &mut backwards), Err(StoreError::PairOrder));
    let foreign = (Bytes::from_static(b"z"), pairs[0].1.clone());
    let mut foreign = [Ok(foreign)].into_iter();
    assert!(copy.restore(source.applied(), &mut foreign).is_err());
    assert_eq!(hash(&copy), hash(&catalog(&slots)), "nothing of it is there");
    copy.restore(source.applied(), &mut pairs.iter().cloned().map(Ok)).unwrap();
    assert_eq!(hash(&copy), hash(&source));
    assert_eq!(hash(&catalog(&slots)), hash(&source), "it is durable");
    let again = copy.restore(source.applied(), &mut pairs.into_iter().map(Ok));
    assert!(matches!(again, Err(StoreError::NotEmpty { .. })));
}

#[test]
fn a_snapshot_is_unmoved_by_what_is_applied_later() {
    let store = catalog(&MemorySlots::default());
    let log = a_log();
    store.apply(&log.records[..3]).unwrap();
    let (early, before) = (store.snapshot(&KeyRange::all()).unwrap(), hash(&store));
    store.apply(&log.records).unwrap();
    assert_ne!(hash(&store), before);
    assert_eq!(early.into_hash().unwrap().hash, before);
}

#[test]
fn advancing_moves_the_applied_lsn_and_nothing_else() {
    let store = catalog(&MemorySlots::default());
    let log = a_log();
    store.apply(&log.records[..3]).unwrap();
    let before = hash(&store);
    store.advance(Lsn(1));
    assert_eq!(store.applied(), log.records[2].end);
    store.advance(log.end());
    store.apply(&log.records).unwrap();
    assert_eq!((store.applied(), hash(&store)), (log.end(), before));
}

/// What one of several proposers does in the model.
#[derive(Clone, Debug)]
enum Step {
    /// It looks at what is applied.
    Look(usize),
    /// It appends a swap from what it saw last.
    Propose(usize, u8, u128),
    /// The log is applied up to its end, or a bit of it.
    Apply(usize),
    /// The catalog crashes, and replays.
    Crash,
    Checkpoint,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize).prop_map(Step::Look),
        5 => (0..3_usize, 0..6_u8, 1..1000_u128).prop_map(|(who, what, nonce)| Step::Propose(who, what, nonce)),
        3 => (1..4_usize).prop_map(Step::Apply),
        1 => Just(Step::Crash),
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_interleaving_of_proposers_records_two_values_for_one_version(
        steps in proptest::collection::vec(a_step(), 1..80),
    ) {
        let slots = MemorySlots::default();
        let mut store = catalog(&slots);
        let mut log = Log::default();
        let trio = outrigger_net::config::Config {
            copies: vec![copy(A, true, 0), copy(B, true, 0), copy(C, true, 0)],
            ..pair()
        };
        log.change(0, create(trio));
        store.apply(&log.records).unwrap();
        let mut applied = 1;
        let mut seen = vec![recorded(&store); 3];
        let mut history = BTreeMap::new();
        let mut epochs: BTreeMap<u64, Epoch> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Look(who) => seen[who] = recorded(&store),
                Step::Propose(who, what, nonce) => {
                    let base = seen[who].clone();
                    let me = [A, B, C][who];
                    let mut by = Proposer::Instance(me);
                    let new = next(&base, |new| match what {
                        0 => new.epoch = Epoch { number: base.epoch.number + 1, nonce },
                        1 | 2 => {
                            let copy = &mut new.copies[usize::from(what)];
                            copy.in_sync = !copy.in_sync;
                        }
                        3 => new.copies[0].in_sync = !new.copies[0].in_sync,
                        4 => {
                            by = Proposer::Coordinator;
                            new.epoch = Epoch { number: base.epoch.number + 1, nonce };
                            new.primary = me;
                        }
                        _ => {
                            by = Proposer::Operator;
                            new.copies[who].addresses = vec![nonce.to_string()];
                        }
                    });
                    log.change(1, swap(base.version.0, new, by));
                }
                Step::Apply(count) => {
                    for _ in 0..count {
                        applied = (applied + 1).min(log.records.len());
                        store.apply(&log.records[..applied]).unwrap();
                        let config = recorded(&store);
                        let known = history.entry(config.version).or_insert_with(|| config.clone());
                        prop_assert_eq!(&*known, &config);
                    }
                }
                Step::Crash => {
                    store = catalog(&slots);
                    store.apply(&log.records[..applied]).unwrap();
                }
                Step::Checkpoint => {
                    store.checkpoint().unwrap();
                }
            }
        }
        for (version, config) in &history {
            prop_assert!(config.in_sync(config.primary), "{version:?}");
            prop_assert!(config.version >= Version(5));
            let epoch = epochs.entry(config.epoch.number).or_insert(config.epoch);
            prop_assert_eq!(*epoch, config.epoch, "one number, two reigns");
        }
        let by_version: Vec<_> = history.values().collect();
        for pair in by_version.windows(2) {
            let (old, new) = (pair[0], pair[1]);
            prop_assert_eq!(new.version, old.version.next());
            prop_assert!(new.epoch.number >= old.epoch.number);
            if new.primary != old.primary {
                prop_assert!(old.in_sync(new.primary) && new.epoch.number > old.epoch.number);
            }
        }
    }
}

#[test]
fn a_log_of_another_start_is_applied_from_there() {
    let store = catalog(&MemorySlots::default());
    let body = a_log().records[0].body.clone();
    store.apply(&[log_record(1 << 30, body)]).unwrap();
    assert!(store.applied() > Lsn(1 << 30));
}
