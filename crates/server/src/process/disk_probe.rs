//! The disk probe of an instance: whether its data directory and its log directory take writes.
//!
//! Guarantees: what is told is the time since a page was last written and synced in *both*; a write that
//! hangs or fails lets it grow, and hangs nothing else. Not here: what it is too long (the coordinator's
//! detector), the write itself (`wal`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_wal::disk::probe::Probe;

use crate::error::Error;

/// A thread that probes; it ends when this is dropped, or when the write it hangs in ends.
#[derive(Debug)]
pub(crate) struct DiskProbe {
    age: ProbeAge,
    _ends: mpsc::Sender<()>,
}

/// How long ago both directories last took a write.
#[derive(Clone, Debug)]
pub(crate) struct ProbeAge {
    born: Instant,
    /// When it last succeeded, in microseconds since `born`.
    last: Arc<AtomicU64>,
}

impl DiskProbe {
    /// Probes these directories from now on, with so much time between two probes.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn start(dirs: Vec<PathBuf>, interval: Duration) -> Result<Self, Error> {
        let age = ProbeAge { born: Instant::now(), last: Arc::new(AtomicU64::new(0)) };
        let (ends, ended) = mpsc::channel();
        let told = age.clone();
        let mut probed = Probed { dirs, probes: Vec::new(), failing: false };
        thread::Builder::new()
            .name("disk-probe".to_owned())
            .spawn(move || {
                loop {
                    if probed.succeeds() {
                        told.note();
                    }
                    // Never a word, only the other end's drop.
                    if ended.recv_timeout(interval) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })
            .map_err(|cause| Error::System {
                what: "the disk probe's thread cannot be started",
                cause,
                advice: "check the limits of processes",
            })?;
        Ok(Self { age, _ends: ends })
    }

    /// What it tells, for whoever asks.
    pub(crate) fn age(&self) -> ProbeAge {
        self.age.clone()
    }
}

impl ProbeAge {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// In microseconds; counted from the start while no write has ended yet.
    pub(crate) fn micros(&self) -> u64 {
        let last = self.last.load(Ordering::Relaxed);
        self.now().saturating_sub(last)
    }
}

struct Probed {
    dirs: Vec<PathBuf>,
    /// As far as they are open, in the order of `dirs`.
    probes: Vec<Probe>,
    failing: bool,
}

impl Probed {
    fn succeeds(&mut self) -> bool {
        match self.write() {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the disk takes writes again");
                }
                true
            }
            Err((dir, cause)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(dir = %dir.display(), %cause, "the disk does not take a write");
                }
                false
            }
        }
    }

    fn write(&mut self) -> Result<(), (PathBuf, std::io::Error)> {
        for (at, dir) in self.dirs.iter().enumerate() {
            match self.probes.get_mut(at) {
                Some(probe) => probe.write().map_err(|cause| (dir.clone(), cause))?,
                None => self.probes.push(open(dir).map_err(|cause| (dir.clone(), cause))?),
            }
        }
        Ok(())
    }
}

fn open(dir: &Path) -> std::io::Result<Probe> {
    let probe = Probe::open(dir)?;
    if !probe.is_direct() {
        let dir = dir.display();
        tracing::warn!(%dir, "no O_DIRECT on this file system: the disk is probed by syncing");
    }
    Ok(probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_wal::disk::probe::PROBE_NAME;

    fn probed(dirs: &[&Path]) -> Probed {
        let dirs = dirs.iter().map(|dir| (*dir).to_owned()).collect();
        Probed { dirs, probes: Vec::new(), failing: false }
    }

    #[test]
    fn both_directories_have_to_take_a_write() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("wal");
        let mut probed = probed(&[home.path(), &log]);
        assert!(!probed.succeeds(), "there is no log directory");
        std::fs::create_dir(&log).unwrap();
        assert!(probed.succeeds());
        for dir in [home.path(), &log] {
            assert!(dir.join(PROBE_NAME).exists());
        }
    }

    #[test]
    fn a_write_that_fails_lets_the_age_grow_and_one_that_succeeds_ends_that() {
        let born = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let age = ProbeAge { born, last: Arc::new(AtomicU64::new(0)) };
        assert!(age.micros() >= 5_000_000);
        age.note();
        assert!(age.micros() < 5_000_000);
    }

    #[test]
    fn the_thread_probes_and_ends_with_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let interval = Duration::from_millis(1);
        let probe = DiskProbe::start(vec![home.path().to_owned()], interval).unwrap();
        let age = probe.age();
        let path = home.path().join(PROBE_NAME);
        while std::fs::read(&path).map_or(true, |page| page.first().is_none_or(|n| *n < 3)) {
            thread::yield_now();
        }
        drop(probe);
        // The thread held the only other handle.
        while Arc::strong_count(&age.last) > 1 {
            thread::yield_now();
        }
    }
}
