//! Frames keep what they carry, show what was flipped, and hold no more than was checked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;

use bytes::{Bytes, BytesMut};
use outrigger_net::Error;
use outrigger_net::frame::{
    Frame, FrameDecoder, HEAD_BYTES, Limits, MAX_BODY_BYTES, MAX_EPOCHS, MAX_GREETING_BYTES,
    encode, split_blocks,
};
use outrigger_net::message::{Message, Reason};
use outrigger_wal::format::BlockError;
use outrigger_wal::{LogId, Lsn};
use samples::{LOG, MAX_BLOCK_BYTES, blocks, data, envelope, on_wire};
use tokio_util::codec::Decoder;

fn open() -> FrameDecoder {
    FrameDecoder::new(Limits::open(MAX_BLOCK_BYTES))
}

fn decode_one(bytes: &[u8]) -> Result<Option<Frame>, Error> {
    open().decode(&mut BytesMut::from(bytes))
}

/// Makes a head's checksum fit again.
fn reseal(wire: &mut [u8]) {
    let crc = crc32fast::hash(&wire[..28]);
    wire[28..32].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn every_message_survives_its_encoding() {
    for (name, message, body) in samples::all() {
        let wire = on_wire(&message, &body);
        let mut buffer = BytesMut::from(&wire[..]);
        let frame = open().decode(&mut buffer).unwrap().unwrap();
        assert_eq!(frame.envelope, envelope(), "{name}");
        assert_eq!(frame.message, message, "{name}");
        assert_eq!(frame.body, body.concat(), "{name}");
        assert!(buffer.is_empty(), "{name}");
    }
}

#[test]
fn every_bit_flip_in_a_head_or_meta_part_is_detected() {
    for (name, message, _) in samples::all() {
        let good = encode(&envelope(), &message).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_one(&bad).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn frames_cut_anywhere_resume() {
    let mut stream = Vec::new();
    for (_, message, body) in samples::all() {
        stream.extend_from_slice(&on_wire(&message, &body));
    }
    for piece in [1, 7, 31, 33, 1000] {
        let (mut decoder, mut buffer, mut got) = (open(), BytesMut::new(), Vec::new());
        for part in stream.chunks(piece) {
            buffer.extend_from_slice(part);
            while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                got.push(frame.message);
            }
        }
        let sent: Vec<_> = samples::all().into_iter().map(|(_, message, _)| message).collect();
        assert_eq!(got, sent, "in pieces of {piece}");
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let wire = on_wire(&Message::Keepalive, &[]);
    for end in 1..wire.len() {
        let mut buffer = BytesMut::from(&wire[..end]);
        let mut decoder = open();
        assert!(matches!(decoder.decode_eof(&mut buffer), Err(Error::Cut)), "at {end}");
    }
    assert!(open().decode_eof(&mut BytesMut::new()).unwrap().is_none());
}

#[test]
fn nothing_is_reserved_for_a_length_above_its_cap() {
    for (at, what) in [(8, "meta"), (12, "body")] {
        let mut wire = on_wire(&Message::Keepalive, &[]);
        wire[6] = 8;
        wire[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(&wire[..HEAD_BYTES]);
        assert!(matches!(open().decode(&mut buffer), Err(Error::HeadChecksum)), "{what}");
        reseal(&mut wire);
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(&wire[..HEAD_BYTES]);
        let error = open().decode(&mut buffer).unwrap_err();
        assert!(matches!(error, Error::TooLong { len: 0xFFFF_FFFF, .. }), "{what}: {error}");
        assert_eq!(buffer.capacity(), 64, "{what}");
    }
}

#[test]
fn room_for_a_body_is_made_only_when_the_message_agrees_with_it() {
    let (message, _) = data(Lsn(0), &blocks(Lsn(0), &[100]));
    let mut wire = encode(&envelope(), &message).unwrap().to_vec();
    wire[12..16].copy_from_slice(&MAX_BODY_BYTES.to_le_bytes());
    reseal(&mut wire);
    let mut buffer = BytesMut::with_capacity(4096);
    buffer.extend_from_slice(&wire);
    assert!(matches!(open().decode(&mut buffer), Err(Error::BodyLength { .. })));
    assert!(buffer.capacity() <= 4096);

    let mut wire = on_wire(&Message::Keepalive, &[]);
    wire[12] = 1;
    reseal(&mut wire);
    assert!(matches!(decode_one(&wire), Err(Error::BodyLength { expected: 0, found: 1 })));
}

#[test]
fn strangers_may_only_greet() {
    for (name, message, body) in samples::all() {
        let mut decoder = FrameDecoder::new(Limits::GREETING);
        let decoded = decoder.decode(&mut BytesMut::from(&on_wire(&message, &body)[..]));
        let greets = matches!(
            message,
            Message::Hello { .. } | Message::Welcome { .. } | Message::Refuse { .. }
        );
        match decoded {
            Ok(frame) => assert!(greets && frame.is_some(), "{name}"),
            Err(error) => assert!(!greets && matches!(error, Error::OutOfTurn { .. }), "{name}"),
        }
    }
}

#[test]
fn the_longest_greeting_fits_its_cap_and_an_overlong_one_is_refused_unread() {
    let wire = on_wire(&samples::hello(MAX_EPOCHS as u64), &[]);
    assert!(wire.len() < MAX_GREETING_BYTES as usize / 2);
    let mut decoder = FrameDecoder::new(Limits::GREETING);
    assert!(decoder.decode(&mut BytesMut::from(&wire[..])).unwrap().is_some());

    let mut long = wire;
    long[8..12].copy_from_slice(&MAX_GREETING_BYTES.to_le_bytes());
    reseal(&mut long);
    let mut decoder = FrameDecoder::new(Limits::GREETING);
    let error = decoder.decode(&mut BytesMut::from(&long[..HEAD_BYTES])).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
}

#[test]
fn greetings_of_a_newer_peer_may_be_longer_and_other_messages_may_not() {
    for (message, taken) in [(samples::hello(1), true), (Message::Ready { at: Lsn(0) }, false)] {
        let mut wire = on_wire(&message, &[]);
        wire.push(0xEE);
        let meta_len = u32::try_from(wire.len() - HEAD_BYTES).unwrap();
        wire[8..12].copy_from_slice(&meta_len.to_le_bytes());
        let crc = crc32fast::hash(&wire[HEAD_BYTES..]);
        wire[16..20].copy_from_slice(&crc.to_le_bytes());
        reseal(&mut wire);
        assert_eq!(decode_one(&wire).is_ok(), taken, "{message:?}");
    }
}

#[test]
fn other_protocols_are_told_at_their_first_bytes() {
    let tls = [0x16, 0x03, 0x01, 0x02];
    for (first, guess) in [(&tls[..], "TLS"), (b"GET / HTTP/1.1", "HTTP"), (b"S", "address")] {
        let error = decode_one(first).unwrap_err();
        assert!(error.to_string().contains(guess), "{error}");
        assert!(error.is_hostile());
    }
}

#[test]
fn only_the_newest_epochs_are_told_and_long_texts_are_cut() {
    let wire = on_wire(&samples::hello(300), &[]);
    let Message::Hello { history, .. } = decode_one(&wire).unwrap().unwrap().message else {
        panic!("no Hello");
    };
    assert_eq!(history.epochs, samples::history(300).epochs[300 - MAX_EPOCHS..]);

    let text = format!("x{}", "\u{e9}".repeat(4000));
    let refuse = Message::Refuse { reason: Reason::Denied, text };
    let Message::Refuse { text, .. } = decode_one(&on_wire(&refuse, &[])).unwrap().unwrap().message
    else {
        panic!("no Refuse");
    };
    assert_eq!(text.len(), 4095, "cut between two characters");
}

#[test]
fn what_exceeds_its_cap_is_not_sent() {
    let mut config = samples::config();
    config.copies[0].addresses[0] = "h".repeat(256);
    let too_long = Message::ConfigIs { op: 1, config: Some(config.clone()) };
    assert!(matches!(encode(&envelope(), &too_long), Err(Error::TooLong { .. })));

    config.copies[0].addresses = vec!["h".into(); 17];
    let too_many = Message::ConfigIs { op: 1, config: Some(config.clone()) };
    assert!(matches!(encode(&envelope(), &too_many), Err(Error::TooLong { .. })));

    config.copies = vec![config.copies[1].clone(); 65];
    let too_many = Message::ConfigIs { op: 1, config: Some(config) };
    assert!(matches!(encode(&envelope(), &too_many), Err(Error::TooLong { .. })));

    let body = Bytes::from(vec![0; 1024 * 1024]);
    let large = Message::Request { op: 1, body };
    assert!(matches!(encode(&envelope(), &large), Err(Error::TooLong { .. })));

    let lens = vec![(96, 96); 65_537];
    let many = Message::Data { start: Lsn(0), commit: Lsn(0), keep: Lsn(0), lens };
    assert!(matches!(encode(&envelope(), &many), Err(Error::TooLong { .. })));
}

fn split(start: u64, lens: &[(u32, u32)], body: &[u8], log: LogId) -> Result<usize, Error> {
    split_blocks(Lsn(start), lens, Bytes::copy_from_slice(body), log).map(|blocks| blocks.len())
}

#[test]
fn blocks_come_out_as_they_went_in_without_a_copy() {
    let sent = blocks(Lsn(8192), &[10, 70_000, 0, 4000, 4001]);
    let (message, body) = data(Lsn(8192), &sent);
    let frame = decode_one(&on_wire(&message, &body)).unwrap().unwrap();
    let Message::Data { start, lens, .. } = &frame.message else { panic!("no Data") };
    let got = split_blocks(*start, lens, frame.body.clone(), LOG).unwrap();
    let within = frame.body.as_ptr_range();
    for (got, sent) in got.iter().zip(&sent) {
        assert_eq!(got.stored(), sent.stored());
        assert_eq!((got.lsn(), got.end()), (sent.lsn(), sent.end()));
        assert!(within.contains(&got.stored().as_ptr()), "a slice of the body");
    }
    assert_eq!(got.len(), sent.len());
}

#[test]
fn blocks_that_are_not_what_the_frame_says_are_refused() {
    let sent = blocks(Lsn(4096), &[10, 20]);
    let (message, body) = data(Lsn(4096), &sent);
    let Message::Data { lens, .. } = message else { panic!("no Data") };
    let body = body.concat();
    assert_eq!(split(4096, &lens, &body, LOG).unwrap(), 2);

    let elsewhere = split(8192, &lens, &body, LOG).unwrap_err();
    assert!(
        matches!(elsewhere, Error::Block { source: BlockError::Stale { .. }, .. }),
        "{elsewhere}"
    );
    assert!(matches!(split(4096, &lens, &body, LogId(9)), Err(Error::Block { .. })));
    assert!(matches!(
        split(4096, &lens, &body[..body.len() - 1], LOG),
        Err(Error::BodyLength { .. })
    ));
    assert!(matches!(split(4096, &lens[..1], &body, LOG), Err(Error::BodyLength { .. })));
    let other_true_len = [(lens[0].0 + 1, lens[0].1), lens[1]];
    assert!(matches!(split(4096, &other_true_len, &body, LOG), Err(Error::BlockLengths { .. })));
    let moved = [(lens[0].0, lens[0].1 + 1), (lens[1].0, lens[1].1 - 1)];
    assert!(split(4096, &moved, &body, LOG).is_err());
    for bit in 0..body.len() * 8 {
        let mut bad = body.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(split(4096, &lens, &bad, LOG).is_err(), "bit {bit}");
    }
}
