//! `outrigger demo`.

use std::path::PathBuf;

use clap::Args;

use crate::demo::{self, DemoOptions};
use crate::error::{Error, Verdict};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// A CSV file to load; without it, the rows that ship with this program
    #[arg(long, value_name = "FILE.csv", requires = "key")]
    input: Option<PathBuf>,
    /// The column that is the key
    #[arg(long, value_name = "COLUMN", requires = "input")]
    key: Option<String>,
    /// Where data goes; it must be empty or missing
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave the directory behind: logs, stores, and the ack log acks.jsonl
    #[arg(long)]
    keep: bool,
    /// One JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        demo::run(&DemoOptions {
            input: self.input.zip(self.key),
            dir: self.dir,
            keep: self.keep,
            json: self.json,
        })
    }
}
