//! A cluster goes down in order, by itself or by an administrator, as a whole or one host; and comes up again.

mod support;

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::{Dbid, Up, Wanted};
use outrigger_cluster::coordinator::{In, Out};
use outrigger_cluster::operator::{Answer, Loss, Request};
use outrigger_wal::ContentId;
use support::OPERATOR;
use support::fleet::{Fleet, dbid_of, instance_of};

const STOP: Request = Request::Stop { host: None };

fn stop_host(host: &str) -> Request {
    Request::Stop { host: Some(host.to_owned()) }
}

/// The order in which instances were told to go down.
fn downs(fleet: &Fleet) -> Vec<Dbid> {
    let downs = fleet.orders.iter().filter(|(_, wanted, _)| *wanted == Wanted::Down);
    downs.map(|(dbid, ..)| *dbid).collect()
}

#[test]
fn without_mirrors_an_invalid_instance_shuts_everything_down_but_the_coordinator() {
    let mut fleet = Fleet::founded(4, 4, false);
    fleet.kill(dbid_of(2, false));
    fleet.run(1_000);
    let Up::ShutDown { why } = fleet.up() else { panic!("{:?}", fleet.up()) };
    assert!(why.contains("content 2") && why.contains("its process ended"), "{why}");
    assert!((0..4).all(|content| !fleet.running(dbid_of(content, false))));
    assert!(!downs(&fleet).contains(&Dbid(1)), "the coordinator answers for it");
    assert_eq!(fleet.history("the cluster is down"), 1);
    fleet.run(5_000);
    assert_eq!(fleet.history("the cluster is down"), 1, "once");
}

#[test]
fn without_mirrors_a_short_silence_shuts_nothing_down() {
    let mut fleet = Fleet::founded(2, 2, false);
    fleet.fake(0, false).silent = true;
    fleet.run(800);
    assert_eq!(fleet.up(), Up::Running);
    fleet.fake(0, false).silent = false;
    fleet.run(3_000);
    assert_eq!(fleet.up(), Up::Running);
    fleet.fake(0, false).silent = true;
    fleet.run(1_500);
    assert!(matches!(fleet.up(), Up::ShutDown { .. }));
}

#[test]
fn a_shutdown_that_the_catalog_does_not_take_is_asked_for_again() {
    let mut fleet = Fleet::founded(2, 2, false);
    fleet.applies = false;
    fleet.kill(dbid_of(0, false));
    assert_eq!(fleet.world.waiting.len(), 1);
    fleet.world.waiting.clear();
    let ticket = fleet.world.out.iter().rev().find_map(|out| match out {
        Out::Append { ticket, .. } => Some(*ticket),
        _ => None,
    });
    fleet.world.step(In::NotAppended { ticket: ticket.unwrap(), text: "full".to_owned() });
    assert!(fleet.world.waiting.is_empty(), "not at once");
    fleet.applies = true;
    fleet.run(500);
    assert!(matches!(fleet.up(), Up::ShutDown { .. }));
}

#[test]
fn a_start_is_refused_with_the_reason_and_accepted_when_all_is_whole() {
    let mut fleet = Fleet::founded(2, 2, false);
    fleet.kill(dbid_of(0, false));
    fleet.run(1_000);
    fleet.bad = vec![(dbid_of(0, false), "the data directory is missing".to_owned())];
    let text = fleet.denied(&Request::Start);
    assert!(text.contains("content 0") && text.contains("directory is missing"), "{text}");
    fleet.bad.clear();
    fleet.lose_host("sdw2");
    let text = fleet.denied(&Request::Start);
    assert!(text.contains("content 1") && text.contains("the agent of host sdw2"), "{text}");
    assert!((0..2).all(|content| !fleet.running(dbid_of(content, false))), "nothing is served");
    fleet.find_host("sdw2");
    fleet.done(&Request::Start);
    fleet.settle();
    assert_eq!(fleet.up(), Up::Running);
    assert!((0..2).all(|content| fleet.running(dbid_of(content, false))));
    assert!(fleet.done(&Request::Start).contains("up already"));
}

#[test]
fn a_start_is_refused_while_instances_are_still_going_down() {
    // A cluster without mirrors was started right behind its shutdown: an instance that was still closing said in its
    // heartbeats that it is down, which took the cluster that was just up down again.
    let mut fleet = Fleet::founded(2, 2, false);
    fleet.kill(dbid_of(0, false));
    fleet.run(2_000);
    assert!(!fleet.up().is_running());
    fleet.fake(1, false).process = Process::Running { pid: 7 };
    fleet.status("sdw2");
    assert!(fleet.denied(&Request::Start).contains("is still going down"));
    fleet.fake(1, false).process = Process::Stopped;
    fleet.status("sdw2");
    fleet.done(&Request::Start);
    fleet.run(2_000);
    assert!(fleet.up().is_running());
}

#[test]
fn a_start_ends_when_an_agent_goes_away_before_it_answers() {
    let mut fleet = Fleet::founded(2, 2, false);
    fleet.done(&STOP);
    fleet.run(1_000);
    fleet.mute.insert("sdw2".to_owned());
    let one = fleet.begin(&Request::Start);
    fleet.run(100);
    assert!(fleet.denied(&Request::Start).contains("under way"), "two do not mix");
    assert_eq!(fleet.world.answer(one), None);
    fleet.lose_host("sdw2");
    let Some(Answer::Denied { text }) = fleet.world.answer(one) else { panic!("no answer") };
    assert!(text.contains("sdw2"), "{text}");
}

#[test]
fn a_stop_takes_primaries_then_mirrors_then_the_coordinator() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.done(&STOP);
    fleet.run(2_000);
    let downs = downs(&fleet);
    assert_eq!(downs.len(), 5, "{downs:?}");
    let mut primaries = downs[..2].to_vec();
    primaries.sort();
    assert_eq!(primaries, [dbid_of(0, false), dbid_of(1, false)]);
    assert_eq!(downs[4], Dbid(1), "the coordinator last");
    assert_eq!(fleet.up(), Up::Stopped);
}

#[test]
fn a_host_that_is_gone_is_not_waited_for_by_a_stop() {
    let mut fleet = Fleet::founded(2, 3, true);
    fleet.hosts.insert("sdw1".to_owned(), false);
    fleet.world.step(In::Agent { host: "sdw1".to_owned(), here: false });
    fleet.done(&STOP);
    fleet.run(2_000);
    assert!(!fleet.running(dbid_of(1, true)), "mirrors go down though a primary cannot be told");
}

#[test]
fn a_coordinator_that_is_started_while_all_is_stopped_does_not_stop_itself() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.done(&STOP);
    fleet.run(2_000);
    fleet.restart(4, false);
    fleet.orders.clear();
    fleet.run(3_000);
    assert!(!downs(&fleet).contains(&Dbid(1)), "{:?}", fleet.orders);
    fleet.done(&Request::Start);
    fleet.settle();
    assert_eq!([fleet.note(0), fleet.note(1)], ["ok", "ok"]);
    assert_eq!(fleet.world.coordinator.counters().promotions, 0);
}

#[test]
fn a_host_is_stopped_after_its_primaries_were_handed_over() {
    let mut fleet = Fleet::founded(4, 4, true);
    fleet.done(&stop_host("sdw1"));
    fleet.run(3_000);
    assert_eq!(fleet.handed, [(instance_of(0, false), instance_of(0, true))]);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    assert!(!fleet.running(dbid_of(0, false)) && !fleet.running(dbid_of(3, true)));
    let others = [dbid_of(0, true), dbid_of(1, false), dbid_of(3, false)];
    assert!(others.into_iter().all(|dbid| fleet.running(dbid)));
    assert_eq!(fleet.history("double fault"), 0);
    assert_eq!(fleet.world.coordinator.counters().promotions, 1, "by hand-over alone");
    // It stays down until an administrator says otherwise.
    fleet.done(&Request::Set { key: "auto_rejoin_ms".to_owned(), value: 0 });
    fleet.run(3_000);
    assert!(!fleet.running(dbid_of(0, false)));
}

#[test]
fn a_host_is_not_stopped_where_something_would_be_lost_from_sight() {
    let mut fleet = Fleet::founded(4, 4, true);
    assert!(fleet.denied(&stop_host("nowhere")).contains("no host"));
    assert!(fleet.denied(&stop_host("cdw")).contains("the coordinator or its standby"));
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    let text = fleet.denied(&stop_host("sdw1"));
    assert!(text.contains("content 0 would have no copy in sync"), "{text}");
    assert!(fleet.running(dbid_of(0, false)) && fleet.running(dbid_of(3, true)));
}

#[test]
fn a_host_whose_primary_does_not_hand_over_is_not_stopped() {
    let mut fleet = Fleet::founded(4, 4, true);
    fleet.yields = false;
    let op = fleet.begin(&stop_host("sdw1"));
    fleet.run(1_000);
    assert!(fleet.denied(&stop_host("sdw2")).contains("host sdw1 is being stopped"));
    assert!(fleet.denied(&Request::Rebalance).contains("host sdw1 is being stopped"));
    assert_eq!(fleet.world.answer(op), None);
    fleet.run(25_000);
    let Some(Answer::Denied { text }) = fleet.world.answer(op) else { panic!("no answer") };
    assert!(text.contains("content 0 could not be handed over"), "{text}");
    assert!(fleet.running(dbid_of(0, false)));
}

#[test]
fn a_host_is_stopped_though_whoever_asked_has_gone() {
    let mut fleet = Fleet::founded(4, 4, true);
    fleet.begin(&stop_host("sdw1"));
    fleet.world.step(In::Closed(OPERATOR));
    fleet.run(3_000);
    assert!(!fleet.running(dbid_of(0, false)));
    assert_eq!(fleet.primary(0), instance_of(0, true));
}

// Rebalance.

/// Four pairs, of which 0 and 1 have changed roles and are in sync again.
fn unbalanced() -> Fleet {
    let mut fleet = Fleet::founded(4, 4, true);
    for content in [0, 1] {
        fleet.kill(dbid_of(content, false));
    }
    fleet.run(2_000);
    fleet.done(&Request::BringBack {
        contents: Vec::new(),
        mode: outrigger_cluster::operator::RecoverMode::Auto,
        max_rate_bytes: 0,
    });
    fleet.run(3_000);
    assert!((0..4).all(|content| fleet.note(content) == "ok"));
    assert_eq!(fleet.primary(0), instance_of(0, true));
    fleet
}

#[test]
fn roles_are_given_back_one_pair_at_a_time() {
    let mut fleet = unbalanced();
    // The first pair is not in sync again while its old primary is silent.
    fleet.fakes.get_mut(&dbid_of(0, true)).unwrap().quiet = true;
    let text = fleet.done(&Request::Rebalance);
    assert!(text.contains("2 pairs"), "{text}");
    fleet.done(&Request::Rebalance);
    fleet.run(3_000);
    assert_eq!(fleet.handed.len(), 1, "{:?}", fleet.handed);
    assert_eq!(fleet.primary(0), instance_of(0, false));
    fleet.fakes.get_mut(&dbid_of(0, true)).unwrap().quiet = false;
    fleet.run(3_000);
    assert_eq!(fleet.handed.len(), 2, "{:?}", fleet.handed);
    assert!((0..4).all(|content| fleet.primary(content) == instance_of(content, false)));
    assert!(fleet.done(&Request::Rebalance).contains("preferred role"));
}

#[test]
fn a_pair_that_is_not_in_sync_is_left_alone_with_the_reason() {
    let mut fleet = unbalanced();
    fleet.kill(dbid_of(0, false));
    fleet.run(2_000);
    let text = fleet.done(&Request::Rebalance);
    assert!(
        text.contains("1 pairs") && text.contains("content 0: the pair is not in sync"),
        "{text}"
    );
    fleet.run(3_000);
    assert_eq!(fleet.primary(1), instance_of(1, false));
    let text = fleet.denied(&Request::Rebalance);
    assert!(text.contains("not in sync"), "{text}");
}

#[test]
fn a_copy_that_came_back_and_was_not_heard_yet_is_handed_to_when_it_is() {
    // A copy that is let back can be in sync, by its primary's word, before the coordinator has heard its first
    // heartbeat. Asked for roles in that moment, it said that not both copies were up.
    let mut fleet = unbalanced();
    fleet.shrinks = false;
    fleet.fakes.get_mut(&dbid_of(0, false)).unwrap().silent = true;
    fleet.run(1_000);
    assert!(fleet.done(&Request::Rebalance).contains("2 pairs"));
    fleet.run(500);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    fleet.fakes.get_mut(&dbid_of(0, false)).unwrap().silent = false;
    fleet.run(3_000);
    assert!((0..4).all(|content| fleet.primary(content) == instance_of(content, false)));
}

#[test]
fn a_pair_whose_copies_are_not_both_up_is_left_alone_after_a_while_and_the_next_one_is_not() {
    let mut fleet = unbalanced();
    fleet.shrinks = false;
    fleet.fakes.get_mut(&dbid_of(0, false)).unwrap().silent = true;
    fleet.run(1_000);
    fleet.done(&Request::Rebalance);
    fleet.run(5_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    assert_eq!(fleet.primary(1), instance_of(1, false));
    assert_eq!(fleet.history("contentid 0: not both copies are up"), 1);
}

#[test]
fn a_primary_that_does_not_answer_delays_the_next_pair_only_so_long() {
    let mut fleet = unbalanced();
    fleet.stubborn.insert(instance_of(0, true));
    fleet.done(&Request::Rebalance);
    fleet.run(30_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    assert_eq!(fleet.primary(1), instance_of(1, false));
    assert_eq!(fleet.history("it took too long"), 1);
}

#[test]
fn redundancy_is_not_given_up_for_roles() {
    // The first pair never comes in sync again: the second one is left as it is.
    let mut fleet = unbalanced();
    fleet.fakes.get_mut(&dbid_of(0, true)).unwrap().quiet = true;
    fleet.done(&Request::Rebalance);
    fleet.run(25_000);
    assert_eq!(fleet.primary(1), instance_of(1, true));
    assert_eq!(fleet.history("pairs are not handed over"), 1);
}

#[test]
fn nobody_is_watched_or_promoted_while_all_is_stopped() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.done(&STOP);
    fleet.run(3_000);
    let pings = |fleet: &Fleet| {
        fleet.world.out.iter().filter(|out| matches!(out, Out::Ping { .. })).count()
    };
    let before = pings(&fleet);
    fleet.run(5_000);
    assert_eq!(pings(&fleet), before);
    let promote = Request::Promote { content: ContentId(0), loss: Loss::None };
    fleet.denied(&promote);
    assert!(matches!(fleet.fake(0, false).process, Process::Stopped));
    assert!(fleet.denied(&stop_host("sdw1")).contains("not up"));
}
