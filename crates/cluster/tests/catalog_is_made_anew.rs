//! A lost catalog is made anew: what is recorded, what refuses it, what is listed as not proved; and the voters' part.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use outrigger_cluster::agent::{Accepted, Data, Holding, Kept, Order, Process};
use outrigger_cluster::buckets::Buckets;
use outrigger_cluster::catalog::tables::{Dbid, Host, Instance, Preferred, Up, Wanted};
use outrigger_cluster::catalog::{Change, Keepsake, Refused, State};
use outrigger_cluster::rebuilding::{
    Doubt, Force, Found, HostFound, Plan, Refusal, Seat, VotersFound, plan,
};
use outrigger_cluster::voters::{Act, Anew, Ballot, Voter, VoterList, Whose, Why};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_replica::control::Identity;
use outrigger_replica::rules::Rules;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId(7);
const CATALOG: ContentId = ContentId(-1);
/// The coordinator's row; then content 0 on h1 and h2, content 1 on h2 and h3.
const COORDINATOR: InstanceId = InstanceId(1);
const FRESH: InstanceId = InstanceId(99);
const COPIES: [(i32, u128, u128); 2] = [(0, 2, 4), (1, 3, 5)];

fn at(content: i32) -> (InstanceId, InstanceId) {
    let (_, primary, mirror) = COPIES[usize::try_from(content).unwrap()];
    (InstanceId(primary), InstanceId(mirror))
}

fn host_of(instance: u128) -> usize {
    match instance {
        1 | 2 => 1,
        3 | 4 => 2,
        _ => 3,
    }
}

fn copy(instance: u128, in_sync: bool) -> Copy {
    let durable = Promise { epoch: 1, lsn: Lsn(100) };
    let addresses = vec![format!("10.0.0.{}:{}", host_of(instance), 6000 + instance)];
    Copy { instance: InstanceId(instance), addresses, in_sync, held: false, durable }
}

/// A configuration of a content, both copies in sync.
fn config(content: i32, version: u64, epoch: u64) -> Config {
    let (primary, mirror) = at(content);
    Config {
        version: Version(version),
        epoch: Epoch { number: epoch, nonce: u128::from(epoch) + 40 },
        primary,
        copies: vec![copy(primary.0, true), copy(mirror.0, true)],
        rule: Rule::All,
        loss: None,
    }
}

fn row(content: i32, instance: u128, preferred: Preferred) -> Instance {
    let host = host_of(instance);
    let port = if content < 0 { 5432 } else { 6000 + instance };
    Instance {
        content: ContentId(content),
        instance: InstanceId(instance),
        preferred,
        host: format!("h{host}"),
        addresses: vec![format!("10.0.0.{host}:{port}")],
        data_dir: format!("/data/h{host}/{instance}"),
        wanted: Wanted::Up,
        run: 3,
        max_rate_bytes: 0,
    }
}

fn rows() -> State {
    let mut state = State { cluster: Some(CLUSTER), up: Up::Running, ..State::default() };
    for host in 1..=3 {
        let row = Host {
            name: format!("h{host}"),
            addresses: vec![format!("10.0.0.{host}")],
            agent: vec![format!("10.0.0.{host}:6900")],
            rack: Some("r".to_owned()),
            storage: None,
        };
        state.hosts.insert(row.name.clone(), row);
    }
    state.instances.insert(Dbid(1), row(-1, 1, Preferred::Primary));
    for (content, primary, mirror) in COPIES {
        let dbid = |instance: u128| Dbid(u16::try_from(instance).unwrap());
        state.instances.insert(dbid(primary), row(content, primary, Preferred::Primary));
        state.instances.insert(dbid(mirror), row(content, mirror, Preferred::Mirror));
    }
    state.settings.insert("hand_over_ms".to_owned(), 777);
    state.map = Some(Arc::new(Buckets::even(&[ContentId(0), ContentId(1)]).unwrap()));
    state
}

fn kept(state: &State, coordinator_epoch: u64, number: u64) -> Kept {
    let voters: Vec<_> = (1..=3).map(|host| vec![format!("10.0.0.{host}:6900")]).collect();
    Kept { coordinator_epoch, number, body: Keepsake::of(state, &voters).encode().unwrap() }
}

fn accepted(content: i32, instance: u128, config: Option<Config>) -> Data {
    let newest = config.clone();
    Data::Copy(Box::new(Accepted {
        identity: Identity {
            cluster: CLUSTER,
            content: ContentId(content),
            instance: InstanceId(instance),
            log: log(content),
            segment_bytes: 1 << 20,
        },
        epoch: newest.as_ref().map_or(Epoch::NONE, |config| config.epoch),
        version: newest.as_ref().map_or(Version(0), |config| config.version),
        coordinator_epoch: 5,
        durable: Promise { epoch: 1, lsn: Lsn(200) },
        commit: Promise { epoch: 1, lsn: Lsn(150) },
        config,
    }))
}

fn log(content: i32) -> LogId {
    LogId(u128::try_from(content + 1000).unwrap())
}

fn holding(row: &Instance, dbid: Dbid, data: Data) -> Holding {
    let order = Order {
        content: row.content,
        instance: row.instance,
        log: log(row.content.0),
        segment_bytes: 1 << 20,
        addresses: row.addresses.clone(),
        data_dir: row.data_dir.clone(),
        wanted: Wanted::Up,
        run: 4,
        coordinators: Vec::new(),
        voters: Vec::new(),
        source: Vec::new(),
        max_rate_bytes: 0,
        settings: Vec::new(),
    };
    Holding { dbid, order, process: Process::Stopped, data }
}

/// Everything answers; the coordinator's directory is gone.
fn found() -> Found {
    let state = rows();
    let hosts = (1..=3).map(|host| {
        let name = format!("h{host}");
        let here = state.instances.iter().filter(|(_, row)| row.host == name);
        let instances = here.map(|(dbid, row)| {
            let data = if row.content == CATALOG {
                Data::Nothing
            } else {
                let config = config(row.content.0, 6, 2);
                accepted(row.content.0, row.instance.0, Some(config))
            };
            holding(row, *dbid, data)
        });
        HostFound {
            agent: format!("10.0.0.{host}:6900"),
            cluster: CLUSTER,
            host: name.clone(),
            coordinator_epoch: 5,
            kept: kept(&state, 5, 10),
            instances: instances.collect(),
        }
    });
    let newest = Config {
        version: Version(3),
        epoch: Epoch { number: 5, nonce: 50 },
        primary: COORDINATOR,
        copies: vec![copy(1, true)],
        rule: Rule::All,
        loss: None,
    };
    let voters = VotersFound { newest, promised: 5, answered: 3, voters: 3 };
    Found { hosts: hosts.collect(), silent: Vec::new(), voters }
}

fn seat() -> Seat {
    Seat { instance: FRESH, ..Seat::default() }
}

fn planned(found: &Found) -> Plan {
    plan(found, &seat(), Force::No).unwrap()
}

fn refused(found: &Found) -> Refusal {
    plan(found, &seat(), Force::No).unwrap_err()
}

/// What is known of an instance.
fn change(found: &mut Found, instance: u128, change: impl FnOnce(&mut Holding)) {
    let mut holdings = found.hosts.iter_mut().flat_map(|host| &mut host.instances);
    change(holdings.find(|at| at.order.instance == InstanceId(instance)).unwrap());
}

fn says(found: &mut Found, instance: u128, say: impl FnOnce(&mut Accepted)) {
    change(found, instance, |holding| {
        let Data::Copy(accepted) = &mut holding.data else { panic!("{:?}", holding.data) };
        say(accepted);
    });
}

fn silence(found: &mut Found, host: &str) {
    found.hosts.retain(|at| at.host != host);
    found.silent.push((host.to_owned(), "no answer".to_owned()));
}

fn recorded(plan: &Plan, content: i32) -> &Config {
    plan.state.contents[&ContentId(content)].register.config().unwrap()
}

#[test]
fn the_newest_configuration_that_a_copy_accepted_is_recorded_unchanged() {
    let mut found = found();
    let mut promoted = config(1, 7, 3);
    promoted.primary = at(1).1;
    promoted.copies[0].in_sync = false;
    promoted.copies[0].held = true;
    // Its mirror took over; the old primary heard nothing of that.
    says(&mut found, 5, |copy| {
        copy.config = Some(promoted.clone());
        (copy.version, copy.epoch) = (promoted.version, promoted.epoch);
    });
    let plan = planned(&found);
    assert_eq!(recorded(&plan, 0), &config(0, 6, 2));
    assert_eq!(recorded(&plan, 1), &promoted);
    let content = &plan.state.contents[&ContentId(1)];
    assert_eq!((content.log, content.segment_bytes), (log(1), 1 << 20));
    // What each said that it holds counts as heard of it (S6).
    assert_eq!(content.register.heard(at(1).1), Promise { epoch: 1, lsn: Lsn(200) });
    // Rows are as they were kept, but the coordinator's, and numbers that an agent has carried out count.
    assert_eq!(plan.state.hosts, rows().hosts);
    assert_eq!(plan.state.settings["hand_over_ms"], 777);
    assert_eq!(plan.state.instances[&Dbid(2)].run, 4);
    assert_eq!(plan.state.instances[&Dbid(1)].instance, FRESH);
    let expected =
        [Doubt::Rows { host: "h3".to_owned(), epoch: 5 }, Doubt::NoStandby, Doubt::History];
    assert_eq!(plan.doubts, expected);
}

#[test]
fn every_content_begins_unproved() {
    let state = restored(&planned(&found()).body(12).unwrap()).unwrap();
    assert_eq!(state.settings["unproved"], 12);
}

#[test]
fn the_new_coordinator_takes_the_place_and_the_number_of_the_old_one() {
    let plan = planned(&found());
    let Instance { host, data_dir, addresses, wanted, .. } = plan.coordinator.clone();
    assert_eq!((host.as_str(), data_dir.as_str(), wanted), ("h1", "/data/h1/1", Wanted::New));
    assert_eq!(addresses, ["10.0.0.1:5432"]);
    assert_eq!((plan.dbid, plan.forget), (Dbid(1), vec![("h1".to_owned(), Dbid(1), false)]));
    let elsewhere = Seat {
        host: Some("h3".to_owned()),
        data_dir: Some("/data/new".to_owned()),
        instance: FRESH,
    };
    let plan = super_plan(&found(), &elsewhere);
    assert_eq!(plan.coordinator.addresses, ["10.0.0.3:5432"], "the port stays");
}

fn super_plan(found: &Found, seat: &Seat) -> Plan {
    plan(found, seat, Force::No).unwrap()
}

#[test]
fn a_coordinator_without_a_place_is_refused() {
    let to = |host: &str, dir: Option<&str>, found: &Found| {
        let seat =
            Seat { host: Some(host.to_owned()), data_dir: dir.map(str::to_owned), instance: FRESH };
        plan(found, &seat, Force::No).unwrap_err()
    };
    let all = found();
    assert!(matches!(to("h9", None, &all), Refusal::NoPlace { .. }));
    assert!(matches!(to("h2", None, &all), Refusal::NoPlace { .. }), "no directory is known");
    assert!(matches!(to("h2", Some("/data/h2/3"), &all), Refusal::PlaceTaken { .. }));
    let mut away = found();
    silence(&mut away, "h1");
    assert!(matches!(refused(&away), Refusal::NoPlace { .. }), "its host does not answer");
    let mut rest = found();
    change(&mut rest, 1, |at| at.data = Data::Unreadable { why: "a file".to_owned() });
    assert!(matches!(refused(&rest), Refusal::PlaceTaken { .. }), "nothing is written over");
}

#[test]
fn a_copy_that_says_nothing_is_listed_with_its_host() {
    let mut away = found();
    silence(&mut away, "h3");
    let plan = planned(&away);
    assert!(plan.doubts.contains(&Doubt::Silent { host: "h3".into(), why: "no answer".into() }));
    let listed = plan.doubts.iter().find_map(|doubt| match doubt {
        Doubt::NotReported { content, missing } => Some((*content, missing[0].0)),
        _ => None,
    });
    assert_eq!(listed, Some((ContentId(1), Dbid(5))));
    assert_eq!(plan.contents.iter().map(|at| at.reported).collect::<Vec<_>>(), [2, 1]);
    // So is one whose data is gone, or another's.
    for data in [Data::Nothing, accepted(0, 2, Some(config(0, 6, 2)))] {
        let mut lost = found();
        change(&mut lost, 5, |at| at.data = data);
        let doubts = planned(&lost).doubts;
        assert!(doubts.iter().any(|doubt| matches!(doubt, Doubt::NotReported { .. })));
    }
}

#[test]
fn a_content_of_which_nobody_knows_a_configuration_refuses_it() {
    let mut lost = found();
    change(&mut lost, 3, |at| at.data = Data::Nothing);
    says(&mut lost, 5, |copy| copy.config = None);
    let refusal = refused(&lost);
    assert!(matches!(refusal, Refusal::NoConfiguration { content: ContentId(1), .. }), "{refusal}");
}

#[test]
fn a_content_that_never_held_a_row_is_left_out() {
    let mut fresh = found();
    let mut state = rows();
    state.map = Some(Arc::new(Buckets::even(&[ContentId(0)]).unwrap()));
    for host in &mut fresh.hosts {
        host.kept = kept(&state, 5, 11);
    }
    for instance in [3, 5] {
        change(&mut fresh, instance, |at| at.data = Data::Nothing);
    }
    let plan = planned(&fresh);
    assert!(plan.doubts.contains(&Doubt::NeverMade { content: ContentId(1) }));
    assert!(plan.state.instances.values().all(|row| row.content != ContentId(1)));
}

#[test]
fn one_version_with_two_values_refuses_it() {
    let mut split = found();
    says(&mut split, 5, |copy| {
        let mut other = config(1, 6, 2);
        other.copies[0].in_sync = false;
        copy.config = Some(other);
    });
    let (content, version) = (ContentId(1), Version(6));
    assert_eq!(refused(&split), Refusal::TwoValues { content, version });
}

#[test]
fn a_copy_that_heard_of_something_newer_than_was_found_refuses_it() {
    for (version, epoch) in [(7, 2), (6, 3)] {
        let mut heard = found();
        says(&mut heard, 5, |copy| {
            copy.version = Version(version);
            copy.epoch.number = epoch;
        });
        assert!(matches!(refused(&heard), Refusal::HeardOfNewer { .. }));
    }
}

#[test]
fn a_catalog_that_is_there_refuses_it_unless_it_is_given_up() {
    let mut there = found();
    change(&mut there, 1, |at| at.data = accepted(-1, 1, None));
    assert!(matches!(refused(&there), Refusal::CatalogThere { role: "coordinator", .. }));
    // A standby too, whether it was in sync or not.
    let mut standby = found();
    let row = Instance { host: "h3".to_owned(), ..row(-1, 6, Preferred::Mirror) };
    standby.hosts[2].instances.push(holding(&row, Dbid(6), accepted(-1, 6, None)));
    standby.voters.newest.copies.push(copy(6, false));
    let refusal = refused(&standby);
    assert!(matches!(refusal, Refusal::CatalogThere { role: "standby", .. }), "{refusal}");
    assert!(refusal.to_string().contains("outrigger activate-standby --standby 10.0.0.3:5432"));
    let plan = plan(&standby, &seat(), Force::Yes).unwrap();
    assert!(plan.doubts.contains(&Doubt::GivenUp { host: "h3".into(), dbid: Dbid(6) }));
    assert_eq!(plan.forget.len(), 2);
}

#[test]
fn a_catalog_that_was_replaced_before_counts_no_more_and_is_forgotten() {
    let mut old = found();
    let row = Instance { host: "h3".to_owned(), ..row(-1, 6, Preferred::Mirror) };
    old.hosts[2].instances.push(holding(&row, Dbid(6), accepted(-1, 6, None)));
    assert!(planned(&old).forget.contains(&("h3".to_owned(), Dbid(6), false)));
}

#[test]
fn a_coordinator_that_runs_without_its_data_refuses_it() {
    let mut runs = found();
    change(&mut runs, 1, |at| at.process = Process::Running { pid: 5 });
    assert!(matches!(refused(&runs), Refusal::CatalogRuns { .. }));
    let plan = plan(&runs, &seat(), Force::Yes).unwrap();
    assert_eq!(plan.forget, [("h1".to_owned(), Dbid(1), true)], "it is stopped first");
}

#[test]
fn without_a_majority_of_the_voters_it_needs_force() {
    let mut few = found();
    few.voters.answered = 1;
    assert_eq!(refused(&few), Refusal::NoMajority { answered: 1, voters: 3 });
    let plan = plan(&few, &seat(), Force::Yes).unwrap();
    assert!(plan.doubts.contains(&Doubt::Voters { answered: 1, voters: 3 }));
}

#[test]
fn a_coordinator_that_no_voter_knows_needs_force_and_is_outnumbered() {
    let mut forced = found();
    says(&mut forced, 4, |copy| copy.coordinator_epoch = 1_000_005);
    let refusal = refused(&forced);
    assert_eq!(refusal, Refusal::UnknownCoordinator { heard: 1_000_005, promised: 5 });
    let plan = plan(&forced, &seat(), Force::Yes).unwrap();
    assert_eq!(plan.above_epoch, 1_000_005);
}

#[test]
fn the_newest_rows_that_an_agent_keeps_count() {
    let mut apart = found();
    let mut newer = rows();
    newer.settings.insert("hand_over_ms".to_owned(), 888);
    apart.hosts[1].kept = kept(&newer, 5, 11);
    apart.hosts[2].kept = kept(&rows(), 4, 900);
    assert_eq!(planned(&apart).state.settings["hand_over_ms"], 888);
}

#[test]
fn agents_that_keep_nothing_or_work_for_others_refuse_it() {
    let mut none = found();
    none.hosts.iter_mut().for_each(|host| host.kept = Kept::default());
    assert_eq!(refused(&none), Refusal::NothingKept);
    let mut two = found();
    two.hosts[1].cluster = ClusterId(8);
    assert!(matches!(refused(&two), Refusal::MoreClusters { .. }));
    let mut nobody = found();
    nobody.hosts.clear();
    assert_eq!(refused(&nobody), Refusal::NobodyAnswered);
    let mut unclaimed = found();
    unclaimed.hosts.iter_mut().for_each(|host| host.cluster = ClusterId::default());
    assert!(matches!(refused(&unclaimed), Refusal::NoCluster { .. }));
    let mut damaged = found();
    damaged.hosts.iter_mut().for_each(|host| host.kept.body = Bytes::from_static(b"\x01x"));
    assert!(matches!(refused(&damaged), Refusal::Unreadable { .. }));
    let mut made = found();
    let state = State { up: Up::Founding, ..rows() };
    made.hosts.iter_mut().for_each(|host| host.kept = kept(&state, 5, 11));
    assert_eq!(refused(&made), Refusal::NotMade);
}

#[test]
fn a_copy_that_only_its_agent_knows_has_a_row_and_one_that_nobody_knows_refuses_it() {
    let mut state = rows();
    state.instances.remove(&Dbid(5));
    let mut found = found();
    found.hosts.iter_mut().for_each(|host| host.kept = kept(&state, 5, 11));
    let plan = planned(&found);
    assert_eq!(plan.state.instances[&Dbid(5)].preferred, Preferred::Mirror);
    silence(&mut found, "h3");
    let (content, instance) = (ContentId(1), at(1).1);
    assert_eq!(refused(&found), Refusal::NoRow { content, instance });
}

#[test]
fn an_instance_that_no_configuration_names_is_listed() {
    let mut state = rows();
    let row = row(0, 8, Preferred::Mirror);
    state.instances.insert(Dbid(8), row);
    let mut found = found();
    found.hosts.iter_mut().for_each(|host| host.kept = kept(&state, 5, 11));
    let doubts = planned(&found).doubts;
    assert!(doubts.contains(&Doubt::NotACopy { dbid: Dbid(8), content: ContentId(0) }));
}

#[test]
fn the_map_of_rows_is_above_every_version_of_an_earlier_reign() {
    let plan = planned(&found());
    let state = restored(&plan.body(6).unwrap()).unwrap();
    assert_eq!(state.map.unwrap().version().0, (6 << 32) - 1);
}

fn restored(body: &Bytes) -> Result<State, Refused> {
    let mut state = State { cluster: Some(CLUSTER), ..State::default() };
    state.apply(9, &Change::Restore { body: body.clone() }, Rules::all())?;
    Ok(state)
}

#[test]
fn a_catalog_is_taken_as_a_whole_once_and_by_its_own_cluster_alone() {
    let plan = planned(&found());
    let body = plan.body(6).unwrap();
    let mut state = restored(&body).unwrap();
    assert_eq!((&state.contents, &state.instances), (&plan.state.contents, &plan.state.instances));
    assert!(state.history.iter().all(|row| row.at == 9) && state.history.len() == 4);
    let before = state.clone();
    let again = state.apply(10, &Change::Restore { body: body.clone() }, Rules::all());
    assert_eq!((again, &state), (Err(Refused::NotEmpty), &before));
    let mut other = State { cluster: Some(ClusterId(8)), ..State::default() };
    let foreign = other.apply(9, &Change::Restore { body: body.clone() }, Rules::all());
    assert!(matches!(foreign, Err(Refused::WrongCluster { .. })));
    for len in (0..body.len()).step_by(311) {
        let cut = Change::Restore { body: body.slice(..len) };
        let mut empty = State::default();
        assert_eq!(empty.apply(9, &cut, Rules::all()), Err(Refused::NoCatalog));
        assert_eq!(empty, State::default());
    }
}

// The voters' part.

struct Hall(Vec<Voter>);

impl Hall {
    fn new(voters: u8) -> Self {
        let addresses = (0..voters).map(|seat| vec![format!("h{seat}:1")]).collect();
        let list = VoterList { version: 1, addresses };
        let first = found().voters.newest;
        let voter = |seat| Voter::create(CLUSTER, list.clone(), seat, first.clone()).unwrap();
        Self(list.seats().map(voter).collect())
    }

    /// Carries out what a ballot asks until it comes to an end; only these voters answer.
    fn run(&mut self, ballot: &mut Ballot, mut acts: Vec<Act>, there: &[u8]) -> Vec<Act> {
        let mut ended = Vec::new();
        loop {
            let mut asked = false;
            for act in std::mem::take(&mut acts) {
                match act {
                    Act::Ask(ask) if there.contains(&ask.seat.0) => {
                        let voter = &mut self.0[usize::from(ask.seat.0)];
                        let (next, say) = voter.step(&ask, Rules::all());
                        *voter = next.unwrap_or_else(|| voter.clone());
                        asked = true;
                        ballot.hear(say, &mut acts);
                    }
                    Act::Ask(_) => {}
                    act => ended.push(act),
                }
            }
            if acts.is_empty() && !asked {
                return ended;
            }
            if acts.is_empty() {
                ballot.hurry(&mut acts);
            }
        }
    }

    fn replace(&mut self, above: (u64, u64), force: bool, there: &[u8]) -> Vec<Act> {
        let voters = u8::try_from(self.0.len()).unwrap();
        let whose = Whose { cluster: CLUSTER, me: FRESH, list: 1, voters };
        let mut ballot = Ballot::new(whose, 1, Rules::all());
        let anew = Anew { addresses: vec!["10.0.0.1:5432".to_owned()], above, above_epoch: 11 };
        let mut acts = Vec::new();
        ballot.replace(77, anew, force, &mut acts);
        self.run(&mut ballot, acts, there)
    }

    /// What a coordinator's start comes to.
    fn start(&mut self, me: InstanceId) -> Vec<Act> {
        let voters = u8::try_from(self.0.len()).unwrap();
        let mut ballot =
            Ballot::new(Whose { cluster: CLUSTER, me, list: 1, voters }, 1 << 40, Rules::all());
        let mut acts = Vec::new();
        ballot.start(Epoch { number: 0, nonce: 88 }, &mut acts);
        let all: Vec<u8> = (0..voters).collect();
        self.run(&mut ballot, acts, &all)
    }
}

#[test]
fn the_new_coordinator_is_recorded_alone_above_every_number_and_the_old_one_starts_no_more() {
    let mut hall = Hall::new(3);
    let ended = hall.replace((5, 3), false, &[0, 2]);
    let [Act::Recorded(config)] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!((config.epoch.number, config.version), (12, Version(4)));
    assert_eq!((config.primary, config.copies.len()), (FRESH, 1));
    assert!(config.in_sync(FRESH));
    let old = hall.start(COORDINATOR);
    assert!(matches!(old.as_slice(), [Act::Refused(Why::Stranger(_))]), "{old:?}");
    let new = hall.start(FRESH);
    assert!(matches!(new.last(), Some(Act::Recorded(config)) if config.epoch.number > 12));
}

#[test]
fn a_minority_records_no_new_coordinator_without_force() {
    let mut hall = Hall::new(3);
    assert_eq!(hall.replace((5, 3), false, &[1]), []);
    assert!(hall.0.iter().all(|voter| voter.accepted().primary == COORDINATOR));
    let forced = hall.replace((5, 3), true, &[1]);
    assert!(matches!(forced.as_slice(), [Act::Recorded(_)]), "{forced:?}");
}

#[test]
fn who_became_coordinator_since_it_was_looked_is_not_replaced() {
    let mut hall = Hall::new(3);
    // The old one was found again, and has started: nothing is lost.
    let started = hall.start(COORDINATOR);
    assert!(matches!(started.last(), Some(Act::Recorded(_))));
    let refused = hall.replace((5, 3), false, &[0, 1, 2]);
    assert!(matches!(refused.as_slice(), [Act::Refused(Why::Moved(_))]), "{refused:?}");
}

// What is proved: a small world of one content, whose authority is lost at any moment.

/// What happens to a content before its catalog is lost.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A copy hears the newest configuration, or the one behind the one it knows.
    Hear(usize, bool),
    /// A primary that acts commits a byte.
    Commit(usize),
    /// It asks to go on without the other one.
    Shrink(usize),
    /// The other copy is brought up to date and asked for.
    Grow(usize),
    /// The authority promotes a copy.
    Promote(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0..5_u8, 0..2_usize, any::<bool>()).prop_map(|(kind, at, newest)| match kind {
        0 => Event::Hear(at, newest),
        1 => Event::Commit(at),
        2 => Event::Shrink(at),
        3 => Event::Grow(at),
        _ => Event::Promote(at),
    });
    prop::collection::vec(one, 1..60)
}

struct Pair {
    chain: Vec<Config>,
    heard: [usize; 2],
    durable: [u64; 2],
    committed: u64,
}

impl Pair {
    fn new() -> Self {
        Self { chain: vec![config(0, 1, 1)], heard: [0, 0], durable: [0, 0], committed: 0 }
    }

    fn instance(at: usize) -> InstanceId {
        [crate::at(0).0, crate::at(0).1][at]
    }

    fn known(&self, at: usize) -> &Config {
        &self.chain[self.heard[at]]
    }

    fn record(&mut self, change: impl FnOnce(&mut Config)) {
        let mut new = self.chain.last().unwrap().clone();
        new.version = new.version.next();
        change(&mut new);
        self.chain.push(new);
    }

    fn happens(&mut self, event: Event) {
        let newest = self.chain.len() - 1;
        match event {
            Event::Hear(at, true) => self.heard[at] = newest,
            Event::Hear(at, false) => self.heard[at] = newest.min(self.heard[at] + 1),
            Event::Commit(at) => {
                let config = self.known(at).clone();
                let other = 1 - at;
                if config.primary != Self::instance(at) {
                    return;
                }
                self.durable[at] += 1;
                if config.in_sync(Self::instance(other)) {
                    // A copy that knows a later reign takes nothing from this one.
                    if self.known(other).epoch.number > config.epoch.number {
                        return;
                    }
                    self.durable[other] = self.durable[at];
                }
                self.committed = self.committed.max(self.durable[at]);
            }
            Event::Shrink(at) if self.acts_by_the_newest(at) => {
                let gone = Self::instance(1 - at);
                self.record(|config| {
                    for copy in config.copies.iter_mut().filter(|copy| copy.instance == gone) {
                        copy.in_sync = false;
                    }
                });
            }
            Event::Grow(at) if self.acts_by_the_newest(at) => {
                let other = 1 - at;
                if self.known(other).epoch.number > self.known(at).epoch.number {
                    return;
                }
                // S4: it is waited for first; nothing is committed without it from here on.
                self.durable[other] = self.durable[at];
                self.record(|config| config.copies.iter_mut().for_each(|copy| copy.in_sync = true));
                self.heard[at] = self.chain.len() - 1;
            }
            Event::Promote(at) => {
                let to = Self::instance(at);
                let last = self.chain.last().unwrap();
                if last.in_sync(to) && last.primary != to {
                    self.record(|config| {
                        config.primary = to;
                        config.epoch.number += 1;
                        config.epoch.nonce += 1;
                    });
                }
            }
            _ => {}
        }
    }

    /// What the authority would let it change.
    fn acts_by_the_newest(&self, at: usize) -> bool {
        self.heard[at] == self.chain.len() - 1 && self.known(at).primary == Self::instance(at)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whoever_is_in_sync_in_what_is_recorded_anew_holds_every_commit(events in events()) {
        let mut pair = Pair::new();
        events.into_iter().for_each(|event| pair.happens(event));
        let mut found = found();
        for at in 0..2 {
            let config = pair.known(at).clone();
            says(&mut found, Pair::instance(at).0, |copy| {
                (copy.version, copy.epoch) = (config.version, config.epoch);
                copy.config = Some(config);
            });
        }
        let plan = planned(&found);
        let anew = recorded(&plan, 0);
        let old: BTreeMap<_, _> = pair.chain.iter().map(|config| (config.version, config)).collect();
        prop_assert_eq!(old[&anew.version], anew, "no version has a second value");
        for at in 0..2 {
            if anew.in_sync(Pair::instance(at)) {
                prop_assert!(pair.durable[at] >= pair.committed);
            }
        }
    }
}
