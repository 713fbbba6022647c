//! Whether a folder's disk takes writes: one page written past the page cache, and synced.
//!
//! Guarantees: the page is written in place, so that a disk without free space still passes: it answers, and
//! running out of space shows where a segment is made. A file system without O_DIRECT is probed through the
//! page cache and a sync. Not here: when, on which thread, and what a slow answer means.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::plain::no_follow;
use crate::lsn::PAGE_BYTES;

/// The probe's file name; [`super::Io::List`] does not count it among foreign files.
pub const PROBE_NAME: &str = "probe";

const PAGE: usize = 4096;
const _: () = assert!(PAGE as u64 == PAGE_BYTES);

/// A page in a folder that is written again and again.
#[derive(Debug)]
pub struct Probe {
    file: File,
    is_direct: bool,
    /// Longer than a page, so that an aligned one lies within.
    room: Vec<u8>,
    written: u64,
}

impl Probe {
    /// Makes or takes the file in `dir`, and writes it for the first time.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(PROBE_NAME);
        match Self::open_with(&path, OFlags::DIRECT) {
            // There is no O_DIRECT here: said at opening or at the first write.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Self::open_with(&path, OFlags::empty())
            }
            opened => opened,
        }
    }

    fn open_with(path: &Path, flags: OFlags) -> io::Result<Self> {
        let direct = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow() | direct)
            .open(path)?;
        let room = vec![0; PAGE.saturating_mul(2)];
        let mut probe = Self { file, is_direct: !flags.is_empty(), room, written: 0 };
        probe.write()?;
        Ok(probe)
    }

    /// Writes the page and waits until it is durable. As long as that takes.
    ///
    /// # Errors
    /// The operating system's.
    ///
    /// # Durability
    /// What was written is durable; nobody reads it.
    pub fn write(&mut self) -> io::Result<()> {
        self.written = self.written.wrapping_add(1);
        let start = self.room.as_ptr().align_offset(PAGE);
        let page = self.room.get_mut(start..start.saturating_add(PAGE));
        let page = page.ok_or_else(|| io::Error::other("no aligned page in memory"))?;
        // No two writes are the same: a device that folds equal ones has to write all the same.
        for (to, from) in page.iter_mut().zip(self.written.to_le_bytes()) {
            *to = from;
        }
        self.file.write_all_at(page, 0)?;
        self.file.sync_data()
    }

    /// Whether it goes past the page cache.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.is_direct
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_same_page_is_written_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::open(dir.path()).unwrap();
        for _ in 0..3 {
            probe.write().unwrap();
        }
        let path = dir.path().join(PROBE_NAME);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (PAGE_BYTES, 0o600));
        assert_eq!(std::fs::read(&path).unwrap()[..8], 4_u64.to_le_bytes());
        // A restart takes the file that is there.
        drop(probe);
        Probe::open(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), PAGE_BYTES);
    }

    #[test]
    fn a_file_system_without_o_direct_is_probed_through_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::open_with(&dir.path().join(PROBE_NAME), OFlags::empty()).unwrap();
        assert!(!probe.is_direct());
        probe.write().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Probe::open(&dir.path().join("no")).unwrap_err().kind(), ErrorKind::NotFound);
        // A symbolic link is not followed, or somebody else's file would be written over.
        let aside = dir.path().join("aside");
        std::fs::write(&aside, "mine").unwrap();
        std::os::unix::fs::symlink(&aside, dir.path().join(PROBE_NAME)).unwrap();
        Probe::open(dir.path()).unwrap_err();
        assert_eq!(std::fs::read(&aside).unwrap(), b"mine");
    }
}
