//! The peak memory of processes: anonymous and shared, sampled.
//!
//! Not here: page cache and mapped files, which are the system's to give back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(50);

/// The peak of each process, by the name that it shares with others of its kind and its number.
type Watched = BTreeMap<(&'static str, u32), u64>;

/// Samples the memory of named processes until it is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    watched: Arc<Mutex<Watched>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    pub(crate) fn start() -> Self {
        let watched: Arc<Mutex<Watched>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, done) = (Arc::clone(&watched), Arc::clone(&stop));
        let look = move || {
            while !done.load(Ordering::Relaxed) {
                for ((_, pid), peak) in seen.lock().iter_mut() {
                    *peak = (*peak).max(resident_bytes(*pid).unwrap_or(0));
                }
                std::thread::sleep(EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(look).ok();
        Self { watched, stop, thread }
    }

    /// Watches a process of this name from now on.
    pub(crate) fn watch(&self, name: &'static str, pid: u32) {
        self.watched.lock().entry((name, pid)).or_default();
    }

    /// The highest peak of each name.
    pub(crate) fn peaks(&self) -> BTreeMap<&'static str, u64> {
        let mut peaks = BTreeMap::new();
        for ((name, _), peak) in self.watched.lock().iter() {
            let highest: &mut u64 = peaks.entry(*name).or_default();
            *highest = (*highest).max(*peak);
        }
        peaks
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The anonymous and shared memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> u64 {
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok()
            })
            .unwrap_or(0)
    };
    Some((kib("RssAnon:").saturating_add(kib("RssShmem:"))).saturating_mul(1024))
}
