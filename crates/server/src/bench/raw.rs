//! What the bare device does: write and sync in a loop, on a file of zeros.
//!
//! The file is as a log's segment is: all of it is allocated and was written once. Which method is
//! the best differs by device and file system; the best one is what a log is compared with.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};

use super::figures::Measured;
use crate::error::Error;

/// The size of the file: as a segment's.
const FILE_BYTES: u64 = 64 << 20;
const PAGE_BYTES: usize = 4096;

/// How a loop writes and syncs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Method {
    /// `pwrite`, then `fdatasync`.
    Fdatasync,
    /// `pwritev2` with `RWF_DSYNC`.
    Dsync,
    /// `pwrite` of whole pages past the page cache, with `O_DSYNC`.
    Direct,
}

impl Method {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Fdatasync, Self::Dsync, Self::Direct];

    /// Its name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fdatasync => "pwrite_fdatasync",
            Self::Dsync => "pwritev2_dsync",
            Self::Direct => "direct_dsync",
        }
    }
}

/// A loop that writes records of one size.
#[derive(Debug)]
pub(super) struct Loop {
    method: Method,
    file: File,
    /// Page-aligned bytes lie somewhere in it.
    buffer: Vec<u8>,
    aligned: usize,
    bytes: usize,
    at: u64,
}

impl Loop {
    /// A loop over a file of its own. `None`: the file system does not know the method.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn new(
        dir: &Path,
        name: &str,
        method: Method,
        record_bytes: usize,
    ) -> Result<Option<Self>, Error> {
        let path = dir.join(name);
        zeros(&path)?;
        let mut options = OpenOptions::new();
        options.write(true);
        let mut bytes = record_bytes.max(1);
        if method == Method::Direct {
            options.custom_flags((OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed());
            bytes = bytes.next_multiple_of(PAGE_BYTES);
        }
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(_) if method == Method::Direct => return Ok(None),
            Err(cause) => return Err(Error::file("cannot be opened", &path, cause)),
        };
        let buffer = vec![b'r'; bytes + PAGE_BYTES];
        let aligned = buffer.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        let mut this = Self { method, file, buffer, aligned, bytes, at: 0 };
        match this.write() {
            Ok(()) => Ok(Some(this)),
            Err(_) if method != Method::Fdatasync => Ok(None),
            Err(cause) => Err(Error::file("cannot be written", &path, cause)),
        }
    }

    /// Writes one record durably.
    fn write(&mut self) -> std::io::Result<()> {
        if self.at + self.bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let record = self.buffer.get(self.aligned..).and_then(|rest| rest.get(..self.bytes));
        let record = record.unwrap_or_default();
        match self.method {
            Method::Fdatasync => {
                self.file.write_all_at(record, self.at)?;
                self.file.sync_data()?;
            }
            Method::Direct => self.file.write_all_at(record, self.at)?,
            Method::Dsync => {
                let parts = [IoSlice::new(record)];
                let written = pwritev2(&self.file, &parts, self.at, ReadWriteFlags::DSYNC)?;
                if written != record.len() {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
            }
        }
        self.at += self.bytes as u64;
        Ok(())
    }

    /// Writes for so long.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn run(&mut self, time: Duration, into: &mut Measured) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < time {
            let at = Instant::now();
            self.write().map_err(failed)?;
            into.note(at.elapsed());
        }
        into.took(began.elapsed());
        Ok(())
    }
}

fn failed(cause: std::io::Error) -> Error {
    Error::System { what: "the raw file cannot be written", cause, advice: "check the disk" }
}

fn zeros(path: &Path) -> Result<(), Error> {
    let made = || -> std::io::Result<()> {
        let file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for chunk in 0..FILE_BYTES / zeros.len() as u64 {
            file.write_all_at(&zeros, chunk * zeros.len() as u64)?;
        }
        file.sync_all()
    };
    made().map_err(|cause| Error::file("cannot be made", path, cause))
}

/// Two files written at the same time, each step as long as the slower one: what a primary and a mirror
/// on one device cost each other.
#[derive(Debug)]
pub(super) struct Both {
    ours: Loop,
    go: Option<SyncSender<()>>,
    done: Receiver<std::io::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Both {
    /// Over two files of their own.
    ///
    /// # Errors
    /// The disk's, or no thread.
    pub(super) fn new(
        dir: &Path,
        method: Method,
        record_bytes: usize,
    ) -> Result<Option<Self>, Error> {
        let (one, other) = (
            Loop::new(dir, "raw-one", method, record_bytes)?,
            Loop::new(dir, "raw-other", method, record_bytes)?,
        );
        let (Some(ours), Some(mut theirs)) = (one, other) else { return Ok(None) };
        let (go, told) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let work = move || {
            while told.recv().is_ok() {
                if tell.send(theirs.write()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("other file".to_owned()).spawn(work);
        let thread = thread.map_err(failed)?;
        Ok(Some(Self { ours, go: Some(go), done, thread: Some(thread) }))
    }

    /// Writes for so long.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn run(&mut self, time: Duration, into: &mut Measured) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < time {
            let at = Instant::now();
            let sent = self.go.as_ref().is_some_and(|go| go.send(()).is_ok());
            self.ours.write().map_err(failed)?;
            let gone = || failed(std::io::Error::other("the other file's thread is gone"));
            if !sent {
                return Err(gone());
            }
            self.done.recv().map_err(|_| gone())?.map_err(failed)?;
            into.note(at.elapsed());
        }
        into.took(began.elapsed());
        Ok(())
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        self.go = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
