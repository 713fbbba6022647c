//! `bench chaos`: a cluster of processes is hurt again and again under load, and nothing that was acknowledged is lost.
//!
//! # Layout
//! - `faults`: what is done to it, drawn from a seed
//! - `probe`: a client of each copy, whoever reigns, that stays connected
//! - `verify`: what is looked at in the end
//!
//! Guarantees: one seed draws one list of faults; every row that was acknowledged, by whichever process and however late,
//! is looked for in the end; no process is left. Not here: what a cluster does about it.

mod faults;
mod probe;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_wal::ContentId;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::faults::{Fault, Luck};
use self::probe::Probes;
use super::Interrupts;
use super::cluster::{Cluster, Net, Shape, folder};
use super::load::{Load, Manner, direct, routed};
use crate::error::{Error, Verdict};
use crate::output::{complain, say, say_json};
use crate::process;

/// How long a cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Roles are given back once in so many cycles.
const REBALANCE_EVERY: u32 = 5;
/// Between two rows of a writer.
const PAUSE: Duration = Duration::from_millis(2);
const VALUE_BYTES: usize = 400;

/// What is done.
#[derive(Clone, Debug)]
pub(crate) struct ChaosOptions {
    /// Where files are made.
    pub(crate) dir: Option<PathBuf>,
    /// How often.
    pub(crate) cycles: u32,
    /// What faults are drawn from.
    pub(crate) seed: u64,
    /// How long a process stands still at most.
    pub(crate) longest_stop: Duration,
    /// Each host in a network namespace, and faults of the network too; on so many networks.
    pub(crate) networks: Option<u8>,
    /// One JSON object.
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    seed: u64,
    cycles: u32,
    networks: u8,
    faults: BTreeMap<String, u32>,
    activations: u32,
    /// Copies that were let go because one of a host's two networks was lost.
    let_go_by_one_network: u64,
    longest_recovery_ms: u64,
    requests_failed: u64,
    #[serde(flatten)]
    found: verify::Found,
    seconds: u64,
    ok: bool,
}

/// Hurts a cluster.
///
/// # Errors
/// What could not be made, or did not become whole again.
pub(crate) fn chaos(options: &ChaosOptions) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let net = match options.networks {
        None => Net::Loopback,
        Some(bridges) => {
            Net::possible()
                .map_err(|why| Error::Partial(format!("no network namespaces: {why}")))?;
            Net::Namespaces { bridges }
        }
    };
    let shape = Shape {
        dir: folder(options.dir.as_deref()),
        hosts: 4,
        segments_per_host: 1,
        segment_bytes: 4 << 20,
        keep: false,
        settings: String::new(),
    };
    let runtime = process::runtime()?;
    let began = Instant::now();
    let mut report = runtime.block_on(async {
        let mut cluster = Cluster::start(&shape, net).await?;
        let ended = run(options, &mut cluster, &interrupts).await;
        if !ended.as_ref().is_ok_and(|report| report.ok) {
            cluster.hosts.keep();
            complain(format_args!(
                "seed {}: files are left in {}",
                options.seed,
                shape.dir.display()
            ));
        }
        ended
    })?;
    report.seconds = began.elapsed().as_secs();
    if options.json {
        say_json(&report)?;
    } else {
        say(format_args!(
            "seed {}: {} cycles, {} rows acknowledged, {} lost, {} acknowledged out of turn, {} of {} pairs of copies \
             equal, {} of {} logs sound",
            report.seed,
            report.cycles,
            report.found.acked,
            report.found.lost,
            report.found.out_of_turn,
            report.found.equal,
            report.found.compared,
            report.found.sound,
            report.found.logs,
        ))?;
    }
    Ok(Verdict::good_if(report.ok))
}

async fn run(
    options: &ChaosOptions,
    cluster: &mut Cluster,
    interrupts: &Interrupts,
) -> Result<Report, Error> {
    let contents: Vec<ContentId> = (0..4).map(ContentId).collect();
    let mut writers = Vec::new();
    let mut copies = BTreeMap::new();
    for content in &contents {
        let placed = cluster.layout.instances.iter().filter(|placed| placed.content == *content);
        let addresses: Vec<String> = placed
            .clone()
            .map(|placed| format!("{}:{}", placed.place.address, placed.place.port))
            .collect();
        let everywhere = placed.flat_map(|placed| {
            let host = cluster.layout.host(&placed.place.host);
            let addresses = host.into_iter().flat_map(|host| &host.addresses);
            addresses.map(|address| format!("{address}:{}", placed.place.port))
        });
        writers.push(routed(*content, &cluster.coordinators, REQUEST_TIME));
        writers.push(routed(*content, &cluster.coordinators, REQUEST_TIME));
        writers.push(direct(*content, everywhere.collect(), REQUEST_TIME));
        copies.insert(*content, addresses);
    }
    let manner = Manner { pause: PAUSE, value_bytes: VALUE_BYTES };
    let mut load = Load::start(writers, &contents, manner)?;
    let probes = Probes::start(&copies, load.began(), VALUE_BYTES)?;
    let mut luck = Luck::new(options.seed);
    let mut report = Report {
        bench: "chaos",
        seed: options.seed,
        cycles: 0,
        networks: options.networks.unwrap_or(0),
        faults: BTreeMap::new(),
        activations: 0,
        let_go_by_one_network: 0,
        longest_recovery_ms: 0,
        requests_failed: 0,
        found: verify::Found::default(),
        seconds: 0,
        ok: false,
    };
    for cycle in 1..=options.cycles {
        interrupts.check()?;
        let state = heal(cluster).await?;
        let fault = Fault::draw(&mut luck, options, &cluster.hosts.net, contents.len());
        let named = fault.name();
        let why = |error: Error| {
            Error::Partial(format!("seed {}, cycle {cycle}, {fault:?}: {error}", options.seed))
        };
        sleep(Duration::from_millis(luck.below(150))).await;
        let activated = faults::carry_out(&fault, cluster, &state, &mut luck).await.map_err(why)?;
        if matches!(fault, Fault::OneNetwork(..)) {
            report.let_go_by_one_network += cluster.state().await.map_or(0, |state| out(&state));
        }
        let since = Instant::now();
        heal(cluster).await.map_err(why)?;
        let took = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.longest_recovery_ms = report.longest_recovery_ms.max(took);
        report.activations += u32::from(activated);
        *report.faults.entry(named).or_default() += 1;
        report.cycles = cycle;
        if cycle % REBALANCE_EVERY == 0 {
            cluster.rebalance(PATIENCE).await.map_err(why)?;
        }
        if !options.json {
            say(format_args!(
                "{cycle} of {}: {fault:?}, whole again after {took} ms, {} rows",
                options.cycles,
                load.acked()
            ))?;
        }
    }
    heal(cluster).await?;
    load.end();
    let mut acked = load.take();
    acked.extend(probes.end().await);
    let (refused, in_doubt) = load.failed();
    report.requests_failed = refused + in_doubt;
    if report.requests_failed > 0 {
        complain(format_args!("{} requests failed: {}", report.requests_failed, load.why()));
    }
    report.found = verify::verify(cluster, &contents, &acked, VALUE_BYTES).await?;
    report.ok = report.found.holds();
    Ok(report)
}

/// How many copies commits do not wait for.
fn out(state: &outrigger_cluster::operator::ClusterState) -> u64 {
    state.contents.iter().flat_map(|content| &content.copies).filter(|copy| !copy.in_sync).count()
        as u64
}

/// Whatever does not run is started again, and every copy brought back.
async fn heal(cluster: &mut Cluster) -> Result<outrigger_cluster::operator::ClusterState, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        for at in 0..cluster.hosts.all.len() {
            cluster.hosts.start_agent(at)?;
        }
        cluster.run_coordinators().await;
        match cluster.recover(Duration::from_secs(5)).await {
            Ok(state) => return Ok(state),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => {}
        }
    }
}
