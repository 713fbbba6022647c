//! Which block may follow a log's end: one rule for recovery, `verify` and a copy that receives.
//!
//! Guarantees: a block that follows lies at the end, within its segment, and carries the running hash
//! there; a segment begins with its head, and nothing else does; the block is of the epoch that reigns,
//! or begins a later one; it promises nothing behind itself. So what a copy makes durable is what it
//! finds again. Not here: whether the block is whole ([`Block::open`]).

use crate::format::{Block, EpochEntry, SegmentHead};
use crate::lsn::{ContentId, LogId, Lsn, RunningHash};

/// Whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) log: LogId,
    pub(crate) content: ContentId,
    pub(crate) segment_bytes: u64,
}

/// Where a log ends, and what it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) identity: Identity,
    pub(crate) at: Lsn,
    pub(crate) hash: RunningHash,
    /// The number of the epoch that reigns.
    pub(crate) epoch: u64,
    /// The latest epoch.
    pub(crate) latest: Option<&'a EpochEntry>,
}

/// Why a block does not follow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("it lies elsewhere")]
    Elsewhere,
    #[error("a block that runs past its segment's end")]
    Crosses,
    #[error("a segment that does not begin with its head")]
    NoHead,
    #[error("a segment's head, not at a segment's start")]
    StrayHead,
    #[error("a segment's head that names another log, content, segment size or place")]
    ForeignHead,
    #[error(
        "a block of another history: the running hash before it is {found}, not {expected} \
         (a stale block, or damage before it)"
    )]
    Hash { found: RunningHash, expected: RunningHash },
    #[error("a block of epoch {found} where epoch {expected} reigns")]
    Epoch { found: u64, expected: u64 },
    #[error("a block that promises more than what lies before it")]
    Promises,
}

/// Whether the head is one of this log, at `at`. What it says about the log before is compared with
/// its header's running hash, which [`End::follow`] compares with the log's own.
pub(crate) fn is_head_of(identity: Identity, at: Lsn, head: &SegmentHead, block: &Block) -> bool {
    head.log == identity.log
        && head.content == identity.content
        && head.segment_bytes == identity.segment_bytes
        && head.start == at
        && head.predecessor_end == at
        && head.predecessor_hash == block.hash_before()
}

impl End<'_> {
    /// Whether `block` follows. Answers with the epoch that begins with it, if one does.
    pub(crate) fn follow(&self, block: &Block) -> Result<Option<EpochEntry>, Misfit> {
        let Self { identity, at, .. } = *self;
        if block.lsn() != at {
            return Err(Misfit::Elsewhere);
        }
        let begun = at.0 % identity.segment_bytes;
        if block.end().since(at) > identity.segment_bytes.saturating_sub(begun) {
            return Err(Misfit::Crosses);
        }
        let head = block.segment_head_entry();
        match &head {
            None if begun == 0 => return Err(Misfit::NoHead),
            Some(_) if begun != 0 => return Err(Misfit::StrayHead),
            Some(head) if !is_head_of(identity, at, head, block) => {
                return Err(Misfit::ForeignHead);
            }
            _ => {}
        }
        if block.hash_before() != self.hash {
            return Err(Misfit::Hash { found: block.hash_before(), expected: self.hash });
        }
        if !block.header().promises_before_itself() {
            return Err(Misfit::Promises);
        }
        self.reign(block, head.as_ref())
    }

    fn reign(
        &self,
        block: &Block,
        head: Option<&SegmentHead>,
    ) -> Result<Option<EpochEntry>, Misfit> {
        let wrong = Misfit::Epoch { found: block.epoch(), expected: self.epoch };
        if let Some(entry) = head.and_then(SegmentHead::begins) {
            // An epoch that begins with a segment begins with its head.
            let rises = entry.epoch.number > self.epoch && entry.epoch.number == block.epoch();
            return if rises { Ok(Some(*entry)) } else { Err(wrong) };
        }
        let Some(begin) = block.epoch_begin_entry() else {
            return if block.epoch() == self.epoch { Ok(None) } else { Err(wrong) };
        };
        let entry = EpochEntry { epoch: begin.epoch, start: begin.from, instance: begin.instance };
        if begin.from == block.lsn() {
            let rises = begin.epoch.number > self.epoch && begin.previous.number <= self.epoch;
            if rises { Ok(Some(entry)) } else { Err(wrong) }
        } else if self.latest == Some(&entry) {
            // Its segment's head, right before it, has begun the epoch.
            Ok(None)
        } else {
            Err(wrong)
        }
    }
}
