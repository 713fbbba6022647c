//! Tails that were torn by a crash, in every shape, and what no promise protects. The row numbers
//! are those of docs/recovery.md.

mod support;

use outrigger_wal::disk::FileId;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::recover::{Promises, recover};
use outrigger_wal::{CreateOptions, Epoch, InstanceId, Lsn, create};
use support::*;

/// A log whose first blocks are promised and whose last three are not: 4 pages, 1 page, 2 pages.
fn with_open_end(instance: InstanceId) -> (Sealer, [Lsn; 4]) {
    let mut log = Sealer::begun_by(instance);
    log.data(5_000);
    log.promise_all();
    let a = log.data(15_000).lsn();
    let b = log.data(100).lsn();
    let c = log.data(6_000);
    (log, [a, b, c.lsn(), c.end()])
}

// R1
#[test]
fn a_log_without_a_tail_is_kept_whole() {
    let mut disk = MemoryDisk::new();
    let (log, _) = with_open_end(HERE);
    log.write(&mut disk);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.start, found.end, found.hash), (Lsn::ZERO, log.at, log.hash));
    assert_eq!((found.torn, found.was_clean), (None, false));
    assert_eq!(found.epochs, log.epochs);
    assert_eq!((found.floor, found.commit), (log.durable, log.commit));
    assert_eq!(found.segments, [0, 1]);
    assert_eq!(found.index.at_or_before(log.at), Some(Lsn::ZERO));
    assert_eq!((found.log, found.content, found.segment_bytes), (LOG, CONTENT, SEGMENT));
}

// R2
#[test]
fn a_new_log_is_empty_for_who_knows_it_and_an_error_for_who_does_not() {
    let mut disk = MemoryDisk::new();
    let new = CreateOptions { log: LOG, content: CONTENT, segment_bytes: SEGMENT };
    create(&mut disk, &new).unwrap();
    let known = options(HERE, Promises::default());
    let found = recovered(&mut disk, &known);
    assert_eq!((found.end, found.segments.len()), (Lsn::ZERO, 1));
    let error = refused(&mut disk, &Default::default());
    assert!(error.to_string().contains("control file"), "{error}");
    assert!(create(&mut disk, &new).is_err(), "a log is never made over another");
}

// R3
#[test]
fn a_folder_without_segments_is_no_log() {
    let mut disk = MemoryDisk::new();
    let known = options(HERE, Promises::default());
    assert_eq!(recover(&mut disk, &known).unwrap(), None);
}

// R4
#[test]
fn a_torn_tail_of_any_shape_is_cut_saved_and_reported() {
    // Which of the seven pages of the three last blocks survived.
    for survived in 0_u8..1 << 7 {
        let (log, [a, b, c, end]) = with_open_end(HERE);
        let mut disk = MemoryDisk::new();
        log.write(&mut disk);
        let lost = |page: u64| survived & 1 << page == 0;
        for page in (0..7).filter(|page| lost(*page)) {
            let at = a.saturating_add(page * 4096);
            zero(&mut disk, at, at.saturating_add(4096));
        }
        let mut keep = a;
        for (from, to) in [(a, b), (b, c), (c, end)] {
            let mut pages = from.since(a) / 4096..to.since(a) / 4096;
            if keep != from || pages.any(lost) {
                break;
            }
            keep = to;
        }
        let found = recovered(&mut disk, &options(HERE, log.control()));
        assert_eq!(found.end, keep, "pages that survived: {survived:07b}");
        let rest = usize::try_from(end.since(keep)).unwrap();
        let segment = disk_bytes(&mut disk, FileId::Segment(0));
        let from = usize::try_from(keep.0).unwrap();
        assert!(segment[from..].iter().all(|byte| *byte == 0), "{survived:07b}");
        let any_left = (keep.since(a) / 4096..7).any(|page| !lost(page));
        assert_eq!(found.torn.is_some(), any_left, "{survived:07b}");
        if let Some(saved) = found.torn {
            assert_eq!((saved.from, saved.file), (keep, FileId::Saved(keep, 0)));
            let kept = disk_bytes(&mut disk, saved.file);
            assert_eq!(kept.len() as u64, saved.bytes);
            assert!(kept.len() <= rest && kept.last() != Some(&0));
        }
    }
}

fn disk_bytes(disk: &mut MemoryDisk, file: FileId) -> Vec<u8> {
    snapshot(disk)[&file].to_vec()
}

// R5
#[test]
fn half_a_page_torn_off_is_cut() {
    let (log, [.., c, _]) = with_open_end(HERE);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    let sector = c.saturating_add(512);
    write_bytes(&mut disk, sector, &[0; 512]);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!(found.end, c);
    assert_eq!(found.torn.map(|saved| saved.from), Some(c));
}

// R7
#[test]
fn a_block_that_outlived_an_earlier_one_is_torn_unless_its_sealer_here_was_durable_beyond() {
    for (sealer, durable, is_damage) in [
        (HERE, false, false),
        (HERE, true, true),
        // A mirror holds the block that its primary sealed once the one before was durable there.
        (THERE, false, false),
        (THERE, true, false),
    ] {
        let mut log = Sealer::begun_by(sealer);
        log.promise_all();
        let a = log.data(5_000);
        if durable {
            log.durable = log.at;
        }
        log.data(100);
        let mut disk = MemoryDisk::new();
        log.write(&mut disk);
        zero(&mut disk, a.lsn(), a.end());
        let known = options(HERE, log.control());
        if is_damage {
            assert_eq!(damage_at(&refused(&mut disk, &known)), a.lsn());
        } else {
            assert_eq!(recovered(&mut disk, &known).end, a.lsn());
        }
    }
}

// R8
#[test]
fn a_commit_lsn_behind_the_end_is_a_promise_while_this_copy_was_in_sync() {
    for in_sync in [true, false] {
        let mut log = Sealer::begun_by(THERE);
        let a = log.data(5_000);
        log.promise_all();
        log.data(100);
        let mut disk = MemoryDisk::new();
        log.write(&mut disk);
        zero(&mut disk, a.lsn(), a.lsn().saturating_add(4096));
        let mut known = options(HERE, log.control());
        known.promises.in_sync = in_sync;
        if in_sync {
            assert_eq!(damage_at(&refused(&mut disk, &known)), a.lsn());
        } else {
            let found = recovered(&mut disk, &known);
            assert_eq!((found.end, found.commit), (a.lsn(), Lsn::ZERO));
        }
    }
}

// R9
#[test]
fn a_tail_over_several_segments_leaves_no_block_behind() {
    let mut log = Sealer::begun_by(HERE);
    let torn = log.data(5_000);
    while log.at.0 < 3 * SEGMENT {
        log.data(200_000);
    }
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    flip(&mut disk, torn.lsn().saturating_add(2_000), 3);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!(found.end, torn.lsn());
    assert_eq!(found.segments, [0]);
    let saved = found.torn.expect("three segments were torn");
    assert_eq!(saved.bytes, log.at.0 - torn.lsn().0 - padding_of_last(&log));
}

fn padding_of_last(log: &Sealer) -> u64 {
    log.blocks.last().map_or(0, |block| block.padding_bytes() as u64)
}

// R9
#[test]
fn an_end_at_a_segments_end_keeps_the_prepared_segment() {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    log.pad();
    let end = log.at;
    log.data(5_000);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    flip(&mut disk, end.saturating_add(200), 0);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end.0, found.segments.as_slice()), (SEGMENT, [0, 1, 2].as_slice()));
}

// R10
#[test]
fn stale_blocks_in_a_recycled_file_are_neither_saved_nor_reported() {
    let mut old = Sealer::begun_by(HERE);
    while old.at.0 < SEGMENT {
        old.data(30_000);
    }
    let mut disk = MemoryDisk::new();
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    log.write(&mut disk);
    // Segment 1 is a file that once was segment 0.
    for block in old.blocks.iter().filter(|block| block.end().0 <= SEGMENT) {
        let mut page = block.stored().to_vec();
        page.resize(page.len() + block.padding_bytes(), 0);
        write_at(&mut disk, FileId::Segment(1), block.lsn().0, &page);
    }
    let before = disk_bytes(&mut disk, FileId::Segment(1));
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.torn), (log.at, None));
    assert_eq!(found.segments, [0, 1]);
    assert_eq!(disk_bytes(&mut disk, FileId::Segment(1)), before);
}

// R10
#[test]
fn a_live_block_among_stale_ones_is_found() {
    let mut old = Sealer::begun_by(HERE);
    old.data(400_000);
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    let end = log.at;
    log.pad();
    log.data(5_000);
    let live = log.data(100);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    zero(&mut disk, Lsn(SEGMENT), Lsn(2 * SEGMENT));
    let stale = old.blocks.last().unwrap();
    write_at(&mut disk, FileId::Segment(1), 0, stale.stored());
    write_block(&mut disk, &live);
    zero(&mut disk, end, end.saturating_add(4096));
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.segments.as_slice()), (end, [0].as_slice()));
    assert!(found.torn.expect("one block was torn").to > live.lsn());
}

// R11
#[test]
fn blocks_of_another_history_do_not_continue_the_chain() {
    let mut log = Sealer::begun_by(HERE);
    log.data(5_000);
    let mut other = log.clone();
    other.data(9_000);
    let ghost = other.data(100);
    let end = log.data(9_100).end();
    assert_eq!(end, ghost.lsn());
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    write_block(&mut disk, &ghost);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.hash), (end, log.hash));
    assert_eq!(found.torn.map(|saved| saved.from), Some(end));
}

// R11
#[test]
fn blocks_of_an_epoch_that_does_not_reign_do_not_continue_the_chain() {
    let mut log = Sealer::begun_by(HERE);
    log.begin(5, HERE);
    let end = log.at;
    log.epoch = Epoch { number: 4, ..log.epoch };
    log.data(100);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    assert_eq!(recovered(&mut disk, &options(HERE, log.control())).end, end);
}

// R11
#[test]
fn an_epoch_may_begin_with_a_segment() {
    let mut log = Sealer::begun_by(THERE);
    log.data(5_000);
    log.pad();
    log.begin(2, HERE);
    log.open(HERE);
    log.data(5_000);
    log.watermark();
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    let found = recovered(&mut disk, &options(HERE, log.control()));
    assert_eq!((found.end, found.epochs), (log.at, log.epochs));
}

// R12
#[test]
fn a_promise_of_an_older_epoch_counts_up_to_where_the_next_one_starts() {
    let (mut log, [a, .., end]) = with_open_end(THERE);
    let mut known = options(HERE, log.control());
    known.promises.durable = promise(1, end);
    log.at = a;
    let fork = log.epochs[0];
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    flip(&mut disk, a, 0);
    assert_eq!(damage_at(&refused(&mut disk, &known)), a);
    // The same promise, once the control file lists the epoch that forked off at `a`.
    known.promises.epochs.push(outrigger_wal::format::EpochEntry {
        epoch: Epoch { number: 2, nonce: 7 },
        start: a,
        ..fork
    });
    let found = recovered(&mut disk, &known);
    assert_eq!((found.end, found.floor), (a, a));
}

// R26
#[test]
fn saved_bytes_are_never_written_over() {
    let (log, [a, ..]) = with_open_end(HERE);
    let mut disk = MemoryDisk::new();
    let known = options(HERE, log.control());
    for serial in 0..3 {
        log.write(&mut disk);
        write_bytes(&mut disk, a, &[serial + 1; 10]);
        recover(&mut disk, &known).unwrap();
    }
    for serial in 0..3 {
        let kept = disk_bytes(&mut disk, FileId::Saved(a, serial));
        assert_eq!(u32::from(kept[0]), serial + 1);
    }
}
