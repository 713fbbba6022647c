//! The demo's child processes: started, awaited, stopped, killed, never left behind.
//!
//! Guarantees: a child ends with its handle, and also when this process is killed (`--die-with`); Ctrl-C at a
//! terminal reaches this process alone, which ends its children in order; whoever waits for one can
//! be interrupted. Not here: what the children do.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::error::Error;

/// How long a child may take to say that it is ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether a child has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A process of ours.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    lines: UnboundedReceiver<String>,
    log: PathBuf,
    stopped: bool,
}

impl Process {
    /// Starts this program with other arguments; its log goes to `log`.
    pub(crate) fn start(name: &'static str, arguments: &[&str], log: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::file("cannot be started", Path::new(name), cause);
        let program = std::env::current_exe().map_err(failed)?;
        let errors = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|cause| Error::file("cannot be made", log, cause))?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--die-with", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (tell, lines) = unbounded_channel();
        if let Some(out) = child.stdout.take() {
            let read = move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(read).map_err(failed)?;
        }
        Ok(Self { name, child, lines, log: log.to_owned(), stopped: false })
    }

    /// Waits for the line that says where it listens; returns that address.
    pub(crate) async fn ready(&mut self) -> Result<String, Error> {
        let listening = async {
            while let Some(line) = self.lines.recv().await {
                if let Some(address) = line.strip_prefix("listening ") {
                    return Some(address.to_owned());
                }
            }
            None
        };
        match timeout(PATIENCE, listening).await {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(self.wrong("ended at once")),
            Err(_) => Err(self.wrong("is not ready in 20 s")),
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is written any more, nothing is closed.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.signal(Signal::KILL)?;
        self.child.wait().map_err(|cause| Error::file("cannot be awaited", &self.log, cause))?;
        self.stopped = true;
        Ok(())
    }

    /// SIGTERM: it ends in order.
    pub(crate) fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// SIGTERM, and waits until it has closed cleanly.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        self.terminate()?;
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait();
            match ended.map_err(|cause| Error::file("cannot be awaited", &self.log, cause))? {
                Some(status) if status.success() => {
                    self.stopped = true;
                    return Ok(());
                }
                Some(status) => {
                    self.stopped = true;
                    return Err(self.wrong(&format!("did not close cleanly: {status}")));
                }
                None if Instant::now() >= until => return Err(self.wrong("does not end in 20 s")),
                None => sleep(LOOK).await,
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let failed =
            |cause: std::io::Error| Error::file("cannot be signalled", Path::new(self.name), cause);
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        kill_process(pid, signal).map_err(|errno| failed(errno.into()))
    }

    fn wrong(&self, what: &str) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word");
        Error::Path {
            path: self.log.clone(),
            cause: format!("the {} {what}; its last word: {last}", self.name),
            advice: "look into its log (run the demo with --keep)",
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.stopped {
            // A frozen process takes the signal too.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
