//! Copies that are out come back, copies are added and removed, the standby among them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use outrigger_cluster::agent::Process;
use outrigger_cluster::catalog::tables::{Dbid, Preferred, Rebuild, Wanted};
use outrigger_cluster::coordinator::{CATALOG, In};
use outrigger_cluster::operator::{RecoverMode, Request};
use outrigger_net::config::{Config, Copy};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, InstanceId};
use proptest::prelude::*;
use support::fleet::{Fleet, STANDBY, catalog_row, dbid_of, host, instance_of, row};
use support::next;

const DIFFERENTIAL: Wanted = Wanted::Rebuild(Rebuild::Differential);
const FULL: Wanted = Wanted::Rebuild(Rebuild::Full);

fn bring_back(mode: RecoverMode) -> Request {
    Request::BringBack { contents: Vec::new(), mode, max_rate_bytes: 0 }
}

/// A pair whose mirror was killed, and is out.
fn out() -> Fleet {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.kill(dbid_of(0, true));
    fleet.run(2_000);
    assert!(fleet.config(0).held(instance_of(0, true)));
    fleet
}

fn orders_of(fleet: &Fleet, dbid: Dbid) -> Vec<Wanted> {
    fleet.orders.iter().filter(|(of, ..)| *of == dbid).map(|(_, wanted, _)| *wanted).collect()
}

#[test]
fn a_copy_that_is_out_stays_out_until_it_is_let_back() {
    let mut fleet = out();
    fleet.run(60_000);
    assert!(fleet.config(0).held(instance_of(0, true)));
    assert_eq!(fleet.fake(0, true).starts, 1);
    let before: Vec<u64> = [(0, false), (1, false), (1, true)]
        .map(|(content, mirror)| fleet.row(dbid_of(content, mirror)).run)
        .to_vec();
    let text = fleet.done(&bring_back(RecoverMode::Auto));
    assert!(text.contains("1 instances"), "{text}");
    fleet.run(2_000);
    assert_eq!((fleet.note(0), fleet.fake(0, true).starts), ("ok".to_owned(), 2));
    let after: Vec<u64> = [(0, false), (1, false), (1, true)]
        .map(|(content, mirror)| fleet.row(dbid_of(content, mirror)).run)
        .to_vec();
    assert_eq!(before, after, "nobody else is started again");
    assert!(fleet.done(&bring_back(RecoverMode::Auto)).contains("every copy is in sync"));
}

#[test]
fn a_copy_that_is_out_and_runs_is_let_back_without_a_restart() {
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.fake(0, true).silent = true;
    fleet.run(2_000);
    fleet.fake(0, true).silent = false;
    assert!(fleet.config(0).held(instance_of(0, true)));
    let text = fleet.done(&bring_back(RecoverMode::Auto));
    assert!(text.contains("1 instances"), "{text}");
    fleet.run(2_000);
    assert_eq!((fleet.note(0), fleet.fake(0, true).starts), ("ok".to_owned(), 1));
}

#[test]
fn copies_in_sync_whose_hosts_are_away_are_asked_for_all_the_same() {
    // Both hosts of a pair were back, their agents not yet connected, when an administrator asked: what is in sync and
    // runs nowhere was taken for being on its way, the command said that all was well, and both copies stayed down.
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.lose_host("sdw1");
    fleet.lose_host("sdw2");
    fleet.run(30_000);
    assert!(fleet.note(0).starts_with("double fault"), "{}", fleet.note(0));
    let text = fleet.done(&bring_back(RecoverMode::Auto));
    assert!(text.contains("2 instances"), "{text}");
    fleet.find_host("sdw1");
    fleet.find_host("sdw2");
    fleet.run(3_000);
    assert_eq!(fleet.note(0), "ok");
    assert!(fleet.running(dbid_of(0, false)) && fleet.running(dbid_of(0, true)));
}

#[test]
fn nothing_comes_back_while_the_cluster_is_down() {
    let mut fleet = out();
    fleet.ask(&Request::Stop { host: None });
    fleet.run(2_000);
    let before = fleet.row(dbid_of(0, true)).run;
    let text = fleet.denied(&bring_back(RecoverMode::Auto));
    assert!(text.contains("`outrigger start` brings it up"), "{text}");
    assert_eq!(fleet.row(dbid_of(0, true)).run, before);
}

#[test]
fn a_rebuild_that_is_asked_for_twice_begins_once() {
    let mut fleet = out();
    fleet.grows = false;
    for _ in 0..3 {
        fleet.done(&bring_back(RecoverMode::Full));
        fleet.fake(0, true).process = Process::Rebuilding { done_bytes: 1, total_bytes: 2 };
        fleet.status("sdw2");
    }
    fleet.done(&bring_back(RecoverMode::Auto));
    assert_eq!(fleet.fake(0, true).starts, 2);
    assert_eq!(fleet.row(dbid_of(0, true)).wanted, FULL);
}

#[test]
fn a_copy_that_came_in_sync_before_its_rebuild_was_recorded_is_not_rebuilt() {
    // The rebuild waits in the log behind the change that made the copy one that commits count on.
    let mut fleet = out();
    fleet.grows = false;
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(1_000);
    fleet.applies = false;
    fleet.grows = true;
    fleet.run(50);
    assert!(!fleet.world.waiting.is_empty(), "it is about to come in sync");
    let op = fleet.begin(&bring_back(RecoverMode::Full));
    fleet.applies = true;
    fleet.run(1_000);
    let text = format!("{:?}", fleet.world.answer(op));
    assert!(text.contains("Denied") && text.contains("its data is needed"), "{text}");
    assert_eq!(fleet.note(0), "ok");
    assert!(!orders_of(&fleet, dbid_of(0, true)).contains(&FULL));
}

#[test]
fn errors_lead_from_what_it_missed_to_what_differs_to_everything_and_then_to_an_administrator() {
    let mut fleet = out();
    fleet.fake(0, true).fails = Some("exit code 2: the log has a gap".to_owned());
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(120_000);
    let dbid = dbid_of(0, true);
    let asked = orders_of(&fleet, dbid);
    assert!(
        asked.ends_with(&[Wanted::Up, DIFFERENTIAL, FULL, FULL, FULL, Wanted::Down]),
        "{asked:?}"
    );
    assert_eq!(fleet.history("could not be rebuilt 3 times"), 1);
    assert!(fleet.config(0).held(instance_of(0, true)));
    let starts = fleet.fake(0, true).starts;
    // Not by the policy either, and not by another coordinator.
    fleet.done(&Request::Set { key: "auto_rejoin_ms".to_owned(), value: 0 });
    fleet.restart(4, false);
    fleet.run(120_000);
    assert_eq!(fleet.fake(0, true).starts, starts);
    fleet.fake(0, true).fails = None;
    fleet.done(&bring_back(RecoverMode::Full));
    fleet.run(3_000);
    assert_eq!(fleet.note(0), "ok");
}

#[test]
fn a_copy_that_is_killed_again_and_again_is_started_more_and_more_slowly() {
    let mut fleet = out();
    fleet.fake(0, true).fails = Some("signal 9".to_owned());
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(10_000);
    let soon = fleet.fake(0, true).starts;
    assert!((4..=8).contains(&soon), "{soon}");
    fleet.run(600_000);
    let late = fleet.fake(0, true).starts - soon;
    assert!((8..=20).contains(&late), "{late}: once a minute");
    assert!(
        !orders_of(&fleet, dbid_of(0, true)).contains(&DIFFERENTIAL),
        "its data is not to blame"
    );
    fleet.fake(0, true).fails = None;
    fleet.run(70_000);
    assert_eq!(fleet.note(0), "ok");
}

#[test]
fn a_copy_that_is_held_again_is_not_tried_any_more() {
    let mut fleet = out();
    fleet.fake(0, true).fails = Some("signal 9".to_owned());
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(3_000);
    let config = fleet.config(0);
    let new = next(&config, |new| new.copies[1].held = true);
    fleet.change(0, &config, new);
    fleet.run(1_000);
    let starts = fleet.fake(0, true).starts;
    fleet.run(120_000);
    assert_eq!(fleet.fake(0, true).starts, starts);
}

#[test]
fn the_policy_lets_copies_back_at_once_or_after_a_while() {
    for (millis, early) in [(0_u64, true), (30_000, false)] {
        let mut fleet = Fleet::founded(1, 2, true);
        fleet.done(&Request::Set { key: "auto_rejoin_ms".to_owned(), value: millis });
        fleet.kill(dbid_of(0, true));
        fleet.run(5_000);
        assert_eq!(fleet.note(0) == "ok", early, "{millis}: {}", fleet.note(0));
        fleet.run(millis);
        assert_eq!(fleet.note(0), "ok");
        assert_eq!(fleet.fake(0, true).starts, 2, "started once");
        assert!(fleet.row(dbid_of(0, true)).run <= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is recorded, runs and is asked for: no copy that commits count on is made anew.
    #[test]
    fn no_copy_that_commits_count_on_is_ever_made_anew(
        primary in 0..3_usize,
        in_sync in prop::array::uniform3(any::<bool>()),
        held in prop::array::uniform3(any::<bool>()),
        ended in prop::array::uniform3(0..4_u8),
        modes in prop::collection::vec(0..3_u8, 1..4),
    ) {
        let mut fleet = Fleet::founded(1, 2, true);
        fleet.add(&[row_of_third()]);
        fleet.settle();
        (fleet.grows, fleet.shrinks) = (false, false);
        let config = fleet.config(0);
        let copies: Vec<Copy> = config.copies.iter().enumerate().map(|(at, copy)| {
            let in_sync = in_sync[at] || at == primary;
            Copy { in_sync, held: held[at] && !in_sync, ..copy.clone() }
        }).collect();
        let dbids = [dbid_of(0, false), dbid_of(0, true), Dbid(100)];
        let instance = config.copies[primary].instance;
        fleet.impose(0, Config { primary: instance, copies, ..config });
        for (at, how) in ended.iter().enumerate() {
            let fake = fleet.fakes.get_mut(&dbids[at]).unwrap();
            match how {
                1 => fake.fails = Some("exit code 2".to_owned()),
                2 => fake.fails = Some("signal 9".to_owned()),
                _ => {}
            }
            if *how != 0 {
                fleet.kill(dbids[at]);
            }
        }
        for mode in modes {
            let mode = [RecoverMode::Auto, RecoverMode::Differential, RecoverMode::Full][usize::from(mode)];
            fleet.ask(&bring_back(mode));
            fleet.run(3_000);
        }
        // Nothing shrinks or grows: what was in sync at first is so for good.
        for (at, dbid) in dbids.iter().enumerate() {
            if in_sync[at] || at == primary {
                let asked = orders_of(&fleet, *dbid);
                prop_assert!(!asked.iter().any(|wanted| matches!(wanted, Wanted::Rebuild(_))), "{asked:?}");
            }
        }
    }
}

fn row_of_third() -> (Dbid, outrigger_cluster::catalog::tables::Instance) {
    let mut third = row(0, true, "sdw3");
    third.instance = InstanceId(0x3333);
    third.data_dir = "/data/third".to_owned();
    (Dbid(100), third)
}

#[test]
fn a_mirror_moves_the_third_copy_is_there_before_the_second_goes() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.add(&[row_of_third()]);
    fleet.run(3_000);
    assert_eq!(fleet.config(0).in_sync_set().count(), 3);
    let mut fourth = row_of_third();
    fourth.0 = Dbid(101);
    fourth.1.instance = InstanceId(0x4444);
    fourth.1.host = "sdw4".to_owned();
    let rows = vec![fourth];
    let text = fleet.denied(&Request::AddCopies { hosts: vec![host("sdw4")], rows });
    assert!(text.contains("more than 3 copies"), "{text}");
    assert!(fleet.orders.iter().all(|(dbid, ..)| *dbid != Dbid(101)));
    let dbid = dbid_of(0, true);
    fleet.orders.clear();
    fleet.shrinks = false;
    fleet.done(&Request::DropCopies { dbids: vec![dbid] });
    fleet.run(3_000);
    assert_eq!(
        orders_of(&fleet, dbid),
        [Wanted::Down],
        "its data is there while commits count on it"
    );
    fleet.shrinks = true;
    fleet.run(4_000);
    assert_eq!(orders_of(&fleet, dbid), [Wanted::Down, Wanted::Gone]);
    assert_eq!(fleet.config(0).copies.len(), 2);
    assert!(fleet.state().instances.iter().all(|at| at.dbid != dbid), "its row is gone");
    assert_eq!(fleet.history("removed, was for contentid 0"), 1);
    assert_eq!(fleet.note(0), "ok");
}

#[test]
fn a_role_goes_to_who_took_the_place_of_a_lost_primary_though_its_row_is_still_there() {
    // `recover -p` had put a new copy in the place of a primary whose host was lost; `recover -r` then waited for the lost
    // one, whose row stays until its host is back.
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.lose_host("sdw1");
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), instance_of(0, true));
    let (dbid, mut third) = row_of_third();
    third.preferred = Preferred::Primary;
    let third = (dbid, third);
    fleet.add(std::slice::from_ref(&third));
    fleet.run(3_000);
    fleet.done(&Request::DropCopies { dbids: vec![dbid_of(0, false)] });
    fleet.run(3_000);
    assert_eq!(fleet.row(dbid_of(0, false)).wanted, Wanted::Gone);
    let text = fleet.done(&Request::Rebalance);
    assert!(text.contains("1 pairs are handed over"), "{text}");
    fleet.run(3_000);
    assert_eq!(fleet.primary(0), third.1.instance);
}

#[test]
fn a_copy_that_waits_to_be_removed_does_not_come_back() {
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.add(&[row_of_third()]);
    fleet.run(3_000);
    fleet.lose_host("sdw2");
    fleet.run(2_000);
    fleet.done(&Request::DropCopies { dbids: vec![dbid_of(0, true)] });
    fleet.done(&bring_back(RecoverMode::Auto));
    fleet.run(2_000);
    assert_eq!(fleet.config(0).copies.len(), 2);
    assert_eq!(fleet.row(dbid_of(0, true)).wanted, Wanted::Gone, "until its host is back");
    fleet.find_host("sdw2");
    fleet.run(2_000);
    assert!(fleet.state().instances.iter().all(|at| at.dbid != dbid_of(0, true)));
}

#[test]
fn copies_that_cannot_be_added_or_removed_are_refused() {
    let mut fleet = Fleet::founded(2, 2, true);
    let before = fleet.world.catalog.read(Clone::clone);
    let text = fleet.denied(&Request::DropCopies { dbids: vec![dbid_of(0, false)] });
    assert!(text.contains("is primary"), "{text}");
    assert!(fleet.denied(&Request::DropCopies { dbids: vec![Dbid(77)] }).contains("no instance"));
    let on = |host: &str| {
        let (dbid, mut row) = row_of_third();
        row.host = host.to_owned();
        vec![(dbid, row)]
    };
    let mut add = |rows| fleet.denied(&Request::AddCopies { hosts: Vec::new(), rows });
    assert!(add(on("sdw1")).contains("a copy on host sdw1 already"));
    assert!(add(on("sdw9")).contains("no host"));
    let (_, third) = row_of_third();
    assert!(add(vec![(dbid_of(0, true), third)]).contains("already"));
    assert_eq!(fleet.world.catalog.read(Clone::clone), before);
}

#[test]
fn mirrors_are_added_to_a_cluster_without() {
    let mut fleet = Fleet::founded(4, 4, false);
    let rows: Vec<_> = (0..4)
        .map(|content| {
            (
                dbid_of(content, true),
                row(content, true, ["sdw2", "sdw3", "sdw4", "sdw1"][content as usize]),
            )
        })
        .collect();
    fleet.done(&Request::AddCopies { hosts: Vec::new(), rows });
    fleet.run(3_000);
    assert!((0..4).all(|content| fleet.note(content) == "ok"));
    assert!((0..4).all(|content| fleet.config(content).in_sync_set().count() == 2));
}

// The standby.

fn standby(host_name: &str) -> Request {
    let mut row = catalog_row(STANDBY, host_name);
    row.wanted = Wanted::New;
    Request::AddCopies { hosts: vec![host(host_name)], rows: vec![(Dbid(2), row)] }
}

/// What the voters were asked for is recorded.
fn record(fleet: &mut Fleet) {
    let (_, config) = fleet.swaps.last().cloned().unwrap();
    fleet.world.step(In::Own { config });
    fleet.carry_out();
}

#[test]
fn a_standby_is_added_through_the_voters_and_removed_again() {
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.done(&standby("smdw"));
    fleet.run(100);
    let (seen, new) = fleet.swaps.last().cloned().unwrap();
    assert_eq!((seen.0, new.version.0), (1, 2));
    let copy = new.copy(STANDBY).unwrap();
    assert_eq!((copy.in_sync, &copy.addresses[..]), (false, &["smdw:5432".to_owned()][..]));
    let asked = fleet.swaps.len();
    fleet.run(1_200);
    assert_eq!(fleet.swaps.len(), asked + 2, "asked for again while it is not recorded");
    record(&mut fleet);
    let asked = fleet.swaps.len();
    fleet.run(2_000);
    assert_eq!(fleet.swaps.len(), asked);
    assert_eq!(orders_of(&fleet, Dbid(2)), [Wanted::New]);
    let config = fleet.state().contents[0].clone();
    assert_eq!((config.content, config.copies.len()), (CATALOG, 2));
    // It comes in sync: from now on it only has to run.
    let own = next(&fleet.swaps.last().unwrap().1.clone(), |new| new.copies[1].in_sync = true);
    fleet.world.step(In::Own { config: own.clone() });
    fleet.run(1_000);
    assert_eq!(fleet.row(Dbid(2)).wanted, Wanted::Up);
    assert_eq!(fleet.fakes[&Dbid(2)].starts, 1);
    // And it is removed: stopped, out of the set, out of the configuration, its data, its row.
    fleet.done(&Request::DropCopies { dbids: vec![Dbid(2)] });
    fleet.run(1_000);
    assert_eq!(orders_of(&fleet, Dbid(2)).last(), Some(&Wanted::Down));
    assert_eq!(fleet.swaps.len(), asked, "nothing before it has left the in-sync set");
    let own = next(&own, |new| new.copies[1].in_sync = false);
    fleet.world.step(In::Own { config: own });
    fleet.run(100);
    assert!(fleet.swaps.last().unwrap().1.copy(STANDBY).is_none());
    record(&mut fleet);
    fleet.run(2_000);
    assert_eq!(orders_of(&fleet, Dbid(2)).last(), Some(&Wanted::Gone));
    assert!(fleet.state().instances.iter().all(|at| at.dbid != Dbid(2)));
}

/// A standby that is in sync, and whose host is lost.
fn lost_standby() -> Fleet {
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.done(&standby("smdw"));
    fleet.run(100);
    record(&mut fleet);
    fleet.run(1_000);
    let own = next(&fleet.swaps.last().unwrap().1.clone(), |new| new.copies[1].in_sync = true);
    fleet.world.step(In::Own { config: own.clone() });
    fleet.run(1_000);
    fleet.lose_host("smdw");
    let own = next(&own, |new| new.copies[1].in_sync = false);
    fleet.world.step(In::Own { config: own });
    fleet.run(1_000);
    fleet
}

#[test]
fn another_standby_is_made_while_the_host_of_the_last_one_is_lost() {
    // The row of a removed standby stays until its host has removed the data: a host that never comes back kept the
    // cluster from ever having a standby again.
    let mut fleet = lost_standby();
    let other = || {
        let mut row = catalog_row(InstanceId(0xC2), "sdw1");
        row.wanted = Wanted::New;
        Request::AddCopies { hosts: Vec::new(), rows: vec![(Dbid(3), row)] }
    };
    assert!(fleet.denied(&other()).contains("there is a standby already, on host smdw"));
    fleet.done(&Request::DropCopies { dbids: vec![Dbid(2)] });
    // It is in the configuration still.
    assert!(fleet.denied(&other()).contains("there is a standby already, on host smdw"));
    fleet.run(1_000);
    record(&mut fleet);
    fleet.done(&other());
    fleet.run(1_000);
    assert!(fleet.swaps.last().unwrap().1.copy(InstanceId(0xC2)).is_some());
    record(&mut fleet);
    // The lost host is back: what it had is removed.
    fleet.find_host("smdw");
    fleet.run(2_000);
    assert!(fleet.state().instances.iter().all(|at| at.dbid != Dbid(2)));
}

#[test]
fn a_standby_that_was_started_by_hand_before_its_host_was_lost_is_removed_when_it_is_back() {
    // `outrigger start --agent` had used up a number that the coordinator never saw: the order to remove the data had
    // the same one, was taken for carried out, and the old coordinator's data stayed for good.
    let mut fleet = lost_standby();
    fleet.done(&Request::DropCopies { dbids: vec![Dbid(2)] });
    fleet.run(1_000);
    record(&mut fleet);
    let run = fleet.row(Dbid(2)).run;
    let fake = fleet.fakes.get_mut(&Dbid(2)).unwrap();
    (fake.run, fake.done) = (run + 3, run + 3);
    fleet.find_host("smdw");
    fleet.run(3_000);
    assert_eq!(orders_of(&fleet, Dbid(2)).last(), Some(&Wanted::Gone));
    assert!(fleet.state().instances.iter().all(|at| at.dbid != Dbid(2)));
}

#[test]
fn a_standby_that_makes_no_sense_is_refused() {
    let mut fleet = Fleet::founded(2, 2, true);
    assert!(fleet.denied(&standby("cdw")).contains("has the coordinator"));
    let mut other_port = catalog_row(STANDBY, "sdw1");
    other_port.wanted = Wanted::New;
    other_port.addresses = vec!["sdw1:9999".to_owned()];
    let rows = vec![(Dbid(2), other_port)];
    let text = fleet.denied(&Request::AddCopies { hosts: Vec::new(), rows });
    assert!(text.contains("port 5432"), "{text}");
    fleet.done(&standby("smdw"));
    let mut second = catalog_row(InstanceId(0xC2), "sdw1");
    second.wanted = Wanted::New;
    let rows = vec![(Dbid(3), second)];
    let text = fleet.denied(&Request::AddCopies { hosts: Vec::new(), rows });
    assert!(text.contains("there is a standby already, on host smdw"), "{text}");
    assert!(fleet.denied(&Request::DropCopies { dbids: vec![Dbid(1)] }).contains("is primary"));
}

#[test]
fn another_coordinator_goes_on_with_a_standby_that_was_asked_for() {
    let mut fleet = Fleet::founded(1, 2, true);
    fleet.done(&standby("smdw"));
    fleet.swaps.clear();
    fleet.restart(4, false);
    fleet.run(1_000);
    assert!(fleet.swaps.last().unwrap().1.copy(STANDBY).is_some());
    let heard = Promise::NONE;
    assert_eq!(fleet.swaps.last().unwrap().1.copy(STANDBY).unwrap().durable, heard);
    assert_eq!(ContentId(-1), CATALOG);
}
