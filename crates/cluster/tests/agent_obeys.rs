//! The agent of a host: what it carries out, how often, and on whose word.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use bytes::Bytes;
use outrigger_cluster::agent::{
    Accepted, Agent, Ask, Data, Holding, In, Kept, Memory, Order, Out, Process, Say,
};
use outrigger_cluster::catalog::tables::{Dbid, Rebuild, Wanted};
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};
use support::CLUSTER;

const ONE: Dbid = Dbid(2);

/// What a coordinator of this epoch wants of the host, all of it.
fn want_all(coordinator_epoch: u64, orders: Vec<(Dbid, Order)>) -> Ask {
    Ask::Want { number: 7, cluster: CLUSTER, coordinator_epoch, orders, kept: Bytes::new() }
}

fn order(wanted: Wanted, run: u64) -> Order {
    Order {
        content: ContentId(0),
        instance: InstanceId(0xA),
        log: LogId(1),
        segment_bytes: 1 << 20,
        addresses: vec!["127.0.0.2:7001".to_owned()],
        data_dir: "/data/gpseg0".to_owned(),
        wanted,
        run,
        coordinators: vec!["127.0.0.1:7000".to_owned()],
        voters: Vec::new(),
        source: Vec::new(),
        max_rate_bytes: 0,
        settings: vec![("copy_grace_ms".to_owned(), 500)],
    }
}

/// An agent, its disk, and what it asked of processes.
struct Host {
    agent: Agent,
    /// What a crash would find.
    disk: Memory,
    unsaved: Vec<(u64, Memory)>,
    asked: Vec<String>,
    said: Vec<(u64, Say)>,
    op: u64,
}

impl Host {
    fn new() -> Self {
        Self::with(Memory::default())
    }

    fn with(disk: Memory) -> Self {
        let agent = Agent::new(disk.clone());
        let (unsaved, asked, said) = (Vec::new(), Vec::new(), Vec::new());
        Self { agent, disk, unsaved, asked, said, op: 0 }
    }

    fn claimed() -> Self {
        let mut host = Self::new();
        host.ask(Ask::Claim { cluster: CLUSTER, host: "sdw1".to_owned() });
        host
    }

    fn take(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Save { number, memory } => self.unsaved.push((number, memory)),
                Out::Start { dbid, order } => {
                    self.asked.push(format!("start {dbid} {:?}", order.wanted));
                }
                Out::Stop { dbid } => self.asked.push(format!("stop {dbid}")),
                Out::Remove { dbid, .. } => self.asked.push(format!("remove {dbid}")),
                Out::Check { op, orders } => {
                    let bad = orders.iter().map(|(dbid, _)| (*dbid, "gone".to_owned())).collect();
                    self.step(In::Checked { op, bad });
                }
                Out::Inspect { op, orders } => {
                    let nothing = |(dbid, _)| (dbid, Data::Nothing);
                    self.step(In::Inspected {
                        op,
                        data: orders.into_iter().map(nothing).collect(),
                    });
                }
                Out::Say { op, say } => self.said.push((op, say)),
            }
        }
    }

    fn step(&mut self, event: In) {
        let mut out = Vec::new();
        self.agent.step(event, &mut out);
        self.take(out);
    }

    fn save(&mut self) {
        while !self.unsaved.is_empty() {
            let (number, memory) = self.unsaved.remove(0);
            self.disk = Agent::decode(&Agent::encode(&memory).unwrap()).unwrap();
            self.step(In::Saved { number });
        }
    }

    fn ask_unsaved(&mut self, ask: Ask) -> u64 {
        self.op += 1;
        let ask = Ask::decode(&ask.encode().unwrap()).unwrap();
        self.step(In::Ask { op: self.op, ask });
        self.op
    }

    fn ask(&mut self, ask: Ask) -> Option<Say> {
        let op = self.ask_unsaved(ask);
        self.save();
        let at = self.said.iter().position(|(of, _)| *of == op)?;
        let say = self.said.remove(at).1;
        Some(Say::decode(&say.encode().unwrap()).unwrap())
    }

    fn want(&mut self, epoch: u64, wanted: Wanted, run: u64) -> Option<Say> {
        self.ask(want_all(epoch, vec![(ONE, order(wanted, run))]))
    }

    fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    fn process(&mut self) -> Process {
        match self.agent.status() {
            Say::Status { instances, .. } => instances.first().unwrap().process.clone(),
            say => panic!("{say:?}"),
        }
    }
}

fn ended(good: bool) -> In {
    In::Ended { dbid: ONE, how: "signal 9".to_owned(), good }
}

#[test]
fn an_order_is_carried_out_once_however_often_it_comes() {
    let mut host = Host::claimed();
    assert_eq!(host.want(3, Wanted::New, 1), Some(Say::Taken { number: 7 }));
    assert_eq!(host.asked(), ["start 2 New"]);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    for _ in 0..3 {
        assert_eq!(host.want(3, Wanted::New, 1), Some(Say::Taken { number: 7 }));
    }
    assert!(host.asked().is_empty());
    assert_eq!(host.process(), Process::Running { pid: 77 });
}

#[test]
fn an_instance_that_ends_by_itself_stays_down_until_it_is_wanted_again() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.step(ended(false));
    host.save();
    host.want(3, Wanted::Up, 1);
    assert_eq!(host.asked(), ["start 2 Up"]);
    assert_eq!(host.process(), Process::Ended { how: "signal 9".to_owned() });
    host.want(3, Wanted::Up, 2);
    assert_eq!(host.asked(), ["start 2 Up"]);
}

#[test]
fn a_late_order_of_a_lower_number_changes_nothing() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 4);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.asked();
    assert_eq!(host.want(3, Wanted::Down, 3), Some(Say::Taken { number: 7 }));
    assert!(host.asked().is_empty());
}

#[test]
fn the_number_of_an_instance_that_is_gone_is_another_ones_and_not_before() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 9);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    let other = Order { instance: InstanceId(0xB), ..order(Wanted::New, 1) };
    let want = |host: &mut Host| host.ask(want_all(3, vec![(ONE, other.clone())]));
    host.asked();
    want(&mut host);
    assert!(host.asked().is_empty(), "the first one has its data there");
    host.want(3, Wanted::Gone, 10);
    host.step(ended(true));
    host.step(In::Removed { dbid: ONE });
    host.save();
    host.asked();
    want(&mut host);
    assert_eq!(host.asked(), ["start 2 New"], "though its number of orders is lower");
}

#[test]
fn a_coordinator_of_a_lower_epoch_commands_nothing() {
    let mut host = Host::claimed();
    host.want(5, Wanted::Up, 1);
    host.asked();
    let Some(Say::Denied { text }) = host.want(4, Wanted::Gone, 9) else { panic!() };
    assert!(text.contains("epoch 5"), "{text}");
    assert!(host.asked().is_empty());
    // Also after the agent was killed.
    let mut host = Host::with(host.disk.clone());
    assert!(matches!(host.want(4, Wanted::Gone, 9), Some(Say::Denied { .. })));
}

#[test]
fn another_cluster_and_an_unclaimed_agent_are_refused() {
    let mut host = Host::new();
    assert!(matches!(host.want(3, Wanted::Up, 1), Some(Say::Denied { .. })));
    host.ask(Ask::Claim { cluster: CLUSTER, host: "sdw1".to_owned() });
    let orders = vec![(ONE, order(Wanted::Up, 1))];
    let foreign = Ask::Want {
        number: 7,
        cluster: ClusterId(9),
        coordinator_epoch: 9,
        orders,
        kept: Bytes::new(),
    };
    assert!(matches!(host.ask(foreign), Some(Say::Denied { .. })));
    let claim = |cluster, host: &str| Ask::Claim { cluster, host: host.to_owned() };
    assert!(matches!(host.ask(claim(ClusterId(9), "sdw1")), Some(Say::Denied { .. })));
    assert!(matches!(host.ask(claim(CLUSTER, "sdw2")), Some(Say::Denied { .. })));
    assert_eq!(host.ask(claim(CLUSTER, "sdw1")), Some(Say::Taken { number: 0 }));
    assert!(host.asked().is_empty());
}

#[test]
fn nothing_is_answered_or_carried_out_before_it_is_durable() {
    let mut host = Host::claimed();
    let orders = vec![(ONE, order(Wanted::Up, 1))];
    host.ask_unsaved(want_all(3, orders));
    assert!(host.said.is_empty() && host.asked.is_empty());
    host.save();
    assert_eq!(host.said.len(), 1);
    assert_eq!(host.asked(), ["start 2 Up"]);
}

#[test]
fn an_agent_that_was_killed_goes_on_where_it_was() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.save();
    // Its instance lives on: it is found, and nothing is started.
    let mut again = Host::with(host.disk.clone());
    let mut out = Vec::new();
    again.agent.begin(&[(ONE, 77)], &mut out);
    again.take(out);
    assert!(again.asked().is_empty());
    assert_eq!(again.process(), Process::Running { pid: 77 });
    // Its instance ended meanwhile: it stays down.
    let mut again = Host::with(host.disk.clone());
    let mut out = Vec::new();
    again.agent.begin(&[], &mut out);
    again.take(out);
    assert!(again.asked().is_empty());
    assert!(matches!(again.process(), Process::Ended { .. }));
}

#[test]
fn an_order_that_was_durable_and_not_carried_out_is_carried_out_after_a_kill() {
    let mut host = Host::claimed();
    let orders = vec![(ONE, order(Wanted::Up, 1))];
    host.ask_unsaved(want_all(3, orders));
    let (_, memory) = host.unsaved.remove(0);
    let mut again = Host::with(memory);
    let mut out = Vec::new();
    again.agent.begin(&[], &mut out);
    again.take(out);
    assert_eq!(again.asked(), ["start 2 Up"]);
}

#[test]
fn a_running_instance_is_stopped_before_it_is_made_anew_and_started_behind_that() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.save();
    host.asked();
    host.want(3, Wanted::Rebuild(Rebuild::Full), 2);
    assert_eq!(host.asked(), ["stop 2"]);
    host.step(ended(true));
    host.save();
    assert_eq!(host.asked(), ["start 2 Rebuild(Full)"]);
    host.step(In::Rebuilding { dbid: ONE, done_bytes: 5, total_bytes: 10 });
    assert_eq!(host.process(), Process::Rebuilding { done_bytes: 5, total_bytes: 10 });
    host.step(ended(true));
    host.save();
    assert_eq!(host.asked(), ["start 2 Up"]);
    host.step(In::Runs { dbid: ONE, pid: 78 });
    host.save();
    assert_eq!(host.process(), Process::Running { pid: 78 });
}

#[test]
fn a_rebuild_that_fails_starts_nothing() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Rebuild(Rebuild::Full), 1);
    assert_eq!(host.asked(), ["start 2 Rebuild(Full)"]);
    host.step(In::Rebuilding { dbid: ONE, done_bytes: 5, total_bytes: 10 });
    host.step(ended(false));
    host.save();
    assert!(host.asked().is_empty());
    assert!(matches!(host.process(), Process::Ended { .. }));
}

#[test]
fn what_is_gone_is_stopped_and_removed_once() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.save();
    host.want(3, Wanted::Gone, 2);
    host.step(ended(true));
    host.save();
    host.step(In::Removed { dbid: ONE });
    host.save();
    host.want(3, Wanted::Gone, 2);
    assert_eq!(host.asked(), ["start 2 Up", "stop 2", "remove 2"]);
    assert_eq!(host.process(), Process::Gone);
}

#[test]
fn what_was_being_removed_when_its_agent_was_killed_is_removed_by_the_next() {
    // The agent was killed between the order and the coordinator's hearing that the data is gone: its next life thought
    // that all was done, never said so, and the row stayed in the catalog for good.
    let mut host = Host::claimed();
    host.want(3, Wanted::Gone, 1);
    host.save();
    assert_eq!(host.asked(), ["remove 2"]);
    let mut host = Host::with(host.disk.clone());
    let mut out = Vec::new();
    host.agent.begin(&[], &mut out);
    host.take(out);
    host.save();
    assert_eq!(host.asked(), ["remove 2"]);
    host.step(In::Removed { dbid: ONE });
    assert_eq!(host.process(), Process::Gone);
}

#[test]
fn a_watcher_is_told_when_something_changes_and_not_before() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    let Some(Say::Status { generation, .. }) = host.ask(Ask::Watch { seen: 0 }) else { panic!() };
    assert_eq!(host.ask(Ask::Watch { seen: generation }), None);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    let (_, say) = host.said.pop().unwrap();
    let Say::Status { generation: later, instances, .. } = say else { panic!() };
    assert!(later > generation);
    assert_eq!(instances[0].process, Process::Running { pid: 77 });
}

#[test]
fn an_administrator_runs_coordinators_and_no_instance_of_data() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    assert!(matches!(host.ask(Ask::Run { dbid: ONE, up: false }), Some(Say::Denied { .. })));
    let orders = vec![(Dbid(1), Order { content: ContentId(-1), ..order(Wanted::Down, 7) })];
    host.ask(want_all(3, orders));
    host.asked();
    assert_eq!(host.ask(Ask::Run { dbid: Dbid(1), up: true }), Some(Say::Taken { number: 0 }));
    assert_eq!(host.asked(), ["start 1 Up"]);
}

#[test]
fn only_data_directories_of_instances_that_do_not_run_are_looked_at() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    host.step(In::Runs { dbid: ONE, pid: 77 });
    host.save();
    assert_eq!(host.ask(Ask::Check), Some(Say::Checked { bad: Vec::new() }));
    host.step(ended(false));
    let bad = vec![(ONE, "gone".to_owned())];
    assert_eq!(host.ask(Ask::Check), Some(Say::Checked { bad }));
}

// What is left of a catalog that is lost.

fn kept(host: &Host) -> (u64, u64, &'static [u8]) {
    let Kept { coordinator_epoch, number, body } = host.agent.memory().kept.clone();
    let known: [&'static [u8]; 4] = [b"", b"one", b"two", b"three"];
    let body = known.into_iter().find(|text| body == *text).unwrap();
    (coordinator_epoch, number, body)
}

fn leave(host: &mut Host, coordinator_epoch: u64, number: u64, body: &'static [u8]) {
    let (orders, kept) = (Vec::new(), Bytes::from_static(body));
    host.ask_unsaved(Ask::Want { number, cluster: CLUSTER, coordinator_epoch, orders, kept });
    host.save();
}

#[test]
fn the_newest_rows_of_a_catalog_are_kept_whatever_comes_late() {
    let mut host = Host::claimed();
    leave(&mut host, 3, 5, b"one");
    leave(&mut host, 3, 4, b"two");
    assert_eq!(kept(&host), (3, 5, &b"one"[..]), "it comes late");
    leave(&mut host, 3, 6, b"");
    assert_eq!(kept(&host), (3, 5, &b"one"[..]), "nothing was left");
    leave(&mut host, 4, 1, b"two");
    assert_eq!(kept(&host), (4, 1, &b"two"[..]), "another reign counts anew");
    leave(&mut host, 3, 9, b"three");
    assert_eq!(kept(&host), (4, 1, &b"two"[..]), "a deposed one commands nothing");
    // It is remembered; and what an earlier release remembered is read.
    let body = Agent::encode(host.agent.memory()).unwrap();
    assert_eq!(&Agent::decode(&body).unwrap(), host.agent.memory());
    let tail = 8 + 8 + 4 + 3;
    let mut earlier = body[..body.len() - tail].to_vec();
    earlier[0] = 1;
    let before = Agent::decode(&earlier).unwrap();
    assert_eq!(before, Memory { kept: Kept::default(), ..host.agent.memory().clone() });
}

#[test]
fn a_coordinator_that_does_not_run_is_forgotten_and_another_takes_its_number() {
    let mut host = Host::claimed();
    let catalog = |instance, wanted, run| {
        let content = ContentId(-1);
        vec![(Dbid(1), Order { content, instance: InstanceId(instance), ..order(wanted, run) })]
    };
    let forget =
        |coordinator_epoch, dbid| Ask::Forget { cluster: CLUSTER, coordinator_epoch, dbid };
    host.ask(want_all(3, catalog(1, Wanted::Up, 7)));
    host.step(In::Runs { dbid: Dbid(1), pid: 5 });
    host.save();
    host.want(3, Wanted::Up, 1);
    assert!(matches!(host.ask(forget(4, Dbid(1))), Some(Say::Denied { .. })), "it runs");
    assert!(matches!(host.ask(forget(4, ONE)), Some(Say::Denied { .. })), "it has data");
    host.step(In::Ended { dbid: Dbid(1), how: "signal 9".to_owned(), good: false });
    host.save();
    assert!(matches!(host.ask(forget(2, Dbid(1))), Some(Say::Denied { .. })), "S0");
    host.asked();
    assert_eq!(host.ask(forget(4, Dbid(1))), Some(Say::Taken { number: 0 }));
    assert_eq!(host.ask(forget(4, Dbid(1))), Some(Say::Taken { number: 0 }), "again");
    assert_eq!(host.asked(), [""; 0], "its data stays");
    // The old one commands nothing from then on.
    assert!(matches!(host.ask(want_all(3, Vec::new())), Some(Say::Denied { .. })));
    host.ask(want_all(4, catalog(2, Wanted::New, 1)));
    assert_eq!(host.asked(), ["start 1 New"]);
}

#[test]
fn an_agent_tells_all_it_holds_and_changes_nothing_by_that() {
    let mut host = Host::claimed();
    host.want(3, Wanted::Up, 1);
    leave(&mut host, 3, 8, b"one");
    let before = host.agent.memory().clone();
    let Some(Say::Holds { instances, kept, .. }) = host.ask(Ask::Inspect) else { panic!() };
    assert_eq!((instances.len(), kept.number), (1, 8));
    assert_eq!(host.agent.memory(), &before);
}

#[test]
fn what_agents_tell_of_control_files_survives_its_encoding_and_damage_is_an_error() {
    let config = support::pair();
    let accepted = Accepted {
        identity: outrigger_replica::control::Identity {
            cluster: CLUSTER,
            content: ContentId(0),
            instance: InstanceId(0xA),
            log: LogId(1),
            segment_bytes: 1 << 20,
        },
        epoch: config.epoch,
        version: config.version,
        coordinator_epoch: 9,
        durable: Default::default(),
        commit: Default::default(),
        config: Some(config),
    };
    let data = [
        Data::Nothing,
        Data::Unreadable { why: "damaged".to_owned() },
        Data::Copy(Box::new(Accepted { config: None, ..accepted.clone() })),
        Data::Copy(Box::new(accepted)),
    ];
    let holding = |data| Holding {
        dbid: ONE,
        order: order(Wanted::Up, 1),
        process: Process::Running { pid: 1 },
        data,
    };
    let say = Say::Holds {
        cluster: CLUSTER,
        host: "h1".to_owned(),
        coordinator_epoch: 9,
        kept: Kept { coordinator_epoch: 9, number: 2, body: Bytes::from_static(b"rows") },
        instances: data.into_iter().map(holding).collect(),
    };
    let bytes = say.encode().unwrap();
    assert_eq!(Say::decode(&bytes).unwrap(), say);
    for len in 0..bytes.len() {
        assert!(Say::decode(&bytes[..len]).is_err());
    }
    for ask in [Ask::Inspect, Ask::Forget { cluster: CLUSTER, coordinator_epoch: 4, dbid: Dbid(1) }]
    {
        assert_eq!(Ask::decode(&ask.encode().unwrap()).unwrap(), ask);
    }
}
