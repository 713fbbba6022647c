//! Errors, a full disk, rot.

use outrigger_wal::disk::{Dir, DiskExt};

use super::super::{FaultRates, OpKind};
use super::*;

fn is_failed(result: &Result<IoDone, IoFault>) -> bool {
    matches!(result, Err(IoFault::Failed { .. }))
}

#[test]
fn a_failed_sync_leaves_pages_clean_but_not_durable() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 4 * 4096, 2);
        disk.fail_nth(OpKind::Sync, 1);
        assert!(is_failed(&run(&mut disk, Io::Sync(FILE))));
        assert_eq!(sectors(&disk)[..32], [2; 32], "still in the page cache");
        // The lie: it succeeds, because nothing is dirty.
        done(&mut disk, Io::Sync(FILE));
        disk.kill();
        assert_eq!(sectors(&disk)[..32], [2; 32], "a kill does not show it");
        let report = disk.power_cut();
        assert_eq!(report.pages_kept + report.pages_torn, 0);
        let sectors = sectors(&disk);
        assert!(sectors[..32].contains(&1), "at least one page is gone");
        lost += sectors[..32].iter().filter(|value| **value == 1).count();
    }
    assert!(lost < 100 * 32, "some pages were written before the error");
}

#[test]
fn writing_again_after_a_failed_sync_makes_bytes_durable() {
    for seed in 0..50 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 4 * 4096, 2);
        disk.fail_nth(OpKind::Sync, 1);
        assert!(is_failed(&run(&mut disk, Io::Sync(FILE))));
        fill(&mut disk, 0, 4 * 4096, 2);
        done(&mut disk, Io::Sync(FILE));
        disk.power_cut();
        assert_eq!(sectors(&disk)[..32], [2; 32]);
    }
}

#[test]
fn a_failed_durable_write_leaves_any_beginning_and_no_promise() {
    let (mut visible, mut durable) = (0, 0);
    for seed in 0..100 {
        let mut disk = with_file(seed);
        disk.fail_nth(OpKind::Write, 1);
        assert!(is_failed(&run(&mut disk, write_io(0, vec![2; 4 * 4096], true))));
        let written = content(&disk).iter().position(|byte| *byte == 1).unwrap();
        visible += u32::from(written > 0);
        done(&mut disk, Io::Sync(FILE));
        disk.drop_clean_pages();
        let after = content(&disk);
        assert!(after[..4 * 4096].contains(&1));
        disk.power_cut();
        assert_eq!(content(&disk), after);
        durable += u32::from(after.contains(&2));
    }
    assert!(visible > 50 && durable > 10 && durable < visible, "{visible} {durable}");
}

#[test]
fn a_failed_folder_sync_is_not_made_good_by_the_next() {
    let lost = (0..50).filter(|seed| {
        let mut disk = SimDisk::new(SimDiskOptions::immediate(*seed));
        done(&mut disk, Io::Create(FILE));
        disk.fail_nth(OpKind::Sync, 1);
        assert!(is_failed(&run(&mut disk, Io::SyncDir(Dir::Log))));
        done(&mut disk, Io::SyncDir(Dir::Log));
        assert_eq!(disk.files(), [FILE]);
        disk.power_cut();
        disk.files().is_empty()
    });
    assert!((5..45).contains(&lost.count()));
}

#[test]
fn the_nth_operation_of_a_kind_fails_and_no_other() {
    let mut disk = with_file(1);
    disk.fail_nth(OpKind::Read, 2);
    disk.fail_nth(OpKind::Name, 1);
    let read = || Io::Read { file: FILE, at: 0, len: 1 };
    assert!(run(&mut disk, read()).is_ok());
    fill(&mut disk, 0, 1, 9);
    assert!(is_failed(&run(&mut disk, read())));
    assert!(run(&mut disk, read()).is_ok());
    assert!(is_failed(&run(&mut disk, Io::Remove(FILE))));
    assert_eq!(disk.files(), [FILE]);
    done(&mut disk, Io::Remove(FILE));
}

#[test]
fn random_faults_come_as_often_as_they_are_set() {
    let mut disk = with_file(3);
    disk.set_faults(FaultRates { read_per_mille: 100, ..FaultRates::default() });
    let failed = (0..1000)
        .filter(|_| is_failed(&run(&mut disk, Io::Read { file: FILE, at: 0, len: 1 })))
        .count();
    assert!((60..140).contains(&failed), "{failed}");
    disk.set_faults(FaultRates::default());
    assert!((0..100).all(|_| { run(&mut disk, Io::Read { file: FILE, at: 0, len: 1 },).is_ok() }));
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let mut disk = with_file(1);
    disk.set_capacity(Some((PAGES + 2) * 4096));
    assert_eq!(disk.used_bytes(), PAGES * 4096);
    let no_space = |result| matches!(result, Err(IoFault::NoSpace { .. }));
    let end = PAGES * 4096;
    assert!(no_space(run(&mut disk, Io::Zero { file: FILE, at: end, len: 3 * 4096 })));
    assert_eq!(content(&disk).len() as u64, end);
    done(&mut disk, Io::Zero { file: FILE, at: end, len: 2 * 4096 });
    assert!(no_space(run(&mut disk, write_io(end + 2 * 4096, "x", true))));
    assert!(no_space(run(&mut disk, Io::Create(FileId::Prepared(0)))));
    done(&mut disk, write_io(0, vec![7; 4096], true));
    assert!(run(&mut disk, Io::Read { file: FILE, at: 0, len: 1 }).is_ok());
    disk.set_capacity(None);
    done(&mut disk, Io::Create(FileId::Prepared(0)));
    // Removing makes room.
    disk.set_capacity(Some((PAGES + 2) * 4096));
    done(&mut disk, Io::Remove(FILE));
    done(&mut disk, Io::Zero { file: FileId::Prepared(0), at: 0, len: 4096 });
}

#[test]
fn a_flipped_bit_stays_flipped() {
    let mut disk = with_file(1);
    assert!(disk.flip_bit(FILE, 5000, 3));
    assert_eq!(content(&disk)[5000], 1 ^ 8);
    disk.power_cut();
    assert_eq!(content(&disk)[5000], 1 ^ 8);
    disk = disk.reopen();
    assert_eq!(disk.blocking().read(FILE, 5000, 1).unwrap()[..], [9]);
    assert!(!disk.flip_bit(FILE, PAGES * 4096, 0));
    assert!(!disk.flip_bit(FileId::CleanMark, 0, 0));
}

#[test]
fn a_broken_sector_cannot_be_read_until_it_is_written() {
    let mut disk = with_file(1);
    assert!(disk.break_sector(FILE, 1000));
    assert!(is_failed(&run(&mut disk, Io::Read { file: FILE, at: 0, len: 4096 })));
    assert!(is_failed(&run(&mut disk, Io::Read { file: FILE, at: 1023, len: 1 })));
    assert!(run(&mut disk, Io::Read { file: FILE, at: 1024, len: 4096 }).is_ok());
    fill(&mut disk, 512, 512, 5);
    assert!(run(&mut disk, Io::Read { file: FILE, at: 0, len: 4096 }).is_ok());
}

#[test]
fn foreign_names_are_listed_apart() {
    let mut disk = with_file(1);
    disk.add_foreign(Dir::Log, "notes.txt");
    disk.add_foreign(Dir::Instance, "other");
    let listed = disk.blocking().list(Dir::Log).unwrap();
    assert_eq!(listed, (vec![FILE], vec!["notes.txt".to_owned()]));
}
