//! Making a data directory.
//!
//! Guarantees: nothing that is there is written over. An instance's `--init` that was interrupted goes on under the
//! same identity when it is started again: the coordinator knows it by then.
//! Not here: control file, log and store (replica).

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use outrigger_wal::InstanceId;

use crate::error::Error;

/// Holds the identity of an instance in the making.
const NEWBORN: &str = "newborn";

/// Makes the directory, and refuses one that holds something.
///
/// # Errors
/// It holds something, or cannot be made or read.
pub(super) fn empty_dir(dir: &Path) -> Result<(), Error> {
    make(dir)?;
    let mut entries =
        fs::read_dir(dir).map_err(|cause| Error::file("cannot be read", dir, cause))?;
    let ours = |name: &std::ffi::OsStr| name == NEWBORN || name == "lock";
    if entries.any(|entry| !entry.is_ok_and(|entry| ours(&entry.file_name()))) {
        return Err(Error::Path {
            path: dir.to_owned(),
            cause: "is not empty".to_owned(),
            advice: "leave --init away to start what is there, or give another directory",
        });
    }
    Ok(())
}

/// Makes a directory of mode 0700 and those above it, unless they are there.
///
/// # Errors
/// The system's.
pub(super) fn make(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|cause| Error::file("cannot be made", dir, cause))
}

/// The identity of the instance that is being made here: the one of an earlier try, or a new one.
///
/// # Errors
/// The disk's, or no random numbers.
pub(super) fn newborn(dir: &Path) -> Result<InstanceId, Error> {
    let path = dir.join(NEWBORN);
    if let Some(found) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(found);
    }
    let id = InstanceId(random()?);
    fs::write(&path, format!("{id}\n"))
        .map_err(|cause| Error::file("cannot be written", &path, cause))?;
    Ok(id)
}

/// The instance is made.
///
/// # Errors
/// The disk's.
pub(super) fn born(dir: &Path) -> Result<(), Error> {
    let path = dir.join(NEWBORN);
    fs::remove_file(&path).map_err(|cause| Error::file("cannot be removed", &path, cause))
}

/// 128 random bits.
///
/// # Errors
/// The system's.
pub(super) fn random() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::System {
        what: "random numbers cannot be drawn",
        cause: std::io::Error::other(error.to_string()),
        advice: "check the system's random source",
    })?;
    Ok(u128::from_le_bytes(bytes))
}
