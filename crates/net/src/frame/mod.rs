//! Frames: what travels on a connection.
//!
//! A frame is a head of 32 bytes (lengths and their checksum), a meta part (envelope and message,
//! checksummed by the head) and, behind `Data` alone, a body of whole blocks exactly as they lie on
//! disk. The body has no checksum of its own: each block brings its own. Layout in
//! `docs/replication.md`.
//!
//! Guarantees: decoding is total and bounded; every flipped bit in head or meta is detected; the
//! body is neither copied on the way out nor re-framed on the way in.
//! Not here: who may send what when ([`crate::handshake`], sender, receiver).

mod decoder;
pub(crate) mod fields;
mod head;
mod meta;

use bytes::{Bytes, BytesMut};
use outrigger_wal::format::Block;
use outrigger_wal::{LogId, Lsn};

pub use decoder::{FrameDecoder, Limits, MAX_BODY_BYTES, MAX_GREETING_BYTES, MAX_META_BYTES};
pub use head::{FRAME_VERSION, HEAD_BYTES, MAGIC};
pub use meta::{
    MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_BLOCKS, MAX_COPIES, MAX_EPOCHS, decode_config,
    encode_config,
};

use crate::error::Error;
use crate::message::{Envelope, Message};

/// One received frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Cluster, content, epoch, session.
    pub envelope: Envelope,
    /// The message.
    pub message: Message,
    /// The blocks behind a `Data` message: [`split_blocks`] takes them apart. Empty elsewhere.
    pub body: Bytes,
}

/// Encodes head and meta part, contiguous. The blocks of a `Data` message follow it on the wire as
/// they are: their stored bytes must add up to what `lens` says.
///
/// Of a history, the newest [`MAX_EPOCHS`] epochs are told; a text is cut at 4096 bytes.
///
/// # Errors
/// [`Error::TooLong`] when something exceeds its cap: the message cannot be sent.
pub fn encode(envelope: &Envelope, message: &Message) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(256);
    out.resize(HEAD_BYTES, 0);
    meta::put_envelope(&mut out, envelope);
    meta::put_message(&mut out, message)?;
    let (head, meta) = out.split_at_mut(HEAD_BYTES);
    let too_long = |what, len, cap: u32| Error::TooLong { what, len, cap: u64::from(cap) };
    let meta_len = u32::try_from(meta.len())
        .ok()
        .filter(|len| *len <= MAX_META_BYTES)
        .ok_or_else(|| too_long("a message", fields::wide(meta.len()), MAX_META_BYTES))?;
    let body = body_bytes(message);
    let body_len = u32::try_from(body).map_err(|_| too_long("a frame's body", body, u32::MAX))?;
    let meta_crc = crc32fast::hash(meta);
    head.copy_from_slice(
        &head::Head { kind: meta::kind(message), meta_len, body_len, meta_crc }.encode(),
    );
    Ok(out.freeze())
}

/// How many bytes of blocks follow `message`.
#[must_use]
pub fn body_bytes(message: &Message) -> u64 {
    match message {
        // At most MAX_BLOCKS times u32::MAX: no overflow.
        Message::Data { lens, .. } => {
            lens.iter().fold(0, |sum: u64, (_, stored)| sum.saturating_add(u64::from(*stored)))
        }
        _ => 0,
    }
}

/// Takes the body of a `Data` message apart: places the blocks one behind the other from `start`, by
/// the lengths that came with them, and checks each. The blocks are slices of `body`.
///
/// # Errors
/// [`Error::Block`] when a block is not sound or not of this place or log, [`Error::BlockLengths`]
/// when its header says other lengths than the frame, [`Error::BodyLength`] when the lengths do not
/// add up to the body.
pub fn split_blocks(
    start: Lsn,
    lens: &[(u32, u32)],
    mut body: Bytes,
    log: LogId,
) -> Result<Vec<Block>, Error> {
    let expected =
        lens.iter().fold(0, |sum: u64, (_, stored)| sum.saturating_add((*stored).into()));
    let found = fields::wide(body.len());
    if expected != found {
        return Err(Error::BodyLength { expected, found });
    }
    let mut at = start;
    let mut blocks = Vec::with_capacity(lens.len());
    for (true_len, stored_len) in lens {
        let len = usize::try_from(*stored_len)
            .ok()
            .filter(|len| *len <= body.len())
            .ok_or(Error::BodyLength { expected, found })?;
        let block = Block::open(body.split_to(len), at, log)
            .map_err(|source| Error::Block { at, source })?;
        let header = block.header();
        if (header.true_len, header.stored_len) != (*true_len, *stored_len) {
            return Err(Error::BlockLengths { at });
        }
        at = block.end();
        blocks.push(block);
    }
    Ok(blocks)
}
