//! Control blocks and the mark of a clean close.

use proptest::prelude::*;

use super::*;

#[test]
fn a_segment_head_tells_whose_it_is_without_being_asked_for() {
    let head = head_at(SEGMENT, 3);
    let mut page = Block::segment_head(&head, &seal_at(SEGMENT))
        .stored()
        .to_vec();
    page.resize(4096, 0);
    assert_eq!(SegmentHead::peek(&page), Ok(head.clone()));
    let foreign = SegmentHead {
        log: OTHER_LOG,
        ..head
    };
    let seal = Seal {
        log: OTHER_LOG,
        ..seal_at(SEGMENT)
    };
    let page = Block::segment_head(&foreign, &seal).stored().clone();
    assert_eq!(SegmentHead::peek(&page), Ok(foreign));
}

#[test]
fn peeking_at_anything_else_says_why() {
    for block in one_of_each() {
        let peeked = SegmentHead::peek(block.stored());
        assert_eq!(
            peeked.is_ok(),
            block.kind() == Kind::SegmentHead,
            "{}",
            block.kind()
        );
    }
    let page = Block::segment_head(&head_at(0, 1), &seal_at(0))
        .stored()
        .to_vec();
    for bit in 0..page.len() * 8 {
        let mut page = page.clone();
        page[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHead::peek(&page).is_err(), "bit {bit}");
    }
    let mut newer = page.clone();
    newer[8] = 2;
    let newer = with_checksum(newer, LOG);
    assert_eq!(
        SegmentHead::peek(&newer),
        Err(BlockError::Version { found: 2 })
    );
    assert_eq!(
        SegmentHead::peek(&[]),
        Err(BlockError::TooShort { need: 96 })
    );
    assert_eq!(SegmentHead::peek(&[0xFF; 4096]), Err(BlockError::NotABlock));
}

#[test]
fn a_segment_head_keeps_the_latest_epochs_and_fits_its_page() {
    let head = head_at(0, MAX_EPOCH_ENTRIES + 6);
    let block = Block::segment_head(&head, &seal_at(0));
    assert!(block.stored().len() <= 4096);
    let read = open(block.stored().clone(), 0)
        .unwrap()
        .segment_head_entry()
        .unwrap();
    assert_eq!(read.epochs, head.epochs[6..]);
}

#[test]
fn a_control_block_that_contradicts_itself_is_refused() {
    let seal = seal_at(SEGMENT);
    let head = head_at(SEGMENT, 1);
    let begin = EpochBegin {
        epoch: EPOCH,
        instance: INSTANCE,
        from: seal.lsn,
        previous: Epoch::NONE,
    };
    let other_epoch = Epoch {
        number: EPOCH.number + 1,
        nonce: 0,
    };
    let wrong = [
        Block::segment_head(
            &SegmentHead {
                log: OTHER_LOG,
                ..head.clone()
            },
            &seal,
        ),
        Block::segment_head(
            &SegmentHead {
                start: Lsn(0),
                ..head.clone()
            },
            &seal,
        ),
        Block::segment_head(
            &SegmentHead {
                segment_bytes: 3 << 20,
                ..head.clone()
            },
            &seal,
        ),
        Block::segment_head(
            &SegmentHead {
                segment_bytes: 2 * SEGMENT,
                ..head.clone()
            },
            &seal,
        ),
        Block::epoch_begin(
            &EpochBegin {
                from: Lsn(0),
                ..begin
            },
            &seal,
        ),
        Block::epoch_begin(
            &EpochBegin {
                epoch: other_epoch,
                ..begin
            },
            &seal,
        ),
        Block::open_mark(
            &Open {
                epoch: other_epoch,
                instance: INSTANCE,
            },
            &seal,
        ),
    ];
    for block in wrong {
        let found = open(block.stored().clone(), SEGMENT).unwrap_err();
        assert_eq!(found, BlockError::Payload);
    }
}

#[test]
fn a_control_payload_of_another_length_is_refused() {
    for block in one_of_each().iter().filter(|block| block.kind() as u8 > 2) {
        let payload = &block.stored()[HEADER_BYTES..];
        let longer = [payload, &[0]].concat();
        let shorter = &payload[..payload.len().saturating_sub(1)];
        for wrong in [&longer, shorter] {
            if wrong == payload {
                continue;
            }
            let true_len = u32::try_from(HEADER_BYTES + wrong.len()).unwrap();
            let header = BlockHeader {
                true_len,
                ..*block.header()
            };
            let found = open(stored_as(header, wrong), SEGMENT).unwrap_err();
            assert_eq!(found, BlockError::Payload, "{}", block.kind());
        }
    }
}

#[test]
fn a_clean_mark_is_whole_or_refused() {
    let mark = CleanMark {
        log: LOG,
        end: Lsn(123 * 4096),
        hash: RunningHash(5),
    };
    let bytes = mark.encode();
    assert_eq!(CleanMark::decode(&bytes), Ok(mark));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 {
            CleanMarkError::NotAMark
        } else {
            CleanMarkError::Checksum
        };
        assert_eq!(CleanMark::decode(&flipped), Err(expected), "bit {bit}");
    }
    for length in (0..64).chain([65, 4096]) {
        let found = CleanMark::decode(&vec![0; length]);
        assert_eq!(found, Err(CleanMarkError::Length { found: length }));
    }
    assert_eq!(CleanMark::decode(&[0; 64]), Err(CleanMarkError::NotAMark));
    let mut newer = bytes;
    newer[8] = 2;
    newer[12..16].fill(0);
    let checksum = crc32fast::hash(&newer);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(
        CleanMark::decode(&newer),
        Err(CleanMarkError::Version { found: 2 })
    );
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<(u64, u128)>().prop_map(|(number, nonce)| Epoch { number, nonce })
}

fn entry() -> impl Strategy<Value = EpochEntry> {
    (epoch(), any::<u64>(), any::<u128>()).prop_map(|(epoch, start, instance)| EpochEntry {
        epoch,
        start: Lsn(start),
        instance: InstanceId(instance),
    })
}

proptest! {
    #[test]
    fn control_blocks_come_back_as_sealed(
        content in any::<i32>(),
        segment in 0_u64..1 << 30,
        shift in 20_u32..=30,
        epochs in prop::collection::vec(entry(), 0..=MAX_EPOCH_ENTRIES),
        epoch in epoch(),
        previous in epoch(),
        ids in any::<(u128, u128)>(),
    ) {
        let start = Lsn(segment << shift);
        let seal = Seal { epoch: epoch.number, ..seal_at(start.0) };
        let head = SegmentHead {
            log: LOG,
            content: ContentId(content),
            segment_bytes: 1 << shift,
            start,
            predecessor_end: start,
            predecessor_hash: RunningHash(ids.1),
            epochs,
        };
        let block = Block::segment_head(&head, &seal);
        let read = open(block.stored().clone(), start.0).unwrap();
        prop_assert_eq!(read.segment_head_entry(), Some(head));
        prop_assert_eq!(read.end(), Lsn(start.0 + 4096));

        let instance = InstanceId(ids.0);
        let begin = EpochBegin { epoch, instance, from: start, previous };
        let block = Block::epoch_begin(&begin, &seal);
        let read = open(block.stored().clone(), start.0).unwrap();
        prop_assert_eq!(read.epoch_begin_entry(), Some(begin));
        prop_assert_eq!((read.segment_head_entry(), read.open_entry()), (None, None));

        let mark = Open { epoch, instance };
        let block = Block::open_mark(&mark, &seal);
        let read = open(block.stored().clone(), start.0).unwrap();
        prop_assert_eq!(read.open_entry(), Some(mark));
    }

    #[test]
    fn epoch_entries_take_what_was_put_and_no_more(entries in prop::collection::vec(entry(), 0..5)) {
        let mut bytes = Vec::new();
        for entry in &entries {
            entry.put(&mut bytes);
        }
        prop_assert_eq!(bytes.len(), entries.len() * 48);
        bytes.extend([0; 47]);
        let mut from = bytes.as_slice();
        for entry in &entries {
            prop_assert_eq!(EpochEntry::take(&mut from), Some(*entry));
        }
        prop_assert_eq!(EpochEntry::take(&mut from), None);
        prop_assert_eq!(from.len(), 47);
    }
}
