//! Which changes of a configuration are recorded, which are refused and why, and what is recorded
//! with them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use outrigger_cluster::register::{Conflict, Proposer, Register, Report, ReportRefused};
use outrigger_net::config::{Config, Loss, Version};
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
        (changed(|new| new.copies.truncate(1)), operator, Conflict::InUse { instance: B }),
        (changed(|new| new.copies.swap(0, 1)), operator, Conflict::CopiesChanged),
        (changed(|new| new.copies[1].held = true), BY_A, Conflict::HeldInSync { instance: B }),
        (
            changed(|new| new.copies[1].held = true),
            by_coordinator,
            Conflict::HeldInSync { instance: B },
        ),
        (changed(|new| new.copies[1].held = true), operator, Conflict::HeldInSync { instance: B }),
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

/// A alone is in sync; B is held out.
fn held_out() -> Register {
    let mut register = register();
    register.hold_out = true;
    let alone = changed(|new| new.copies[1].in_sync = false);
    register.swap(Version(5), &alone, BY_A, Rules::all()).unwrap();
    register
}

#[test]
fn a_copy_that_leaves_the_in_sync_set_is_held_out_where_that_is_the_policy() {
    assert!(held_out().config().unwrap().held(B));
    let mut freely = register();
    let alone = changed(|new| new.copies[1].in_sync = false);
    freely.swap(Version(5), &alone, BY_A, Rules::all()).unwrap();
    assert!(!freely.config().unwrap().held(B));
}

#[test]
fn only_an_operator_lets_a_copy_come_back_and_until_then_it_does_not_join() {
    let mut register = held_out();
    let current = register.config().unwrap().clone();
    let back = next(&current, |new| new.copies[1].held = false);
    for proposer in [BY_A, BY_B] {
        let refused = register.decide(Version(6), &back, proposer, Rules::all());
        assert_eq!(refused, Err(Conflict::HeldChanged));
    }
    let coordinator = register.decide(Version(6), &back, Proposer::Coordinator, Rules::all());
    assert_eq!(coordinator, Err(Conflict::HeldChanged));
    let grown = next(&current, |new| new.copies[1].in_sync = true);
    let joined = register.decide(Version(6), &grown, BY_A, Rules::all());
    assert_eq!(joined, Err(Conflict::HeldInSync { instance: B }));
    register.swap(Version(6), &back, Proposer::Operator, Rules::all()).unwrap();
    let grown = next(&back, |new| new.copies[1].in_sync = true);
    register.swap(Version(7), &grown, BY_A, Rules::all()).unwrap();
    assert!(register.config().unwrap().in_sync(B));
}

#[test]
fn a_primary_that_changes_nothing_holds_nobody_out() {
    let mut register = held_out();
    let back = next(register.config().unwrap(), |new| new.copies[1].held = false);
    register.swap(Version(6), &back, Proposer::Operator, Rules::all()).unwrap();
    let same = next(&back, |_| {});
    register.swap(Version(7), &same, BY_A, Rules::all()).unwrap();
    assert!(!register.config().unwrap().held(B), "it did not leave, it was out already");
}

#[test]
fn an_operator_holds_a_copy_out_that_nobody_waits_for() {
    let mut register = held_out();
    let back = next(register.config().unwrap(), |new| new.copies[1].held = false);
    register.swap(Version(6), &back, Proposer::Operator, Rules::all()).unwrap();
    let out = next(&back, |new| new.copies[1].held = true);
    register.swap(Version(7), &out, Proposer::Operator, Rules::all()).unwrap();
    assert!(register.config().unwrap().held(B));
    let proposal = next(&out, |new| new.copies[1].held = false);
    assert!(!register.is_recorded(&Config { version: out.version, ..proposal }));
}

#[test]
fn an_operator_removes_a_copy_that_nobody_waits_for_and_what_it_held_is_forgotten() {
    let mut register = held_out();
    register.report(&report(B, 1, 500)).unwrap();
    let current = register.config().unwrap().clone();
    let moved = next(&current, |new| new.copies[1] = copy(C, false, 0));
    let by_primary = register.decide(Version(6), &moved, BY_A, Rules::all());
    assert_eq!(by_primary, Err(Conflict::CopiesChanged));
    let at_the_front = next(&current, |new| new.copies.insert(0, copy(C, false, 0)));
    let wrong = register.decide(Version(6), &at_the_front, Proposer::Operator, Rules::all());
    assert_eq!(wrong, Err(Conflict::CopiesChanged));
    let primary = next(&current, |new| new.copies.truncate(0));
    assert!(register.decide(Version(6), &primary, Proposer::Operator, Rules::all()).is_err());
    register.swap(Version(6), &moved, Proposer::Operator, Rules::all()).unwrap();
    let config = register.config().unwrap();
    assert_eq!(config.copies.iter().map(|copy| copy.instance).collect::<Vec<_>>(), [A, C]);
    assert!(!register.all_heard().contains_key(&B));
    assert_eq!(register.report(&report(B, 1, 500)), Err(ReportRefused::NotACopy));
}

/// A holds 400, B is held out and ends at 120.
fn torn_apart() -> Register {
    let mut register = held_out();
    register.report(&report(A, 1, 400)).unwrap();
    register.report(&report(B, 1, 300)).unwrap();
    register
}

#[test]
fn an_accepted_loss_makes_any_copy_primary_alone_and_holds_out_the_rest() {
    let mut register = torn_apart();
    let new = register.accept_loss(B, 9, Lsn(120)).unwrap();
    register.swap(Version(6), &new, Proposer::Operator, Rules::all()).unwrap();
    let config = register.config().unwrap();
    assert_eq!((config.primary, config.epoch), (B, Epoch { number: 2, nonce: 9 }));
    assert_eq!(config.in_sync_set().collect::<Vec<_>>(), [B]);
    assert!(config.held(A) && !config.held(B));
    assert_eq!(config.loss, Some(Loss { instance: B, epoch: 2, end: Lsn(120) }));
    let floor = Promise { epoch: 2, lsn: Lsn(120) };
    assert_eq!(config.copy(B).unwrap().durable, floor, "the floor falls to where it ends");
    assert_eq!(register.heard(B), floor);
    let late = register.report(&report(B, 1, 300));
    assert_eq!(late, Err(ReportRefused::Stale { reported: 1, heard: 2 }));
    // Asked for again it has won already, and another one finds the version moved.
    register.swap(Version(6), &new, Proposer::Operator, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().version, Version(7));
}

#[test]
fn an_accepted_loss_takes_a_primary_that_is_below_its_floor_too() {
    let mut register = torn_apart();
    let new = register.accept_loss(A, 9, Lsn(200)).unwrap();
    register.swap(Version(6), &new, Proposer::Operator, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().primary, A);
    assert_eq!(register.heard(A), Promise { epoch: 2, lsn: Lsn(200) });
}

#[test]
fn an_accepted_loss_stays_until_the_next_one_and_nobody_else_touches_it() {
    let mut register = torn_apart();
    let new = register.accept_loss(B, 9, Lsn(120)).unwrap();
    register.swap(Version(6), &new, Proposer::Operator, Rules::all()).unwrap();
    let restarted = next(register.config().unwrap(), |new| new.epoch = epoch(3));
    register.swap(Version(7), &restarted, BY_B, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().loss, new.loss);
    for proposer in [BY_B, Proposer::Coordinator, Proposer::Operator] {
        let without = next(register.config().unwrap(), |new| new.loss = None);
        let refused = register.decide(Version(8), &without, proposer, Rules::all());
        assert_eq!(refused, Err(Conflict::LossChanged), "{proposer:?}");
    }
    let again = register.accept_loss(A, 10, Lsn(400)).unwrap();
    register.swap(Version(8), &again, Proposer::Operator, Rules::all()).unwrap();
    assert_eq!(register.config().unwrap().loss.unwrap().instance, A);
    assert_eq!(register.heard(A), Promise { epoch: 4, lsn: Lsn(400) });
}

#[test]
fn a_loss_that_is_not_as_the_rules_say_is_refused_with_its_name() {
    let register = torn_apart();
    let loss = register.accept_loss(B, 9, Lsn(120)).unwrap();
    let but = |change: fn(&mut Config)| {
        let mut new = loss.clone();
        change(&mut new);
        new
    };
    let by = |new: &Config, proposer| register.decide(Version(6), new, proposer, Rules::all());
    for proposer in [BY_A, BY_B, Proposer::Coordinator] {
        assert!(by(&loss, proposer).is_err(), "{proposer:?}");
    }
    assert_eq!(by(&loss, Proposer::Coordinator), Err(Conflict::HeldChanged));
    let refused: Vec<(Config, Conflict)> = vec![
        (
            but(|new| new.epoch.number = 1),
            Conflict::ForeignNonce { proposed: Epoch { number: 1, nonce: 9 }, recorded: epoch(1) },
        ),
        (but(|new| new.epoch.nonce = epoch(1).nonce), Conflict::NonceReused),
        (but(|new| new.loss.as_mut().unwrap().epoch = 1), Conflict::LossChanged),
        (but(|new| new.loss.as_mut().unwrap().instance = A), Conflict::LossChanged),
        (but(|new| new.copies[0].in_sync = true), Conflict::HeldInSync { instance: A }),
        (but(|new| new.copies[0].held = false), Conflict::LossNotAlone { to: B }),
        (
            but(|new| (new.copies[0].held, new.copies[0].in_sync) = (false, true)),
            Conflict::LossNotAlone { to: B },
        ),
        (but(|new| new.copies.push(copy(C, false, 0))), Conflict::CopiesChanged),
        (but(|new| new.copies[0].addresses.clear()), Conflict::CopiesChanged),
        (
            but(|new| {
                new.primary = C;
                new.loss.as_mut().unwrap().instance = C;
            }),
            Conflict::NotACopy { to: C },
        ),
    ];
    for (new, why) in refused {
        assert_eq!(by(&new, Proposer::Operator), Err(why), "{new:?}");
    }
    assert_eq!(register.accept_loss(C, 9, Lsn(1)), Err(Conflict::NotACopy { to: C }));
}

#[test]
fn a_hand_over_is_to_an_in_sync_mirror_alone() {
    let to_b = register().hand_over(B, 9).unwrap();
    assert_eq!(to_b, register().promotion(B, 9).unwrap());
    assert!(decide(&to_b, Proposer::Coordinator).is_ok());
    assert_eq!(register().hand_over(A, 9), Err(Conflict::PrimaryAlready { to: A }));
    assert_eq!(held_out().hand_over(B, 9), Err(Conflict::NotAMember { to: B }));
    assert_eq!(register().hand_over(C, 9), Err(Conflict::NotAMember { to: C }));
    assert_eq!(Register::default().hand_over(B, 9), Err(Conflict::NotCreated));
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
