//! Logs and stores, read from disk without their instance, so that others can check us.
//!
//! Guarantees: a log is only read. Not here: what makes a log sound
//! ([`outrigger_wal::verify`]).

mod dump;
mod store;
mod verify;

use std::path::{Path, PathBuf};

use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};

use crate::error::Error;

pub(crate) use dump::{DumpOptions, dump};
pub(crate) use store::dump as dump_store;
pub(crate) use verify::verify;

/// A log's folder: `dir` itself, or `wal/` in it when it is a data directory.
pub(crate) fn log_folder(dir: &Path) -> Result<PathBuf, Error> {
    let found =
        std::fs::metadata(dir).map_err(|cause| Error::file("cannot be read", dir, cause))?;
    if !found.is_dir() {
        return Err(Error::Path {
            path: dir.to_owned(),
            cause: "is not a directory".to_owned(),
            advice: "give a data directory, or the folder wal/ of one",
        });
    }
    let below = dir.join("wal");
    Ok(if below.is_dir() { below } else { dir.to_owned() })
}

/// Opens a log's folder for reading; missing folders stay missing.
fn open(folder: &Path) -> Result<PlainDisk, Error> {
    let options = PlainOptions { threads: 1, ..PlainOptions::new(folder) };
    PlainDisk::open(options).map_err(|fault| Error::log(folder, fault.into()))
}
