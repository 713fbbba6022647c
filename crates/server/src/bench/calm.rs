//! `bench calm`: full load, and nothing is done to the cluster: nothing may fail over, and no copy be left.
//!
//! Guarantees: every epoch and every in-sync set is compared, not only the state at the end: versions only grow.
//! Not here: speed.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_cluster::operator::ClusterState;
use outrigger_wal::ContentId;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Interrupts;
use super::cluster::{Cluster, Net, Shape, folder};
use super::load::{Load, Manner, direct, routed};
use super::load_average;
use crate::error::{Error, Verdict};
use crate::output::{say, say_json};
use crate::process;

/// How long a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Clone, Debug)]
pub(crate) struct CalmOptions {
    /// Where files are made.
    pub(crate) dir: Option<PathBuf>,
    /// For how long.
    pub(crate) time: Duration,
    /// Writers of each content and way.
    pub(crate) writers: u32,
    /// One JSON object.
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    seconds: u64,
    writers: u32,
    acked: u64,
    requests_failed: u64,
    /// Configurations that were recorded meanwhile: a failover, or a copy that was let go.
    changes: u64,
    load_average: String,
}

/// Runs it.
///
/// # Errors
/// What could not be made.
pub(crate) fn calm(options: &CalmOptions) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let shape = Shape {
        dir: folder(options.dir.as_deref()),
        hosts: 4,
        segments_per_host: 1,
        segment_bytes: 64 << 20,
        keep: false,
        settings: String::new(),
    };
    let runtime = process::runtime()?;
    let report = runtime.block_on(async {
        let cluster = Cluster::start(&shape, Net::Loopback).await?;
        let contents: Vec<ContentId> = (0..4).map(ContentId).collect();
        let mut writers = Vec::new();
        for content in &contents {
            let placed =
                cluster.layout.instances.iter().filter(|placed| placed.content == *content);
            let addresses: Vec<String> = placed
                .map(|placed| format!("{}:{}", placed.place.address, placed.place.port))
                .collect();
            for _ in 0..options.writers {
                writers.push(routed(*content, &cluster.coordinators, REQUEST_TIME));
                writers.push(direct(*content, addresses.clone(), REQUEST_TIME));
            }
        }
        let before = versions(&cluster.state().await?);
        let manner = Manner { pause: Duration::ZERO, value_bytes: 200 };
        let mut load = Load::start(writers, &contents, manner)?;
        let until = Instant::now() + options.time;
        let mut acked = 0;
        while Instant::now() < until {
            interrupts.check()?;
            sleep(LOOK).await;
            acked += load.take().len() as u64;
        }
        let after = versions(&cluster.state().await?);
        load.end();
        acked += load.take().len() as u64;
        let (refused, in_doubt) = load.failed();
        let changes =
            after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before));
        Ok::<_, Error>(Report {
            bench: "calm",
            seconds: options.time.as_secs(),
            writers: options.writers,
            acked,
            requests_failed: refused + in_doubt,
            changes: changes.sum(),
            load_average: load_average(),
        })
    })?;
    if options.json {
        say_json(&report)?;
    } else {
        say(format_args!(
            "{} s: {} rows acknowledged, {} requests failed, {} configurations changed",
            report.seconds, report.acked, report.requests_failed, report.changes
        ))?;
    }
    Ok(Verdict::good_if(report.changes == 0 && report.requests_failed == 0))
}

/// The version of each content's configuration, the catalog's too.
fn versions(state: &ClusterState) -> Vec<u64> {
    state.contents.iter().map(|content| content.version.0).collect()
}
