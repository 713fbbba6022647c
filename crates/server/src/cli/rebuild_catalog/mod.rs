//! `outrigger rebuild-catalog`: a lost catalog is made anew out of what agents, instances and voters hold.
//!
//! In order: everybody is asked, the plan and what is not proved are shown, somebody agrees; the voters record the new
//! coordinator, alone; everybody is asked once more, now that no other one can begin a reign; the new coordinator is made
//! by its agent, and is told the catalog as a whole. Guarantees: killed at whatever step and begun again it goes on, or begins
//! anew; nothing of an instance is touched. Not here: what follows from what was found (cluster).
//!
//! # Layout
//! - `asking`: agents
//! - `voting`: voters
//! - `shown`: what is printed

mod asking;
mod shown;
mod voting;

use std::time::Duration;

use clap::Args;
use outrigger_cluster::agent::{Ask, Process, Say};
use outrigger_cluster::catalog::tables::{self, Dbid, Up};
use outrigger_cluster::operator::{Answer, Request};
use outrigger_cluster::rebuilding::{
    Doubt, Force, Found, Plan, Seat, VotersFound, newest_kept, plan as plan_of,
};
use outrigger_wal::format::MIN_SEGMENT_BYTES;
use outrigger_wal::{InstanceId, LogId};
use tokio::time::{Instant, sleep};

use self::asking::Asked;
use super::asking::{Asking, Consent, denied};
use super::hosts::ask_host;
use super::lifecycle::Agents;
use super::state::seats::CATALOG;
use crate::error::{Error, Verdict};
use crate::kv::operator::ask_once;
use crate::process;

/// Between two looks.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// How long a coordinator that may be there is waited for.
const HERE_TIME: Duration = Duration::from_millis(1_500);

#[derive(Debug, Args)]
pub(super) struct RebuildCatalog {
    #[command(flatten)]
    agents: Agents,
    /// The host that the coordinator goes to; where nothing is said, where it was
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its data directory there; where nothing is said, the old one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Although a copy of the catalog is there, or voters are missing: no other coordinator acts, and none will
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

fn no(text: impl ToString) -> Error {
    Error::Denied { text: text.to_string() }
}

/// A coordinator that an earlier try made, and that has no catalog yet.
struct Begun {
    instance: InstanceId,
    address: String,
}

impl RebuildCatalog {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.rebuild())
    }

    async fn rebuild(self) -> Result<Verdict, Error> {
        let named = self.agents.hosts()?;
        if named.is_empty() {
            return Err(Error::Option {
                option: "--agent",
                cause: "name one agent at least, or the cluster's file with --cluster".to_owned(),
            });
        }
        let asked = asking::everybody(&self.asking, &named).await?;
        let begun = self.begun(&asked).await?;
        let seat = self.seat(begun.as_ref())?;
        let found =
            asking::without(self.found(&asked).await?, begun.as_ref().map(|at| at.instance));
        let force = if self.force { Force::Yes } else { Force::No };
        let mut plan = plan_of(&found, &seat, force).map_err(no)?;
        self.consent.to(&shown::plan(&plan), self.asking.json, "Rebuild the catalog?")?;

        let shown = plan.doubts.clone();

        let (address, epoch) = match begun {
            Some(begun) => (begun.address, plan.above_epoch),
            None => {
                let epoch = voting::replace(&self.asking, &plan, &found.voters, self.force).await?;
                self.clear(&asked, &plan, epoch).await?;
                // ORDER: the voters first: whatever is told to an instance from now on is told by no other coordinator
                // that could begin a reign, and what was told until now is found.
                let again = asking::everybody(&self.asking, &asked.hosts).await?;
                let voters = VotersFound { promised: epoch, ..found.voters };
                let found = Found { hosts: again.found, silent: again.silent, voters };
                let coordinator = (plan.dbid, plan.coordinator.clone());
                let seat = Seat {
                    host: Some(coordinator.1.host.clone()),
                    data_dir: Some(coordinator.1.data_dir.clone()),
                    ..seat
                };
                plan = plan_of(&found, &seat, Force::Yes).map_err(no)?.at(coordinator);
                plan.also(shown.iter().filter(|doubt| matches!(doubt, Doubt::GivenUp { .. })));
                (self.make(&asked, &plan, epoch).await?, epoch)
            }
        };
        let body = plan.body(epoch).map_err(no)?;
        match ask_once(&address, &Request::Restore { body }, self.asking.patience.time()).await {
            Ok(Answer::Done { .. }) => {}
            Ok(answer) => return Err(denied(answer)),
            Err(error) => return Err(Error::Partial(format!("{}: ask again", error.0))),
        }
        self.until_there(&address).await?;
        let (page, wrong) = shown::done(&plan, &shown, &address, self.asking.json);
        page.print(self.asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }

    fn seat(&self, begun: Option<&Begun>) -> Result<Seat, Error> {
        let instance = match begun {
            Some(begun) => begun.instance,
            None => InstanceId(process::random()?),
        };
        Ok(Seat { host: self.host.clone(), data_dir: self.data_dir.clone(), instance })
    }

    async fn found(&self, asked: &Asked) -> Result<Found, Error> {
        let (cluster, kept, _) = newest_kept(&asked.found).map_err(no)?;
        let voters = voting::read(&self.asking, cluster, &kept.voters).await?;
        Ok(Found { hosts: asked.found.clone(), silent: asked.silent.clone(), voters })
    }

    /// A coordinator that serves refuses a rebuild; one that waits for its catalog goes on with it.
    async fn begun(&self, asked: &Asked) -> Result<Option<Begun>, Error> {
        let (_, kept, _) = newest_kept(&asked.found).map_err(no)?;
        let kept = kept.rows.instances.into_values().filter(|row| row.content == CATALOG);
        let mut places: Vec<_> = kept.map(|row| (row.instance, row.addresses)).collect();
        for holding in asked.found.iter().flat_map(|host| &host.instances) {
            if holding.order.content == CATALOG {
                places.push((holding.order.instance, holding.order.addresses.clone()));
            }
        }
        let mut tried = Vec::new();
        // The newest word first: what an agent was told last.
        for (instance, addresses) in places.into_iter().rev() {
            for address in addresses {
                if tried.contains(&address) {
                    continue;
                }
                tried.push(address.clone());
                match ask_once(&address, &Request::State, HERE_TIME).await {
                    Ok(Answer::State(state))
                        if state.up == Up::Founding && state.instances.is_empty() =>
                    {
                        return Ok(Some(Begun { instance, address }));
                    }
                    Ok(Answer::State(_)) => {
                        return Err(no(format!(
                            "a coordinator serves at {address}: there is nothing to rebuild"
                        )));
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// Has agents stop and forget the copies of the old catalog.
    async fn clear(&self, asked: &Asked, plan: &Plan, epoch: u64) -> Result<(), Error> {
        for (host, dbid, running) in &plan.forget {
            let host = asked.host(host)?;
            if *running {
                ask_host(&self.asking, host, &Ask::Run { dbid: *dbid, up: false }).await?;
                self.until_ended(host, *dbid).await?;
            }
            let forget =
                Ask::Forget { cluster: plan.cluster, coordinator_epoch: epoch, dbid: *dbid };
            ask_host(&self.asking, host, &forget).await?;
        }
        Ok(())
    }

    async fn until_ended(&self, host: &tables::Host, dbid: Dbid) -> Result<(), Error> {
        let until = Instant::now() + self.asking.patience.still_time();
        loop {
            let process = self.process(host, dbid).await?;
            if !matches!(process, Some(Process::Running { .. } | Process::Starting)) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Partial(format!(
                    "dbid {dbid} on host {} does not end",
                    host.name
                )));
            }
            sleep(LOOK_TIME).await;
        }
    }

    async fn process(&self, host: &tables::Host, dbid: Dbid) -> Result<Option<Process>, Error> {
        match ask_host(&self.asking, host, &Ask::Watch { seen: 0 }).await? {
            Say::Status { instances, .. } => {
                Ok(instances.into_iter().find(|seen| seen.dbid == dbid).map(|seen| seen.process))
            }
            _ => Err(no("an agent answered something else; is it of another release?")),
        }
    }

    /// Has the coordinator made and started; where it answers.
    async fn make(&self, asked: &Asked, plan: &Plan, epoch: u64) -> Result<String, Error> {
        let host = asked.host(&plan.coordinator.host)?;
        let order = plan.order(LogId(process::random()?), MIN_SEGMENT_BYTES);
        let want = Ask::Want {
            number: 0,
            cluster: plan.cluster,
            coordinator_epoch: epoch,
            orders: vec![(plan.dbid, order)],
            kept: bytes::Bytes::new(),
        };
        ask_host(&self.asking, host, &want).await?;
        let address = plan.coordinator.addresses.first().cloned().unwrap_or_default();
        let until = Instant::now() + self.asking.patience.still_time();
        loop {
            if let Ok(Answer::State(_)) = ask_once(&address, &Request::State, HERE_TIME).await {
                return Ok(address);
            }
            match self.process(host, plan.dbid).await? {
                Some(Process::Ended { how }) => {
                    return Err(no(format!(
                        "the coordinator on host {} cannot start: {how}",
                        host.name
                    )));
                }
                _ if Instant::now() >= until => {
                    return Err(Error::Partial(
                        "the coordinator does not serve yet: ask again".to_owned(),
                    ));
                }
                _ => sleep(LOOK_TIME).await,
            }
        }
    }

    /// Waits until the coordinator says what it was told.
    async fn until_there(&self, address: &str) -> Result<(), Error> {
        let until = Instant::now() + self.asking.patience.still_time();
        loop {
            match ask_once(address, &Request::State, HERE_TIME).await {
                Ok(Answer::State(state)) if state.up != Up::Founding => return Ok(()),
                _ if Instant::now() >= until => {
                    return Err(Error::Partial(
                        "the coordinator does not answer: see `outrigger state`".to_owned(),
                    ));
                }
                _ => sleep(LOOK_TIME).await,
            }
        }
    }
}
