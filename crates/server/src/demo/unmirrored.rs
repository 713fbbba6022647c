//! The demo without mirrors: a primary is lost, so the cluster goes down in order and says why; a start is refused until
//! its data is back, and then nothing is lost.
//!
//! Not here: failover, which takes a mirror (`play`).

use std::path::Path;
use std::time::Duration;

use outrigger_cluster::agent::Process as Ran;
use outrigger_cluster::catalog::tables::Up;
use outrigger_cluster::operator::{Answer, Request};
use outrigger_cluster::placement::CATALOG;

use super::cluster::{Cluster, wrong};
use super::play::utc_micros;
use super::report::{Seen, Summary};
use super::writers::{Load, Writers, Written};
use super::{ACK_LOG, LOADED, PATIENCE, Stage};
use crate::error::Error;
use crate::load::ack_log::AckLog;

/// How long a request may take: nobody will answer it, so not long.
const REQUEST: Duration = Duration::from_secs(3);

impl Stage<'_> {
    pub(super) async fn without_mirrors(&self, cluster: &mut Cluster) -> Result<Summary, Error> {
        let log = AckLog::create(&self.home.path().join(ACK_LOG))?;
        let writers = self.load(cluster, log, "")?;
        writers.wait_acked(self.rows_before(), LOADED, PATIENCE).await?;
        let mut seen = Seen { acked_before_kill: writers.acked(), ..Seen::default() };
        self.tell(format!("{} rows are acknowledged", seen.acked_before_kill))?;

        let lost = self.victim.dying.first().ok_or_else(|| wrong("nobody is to be killed"))?;
        let killed_at = utc_micros();
        cluster.kill_instance(lost.dbid).await?;
        self.tell(format!("{} is killed (SIGKILL) under load", self.victim.title()))?;
        let why = self.goes_down(cluster).await?;
        seen.detect_ms = self.told(cluster, killed_at).await?;
        self.tell(format!("the cluster is down: {why}"))?;
        let before = writers.finish(PATIENCE).await?;
        self.show_state(cluster, "-e").await?;

        let dir = Path::new(&lost.place.data_dir);
        let away = dir.with_extension("away");
        move_folder(dir, &away)?;
        seen.start_refused = Some(self.refused(cluster).await?);
        if let Some(why) = &seen.start_refused {
            self.tell(format!("its data directory is moved away; start is refused: {why}"))?;
        }
        move_folder(&away, dir)?;
        cluster.start(PATIENCE).await?;
        cluster.wait_whole(PATIENCE).await?;
        self.tell("its data directory is back: the cluster is up".to_owned())?;

        // Rows of a file that did not go in before are not made up for.
        let writers = self.load(cluster, before.log, "again/")?;
        writers.wait_acked(1, LOADED, PATIENCE).await?;
        let after = writers.finish(PATIENCE).await?;
        if let Some(why) = &after.first_failure {
            return Err(wrong(&format!("a request failed after the start: {why}")));
        }
        self.show_state(cluster, "-c").await?;
        cluster.wait_applied(PATIENCE).await?;
        cluster.bring_down(PATIENCE).await?;
        let proof = self.prove(cluster, |_| None).await?;
        let Written { in_doubt, failed, first_failure, .. } = before;
        let written = Written { in_doubt, failed, first_failure, ..after };
        let what = (self.victim.kill, self.hosts);
        Ok(Summary::new(what, proof, seen, &written, cluster.peaks()))
    }

    fn load(&self, cluster: &Cluster, log: AckLog, name: &'static str) -> Result<Writers, Error> {
        Writers::start(Load {
            coordinators: cluster.coordinators(),
            contents: cluster.contents(),
            input: self.input,
            rate: self.rate(),
            name,
            patience: REQUEST,
            log,
        })
    }

    /// Waits until no instance of data runs any more: why that is.
    async fn goes_down(&self, cluster: &Cluster) -> Result<String, Error> {
        cluster
            .wait("the cluster does not go down", PATIENCE, async || {
                let catalog = cluster.copies(CATALOG);
                let down = matches!(cluster.state().await?.up, Up::ShutDown { .. });
                let running = cluster.instances().await?.into_iter().any(|(dbid, process)| {
                    let data = !catalog.iter().any(|placed| placed.dbid == dbid);
                    data && matches!(process, Ran::Running { .. } | Ran::Starting)
                });
                Ok(down && !running)
            })
            .await?;
        match cluster.state().await?.up {
            Up::ShutDown { why } => Ok(why),
            _ => Err(wrong("the cluster does not say why it went down")),
        }
    }

    /// When the history says that it goes down: milliseconds behind the kill.
    async fn told(&self, cluster: &Cluster, killed_at: u64) -> Result<Option<u64>, Error> {
        let rows = cluster.history().await?;
        let down = rows
            .iter()
            .find(|row| row.at >= killed_at && row.description.contains("the cluster is down"));
        Ok(down.map(|row| row.at.saturating_sub(killed_at) / 1000))
    }

    async fn refused(&self, cluster: &Cluster) -> Result<String, Error> {
        match cluster.ask(&Request::Start).await? {
            Answer::Denied { text } => Ok(text),
            _ => Err(wrong("a start was not refused though a content has no valid instance")),
        }
    }
}

fn move_folder(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|cause| Error::file("cannot be moved", from, cause))
}
