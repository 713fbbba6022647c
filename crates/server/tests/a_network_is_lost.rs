//! Hosts on two networks, of which agents are on one only: the first that answers is used, for commands and votes alike,
//! and the other one when that ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{BINARY, run, until};

const HOSTS: u8 = 3;

fn address(network: u8, host: u8) -> String {
    format!("127.0.{}.{host}", 10 + network)
}

fn coordinator(network: u8, host: u8) -> String {
    format!("{}:5439", address(network, host))
}

/// A host's agent; killed, with its instances, when dropped.
struct Agent {
    file: PathBuf,
    child: Child,
}

impl Agent {
    /// One that is on this network only.
    fn start(home: &Path, host: u8, network: u8) -> Self {
        let file = home.join(format!("agent{host}.toml"));
        let dir = home.join(format!("h{host}/agent"));
        let listen = format!("{}:6940", address(network, host));
        std::fs::write(&file, format!("data_dir = {dir:?}\nlisten = \"{listen}\"\n")).unwrap();
        let child = Self::spawn(&file);
        Self { file, child }
    }

    fn spawn(file: &Path) -> Child {
        let parent = std::process::id().to_string();
        let mut command = Command::new(BINARY);
        command.arg("agent").arg("--config").arg(file).args(["--die-with", &parent]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The host is lost; its agent comes back on another network.
    fn moves(&mut self, host: u8, from: u8, to: u8) {
        self.die();
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, text.replace(&address(from, host), &address(to, host))).unwrap();
        self.child = Self::spawn(&self.file);
    }

    fn die(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.die();
    }
}

fn cluster_file(home: &Path) -> String {
    let dir = home.display();
    let mut text = format!(
        "name = \"two-networks\"\nsegments_per_host = 1\nmirroring = \"group\"\n\
         data_dirs = [\"{dir}/{{host}}/p\"]\nmirror_data_dirs = [\"{dir}/{{host}}/m\"]\n\
         port_base = 6040\nmirror_port_base = 7040\nsegment_bytes = 1048576\n\
         coordinator = {{ host = \"h1\", port = 5439, data_dir = \"{dir}/h1/co\" }}\n\
         standby = {{ host = \"h2\", data_dir = \"{dir}/h2/sb\" }}\n"
    );
    for host in 1..=HOSTS {
        let both = [1, 2].map(|network| address(network, host));
        let agent = both.clone().map(|address| format!("{address}:6940"));
        text.push_str(&format!(
            "[[host]]\nname = \"h{host}\"\naddresses = {both:?}\nagent = {agent:?}\n"
        ));
    }
    let path = home.join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Whether so many instances are shown as down.
fn are_down(count: u8, coordinators: &str) -> bool {
    let end = format!("= {count}");
    let shown = run(&["state", "-Q", "--coordinator", coordinators]).out;
    shown.lines().any(|line| line.contains("down segments") && line.ends_with(&end))
}

#[test]
fn commands_votes_and_instances_go_on_with_one_network() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    // On the second network: nobody answers at the first address of any agent.
    let mut agents: Vec<_> = (1..=HOSTS).map(|host| Agent::start(home, host, 2)).collect();
    let file = cluster_file(home);
    until(|| run(&["init", &file, "-a"]).code == Some(0));

    // An instance listens on both of its addresses.
    let all = (1..=2).flat_map(|host| [1, 2].map(|network| coordinator(network, host)));
    let all = all.collect::<Vec<_>>().join(",");
    run(&["kv", "put", "row", "1", "--coordinator", &coordinator(2, 1)]).ok();
    for network in [1, 2] {
        run(&["state", "--coordinator", &coordinator(network, 1)]).ok();
        let at = (0..3_u8).map(|content| {
            let direct = format!("{}:{}", address(network, content + 1), 6040);
            let content = content.to_string();
            let ask = ["kv", "count", "--direct", "--content", &content, "--at", &direct];
            run(&ask).ok().trim().parse::<u32>().unwrap()
        });
        assert_eq!(at.sum::<u32>(), 1, "on network {network}");
    }

    // The third host comes back on the first network: the coordinator commands its agent there, which starts what
    // is told to.
    agents[2].moves(3, 2, 1);
    until(|| are_down(2, &all));
    until(|| run(&["recover", "-a", "--coordinator", &all]).code == Some(0));
    assert!(are_down(0, &all));

    // Without the first host, which has the coordinator, a majority of the voters is the second, on one network, and the third, on the other.
    agents[0].die();
    let activate = ["activate-standby", "-a", "--standby", &coordinator(1, 2)];
    until(|| run(&activate).code == Some(0));
    until(|| run(&["kv", "put", "row", "2", "--coordinator", &coordinator(1, 2)]).code == Some(0));
    assert_eq!(run(&["kv", "get", "row", "--coordinator", &all]).ok().trim(), "2");

    // Down, and up again by the cluster's file, which names both addresses of each agent.
    until(|| are_down(2, &all));
    agents[0].moves(1, 2, 1);
    until(|| run(&["recover", "-a", "--coordinator", &all]).code == Some(0));
    run(&["stop", "-a", "--coordinator", &all]).ok();
    until(|| run(&["start", "--cluster", &file, "--coordinator", &all]).code == Some(0));
    assert_eq!(run(&["kv", "get", "row", "--coordinator", &all]).ok().trim(), "2");
    run(&["stop", "-a", "--coordinator", &all]).ok();
}
