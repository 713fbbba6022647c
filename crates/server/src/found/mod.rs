//! A cluster is made: its agents are claimed, its voters, its coordinator, then everything else.
//!
//! Guarantees: nothing of a cluster that exists is touched; one that was interrupted goes on when it is begun again
//! with the same file, because every name in it follows from the cluster's own, which the agents keep.
//! Not here: the plan (`placement`), what is made of it (the coordinator, the agents).

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_cluster::agent::{Ask, Order, Say};
use outrigger_cluster::catalog::tables::{Host, Instance, Preferred, Wanted};
use outrigger_cluster::operator::{Answer, ClusterState, Founding, Request};
use outrigger_cluster::placement::{CATALOG, Layout, Placed, Role};
use outrigger_cluster::voters::{Seat, Voter, VoterList};
use outrigger_net::config::{Config, Copy, Rule, Version};
use outrigger_wal::format::MIN_SEGMENT_BYTES;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, Epoch, InstanceId, LogId};
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::ClusterConfig;
use crate::error::Error;
use crate::kv::agents::ask_agent;
use crate::kv::operator;
use crate::output::say;

/// How long one question may take.
const ASK_TIME: Duration = Duration::from_secs(5);
/// Before a coordinator that is being started is asked again.
const LOOK_TIME: Duration = Duration::from_millis(50);
/// How long everything may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The version of the list of voters that a cluster begins with.
const FIRST_LIST: u64 = 1;

/// Makes a cluster; returns its coordinator's address.
///
/// # Errors
/// Which step could not be done; doing it again goes on from there.
pub(crate) async fn found(
    config: &ClusterConfig,
    layout: &Layout,
    tell: bool,
) -> Result<String, Error> {
    let cluster = cluster_of(config).await?;
    let made = Making { config, layout, cluster };
    let word = |text: String| if tell { say(format_args!("{text}")) } else { Ok(()) };
    made.claim().await?;
    word(format!("{} agents are claimed and vote; cluster {cluster}", config.hosts.len()))?;
    let address = made.coordinator().await?;
    word(format!("the coordinator runs at {address}"))?;
    made.fill(&address).await?;
    let state = wait_in_sync(&address, PATIENCE).await?;
    word(format!(
        "{} instances of {} contents are up and in sync",
        state.instances.len(),
        state.contents.iter().filter(|content| content.content != CATALOG).count()
    ))?;
    Ok(address)
}

/// Waits until every copy is in sync.
///
/// # Errors
/// What is missing, when it takes too long.
pub(crate) async fn wait_in_sync(address: &str, patience: Duration) -> Result<ClusterState, Error> {
    let until = Instant::now() + patience;
    loop {
        let mut missing = "the coordinator does not answer".to_owned();
        if let Ok(Answer::State(state)) = operator::ask(address, &Request::State, ASK_TIME).await {
            let waiting = |copy: &&outrigger_cluster::operator::CopyState| !copy.in_sync;
            let late: Vec<_> = state
                .contents
                .iter()
                .flat_map(|content| content.copies.iter().filter(waiting).map(|_| &content.note))
                .cloned()
                .collect();
            if late.is_empty() && !state.contents.is_empty() {
                return Ok(state);
            }
            missing = late.join("; ");
        }
        if Instant::now() >= until {
            return Err(Error::Partial(format!(
                "not in sync within {} s: {missing}; look at `outrigger state -e`",
                patience.as_secs()
            )));
        }
        sleep(LOOK_TIME).await;
    }
}

/// The cluster that the agents work for already, or a new one.
async fn cluster_of(config: &ClusterConfig) -> Result<ClusterId, Error> {
    let mut found = BTreeSet::new();
    for host in &config.hosts {
        match ask_agent(&host.agent, &Ask::Watch { seen: 0 }, ASK_TIME).await? {
            Say::Status { cluster, .. } if cluster != ClusterId::default() => {
                found.insert(cluster);
            }
            _ => {}
        }
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Ok(ClusterId(crate::process::random()?)),
        (Some(one), Some(other)) => Err(Error::Partial(format!(
            "the agents work for more clusters than one ({one}, {other}): give the new one agents of its own"
        ))),
    }
}

struct Making<'a> {
    config: &'a ClusterConfig,
    layout: &'a Layout,
    cluster: ClusterId,
}

impl Making<'_> {
    /// A name that follows from the cluster's: the same when it is begun again.
    fn name(&self, of: &str) -> u128 {
        let mut input = self.cluster.0.to_le_bytes().to_vec();
        input.extend_from_slice(of.as_bytes());
        xxh3_128(&input)
    }

    fn instance(&self, placed: &Placed) -> InstanceId {
        InstanceId(self.name(&format!("instance {}", placed.dbid)))
    }

    /// Where an instance listens: its own address first, then the others of its host.
    fn addresses(&self, placed: &Placed) -> Vec<String> {
        let place = &placed.place;
        let host = self.layout.host(&place.host);
        let others = host.into_iter().flat_map(|host| &host.addresses);
        let others = others.filter(|address| **address != place.address);
        std::iter::once(&place.address)
            .chain(others)
            .map(|address| format!("{address}:{}", place.port))
            .collect()
    }

    fn voters(&self) -> Vec<Vec<String>> {
        self.config.hosts.iter().map(|host| host.agent.clone()).collect()
    }

    /// The first configuration of the catalog: the coordinator alone is in sync.
    fn first(&self) -> Result<Config, Error> {
        let coordinator = self.seat(Role::Primary)?;
        let copy = |placed: &Placed, in_sync| Copy {
            instance: self.instance(placed),
            addresses: self.addresses(placed),
            in_sync,
            durable: Promise::NONE,
            held: false,
        };
        let mut copies = vec![copy(coordinator, true)];
        if let Some(standby) = self.layout.copy(CATALOG, Role::Mirror) {
            copies.push(copy(standby, false));
        }
        Ok(Config {
            version: Version(1),
            epoch: Epoch::NONE,
            primary: self.instance(coordinator),
            copies,
            rule: Rule::All,
            loss: None,
        })
    }

    fn seat(&self, role: Role) -> Result<&Placed, Error> {
        self.layout
            .copy(CATALOG, role)
            .ok_or_else(|| Error::Partial("the plan has no coordinator".to_owned()))
    }

    async fn claim(&self) -> Result<(), Error> {
        let list = VoterList { version: FIRST_LIST, addresses: self.voters() };
        for (host, seat) in self.config.hosts.iter().zip(list.seats()) {
            let ask = Ask::Claim { cluster: self.cluster, host: host.name().to_owned() };
            taken(&host.agent, ask_agent(&host.agent, &ask, ASK_TIME).await?)?;
            let voter = self.voter(&list, seat)?;
            taken(&host.agent, ask_agent(&host.agent, &voter, ASK_TIME).await?)?;
        }
        Ok(())
    }

    fn voter(&self, list: &VoterList, seat: Seat) -> Result<Ask, Error> {
        let wrong = |error: outrigger_cluster::CodecError| Error::Partial(error.to_string());
        let voter =
            Voter::create(self.cluster, list.clone(), seat, self.first()?).map_err(wrong)?;
        Ok(Ask::MakeVoter { body: voter.encode().map_err(wrong)? })
    }

    /// Has the coordinator made and started.
    async fn coordinator(&self) -> Result<String, Error> {
        let placed = self.seat(Role::Primary)?;
        let addresses = self.addresses(placed);
        let standby = self.layout.copy(CATALOG, Role::Mirror);
        let standby = standby.into_iter().flat_map(|placed| self.addresses(placed));
        let coordinators: Vec<String> = addresses.iter().cloned().chain(standby).collect();
        let order = Order {
            content: CATALOG,
            instance: self.instance(placed),
            log: LogId(self.name("catalog")),
            segment_bytes: MIN_SEGMENT_BYTES,
            addresses: addresses.clone(),
            data_dir: placed.place.data_dir.clone(),
            wanted: Wanted::New,
            run: 1,
            coordinators,
            voters: self.voters(),
            source: Vec::new(),
            max_rate_bytes: 0,
            settings: Vec::new(),
        };
        let host = self.config.hosts.iter().find(|host| host.name() == placed.place.host);
        let agent = host.map(|host| host.agent.clone()).unwrap_or_default();
        let orders = vec![(placed.dbid, order)];
        let kept = bytes::Bytes::new();
        let cluster = self.cluster;
        let ask = Ask::Want { cluster, coordinator_epoch: 0, number: 0, orders, kept };
        match ask_agent(&agent, &ask, ASK_TIME).await? {
            // A coordinator has commanded it since: an earlier try came that far.
            Say::Denied { text } if text.contains("epoch") => {}
            answer => taken(&agent, answer)?,
        }
        let until = Instant::now() + PATIENCE;
        // The first that answers: it may be on one network only.
        for address in addresses.iter().cycle() {
            match operator::ask(address, &Request::State, ASK_TIME).await {
                Ok(Answer::State(_)) => return Ok(address.clone()),
                Err(error) if Instant::now() >= until => return Err(error),
                _ => sleep(LOOK_TIME).await,
            }
        }
        Err(Error::Partial("the coordinator has no address".to_owned()))
    }

    /// Tells the coordinator all of the plan.
    async fn fill(&self, address: &str) -> Result<(), Error> {
        let hosts = self.layout.hosts.iter().zip(&self.config.hosts).map(|(host, file)| Host {
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            agent: file.agent.clone(),
            rack: host.rack.clone(),
            storage: host.storage.clone(),
        });
        let rows = self.layout.instances.iter().map(|placed| {
            let row = Instance {
                content: placed.content,
                instance: self.instance(placed),
                preferred: match placed.role {
                    Role::Primary => Preferred::Primary,
                    Role::Mirror => Preferred::Mirror,
                },
                host: placed.place.host.clone(),
                addresses: self.addresses(placed),
                data_dir: placed.place.data_dir.clone(),
                wanted: Wanted::New,
                run: 1,
                max_rate_bytes: 0,
            };
            (placed.dbid, row)
        });
        let founding = Founding {
            hosts: hosts.collect(),
            rows: rows.collect(),
            segment_bytes: self.config.segment_bytes,
            settings: self.config.settings(),
        };
        match operator::ask(address, &Request::Found(founding), PATIENCE).await? {
            Answer::Done { .. } => Ok(()),
            Answer::Denied { text } => Err(Error::Refused { content: CATALOG, text }),
            _ => Err(Error::Partial("the coordinator answered something else".to_owned())),
        }
    }
}

fn taken(agent: &[String], say: Say) -> Result<(), Error> {
    match say {
        Say::Taken { .. } => Ok(()),
        Say::Denied { text } => Err(Error::Peer {
            address: agent.join(", "),
            what: "the agent refuses",
            cause: text,
            advice: "give the cluster agents of its own",
        }),
        _ => Err(Error::Partial(format!(
            "the agent at {} answered something else",
            agent.join(", ")
        ))),
    }
}
