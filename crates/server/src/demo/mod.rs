//! The demo: a cluster of real processes under load, something in it is killed, and it is proved that no acknowledged
//! row is lost.
//!
//! An agent a host, the coordinator, its standby, primaries and mirrors are processes of this program on
//! loopback. Guarantees: nothing of it outlives the demo, the folder neither without `--keep`, whenever it is
//! interrupted; the verdict is good only if every line of the ack log is in the logs and stores of all copies, and a
//! loss could have shown. Not here: the load ([`crate::load`]), how a cluster is made ([`crate::found`]).
//!
//! # Layout
//! - `play`: with mirrors: killed, failed over, recovered, rebalanced; `unmirrored`: without
//! - `cluster`: the processes; `ground`: where they listen; `victim`: who is killed
//! - `writers`: the load; `stalls`: when it was acknowledged
//! - `proof`, `report`: what was found
//! - `home`: the folder; [`child`], [`memory`]: child processes, and what they use

pub(crate) mod child;
mod cluster;
mod ground;
mod home;
pub(crate) mod memory;
mod play;
mod proof;
mod report;
mod stalls;
mod unmirrored;
mod victim;
mod writers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use outrigger_cluster::placement::CATALOG;

use self::cluster::{Cluster, Hosts};
use self::home::Home;
use self::proof::{Copies, Proof, prove};
use self::report::Summary;
pub(crate) use self::victim::Kill;
use self::victim::Victim;
use crate::error::{Error, Verdict};
use crate::load::ack_log;
use crate::load::rows::{Input, airports};
use crate::output::{say, say_bytes};
use crate::process::{self, stop::Signals};

/// The ack log's name in the demo's folder.
const ACK_LOG: &str = "acks.jsonl";
/// How long the cluster is under load before the kill, and behind it, at least.
const LOADED: Duration = Duration::from_millis(2_200);
/// Which part of rows that do not repeat goes in before the kill, in percent.
const BEFORE_PERCENT: u64 = 60;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where mirrors are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Mirrors {
    /// Those of a host are all on the next one
    Group,
    /// Those of a host are each on another one
    Spread,
    /// There are none: when a primary is lost, the cluster goes down in order
    None,
}

impl Mirrors {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Spread => "spread",
            Self::None => "none",
        }
    }
}

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    pub(crate) hosts: u8,
    pub(crate) segments_per_host: u8,
    pub(crate) mirroring: Mirrors,
    /// `None`: a host, or what there is without mirrors.
    pub(crate) kill: Option<Kill>,
    pub(crate) input: Option<(PathBuf, String)>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) json: bool,
}

/// Runs it.
///
/// # Errors
/// What could not be done; everything is stopped then, and cleared away unless it is kept.
pub(crate) fn run(options: DemoOptions) -> Result<Verdict, Error> {
    // Whatever is wrong with the rows shows before anything is started.
    let input = match &options.input {
        Some((path, key)) => Input::open(path, key)?,
        None => airports()?,
    };
    let kill = kill_of(&options)?;
    let runtime = process::runtime()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::new()?
    };
    let home = Home::make(options.dir.as_deref(), options.keep)?;
    let DemoOptions { hosts, segments_per_host, mirroring, .. } = options;
    let hosts = Hosts { hosts, segments_per_host, mirroring };
    let mut cluster = Cluster::plan(home.path(), &hosts)?;
    let victim = Victim::choose(kill, cluster.layout())?;
    let stage = Stage { options: &options, hosts, input: &input, home: &home, victim };
    let verdict = runtime.block_on(async {
        let played = tokio::select! {
            biased;
            _ = signals.next() => None,
            summary = stage.play(&mut cluster) => Some(summary),
        };
        let verdict = match played {
            None => Err(Error::Interrupted { left: home.left() }),
            Some(summary) => summary.map(|summary| Verdict::good_if(summary.is_good())),
        };
        if verdict.is_ok() && options.keep {
            signals.next().await;
        }
        // Once more, and what still runs is killed.
        tokio::select! {
            biased;
            _ = signals.next() => verdict,
            ended = cluster.end() => verdict.and_then(|verdict| ended.map(|()| verdict)),
        }
    });
    // What still reads in the folder is not waited for.
    runtime.shutdown_background();
    verdict
}

/// What is killed; without mirrors there is less to choose from.
fn kill_of(options: &DemoOptions) -> Result<Kill, Error> {
    let refused = |cause: &str| Error::Option { option: "--kill", cause: cause.to_owned() };
    let mirrored = options.mirroring != Mirrors::None;
    match options.kill {
        None if mirrored => Ok(Kill::Host),
        None => Ok(Kill::Primary),
        Some(Kill::Host | Kill::Mirror) if !mirrored => {
            Err(refused("with --mirroring none only primary, coordinator and standby are killed"))
        }
        Some(Kill::Coordinator) if options.hosts < 3 => Err(refused(
            "with fewer than 3 hosts no majority of voters is sure, so no standby is activated; give --hosts 3",
        )),
        Some(kill) => Ok(kill),
    }
}

/// What a run is given.
struct Stage<'a> {
    options: &'a DemoOptions,
    hosts: Hosts,
    input: &'a Input,
    home: &'a Home,
    victim: Victim,
}

impl Stage<'_> {
    async fn play(&self, cluster: &mut Cluster) -> Result<Summary, Error> {
        let duplicates = self.input.duplicates;
        if duplicates > 0 {
            self.tell(format!("{duplicates} rows share a key with an earlier one: the last wins"))?;
        }
        cluster.make().await?;
        self.tell(format!(
            "{} hosts, {} contents, mirroring {}: {} instances run below {}",
            self.hosts.hosts,
            cluster.contents().len(),
            self.hosts.mirroring.as_str(),
            cluster.layout().instances.len(),
            self.home.path().display()
        ))?;
        let mut summary =
            if self.hosts.mirroring == Mirrors::None && self.victim.kill == Kill::Primary {
                self.without_mirrors(cluster).await?
            } else {
                self.with_mirrors(cluster).await?
            };
        if let Some(dir) = self.home.kept() {
            cluster.bring_up(PATIENCE).await?;
            summary.kept(cluster.coordinators().join(","), dir);
        }
        summary.tell(self.options.json)?;
        if let Some(dir) = self.home.kept() {
            let coordinators = cluster.coordinators().join(",");
            let dir = dir.display();
            self.tell(format!(
                "\nThe cluster is up until Ctrl-C; what was acknowledged is in {dir}/{ACK_LOG}.\n  \
                 outrigger state --coordinator {coordinators}\n  \
                 outrigger kv get KEY --coordinator {coordinators}"
            ))?;
        }
        Ok(summary)
    }

    fn tell(&self, text: String) -> Result<(), Error> {
        if self.options.json { Ok(()) } else { say(format_args!("{text}")) }
    }

    /// Rows a second: rows that do not repeat must last until the kill and beyond; `None`: they repeat.
    fn rate(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let before = (self.input.rows * BEFORE_PERCENT) as f64 / 100.0;
        self.options.input.is_some().then(|| before / LOADED.as_secs_f64())
    }

    /// How many rows go in before the kill, at least.
    fn rows_before(&self) -> u64 {
        let rows = (self.input.rows * BEFORE_PERCENT).div_ceil(100);
        if self.options.input.is_some() { rows } else { 1 }
    }

    /// Prints what `outrigger state` says, in this table of its.
    async fn show_state(&self, cluster: &Cluster, table: &'static str) -> Result<(), Error> {
        if self.options.json {
            return Ok(());
        }
        let coordinators = cluster.coordinators().join(",");
        let asking = tokio::task::spawn_blocking(move || {
            std::process::Command::new(std::env::current_exe()?)
                .args(["state", table, "--coordinator", &coordinators])
                .stdin(std::process::Stdio::null())
                .output()
        });
        self.tell(format!("\noutrigger state {table}"))?;
        let failed = |cause| Error::file("cannot be run", Path::new("outrigger state"), cause);
        let told = asking.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
        say_bytes(&told.stdout)?;
        say_bytes(&told.stderr)
    }

    /// Looks every acknowledged row up in the logs and stores of copies that are stopped.
    async fn prove(
        &self,
        cluster: &Cluster,
        missed: impl Fn(outrigger_wal::ContentId) -> Option<(u64, u64)>,
    ) -> Result<Proof, Error> {
        self.tell("all is stopped. Proving...".to_owned())?;
        let copies = |content| Copies {
            content,
            dirs: cluster
                .copies(content)
                .iter()
                .map(|at| at.place.data_dir.clone().into())
                .collect(),
            missed: missed(content),
        };
        let contents: Vec<_> = cluster.contents().into_iter().map(copies).collect();
        let (catalog, acks) = (copies(CATALOG), self.home.path().join(ACK_LOG));
        // Reading takes a while, in which Ctrl-C is heard.
        let proving =
            tokio::task::spawn_blocking(move || prove(ack_log::read(&acks)?, &contents, &catalog));
        proving.await.map_err(|_| Error::Partial("the proof panicked".to_owned()))?
    }
}
