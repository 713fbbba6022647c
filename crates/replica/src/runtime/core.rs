//! The lock around the member, the inbox before it, and what carries its actions out.
//!
//! Guarantees: events reach the member one at a time; no event is left lying: whoever finds the lock taken
//! leaves it to the holder, who looks again after letting go. Waiters are woken outside the lock.
//! Not here: sockets (`links`), the store's thread (`applying`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant, SystemTime};

use outrigger_net::config::Config;
use outrigger_wal::disk::plain::PlainDisk;
use outrigger_wal::disk::{Disk, DiskExt, FileId, lock::DirLock};
use outrigger_wal::format::{Block, CleanMark};
use outrigger_wal::recover::{RecoverOptions, recover};
use outrigger_wal::{Epoch, Error, InstanceId, Lsn, Micros, RunningHash, Watermark};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::alarm::Alarm;
use super::applying::Applier;
use super::authority::Authority;
use super::commit::ReignHandle;
use super::links::Links;
use super::{Join, ReplicaError, Status};
use crate::control::Identity;
use crate::fate::{Fate, fate};
use crate::member::{Event, HandOver, In, LendError, Lent, Member, Out, StreamStatus};

type Listener = Box<dyn Fn(&Event) -> bool + Send>;

/// Everything that only the holder of the lock touches.
pub(super) struct Core {
    pub(super) member: Member,
    pub(super) disk: PlainDisk,
    out: Vec<Out>,
    events: Vec<In>,
    done: Vec<(
        outrigger_wal::disk::OpId,
        Result<outrigger_wal::disk::IoDone, outrigger_wal::disk::IoFault>,
    )>,
    /// Up to where blocks were handed to the store's thread, when it was not woken yet.
    applying: Option<Lsn>,
    /// Since when something up to there is on its way to the disk.
    undurable: Option<(Micros, Lsn)>,
    /// The disk is with the thread that cuts the log.
    lent: bool,
    closed: bool,
}

/// A replica's shared state.
pub(super) struct Shared {
    pub(super) identity: Identity,
    core: Mutex<Core>,
    inbox: Mutex<Vec<In>>,
    dirty: AtomicBool,
    born: Instant,
    pub(super) applied: Arc<Watermark>,
    reign: Mutex<Option<Arc<ReignHandle>>>,
    serving: AtomicBool,
    status: Mutex<Status>,
    changed: Condvar,
    pub(super) listeners: Mutex<Vec<Listener>>,
    authority: Arc<dyn Authority>,
    pub(super) links: Links,
    applier: Applier,
    /// The member is kicked this often when there is nothing to do, so that it shows when it no longer can be.
    pub(super) turn: Duration,
    /// How often the member was stepped through what had happened.
    steps: AtomicU64,
    /// How often the network's thread came round and found that steps were made since.
    turns: AtomicU64,
    /// The network thread's timer looks again.
    pub(super) timer: Arc<Notify>,
    alarm: Alarm,
    lock: Mutex<Option<DirLock>>,
}

impl Core {
    pub(super) fn new(member: Member, disk: PlainDisk) -> Self {
        Self {
            member,
            disk,
            out: Vec::new(),
            events: Vec::new(),
            done: Vec::new(),
            applying: None,
            undurable: None,
            lent: false,
            closed: false,
        }
    }
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "the parts that a replica is made of")]
    pub(super) fn new(
        identity: Identity,
        core: Core,
        born: Instant,
        authority: Arc<dyn Authority>,
        links: Links,
        applier: Applier,
        lock: DirLock,
        applied: Lsn,
        turn: Duration,
    ) -> Self {
        let status = status_of(&core.member, core.member.config().cloned());
        Self {
            identity,
            core: Mutex::new(core),
            inbox: Mutex::default(),
            dirty: AtomicBool::new(false),
            born,
            applied: Arc::new(Watermark::new(applied)),
            reign: Mutex::new(None),
            serving: AtomicBool::new(false),
            status: Mutex::new(status),
            changed: Condvar::new(),
            listeners: Mutex::default(),
            authority,
            links,
            applier,
            turn,
            steps: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            timer: Arc::default(),
            alarm: Alarm::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.links.local_addr()
    }

    pub(super) fn now(&self) -> Micros {
        Micros(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn push(self: &Arc<Self>, event: In) {
        self.inbox.lock().push(event);
        self.drive();
    }

    /// Steps the member through whatever has happened, unless somebody else is at it and will.
    pub(super) fn drive(self: &Arc<Self>) {
        self.dirty.store(true, Ordering::SeqCst);
        loop {
            // ORDER: told before the lock is found taken; looked at after it was let go. Without the
            // fences both sides may miss each other where stores wait in a buffer.
            fence(Ordering::SeqCst);
            let Some(mut core) = self.core.try_lock() else { return };
            self.dirty.store(false, Ordering::SeqCst);
            let reached = self.pump(&mut core);
            // Relaxed: only that it moves matters.
            self.steps.fetch_add(1, Ordering::Relaxed);
            let applying = core.applying.take();
            drop(core);
            fence(Ordering::SeqCst);
            // Those who wait for a commit first: they have waited for a disk and a round trip.
            if let Some((commit, reign)) = reached {
                reign.commit.advance(commit);
            }
            if let Some(end) = applying {
                self.applier.wake(self.applied.is_awaited(end));
            }
            if !self.dirty.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn pump(self: &Arc<Self>, core: &mut Core) -> Option<(Lsn, Arc<ReignHandle>)> {
        if core.closed {
            return None;
        }
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        core.member.wall_clock_is(u64::try_from(wall.as_micros()).unwrap_or(0));
        let mut events = std::mem::take(&mut core.events);
        events.append(&mut self.inbox.lock());
        if !core.lent {
            core.disk.reap(None, &mut core.done);
            events.extend(core.done.drain(..).map(|(op, result)| In::Io(op, result)));
        }
        if events.is_empty() {
            events.push(In::Kick);
        }
        for event in events.drain(..) {
            let now = self.now();
            let mut out = std::mem::take(&mut core.out);
            core.member.step(now, event, &mut out);
            // What goes to a peer first: its way is longer than the one to this disk.
            out.sort_by_key(|action| !matches!(action, Out::Send { .. }));
            for action in out.drain(..) {
                self.perform(core, action);
            }
            core.out = out;
        }
        core.events = events;
        self.publish(core)
    }

    fn perform(self: &Arc<Self>, core: &mut Core, action: Out) {
        match action {
            Out::Io(op, io) => core.disk.submit(op, io),
            Out::Dial { link, peer, addresses } => {
                self.links.dial(self, (link, peer), addresses);
            }
            Out::Hangup(link) => self.links.hangup(link),
            Out::Send { link, envelope, message, body } => {
                self.links.send(link, &envelope, &message, body);
            }
            Out::ReadConfig => self.authority.read(),
            Out::Swap { seen, new } => self.authority.swap(seen, new),
            Out::Report { epoch, durable, commit, applied, cut, obeys } => {
                self.authority.obeys(obeys);
                self.authority.report(epoch, durable, commit, applied, cut);
            }
            Out::GaveUp { epoch, at } => self.authority.gave_up(epoch, at),
            Out::NotHandedOver { to, text } => self.authority.not_handed_over(to, &text),
            Out::Apply(blocks) => {
                core.applying = blocks.last().map(Block::end);
                self.applier.queue(blocks);
            }
            Out::Reopen { cut, hash } => self.reopen(core, cut, hash),
            Out::Event(event) => self.happened(core, &event),
            Out::Closed => {
                core.closed = true;
                self.end_reign("closed");
            }
        }
    }

    /// Cuts the log on a thread of its own: it reads all of it.
    fn reopen(self: &Arc<Self>, core: &mut Core, cut: Lsn, hash: Option<RunningHash>) {
        core.lent = true;
        let options = RecoverOptions {
            cut: Some(cut),
            cut_hash: hash,
            ..core.member.control().recover_options(core.member.checkpointed())
        };
        let (shared, mut disk) = (Arc::clone(self), core.disk.clone());
        let cutting = move || {
            let folder = shared.identity.instance.to_string();
            let result =
                recover(&mut disk, &options).and_then(|found| found.ok_or(Error::NoLog { folder }));
            shared.inbox.lock().push(In::Reopened(Box::new(result)));
            shared.core.lock().lent = false;
            shared.drive();
        };
        if let Err(error) = std::thread::Builder::new().name("cut".to_owned()).spawn(cutting) {
            let fault = outrigger_wal::disk::IoFault::Failed {
                file: "thread".to_owned(),
                operation: "spawn",
                cause: error.to_string(),
            };
            core.lent = false;
            self.inbox.lock().push(In::Reopened(Box::new(Err(fault.into()))));
            self.dirty.store(true, Ordering::SeqCst);
        }
    }

    fn happened(&self, core: &Core, event: &Event) {
        let content = self.identity.content;
        match event {
            Event::Reigns { epoch, .. } => {
                self.links.forget_sent_bytes();
                *self.reign.lock() = Some(Arc::new(ReignHandle {
                    epoch: *epoch,
                    appender: Arc::clone(core.member.appender()),
                    opening: core.member.appender().opening(),
                    commit: Arc::new(Watermark::new(core.member.commit())),
                }));
                tracing::info!(%content, ?event, "reigns");
            }
            Event::SteppedDown { why, .. } => {
                self.end_reign(why);
                tracing::warn!(%content, ?event, "stepped down");
            }
            Event::Failed { text } => {
                self.end_reign(text);
                self.status.lock().failed = Some(text.clone());
                self.applied.fail(Error::Closed);
                tracing::error!(%content, %text, "failed");
            }
            Event::Grown { copy, from, to, shipped_bytes, .. } => {
                let wire_bytes = self.links.take_sent_bytes(*copy);
                let (copy, from, to, stored_bytes) = (*copy, *from, *to, *shipped_bytes);
                let join = Join { copy, from, to, stored_bytes, wire_bytes };
                tracing::info!(%content, ?join, "a copy is in sync");
                self.status.lock().last_join = Some(join);
            }
            Event::Shrunk { copy } => {
                // What it was sent until now is no part of its way back.
                self.links.take_sent_bytes(*copy);
                tracing::info!(%content, ?event, "event");
            }
            Event::Cut(saved) => {
                tracing::warn!(%content, ?saved, "the log was cut where histories part");
                self.status.lock().last_cut = Some(*saved);
            }
            Event::Refused { .. } => tracing::debug!(%content, ?event, "refused"),
            other => tracing::info!(%content, event = ?other, "event"),
        }
        self.listeners.lock().retain(|listener| listener(event));
    }

    fn end_reign(&self, _why: &str) {
        self.serving.store(false, Ordering::SeqCst);
        if let Some(reign) = self.reign.lock().take() {
            // Whatever waits is in doubt: its bytes may survive or not.
            reign.commit.fail(Error::NotPrimary);
        }
    }

    /// Shows how the member stands; answers what is to be told to those who wait for commits.
    fn publish(self: &Arc<Self>, core: &mut Core) -> Option<(Lsn, Arc<ReignHandle>)> {
        let serving = core.member.serving();
        self.serving.store(serving.is_some(), Ordering::SeqCst);
        self.applied.advance(core.member.applied());
        self.alarm.set(core.member.deadline(), || self.timer.notify_one());
        {
            let mut status = self.status.lock();
            // The configuration hardly ever changes, and this is done for each step: it is copied only then.
            let same = status.config.as_ref() == core.member.config();
            let config = if same { status.config.take() } else { core.member.config().cloned() };
            let fresh = status_of(&core.member, config);
            let (durable, end, before) = (fresh.durable, fresh.end, core.undurable);
            core.undurable = match before {
                Some((since, upto)) if durable < upto => Some((since, upto)),
                _ => (durable < end).then(|| (self.now(), end)),
            };
            *status = Status {
                undurable_since_micros: core.undurable.map(|(since, _)| since.0),
                last_join: status.last_join.take(),
                last_cut: status.last_cut.take(),
                failed: status.failed.take(),
                ..fresh
            };
        }
        self.changed.notify_all();
        // Also of a reign that is being given up: all of it is committed, and waiters are to hear of it.
        let told = core.member.commits_in();
        let reign = told.and_then(|_| self.reign.lock().clone())?;
        Some((core.member.commit(), reign))
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let at = self.alarm.sleep_for()?;
        Some(Duration::from_micros(at.since(self.now())))
    }

    /// The network's thread has come round. `seen`: the steps it saw the last time. Where none were made since, whoever
    /// holds the member does not get on. Whether it is a turn.
    pub(super) fn come_round(&self, seen: &mut u64) -> bool {
        let steps = self.steps.load(Ordering::Relaxed);
        let turns = std::mem::replace(seen, steps) != steps;
        if turns {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
        turns
    }

    pub(super) fn serving_reign(&self) -> Option<Arc<ReignHandle>> {
        if !self.serving.load(Ordering::SeqCst) {
            return None;
        }
        self.reign.lock().clone()
    }

    pub(super) fn status(&self) -> Status {
        let at_micros = self.now().0;
        let turns = self.turns.load(Ordering::Relaxed);
        Status { at_micros, turns, ..self.status.lock().clone() }
    }

    /// Looks at the member without a step. Whoever finds the lock taken meanwhile has left his step to us.
    fn with_core<R>(self: &Arc<Self>, look: impl FnOnce(&mut Core) -> R) -> R {
        let result = look(&mut self.core.lock());
        // Against the fence in `drive`: either he got the lock, or we see `dirty`.
        fence(Ordering::SeqCst);
        if self.dirty.load(Ordering::SeqCst) {
            self.drive();
        }
        result
    }

    pub(super) fn fate(self: &Arc<Self>, epoch: Epoch, end: Lsn) -> Fate {
        self.with_core(|Core { member, .. }| {
            fate(member.log().epochs(), member.commit(), epoch, end)
        })
    }

    pub(super) fn epoch_at(self: &Arc<Self>, end: Lsn) -> Option<Epoch> {
        self.with_core(|core| {
            let epochs = core.member.log().epochs();
            epochs.iter().rev().find(|entry| entry.start < end).map(|entry| entry.epoch)
        })
    }

    pub(super) fn streams(self: &Arc<Self>) -> Vec<StreamStatus> {
        self.with_core(|core| core.member.streams())
    }

    pub(super) fn lend(self: &Arc<Self>, to: InstanceId) -> Result<Lent, LendError> {
        self.with_core(|core| core.member.lend_to(to))
    }

    pub(super) fn hold(self: &Arc<Self>, name: u64, from: Option<Lsn>) -> Lsn {
        self.with_core(|core| core.member.hold(name, from))
    }

    pub(super) fn wait_until(&self, patience: Duration, done: impl Fn(&Status) -> bool) -> bool {
        let until = Instant::now().checked_add(patience);
        let mut status = self.status.lock();
        loop {
            if done(&status) {
                return true;
            }
            if status.failed.is_some() {
                return false;
            }
            let waited = match until {
                Some(until) => self.changed.wait_until(&mut status, until),
                None => self.changed.wait_for(&mut status, patience),
            };
            if waited.timed_out() {
                return done(&status);
            }
        }
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.links.spawn(future);
    }

    pub(super) fn close(self: &Arc<Self>) -> Result<(), ReplicaError> {
        self.push(In::Close);
        let closed = self.wait_until(Duration::from_secs(30), |status| {
            matches!(status.role, crate::member::Role::Down)
        });
        self.links.close();
        let applied = self.applier.close();
        let mut core = self.core.lock();
        core.closed = true;
        let failed = self.status.lock().failed.clone();
        let result = if let Some(text) = failed {
            Err(ReplicaError::Down(text))
        } else if closed {
            let log = core.member.log();
            let mark = CleanMark { log: log.id(), end: log.end(), hash: log.hash() };
            let bytes = bytes::Bytes::copy_from_slice(&mark.encode());
            core.disk
                .blocking()
                .replace(FileId::NEW_CLEAN_MARK, FileId::CleanMark, bytes)
                .map_err(ReplicaError::Disk)
        } else {
            Err(ReplicaError::Down("it did not go down in order within 30 s".to_owned()))
        };
        core.disk.close();
        self.end_reign("closed");
        self.applied.fail(Error::Closed);
        drop(core);
        *self.lock.lock() = None;
        result.and(applied)
    }

    /// The store failed.
    pub(super) fn fail(self: &Arc<Self>, text: String) {
        self.push(In::StoreFailed(text.clone()));
        // A member that was closed already does not hear it.
        if self.with_core(|core| core.closed) {
            self.status.lock().failed.get_or_insert(text);
            self.changed.notify_all();
        }
    }

    /// Somebody is about to wait for the store.
    pub(super) fn hurry(&self) {
        self.applier.wake(true);
    }

    pub(super) fn hand_over(
        self: &Arc<Self>,
        to: InstanceId,
        at_most: Duration,
    ) -> Result<(), ReplicaError> {
        let known = self.with_core(|core| {
            let version = core.member.config().map(|config| config.version)?;
            Some((version, core.member.epoch(), core.member.control().coordinator_epoch))
        });
        let (version, epoch, coordinator_epoch) = known.ok_or(ReplicaError::NotPrimary)?;
        let at_most_millis = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX);
        self.push(In::HandOver(HandOver { to, at_most_millis, epoch, version, coordinator_epoch }));
        Ok(())
    }

    pub(super) fn applied_to(self: &Arc<Self>, to: Lsn) {
        self.push(In::Applied(to));
    }
}

fn status_of(member: &Member, config: Option<Config>) -> Status {
    Status {
        role: member.role(),
        epoch: member.epoch(),
        serving: member.serving(),
        commit: member.commit(),
        applied: member.applied(),
        durable: member.log().durable(),
        end: member.log().end(),
        writes: member.log().writes(),
        at_micros: 0,
        turns: 0,
        undurable_since_micros: None,
        stream_heard_micros: member.stream_heard().map(|at| at.0),
        flapping: member.flapping(),
        handing_over: member.handing_over(),
        config,
        counters: member.counters(),
        last_join: None,
        last_cut: None,
        failed: None,
    }
}

/// What the store's thread gets.
pub(super) type Blocks = Vec<Block>;

#[cfg(test)]
mod tests {
    use outrigger_net::config::{Copy, Rule, Version};
    use outrigger_wal::recover::Promise;
    use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

    use super::super::{Replica, ReplicaOptions, Told};
    use super::*;
    use crate::store::kv::{ClientId, Op, Write};
    use crate::store::memory::MemoryStore;

    /// Records whatever is asked for in turn.
    struct Willing(Mutex<(Config, Option<Told>)>);

    impl Willing {
        fn tell(&self) {
            let (config, told) = self.0.lock().clone();
            if let Some(told) = told {
                told.recorded(config, 1);
            }
        }
    }

    impl Authority for Willing {
        fn attach(&self, told: Told) {
            self.0.lock().1 = Some(told);
            self.tell();
        }

        fn read(&self) {
            self.tell();
        }

        fn swap(&self, seen: Version, new: Config) {
            let mut recorded = self.0.lock();
            if recorded.0.version == seen {
                recorded.0 = new;
            }
            drop(recorded);
            self.tell();
        }

        fn report(&self, _: Epoch, _: Lsn, _: Lsn, _: Lsn, _: Option<Lsn>) {}
    }

    fn alone(
        dir: &std::path::Path,
        listen: &str,
        store: Arc<MemoryStore>,
    ) -> Result<Replica, ReplicaError> {
        let identity = Identity {
            cluster: ClusterId(1),
            content: ContentId(0),
            instance: InstanceId(2),
            log: LogId(3),
            segment_bytes: 1 << 20,
        };
        Replica::init(dir, identity).unwrap();
        let copy = Copy {
            instance: InstanceId(2),
            addresses: Vec::new(),
            in_sync: true,
            held: false,
            durable: Promise::NONE,
        };
        let config = Config {
            version: Version(1),
            epoch: Epoch { number: 1, nonce: 1 },
            primary: InstanceId(2),
            copies: vec![copy],
            rule: Rule::All,
            loss: None,
        };
        let authority = Arc::new(Willing(Mutex::new((config, None))));
        let mut options = ReplicaOptions::new(dir, listen);
        options.member.promise_millis = u64::MAX / 2000;
        options.member.log.idle_micros = u64::MAX / 2;
        options.turn_millis = 1_000_000;
        Replica::open(options, store, authority, None)
    }

    #[test]
    fn turns_rise_while_the_member_is_stepped_and_stand_still_while_somebody_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let replica = alone(dir.path(), "127.0.0.1:0", Arc::default()).unwrap();
        assert!(replica.wait_serving(Duration::from_secs(20)));
        let (shared, mut seen) = (&replica.shared, 0);
        let before = shared.status().turns;
        let turned = |seen: &mut u64| {
            let until = Instant::now() + Duration::from_secs(20);
            // The step may be another thread's, and just being made.
            while !shared.come_round(seen) {
                assert!(Instant::now() < until, "it does not turn");
                std::thread::yield_now();
            }
        };
        shared.push(In::Kick);
        turned(&mut seen);
        assert!(shared.status().turns > before);
        shared.with_core(|_| {
            // What was stepped before is seen.
            shared.come_round(&mut seen);
            shared.push(In::Kick);
            assert!(!shared.come_round(&mut seen), "nobody steps it");
        });
        // Who kept it takes the step.
        turned(&mut seen);
    }

    #[test]
    fn an_append_beside_somebody_who_looks_at_the_member_is_sealed_when_he_has_looked() {
        // Somebody asks for a fate and has the lock; the appender finds it taken and leaves the step to
        // him. Nothing else happens here: if he does not take it, nobody does.
        let dir = tempfile::tempdir().unwrap();
        let replica = alone(dir.path(), "127.0.0.1:0", Arc::default()).unwrap();
        assert!(replica.wait_serving(Duration::from_secs(20)));
        let op = Op::Put { key: "key".into(), value: "value".into() };
        let record = Write { client: ClientId::NONE, sequence: 0, op }.encode().unwrap();
        for _ in 0..20 {
            let pending = replica.shared.with_core(|_| replica.append(&record)).unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || tell.send(pending.blocking().is_committed()));
            assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
        }
        replica.close().unwrap();
    }

    #[test]
    fn a_replica_that_could_not_be_opened_lets_go_of_its_store() {
        // Its port is taken, its folder is free again: whoever tries once more must not meet the store
        // of the first attempt in it.
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert!(alone(dir.path(), &address, Arc::clone(&store)).is_err());
        let began = Instant::now();
        while Arc::strong_count(&store) > 1 {
            assert!(began.elapsed() < Duration::from_secs(20), "somebody still has the store");
            std::thread::yield_now();
        }
    }
}
