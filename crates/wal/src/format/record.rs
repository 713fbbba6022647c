//! Records within a block's plain payload: a varint length, a flag byte, the body.
//!
//! Guarantees: what is yielded lies within the payload and was framed minimally; after the first
//! error nothing more is yielded; fewer or more records than the header counts is an error, and so
//! is a batch that its block does not finish. Not here: what a body means.

use std::iter::FusedIterator;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::HEADER_BYTES;
use crate::lsn::Lsn;

/// What a record is. Never zero, so that an empty record is not zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RecordFlag {
    /// A record; the last one, when it follows one with [`RecordFlag::BatchContinues`].
    Record = 1,
    /// Claimed and never filled: skipped. Never within a batch.
    Void = 2,
    /// A record of an atomic batch that goes on with the next record.
    BatchContinues = 3,
}

impl RecordFlag {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Record,
            2 => Self::Void,
            3 => Self::BatchContinues,
            _ => return None,
        })
    }
}

/// One record of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where its frame starts.
    pub lsn: Lsn,
    /// Behind its last byte.
    pub end: Lsn,
    /// What it is; callers skip [`RecordFlag::Void`].
    pub flag: RecordFlag,
    /// What was appended.
    pub body: Bytes,
}

/// Why a payload that matched its checksum does not hold the records it should: whoever sealed it
/// was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The length is cut off, not in its shortest form, or longer than the payload.
    #[error("record at LSN {lsn}: its length is malformed or runs past the block")]
    Length {
        /// Where the record starts.
        lsn: Lsn,
    },
    /// The flag is none of Format 1.
    #[error("record at LSN {lsn}: unknown flag {found}")]
    Flag {
        /// Where the record starts.
        lsn: Lsn,
        /// The flag found.
        found: u8,
    },
    /// An atomic batch is broken off by a void, or by the block's end.
    #[error("record at LSN {lsn}: the batch before it is not finished")]
    Batch {
        /// Where the batch should have gone on.
        lsn: Lsn,
    },
    /// The block holds another number of records than its header says.
    #[error("at LSN {lsn}: the block does not hold as many records as its header counts")]
    Count {
        /// Where a record is missing, or one too many starts.
        lsn: Lsn,
    },
}

/// The bytes that a record with a body of `body_len` takes in a block: length, flag and body.
#[must_use]
pub const fn record_frame_bytes(body_len: usize) -> u64 {
    varint_bytes(body_len as u64) + 1 + body_len as u64
}

/// Writes a record's length and flag; the body follows.
pub(super) fn put_frame(out: &mut BytesMut, body_len: usize, flag: RecordFlag) {
    let mut rest = body_len as u64;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8((rest & 0x7F) as u8);
    out.put_u8(flag as u8);
}

const fn varint_bytes(mut value: u64) -> u64 {
    let mut bytes = 1;
    while value >= 0x80 {
        value >>= 7;
        bytes += 1;
    }
    bytes
}

/// The value of a LEB128 number in its shortest form and its length; at most five bytes, 32 bits.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = *byte != 0 || index == 0;
            let value = usize::try_from(u32::try_from(value).ok()?).ok()?;
            return minimal.then_some((value, index + 1));
        }
    }
    None
}

/// The records of one block, voids included.
#[derive(Clone, Debug)]
pub struct Records {
    plain: Bytes,
    at: usize,
    block: Lsn,
    left: u32,
    in_batch: bool,
    failed: bool,
}

impl Records {
    pub(super) const fn new(plain: Bytes, block: Lsn, count: u32) -> Self {
        Self { plain, at: 0, block, left: count, in_batch: false, failed: false }
    }

    fn lsn(&self, at: usize) -> Lsn {
        self.block.saturating_add((HEADER_BYTES + at) as u64)
    }

    fn record(&mut self) -> Result<Option<Record>, RecordError> {
        let lsn = self.lsn(self.at);
        let rest = self.plain.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return match (self.left, self.in_batch) {
                (0, false) => Ok(None),
                (0, true) => Err(RecordError::Batch { lsn }),
                _ => Err(RecordError::Count { lsn }),
            };
        }
        self.left = self.left.checked_sub(1).ok_or(RecordError::Count { lsn })?;
        let short = RecordError::Length { lsn };
        let (length, taken) = varint(rest).ok_or(short)?;
        let flag = *rest.get(taken).ok_or(short)?;
        let flag = RecordFlag::from_byte(flag).ok_or(RecordError::Flag { lsn, found: flag })?;
        if self.in_batch && flag == RecordFlag::Void {
            return Err(RecordError::Batch { lsn });
        }
        let start = self.at + taken + 1;
        let end = start.checked_add(length).filter(|end| *end <= self.plain.len()).ok_or(short)?;
        self.at = end;
        self.in_batch = flag == RecordFlag::BatchContinues;
        Ok(Some(Record { lsn, end: self.lsn(end), flag, body: self.plain.slice(start..end) }))
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.record();
        self.failed = record.is_err();
        record.transpose()
    }
}

impl FusedIterator for Records {}
