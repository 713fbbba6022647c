//! The demo: a primary and its mirror replicate real rows, the primary is killed, the mirror takes
//! over, the old primary comes back by what it missed, and it is proved that no acknowledged row is lost.
//!
//! Coordinator and instances are processes of this program on loopback. Guarantees: nothing of it
//! outlives the demo, the folder neither without `--keep`, whenever it is interrupted; the verdict is good
//! only if every line of the ack log is in both logs and both stores, and a loss could have shown. Not here: the load ([`crate::load`]), the proof itself ([`proof`]).

mod brake;
pub(crate) mod child;
mod cluster;
pub(crate) mod memory;
mod proof;
mod report;
mod writers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::cluster::Cluster;
use self::proof::{Proof, prove};
use self::report::{MISSED_BYTES, Summary};
use self::writers::{ACK_LOG, BURST_BYTES, Writers};
use crate::error::{Error, Verdict};
use crate::load::ack_log;
use crate::load::rows::{Input, airports};
use crate::output::{complain, say};
use crate::process::{self, stop::Signals};

/// How long the primary is under load before it is killed, at least: longer than a coordinator waits for
/// instances to be heard of.
const BEFORE: Duration = Duration::from_millis(4_500);
/// How long the new primary is under load before the old one comes back.
const ALONE: Duration = Duration::from_millis(1_200);
/// How long both are under load again.
const TOGETHER: Duration = Duration::from_millis(900);
/// Which part of rows that do not repeat goes in before the kill, in percent.
const BEFORE_PERCENT: u64 = 60;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
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
    let runtime = process::runtime()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::new()?
    };
    let home = Home::make(options.dir.as_deref(), options.keep)?;
    let summary = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = signals.next() => Err(Error::Interrupted { left: home.left() }),
            summary = play(&options, &input, home.path()) => summary,
        }
    });
    // What still reads in the folder is not waited for.
    runtime.shutdown_background();
    let summary = summary?;
    summary.tell(options.json, home.kept())?;
    Ok(Verdict::good_if(summary.is_good()))
}

async fn play(options: &DemoOptions, input: &Input, home: &Path) -> Result<Summary, Error> {
    let quiet = options.json;
    let tell = |text: String| if quiet { Ok(()) } else { say(format_args!("{text}")) };
    if input.duplicates > 0 {
        tell(format!("{} rows share a key with an earlier one: the last wins", input.duplicates))?;
    }

    let mut cluster = Cluster::start(home).await?;
    tell(format!("coordinator, primary and mirror run below {}", home.display()))?;
    cluster.wait_in_sync(PATIENCE).await?;
    tell("the mirror is in sync: a commit is durable on both from now on".to_owned())?;

    let repeat = options.input.is_none();
    let writers = Writers::start(cluster.coordinator(), input, pace(input, repeat), home)?;
    let first = if repeat { 1 } else { (input.rows * BEFORE_PERCENT).div_ceil(100) };
    writers.wait_acked(first, BEFORE, PATIENCE).await?;
    tell(format!("{} rows are acknowledged", writers.acked()))?;

    cluster.mirror().freeze()?;
    tell("the mirror stands still: the primary's log goes on, its commits wait".to_owned())?;
    writers.burst();
    cluster.wait_tail(BURST_BYTES, PATIENCE).await?;
    let before_kill = writers.acked();
    cluster.primary().kill()?;
    let killed = Instant::now();
    writers.killed(killed);
    cluster.mirror().thaw()?;
    tell(format!(
        "the primary is killed (SIGKILL) under load; {before_kill} rows were acknowledged"
    ))?;

    cluster.promote(PATIENCE).await?;
    let failover = writers.wait_first_commit(PATIENCE).await?;
    tell(format!("the mirror has taken over: first commit after {} ms", failover.as_millis()))?;

    tokio::time::sleep(ALONE).await;
    // More than that: what is acknowledged lies behind the fork, and is stored once.
    writers.wait_missed(MISSED_BYTES + MISSED_BYTES / 4, PATIENCE).await?;
    if !repeat {
        writers.wait_rows_done(PATIENCE).await?;
    }
    cluster.restart_old_primary().await?;
    tell("the old primary is started again, as a mirror".to_owned())?;
    let join = cluster.wait_rejoined(PATIENCE).await?;
    tell(format!(
        "it is in sync again: {} bytes of its log were cut, {} bytes went over the wire",
        join.cut_bytes, join.wire_bytes
    ))?;
    tokio::time::sleep(TOGETHER).await;

    let written = writers.finish(PATIENCE).await?;
    let peaks = cluster.stop(PATIENCE).await?;
    tell("all is stopped. Proving...".to_owned())?;
    let (acks, dirs) = (home.join(ACK_LOG), [cluster.data_dir(0), cluster.data_dir(1)]);
    let range = (join.from, join.to);
    // Reading takes a while, in which Ctrl-C is heard.
    let proving = tokio::task::spawn_blocking(move || -> Result<Proof, Error> {
        let [first, second] = &dirs;
        prove(&mut ack_log::read(&acks)?, [first, second], range)
    });
    let panicked = |_| Error::Partial("the proof panicked".to_owned());
    let proof = proving.await.map_err(panicked)??;
    Ok(Summary::new(proof, before_kill, failover, &join, peaks, &written.latency, written.in_doubt))
}

/// Rows a second: rows that do not repeat must last until the kill and beyond; `None`: they repeat.
fn pace(input: &Input, repeat: bool) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    let before = (input.rows * BEFORE_PERCENT) as f64 / 100.0;
    (!repeat).then(|| before / BEFORE.as_secs_f64())
}

/// The demo's folder: taken away again unless it is kept.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    keep: bool,
    /// The folders above and it itself, as far as they were made here, the deepest first.
    made: Vec<PathBuf>,
}

impl Home {
    fn make(dir: Option<&Path>, keep: bool) -> Result<Self, Error> {
        let path = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("outrigger-demo-{}", std::process::id())),
        };
        let failed = |cause| Error::file("cannot be made", &path, cause);
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made: Vec<_> = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        if made.is_empty() {
            let mut inside = std::fs::read_dir(&path).map_err(failed)?;
            if inside.next().is_some() {
                return Err(Error::Path {
                    path,
                    cause: "is not empty".to_owned(),
                    advice: "name an empty or new folder",
                });
            }
        }
        // From here on it is cleared away again.
        let home = Self { path, keep, made };
        std::fs::create_dir_all(&home.path)
            .map_err(|cause| Error::file("cannot be made", &home.path, cause))?;
        Ok(home)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// What an interruption leaves behind.
    fn left(&self) -> String {
        if self.keep {
            format!("everything was stopped; what it made is kept in {}", self.path.display())
        } else {
            "everything was stopped and cleared away".to_owned()
        }
    }

    fn kept(&self) -> Option<&Path> {
        self.keep.then_some(self.path.as_path())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.clear()
            && self.path.exists()
        {
            complain(format_args!("{}: cannot be cleared away: {error}", self.path.display()));
        }
    }
}

impl Home {
    fn clear(&self) -> std::io::Result<()> {
        if let Some((home, above)) = self.made.split_first() {
            std::fs::remove_dir_all(home)?;
            return above.iter().try_for_each(std::fs::remove_dir);
        }
        // The folder was the caller's; what is in it is ours.
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}
