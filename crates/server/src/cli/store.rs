//! `outrigger store`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::error::{Error, Verdict};
use crate::inspect;

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Print the rows of a stopped copy, as of its latest checkpoint
    ///
    /// With --json first an object with applied_lsn, then one object a row: key, value. What is not
    /// UTF-8 is in base64, and marked so by key_encoding or value_encoding.
    Dump {
        /// The data directory of an instance that does not run
        data_dir: PathBuf,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
}

impl Store {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let Self::Dump { data_dir, json } = self;
        inspect::dump_store(&data_dir, json)
    }
}
