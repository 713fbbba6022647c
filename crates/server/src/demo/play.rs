//! The demo with mirrors: killed under load, failed over, recovered, rebalanced, proved.
//!
//! Not here: what happens without mirrors (`unmirrored`).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_cluster::agent::Process as Ran;
use outrigger_cluster::catalog::tables::{Preferred, Rebuild, Wanted};
use outrigger_cluster::operator::{ClusterState, RecoverMode, Request};
use outrigger_cluster::placement::{CATALOG, Role};
use outrigger_wal::ContentId;

use super::cluster::{Cluster, address, content_in, wrong};
use super::report::{MISSED_BYTES, Seen, Summary};
use super::stalls::{Stretch, longest_gap, p99};
use super::victim::Kill;
use super::writers::{Load, Writers, Written};
use super::{ACK_LOG, LOADED, PATIENCE, Stage};
use crate::error::Error;
use crate::kv::protocol::Joined;
use crate::load::ack_log::AckLog;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(15);
/// How long all is under load again.
const TOGETHER: Duration = Duration::from_millis(600);
/// A setting that is changed to show that the catalog commits; its value stays what it is by default.
const SETTING: (&str, u64) = ("fts_probe_retries", 1);

/// How copies joined, by content.
type Joins = BTreeMap<ContentId, Joined>;

/// When things happened, since the load began.
struct Times {
    killed: Duration,
    /// All contents commit again.
    goes_on: Duration,
    balancing: Stretch,
}

/// What a recovery took.
#[derive(Default)]
struct Recovered {
    mode: Option<&'static str>,
    joins: Joins,
    wire_bytes: u64,
    cut_bytes: u64,
}

impl Stage<'_> {
    pub(super) async fn with_mirrors(&self, cluster: &mut Cluster) -> Result<Summary, Error> {
        let writers = Writers::start(Load {
            coordinators: cluster.coordinators(),
            contents: cluster.contents(),
            input: self.input,
            rate: self.rate(),
            name: "",
            patience: REQUEST,
            log: AckLog::create(&self.home.path().join(ACK_LOG))?,
        })?;
        writers.wait_acked(self.rows_before(), LOADED, PATIENCE).await?;
        let mut seen = Seen { acked_before_kill: writers.acked(), ..Seen::default() };
        self.tell(format!("{} rows are acknowledged", seen.acked_before_kill))?;

        let joined_before = self.joins(cluster).await?;
        let killed_at = utc_micros();
        let killed = writers.now();
        self.kill(cluster).await?;
        self.tell(format!("{} is killed (SIGKILL) under load", self.victim.title()))?;
        seen.detect_ms = self.failed_over(cluster, &writers, killed_at).await?;
        let goes_on = writers.now();

        tokio::time::sleep(LOADED).await;
        if self.victim.kill.takes_data() {
            // More than that: what is acknowledged on all of them together, and stored once.
            writers.wait_missed(MISSED_BYTES + MISSED_BYTES / 4, PATIENCE).await?;
        }
        if self.options.input.is_some() {
            writers.wait_rows_done(PATIENCE * 2).await?;
        }
        self.show_state(cluster, "-e").await?;

        let recovered = self.recover(cluster, &joined_before).await?;
        writers.miss(&std::collections::BTreeSet::new());
        if let Some(mode) = recovered.mode {
            self.tell(format!("all copies are in sync again: {mode}"))?;
        }
        let from = writers.now();
        seen.out_of_role = self.rebalance(cluster).await?;
        let balancing = Stretch { from, to: writers.now() };
        tokio::time::sleep(TOGETHER).await;

        let times = Times { killed, goes_on, balancing };
        let written = writers.finish(PATIENCE).await?;
        self.measure(cluster, &times, &written, &mut seen);
        seen.recover_mode = recovered.mode;
        seen.recover_bytes = recovered.wire_bytes;
        seen.cut_bytes = recovered.cut_bytes;
        self.show_state(cluster, "-c").await?;
        cluster.wait_applied(PATIENCE).await?;
        cluster.bring_down(PATIENCE).await?;
        let missed =
            |content| recovered.joins.get(&content).map(|join: &Joined| (join.from, join.to));
        let proof = self.prove(cluster, missed).await?;
        let what = (self.victim.kill, self.hosts);
        Ok(Summary::new(what, proof, seen, &written, cluster.peaks()))
    }

    async fn kill(&self, cluster: &mut Cluster) -> Result<(), Error> {
        if self.victim.kill == Kill::Host {
            return cluster.kill_host(&self.victim.host).await;
        }
        for placed in &self.victim.dying {
            cluster.kill_instance(placed.dbid).await?;
        }
        Ok(())
    }

    /// Waits until the cluster goes on without the victim: how long it took to be seen, in milliseconds.
    async fn failed_over(
        &self,
        cluster: &Cluster,
        writers: &Writers,
        killed_at: u64,
    ) -> Result<Option<u64>, Error> {
        let mut detected = None;
        if self.victim.kill == Kill::Coordinator {
            cluster.activate_standby(PATIENCE).await?;
            self.tell("the standby is activated: it is the coordinator now".to_owned())?;
        }
        cluster
            .wait("the loss is not seen", PATIENCE, async || {
                Ok(self.is_out(&cluster.state().await?))
            })
            .await?;
        let affected = self.victim.affected(cluster.layout());
        if self.victim.kill.takes_data() {
            writers.miss(&affected);
            detected = self.detected(cluster, killed_at).await?;
        }
        if self.victim.kill == Kill::Standby {
            detected = Some(utc_micros().saturating_sub(killed_at) / 1000);
            let (key, value) = (SETTING.0.to_owned(), SETTING.1);
            cluster.order(&Request::Set { key, value }).await?;
            self.tell("the catalog commits without its standby".to_owned())?;
        }
        writers.wait_committed(&affected, writers.now(), PATIENCE).await?;
        self.tell("every content commits again".to_owned())?;
        Ok(detected)
    }

    /// Whether nobody counts on the victim any more.
    fn is_out(&self, state: &ClusterState) -> bool {
        self.victim.dying.iter().all(|placed| {
            let row = state.instances.iter().find(|row| row.dbid == placed.dbid);
            let content = content_in(state, placed.content);
            row.zip(content).is_some_and(|(row, content)| {
                let dead = row.row.instance;
                let copy = content.copies.iter().find(|copy| copy.instance == dead);
                // A standby may still be waited for; it is not in touch.
                content.primary != dead
                    && copy.is_none_or(|copy| {
                        !copy.in_sync || (content.content == CATALOG && !copy.in_touch)
                    })
            })
        })
    }

    /// When the last of the affected contents was changed, by the coordinator's history: milliseconds behind the kill.
    async fn detected(&self, cluster: &Cluster, killed_at: u64) -> Result<Option<u64>, Error> {
        let rows = cluster.history().await?;
        let first = |dbid| {
            let mut found = rows.iter().filter(|row| {
                row.dbid == dbid && row.at >= killed_at && row.description.contains("update role")
            });
            found.next().map(|row| row.at.saturating_sub(killed_at) / 1000)
        };
        let all: Option<Vec<u64>> = self.victim.dying.iter().map(|at| first(at.dbid)).collect();
        Ok(all.and_then(|all| all.into_iter().max()))
    }

    /// How copies joined last, as the acting primaries of the affected contents say.
    async fn joins(&self, cluster: &Cluster) -> Result<Joins, Error> {
        let state = cluster.state().await?;
        let mut joins = Joins::new();
        if !self.victim.kill.takes_data() {
            return Ok(joins);
        }
        for content in self.victim.affected(cluster.layout()) {
            let primary = content_in(&state, content).and_then(|at| {
                let mut copies = at.copies.iter();
                copies.find(|copy| copy.instance == at.primary)?.addresses.first().cloned()
            });
            let primary = primary.ok_or_else(|| wrong("a content has no primary"))?;
            if let Some(joined) = cluster.status(&primary, content).await?.joined {
                joins.insert(content, joined);
            }
        }
        Ok(joins)
    }

    /// Lets the victim come back, and waits until all is in sync.
    async fn recover(&self, cluster: &mut Cluster, before: &Joins) -> Result<Recovered, Error> {
        match self.victim.kill {
            Kill::Host => {
                let host = &self.victim.host;
                cluster.start_agent(host).await?;
                self.tell(format!("the agent of host {host} is started again"))?;
                cluster
                    .wait("the agent is not seen", PATIENCE, async || {
                        Ok(cluster.state().await?.hosts.iter().all(|host| host.agent_here))
                    })
                    .await?;
            }
            Kill::Coordinator | Kill::Standby => {
                for placed in &self.victim.dying {
                    cluster.start_catalog(placed).await?;
                }
                self.tell(format!("{} is started again, as a standby", self.victim.title()))?;
            }
            Kill::Primary | Kill::Mirror => {}
        }
        if !self.victim.kill.takes_data() {
            cluster.wait_whole(PATIENCE).await?;
            return Ok(Recovered::default());
        }
        let back =
            Request::BringBack { contents: Vec::new(), mode: RecoverMode::Auto, max_rate_bytes: 0 };
        let told = cluster.order(&back).await?;
        self.tell(format!("recover: {told}"))?;
        let copied = std::sync::atomic::AtomicU64::new(0);
        cluster
            .wait("the cluster is not whole again", PATIENCE * 2, async || {
                let state = cluster.state().await?;
                let rebuilding = state.instances.iter().map(|row| match row.process {
                    Some(Ran::Rebuilding { done_bytes, .. }) => done_bytes,
                    _ => 0,
                });
                let bytes: u64 = rebuilding.sum();
                copied.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
                Ok(state
                    .contents
                    .iter()
                    .all(|content| content.copies.iter().all(|copy| copy.in_sync)))
            })
            .await?;
        let state = cluster.wait_whole(PATIENCE).await?;
        let affected = self.victim.affected(cluster.layout()).len();
        cluster
            .wait("a primary does not tell how its copy joined", PATIENCE, async || {
                let joins = self.joins(cluster).await?;
                let fresh =
                    joins.iter().filter(|(content, join)| before.get(content) != Some(join));
                Ok(fresh.count() == affected)
            })
            .await?;
        let mut recovered = Recovered { joins: self.joins(cluster).await?, ..Recovered::default() };
        let wire: u64 = recovered.joins.values().map(|join| join.wire_bytes).sum();
        recovered.wire_bytes = wire.saturating_add(copied.into_inner());
        recovered.mode = Some(self.mode(&state));
        for placed in self.victim.dying.iter().filter(|at| at.role == Role::Primary) {
            let cut = cluster.status(&address(placed), placed.content).await?.cut;
            let cut = cut.map_or(0, |cut| cut.bytes);
            recovered.cut_bytes = recovered.cut_bytes.saturating_add(cut);
        }
        Ok(recovered)
    }

    /// The most that any of the victim's copies took to come back.
    fn mode(&self, state: &ClusterState) -> &'static str {
        let wanted = self.victim.dying.iter().filter_map(|placed| {
            Some(state.instances.iter().find(|row| row.dbid == placed.dbid)?.row.wanted)
        });
        let rank = wanted.map(|wanted| match wanted {
            Wanted::Rebuild(Rebuild::Full) => 2,
            Wanted::Rebuild(Rebuild::Differential) => 1,
            _ => 0,
        });
        match rank.max() {
            Some(2) => "full",
            Some(1) => "differential",
            _ => "incremental",
        }
    }

    /// Gives every instance its preferred role again: how many do not have it at the end.
    async fn rebalance(&self, cluster: &Cluster) -> Result<u64, Error> {
        if out_of_role(&cluster.state().await?) == 0 {
            return Ok(0);
        }
        let told = cluster.order(&Request::Rebalance).await?;
        self.tell(format!("recover -r: {told}"))?;
        cluster
            .wait("the roles are not as preferred", PATIENCE, async || {
                let state = cluster.state().await?;
                let whole = |content: &&outrigger_cluster::operator::ContentState| {
                    content.copies.iter().all(|copy| copy.in_sync)
                };
                Ok(out_of_role(&state) == 0 && state.contents.iter().all(|at| whole(&at)))
            })
            .await?;
        self.tell("every instance has its preferred role again".to_owned())?;
        Ok(out_of_role(&cluster.state().await?))
    }

    fn measure(&self, cluster: &Cluster, times: &Times, written: &Written, seen: &mut Seen) {
        let affected = self.victim.affected(cluster.layout());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Times { killed, goes_on, balancing } = *times;
        let failover = Stretch { from: killed, to: goes_on };
        seen.failover_ms = longest_gap(&written.marks, &affected, failover).map(millis);
        let around = Stretch { from: killed, to: goes_on + LOADED };
        seen.stall_p99_ms = p99(&written.marks, &affected, around).map(millis);
        let handed = self.victim.contents(Role::Primary);
        if !handed.is_empty() {
            let pause = longest_gap(&written.marks, &handed, balancing);
            seen.rebalance_pause_ms = pause.map(millis);
        }
    }
}

/// How many contents of data have another primary than they were made with.
fn out_of_role(state: &ClusterState) -> u64 {
    let preferred = state
        .instances
        .iter()
        .filter(|row| row.row.content != CATALOG && row.row.preferred == Preferred::Primary);
    let other = preferred.filter(|row| {
        content_in(state, row.row.content).is_none_or(|at| at.primary != row.row.instance)
    });
    other.count() as u64
}

/// Microseconds, UTC, by this machine's clock, which is the coordinator's too.
pub(super) fn utc_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
