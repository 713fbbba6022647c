//! Using a completion-based disk one operation at a time: for opening, recovering and verifying,
//! where nothing else is in flight.
//!
//! Not here: the running log, which keeps several operations in flight.

use bytes::Bytes;

use super::{Dir, Disk, FileId, Io, IoDone, IoFault, OpId};
use crate::lsn::Micros;

const WAIT: Micros = Micros(1_000_000);

/// A disk used by one caller, one operation at a time.
pub struct Blocking<'a> {
    disk: &'a mut dyn Disk,
    next: u64,
}

/// Borrows a disk for one-at-a-time use.
pub trait DiskExt {
    /// The disk, one operation at a time. Nothing else may be in flight on it.
    fn blocking(&mut self) -> Blocking<'_>;
}

impl DiskExt for dyn Disk + '_ {
    fn blocking(&mut self) -> Blocking<'_> {
        Blocking { disk: self, next: u64::MAX / 2 }
    }
}

impl<D: Disk> DiskExt for D {
    fn blocking(&mut self) -> Blocking<'_> {
        Blocking { disk: self, next: u64::MAX / 2 }
    }
}

impl Blocking<'_> {
    /// Carries one operation out.
    ///
    /// # Errors
    /// The operation's own fault.
    pub fn run(&mut self, io: Io) -> Result<IoDone, IoFault> {
        let op = OpId(self.next);
        self.next = self.next.wrapping_add(1);
        self.disk.submit(op, io);
        let mut done = Vec::new();
        loop {
            self.disk.reap(Some(WAIT), &mut done);
            if let Some(at) = done.iter().position(|(id, _)| *id == op) {
                return done.swap_remove(at).1;
            }
        }
    }

    /// Reads up to `len` bytes; fewer at the end of the file.
    ///
    /// # Errors
    /// [`IoFault::NotFound`], or the device's fault.
    pub fn read(&mut self, file: FileId, at: u64, len: u32) -> Result<Bytes, IoFault> {
        match self.run(Io::Read { file, at, len })? {
            IoDone::Bytes(bytes) => Ok(bytes),
            _ => Ok(Bytes::new()),
        }
    }

    /// The size of a file, or `None` when it is not there.
    ///
    /// # Errors
    /// The device's fault.
    pub fn len(&mut self, file: FileId) -> Result<Option<u64>, IoFault> {
        match self.run(Io::Len(file))? {
            IoDone::Len(len) => Ok(len),
            _ => Ok(None),
        }
    }

    /// The files of a folder with names of ours, and the foreign names.
    ///
    /// # Errors
    /// The device's fault.
    pub fn list(&mut self, dir: Dir) -> Result<(Vec<FileId>, Vec<String>), IoFault> {
        match self.run(Io::List(dir))? {
            IoDone::Files { ours, foreign } => Ok((ours, foreign)),
            _ => Ok((Vec::new(), Vec::new())),
        }
    }

    /// Makes a whole small file durable under its name: written to `temporary`, synced, renamed,
    /// folder synced.
    ///
    /// # Errors
    /// The first fault; the old file is then still whole.
    pub fn replace(
        &mut self,
        temporary: FileId,
        file: FileId,
        content: Bytes,
    ) -> Result<(), IoFault> {
        self.run(Io::Create(temporary))?;
        self.run(Io::Write { file: temporary, at: 0, parts: vec![content], dsync: false })?;
        self.publish(temporary, file)
    }

    /// Gives a file that is written its name, and what has that name its end: file synced, renamed,
    /// folder synced.
    ///
    /// # Errors
    /// The first fault; what had the name is then still whole, or the new file is.
    pub fn publish(&mut self, temporary: FileId, file: FileId) -> Result<(), IoFault> {
        // ORDER: the bytes are durable before the name points at them, the name before we return.
        self.run(Io::Sync(temporary))?;
        self.run(Io::Rename(temporary, file))?;
        self.run(Io::SyncDir(file.dir()))?;
        Ok(())
    }

    /// Takes a file's name away, durably: removed, folder synced. No error when there is none.
    ///
    /// # Errors
    /// The first fault; whether the name comes back is then open.
    pub fn remove(&mut self, file: FileId) -> Result<(), IoFault> {
        self.run(Io::Remove(file))?;
        self.run(Io::SyncDir(file.dir()))?;
        Ok(())
    }
}
