//! A cluster of real processes, made for a measurement and removed behind it.
//!
//! # Layout
//! - `hosts`: agents and processes, and the guard that ends them
//! - `nets`: loopback, or a network namespace for each host
//!
//! Guarantees: nothing of it is left, however this process ends. Not here: what is done to it.

mod hosts;
mod nets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_cluster::agent::{Ask, Process};
use outrigger_cluster::catalog::tables::Dbid;
use outrigger_cluster::operator::{
    Answer, ClusterState, ContentState, CopyRole, InstanceState, RecoverMode, Request,
};
use outrigger_cluster::placement::{Layout, plan};
use outrigger_wal::{ContentId, InstanceId};
use tokio::time::{Instant, sleep};

pub(super) use self::hosts::{Hosts, signal};
pub(super) use self::nets::{End, Net};
use crate::config::{self, ClusterConfig};
use crate::error::Error;
use crate::found::found;
use crate::kv::agents::ask_agent;
use crate::kv::operator;

/// Where coordinators listen.
const COORDINATOR_PORT: u16 = 5432;
/// How long one question may take.
const ASK_TIME: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Before what was asked for is asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// The content of the catalog.
pub(super) const CATALOG: ContentId = ContentId(-1);

/// What it is made of.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Where its files are.
    pub(super) dir: PathBuf,
    /// How many hosts.
    pub(super) hosts: u8,
    /// Primaries on each.
    pub(super) segments_per_host: u16,
    /// The size of a log's segments.
    pub(super) segment_bytes: u64,
    /// Files stay.
    pub(super) keep: bool,
    /// Further lines of the cluster's file.
    pub(super) settings: String,
}

/// It runs.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Its hosts.
    pub(super) hosts: Hosts,
    /// Where everything was placed.
    pub(super) layout: Layout,
    /// The coordinator's address and the standby's.
    pub(super) coordinators: Vec<String>,
}

impl Cluster {
    /// Makes and starts it, and waits until all of it is in sync.
    ///
    /// # Errors
    /// What could not be done.
    pub(super) async fn start(shape: &Shape, net: Net) -> Result<Self, Error> {
        let hosts = Hosts::start(&shape.dir, shape.hosts, net, shape.keep)?;
        let file = shape.dir.join("cluster.toml");
        std::fs::write(&file, text(shape, &hosts))
            .map_err(|cause| Error::file("cannot be written", &file, cause))?;
        let config: ClusterConfig = config::read(&file)?;
        let layout = plan(&config.shape())
            .map_err(|refusal| Error::Plan { path: file, refusal: Box::new(refusal) })?;
        let until = Instant::now() + Duration::from_secs(20);
        for host in &hosts.all {
            let agent = agent_of(&host.addresses);
            while let Err(error) = ask_agent(&agent, &Ask::Watch { seen: 0 }, ASK_TIME).await {
                if Instant::now() >= until {
                    return Err(error);
                }
                sleep(LOOK).await;
            }
        }
        found(&config, &layout, false).await?;
        let of = |at: usize| {
            hosts.all.get(at).into_iter().flat_map(|host| &host.addresses).map(coordinator_of)
        };
        let coordinators = of(0).chain(of(1)).collect();
        Ok(Self { hosts, layout, coordinators })
    }

    /// How the cluster stands, by the coordinator that serves.
    ///
    /// # Errors
    /// None does.
    pub(super) async fn state(&self) -> Result<ClusterState, Error> {
        let mut why = None;
        let mut found: Option<ClusterState> = None;
        for address in &self.coordinators {
            match operator::ask(address, &Request::State, ASK_TIME).await {
                Ok(Answer::State(state)) => {
                    let newer = found
                        .as_ref()
                        .is_none_or(|found| found.coordinator_epoch < state.coordinator_epoch);
                    if newer {
                        found = Some(state);
                    }
                }
                Ok(Answer::Denied { text }) => why = Some(Error::Partial(text)),
                Ok(_) => {}
                Err(error) => why = Some(error),
            }
        }
        let none = || why.unwrap_or_else(|| Error::Partial("no coordinator serves".to_owned()));
        found.ok_or_else(none)
    }

    /// Asks the coordinator that serves.
    ///
    /// # Errors
    /// None does, or it refuses.
    pub(super) async fn ask(&self, request: &Request) -> Result<String, Error> {
        let mut why = Error::Partial("no coordinator serves".to_owned());
        for address in &self.coordinators {
            match operator::ask(address, request, ASK_TIME).await {
                Ok(Answer::Done { text }) => return Ok(text),
                Ok(Answer::Denied { text }) => why = Error::Partial(text),
                Ok(_) => {}
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Has every copy brought back, and waits until all are in sync.
    ///
    /// # Errors
    /// What is not, after `patience`.
    pub(super) async fn recover(&self, patience: Duration) -> Result<ClusterState, Error> {
        let until = Instant::now() + patience;
        let mut asked: Option<Instant> = None;
        loop {
            let missing = match self.state().await {
                Ok(state) => {
                    let late = late(&state);
                    if late.is_empty() {
                        return Ok(state);
                    }
                    late.join("; ")
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                let seconds = patience.as_secs();
                return Err(Error::Partial(format!("not in sync within {seconds} s: {missing}")));
            }
            if asked.is_none_or(|at| at.elapsed() >= AGAIN) {
                asked = Some(Instant::now());
                let mode = RecoverMode::Auto;
                let request = Request::BringBack { contents: Vec::new(), mode, max_rate_bytes: 0 };
                if let Err(error) = self.ask(&request).await {
                    tracing::debug!(%error, "copies cannot be brought back yet");
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Has every instance take its preferred role, and waits until it has.
    ///
    /// # Errors
    /// What has not, after `patience`.
    pub(super) async fn rebalance(&self, patience: Duration) -> Result<ClusterState, Error> {
        let until = Instant::now() + patience;
        let mut asked: Option<Instant> = None;
        loop {
            let state = self.state().await?;
            if late(&state).is_empty()
                && state.contents.iter().all(|content| is_as_planned(&state, content))
            {
                return Ok(state);
            }
            if Instant::now() >= until {
                return Err(Error::Partial("the roles are not as they were planned".to_owned()));
            }
            if asked.is_none_or(|at| at.elapsed() >= AGAIN * 4) {
                asked = Some(Instant::now());
                if let Err(error) = self.ask(&Request::Rebalance).await {
                    tracing::debug!(%error, "roles cannot be given back yet");
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Starts whichever coordinator or standby does not run.
    pub(super) async fn run_coordinators(&self) {
        for placed in self.layout.instances.iter().filter(|placed| placed.content == CATALOG) {
            let runs = !self.hosts.instance(&placed.place.host, placed.dbid).is_empty();
            let host = self.hosts.all.iter().find(|host| host.name == placed.place.host);
            if let (false, Some(host)) = (runs, host) {
                let ask = Ask::Run { dbid: placed.dbid, up: true };
                drop(ask_agent(&agent_of(&host.addresses), &ask, ASK_TIME).await);
            }
        }
    }

    /// Where the coordinator or standby on a host listens.
    pub(super) fn coordinator_on(&self, host: usize) -> String {
        let addresses = self.hosts.all.get(host).map(|host| host.addresses.as_slice());
        let all: Vec<_> = addresses.unwrap_or_default().iter().map(coordinator_of).collect();
        all.join(",")
    }

    /// Where a host stands in the list.
    pub(super) fn place_of(&self, host: &str) -> usize {
        self.hosts.all.iter().position(|place| place.name == host).unwrap_or(0)
    }
}

/// The instance of this name.
pub(super) fn instance(state: &ClusterState, id: InstanceId) -> Option<&InstanceState> {
    state.instances.iter().find(|instance| instance.row.instance == id)
}

/// The number and the host of a content's primary, and of its mirror.
pub(super) fn pair(state: &ClusterState, content: ContentId) -> Option<[(Dbid, String); 2]> {
    let found = state.contents.iter().find(|row| row.content == content)?;
    let who = |id| instance(state, id).map(|row| (row.dbid, row.row.host.clone()));
    let mirror = found.copies.iter().find(|copy| copy.role == CopyRole::Mirror)?;
    Some([who(found.primary)?, who(mirror.instance)?])
}

fn late(state: &ClusterState) -> Vec<String> {
    let mut late = Vec::new();
    for content in &state.contents {
        if content.copies.iter().any(|copy| !copy.in_sync || !copy.in_touch) {
            late.push(format!("content {}: {}", content.content, content.note));
        }
    }
    // A process that is being started, or was never heard, is not ready for the next thing.
    let runs = |process: &Option<Process>| matches!(process, Some(Process::Running { .. }));
    for row in
        state.instances.iter().filter(|row| row.row.content != CATALOG && !runs(&row.process))
    {
        late.push(format!("dbid {}: {:?}", row.dbid, row.process));
    }
    if state.contents.is_empty() {
        late.push("no contents".to_owned());
    }
    late
}

fn is_as_planned(state: &ClusterState, content: &ContentState) -> bool {
    use outrigger_cluster::catalog::tables::Preferred;
    content.content == CATALOG
        || instance(state, content.primary)
            .is_some_and(|row| row.row.preferred == Preferred::Primary)
}

/// Where the agent of a host with these addresses listens.
pub(super) fn agent_of(addresses: &[String]) -> Vec<String> {
    addresses.iter().map(|address| format!("{address}:{}", hosts::AGENT_PORT)).collect()
}

fn coordinator_of(address: &String) -> String {
    format!("{address}:{COORDINATOR_PORT}")
}

/// The cluster's file.
fn text(shape: &Shape, hosts: &Hosts) -> String {
    let dir = shape.dir.display();
    let mut text = format!(
        "name = \"bench\"\nsegments_per_host = {}\nmirroring = \"group\"\n\
         data_dirs = [\"{dir}/{{host}}/p\"]\nmirror_data_dirs = [\"{dir}/{{host}}/m\"]\n\
         port_base = 6000\nmirror_port_base = 7000\nsegment_bytes = {}\n{}\n\
         coordinator = {{ host = \"h1\", port = {COORDINATOR_PORT}, data_dir = \"{dir}/h1/c\" }}\n\
         standby = {{ host = \"h2\", data_dir = \"{dir}/h2/c\" }}\n",
        shape.segments_per_host, shape.segment_bytes, shape.settings
    );
    for host in &hosts.all {
        text.push_str(&format!(
            "[[host]]\nname = \"{}\"\naddresses = {:?}\nagent = {:?}\n",
            host.name,
            host.addresses,
            agent_of(&host.addresses)
        ));
    }
    text
}

/// A folder for a run in `dir`, or where temporary files are.
pub(super) fn folder(dir: Option<&Path>) -> PathBuf {
    let parent = dir.map_or_else(std::env::temp_dir, Path::to_owned);
    parent.join(format!("outrigger-bench-{}", std::process::id()))
}
