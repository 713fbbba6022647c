//! The key-value record: what one write says, in bytes.
//!
//! Little-endian: version `u8` (1), operation `u8` (1 put, 2 delete, 3 settle), client id `u128`,
//! sequence `u64`, key length `u16`, key, value (the rest; empty for all but puts).
//!
//! Rows that move between contents are of version 2, without a name: operation `u8` (4 give up, 5 receive, 6 take up: bucket
//! `u16`, then a map's version `u64` (4, 6) and a token (4, 5); 7 and 8, a row is moved in or swept: token, key length
//! `u16`, key, value). A token is two `u64`.
//!
//! Guarantees: decoding is total, never panics, copies nothing; each write has exactly one encoding.
//! Not here: what a write does ([`super::decide()`]).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::holdings::{BUCKETS, Hold, Token};

/// The longest key of a row, in bytes.
pub const MAX_KEY_BYTES: usize = 32 * 1024;

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const SETTLE: u8 = 3;
const MOVE_VERSION: u8 = 2;
const GIVE_UP: u8 = 4;
const RECEIVE: u8 = 5;
const TAKE_UP: u8 = 6;
const FILL: u8 = 7;
const SWEEP: u8 = 8;
const HEAD_BYTES: usize = 1 + 1 + 16 + 8 + 2;

/// The random identity that a client gives itself; 0 is a client that names no writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClientId(pub u128);

impl ClientId {
    /// No client: the write has no name, takes effect each time it is in the log, and has no outcome.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a write does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Gives the row at `key` this value.
    Put {
        /// The row's key, at most [`MAX_KEY_BYTES`].
        key: Bytes,
        /// The row's value.
        value: Bytes,
    },
    /// Takes away the row at `key`, if it is there.
    Delete {
        /// The row's key, at most [`MAX_KEY_BYTES`].
        key: Bytes,
    },
    /// Decides the write of this name: when its outcome is unknown, it is refused from now on.
    Settle,
    /// The content is told something about a bucket; without a name.
    Hold {
        /// Which, less than [`BUCKETS`].
        bucket: u16,
        /// What.
        hold: Hold,
    },
    /// A row is what it is elsewhere, if its bucket is not held here and this token is the last; without a name.
    Fill {
        /// Under which token.
        token: Token,
        /// The row's key, at most [`MAX_KEY_BYTES`].
        key: Bytes,
        /// The row's value; `None`: there is no such row.
        value: Option<Bytes>,
    },
}

/// One record of the key-value store: an operation and its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Who wrote it; [`ClientId::NONE`] for a write without a name.
    pub client: ClientId,
    /// The client's number for it; several writes of one atomic batch may share one.
    pub sequence: u64,
    /// What it does.
    pub op: Op,
}

/// Why bytes are no key-value record, or why a write cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It ends too early.
    #[error("the record is shorter than its fields")]
    TooShort,
    /// It was written by a newer release.
    #[error(
        "record version {found} is newer than this release reads ({MOVE_VERSION}): upgrade this copy"
    )]
    Newer {
        /// The version in the record.
        found: u8,
    },
    /// The version or the operation has no meaning.
    #[error("version {version}, operation {op} mean nothing: not a key-value record")]
    Unknown {
        /// The version in the record.
        version: u8,
        /// The operation in the record.
        op: u8,
    },
    /// The key is too long.
    #[error("a key of {bytes} bytes is longer than {MAX_KEY_BYTES}")]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
    },
    /// Bytes behind the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A bucket that there is not, or a name where there is none.
    #[error("bucket {bucket} means nothing, or has a name")]
    Bucket {
        /// Which.
        bucket: u16,
    },
    /// A settlement of a write without a name.
    #[error("a write without a client id cannot be settled")]
    NamelessSettle,
}

impl Write {
    /// The record's bytes.
    ///
    /// # Errors
    /// When the key is too long, or a settlement names no client.
    pub fn encode(&self) -> Result<Bytes, WriteError> {
        let (op, key, value): (u8, &[u8], &[u8]) = match &self.op {
            Op::Put { key, value } => (PUT, key, value),
            Op::Delete { key } => (DELETE, key, &[]),
            Op::Settle if self.client == ClientId::NONE => return Err(WriteError::NamelessSettle),
            Op::Settle => (SETTLE, &[], &[]),
            Op::Hold { .. } | Op::Fill { .. } => return self.encode_move(),
        };
        let key_len = u16::try_from(key.len())
            .ok()
            .filter(|_| key.len() <= MAX_KEY_BYTES)
            .ok_or(WriteError::KeyTooLong { bytes: key.len() })?;
        let mut out = BytesMut::with_capacity(HEAD_BYTES + key.len() + value.len());
        out.put_u8(VERSION);
        out.put_u8(op);
        out.put_u128_le(self.client.0);
        out.put_u64_le(self.sequence);
        out.put_u16_le(key_len);
        out.put_slice(key);
        out.put_slice(value);
        Ok(out.freeze())
    }

    /// The write that the bytes say; keys and values are slices of them.
    ///
    /// # Errors
    /// When they are no key-value record, or one of a newer release.
    pub fn decode(body: &Bytes) -> Result<Self, WriteError> {
        let mut rest = body.clone();
        let version = rest.try_get_u8().map_err(|_| WriteError::TooShort)?;
        if version > MOVE_VERSION {
            return Err(WriteError::Newer { found: version });
        }
        if version == MOVE_VERSION {
            return Self::decode_move(rest);
        }
        if body.len() < HEAD_BYTES {
            return Err(WriteError::TooShort);
        }
        let op = rest.get_u8();
        let client = ClientId(rest.get_u128_le());
        let sequence = rest.get_u64_le();
        let key_len = usize::from(rest.get_u16_le());
        if key_len > MAX_KEY_BYTES {
            return Err(WriteError::KeyTooLong { bytes: key_len });
        }
        if key_len > rest.len() {
            return Err(WriteError::TooShort);
        }
        let key = rest.split_to(key_len);
        let op = match (version, op) {
            (VERSION, PUT) => Op::Put { key, value: std::mem::take(&mut rest) },
            (VERSION, DELETE) => Op::Delete { key },
            (VERSION, SETTLE) if client == ClientId::NONE => {
                return Err(WriteError::NamelessSettle);
            }
            (VERSION, SETTLE) if key.is_empty() => Op::Settle,
            (VERSION, SETTLE) => return Err(WriteError::Trailing { bytes: key_len }),
            (version, op) => return Err(WriteError::Unknown { version, op }),
        };
        if !rest.is_empty() {
            return Err(WriteError::Trailing { bytes: rest.len() });
        }
        Ok(Self { client, sequence, op })
    }

    /// A write that moves rows, which nobody named.
    #[must_use]
    pub const fn of_move(op: Op) -> Self {
        Self { client: ClientId::NONE, sequence: 0, op }
    }

    fn encode_move(&self) -> Result<Bytes, WriteError> {
        let mut out = BytesMut::new();
        out.put_u8(MOVE_VERSION);
        match &self.op {
            Op::Hold { bucket, hold } => {
                if *bucket >= BUCKETS {
                    return Err(WriteError::Bucket { bucket: *bucket });
                }
                let (kind, version, token) = match hold {
                    Hold::GiveUp { at, token } => (GIVE_UP, Some(at), Some(token)),
                    Hold::Receive { token } => (RECEIVE, None, Some(token)),
                    Hold::TakeUp { since } => (TAKE_UP, Some(since), None),
                };
                out.put_u8(kind);
                out.put_u16_le(*bucket);
                version.into_iter().for_each(|version| out.put_u64_le(*version));
                token.into_iter().for_each(|token| put_token(&mut out, *token));
            }
            Op::Fill { token, key, value } => {
                out.put_u8(if value.is_some() { FILL } else { SWEEP });
                put_token(&mut out, *token);
                let key_len = u16::try_from(key.len())
                    .ok()
                    .filter(|_| key.len() <= MAX_KEY_BYTES)
                    .ok_or(WriteError::KeyTooLong { bytes: key.len() })?;
                out.put_u16_le(key_len);
                out.put_slice(key);
                out.put_slice(value.as_deref().unwrap_or_default());
            }
            Op::Put { .. } | Op::Delete { .. } | Op::Settle => {}
        }
        // It has no name on disk: one that has a name would come back without it.
        let bucket = match self.op {
            Op::Hold { bucket, .. } => bucket,
            _ => 0,
        };
        if (self.client, self.sequence) != (ClientId::NONE, 0) {
            return Err(WriteError::Bucket { bucket });
        }
        Ok(out.freeze())
    }

    fn decode_move(mut rest: Bytes) -> Result<Self, WriteError> {
        let kind = rest.try_get_u8().map_err(|_| WriteError::TooShort)?;
        let op = match kind {
            GIVE_UP | RECEIVE | TAKE_UP => {
                let bucket = rest.try_get_u16_le().map_err(|_| WriteError::TooShort)?;
                if bucket >= BUCKETS {
                    return Err(WriteError::Bucket { bucket });
                }
                let mut version = || rest.try_get_u64_le().map_err(|_| WriteError::TooShort);
                let hold = match kind {
                    TAKE_UP => Hold::TakeUp { since: version()? },
                    GIVE_UP => {
                        let at = version()?;
                        Hold::GiveUp { at, token: take_token(&mut rest)? }
                    }
                    _ => Hold::Receive { token: take_token(&mut rest)? },
                };
                Op::Hold { bucket, hold }
            }
            FILL | SWEEP => {
                let token = take_token(&mut rest)?;
                let len = usize::from(rest.try_get_u16_le().map_err(|_| WriteError::TooShort)?);
                if len > MAX_KEY_BYTES {
                    return Err(WriteError::KeyTooLong { bytes: len });
                }
                if len > rest.len() {
                    return Err(WriteError::TooShort);
                }
                let key = rest.split_to(len);
                let value = (kind == FILL).then(|| std::mem::take(&mut rest));
                Op::Fill { token, key, value }
            }
            op => return Err(WriteError::Unknown { version: MOVE_VERSION, op }),
        };
        if !rest.is_empty() {
            return Err(WriteError::Trailing { bytes: rest.len() });
        }
        Ok(Self::of_move(op))
    }
}

fn put_token(out: &mut BytesMut, token: Token) {
    out.put_u64_le(token.epoch);
    out.put_u64_le(token.number);
}

fn take_token(rest: &mut Bytes) -> Result<Token, WriteError> {
    let epoch = rest.try_get_u64_le().map_err(|_| WriteError::TooShort)?;
    let number = rest.try_get_u64_le().map_err(|_| WriteError::TooShort)?;
    Ok(Token { epoch, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token { epoch: 4, number: 2 };

    fn samples() -> Vec<Write> {
        let key = Bytes::from_static(b"key");
        vec![
            Write {
                client: ClientId(7),
                sequence: 1,
                op: Op::Put { key: key.clone(), value: Bytes::from_static(b"value") },
            },
            Write {
                client: ClientId::NONE,
                sequence: 0,
                op: Op::Put { key: Bytes::new(), value: Bytes::new() },
            },
            Write {
                client: ClientId(u128::MAX),
                sequence: u64::MAX,
                op: Op::Delete { key: Bytes::from(vec![0xFF; MAX_KEY_BYTES]) },
            },
            Write { client: ClientId(9), sequence: 3, op: Op::Settle },
            Write::of_move(Op::Hold { bucket: 3, hold: Hold::TakeUp { since: 9 } }),
            Write::of_move(Op::Hold { bucket: 1023, hold: Hold::Receive { token: TOKEN } }),
            Write::of_move(Op::Hold { bucket: 0, hold: Hold::GiveUp { at: 8, token: TOKEN } }),
            Write::of_move(Op::Fill {
                token: TOKEN,
                key: Bytes::from_static(b"key"),
                value: Some(Bytes::from_static(b"value")),
            }),
            Write::of_move(Op::Fill { token: TOKEN, key: Bytes::new(), value: None }),
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for write in samples() {
            assert_eq!(Write::decode(&write.encode().unwrap()), Ok(write));
        }
    }

    #[test]
    fn no_prefix_of_a_record_decodes_past_its_fields() {
        for write in samples() {
            let body = write.encode().unwrap();
            for len in 0..body.len().min(64) {
                let cut = body.slice(..len);
                if let Ok(found) = Write::decode(&cut) {
                    assert_eq!(found.encode().unwrap(), cut, "one encoding for each write");
                }
            }
        }
    }

    #[test]
    fn every_single_byte_change_is_refused_or_is_another_write() {
        for write in samples() {
            let body = write.encode().unwrap();
            for at in 0..body.len().min(64) {
                for bit in 0..8 {
                    let mut changed = body.to_vec();
                    changed[at] ^= 1 << bit;
                    let changed = Bytes::from(changed);
                    if let Ok(found) = Write::decode(&changed) {
                        assert_ne!(found, write);
                        assert_eq!(found.encode().unwrap(), changed);
                    }
                }
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_garbage() {
        assert_eq!(Write::decode(&Bytes::from_static(&[3])), Err(WriteError::Newer { found: 3 }));
        assert_eq!(Write::decode(&Bytes::from_static(&[0])), Err(WriteError::TooShort));
        assert_eq!(
            Write::decode(&Bytes::from(vec![0; 40])),
            Err(WriteError::Unknown { version: 0, op: 0 })
        );
    }

    #[test]
    fn keys_over_the_limit_and_nameless_settlements_are_refused() {
        let key = Bytes::from(vec![0; MAX_KEY_BYTES + 1]);
        let write = Write { client: ClientId(1), sequence: 1, op: Op::Delete { key } };
        assert!(matches!(write.encode(), Err(WriteError::KeyTooLong { .. })));
        let write = Write { client: ClientId::NONE, sequence: 1, op: Op::Settle };
        assert_eq!(write.encode(), Err(WriteError::NamelessSettle));
    }
}
