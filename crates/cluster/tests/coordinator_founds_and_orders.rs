//! A cluster is made; agents are told what is wanted until they confirm it.

mod support;

use outrigger_cluster::agent::Say;
use outrigger_cluster::catalog::tables::{Up, Wanted};
use outrigger_cluster::coordinator::{Event, In, Out};
use outrigger_cluster::operator::Request;
use outrigger_wal::InstanceId;
use support::fleet::{Fleet, dbid_of, founding, host_of};

#[test]
fn a_cluster_is_made_with_its_hosts_rows_and_contents_and_started() {
    let mut fleet = Fleet::founded(4, 4, true);
    let state = fleet.state();
    assert_eq!(state.up, Up::Running);
    assert_eq!((state.hosts.len(), state.instances.len(), state.contents.len()), (5, 9, 5));
    for content in 0..4 {
        assert_eq!(fleet.note(content), "ok");
        assert_eq!(fleet.primary(content), support::fleet::instance_of(content, false));
        for mirror in [false, true] {
            assert!(fleet.running(dbid_of(content, mirror)));
            assert_eq!(fleet.fake(content, mirror).starts, 1);
            let row = fleet.row(dbid_of(content, mirror));
            assert_eq!(row.wanted, Wanted::Up, "it is made, and only has to run");
        }
    }
}

#[test]
fn a_cluster_asked_for_again_changes_nothing_and_another_is_refused() {
    let mut fleet = Fleet::founded(2, 2, true);
    let before = fleet.world.catalog.read(Clone::clone);
    let text = fleet.done(&Request::Found(founding(2, 2, true)));
    assert!(text.contains("made already"), "{text}");
    let text = fleet.denied(&Request::Found(founding(2, 2, false)));
    assert!(text.contains("made already"), "{text}");
    assert_eq!(fleet.world.catalog.read(Clone::clone), before);
}

#[test]
fn of_two_foundings_at_once_one_is_refused_and_nothing_is_mixed() {
    let mut fleet = Fleet::unfounded();
    fleet.applies = false;
    let one = fleet.begin(&Request::Found(founding(2, 2, true)));
    let two = fleet.begin(&Request::Found(founding(4, 4, true)));
    fleet.applies = true;
    fleet.carry_out();
    assert!(format!("{:?}", fleet.world.answer(one)).contains("the cluster is made"));
    assert!(format!("{:?}", fleet.world.answer(two)).contains("Denied"));
    assert_eq!(fleet.state().instances.len(), 5);
}

#[test]
fn a_founding_that_broke_off_is_finished_by_asking_again_and_another_is_refused() {
    // The coordinator ended while the rows were appended: some are applied, the cluster is not up.
    let mut fleet = Fleet::unfounded();
    fleet.applies = false;
    fleet.begin(&Request::Found(founding(2, 2, true)));
    fleet.world.waiting.truncate(6);
    fleet.world.apply();
    fleet.restart(4, false);
    fleet.applies = true;
    fleet.run(100);
    assert_eq!(fleet.up(), Up::Founding);
    let mut other = founding(2, 2, true);
    other.rows[1].1.instance = InstanceId(0xDEAD);
    assert!(fleet.denied(&Request::Found(other)).contains("half made"));
    fleet.done(&Request::Found(founding(2, 2, true)));
    assert_eq!(fleet.up(), Up::Running);
    assert_eq!(fleet.state().instances.len(), 5);
}

#[test]
fn what_no_cluster_can_be_made_of_is_refused_before_anything_is_recorded() {
    let mut fleet = Fleet::unfounded();
    let before = fleet.world.catalog.read(Clone::clone);
    let mut same_host = founding(2, 2, true);
    same_host.rows[2].1.host = host_of(1);
    let mut no_host = founding(2, 2, true);
    no_host.rows[1].1.host = "nowhere".to_owned();
    let mut twice = founding(2, 2, true);
    twice.rows[2].0 = twice.rows[1].0;
    let mut setting = founding(2, 2, true);
    setting.settings.push(("no_such_setting".to_owned(), 1));
    let mut size = founding(2, 2, true);
    size.segment_bytes = 12_345;
    for founding in [same_host, no_host, twice, setting, size] {
        fleet.denied(&Request::Found(founding));
    }
    assert_eq!(fleet.world.catalog.read(Clone::clone), before);
}

#[test]
fn orders_are_told_again_until_they_are_confirmed_and_after_a_reconnect() {
    let mut fleet = Fleet::founded(2, 2, true);
    let told = |fleet: &Fleet| fleet.wants.iter().filter(|(host, _)| host == "sdw1").count();
    let before = told(&fleet);
    fleet.run(3_000);
    assert_eq!(told(&fleet), before, "what is confirmed is not said again");
    fleet.deaf.insert("sdw1".to_owned());
    fleet.done(&Request::Set { key: "copy_grace_ms".to_owned(), value: 700 });
    fleet.run(3_500);
    assert_eq!(told(&fleet), before + 4, "at once, and each second");
    let number = fleet.wants.iter().rev().find(|(host, _)| host == "sdw1").unwrap().1;
    fleet.deaf.clear();
    fleet.world.step(In::AgentSaid { host: "sdw1".to_owned(), say: Say::Taken { number } });
    fleet.run(3_000);
    assert_eq!(told(&fleet), before + 4);
    fleet.world.step(In::Agent { host: "sdw1".to_owned(), here: false });
    fleet.find_host("sdw1");
    assert_eq!(told(&fleet), before + 5);
}

#[test]
fn a_late_confirmation_of_older_orders_confirms_nothing_newer() {
    // Two orders are on their way; the agent has confirmed the first only, and loses the second.
    let mut fleet = Fleet::founded(2, 2, true);
    fleet.deaf.insert("sdw1".to_owned());
    let last = |fleet: &Fleet| fleet.wants.iter().rev().find(|(host, _)| host == "sdw1").unwrap().1;
    fleet.done(&Request::Set { key: "copy_grace_ms".to_owned(), value: 700 });
    let older = last(&fleet);
    fleet.done(&Request::Set { key: "copy_grace_ms".to_owned(), value: 800 });
    let newer = last(&fleet);
    assert!(newer > older);
    let said = fleet.wants.len();
    fleet.world.step(In::AgentSaid { host: "sdw1".to_owned(), say: Say::Taken { number: older } });
    fleet.run(1_200);
    let again = fleet.wants[said..].iter().filter(|(host, _)| host == "sdw1");
    assert_eq!(again.map(|(_, number)| *number).collect::<Vec<_>>(), [newer]);
}

#[test]
fn an_agent_that_refuses_is_an_alarm_once() {
    let mut fleet = Fleet::founded(2, 2, true);
    for _ in 0..3 {
        let say = Say::Denied { text: "heard one of epoch 9".to_owned() };
        fleet.world.step(In::AgentSaid { host: "sdw1".to_owned(), say });
    }
    assert_eq!(fleet.world.alarms(), 1);
}

#[test]
fn history_is_told_in_the_words_of_its_administrators_with_the_time_of_day() {
    let mut fleet = Fleet::founded(1, 2, true);
    let rows = fleet.world.catalog.read(|state| state.history.clone());
    let of = |text: &str| rows.iter().find(|row| row.description == text).cloned();
    let text = "FTS: update role, status, and mode for dbid 11 with contentid 0 to m, u, and s";
    let row = of(text).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(row.dbid, dbid_of(0, true));
    let now = fleet.world.now.0;
    assert!(row.at <= now && row.at + 10_000_000 > now);
    assert!(of("added for contentid 0 on host sdw1").is_some());
    fleet.kill(dbid_of(0, false));
    fleet.run(2_000);
    for text in ["dbid 11 with contentid 0 to p, u, and", "dbid 10 with contentid 0 to m, d, and n"]
    {
        assert_eq!(fleet.history(text).min(1), 1, "{text}");
    }
}

#[test]
fn a_step_looks_at_the_content_that_it_is_about_however_many_there_are() {
    let mut fleet = Fleet::founded(64, 8, true);
    let judged = fleet.world.coordinator.counters().judged;
    let told = fleet.wants.len();
    let (pings, beats) = (count(&fleet), 20);
    for _ in 0..beats {
        fleet.world.pass(10);
    }
    let asked = count(&fleet) - pings;
    fleet.carry_out();
    let judged = fleet.world.coordinator.counters().judged - judged;
    // Each beat, and each tick with nothing heard, judges one content at most.
    assert!(asked >= 128, "{asked} questions");
    assert!(judged <= u64::try_from(asked).unwrap() + beats, "{judged} for {asked} beats");
    assert_eq!(fleet.wants.len(), told, "and tells agents nothing");
}

fn count(fleet: &Fleet) -> usize {
    fleet.world.out.iter().filter(|out| matches!(out, Out::Ping { .. })).count()
}

#[test]
fn no_alarm_is_raised_while_all_is_well() {
    let fleet = Fleet::founded(4, 4, true);
    let alarms: Vec<_> = fleet
        .world
        .out
        .iter()
        .filter(|out| matches!(out, Out::Event(Event::Alarm { .. })))
        .collect();
    assert!(alarms.is_empty(), "{alarms:?}");
}
