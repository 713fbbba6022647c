//! One copy in the model: the shipped member, and a disk of whole blocks and whole control files.
//!
//! A crash leaves a prefix of the blocks; what is there after it is read back by the shipped recovery. Not here:
//! what it says to others (`world`).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::{Bytes, BytesMut};
use outrigger_replica::control::{Control, ControlError, Identity};
use outrigger_replica::member::{LinkId, Member, MemberOptions};
use outrigger_replica::reading_back::read_back;
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{DiskExt, FileId, Io, OpId};
use outrigger_wal::format::Block;
use outrigger_wal::recover::{RecoverOptions, Recovered, recover};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Error, InstanceId, LogId, Lsn, Micros, RunningHash, create,
};

pub(super) const CLUSTER: ClusterId = ClusterId(0xC1);
pub(super) const CONTENT: ContentId = ContentId(0);
const LOG: LogId = LogId(0x106);
const SEGMENT_BYTES: u64 = 1 << 20;
/// The one moment at which everything happens.
pub(super) const NOW: Micros = Micros(1 << 40);
const INSTANCES: [InstanceId; 2] = [InstanceId(1), InstanceId(2)];

pub(super) fn instance(node: usize) -> InstanceId {
    INSTANCES.get(node).copied().unwrap_or_default()
}

pub(super) fn node_of(instance: InstanceId) -> Option<usize> {
    INSTANCES.iter().position(|at| *at == instance)
}

/// What is on its way to the disk.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// Blocks, one behind the other.
    Blocks(OpId, Vec<Block>),
    /// A control file, in one slot.
    Slot(OpId, Bytes),
    /// The log is to be cut and opened again.
    Reopen(Lsn, Option<RunningHash>),
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The newest whole control file.
    control: Bytes,
    /// Its fingerprint.
    control_print: u64,
    pub(super) blocks: Vec<Block>,
}

impl Stored {
    pub(super) fn write_control(&mut self, bytes: Bytes) {
        // Generations only grow, and no log is recycled that a slot would keep.
        if let Ok((_, mut control)) = Control::decode(&bytes) {
            control.slots.clear();
            // It decides nothing in a member.
            control.config = None;
            let mut hasher = DefaultHasher::new();
            control.encode(0).hash(&mut hasher);
            self.control_print = hasher.finish();
        }
        self.control = bytes;
    }
}

/// One copy.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) member: Option<Member>,
    pub(super) stored: Stored,
    pub(super) pending: VecDeque<Pending>,
    /// How often its process was started.
    pub(super) lives: u64,
    /// The line that it dials.
    pub(super) dials: Option<LinkId>,
    incoming: u64,
    /// Of everything above.
    pub(super) print: u64,
}

impl Clone for Node {
    fn clone(&self) -> Self {
        Self {
            member: self.member.as_ref().map(Member::fork),
            stored: self.stored.clone(),
            pending: self.pending.clone(),
            ..*self
        }
    }
}

/// What went wrong with a copy.
pub(super) type Wrong = String;

impl Node {
    pub(super) fn new(node: usize) -> Self {
        let identity = Identity {
            cluster: CLUSTER,
            content: CONTENT,
            instance: instance(node),
            log: LOG,
            segment_bytes: SEGMENT_BYTES,
        };
        let control = Control { identity, in_sync: true, ..Control::default() }.encode(1);
        Self {
            member: None,
            stored: Stored { control, control_print: 0, blocks: Vec::new() },
            pending: VecDeque::new(),
            lives: 0,
            dials: None,
            incoming: 0,
            print: 0,
        }
    }

    pub(super) fn incoming_link(&mut self) -> LinkId {
        self.incoming += 2;
        LinkId(self.incoming)
    }

    /// Starts its process on what is stored.
    pub(super) fn start(&mut self, rules: Rules) -> Result<(), Wrong> {
        let mut disk = self.disk(None)?;
        let (generation, mut control) =
            Control::open(&mut disk.blocking()).map_err(|error: ControlError| error.to_string())?;
        let recovered = read_back(&mut disk, &mut control, Lsn::ZERO, rules, None);
        let recovered = recovered.map_err(|error| error.to_string())?.ok_or("no log")?;
        self.stored.blocks.retain(|block| block.end() <= recovered.end);
        self.lives += 1;
        let control = (generation, control);
        let member = Member::new(recovered, control, Lsn::ZERO, 0, rules, options(), NOW);
        self.member = Some(member);
        Ok(())
    }

    /// Cuts the log and opens it again.
    pub(super) fn reopen(
        &mut self,
        cut: Lsn,
        hash: Option<RunningHash>,
    ) -> Result<Result<Recovered, Error>, Wrong> {
        let Some(member) = &self.member else { return Ok(Err(Error::Closed)) };
        let options = RecoverOptions {
            cut: Some(cut),
            cut_hash: hash,
            ..member.control().recover_options(member.checkpointed())
        };
        let mut disk = self.disk(Some(&options))?;
        let recovered = recover(&mut disk, &options);
        let recovered = recovered.and_then(|found| {
            found.ok_or_else(|| Error::NoLog { folder: "the model's disk".to_owned() })
        });
        if let Ok(recovered) = &recovered {
            self.stored.blocks.retain(|block| block.end() <= recovered.end);
        }
        Ok(recovered)
    }

    /// A disk with everything that is stored, for the shipped recovery.
    fn disk(&self, cutting: Option<&RecoverOptions>) -> Result<MemoryDisk, Wrong> {
        let mut disk = MemoryDisk::new();
        let options = CreateOptions { log: LOG, content: CONTENT, segment_bytes: SEGMENT_BYTES };
        create(&mut disk, &options).map_err(|error| error.to_string())?;
        let mut blocking = disk.blocking();
        let mut write = |file, at, part: &Bytes| {
            let io = Io::Write { file, at, parts: vec![part.clone()], dsync: true };
            blocking.run(io).map(drop).map_err(|error| error.to_string())
        };
        for block in &self.stored.blocks {
            write(FileId::Segment(0), block.lsn().0, block.stored())?;
        }
        if cutting.is_none() {
            for slot in [FileId::Control(0), FileId::Control(1)] {
                blocking
                    .replace(FileId::ControlNew, slot, self.stored.control.clone())
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(disk)
    }

    /// The process dies. Of what was on its way to the disk, blocks and control file are there or not.
    pub(super) fn crash(&mut self, keep_blocks: bool, keep_slot: bool) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Blocks(_, blocks) if keep_blocks => self.stored.blocks.extend(blocks),
                Pending::Slot(_, bytes) if keep_slot => self.stored.write_control(bytes),
                _ => {}
            }
        }
        self.member = None;
        self.dials = None;
    }

    /// Whether blocks, and whether a control file, are on their way to the disk.
    pub(super) fn unsynced(&self) -> (bool, bool) {
        let any = |which: fn(&Pending) -> bool| self.pending.iter().any(which);
        (
            any(|pending| matches!(pending, Pending::Blocks(..))),
            any(|pending| matches!(pending, Pending::Slot(..))),
        )
    }

    /// The blocks that a write carries.
    pub(super) fn blocks_of(segment: u64, at: u64, parts: &[Bytes]) -> Result<Vec<Block>, Wrong> {
        let mut lsn = Lsn(segment * SEGMENT_BYTES + at);
        let mut blocks: Vec<Block> = Vec::new();
        let mut padded = false;
        for part in parts {
            if padded {
                padded = false;
                continue;
            }
            let block =
                Block::open(part.clone(), lsn, LOG).map_err(|error| format!("{error:?}"))?;
            lsn = block.end();
            padded = block.padding_bytes() > 0;
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The stored bytes from here on.
    pub(super) fn bytes(&self, from: u64, len: u32) -> Bytes {
        let mut bytes = BytesMut::new();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        for block in self.stored.blocks.iter().filter(|block| block.lsn().0 >= from) {
            if bytes.len() >= len {
                break;
            }
            let extent = usize::try_from(block.end().0 - block.lsn().0).unwrap_or(0);
            let end = bytes.len() + extent;
            bytes.extend_from_slice(block.stored());
            bytes.resize(end, 0);
        }
        bytes.truncate(len);
        bytes.freeze()
    }

    /// The running hash of what is durable here, at this block boundary.
    pub(super) fn hash_at(&self, lsn: Lsn) -> Option<RunningHash> {
        if lsn == Lsn::ZERO {
            return Some(RunningHash::default());
        }
        let found = self.stored.blocks.iter().rev().find(|block| block.end() == lsn);
        found.map(Block::hash_after)
    }

    pub(super) fn durable_end(&self) -> Lsn {
        self.stored.blocks.last().map_or(Lsn::ZERO, Block::end)
    }

    /// Notes the fingerprint of everything that decides what this copy does.
    pub(super) fn note(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.lives.hash(&mut hasher);
        let dials = self
            .dials
            .filter(|link| self.member.as_ref().is_some_and(|member| member.knows(*link) == 1));
        self.dials = dials;
        dials.is_some().hash(&mut hasher);
        for pending in &self.pending {
            match pending {
                Pending::Blocks(_, blocks) => {
                    blocks.last().map(|block| block.hash_after().0).hash(&mut hasher);
                }
                Pending::Slot(_, bytes) => bytes.hash(&mut hasher),
                Pending::Reopen(cut, hash) => (cut, hash.map(|hash| hash.0)).hash(&mut hasher),
            }
        }
        match &self.member {
            Some(member) => member.fingerprint(&mut hasher),
            None => self.stored.blocks.last().map(|block| block.hash_after().0).hash(&mut hasher),
        }
        self.stored.control_print.hash(&mut hasher);
        self.print = hasher.finish();
    }
}

/// Commits are told at once; everything else waits until its timer runs out.
fn options() -> MemberOptions {
    let mut options = MemberOptions::default();
    options.tell_commit_micros = 0;
    options.log.idle_micros = u64::MAX / 4;
    options
}
