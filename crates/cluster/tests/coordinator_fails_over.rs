//! Instances fail: what the coordinator does about it, and what it must not.

mod support;

use outrigger_cluster::catalog::Change;
use outrigger_cluster::coordinator::{In, Out};
use outrigger_cluster::operator::{Answer, Loss, RecoverMode, Request};
use outrigger_net::config::{Config, Version};
use outrigger_wal::ContentId;
use support::fleet::{Fleet, dbid_of, instance_of, loss_in, own};
use support::{create, epoch, next};

const CONTENT: ContentId = ContentId(0);

/// What the voters hold in this reign, that was begun as it should be.
fn own_in(reign: u64) -> Config {
    Config { version: Version(reign * 10), epoch: epoch(reign), ..own() }
}

/// The same, begun by force.
fn forced_in(reign: u64) -> Config {
    Config { loss: Some(loss_in(reign)), ..own_in(reign) }
}

fn pair() -> Fleet {
    Fleet::founded(1, 2, true)
}

fn appended(fleet: &Fleet) -> usize {
    fleet.world.out.iter().filter(|out| matches!(out, Out::Append { .. })).count()
}

#[test]
fn a_primary_whose_process_ended_is_failed_over_at_once_and_the_mirror_is_told() {
    let mut fleet = pair();
    let before = fleet.world.now;
    fleet.kill(dbid_of(0, false));
    assert_eq!(fleet.world.now, before, "without waiting");
    let config = fleet.config(0);
    assert_eq!((config.primary, config.epoch.number), (instance_of(0, true), 2));
    assert!(config.in_sync(instance_of(0, false)), "the old primary leaves later, by S2");
    let link = fleet.fake(0, true).link.unwrap();
    assert_eq!(fleet.world.pushed(link).last(), Some(&config.version.0));
    fleet.run(2_000);
    assert!(fleet.config(0).copy(instance_of(0, false)).unwrap().held, "and stays out");
    assert_eq!(fleet.world.coordinator.counters().promotions, 1);
}

#[test]
fn a_silent_primary_is_failed_over_after_the_timeout_and_not_before() {
    let mut fleet = pair();
    fleet.fake(0, false).silent = true;
    fleet.fake(0, true).stream_age = None;
    fleet.shrinks = false;
    fleet.run(400);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    fleet.run(400);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    assert!(fleet.handed.is_empty());
}

#[test]
fn a_primary_that_its_mirror_hears_is_handed_over_through_the_mirror() {
    let mut fleet = pair();
    fleet.fake(0, false).silent = true;
    fleet.fake(0, true).stream_age = Some(0);
    fleet.run(900);
    assert_eq!(fleet.handed.first(), Some(&(instance_of(0, true), instance_of(0, true))));
    assert_eq!(
        fleet.primary(0),
        instance_of(0, true),
        "it gave up: promoted before twice the timeout"
    );
}

#[test]
fn a_primary_that_does_not_give_up_is_failed_over_after_twice_the_timeout() {
    let mut fleet = pair();
    fleet.yields = false;
    fleet.shrinks = false;
    fleet.fake(0, false).silent = true;
    fleet.fake(0, true).stream_age = Some(0);
    fleet.run(900);
    assert!(!fleet.handed.is_empty());
    assert_eq!(fleet.primary(0), instance_of(0, false), "its word is waited for");
    assert!(fleet.note(0).contains("handing over"), "{}", fleet.note(0));
    fleet.run(400);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

#[test]
fn that_an_earlier_epoch_was_given_up_moves_nobody_in_a_later_one() {
    // The primary gave up, nothing was recorded, and it took a new epoch: it serves again.
    let mut fleet = pair();
    fleet.yields = false;
    fleet.shrinks = false;
    fleet.fake(0, false).silent = true;
    fleet.run(700);
    fleet.applies = false;
    fleet.give_up(instance_of(0, true));
    fleet.fake(0, false).silent = false;
    let lost = std::mem::take(&mut fleet.world.waiting);
    drop(lost);
    let config = fleet.config(0);
    let new = next(&config, |new| new.epoch = epoch(2));
    let change = Change::Swap {
        content: CONTENT,
        seen: config.version,
        new,
        proposer: outrigger_cluster::register::Proposer::Instance(config.primary),
        reports: Vec::new(),
    };
    fleet.world.log.change(999, change);
    fleet.applies = true;
    let log = fleet.world.log.records.clone();
    outrigger_replica::store::StateStore::apply(&*fleet.world.catalog, &log).unwrap();
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    assert_eq!(fleet.world.coordinator.counters().promotions, 0);
}

fn bring_back(mode: RecoverMode) -> Request {
    Request::BringBack { contents: vec![CONTENT], mode, max_rate_bytes: 0 }
}

/// The mirror fell behind and is let back, and does not come in sync.
fn let_back() -> Fleet {
    let mut fleet = pair();
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    fleet.grows = false;
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(2_000);
    fleet
}

/// The primary is lost while its mirror is not in sync.
fn doubly_faulty() -> Fleet {
    let mut fleet = pair();
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    assert!(!fleet.config(0).in_sync(instance_of(0, true)));
    fleet.fake(0, false).durable = 90_000;
    fleet.run(1_500);
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    fleet
}

#[test]
fn a_double_fault_promotes_nobody_is_shown_with_both_lsns_and_noted_once() {
    let mut fleet = doubly_faulty();
    assert_eq!(fleet.primary(0), instance_of(0, false));
    let note = fleet.note(0);
    assert!(note.contains("0/15F90") && note.contains("0/1000"), "{note}");
    assert!(note.contains("dbid 10 in sync") && note.contains("dbid 11 not in sync"), "{note}");
    fleet.run(10_000);
    assert_eq!(fleet.history("double fault of contentid 0"), 1);
    assert_eq!(fleet.world.coordinator.counters().promotions, 0);
}

#[test]
fn a_double_fault_keeps_its_lsns_over_a_restart_of_the_coordinator() {
    let mut fleet = doubly_faulty();
    let text = fleet.note(0);
    fleet.restart(4, false);
    fleet.run(6_000);
    assert!(fleet.note(0).contains("double fault"), "{}", fleet.note(0));
    assert!(!fleet.note(0).contains("unknown"), "{} was {text}", fleet.note(0));
    assert_eq!(fleet.primary(0), instance_of(0, false));
}

#[test]
fn a_double_fault_heals_when_the_primary_returns() {
    let mut fleet = doubly_faulty();
    let answer = fleet.done(&bring_back(RecoverMode::Full));
    fleet.run(4_000);
    assert_eq!(fleet.note(0), "ok", "{answer}");
    assert_eq!(fleet.primary(0), instance_of(0, false));
    assert!(
        fleet.orders.iter().all(|(dbid, wanted, _)| {
            *dbid != dbid_of(0, false)
                || !matches!(wanted, outrigger_cluster::catalog::tables::Wanted::Rebuild(_))
        }),
        "the last copy is never made anew: {:?}",
        fleet.orders
    );
}

#[test]
fn a_double_fault_heals_when_an_in_sync_mirror_returns() {
    let mut fleet = pair();
    fleet.shrinks = false;
    fleet.kill(dbid_of(0, true));
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    assert!(fleet.note(0).contains("double fault"), "{}", fleet.note(0));
    // The mirror's process comes back by an administrator's hand; the primary's host stays away.
    fleet.lose_host("sdw1");
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(2_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

#[test]
fn a_mirror_whose_report_runs_ahead_of_its_heartbeats_is_promoted_without_a_double_fault() {
    // Reports come over TCP, beats by their interval: under load the last beat is always older than the last
    // report, and says less than the floor. That is no regressed copy.
    let mut fleet = pair();
    for round in 0..20_u64 {
        fleet.fake(0, false).durable = 100_000 * (round + 1);
        fleet.fake(0, true).durable = 100_000 * (round + 1);
        fleet.run(1_000);
    }
    fleet.fake(0, true).durable += 5_000;
    let mirror = fleet.fake(0, true).clone();
    fleet.fakes.get_mut(&dbid_of(0, true)).unwrap().durable += 1;
    fleet.world.report_on(mirror.link.unwrap(), CONTENT, &fleet.config(0), mirror.durable);
    fleet.kill(dbid_of(0, false));
    assert_eq!(fleet.primary(0), instance_of(0, true), "{}", fleet.note(0));
    assert_eq!(fleet.history("double fault"), 0);
}

#[test]
fn a_mirror_that_lost_what_it_had_promised_is_not_promoted() {
    let mut fleet = pair();
    fleet.fake(0, true).durable = 500_000;
    fleet.run(2_000);
    fleet.shrinks = false;
    fleet.fake(0, true).durable = 300_000;
    fleet.run(500);
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    assert!(fleet.note(0).contains("double fault"), "{}", fleet.note(0));
}

#[test]
fn a_promotion_that_is_refused_is_not_repeated_in_a_tight_loop() {
    // Each time a promotion waits in the log, the set shrinks before it: the mirror may lack commits.
    let mut fleet = pair();
    fleet.applies = false;
    fleet.shrinks = false;
    fleet.kill(dbid_of(0, false));
    let config = fleet.config(0);
    let new = next(&config, |new| new.copies[1].in_sync = false);
    let change = Change::Swap {
        content: CONTENT,
        seen: config.version,
        new,
        proposer: outrigger_cluster::register::Proposer::Instance(config.primary),
        reports: Vec::new(),
    };
    fleet.world.log.change(999, change);
    let before = appended(&fleet);
    fleet.applies = true;
    fleet.run(2_000);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    assert!(fleet.note(0).contains("double fault"), "{}", fleet.note(0));
    assert!(appended(&fleet) <= before + 2, "one note, and nothing else");
}

#[test]
fn a_failover_that_the_catalog_does_not_take_is_asked_for_again_a_little_later() {
    let mut fleet = pair();
    fleet.applies = false;
    fleet.shrinks = false;
    fleet.kill(dbid_of(0, false));
    for round in 0..3 {
        let asked: Vec<_> = fleet
            .world
            .out
            .iter()
            .filter_map(|out| match out {
                Out::Append { ticket, .. } => Some(*ticket),
                _ => None,
            })
            .collect();
        let count = fleet.world.waiting.len();
        assert_eq!(count, 1, "round {round}");
        fleet.world.waiting.clear();
        let ticket = *asked.last().unwrap();
        fleet.world.step(In::NotAppended { ticket, text: "the disk is full".to_owned() });
        assert!(fleet.world.waiting.is_empty(), "not at once");
        fleet.run(100);
        assert!(fleet.world.waiting.is_empty());
        fleet.run(150);
    }
    fleet.applies = true;
    fleet.run(100);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

#[test]
fn a_coordinator_that_takes_over_finishes_a_failover() {
    // The old one had appended it; whether that was committed, nobody has said.
    for committed in [false, true] {
        let mut fleet = pair();
        fleet.shrinks = false;
        fleet.applies = false;
        fleet.kill(dbid_of(0, false));
        if committed {
            fleet.world.apply();
        }
        fleet.restart(4, false);
        fleet.applies = true;
        fleet.run(4_000);
        assert_eq!(fleet.primary(0), instance_of(0, true), "{}", fleet.note(0));
        assert_eq!(fleet.config(0).epoch.number, 2, "once");
    }
}

#[test]
fn a_deposed_coordinator_does_nothing_more() {
    let mut fleet = pair();
    fleet.world.step(In::Serving(None));
    fleet.world.out.clear();
    let beat = In::Refused { instance: instance_of(0, false) };
    for event in [beat, In::Tick, In::Agent { host: "sdw1".to_owned(), here: true }] {
        fleet.world.step(event);
    }
    fleet.status("sdw1");
    for _ in 0..50 {
        fleet.world.pass(100);
    }
    let did: Vec<_> = fleet.world.out.iter().filter(|out| !matches!(out, Out::Event(_))).collect();
    assert!(did.is_empty(), "{did:?}");
    assert_eq!(fleet.world.coordinator.deadline(), None, "and asks for no time");
}

#[test]
fn what_is_stopped_on_purpose_is_not_failed_over() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.shrinks = false;
    fleet.done(&Request::Stop { host: None });
    fleet.run(5_000);
    assert!((0..2).all(|content| !fleet.running(dbid_of(content, false))));
    assert_eq!(fleet.world.coordinator.counters().promotions, 0);
    assert_eq!(fleet.history("double fault"), 0);
}

#[test]
fn a_changed_timeout_counts_at_once() {
    let mut fleet = pair();
    fleet.shrinks = false;
    fleet.done(&Request::Set { key: "fts_probe_timeout_ms".to_owned(), value: 5_000 });
    fleet.fake(0, true).stream_age = None;
    fleet.fake(0, false).silent = true;
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

// S8.

#[test]
fn after_a_forced_activation_nothing_fails_over_before_each_copy_has_reported() {
    for before_serving in [true, false] {
        let mut fleet = pair();
        fleet.shrinks = false;
        // The mirror is not heard by the new coordinator: only the primary reports, then dies.
        fleet.fake(0, true).silent = true;
        if before_serving {
            fleet.restart(4, true);
        } else {
            // Its member reigns before it was told what the voters hold.
            fleet.begin_reign(4, own_in(3));
            fleet.run(500);
            assert!(!fleet.is_unproved());
            assert_eq!(fleet.primary(0), instance_of(0, false));
            fleet.world.step(In::Own { config: forced_in(4) });
        }
        fleet.run(1_000);
        assert!(fleet.is_unproved());
        fleet.kill(dbid_of(0, false));
        fleet.fake(0, true).silent = false;
        fleet.fake(0, true).fails = None;
        fleet.run(200);
        fleet.applies = true;
        fleet.run(3_000);
        // Now it has: and the content fails over.
        assert_eq!(fleet.primary(0), instance_of(0, true), "before: {before_serving}");
        assert!(!fleet.is_unproved(), "all are proved");
    }
}

#[test]
fn a_copy_that_never_reports_keeps_its_content_from_failing_over() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.shrinks = false;
    fleet.kill(dbid_of(0, false));
    fleet.run(100);
    // Content 0: B reigns, A is dead. Its new coordinator never hears A.
    assert_eq!(fleet.primary(0), instance_of(0, true));
    fleet.restart(4, true);
    fleet.run(5_000);
    assert!(fleet.is_unproved());
    assert!(fleet.note(0).starts_with("unproved: dbid"), "{}", fleet.note(0));
    assert_eq!(fleet.note(1), "ok");
    fleet.kill(dbid_of(1, false));
    fleet.run(100);
    assert_eq!(fleet.primary(1), instance_of(1, true), "the other one is proved");
    let text = fleet.denied(&Request::Promote { content: CONTENT, loss: Loss::None });
    assert!(text.contains("every copy"), "{text}");
    // It is remembered by the next coordinator, which was not begun by force.
    fleet.restart(5, false);
    fleet.run(3_000);
    assert!(fleet.is_unproved());
}

#[test]
fn a_report_of_a_copy_that_could_obey_an_earlier_coordinator_again_proves_nothing() {
    // What came in and is not durable yet is forgotten in a crash, and the earlier coordinator may be there still.
    let mut fleet = pair();
    fleet.shrinks = false;
    fleet.fake(0, true).forgets = true;
    fleet.restart(4, true);
    fleet.run(3_000);
    assert!(fleet.is_unproved());
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, false), "it is not failed over");
    fleet.fake(0, true).forgets = false;
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

#[test]
fn an_administrator_changes_nothing_of_a_content_that_is_not_proved_and_starts_what_proves_it() {
    // The mirror was dropped and told nothing; its old primary reigns. Then the catalog lost something.
    let mut fleet = pair();
    fleet.grows = false;
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    assert!(fleet.config(0).held(instance_of(0, true)));
    fleet.restart(4, true);
    fleet.run(2_000);
    let before = fleet.config(0);
    fleet.done(&Request::BringBack {
        contents: Vec::new(),
        mode: RecoverMode::Auto,
        max_rate_bytes: 0,
    });
    assert_eq!(fleet.config(0), before, "a version more would hide that another one was heard of");
    fleet.run(3_000);
    assert!(!fleet.is_unproved(), "it was started, and has reported");
    assert!(!fleet.config(0).held(instance_of(0, true)), "it is let back now");
}

#[test]
fn a_content_whose_copy_never_reports_is_settled_by_an_administrator_alone() {
    let mut fleet = Fleet::founded(1, 2, true);
    // The mirror is gone with what it had accepted when the catalog lost something.
    fleet.shrinks = false;
    fleet.fake(0, true).silent = true;
    fleet.restart(4, true);
    fleet.run(5_000);
    assert!(fleet.is_unproved());
    let promote = |loss| Request::Promote { content: CONTENT, loss };
    let text = fleet.denied(&promote(Loss::Accepted));
    assert!(text.contains("have not reported") && text.contains("is-fenced"), "{text}");
    let before = fleet.config(0);
    let answer = fleet.ask(&promote(Loss::AcceptedAndFenced));
    assert!(matches!(answer, Answer::Promoted { primary, .. } if primary == instance_of(0, false)));
    let settled = fleet.config(0);
    assert!(settled.epoch.number > before.epoch.number && settled.loss.is_some());
    assert_eq!(settled.in_sync_set().collect::<Vec<_>>(), [instance_of(0, false)]);
    fleet.run(3_000);
    assert!(!fleet.is_unproved(), "nothing is left to be proved");
    assert!(fleet.history("a loss is accepted") > 0);
}

#[test]
fn that_a_reign_was_forced_is_told_again_and_counts_once() {
    let mut fleet = pair();
    fleet.restart(4, true);
    fleet.run(5_000);
    assert!(!fleet.is_unproved(), "both have reported");
    // The same again, a change in the same reign, and a start of the next one: the voters' value tells of it for good.
    fleet.world.step(In::Own { config: forced_in(4) });
    fleet.world.step(In::Own { config: Config { version: Version(41), ..forced_in(4) } });
    fleet.run(100);
    fleet.begin_reign(5, Config { loss: forced_in(4).loss, ..own_in(5) });
    fleet.run(3_000);
    assert!(!fleet.is_unproved());
    assert_eq!(fleet.history("activated by force"), 1);
    // The next one by force is another.
    fleet.restart(6, true);
    fleet.run(5_000);
    assert!(!fleet.is_unproved());
    assert_eq!(fleet.history("activated by force"), 2);
}

#[test]
fn a_forced_activation_is_known_to_the_next_coordinator_though_its_own_died_before_it_recorded_anything()
 {
    // The coordinator loses its standby, records that the mirror is dropped, and is lost with that record. The standby is
    // activated by force and dies before anything is recorded in its catalog. It starts again, with every voter there: this
    // start took no force. The catalog names the mirror as in sync, which lacks commits by now.
    let mut fleet = pair();
    fleet.shrinks = false;
    fleet.fake(0, true).silent = true;
    fleet.applies = false;
    fleet.restart(4, true);
    fleet.run(1_000);
    assert!(!fleet.is_unproved(), "nothing of it is in the catalog");
    fleet.applies = true;
    fleet.begin_reign(5, Config { loss: forced_in(4).loss, ..own_in(5) });
    fleet.run(1_000);
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    assert!(fleet.is_unproved());
    assert_eq!(fleet.primary(0), instance_of(0, false), "nothing fails over");
    fleet.fake(0, true).silent = false;
    fleet.fake(0, true).fails = None;
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, true), "{}", fleet.note(0));
    assert!(!fleet.is_unproved());
}

#[test]
fn a_coordinator_that_does_not_know_its_own_configuration_yet_changes_nothing_of_a_content_that_is_not_proved()
 {
    let mut fleet = pair();
    fleet.begin_reign(4, own_in(3));
    fleet.kill(dbid_of(0, false));
    fleet.run(3_000);
    let before = fleet.config(0);
    assert_eq!(before.primary, instance_of(0, false));
    fleet.world.step(In::Own { config: own_in(4) });
    fleet.run(200);
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

// S10.

#[test]
fn a_loss_is_not_accepted_while_a_copy_that_has_everything_is_up() {
    let mut fleet = pair();
    for loss in [Loss::Accepted, Loss::AcceptedAndFenced] {
        let text = fleet.denied(&Request::Promote { content: CONTENT, loss });
        assert!(text.contains("nothing need be lost"), "{text}");
    }
}

#[test]
fn a_loss_needs_the_old_primary_fenced_and_is_noted_and_shown() {
    let mut fleet = let_back();
    fleet.kill(dbid_of(0, false));
    fleet.run(2_000);
    let text = fleet.denied(&Request::Promote { content: CONTENT, loss: Loss::Accepted });
    assert!(text.contains("--old-primary-is-fenced"), "{text}");
    assert_eq!(fleet.primary(0), instance_of(0, false));
    let loss = Loss::AcceptedAndFenced;
    let answer = fleet.ask(&Request::Promote { content: CONTENT, loss });
    assert!(matches!(answer, Answer::Promoted { .. }), "{answer:?}");
    let config = fleet.config(0);
    assert_eq!(config.primary, instance_of(0, true));
    assert_eq!(config.loss.unwrap().instance, instance_of(0, true));
    assert!(config.held(instance_of(0, false)));
    assert_eq!(fleet.history("a loss is accepted"), 1);
    assert!(fleet.note(0).contains("loss"), "{}", fleet.note(0));
}

#[test]
fn an_old_primary_that_can_be_reached_is_asked_to_give_up_before_anything_is_lost() {
    for yields in [true, false] {
        let mut fleet = let_back();
        // Its heartbeats say that its disk does not take writes; its connection is alive.
        fleet.fake(0, false).disk_hangs = true;
        fleet.yields = yields;
        fleet.run(1_000);
        let answer = fleet.ask(&Request::Promote { content: CONTENT, loss: Loss::Accepted });
        assert_eq!(fleet.handed.first(), Some(&(instance_of(0, false), instance_of(0, true))));
        assert_eq!(matches!(answer, Answer::Promoted { .. }), yields, "{answer:?}");
        assert_eq!(fleet.primary(0), instance_of(0, yields));
        let said =
            "what was committed behind LSN 0/1000 up to LSN 0/1000, where the old primary gave";
        assert_eq!(fleet.history(said), usize::from(yields));
        if let Answer::Denied { text } = answer {
            assert!(text.contains("has not answered") && text.contains("--old-primary-is-fenced"));
        }
    }
}

/// The primary gives its reign up, and says so when the administrator has been told that it did not answer: by then
/// nobody waits, nothing is recorded, and a later order for another epoch is not answered by that word.
#[test]
fn a_word_that_comes_late_accepts_no_loss() {
    let mut fleet = pair();
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    fleet.fake(0, false).disk_hangs = true;
    fleet.grows = false;
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(2_000);
    fleet.yields = false;
    let text = fleet.denied(&Request::Promote { content: CONTENT, loss: Loss::Accepted });
    assert!(text.contains("has not answered"), "{text}");
    fleet.give_up(instance_of(0, false));
    fleet.run(5_000);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    assert_eq!(fleet.history("a loss is accepted"), 0);
}

#[test]
fn a_content_without_rows_is_failed_over_by_an_administrator_only() {
    let mut world = support::World::new(vec![create(support::pair())]);
    world.connect(support::B);
    world.pass(10_000);
    assert_eq!(world.config().primary, support::A);
}
