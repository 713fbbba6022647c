//! Questions about rows that move, and the answers, as bytes: bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Layout: `M`, version `u8` (1), kind `u8`, fields in little-endian; buckets as `u16`, bytes behind their length.
//! Guarantees: decoding is total, nothing is allocated from an unverified length. Not here: what they mean.

use bytes::Bytes;
use outrigger_replica::store::kv::{Hold, Token};

use super::{Ask, Changes, Reply};
use crate::buckets::{BUCKETS, Bucket};
use crate::codec::{Put, Take};
use crate::error::CodecError;

/// The first byte, by which these are told from what clients ask.
const MAGIC: u8 = b'M';
const VERSION: u8 = 1;
const MAX_ROWS: usize = 1 << 14;
const MAX_BYTES: usize = 1000 * 1024;
const MAX_TEXT_BYTES: usize = 4096;
const BUCKETS_TEXT: &str = "the number of buckets";
const ROWS: &str = "the number of rows";
const KEY: &str = "a key";
const VALUE: &str = "a value";
const TEXT: &str = "a text";
/// Of the smallest row.
const ROW_BYTES: usize = 5;

/// Whether a request is one about rows that move.
#[must_use]
pub fn is_ask(body: &[u8]) -> bool {
    body.first() == Some(&MAGIC)
}

fn begin(kind: u8) -> Put {
    let mut put = Put::versioned(MAGIC);
    put.u8(VERSION);
    put.u8(kind);
    put
}

fn begun(bytes: &[u8]) -> Result<(Take<'_>, u8), CodecError> {
    let mut take = Take::new(bytes);
    if take.u8()? != MAGIC {
        return Err(CodecError::Malformed { what: "no question about rows that move" });
    }
    match take.u8()? {
        VERSION => {
            let kind = take.u8()?;
            Ok((take, kind))
        }
        found => Err(CodecError::Kind { found }),
    }
}

fn put_buckets(put: &mut Put, buckets: &[Bucket]) {
    put.list(BUCKETS_TEXT, BUCKETS, buckets, |put, bucket| put.u16(bucket.number()));
}

fn take_buckets(take: &mut Take<'_>) -> Result<Vec<Bucket>, CodecError> {
    take.list(BUCKETS_TEXT, BUCKETS, 2, |take| {
        Bucket::new(take.u16()?).ok_or(CodecError::Malformed { what: "there is no such bucket" })
    })
}

fn put_token(put: &mut Put, token: Token) {
    put.u64(token.epoch);
    put.u64(token.number);
}

fn take_token(take: &mut Take<'_>) -> Result<Token, CodecError> {
    Ok(Token { epoch: take.u64()?, number: take.u64()? })
}

fn put_key(put: &mut Put, key: &[u8]) {
    put.body(KEY, MAX_BYTES, key);
}

fn take_key(take: &mut Take<'_>) -> Result<Bytes, CodecError> {
    take.body(KEY, MAX_BYTES).map(Bytes::copy_from_slice)
}

fn put_next(put: &mut Put, next: Option<&Bytes>) {
    put.flag(next.is_some());
    if let Some(next) = next {
        put_key(put, next);
    }
}

fn put_changes(put: &mut Put, rows: &Changes) {
    put.list(ROWS, MAX_ROWS, rows, |put, (key, value)| {
        put_key(put, key);
        put.flag(value.is_some());
        if let Some(value) = value {
            put.body(VALUE, MAX_BYTES, value);
        }
    });
}

fn take_changes(take: &mut Take<'_>) -> Result<Changes, CodecError> {
    take.list(ROWS, MAX_ROWS, ROW_BYTES, |take| {
        let key = take_key(take)?;
        let value = take.option(|take| take.body(VALUE, MAX_BYTES).map(Bytes::copy_from_slice))?;
        Ok((key, value))
    })
}

impl Ask {
    /// Its bytes.
    ///
    /// # Errors
    /// When something in it is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let put = match self {
            Self::Tell { buckets, hold } => {
                let mut put = begin(1);
                put_buckets(&mut put, buckets);
                match hold {
                    Hold::GiveUp { at, token } => {
                        put.u8(1);
                        put.u64(*at);
                        put_token(&mut put, *token);
                    }
                    Hold::Receive { token } => {
                        put.u8(2);
                        put_token(&mut put, *token);
                    }
                    Hold::TakeUp { since } => {
                        put.u8(3);
                        put.u64(*since);
                    }
                }
                put
            }
            Self::Sweep { buckets, token, from } => {
                let mut put = begin(2);
                put_buckets(&mut put, buckets);
                put_token(&mut put, *token);
                put_key(&mut put, from);
                put
            }
            Self::Track { buckets, token } => {
                let mut put = begin(3);
                put_buckets(&mut put, buckets);
                put_token(&mut put, *token);
                put
            }
            Self::Look { buckets, from } => {
                let mut put = begin(4);
                put_buckets(&mut put, buckets);
                put_key(&mut put, from);
                put
            }
            Self::Changed { token } => {
                let mut put = begin(5);
                put_token(&mut put, *token);
                put
            }
            Self::Fill { token, rows } => {
                let mut put = begin(6);
                put_token(&mut put, *token);
                put_changes(&mut put, rows);
                put
            }
        };
        put.done()
    }

    /// What the bytes ask.
    ///
    /// # Errors
    /// When they are no question, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (mut take, kind) = begun(bytes)?;
        let ask = match kind {
            1 => {
                let buckets = take_buckets(&mut take)?;
                let hold = match take.u8()? {
                    1 => Hold::GiveUp { at: take.u64()?, token: take_token(&mut take)? },
                    2 => Hold::Receive { token: take_token(&mut take)? },
                    3 => Hold::TakeUp { since: take.u64()? },
                    found => return Err(CodecError::Kind { found }),
                };
                Self::Tell { buckets, hold }
            }
            2 => Self::Sweep {
                buckets: take_buckets(&mut take)?,
                token: take_token(&mut take)?,
                from: take_key(&mut take)?,
            },
            3 => Self::Track { buckets: take_buckets(&mut take)?, token: take_token(&mut take)? },
            4 => Self::Look { buckets: take_buckets(&mut take)?, from: take_key(&mut take)? },
            5 => Self::Changed { token: take_token(&mut take)? },
            6 => Self::Fill { token: take_token(&mut take)?, rows: take_changes(&mut take)? },
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(ask)
    }
}

impl Reply {
    /// Its bytes.
    ///
    /// # Errors
    /// When something in it is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let put = match self {
            Self::Done => begin(1),
            Self::Swept { next } => {
                let mut put = begin(2);
                put_next(&mut put, next.as_ref());
                put
            }
            Self::Page { rows, next } => {
                let mut put = begin(3);
                put.list(ROWS, MAX_ROWS, rows, |put, (key, value)| {
                    put_key(put, key);
                    put.body(VALUE, MAX_BYTES, value);
                });
                put_next(&mut put, next.as_ref());
                put
            }
            Self::Changed { rows, left } => {
                let mut put = begin(4);
                put_changes(&mut put, rows);
                put.u32(*left);
                put
            }
            Self::Failed { text } => {
                let mut put = begin(5);
                let mut end = text.len().min(MAX_TEXT_BYTES);
                while !text.is_char_boundary(end) {
                    end = end.saturating_sub(1);
                }
                put.text(TEXT, MAX_TEXT_BYTES, text.get(..end).unwrap_or_default());
                put
            }
        };
        put.done()
    }

    /// What the bytes answer.
    ///
    /// # Errors
    /// When they are no answer, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (mut take, kind) = begun(bytes)?;
        let reply = match kind {
            1 => Self::Done,
            2 => Self::Swept { next: take.option(take_key)? },
            3 => Self::Page {
                rows: take.list(ROWS, MAX_ROWS, 2 * 4, |take| {
                    let key = take_key(take)?;
                    Ok((key, take.body(VALUE, MAX_BYTES).map(Bytes::copy_from_slice)?))
                })?,
                next: take.option(take_key)?,
            },
            4 => Self::Changed { rows: take_changes(&mut take)?, left: take.u32()? },
            5 => Self::Failed { text: take.text(TEXT, MAX_TEXT_BYTES)? },
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(reply)
    }
}
