//! The disk's state, shared by its handles: what is in flight, what is done, files and names.
//!
//! Guarantees: an operation takes effect at one moment, between its submission and its completion;
//! a sync covers what had taken effect when the sync was submitted, and no more. Not here:
//! crashes ([`super::crash`]), who may call.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use outrigger_wal::disk::{Dir, FileId, Io, IoDone, IoFault, OpId};
use outrigger_wal::{Micros, PAGE_BYTES};

use super::file::{SimFile, Snapshot, pages};
use super::names::{Inode, Names};
use super::options::{OpKind, SimDiskOptions};
use super::trace::Trace;
use crate::rng::Rng;

pub(super) type Completion = (OpId, Result<IoDone, IoFault>);

/// The largest file: signed 64-bit offsets.
const MAX_FILE_BYTES: u64 = i64::MAX as u64;

/// An operation in flight.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) op: OpId,
    pub(super) io: Io,
    due: Micros,
    /// The moment of its submission.
    stamp: u64,
    /// Whether it will fail.
    pub(super) fails: bool,
    /// For a sync: what it covers.
    covers: Option<(Inode, Snapshot)>,
    /// Whether its submitter was already told that the disk is closed.
    pub(super) answered: bool,
}

/// Everything that the handles of one disk share.
#[derive(Clone)]
pub(super) struct State {
    pub(super) options: SimDiskOptions,
    pub(super) rng: Rng,
    /// Counts crashes: a handle from before one is closed.
    pub(super) generation: u64,
    /// Whether the crash point was reached: nothing is carried out until the crash is called.
    pub(super) crashed: bool,
    /// How many operations are accepted before that.
    pub(super) crash_at: Option<u64>,
    pub(super) operations: u64,
    now: Micros,
    stamp: u64,
    /// In the order of submission.
    pub(super) queue: Vec<Pending>,
    pub(super) done: Vec<Completion>,
    pub(super) names: Names,
    pub(super) files: BTreeMap<Inode, SimFile>,
    next_inode: Inode,
    pub(super) foreign: BTreeSet<(Dir, String)>,
    /// How many operations of each kind were submitted.
    submitted: BTreeMap<OpKind, u64>,
    /// Which of them fail.
    failing: BTreeSet<(OpKind, u64)>,
    pub(super) trace: Trace,
}

impl State {
    pub(super) fn new(options: SimDiskOptions) -> Self {
        Self {
            rng: Rng::new(options.seed).fork("disk"),
            options,
            generation: 0,
            crashed: false,
            crash_at: None,
            operations: 0,
            now: Micros(0),
            stamp: 0,
            queue: Vec::new(),
            done: Vec::new(),
            names: Names::default(),
            files: BTreeMap::new(),
            next_inode: 0,
            foreign: BTreeSet::new(),
            submitted: BTreeMap::new(),
            failing: BTreeSet::new(),
            trace: Trace::default(),
        }
    }

    /// Takes an operation in; `false` when the disk is closed.
    pub(super) fn submit(&mut self, op: OpId, io: Io) -> bool {
        if self.crashed {
            return false;
        }
        self.trace.add_submitted(self.now, op, &io);
        let crashes = self.crash_at.is_some_and(|at| self.operations >= at);
        if !crashes {
            self.operations += 1;
        }
        let pending = Pending {
            due: self.now.plus(self.latency(&io)),
            stamp: self.next_stamp(),
            fails: self.draw_fault(&io),
            covers: self.cover(&io),
            answered: crashes,
            op,
            io,
        };
        self.queue.push(pending);
        self.crashed = crashes;
        !crashes
    }

    /// Answers everything that is in flight, or was not fetched, with [`IoFault::Closed`].
    pub(super) fn answer_closed(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.done.drain(..).map(|(op, _)| (op, Err(IoFault::Closed))));
        for pending in &mut self.queue {
            if !std::mem::replace(&mut pending.answered, true) {
                into.push((pending.op, Err(IoFault::Closed)));
            }
        }
    }

    /// Completes what is due.
    pub(super) fn advance(&mut self, now: Micros) {
        self.now = self.now.max(now);
        if self.crashed {
            return;
        }
        let now = self.now;
        let mut due: Vec<Pending> =
            self.queue.extract_if(.., |pending| pending.due <= now).collect();
        due.sort_by_key(|pending| (pending.due, pending.stamp));
        self.complete(due);
    }

    /// Completes everything, in any order.
    pub(super) fn complete_all(&mut self) {
        let mut all = std::mem::take(&mut self.queue);
        self.rng.shuffle(&mut all);
        self.complete(all);
    }

    pub(super) fn next_due(&self) -> Option<Micros> {
        if self.crashed {
            return None;
        }
        self.queue.iter().map(|pending| pending.due).min()
    }

    fn complete(&mut self, due: Vec<Pending>) {
        for pending in due {
            let op = pending.op;
            let result = if pending.fails { self.fail(pending) } else { self.carry_out(pending) };
            self.trace.add_completed(self.now, op, &result);
            self.done.push((op, result));
        }
    }

    /// Lets the n-th operation of a kind from now on fail; 1 is the next one.
    pub(super) fn fail_nth(&mut self, kind: OpKind, nth: u64) {
        let so_far = self.submitted.get(&kind).copied().unwrap_or(0);
        self.failing.insert((kind, so_far.saturating_add(nth)));
    }

    pub(super) fn file(&self, name: FileId) -> Option<&SimFile> {
        self.files.get(&self.names.find(name)?)
    }

    pub(super) fn file_mut(&mut self, name: FileId) -> Option<&mut SimFile> {
        self.files.get_mut(&self.names.find(name)?)
    }

    pub(super) fn add_file(&mut self, file: SimFile) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.files.insert(inode, file);
        inode
    }

    /// Forgets files that no name leads to, now or after a crash.
    pub(super) fn forget_nameless(&mut self) {
        let live = self.names.live();
        self.files.retain(|inode, _| live.contains(inode));
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .seen()
            .filter_map(|(_, inode)| self.files.get(&inode))
            .map(|file| page_up(file.cache().len()))
            .fold(0, u64::saturating_add)
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn latency(&mut self, io: &Io) -> u64 {
        let pace = &self.options.latency;
        let range = match io {
            Io::Write { dsync: true, .. } | Io::Sync(_) | Io::SyncDir(_) => &pace.sync_micros,
            Io::Write { .. } | Io::Zero { .. } => &pace.write_micros,
            Io::Read { .. } | Io::Len(_) | Io::List(_) => &pace.read_micros,
            Io::Create(_) | Io::Rename(..) | Io::Remove(_) => &pace.name_micros,
        };
        let micros = self.rng.range(range.clone());
        if self.rng.chance(pace.slow_per_mille) {
            return micros.saturating_add(self.rng.range(pace.slow_micros.clone()));
        }
        micros
    }

    fn draw_fault(&mut self, io: &Io) -> bool {
        let Some(kind) = OpKind::of(io) else {
            return false;
        };
        let count = self.submitted.entry(kind).or_default();
        *count += 1;
        let scripted = self.failing.remove(&(kind, *count));
        scripted || self.rng.chance(self.options.faults.of(kind))
    }

    fn cover(&self, io: &Io) -> Option<(Inode, Snapshot)> {
        let Io::Sync(name) = io else { return None };
        let inode = self.names.find(*name)?;
        Some((inode, self.files.get(&inode)?.snapshot()))
    }

    pub(super) fn carry_out(&mut self, pending: Pending) -> Result<IoDone, IoFault> {
        let Pending { io, stamp, covers, .. } = pending;
        match io {
            Io::Write { file, at, parts, dsync } => {
                let bytes = join(&parts);
                self.check_room(file, "write", at, bytes.len() as u64)?;
                let per_mille = self.options.writeback_per_mille;
                let mut rng = self.rng.clone();
                let target = self.find_mut(file)?;
                if dsync {
                    target.write_durably(at, &bytes, stamp);
                } else {
                    target.write_back(pages(at, bytes.len() as u64), per_mille, &mut rng);
                    target.write(at, &bytes, stamp);
                }
                self.rng = rng;
            }
            Io::Zero { file, at, len } => {
                self.check_room(file, "zero", at, len)?;
                self.find_mut(file)?.zero(at, len, stamp);
            }
            Io::Sync(file) => {
                let (inode, snapshot) = covers.ok_or_else(|| not_found(file))?;
                if let Some(file) = self.files.get_mut(&inode) {
                    file.synced(snapshot);
                }
            }
            Io::Read { file, at, len } => {
                let target = self.file(file).ok_or_else(|| not_found(file))?;
                let bytes = target.read(at, u64::from(len));
                return bytes.map(IoDone::Bytes).ok_or_else(|| broken(file.name(), "read"));
            }
            Io::Create(file) => self.create(file, stamp)?,
            Io::Rename(from, to) => self.rename(from, to, stamp)?,
            Io::Remove(file) => self.names.remove(file, stamp),
            Io::SyncDir(dir) => {
                self.names.sync(dir, stamp);
                self.forget_nameless();
            }
            Io::Len(file) => {
                return Ok(IoDone::Len(self.file(file).map(|file| file.cache().len())));
            }
            Io::List(dir) => return Ok(self.list(dir)),
        }
        Ok(IoDone::Done)
    }

    /// An operation that fails: nothing of it, or a part, has happened.
    pub(super) fn fail(&mut self, pending: Pending) -> Result<IoDone, IoFault> {
        let stamp = pending.stamp;
        match pending.io {
            Io::Write { file, at, parts, dsync } => {
                let bytes = join(&parts);
                let part = self.rng.below(bytes.len() as u64 + 1);
                let begun = bytes.slice(..usize::try_from(part).unwrap_or(0));
                self.check_room(file, "write", at, part)?;
                let mut rng = self.rng.clone();
                let target = self.find_mut(file)?;
                target.write(at, &begun, stamp);
                if dsync {
                    target.fail_sync(pages(at, part), &mut rng);
                }
                self.rng = rng;
                Err(broken(file.name(), "write"))
            }
            Io::Zero { file, at, len } => {
                let part = self.rng.below(len.saturating_add(1));
                self.check_room(file, "zero", at, part)?;
                self.find_mut(file)?.zero(at, part, stamp);
                Err(broken(file.name(), "zero"))
            }
            Io::Sync(file) => {
                let mut rng = self.rng.clone();
                self.find_mut(file)?.fail_sync(0..u64::MAX, &mut rng);
                self.rng = rng;
                Err(broken(file.name(), "sync"))
            }
            Io::SyncDir(dir) => {
                self.names.fail_sync(dir, stamp, &mut self.rng);
                self.forget_nameless();
                Err(broken(format!("{dir:?}"), "sync of the folder"))
            }
            Io::Read { file, .. } | Io::Len(file) => Err(broken(file.name(), "read")),
            Io::Create(file) => Err(broken(file.name(), "create")),
            Io::Rename(file, _) => Err(broken(file.name(), "rename")),
            Io::Remove(file) => Err(broken(file.name(), "remove")),
            Io::List(dir) => Err(broken(format!("{dir:?}"), "list")),
        }
    }

    /// The part of an operation that a crash in the middle of it leaves in the page cache.
    pub(super) fn begin(&mut self, pending: Pending) {
        let stamp = pending.stamp;
        match pending.io {
            Io::Write { file, at, parts, .. } => {
                let bytes = join(&parts);
                let part = self.rng.below(bytes.len() as u64 + 1);
                let begun = bytes.slice(..usize::try_from(part).unwrap_or(0));
                if self.check_room(file, "write", at, part).is_ok()
                    && let Ok(target) = self.find_mut(file)
                {
                    target.write(at, &begun, stamp);
                }
            }
            Io::Zero { file, at, len } => {
                let part = self.rng.below(len.saturating_add(1));
                if self.check_room(file, "zero", at, part).is_ok()
                    && let Ok(target) = self.find_mut(file)
                {
                    target.zero(at, part, stamp);
                }
            }
            Io::Sync(file) => {
                let mut rng = self.rng.clone();
                if let Ok(target) = self.find_mut(file) {
                    target.write_back(0..u64::MAX, 500, &mut rng);
                }
                self.rng = rng;
            }
            _ => {}
        }
    }

    fn create(&mut self, name: FileId, stamp: u64) -> Result<(), IoFault> {
        if let Some(file) = self.file_mut(name) {
            file.empty();
            return Ok(());
        }
        if self.options.capacity_bytes.is_some_and(|capacity| self.used_bytes() >= capacity) {
            return Err(IoFault::NoSpace { file: name.name(), operation: "create" });
        }
        let inode = self.add_file(SimFile::default());
        self.names.set(name, inode, stamp);
        Ok(())
    }

    fn rename(&mut self, from: FileId, to: FileId, stamp: u64) -> Result<(), IoFault> {
        if from.dir() != to.dir() {
            let cause = format!("{to} lies in another folder");
            return Err(IoFault::Failed { file: from.name(), operation: "rename", cause });
        }
        let inode = self.names.find(from).ok_or_else(|| not_found(from))?;
        if from != to {
            self.names.set(to, inode, stamp);
        }
        Ok(())
    }

    fn list(&self, dir: Dir) -> IoDone {
        IoDone::Files {
            ours: self.names.seen().map(|(name, _)| name).filter(|n| n.dir() == dir).collect(),
            foreign: self
                .foreign
                .iter()
                .filter(|(of, _)| *of == dir)
                .map(|(_, name)| name.clone())
                .collect(),
        }
    }

    fn find_mut(&mut self, name: FileId) -> Result<&mut SimFile, IoFault> {
        self.file_mut(name).ok_or_else(|| not_found(name))
    }

    /// Refuses a write that would end too far out, or does not fit on the disk.
    fn check_room(
        &self,
        name: FileId,
        operation: &'static str,
        at: u64,
        len: u64,
    ) -> Result<(), IoFault> {
        let file = self.file(name).ok_or_else(|| not_found(name))?;
        let Some(end) = at.checked_add(len).filter(|end| *end <= MAX_FILE_BYTES) else {
            let cause = "it would end behind the largest offset of a file".to_owned();
            return Err(IoFault::Failed { file: name.name(), operation, cause });
        };
        let Some(capacity) = self.options.capacity_bytes else {
            return Ok(());
        };
        let growth = page_up(end).saturating_sub(page_up(file.cache().len()));
        if growth > 0 && growth > capacity.saturating_sub(self.used_bytes()) {
            return Err(IoFault::NoSpace { file: name.name(), operation });
        }
        Ok(())
    }
}

fn join(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        parts => parts.concat().into(),
    }
}

fn page_up(len: u64) -> u64 {
    len.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES)
}

fn not_found(file: FileId) -> IoFault {
    IoFault::NotFound { file: file.name() }
}

fn broken(file: String, operation: &'static str) -> IoFault {
    IoFault::Failed { file, operation, cause: "simulated input/output error".to_owned() }
}
