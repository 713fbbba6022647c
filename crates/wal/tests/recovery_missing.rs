//! A segment that is not there: recycled, and so missed by nobody; or lost, and that is damage. The row
//! numbers are those of docs/recovery.md.

mod support;

use outrigger_wal::Lsn;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{FileId, Io};
use outrigger_wal::recover::RecoverOptions;
use support::*;

/// A log over six segments, of which `missing` are not there; and what recovery is told when
/// nobody needs log below `keep`.
fn without(missing: &[u64], keep: Lsn) -> (Sealer, MemoryDisk, RecoverOptions) {
    let mut log = Sealer::begun_by(HERE);
    while log.at.0 < 5 * SEGMENT + 100_000 {
        log.data(200_000);
    }
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    for number in missing {
        run(&mut disk, Io::Remove(FileId::Segment(*number)));
    }
    let mut control = log.control();
    control.durable = promise(1, log.at);
    let told = RecoverOptions { keep, ..options(HERE, control) };
    (log, disk, told)
}

// R17
#[test]
fn what_recycling_left_before_a_hole_goes_where_the_whole_hole_lies_below_what_is_needed() {
    // Segments 0 to 2 were recycled; a power cut brought the name of 0 or 1 back, because a sync of
    // the folder had been lost. Nobody needs any of them.
    for missing in [vec![1, 2], vec![0, 2], vec![2]] {
        for keep in [3 * SEGMENT, 3 * SEGMENT + 5_000, 5 * SEGMENT] {
            let (log, mut disk, told) = without(&missing, Lsn(keep));
            let found = recovered(&mut disk, &told);
            assert_eq!((found.start, found.end), (Lsn(3 * SEGMENT), log.at), "{missing:?}");
            let left: Vec<_> = snapshot(&mut disk).into_keys().collect();
            assert_eq!(left, [3, 4, 5, 6].map(FileId::Segment), "{missing:?}");
        }
    }
}

// R17
#[test]
fn a_lost_segment_that_is_needed_is_damage_and_what_lies_before_it_stays() {
    // Segment 2 is needed and its file is lost. It must not pass for a recycled one: then 0 and 1
    // would be deleted, and the log would begin behind what somebody was promised.
    for keep in [3 * SEGMENT - 4096, 2 * SEGMENT + 5_000, 2 * SEGMENT, SEGMENT, 0] {
        let (_, mut disk, told) = without(&[2], Lsn(keep));
        let error = refused(&mut disk, &told);
        assert_eq!(damage_at(&error), Lsn(2 * SEGMENT), "keep {keep}: {error}");
    }
}

// R17
#[test]
fn a_lost_segment_behind_what_recycling_left_is_damage_and_nothing_goes() {
    // Segment 1 was recycled and 0 came back; 4 is lost.
    let (_, mut disk, told) = without(&[1, 4], Lsn(2 * SEGMENT));
    let error = refused(&mut disk, &told);
    assert_eq!(damage_at(&error), Lsn(4 * SEGMENT), "{error}");
}
