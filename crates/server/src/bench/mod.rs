//! Measurements: ours, and beside it what the bare machine does in the same run.
//!
//! # Layout
//! - [`append`]: a log of one's own
//! - [`commit`]: a primary, its mirror as another process
//! - [`failover`]: a cluster of processes loses primaries, mirrors, hosts
//! - [`calm`]: nothing is done to it, and nothing may happen
//! - [`commands`]: how long an administrator waits
//! - [`chaos`]: it is hurt at random, and nothing is lost
//! - [`cluster`]: that cluster
//! - [`load`]: the writers meanwhile
//! - [`raw`]: write and sync in a loop, several methods; two files at once
//! - [`ping`]: a round trip over loopback
//! - [`figures`]: latencies and rates
//! - [`report`]: what is printed
//!
//! Guarantees: ours and the raw figures take turns, in slices, so that what else the machine does
//! hits both; Ctrl-C ends it in order, and leaves nothing behind. Not here: a verdict; no test is timed.

mod append;
mod calm;
mod chaos;
mod cluster;
mod commands;
mod commit;
mod failover;
mod figures;
mod load;
mod ping;
mod raw;
mod report;
mod slices;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use append::append;
pub(crate) use calm::{CalmOptions, calm};
pub(crate) use chaos::{ChaosOptions, chaos};
pub(crate) use commands::{CommandsOptions, commands};
pub(crate) use commit::commit;
pub(crate) use failover::{FailoverOptions, failover};

use crate::error::Error;
use crate::process::{self, stop::Signals};

/// How many turns ours and the raw figures take, at least.
const ROUNDS: u32 = 20;
/// A turn is not longer: between two of them Ctrl-C is heard.
const MAX_SLICE: Duration = Duration::from_millis(250);

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
    /// How many turns there are.
    fn rounds(&self) -> u32 {
        let turns = self.time.as_millis().div_ceil(MAX_SLICE.as_millis());
        u32::try_from(turns).unwrap_or(u32::MAX).max(ROUNDS)
    }

    /// How long a turn of ours is.
    fn slice(&self) -> Duration {
        self.time / self.rounds()
    }
}

/// Whether Ctrl-C came: heard on a thread of its own, because the callers of a benchmark block.
#[derive(Debug)]
struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// Listens from now on.
    fn new() -> Result<Self, Error> {
        let runtime = process::runtime()?;
        let mut signals = {
            let _within = runtime.enter();
            Signals::new()?
        };
        let came = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&came);
        let listen = move || {
            runtime.block_on(signals.next());
            told.store(true, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
        thread.map_err(|cause| Error::System {
            what: "signals cannot be listened for",
            cause,
            advice: "check the limits of threads",
        })?;
        Ok(Self(came))
    }

    /// Fails once it came.
    fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::SeqCst) {
            let left = "what was made for it is cleared away".to_owned();
            return Err(Error::Interrupted { left });
        }
        Ok(())
    }
}

/// How busy the machine is, as it says.
fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
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
