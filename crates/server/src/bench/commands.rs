//! `bench commands`: how long an administrator waits for each verb, on a cluster of many instances.
//!
//! Guarantees: each verb is this binary as a process of its own, as it is typed; what it must answer is checked by its
//! exit code. Not here: what a cluster does under load.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use outrigger_wal::ContentId;
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Interrupts;
use super::cluster::{Cluster, Net, Shape, agent_of, folder, pair, signal};
use super::load_average;
use crate::error::{Error, Verdict};
use crate::output::{say, say_json};
use crate::process;

/// Primaries on each host.
const SEGMENTS_PER_HOST: u16 = 4;
/// How long copies may take to be in sync.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What is done.
#[derive(Clone, Debug)]
pub(crate) struct CommandsOptions {
    /// Where files are made.
    pub(crate) dir: Option<PathBuf>,
    /// Hosts; each has 4 primaries and 4 mirrors.
    pub(crate) hosts: u8,
    /// How often each verb is run.
    pub(crate) runs: u32,
    /// One JSON object.
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    hosts: u8,
    instances: usize,
    init_ms: u64,
    verbs: Vec<Verb>,
    load_average: String,
}

#[derive(Debug, Serialize)]
struct Verb {
    verb: String,
    runs: u32,
    p50_ms: f64,
    max_ms: f64,
}

/// Runs it.
///
/// # Errors
/// What could not be made; a verb that ended otherwise than it should have.
pub(crate) fn commands(options: &CommandsOptions) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let shape = Shape {
        dir: folder(options.dir.as_deref()),
        hosts: options.hosts,
        segments_per_host: SEGMENTS_PER_HOST,
        segment_bytes: 1 << 20,
        keep: false,
        settings: String::new(),
    };
    let runtime = process::runtime()?;
    let began = Instant::now();
    let report = runtime.block_on(async {
        let cluster = Cluster::start(&shape, Net::Loopback).await?;
        let init_ms = millis(began.elapsed());
        let mut verbs = Vec::new();
        let typed = Typed { cluster: &cluster, interrupts: &interrupts };
        for option in ["-b", "-s", "-e", "-m", "-c", "-f", "-Q", "-p"] {
            verbs.push(typed.again(&["state", option], options.runs, &[0])?);
        }
        let tables = [
            "gp_segment_configuration",
            "gp_configuration_history",
            "gp_stat_replication",
            "gp_replication_slots",
        ];
        for table in tables {
            verbs.push(typed.again(&["catalog", table], options.runs, &[0])?);
        }
        verbs.push(typed.again(&["config"], options.runs, &[0])?);
        verbs.push(typed.again(&["recover", "-a"], options.runs, &[0])?);
        verbs.push(typed.again(&["recover", "-r", "-a"], options.runs, &[0])?);
        verbs.extend(typed.after_a_loss().await?);
        Ok::<_, Error>(Report {
            bench: "commands",
            hosts: options.hosts,
            instances: cluster.layout.instances.iter().filter(|at| at.content.0 >= 0).count(),
            init_ms,
            verbs,
            load_average: load_average(),
        })
    })?;
    if options.json {
        say_json(&report)?;
    } else {
        say(format_args!("{} instances, init {} ms", report.instances, report.init_ms))?;
        for verb in &report.verbs {
            say(format_args!(
                "{:<36} p50 {:8.1} ms  max {:8.1} ms",
                verb.verb, verb.p50_ms, verb.max_ms
            ))?;
        }
    }
    Ok(Verdict::Good)
}

/// Verbs, as they are typed.
struct Typed<'a> {
    cluster: &'a Cluster,
    interrupts: &'a Interrupts,
}

impl Typed<'_> {
    /// A verb, so often.
    fn again(&self, verb: &[&str], runs: u32, good: &[i32]) -> Result<Verb, Error> {
        let mut times = Vec::new();
        for _ in 0..runs {
            self.interrupts.check()?;
            times.push(self.once(verb, good)?);
        }
        times.sort_unstable();
        let millis = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Ok(Verb {
            verb: verb.join(" "),
            runs,
            p50_ms: millis(times.get(times.len() / 2)),
            max_ms: millis(times.last()),
        })
    }

    /// A verb, once, with the coordinators' addresses behind it.
    fn once(&self, verb: &[&str], good: &[i32]) -> Result<Duration, Error> {
        let failed = |cause: String| Error::Partial(format!("{}: {cause}", verb.join(" ")));
        let me = std::env::current_exe().map_err(|cause| failed(cause.to_string()))?;
        let mut command = Command::new(me);
        command.args(verb).args(["--coordinator", &self.cluster.coordinators.join(",")]);
        let began = std::time::Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let took = began.elapsed();
        let output = output.map_err(|cause| failed(cause.to_string()))?;
        match output.status.code() {
            Some(code) if good.contains(&code) => Ok(took),
            _ => {
                let said = [output.stdout, output.stderr].concat();
                Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&said))))
            }
        }
    }

    /// A host is lost and comes back; roles are given back; all is stopped and started.
    async fn after_a_loss(&self) -> Result<Vec<Verb>, Error> {
        let host = &self.cluster.hosts.all.last().ok_or_else(none)?.name;
        let agent = self.cluster.hosts.agent(host);
        let all = self.cluster.hosts.everything(host);
        // The agent stays: it would take its instances for its own again, and nothing runs them meanwhile.
        let instances: Vec<_> = all.into_iter().filter(|pid| !agent.contains(pid)).collect();
        signal(&instances, Signal::KILL);
        let began = Instant::now();
        loop {
            let state = self.cluster.state().await?;
            let on_it = |content: ContentId| {
                pair(&state, content).is_some_and(|[primary, _]| primary.1 == *host)
            };
            let acting = state.contents.iter().filter(|row| on_it(row.content)).count();
            let in_sync =
                state.contents.iter().filter(|row| row.copies.iter().all(|at| at.in_sync));
            let out = state.contents.len() - in_sync.count();
            if acting == 0 && out >= usize::from(SEGMENTS_PER_HOST) * 2 {
                break;
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::Partial("the lost host is not failed over".to_owned()));
            }
            sleep(LOOK).await;
        }
        let hosts = self.cluster.hosts.all.iter().take(2);
        let agents: Vec<_> = hosts.flat_map(|host| agent_of(&host.addresses)).collect();
        let mut verbs = vec![
            self.again(&["state", "-e"], 5, &[1])?,
            self.again(&["recover", "-a"], 1, &[0])?,
            self.again(&["recover", "-r", "-a"], 1, &[0])?,
            self.again(&["stop", "-a"], 1, &[0])?,
            self.again(&["start", "--agent", &agents.join(",")], 1, &[0])?,
        ];
        for (verb, what) in
            verbs.iter_mut().zip(["8 copies out", "8 copies", "4 pairs", "all", "all"])
        {
            verb.verb =
                format!("{} ({what})", verb.verb.split(" --agent").next().unwrap_or_default());
        }
        Ok(verbs)
    }
}

fn none() -> Error {
    Error::Partial("there are no hosts".to_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
