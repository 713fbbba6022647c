//! The header of a block: 96 bytes, little-endian, checked before any of its lengths is used.
//!
//! Guarantees: a decoded header has matched a checksum seeded with the log's id, is of Format 1,
//! asks for nothing unknown, its lengths are within the format's limits and fit each other, and it
//! promises nothing behind itself.
//! Not here: whether it lies where it says it does, and its payload ([`Block`](super::Block)).

use std::fmt;

use bytes::{Buf, BufMut};

use super::error::BlockError;
use super::limits::{MAX_BLOCK_BYTES, MAX_SEGMENT_BYTES};
use crate::lsn::{LogId, Lsn, PAGE_BYTES, RunningHash};

/// The length of a header in Format 1.
pub const HEADER_BYTES: usize = 96;

/// The first bytes of every block: not text, and broken by anything that rewrites line ends.
pub const MAGIC: [u8; 8] = [0x89, b'O', b'R', b'G', 0x0D, 0x0A, 0x1A, 0x0A];

/// The format version that this module reads and writes.
pub const VERSION: u16 = 1;

/// [`BlockHeader::compression`]: the payload is stored as it is.
pub const COMPRESSION_NONE: u8 = 0;

/// [`BlockHeader::compression`]: the payload is one zstd frame.
pub const COMPRESSION_ZSTD: u8 = 1;

pub(super) const HEADER_BYTES_U32: u32 = 96;

const CRC32_IEEE: u8 = 1;
const CHECKSUM_AT: usize = 20;
// Any version's header starts with magic, version, its length and, at 20, its checksum; so a later
// version is told apart from garbage.
const ANY_HEADER_BYTES: std::ops::RangeInclusive<u16> = 64..=512;

/// What a block is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Holds whole records.
    Data = 1,
    /// Fills a segment up to its end; a header alone is stored.
    Pad = 2,
    /// The first block of each segment.
    SegmentHead = 3,
    /// The first block of an epoch, or the first behind the [`Kind::SegmentHead`] it begins with.
    EpochBegin = 4,
    /// The log was opened for append.
    Open = 5,
    /// Holds nothing but the promises in its header.
    Watermark = 6,
}

impl Kind {
    /// The kind's name, as it stands in dumps.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Pad => "pad",
            Self::SegmentHead => "segment_head",
            Self::EpochBegin => "epoch_begin",
            Self::Open => "open",
            Self::Watermark => "watermark",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Data,
            2 => Self::Pad,
            3 => Self::SegmentHead,
            4 => Self::EpochBegin,
            5 => Self::Open,
            6 => Self::Watermark,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A block's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// What the block is.
    pub kind: Kind,
    /// Flags that a reader which does not know them skips.
    pub skip_flags: u8,
    /// Flags that a reader which does not know them must refuse; Format 1 knows none.
    pub refuse_flags: u8,
    /// How the payload is stored: [`COMPRESSION_NONE`] or [`COMPRESSION_ZSTD`].
    pub compression: u8,
    /// CRC-32 (IEEE) of the stored payload.
    pub payload_crc: u32,
    /// Header and plain payload, in bytes; of a Pad, up to its segment's end.
    pub true_len: u32,
    /// Header and stored payload, in bytes.
    pub stored_len: u32,
    /// The records in the block, voids included.
    pub record_count: u32,
    /// Where the block starts.
    pub lsn: Lsn,
    /// The number of the epoch it was sealed in.
    pub epoch: u64,
    /// The running hash of the log before this block.
    pub hash_before: RunningHash,
    /// What the sealer had durable when it sealed this.
    pub durable: Lsn,
    /// What was committed when it was sealed.
    pub commit: Lsn,
    /// The sealer's wall clock, microseconds UTC; decides nothing.
    pub sealed_micros: u64,
}

impl BlockHeader {
    /// The header's bytes, checksum included.
    #[must_use]
    pub fn encode(&self, log: LogId) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(96);
        out.put_u8(self.kind as u8);
        out.put_u8(self.skip_flags);
        out.put_u8(self.refuse_flags);
        out.put_u8(CRC32_IEEE);
        out.put_u8(self.compression);
        out.put_bytes(0, 3);
        out.put_u32_le(0);
        out.put_u32_le(self.payload_crc);
        out.put_u32_le(self.true_len);
        out.put_u32_le(self.stored_len);
        out.put_u32_le(self.record_count);
        out.put_u64_le(self.lsn.0);
        out.put_u64_le(self.epoch);
        out.put_u128_le(self.hash_before.0);
        out.put_u64_le(self.durable.0);
        out.put_u64_le(self.commit.0);
        out.put_u64_le(self.sealed_micros);
        let checksum = checksum(&bytes, log).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(CHECKSUM_AT).zip(checksum) {
            *to = from;
        }
        bytes
    }

    /// Reads the header at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// Every [`BlockError`] but those of place and payload. [`BlockError::Version`] and what is
    /// checked behind it means that the checksum matched.
    pub fn decode(bytes: &[u8], log: LogId) -> Result<Self, BlockError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BlockError::TooShort { need: HEADER_BYTES as u64 });
        };
        if head.iter().all(|byte| *byte == 0) {
            return Err(BlockError::Zeros);
        }
        let mut from = head.as_slice();
        if from.get_u64_le() != u64::from_le_bytes(MAGIC) {
            return Err(BlockError::NotABlock);
        }
        let version = from.get_u16_le();
        let length = from.get_u16_le();
        let possible = if version == VERSION {
            usize::from(length) == HEADER_BYTES
        } else {
            ANY_HEADER_BYTES.contains(&length)
        };
        if !possible {
            return Err(BlockError::HeaderChecksum);
        }
        let Some(whole) = bytes.get(..usize::from(length)) else {
            return Err(BlockError::TooShort { need: u64::from(length) });
        };
        let kind = from.get_u8();
        let skip_flags = from.get_u8();
        let refuse_flags = from.get_u8();
        let algorithm = from.get_u8();
        let compression = from.get_u8();
        let reserved = from.get_uint_le(3);
        if from.get_u32_le() != checksum(whole, log) {
            return Err(BlockError::HeaderChecksum);
        }
        if version != VERSION {
            return Err(BlockError::Version { found: version });
        }
        let Some(kind) = Kind::from_byte(kind) else {
            return Err(BlockError::UnknownFlags);
        };
        if refuse_flags != 0 || algorithm != CRC32_IEEE || reserved != 0 {
            return Err(BlockError::UnknownFlags);
        }
        let header = Self {
            kind,
            skip_flags,
            refuse_flags,
            compression,
            payload_crc: from.get_u32_le(),
            true_len: from.get_u32_le(),
            stored_len: from.get_u32_le(),
            record_count: from.get_u32_le(),
            lsn: Lsn(from.get_u64_le()),
            epoch: from.get_u64_le(),
            hash_before: RunningHash(from.get_u128_le()),
            durable: Lsn(from.get_u64_le()),
            commit: Lsn(from.get_u64_le()),
            sealed_micros: from.get_u64_le(),
        };
        header.check_lengths()?;
        if header.promises_before_itself() { Ok(header) } else { Err(BlockError::Promises) }
    }

    /// The log space that the block takes: `true_len` rounded up to a page.
    #[must_use]
    pub fn extent(&self) -> u64 {
        u64::from(self.true_len).next_multiple_of(PAGE_BYTES)
    }

    /// Where the block ends and the next one starts.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.lsn.saturating_add(self.extent())
    }

    /// Whether what it says is durable and committed lies before it. Nobody can have promised more
    /// when it was sealed; and a copy that believed it would miss its own log for ever.
    pub(crate) fn promises_before_itself(&self) -> bool {
        self.durable.max(self.commit) <= self.lsn
    }

    fn check_lengths(&self) -> Result<(), BlockError> {
        match (self.kind, self.compression) {
            (_, COMPRESSION_NONE) | (Kind::Data, COMPRESSION_ZSTD) => {}
            _ => return Err(BlockError::Compression),
        }
        let longest = match self.kind {
            Kind::Data => u64::from(MAX_BLOCK_BYTES),
            Kind::Pad => MAX_SEGMENT_BYTES,
            _ => PAGE_BYTES,
        };
        let plain = self.true_len.checked_sub(HEADER_BYTES_U32).ok_or(BlockError::Lengths)?;
        let stored = u64::from(self.stored_len);
        let fit = self.lsn.is_aligned()
            && self.lsn.checked_add(self.extent()).is_some()
            && u64::from(self.true_len) <= longest
            && self.stored_len >= HEADER_BYTES_U32
            && match self.kind {
                // The shortest record is two bytes.
                Kind::Data => {
                    self.record_count <= plain / 2
                        && stored <= self.extent()
                        && (self.compression != COMPRESSION_NONE
                            || self.stored_len == self.true_len)
                }
                Kind::Pad => {
                    self.record_count == 0
                        && self.stored_len == HEADER_BYTES_U32
                        && u64::from(self.true_len) == self.extent()
                }
                _ => self.record_count == 0 && self.stored_len == self.true_len,
            };
        if fit { Ok(()) } else { Err(BlockError::Lengths) }
    }
}

/// CRC-32 (IEEE, which is what `crc32fast` computes; not CRC-32C) over the log's id and then the
/// header with zeros for the checksum itself.
fn checksum(header: &[u8], log: LogId) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&log.0.to_le_bytes());
    let (before, rest) = header.split_at(CHECKSUM_AT.min(header.len()));
    crc.update(before);
    crc.update(&[0; 4]);
    crc.update(rest.get(4..).unwrap_or_default());
    crc.finalize()
}
