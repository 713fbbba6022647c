//! A cluster of fakes around a coordinator: agents that carry out orders, instances that answer heartbeats, and
//! primaries that let go of mirrors.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use outrigger_cluster::agent::{Ask, Order, Process, Say, Seen};
use outrigger_cluster::catalog::Change;
use outrigger_cluster::catalog::tables::{Dbid, Host, Instance, Preferred, Up, Wanted};
use outrigger_cluster::coordinator::{CATALOG, In, Out};
use outrigger_cluster::operator::{Answer, ClusterState, Founding, Request};
use outrigger_cluster::register::Proposer;
use outrigger_net::beat::{Beat, Figures, Phase};
use outrigger_net::config::{Config, Copy, Loss, Rule, Version};
use outrigger_net::message::{Envelope, Message, Role, Session};
use outrigger_replica::member::LinkId;
use outrigger_replica::store::StateStore;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, Epoch, InstanceId, Lsn};

use super::{CLUSTER, COORDINATOR, OPERATOR, World, epoch, hello, next};

pub(crate) const STANDBY: InstanceId = InstanceId(0xC1);

/// What runs of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) content: ContentId,
    pub(crate) instance: InstanceId,
    pub(crate) wanted: Wanted,
    pub(crate) run: u64,
    pub(crate) done: u64,
    pub(crate) process: Process,
    pub(crate) incarnation: u64,
    pub(crate) durable: u64,
    /// Its network to the coordinator is cut.
    pub(crate) silent: bool,
    /// What a coordinator tells it is never durable.
    pub(crate) forgets: bool,
    /// It beats and says nothing on its connection.
    pub(crate) quiet: bool,
    /// Its disk probe has not succeeded for long.
    pub(crate) disk_hangs: bool,
    /// How long it has not heard its primary.
    pub(crate) stream_age: Option<u64>,
    pub(crate) starts: u32,
    /// How a process that is started ends at once.
    pub(crate) fails: Option<String>,
    pub(crate) link: Option<LinkId>,
}

pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) hosts: BTreeMap<String, bool>,
    pub(crate) fakes: BTreeMap<Dbid, Fake>,
    /// Every order that agents took, as it came: (dbid, wanted, run).
    pub(crate) orders: Vec<(Dbid, Wanted, u64)>,
    /// Agents that do not confirm.
    pub(crate) deaf: BTreeSet<String>,
    /// Agents that do not answer whether data directories are whole.
    pub(crate) mute: BTreeSet<String>,
    /// Primaries that do not hand over.
    pub(crate) stubborn: BTreeSet<InstanceId>,
    /// What was asked of agents, as it came.
    pub(crate) wants: Vec<(String, u64)>,
    pub(crate) handed: Vec<(InstanceId, InstanceId)>,
    pub(crate) swaps: Vec<(Version, Config)>,
    pub(crate) bad: Vec<(Dbid, String)>,
    /// Primaries let go of mirrors that do not run.
    pub(crate) shrinks: bool,
    /// Copies that run and are not held come in sync.
    pub(crate) grows: bool,
    /// Primaries that are asked to hand over do so.
    pub(crate) yields: bool,
    /// Records are applied as they come.
    pub(crate) applies: bool,
    next_link: u64,
    taken: usize,
}

pub(crate) fn host_of(number: usize) -> String {
    format!("sdw{number}")
}

pub(crate) fn host(name: &str) -> Host {
    let agent = vec![format!("{name}:7070")];
    Host { name: name.to_owned(), addresses: vec![name.to_owned()], agent, ..Host::default() }
}

pub(crate) fn instance_of(content: i32, mirror: bool) -> InstanceId {
    InstanceId(0x1000 + u128::try_from(content).unwrap() * 2 + u128::from(mirror))
}

pub(crate) fn dbid_of(content: i32, mirror: bool) -> Dbid {
    Dbid(u16::try_from(10 + content * 2 + i32::from(mirror)).unwrap())
}

pub(crate) fn row(content: i32, mirror: bool, host: &str) -> Instance {
    let instance = instance_of(content, mirror);
    Instance {
        content: ContentId(content),
        instance,
        preferred: if mirror { Preferred::Mirror } else { Preferred::Primary },
        host: host.to_owned(),
        addresses: vec![format!("{host}:{}", 6000 + content)],
        data_dir: format!("/data/{instance}"),
        wanted: Wanted::New,
        run: 1,
        max_rate_bytes: 0,
    }
}

pub(crate) fn catalog_row(instance: InstanceId, host: &str) -> Instance {
    Instance {
        content: CATALOG,
        instance,
        preferred: Preferred::Mirror,
        host: host.to_owned(),
        addresses: vec![format!("{host}:5432")],
        data_dir: format!("/data/{instance}"),
        wanted: Wanted::Up,
        run: 1,
        max_rate_bytes: 0,
    }
}

/// Contents whose primaries are on sdw1, sdw2, ... in turn, each mirrored by the next host.
pub(crate) fn founding(contents: i32, hosts: usize, mirrored: bool) -> Founding {
    let mut rows = vec![(Dbid(1), catalog_row(COORDINATOR, "cdw"))];
    for content in 0..contents {
        let at = usize::try_from(content).unwrap() % hosts;
        rows.push((dbid_of(content, false), row(content, false, &host_of(at + 1))));
        if mirrored {
            let other = (at + 1) % hosts;
            rows.push((dbid_of(content, true), row(content, true, &host_of(other + 1))));
        }
    }
    let mut names: Vec<_> = (1..=hosts).map(host_of).collect();
    names.push("cdw".to_owned());
    let hosts = names.iter().map(|name| host(name)).collect();
    Founding { hosts, rows, segment_bytes: 1 << 20, settings: Vec::new() }
}

pub(crate) fn own() -> Config {
    Config {
        version: Version(1),
        epoch: epoch(3),
        primary: COORDINATOR,
        copies: vec![Copy {
            instance: COORDINATOR,
            addresses: vec!["cdw:5432".to_owned()],
            in_sync: true,
            held: false,
            durable: Promise::NONE,
        }],
        rule: Rule::All,
        loss: None,
    }
}

/// What the voters record of a forced activation.
pub(crate) fn loss_in(reign: u64) -> Loss {
    Loss { instance: COORDINATOR, epoch: reign, end: Lsn(u64::MAX) }
}

impl Fleet {
    /// A coordinator that serves, and no cluster yet.
    pub(crate) fn unfounded() -> Self {
        let mut fleet = Self {
            world: World::asleep(Vec::new()),
            hosts: BTreeMap::new(),
            fakes: BTreeMap::new(),
            orders: Vec::new(),
            deaf: BTreeSet::new(),
            mute: BTreeSet::new(),
            stubborn: BTreeSet::new(),
            wants: Vec::new(),
            handed: Vec::new(),
            swaps: Vec::new(),
            bad: Vec::new(),
            shrinks: true,
            grows: true,
            yields: true,
            applies: true,
            next_link: 10_000,
            taken: 0,
        };
        fleet.world.step(In::Own { config: own() });
        fleet.world.step(In::Serving(Some(epoch(3))));
        fleet.run(10);
        fleet
    }

    /// A cluster of these contents that is up, each pair in sync.
    pub(crate) fn founded(contents: i32, hosts: usize, mirrored: bool) -> Self {
        let mut fleet = Self::unfounded();
        let answer = fleet.ask(&Request::Found(founding(contents, hosts, mirrored)));
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        fleet.settle();
        for content in 0..contents {
            let config = fleet.config(content);
            let count = config.in_sync_set().count();
            assert_eq!(count, config.copies.len(), "content {content}: {config:?}");
        }
        fleet
    }

    /// Four hosts' worth of time for everything to come to rest.
    pub(crate) fn settle(&mut self) {
        self.run(5_000);
    }

    /// Time passes in steps of 50 ms.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.world.now.plus(millis * 1000);
        self.carry_out();
        while self.world.now < end {
            self.world.pass(50);
            self.carry_out();
            self.live();
            self.carry_out();
        }
    }

    pub(crate) fn config(&self, content: i32) -> Config {
        self.world
            .catalog
            .read(|state| state.contents[&ContentId(content)].register.config().cloned().unwrap())
    }

    pub(crate) fn up(&self) -> Up {
        self.world.catalog.read(|state| state.up.clone())
    }

    pub(crate) fn row(&self, dbid: Dbid) -> Instance {
        self.world.catalog.read(|state| state.instances[&dbid].clone())
    }

    pub(crate) fn setting(&self, name: &str) -> u64 {
        self.world.catalog.read(|state| state.settings.get(name).copied().unwrap_or(0))
    }

    pub(crate) fn history(&self, word: &str) -> usize {
        self.world
            .catalog
            .read(|state| state.history.iter().filter(|row| row.description.contains(word)).count())
    }

    pub(crate) fn state(&mut self) -> ClusterState {
        self.world.coordinator.state()
    }

    pub(crate) fn note(&mut self, content: i32) -> String {
        let state = self.state();
        let row = state.contents.iter().find(|at| at.content == ContentId(content)).unwrap();
        row.note.clone()
    }

    pub(crate) fn primary(&self, content: i32) -> InstanceId {
        self.config(content).primary
    }

    /// Asks, and does not wait.
    pub(crate) fn begin(&mut self, request: &Request) -> u64 {
        if self.world.sent(OPERATOR).is_empty() {
            self.world.hello(OPERATOR, Role::Operator, InstanceId::default());
        }
        self.world.op += 1;
        let op = self.world.op;
        let body = request.encode().unwrap();
        self.world.say(OPERATOR, Message::Request { op, body });
        self.carry_out();
        op
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        let op = self.begin(request);
        for _ in 0..1_200 {
            if let Some(answer) = self.world.answer(op) {
                return answer;
            }
            self.run(50);
        }
        panic!("no answer to {request:?}");
    }

    pub(crate) fn done(&mut self, request: &Request) -> String {
        match self.ask(request) {
            Answer::Done { text } => text,
            other => panic!("not done: {other:?}"),
        }
    }

    pub(crate) fn denied(&mut self, request: &Request) -> String {
        match self.ask(request) {
            Answer::Denied { text } => text,
            other => panic!("not denied: {other:?}"),
        }
    }

    pub(crate) fn fake(&mut self, content: i32, mirror: bool) -> &mut Fake {
        self.fakes.get_mut(&dbid_of(content, mirror)).unwrap()
    }

    pub(crate) fn running(&self, dbid: Dbid) -> bool {
        let fake = self.fakes.get(&dbid);
        fake.is_some_and(|fake| matches!(fake.process, Process::Running { .. }))
    }

    pub(crate) fn host_of(&self, dbid: Dbid) -> String {
        self.row(dbid).host
    }

    /// A process is killed: its connection ends, its agent says so.
    pub(crate) fn kill(&mut self, dbid: Dbid) {
        self.end(dbid, "signal 9");
        self.tell(dbid);
        self.carry_out();
    }

    fn end(&mut self, dbid: Dbid, how: &str) {
        let fake = self.fakes.get_mut(&dbid).unwrap();
        fake.process = Process::Ended { how: how.to_owned() };
        if let Some(link) = fake.link.take() {
            self.world.step(In::Closed(link));
        }
    }

    fn tell(&mut self, dbid: Dbid) {
        let host = self.host_of(dbid);
        self.status(&host);
    }

    /// A host and everything on it is gone.
    pub(crate) fn lose_host(&mut self, host: &str) {
        let dbids: Vec<_> = self.fakes.keys().copied().collect();
        for dbid in dbids {
            let there = self
                .world
                .catalog
                .read(|state| state.instances.get(&dbid).is_some_and(|row| row.host == host));
            if there && self.running(dbid) {
                self.end(dbid, "signal 9");
            }
        }
        self.hosts.insert(host.to_owned(), false);
        self.world.step(In::Agent { host: host.to_owned(), here: false });
        self.carry_out();
    }

    pub(crate) fn find_host(&mut self, host: &str) {
        self.hosts.insert(host.to_owned(), true);
        self.world.step(In::Agent { host: host.to_owned(), here: true });
        self.status(host);
        self.carry_out();
    }

    /// An agent tells what it sees.
    pub(crate) fn status(&mut self, host: &str) {
        if self.hosts.get(host) != Some(&true) {
            return;
        }
        let rows = self.world.catalog.read(|state| state.instances.clone());
        let on_it = self
            .fakes
            .iter()
            .filter(|(dbid, _)| rows.get(*dbid).is_some_and(|row| row.host == host));
        let instances = on_it.map(|(dbid, fake)| Seen {
            dbid: *dbid,
            content: fake.content,
            instance: fake.instance,
            run: fake.done,
            process: fake.process.clone(),
        });
        let say = Say::Status {
            generation: 1,
            cluster: CLUSTER,
            host: host.to_owned(),
            coordinator_epoch: 3,
            instances: instances.collect(),
        };
        self.world.step(In::AgentSaid { host: host.to_owned(), say });
    }

    /// Carries out what the coordinator asks for, until it asks for nothing.
    pub(crate) fn carry_out(&mut self) {
        for _ in 0..10_000 {
            if self.applies && !self.world.waiting.is_empty() {
                self.world.apply();
            }
            if self.taken > self.world.out.len() {
                self.taken = 0;
            }
            let fresh: Vec<Out> = self.world.out[self.taken..].to_vec();
            self.taken = self.world.out.len();
            if fresh.is_empty() {
                return;
            }
            for out in fresh {
                self.perform(out);
            }
        }
        panic!("it never comes to rest");
    }

    fn perform(&mut self, out: Out) {
        match out {
            Out::Reach { agents } => {
                let known: Vec<_> = self.hosts.keys().cloned().collect();
                for host in known {
                    if !agents.iter().any(|(name, _)| *name == host) {
                        self.hosts.remove(&host);
                        self.world.step(In::Agent { host, here: false });
                    }
                }
                for (host, _) in agents {
                    if !self.hosts.contains_key(&host) {
                        self.hosts.insert(host.clone(), true);
                        self.world.step(In::Agent { host: host.clone(), here: true });
                        self.status(&host);
                    }
                }
            }
            Out::Agent { host, ask } => self.obey(&host, ask),
            Out::Ping { ping, .. } => {
                let alive = self.fakes.values().find(|fake| fake.instance == ping.to);
                let beat = alive.and_then(|fake| self.beat(fake, ping.counter));
                match beat {
                    Some(beat) => self.world.step(In::Beat { from: ping.to, beat }),
                    None if alive.is_some_and(|fake| !fake.silent && self.reachable(fake)) => {
                        self.world.step(In::Refused { instance: ping.to });
                    }
                    None => {}
                }
            }
            Out::Send {
                link,
                message: Message::HandOver { to, .. } | Message::GiveUp { to, .. },
                ..
            } => {
                let by = self.fakes.values().find(|fake| fake.link == Some(link));
                let Some(by) = by.map(|fake| fake.instance) else { return };
                self.handed.push((by, to));
                if self.yields && !self.stubborn.contains(&by) {
                    self.give_up(by);
                }
            }
            Out::SwapOwn { seen, new } => self.swaps.push((seen, new)),
            Out::Hangup(link) => {
                for fake in self.fakes.values_mut().filter(|fake| fake.link == Some(link)) {
                    fake.link = None;
                }
            }
            _ => {}
        }
    }

    /// The primary of this copy's content has given its reign up: this copy says so.
    pub(crate) fn give_up(&mut self, by: InstanceId) {
        let fake = self.fakes.values().find(|fake| fake.instance == by).unwrap().clone();
        let config = self.config(fake.content.0);
        let at = Lsn(fake.durable);
        self.speak(&fake, Message::GaveUp { epoch: config.epoch, at });
    }

    fn reachable(&self, fake: &Fake) -> bool {
        let host = self
            .world
            .catalog
            .read(|state| state.row_of(fake.instance).map(|(_, row)| row.host.clone()));
        host.is_some_and(|host| self.hosts.get(&host) == Some(&true))
    }

    fn beat(&self, fake: &Fake, counter: u64) -> Option<Beat> {
        if !matches!(fake.process, Process::Running { .. }) || fake.silent {
            return None;
        }
        let config = self.config(fake.content.0);
        Some(Beat {
            cluster: CLUSTER,
            content: fake.content,
            instance: fake.instance,
            counter,
            incarnation: fake.incarnation,
            phase: if config.primary == fake.instance { Phase::Primary } else { Phase::Mirror },
            figures: Some(Figures {
                epoch: config.epoch,
                version: config.version,
                durable: Lsn(fake.durable),
                commit: Lsn(fake.durable),
                applied: Lsn(fake.durable),
            }),
            oldest_write_micros: Some(0),
            stream_age_micros: fake.stream_age,
            probe_age_micros: Some(if fake.disk_hangs { 60_000_000 } else { 0 }),
            recovering_at: None,
            flapping: None,
            turns: 0,
        })
    }

    fn obey(&mut self, host: &str, ask: Ask) {
        if self.hosts.get(host) != Some(&true) {
            return;
        }
        match ask {
            Ask::Want { number, orders, .. } => {
                self.wants.push((host.to_owned(), number));
                for (dbid, order) in orders {
                    self.take(dbid, order);
                }
                if !self.deaf.contains(host) {
                    let say = Say::Taken { number };
                    self.world.step(In::AgentSaid { host: host.to_owned(), say });
                }
                self.status(host);
            }
            Ask::Check if self.mute.contains(host) => {}
            Ask::Check => {
                let bad = self.bad.clone();
                let say = Say::Checked { bad };
                self.world.step(In::AgentSaid { host: host.to_owned(), say });
            }
            _ => {}
        }
    }

    fn take(&mut self, dbid: Dbid, order: Order) {
        let fake = self.fakes.entry(dbid).or_insert_with(|| Fake {
            content: order.content,
            instance: order.instance,
            wanted: Wanted::Down,
            run: 0,
            done: 0,
            process: Process::Stopped,
            incarnation: 0,
            durable: 4096,
            silent: false,
            forgets: false,
            quiet: false,
            disk_hangs: false,
            stream_age: Some(0),
            starts: 0,
            fails: None,
            link: None,
        });
        if order.run < fake.run {
            return;
        }
        if (fake.wanted, fake.run) != (order.wanted, order.run) {
            self.orders.push((dbid, order.wanted, order.run));
        }
        fake.wanted = order.wanted;
        fake.run = order.run;
        let fresh = fake.done < order.run;
        fake.done = order.run;
        let running = matches!(fake.process, Process::Running { .. });
        let mut closed = None;
        match order.wanted {
            Wanted::Down if running => {
                fake.process = Process::Stopped;
                closed = fake.link.take();
            }
            Wanted::Gone if fresh => {
                fake.process = Process::Gone;
                closed = fake.link.take();
            }
            Wanted::New | Wanted::Up if running => {}
            Wanted::New | Wanted::Up | Wanted::Rebuild(_) if fresh => {
                closed = fake.link.take();
                fake.starts += 1;
                fake.incarnation += 1;
                fake.process = match &fake.fails {
                    Some(how) => Process::Ended { how: how.clone() },
                    None => Process::Running { pid: fake.starts },
                };
            }
            _ => {}
        }
        if let Some(link) = closed {
            self.world.step(In::Closed(link));
        }
    }

    fn envelope(&self, fake: &Fake, link: LinkId) -> Envelope {
        let config = self.config(fake.content.0);
        Envelope {
            cluster: CLUSTER,
            content: fake.content,
            epoch: config.epoch,
            version: config.version,
            session: Session(link.0),
            coordinator_epoch: if fake.forgets { 0 } else { self.world.serving() },
        }
    }

    fn speak(&mut self, fake: &Fake, message: Message) {
        let Some(link) = fake.link else { return };
        let envelope = self.envelope(fake, link);
        self.world.frame(link, envelope, message);
    }

    /// Instances connect and report; primaries elect themselves, shrink and grow.
    fn live(&mut self) {
        let dbids: Vec<_> = self.fakes.keys().copied().collect();
        for dbid in dbids {
            let fake = self.fakes[&dbid].clone();
            if fake.content == CATALOG || !self.running(dbid) || fake.silent {
                continue;
            }
            let named = self.config(fake.content.0).copy(fake.instance).is_some();
            if !named {
                continue;
            }
            if fake.link.is_none() {
                self.next_link += 1;
                let link = LinkId(self.next_link);
                let envelope = self.envelope(&fake, link);
                self.world.frame(link, envelope, hello(Role::Instance, fake.instance));
                self.fakes.get_mut(&dbid).unwrap().link = Some(link);
            }
            let fake = self.fakes[&dbid].clone();
            let at = Lsn(fake.durable);
            if fake.quiet {
                continue;
            }
            self.speak(&fake, Message::Report { durable: at, commit: at, applied: at, cut: None });
            self.reign(&fake);
        }
    }

    fn reign(&mut self, fake: &Fake) {
        let config = self.config(fake.content.0);
        if config.primary != fake.instance {
            return;
        }
        let runs = |instance: InstanceId| {
            let mut fakes = self.fakes.values();
            fakes.any(|fake| {
                fake.instance == instance
                    && !fake.silent
                    && matches!(fake.process, Process::Running { .. })
            })
        };
        let mut new = next(&config, |_| {});
        if config.epoch.number == 0 {
            new.epoch = Epoch { number: 1, nonce: 7 };
        } else {
            for copy in &mut new.copies {
                let here = runs(copy.instance);
                let known = (copy.in_sync, here);
                copy.in_sync = match known {
                    (true, false) => !self.shrinks,
                    (false, true) => self.grows && !copy.held,
                    (in_sync, _) => in_sync,
                };
            }
        }
        if new.copies != config.copies || new.epoch != config.epoch {
            let ask = Message::CompareAndSwap { op: 1, seen: config.version, new };
            self.speak(fake, ask);
        }
    }

    /// Adds copies, and their hosts.
    pub(crate) fn add(&mut self, rows: &[(Dbid, Instance)]) {
        let hosts = rows.iter().map(|(_, row)| host(&row.host)).collect();
        self.done(&Request::AddCopies { hosts, rows: rows.to_vec() });
    }

    /// An operator's change of a configuration, past the coordinator.
    pub(crate) fn change(&mut self, content: i32, seen: &Config, new: Config) {
        let (content, proposer) = (ContentId(content), Proposer::Operator);
        let (seen, reports) = (seen.version, Vec::new());
        self.append(Change::Swap { content, seen, new, proposer, reports });
    }

    /// Has this recorded, by whichever changes lead to it.
    pub(crate) fn impose(&mut self, content: i32, wanted: Config) {
        let swap = |fleet: &mut Self, proposer, change: &dyn Fn(&mut Config)| {
            let config = fleet.config(content);
            let new = next(&config, change);
            let seen = config.version;
            let content = ContentId(content);
            fleet.append(Change::Swap { content, seen, new, proposer, reports: Vec::new() });
        };
        if self.primary(content) != wanted.primary {
            swap(self, Proposer::Coordinator, &|new| {
                new.primary = wanted.primary;
                new.epoch = epoch(new.epoch.number + 1);
            });
        }
        let primary = Proposer::Instance(wanted.primary);
        swap(self, primary, &|new| {
            for (copy, wanted) in new.copies.iter_mut().zip(&wanted.copies) {
                copy.in_sync = wanted.in_sync;
            }
        });
        swap(self, Proposer::Operator, &|new| {
            for (copy, wanted) in new.copies.iter_mut().zip(&wanted.copies) {
                copy.held = wanted.held;
            }
        });
        let now = self.config(content);
        assert_eq!(now.primary, wanted.primary);
        for (copy, wanted) in now.copies.iter().zip(&wanted.copies) {
            assert_eq!((copy.in_sync, copy.held), (wanted.in_sync, wanted.held));
        }
    }

    fn append(&mut self, change: Change) {
        self.world.log.change(999_999, change);
        let log = self.world.log.records.clone();
        self.world.catalog.apply(&log).unwrap();
        self.world.step(In::Applied);
        self.carry_out();
    }

    /// Whether something is left to be proved after a forced activation (S8).
    pub(crate) fn is_unproved(&self) -> bool {
        self.world.catalog.read(|state| state.unproved().is_some())
    }

    /// What the voters record at this version, in the reign that goes with it.
    pub(crate) fn own_of(&self, version: u64) -> Config {
        Config { version: Version(version), epoch: epoch(version / 10), ..own() }
    }

    /// Another coordinator process takes over the same catalog.
    pub(crate) fn restart(&mut self, reign: u64, forced: bool) {
        let waiting = std::mem::take(&mut self.world.waiting);
        drop::<Vec<Bytes>>(waiting);
        for fake in self.fakes.values_mut() {
            fake.link = None;
        }
        self.hosts.clear();
        self.world.restart(42 + u128::from(reign));
        self.taken = 0;
        let loss = forced.then_some(loss_in(reign));
        let config = Config { version: Version(reign * 10), epoch: epoch(reign), loss, ..own() };
        self.begin_reign(reign, config);
    }

    /// The same; this is what the voters hold of the catalog.
    pub(crate) fn begin_reign(&mut self, reign: u64, config: Config) {
        self.world.step(In::Own { config });
        self.world.step(In::Serving(Some(epoch(reign))));
        self.carry_out();
    }
}
