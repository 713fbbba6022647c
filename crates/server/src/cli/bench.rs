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
