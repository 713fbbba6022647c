//! Fields of a message in little-endian, with every take checked against what is there.
//!
//! Guarantees: nothing is taken from behind the end, nothing is allocated for a count before that
//! many items fit into what is left. Not here: which fields a message has ([`super::meta`]).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_wal::format::EpochEntry;
use outrigger_wal::{Epoch, InstanceId, LogId, Lsn, RunningHash};

use crate::error::Error;

/// The longest text of a refusal, in bytes; longer ones are cut.
pub(crate) const MAX_TEXT_BYTES: usize = 4096;

/// Takes fields off the front of checked bytes.
pub(crate) struct Take<'a> {
    rest: &'a [u8],
}

macro_rules! take_number {
    ($($name:ident $type:ty = $get:ident;)*) => {
        $(pub(crate) fn $name(&mut self) -> Result<$type, Error> {
            self.rest.$get().map_err(|_| SHORT)
        })*
    };
}

const SHORT: Error = Error::Malformed { what: "it ends before its last field" };

impl<'a> Take<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    take_number! {
        u8 u8 = try_get_u8;
        u16 u16 = try_get_u16_le;
        u32 u32 = try_get_u32_le;
        i32 i32 = try_get_i32_le;
        u64 u64 = try_get_u64_le;
        u128 u128 = try_get_u128_le;
    }

    pub(crate) fn lsn(&mut self) -> Result<Lsn, Error> {
        self.u64().map(Lsn)
    }

    pub(crate) fn hash(&mut self) -> Result<RunningHash, Error> {
        self.u128().map(RunningHash)
    }

    pub(crate) fn instance(&mut self) -> Result<InstanceId, Error> {
        self.u128().map(InstanceId)
    }

    pub(crate) fn log(&mut self) -> Result<LogId, Error> {
        self.u128().map(LogId)
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, Error> {
        Ok(Epoch { number: self.u64()?, nonce: self.u128()? })
    }

    pub(crate) fn epoch_entry(&mut self) -> Result<EpochEntry, Error> {
        EpochEntry::take(&mut self.rest).ok_or(SHORT)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Malformed { what: "a yes-or-no is neither 0 nor 1" }),
        }
    }

    /// Checks a count against its cap, and against what is left for items of at least
    /// `item_bytes`: only then may it size an allocation.
    pub(crate) fn count(
        &self,
        what: &'static str,
        count: usize,
        cap: usize,
        item_bytes: usize,
    ) -> Result<usize, Error> {
        if count > cap {
            return Err(Error::TooLong { what, len: wide(count), cap: wide(cap) });
        }
        if count.checked_mul(item_bytes).is_none_or(|need| need > self.rest.len()) {
            return Err(SHORT);
        }
        Ok(count)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (front, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(front)
    }

    pub(crate) fn text(&mut self, what: &'static str, cap: usize) -> Result<String, Error> {
        let len = usize::from(self.u16()?);
        let len = self.count(what, len, cap, 1)?;
        let bytes = self.slice(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::Malformed { what: "a text is not UTF-8" }),
        }
    }

    /// A copy: a slice would keep the whole read buffer alive for as long as the request lives.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Error> {
        let len = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        self.slice(len).map(Bytes::copy_from_slice)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Malformed { what: "bytes follow its last field" })
        }
    }
}

pub(crate) const fn wide(len: usize) -> u64 {
    len as u64
}

pub(crate) fn put_epoch(out: &mut BytesMut, epoch: Epoch) {
    out.put_u64_le(epoch.number);
    out.put_u128_le(epoch.nonce);
}

/// Puts a text whose length matters: too long is an error.
pub(crate) fn put_exact(
    out: &mut BytesMut,
    what: &'static str,
    text: &str,
    cap: usize,
) -> Result<(), Error> {
    let too_long = || Error::TooLong { what, len: wide(text.len()), cap: wide(cap) };
    if text.len() > cap {
        return Err(too_long());
    }
    out.put_u16_le(u16::try_from(text.len()).map_err(|_| too_long())?);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// Puts a text that only informs: cut at [`MAX_TEXT_BYTES`].
pub(crate) fn put_text(out: &mut BytesMut, text: &str) -> Result<(), Error> {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    put_exact(out, "a text", text.get(..end).unwrap_or_default(), MAX_TEXT_BYTES)
}

pub(crate) fn put_bytes(out: &mut BytesMut, what: &'static str, bytes: &[u8]) -> Result<(), Error> {
    let len = u32::try_from(bytes.len()).map_err(|_| Error::TooLong {
        what,
        len: wide(bytes.len()),
        cap: u64::from(u32::MAX),
    })?;
    out.put_u32_le(len);
    out.put_slice(bytes);
    Ok(())
}

/// Puts a count that was checked against `cap`, as one byte or two.
pub(crate) fn put_count(
    out: &mut BytesMut,
    what: &'static str,
    count: usize,
    cap: usize,
) -> Result<(), Error> {
    let too_long = || Error::TooLong { what, len: wide(count), cap: wide(cap) };
    if count > cap {
        return Err(too_long());
    }
    out.put_u16_le(u16::try_from(count).map_err(|_| too_long())?);
    Ok(())
}
