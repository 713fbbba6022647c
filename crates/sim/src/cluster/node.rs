//! One instance: a disk and a store that stay, and a process that comes and goes.
//!
//! Not here: what its member asks for (`carry`), what befalls it (`faults`).

use std::collections::VecDeque;

use outrigger_net::config::Config;
use outrigger_replica::control::{Control, ControlError, Identity};
use outrigger_replica::member::{In, LinkId, Member, MemberOptions};
use outrigger_replica::reading_back::read_back;
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::{Disk, DiskExt, IoDone, IoFault, OpId};
use outrigger_wal::recover::{Promise, RecoverOptions, Recovered, recover};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Error, InstanceId, LogId, Lsn, Micros, RunningHash, create,
};

use super::clients::Write;
use super::queue::Life;
use super::store::Store;
use crate::checker::{Shadow, Verdict};
use crate::clock::NodeClock;
use crate::disk::SimDisk;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xC1);
pub(crate) const CONTENT: ContentId = ContentId(0);
pub(crate) const LOG: LogId = LogId(0x106);
pub(crate) const SEGMENT_BYTES: u64 = 1 << 20;

/// An operation of the disk that ended.
type Completion = (OpId, Result<IoDone, IoFault>);

/// Operation ids from here on are those of a synchronous caller.
const BLOCKING_OPS: u64 = u64::MAX / 2;

/// Whether a node runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its process runs.
    Up,
    /// Its process is gone; it may start again.
    Down,
    /// It found damage and refuses to start.
    Damaged,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) member: Member,
    pub(crate) kick_at: Option<Micros>,
    pub(crate) disk_at: Option<Micros>,
    pub(crate) checkpointing: bool,
    next_incoming: u64,
    /// Writes that wait to be committed.
    pub(crate) writes: VecDeque<Write>,
    /// Writes that are committed and wait to be applied.
    pub(crate) committed: VecDeque<Write>,
    /// What came while the node stood still.
    pub(crate) inbox: VecDeque<In>,
}

impl Process {
    pub(crate) fn incoming_link(&mut self) -> LinkId {
        self.next_incoming += 2;
        LinkId(self.next_incoming)
    }
}

/// What a copy's log is applied to.
pub(crate) trait Held {
    /// Up to where it is durable.
    fn checkpoint(&self) -> Lsn;
}

impl Held for Store {
    fn checkpoint(&self) -> Lsn {
        Self::checkpoint(self)
    }
}

/// One instance.
pub(crate) struct Node<S = Store> {
    pub(crate) instance: InstanceId,
    pub(crate) identity: Identity,
    options: MemberOptions,
    pub(crate) disk: SimDisk,
    pub(crate) clock: NodeClock,
    pub(crate) store: S,
    pub(crate) shadow: Shadow,
    pub(crate) life: Life,
    pub(crate) state: State,
    pub(crate) process: Option<Process>,
    /// A start is scheduled.
    pub(crate) starting: bool,
    /// The disk and the store as they once were, with what was durable then.
    pub(crate) snapshot: Option<(SimDisk, S, Shadow)>,
}

/// What the start of a process came to.
pub(crate) enum Opened {
    /// It runs; whether a torn tail was sent away.
    Member(Box<Member>, bool),
    /// The disk failed, or crashed: again later.
    Fault(String),
    /// It refuses to start.
    Damage(String),
    /// The log ends where it must not, or something of the kind.
    Violation(String),
}

pub(crate) fn instance(node: usize) -> InstanceId {
    InstanceId(node as u128 + 1)
}

pub(crate) fn member_options() -> MemberOptions {
    let mut options = MemberOptions::default();
    // What nobody needs goes at once, so that recycling is seen.
    options.retain_bytes = 0;
    options.log.target_block_bytes = 64 << 10;
    options.log.max_write_bytes = 256 << 10;
    options.log.max_pending_bytes = 1 << 20;
    options.log.max_writes_in_flight = 4;
    options.log.tail_bytes = 256 << 10;
    options.near_bytes = 128 << 10;
    options.window_bytes = 512 << 10;
    options.apply_bytes = 256 << 10;
    options
}

impl Node {
    pub(crate) fn new(node: usize, disk: SimDisk) -> Self {
        let identity = Identity {
            cluster: CLUSTER,
            content: CONTENT,
            instance: instance(node),
            log: LOG,
            segment_bytes: SEGMENT_BYTES,
        };
        Self::of(identity, member_options(), disk, Store::new())
    }
}

impl<S: Held> Node<S> {
    /// An instance of this identity over this store.
    pub(crate) fn of(identity: Identity, options: MemberOptions, disk: SimDisk, store: S) -> Self {
        Self {
            instance: identity.instance,
            identity,
            options,
            disk,
            clock: NodeClock::default(),
            store,
            shadow: Shadow::default(),
            life: 0,
            state: State::Down,
            process: None,
            starting: false,
            snapshot: None,
        }
    }

    /// Makes its log and control file.
    pub(crate) fn initialise(&mut self, in_sync: bool) -> Result<(), String> {
        let disk = &mut self.disk;
        disk.set_immediate(true);
        let Identity { content, log, segment_bytes, .. } = self.identity;
        create(disk, &CreateOptions { log, content, segment_bytes })
            .map_err(|error| error.to_string())?;
        let control = Control { identity: self.identity, in_sync, ..Control::default() };
        control.create(&mut disk.blocking()).map_err(|error| error.to_string())?;
        self.disk.set_immediate(false);
        Ok(())
    }

    /// Starts its process.
    pub(crate) fn open(&mut self, now: Micros, seed: u64, rules: Rules) -> Opened {
        self.disk = self.disk.reopen();
        self.disk.set_immediate(true);
        let opened = self.read_and_recover(rules);
        self.disk.set_immediate(false);
        let (control, recovered) = match opened {
            Ok(opened) => opened,
            Err(refused) => return refused,
        };
        if let Err(text) = self.compare(&control.1, &recovered) {
            return Opened::Violation(text);
        }
        let applied = self.store.checkpoint();
        let persisted = control.1.commit.lsn;
        let now = self.clock.node_now(now);
        let torn = recovered.torn.is_some();
        let options = self.options.clone();
        let member = Member::new(recovered, control, applied, seed, rules, options, now);
        if member.commit() < persisted.min(member.log().end()) {
            return Opened::Violation(format!(
                "commit was {persisted}, and is {} after a restart",
                member.commit()
            ));
        }
        Opened::Member(Box::new(member), torn)
    }

    const fn may_refuse(&self) -> bool {
        self.shadow.damage.is_some() || self.shadow.flaky
    }

    fn read_and_recover(&mut self, rules: Rules) -> Result<((u64, Control), Recovered), Opened> {
        let mut control =
            Control::open(&mut self.disk.blocking()).map_err(|error| match error {
                ControlError::Io(fault) => Opened::Fault(fault.to_string()),
                other if self.may_refuse() => Opened::Damage(other.to_string()),
                other => Opened::Violation(other.to_string()),
            })?;
        match read_back(&mut self.disk, &mut control.1, self.store.checkpoint(), rules, None) {
            Ok(Some(recovered)) => Ok((control, recovered)),
            Ok(None) => Err(Opened::Violation("the folder holds no log".to_owned())),
            Err(Error::Io(fault)) => Err(Opened::Fault(fault.to_string())),
            Err(error) if self.may_refuse() => Err(Opened::Damage(error.to_string())),
            Err(error) => Err(Opened::Violation(format!("recovery refuses: {error}"))),
        }
    }

    /// What was durable is there, and is what was written.
    fn compare(&mut self, control: &Control, recovered: &Recovered) -> Result<(), String> {
        let shadow = &mut self.shadow;
        if control.epoch.number < shadow.fenced {
            return Err(format!(
                "it answered in epoch {}, and its control file knows {} after a restart",
                shadow.fenced, control.epoch
            ));
        }
        if control.given_up.number < shadow.gave_up {
            return Err(format!(
                "it gave up epoch {}, and its control file knows {} after a restart",
                shadow.gave_up, control.given_up
            ));
        }
        let durable = control.durable;
        let promised = durable.counts(&control.epochs).min(durable.counts(&recovered.epochs));
        shadow.recovered(recovered, control.truncating.map(|cut| cut.to), promised)
    }

    pub(crate) fn start(&mut self, member: Member) {
        self.shadow.commit = member.commit();
        self.process = Some(Process {
            member,
            kick_at: None,
            disk_at: None,
            checkpointing: false,
            next_incoming: 0,
            writes: VecDeque::new(),
            committed: VecDeque::new(),
            inbox: VecDeque::new(),
        });
        self.state = State::Up;
    }

    /// Opens the log again with everything from `cut` on cut off. Completions of other operations
    /// (of the control file) are kept for the member.
    pub(crate) fn reopen(
        &mut self,
        cut: Lsn,
        hash: Option<RunningHash>,
    ) -> (Result<Recovered, Error>, Vec<Completion>, Verdict) {
        let Some(process) = &self.process else { return (Err(Error::Closed), Vec::new(), Ok(())) };
        let member = &process.member;
        let options = RecoverOptions {
            cut: Some(cut),
            cut_hash: hash,
            ..member.control().recover_options(member.checkpointed())
        };
        self.disk.set_immediate(true);
        let mut aside = Aside { disk: &mut self.disk, kept: Vec::new() };
        let result = recover(&mut aside, &options);
        let kept = aside.kept;
        self.disk.set_immediate(false);
        let result = result.and_then(|found| {
            found.ok_or_else(|| Error::NoLog { folder: "the simulated disk".to_owned() })
        });
        let verdict = result.as_ref().map_or(Ok(()), |recovered| {
            let promised = self.promised().counts(&recovered.epochs);
            self.shadow.recovered(recovered, Some(cut), promised)
        });
        (result, kept, verdict)
    }

    pub(crate) fn is_serving(&self) -> bool {
        let member = self.process.as_ref().map(|process| &process.member);
        !self.clock.is_paused() && member.is_some_and(|member| member.serving().is_some())
    }

    /// What the control file in memory promises to be durable.
    fn promised(&self) -> Promise {
        self.process.as_ref().map_or(Promise::default(), |p| p.member.control().durable)
    }

    pub(crate) fn config(&self) -> Option<&Config> {
        self.process.as_ref().and_then(|process| process.member.config())
    }
}

/// A disk whose other completions are put aside while one caller uses it synchronously.
struct Aside<'a> {
    disk: &'a mut SimDisk,
    kept: Vec<Completion>,
}

impl Disk for Aside<'_> {
    fn submit(&mut self, op: OpId, io: outrigger_wal::disk::Io) {
        self.disk.submit(op, io);
    }

    fn reap(&mut self, wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        let mut all = Vec::new();
        self.disk.reap(wait, &mut all);
        for (op, result) in all {
            if op.0 >= BLOCKING_OPS {
                done.push((op, result));
            } else {
                self.kept.push((op, result));
            }
        }
    }
}
