//! Hosts that the catalog may not know yet, out of a cluster's file; and their agents, which are claimed first.
//!
//! Guarantees: an agent that works for another cluster is an error. Not here: what an agent does.

use std::path::Path;

use outrigger_cluster::agent::{Ask, Say};
use outrigger_cluster::catalog::tables;
use outrigger_cluster::operator::ClusterState;
use outrigger_cluster::placement::Host;

use super::asking::Asking;
use crate::config::{self, ClusterConfig};
use crate::error::Error;
use crate::kv::agents::ask_agent;

/// The hosts of a cluster's file, as the planner and as the catalog see them.
///
/// # Errors
/// When the file is wrong.
pub(super) fn of_file(path: &Path) -> Result<(ClusterConfig, Vec<(Host, tables::Host)>), Error> {
    let config: ClusterConfig = config::read(path)?;
    let hosts = config.shape().hosts.into_iter().zip(&config.hosts);
    let hosts = hosts.map(|(host, written)| {
        let row = tables::Host {
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            agent: written.agent.clone(),
            rack: host.rack.clone(),
            storage: host.storage.clone(),
        };
        (host, row)
    });
    let hosts = hosts.collect();
    Ok((config, hosts))
}

/// Those of these hosts that the catalog does not know.
pub(super) fn unknown(state: &ClusterState, hosts: Vec<tables::Host>) -> Vec<tables::Host> {
    let known = |name: &str| state.hosts.iter().any(|at| at.host.name == name);
    hosts.into_iter().filter(|host| !known(&host.name)).collect()
}

/// Asks the agent of a host, at the first of its addresses that answers.
///
/// # Errors
/// It cannot be reached, or refuses.
pub(super) async fn ask_host(
    asking: &Asking,
    host: &tables::Host,
    ask: &Ask,
) -> Result<Say, Error> {
    if host.agent.is_empty() {
        return Err(Error::Denied { text: format!("host {} has no agent", host.name) });
    }
    match ask_agent(&host.agent, ask, asking.patience.time()).await? {
        Say::Denied { text } => {
            Err(Error::Denied { text: format!("the agent of {}: {text}", host.name) })
        }
        say => Ok(say),
    }
}

/// Has the agents of these hosts work for the cluster.
///
/// # Errors
/// An agent cannot be reached, or works for another cluster.
pub(super) async fn claim(
    asking: &Asking,
    state: &ClusterState,
    hosts: &[tables::Host],
) -> Result<(), Error> {
    for host in hosts {
        let ask = Ask::Claim { cluster: state.cluster, host: host.name.clone() };
        ask_host(asking, host, &ask).await?;
    }
    Ok(())
}
