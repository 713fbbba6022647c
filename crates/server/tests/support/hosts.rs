//! A cluster of real processes on hosts of its own: an agent a host, addresses that nobody else uses, and rows that must stay.
//!
//! Guarantees: dropped at any moment, its agents die, and their instances with them. Not here: what is done to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{BINARY, Ran, run_as, until};

/// The agents' port, the coordinator's and the standby's, and the first of the primaries and of the mirrors.
const PORTS: [u16; 4] = [7070, 7000, 6000, 8000];
/// The host number and port of the socket that holds a network, as demos hold theirs.
const CLAIM: (u8, u16) = (254, 6899);
/// The networks `127.0.N.0` that are tried.
const NETWORKS: std::ops::Range<u8> = 32..232;

/// The hosts `sdw1`, `sdw2` and so on, and the cluster on them.
pub(crate) struct Hosts {
    home: tempfile::TempDir,
    network: u8,
    agents: BTreeMap<u8, Child>,
    /// What was acknowledged: key and value.
    rows: BTreeMap<String, String>,
    _claim: TcpListener,
}

impl Hosts {
    /// So many hosts and the file of a cluster of one primary each on the first `listed`; nothing runs yet.
    pub(crate) fn new((hosts, listed): (u8, u8), keys: &str) -> Self {
        let (network, claim) = claim(hosts);
        let home = tempfile::tempdir().expect("a folder");
        let hosts =
            Self { home, network, agents: BTreeMap::new(), rows: BTreeMap::new(), _claim: claim };
        for host in 1..=15 {
            let etc = hosts.path(&format!("data/sdw{host}/etc"));
            std::fs::create_dir_all(&etc).expect("a folder");
            let text = format!(
                "data_dir = \"/data/sdw{host}/agent\"\nlisten = \"sdw{host}:{}\"\n",
                PORTS[0]
            );
            std::fs::write(etc.join("agent.toml"), hosts.here(&text)).expect("writable");
        }
        hosts.list("cluster.toml", listed, keys);
        hosts
    }

    /// The cluster, made and in sync, with rows in it.
    pub(crate) fn cluster((hosts, listed): (u8, u8), keys: &str) -> Self {
        let mut cluster = Self::new((hosts, listed), keys);
        (1..=hosts).for_each(|host| cluster.start_agent(host));
        cluster.ask("init cluster.toml -a").ok();
        cluster.in_sync();
        cluster.write(200);
        cluster
    }

    /// Writes a cluster's file.
    pub(crate) fn list(&self, name: &str, hosts: u8, keys: &str) {
        let [agent, coordinator, primaries, mirrors] = PORTS;
        let mut text = format!(
            "name = \"runbook\"\nsegments_per_host = 1\n\
             data_dirs = [\"/data/{{host}}/primary\"]\nmirror_data_dirs = [\"/data/{{host}}/mirror\"]\n\
             port_base = {primaries}\nmirror_port_base = {mirrors}\nsegment_bytes = 1048576\n{keys}\n\
             coordinator = {{ host = \"sdw1\", port = {coordinator}, data_dir = \"/data/sdw1/coordinator\" }}\n"
        );
        for host in 1..=hosts {
            text.push_str(&format!(
                "[[host]]\nname = \"sdw{host}\"\naddresses = [\"127.0.{}.{host}\"]\n\
                 agent = \"sdw{host}:{agent}\"\n",
                self.network
            ));
        }
        std::fs::write(self.path(name), self.here(&text)).expect("writable");
    }

    /// What is written for any place, for this one.
    pub(crate) fn here(&self, text: &str) -> String {
        let data = self.path("data");
        let mut text = text.replace("/data/", &format!("{}/", data.display()));
        for host in 1..=15 {
            text = text.replace(&format!("sdw{host}:"), &format!("127.0.{}.{host}:", self.network));
        }
        text
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs a command of the shell, in the folder of the cluster's files.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let folder = Path::new(BINARY).parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", &self.here(line)]).current_dir(self.home.path());
        command.env("PATH", format!("{folder}:{path}"));
        command.env("OUTRIGGER_COORDINATOR", self.here("sdw1:7000,sdw2:7000"));
        run_as(command)
    }

    /// Runs a verb of ours.
    pub(crate) fn ask(&self, line: &str) -> Ran {
        self.shell(&format!("outrigger {line}"))
    }

    /// A verb that is refused: what it says.
    pub(crate) fn refused(&self, line: &str, says: &str) {
        let error = self.ask(line).error(2);
        assert!(error.contains(says), "{line}: {error}");
    }

    /// How it stands, as JSON; nothing while nobody says.
    pub(crate) fn state(&self) -> Option<Value> {
        let ran = self.ask("state --json");
        serde_json::from_str(ran.out.lines().next()?).ok()
    }

    /// The copies of a content.
    pub(crate) fn copies(&self, content: i64) -> Vec<Value> {
        let state = self.state().unwrap_or_default();
        let contents = state["contents"].as_array().cloned().unwrap_or_default();
        let found = contents.into_iter().find(|at| at["content"] == content).unwrap_or_default();
        found["copies"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the coordinator shows nothing wrong.
    pub(crate) fn in_sync(&self) {
        until(|| self.ask("state -e").code == Some(0));
    }

    /// Waits until `state` with this option says this.
    pub(crate) fn shows(&self, option: &str, what: &str) {
        until(|| self.ask(&format!("state {option}")).out.contains(what));
    }

    /// Starts the agent of a host.
    pub(crate) fn start_agent(&mut self, host: u8) {
        let config = self.path(&format!("data/sdw{host}/etc/agent.toml"));
        let log = self.path(&format!("agent{host}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let mut child = Command::new(BINARY)
            .args(["agent", "--config", &config.display().to_string()])
            .args(["--die-with", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        assert!(line.starts_with("listening "), "the agent of sdw{host}: {line:?}");
        self.agents.insert(host, child);
    }

    /// SIGKILL to the agent of a host, with which its instances die.
    pub(crate) fn kill_host(&mut self, host: u8) {
        let pids = self.pids(host);
        let mut agent = self.agents.remove(&host).expect("it runs");
        agent.kill().expect("was alive");
        agent.wait().expect("ends");
        until(|| !pids.iter().any(|(_, pid)| lives(*pid)));
    }

    /// SIGKILL to an instance; returns when it is dead.
    pub(crate) fn kill(&self, dbid: u16) {
        let pids = self.agents.keys().flat_map(|host| self.pids(*host));
        let (_, pid) = pids.into_iter().find(|(at, _)| *at == dbid).expect("it runs");
        kill_process(pid, Signal::KILL).expect("was alive");
        until(|| !lives(pid));
    }

    /// The processes that the agent of a host has started.
    fn pids(&self, host: u8) -> Vec<(u16, Pid)> {
        let folder = self.path(&format!("data/sdw{host}/agent/instances"));
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let pid = |path: PathBuf| {
            let dbid = path.file_name()?.to_str()?.strip_suffix(".pid")?.parse().ok()?;
            let text = std::fs::read_to_string(&path).ok()?;
            let pid = Pid::from_raw(text.split_whitespace().next()?.parse().ok()?)?;
            Some((dbid, pid))
        };
        files.filter_map(|file| pid(file.path())).filter(|(_, pid)| lives(*pid)).collect()
    }

    /// Writes so many further rows, over all contents; each is acknowledged.
    pub(crate) fn write(&mut self, count: usize) {
        let first = self.rows.len();
        let rows: Vec<_> = (first..first + count)
            .map(|row| (format!("key{row:06}"), format!("{row} {}", "x".repeat(200))))
            .collect();
        let text: String = rows.iter().map(|(key, value)| format!("{key},{value}\n")).collect();
        std::fs::write(self.path("rows.csv"), format!("id,value\n{text}")).expect("writable");
        self.ask("kv load rows.csv --key id --timeout 30").ok();
        self.rows.extend(rows);
    }

    /// Checks that each acknowledged row is there with its value, and no other.
    pub(crate) fn rows_are_there(&self) {
        let scanned = self.ask("kv scan --limit 1000000 --timeout 30").ok();
        let found: BTreeMap<_, _> =
            scanned.lines().filter_map(|line| line.split_once('\t')).collect();
        for (key, value) in &self.rows {
            let found: Value =
                serde_json::from_str(found.get(key.as_str()).unwrap_or(&"null")).unwrap();
            assert_eq!(found["value"], **value, "lost: {key}");
        }
        assert_eq!(found.len(), self.rows.len(), "rows that nobody wrote");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.ask("state -e").out);
            eprintln!("{}", self.ask("catalog gp_configuration_history").out);
        }
        let left: Vec<_> = self.agents.keys().flat_map(|host| self.pids(*host)).collect();
        for agent in self.agents.values_mut() {
            agent.kill().ok();
            agent.wait().ok();
        }
        if !std::thread::panicking() {
            until(|| !left.iter().any(|(_, pid)| lives(*pid)));
        }
    }
}

/// Whether a process of this number is there and has not ended.
fn lives(pid: Pid) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    text.is_ok_and(|text| {
        text.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}

/// Finds a network of loopback addresses that nobody uses, and holds it.
fn claim(hosts: u8) -> (u8, TcpListener) {
    let count = u32::from(NETWORKS.end - NETWORKS.start);
    let first = std::process::id() % count;
    let numbers = (0..count).map(|at| (first + at) % count);
    let networks = numbers.filter_map(|number| u8::try_from(number).ok());
    for network in networks.map(|number| NETWORKS.start + number) {
        let at = |host, port| SocketAddrV4::new(Ipv4Addr::new(127, 0, network, host), port);
        let free = |host| PORTS.iter().all(|port| TcpListener::bind(at(host, *port)).is_ok());
        let claim = TcpListener::bind(at(CLAIM.0, CLAIM.1));
        if let Ok(claim) = claim
            && (1..=hosts).all(free)
        {
            return (network, claim);
        }
    }
    panic!("no loopback addresses are free");
}
