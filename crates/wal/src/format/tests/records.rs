//! Records: framing, limits, compression.

use proptest::prelude::*;

use super::*;

/// Opens a block with this payload, whatever it is, that claims `count` records.
fn payload(bytes: &[u8], count: u32) -> Records {
    let true_len = u32::try_from(HEADER_BYTES + bytes.len()).unwrap();
    let header = BlockHeader {
        true_len,
        record_count: count,
        ..*data(0, &[]).header()
    };
    open(stored_as(header, bytes), 0)
        .unwrap()
        .records()
        .unwrap()
}

fn fails(bytes: &[u8], count: u32) -> RecordError {
    let mut records = payload(bytes, count);
    let error = records.by_ref().find_map(Result::err).expect("an error");
    assert!(records.next().is_none(), "nothing behind an error");
    error
}

#[test]
fn an_empty_block_holds_no_records() {
    assert_eq!(data(0, &[]).records().unwrap().count(), 0);
}

#[test]
fn an_empty_record_is_not_zeros() {
    let block = data(0, &[b""]);
    assert_eq!(&block.plain().unwrap()[..], &[0, 1]);
    let record = block.records().unwrap().next().unwrap().unwrap();
    assert_eq!((record.lsn, record.end), (Lsn(96), Lsn(98)));
    assert_eq!(record.body.len(), 0);
    assert_eq!(
        fails(&[0, 0], 1),
        RecordError::Flag {
            lsn: Lsn(96),
            found: 0
        }
    );
}

#[test]
fn a_length_that_is_not_in_its_shortest_form_is_refused() {
    let length = RecordError::Length { lsn: Lsn(96) };
    assert_eq!(fails(&[0x81, 0x00, 1, 9], 1), length);
    assert_eq!(fails(&[0x80, 0x80, 0x00, 1], 1), length);
    assert_eq!(fails(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1], 1), length);
    assert_eq!(fails(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 1], 1), length);
}

#[test]
fn a_record_that_runs_past_its_block_is_refused() {
    for bytes in [
        &[2_u8, 1, 9][..],
        &[1, 1],
        &[0x80, 0x80],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1],
    ] {
        assert_eq!(fails(bytes, 1), RecordError::Length { lsn: Lsn(96) });
    }
}

#[test]
fn records_are_as_many_as_the_header_counts() {
    let two = [1, 1, 9, 1, 1, 9];
    assert_eq!(payload(&two, 2).filter(Result::is_ok).count(), 2);
    assert_eq!(fails(&two, 1), RecordError::Count { lsn: Lsn(99) });
    assert_eq!(fails(&two, 3), RecordError::Count { lsn: Lsn(102) });
}

#[test]
fn a_batch_is_whole_or_refused() {
    assert_eq!(
        payload(&[0, 3, 0, 3, 0, 1, 0, 2], 4)
            .filter(Result::is_ok)
            .count(),
        4
    );
    assert_eq!(fails(&[0, 3], 1), RecordError::Batch { lsn: Lsn(98) });
    assert_eq!(
        fails(&[0, 3, 0, 2, 0, 1], 3),
        RecordError::Batch { lsn: Lsn(98) }
    );
}

#[test]
fn the_largest_record_fits_and_one_byte_more_does_not() {
    let largest = MAX_RECORD_BYTES as usize;
    let mut open_block = BlockBuilder::new();
    assert!(open_block.fits(largest));
    open_block.push(&vec![7; largest], RecordFlag::Record);
    assert!(!open_block.fits(4096) && open_block.fits(0));
    let block = open(open_block.seal(&seal_at(0)).stored().clone(), 0).unwrap();
    assert_eq!(block.end(), Lsn(u64::from(MAX_BLOCK_BYTES)));
    assert_eq!(
        block.records().unwrap().next().unwrap().unwrap().body.len(),
        largest
    );
}

#[test]
fn the_largest_record_fits_behind_the_head_of_any_segment() {
    for shift in 20..=30 {
        let segment_bytes = 1_u64 << shift;
        assert!(is_segment_bytes(segment_bytes));
        let framed = record_frame_bytes(max_record_bytes(segment_bytes) as usize);
        assert!((96 + framed).next_multiple_of(4096) + 2 * 4096 <= segment_bytes);
    }
    assert_eq!(max_record_bytes(MIN_SEGMENT_BYTES), 256 << 10);
    assert_eq!(max_record_bytes(DEFAULT_SEGMENT_BYTES), MAX_RECORD_BYTES);
    for odd in [
        0,
        MIN_SEGMENT_BYTES / 2,
        MIN_SEGMENT_BYTES + 1,
        3 << 20,
        MAX_SEGMENT_BYTES * 2,
    ] {
        assert!(!is_segment_bytes(odd));
    }
}

#[test]
fn a_compressed_block_reads_like_a_plain_one() {
    let block = compressed(0, &[7; 5000]);
    assert!(block.stored().len() < 200);
    assert_eq!(block.end(), Lsn(8192));
    let record = block.records().unwrap().next().unwrap().unwrap();
    assert_eq!((record.lsn, record.end), (Lsn(96), Lsn(96 + 3 + 5000)));
    assert_eq!(&record.body[..], &[7; 5000]);
}

#[test]
fn a_compressed_payload_of_another_length_is_refused() {
    let header = *compressed(0, &[7; 5000]).header();
    let packed = |plain: &[u8]| zstd::bulk::compress(plain, 3).unwrap();
    let bomb = packed(&vec![0; 64 << 20]);
    let whole = packed(&vec![0; 5003]);
    let trailing = [&whole[..], b"more"].concat();
    for payload in [
        &bomb[..],
        &packed(&[0; 5002]),
        &packed(&[0; 5004]),
        &trailing,
        &whole[..whole.len() - 1],
        b"",
        b"no zstd frame",
    ] {
        let block = open(stored_as(header, payload), 0).unwrap();
        assert_eq!(block.plain().unwrap_err(), BlockError::Compression);
        assert_eq!(block.records().unwrap_err(), BlockError::Compression);
    }
}

fn flag() -> impl Strategy<Value = RecordFlag> {
    prop_oneof![Just(RecordFlag::Record), Just(RecordFlag::Void)]
}

proptest! {
    #[test]
    fn records_come_back_as_pushed(
        pushed in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), flag()), 0..40),
        page in 0_u64..1 << 40,
    ) {
        let lsn = page * 4096;
        let mut open_block = BlockBuilder::new();
        let mut expected = Vec::new();
        for (body, flag) in &pushed {
            let before = open_block.true_len();
            let (start, end) = open_block.push(body, *flag);
            prop_assert_eq!(start, before);
            prop_assert_eq!(u64::from(end - start), record_frame_bytes(body.len()));
            expected.push(Record {
                lsn: Lsn(lsn + u64::from(start)),
                end: Lsn(lsn + u64::from(end)),
                flag: *flag,
                body: body.clone().into(),
            });
        }
        let block = open(open_block.seal(&seal_at(lsn)).stored().clone(), lsn).unwrap();
        let read: Result<Vec<_>, _> = block.records().unwrap().collect();
        prop_assert_eq!(read, Ok(expected));
    }

    #[test]
    fn any_payload_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let most = u32::try_from(bytes.len() / 2).unwrap();
        let mut behind = Lsn(96);
        for record in payload(&bytes, most).flatten() {
            prop_assert_eq!(record.lsn, behind);
            behind = record.end;
        }
        prop_assert!(behind <= Lsn(96 + bytes.len() as u64));
    }
}
