//! The verbs and their options.
//!
//! Guarantees: Ctrl-C during a command that only reads ends it at once, as the system does it (130 in
//! a shell); commands that own processes or files end in order, and those that write say what is left
//! open. Not here: what a verb does.

mod bench;
mod cluster;
mod demo;
mod init;
mod kv;
mod process;
mod rebuild;
mod store;
mod wal;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use outrigger_wal::ContentId;

use crate::config::{
    AgentConfig, ClusterConfig, CoordinatorConfig, InstanceConfig, Keyed, key_help,
};
use crate::error::{Error, Verdict};

/// A mirrored write-ahead log, and the servers around it.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 all is well, 1 wrong or partial, 2 error, 130 interrupted."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent of a host: it starts and watches the host's instances, and votes
    #[command(after_long_help = key_help(AgentConfig::KEYS))]
    Agent(process::Agent),
    /// Plan a cluster from its file
    #[command(after_long_help = key_help(ClusterConfig::KEYS))]
    Init(init::Init),
    /// Run the coordinator of a cluster
    #[command(after_long_help = key_help(CoordinatorConfig::KEYS))]
    Coordinator(process::Process),
    /// Run one copy of one content
    #[command(after_long_help = key_help(InstanceConfig::KEYS))]
    Instance(process::Process),
    /// Make the copy of an instance that is down anew from its primary's
    #[command(hide = true)]
    Rebuild(rebuild::Rebuild),
    /// Make the mirror of a content its primary
    Promote(cluster::Promote),
    /// Wait until all copies of a content are in sync, and say what they wait for
    Recover(cluster::Recover),
    /// Print how the cluster stands
    State(cluster::State),
    /// Read and write rows
    Kv(kv::Kv),
    /// Watch a primary die and nothing be lost
    Demo(demo::Demo),
    /// Look into a log
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Look into a store
    #[command(subcommand)]
    Store(store::Store),
    /// Measure, beside what the bare machine does
    #[command(subcommand)]
    Bench(bench::Bench),
}

/// Where a cluster is.
#[derive(Debug, Args)]
struct Where {
    /// The coordinator's address; with the standby's behind a comma, the one that serves is asked
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        required = false,
        default_value = "127.0.0.1:7000"
    )]
    coordinator: String,
}

/// Which content.
#[derive(Debug, Args)]
struct Which {
    /// The content
    #[arg(long, value_name = "N", default_value_t = 0, global = true, value_parser = clap::value_parser!(i32).range(0..))]
    content: i32,
}

impl Which {
    const fn id(&self) -> ContentId {
        ContentId(self.content)
    }
}

/// How long to wait.
#[derive(Debug, Args)]
struct Patience {
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, global = true, value_parser = seconds)]
    timeout: f64,
}

impl Patience {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.parse().ok();
    found.filter(|found| (0.1..=3600.0).contains(found)).ok_or_else(|| "0.1 to 3600".to_owned())
}

/// Carries a command out.
///
/// # Errors
/// What it could not do.
pub(crate) fn run(arguments: Arguments) -> Result<Verdict, Error> {
    match arguments.verb {
        Verb::Agent(agent) => agent.run(),
        Verb::Init(init) => init.run(),
        Verb::Coordinator(process) => process.coordinator(),
        Verb::Instance(process) => process.instance(),
        Verb::Rebuild(rebuild) => rebuild.run(),
        Verb::Promote(promote) => promote.run(),
        Verb::Recover(recover) => recover.run(),
        Verb::State(state) => state.run(),
        Verb::Kv(kv) => kv.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::Wal(wal) => wal.run(),
        Verb::Store(store) => store.run(),
        Verb::Bench(bench) => bench.run(),
    }
}
