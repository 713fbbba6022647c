//! Reads any bytes as a block and uses all of it. Nothing may panic; what passes must be canonical
//! (encoding it again gives the same bytes) and its records must fill the payload without a gap.
//!
//! The first byte chooses how much of a checksum's work is undone, because no fuzzer guesses one:
//! bit 0 makes magic, version and header length right, bit 1 the payload's length and checksum,
//! bit 2 the header's checksum.

use bytes::Bytes;
use outrigger_wal::format::{
    Block, BlockHeader, CleanMark, EpochEntry, HEADER_BYTES, Kind, MAGIC, Seal, SegmentHead,
};
use outrigger_wal::{LogId, Lsn};

/// The log that inputs are read as: that of `tests/fixtures/v1/small`.
const LOG: LogId = LogId(0x736D_616C_6C00_1111_2222_3333_4444_5555);

/// One run of the target.
pub(crate) fn run(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let bytes = Bytes::from(mended(*mode, bytes.to_vec()));
    let mut cut = bytes.clone();
    while EpochEntry::take(&mut cut).is_some() {}
    if let Ok(mark) = CleanMark::decode(&bytes) {
        assert_eq!(mark.encode(), bytes[..]);
    }
    if let Ok(head) = SegmentHead::peek(&bytes) {
        assert!(head.start.0.is_multiple_of(head.segment_bytes));
    }
    let Ok(header) = BlockHeader::decode(&bytes, LOG) else {
        return;
    };
    assert_eq!(header.encode(LOG), bytes[..HEADER_BYTES]);
    if let Ok(block) = Block::open(bytes.clone(), header.lsn, LOG) {
        assert_eq!(block.stored()[..], bytes[..block.stored().len()]);
        use_all_of(&block);
    }
    let elsewhere = Lsn(header.lsn.0 ^ 4096);
    assert!(
        Block::open(bytes, elsewhere, LOG).is_err(),
        "a block at a place that is not its own"
    );
}

fn use_all_of(block: &Block) {
    let header = block.header();
    assert!(block.end() > block.lsn() && block.end().is_aligned());
    assert!((block.stored().len() + block.padding_bytes()).is_multiple_of(4096));
    if let Ok(records) = block.records() {
        let (mut behind, mut sound) = (Lsn(block.lsn().0 + HEADER_BYTES as u64), true);
        for record in records {
            match record {
                Ok(record) => {
                    assert_eq!(record.lsn, behind);
                    behind = record.end;
                }
                Err(_) => sound = false,
            }
        }
        let end = block.lsn().0 + u64::from(header.true_len);
        assert!(behind.0 <= end);
        assert!(!sound || behind.0 == end || block.kind() != Kind::Data);
    }
    let seal = Seal {
        log: LOG,
        lsn: block.lsn(),
        epoch: block.epoch(),
        hash_before: block.hash_before(),
        durable: block.durable(),
        commit: block.commit(),
        sealed_micros: header.sealed_micros,
    };
    let head = block
        .segment_head_entry()
        .map(|head| Block::segment_head(&head, &seal));
    let begin = block
        .epoch_begin_entry()
        .map(|begin| Block::epoch_begin(&begin, &seal));
    let open = block
        .open_entry()
        .map(|open| Block::open_mark(&open, &seal));
    for again in [head, begin, open].into_iter().flatten() {
        assert_eq!(
            again.stored()[HEADER_BYTES..],
            block.stored()[HEADER_BYTES..]
        );
        assert!(header.skip_flags != 0 || again.stored() == block.stored());
    }
}

fn mended(mode: u8, mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER_BYTES {
        return bytes;
    }
    if mode & 1 != 0 {
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&[1, 0, 96, 0]);
    }
    if mode & 2 != 0 {
        let stored_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes[32..36].copy_from_slice(&stored_len.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
        bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
    }
    if mode & 4 != 0 {
        let length = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
        bytes[20..24].fill(0);
        let header = bytes.get(..length).unwrap_or(&bytes);
        let checksum = crc32fast::hash(&[&LOG.0.to_le_bytes(), header].concat());
        bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}
