//! The mark of a clean close: the file `clean` in a log's folder, 64 bytes.
//!
//! Guarantees: a decoded mark is whole. Not here: writing it (behind everything else) and removing
//! it (before anything else), which the log does.

use bytes::{Buf, BufMut};

use crate::lsn::{LogId, Lsn, RunningHash};

/// The length of the mark.
pub const CLEAN_MARK_BYTES: usize = 64;

const MAGIC: [u8; 8] = [0x89, b'O', b'R', b'C', 0x0D, 0x0A, 0x1A, 0x0A];
const VERSION: u16 = 1;
const CHECKSUM_AT: usize = 12;

/// Where a cleanly closed log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanMark {
    /// The log.
    pub log: LogId,
    /// Its end.
    pub end: Lsn,
    /// Its running hash there.
    pub hash: RunningHash,
}

/// Why bytes are not the mark of a clean close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanMarkError {
    /// It has another length: a torn write, or not ours.
    #[error("the clean-close mark is {found} bytes long, not {CLEAN_MARK_BYTES}")]
    Length {
        /// The length found.
        found: usize,
    },
    /// The magic is missing: not ours, or damaged.
    #[error("not a clean-close mark: the magic is missing")]
    NotAMark,
    /// It does not match its checksum: torn or damaged.
    #[error("the clean-close mark does not match its checksum (torn or damaged)")]
    Checksum,
    /// It is of another version.
    #[error("the clean-close mark is of version {found}; this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
}

impl CleanMark {
    /// The mark's bytes, checksum included.
    #[must_use]
    pub fn encode(&self) -> [u8; CLEAN_MARK_BYTES] {
        let mut bytes = [0; CLEAN_MARK_BYTES];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u32_le(0);
        out.put_u128_le(self.log.0);
        out.put_u64_le(self.end.0);
        out.put_u128_le(self.hash.0);
        let checksum = checksum(&bytes).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(CHECKSUM_AT).zip(checksum) {
            *to = from;
        }
        bytes
    }

    /// Reads a mark from the whole content of its file.
    ///
    /// # Errors
    /// Why it is none. [`CleanMarkError::Version`] means that the checksum matched.
    pub fn decode(bytes: &[u8]) -> Result<Self, CleanMarkError> {
        let Ok(whole) = <&[u8; CLEAN_MARK_BYTES]>::try_from(bytes) else {
            return Err(CleanMarkError::Length { found: bytes.len() });
        };
        let mut from = whole.as_slice();
        if from.get_u64_le() != u64::from_le_bytes(MAGIC) {
            return Err(CleanMarkError::NotAMark);
        }
        let version = from.get_u16_le();
        from.advance(2);
        if from.get_u32_le() != checksum(whole) {
            return Err(CleanMarkError::Checksum);
        }
        if version != VERSION {
            return Err(CleanMarkError::Version { found: version });
        }
        Ok(Self {
            log: LogId(from.get_u128_le()),
            end: Lsn(from.get_u64_le()),
            hash: RunningHash(from.get_u128_le()),
        })
    }
}

/// CRC-32 (IEEE) of the mark with zeros for the checksum itself.
fn checksum(mark: &[u8; CLEAN_MARK_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let (before, rest) = mark.split_at(CHECKSUM_AT);
    crc.update(before);
    crc.update(&[0; 4]);
    crc.update(rest.get(4..).unwrap_or_default());
    crc.finalize()
}
