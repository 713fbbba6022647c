//! `outrigger demo`.

use std::path::PathBuf;

use clap::{Args, value_parser};

use crate::demo::{DemoOptions, Kill, Mirrors, run};
use crate::error::{Error, Verdict};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How many hosts; each is an address on loopback and an agent
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u8).range(2..=16))]
    hosts: u8,
    /// Primaries on each host
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..=8))]
    segments_per_host: u8,
    /// Where mirrors are
    #[arg(long, value_enum, default_value_t = Mirrors::Group)]
    mirroring: Mirrors,
    /// What is killed under load; by default a host, and without mirrors a primary
    #[arg(long, value_enum)]
    kill: Option<Kill>,
    /// Rows to load: a CSV file; without it a data set that ships with this program, over and over
    #[arg(long, value_name = "FILE", requires = "key")]
    input: Option<PathBuf>,
    /// The column that is the key
    #[arg(long, value_name = "COLUMN", requires = "input")]
    key: Option<String>,
    /// Where everything is kept while it runs; must be empty or missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Stay up at the end until Ctrl-C, and leave the folder there, with logs, stores and the ack log
    #[arg(long)]
    keep: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let Self { hosts, segments_per_host, mirroring, kill, input, key, dir, keep, json } = self;
        let input = input.zip(key);
        run(DemoOptions { hosts, segments_per_host, mirroring, kill, input, dir, keep, json })
    }
}
