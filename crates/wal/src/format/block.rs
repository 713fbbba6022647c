//! A block: what is sealed, checksummed, written, shipped and acknowledged as one.
//!
//! Guarantees: a [`Block`] is whole and its own: header, place, checksums, and the payload of a control
//! block were verified, or it was sealed here. Cloning one shares its bytes.
//! Not here: whether it follows the block before it (compare `hash_before`).

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::compress;
use super::control::{self, EpochBegin, Open, SegmentHead};
use super::error::BlockError;
use super::header::{BlockHeader, COMPRESSION_NONE, HEADER_BYTES, Kind};
use super::record::Records;
use crate::lsn::{LogId, Lsn, PAGE_BYTES, RunningHash};

/// A verified block: its header, and its bytes as they are stored and shipped.
#[derive(Clone)]
pub struct Block {
    header: BlockHeader,
    stored: Bytes,
    hash_after: RunningHash,
}

impl Block {
    /// Verifies the block that `stored` starts with (more may follow), read at `at` in the log
    /// `log`. Does not decompress.
    ///
    /// # Errors
    /// Why it is none; nothing was allocated then.
    pub fn open(stored: Bytes, at: Lsn, log: LogId) -> Result<Self, BlockError> {
        let header = BlockHeader::decode(&stored, log)?;
        if header.lsn != at {
            return Err(BlockError::Stale { found: header.lsn });
        }
        let len = checked_payload(&header, &stored)?.len() + HEADER_BYTES;
        let block = Self::sealed(header, stored.slice(..len));
        control::check(&block, log)?;
        Ok(block)
    }

    /// A block from parts that belong together.
    pub(super) fn sealed(header: BlockHeader, stored: Bytes) -> Self {
        let hashed = match header.kind {
            // The header holds the payload's checksum; megabytes need not be hashed twice.
            Kind::Data => stored.get(..HEADER_BYTES).unwrap_or_default(),
            _ => &stored,
        };
        let hash_after = RunningHash(xxh3_128(hashed));
        Self { header, stored, hash_after }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Where the block starts.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// Where the block ends and the next one starts.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.header.end()
    }

    /// The number of the epoch it was sealed in.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.header.kind
    }

    /// The bytes that are written and shipped, header included: exactly `stored_len`.
    #[must_use]
    pub const fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The running hash of the log before this block.
    #[must_use]
    pub const fn hash_before(&self) -> RunningHash {
        self.header.hash_before
    }

    /// The running hash of the log with this block.
    #[must_use]
    pub const fn hash_after(&self) -> RunningHash {
        self.hash_after
    }

    /// What the sealer had durable when it sealed this.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.header.durable
    }

    /// What was committed when it was sealed.
    #[must_use]
    pub const fn commit(&self) -> Lsn {
        self.header.commit
    }

    /// How many zeros follow the stored bytes up to the end of their last page. They are written
    /// with them, and not shipped.
    #[must_use]
    pub fn padding_bytes(&self) -> usize {
        let page = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
        self.stored.len().next_multiple_of(page) - self.stored.len()
    }

    /// The payload as it was before compression.
    ///
    /// # Errors
    /// [`BlockError::Compression`]: it does not decompress to exactly its length.
    pub fn plain(&self) -> Result<Bytes, BlockError> {
        let stored = self.stored_payload();
        if self.header.compression == COMPRESSION_NONE || self.header.kind != Kind::Data {
            return Ok(stored);
        }
        let plain_len = usize::try_from(self.header.true_len)
            .ok()
            .and_then(|len| len.checked_sub(HEADER_BYTES))
            .ok_or(BlockError::Lengths)?;
        compress::zstd_exact(&stored, plain_len)
    }

    /// The records, voids included; none for all kinds but [`Kind::Data`].
    ///
    /// # Errors
    /// [`BlockError::Compression`]: the payload does not decompress to exactly its length.
    pub fn records(&self) -> Result<Records, BlockError> {
        let plain = if self.kind() == Kind::Data { self.plain()? } else { Bytes::new() };
        Ok(Records::new(plain, self.lsn(), self.header.record_count))
    }

    /// What a [`Kind::SegmentHead`] says; `None` for other kinds.
    #[must_use]
    pub fn segment_head_entry(&self) -> Option<SegmentHead> {
        self.control(Kind::SegmentHead).and_then(|payload| SegmentHead::take(&payload))
    }

    /// What a [`Kind::EpochBegin`] says; `None` for other kinds.
    #[must_use]
    pub fn epoch_begin_entry(&self) -> Option<EpochBegin> {
        self.control(Kind::EpochBegin).and_then(|payload| EpochBegin::take(&payload))
    }

    /// What a [`Kind::Open`] says; `None` for other kinds.
    #[must_use]
    pub fn open_entry(&self) -> Option<Open> {
        self.control(Kind::Open).and_then(|payload| Open::take(&payload))
    }

    pub(super) fn stored_payload(&self) -> Bytes {
        self.stored.slice(HEADER_BYTES.min(self.stored.len())..)
    }

    fn control(&self, kind: Kind) -> Option<Bytes> {
        (self.kind() == kind).then(|| self.stored_payload())
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("header", &self.header)
            .field("hash_after", &self.hash_after)
            .finish_non_exhaustive()
    }
}

/// The stored payload behind `header`, when all of it is there and matches its checksum.
pub(super) fn checked_payload<'a>(
    header: &BlockHeader,
    stored: &'a [u8],
) -> Result<&'a [u8], BlockError> {
    let need = u64::from(header.stored_len);
    let payload = usize::try_from(header.stored_len)
        .ok()
        .and_then(|len| stored.get(HEADER_BYTES..len))
        .ok_or(BlockError::TooShort { need })?;
    if crc32fast::hash(payload) == header.payload_crc {
        Ok(payload)
    } else {
        Err(BlockError::PayloadChecksum)
    }
}
