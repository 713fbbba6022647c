//! Kills and power cuts: what survives, what may, what is gone.

use std::collections::BTreeSet;

use outrigger_wal::Micros;
use outrigger_wal::disk::{Dir, Disk, DiskExt, OpId};

use super::*;

#[test]
fn synced_bytes_survive_a_power_cut() {
    for seed in 0..100 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 3 * 4096, 2);
        done(&mut disk, Io::Sync(FILE));
        done(&mut disk, write_io(8 * 4096, vec![3; 4096], true));
        fill(&mut disk, 12 * 4096, 4096, 4);
        disk.power_cut();
        let sectors = sectors(&disk);
        assert!(sectors[..24].iter().all(|value| *value == 2));
        assert!(sectors[64..72].iter().all(|value| *value == 3));
        assert!(sectors[24..64].iter().chain(&sectors[72..96]).all(|value| *value == 1));
    }
}

#[test]
fn unsynced_bytes_may_survive_in_any_subset() {
    let (mut all, mut none, mut torn) = (0, 0, 0);
    let (mut beginning, mut end, mut hole) = (0, 0, 0);
    for seed in 0..600 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, PAGES * 4096, 2);
        let report = disk.power_cut();
        assert_eq!(report.pages_kept + report.pages_lost + report.pages_torn, PAGES);
        let sectors = sectors(&disk);
        let new: Vec<bool> = sectors.iter().map(|value| *value == 2).collect();
        let pages: Vec<&[bool]> = new.chunks(8).collect();
        let count = new.iter().filter(|new| **new).count();
        all += u32::from(count == new.len());
        none += u32::from(count == 0);
        torn += u32::from(pages.iter().any(|page| page.contains(&true) && page.contains(&false)));
        let partial = count > 0 && count < new.len();
        beginning += u32::from(partial && new.is_sorted_by(|a, b| a >= b));
        end += u32::from(partial && new.is_sorted());
        hole += u32::from(partial && new[0] && new[new.len() - 1]);
    }
    for seen in [all, none, torn, beginning, end, hole] {
        assert!(seen >= 20, "{:?}", [all, none, torn, beginning, end, hole]);
    }
}

#[test]
fn an_older_version_of_a_page_may_be_what_survives() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 4096, 2);
        fill(&mut disk, 0, 4096, 3);
        disk.power_cut();
        seen.extend(sectors(&disk)[..8].iter().copied());
    }
    assert_eq!(seen, [1, 2, 3].into());
}

#[test]
fn a_sync_covers_what_was_written_before_it_was_asked_for_and_no_more() {
    let mut lost = 0;
    for seed in 0..200 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 4096, 2);
        disk.submit(OpId(1), Io::Sync(FILE));
        disk.submit(OpId(2), write_io(4096, vec![2; 4096], false));
        disk.reap(None, &mut Vec::new());
        disk.power_cut();
        let sectors = sectors(&disk);
        assert!(sectors[..8].iter().all(|value| *value == 2));
        lost += u32::from(sectors[8..16].contains(&1));
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_page_written_again_during_its_sync_is_durable_as_it_was() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = with_file(seed);
        disk.set_immediate(false);
        fill(&mut disk, 0, 4096, 2);
        disk.submit(OpId(1), Io::Sync(FILE));
        fill_later(&mut disk);
        disk.advance(Micros(1_000_000));
        disk.power_cut();
        seen.extend(sectors(&disk)[..8].iter().copied());
    }
    assert_eq!(seen, [2, 3].into());
}

/// Writes the first page again, which takes effect before or after what else is in flight.
fn fill_later(disk: &mut SimDisk) {
    disk.submit(OpId(2), write_io(0, vec![3; 4096], false));
}

#[test]
fn a_kill_keeps_the_page_cache_and_any_part_of_what_was_in_flight() {
    let (mut wholly, mut partly, mut not) = (0, 0, 0);
    for seed in 0..200 {
        let mut disk = with_file(seed);
        fill(&mut disk, 0, 4096, 2);
        disk.submit(OpId(1), write_io(4096, vec![3; 4096], true));
        let report = disk.kill();
        assert_eq!(report.in_flight, 1);
        let content = content(&disk);
        assert!(content[..4096].iter().all(|byte| *byte == 2));
        match content[4096..8192].iter().filter(|byte| **byte == 3).count() {
            4096 => wholly += 1,
            0 => not += 1,
            _ => partly += 1,
        }
        let mut completions = Vec::new();
        disk.reopen().reap(Some(Micros(0)), &mut completions);
        disk.reap(Some(Micros(0)), &mut completions);
        assert_eq!(completions, []);
    }
    assert!(wholly > 20 && partly > 20 && not > 20, "{wholly} {partly} {not}");
}

#[test]
fn a_kill_leaves_unsynced_bytes_to_a_later_power_cut() {
    let lost = (0..50).filter(|seed| {
        let mut disk = with_file(*seed);
        fill(&mut disk, 0, 4096, 2);
        disk.kill();
        assert_eq!(sectors(&disk)[..8], [2; 8]);
        disk.power_cut();
        sectors(&disk)[..8].contains(&1)
    });
    assert!(lost.count() > 10);
}

#[test]
fn a_handle_from_before_a_crash_is_closed() {
    let mut old = with_file(1);
    let clone = &mut old.clone();
    old.power_cut();
    assert_eq!(run(&mut old, Io::Sync(FILE)), Err(IoFault::Closed));
    assert_eq!(run(clone, write_io(0, "x", true)), Err(IoFault::Closed));
    let mut new = old.reopen();
    assert_eq!(content(&new)[0], 1);
    done(&mut new, Io::Sync(FILE));
    new.kill();
    assert_eq!(run(&mut new, Io::Sync(FILE)), Err(IoFault::Closed));
}

#[test]
fn the_size_of_a_file_is_durable_only_after_a_sync() {
    let mut sizes = BTreeSet::new();
    for seed in 0..100 {
        let mut disk = with_file(seed);
        done(&mut disk, Io::Zero { file: FILE, at: PAGES * 4096, len: 4 * 4096 });
        disk.power_cut();
        sizes.insert(content(&disk).len());
    }
    assert!(sizes.len() > 3, "{sizes:?}");
    assert_eq!(sizes.first(), Some(&(16 * 4096)));
    assert_eq!(sizes.last(), Some(&(20 * 4096)));
    for seed in 0..100 {
        let mut disk = with_file(seed);
        done(&mut disk, Io::Zero { file: FILE, at: PAGES * 4096, len: 4 * 4096 });
        done(&mut disk, Io::Sync(FILE));
        disk.power_cut();
        assert_eq!(content(&disk).len(), 20 * 4096);
    }
}

#[test]
fn a_durable_write_makes_the_size_durable_that_it_needs() {
    for seed in 0..100 {
        let mut disk = with_file(seed);
        done(&mut disk, write_io(PAGES * 4096, "tail", true));
        fill(&mut disk, 30 * 4096, 1, 9);
        disk.power_cut();
        assert_eq!(content(&disk).slice(16 * 4096..16 * 4096 + 4), "tail");
    }
}

#[test]
fn an_emptied_file_may_come_back_until_it_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let mut disk = with_file(seed);
        done(&mut disk, Io::Create(FILE));
        assert_eq!(content(&disk).len(), 0);
        disk.power_cut();
        outcomes.insert(content(&disk).len());

        let mut disk = with_file(seed);
        done(&mut disk, Io::Create(FILE));
        done(&mut disk, Io::Sync(FILE));
        disk.power_cut();
        assert_eq!(content(&disk).len(), 0);
    }
    assert_eq!(outcomes, [0, 16 * 4096].into());
}

#[test]
fn directory_entries_are_lost_without_a_directory_sync() {
    let (mut lost, mut kept, mut back) = (0, 0, 0);
    for seed in 0..200 {
        let mut disk = with_file(seed);
        let fresh = FileId::Segment(2);
        done(&mut disk, Io::Create(fresh));
        done(&mut disk, Io::Sync(fresh));
        done(&mut disk, Io::Remove(FILE));
        let report = disk.power_cut();
        assert_eq!(report.names_kept + report.names_lost, 2);
        lost += u32::from(!disk.files().contains(&fresh));
        kept += u32::from(disk.files().contains(&fresh));
        back += u32::from(disk.files().contains(&FILE));

        let mut disk = with_file(seed);
        done(&mut disk, Io::Create(fresh));
        done(&mut disk, Io::Remove(FILE));
        done(&mut disk, Io::SyncDir(Dir::Log));
        disk.power_cut();
        assert_eq!(disk.files(), [fresh]);
    }
    assert!(lost > 30 && kept > 30 && back > 30, "{lost} {kept} {back}");
}

#[test]
fn a_name_may_survive_without_its_bytes() {
    let empty = (0..200).filter(|seed| {
        let mut disk = with_file(*seed);
        let fresh = FileId::Fresh(1);
        done(&mut disk, Io::Create(fresh));
        done(&mut disk, Io::Zero { file: fresh, at: 0, len: 100 });
        done(&mut disk, Io::Rename(fresh, FILE));
        done(&mut disk, Io::SyncDir(Dir::Log));
        disk.power_cut();
        content(&disk).is_empty()
    });
    assert!(empty.count() > 20);
}

#[test]
fn a_replaced_file_is_old_or_new_after_a_crash_at_any_step() {
    let file = FileId::Control(0);
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        for steps in 0..6 {
            let mut disk = SimDisk::new(SimDiskOptions::immediate(seed));
            disk.set_file(file, b"old");
            disk.crash_after(steps);
            let replaced = disk.blocking().replace(FileId::ControlNew, file, "new".into());
            assert_eq!(replaced.is_ok(), steps >= 5);
            assert_eq!(disk.is_crashed(), steps < 5);
            if seed % 2 == 0 {
                disk.kill();
            }
            disk.power_cut();
            let found = disk.reopen().blocking().read(file, 0, 9).unwrap();
            assert!(found == "old" || found == "new", "{found:?}");
            assert!(replaced.is_err() || found == "new");
            outcomes.insert((steps, found));
        }
    }
    assert!(outcomes.len() >= 8, "{outcomes:?}");
}

#[test]
fn the_operation_of_the_crash_point_may_take_effect_without_an_answer() {
    let effects = (0..100).filter(|seed| {
        let mut disk = with_file(*seed);
        disk.crash_after(1);
        disk.submit(OpId(1), write_io(0, vec![2; 512], false));
        disk.submit(OpId(2), write_io(4096, vec![3; 512], false));
        disk.submit(OpId(3), write_io(8192, vec![4; 512], false));
        let mut completions = Vec::new();
        disk.reap(None, &mut completions);
        completions.sort_by_key(|(op, _)| *op);
        let closed = [1, 2, 3].map(|op| (OpId(op), Err(IoFault::Closed)));
        assert_eq!(completions, closed);
        assert_eq!(disk.kill().in_flight, 2);
        assert_eq!(content(&disk)[8192], 1);
        content(&disk)[4096] == 3
    });
    assert!((20..90).contains(&effects.count()));
}

#[test]
fn a_copy_goes_its_own_way() {
    let mut disk = with_file(1);
    fill(&mut disk, 0, PAGES * 4096, 2);
    let outcomes: BTreeSet<Vec<u8>> = (0..20)
        .map(|seed| {
            let copy = disk.copy(seed);
            copy.power_cut();
            sectors(&copy)
        })
        .collect();
    assert!(outcomes.len() > 5);
    assert!(sectors(&disk).iter().all(|value| *value == 2));
}
