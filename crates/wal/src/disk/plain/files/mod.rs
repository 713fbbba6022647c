//! The files below the folders: opened once, kept open, and what each operation does to them.
//!
//! Guarantees: a handle with writes that were not synced stays open until they are, so that the
//! operating system's error report for them is not lost with it. Not here: threads.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::PlainOptions;
use super::folder::make_dir;
use crate::disk::lock::LOCK_NAME;
use crate::disk::probe::PROBE_NAME;
use crate::disk::{Dir, FileId, Io, IoDone, IoFault};

mod handles;
mod write;

use handles::Handles;
#[cfg(test)]
pub(super) use handles::MAX_IDLE_FILES;

const SAVED_NAME: &str = "saved";

/// Zeros are written in pieces of this size.
const ZERO_BYTES: usize = 256 * 1024;
static ZEROS: [u8; ZERO_BYTES] = [0; ZERO_BYTES];

/// The flag that makes opening a symbolic link fail.
pub(in crate::disk) fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

/// An open file.
struct Handle {
    file: File,
    /// Whether it has writes that no sync has covered.
    unsynced: AtomicBool,
}

/// The folders of one instance and the files that are open in them.
pub(super) struct Files {
    log_dir: PathBuf,
    saved_dir: PathBuf,
    instance_dir: Option<PathBuf>,
    open: Mutex<Handles>,
}

impl Files {
    pub(super) fn open(options: PlainOptions) -> Result<Self, IoFault> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| fault(&path, "open", &error))
        };
        let log_dir = absolute(options.log_dir)?;
        let files = Self {
            saved_dir: log_dir.join(SAVED_NAME),
            log_dir,
            instance_dir: options.instance_dir.map(absolute).transpose()?,
            open: Mutex::default(),
        };
        if options.create {
            make_dir(&files.log_dir)?;
            make_dir(&files.saved_dir)?;
        }
        check_dir(&files.log_dir)?;
        if let Some(dir) = &files.instance_dir {
            if options.create {
                make_dir(dir)?;
            }
            check_dir(dir)?;
        }
        Ok(files)
    }

    pub(super) fn carry_out(&self, io: &Io) -> Result<IoDone, IoFault> {
        match io {
            Io::Write { file, at, parts, dsync } => {
                self.with(*file, "write", |handle| {
                    if !dsync {
                        handle.unsynced.store(true, Ordering::Relaxed);
                    }
                    write::write_all(&handle.file, *at, parts, *dsync)
                })?;
            }
            Io::Zero { file, at, len } => {
                self.with(*file, "zero", |handle| {
                    handle.unsynced.store(true, Ordering::Relaxed);
                    zero(&handle.file, *at, *len)
                })?;
            }
            Io::Sync(file) => self.with(*file, "sync", |handle| {
                // A write that comes while the sync runs must find its mark still there after it.
                handle.unsynced.store(false, Ordering::Relaxed);
                let synced = handle.file.sync_data();
                if synced.is_err() {
                    handle.unsynced.store(true, Ordering::Relaxed);
                }
                synced
            })?,
            Io::Read { file, at, len } => {
                return self
                    .with(*file, "read", |handle| read(&handle.file, *at, *len))
                    .map(IoDone::Bytes);
            }
            Io::Create(file) => self.create(*file)?,
            Io::Rename(from, to) => self.rename(*from, *to)?,
            Io::Remove(file) => {
                self.open.lock().remove(*file);
                let path = self.path(*file)?;
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => result.map_err(|error| fault(&path, "remove", &error))?,
                }
            }
            Io::SyncDir(dir) => self.sync_dir(*dir)?,
            Io::Len(file) => return self.len(*file).map(IoDone::Len),
            Io::List(dir) => return self.list(*dir),
        }
        Ok(IoDone::Done)
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.open.lock().count()
    }

    /// `None`: the instance's folder was not given.
    fn dir(&self, dir: Dir) -> Option<&Path> {
        match dir {
            Dir::Log => Some(&self.log_dir),
            Dir::Saved => Some(&self.saved_dir),
            Dir::Instance => self.instance_dir.as_deref(),
        }
    }

    fn path(&self, file: FileId) -> Result<PathBuf, IoFault> {
        match self.dir(file.dir()) {
            Some(dir) => Ok(dir.join(file.name())),
            None => Err(IoFault::NotFound { file: file.name() }),
        }
    }

    /// Calls `act` with the open file.
    fn with<T>(
        &self,
        file: FileId,
        operation: &'static str,
        act: impl FnOnce(&Handle) -> io::Result<T>,
    ) -> Result<T, IoFault> {
        let cached = self.open.lock().find(file);
        let handle = match cached {
            Some(handle) => handle,
            None => {
                let path = self.path(file)?;
                let opened = open_file(&path).map_err(|error| fault(&path, operation, &error))?;
                self.open.lock().insert(file, opened)
            }
        };
        act(&handle).map_err(|error| match self.path(file) {
            Ok(path) => fault(&path, operation, &error),
            Err(fault) => fault,
        })
    }

    fn create(&self, file: FileId) -> Result<(), IoFault> {
        let path = self.path(file)?;
        if file.dir() == Dir::Saved {
            make_dir(&self.saved_dir)?;
        }
        self.open.lock().remove(file);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(|error| fault(&path, "create", &error))?;
        self.open.lock().insert(file, opened);
        Ok(())
    }

    fn rename(&self, from: FileId, to: FileId) -> Result<(), IoFault> {
        let (old, new) = (self.path(from)?, self.path(to)?);
        if from.dir() != to.dir() {
            let cause = format!("{to} lies in another folder");
            return Err(failed(&old, "rename", cause));
        }
        std::fs::rename(&old, &new).map_err(|error| fault(&old, "rename", &error))?;
        self.open.lock().rename(from, to);
        Ok(())
    }

    fn sync_dir(&self, dir: Dir) -> Result<(), IoFault> {
        let Some(path) = self.dir(dir) else {
            return Ok(());
        };
        match File::open(path).and_then(|opened| opened.sync_all()) {
            // Nothing was ever saved: there is no name to make durable.
            Err(error) if dir == Dir::Saved && error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| fault(path, "sync of the folder", &error)),
        }
    }

    fn len(&self, file: FileId) -> Result<Option<u64>, IoFault> {
        let Ok(path) = self.path(file) else {
            return Ok(None);
        };
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&path, "size", &error)),
        }
    }

    fn list(&self, dir: Dir) -> Result<IoDone, IoFault> {
        let (mut ours, mut foreign) = (Vec::new(), Vec::new());
        let Some(path) = self.dir(dir) else {
            return Ok(IoDone::Files { ours, foreign });
        };
        let entries = match std::fs::read_dir(path) {
            Err(error) if dir == Dir::Saved && error.kind() == ErrorKind::NotFound => {
                return Ok(IoDone::Files { ours, foreign });
            }
            result => result.map_err(|error| fault(path, "list", &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| fault(path, "list", &error))?;
            let kind = entry.file_type().map_err(|error| fault(path, "list", &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Folders in the instance's folder are its log and its store; `saved` is ours.
            let is_known = name == LOCK_NAME
                || name == PROBE_NAME
                || kind.is_dir() && (dir == Dir::Instance || dir == Dir::Log && name == SAVED_NAME);
            match FileId::parse(dir, &name) {
                _ if is_known => {}
                Some(file) if kind.is_file() => ours.push(file),
                _ => foreign.push(name),
            }
        }
        ours.sort_unstable();
        foreign.sort_unstable();
        Ok(IoDone::Files { ours, foreign })
    }
}

/// For reading and writing, or for reading alone where writing is not permitted.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(no_follow());
    match options.clone().write(true).open(path) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            options.open(path)
        }
        opened => opened,
    }
}

fn check_dir(path: &Path) -> Result<(), IoFault> {
    let meta = std::fs::metadata(path).map_err(|error| fault(path, "open", &error))?;
    if meta.is_dir() { Ok(()) } else { Err(failed(path, "open", "not a folder".to_owned())) }
}

fn read(file: &File, at: u64, len: u32) -> io::Result<Bytes> {
    // Bounded by what is there: a wrong length from the disk must not become memory.
    let there = file.metadata()?.len().saturating_sub(at).min(u64::from(len));
    let mut bytes = BytesMut::zeroed(usize::try_from(there).unwrap_or(0));
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.freeze())
}

/// The end of a write, which must be an offset that files can have: the largest `u64` as a place
/// to write would mean "wherever the file stands" to the operating system.
fn end_of_write(at: u64, len: u64) -> io::Result<u64> {
    at.checked_add(len)
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or_else(|| io::Error::from(ErrorKind::FileTooLarge))
}

fn zero(file: &File, at: u64, len: u64) -> io::Result<()> {
    end_of_write(at, len)?;
    let (mut at, mut left) = (at, len);
    while left > 0 {
        let piece = ZERO_BYTES.min(usize::try_from(left).unwrap_or(ZERO_BYTES));
        file.write_all_at(&ZEROS[..piece], at)?;
        at += piece as u64;
        left -= piece as u64;
    }
    Ok(())
}

pub(super) fn fault(path: &Path, operation: &'static str, error: &io::Error) -> IoFault {
    let file = path.display().to_string();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => IoFault::NoSpace { file, operation },
        ErrorKind::NotFound => IoFault::NotFound { file },
        _ => failed(path, operation, error.to_string()),
    }
}

fn failed(path: &Path, operation: &'static str, cause: String) -> IoFault {
    IoFault::Failed { file: path.display().to_string(), operation, cause }
}

/// Shared between the cache and whoever uses the file now.
type SharedHandle = Arc<Handle>;
