//! Which changes of a configuration are recorded, which are refused and why, and what is recorded
//! with them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use outrigger_cluster::register::{Conflict, Proposer, Register, Report, ReportRefused};
use outrigger_net::config::{Config, Version};
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{Epoch, Lsn};
use proptest::prelude::*;
use support::{A, B, C, copy, epoch, next, pair};

const BY_A: Proposer = Proposer::Instance(A);
const BY_B: Proposer = Proposer::Instance(B);

fn register() -> Register {
    let mut register = Register::default();
    register.create(pair()).unwrap();
    register
}

fn decide(new: &Config, proposer: Proposer) -> Result<Config, Conflict> {
    register().decide(Version(5), new, proposer, Rules::all())
}

fn changed(change: impl FnOnce(&mut Config)) -> Config {
    next(&pair(), change)
}

fn report(instance: outrigger_wal::InstanceId, epoch: u64, durable: u64) -> Report {
    Report { instance, epoch, durable: Lsn(durable) }
}

#[test]
fn the_primary_shrinks_and_grows_the_in_sync_set_within_its_epoch() {
    let mut register = register();
    let without = changed(|new| new.copies[1].in_sync = false);
    register.swap(Version(5), &without, BY_A, Rules::all()).unwrap();
    assert!(!register.config().unwrap().in_sync(B));
    let with = next(&without, |new| new.copies[1].in_sync = true);
    register.swap(Version(6), &with, BY_A, Rules::all()).unwrap();
    assert!(register.config().unwrap().in_sync(B));
    assert_eq!(register.config().unwrap().version, Version(7));
}

#[test]
fn a_primary_may_record_a_higher_version_that_changes_nothing_to_give_a_grow_up() {
    assert!(decide(&changed(|_| {}), BY_A).is_ok());
}

#[test]
fn a_restarted_primary_takes_a_new_epoch_and_the_coordinator_promotes_an_in_sync_copy() {
    let restarted = decide(&changed(|new| new.epoch = epoch(2)), BY_A).unwrap();
    assert_eq!((restarted.primary, restarted.epoch), (A, epoch(2)));
    let promotion = register().promotion(B, 77).unwrap();
    let promoted = decide(&promotion, Proposer::Coordinator).unwrap();
    assert_eq!((promoted.primary, promoted.epoch), (B, Epoch { number: 2, nonce: 77 }));
    assert!(promoted.in_sync(A), "the set does not change with a promotion");
}

#[test]
fn an_operator_adds_copies_and_moves_them() {
    let new = changed(|new| {
        new.copies[1].addresses = vec!["elsewhere:1".to_owned()];
        new.copies.push(copy(C, false, 55));
    });
    let recorded = decide(&new, Proposer::Operator).unwrap();
    assert_eq!(recorded.copies[1].addresses, ["elsewhere:1"]);
    assert_eq!(recorded.copy(C).unwrap().durable.lsn, Lsn::ZERO, "nothing was heard of it");
}

#[test]
fn what_the_rules_do_not_know_is_refused_with_its_name() {
    let same_number = Epoch { number: 1, nonce: 1 };
    let old_nonce = Epoch { number: 2, nonce: epoch(1).nonce };
    let operator = Proposer::Operator;
    let by_coordinator = Proposer::Coordinator;
    let (proposed, recorded) = (epoch(0), epoch(1));
    let refused: Vec<(Config, Proposer, Conflict)> = vec![
        (
            changed(|new| new.version = Version(7)),
            BY_A,
            Conflict::NotNext { seen: Version(5), new: Version(7) },
        ),
        (changed(|new| new.epoch = proposed), BY_A, Conflict::StaleEpoch { proposed, recorded }),
        (
            changed(|new| new.epoch = same_number),
            BY_A,
            Conflict::ForeignNonce { proposed: same_number, recorded },
        ),
        (changed(|new| new.epoch = old_nonce), BY_A, Conflict::NonceReused),
        (changed(|new| new.copies[1].in_sync = false), BY_B, Conflict::NotThePrimary),
        (changed(|new| new.copies[1].in_sync = false), by_coordinator, Conflict::NotThePrimary),
        (changed(|new| new.epoch = epoch(2)), BY_B, Conflict::NotThePrimary),
        (
            changed(|new| {
                new.epoch = epoch(2);
                new.primary = B;
            }),
            BY_B,
            Conflict::NotThePrimary,
        ),
        (changed(|new| new.copies[1].in_sync = false), operator, Conflict::NotAnOperators),
        (changed(|new| new.epoch = epoch(2)), operator, Conflict::NotAnOperators),
        (changed(|new| new.copies.push(copy(C, true, 0))), operator, Conflict::NotAnOperators),
        (changed(|new| new.primary = B), BY_A, Conflict::PrimaryWithinEpoch),
        (changed(|new| new.epoch = epoch(2)), by_coordinator, Conflict::PrimaryAlready { to: A }),
        (
            changed(|new| {
                new.epoch = epoch(2);
                new.copies[1].in_sync = false;
            }),
            BY_A,
            Conflict::InSyncWithEpoch,
        ),
        (
            changed(|new| new.copies.iter_mut().for_each(|copy| copy.in_sync = false)),
            BY_A,
            Conflict::NobodyInSync,
        ),
        (changed(|new| new.copies[0].in_sync = false), BY_A, Conflict::PrimaryNotInSync),
        (changed(|new| new.copies.push(copy(C, false, 0))), BY_A, Conflict::CopiesChanged),
        (changed(|new| new.copies.truncate(1)), BY_A, Conflict::CopiesChanged),
        (changed(|new| new.copies.truncate(1)), operator, Conflict::CopiesChanged),
        (changed(|new| new.copies.swap(0, 1)), BY_A, Conflict::CopiesChanged),
        (changed(|new| new.copies[1].addresses.clear()), BY_A, Conflict::AddressesChanged),
        (changed(|new| new.copies.push(copy(A, false, 0))), operator, Conflict::Twice { twice: A }),
    ];
    for (new, proposer, why) in refused {
        assert_eq!(decide(&new, proposer), Err(why), "{proposer:?} asking for {new:?}");
    }
}

#[test]
fn a_copy_outside_the_in_sync_set_is_not_promoted() {
    let mut register = register();
    let alone = changed(|new| new.copies[1].in_sync = false);
    register.swap(Version(5), &alone, BY_A, Rules::all()).unwrap();
    let promotion = register.promotion(B, 9).unwrap();
    let decided = register.decide(Version(6), &promotion, Proposer::Coordinator, Rules::all());
    assert_eq!(decided, Err(Conflict::NotAMember { to: B }));
}

#[test]
fn only_the_version_that_was_seen_is_replaced_and_the_last_version_has_no_next() {
    let mut register = register();
    let (seen, current) = (Version(4), Version(5));
    let late = register.decide(seen, &changed(|_| {}), BY_A, Rules::all());
    assert_eq!(late, Err(Conflict::VersionMoved { seen, current }));
    let last = Config { version: Version(u64::MAX), ..pair() };
    register = Register::default();
    register.create(last.clone()).unwrap();
    let beyond = register.decide(last.version, &next(&last, |_| {}), BY_A, Rules::all());
    assert!(matches!(beyond, Err(Conflict::NotNext { .. })));
}

#[test]
fn nothing_is_recorded_before_the_content_is_created_and_it_is_created_once() {
    let mut register = Register::default();
    let swap = register.swap(Version(0), &pair(), BY_A, Rules::all());
    assert_eq!(swap, Err(Conflict::NotCreated));
    assert_eq!(register.promotion(B, 1), Err(Conflict::NotCreated));
    let mut unsound = pair();
    unsound.copies[0].in_sync = false;
    assert_eq!(register.create(unsound), Err(Conflict::PrimaryNotInSync));
    register.create(pair()).unwrap();
    assert_eq!(register.create(pair()), Err(Conflict::Exists));
}

#[test]
fn a_proposal_that_won_wins_again_and_another_of_its_version_does_not() {
    let mut register = register();
    let epoch_2 = changed(|new| new.epoch = epoch(2));
    register.swap(Version(5), &epoch_2, BY_A, Rules::all()).unwrap();
    register.swap(Version(5), &epoch_2, BY_A, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().version, Version(6));
    let other_nonce = changed(|new| new.epoch = Epoch { number: 2, nonce: 1 });
    let lost = register.swap(Version(5), &other_nonce, BY_A, Rules::all());
    assert!(matches!(lost, Err(Conflict::VersionMoved { .. })));
}

#[test]
fn a_recorded_configuration_carries_what_was_heard_of_each_copy() {
    let mut register = register();
    register.report(&report(B, 1, 300)).unwrap();
    register.report(&report(A, 1, 400)).unwrap();
    let promotion = register.promotion(B, 3).unwrap();
    register.swap(Version(5), &promotion, Proposer::Coordinator, Rules::all()).unwrap();
    let config = register.config().unwrap();
    assert_eq!(config.copy(B).unwrap().durable.lsn, Lsn(300), "the floor of the promoted copy");
    assert_eq!(config.copy(A).unwrap().durable.lsn, Lsn(400));
}

#[test]
fn a_copy_new_in_the_in_sync_set_takes_what_its_primary_observed_in_this_epoch() {
    let mut register = register();
    let alone = changed(|new| new.copies[1].in_sync = false);
    register.swap(Version(5), &alone, BY_A, Rules::all()).unwrap();
    register.report(&report(B, 0, 500)).unwrap();
    // Whatever epoch the proposal writes there.
    let grown = next(&alone, |new| new.copies[1] = copy(B, true, 120));
    register.swap(Version(6), &grown, BY_A, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().copy(B).unwrap().durable.lsn, Lsn(120));
    let again = next(&grown, |_| {});
    register.swap(Version(7), &again, BY_A, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().copy(B).unwrap().durable.lsn, Lsn(120), "it stays");
}

#[test]
fn what_is_recorded_of_a_copy_names_the_reign_whose_history_it_held() {
    // A held 400 in epoch 1; B reigns in epoch 2, from wherever. A promise of epoch 1 counts up to there.
    let mut register = register();
    register.report(&report(A, 1, 400)).unwrap();
    let promotion = register.promotion(B, 3).unwrap();
    register.swap(Version(5), &promotion, Proposer::Coordinator, Rules::all()).unwrap();
    let held = |register: &Register, of| register.config().unwrap().copy(of).unwrap().durable;
    assert_eq!(held(&register, A), Promise { epoch: 1, lsn: Lsn(400) });
    let alone = next(register.config().unwrap(), |new| new.copies[0].in_sync = false);
    register.swap(Version(6), &alone, Proposer::Instance(B), Rules::all()).unwrap();
    // It joins again: what B observed of it is of B's own epoch, and takes back nothing heard in that.
    register.report(&report(A, 2, 130)).unwrap();
    let grown = next(&alone, |new| new.copies[0] = copy(A, true, 120));
    register.swap(Version(7), &grown, Proposer::Instance(B), Rules::all()).unwrap();
    assert_eq!(held(&register, A), Promise { epoch: 2, lsn: Lsn(130) });
    assert_eq!(register.heard(A), Promise { epoch: 2, lsn: Lsn(130) });
}

#[test]
fn a_truncation_lowers_the_floor_and_what_came_before_does_not_raise_it_again() {
    // Counterexample 6: failover to B with a fork at 50, A truncates, and could not be promoted again.
    let mut register = register();
    register.report(&report(A, 1, 100)).unwrap();
    let promotion = register.promotion(B, 3).unwrap();
    register.swap(Version(5), &promotion, Proposer::Coordinator, Rules::all()).unwrap();
    register.report(&report(A, 2, 50)).unwrap();
    assert_eq!(register.heard(A).lsn, Lsn(50));
    let late = register.report(&report(A, 1, 100));
    assert_eq!(late, Err(ReportRefused::Stale { reported: 1, heard: 2 }));
    let back = register.promotion(A, 4).unwrap();
    register.swap(Version(6), &back, Proposer::Coordinator, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().copy(A).unwrap().durable.lsn, Lsn(50));
}

#[test]
fn reports_take_the_most_of_one_epoch_and_the_newest_of_several() {
    let mut register = register();
    let promotion = register.promotion(B, 3).unwrap();
    register.swap(Version(5), &promotion, Proposer::Coordinator, Rules::all()).unwrap();
    for (epoch, durable, expected) in
        [(0, 50, 90), (0, 95, 95), (1, 80, 80), (1, 70, 80), (1, 85, 85), (2, 10, 10)]
    {
        register.report(&report(B, epoch, durable)).unwrap();
        assert_eq!(register.heard(B).lsn, Lsn(expected), "{epoch} {durable}");
    }
    let ahead = register.report(&report(B, 3, 10));
    assert_eq!(ahead, Err(ReportRefused::Ahead { reported: 3, recorded: 2 }));
    assert_eq!(register.report(&report(C, 1, 1)), Err(ReportRefused::NotACopy));
}

#[test]
fn of_several_candidates_the_one_that_holds_most_is_promoted() {
    let config =
        Config { copies: vec![copy(A, true, 100), copy(B, true, 90), copy(C, true, 95)], ..pair() };
    let mut register = Register::default();
    register.create(config).unwrap();
    assert_eq!(register.candidate(|_| true), Some(C));
    register.report(&report(B, 1, 20)).unwrap();
    assert_eq!(register.candidate(|_| true), Some(B), "a later history counts more than a longer");
    assert_eq!(register.candidate(|at| at == C), Some(C));
    assert_eq!(register.candidate(|at| at == A), None, "the primary itself is none");
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn with_s3_left_out_a_copy_that_lacks_commits_is_promoted() {
    use outrigger_replica::rules::Rule;
    let rules = Rules::without(Rule::S3Member);
    let mut register = register();
    let alone = changed(|new| new.copies[1].in_sync = false);
    register.swap(Version(5), &alone, BY_A, rules).unwrap();
    let promotion = register.promotion(B, 9).unwrap();
    register.swap(Version(6), &promotion, Proposer::Coordinator, rules).unwrap();
    assert_eq!(register.config().unwrap().primary, B);
}

fn a_report() -> impl Strategy<Value = Report> {
    (0..3_u64, 0..200_u64).prop_map(|(epoch, durable)| report(B, epoch, durable))
}

proptest! {
    #[test]
    fn reports_kept_until_a_record_carries_them_say_the_same_as_one_by_one(
        reports in proptest::collection::vec(a_report(), 1..8),
    ) {
        let mut one_by_one = register();
        let promotion = one_by_one.promotion(B, 3).unwrap();
        one_by_one.swap(Version(5), &promotion, Proposer::Coordinator, Rules::all()).unwrap();
        let mut at_once = one_by_one.clone();
        let mut kept: Option<Report> = None;
        for report in reports {
            if one_by_one.report(&report).is_ok() {
                kept = Some(kept.map_or(report, |kept| kept.then(report)));
            }
        }
        if let Some(kept) = kept {
            prop_assert!(at_once.report(&kept).is_ok());
        }
        prop_assert_eq!(at_once, one_by_one);
    }
}
