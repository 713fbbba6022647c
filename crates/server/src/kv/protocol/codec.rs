//! The fields of requests and answers.
//!
//! Guarantees: nothing is taken from behind the end, and nothing longer than allowed. Not here: who lays out what.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    BucketSet, Cut, Joined, MAX_BODY_BYTES, MAX_KEY_BYTES, MAX_ROWS, MAX_VALUE_BYTES, Place,
    ProtocolError, Status,
};

pub(super) const VERSION: u8 = 2;
/// The one before, whose requests name no map and no content.
const BEFORE: u8 = 1;
const NONE: u64 = u64::MAX;
/// In place of a content's number: none is named.
pub(super) const NO_CONTENT: i32 = -1;

/// Puts fields behind each other.
pub(super) struct Put(pub(super) BytesMut);

impl Put {
    pub(super) fn new() -> Self {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        Self(out)
    }

    pub(super) fn name(&mut self, kind: u8, client: u128, sequence: u64, map: u64) {
        self.0.put_u8(kind);
        self.0.put_u128_le(client);
        self.0.put_u64_le(sequence);
        self.0.put_u64_le(map);
    }

    pub(super) fn row(&mut self, key: Option<&Bytes>) -> Result<(), ProtocolError> {
        self.0.put_u8(u8::from(key.is_some()));
        key.map_or(Ok(()), |key| self.key(key))
    }

    pub(super) fn buckets(&mut self, of: Option<&BucketSet>) {
        self.0.put_u8(u8::from(of.is_some()));
        if let Some(BucketSet(bits)) = of {
            self.0.put_slice(bits);
        }
    }

    pub(super) fn place(&mut self, kind: u8, place: &Place) {
        self.0.put_u8(kind);
        self.0.put_i32_le(place.content);
        for number in [place.epoch, place.lsn, place.end] {
            self.0.put_u64_le(number);
        }
    }

    pub(super) fn text(&mut self, kind: u8, text: &str) {
        self.0.put_u8(kind);
        let mut len = text.len().min(1024);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.0.put_u16_le(u16::try_from(len).unwrap_or(0));
        self.0.put_slice(text.as_bytes().get(..len).unwrap_or_default());
    }

    pub(super) fn count(&mut self, count: usize) -> Result<(), ProtocolError> {
        let short = fits("a number of rows", count, MAX_ROWS)?;
        self.0.put_u16_le(short);
        Ok(())
    }

    pub(super) fn key(&mut self, key: &[u8]) -> Result<(), ProtocolError> {
        let len = fits("a key's length", key.len(), MAX_KEY_BYTES)?;
        self.0.put_u16_le(len);
        self.0.put_slice(key);
        Ok(())
    }

    pub(super) fn value(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        let len = fits("a value's length", value.len(), MAX_VALUE_BYTES)?;
        self.0.put_u32_le(len);
        self.0.put_slice(value);
        Ok(())
    }

    pub(super) fn status(&mut self, status: &Status) {
        self.0.put_u8(11);
        self.0.put_u8(u8::from(status.serving));
        let Status { epoch, commit, applied, durable, end, .. } = *status;
        let cut = status.cut.unwrap_or(Cut { from: NONE, ..Cut::default() });
        let joined = status.joined.unwrap_or(Joined { from: NONE, ..Joined::default() });
        let figures = [epoch, commit, applied, durable, end];
        for number in figures.into_iter().chain([cut.from, cut.to, cut.bytes]) {
            self.0.put_u64_le(number);
        }
        self.0.put_u128_le(joined.instance);
        for number in [joined.from, joined.to, joined.stored_bytes, joined.wire_bytes] {
            self.0.put_u64_le(number);
        }
    }

    pub(super) fn done(self) -> Result<Bytes, ProtocolError> {
        let _: u32 = fits("a message's length", self.0.len(), MAX_BODY_BYTES)?;
        Ok(self.0.freeze())
    }
}

fn fits<T: TryFrom<usize>>(
    what: &'static str,
    found: usize,
    limit: usize,
) -> Result<T, ProtocolError> {
    let fits = if found <= limit { T::try_from(found).ok() } else { None };
    fits.ok_or(ProtocolError::TooLong { what, found, limit })
}

/// Takes fields off the front.
pub(super) struct Take {
    rest: Bytes,
    version: u8,
}

impl Take {
    pub(super) fn new(body: Bytes) -> Result<Self, ProtocolError> {
        let mut take = Self { rest: body, version: VERSION };
        match take.byte()? {
            version @ (BEFORE | VERSION) => Ok(Self { version, ..take }),
            found if found > VERSION => Err(ProtocolError::Newer { found }),
            found => Err(ProtocolError::Unknown { what: "version", found }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ProtocolError> {
        self.rest.try_get_u8().map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn flag(&mut self) -> Result<bool, ProtocolError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(ProtocolError::Unknown { what: "flag", found }),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.rest.try_get_u32_le().map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.rest.try_get_u64_le().map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn u128(&mut self) -> Result<u128, ProtocolError> {
        self.rest.try_get_u128_le().map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn short(&mut self) -> Result<usize, ProtocolError> {
        self.rest.try_get_u16_le().map(usize::from).map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn count(&mut self) -> Result<usize, ProtocolError> {
        let found = self.short()?;
        fits::<usize>("a number of rows", found, MAX_ROWS)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<Bytes, ProtocolError> {
        if len > self.rest.len() {
            return Err(ProtocolError::TooShort);
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn key(&mut self) -> Result<Bytes, ProtocolError> {
        let found = self.short()?;
        let len = fits("a key's length", found, MAX_KEY_BYTES)?;
        self.bytes(len)
    }

    pub(super) fn value(&mut self) -> Result<Bytes, ProtocolError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let len = fits("a value's length", found, MAX_VALUE_BYTES)?;
        self.bytes(len)
    }

    pub(super) fn text(&mut self) -> Result<String, ProtocolError> {
        let len = self.short()?;
        Ok(String::from_utf8_lossy(&self.bytes(len)?).into_owned())
    }

    /// Client, number, map.
    pub(super) fn name(&mut self) -> Result<(u128, u64, u64), ProtocolError> {
        let (client, sequence) = (self.u128()?, self.u64()?);
        let map = if self.version == BEFORE { 0 } else { self.u64()? };
        Ok((client, sequence, map))
    }

    pub(super) fn row(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        if self.version == BEFORE || !self.flag()? { Ok(None) } else { self.key().map(Some) }
    }

    pub(super) fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.rest.try_get_i32_le().map_err(|_| ProtocolError::TooShort)
    }

    pub(super) fn content(&mut self) -> Result<Option<i32>, ProtocolError> {
        let content = if self.version == BEFORE { NO_CONTENT } else { self.i32()? };
        Ok((content != NO_CONTENT).then_some(content))
    }

    pub(super) fn buckets(&mut self) -> Result<Option<BucketSet>, ProtocolError> {
        if self.version == BEFORE || !self.flag()? {
            return Ok(None);
        }
        let mut set = BucketSet::EMPTY;
        self.rest.try_copy_to_slice(&mut set.0).map_err(|_| ProtocolError::TooShort)?;
        Ok(Some(set))
    }

    pub(super) fn place(&mut self) -> Result<Place, ProtocolError> {
        let content = if self.version == BEFORE { NO_CONTENT } else { self.i32()? };
        Ok(Place { content, epoch: self.u64()?, lsn: self.u64()?, end: self.u64()? })
    }

    pub(super) fn status(&mut self) -> Result<Status, ProtocolError> {
        let mut status = Status { serving: self.flag()?, ..Status::default() };
        status.epoch = self.u64()?;
        status.commit = self.u64()?;
        status.applied = self.u64()?;
        status.durable = self.u64()?;
        status.end = self.u64()?;
        let cut = Cut { from: self.u64()?, to: self.u64()?, bytes: self.u64()? };
        let joined = Joined {
            instance: self.u128()?,
            from: self.u64()?,
            to: self.u64()?,
            stored_bytes: self.u64()?,
            wire_bytes: self.u64()?,
        };
        status.cut = (cut.from != NONE).then_some(cut);
        status.joined = (joined.from != NONE).then_some(joined);
        Ok(status)
    }

    pub(super) fn end(&self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ProtocolError::Trailing(self.rest.len())) }
    }
}
