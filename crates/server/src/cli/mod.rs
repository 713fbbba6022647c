//! The verbs and their options.
//!
//! Guarantees: Ctrl-C during a command that only reads ends it at once, as the system does it (130 in
//! a shell); commands that write or own processes end in order. Not here: what a verb does.

mod store;
mod wal;

use clap::{Parser, Subcommand};

use crate::error::{Error, Verdict};

/// A mirrored write-ahead log and the servers around it.
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
    /// Look into a log
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Look into a store
    #[command(subcommand)]
    Store(store::Store),
}

/// Carries a command out.
///
/// # Errors
/// What it could not do.
pub(crate) fn run(arguments: Arguments) -> Result<Verdict, Error> {
    match arguments.verb {
        Verb::Wal(wal) => wal.run(),
        Verb::Store(store) => store.run(),
    }
}
