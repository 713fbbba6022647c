//! What the format promises, tried on every bit and on random input.

mod blocks;
mod control;
mod hostile;
mod records;

use bytes::Bytes;

use super::*;
use crate::lsn::{ContentId, Epoch, InstanceId, LogId, Lsn, RunningHash};

const LOG: LogId = LogId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
const OTHER_LOG: LogId = LogId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFE);
const EPOCH: Epoch = Epoch { number: 3, nonce: 0xA5A5 };
const INSTANCE: InstanceId = InstanceId(0xBEEF);
const SEGMENT: u64 = MIN_SEGMENT_BYTES;

fn seal_at(lsn: u64) -> Seal {
    Seal {
        log: LOG,
        lsn: Lsn(lsn),
        epoch: EPOCH.number,
        hash_before: RunningHash(0x1234_5678_9ABC_DEF0),
        durable: Lsn(4096.min(lsn)),
        commit: Lsn(4096.min(lsn)),
        sealed_micros: 1_700_000_000_000_000,
    }
}

fn data(lsn: u64, bodies: &[&[u8]]) -> Block {
    let mut open = BlockBuilder::new();
    for body in bodies {
        open.push(body, RecordFlag::Record);
    }
    open.seal(&seal_at(lsn))
}

fn head_at(start: u64, epochs: usize) -> SegmentHead {
    let entry = |number: usize| EpochEntry {
        epoch: Epoch { number: number as u64, nonce: number as u128 * 7 },
        start: Lsn(number as u64 * 4096),
        instance: INSTANCE,
    };
    SegmentHead {
        log: LOG,
        content: ContentId(-1),
        segment_bytes: SEGMENT,
        start: Lsn(start),
        predecessor_end: Lsn(start),
        predecessor_hash: RunningHash(99),
        epochs: (1..=epochs).map(entry).collect(),
    }
}

/// One block of each kind, and a Data block that is compressed.
fn one_of_each() -> Vec<Block> {
    let begin = EpochBegin {
        epoch: EPOCH,
        instance: INSTANCE,
        from: Lsn(SEGMENT),
        previous: Epoch { number: 2, nonce: 1 },
    };
    vec![
        data(SEGMENT, &[b"one", b"", b"three"]),
        compressed(SEGMENT, &[7; 500]),
        Block::pad(8192, &seal_at(SEGMENT)),
        Block::segment_head(&head_at(SEGMENT, 2), &seal_at(SEGMENT)),
        Block::epoch_begin(&begin, &seal_at(SEGMENT)),
        Block::open_mark(&Open { epoch: EPOCH, instance: INSTANCE }, &seal_at(SEGMENT)),
        Block::watermark(&seal_at(SEGMENT)),
    ]
}

fn open(bytes: impl Into<Bytes>, at: u64) -> Result<Block, BlockError> {
    Block::open(bytes.into(), Lsn(at), LOG)
}

/// A block with this header, whose lengths and checksum of the payload are made to fit.
fn stored_as(mut header: BlockHeader, payload: &[u8]) -> Vec<u8> {
    header.stored_len = u32::try_from(HEADER_BYTES + payload.len()).unwrap();
    header.payload_crc = crc32fast::hash(payload);
    [&header.encode(LOG), payload].concat()
}

fn compressed(lsn: u64, body: &[u8]) -> Block {
    let plain = data(lsn, &[body]);
    let payload = zstd::bulk::compress(&plain.plain().unwrap(), 3).unwrap();
    let header = BlockHeader { compression: COMPRESSION_ZSTD, ..*plain.header() };
    open(stored_as(header, &payload), lsn).unwrap()
}

/// Gives a header that was changed by hand the checksum that fits.
fn with_checksum(mut bytes: Vec<u8>, log: LogId) -> Vec<u8> {
    let length = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    bytes[20..24].fill(0);
    let covered = [&log.0.to_le_bytes(), &bytes[..length]].concat();
    let checksum = crc32fast::hash(&covered);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    bytes
}
