//! The demo's directory and its processes.
//!
//! Guarantees: a process that was started ends with its handle, and with this program, however that ends.
//! The directory is removed with the [`Stage`], unless it is to stay.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use outrigger_replica::runtime::Replica;
use outrigger_wal::ClusterId;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::Error;
use crate::output;

/// How long a process may take to listen.
const START_TIME: Duration = Duration::from_secs(20);
/// How long a process may take to end in order.
const STOP_TIME: Duration = Duration::from_secs(20);
/// How often memory is looked at.
const SAMPLE_TIME: Duration = Duration::from_millis(25);

/// Where the demo plays.
pub(super) struct Stage {
    dir: PathBuf,
    made: bool,
    keep: bool,
    began: Instant,
    peaks: Mutex<BTreeMap<&'static str, u64>>,
    cast: Mutex<Vec<(&'static str, u32)>>,
}

impl Stage {
    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made, or is not empty.
    pub(super) fn new(dir: Option<&Path>, keep: bool) -> Result<Self, Error> {
        let dir = dir.map_or_else(
            || std::env::temp_dir().join(format!("outrigger-demo-{}", std::process::id())),
            Path::to_owned,
        );
        let made = !dir.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|cause| Error::file("cannot be made", &dir, cause))?;
        let dir = dir.canonicalize().map_err(|cause| Error::file("cannot be read", &dir, cause))?;
        let mut there =
            fs::read_dir(&dir).map_err(|cause| Error::file("cannot be read", &dir, cause))?;
        if there.next().is_some() {
            return Err(Error::Path {
                path: dir,
                cause: "is not empty".to_owned(),
                advice: "give another directory, or remove what is there",
            });
        }
        let (peaks, cast) = (Mutex::default(), Mutex::default());
        Ok(Self { dir, made, keep, began: Instant::now(), peaks, cast })
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory of a process.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The ack log.
    pub(super) fn ack_log(&self) -> PathBuf {
        self.dir.join("acks.jsonl")
    }

    /// One line of the story, with the time since it began.
    pub(super) fn say(&self, line: fmt::Arguments<'_>) -> Result<(), Error> {
        output::say(format_args!("{:6.2} s  {line}", self.began.elapsed().as_secs_f64()))
    }

    /// Starts `outrigger VERB` with this configuration, and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, or ended at once: the end of its log is in the message.
    pub(super) async fn start(
        &self,
        name: &'static str,
        verb: &str,
        config: &str,
        init: bool,
    ) -> Result<Actor, Error> {
        let path = self.dir.join(format!("{name}.toml"));
        let data_dir = toml::Value::String(self.data_dir(name).display().to_string());
        let text = format!("data_dir = {data_dir}\nlisten = \"127.0.0.1:0\"\n{config}");
        fs::write(&path, text).map_err(|cause| Error::file("cannot be written", &path, cause))?;
        let log = self.dir.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.map_err(|cause| Error::file("cannot be made", &log, cause))?;
        let program = std::env::current_exe().map_err(|cause| Error::System {
            what: "this program's own file is not known",
            cause,
            advice: "is /proc there?",
        })?;
        let mut command = std::process::Command::new(&program);
        command.arg(verb).arg("--config").arg(&path);
        command.arg("--die-with").arg(std::process::id().to_string());
        if init {
            command.arg("--init");
        }
        // Ctrl-C is for the demo, which then ends its processes.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut command = Command::from(command);
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| Error::file("cannot be started", &program, cause))?;
        let address = match child.stdout.take() {
            Some(stdout) => {
                let line = timeout(START_TIME, BufReader::new(stdout).lines().next_line()).await;
                line.ok().and_then(Result::ok).flatten()
            }
            None => None,
        };
        let address = address.as_deref().and_then(|line| line.strip_prefix("listening "));
        let (Some(address), Some(pid)) = (address, child.id()) else {
            return Err(Error::Path {
                path: log.clone(),
                cause: format!("the {name} did not start: {}", last_line(&log)),
                advice: "see its log",
            });
        };
        self.cast.lock().push((name, pid));
        let identity = Replica::identity(&self.data_dir(name))
            .map_err(|error| Error::Replica { dir: self.data_dir(name), error })?;
        let cluster = identity.cluster;
        Ok(Actor { name, pid, address: address.to_owned(), cluster, child })
    }

    /// Looks at the processes' memory again and again; never ends.
    pub(super) async fn sample(&self) {
        loop {
            let cast = self.cast.lock().clone();
            for (name, pid) in cast {
                if let Some(bytes) = memory_bytes(pid) {
                    let mut peaks = self.peaks.lock();
                    let peak = peaks.entry(name).or_default();
                    *peak = bytes.max(*peak);
                }
            }
            tokio::time::sleep(SAMPLE_TIME).await;
        }
    }

    /// The most memory, anonymous and shared, that each process was seen with, in bytes.
    pub(super) fn peaks(&self) -> BTreeMap<&'static str, u64> {
        self.peaks.lock().clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // What cannot be removed is said, and changes nothing about the result.
        let removed = if self.made {
            fs::remove_dir_all(&self.dir)
        } else {
            fs::read_dir(&self.dir).and_then(|entries| {
                entries.flatten().try_for_each(|entry| {
                    let path = entry.path();
                    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                })
            })
        };
        if let Err(error) = removed {
            output::complain(format_args!("{}: cannot be removed: {error}", self.dir.display()));
        }
    }
}

/// A process.
pub(super) struct Actor {
    name: &'static str,
    pid: u32,
    /// Where it listens.
    pub(super) address: String,
    /// Its cluster.
    pub(super) cluster: ClusterId,
    child: Child,
}

impl Actor {
    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|error| self.failed(error.into()))
    }

    /// Kills it, and waits until it is gone.
    ///
    /// # Errors
    /// It was gone already.
    pub(super) async fn kill(mut self) -> Result<(), Error> {
        let killed = self.child.kill().await;
        killed.map_err(|cause| self.failed(cause))
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        let ended = timeout(STOP_TIME, self.child.wait()).await;
        let ended = ended.map_err(|_| self.failed(std::io::Error::other("it does not end")))?;
        let status = ended.map_err(|cause| self.failed(cause))?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(std::io::Error::other(format!("it ended with {status}"))))
    }

    fn failed(&self, cause: std::io::Error) -> Error {
        Error::Partial(format!("the {} (process {}): {cause}; see its log", self.name, self.pid))
    }
}

/// The last line of a log, for a message.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

/// Anonymous and shared memory of a process.
fn memory_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    crate::bench::memory::anonymous_bytes(&status)
}
