//! What the tests share: names, configurations, a log in memory, a coordinator with its catalog.
#![allow(dead_code, reason = "each test takes what it needs")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

pub(crate) mod fleet;

use std::sync::Arc;

use bytes::Bytes;
use outrigger_cluster::catalog::{Catalog, Change, Record, Ticket};
use outrigger_cluster::coordinator::{
    CATALOG, Coordinator, CoordinatorOptions, Event, Identity, In, Out,
};
use outrigger_cluster::operator::{Answer, Registration, Request};
use outrigger_cluster::slots::MemorySlots;
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role, Session};
use outrigger_replica::member::LinkId;
use outrigger_replica::rules::Rules;
use outrigger_replica::store::StateStore;
use outrigger_wal::format::{Record as LogRecord, RecordFlag};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, Micros};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xC1);
pub(crate) const COORDINATOR: InstanceId = InstanceId(0xC0);
pub(crate) const A: InstanceId = InstanceId(0xA);
pub(crate) const B: InstanceId = InstanceId(0xB);
pub(crate) const C: InstanceId = InstanceId(0xC);
pub(crate) const CONTENT: ContentId = ContentId(0);

pub(crate) fn epoch(number: u64) -> Epoch {
    Epoch { number, nonce: u128::from(number) * 1000 + 7 }
}

pub(crate) fn copy(instance: InstanceId, in_sync: bool, durable: u64) -> Copy {
    let addresses = vec![format!("host-{instance}:7000")];
    Copy {
        instance,
        addresses,
        in_sync,
        held: false,
        durable: Promise { epoch: 0, lsn: Lsn(durable) },
    }
}

/// A reigns in epoch 1, B is in sync.
pub(crate) fn pair() -> Config {
    Config {
        version: Version(5),
        epoch: epoch(1),
        primary: A,
        copies: vec![copy(A, true, 100), copy(B, true, 90)],
        rule: Rule::All,
        loss: None,
    }
}

/// The configuration after this one, changed.
pub(crate) fn next(config: &Config, change: impl FnOnce(&mut Config)) -> Config {
    let mut new = Config { version: config.version.next(), ..config.clone() };
    change(&mut new);
    new
}

pub(crate) fn log_record(start: u64, body: Bytes) -> LogRecord {
    let end = Lsn(start + 10 + body.len() as u64);
    LogRecord { lsn: Lsn(start), end, flag: RecordFlag::Record, body }
}

/// A log in memory.
#[derive(Default, Clone)]
pub(crate) struct Log {
    pub(crate) records: Vec<LogRecord>,
}

impl Log {
    pub(crate) fn end(&self) -> Lsn {
        self.records.last().map_or(Lsn(4096), |last| last.end)
    }

    pub(crate) fn push(&mut self, body: Bytes) {
        self.records.push(log_record(self.end().0, body));
    }

    pub(crate) fn change(&mut self, number: u64, change: Change) {
        let ticket = Ticket { epoch: 1, number };
        self.push(Record { ticket, at: number, change }.encode().unwrap());
    }
}

pub(crate) fn catalog(slots: &MemorySlots) -> Catalog {
    Catalog::open(Box::new(slots.clone()), Rules::all()).unwrap()
}

/// A content whose first configuration is `config`.
pub(crate) fn create(config: Config) -> Change {
    Change::Create { content: CONTENT, log: LogId(0x106), segment_bytes: 1 << 20, config }
}

/// A coordinator, its catalog and the log between them.
pub(crate) struct World {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) coordinator: Coordinator,
    pub(crate) log: Log,
    pub(crate) now: Micros,
    /// Appended, not applied.
    pub(crate) waiting: Vec<Bytes>,
    pub(crate) out: Vec<Out>,
    pub(crate) op: u64,
}

pub(crate) const OPERATOR: LinkId = LinkId(900);

impl World {
    /// One that does not serve yet, over a catalog with these changes applied.
    pub(crate) fn asleep(changes: Vec<Change>) -> Self {
        let catalog = Arc::new(catalog(&MemorySlots::default()));
        let mut log = Log::default();
        for (number, change) in changes.into_iter().enumerate() {
            log.change(number as u64, change);
        }
        catalog.apply(&log.records).unwrap();
        let identity = Identity {
            cluster: CLUSTER,
            instance: COORDINATOR,
            log: LogId(0xCA7),
            segment_bytes: 1 << 20,
        };
        let options = CoordinatorOptions::default();
        let now = Micros(1_000_000_000);
        let coordinator = Coordinator::new(identity, Arc::clone(&catalog), 42, options, now);
        Self { catalog, coordinator, log, now, waiting: Vec::new(), out: Vec::new(), op: 0 }
    }

    /// Another process over the same catalog, which does not serve yet.
    pub(crate) fn restart(&mut self, seed: u128) {
        let identity = Identity {
            cluster: CLUSTER,
            instance: COORDINATOR,
            log: LogId(0xCA7),
            segment_bytes: 1 << 20,
        };
        let options = CoordinatorOptions::default();
        let catalog = Arc::clone(&self.catalog);
        self.coordinator = Coordinator::new(identity, catalog, seed, options, self.now);
        self.out.clear();
    }

    /// The voters have recorded this reign, and its member has begun it.
    pub(crate) fn begin(&mut self, reign: u64) {
        let own = Config { version: Version(reign), epoch: epoch(reign), ..fleet::own() };
        self.step(In::Own { config: own });
        self.step(In::Serving(Some(epoch(reign))));
    }

    /// One that has served for longer than any silence.
    pub(crate) fn new(changes: Vec<Change>) -> Self {
        let mut world = Self::asleep(changes);
        world.begin(3);
        world.apply();
        world.pass(10_000);
        world.out.clear();
        world
    }

    pub(crate) fn with_pair() -> Self {
        Self::new(vec![create(pair())])
    }

    pub(crate) fn step(&mut self, event: In) {
        let mut out = Vec::new();
        self.coordinator.step(self.now, event, &mut out);
        for out in &out {
            if let Out::Append { record, .. } = out {
                self.waiting.push(record.clone());
            }
        }
        self.out.extend(out);
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = self.now.plus(millis * 1000);
        self.step(In::Tick);
    }

    /// What was appended is committed and applied.
    pub(crate) fn apply(&mut self) {
        while !self.waiting.is_empty() {
            for record in std::mem::take(&mut self.waiting) {
                self.log.push(record);
            }
            self.catalog.apply(&self.log.records).unwrap();
            self.step(In::Applied);
        }
    }

    pub(crate) fn config(&self) -> Config {
        self.catalog.read(|state| state.contents[&CONTENT].register.config().cloned().unwrap())
    }

    pub(crate) fn envelope(&self, link: LinkId) -> Envelope {
        Envelope {
            cluster: CLUSTER,
            content: if link == OPERATOR { CATALOG } else { CONTENT },
            session: Session(link.0),
            ..Envelope::default()
        }
    }

    pub(crate) fn frame(&mut self, link: LinkId, envelope: Envelope, message: Message) {
        self.step(In::Frame { link, envelope, message });
    }

    pub(crate) fn say(&mut self, link: LinkId, message: Message) {
        self.frame(link, self.envelope(link), message);
    }

    pub(crate) fn hello(&mut self, link: LinkId, role: Role, from: InstanceId) {
        self.say(link, hello(role, from));
    }

    /// Connects an instance on a link that has its number.
    pub(crate) fn connect(&mut self, instance: InstanceId) -> LinkId {
        let link = LinkId(u64::try_from(instance.0).unwrap());
        self.hello(link, Role::Instance, instance);
        link
    }

    pub(crate) fn report(
        &mut self,
        instance: InstanceId,
        epoch: Epoch,
        durable: u64,
        cut: Option<u64>,
    ) {
        let link = LinkId(u64::try_from(instance.0).unwrap());
        let envelope = Envelope { epoch, ..self.envelope(link) };
        let (durable, cut) = (Lsn(durable), cut.map(Lsn));
        let (commit, applied) = (durable, durable);
        self.frame(link, envelope, Message::Report { durable, commit, applied, cut });
    }

    /// The number of the coordinator's epoch.
    pub(crate) fn serving(&self) -> u64 {
        self.coordinator.serving().map_or(0, |epoch| epoch.number)
    }

    /// A report on this link, under this configuration.
    pub(crate) fn report_on(
        &mut self,
        link: LinkId,
        content: ContentId,
        config: &Config,
        durable: u64,
    ) {
        let envelope = Envelope {
            cluster: CLUSTER,
            content,
            epoch: config.epoch,
            version: config.version,
            session: Session(link.0),
            coordinator_epoch: self.serving(),
        };
        let durable = Lsn(durable);
        let (commit, applied) = (durable, durable);
        self.frame(link, envelope, Message::Report { durable, commit, applied, cut: None });
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        if !self.said_hello(OPERATOR) {
            self.hello(OPERATOR, Role::Operator, InstanceId::default());
        }
        self.op += 1;
        let op = self.op;
        self.say(OPERATOR, Message::Request { op, body: request.encode().unwrap() });
        self.apply();
        self.answer(op).expect("an answer")
    }

    fn said_hello(&self, link: LinkId) -> bool {
        self.sent(link).iter().any(|message| matches!(message, Message::Welcome { .. }))
    }

    pub(crate) fn answer(&self, op: u64) -> Option<Answer> {
        self.sent(OPERATOR).into_iter().find_map(|message| match message {
            Message::Response { op: of, body } if of == op => Some(Answer::decode(&body).unwrap()),
            _ => None,
        })
    }

    pub(crate) fn denied(&mut self, request: &Request) -> String {
        match self.ask(request) {
            Answer::Denied { text } => text,
            other => panic!("not denied: {other:?}"),
        }
    }

    pub(crate) fn register(&mut self, instance: InstanceId) -> Answer {
        self.ask(&Request::Register(registration(instance)))
    }

    /// What was sent on a link so far.
    pub(crate) fn sent(&self, link: LinkId) -> Vec<Message> {
        let sent = self.out.iter().filter_map(|out| match out {
            Out::Send { link: to, message, .. } if *to == link => Some(message.clone()),
            _ => None,
        });
        sent.collect()
    }

    pub(crate) fn refusal(&self, link: LinkId) -> Option<Reason> {
        self.sent(link).into_iter().find_map(|message| match message {
            Message::Refuse { reason, .. } => Some(reason),
            _ => None,
        })
    }

    pub(crate) fn hung_up(&self, link: LinkId) -> bool {
        self.out.contains(&Out::Hangup(link))
    }

    pub(crate) fn alarms(&self) -> usize {
        let alarm = |out: &&Out| matches!(out, Out::Event(Event::Alarm { .. }));
        self.out.iter().filter(alarm).count()
    }

    /// The versions pushed on a link.
    pub(crate) fn pushed(&self, link: LinkId) -> Vec<u64> {
        let versions = self.sent(link).into_iter().filter_map(|message| match message {
            Message::ConfigIs { op: 0, config: Some(config) } => Some(config.version.0),
            _ => None,
        });
        versions.collect()
    }

    pub(crate) fn swapped(&self, link: LinkId, op: u64) -> Option<(bool, Config)> {
        self.sent(link).into_iter().find_map(|message| match message {
            Message::Swapped { op: of, won, current } if of == op => Some((won, current)),
            _ => None,
        })
    }
}

pub(crate) fn registration(instance: InstanceId) -> Registration {
    let addresses = vec![format!("host-{instance}:7000")];
    Registration { content: CONTENT, instance, addresses, segment_bytes: 1 << 20 }
}

pub(crate) fn hello(role: Role, from: InstanceId) -> Message {
    Message::Hello {
        role,
        from,
        to: InstanceId::default(),
        log: LogId::default(),
        abilities: Abilities::OURS,
        history: History::default(),
    }
}
