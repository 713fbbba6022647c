//! What a copy that is rebuilt asks its source, and the answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Guarantees: decoding is total, copies nothing, and allocates nothing from an unverified length. Layout:
//! [`MAGIC`], version `u8` (1), kind `u8`, fields in their order; integers little-endian, bytes behind their
//! length (`u32`). Requests of rows and of operators begin with their version, 1, so that the first byte tells whose
//! a request is. Not here: what becomes of a question (source), and of an answer (target).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_net::config::Version;
use outrigger_wal::format::EpochEntry;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

use crate::store::KeyRange;

/// The first byte of every body: `R`.
pub const MAGIC: u8 = b'R';
/// The version that is written.
pub const VERSION: u8 = 1;
/// The most ranges of one answer.
pub(super) const MAX_RANGES: usize = 64;
const MAX_TEXT_BYTES: usize = 1024;
/// What fixed fields and a key may take of a message, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ask {
    /// A snapshot, and the log from there on.
    Open(Opening),
    /// The next ranges and their hashes: window 1 first; the one before is let go.
    List {
        /// The session.
        session: u64,
        /// Which window; the latest may be asked for again.
        window: u32,
    },
    /// The pairs of a range of the latest window, from a byte of their encoding on.
    Chunk {
        /// The session.
        session: u64,
        /// The window.
        window: u32,
        /// Which of its ranges.
        index: u16,
        /// From which byte on.
        offset: u64,
    },
    /// Blocks of the log.
    Log {
        /// The session.
        session: u64,
        /// A block boundary.
        from: Lsn,
        /// How many of that block's stored bytes are there already.
        skip: u32,
    },
    /// The snapshot is needed no more; the log is, until the copy streams it.
    Keep {
        /// The session.
        session: u64,
    },
}

/// Who wants a copy, and of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// The instance that is rebuilt.
    pub target: InstanceId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its content.
    pub content: ContentId,
    /// Its log.
    pub log: LogId,
    /// How long a range's pairs should be, in bytes, about.
    pub chunk_bytes: u32,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Say {
    /// The snapshot is there.
    Opened(Box<Opened>),
    /// Ranges that follow each other without a gap.
    Ranges {
        /// The window.
        window: u32,
        /// The ranges.
        ranges: Vec<Listed>,
        /// Behind the last range: the hash of the whole state.
        whole: Option<u128>,
    },
    /// A part of a chunk.
    Piece {
        /// The window.
        window: u32,
        /// The range.
        index: u16,
        /// Where it begins.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Parts of blocks, in the order of the log.
    Blocks {
        /// The parts.
        parts: Vec<BlockPart>,
    },
    /// The log is kept.
    Kept,
    /// The session is over, or what it asks for is gone: open another one.
    Gone {
        /// Why, in words.
        text: String,
    },
    /// It is refused.
    Denied {
        /// Whether it may be asked again later.
        passing: bool,
        /// Why, in words.
        text: String,
    },
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// Names it from now on.
    pub session: u64,
    /// The LSN whose state it is.
    pub at: Lsn,
    /// The start of the segment that holds the last byte before it.
    pub from: Lsn,
    /// Where the log ends that belongs to it: a block boundary, committed, at or behind `at`.
    pub to: Lsn,
    /// The size of the log's segments, in bytes.
    pub segment_bytes: u64,
    /// The reign in which the source serves.
    pub epoch: Epoch,
    /// The version of the configuration by which the target is not in sync.
    pub version: Version,
    /// The reign of the coordinator that recorded it.
    pub coordinator_epoch: u64,
    /// The reigns of the log.
    pub epochs: Vec<EpochEntry>,
    /// How large the state is, in bytes, about; 0 when that is not known.
    pub about_bytes: u64,
}

/// A range of keys, and what its pairs are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The range.
    pub range: KeyRange,
    /// How long its pairs are encoded, in bytes.
    pub bytes: u64,
    /// XXH3-128 over them, as [`crate::store::StateStore::hash`] counts.
    pub hash: u128,
}

/// Stored bytes of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockPart {
    /// Where the block starts.
    pub from: Lsn,
    /// How many of its stored bytes come before these.
    pub skip: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// Why bytes are no question and no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It ends too early, or a length runs past its end, or bytes follow it.
    #[error("a message of a rebuild is malformed")]
    Malformed,
    /// It was made by a newer release.
    #[error(
        "version {found} of the rebuild's messages is newer than this release speaks ({VERSION})"
    )]
    Newer {
        /// The version found.
        found: u8,
    },
    /// It does not fit a message.
    #[error("a message of a rebuild has {found} bytes, more than a frame holds")]
    TooLong {
        /// How long it is.
        found: usize,
    },
}

/// Whether a request is one of a rebuild.
#[must_use]
pub fn is_ask(body: &[u8]) -> bool {
    body.first() == Some(&MAGIC)
}

impl Ask {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = begin(match self {
            Self::Open(_) => 1,
            Self::List { .. } => 2,
            Self::Chunk { .. } => 3,
            Self::Log { .. } => 4,
            Self::Keep { .. } => 5,
        });
        match self {
            Self::Open(opening) => {
                out.put_u128_le(opening.target.0);
                out.put_u128_le(opening.cluster.0);
                out.put_i32_le(opening.content.0);
                out.put_u128_le(opening.log.0);
                out.put_u32_le(opening.chunk_bytes);
            }
            Self::List { session, window } => {
                out.put_u64_le(*session);
                out.put_u32_le(*window);
            }
            Self::Chunk { session, window, index, offset } => {
                out.put_u64_le(*session);
                out.put_u32_le(*window);
                out.put_u16_le(*index);
                out.put_u64_le(*offset);
            }
            Self::Log { session, from, skip } => {
                out.put_u64_le(*session);
                out.put_u64_le(from.0);
                out.put_u32_le(*skip);
            }
            Self::Keep { session } => out.put_u64_le(*session),
        }
        out.freeze()
    }

    /// What the bytes ask.
    ///
    /// # Errors
    /// When they are no question.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let (kind, mut body) = take_head(body)?;
        let ask = Self::take(kind, &mut body).ok_or(ProtocolError::Malformed)?;
        if body.has_remaining() { Err(ProtocolError::Malformed) } else { Ok(ask) }
    }

    fn take(kind: u8, body: &mut Bytes) -> Option<Self> {
        if kind == 1 {
            return Some(Self::Open(Opening {
                target: InstanceId(body.try_get_u128_le().ok()?),
                cluster: ClusterId(body.try_get_u128_le().ok()?),
                content: ContentId(body.try_get_i32_le().ok()?),
                log: LogId(body.try_get_u128_le().ok()?),
                chunk_bytes: body.try_get_u32_le().ok()?,
            }));
        }
        let session = body.try_get_u64_le().ok()?;
        Some(match kind {
            2 => Self::List { session, window: body.try_get_u32_le().ok()? },
            3 => Self::Chunk {
                session,
                window: body.try_get_u32_le().ok()?,
                index: body.try_get_u16_le().ok()?,
                offset: body.try_get_u64_le().ok()?,
            },
            4 => Self::Log {
                session,
                from: Lsn(body.try_get_u64_le().ok()?),
                skip: body.try_get_u32_le().ok()?,
            },
            5 => Self::Keep { session },
            _ => return None,
        })
    }
}

impl Say {
    /// Its bytes.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`]: it cannot be sent.
    pub fn encode(&self) -> Result<Bytes, ProtocolError> {
        let mut out = begin(match self {
            Self::Opened(_) => 1,
            Self::Ranges { .. } => 2,
            Self::Piece { .. } => 3,
            Self::Blocks { .. } => 4,
            Self::Kept => 5,
            Self::Gone { .. } => 6,
            Self::Denied { .. } => 7,
        });
        match self {
            Self::Opened(opened) => put_opened(&mut out, opened),
            Self::Ranges { window, ranges, whole } => {
                out.put_u32_le(*window);
                out.put_u8(u8::from(whole.is_some()));
                out.put_u128_le(whole.unwrap_or_default());
                put_len(&mut out, ranges.len());
                for listed in ranges {
                    put_range(&mut out, &listed.range);
                    out.put_u64_le(listed.bytes);
                    out.put_u128_le(listed.hash);
                }
            }
            Self::Piece { window, index, offset, bytes } => {
                out.put_u32_le(*window);
                out.put_u16_le(*index);
                out.put_u64_le(*offset);
                put_bytes(&mut out, bytes);
            }
            Self::Blocks { parts } => {
                put_len(&mut out, parts.len());
                for part in parts {
                    out.put_u64_le(part.from.0);
                    out.put_u32_le(part.skip);
                    put_bytes(&mut out, &part.bytes);
                }
            }
            Self::Kept => {}
            Self::Gone { text } => put_text(&mut out, text),
            Self::Denied { passing, text } => {
                out.put_u8(u8::from(*passing));
                put_text(&mut out, text);
            }
        }
        let found = out.len();
        // The frame around it takes some more.
        if found.saturating_add(4096) > MAX_BODY_BYTES {
            return Err(ProtocolError::TooLong { found });
        }
        Ok(out.freeze())
    }

    /// What the bytes answer.
    ///
    /// # Errors
    /// When they are no answer.
    pub fn decode(body: Bytes) -> Result<Self, ProtocolError> {
        let (kind, mut body) = take_head(body)?;
        let say = Self::take(kind, &mut body).ok_or(ProtocolError::Malformed)?;
        if body.has_remaining() { Err(ProtocolError::Malformed) } else { Ok(say) }
    }

    fn take(kind: u8, body: &mut Bytes) -> Option<Self> {
        Some(match kind {
            1 => Self::Opened(Box::new(take_opened(body)?)),
            2 => {
                let window = body.try_get_u32_le().ok()?;
                let ended = take_flag(body)?;
                let hash = body.try_get_u128_le().ok()?;
                let mut ranges = Vec::new();
                for _ in 0..body.try_get_u32_le().ok()? {
                    ranges.push(Listed {
                        range: take_range(body)?,
                        bytes: body.try_get_u64_le().ok()?,
                        hash: body.try_get_u128_le().ok()?,
                    });
                }
                Self::Ranges { window, ranges, whole: ended.then_some(hash) }
            }
            3 => Self::Piece {
                window: body.try_get_u32_le().ok()?,
                index: body.try_get_u16_le().ok()?,
                offset: body.try_get_u64_le().ok()?,
                bytes: take_bytes(body)?,
            },
            4 => {
                let mut parts = Vec::new();
                for _ in 0..body.try_get_u32_le().ok()? {
                    parts.push(BlockPart {
                        from: Lsn(body.try_get_u64_le().ok()?),
                        skip: body.try_get_u32_le().ok()?,
                        bytes: take_bytes(body)?,
                    });
                }
                Self::Blocks { parts }
            }
            5 => Self::Kept,
            6 => Self::Gone { text: take_text(body)? },
            7 => Self::Denied { passing: take_flag(body)?, text: take_text(body)? },
            _ => return None,
        })
    }
}

fn begin(kind: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(128);
    out.put_slice(&[MAGIC, VERSION, kind]);
    out
}

fn take_head(mut body: Bytes) -> Result<(u8, Bytes), ProtocolError> {
    let mut byte = || body.try_get_u8().map_err(|_| ProtocolError::Malformed);
    if byte()? != MAGIC {
        return Err(ProtocolError::Malformed);
    }
    match byte()? {
        VERSION => Ok((byte()?, body)),
        found if found > VERSION => Err(ProtocolError::Newer { found }),
        _ => Err(ProtocolError::Malformed),
    }
}

fn put_opened(out: &mut BytesMut, opened: &Opened) {
    for number in [opened.session, opened.at.0, opened.from.0, opened.to.0, opened.segment_bytes] {
        out.put_u64_le(number);
    }
    out.put_u64_le(opened.epoch.number);
    out.put_u128_le(opened.epoch.nonce);
    for number in [opened.version.0, opened.coordinator_epoch, opened.about_bytes] {
        out.put_u64_le(number);
    }
    put_len(out, opened.epochs.len());
    opened.epochs.iter().for_each(|entry| entry.put(out));
}

fn take_opened(body: &mut Bytes) -> Option<Opened> {
    let session = body.try_get_u64_le().ok()?;
    let mut lsn = || body.try_get_u64_le().ok().map(Lsn);
    let (at, from, to) = (lsn()?, lsn()?, lsn()?);
    let segment_bytes = body.try_get_u64_le().ok()?;
    let number = body.try_get_u64_le().ok()?;
    let epoch = Epoch { number, nonce: body.try_get_u128_le().ok()? };
    let version = Version(body.try_get_u64_le().ok()?);
    let coordinator_epoch = body.try_get_u64_le().ok()?;
    let about_bytes = body.try_get_u64_le().ok()?;
    let mut epochs = Vec::new();
    for _ in 0..body.try_get_u32_le().ok()? {
        epochs.push(EpochEntry::take(body)?);
    }
    Some(Opened {
        session,
        at,
        from,
        to,
        segment_bytes,
        epoch,
        version,
        coordinator_epoch,
        epochs,
        about_bytes,
    })
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

pub(super) fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
    (from.remaining() >= len).then(|| from.split_to(len))
}

pub(super) fn put_range(out: &mut BytesMut, range: &KeyRange) {
    put_bytes(out, &range.from);
    out.put_u8(u8::from(range.to.is_some()));
    put_bytes(out, range.to.as_deref().unwrap_or_default());
}

pub(super) fn take_range(from: &mut Bytes) -> Option<KeyRange> {
    let first = take_bytes(from)?;
    let ends = take_flag(from)?;
    let to = take_bytes(from)?;
    Some(KeyRange { from: first, to: ends.then_some(to) })
}

fn take_flag(from: &mut Bytes) -> Option<bool> {
    match from.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    let mut len = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(len) {
        len = len.saturating_sub(1);
    }
    put_bytes(out, text.as_bytes().get(..len).unwrap_or_default());
}

fn take_text(from: &mut Bytes) -> Option<String> {
    Some(String::from_utf8_lossy(&take_bytes(from)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks() -> Vec<Ask> {
        let opening = Opening {
            target: InstanceId(1),
            cluster: ClusterId(2),
            content: ContentId(-1),
            log: LogId(4),
            chunk_bytes: 5,
        };
        vec![
            Ask::Open(opening),
            Ask::List { session: 1, window: 2 },
            Ask::Chunk { session: 1, window: 2, index: 3, offset: 4 },
            Ask::Log { session: 1, from: Lsn(4096), skip: 7 },
            Ask::Keep { session: 9 },
        ]
    }

    fn says() -> Vec<Say> {
        let epoch = Epoch { number: 3, nonce: 4 };
        let opened = Opened {
            session: 1,
            at: Lsn(2),
            from: Lsn(0),
            to: Lsn(4096),
            segment_bytes: 1 << 20,
            epoch,
            version: Version(5),
            coordinator_epoch: 6,
            epochs: vec![EpochEntry { epoch, start: Lsn(0), instance: InstanceId(7) }],
            about_bytes: 8,
        };
        let range = KeyRange { from: "a".into(), to: Some("b".into()) };
        let listed = Listed { range, bytes: 1, hash: 2 };
        let last = Listed { range: KeyRange::all(), bytes: 0, hash: 0 };
        vec![
            Say::Opened(Box::new(opened)),
            Say::Ranges { window: 1, ranges: vec![listed, last], whole: Some(3) },
            Say::Ranges { window: 1, ranges: vec![], whole: None },
            Say::Piece { window: 1, index: 2, offset: 3, bytes: "x".into() },
            Say::Blocks { parts: vec![BlockPart { from: Lsn(4096), skip: 1, bytes: "yz".into() }] },
            Say::Kept,
            Say::Gone { text: "gone".to_owned() },
            Say::Denied { passing: true, text: "in sync".to_owned() },
        ]
    }

    #[test]
    fn questions_and_answers_come_back_and_whatever_is_cut_short_is_refused() {
        for ask in asks() {
            let bytes = ask.encode();
            assert!(is_ask(&bytes));
            assert_eq!(Ask::decode(bytes.clone()), Ok(ask));
            for len in 0..bytes.len() {
                assert!(Ask::decode(bytes.slice(..len)).is_err());
            }
        }
        for say in says() {
            let bytes = say.encode().unwrap();
            assert_eq!(Say::decode(bytes.clone()), Ok(say));
            for len in 0..bytes.len() {
                assert!(Say::decode(bytes.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn hostile_lengths_and_flipped_bytes_never_panic() {
        let bodies: Vec<Bytes> = asks()
            .iter()
            .map(Ask::encode)
            .chain(says().iter().map(|say| say.encode().unwrap()))
            .collect();
        for body in bodies {
            for at in 0..body.len() {
                for flip in [0x01, 0x80, 0xFF] {
                    let mut bytes = body.to_vec();
                    bytes[at] ^= flip;
                    // Whatever comes of it: nothing panics, nothing is allocated for a length alone.
                    drop(Ask::decode(bytes.clone().into()));
                    drop(Say::decode(bytes.into()));
                }
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_and_rows_are_no_business_of_this() {
        let newer = Bytes::from_static(&[MAGIC, 2, 1]);
        assert_eq!(Ask::decode(newer), Err(ProtocolError::Newer { found: 2 }));
        assert!(!is_ask(&[1, 1]) && !is_ask(&[]));
    }
}
