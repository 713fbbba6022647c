//! A disk in memory: the meaning of every operation and none of its faults.
//!
//! Guarantees: an operation is complete when `submit` returns. Clones share their files, so the
//! disk of a dropped log can be opened again; each clone reaps what it submitted itself.
//!
//! Not here: loss. Everything written stays for as long as one clone is alive; crashes and
//! faults are the simulator's.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, FileId, Io, IoDone, IoFault, OpId};
use crate::lsn::Micros;

mod sparse;

pub use sparse::{Page, SparseBytes};

/// A disk in memory; clones share its files.
#[derive(Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<FileId, SparseBytes>>>,
    done: Vec<(OpId, Result<IoDone, IoFault>)>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clone for MemoryDisk {
    fn clone(&self) -> Self {
        Self { files: Arc::clone(&self.files), done: Vec::new() }
    }
}

impl Disk for MemoryDisk {
    fn submit(&mut self, op: OpId, io: Io) {
        let result = carry_out(&mut self.files.lock(), io);
        self.done.push((op, result));
    }

    fn reap(&mut self, _wait: Option<Micros>, done: &mut Vec<(OpId, Result<IoDone, IoFault>)>) {
        done.append(&mut self.done);
    }
}

fn carry_out(files: &mut BTreeMap<FileId, SparseBytes>, io: Io) -> Result<IoDone, IoFault> {
    match io {
        Io::Write { file, at, parts, dsync: _ } => {
            let bytes = find(files, file)?;
            let total =
                parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.len() as u64));
            check_end(file, "write", at, total)?;
            let mut at = at;
            for part in &parts {
                bytes.write(at, part);
                at += part.len() as u64;
            }
        }
        Io::Zero { file, at, len } => {
            let bytes = find(files, file)?;
            check_end(file, "zero", at, Some(len))?;
            bytes.zero(at, len);
        }
        Io::Sync(file) => drop(find(files, file)?),
        Io::Read { file, at, len } => {
            return Ok(IoDone::Bytes(find(files, file)?.read(at, u64::from(len))));
        }
        Io::Create(file) => drop(files.insert(file, SparseBytes::default())),
        Io::Rename(from, to) if from.dir() != to.dir() => {
            return Err(IoFault::Failed {
                file: from.name(),
                operation: "rename",
                cause: format!("{to} lies in another folder"),
            });
        }
        Io::Rename(from, to) => {
            let bytes =
                files.remove(&from).ok_or_else(|| IoFault::NotFound { file: from.name() })?;
            files.insert(to, bytes);
        }
        Io::Remove(file) => drop(files.remove(&file)),
        Io::SyncDir(_) => {}
        Io::Len(file) => return Ok(IoDone::Len(files.get(&file).map(SparseBytes::len))),
        Io::List(dir) => {
            let ours = files.keys().copied().filter(|file| file.dir() == dir).collect();
            return Ok(IoDone::Files { ours, foreign: Vec::new() });
        }
    }
    Ok(IoDone::Done)
}

fn find(
    files: &mut BTreeMap<FileId, SparseBytes>,
    file: FileId,
) -> Result<&mut SparseBytes, IoFault> {
    files.get_mut(&file).ok_or_else(|| IoFault::NotFound { file: file.name() })
}

/// The largest file, as on common file systems: signed 64-bit offsets.
const MAX_FILE_BYTES: u64 = i64::MAX as u64;

fn check_end(
    file: FileId,
    operation: &'static str,
    at: u64,
    len: Option<u64>,
) -> Result<(), IoFault> {
    match len.and_then(|len| at.checked_add(len)) {
        Some(end) if end <= MAX_FILE_BYTES => Ok(()),
        _ => Err(IoFault::Failed {
            file: file.name(),
            operation,
            cause: "it would end behind the largest offset of a file".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskExt;
    use bytes::Bytes;

    #[test]
    fn files_outlive_the_handle_that_wrote_them() {
        let mut disk = MemoryDisk::new();
        let again = disk.clone();
        disk.blocking().replace(FileId::ControlNew, FileId::Control(1), "kept".into()).unwrap();
        drop(disk);
        let mut disk = again;
        assert_eq!(disk.blocking().read(FileId::Control(1), 0, 9).unwrap(), "kept");
        assert_eq!(disk.blocking().len(FileId::ControlNew).unwrap(), None);
    }

    #[test]
    fn completions_go_to_the_clone_that_submitted() {
        let mut one = MemoryDisk::new();
        let mut two = one.clone();
        one.submit(OpId(1), Io::Create(FileId::CleanMark));
        let mut done = Vec::new();
        two.reap(None, &mut done);
        assert_eq!(done, []);
        one.reap(None, &mut done);
        assert_eq!(done, [(OpId(1), Ok(IoDone::Done))]);
    }

    #[test]
    fn offsets_that_overflow_are_refused() {
        let mut disk = MemoryDisk::new();
        let file = FileId::Segment(0);
        disk.blocking().run(Io::Create(file)).unwrap();
        let parts = vec![Bytes::from_static(b"x")];
        let write = Io::Write { file, at: u64::MAX, parts, dsync: true };
        assert!(matches!(disk.blocking().run(write), Err(IoFault::Failed { .. })));
        let zero = Io::Zero { file, at: 1, len: u64::MAX };
        assert!(matches!(disk.blocking().run(zero), Err(IoFault::Failed { .. })));
        assert_eq!(disk.blocking().len(file).unwrap(), Some(0));
    }
}
