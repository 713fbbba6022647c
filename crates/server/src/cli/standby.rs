//! `outrigger init-standby`, `remove-standby` and `activate-standby`.
//!
//! Guarantees: the coordinator's own host is refused; activation is asked of the standby's process itself, since the
//! coordinator may be gone. Not here: what is proved before (cluster, voters).

use std::time::Duration;

use clap::Args;
use outrigger_cluster::catalog::tables::{Instance, Preferred, Wanted};
use outrigger_cluster::operator::{Answer, ClusterState, Request};
use outrigger_cluster::placement::Place;
use tokio::time::{Instant, sleep};

use super::asking::{Asking, Consent, denied};
use super::layout::{new_row, numbered, place_of};
use super::page::{Fact, Page};
use super::recover::ended;
use super::recover::follow::{INCREMENTAL, Show, follow};
use super::recover::leaving::gone;
use super::state::seats::{CATALOG, Pair, pairs};
use crate::error::{Error, Verdict};
use crate::kv::operator::ask;
use crate::process;

const LOOK_TIME: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct InitStandby {
    /// The host that it runs on; not the coordinator's
    #[arg(long, value_name = "HOST")]
    host: String,
    /// Its data directory; else the coordinator's, with the host's name in it exchanged
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct RemoveStandby {
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct ActivateStandby {
    /// Where the standby listens
    #[arg(long, value_name = "HOST:PORT")]
    standby: String,
    /// Although it cannot be shown that it was in sync: what may be lost is reported
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    asking: Asking,
}

fn catalog(state: &ClusterState) -> Option<Pair<'_>> {
    pairs(state).into_iter().find(|pair| pair.content == CATALOG && !pair.seats.is_empty())
}

fn no(text: impl Into<String>) -> Error {
    Error::Denied { text: text.into() }
}

impl InitStandby {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.make())
    }

    async fn make(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let state = asking.state().await?;
        let row = self.row(&state)?;
        let mut plan = Page::default();
        let facts: Vec<Fact> = vec![
            (("Standby host", "host"), row.host.as_str().into()),
            (("Standby address", "address"), row.address().into()),
            (("Standby port", "port"), u64::from(row.port()).into()),
            (("Standby data directory", "datadir"), row.data_dir.as_str().into()),
        ];
        plan.facts("standby", "Standby coordinator", facts);
        self.consent.to(&plan, asking.json, "Make this standby?")?;
        let instance = row.instance;
        let rows = numbered(&state, vec![row]);
        asking.command(&Request::AddCopies { hosts: Vec::new(), rows }).await?;
        let show = if asking.json { Show::Nothing } else { Show::Bars };
        let ends = follow(asking, &[(instance, INCREMENTAL)], show).await?;
        let (page, wrong) = ended(&ends);
        page.print(asking.json)?;
        Ok(Verdict::good_if(!wrong))
    }

    /// The row of the standby, or why there is none.
    fn row(&self, state: &ClusterState) -> Result<Instance, Error> {
        let pair = catalog(state).ok_or_else(|| {
            no("this cluster was made without agents: its coordinator stands alone")
        })?;
        let coordinator = pair.primary().ok_or_else(|| no("the coordinator has no row"))?;
        if let Some(standby) = pair.mirrors().find(|seat| !seat.is_going()) {
            return Err(no(format!(
                "there is a standby on host {}: `outrigger remove-standby` first",
                standby.host()
            )));
        }
        if coordinator.host() == self.host {
            return Err(no(format!(
                "host {} has the coordinator: a standby there would be lost with it; give another host",
                self.host
            )));
        }
        let host = state.hosts.iter().find(|at| at.host.name == self.host);
        let host = host.ok_or_else(|| no(format!("there is no host {:?}", self.host)))?;
        let from = place_of(coordinator);
        let data_dir = self.data_dir.clone().unwrap_or_else(|| {
            let parts = from.data_dir.split('/');
            let parts = parts.map(|part| if part == from.host { self.host.as_str() } else { part });
            parts.collect::<Vec<_>>().join("/")
        });
        if !data_dir.starts_with('/') {
            return Err(Error::Option {
                option: "--data-dir",
                cause: format!("{data_dir:?} does not begin with '/'"),
            });
        }
        // The other network, where there are two.
        let address = host.host.addresses.get(1).or_else(|| host.host.addresses.first());
        let address = address.cloned().unwrap_or_default();
        let place = Place { host: self.host.clone(), address, port: from.port, data_dir };
        let taken = pairs(state).into_iter().flat_map(|pair| pair.seats).find(|seat| {
            seat.host() == place.host
                && (seat.port() == place.port || seat.data_dir() == place.data_dir)
        });
        if let Some(taken) = taken {
            return Err(no(format!(
                "{} on host {} has port {} and {} already",
                taken.name(),
                taken.host(),
                taken.port(),
                taken.data_dir()
            )));
        }
        let row = new_row((CATALOG, Preferred::Mirror), &place, &host.host.addresses, 0)?;
        // It is made empty and streams everything: the catalog is small.
        Ok(Instance { wanted: Wanted::New, ..row })
    }
}

impl RemoveStandby {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.remove())
    }

    async fn remove(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let state = asking.state().await?;
        let pair = catalog(&state);
        let standby = pair.as_ref().and_then(|pair| pair.mirrors().find(|seat| !seat.is_going()));
        let Some((standby, dbid)) = standby.and_then(|seat| Some((seat, seat.dbid()?))) else {
            return Err(no("Standby coordinator instance not configured"));
        };
        let mut plan = Page::default();
        plan.line(format!(
            "the standby on host {} ends, and {} is removed; while the coordinator's host is lost then, nothing \
             fails over",
            standby.host(),
            standby.data_dir()
        ));
        self.consent.to(&plan, asking.json, "Remove the standby?")?;
        asking.command(&Request::DropCopies { dbids: vec![dbid] }).await?;
        let mut page = Page::default();
        gone(asking, &[dbid], &mut page).await?;
        page.remark("notes", "the standby is removed");
        page.print(asking.json)?;
        Ok(Verdict::Good)
    }
}

impl ActivateStandby {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        process::runtime()?.block_on(self.activate())
    }

    async fn activate(self) -> Result<Verdict, Error> {
        let asking = &self.asking;
        let mut plan = Page::default();
        plan.line(format!("the standby at {} becomes the coordinator", self.standby));
        if self.force {
            plan.line("what the old coordinator recorded and the standby has not heard is lost");
        }
        self.consent.to(&plan, asking.json, "Activate it?")?;
        let request = Request::Activate { force: self.force };
        let patience = asking.patience.still_time();
        let text = match ask(&self.standby, &request, patience).await? {
            Answer::Done { text } => text,
            answer => return Err(denied(answer)),
        };
        let until = Instant::now() + patience;
        loop {
            let serves = ask(&self.standby, &Request::State, asking.patience.time()).await;
            if let Ok(Answer::State(_)) = serves {
                asking.tell(&text)?;
                return Ok(Verdict::Good);
            }
            if Instant::now() >= until {
                return Err(Error::Partial(format!("{text}; it does not serve yet")));
            }
            sleep(LOOK_TIME).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::state::tests::world;
    use super::*;

    #[derive(Debug, Parser)]
    struct Shell {
        #[command(flatten)]
        init: InitStandby,
    }

    fn row(state: &ClusterState, arguments: &[&str]) -> Result<Instance, String> {
        let shell = Shell::try_parse_from([&["x"], arguments].concat()).unwrap();
        shell.init.row(state).map_err(|error| error.to_string())
    }

    #[test]
    fn a_standby_has_the_coordinator_s_port_on_another_host() {
        let state = world::without_standby();
        let made = row(&state, &["--host", "sdw2"]).unwrap();
        assert_eq!((made.port(), made.data_dir.as_str()), (7000, "/data/sdw2/coordinator"));
        assert_eq!((made.content, made.preferred), (CATALOG, Preferred::Mirror));
        let own = row(&state, &["--host", "sdw2", "--data-dir", "/d/standby"]).unwrap();
        assert_eq!(own.data_dir, "/d/standby");
    }

    #[test]
    fn the_coordinator_s_own_host_is_refused() {
        let error = row(&world::without_standby(), &["--host", "sdw1"]).unwrap_err();
        assert!(error.contains("has the coordinator"), "{error}");
    }

    #[test]
    fn there_is_one_standby_on_a_host_that_exists() {
        let error = row(&world::healthy(), &["--host", "sdw2"]).unwrap_err();
        assert!(error.contains("there is a standby on host sdw2"), "{error}");
        let error = row(&world::without_standby(), &["--host", "sdw9"]).unwrap_err();
        assert!(error.contains("there is no host"), "{error}");
        let error = row(&world::without_agents(), &["--host", "sdw2"]).unwrap_err();
        assert!(error.contains("without agents"), "{error}");
    }
}
