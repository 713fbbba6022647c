//! Fields in little-endian, with every take checked against what is there.
//!
//! Guarantees: nothing is taken from behind the end, nothing is allocated for a count before that
//! many items fit into what is left. Not here: who lays out what.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_net::config::{Config, Copy, Loss, Rule, Version};
use outrigger_net::frame::{MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_COPIES};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

use crate::error::CodecError;

/// The bytes of a copy without addresses.
const COPY_BYTES: usize = 38;

/// Takes fields off the front.
pub(crate) struct Take<'a> {
    rest: &'a [u8],
    layout: u8,
}

macro_rules! take_number {
    ($($name:ident $type:ty = $get:ident;)*) => {
        $(pub(crate) fn $name(&mut self) -> Result<$type, CodecError> {
            self.rest.$get().map_err(|_| CodecError::Short)
        })*
    };
}

impl<'a> Take<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest, layout: 0 }
    }

    /// Begins behind a version that must be `known` or older.
    pub(crate) fn versioned(bytes: &'a [u8], known: u8) -> Result<Self, CodecError> {
        let mut take = Self::new(bytes);
        match take.u8()? {
            0 => Err(CodecError::Malformed { what: "a version of 0" }),
            found if found > known => Err(CodecError::Newer { found, known }),
            found => Ok(Self { layout: found, ..take }),
        }
    }

    /// The version that it began with.
    pub(crate) const fn layout(&self) -> u8 {
        self.layout
    }

    take_number! {
        u8 u8 = try_get_u8;
        u16 u16 = try_get_u16_le;
        u32 u32 = try_get_u32_le;
        i32 i32 = try_get_i32_le;
        u64 u64 = try_get_u64_le;
        u128 u128 = try_get_u128_le;
    }

    pub(crate) fn lsn(&mut self) -> Result<Lsn, CodecError> {
        self.u64().map(Lsn)
    }

    pub(crate) fn instance(&mut self) -> Result<InstanceId, CodecError> {
        self.u128().map(InstanceId)
    }

    pub(crate) fn content(&mut self) -> Result<ContentId, CodecError> {
        self.i32().map(ContentId)
    }

    pub(crate) fn cluster(&mut self) -> Result<ClusterId, CodecError> {
        self.u128().map(ClusterId)
    }

    pub(crate) fn log(&mut self) -> Result<LogId, CodecError> {
        self.u128().map(LogId)
    }

    pub(crate) fn version(&mut self) -> Result<Version, CodecError> {
        self.u64().map(Version)
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, CodecError> {
        Ok(Epoch { number: self.u64()?, nonce: self.u128()? })
    }

    pub(crate) fn promise(&mut self) -> Result<Promise, CodecError> {
        Ok(Promise { epoch: self.u64()?, lsn: self.lsn()? })
    }

    pub(crate) fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Malformed { what: "a yes-or-no is neither 0 nor 1" }),
        }
    }

    pub(crate) fn option<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.flag()? { take(self).map(Some) } else { Ok(None) }
    }

    /// Takes a list whose items are at least `item_bytes` long.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        cap: usize,
        item_bytes: usize,
        mut take: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if found > cap {
            return Err(CodecError::TooLong { what, found, cap });
        }
        if found.checked_mul(item_bytes).is_none_or(|need| need > self.rest.len()) {
            return Err(CodecError::Short);
        }
        (0..found).map(|_| take(self)).collect()
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (front, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(front)
    }

    pub(crate) fn text(&mut self, what: &'static str, cap: usize) -> Result<String, CodecError> {
        let found = usize::from(self.u16()?);
        if found > cap {
            return Err(CodecError::TooLong { what, found, cap });
        }
        match std::str::from_utf8(self.slice(found)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(CodecError::Malformed { what: "a text is not UTF-8" }),
        }
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<String>, CodecError> {
        self.list(ADDRESSES, MAX_ADDRESSES, 2, |take| take.text(ADDRESS, MAX_ADDRESS_BYTES))
    }

    pub(crate) fn config(&mut self) -> Result<Config, CodecError> {
        let version = self.version()?;
        let epoch = self.epoch()?;
        let primary = self.instance()?;
        if self.u8()? != 1 {
            return Err(CodecError::Malformed { what: "an unknown rule" });
        }
        let loss = self.option(|take| {
            Ok(Loss { instance: take.instance()?, epoch: take.u64()?, end: take.lsn()? })
        })?;
        let copies = self.list(COPIES, MAX_COPIES, COPY_BYTES, |take| {
            Ok(Copy {
                instance: take.instance()?,
                in_sync: take.flag()?,
                held: take.flag()?,
                durable: take.promise()?,
                addresses: take.addresses()?,
            })
        })?;
        Ok(Config { version, epoch, primary, copies, rule: Rule::All, loss })
    }

    /// Bytes behind their length.
    pub(crate) fn body(&mut self, what: &'static str, cap: usize) -> Result<&'a [u8], CodecError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if found > cap {
            return Err(CodecError::TooLong { what, found, cap });
        }
        self.slice(found)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing) }
    }
}

const ADDRESS: &str = "an address";
const ADDRESSES: &str = "the number of addresses";
const COPIES: &str = "the number of copies";

/// Puts fields behind each other; the first that is too long is remembered as the error.
pub(crate) struct Put {
    bytes: BytesMut,
    error: Option<CodecError>,
}

macro_rules! put_number {
    ($($name:ident $type:ty = $put:ident;)*) => {
        $(pub(crate) fn $name(&mut self, value: $type) {
            self.bytes.$put(value);
        })*
    };
}

impl Put {
    pub(crate) fn versioned(version: u8) -> Self {
        let mut put = Self { bytes: BytesMut::with_capacity(128), error: None };
        put.u8(version);
        put
    }

    put_number! {
        u8 u8 = put_u8;
        u16 u16 = put_u16_le;
        u32 u32 = put_u32_le;
        i32 i32 = put_i32_le;
        u64 u64 = put_u64_le;
        u128 u128 = put_u128_le;
    }

    fn fail(&mut self, error: CodecError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn epoch(&mut self, epoch: Epoch) {
        self.u64(epoch.number);
        self.u128(epoch.nonce);
    }

    pub(crate) fn promise(&mut self, promise: Promise) {
        self.u64(promise.epoch);
        self.u64(promise.lsn.0);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        cap: usize,
        items: &[T],
        mut put: impl FnMut(&mut Self, &T),
    ) {
        let found = items.len();
        match u32::try_from(found) {
            Ok(count) if found <= cap => self.u32(count),
            _ => return self.fail(CodecError::TooLong { what, found, cap }),
        }
        for item in items {
            put(self, item);
        }
    }

    pub(crate) fn text(&mut self, what: &'static str, cap: usize, text: &str) {
        match u16::try_from(text.len()) {
            Ok(len) if text.len() <= cap => self.u16(len),
            _ => return self.fail(CodecError::TooLong { what, found: text.len(), cap }),
        }
        self.bytes.put_slice(text.as_bytes());
    }

    /// Bytes behind their length.
    pub(crate) fn body(&mut self, what: &'static str, cap: usize, body: &[u8]) {
        match u32::try_from(body.len()) {
            Ok(len) if body.len() <= cap => self.u32(len),
            _ => return self.fail(CodecError::TooLong { what, found: body.len(), cap }),
        }
        self.bytes.put_slice(body);
    }

    pub(crate) fn addresses(&mut self, addresses: &[String]) {
        self.list(ADDRESSES, MAX_ADDRESSES, addresses, |put, address| {
            put.text(ADDRESS, MAX_ADDRESS_BYTES, address);
        });
    }

    pub(crate) fn config(&mut self, config: &Config) {
        self.u64(config.version.0);
        self.epoch(config.epoch);
        self.u128(config.primary.0);
        match config.rule {
            Rule::All => self.u8(1),
            _ => self.fail(CodecError::Malformed { what: "an unknown rule" }),
        }
        self.flag(config.loss.is_some());
        if let Some(loss) = config.loss {
            self.u128(loss.instance.0);
            self.u64(loss.epoch);
            self.u64(loss.end.0);
        }
        self.list(COPIES, MAX_COPIES, &config.copies, |put, copy| {
            put.u128(copy.instance.0);
            put.flag(copy.in_sync);
            put.flag(copy.held);
            put.promise(copy.durable);
            put.addresses(&copy.addresses);
        });
    }

    pub(crate) fn done(self) -> Result<Bytes, CodecError> {
        match self.error {
            None => Ok(self.bytes.freeze()),
            Some(error) => Err(error),
        }
    }
}
