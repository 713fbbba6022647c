//! Making a data directory.
//!
//! Guarantees: nothing that is there is written over, but for what an unfinished `--init` left. One that was
//! interrupted, at whatever step, goes on under the same identity when it is started again: the
//! coordinator may know it by then.
//! Not here: control file, log and store (replica).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use outrigger_replica::control::ControlError;
use outrigger_replica::runtime::{Replica, ReplicaError};
use outrigger_wal::InstanceId;
use outrigger_wal::disk::lock::{DirLock, LOCK_NAME};
use outrigger_wal::disk::plain;

use super::replica;
use crate::error::Error;

/// Holds the identity of an instance in the making; durable before anybody hears of it.
pub(in crate::process) const NEWBORN: &str = "newborn";
/// What is made before the control file is, and holds nothing that anybody was promised until then.
const UNFINISHED: [&str; 3] = ["wal", "store", "control-new"];

/// Begins to make an instance: the directory, and who it will be: `wanted`, the one of an earlier try, or a new
/// one. `None`: an earlier try came to its end, and was interrupted behind it.
///
/// # Errors
/// The directory holds something else, is in use, or cannot be made or read; no random numbers.
pub(super) fn begin(dir: &Path, wanted: Option<InstanceId>) -> Result<Option<InstanceId>, Error> {
    make(dir)?;
    let unreadable = |cause| Error::file("cannot be read", dir, cause);
    let _lock = DirLock::acquire(dir)?;
    let newborn = fs::read_to_string(dir.join(NEWBORN)).ok();
    let newborn: Option<InstanceId> = newborn.and_then(|text| text.trim().parse().ok());
    if newborn.is_some() && has_control_file(dir)? {
        return Ok(None);
    }
    if let (Some(wanted), Some(newborn)) = (wanted, newborn)
        && wanted != newborn
    {
        return Err(Error::Path {
            path: dir.to_owned(),
            cause: format!("another instance, {newborn}, was begun here"),
            advice: "remove the directory, or give another one",
        });
    }
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let unfinished = newborn.is_some() && UNFINISHED.iter().any(|ours| name == *ours);
        if !unfinished && name != NEWBORN && name != LOCK_NAME {
            return Err(Error::Path {
                path: dir.to_owned(),
                cause: "is not empty".to_owned(),
                advice: "leave --init away to start what is there, or give another directory",
            });
        }
    }
    let Some(id) = newborn else {
        let id = match wanted {
            Some(wanted) => wanted,
            None => InstanceId(random()?),
        };
        let path = dir.join(NEWBORN);
        return match write(&path, &format!("{id}\n")).and_then(|()| sync(dir)) {
            Ok(()) => Ok(Some(id)),
            Err(cause) => Err(Error::file("cannot be written", &path, cause)),
        };
    };
    for path in UNFINISHED.map(|name| dir.join(name)) {
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(Error::file("cannot be removed", &path, cause));
            }
            _ => {}
        }
    }
    Ok(Some(id))
}

/// Makes a directory of mode 0700 and those above it, durably, unless they are there.
///
/// # Errors
/// The system's.
pub(super) fn make(dir: &Path) -> Result<(), Error> {
    plain::make_dir(dir).map_err(|fault| Error::System {
        what: "the directory cannot be made",
        cause: io::Error::other(fault.to_string()),
        advice: "check the path and its permissions",
    })
}

/// The instance is made, and its directory held by the caller: no `--init` goes on here any more.
///
/// # Errors
/// The disk's.
pub(super) fn born(dir: &Path) -> Result<(), Error> {
    let path = dir.join(NEWBORN);
    match fs::remove_file(&path).and_then(|()| sync(dir)) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(Error::file("cannot be removed", &path, cause))
        }
        _ => Ok(()),
    }
}

/// 128 random bits.
///
/// # Errors
/// The system's.
pub(crate) fn random() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::System {
        what: "random numbers cannot be drawn",
        cause: io::Error::other(error.to_string()),
        advice: "check the system's random source",
    })?;
    Ok(u128::from_le_bytes(bytes))
}

fn has_control_file(dir: &Path) -> Result<bool, Error> {
    match Replica::identity(dir) {
        Err(ReplicaError::Control { cause: ControlError::Missing, .. }) => Ok(false),
        Err(error) => Err(replica(dir, error)),
        Ok(_) => Ok(true),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the names in a directory durable.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
