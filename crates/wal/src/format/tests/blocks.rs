//! Blocks: they come back as sealed, and nothing else passes for one.

use proptest::prelude::*;

use super::*;

#[test]
fn every_kind_comes_back_as_sealed() {
    for block in one_of_each() {
        let read = open(block.stored().clone(), SEGMENT).unwrap();
        assert_eq!(read.header(), block.header());
        assert_eq!(read.stored(), block.stored());
        assert_eq!(read.hash_after(), block.hash_after());
        assert_eq!(read.stored().len(), read.header().stored_len as usize);
        assert_eq!((read.stored().len() + read.padding_bytes()) % 4096, 0);
        assert!(read.padding_bytes() < 4096);
        assert!(read.lsn() < read.end() && read.end().is_aligned());
    }
}

#[test]
fn every_flipped_bit_of_a_block_is_detected() {
    for block in one_of_each() {
        let mut bytes = block.stored().to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = open(bytes.clone(), SEGMENT).unwrap_err();
            let expected = match bit / 8 {
                0..8 => BlockError::NotABlock,
                8..96 => BlockError::HeaderChecksum,
                _ => BlockError::PayloadChecksum,
            };
            assert_eq!(found, expected, "{} bit {bit}", block.kind());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(open(bytes, SEGMENT).is_ok());
    }
}

#[test]
fn zeros_are_never_a_block() {
    for length in [96, 97, 512, 4096, 8192] {
        for log in [LogId(0), LOG] {
            let zeros = Bytes::from(vec![0; length]);
            assert_eq!(Block::open(zeros, Lsn(0), log).unwrap_err(), BlockError::Zeros);
        }
        assert_eq!(SegmentHead::peek(&vec![0; length]), Err(BlockError::Zeros));
    }
}

#[test]
fn a_block_at_another_place_is_stale() {
    for block in one_of_each() {
        let found = open(block.stored().clone(), SEGMENT + 4096).unwrap_err();
        assert_eq!(found, BlockError::Stale { found: Lsn(SEGMENT) });
    }
}

#[test]
fn a_block_that_is_cut_short_names_what_it_needs() {
    for block in one_of_each() {
        for length in 0..block.stored().len() {
            let need = if length < HEADER_BYTES { HEADER_BYTES } else { block.stored().len() };
            let found = open(block.stored().slice(..length), SEGMENT).unwrap_err();
            assert_eq!(found, BlockError::TooShort { need: need as u64 });
        }
    }
}

#[test]
fn bytes_behind_a_block_do_not_belong_to_it() {
    let block = data(0, &[b"x"]);
    let more = [block.stored().as_ref(), &[0xEE; 5000]].concat();
    assert_eq!(open(more, 0).unwrap().stored(), block.stored());
}

#[test]
fn a_newer_version_is_told_apart_from_garbage() {
    let old = data(0, &[b"x"]).stored().to_vec();
    for (version, length) in [(2_u16, 64_u16), (2, 96), (7, 128), (u16::MAX, 512)] {
        let mut newer = old.clone();
        newer.resize(600, 0xAB);
        newer[8..10].copy_from_slice(&version.to_le_bytes());
        newer[10..12].copy_from_slice(&length.to_le_bytes());
        assert_eq!(open(newer.clone(), 0).unwrap_err(), BlockError::HeaderChecksum);
        let newer = with_checksum(newer, LOG);
        assert_eq!(open(newer.clone(), 0).unwrap_err(), BlockError::Version { found: version });
        if length > 96 {
            let need = u64::from(length);
            assert_eq!(open(newer[..100].to_vec(), 0).unwrap_err(), BlockError::TooShort { need });
        }
    }
    for length in [0_u16, 63, 513, u16::MAX] {
        let mut odd = old.clone();
        odd[8..10].copy_from_slice(&2_u16.to_le_bytes());
        odd[10..12].copy_from_slice(&length.to_le_bytes());
        assert_eq!(open(odd, 0).unwrap_err(), BlockError::HeaderChecksum);
    }
}

#[test]
fn unknown_flags_are_skipped_or_refused_as_they_demand() {
    let old = data(0, &[b"x"]).stored().to_vec();
    let set = |at: usize, value: u8| {
        let mut bytes = old.clone();
        bytes[at] = value;
        open(with_checksum(bytes, LOG), 0)
    };
    assert_eq!(set(13, 0xFF).unwrap().header().skip_flags, 0xFF);
    for (at, value) in [(12, 0), (12, 7), (14, 1), (14, 0x80), (15, 0), (15, 2), (17, 1), (19, 9)] {
        assert_eq!(set(at, value).unwrap_err(), BlockError::UnknownFlags, "byte {at} = {value}");
    }
    assert_eq!(set(16, 2).unwrap_err(), BlockError::Compression);
}

#[test]
fn the_running_hash_depends_on_all_history() {
    let (first, other) = (data(0, &[b"a"]), data(0, &[b"b"]));
    assert_ne!(first.hash_after(), other.hash_after());
    let follow = |before: &Block| {
        Block::watermark(&Seal { hash_before: before.hash_after(), ..seal_at(4096) }).hash_after()
    };
    assert_ne!(follow(&first), follow(&other));
    let header = first.stored().slice(..HEADER_BYTES);
    assert_eq!(first.hash_after().0, xxhash_rust::xxh3::xxh3_128(&header));
    let head = Block::segment_head(&head_at(0, 1), &seal_at(0));
    assert_eq!(head.hash_after().0, xxhash_rust::xxh3::xxh3_128(head.stored()));
}

#[test]
fn a_pad_stores_its_header_and_takes_its_extent() {
    for extent in [4096, 1 << 20, 1 << 30] {
        let pad = Block::pad(extent, &seal_at(4096));
        let read = open(pad.stored().clone(), 4096).unwrap();
        assert_eq!(read.stored().len(), HEADER_BYTES);
        assert_eq!(read.end(), Lsn(4096 + u64::from(extent)));
        assert_eq!(read.records().unwrap().count(), 0);
    }
}

proptest! {
    #[test]
    fn a_block_of_another_log_is_never_ours(log in any::<u128>(), flip in 0_u32..128) {
        for block in one_of_each() {
            for other in [LogId(log), LogId(LOG.0 ^ (1 << flip))] {
                prop_assume!(other != LOG);
                let found = Block::open(block.stored().clone(), Lsn(SEGMENT), other).unwrap_err();
                prop_assert_eq!(found, BlockError::HeaderChecksum);
            }
        }
    }

    #[test]
    fn headers_come_back_as_encoded(
        page in 0_u64..1 << 51,
        numbers in any::<(u32, u64, u64, u64, u64, u8)>(),
        hash in any::<u128>(),
        plain in 0..=MAX_BLOCK_BYTES - 96,
    ) {
        let (payload_crc, epoch, durable, commit, sealed_micros, skip_flags) = numbers;
        let header = BlockHeader {
            kind: Kind::Data,
            skip_flags,
            refuse_flags: 0,
            compression: COMPRESSION_NONE,
            payload_crc,
            true_len: plain + 96,
            stored_len: plain + 96,
            record_count: plain / 2,
            lsn: Lsn(page * 4096),
            epoch,
            hash_before: RunningHash(hash),
            durable: Lsn(durable.min(page * 4096)),
            commit: Lsn(commit.min(page * 4096)),
            sealed_micros,
        };
        prop_assert_eq!(BlockHeader::decode(&header.encode(LOG), LOG), Ok(header));
    }
}
