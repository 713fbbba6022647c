//! Real processes: the coordinator is killed and its data directory is gone, and there is no standby. The catalog is made anew of
//! what is left, and no acknowledged row is lost: after a failover, with the old coordinator coming back, killed
//! midway; with a host away what is not proved is listed, and proved when it is back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{BINARY, Ran, begin, run, until};

const COORDINATOR: &str = "127.0.90.1:5490";
const HOSTS: u32 = 3;

/// A cluster of three hosts, each with an agent whose instances die with it.
struct World {
    _folder: tempfile::TempDir,
    home: PathBuf,
    agents: Vec<Option<Child>>,
    rows: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        for agent in self.agents.iter_mut().flatten() {
            agent.kill().ok();
            agent.wait().ok();
        }
    }
}

impl World {
    fn made() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let mut world = Self {
            _folder: folder,
            home,
            agents: (0..HOSTS).map(|_| None).collect(),
            rows: Vec::new(),
        };
        (1..=HOSTS).for_each(|host| world.start_agent(host));
        let file = world.file();
        until(|| run(&["init", &file, "-a"]).code == Some(0));
        world
    }

    fn start_agent(&mut self, host: u32) {
        let file = self.home.join(format!("agent{host}.toml"));
        let dir = self.home.join(format!("h{host}/agent"));
        let text = format!("data_dir = {dir:?}\nlisten = \"127.0.90.{host}:6990\"\n");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(BINARY);
        let parent = std::process::id().to_string();
        command.arg("agent").arg("--config").arg(file).args(["--die-with", &parent]);
        let agent = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.agents[host as usize - 1] = Some(agent);
    }

    /// A host is lost: its agent, and all that it started.
    fn lose_host(&mut self, host: u32) {
        let mut agent = self.agents[host as usize - 1].take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn file(&self) -> String {
        let dir = self.home.display();
        let mut text = format!(
            "name = \"lost\"\nsegments_per_host = 1\nmirroring = \"group\"\n\
             data_dirs = [\"{dir}/{{host}}/p\"]\nmirror_data_dirs = [\"{dir}/{{host}}/m\"]\n\
             port_base = 6090\nmirror_port_base = 7090\nsegment_bytes = 1048576\n\
             coordinator = {{ host = \"h1\", port = 5490, data_dir = \"{dir}/h1/co\" }}\n"
        );
        for host in 1..=HOSTS {
            text.push_str(&format!(
                "[[host]]\nname = \"h{host}\"\naddresses = [\"127.0.90.{host}\"]\n\
                 agent = \"127.0.90.{host}:6990\"\n"
            ));
        }
        let path = self.home.join("cluster.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn catalog(&self) -> PathBuf {
        self.home.join("h1/co")
    }

    fn pid(&self, host: u32, dbid: u32) -> Option<String> {
        std::fs::read_to_string(self.home.join(format!("h{host}/agent/instances/{dbid}.pid"))).ok()
    }

    fn kill(&self, host: u32, dbid: u32) {
        let text = self.pid(host, dbid).unwrap();
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Its agent has seen it end.
        until(|| self.pid(host, dbid) != Some(text.clone()));
    }

    /// The coordinator's disk is lost; where what was on it went.
    fn lose_catalog(&self, to: &str) -> PathBuf {
        self.kill(1, 1);
        let gone = self.home.join(to);
        std::fs::rename(self.catalog(), &gone).unwrap();
        gone
    }

    fn rebuild(&self, arguments: &[&str]) -> Ran {
        run(&[&["rebuild-catalog", "-a", "--json", "--agent"], arguments].concat())
    }

    fn ask(&self, arguments: &[&str]) -> Ran {
        run(&[arguments, &["--coordinator", COORDINATOR]].concat())
    }

    fn state(&self) -> Value {
        let ran = self.ask(&["state", "--json"]);
        ran.out.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    fn copies(&self, content: i64) -> Vec<Value> {
        let state = self.state();
        let contents = state["contents"].as_array().cloned().unwrap_or_default();
        let found = contents.into_iter().find(|at| at["content"].as_i64() == Some(content));
        found.and_then(|at| at["copies"].as_array().cloned()).unwrap_or_default()
    }

    fn both_in_sync(&self, content: i64) -> bool {
        let copies = self.copies(content);
        copies.len() == 2 && copies.iter().all(|copy| copy["in_sync"] == true)
    }

    /// Writes rows of all contents, each acknowledged.
    fn write(&mut self, name: &str) {
        for number in 0..12 {
            let key = format!("{name}{number}");
            self.ask(&["kv", "put", &key, &key, "--timeout", "30"]).ok();
            self.rows.push(key);
        }
    }

    fn every_row_is_there(&self) {
        let scanned = self.ask(&["kv", "scan", "--limit", "100000", "--timeout", "30"]).ok();
        let mut found: Vec<_> =
            scanned.lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect();
        let mut rows = self.rows.clone();
        rows.sort();
        found.sort();
        assert_eq!(found, rows);
    }
}

fn json(ran: Ran, code: i32) -> Value {
    assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
    serde_json::from_str(ran.out.lines().next().unwrap()).unwrap()
}

fn not_proved(page: &Value) -> Vec<String> {
    let doubts = page["not_proved"].as_array().unwrap().iter();
    doubts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_lost_catalog_is_rebuilt_and_no_acknowledged_row_is_lost() {
    let mut world = World::made();
    world.write("first");
    // Content 1 fails over from h2 to h3: its newest configuration is not its first one.
    world.kill(2, 3);
    until(|| world.copies(1).iter().any(|copy| copy["role"] == "primary" && copy["host"] == "h3"));
    world.write("second");

    // While the catalog is there nothing is rebuilt.
    let refused = world.rebuild(&["127.0.90.1:6990"]).error(2);
    assert!(refused.contains("a coordinator serves at 127.0.90.1:5490"), "{refused}");
    world.kill(1, 1);
    let refused = world.rebuild(&["127.0.90.1:6990"]).error(2);
    assert!(
        refused.contains("holds the catalog") && refused.contains("outrigger start"),
        "{refused}"
    );
    let old = world.home.join("old");
    std::fs::rename(world.catalog(), &old).unwrap();

    // One agent is enough: it knows the others.
    let page = json(world.rebuild(&["127.0.90.2:6990"]), 0);
    assert_eq!(page["contents"].as_array().unwrap().len(), 3);
    assert_eq!(page["contents"][1]["epoch"], 2, "the failover is known: {page}");
    assert_eq!(not_proved(&page).len(), 3, "rows, standby, history: {page}");
    world.every_row_is_there();
    world.write("third");
    let again = world.rebuild(&["127.0.90.2:6990"]).error(2);
    assert!(again.contains("a coordinator serves"), "{again}");

    // The copy that had failed comes back, and another primary is failed over.
    world.ask(&["recover", "-a", "--timeout", "60"]).ok();
    until(|| (0..3).all(|content| world.both_in_sync(content)));
    world.kill(1, 2);
    world.write("fourth");
    world.every_row_is_there();

    the_old_coordinator_commands_nothing(&world, &old);
    world.ask(&["recover", "-a", "--timeout", "60"]).ok();
    until(|| (0..3).all(|content| world.both_in_sync(content)));

    killed_midway(&mut world);
    with_a_host_away(&mut world);
}

/// Its disk was found again.
fn the_old_coordinator_commands_nothing(world: &World, old: &Path) {
    let file = world.home.join("old.toml");
    let text = std::fs::read_to_string(world.home.join("h1/agent/instances/1.toml")).unwrap();
    let kept = text
        .lines()
        .filter(|line| !["data_dir", "listen", "identity"].iter().any(|key| line.starts_with(key)));
    let kept: Vec<_> = kept.collect();
    let text = format!("data_dir = {old:?}\nlisten = \"127.0.90.1:5491\"\n{}\n", kept.join("\n"));
    std::fs::write(&file, text).unwrap();
    let ended = run(&["coordinator", "--config", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("is no copy of the catalog"), "{}", ended.err);
    world.every_row_is_there();
}

/// What its copies have accepted is not known: nothing is recorded for their contents before it is.
fn with_a_host_away(world: &mut World) {
    world.lose_catalog("second-loss");
    world.lose_host(3);
    let page = json(world.rebuild(&["127.0.90.1:6990"]), 1);
    let doubts = not_proved(&page).join("\n");
    assert!(doubts.contains("host h3: its agent did not answer"), "{doubts}");
    assert!(doubts.contains("2 of 3 voters answered"), "{doubts}");
    for content in [1, 2] {
        assert!(
            doubts.contains(&format!("content {content}: not every copy reported")),
            "{doubts}"
        );
    }
    assert!(!doubts.contains("content 0: not every copy"), "{doubts}");
    // Nothing is failed over that may not be.
    until(|| unproved(world) == [1, 2]);
    world.start_agent(3);
    // What ended with its host is started by an administrator, and reports.
    until(|| {
        world.ask(&["recover", "-a", "--timeout", "5"]);
        (0..3).all(|content| world.both_in_sync(content))
    });
    world.write("fifth");
    world.every_row_is_there();
}

/// The contents that are shown as not proved.
fn unproved(world: &World) -> Vec<i64> {
    let state = world.state();
    let contents = state["contents"].as_array().into_iter().flatten();
    let says = |content: &&Value| {
        content["note"].as_str().is_some_and(|note| note.starts_with("unproved: "))
    };
    contents.filter(says).filter_map(|content| content["content"].as_i64()).collect()
}

fn killed_midway(world: &mut World) {
    world.lose_catalog("third-loss");
    let before = world.pid(1, 1);
    let arguments = ["rebuild-catalog", "-a", "--agent", "127.0.90.1:6990"];
    let begun = begin(&arguments, &world.home);
    // As soon as the coordinator is begun: it has its catalog, or not yet.
    until(|| world.pid(1, 1) != before);
    drop(begun);
    until(|| {
        let ran = world.rebuild(&["127.0.90.1:6990"]);
        ran.code == Some(0) || ran.err.contains("a coordinator serves")
    });
    world.write("sixth");
    world.every_row_is_there();
}
