//! The file `rebuild`: how far a copy in the making has come. While it is there, the instance does not start.
//!
//! Guarantees: it is replaced as a whole, durably; one that cannot be read is refused, never taken for none.
//! Layout, little-endian: magic 8, version u16 (1), body length u32, CRC-32 of the body u32, body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_wal::disk::{Blocking, FileId};
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId, Lsn};

use super::RebuildError;
use super::plan::Mode;
use crate::control::Identity;

const MAGIC: [u8; 8] = *b"\x89ORB\r\n\x1a\n";
const VERSION: u16 = 1;
const MAX_BYTES: u32 = 4096;

/// What a rebuild does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Step {
    /// It is decided; nothing was fetched.
    Planned,
    /// Ranges are compared and fetched.
    Fetching,
    /// The log is fetched.
    Logging,
    /// The store is put together, store and log are checked.
    Verifying,
    /// The copy is whole and verified; it takes the place of the old one.
    Placing,
    /// The old one, and what was fetched, goes.
    Clearing,
    /// The copy can be started.
    Ready,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Planned,
        Self::Fetching,
        Self::Logging,
        Self::Verifying,
        Self::Placing,
        Self::Clearing,
        Self::Ready,
    ];

    /// Its name, as in logs and progress lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Fetching => "fetching",
            Self::Logging => "logging",
            Self::Verifying => "verifying",
            Self::Placing => "placing",
            Self::Clearing => "clearing",
            Self::Ready => "ready",
        }
    }
}

/// The content of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) step: Step,
    pub(super) mode: Mode,
    /// Whose copy; the segment size is 0 until a source told it.
    pub(super) identity: Identity,
    /// The LSN of the state, as far as that is known.
    pub(super) at: Lsn,
    /// Bytes of state and log that are there, and how many there are.
    pub(super) done_bytes: u64,
    pub(super) total_bytes: u64,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(128);
        let step = Step::ALL.iter().position(|step| *step == self.step);
        body.put_u8(u8::try_from(step.unwrap_or_default()).unwrap_or_default());
        body.put_u8(match self.mode {
            Mode::Differential => 1,
            Mode::Full => 2,
        });
        let id = &self.identity;
        body.put_u128_le(id.cluster.0);
        body.put_i32_le(id.content.0);
        body.put_u128_le(id.instance.0);
        body.put_u128_le(id.log.0);
        body.put_u64_le(id.segment_bytes);
        for number in [self.at.0, self.done_bytes, self.total_bytes] {
            body.put_u64_le(number);
        }
        let mut out = BytesMut::with_capacity(128);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u32_le(u32::try_from(body.len()).unwrap_or(0));
        out.put_u32_le(crc32fast::hash(&body));
        out.put_slice(&body);
        out.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let magic = (bytes.remaining() >= MAGIC.len()).then(|| bytes.split_to(MAGIC.len()))?;
        let version = bytes.try_get_u16_le().ok()?;
        let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        let sum = bytes.try_get_u32_le().ok()?;
        let whole = magic == MAGIC.as_slice() && version == VERSION && bytes.remaining() >= len;
        let mut body = whole.then(|| bytes.split_to(len))?;
        if crc32fast::hash(&body) != sum {
            return None;
        }
        let step = *Step::ALL.get(usize::from(body.try_get_u8().ok()?))?;
        let mode = match body.try_get_u8().ok()? {
            1 => Mode::Differential,
            2 => Mode::Full,
            _ => return None,
        };
        let identity = Identity {
            cluster: ClusterId(body.try_get_u128_le().ok()?),
            content: ContentId(body.try_get_i32_le().ok()?),
            instance: InstanceId(body.try_get_u128_le().ok()?),
            log: LogId(body.try_get_u128_le().ok()?),
            segment_bytes: body.try_get_u64_le().ok()?,
        };
        let at = Lsn(body.try_get_u64_le().ok()?);
        let done_bytes = body.try_get_u64_le().ok()?;
        let total_bytes = body.try_get_u64_le().ok()?;
        Some(Self { step, mode, identity, at, done_bytes, total_bytes })
    }

    /// What the folder says; `None`: no rebuild has begun.
    pub(super) fn read(disk: &mut Blocking<'_>) -> Result<Option<Self>, RebuildError> {
        if disk.len(FileId::Rebuild)?.is_none() {
            return Ok(None);
        }
        let bytes = disk.read(FileId::Rebuild, 0, MAX_BYTES)?;
        Self::decode(bytes).map(Some).ok_or(RebuildError::BadState)
    }

    pub(super) fn write(&self, disk: &mut Blocking<'_>) -> Result<(), RebuildError> {
        Ok(disk.replace(FileId::RebuildNew, FileId::Rebuild, self.encode())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_comes_back_and_a_damaged_file_is_none() {
        for step in Step::ALL {
            for mode in [Mode::Differential, Mode::Full] {
                let record = Record {
                    step,
                    mode,
                    identity: Identity { instance: InstanceId(7), ..Identity::default() },
                    at: Lsn(1),
                    done_bytes: 2,
                    total_bytes: 3,
                };
                let bytes = record.encode();
                assert_eq!(Record::decode(bytes.clone()), Some(record));
                for at in 0..bytes.len() {
                    assert_eq!(Record::decode(bytes.slice(..at)), None);
                    let mut flipped = bytes.to_vec();
                    flipped[at] ^= 1;
                    assert_eq!(Record::decode(flipped.into()), None, "byte {at}");
                }
            }
        }
    }
}
