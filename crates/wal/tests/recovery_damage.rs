//! Bad bytes that somebody was promised: refused with place and cause, and nothing is changed. The row numbers
//! are those of docs/recovery.md.

mod support;

use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{FileId, Io};
use outrigger_wal::format::{Block, HEADER_BYTES};
use outrigger_wal::recover::{Promises, recover};
use outrigger_wal::{Error, Lsn};
use support::*;

/// A log of some blocks, all of them promised by the control file.
fn promised() -> (Sealer, MemoryDisk, Promises) {
    let mut log = Sealer::begun_by(THERE);
    log.data(5_000);
    log.data(100);
    log.open(THERE);
    log.data(300);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    let mut control = log.control();
    control.durable = promise(1, log.at);
    (log, disk, control)
}

// R13, R14
#[test]
fn a_flipped_bit_in_each_field_is_damage_where_promised_and_a_torn_tail_where_not() {
    let (log, mut disk, control) = promised();
    let last = log.blocks.last().unwrap();
    let fields = [
        ("magic", 0, 8),
        ("version", 8, 2),
        ("header length", 10, 2),
        ("kind", 12, 1),
        ("flags", 13, 2),
        ("checksum algorithm", 15, 1),
        ("compression", 16, 1),
        ("reserved", 17, 3),
        ("header checksum", 20, 4),
        ("payload checksum", 24, 4),
        ("true length", 28, 4),
        ("stored length", 32, 4),
        ("record count", 36, 4),
        ("LSN", 40, 8),
        ("epoch", 48, 8),
        ("running hash", 56, 16),
        ("durable LSN", 72, 8),
        ("commit LSN", 80, 8),
        ("sealed", 88, 8),
        ("payload", 96, 300),
    ];
    let known = options(HERE, control);
    let unknown = options(HERE, Promises::default());
    for (field, from, len) in fields {
        for at in from..from + len {
            let at = last.lsn().saturating_add(at);
            let bit = (at.0 % 8) as u8;
            flip(&mut disk, at, bit);
            let error = refused(&mut disk, &known);
            assert_eq!(damage_at(&error), last.lsn(), "{field}: {error}");
            let mut copy = MemoryDisk::new();
            log.write(&mut copy);
            flip(&mut copy, at, bit);
            let found = recover(&mut copy, &unknown).unwrap().unwrap();
            assert_eq!(found.end, last.lsn(), "{field}");
            assert!(found.torn.is_some(), "{field}");
            flip(&mut disk, at, bit);
        }
    }
    assert_eq!(recovered(&mut disk, &known).end, log.at);
}

// R15
#[test]
fn zeros_where_a_promised_block_was_are_damage() {
    let (log, mut disk, control) = promised();
    for block in &log.blocks {
        let mut copy = MemoryDisk::new();
        log.write(&mut copy);
        zero(&mut copy, block.lsn(), block.lsn().saturating_add(4096));
        let error = refused(&mut copy, &options(HERE, control.clone()));
        assert_eq!(damage_at(&error), block.lsn());
    }
    recovered(&mut disk, &options(HERE, control));
}

// R13
#[test]
fn damage_names_file_place_cause_and_whose_promise_it_was() {
    let (log, mut disk, control) = promised();
    flip(&mut disk, log.blocks[2].lsn().saturating_add(200), 0);
    let error = refused(&mut disk, &options(HERE, control)).to_string();
    for part in [
        "0000000000000000.seg",
        &log.blocks[2].lsn().to_string(),
        "payload does not match its checksum",
        &log.at.to_string(),
        "control file",
        "another one",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

// R13
#[test]
fn a_commit_promise_of_the_control_file_counts_while_in_sync() {
    let (log, mut disk, mut control) = promised();
    control.commit = control.durable.take();
    let last = log.blocks.last().unwrap().lsn();
    flip(&mut disk, last, 0);
    control.in_sync = true;
    let error = refused(&mut disk, &options(HERE, control.clone()));
    assert_eq!(damage_at(&error), last);
    control.in_sync = false;
    let found = recovered(&mut disk, &options(HERE, control));
    assert_eq!((found.end, found.commit), (last, log.at));
}

// R16
#[test]
fn a_misplaced_block_is_damage_where_promised() {
    let (log, mut disk, control) = promised();
    let [.., from, to] = log.blocks.as_slice() else {
        panic!("two blocks");
    };
    write_bytes(&mut disk, to.lsn(), from.stored());
    let error = refused(&mut disk, &options(HERE, control));
    assert_eq!(damage_at(&error), to.lsn());
    assert!(error.to_string().contains("stale"), "{error}");
}

fn three_segments() -> (Sealer, MemoryDisk) {
    let mut log = Sealer::begun_by(HERE);
    while log.at.0 < 2 * SEGMENT {
        log.data(200_000);
    }
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    (log, disk)
}

// R17
#[test]
fn a_missing_segment_before_one_that_holds_blocks_is_damage_without_any_promise() {
    let (log, mut disk) = three_segments();
    run(&mut disk, Io::Remove(FileId::Segment(1)));
    let error = refused(&mut disk, &options(HERE, log.control()));
    assert_eq!(damage_at(&error), Lsn(SEGMENT));
    assert!(error.to_string().contains("missing"), "{error}");
}

// R17
#[test]
fn missing_last_segments_are_damage_where_promised() {
    let (log, mut disk) = three_segments();
    let mut control = log.control();
    control.durable = promise(1, log.at);
    for number in [3, 2, 1] {
        run(&mut disk, Io::Remove(FileId::Segment(number)));
    }
    let error = refused(&mut disk, &options(HERE, control.clone()));
    assert_eq!(damage_at(&error), Lsn(SEGMENT));
    run(&mut disk, Io::Remove(FileId::Segment(0)));
    let error = refused(&mut disk, &options(HERE, control));
    assert_eq!(damage_at(&error), Lsn::ZERO);
}

// R17
#[test]
fn missing_first_segments_show_in_the_start() {
    let (log, mut disk) = three_segments();
    run(&mut disk, Io::Remove(FileId::Segment(0)));
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.start, found.end), (Lsn(SEGMENT), log.at));
    assert_eq!((found.hash, found.epochs), (log.hash, log.epochs));
}

// R17
#[test]
fn a_hole_among_prepared_segments_is_closed() {
    let (log, mut disk) = three_segments();
    prepare(&mut disk, [4, 6]);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.segments.as_slice()), (log.at, [0, 1, 2].as_slice()));
}

// R18
#[test]
fn a_short_segment_is_damage_where_promised_and_mended_where_not() {
    let (log, mut disk) = three_segments();
    let bytes = snapshot(&mut disk)[&FileId::Segment(1)].clone();
    let shorten = |disk: &mut MemoryDisk, by: usize| {
        run(disk, Io::Create(FileId::Segment(1)));
        write_at(disk, FileId::Segment(1), 0, &bytes[..bytes.len() - by]);
    };
    // Within a Pad nothing is lost.
    shorten(&mut disk, 8192);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.torn), (log.at, None));
    assert_eq!(snapshot(&mut disk)[&FileId::Segment(1)], bytes);
    shorten(&mut disk, 300_000);
    let short = Lsn(2 * SEGMENT - 300_000);
    let mut blocks = log.blocks.iter();
    let torn = blocks.rfind(|block| block.lsn() < short).unwrap();
    let mut control = log.control();
    control.durable = promise(1, log.at);
    let error = refused(&mut disk, &options(HERE, control));
    assert_eq!(damage_at(&error), torn.lsn());
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.segments.as_slice()), (torn.lsn(), [0, 1].as_slice()));
    assert_eq!(snapshot(&mut disk)[&FileId::Segment(1)].len() as u64, SEGMENT);
}

// R18
#[test]
fn a_segment_that_is_too_long_is_refused() {
    let (log, mut disk) = three_segments();
    write_at(&mut disk, FileId::Segment(1), SEGMENT, &[1]);
    let error = refused(&mut disk, &options(HERE, log.control()));
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}

// R19
#[test]
fn the_first_segments_head_is_damaged_even_without_a_promise() {
    let (log, mut disk) = three_segments();
    run(&mut disk, Io::Remove(FileId::Segment(0)));
    flip(&mut disk, Lsn(SEGMENT + 100), 2);
    let error = refused(&mut disk, &options(HERE, log.control()));
    assert_eq!(damage_at(&error), Lsn(SEGMENT));
}

// R20
#[test]
fn a_segment_of_another_log_or_content_or_size_is_refused() {
    let (log, mut disk) = three_segments();
    let mut known = options(HERE, log.control());
    known.log = Some(outrigger_wal::LogId(9));
    let error = refused(&mut disk, &known);
    assert!(matches!(error, Error::WrongLog { found, .. } if found == LOG));
    known = options(HERE, log.control());
    known.content = Some(outrigger_wal::ContentId(9));
    let error = refused(&mut disk, &known);
    assert!(matches!(error, Error::WrongContent { found, .. } if found == CONTENT));
    known = options(HERE, log.control());
    known.segment_bytes = Some(2 * SEGMENT);
    assert!(matches!(refused(&mut disk, &known), Error::Config { .. }));
}

// R20
#[test]
fn one_segment_of_another_log_is_refused_even_behind_the_end() {
    let (log, mut disk) = three_segments();
    let head = log.blocks.first().unwrap();
    let mut theirs = head.segment_head_entry().unwrap();
    theirs.log = outrigger_wal::LogId(9);
    theirs.start = Lsn(3 * SEGMENT);
    let mut seal = log.seal();
    seal.log = theirs.log;
    seal.lsn = theirs.start;
    let theirs = Block::segment_head(&theirs, &seal);
    write_block(&mut disk, &theirs);
    let error = refused(&mut disk, &options(HERE, log.control()));
    assert!(matches!(error, Error::WrongLog { .. }), "{error}");
}

// R20
#[test]
fn a_segment_whose_number_lies_behind_the_last_lsn_is_refused() {
    // Its blocks would have no LSN, or there would be none for the segment behind it.
    let last = u64::MAX / SEGMENT;
    for (number, is_possible) in
        [(u64::MAX, false), (last + 1, false), (last, false), (last - 1, false), (last - 2, true)]
    {
        let (log, mut disk) = three_segments();
        prepare(&mut disk, [number]);
        let known = options(HERE, log.control());
        if is_possible {
            // Behind a hole, and it holds nothing: it goes, as prepared ones do.
            assert_eq!(recovered(&mut disk, &known).segments, [0, 1, 2]);
            continue;
        }
        let error = refused(&mut disk, &known);
        let Error::Foreign { name, cause } = &error else {
            panic!("{number}: expected a refusal, not: {error}");
        };
        assert_eq!(*name, FileId::Segment(number).name());
        assert!(cause.contains("behind the last LSN"), "{cause}");
    }
}

// R20
#[test]
fn a_segment_under_another_segments_name_is_refused() {
    let (log, mut disk) = three_segments();
    let mut control = log.control();
    control.durable = promise(1, log.at);
    let bytes = snapshot(&mut disk)[&FileId::Segment(0)].clone();
    write_at(&mut disk, FileId::Segment(1), 0, &bytes);
    let error = refused(&mut disk, &options(HERE, control));
    assert_eq!(damage_at(&error), Lsn(SEGMENT));
}

// R22
#[test]
fn a_newer_format_is_refused_at_the_end_and_behind_it() {
    // The version, a flag that must not be skipped, the kind, the checksum algorithm, the compression,
    // a reserved byte.
    for (offset, value) in [(8, 2), (14, 1), (12, 77), (15, 2), (16, 9), (17, 1)] {
        for behind in [0, 4096] {
            let (log, mut disk, _) = promised();
            let seal =
                outrigger_wal::format::Seal { lsn: log.at.saturating_add(behind), ..log.seal() };
            let mut bytes = Block::watermark(&seal).stored().to_vec();
            bytes[offset] = value;
            let mut crc = crc32fast::Hasher::new();
            bytes[20..24].fill(0);
            crc.update(&LOG.0.to_le_bytes());
            crc.update(&bytes[..HEADER_BYTES]);
            bytes[20..24].copy_from_slice(&crc.finalize().to_le_bytes());
            write_bytes(&mut disk, seal.lsn, &bytes);
            let error = refused(&mut disk, &options(HERE, log.control()));
            assert!(
                matches!(error, Error::NewerFormat { lsn, .. } | Error::UnknownFeature { lsn, .. } if lsn == seal.lsn),
                "{error}"
            );
            assert!(error.to_string().contains("upgrade"), "{error}");
        }
    }
}
