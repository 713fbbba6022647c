//! Agents: those that were named, then every other one that the newest of what they keep knows of.
//!
//! Guarantees: each is asked once; one that does not answer in time is told of. Not here: what is made of it.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_cluster::agent::{Ask, Say};
use outrigger_cluster::catalog::tables::Host;
use outrigger_cluster::rebuilding::{Found, HostFound, newest_kept};
use outrigger_wal::InstanceId;
use tokio::task::JoinSet;

use super::super::asking::Asking;
use crate::error::Error;
use crate::kv::agents::ask_agent;

/// An agent that is there answers at once; its control files may take a while.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Who was asked.
pub(super) struct Asked {
    /// Everybody, as far as known.
    pub(super) hosts: Vec<Host>,
    /// What the agents say that answered.
    pub(super) found: Vec<HostFound>,
    /// Who did not, and why.
    pub(super) silent: Vec<(String, String)>,
}

impl Asked {
    /// The host of this name.
    ///
    /// # Errors
    /// Nobody knows it.
    pub(super) fn host(&self, name: &str) -> Result<&Host, Error> {
        let host = self.hosts.iter().find(|host| host.name == name);
        host.ok_or_else(|| Error::Denied { text: format!("there is no host {name:?}") })
    }
}

/// Asks all of them what they hold.
///
/// # Errors
/// None of it can be used.
pub(super) async fn everybody(asking: &Asking, named: &[Host]) -> Result<Asked, Error> {
    let (mut found, mut silent) = ask_all(asking, named.to_vec()).await;
    let no = |refusal: outrigger_cluster::rebuilding::Refusal| {
        let why: Vec<_> = silent.iter().map(|(at, why)| format!("; {at}: {why}")).collect();
        Error::Denied { text: format!("{refusal}{}", why.concat()) }
    };
    let (_, kept, _) = newest_kept(&found).map_err(no)?;
    let known: BTreeSet<_> = found.iter().map(|at| at.host.clone()).collect();
    let missing = |host: &&Host| {
        let asked = named.iter().any(|at| at.agent == host.agent);
        !known.contains(&host.name) && !asked
    };
    let further: Vec<Host> = kept.rows.hosts.values().filter(missing).cloned().collect();
    let (more, quiet) = ask_all(asking, further).await;
    found.extend(more);
    silent.extend(quiet);
    // What a further one keeps may be newer.
    let hosts = newest_kept(&found).map(|(_, kept, _)| kept.rows.hosts).unwrap_or_default();
    for (at, _) in &mut silent {
        let named = hosts.values().find(|host| host.agent.contains(at));
        if let Some(host) = named {
            at.clone_from(&host.name);
        }
    }
    found.sort_by(|a, b| a.host.cmp(&b.host));
    found.dedup_by(|a, b| a.host == b.host);
    Ok(Asked { hosts: hosts.into_values().collect(), found, silent })
}

async fn ask_all(asking: &Asking, hosts: Vec<Host>) -> (Vec<HostFound>, Vec<(String, String)>) {
    let patience = asking.patience.time().min(ANSWER_TIME);
    let mut asked = JoinSet::new();
    for host in hosts {
        asked.spawn(async move {
            let why = match ask_agent(&host.agent, &Ask::Inspect, patience).await {
                Ok(Say::Holds { cluster, host: name, coordinator_epoch, kept, instances }) => {
                    let agent = host.agent.join(",");
                    return Ok(HostFound {
                        agent,
                        cluster,
                        host: name,
                        coordinator_epoch,
                        kept,
                        instances,
                    });
                }
                Ok(_) => "it is of another release".to_owned(),
                Err(error) => error.to_string(),
            };
            Err((host.name, why))
        });
    }
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(host)) => found.push(host),
            Ok(Err(quiet)) => silent.push(quiet),
            Err(error) => silent.push(("?".to_owned(), error.to_string())),
        }
    }
    silent.sort();
    (found, silent)
}

/// The same without an instance: it is the coordinator that an earlier try made.
pub(super) fn without(mut found: Found, instance: Option<InstanceId>) -> Found {
    for host in &mut found.hosts {
        host.instances.retain(|holding| Some(holding.order.instance) != instance);
    }
    found
}
