//! What every disk promises: the same tests over plain files, memory and the simulated disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;

use bytes::Bytes;
use outrigger_sim::SimDisk;
use outrigger_sim::disk::SimDiskOptions;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::disk::{Dir, Disk, DiskExt, FileId, Io, IoDone, IoFault, OpId};
use outrigger_wal::{Lsn, Micros};

/// A disk, and the way to open it again.
struct World {
    disk: Box<dyn Disk>,
    reopen: Box<dyn Fn() -> Box<dyn Disk>>,
}

const FILE: FileId = FileId::Segment(1);

impl World {
    fn run(&mut self, io: Io) -> Result<IoDone, IoFault> {
        self.disk.blocking().run(io)
    }

    fn done(&mut self, io: Io) {
        assert_eq!(self.run(io), Ok(IoDone::Done));
    }

    fn write(&mut self, file: FileId, at: u64, bytes: &'static str) {
        let parts = vec![Bytes::from_static(bytes.as_bytes())];
        self.done(Io::Write { file, at, parts, dsync: false });
    }

    fn with_file(mut self, bytes: &'static str) -> Self {
        self.done(Io::Create(FILE));
        self.write(FILE, 0, bytes);
        self
    }

    fn read(&mut self, file: FileId, at: u64, len: u32) -> Bytes {
        self.disk.blocking().read(file, at, len).unwrap()
    }

    fn len(&mut self, file: FileId) -> Option<u64> {
        self.disk.blocking().len(file).unwrap()
    }
}

fn plain() -> World {
    let dir = tempfile::tempdir().unwrap();
    let options = PlainOptions {
        instance_dir: Some(dir.path().join("data")),
        create: true,
        ..PlainOptions::new(dir.path().join("data/wal"))
    };
    let open = move || -> Box<dyn Disk> {
        assert!(dir.path().exists());
        Box::new(PlainDisk::open(options.clone()).unwrap())
    };
    World { disk: open(), reopen: Box::new(open) }
}

fn memory() -> World {
    let disk = MemoryDisk::new();
    World { disk: Box::new(disk.clone()), reopen: Box::new(move || Box::new(disk.clone())) }
}

fn simulated(options: SimDiskOptions) -> World {
    let disk = SimDisk::new(options);
    World { disk: Box::new(disk.clone()), reopen: Box::new(move || Box::new(disk.reopen())) }
}

fn immediate() -> World {
    simulated(SimDiskOptions::immediate(11))
}

fn timed() -> World {
    simulated(SimDiskOptions::new(12))
}

macro_rules! on_every_disk {
    ($($promise:ident),* $(,)?) => {
        on_every_disk!(@ plain $($promise)*);
        on_every_disk!(@ memory $($promise)*);
        on_every_disk!(@ immediate $($promise)*);
        on_every_disk!(@ timed $($promise)*);
    };
    (@ $disk:ident $($promise:ident)*) => {
        mod $disk {
            $(#[test]
            fn $promise() {
                super::$promise(super::$disk());
            })*
        }
    };
}

on_every_disk!(
    reads_see_what_was_written_and_stop_at_the_end,
    parts_are_written_one_behind_the_other,
    any_number_of_parts_is_written,
    what_was_never_written_reads_as_zeros,
    zeros_replace_bytes_and_extend_files,
    an_empty_write_changes_nothing,
    a_missing_file_is_named_in_the_fault,
    removing_what_is_not_there_is_no_error,
    creating_empties_what_is_there,
    a_rename_replaces_the_target,
    a_rename_stays_in_its_folder,
    lists_are_sorted_and_by_folder,
    small_files_are_replaced_whole,
    offsets_that_overflow_are_refused,
    each_operation_in_flight_is_answered_once,
    a_disk_that_is_opened_again_has_its_files,
    reaping_nothing_returns,
);

fn reads_see_what_was_written_and_stop_at_the_end(world: World) {
    let mut world = world.with_file("0123456789");
    world.write(FILE, 3, "abc");
    assert_eq!(world.read(FILE, 0, 100), "012abc6789");
    assert_eq!(world.read(FILE, 4, 3), "bc6");
    assert_eq!(world.read(FILE, 9, 3), "9");
    assert_eq!(world.read(FILE, 10, 3), "");
    assert_eq!(world.read(FILE, u64::MAX, u32::MAX), "");
    assert_eq!(world.read(FILE, 0, 0), "");
    assert_eq!(world.len(FILE), Some(10));
}

fn parts_are_written_one_behind_the_other(world: World) {
    let mut world = world.with_file("");
    let parts = ["one", "", "two", "three"].map(|part| Bytes::from_static(part.as_bytes())).into();
    world.done(Io::Write { file: FILE, at: 4094, parts, dsync: true });
    assert_eq!(world.read(FILE, 4094, 100), "onetwothree");
}

fn any_number_of_parts_is_written(world: World) {
    let mut world = world.with_file("");
    let parts: Vec<Bytes> = (0..3000_u32).map(|n| n.to_le_bytes().to_vec().into()).collect();
    world.done(Io::Write { file: FILE, at: 0, parts: parts.clone(), dsync: true });
    assert_eq!(world.read(FILE, 0, 12_000), parts.concat());
}

fn what_was_never_written_reads_as_zeros(world: World) {
    let mut world = world.with_file("x");
    world.write(FILE, 9000, "y");
    let read = world.read(FILE, 0, 10_000);
    assert_eq!(read.len(), 9001);
    assert_eq!((read[0], read[9000]), (b'x', b'y'));
    assert!(read[1..9000].iter().all(|byte| *byte == 0));
}

fn zeros_replace_bytes_and_extend_files(world: World) {
    let mut world = world.with_file("0123456789");
    world.done(Io::Zero { file: FILE, at: 2, len: 3 });
    assert_eq!(world.read(FILE, 0, 100), "01\0\0\x0056789");
    world.done(Io::Zero { file: FILE, at: 8, len: 600_000 });
    assert_eq!(world.len(FILE), Some(600_008));
    let read = world.read(FILE, 0, 600_008);
    assert_eq!(read[..8], *b"01\0\0\x00567");
    assert!(read[8..].iter().all(|byte| *byte == 0));
    world.done(Io::Zero { file: FILE, at: 0, len: 0 });
    assert_eq!(world.len(FILE), Some(600_008));
}

fn an_empty_write_changes_nothing(world: World) {
    let mut world = world.with_file("abc");
    world.done(Io::Write { file: FILE, at: 1, parts: vec![], dsync: true });
    world.done(Io::Write { file: FILE, at: 3, parts: vec![Bytes::new()], dsync: false });
    assert_eq!(world.read(FILE, 0, 9), "abc");
}

fn a_missing_file_is_named_in_the_fault(mut world: World) {
    let parts = vec![Bytes::from_static(b"x")];
    for io in [
        Io::Read { file: FILE, at: 0, len: 1 },
        Io::Write { file: FILE, at: 0, parts, dsync: false },
        Io::Zero { file: FILE, at: 0, len: 1 },
        Io::Sync(FILE),
        Io::Rename(FILE, FileId::Segment(2)),
    ] {
        match world.run(io) {
            Err(IoFault::NotFound { file }) => assert!(file.ends_with(&FILE.name()), "{file}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.len(FILE), None);
}

fn removing_what_is_not_there_is_no_error(world: World) {
    let mut world = world.with_file("x");
    world.done(Io::Remove(FILE));
    world.done(Io::Remove(FILE));
    world.done(Io::SyncDir(Dir::Log));
    assert_eq!(world.len(FILE), None);
}

fn creating_empties_what_is_there(world: World) {
    let mut world = world.with_file("old");
    world.done(Io::Create(FILE));
    assert_eq!(world.len(FILE), Some(0));
    world.write(FILE, 5, "x");
    assert_eq!(world.read(FILE, 0, 9), "\0\0\0\0\0x");
}

fn a_rename_replaces_the_target(world: World) {
    let mut world = world.with_file("old");
    let fresh = FileId::Fresh(1);
    world.done(Io::Create(fresh));
    world.write(fresh, 0, "new");
    world.done(Io::Rename(fresh, FILE));
    assert_eq!(world.read(FILE, 0, 9), "new");
    assert_eq!(world.len(fresh), None);
    world.write(FILE, 3, "er");
    assert_eq!(world.read(FILE, 0, 9), "newer");
}

fn a_rename_stays_in_its_folder(world: World) {
    let mut world = world.with_file("x");
    let refused = world.run(Io::Rename(FILE, FileId::Saved(Lsn(0), 0)));
    assert!(matches!(refused, Err(IoFault::Failed { .. })), "{refused:?}");
    assert_eq!(world.len(FILE), Some(1));
}

fn lists_are_sorted_and_by_folder(mut world: World) {
    let log = [FileId::Segment(2), FileId::Segment(10), FileId::Prepared(0), FileId::CleanMark];
    let saved = [FileId::Saved(Lsn(4096), 1)];
    let instance = [FileId::Control(0), FileId::ControlNew];
    for file in log.iter().rev().chain(&saved).chain(instance.iter().rev()) {
        world.done(Io::Create(*file));
    }
    for (dir, files) in [(Dir::Log, &log[..]), (Dir::Saved, &saved), (Dir::Instance, &instance)] {
        let list = world.disk.blocking().list(dir).unwrap();
        assert_eq!(list, (files.to_vec(), vec![]), "{dir:?}");
    }
}

fn small_files_are_replaced_whole(mut world: World) {
    for content in ["first", "2"] {
        let mut disk = world.disk.blocking();
        disk.replace(FileId::ControlNew, FileId::Control(1), content.into()).unwrap();
        assert_eq!(world.read(FileId::Control(1), 0, 99), content);
        assert_eq!(world.len(FileId::ControlNew), None);
    }
}

fn offsets_that_overflow_are_refused(world: World) {
    let mut world = world.with_file("x");
    let parts = vec![Bytes::from_static(b"xy")];
    for at in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let write = Io::Write { file: FILE, at, parts: parts.clone(), dsync: false };
        assert!(matches!(world.run(write), Err(IoFault::Failed { .. })));
    }
    assert_eq!(world.read(FILE, 0, 9), "x");
}

fn each_operation_in_flight_is_answered_once(world: World) {
    let mut world = world.with_file("");
    for op in 0..100_u64 {
        let parts = vec![vec![op.to_le_bytes()[0]; 4096].into()];
        let write = Io::Write { file: FILE, at: op * 4096, parts, dsync: op % 3 == 0 };
        world.disk.submit(OpId(op), write);
    }
    let (mut done, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() < 100 {
        world.disk.reap(Some(Micros(1_000_000)), &mut done);
        for (op, result) in done.drain(..) {
            assert_eq!(result, Ok(IoDone::Done));
            assert!(seen.insert(op), "{op:?} came twice");
        }
    }
    world.disk.reap(None, &mut done);
    assert_eq!(done, []);
    for op in 0..100_u64 {
        assert_eq!(world.read(FILE, op * 4096, 4096), vec![op.to_le_bytes()[0]; 4096]);
    }
}

fn a_disk_that_is_opened_again_has_its_files(world: World) {
    let mut world = world.with_file("kept");
    world.disk = (world.reopen)();
    assert_eq!(world.read(FILE, 0, 9), "kept");
    assert_eq!(world.disk.blocking().list(Dir::Log).unwrap().0, [FILE]);
}

fn reaping_nothing_returns(mut world: World) {
    let mut done = Vec::new();
    world.disk.reap(None, &mut done);
    world.disk.reap(Some(Micros(0)), &mut done);
    assert_eq!(done, []);
}
