//! What plain files promise beyond the conformance tests: permissions, foreign names, the hook, the
//! end of the threads.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Weak, mpsc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::disk::{Dir, DiskExt, FileId};
use crate::lsn::Lsn;

const SEGMENT: FileId = FileId::Segment(3);

fn options(dir: &Path) -> PlainOptions {
    PlainOptions {
        instance_dir: Some(dir.join("instance")),
        create: true,
        ..PlainOptions::new(dir.join("instance/wal"))
    }
}

fn open(dir: &Path) -> PlainDisk {
    PlainDisk::open(options(dir)).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn write(disk: &mut PlainDisk, file: FileId, bytes: &'static str, dsync: bool) {
    let parts = vec![Bytes::from_static(bytes.as_bytes())];
    disk.blocking().run(Io::Write { file, at: 0, parts, dsync }).unwrap();
}

#[test]
fn files_and_folders_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    disk.blocking().run(Io::Create(SEGMENT)).unwrap();
    assert_eq!(mode(&dir.path().join("instance")), 0o700);
    assert_eq!(mode(&dir.path().join("instance/wal")), 0o700);
    assert_eq!(mode(&dir.path().join("instance/wal/saved")), 0o700);
    assert_eq!(mode(&dir.path().join("instance/wal").join(SEGMENT.name())), 0o600);
}

#[test]
fn a_missing_folder_is_made_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let without = PlainOptions { create: false, ..options(dir.path()) };
    assert!(matches!(PlainDisk::open(without).map(drop), Err(IoFault::NotFound { .. })));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let through_a_file = PlainOptions::new(dir.path().join("file"));
    assert!(matches!(PlainDisk::open(through_a_file).map(drop), Err(IoFault::Failed { .. })));
}

#[test]
fn foreign_names_are_reported_and_our_own_helpers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    let wal = dir.path().join("instance/wal");
    let lock = crate::disk::lock::DirLock::acquire(&wal).unwrap();
    crate::disk::probe::Probe::open(&wal).unwrap();
    disk.blocking().run(Io::Create(SEGMENT)).unwrap();
    std::fs::write(wal.join("notes.txt"), "").unwrap();
    std::fs::create_dir(wal.join("0000000000000009.seg")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", wal.join("0000000000000008.seg")).unwrap();
    let (ours, foreign) = disk.blocking().list(Dir::Log).unwrap();
    assert_eq!(ours, [SEGMENT]);
    assert_eq!(foreign, ["0000000000000008.seg", "0000000000000009.seg", "notes.txt"]);
    assert_eq!(disk.blocking().list(Dir::Instance).unwrap(), (vec![], vec![]));
    drop(lock);
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    std::os::unix::fs::symlink(&secret, dir.path().join("instance/wal").join(SEGMENT.name()))
        .unwrap();
    assert!(disk.blocking().run(Io::Create(SEGMENT)).is_err());
    assert!(disk.blocking().read(SEGMENT, 0, 9).is_err());
    assert_eq!(std::fs::read(&secret).unwrap(), b"untouched");
}

#[test]
fn a_lone_log_opens_without_its_instance() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = PlainDisk::open(PlainOptions::new(dir.path())).unwrap();
    assert_eq!(disk.blocking().list(Dir::Instance).unwrap(), (vec![], vec![]));
    assert_eq!(disk.blocking().list(Dir::Saved).unwrap(), (vec![], vec![]));
    assert_eq!(disk.blocking().len(FileId::Control(0)).unwrap(), None);
    let read = disk.blocking().read(FileId::Control(0), 0, 1);
    assert!(matches!(read, Err(IoFault::NotFound { .. })));
    // The folder of saved bytes is made when there is something to save.
    let cut = FileId::Saved(Lsn(4096), 0);
    disk.blocking().run(Io::Create(cut)).unwrap();
    assert_eq!(disk.blocking().list(Dir::Saved).unwrap(), (vec![cut], vec![]));
    assert_eq!(disk.blocking().list(Dir::Log).unwrap(), (vec![], vec![]));
}

#[test]
fn open_files_follow_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    for (file, bytes) in [(SEGMENT, "old"), (FileId::Fresh(3), "new")] {
        disk.blocking().run(Io::Create(file)).unwrap();
        write(&mut disk, file, bytes, true);
    }
    disk.blocking().run(Io::Rename(FileId::Fresh(3), SEGMENT)).unwrap();
    assert_eq!(disk.blocking().read(SEGMENT, 0, 9).unwrap(), "new");
    assert!(matches!(disk.blocking().read(FileId::Fresh(3), 0, 9), Err(IoFault::NotFound { .. })));
    disk.blocking().run(Io::Remove(SEGMENT)).unwrap();
    assert!(matches!(disk.blocking().read(SEGMENT, 0, 9), Err(IoFault::NotFound { .. })));
}

#[test]
fn open_files_are_bounded_but_those_with_unsynced_writes_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(options(dir.path())).unwrap();
    let run = |io: &Io| files.carry_out(io).unwrap();
    let total = 3 * files::MAX_IDLE_FILES as u64;
    for number in 0..total {
        let file = FileId::Segment(number);
        run(&Io::Create(file));
        run(&Io::Zero { file, at: 0, len: 8 });
        if number % 2 == 0 {
            run(&Io::Sync(file));
        }
    }
    assert_eq!(files.open_count() as u64, total / 2);
    for number in 0..total {
        run(&Io::Sync(FileId::Segment(number)));
    }
    assert!(files.open_count() <= files::MAX_IDLE_FILES);
}

#[test]
fn files_that_may_not_be_written_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SEGMENT.name());
    std::fs::write(&path, "sealed").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let mut disk = PlainDisk::open(PlainOptions::new(dir.path())).unwrap();
    assert_eq!(disk.blocking().read(SEGMENT, 0, 9).unwrap(), "sealed");
}

#[test]
fn a_length_that_is_not_there_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    disk.blocking().run(Io::Create(SEGMENT)).unwrap();
    write(&mut disk, SEGMENT, "four", false);
    assert_eq!(disk.blocking().read(SEGMENT, 2, u32::MAX).unwrap(), "ur");
    assert_eq!(disk.blocking().read(SEGMENT, u64::MAX, u32::MAX).unwrap(), "");
}

/// An owner that is stepped in the hook: each completion makes it write the next block.
struct Owner {
    disk: PlainDisk,
    wrote: u64,
    until: u64,
    finished: mpsc::Sender<std::thread::ThreadId>,
}

impl Owner {
    fn step(&mut self) {
        let mut done = Vec::new();
        self.disk.reap(None, &mut done);
        for (op, result) in done {
            assert_eq!(result, Ok(IoDone::Done));
            assert_eq!(op, OpId(self.wrote));
            self.wrote += 1;
            if self.wrote == self.until {
                self.finished.send(std::thread::current().id()).unwrap();
            } else {
                let parts = vec![Bytes::from(self.wrote.to_le_bytes().to_vec())];
                let at = self.wrote * 8;
                self.disk
                    .submit(OpId(self.wrote), Io::Write { file: SEGMENT, at, parts, dsync: false });
            }
        }
    }
}

#[test]
fn a_chain_of_operations_runs_from_the_hook() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let (finished, wait) = mpsc::channel();
    let owner = Arc::new(Mutex::new(Owner { disk: disk.clone(), wrote: 0, until: 500, finished }));
    let weak: Weak<Mutex<Owner>> = Arc::downgrade(&owner);
    disk.set_on_done(Arc::new(move || {
        if let Some(owner) = weak.upgrade() {
            owner.lock().step();
        }
    }));
    owner.lock().disk.submit(OpId(0), Io::Create(SEGMENT));
    let worker = wait.recv().unwrap();
    assert_ne!(worker, std::thread::current().id());
    drop(owner);
    disk.close();
    let path = dir.path().join("instance/wal").join(SEGMENT.name());
    assert_eq!(std::fs::metadata(path).unwrap().len(), 500 * 8);
}

#[test]
fn operations_beyond_the_first_from_a_hook_get_other_threads() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let mut submitter = disk.clone();
    submitter.submit(OpId(0), Io::Create(SEGMENT));
    let mut done = Vec::new();
    submitter.reap(Some(Micros(u64::MAX)), &mut done);
    let submitter = Mutex::new(Some(submitter));
    let (finished, wait) = mpsc::channel();
    disk.set_on_done(Arc::new(move || {
        let Some(mut disk) = submitter.lock().take() else {
            return;
        };
        disk.submit(OpId(2), Io::Len(SEGMENT));
        disk.submit(OpId(3), Io::Len(SEGMENT));
        // This thread is busy until another one has done one of them.
        let mut done = Vec::new();
        while !done.iter().any(|(op, _)| *op != OpId(1)) {
            disk.reap(Some(Micros(u64::MAX)), &mut done);
        }
        finished.send(done.len()).unwrap();
    }));
    disk.clone().submit(OpId(1), Io::Len(SEGMENT));
    assert!(wait.recv().unwrap() >= 1);
}

#[test]
fn everything_submitted_is_answered_also_when_the_disk_closes() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    disk.blocking().run(Io::Create(SEGMENT)).unwrap();
    for op in 0..200 {
        disk.submit(OpId(op), Io::Zero { file: SEGMENT, at: op * 4096, len: 4096 });
    }
    disk.close();
    disk.submit(OpId(200), Io::Len(SEGMENT));
    let mut done = Vec::new();
    disk.reap(Some(Micros(0)), &mut done);
    done.sort_by_key(|(op, _)| *op);
    assert_eq!(done.len(), 201);
    for (index, (op, result)) in done.iter().enumerate() {
        assert_eq!(op.0, index as u64);
        assert!(matches!(result, Ok(IoDone::Done) | Err(IoFault::Closed)), "{result:?}");
    }
    assert_eq!(done.last().map(|(_, result)| result.clone()), Some(Err(IoFault::Closed)));
}

#[test]
fn a_hook_that_owns_the_disk_is_let_go_by_close() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let owned = Arc::new(disk.clone());
    let watch = Arc::downgrade(&owned);
    disk.set_on_done(Arc::new(move || assert!(Arc::strong_count(&owned) > 0)));
    disk.close();
    assert!(watch.upgrade().is_none());
}

#[test]
fn a_worker_may_drop_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    let (dropped, wait) = mpsc::channel();
    let last = Mutex::new(None::<PlainDisk>);
    let last = Arc::new(last);
    let inside = Arc::clone(&last);
    disk.set_on_done(Arc::new(move || {
        let taken = inside.lock().take();
        if taken.is_some() {
            drop(taken);
            dropped.send(()).unwrap();
        }
    }));
    *last.lock() = Some(disk.clone());
    disk.submit(OpId(1), Io::List(Dir::Log));
    drop(disk);
    wait.recv().unwrap();
}

#[test]
fn a_hook_that_panics_closes_the_disk_instead_of_hanging_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = open(dir.path());
    let armed = AtomicBool::new(true);
    let (entered, wait) = mpsc::channel();
    disk.set_on_done(Arc::new(move || {
        if armed.swap(false, Ordering::SeqCst) {
            entered.send(()).unwrap();
            // Not `panic!`: its message would look like a failed test.
            std::panic::resume_unwind(Box::new("the hook broke"));
        }
    }));
    disk.submit(OpId(0), Io::List(Dir::Log));
    wait.recv().unwrap();
    // From some moment on, everything is answered with Closed.
    let answered = AtomicU64::new(0);
    loop {
        let result = disk.blocking().run(Io::List(Dir::Log));
        answered.fetch_add(1, Ordering::Relaxed);
        if result == Err(IoFault::Closed) {
            break;
        }
    }
}
