//! What clients of rows ask an instance, and its answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Layout: version `u8` (1), kind `u8`, fields in their order; integers little-endian, bytes behind
//! their length (`u16` for keys and texts, `u32` for values).
//!
//! Guarantees: decoding is total, copies nothing, and allocates nothing from an unverified length.
//! Not here: what becomes of a request ([`super::service`]).

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest value, in bytes: with its key it fits a message.
pub(crate) const MAX_VALUE_BYTES: usize = 960 * 1024;
/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = outrigger_replica::store::kv::MAX_KEY_BYTES;
/// The most rows of one answer, and operations of one write.
pub(crate) const MAX_ROWS: usize = 4096;
/// An answer to a scan holds no more rows once they have so many bytes.
pub(crate) const PAGE_BYTES: usize = 256 * 1024;
/// The longest body, in bytes: a message has a few more.
pub(crate) const MAX_BODY_BYTES: usize = 1000 * 1024;

const VERSION: u8 = 1;
const NONE: u64 = u64::MAX;

/// Why bytes are no request or answer, or why one cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// It ends too early, or a length runs past its end.
    #[error("the message is shorter than its fields")]
    TooShort,
    /// It was made by a newer release.
    #[error(
        "version {found} of the client protocol is newer than this release speaks ({VERSION}): upgrade it"
    )]
    Newer {
        /// The version found.
        found: u8,
    },
    /// A version, kind or flag without a meaning.
    #[error("a {what} of {found} means nothing")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// What it says.
        found: u8,
    },
    /// Bytes behind the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// Something is longer than it may be.
    #[error("{what} of {found} is more than {limit}")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// One change of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The row at `key` gets this value.
    Put {
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The row at `key` is taken away.
    Delete {
        /// Its key.
        key: Bytes,
    },
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// Changes that take effect together, under the client's name for them.
    Write {
        /// The client.
        client: u128,
        /// Its number for this write.
        sequence: u64,
        /// The changes.
        changes: Vec<Change>,
    },
    /// The value of a row.
    Get {
        /// Its key.
        key: Bytes,
    },
    /// Rows in key order.
    Scan {
        /// The first key.
        from: Bytes,
        /// At most so many.
        limit: u32,
    },
    /// How many rows there are.
    Count,
    /// How the instance stands.
    Status,
    /// What became of a write.
    Outcome {
        /// The client.
        client: u128,
        /// Its number.
        sequence: u64,
    },
    /// Decides a write: when it is unknown it is refused from now on.
    Settle {
        /// The client.
        client: u128,
        /// Its number.
        sequence: u64,
    },
}

/// Where a commit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// The number of the epoch it was appended in; 0 when that is no longer known.
    pub(crate) epoch: u64,
    /// Where its last record starts.
    pub(crate) lsn: u64,
    /// Behind its last record.
    pub(crate) end: u64,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The write took effect.
    Committed(Place),
    /// The write has no effect, now and whenever it comes.
    Refused {
        /// Why, in words.
        text: String,
    },
    /// The reign ended before the write was decided.
    InDoubt(Place),
    /// The write is not known here.
    Unknown,
    /// The write lies before what is remembered.
    TooOld,
    /// This copy does not serve; nothing was done.
    NotPrimary {
        /// Where the primary is, as far as this copy knows; may be empty.
        hint: String,
    },
    /// Too much waits to be written; nothing was done.
    Busy,
    /// The value of a row, if it is there.
    Value(Option<Bytes>),
    /// Rows in key order.
    Rows(Vec<(Bytes, Bytes)>),
    /// How many rows there are.
    Count(u64),
    /// How the instance stands.
    Status(Status),
    /// The request could not be carried out.
    Failed {
        /// Why, in words.
        text: String,
    },
}

/// How an instance stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Status {
    /// The highest epoch it accepted.
    pub(crate) epoch: u64,
    /// Whether it serves.
    pub(crate) serving: bool,
    /// Its commit LSN.
    pub(crate) commit: u64,
    /// What its store has applied.
    pub(crate) applied: u64,
    /// What is durable.
    pub(crate) durable: u64,
    /// The end of its log.
    pub(crate) end: u64,
    /// Its last cut.
    pub(crate) cut: Option<Cut>,
    /// The last copy that joined the in-sync set here.
    pub(crate) joined: Option<Joined>,
}

/// A truncation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cut {
    /// Where the log was cut.
    pub(crate) from: u64,
    /// Where what was cut ended.
    pub(crate) to: u64,
    /// The bytes that were kept aside.
    pub(crate) bytes: u64,
}

/// A copy that joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Joined {
    /// Whose copy.
    pub(crate) instance: u128,
    /// Where streaming to it began: the fork, or the end it had.
    pub(crate) from: u64,
    /// Up to where it had been sent.
    pub(crate) to: u64,
    /// The stored bytes it was sent.
    pub(crate) stored_bytes: u64,
    /// The bytes on the wire, everything counted.
    pub(crate) wire_bytes: u64,
}

impl Request {
    /// Its bytes.
    ///
    /// # Errors
    /// When something in it is too long.
    pub(crate) fn encode(&self) -> Result<Bytes, ProtocolError> {
        let mut out = Put::new();
        match self {
            Self::Write { client, sequence, changes } => {
                out.name(1, *client, *sequence);
                out.count(changes.len())?;
                for change in changes {
                    match change {
                        Change::Put { key, value } => {
                            out.0.put_u8(1);
                            out.key(key)?;
                            out.value(value)?;
                        }
                        Change::Delete { key } => {
                            out.0.put_u8(2);
                            out.key(key)?;
                        }
                    }
                }
            }
            Self::Get { key } => {
                out.0.put_u8(2);
                out.key(key)?;
            }
            Self::Scan { from, limit } => {
                out.0.put_u8(3);
                out.key(from)?;
                out.0.put_u32_le(*limit);
            }
            Self::Count => out.0.put_u8(4),
            Self::Status => out.0.put_u8(5),
            Self::Outcome { client, sequence } => out.name(6, *client, *sequence),
            Self::Settle { client, sequence } => out.name(7, *client, *sequence),
        }
        out.done()
    }

    /// What the bytes ask.
    ///
    /// # Errors
    /// When they are no request.
    pub(crate) fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut take = Take::new(body)?;
        let request = match take.byte()? {
            1 => {
                let (client, sequence) = take.name()?;
                let count = take.count()?;
                let mut changes = Vec::new();
                for _ in 0..count {
                    changes.push(match take.byte()? {
                        1 => Change::Put { key: take.key()?, value: take.value()? },
                        2 => Change::Delete { key: take.key()? },
                        found => return Err(ProtocolError::Unknown { what: "change", found }),
                    });
                }
                Self::Write { client, sequence, changes }
            }
            2 => Self::Get { key: take.key()? },
            3 => Self::Scan { from: take.key()?, limit: take.u32()? },
            4 => Self::Count,
            5 => Self::Status,
            6 => take.name().map(|(client, sequence)| Self::Outcome { client, sequence })?,
            7 => take.name().map(|(client, sequence)| Self::Settle { client, sequence })?,
            found => return Err(ProtocolError::Unknown { what: "request", found }),
        };
        take.end()?;
        Ok(request)
    }
}

impl Answer {
    /// Its bytes.
    ///
    /// # Errors
    /// When something in it is too long.
    pub(crate) fn encode(&self) -> Result<Bytes, ProtocolError> {
        let mut out = Put::new();
        match self {
            Self::Committed(place) => out.place(1, place),
            Self::Refused { text } => out.text(2, text),
            Self::InDoubt(place) => out.place(3, place),
            Self::Unknown => out.0.put_u8(4),
            Self::TooOld => out.0.put_u8(5),
            Self::NotPrimary { hint } => out.text(6, hint),
            Self::Busy => out.0.put_u8(7),
            Self::Value(value) => {
                out.0.put_u8(8);
                out.0.put_u8(u8::from(value.is_some()));
                value.as_ref().map_or(Ok(()), |value| out.value(value))?;
            }
            Self::Rows(rows) => {
                out.0.put_u8(9);
                out.count(rows.len())?;
                for (key, value) in rows {
                    out.key(key)?;
                    out.value(value)?;
                }
            }
            Self::Count(count) => {
                out.0.put_u8(10);
                out.0.put_u64_le(*count);
            }
            Self::Status(status) => out.status(status),
            Self::Failed { text } => out.text(12, text),
        }
        out.done()
    }

    /// What the bytes answer.
    ///
    /// # Errors
    /// When they are no answer.
    pub(crate) fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let mut take = Take::new(body)?;
        let answer = match take.byte()? {
            1 => Self::Committed(take.place()?),
            2 => Self::Refused { text: take.text()? },
            3 => Self::InDoubt(take.place()?),
            4 => Self::Unknown,
            5 => Self::TooOld,
            6 => Self::NotPrimary { hint: take.text()? },
            7 => Self::Busy,
            8 => Self::Value(if take.flag()? { Some(take.value()?) } else { None }),
            9 => {
                let count = take.count()?;
                let mut rows = Vec::new();
                for _ in 0..count {
                    rows.push((take.key()?, take.value()?));
                }
                Self::Rows(rows)
            }
            10 => Self::Count(take.u64()?),
            11 => Self::Status(take.status()?),
            12 => Self::Failed { text: take.text()? },
            found => return Err(ProtocolError::Unknown { what: "answer", found }),
        };
        take.end()?;
        Ok(answer)
    }
}

struct Put(BytesMut);

impl Put {
    fn new() -> Self {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        Self(out)
    }

    fn name(&mut self, kind: u8, client: u128, sequence: u64) {
        self.0.put_u8(kind);
        self.0.put_u128_le(client);
        self.0.put_u64_le(sequence);
    }

    fn place(&mut self, kind: u8, place: &Place) {
        self.0.put_u8(kind);
        for number in [place.epoch, place.lsn, place.end] {
            self.0.put_u64_le(number);
        }
    }

    fn text(&mut self, kind: u8, text: &str) {
        self.0.put_u8(kind);
        let mut len = text.len().min(1024);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.0.put_u16_le(u16::try_from(len).unwrap_or(0));
        self.0.put_slice(text.as_bytes().get(..len).unwrap_or_default());
    }

    fn count(&mut self, count: usize) -> Result<(), ProtocolError> {
        let short = fits("a number of rows", count, MAX_ROWS)?;
        self.0.put_u16_le(short);
        Ok(())
    }

    fn key(&mut self, key: &[u8]) -> Result<(), ProtocolError> {
        let len = fits("a key's length", key.len(), MAX_KEY_BYTES)?;
        self.0.put_u16_le(len);
        self.0.put_slice(key);
        Ok(())
    }

    fn value(&mut self, value: &[u8]) -> Result<(), ProtocolError> {
        let len = fits("a value's length", value.len(), MAX_VALUE_BYTES)?;
        self.0.put_u32_le(len);
        self.0.put_slice(value);
        Ok(())
    }

    fn status(&mut self, status: &Status) {
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

    fn done(self) -> Result<Bytes, ProtocolError> {
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

struct Take(Bytes);

impl Take {
    fn new(body: Bytes) -> Result<Self, ProtocolError> {
        let mut take = Self(body);
        match take.byte()? {
            VERSION => Ok(take),
            found if found > VERSION => Err(ProtocolError::Newer { found }),
            found => Err(ProtocolError::Unknown { what: "version", found }),
        }
    }

    fn byte(&mut self) -> Result<u8, ProtocolError> {
        self.0.try_get_u8().map_err(|_| ProtocolError::TooShort)
    }

    fn flag(&mut self) -> Result<bool, ProtocolError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(ProtocolError::Unknown { what: "flag", found }),
        }
    }

    fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.0.try_get_u32_le().map_err(|_| ProtocolError::TooShort)
    }

    fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.0.try_get_u64_le().map_err(|_| ProtocolError::TooShort)
    }

    fn u128(&mut self) -> Result<u128, ProtocolError> {
        self.0.try_get_u128_le().map_err(|_| ProtocolError::TooShort)
    }

    fn short(&mut self) -> Result<usize, ProtocolError> {
        self.0.try_get_u16_le().map(usize::from).map_err(|_| ProtocolError::TooShort)
    }

    fn count(&mut self) -> Result<usize, ProtocolError> {
        let found = self.short()?;
        fits::<usize>("a number of rows", found, MAX_ROWS)
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, ProtocolError> {
        if len > self.0.len() {
            return Err(ProtocolError::TooShort);
        }
        Ok(self.0.split_to(len))
    }

    fn key(&mut self) -> Result<Bytes, ProtocolError> {
        let found = self.short()?;
        let len = fits("a key's length", found, MAX_KEY_BYTES)?;
        self.bytes(len)
    }

    fn value(&mut self) -> Result<Bytes, ProtocolError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let len = fits("a value's length", found, MAX_VALUE_BYTES)?;
        self.bytes(len)
    }

    fn text(&mut self) -> Result<String, ProtocolError> {
        let len = self.short()?;
        Ok(String::from_utf8_lossy(&self.bytes(len)?).into_owned())
    }

    fn name(&mut self) -> Result<(u128, u64), ProtocolError> {
        Ok((self.u128()?, self.u64()?))
    }

    fn place(&mut self) -> Result<Place, ProtocolError> {
        Ok(Place { epoch: self.u64()?, lsn: self.u64()?, end: self.u64()? })
    }

    fn status(&mut self) -> Result<Status, ProtocolError> {
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

    fn end(&self) -> Result<(), ProtocolError> {
        if self.0.is_empty() { Ok(()) } else { Err(ProtocolError::Trailing(self.0.len())) }
    }
}
