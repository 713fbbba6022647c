//! What is done to a cluster: drawn from a seed, carried out, undone.
//!
//! Guarantees: what is stopped is resumed and what is cut is mended before this returns; a coordinator that is gone has
//! been followed by its standby. Not here: bringing copies back.

use std::time::Duration;

use outrigger_cluster::operator::{Answer, ClusterState, Request};
use outrigger_wal::ContentId;
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

use super::super::cluster::{CATALOG, Cluster, End, Net, pair, signal};
use super::ChaosOptions;
use crate::error::Error;
use crate::kv::operator;

/// How long a standby may take to become the coordinator.
const ACTIVATION_TIME: Duration = Duration::from_secs(30);
/// A host comes and goes so often.
const FLAP: Duration = Duration::from_millis(100);

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(super) struct Luck(u64);

impl Luck {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below this one, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most.saturating_sub(least) + 1))
    }
}

/// Who.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Victim {
    Primary(ContentId),
    Mirror(ContentId),
    Coordinator,
    Standby,
    Agent(usize),
    Host(usize),
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Victim),
    /// SIGSTOP, resumed after so long.
    Stop(Victim, Duration),
    /// A host hears nobody and nobody hears it.
    CutOff(usize, Duration),
    /// One host is not heard by another any more.
    OneWay(usize, usize, Duration),
    /// A host is not heard by anybody any more.
    Mute(usize, Duration),
    /// A host comes and goes.
    Flap(usize, Duration),
    /// The coordinator's host and these do not hear each other.
    FromCoordinator(Vec<usize>, Duration),
    /// One of two networks of a host is lost.
    OneNetwork(usize, u8, Duration),
    /// One of two networks is lost everywhere, and stays so until a primary was failed over and brought back, the
    /// coordinator was lost, its standby activated by the voters, and every copy is in sync.
    Network(u8, ContentId),
}

impl Fault {
    pub(super) fn draw(
        luck: &mut Luck,
        options: &ChaosOptions,
        net: &Net,
        contents: usize,
    ) -> Self {
        let hosts = 4;
        if let Net::Namespaces { bridges } = net
            && luck.below(2) == 0
        {
            let span = luck.millis(200, 3_000);
            let host = luck.pick(hosts);
            return match luck.below(if *bridges > 1 { 8 } else { 5 }) {
                0 => Self::CutOff(host, span),
                1 => Self::OneWay(host, (host + 1 + luck.pick(hosts - 1)) % hosts, span),
                2 => Self::Mute(host, span),
                3 => Self::Flap(host, span),
                4 => {
                    let first = luck.pick(hosts);
                    let second = luck.pick(hosts);
                    Self::FromCoordinator(vec![first, second], span)
                }
                5 | 6 => Self::OneNetwork(host, u8::try_from(luck.below(2)).unwrap_or(0), span),
                _ => {
                    let content = ContentId(i32::try_from(luck.pick(contents)).unwrap_or(0));
                    Self::Network(u8::try_from(luck.below(2)).unwrap_or(0), content)
                }
            };
        }
        let content = ContentId(i32::try_from(luck.pick(contents)).unwrap_or(0));
        let victim = match luck.below(8) {
            0 | 1 => Victim::Primary(content),
            2 | 3 => Victim::Mirror(content),
            4 => Victim::Coordinator,
            5 => Victim::Standby,
            6 => Victim::Agent(luck.pick(hosts)),
            _ => Victim::Host(luck.pick(hosts)),
        };
        let most = u64::try_from(options.longest_stop.as_millis()).unwrap_or(30_000);
        if luck.below(2) == 0 {
            Self::Kill(victim)
        } else {
            Self::Stop(victim, luck.millis(200, most))
        }
    }

    /// What kind it is.
    pub(super) fn name(&self) -> String {
        let of = |victim: &Victim| match victim {
            Victim::Primary(_) => "primary",
            Victim::Mirror(_) => "mirror",
            Victim::Coordinator => "coordinator",
            Victim::Standby => "standby",
            Victim::Agent(_) => "agent",
            Victim::Host(_) => "host",
        };
        match self {
            Self::Kill(victim) => format!("kill_{}", of(victim)),
            Self::Stop(victim, _) => format!("stop_{}", of(victim)),
            Self::CutOff(..) => "cut_off".to_owned(),
            Self::OneWay(..) => "one_way".to_owned(),
            Self::Mute(..) => "mute".to_owned(),
            Self::Flap(..) => "flap".to_owned(),
            Self::FromCoordinator(..) => "from_coordinator".to_owned(),
            Self::OneNetwork(..) => "one_network".to_owned(),
            Self::Network(..) => "network".to_owned(),
        }
    }
}

/// Does it, and undoes it; whether the standby was activated meanwhile.
pub(super) async fn carry_out(
    fault: &Fault,
    cluster: &mut Cluster,
    state: &ClusterState,
    luck: &mut Luck,
) -> Result<bool, Error> {
    if let Fault::Network(network, content) = fault {
        return lose_network(cluster, state, *network, *content).await;
    }
    let hosts = &cluster.hosts;
    let seats = pair(state, CATALOG);
    let seat = |which: usize| {
        seats.as_ref().and_then(|seats| seats.get(which)).map(|(_, host)| cluster.place_of(host))
    };
    let (coordinator, standby) = (seat(0).unwrap_or(0), seat(1).unwrap_or(1));
    let mut activated = false;
    match fault {
        Fault::Kill(victim) => {
            signal(&pids(cluster, state, *victim), Signal::KILL);
            sleep(luck.millis(100, 1_000)).await;
            if gone(*victim, coordinator) {
                activate(cluster, standby).await?;
                activated = true;
            }
        }
        Fault::Stop(victim, span) => {
            let stopped = pids(cluster, state, *victim);
            signal(&stopped, Signal::STOP);
            let until = Instant::now() + *span;
            if gone(*victim, coordinator) && luck.below(2) == 0 {
                sleep(luck.millis(100, 500)).await;
                let done = activate(cluster, standby).await;
                if done.is_err() {
                    signal(&stopped, Signal::CONT);
                }
                done?;
                activated = true;
            }
            sleep(until.saturating_duration_since(Instant::now())).await;
            signal(&stopped, Signal::CONT);
        }
        Fault::CutOff(host, span) => {
            hosts.net.cut_off(*host)?;
            sleep(*span).await;
        }
        Fault::OneWay(from, to, span) => {
            hosts.net.cut(End::Host(*from), End::Host(*to), None)?;
            sleep(*span).await;
        }
        Fault::Mute(host, span) => {
            hosts.net.cut(End::Host(*host), End::Others, None)?;
            sleep(*span).await;
        }
        Fault::Flap(host, span) => {
            let until = Instant::now() + *span;
            while Instant::now() < until {
                hosts.net.cut_off(*host)?;
                sleep(FLAP).await;
                hosts.net.mend()?;
                sleep(FLAP).await;
            }
        }
        Fault::FromCoordinator(others, span) => {
            for other in others.iter().filter(|other| **other != coordinator) {
                hosts.net.cut(End::Host(coordinator), End::Host(*other), None)?;
                hosts.net.cut(End::Host(*other), End::Host(coordinator), None)?;
            }
            sleep(*span).await;
        }
        Fault::OneNetwork(host, network, span) => {
            hosts.net.cut(End::Host(*host), End::Others, Some(*network))?;
            hosts.net.cut(End::Others, End::Host(*host), Some(*network))?;
            sleep(*span).await;
        }
        Fault::Network(..) => {}
    }
    hosts.net.mend()?;
    Ok(activated)
}

/// Everything that a cluster is commanded to do is done on the other network.
async fn lose_network(
    cluster: &mut Cluster,
    state: &ClusterState,
    network: u8,
    content: ContentId,
) -> Result<bool, Error> {
    cluster.hosts.net.lose(network)?;
    // Its administrator, at least, knows which network to use.
    let known = cluster.coordinators.clone();
    cluster.coordinators.retain(|address| !Net::is_on(network, address));
    signal(&pids(cluster, state, Victim::Primary(content)), Signal::KILL);
    let state = cluster.recover(ACTIVATION_TIME).await?;
    let seats = pair(&state, CATALOG).ok_or_else(|| Error::Partial("no standby".to_owned()))?;
    signal(&pids(cluster, &state, Victim::Coordinator), Signal::KILL);
    activate(cluster, cluster.place_of(&seats[1].1)).await?;
    cluster.run_coordinators().await;
    cluster.recover(ACTIVATION_TIME).await?;
    cluster.coordinators = known;
    cluster.hosts.net.mend()?;
    Ok(true)
}

/// Whether the coordinator is lost with it.
fn gone(victim: Victim, coordinator: usize) -> bool {
    victim == Victim::Coordinator || victim == Victim::Host(coordinator)
}

fn pids(cluster: &Cluster, state: &ClusterState, victim: Victim) -> Vec<Pid> {
    let hosts = &cluster.hosts;
    let copy = |content, which: usize| {
        let found = pair(state, content).and_then(|pair| pair.into_iter().nth(which));
        found.map(|(dbid, host)| hosts.instance(&host, dbid)).unwrap_or_default()
    };
    let name = |at: usize| hosts.all.get(at).map(|host| host.name.clone()).unwrap_or_default();
    match victim {
        Victim::Primary(content) => copy(content, 0),
        Victim::Mirror(content) => copy(content, 1),
        Victim::Coordinator => copy(CATALOG, 0),
        Victim::Standby => copy(CATALOG, 1),
        Victim::Agent(at) => hosts.agent(&name(at)),
        Victim::Host(at) => hosts.everything(&name(at)),
    }
}

/// Has the standby on this host become the coordinator, as an administrator would.
async fn activate(cluster: &Cluster, standby: usize) -> Result<(), Error> {
    let address = cluster.coordinator_on(standby);
    let until = Instant::now() + ACTIVATION_TIME;
    loop {
        let request = Request::Activate { force: false };
        let why = match operator::ask(&address, &request, Duration::from_secs(5)).await {
            Ok(Answer::Done { .. }) => return Ok(()),
            Ok(Answer::Denied { text }) => text,
            Ok(_) => "it answered something else".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(Error::Partial(format!("the standby cannot be activated: {why}")));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_one_list_of_faults() {
        let options = ChaosOptions {
            dir: None,
            cycles: 1,
            seed: 7,
            longest_stop: Duration::from_secs(3),
            networks: Some(2),
            json: false,
        };
        let net = Net::Namespaces { bridges: 2 };
        let list = |seed| {
            let mut luck = Luck::new(seed);
            (0..200).map(|_| Fault::draw(&mut luck, &options, &net, 4)).collect::<Vec<_>>()
        };
        assert_eq!(list(7), list(7));
        assert_ne!(list(7), list(8));
        let names: std::collections::BTreeSet<_> = list(7).iter().map(Fault::name).collect();
        assert!(names.len() >= 16, "{names:?}");
    }
}
