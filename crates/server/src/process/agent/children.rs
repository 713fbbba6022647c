//! An agent's child processes: started, found again, stopped, watched.
//!
//! Guarantees: a process's number is written down with the moment it began, so that another one that got the
//! number is not taken for it; one thread waits for each process, whoever started it; one that does not end
//! in order in time is killed. Not here: when they run (the machine).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use outrigger_cluster::agent::{In, Order};
use outrigger_cluster::catalog::tables::{Dbid, Rebuild, Wanted};
use outrigger_wal::ClusterId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::sync::mpsc::UnboundedSender;

use super::Heard;
use super::files;
use crate::config::AgentConfig;
use crate::error::Error;

/// How often a stopping agent looks whether its instances have ended.
const LOOK: Duration = Duration::from_millis(5);

/// The processes of a host.
pub(super) struct Children {
    dir: PathBuf,
    log: String,
    stop_time: Duration,
    /// They die with the agent.
    leash: bool,
    cluster: ClusterId,
    events: UnboundedSender<Heard>,
    running: BTreeMap<Dbid, Running>,
    /// What the configurations were written for.
    configured: BTreeMap<Dbid, Order>,
}

struct Running {
    pid: Pid,
    /// It was told to end, and when.
    stopping: Option<Instant>,
    killed: bool,
}

impl Children {
    pub(super) fn new(config: &AgentConfig, leash: bool, events: UnboundedSender<Heard>) -> Self {
        Self {
            dir: config.data_dir.clone(),
            log: config.log.clone(),
            stop_time: Duration::from_millis(config.stop_timeout_ms),
            leash,
            cluster: ClusterId::default(),
            events,
            running: BTreeMap::new(),
            configured: BTreeMap::new(),
        }
    }

    /// The cluster whose instances they are.
    pub(super) const fn work_for(&mut self, cluster: ClusterId) {
        self.cluster = cluster;
    }

    /// The instances among these that run already: an agent before this one started them.
    pub(super) fn find(&mut self, orders: &BTreeMap<Dbid, Order>) -> Vec<(Dbid, u32)> {
        let mut found = Vec::new();
        for dbid in orders.keys() {
            let Some(pid) = self.read_pid(*dbid) else { continue };
            match pidfd_open(pid, PidfdFlags::empty()) {
                // Looked at again behind the handle: the number may have gone to another process meanwhile.
                Ok(handle) if self.read_pid(*dbid) == Some(pid) => {
                    let (events, dbid) = (self.events.clone(), *dbid);
                    let waiting = spawn_named(dbid, move || {
                        let mut fds = [PollFd::new(&handle, PollFlags::IN)];
                        while poll(&mut fds, None).is_err() {}
                        let how = "it ended; its agent had not started it".to_owned();
                        let event = In::Ended { dbid, how, good: true };
                        drop(events.send(Heard::Machine(event)));
                    });
                    if waiting {
                        self.running.insert(dbid, Running { pid, stopping: None, killed: false });
                        found.push((dbid, pid.as_raw_nonzero().get().unsigned_abs()));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Writes the configurations of running instances again where they changed: they look where coordinators are
    /// whenever they have lost theirs.
    pub(super) fn configure(&mut self, orders: &BTreeMap<Dbid, Order>) {
        for (dbid, order) in orders.iter().filter(|(dbid, _)| self.running.contains_key(*dbid)) {
            if self.configured.get(dbid) == Some(order) {
                continue;
            }
            let folder = self.dir.join("instances");
            match files::write(&folder, *dbid, self.cluster, order, &self.log) {
                Ok(_) => drop(self.configured.insert(*dbid, order.clone())),
                Err(error) => tracing::error!(%dbid, %error, "a configuration cannot be written"),
            }
        }
    }

    /// Starts a process; an event when that is over at once, well or not.
    pub(super) fn start(&mut self, dbid: Dbid, order: &Order) -> Option<In> {
        match self.try_start(dbid, order) {
            Ok(pid) => {
                let rebuilds = matches!(order.wanted, Wanted::Rebuild(_));
                let event = if rebuilds {
                    In::Rebuilding { dbid, done_bytes: 0, total_bytes: 0 }
                } else {
                    In::Runs { dbid, pid }
                };
                Some(event)
            }
            Err(error) => {
                tracing::error!(%dbid, %error, "an instance cannot be started");
                Some(In::Ended { dbid, how: error.to_string(), good: false })
            }
        }
    }

    fn try_start(&mut self, dbid: Dbid, order: &Order) -> Result<u32, Error> {
        let folder = self.dir.join("instances");
        let config = files::write(&folder, dbid, self.cluster, order, &self.log)?;
        self.configured.insert(dbid, order.clone());
        let log = folder.join(format!("{dbid}.log"));
        let errors = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|cause| Error::file("cannot be made", &log, cause))?;
        let failed = |cause| Error::file("cannot be started", &config, cause);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg(match (order.content.0 < 0, order.wanted) {
            (true, _) => "coordinator",
            (false, Wanted::Rebuild(_)) => "rebuild",
            (false, _) => "instance",
        });
        command.arg("--config").arg(&config);
        match order.wanted {
            Wanted::New => {
                command.arg("--init");
            }
            Wanted::Rebuild(mode) => {
                let mode = match mode {
                    Rebuild::Differential => "differential",
                    Rebuild::Full => "full",
                };
                let from = order.source.join(",");
                command.args(["--mode", mode, "--from", &from, "--progress", "json"]);
                if order.max_rate_bytes > 0 {
                    command.args(["--max-rate", &order.max_rate_bytes.to_string()]);
                }
            }
            _ => {}
        }
        if self.leash {
            command.args(["--die-with", &std::process::id().to_string()]);
        }
        // Ctrl-C at a terminal is for the agent, which ends them in order.
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let id = child.id();
        let out = child.stdout.take();
        let events = self.events.clone();
        let rebuilds = matches!(order.wanted, Wanted::Rebuild(_));
        let waiting = spawn_named(dbid, move || {
            if let Some(out) = out {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some(event) = progress(dbid, &line).filter(|_| rebuilds) {
                        drop(events.send(Heard::Machine(event)));
                    }
                }
            }
            let event = ended(dbid, child, &log);
            drop(events.send(Heard::Machine(event)));
        });
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.filter(|_| waiting).ok_or_else(|| {
            Error::file("cannot be watched", &config, std::io::ErrorKind::Other.into())
        })?;
        self.write_pid(dbid, pid)?;
        self.running.insert(dbid, Running { pid, stopping: None, killed: false });
        Ok(id)
    }

    /// Tells a process to end in order.
    pub(super) fn stop(&mut self, dbid: Dbid) {
        if let Some(running) = self.running.get_mut(&dbid) {
            running.stopping.get_or_insert_with(Instant::now);
            signal(running.pid, Signal::TERM);
            // One that was stopped by a debugger or an administrator could not end.
            signal(running.pid, Signal::CONT);
        }
    }

    /// What is known here of an event on its way to the machine.
    pub(super) fn note(&mut self, event: In) -> In {
        if let In::Ended { dbid, .. } = &event {
            self.running.remove(dbid);
            drop(fs::remove_file(self.pid_path(*dbid)));
        }
        event
    }

    /// How long it is until somebody is late.
    pub(super) fn due(&self) -> Duration {
        let stopping = self.running.values().filter(|running| !running.killed);
        let due = stopping.filter_map(|running| running.stopping);
        let due = due.map(|since| self.stop_time.saturating_sub(since.elapsed())).min();
        due.unwrap_or(Duration::from_secs(3600))
    }

    /// Kills whoever did not end in time.
    pub(super) fn kill_the_late(&mut self) {
        for (dbid, running) in &mut self.running {
            let late = running.stopping.is_some_and(|since| since.elapsed() >= self.stop_time);
            if late && !running.killed {
                tracing::warn!(%dbid, "it did not end in order in time, and is killed");
                running.killed = true;
                signal(running.pid, Signal::KILL);
            }
        }
    }

    /// Ends all of them, and waits until they have.
    pub(super) async fn stop_all(&mut self, stop_timeout_ms: u64) {
        let all: Vec<_> = self.running.keys().copied().collect();
        all.into_iter().for_each(|dbid| self.stop(dbid));
        let until = Instant::now() + Duration::from_millis(stop_timeout_ms);
        while self.running.values().any(|running| is_alive(running.pid)) {
            if Instant::now() >= until {
                self.kill_the_late();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Removes a data directory, if it is that instance's.
    pub(super) fn remove(&mut self, dbid: Dbid, order: &Order) -> In {
        let dir = Path::new(&order.data_dir);
        match remove(dir, order) {
            Ok(()) => In::Removed { dbid },
            Err(error) => {
                tracing::error!(%dbid, %error, "a data directory cannot be removed");
                In::Ended { dbid, how: error.to_string(), good: false }
            }
        }
    }

    fn pid_path(&self, dbid: Dbid) -> PathBuf {
        self.dir.join("instances").join(format!("{dbid}.pid"))
    }

    fn write_pid(&self, dbid: Dbid, pid: Pid) -> Result<(), Error> {
        let path = self.pid_path(dbid);
        let began = began(pid).unwrap_or_default();
        fs::write(&path, format!("{} {began}\n", pid.as_raw_nonzero()))
            .map_err(|cause| Error::file("cannot be written", &path, cause))
    }

    /// The process that was started for an instance, if it is still that one.
    fn read_pid(&self, dbid: Dbid) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_path(dbid)).ok()?;
        let (pid, noted) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok().and_then(Pid::from_raw)?;
        (began(pid).as_deref() == Some(noted)).then_some(pid)
    }
}

/// Which data directories hold no instance that could be started, and why.
pub(super) fn check(orders: &[(Dbid, Order)]) -> Vec<(Dbid, String)> {
    let bad = |(dbid, order): &(Dbid, Order)| {
        let dir = Path::new(&order.data_dir);
        let why = match outrigger_replica::runtime::Replica::identity(dir) {
            Ok(found) if found.instance == order.instance => return None,
            Ok(found) => format!("{} belongs to instance {}", dir.display(), found.instance),
            Err(error) => format!("{}: {error}", dir.display()),
        };
        Some((*dbid, why))
    };
    orders.iter().filter_map(bad).collect()
}

fn remove(dir: &Path, order: &Order) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    if let Ok(found) = outrigger_replica::runtime::Replica::identity(dir)
        && found.instance != order.instance
    {
        return Err(Error::Path {
            path: dir.to_owned(),
            cause: format!("belongs to instance {}, and is left alone", found.instance),
            advice: "remove it by hand if it should go",
        });
    }
    fs::remove_dir_all(dir).map_err(|cause| Error::file("cannot be removed", dir, cause))
}

fn spawn_named(dbid: Dbid, work: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name(format!("watch-{dbid}")).spawn(work).is_ok()
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "a process cannot be signalled");
    }
}

fn is_alive(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state stands behind the name, which may hold anything: Z is one that only waits to be reaped.
    state.is_ok_and(|stat| {
        !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    })
}

/// When a process began, in the kernel's ticks: with its number it names the process for good.
fn began(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let behind_name = stat.rsplit(')').next()?;
    behind_name.split_whitespace().nth(19).map(str::to_owned)
}

fn ended(dbid: Dbid, mut child: Child, log: &Path) -> In {
    let status = child.wait();
    let good = status.as_ref().is_ok_and(ExitStatus::success);
    let word = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "it ended in order".to_owned(),
            (Some(code), _) => format!("it ended with code {code}"),
            (None, Some(signal)) => format!("signal {signal} ended it"),
            (None, None) => status.to_string(),
        },
        Err(error) => format!("it cannot be awaited: {error}"),
    };
    let text = if good { String::new() } else { last_error(log) };
    let how = if text.is_empty() { word } else { format!("{word}: {text}") };
    In::Ended { dbid, how, good }
}

/// The last line of a log that says what went wrong.
fn last_error(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| line.starts_with("error: "));
    last.map(|line| line.trim_start_matches("error: ").to_owned()).unwrap_or_default()
}

/// A line of a rebuild that says how far it is.
fn progress(dbid: Dbid, line: &str) -> Option<In> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let number = |key| value.get(key).and_then(serde_json::Value::as_u64);
    let (done_bytes, total_bytes) = (number("done_bytes")?, number("total_bytes")?);
    Some(In::Rebuilding { dbid, done_bytes, total_bytes })
}
