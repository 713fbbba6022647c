//! The demo's cluster: an agent a host as child processes, and whatever they run.
//!
//! Guarantees: dropped at any moment, it ends its agents and waits until their instances are gone.
//! Not here: what the cluster is put through, who decides what in it (coordinator, agents).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outrigger_cluster::agent::{Ask, Process as Ran, Say};
use outrigger_cluster::catalog::tables::{Dbid, History};
use outrigger_cluster::operator::{Answer, ClusterState, ContentState, Request as Asked};
use outrigger_cluster::placement::{CATALOG, Layout, Placed, Role, plan};
use outrigger_net::message::Role as As;
use outrigger_wal::{ContentId, InstanceId};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::Mirrors;
use super::child::Process;
use super::ground::{AGENT_PORT, COORDINATOR_PORT, Ground, MIRROR_PORTS, PRIMARY_PORTS};
use super::memory::Sampler;
use crate::config::{self, ClusterConfig};
use crate::error::Error;
use crate::found::found;
use crate::kv::agents::ask_agent;
use crate::kv::line::{Broken, Line, Whom};
use crate::kv::operator;
use crate::kv::protocol::{Answer as Told, Request, Status};

/// Pause between two questions.
const LOOK: Duration = Duration::from_millis(10);
/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);
/// How long processes whose agent was killed may take to die.
const DEATH: Duration = Duration::from_secs(10);
/// How many rows of history are looked at.
const HISTORY: u32 = 1000;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hosts {
    pub(super) hosts: u8,
    pub(super) segments_per_host: u8,
    pub(super) mirroring: Mirrors,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    home: PathBuf,
    config: ClusterConfig,
    layout: Layout,
    /// By host; `None`: it does not run.
    agents: BTreeMap<String, Process>,
    sampler: Sampler,
    _ground: Ground,
}

impl Cluster {
    /// Plans it, and writes its files; nothing runs yet.
    pub(super) fn plan(home: &Path, hosts: &Hosts) -> Result<Self, Error> {
        let ground = Ground::claim(hosts.hosts, u16::from(hosts.segments_per_host))?;
        let file = home.join("cluster.toml");
        write(&file, &cluster_file(home, hosts, |host| ground.address(host)))?;
        let config: ClusterConfig = config::read(&file)?;
        let layout = plan(&config.shape())
            .map_err(|refusal| Error::Plan { path: file, refusal: Box::new(refusal) })?;
        for host in &config.hosts {
            let text = format!(
                "data_dir = {:?}\nlisten = {:?}\nlog = \"info\"\nstop_timeout_ms = 15000\n",
                home.join(host.name()).join("agent").display().to_string(),
                host.agent
            );
            write(&agent_file(home, host.name()), &text)?;
        }
        let sampler = Sampler::start();
        let (home, agents) = (home.to_owned(), BTreeMap::new());
        Ok(Self { home, config, layout, agents, sampler, _ground: ground })
    }

    /// Starts the agents, and makes the cluster.
    pub(super) async fn make(&mut self) -> Result<(), Error> {
        self.start_agents().await?;
        found(&self.config, &self.layout, false).await?;
        self.wait_whole(ASK * 6).await?;
        Ok(())
    }

    async fn start_agents(&mut self) -> Result<(), Error> {
        for host in self.hosts() {
            self.start_agent(&host).await?;
        }
        Ok(())
    }

    /// Starts the agent of a host.
    pub(super) async fn start_agent(&mut self, host: &str) -> Result<(), Error> {
        let file = agent_file(&self.home, host).display().to_string();
        let log = self.home.join(format!("agent-{host}.log"));
        let agent = Process::start("agent", &["agent", "--config", &file], &log)?;
        self.sampler.watch("agent", agent.id());
        // Held from now on, so that it ends with the others if it is not ready in time.
        self.agents.insert(host.to_owned(), agent);
        if let Some(agent) = self.agents.get_mut(host) {
            agent.ready().await?;
        }
        Ok(())
    }

    /// SIGKILL to the agent of a host, with which its instances die; returns when they have.
    pub(super) async fn kill_host(&mut self, host: &str) -> Result<(), Error> {
        if let Some(mut agent) = self.agents.remove(host) {
            agent.kill()?;
        }
        let instances = instances_of(&self.home, host);
        self.wait("the instances of a killed host do not die", DEATH, async || {
            Ok(!instances.iter().any(|pid| is_ours(*pid)))
        })
        .await
    }

    /// SIGKILL to the process of an instance.
    pub(super) async fn kill_instance(&self, dbid: Dbid) -> Result<(), Error> {
        let agents = self.instances().await?;
        let running = agents.into_iter().find(|(found, _)| *found == dbid);
        let pid = running.and_then(|(_, process)| match process {
            Ran::Running { pid } => i32::try_from(pid).ok().and_then(Pid::from_raw),
            _ => None,
        });
        let pid = pid.ok_or_else(|| wrong(&format!("instance {dbid} does not run")))?;
        kill_process(pid, Signal::KILL).map_err(|errno| wrong(&format!("SIGKILL: {errno}")))
    }

    /// Starts an instance of the catalog that has died.
    pub(super) async fn start_catalog(&self, placed: &Placed) -> Result<(), Error> {
        let ask = Ask::Run { dbid: placed.dbid, up: true };
        match ask_agent(self.agent_of(&placed.place.host), &ask, ASK).await? {
            Say::Taken { .. } => Ok(()),
            Say::Denied { text } => Err(wrong(&text)),
            _ => Err(wrong("an agent answered something else")),
        }
    }

    /// Makes the standby the coordinator.
    pub(super) async fn activate_standby(&self, patience: Duration) -> Result<(), Error> {
        let standby = self.layout.copy(CATALOG, Role::Mirror).map(address).unwrap_or_default();
        let began = Instant::now();
        loop {
            match operator::ask(&standby, &Asked::Activate { force: false }, patience).await? {
                Answer::Done { .. } => return Ok(()),
                Answer::Denied { text } => late(began, patience, &text)?,
                _ => late(began, patience, "the standby answers something else")?,
            }
            sleep(LOOK).await;
        }
    }

    /// Asks the coordinator, wherever it is.
    pub(super) async fn ask(&self, request: &Asked) -> Result<Answer, Error> {
        operator::ask(&self.coordinators().join(","), request, ASK).await
    }

    /// Asks for something that must be done.
    pub(super) async fn order(&self, request: &Asked) -> Result<String, Error> {
        match self.ask(request).await? {
            Answer::Done { text } => Ok(text),
            Answer::Denied { text } => Err(Error::Refused { content: CATALOG, text }),
            _ => Err(wrong("the coordinator answers something else")),
        }
    }

    /// How it stands.
    pub(super) async fn state(&self) -> Result<ClusterState, Error> {
        match self.ask(&Asked::State).await? {
            Answer::State(state) => Ok(state),
            _ => Err(wrong("the coordinator answers something else")),
        }
    }

    /// What happened, the newest last.
    pub(super) async fn history(&self) -> Result<Vec<History>, Error> {
        match self.ask(&Asked::History { limit: HISTORY }).await? {
            Answer::History(rows) => Ok(rows),
            _ => Err(wrong("the coordinator answers something else")),
        }
    }

    /// How a copy of a content stands, as it says itself.
    pub(super) async fn status(&self, copy: &str, content: ContentId) -> Result<Status, Error> {
        let unheard = |cause: String| wrong(&format!("the copy at {copy}: {cause}"));
        let cluster = self.state().await?.cluster;
        let asking = async {
            let whom = Whom {
                addresses: vec![copy.to_owned()],
                cluster,
                content,
                instance: InstanceId::default(),
                role: As::Client,
            };
            let body = Request::Status { content: None }
                .encode()
                .map_err(|error| Broken(error.to_string()))?;
            Line::open(&whom).await?.ask(body)?.answer().await
        };
        let body = timeout(ASK, asking)
            .await
            .map_err(|_| unheard("it does not answer".to_owned()))?
            .map_err(|Broken(cause)| unheard(cause))?;
        match Told::decode(body).map_err(|error| unheard(error.to_string()))? {
            Told::Status(status) => Ok(status),
            _ => Err(unheard("it answers something else".to_owned())),
        }
    }

    /// Waits until something holds that can be asked for; an error on the way counts as not yet.
    pub(super) async fn wait(
        &self,
        what: &str,
        patience: Duration,
        holds: impl AsyncFn() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            match holds().await {
                Ok(true) => return Ok(()),
                Ok(false) => late(began, patience, what)?,
                Err(error) => late(began, patience, &format!("{what}: {error}"))?,
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until every copy is in sync and in touch; returns how it stands then.
    pub(super) async fn wait_whole(&self, patience: Duration) -> Result<ClusterState, Error> {
        let began = Instant::now();
        loop {
            let missing = match self.state().await {
                Ok(state) => match missing(&state, self.layout.instances.len()) {
                    None => {
                        self.watch(&state);
                        return Ok(state);
                    }
                    Some(missing) => missing,
                },
                Err(error) => error.to_string(),
            };
            late(began, patience, &format!("the cluster is not whole: {missing}"))?;
            sleep(LOOK).await;
        }
    }

    /// Waits until the stores of all copies hold everything that is committed: what is stopped tells no more.
    pub(super) async fn wait_applied(&self, patience: Duration) -> Result<(), Error> {
        for content in self.contents() {
            let copies: Vec<_> = self.copies(content).into_iter().map(address).collect();
            self.wait("a store does not come to the last commit", patience, async || {
                let mut found = Vec::new();
                for copy in &copies {
                    found.push(self.status(copy, content).await?);
                }
                let all = found.iter().map(|status| status.commit).max().unwrap_or(0);
                Ok(found.iter().all(|status| status.applied == all))
            })
            .await?;
        }
        Ok(())
    }

    /// Brings it down in order; the agents end when nothing runs any more.
    pub(super) async fn bring_down(&mut self, patience: Duration) -> Result<(), Error> {
        self.order(&Asked::Stop { host: None }).await?;
        self.wait("the cluster does not come down", patience, async || {
            let instances = self.instances().await?;
            Ok(!instances.iter().any(|(_, process)| {
                matches!(process, Ran::Running { .. } | Ran::Starting | Ran::Rebuilding { .. })
            }))
        })
        .await?;
        self.end().await
    }

    /// Brings it up again after it was brought down.
    pub(super) async fn bring_up(&mut self, patience: Duration) -> Result<(), Error> {
        self.start_agents().await?;
        for placed in self.copies(CATALOG) {
            self.start_catalog(placed).await?;
        }
        self.wait("the coordinator does not come up", patience, async || {
            self.state().await.map(|_| true)
        })
        .await?;
        self.start(patience).await?;
        self.wait_whole(patience).await?;
        Ok(())
    }

    /// `start`, once the coordinator has all agents.
    pub(super) async fn start(&self, patience: Duration) -> Result<(), Error> {
        self.wait("not all agents are connected", patience, async || {
            Ok(self.state().await?.hosts.iter().all(|host| host.agent_here))
        })
        .await?;
        self.order(&Asked::Start).await.map(|_| ())
    }

    /// Ends the agents, which end in order whatever runs.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        // All hear of it before any is waited for.
        for agent in self.agents.values() {
            agent.terminate()?;
        }
        for agent in self.agents.values_mut() {
            agent.stop().await?;
        }
        self.agents.clear();
        Ok(())
    }

    /// The peak memory of each kind of process.
    pub(super) fn peaks(&self) -> BTreeMap<&'static str, u64> {
        self.sampler.peaks()
    }

    /// What every instance is and where.
    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The contents of data.
    pub(super) fn contents(&self) -> Vec<ContentId> {
        self.layout.segments(Role::Primary).iter().map(|placed| placed.content).collect()
    }

    /// The copies of a content, the one that was made as primary first.
    pub(super) fn copies(&self, content: ContentId) -> Vec<&Placed> {
        let both = [Role::Primary, Role::Mirror];
        both.into_iter().filter_map(|role| self.layout.copy(content, role)).collect()
    }

    /// The addresses of the coordinator and its standby.
    pub(super) fn coordinators(&self) -> Vec<String> {
        self.copies(CATALOG).into_iter().map(address).collect()
    }

    fn hosts(&self) -> Vec<String> {
        self.config.hosts.iter().map(|host| host.name().to_owned()).collect()
    }

    fn agent_of(&self, host: &str) -> &[String] {
        let found = self.config.hosts.iter().find(|at| at.name() == host);
        found.map_or(&[], |host| &host.agent)
    }

    /// What the agents that run see of their instances' processes.
    pub(super) async fn instances(&self) -> Result<Vec<(Dbid, Ran)>, Error> {
        let mut all = Vec::new();
        for host in self.agents.keys() {
            match ask_agent(self.agent_of(host), &Ask::Watch { seen: 0 }, ASK).await? {
                Say::Status { instances, .. } => {
                    all.extend(instances.into_iter().map(|seen| (seen.dbid, seen.process)));
                }
                _ => return Err(wrong("an agent answered something else")),
            }
        }
        Ok(all)
    }

    fn watch(&self, state: &ClusterState) {
        for instance in &state.instances {
            let Some(Ran::Running { pid }) = instance.process else { continue };
            let placed = self.layout.instance(instance.dbid);
            let kind = match placed.map(|placed| (placed.content, placed.role)) {
                Some((CATALOG, Role::Primary)) => "coordinator",
                Some((CATALOG, Role::Mirror)) => "standby",
                Some((_, Role::Primary)) => "primary",
                _ => "mirror",
            };
            self.sampler.watch(kind, pid);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let hosts = self.hosts();
        let left: Vec<u32> = hosts.iter().flat_map(|host| instances_of(&self.home, host)).collect();
        // Killed agents take their instances with them.
        self.agents.clear();
        let until = Instant::now() + DEATH;
        while left.iter().any(|pid| is_ours(*pid)) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

/// Where an instance listens first.
pub(super) fn address(placed: &Placed) -> String {
    format!("{}:{}", placed.place.address, placed.place.port)
}

/// The content in this state.
pub(super) fn content_in(state: &ClusterState, content: ContentId) -> Option<&ContentState> {
    state.contents.iter().find(|found| found.content == content)
}

fn missing(state: &ClusterState, instances: usize) -> Option<String> {
    let copies: usize = state.contents.iter().map(|content| content.copies.len()).sum();
    if copies != instances {
        return Some(format!("{copies} of {instances} copies"));
    }
    let late = state.contents.iter().find_map(|content| {
        let data = content.content != CATALOG;
        let waits = content.copies.iter().any(|copy| !copy.in_sync || (data && !copy.in_touch));
        waits.then(|| format!("content {}: {}", content.content, content.note))
    });
    late.or_else(|| (!state.up.is_running()).then(|| "it is not up".to_owned()))
}

/// The file that the cluster is made from.
fn cluster_file(home: &Path, hosts: &Hosts, address: impl Fn(u8) -> String) -> String {
    let Hosts { hosts, segments_per_host, mirroring } = *hosts;
    let path = |below: &str| format!("{:?}", home.join(below).display().to_string());
    let mut text = format!(
        "name = \"demo\"\nsegments_per_host = {segments_per_host}\nmirroring = {:?}\n\
         data_dirs = [{}]\nmirror_data_dirs = [{}]\nport_base = {PRIMARY_PORTS}\n\
         mirror_port_base = {MIRROR_PORTS}\nsegment_bytes = {}\n\
         coordinator = {{ host = \"h1\", port = {COORDINATOR_PORT}, data_dir = {} }}\n\
         standby = {{ host = \"h2\", data_dir = {} }}\n",
        mirroring.as_str(),
        path("{host}/primaries"),
        path("{host}/mirrors"),
        8 << 20,
        path("h1/coordinator"),
        path("h2/standby"),
    );
    for host in 0..hosts {
        let at = address(host);
        text.push_str(&format!(
            "[[host]]\nname = \"h{}\"\naddresses = [{at:?}]\nagent = \"{at}:{AGENT_PORT}\"\n",
            host.saturating_add(1)
        ));
    }
    text
}

/// The layout of a cluster that is not made.
#[cfg(test)]
pub(super) fn layout_of(hosts: &Hosts) -> Result<Layout, Error> {
    let dir = tempfile::tempdir().map_err(|_| wrong("no folder"))?;
    let file = dir.path().join("cluster.toml");
    let address = |host: u8| format!("127.0.0.{}", host + 1);
    write(&file, &cluster_file(dir.path(), hosts, address))?;
    let config: ClusterConfig = config::read(&file)?;
    plan(&config.shape()).map_err(|refusal| Error::Plan { path: file, refusal: Box::new(refusal) })
}

fn agent_file(home: &Path, host: &str) -> PathBuf {
    home.join(format!("agent-{host}.toml"))
}

/// The processes that the agent of a host has written down.
fn instances_of(home: &Path, host: &str) -> Vec<u32> {
    let folder = home.join(host).join("agent").join("instances");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let pids = files.filter(|file| file.path().extension().is_some_and(|end| end == "pid"));
    let first = |text: String| text.split_whitespace().next()?.parse().ok();
    pids.filter_map(|file| first(std::fs::read_to_string(file.path()).ok()?)).collect()
}

/// Whether a process of this program has this number.
fn is_ours(pid: u32) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_ok_and(|exe| std::env::current_exe().is_ok_and(|ours| ours == exe))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|cause| Error::file("cannot be written", path, cause))
}

fn late(began: Instant, patience: Duration, what: &str) -> Result<(), Error> {
    if began.elapsed() > patience {
        return Err(wrong(&format!("{what}, after {} s", patience.as_secs())));
    }
    Ok(())
}

/// Something that should have come did not.
pub(super) fn wrong(cause: &str) -> Error {
    Error::System {
        what: "the demo's cluster does not come on",
        cause: std::io::Error::other(cause.to_owned()),
        advice: "run it again with --keep and look into the logs",
    }
}
