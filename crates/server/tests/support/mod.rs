//! Running the binary: commands to their end, processes that end with the test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "each test file includes this module and uses a part of it; a test may panic"
)]

pub(crate) mod hosts;
pub(crate) mod runbook;

use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_outrigger");
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what nobody tells of.
const PAUSE: Duration = Duration::from_millis(10);

/// A command that has ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// Its output as one JSON value a line.
    pub(crate) fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The one line of its error.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        let line = self.err.trim_end();
        assert!(line.starts_with("error: ") && !line.contains('\n'), "{line}");
        line.to_owned()
    }
}

pub(crate) fn run(arguments: &[&str]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    run_as(command)
}

/// Runs this command, with nobody to ask.
pub(crate) fn run_as(mut command: Command) -> Ran {
    let output = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A command under way; killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// Its standard output, line by line.
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

/// Begins a command, with this as its directory for temporary files.
pub(crate) fn begin(arguments: &[&str], temporary: &Path) -> Running {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    Running { child, lines }
}

impl Running {
    /// Reads its output up to a line that says this.
    pub(crate) fn wait_for(&mut self, what: &str) {
        let found = self.lines.by_ref().map_while(Result::ok).find(|line| line.contains(what));
        assert!(found.is_some(), "it ended without saying {what:?}");
    }

    /// The processes that it has started and that are there now.
    pub(crate) fn children(&self) -> Vec<u32> {
        let id = self.child.id();
        let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        list.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        signal(self.child.id(), rustix::process::Signal::INT);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let out: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let mut err = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
        Ran { code: self.child.wait().expect("ends").code(), out: out.join("\n"), err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn signal(process: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("was alive");
}

/// A coordinator or instance; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Process {
    pub(crate) fn start(verb: &str, config: &Path, init: bool) -> Self {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--config").arg(config);
        if init {
            command.arg("--init");
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        let address = line.trim().strip_prefix("listening ").map(str::to_owned);
        Self { child, address: address.expect("it tells where it listens") }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP: it stands still, with its connections open.
    pub(crate) fn freeze(&self) {
        signal(self.child.id(), rustix::process::Signal::STOP);
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("was alive");
        self.child.wait().expect("ends");
    }

    /// Waits until it ends by itself: its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let mut code = None;
        until(|| {
            code = self.child.try_wait().expect("ours").map(|status| status.code());
            code.is_some()
        });
        code.flatten()
    }

    /// SIGTERM, to its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        signal(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A coordinator, a primary and a mirror that is in sync.
pub(crate) struct Cluster {
    pub(crate) home: tempfile::TempDir,
    pub(crate) coordinator: Process,
    pub(crate) primary: Process,
    pub(crate) mirror: Process,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with("segment_bytes = 1048576\n")
    }

    /// With these keys for its instances.
    pub(crate) fn start_with(keys: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let coordinator = Process::start("coordinator", &config(home.path(), "c", ""), true);
        let more = format!("coordinator = \"{}\"\n{keys}", coordinator.address);
        let primary = Process::start("instance", &config(home.path(), "one", &more), true);
        let mirror = Process::start("instance", &config(home.path(), "two", &more), true);
        let cluster = Self { home, coordinator, primary, mirror };
        cluster.in_sync();
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Runs a verb that talks to the coordinator.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ran {
        ask(&self.coordinator, arguments)
    }

    /// Begins a verb that talks to the coordinator.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        let whom = ["--coordinator", &self.coordinator.address];
        begin(&[arguments, &whom].concat(), self.home.path())
    }

    pub(crate) fn in_sync(&self) {
        in_sync(&self.coordinator);
    }
}

/// The keys of an instance beside directory and port.
pub(crate) fn more(coordinator: &Process) -> String {
    format!("coordinator = \"{}\"\nsegment_bytes = 1048576\n", coordinator.address)
}

pub(crate) fn ask(coordinator: &Process, arguments: &[&str]) -> Ran {
    run(&[arguments, &["--coordinator", &coordinator.address]].concat())
}

pub(crate) fn in_sync(coordinator: &Process) {
    // Two copies, before their state counts.
    until(|| {
        let state = ask(coordinator, &["state", "--json"]).json();
        state[0]["contents"][0]["copies"].as_array().is_some_and(|copies| copies.len() == 2)
    });
    ask(coordinator, &["recover", "--timeout", "60"]).ok();
}

/// Asks again until it holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it does not come to hold");
        // Others need the processor for it to come to hold.
        std::thread::sleep(PAUSE);
    }
}

/// Writes a configuration file; data goes beside it.
pub(crate) fn config(home: &Path, name: &str, more: &str) -> PathBuf {
    let path = home.join(format!("{name}.toml"));
    let data_dir = home.join(name);
    let text = format!("data_dir = {data_dir:?}\nlisten = \"127.0.0.1:0\"\n{more}");
    std::fs::write(&path, text).expect("writable");
    path
}
