//! Bytes made to deceive: checksums that fit, and lengths that lie.

use proptest::prelude::*;

use super::*;

fn refused(header: BlockHeader) {
    assert_eq!(BlockHeader::decode(&header.encode(LOG), LOG), Err(BlockError::Lengths));
}

#[test]
fn lengths_that_cannot_be_are_refused_from_the_header_alone() {
    let block = data(4096, &[b"some record"]);
    let header = *block.header();
    let largest = MAX_BLOCK_BYTES;
    for true_len in [0, 95, header.true_len - 1, header.true_len + 1, largest + 1, u32::MAX] {
        refused(BlockHeader { true_len, ..header });
    }
    for stored_len in [0, 95, header.stored_len - 1, header.stored_len + 1, u32::MAX] {
        refused(BlockHeader { stored_len, ..header });
    }
    refused(BlockHeader { true_len: largest + 1, stored_len: largest + 1, ..header });
    refused(BlockHeader { record_count: (header.true_len - 96) / 2 + 1, ..header });
    refused(BlockHeader { record_count: u32::MAX, ..header });
    for lsn in [1, 4095, 4097, u64::MAX, u64::MAX - 4095] {
        refused(BlockHeader { lsn: Lsn(lsn), ..header });
    }
    let packed = BlockHeader { compression: COMPRESSION_ZSTD, ..header };
    for stored_len in [0, 95, 4097, u32::MAX] {
        refused(BlockHeader { stored_len, ..packed });
    }
    refused(BlockHeader { true_len: largest + 1, ..packed });
    refused(BlockHeader { true_len: u32::MAX, stored_len: u32::MAX, ..packed });
}

#[test]
fn control_blocks_and_pads_have_no_lengths_but_their_own() {
    for block in one_of_each().iter().filter(|block| block.kind() != Kind::Data) {
        let header = *block.header();
        refused(BlockHeader { record_count: 1, ..header });
        refused(BlockHeader { stored_len: header.stored_len + 1, ..header });
        refused(BlockHeader { stored_len: 4097, true_len: 4097, ..header });
        refused(BlockHeader { true_len: u32::MAX, ..header });
        let packed = BlockHeader { compression: COMPRESSION_ZSTD, ..header };
        assert_eq!(BlockHeader::decode(&packed.encode(LOG), LOG), Err(BlockError::Compression));
    }
    refused(BlockHeader { true_len: 4097, ..*Block::pad(4096, &seal_at(0)).header() });
    refused(BlockHeader { true_len: (1 << 30) + 4096, ..*Block::pad(4096, &seal_at(0)).header() });
}

#[test]
fn a_header_that_promises_more_than_what_lies_before_it_is_refused() {
    // No sealer can know of more; and a copy that was in sync, and took it, would refuse its own log.
    let sound = *data(8192, &[]).header();
    let edge = BlockHeader { durable: Lsn(8192), commit: Lsn(8192), ..sound };
    assert_eq!(BlockHeader::decode(&edge.encode(LOG), LOG), Ok(edge));
    for wrong in [
        BlockHeader { durable: Lsn(8193), ..sound },
        BlockHeader { commit: Lsn(8193), ..sound },
        BlockHeader { commit: Lsn(u64::MAX), ..sound },
    ] {
        let found = BlockHeader::decode(&wrong.encode(LOG), LOG);
        assert_eq!(found, Err(BlockError::Promises));
    }
}

#[test]
fn the_largest_lengths_that_pass_still_need_their_bytes() {
    let header = BlockHeader {
        true_len: MAX_BLOCK_BYTES,
        stored_len: MAX_BLOCK_BYTES,
        ..*data(0, &[]).header()
    };
    let found = open(header.encode(LOG).to_vec(), 0).unwrap_err();
    assert_eq!(found, BlockError::TooShort { need: u64::from(MAX_BLOCK_BYTES) });
}

fn use_all_of(block: &Block) {
    let _plain = block.plain();
    if let Ok(records) = block.records() {
        assert!(records.count() <= block.header().record_count as usize + 1);
    }
    assert!(block.end() > block.lsn());
    let _what = (block.segment_head_entry(), block.epoch_begin_entry(), block.open_entry());
    let _debug = format!("{block:?}");
}

proptest! {
    #[test]
    fn random_bytes_are_never_a_block(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(open(bytes.clone(), 0).is_err());
        prop_assert!(SegmentHead::peek(&bytes).is_err());
        prop_assert!(CleanMark::decode(&bytes).is_err());
    }

    #[test]
    fn bytes_with_fitting_checksums_never_panic(
        which in 0_usize..7,
        changes in prop::collection::vec((8_usize..96, any::<u8>()), 0..4),
        payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        lengths in any::<bool>(),
    ) {
        let block = &one_of_each()[which];
        let mut bytes = block.stored().to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes[8..12].copy_from_slice(&[1, 0, 96, 0]);
        if let Some(payload) = payload {
            bytes.truncate(HEADER_BYTES);
            bytes.extend(&payload);
        }
        let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        if lengths {
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[28..32].copy_from_slice(&len.to_le_bytes());
            bytes[32..36].copy_from_slice(&len.to_le_bytes());
        }
        let bytes = with_checksum(bytes, LOG);
        let _peeked = SegmentHead::peek(&bytes);
        match open(bytes, SEGMENT) {
            Ok(block) => use_all_of(&block),
            Err(error) => prop_assert!(error != BlockError::HeaderChecksum),
        }
    }
}
