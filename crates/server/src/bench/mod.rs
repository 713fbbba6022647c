//! Measurements: ours, and beside it what the bare machine does in the same run.
//!
//! # Layout
//! - [`append`]: a log of one's own
//! - [`commit`]: a primary, its mirror as another process
//! - [`raw`]: write and sync in a loop, several methods; two files at once
//! - [`ping`]: a round trip over loopback
//! - [`figures`]: latencies and rates
//! - [`report`]: what is printed
//!
//! Guarantees: ours and the raw figures take turns, in slices, so that what else the machine does
//! hits both. Not here: a verdict; no test is timed.

mod append;
mod commit;
mod figures;
mod ping;
mod raw;
mod report;
mod slices;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use append::append;
pub(crate) use commit::commit;

use crate::error::Error;

/// How many turns ours and the raw figures take.
const ROUNDS: u32 = 20;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where files are made.
    pub(crate) dir: PathBuf,
    /// Callers at the same time.
    pub(crate) writers: usize,
    /// The size of a record.
    pub(crate) record_bytes: usize,
    /// How long ours is measured.
    pub(crate) time: Duration,
    /// One JSON object.
    pub(crate) json: bool,
}

impl Options {
    /// How long a turn of ours is.
    fn slice(&self) -> Duration {
        self.time / ROUNDS
    }
}

/// A directory of our own, removed with this.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in `dir`, which is made too if need be.
    fn new(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(format!("outrigger-bench-{}", std::process::id()));
        let made = std::fs::create_dir_all(&path);
        made.map_err(|cause| Error::file("cannot be made", &path, cause))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            crate::output::complain(format_args!(
                "{}: cannot be removed: {error}",
                self.0.display()
            ));
        }
    }
}
