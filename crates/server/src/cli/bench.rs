//! `outrigger bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::asking::seconds;
use crate::bench;
use crate::error::{Error, Verdict};

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Append to a log of one's own, each caller waiting until its record is durable
    Append(Load),
    /// Commit on a primary with a mirror in another process, each caller waiting for its commit
    Commit(Load),
    /// Make a cluster of processes, and measure how long its writers wait while a primary, a mirror or a host is lost
    Failover(Failover),
    /// Make a cluster of processes, kill and stop them at random under load, and look for every acknowledged row
    #[command(hide = true)]
    Chaos(Chaos),
    /// Make a cluster of processes, load it fully, and count what is recorded meanwhile: nothing should be
    #[command(hide = true)]
    Calm(Calm),
    /// Make a cluster of many instances, and measure how long each verb takes
    #[command(hide = true)]
    Commands(Commands),
}

#[derive(Debug, Args)]
pub(super) struct Commands {
    /// Where files are made, in a directory that is removed at the end; default: where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Hosts, with 4 primaries and 4 mirrors each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(3..=32))]
    hosts: u8,
    /// How often each verb is run
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Calm {
    /// Where files are made, in a directory that is removed at the end; default: where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Writers of each content through the coordinator, and as many straight to its primary
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    writers: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Chaos {
    /// Where files are made, in a directory that is removed at the end; default: where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How often something is done to it
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cycles: u32,
    /// What is done is drawn from it; default: drawn itself
    #[arg(long)]
    seed: Option<u64>,
    /// How long a process stands still at most
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(200..=60_000))]
    longest_stop_ms: u64,
    /// Each host in a network namespace on so many networks, which are cut too (root, with `ip` and `nft`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    networks: Option<u8>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Failover {
    /// Where files are made, in a directory that is removed at the end; default: where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How often each is lost
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Writers of each content through the coordinator, and as many straight to its primary
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    writers: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// Where files are made, in a directory that is removed at the end; its device is what is measured
    #[arg(long)]
    dir: PathBuf,
    /// Callers at the same time, each with one record on its way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: u16,
    /// The size of a record
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=(4 << 20)))]
    record_bytes: u32,
    /// How long ours is measured; the raw figures take as long again
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        match self {
            Self::Append(load) => bench::append(&load.options()?),
            Self::Commit(load) => bench::commit(&load.options()?),
            Self::Calm(Calm { dir, seconds, writers, json }) => {
                let time = Duration::from_secs(seconds);
                bench::calm(&bench::CalmOptions { dir, time, writers, json })
            }
            Self::Commands(Commands { dir, hosts, runs, json }) => {
                bench::commands(&bench::CommandsOptions { dir, hosts, runs, json })
            }
            Self::Chaos(Chaos { dir, cycles, seed, longest_stop_ms, networks, json }) => {
                let seed = match seed {
                    Some(seed) => seed,
                    None => u64::try_from(crate::process::random()? >> 64).unwrap_or_default(),
                };
                let longest_stop = Duration::from_millis(longest_stop_ms);
                let options =
                    bench::ChaosOptions { dir, cycles, seed, longest_stop, networks, json };
                bench::chaos(&options)
            }
            Self::Failover(Failover { dir, runs, writers, json }) => {
                bench::failover(&bench::FailoverOptions { dir, runs, writers, json })
            }
        }
    }
}

impl Load {
    fn options(self) -> Result<bench::Options, Error> {
        let record_bytes = usize::try_from(self.record_bytes).map_err(|_| Error::Option {
            option: "--record-bytes",
            cause: "it is too large for this machine".to_owned(),
        })?;
        Ok(bench::Options {
            dir: self.dir,
            writers: usize::from(self.writers),
            record_bytes,
            time: Duration::from_secs_f64(self.seconds),
            json: self.json,
        })
    }
}
