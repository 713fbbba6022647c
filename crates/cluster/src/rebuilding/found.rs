//! What was found of a cluster whose catalog is lost, and how it is read: what agents remember, what control files say.
//!
//! Not here: what follows from it ([`super::plan`]).

use outrigger_net::config::Config;
use outrigger_wal::{ClusterId, ContentId, InstanceId};

use super::refusal::Refusal;
use crate::agent::{Accepted, Data, Holding, Kept, Process};
use crate::catalog::Keepsake;
use crate::coordinator::CATALOG;

/// A host whose agent answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFound {
    /// Where its agent was asked.
    pub agent: String,
    /// The cluster it works for.
    pub cluster: ClusterId,
    /// Its name there.
    pub host: String,
    /// The highest epoch of a coordinator that it has heard.
    pub coordinator_epoch: u64,
    /// What a coordinator has left with it.
    pub kept: Kept,
    /// Its instances.
    pub instances: Vec<Holding>,
}

/// What the voters that answered hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VotersFound {
    /// The newest configuration of the catalog.
    pub newest: Config,
    /// The highest epoch that one of them promised.
    pub promised: u64,
    /// How many answered.
    pub answered: usize,
    /// Of how many.
    pub voters: usize,
}

/// Everything that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The hosts whose agents answered.
    pub hosts: Vec<HostFound>,
    /// Agents that did not, and why.
    pub silent: Vec<(String, String)>,
    /// What voters hold.
    pub voters: VotersFound,
}

/// The newest of what coordinators have left with these hosts, and with whom it was found.
///
/// # Errors
/// Nobody answered, or works for a cluster, or keeps anything that can be read; or they work for more clusters than one.
pub fn newest_kept(hosts: &[HostFound]) -> Result<(ClusterId, Keepsake, &HostFound), Refusal> {
    let first = hosts.first().ok_or(Refusal::NobodyAnswered)?;
    let cluster = first.cluster;
    if let Some(other) = hosts.iter().find(|at| at.cluster != cluster) {
        return Err(Refusal::MoreClusters {
            one: cluster,
            other: other.cluster,
            agent: other.agent.clone(),
        });
    }
    if cluster == ClusterId::default() {
        return Err(Refusal::NoCluster { agent: first.agent.clone() });
    }
    let holder = hosts.iter().max_by_key(|at| (at.kept.coordinator_epoch, at.kept.number));
    let holder = holder.filter(|at| !at.kept.body.is_empty()).ok_or(Refusal::NothingKept)?;
    let kept = Keepsake::decode(&holder.kept.body)
        .map_err(|error| Refusal::Unreadable { host: holder.host.clone(), error })?;
    match kept.rows.cluster {
        Some(other) if other != cluster => {
            Err(Refusal::MoreClusters { one: cluster, other, agent: holder.agent.clone() })
        }
        _ => Ok((cluster, kept, holder)),
    }
}

impl Found {
    /// All instances of content -1 that agents remember, with their hosts.
    pub(super) fn catalogs(&self) -> impl Iterator<Item = (&HostFound, &Holding)> {
        self.holdings().filter(|(_, holding)| holding.order.content == CATALOG)
    }

    /// All instances that agents remember, with their hosts.
    pub(super) fn holdings(&self) -> impl Iterator<Item = (&HostFound, &Holding)> {
        self.hosts.iter().flat_map(|host| host.instances.iter().map(move |at| (host, at)))
    }

    /// What the copies of a content say: the instance's own word, where its data is its own.
    pub(super) fn copies(
        &self,
        content: ContentId,
    ) -> impl Iterator<Item = (InstanceId, &Accepted)> {
        let of = self.holdings().filter(move |(_, holding)| holding.order.content == content);
        of.filter_map(|(host, holding)| {
            Some((holding.order.instance, whole(host.cluster, holding)?))
        })
    }

    /// The highest epoch of a coordinator that anybody has heard.
    pub(super) fn highest_coordinator(&self) -> u64 {
        let agents = self.hosts.iter().map(|host| host.coordinator_epoch);
        let copies = self.holdings().filter_map(|(_, holding)| match &holding.data {
            Data::Copy(accepted) => Some(accepted.coordinator_epoch),
            _ => None,
        });
        agents.chain(copies).max().unwrap_or_default()
    }
}

/// What an instance's control file says, if it is that instance's.
pub(super) fn whole(cluster: ClusterId, holding: &Holding) -> Option<&Accepted> {
    let Data::Copy(accepted) = &holding.data else { return None };
    let (id, order) = (&accepted.identity, &holding.order);
    let theirs = (id.cluster, id.content, id.instance, id.log);
    (theirs == (cluster, order.content, order.instance, order.log)).then_some(&**accepted)
}

/// Why an instance's data says nothing; `None`: it does.
pub(super) fn why_not(cluster: ClusterId, holding: &Holding) -> Option<String> {
    match &holding.data {
        Data::Nothing => Some(format!("{} is not there", holding.order.data_dir)),
        Data::Unreadable { why } => Some(why.clone()),
        Data::Copy(_) if whole(cluster, holding).is_some() => None,
        Data::Copy(accepted) => Some(format!(
            "{} belongs to instance {} of content {} in cluster {}",
            holding.order.data_dir,
            accepted.identity.instance,
            accepted.identity.content,
            accepted.identity.cluster
        )),
    }
}

/// Whether a process is there.
pub(super) const fn runs(process: &Process) -> bool {
    matches!(process, Process::Running { .. } | Process::Starting | Process::Rebuilding { .. })
}
