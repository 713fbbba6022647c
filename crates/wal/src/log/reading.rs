//! Where the blocks of a log are to be had again: in memory, or in which file.
//!
//! Guarantees: what is read back is checked against its place before it is believed. Not here: the reads themselves.

use bytes::Bytes;

use super::Log;
use crate::disk::FileId;
use crate::error::Error;
use crate::format::Block;
use crate::lsn::{LogId, Lsn, PAGE_BYTES, RunningHash};

/// Where to get a block from.
#[derive(Debug)]
pub enum Fetch {
    /// Blocks from memory, one behind the other.
    Blocks(Vec<Block>),
    /// They are on disk: read this much there and give the bytes to [`Log::decode`].
    Read {
        /// The segment.
        file: FileId,
        /// The byte in it.
        at: u64,
        /// How many.
        len: u32,
    },
    /// There is nothing behind the position yet.
    AtEnd,
}

impl Log {
    /// Where the blocks from block boundary `from` on are to be had, up to about `max_bytes`.
    ///
    /// # Errors
    /// [`Error::Recycled`].
    pub fn fetch(&self, from: Lsn, max_bytes: u64) -> Result<Fetch, Error> {
        if from < self.start {
            return Err(Error::Recycled { lsn: from, start: self.start });
        }
        if from >= self.end {
            return Ok(Fetch::AtEnd);
        }
        let mut blocks = Vec::new();
        self.tail.from(from, max_bytes, &mut blocks);
        if !blocks.is_empty() {
            return Ok(Fetch::Blocks(blocks));
        }
        let at = from.0 % self.segment_bytes;
        // Beyond `durable` a block may not have reached its file; it is in the tail.
        let room = self.segment_bytes.saturating_sub(at).min(self.durable.since(from));
        if room == 0 {
            return Ok(Fetch::AtEnd);
        }
        let len = u32::try_from(room.min(max_bytes.max(PAGE_BYTES))).unwrap_or(u32::MAX);
        Ok(Fetch::Read { file: FileId::Segment(from.0 / self.segment_bytes), at, len })
    }

    /// Cuts the bytes of a [`Fetch::Read`] at `from`, for which `asked` were asked, into blocks; a block
    /// that is not whole is left out. When not even the first is whole, answers how many bytes it
    /// needs: more than were asked for.
    ///
    /// # Errors
    /// [`Error::Damage`] for bytes that are not the block at their place, and where the file ends
    /// before it.
    pub fn decode(
        &self,
        from: Lsn,
        asked: u32,
        bytes: &Bytes,
        blocks: &mut Vec<Block>,
    ) -> Result<Option<u32>, Error> {
        decode_run(self.id, self.segment_bytes, from, self.durable, asked, bytes, blocks)
    }

    /// The running hash at block boundary `lsn`, when memory has it.
    #[must_use]
    pub fn hash_at(&self, lsn: Lsn) -> Option<RunningHash> {
        if lsn == self.end {
            return Some(self.hash);
        }
        if lsn == Lsn::ZERO {
            return Some(RunningHash::default());
        }
        self.tail.find(lsn).filter(|block| block.lsn() == lsn).map(Block::hash_before)
    }

    /// The block that holds `lsn` starts at or behind this block boundary, within the index's
    /// stride.
    #[must_use]
    pub fn boundary_before(&self, lsn: Lsn) -> Option<Lsn> {
        if let Some(block) = self.tail.find(lsn) {
            return Some(block.lsn());
        }
        self.index.at_or_before(lsn)
    }
}

/// Cuts bytes read at `from` into blocks; see [`Log::decode`].
pub(crate) fn decode_run(
    id: LogId,
    segment_bytes: u64,
    from: Lsn,
    durable: Lsn,
    asked: u32,
    bytes: &Bytes,
    blocks: &mut Vec<Block>,
) -> Result<Option<u32>, Error> {
    use crate::format::BlockError;

    let damage = |lsn: Lsn, cause: String| Error::Damage {
        file: FileId::Segment(lsn.0.checked_div(segment_bytes).unwrap_or_default()),
        lsn,
        cause,
        promised: durable,
        promise: "it was checked when it was written",
    };
    let mut at = from;
    while at < durable {
        let offset = usize::try_from(at.since(from)).unwrap_or(usize::MAX);
        if offset >= bytes.len() && !blocks.is_empty() {
            break;
        }
        match Block::open(bytes.slice(offset.min(bytes.len())..), at, id) {
            Ok(block) => {
                at = block.end();
                blocks.push(block);
            }
            Err(BlockError::TooShort { .. }) if !blocks.is_empty() => break,
            Err(BlockError::TooShort { need }) => {
                let need = u32::try_from(need).unwrap_or(u32::MAX);
                // What was asked for and did not come is not there: asking again brings no more.
                if need <= asked {
                    return Err(damage(at, "the file ends before the block".to_owned()));
                }
                return Ok(Some(need));
            }
            Err(error) => return Err(damage(at, error.to_string())),
        }
    }
    Ok(None)
}
