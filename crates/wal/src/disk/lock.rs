//! One process per directory: an advisory lock on a file named `lock`.
//!
//! Guarantees: while a [`DirLock`] lives, no other one for the same directory can be had, in this
//! process or another; the operating system takes it back when the process dies, however it dies.
//! Not here: protection from programs that do not ask, or on network file systems without locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::plain::no_follow;

/// The lock's file name; [`super::Io::List`] does not count it among foreign files.
pub const LOCK_NAME: &str = "lock";

/// The longest process id that is read from a lock file, in bytes.
const MAX_PID_BYTES: u64 = 16;

/// Holds a directory for this process until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    _file: File,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process, or another part of this one, has it open.
    #[error(
        "{dir}: in use by {}; stop it, or use another directory",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The directory.
        dir: String,
        /// The holder's process id, as it wrote it down.
        holder: Option<u32>,
    },
    /// The lock file could not be made, opened or locked.
    #[error("{dir}: cannot be locked: {cause}; check that it exists and may be written to")]
    Failed {
        /// The directory.
        dir: String,
        /// The operating system's words.
        cause: std::io::Error,
    },
}

impl DirLock {
    /// Takes the directory, which must exist, and writes our process id into its lock file.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody has it, [`LockError::Failed`] when it cannot be asked.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |cause| LockError::Failed { dir: dir.display().to_string(), cause };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(dir.join(LOCK_NAME))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&file);
                return Err(LockError::Held { dir: dir.display().to_string(), holder });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }

    /// The directory that is held.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The id in the lock file, when it is one.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_opener_is_told_the_directory_and_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::acquire(dir.path()).unwrap();
        assert_eq!(held.dir(), dir.path());
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(
            matches!(&error, LockError::Held { holder: Some(pid), .. } if *pid == std::process::id())
        );
        let text = error.to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }

    #[test]
    fn a_dropped_lock_can_be_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(DirLock::acquire(dir.path()).unwrap());
        drop(DirLock::acquire(dir.path()).unwrap());
        let mode = std::fs::metadata(dir.path().join(LOCK_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rubbish_in_the_lock_file_is_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::acquire(dir.path()).unwrap();
        std::fs::write(dir.path().join(LOCK_NAME), [0xFF; 4096]).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(&error, LockError::Held { holder: None, .. }));
        assert!(error.to_string().contains("another process"));
        drop(held);
    }

    #[test]
    fn a_missing_directory_and_a_symlink_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        assert!(matches!(DirLock::acquire(&missing), Err(LockError::Failed { .. })));
        let aside = dir.path().join("aside");
        std::fs::write(&aside, "mine").unwrap();
        std::os::unix::fs::symlink(&aside, dir.path().join(LOCK_NAME)).unwrap();
        assert!(matches!(DirLock::acquire(dir.path()), Err(LockError::Failed { .. })));
        assert_eq!(std::fs::read(&aside).unwrap(), b"mine");
    }
}
