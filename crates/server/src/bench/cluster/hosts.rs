//! The hosts of a cluster that a measurement makes: an agent each, and the processes on them.
//!
//! Guarantees: a process is named by the path of its configuration, which lies in a folder that is this run's alone:
//! nobody else's is ever signalled; whatever way this process ends, a guard ends all of them, and removes networks and
//! files. Not here: what a cluster is made of (the module above).

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outrigger_cluster::catalog::tables::Dbid;
use rustix::process::{Pid, Signal, kill_process};

use super::nets::Net;
use crate::error::Error;

/// Ends, once its input ends, every process that names the folder, and removes what `CLEAR` says and the folder.
const GUARD: &str = r#"
cat >/dev/null
for round in 1 2 3 4 5; do
  found=
  for file in $(grep -slF "$WHERE/" /proc/[0-9]*/cmdline); do
    pid=${file#/proc/}; pid=${pid%/cmdline}
    [ "$pid" = "$$" ] || { kill -9 "$pid" 2>/dev/null && found=1; }
  done
  [ -n "$found" ] || break
done
eval "$CLEAR" >/dev/null 2>&1
[ -n "$KEEP" ] || [ -e "$WHERE/keep" ] || rm -rf "$WHERE"
"#;

/// A host.
#[derive(Debug)]
pub(in crate::bench) struct HostPlace {
    /// Its name in the cluster, and its folder's.
    pub(in crate::bench) name: String,
    /// Its addresses, the first network's first.
    pub(in crate::bench) addresses: Vec<String>,
    agent: Option<Child>,
}

/// All hosts, and what they are on.
#[derive(Debug)]
pub(in crate::bench) struct Hosts {
    dir: PathBuf,
    /// The hosts, in the order in which they are placed on.
    pub(in crate::bench) all: Vec<HostPlace>,
    /// Their networks.
    pub(in crate::bench) net: Net,
    guard: Child,
}

/// Where agents listen.
pub(super) const AGENT_PORT: u16 = 6900;

impl Hosts {
    /// Makes the folder, the networks, and starts the agents.
    ///
    /// # Errors
    /// What cannot be made.
    pub(super) fn start(dir: &Path, count: u8, net: Net, keep: bool) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|cause| Error::file("cannot be made", dir, cause))?;
        // ORDER: the guard first, so that nothing is ever without one.
        let guard = Command::new("sh")
            .args(["-c", GUARD])
            .env("WHERE", dir)
            .env("CLEAR", net.clear())
            .env("KEEP", if keep { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|cause| system("the guard of the processes cannot be started", cause))?;
        let mut hosts = Self { dir: dir.to_owned(), all: Vec::new(), net, guard };
        for number in 1..=count {
            let (name, addresses) = (format!("h{number}"), hosts.net.addresses(number));
            hosts.all.push(HostPlace { name, addresses, agent: None });
        }
        hosts.net.make(count)?;
        for at in 0..hosts.all.len() {
            hosts.start_agent(at)?;
        }
        Ok(hosts)
    }

    /// Leaves the files.
    pub(in crate::bench) fn keep(&self) {
        drop(fs::write(self.dir.join("keep"), ""));
    }

    /// The folder of a host.
    pub(in crate::bench) fn folder(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Starts a host's agent, unless it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(in crate::bench) fn start_agent(&mut self, at: usize) -> Result<(), Error> {
        let dir = self.dir.clone();
        let Some(host) = self.all.get_mut(at) else { return Ok(()) };
        if let Some(agent) = &mut host.agent
            && matches!(agent.try_wait(), Ok(None))
        {
            return Ok(());
        }
        let folder = dir.join(&host.name);
        fs::create_dir_all(&folder)
            .map_err(|cause| Error::file("cannot be made", &folder, cause))?;
        let config = folder.join("agent.toml");
        let all = host.addresses.len() > 1;
        let listen = host.addresses.first().filter(|_| !all).cloned();
        let listen = listen.unwrap_or_else(|| "0.0.0.0".to_owned());
        let text = format!(
            "data_dir = \"{}\"\nlisten = \"{listen}:{AGENT_PORT}\"\nlog = \"info\"\n",
            folder.join("agent").display()
        );
        fs::write(&config, text)
            .map_err(|cause| Error::file("cannot be written", &config, cause))?;
        let log = folder.join("agent.log");
        let errors = fs::File::options().create(true).append(true).open(&log);
        let errors = errors.map_err(|cause| Error::file("cannot be made", &log, cause))?;
        let failed = |cause| Error::file("cannot be started", &config, cause);
        let me = std::env::current_exe().map_err(failed)?;
        let mut command = self.net.on(at, &me);
        let child = command
            .args(["agent", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        host.agent = Some(child);
        Ok(())
    }

    /// The process of an instance on a host.
    pub(in crate::bench) fn instance(&self, host: &str, dbid: Dbid) -> Vec<Pid> {
        let config = self.folder(host).join("agent/instances").join(format!("{dbid}.toml"));
        processes(&config.display().to_string())
    }

    /// The agent's process on a host.
    pub(in crate::bench) fn agent(&self, host: &str) -> Vec<Pid> {
        processes(&self.folder(host).join("agent.toml").display().to_string())
    }

    /// All processes of a host.
    pub(in crate::bench) fn everything(&self, host: &str) -> Vec<Pid> {
        processes(&format!("{}/", self.folder(host).display()))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Its end of input is its word.
        drop(self.guard.stdin.take().map(|mut input| input.flush()));
        drop(self.guard.wait());
        for host in &mut self.all {
            drop(host.agent.take().map(|mut agent| agent.wait()));
        }
    }
}

/// Signals processes; one that has ended meanwhile is left out.
pub(in crate::bench) fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        if let Err(error) = kill_process(*pid, signal) {
            tracing::debug!(%error, "a process cannot be signalled");
        }
    }
}

/// The processes whose command line holds this text, but for this one.
fn processes(text: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names = |line: &[u8]| line.windows(text.len()).any(|part| part == text.as_bytes());
        if names(&line) && pid != rustix::process::getpid() {
            found.push(pid);
        }
    }
    found
}

/// The system refused.
pub(super) fn system(what: &'static str, cause: io::Error) -> Error {
    Error::System { what, cause, advice: "check rights, and the limits of processes" }
}
