//! `outrigger start`, `stop` and `restart`.
//!
//! A coordinator that is down is started by its host's agent, and a standby too; then the coordinator is asked. Guarantees:
//! a refusal is printed with its reason, exit 2; whoever is killed and begun again goes on. Not here: the order in
//! which instances start and stop (cluster).

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use outrigger_cluster::agent::{Ask, Process, Say};
use outrigger_cluster::catalog::tables::{self, Dbid, Up};
use outrigger_cluster::operator::{Answer, ClusterState, Request};
use tokio::time::{Instant, sleep};

use super::asking::{Asking, Consent, denied};
use super::hosts::{ask_host, of_file};
use super::page::Page;
use super::state::problems;
use super::state::seats::{CATALOG, Seat, data_pairs, pairs};
use crate::error::{Error, Verdict};
use crate::output::complain;
use crate::process;

/// Between two looks.
const LOOK_TIME: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Only this host: its primaries are handed over first, then its instances end
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct Restart {
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

/// Where agents are, when there is no coordinator to say it.
#[derive(Debug, Args)]
pub(super) struct Agents {
    /// Agents, for when no coordinator answers: of the coordinator's host and of the standby's
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    agent: Vec<String>,
    /// The cluster's file, which says where agents are
    #[arg(long, value_name = "FILE.toml", conflicts_with = "agent")]
    cluster: Option<PathBuf>,
}

impl Agents {
    /// Each agent that was named.
    ///
    /// # Errors
    /// The cluster's file cannot be read.
    pub(super) fn hosts(&self) -> Result<Vec<tables::Host>, Error> {
        if let Some(path) = &self.cluster {
            return Ok(of_file(path)?.1.into_iter().map(|(_, row)| row).collect());
        }
        let named = self.agent.iter().map(|address| tables::Host {
            name: address.clone(),
            agent: vec![address.clone()],
            ..tables::Host::default()
        });
        Ok(named.collect())
    }
}

/// What an agent says of the instances of content -1 on its host: number, and whether it runs.
async fn catalogs(asking: &Asking, host: &tables::Host) -> Result<Vec<(Dbid, bool)>, Error> {
    match ask_host(asking, host, &Ask::Watch { seen: 0 }).await? {
        Say::Status { instances, .. } => {
            let catalogs = instances.iter().filter(|seen| seen.content == CATALOG);
            let runs =
                |process: &Process| matches!(process, Process::Running { .. } | Process::Starting);
            Ok(catalogs.map(|seen| (seen.dbid, runs(&seen.process))).collect())
        }
        _ => {
            Err(Error::Denied { text: format!("the agent of {} is of another release", host.name) })
        }
    }
}

async fn set_running(
    asking: &Asking,
    host: &tables::Host,
    dbid: Dbid,
    up: bool,
) -> Result<(), Error> {
    ask_host(asking, host, &Ask::Run { dbid, up }).await.map(|_| ())
}

/// Starts whatever coordinators and standbys these hosts have. Those that cannot be reached are left out, with a warning, if
/// one is started or runs: the other one may be all that is left.
async fn start_catalogs(asking: &Asking, hosts: &[tables::Host]) -> Result<(), Error> {
    let mut begun = 0_usize;
    let mut failed = None;
    for host in hosts {
        let found = async {
            let mut runs = 0;
            for (dbid, running) in catalogs(asking, host).await? {
                if !running {
                    set_running(asking, host, dbid, true).await?;
                }
                runs += 1;
            }
            Ok::<usize, Error>(runs)
        };
        match found.await {
            Ok(runs) => begun += runs,
            Err(error) => {
                complain(format_args!("warning: {error}"));
                failed = Some(error);
            }
        }
    }
    match (begun, failed) {
        (0, Some(error)) => Err(error),
        (0, None) => Err(Error::Denied {
            text: "none of these agents has a coordinator on its host: name the agent of the \
                   coordinator's"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Start {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(start(&self.asking, &self.agents))
    }
}

async fn start(asking: &Asking, agents: &Agents) -> Result<Verdict, Error> {
    let first = asking.state().await;
    if let Err(error) = first {
        let hosts = agents.hosts()?;
        if hosts.is_empty() {
            return Err(nobody(&error));
        }
        start_catalogs(asking, &hosts).await?;
    }
    bring_up(asking).await
}

/// What follows when a coordinator runs, or is about to.
async fn bring_up(asking: &Asking) -> Result<Verdict, Error> {
    let text = ask_to_start(asking).await?;
    if !asking.json {
        asking.tell(&text)?;
    }
    let state = asking.state().await?;
    start_standby(asking, &state).await;
    let (page, wrong) = until_up(asking).await?;
    page.print(asking.json)?;
    Ok(Verdict::good_if(!wrong))
}

fn nobody(error: &Error) -> Error {
    Error::Denied {
        text: format!(
            "{error}; to start it, name the agent of its host with --agent HOST:PORT, or the cluster's file \
             with --cluster FILE.toml"
        ),
    }
}

/// Asks for as long as the coordinator is not there yet, or its agents are not.
async fn ask_to_start(asking: &Asking) -> Result<String, Error> {
    let until = Instant::now() + asking.patience.still_time();
    loop {
        let last = match asking.ask(&Request::Start).await {
            Ok(Answer::Done { text }) => return Ok(text),
            // It takes a moment until a coordinator that was just started has reached them.
            Ok(Answer::Denied { text }) if is_early(&text) => Error::Denied { text },
            Ok(answer) => return Err(denied(answer)),
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(last);
        }
        sleep(LOOK_TIME).await;
    }
}

/// Whether a coordinator says no because it has only just begun.
fn is_early(text: &str) -> bool {
    let early = ["is not connected", "does not serve", "is still going down"];
    early.iter().any(|words| text.contains(words))
}

/// Has the standby's agent start it. The cluster serves without, and `state` shows it.
async fn start_standby(asking: &Asking, state: &ClusterState) {
    let catalog = pairs(state).into_iter().find(|pair| pair.content == CATALOG);
    for seat in catalog.iter().flat_map(|pair| pair.mirrors()).filter(|seat| !seat.is_going()) {
        let host = state.hosts.iter().find(|at| at.host.name == seat.host());
        let Some((host, dbid)) = host.zip(seat.dbid()) else { continue };
        let begun = async {
            let found = catalogs(asking, &host.host).await?;
            if found.contains(&(dbid, false)) {
                set_running(asking, &host.host, dbid, true).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = begun.await {
            complain(format_args!("warning: the standby is not started: {error}"));
        }
    }
}

/// Waits until every content is served and every copy that should run does; what is wrong when nothing changes any more.
async fn until_up(asking: &Asking) -> Result<(Page, bool), Error> {
    let still = asking.patience.still_time();
    let mut changed = Instant::now();
    let mut before = Vec::new();
    loop {
        let state = asking.state().await;
        if let Ok(state) = &state {
            let missing = not_up(state);
            if missing.is_empty() && state.up == Up::Running {
                // What was out before is out still: a warning, not a failure to start.
                let mut page = Page::default();
                page.remark("notes", "the cluster is up");
                if problems::is_wrong(state) {
                    page.remark("warnings", "warning: see `outrigger state -e`");
                }
                return Ok((page, false));
            }
            if missing != before {
                before = missing;
                changed = Instant::now();
            }
        }
        if changed.elapsed() >= still {
            let mut page = problems::page(&state?).0;
            page.rule().remark("failed", format!("not up: {}", before.join(", ")));
            return Ok((page, true));
        }
        sleep(LOOK_TIME).await;
    }
}

/// Whoever should serve and does not, by name: primaries, and mirrors that commits wait for.
fn not_up(state: &ClusterState) -> Vec<String> {
    let pairs = data_pairs(state);
    let seats = pairs.iter().flat_map(|pair| &pair.seats);
    let should = |seat: &&Seat<'_>| seat.in_sync() && !seat.is_going();
    seats.filter(should).filter(|seat| !seat.is_alive()).map(Seat::name).collect()
}

/// Whoever still runs, by name.
fn still_runs(state: &ClusterState, host: Option<&str>) -> Vec<String> {
    let pairs = data_pairs(state);
    let seats = pairs.iter().flat_map(|pair| &pair.seats);
    let here = |seat: &&Seat<'_>| host.is_none_or(|host| host == seat.host());
    let runs = |seat: &&Seat<'_>| {
        matches!(seat.process(), Some(Process::Running { .. } | Process::Starting))
    };
    seats.filter(here).filter(runs).map(Seat::name).collect()
}

impl Stop {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(async {
            let what = match &self.host {
                Some(host) => {
                    format!("the instances of host {host} end; its primaries are handed over first")
                }
                None => {
                    "primaries end, then mirrors, then the standby, then the coordinator".to_owned()
                }
            };
            let mut plan = Page::default();
            plan.line(what);
            self.consent.to(&plan, self.asking.json, "Stop?")?;
            stop(&self.asking, self.host.as_deref()).await
        })
    }
}

async fn stop(asking: &Asking, host: Option<&str>) -> Result<Verdict, Error> {
    let before = asking.state().await?;
    let text = asking.command(&Request::Stop { host: host.map(str::to_owned) }).await?;
    if !asking.json {
        asking.tell(&text)?;
    }
    let left = until_down(asking, host).await?;
    if !left.is_empty() {
        return Err(Error::Partial(format!(
            "still running: {}; see `outrigger state`",
            left.join(", ")
        )));
    }
    if host.is_none() {
        stop_catalogs(asking, &before).await?;
    }
    asking.tell(match host {
        Some(_) => "the host's instances are down",
        None => "the cluster is down",
    })?;
    Ok(Verdict::Good)
}

/// Waits until nothing runs any more; whoever does when nothing changes any more.
async fn until_down(asking: &Asking, host: Option<&str>) -> Result<Vec<String>, Error> {
    let still = asking.patience.still_time();
    let mut changed = Instant::now();
    let mut before = None;
    loop {
        match asking.state().await {
            Ok(state) => {
                let left = still_runs(&state, host);
                if left.is_empty() {
                    return Ok(left);
                }
                if before.as_ref() != Some(&left) {
                    before = Some(left);
                    changed = Instant::now();
                }
            }
            // It ends by itself when it has seen everything else end; its agent tells.
            Err(_) if host.is_none() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        if changed.elapsed() >= still {
            return Ok(before.unwrap_or_default());
        }
        sleep(LOOK_TIME).await;
    }
}

/// Waits until standby and coordinator have ended, and has their agents end them when they do not by themselves.
async fn stop_catalogs(asking: &Asking, state: &ClusterState) -> Result<(), Error> {
    let catalog = pairs(state).into_iter().find(|pair| pair.content == CATALOG);
    let mut seats: Vec<_> = catalog.iter().flat_map(|pair| &pair.seats).collect();
    // ORDER: the standby first, or the coordinator would go on without it.
    seats.sort_by_key(|seat| seat.is_primary());
    for seat in seats {
        let host = state.hosts.iter().find(|at| at.host.name == seat.host());
        let Some((host, dbid)) = host.zip(seat.dbid()) else { continue };
        let asked = Instant::now();
        let mut told = false;
        loop {
            match catalogs(asking, &host.host).await {
                Ok(found) if !found.contains(&(dbid, true)) => break,
                // What runs on a host that is gone ended with it, or is met by the next start.
                Err(error) => {
                    complain(format_args!("warning: {error}"));
                    break;
                }
                Ok(_) if asked.elapsed() >= asking.patience.still_time() => {
                    return Err(Error::Partial(format!("dbid {dbid} does not end")));
                }
                Ok(_) if !told && asked.elapsed() >= Duration::from_secs(3) => {
                    told = true;
                    set_running(asking, &host.host, dbid, false).await?;
                }
                Ok(_) => sleep(LOOK_TIME).await,
            }
        }
    }
    Ok(())
}

impl Restart {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(async {
            let mut plan = Page::default();
            plan.line("everything ends in order, and is started again");
            self.consent.to(&plan, self.asking.json, "Restart?")?;
            let state = self.asking.state().await?;
            stop(&self.asking, None).await?;
            let catalogs = pairs(&state).into_iter().filter(|pair| pair.content == CATALOG);
            let seats = catalogs.flat_map(|pair| pair.seats);
            let names: Vec<String> = seats.map(|seat| seat.host().to_owned()).collect();
            let rows = state.hosts.iter().map(|at| &at.host);
            let mut hosts: Vec<_> =
                rows.filter(|host| names.contains(&host.name)).cloned().collect();
            if hosts.is_empty() {
                hosts = self.agents.hosts()?;
            }
            start_catalogs(&self.asking, &hosts).await?;
            bring_up(&self.asking).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::world;
    use super::*;

    #[test]
    fn up_means_every_copy_that_commits_wait_for() {
        assert_eq!(not_up(&world::healthy()), Vec::<String>::new());
        assert_eq!(not_up(&world::double_fault()), ["dbid 4"]);
        let out = not_up(&world::failed_over());
        assert_eq!(out, Vec::<String>::new(), "what is out is not waited for");
    }

    #[test]
    fn down_means_no_process_of_data_on_that_host() {
        let state = world::healthy();
        assert_eq!(still_runs(&state, None).len(), 4);
        assert_eq!(still_runs(&state, Some("sdw2")), ["dbid 4", "dbid 3"]);
        assert_eq!(still_runs(&world::failed_over(), Some("sdw1")), ["dbid 5"]);
    }
}
