//! What clients of rows ask a router or an instance, and the answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Layout: version `u8` (2; 1 is still read), kind `u8`, fields in their order; integers little-endian, bytes
//! behind their length (`u16` for keys and texts, `u32` for values).
//!
//! # Names and maps
//! A write has a name: the client's id and a number. The number counts over all contents, so that a name
//! means one write in the whole cluster, wherever its rows go; windows of outcomes have gaps
//! then, which they allow for, and a client keeps so few names open that none drops out of any window.
//!
//! A routed write names the version of the map of buckets that its client knew. It is carried out only by a content
//! that held its rows under that version or an earlier one, and still does. Whoever settles it names the same version,
//! to a router that knows that map or a later one, which asks everyone who ever held the rows: so whoever may
//! still get a late copy of the write has refused it when it is called refused. Version 0: the
//! content was chosen by the client itself, which asks the same content later.
//!
//! Guarantees: decoding is total, copies nothing, and allocates nothing from an unverified length.
//! Not here: what becomes of a request ([`super::service`], [`super::router`]).

mod codec;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes};
use outrigger_cluster::buckets::{BUCKETS, Bucket, bucket_of};

use codec::{NO_CONTENT, Put, Take, VERSION};

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

impl Change {
    /// The row's key.
    pub(crate) const fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// The first key that may follow this one.
pub(crate) fn behind(key: &[u8]) -> Bytes {
    [key, &b"\0"[..]].concat().into()
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
        /// The map by which it goes; 0: the client chose the content.
        map: u64,
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
        /// Of these buckets alone, all of which the content holds; `None`: whatever it holds.
        of: Option<BucketSet>,
    },
    /// How many rows there are.
    Count {
        /// As in a scan.
        of: Option<BucketSet>,
    },
    /// How an instance stands.
    Status {
        /// The primary of this content; `None`: whoever is asked.
        content: Option<i32>,
    },
    /// What became of a write.
    Outcome {
        /// The client.
        client: u128,
        /// Its number.
        sequence: u64,
        /// The map that the write named.
        map: u64,
        /// The key of its first change, by which it is found; `None`: the client chose the content.
        key: Option<Bytes>,
    },
    /// Decides a write: when it is unknown it is refused from now on.
    Settle {
        /// The client.
        client: u128,
        /// Its number.
        sequence: u64,
        /// The map that the write named.
        map: u64,
        /// The key of its first change, by which it is found; `None`: the client chose the content.
        key: Option<Bytes>,
    },
    /// By which map rows are found.
    Map,
}

/// Some of the buckets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketSet([u8; BUCKETS / 8]);

impl BucketSet {
    /// No bucket.
    pub(crate) const EMPTY: Self = Self([0; BUCKETS / 8]);

    /// Takes a bucket in.
    pub(crate) fn insert(&mut self, bucket: Bucket) {
        let number = usize::from(bucket.number());
        if let Some(byte) = self.0.get_mut(number / 8) {
            *byte |= 1 << (number % 8);
        }
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, bucket: Bucket) -> bool {
        let number = usize::from(bucket.number());
        self.0.get(number / 8).is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }

    /// Whether the row at `key` is in one of them.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.contains(bucket_of(key))
    }
}

impl std::fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BucketSet({})", Bucket::all().filter(|bucket| self.contains(*bucket)).count())
    }
}

/// Where a commit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// The content; -1 when that is not known.
    pub(crate) content: i32,
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
    /// The content does not hold the rows, or not by the map that was named; nothing was done.
    Moved {
        /// The map of whoever answers; 0 when it has none.
        map: u64,
    },
    /// By which map rows are found.
    Map {
        /// Its version.
        version: u64,
        /// How many contents hold rows.
        contents: u16,
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
            Self::Write { client, sequence, map, changes } => {
                out.name(1, *client, *sequence, *map);
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
            Self::Scan { from, limit, of } => {
                out.0.put_u8(3);
                out.key(from)?;
                out.0.put_u32_le(*limit);
                out.buckets(of.as_ref());
            }
            Self::Count { of } => {
                out.0.put_u8(4);
                out.buckets(of.as_ref());
            }
            Self::Status { content } => {
                out.0.put_u8(5);
                out.0.put_i32_le(content.unwrap_or(NO_CONTENT));
            }
            Self::Outcome { client, sequence, map, key } => {
                out.name(6, *client, *sequence, *map);
                out.row(key.as_ref())?;
            }
            Self::Settle { client, sequence, map, key } => {
                out.name(7, *client, *sequence, *map);
                out.row(key.as_ref())?;
            }
            Self::Map => out.0.put_u8(8),
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
                let (client, sequence, map) = take.name()?;
                let count = take.count()?;
                let mut changes = Vec::new();
                for _ in 0..count {
                    changes.push(match take.byte()? {
                        1 => Change::Put { key: take.key()?, value: take.value()? },
                        2 => Change::Delete { key: take.key()? },
                        found => return Err(ProtocolError::Unknown { what: "change", found }),
                    });
                }
                Self::Write { client, sequence, map, changes }
            }
            2 => Self::Get { key: take.key()? },
            3 => Self::Scan { from: take.key()?, limit: take.u32()?, of: take.buckets()? },
            4 => Self::Count { of: take.buckets()? },
            5 => Self::Status { content: take.content()? },
            6 => {
                let (client, sequence, map) = take.name()?;
                Self::Outcome { client, sequence, map, key: take.row()? }
            }
            7 => {
                let (client, sequence, map) = take.name()?;
                Self::Settle { client, sequence, map, key: take.row()? }
            }
            8 => Self::Map,
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
            Self::Moved { map } => {
                out.0.put_u8(13);
                out.0.put_u64_le(*map);
            }
            Self::Map { version, contents } => {
                out.0.put_u8(14);
                out.0.put_u64_le(*version);
                out.0.put_u16_le(*contents);
            }
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
            13 => Self::Moved { map: take.u64()? },
            14 => {
                let version = take.u64()?;
                let contents = take.short()?;
                Self::Map { version, contents: u16::try_from(contents).unwrap_or(u16::MAX) }
            }
            found => return Err(ProtocolError::Unknown { what: "answer", found }),
        };
        take.end()?;
        Ok(answer)
    }
}
