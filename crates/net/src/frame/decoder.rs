//! From a stream of bytes to frames.
//!
//! Guarantees: a frame cut anywhere is resumed; a byte that cannot begin a frame is refused at once;
//! room is made only for lengths that are checksummed and capped; a body is a slice of the read
//! buffer. Not here: reading from a socket ([`crate::transport`]).

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::fields::wide;
use super::head::{HEAD_BYTES, Head, MAGIC};
use super::{Frame, body_bytes, meta};
use crate::error::Error;
use crate::message::{Envelope, Message};

/// The largest meta part once the handshake is complete.
pub const MAX_META_BYTES: u32 = 1024 * 1024;
/// What a body may hold on top of one block of the largest size.
pub const MAX_BODY_BYTES: u32 = 8 * 1024 * 1024;
/// The largest frame (head and meta) before that. With what is decoded from it, a peer that has not
/// said who it is stays below 64 KiB.
pub const MAX_GREETING_BYTES: u32 = 32 * 1024;

#[expect(clippy::cast_possible_truncation, reason = "32 fits")]
const HEAD_LEN: u32 = HEAD_BYTES as u32;

/// What a peer may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    greeting: bool,
    meta_bytes: u32,
    body_bytes: u32,
}

impl Limits {
    /// Before the handshake: `Hello`, `Welcome` and `Refuse`, no body.
    pub const GREETING: Self =
        Self { greeting: true, meta_bytes: MAX_GREETING_BYTES - HEAD_LEN, body_bytes: 0 };

    /// After it, where no blocks flow: everything but a body.
    pub const REQUESTS: Self = Self { greeting: false, meta_bytes: MAX_META_BYTES, body_bytes: 0 };

    /// After it: everything, with bodies of [`MAX_BODY_BYTES`] and one block of the size agreed.
    #[must_use]
    pub const fn open(max_block_bytes: u32) -> Self {
        Self {
            greeting: false,
            meta_bytes: MAX_META_BYTES,
            body_bytes: MAX_BODY_BYTES.saturating_add(max_block_bytes),
        }
    }

    /// The largest body taken.
    #[must_use]
    pub const fn body_bytes(&self) -> u32 {
        self.body_bytes
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per connection")]
enum State {
    Head,
    Meta(Head),
    Body { envelope: Envelope, message: Message, len: usize },
}

/// Decodes frames; see the module.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: Limits,
    state: State,
}

impl FrameDecoder {
    /// A decoder that takes what `limits` allow.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head }
    }

    /// Takes other limits from the next head on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the next byte would begin a frame (or lies in its head), so that nothing is known
    /// about how many bytes are to come.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head)
    }

    fn head(&self, src: &mut BytesMut) -> Result<Option<Head>, Error> {
        // Whoever speaks another protocol is dropped at its first byte, not at the deadline.
        let begin = src.get(..src.len().min(MAGIC.len())).unwrap_or_default();
        if !MAGIC.starts_with(begin) {
            return Err(Error::NotAFrame { found: begin.to_vec() });
        }
        let Some(bytes) = src.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let head = Head::decode(bytes)?;
        if head.kind == 0 || head.kind > meta::LAST_KIND {
            return Err(Error::UnknownKind { kind: head.kind });
        }
        if self.limits.greeting && head.kind > meta::REFUSE {
            return Err(Error::OutOfTurn { kind: head.kind, place: "before the handshake" });
        }
        within("a frame's meta part", head.meta_len, self.limits.meta_bytes)?;
        within("a frame's body", head.body_len, self.limits.body_bytes)?;
        if head.body_len > 0 && head.kind != meta::DATA {
            return Err(Error::BodyLength { expected: 0, found: u64::from(head.body_len) });
        }
        src.advance(HEAD_BYTES);
        Ok(Some(head))
    }

    fn meta(head: Head, src: &mut BytesMut) -> Result<Option<State>, Error> {
        let meta_len = usize::try_from(head.meta_len).unwrap_or(usize::MAX);
        let Some(bytes) = src.get(..meta_len) else {
            src.reserve(meta_len.saturating_sub(src.len()));
            return Ok(None);
        };
        if crc32fast::hash(bytes) != head.meta_crc {
            return Err(Error::MetaChecksum);
        }
        let (envelope, message) = meta::take_meta(head.kind, bytes)?;
        let expected = body_bytes(&message);
        if expected != u64::from(head.body_len) {
            return Err(Error::BodyLength { expected, found: u64::from(head.body_len) });
        }
        src.advance(meta_len);
        let len = usize::try_from(head.body_len).unwrap_or(usize::MAX);
        Ok(Some(State::Body { envelope, message, len }))
    }
}

fn within(what: &'static str, len: u32, cap: u32) -> Result<(), Error> {
    if len > cap {
        return Err(Error::TooLong { what, len: u64::from(len), cap: u64::from(cap) });
    }
    Ok(())
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = Error;

    /// Takes the next frame off `src`, if it is all there.
    ///
    /// # Errors
    /// Whatever is wrong with it; the stream has lost its place and must be dropped.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            match std::mem::replace(&mut self.state, State::Head) {
                State::Head => match self.head(src)? {
                    Some(head) => self.state = State::Meta(head),
                    None => return Ok(None),
                },
                State::Meta(head) => match Self::meta(head, src)? {
                    Some(body) => self.state = body,
                    None => {
                        self.state = State::Meta(head);
                        return Ok(None);
                    }
                },
                State::Body { envelope, message, len } => {
                    if src.len() < len {
                        src.reserve(len.saturating_sub(src.len()));
                        self.state = State::Body { envelope, message, len };
                        return Ok(None);
                    }
                    // An empty slice would keep the read buffer alive for nothing.
                    let body = if len == 0 { Bytes::new() } else { src.split_to(len).freeze() };
                    return Ok(Some(Frame { envelope, message, body }));
                }
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, Error> {
        match self.decode(src)? {
            Some(frame) => Ok(Some(frame)),
            None if src.is_empty() && self.is_between_frames() => Ok(None),
            None => Err(Error::Cut),
        }
    }
}

impl Frame {
    /// Roughly the memory it holds, in bytes: what a receive window is charged for it.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let fields = match &self.message {
            Message::Data { lens, .. } => lens.len().saturating_mul(8),
            Message::Request { body, .. } | Message::Response { body, .. } => body.len(),
            _ => 0,
        };
        wide(self.body.len()).saturating_add(wide(fields)).saturating_add(256)
    }
}
