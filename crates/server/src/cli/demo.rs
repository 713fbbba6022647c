//! `outrigger demo`.

use std::path::PathBuf;

use clap::Args;

use crate::demo::{DemoOptions, run};
use crate::error::{Error, Verdict};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Rows to load: a CSV file; without it a data set that ships with this program, over and over
    #[arg(long, value_name = "FILE", requires = "key")]
    input: Option<PathBuf>,
    /// The column that is the key
    #[arg(long, value_name = "COLUMN", requires = "input")]
    key: Option<String>,
    /// Where everything is kept while it runs; must be empty or missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the folder there, with logs, stores and the ack log
    #[arg(long)]
    keep: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let Self { input, key, dir, keep, json } = self;
        run(DemoOptions { input: input.zip(key), dir, keep, json })
    }
}
