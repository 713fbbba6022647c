//! Reads any bytes as a stream of frames. Nothing may panic; how the stream is cut must not matter;
//! what passes survives its encoding; no room is made beyond the caps.

use bytes::BytesMut;
use outrigger_net::frame::{
    Frame, FrameDecoder, HEAD_BYTES, Limits, MAGIC, body_bytes, encode, split_blocks,
};
use outrigger_net::message::Message;
use outrigger_wal::LogId;
use tokio_util::codec::Decoder;

/// One run of the target. The first byte: bit 0, after the handshake; bit 1, the rest is kind and
/// meta part of a frame whose head and checksums are made to fit. The second byte: in pieces of how
/// many bytes it comes (0 for all at once).
pub(crate) fn run(data: &[u8]) {
    let [mode, piece, rest @ ..] = data else {
        return;
    };
    let limits = if mode & 1 == 1 { Limits::open(1024 * 1024) } else { Limits::GREETING };
    let wrapped;
    let stream = if mode & 2 == 2 {
        wrapped = with_head(rest);
        &wrapped[..]
    } else {
        rest
    };
    let whole = decode_all(stream, limits, usize::MAX);
    if *piece > 0 {
        let pieces = decode_all(stream, limits, usize::from(*piece));
        assert_eq!(whole, pieces, "how the stream was cut must not matter");
    }
    for frame in &whole {
        round(frame);
    }
}

fn decode_all(stream: &[u8], limits: Limits, piece: usize) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut most = stream.len();
    for part in stream.chunks(piece.min(stream.len()).max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
        // A meta part and a body at most, twice for the doubling of a growing buffer.
        most = most.max(1024 * 1024).max(limits.body_bytes() as usize);
        assert!(buffer.capacity() <= 2 * most + 64 * 1024, "{} bytes", buffer.capacity());
    }
    frames
}

fn round(frame: &Frame) {
    assert_eq!(body_bytes(&frame.message), frame.body.len() as u64);
    let mut bytes = BytesMut::from(&encode(&frame.envelope, &frame.message).unwrap()[..]);
    bytes.extend_from_slice(&frame.body);
    let again = FrameDecoder::new(Limits::open(u32::MAX)).decode(&mut bytes).unwrap().unwrap();
    assert_eq!(&again, frame, "a decoded frame must survive its encoding");
    assert!(bytes.is_empty());
    if let Message::Data { start, lens, .. } = &frame.message
        && let Ok(blocks) = split_blocks(*start, lens, frame.body.clone(), LogId(1))
    {
        assert_eq!(blocks.len(), lens.len());
    }
}

/// Puts a head that fits before a kind byte and a meta part. Of a `Data` message the body is zeros.
fn with_head(rest: &[u8]) -> Vec<u8> {
    let [kind, meta @ ..] = rest else {
        return Vec::new();
    };
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = 1;
    head[6] = *kind;
    head[8..12].copy_from_slice(&u32::try_from(meta.len()).unwrap().to_le_bytes());
    let body = claimed_body(*kind, meta);
    head[12..16].copy_from_slice(&body.to_le_bytes());
    head[16..20].copy_from_slice(&crc32fast::hash(meta).to_le_bytes());
    let crc = crc32fast::hash(&head[..28]);
    head[28..].copy_from_slice(&crc.to_le_bytes());
    let mut out = [&head[..], meta].concat();
    // Large claims are left without their body: they wait for bytes that never come.
    if body <= 64 * 1024 {
        out.resize(out.len() + body as usize, 0);
    }
    out
}

/// The sum of the stored lengths of a `Data` message's layout, as far as it goes.
fn claimed_body(kind: u8, meta: &[u8]) -> u32 {
    if kind != 8 {
        return 0;
    }
    let pairs = meta.get(68 + 20..).unwrap_or_default();
    pairs
        .chunks_exact(8)
        .map(|pair| u32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]]))
        .fold(0, u32::wrapping_add)
}
