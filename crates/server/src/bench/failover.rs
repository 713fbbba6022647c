//! `bench failover`: how long writers wait while a primary, a mirror or a host is lost, and while roles change.
//!
//! Guarantees: a pause is measured from acknowledgement to acknowledgement, by writers that write one row after the
//! other, through the coordinator's port and straight; between two losses everything is in sync and in its preferred
//! role again. Not here: a verdict; no test is timed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_cluster::operator::ClusterState;
use outrigger_wal::ContentId;
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::sleep;

use super::Interrupts;
use super::cluster::{CATALOG, Cluster, Net, Shape, folder, pair, signal};
use super::figures::as_f64;
use super::load::{Acked, Load, Manner, Way, direct, routed};
use super::load_average;
use crate::error::{Error, Verdict};
use crate::output::{complain, say, say_json};
use crate::process;

/// How long a cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The load runs so long before something happens, and behind it.
const CALM: Duration = Duration::from_millis(300);
/// A loss that nobody has got over by then counts as so long.
const LONGEST: Duration = Duration::from_secs(20);
const HOSTS: u8 = 4;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct FailoverOptions {
    /// Where files are made.
    pub(crate) dir: Option<PathBuf>,
    /// How often.
    pub(crate) runs: u32,
    /// Writers of each content and way.
    pub(crate) writers: u32,
    /// One JSON object.
    pub(crate) json: bool,
}

/// Pauses of one kind, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
struct Pauses {
    p50_ms: f64,
    max_ms: f64,
    all_ms: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    runs: u32,
    hosts: u8,
    /// How a host was cut off: `namespaces` or `sigstop`.
    cut_by: &'static str,
    writers: u32,
    acked: u64,
    requests_failed: u64,
    /// Of those, while roles were given back.
    requests_failed_in_rebalance: u64,
    load_average: String,
    pauses: BTreeMap<&'static str, Pauses>,
}

/// Measures.
///
/// # Errors
/// What could not be made, or does not become whole again.
pub(crate) fn failover(options: &FailoverOptions) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let net = match Net::possible() {
        Ok(()) => Net::Namespaces { bridges: 1 },
        Err(why) => {
            complain(format_args!("hosts are stopped instead of cut off: {why}"));
            Net::Loopback
        }
    };
    let cut_by = if matches!(net, Net::Loopback) { "sigstop" } else { "namespaces" };
    let shape = Shape {
        dir: folder(options.dir.as_deref()),
        hosts: HOSTS,
        segments_per_host: 1,
        segment_bytes: 8 << 20,
        keep: std::env::var_os("OUTRIGGER_KEEP").is_some(),
        settings: String::new(),
    };
    let runtime = process::runtime()?;
    let report = runtime.block_on(async {
        let cluster = Cluster::start(&shape, net).await?;
        let mut run = Run::new(&cluster, options.writers)?;
        for round in 0..options.runs {
            interrupts.check()?;
            run.round(round).await?;
            if !options.json {
                say(format_args!("{} of {}: {}", round + 1, options.runs, run.latest()))?;
            }
        }
        Ok::<_, Error>(run.report(options, cut_by))
    })?;
    if options.json {
        say_json(&report)?;
    } else {
        for (name, pauses) in &report.pauses {
            say(format_args!(
                "{name:<40} p50 {:>7.1} ms  max {:>7.1} ms",
                pauses.p50_ms, pauses.max_ms
            ))?;
        }
        say(format_args!(
            "{} rows acknowledged, {} requests failed, {} of them while roles were given back; hosts cut by {cut_by}",
            report.acked, report.requests_failed, report.requests_failed_in_rebalance
        ))?;
    }
    Ok(Verdict::Good)
}

struct Run<'a> {
    cluster: &'a Cluster,
    load: Load,
    contents: Vec<ContentId>,
    pauses: BTreeMap<&'static str, Vec<f64>>,
    acked: u64,
    failed_in_rebalance: u64,
}

/// The names under which pauses are reported: routed, direct.
type Names = [&'static str; 2];

const PRIMARY_KILLED: Names = ["primary_killed_routed", "primary_killed_direct"];
const MIRROR_KILLED: Names = ["mirror_killed_routed", "mirror_killed_direct"];
const HOST_CUT: Names = ["host_cut_primary_routed", "host_cut_primary_direct"];
const HOST_CUT_MIRROR: Names = ["host_cut_mirror_routed", "host_cut_mirror_direct"];
const REBALANCE: Names = ["rebalance_routed", "rebalance_direct"];

impl<'a> Run<'a> {
    fn new(cluster: &'a Cluster, writers: u32) -> Result<Self, Error> {
        let contents: Vec<ContentId> = (0..i32::from(HOSTS)).map(ContentId).collect();
        let mut all = Vec::new();
        for content in &contents {
            let copies =
                cluster.layout.instances.iter().filter(|placed| placed.content == *content);
            let addresses: Vec<String> = copies
                .map(|placed| format!("{}:{}", placed.place.address, placed.place.port))
                .collect();
            for _ in 0..writers {
                all.push(routed(*content, &cluster.coordinators, LONGEST));
                all.push(direct(*content, addresses.clone(), LONGEST));
            }
        }
        let manner = Manner { pause: Duration::ZERO, value_bytes: 100 };
        let load = Load::start(all, &contents, manner)?;
        let pauses = BTreeMap::new();
        Ok(Self { cluster, load, contents, pauses, acked: 0, failed_in_rebalance: 0 })
    }

    async fn round(&mut self, round: u32) -> Result<(), Error> {
        let count = u32::try_from(self.contents.len()).unwrap_or(1);
        let at = |shift: u32| ContentId(i32::try_from((round + shift) % count).unwrap_or(0));
        let state = self.cluster.recover(PATIENCE).await?;
        self.kill(&state, at(0), 0, PRIMARY_KILLED).await?;
        self.rebalance().await?;
        let state = self.cluster.recover(PATIENCE).await?;
        self.kill(&state, at(1), 1, MIRROR_KILLED).await?;
        let state = self.cluster.recover(PATIENCE).await?;
        self.cut(&state, round).await?;
        self.rebalance().await?;
        self.acked += self.load.take().len() as u64;
        Ok(())
    }

    /// Kills the primary (0) or the mirror (1) of a content.
    async fn kill(
        &mut self,
        state: &ClusterState,
        content: ContentId,
        which: usize,
        names: Names,
    ) -> Result<(), Error> {
        let Some((dbid, host)) = pair(state, content).and_then(|pair| pair.into_iter().nth(which))
        else {
            return Ok(());
        };
        let epoch = epoch(state, content);
        let pids = self.cluster.hosts.instance(&host, dbid);
        let from = self.load.acked();
        sleep(CALM).await;
        let killed = self.load.now();
        signal(&pids, Signal::KILL);
        self.settle(content, killed, (which == 0).then_some(epoch)).await;
        let acks = self.load.since(from);
        for (way, name) in [Way::Routed, Way::Direct].into_iter().zip(names) {
            let pause = match which {
                0 => change(&acks, content, way, epoch, killed),
                _ => longest(&acks, content, way, killed),
            };
            self.note(name, pause);
        }
        Ok(())
    }

    /// Cuts off the hosts behind the coordinator's, in turn.
    async fn cut(&mut self, state: &ClusterState, round: u32) -> Result<(), Error> {
        let hosts = &self.cluster.hosts;
        let at = 1 + usize::try_from(round).unwrap_or(0) % hosts.all.len().saturating_sub(1).max(1);
        let Some(host) = hosts.all.get(at).map(|host| host.name.clone()) else { return Ok(()) };
        let of = |which: usize| {
            let here = |content: &&ContentId| {
                let pair = pair(state, **content).and_then(|pair| pair.into_iter().nth(which));
                pair.is_some_and(|(_, on)| on == host)
            };
            self.contents.iter().find(here).copied()
        };
        let (lost, bereft) = (of(0), of(1));
        let from = self.load.acked();
        sleep(CALM).await;
        let cut = self.load.now();
        let stopped = hosts.everything(&host);
        if matches!(hosts.net, Net::Loopback) {
            signal(&stopped, Signal::STOP);
        } else {
            hosts.net.cut_off(at)?;
        }
        if let Some(content) = lost {
            self.settle(content, cut, Some(epoch(state, content))).await;
        }
        if let Some(content) = bereft {
            self.settle(content, cut, None).await;
        }
        let acks = self.load.since(from);
        if matches!(self.cluster.hosts.net, Net::Loopback) {
            signal(&stopped, Signal::CONT);
        } else {
            self.cluster.hosts.net.mend()?;
        }
        for (place, way) in [Way::Routed, Way::Direct].into_iter().enumerate() {
            let name = |names: Names| names.into_iter().nth(place).unwrap_or_default();
            if let Some(content) = lost {
                self.note(name(HOST_CUT), change(&acks, content, way, epoch(state, content), cut));
            }
            if let Some(content) = bereft {
                self.note(name(HOST_CUT_MIRROR), longest(&acks, content, way, cut));
            }
        }
        Ok(())
    }

    async fn rebalance(&mut self) -> Result<(), Error> {
        let state = self.cluster.recover(PATIENCE).await?;
        let away: Vec<ContentId> = state
            .contents
            .iter()
            .filter(|content| content.content != CATALOG)
            .filter(|content| {
                use outrigger_cluster::catalog::tables::Preferred;
                super::cluster::instance(&state, content.primary)
                    .is_some_and(|row| row.row.preferred == Preferred::Mirror)
            })
            .map(|content| content.content)
            .collect();
        let (before, from) = (self.failures(), self.load.acked());
        sleep(CALM).await;
        let began = self.load.now();
        self.cluster.rebalance(PATIENCE).await?;
        sleep(CALM).await;
        let acks = self.load.since(from);
        self.failed_in_rebalance += self.failures() - before;
        for content in away {
            for (way, name) in [Way::Routed, Way::Direct].into_iter().zip(REBALANCE) {
                self.note(name, longest(&acks, content, way, began));
            }
        }
        Ok(())
    }

    /// Waits until writers both ways go on, behind a moment and, where one is given, behind an epoch.
    async fn settle(&self, content: ContentId, behind: u64, epoch: Option<u64>) {
        let until = tokio::time::Instant::now() + LONGEST;
        // An acknowledgement that was on its way says nothing: the loss has to have been felt.
        let felt = behind + 1_200_000;
        let mut from = self.load.acked();
        let (mut routed, mut direct) = (false, false);
        while !(routed && direct) && tokio::time::Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
            let acks = self.load.since(from);
            from += acks.len();
            for ack in acks.iter().filter(|ack| ack.content == content) {
                let over = epoch.map_or(ack.at >= felt, |epoch| ack.epoch > epoch);
                match ack.way {
                    Way::Routed => routed |= over,
                    Way::Direct => direct |= over,
                    Way::Copy(_) => {}
                }
            }
        }
        sleep(CALM).await;
    }

    fn failures(&self) -> u64 {
        let (refused, in_doubt) = self.load.failed();
        refused + in_doubt
    }

    fn note(&mut self, name: &'static str, pause: Option<u64>) {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        let millis = as_f64(pause.unwrap_or(longest)) / 1000.0;
        self.pauses.entry(name).or_default().push(millis);
    }

    fn latest(&self) -> String {
        let latest =
            |(name, all): (&&str, &Vec<f64>)| all.last().map(|last| format!("{name} {last:.0}"));
        self.pauses.iter().filter_map(latest).collect::<Vec<_>>().join(", ")
    }

    fn report(mut self, options: &FailoverOptions, cut_by: &'static str) -> Report {
        let failed = self.failures();
        if failed > 0 {
            complain(format_args!("{failed} requests failed: {}", self.load.why()));
        }
        self.load.end();
        let pauses = self.pauses.into_iter().map(|(name, mut all)| {
            all.sort_by(f64::total_cmp);
            let p50_ms = all.get(all.len() / 2).copied().unwrap_or_default();
            let max_ms = all.last().copied().unwrap_or_default();
            (name, Pauses { p50_ms, max_ms, all_ms: all })
        });
        Report {
            bench: "failover",
            runs: options.runs,
            hosts: HOSTS,
            cut_by,
            writers: options.writers,
            acked: self.acked,
            requests_failed: failed,
            requests_failed_in_rebalance: self.failed_in_rebalance,
            load_average: load_average(),
            pauses: pauses.collect(),
        }
    }
}

fn epoch(state: &ClusterState, content: ContentId) -> u64 {
    let found = state.contents.iter().find(|row| row.content == content);
    found.map_or(0, |row| row.epoch.number)
}

/// From the last acknowledgement before a moment to the first of a reign behind this one, in microseconds.
fn change(acks: &[Acked], content: ContentId, way: Way, epoch: u64, moment: u64) -> Option<u64> {
    let of = || acks.iter().filter(|ack| ack.content == content && ack.way == way);
    let first = of().filter(|ack| ack.epoch > epoch).map(|ack| ack.at).min()?;
    // One that was on its way is told its fate by the new primary: it does not count as before.
    let before = of().filter(|ack| ack.at <= moment).map(|ack| ack.at).max()?;
    Some(first - before)
}

/// The longest time without an acknowledgement that ends behind a moment.
fn longest(acks: &[Acked], content: ContentId, way: Way, behind: u64) -> Option<u64> {
    let mut at: Vec<u64> = acks
        .iter()
        .filter(|ack| ack.content == content && ack.way == way)
        .map(|ack| ack.at)
        .collect();
    at.sort_unstable();
    let pairs = at.iter().zip(at.iter().skip(1)).filter(|(_, next)| **next >= behind);
    pairs.map(|(one, next)| next - one).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(epoch: u64, at: u64) -> Acked {
        let (content, way) = (ContentId(0), Way::Routed);
        Acked { content, way, writer: 0, number: at, epoch, begun: at, at }
    }

    #[test]
    fn a_change_is_from_the_last_of_the_old_reign_to_the_first_of_the_new() {
        // What the old reign acknowledged is told late, behind the first word of the new one.
        let acks = [ack(1, 10), ack(1, 20), ack(1, 89), ack(2, 90), ack(1, 95), ack(2, 100)];
        assert_eq!(change(&acks, ContentId(0), Way::Routed, 1, 30), Some(70));
        assert_eq!(change(&acks, ContentId(0), Way::Direct, 1, 30), None);
    }

    #[test]
    fn the_longest_pause_ends_behind_the_moment() {
        let acks = [ack(1, 10), ack(1, 500), ack(1, 510), ack(1, 600)];
        assert_eq!(longest(&acks, ContentId(0), Way::Routed, 505), Some(90));
        assert_eq!(longest(&acks, ContentId(0), Way::Routed, 20), Some(490));
    }
}
