//! `outrigger bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::bench;
use crate::error::{Error, Verdict};

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Append to a log of one's own, each caller waiting until its record is durable
    Append {
        /// Where the log and the raw files are made; they are removed at the end
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        load: Load,
    },
}

/// What is measured.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// Callers at the same time, each with one record in flight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: u16,
    /// The size of a record
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=(4 << 20)))]
    record_bytes: u32,
    /// How long ours is measured; the raw figures take as long again
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        match self {
            Self::Append { dir, load } => bench::append(&dir, &load.options()),
        }
    }
}

impl Load {
    fn options(&self) -> bench::Options {
        bench::Options {
            writers: usize::from(self.writers),
            record_bytes: self.record_bytes as usize,
            time: Duration::from_secs_f64(self.seconds),
            json: self.json,
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.parse().ok();
    found.filter(|found| (0.1..=3600.0).contains(found)).ok_or_else(|| "0.1 to 3600".to_owned())
}
