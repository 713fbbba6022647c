//! The chain of blocks: which block follows which, and what ends it.
//!
//! Guarantees: a block that is yielded is whole, and follows the one before by the rule that a running
//! log keeps too ([`End::follow`]); the first segment's head says what came before.
//! Not here: what the chain's end means.

use bytes::Bytes;

use super::read::LogBytes;
use crate::disk::{Blocking, FileId};
use crate::error::Error;
use crate::follow::{End, Identity, Misfit, is_head_of};
use crate::format::{Block, BlockError, BlockHeader, EpochEntry, HEADER_BYTES, VERSION};
use crate::lsn::{LogId, Lsn, RunningHash};

/// Why the chain does not go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Break {
    #[error("the segment's file is missing")]
    Missing,
    #[error("the segment's file has {found} bytes and not {segment_bytes}")]
    Short { found: u64, segment_bytes: u64 },
    #[error("{0}")]
    Block(BlockError),
    #[error("{0}")]
    Misfit(#[from] Misfit),
}

/// A step along the chain.
pub(crate) enum Step {
    Block(Block),
    Stop(Break),
}

/// A walk along the chain.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) identity: Identity,
    /// Where the next block starts.
    pub(crate) at: Lsn,
    /// The running hash there; `None` at a first segment's head, which itself says it.
    pub(crate) hash: Option<RunningHash>,
    /// The number of the epoch that reigns there.
    pub(crate) epoch: u64,
    /// The epochs so far, oldest first.
    pub(crate) epochs: Vec<EpochEntry>,
}

impl Chain {
    /// A walk from the head of the segment that starts at `start`.
    pub(crate) fn new(identity: Identity, start: Lsn) -> Self {
        Self {
            identity,
            at: start,
            hash: (start == Lsn::ZERO).then(RunningHash::default),
            epoch: 0,
            epochs: Vec::new(),
        }
    }

    /// The next block, or why there is none.
    ///
    /// # Errors
    /// The disk's, and a block that only a newer program can read.
    pub(crate) fn step(
        &mut self,
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
    ) -> Result<Step, Error> {
        let read = read_block(disk, bytes, self.at, self.identity.log)?;
        match read.and_then(|block| self.accept(&block).map(|()| block)) {
            Ok(block) => Ok(Step::Block(block)),
            Err(why) => Ok(Step::Stop(why)),
        }
    }

    /// Goes on behind a break, with a whole block whose history cannot be checked.
    pub(crate) fn resume(&mut self, block: &Block) {
        self.at = block.lsn();
        self.hash = Some(block.hash_before());
        // An EpochBegin names the epoch before itself, but for one behind its segment's head.
        let begin = block.epoch_begin_entry().filter(|begin| begin.from == block.lsn());
        self.epoch = begin.map_or(block.epoch(), |begin| begin.previous.number);
        if let Some(head) = block.segment_head_entry().filter(|head| head.begins().is_some()) {
            let before = head.epochs.iter().rev().nth(1);
            self.epoch = before.map_or(0, |entry| entry.epoch.number);
        }
    }

    fn accept(&mut self, block: &Block) -> Result<(), Break> {
        if self.hash.is_none() {
            self.take_head(block)?;
        }
        let end = End {
            identity: self.identity,
            at: self.at,
            hash: self.hash.unwrap_or_default(),
            epoch: self.epoch,
            latest: self.epochs.last(),
        };
        if let Some(entry) = end.follow(block)? {
            self.epoch = entry.epoch.number;
            self.epochs.push(entry);
        }
        self.at = block.end();
        self.hash = Some(block.hash_after());
        Ok(())
    }

    /// Takes what came before the first segment from its head, which alone knows.
    fn take_head(&mut self, block: &Block) -> Result<(), Misfit> {
        let head = block.segment_head_entry().ok_or(Misfit::NoHead)?;
        if !is_head_of(self.identity, self.at, &head, block) {
            return Err(Misfit::ForeignHead);
        }
        self.hash = Some(head.predecessor_hash);
        self.epochs = head.epochs;
        // A head that is sealed with an epoch's first block may list that epoch.
        self.epochs.retain(|entry| entry.start < head.start);
        self.epoch = self.epochs.last().map_or(0, |entry| entry.epoch.number);
        Ok(())
    }
}

/// The whole block at `at`, judged by itself.
///
/// # Errors
/// The disk's, and a block that only a newer program can read; `Ok(Err(_))` is a bad block.
pub(crate) fn read_block(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    at: Lsn,
    log: LogId,
) -> Result<Result<Block, Break>, Error> {
    let page = bytes.page(disk, at)?;
    let header = match header_at(&page, at, log, bytes.file(at))? {
        Ok(header) => header,
        Err(BlockError::TooShort { .. }) => return Ok(Err(too_short(bytes, at))),
        Err(error) => return Ok(Err(Break::Block(error))),
    };
    if header.lsn != at {
        let found = header.lsn;
        return Ok(Err(Break::Block(BlockError::Stale { found })));
    }
    if header.end() > bytes.segment_end(at) {
        return Ok(Err(Misfit::Crosses.into()));
    }
    let stored = bytes.at(disk, at, u64::from(header.stored_len))?;
    Ok(match Block::open(stored, at, log) {
        Ok(block) => Ok(block),
        Err(BlockError::TooShort { .. }) => Err(too_short(bytes, at)),
        Err(error) => Err(Break::Block(error)),
    })
}

fn too_short(bytes: &LogBytes, at: Lsn) -> Break {
    bytes.file_len(at).map_or(Break::Missing, |found| Break::Short {
        found,
        segment_bytes: bytes.segment_bytes(),
    })
}

/// The header that `page` begins with, wherever it says it belongs.
///
/// # Errors
/// What only a newer program can read: never called torn, never cut.
pub(crate) fn header_at(
    page: &Bytes,
    lsn: Lsn,
    log: LogId,
    file: FileId,
) -> Result<Result<BlockHeader, BlockError>, Error> {
    match BlockHeader::decode(page, log) {
        Err(BlockError::Version { found }) => {
            Err(Error::NewerFormat { file, lsn, found, known: VERSION })
        }
        Err(cause @ (BlockError::UnknownFlags | BlockError::Compression)) => {
            Err(Error::UnknownFeature { file, lsn, cause: cause.to_string() })
        }
        // Shorter than a header, or than the longer header of a newer version cut off by its file.
        Err(BlockError::TooShort { .. }) if page.len() >= HEADER_BYTES => {
            Ok(Err(BlockError::HeaderChecksum))
        }
        other => Ok(other),
    }
}
