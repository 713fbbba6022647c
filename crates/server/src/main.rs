//! The binary `outrigger`: coordinator, instances, client, inspection, demo and benchmarks.
//!
//! # Layout
//! - [`cli`]: the verbs and their options
//! - [`demo`]: a primary dies, and nothing is lost
//! - [`config`]: the files that a coordinator and an instance are started with
//! - [`found`]: a cluster is made
//! - [`inspect`]: logs and stores, read from disk without their instance
//! - [`process`]: what a coordinator and an instance are as processes
//! - [`kv`]: rows over the wire: service and client
//! - [`load`]: rows out of a CSV file, and the log of what was acknowledged
//! - [`bench`]: measurements, ours beside the bare machine's
//! - [`output`]: the one place that prints
//! - [`error`]: what an error says, and the exit code
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod config;
mod demo;
mod error;
mod found;
mod inspect;
mod kv;
mod load;
mod output;
mod process;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            if let Some(text) = error.message() {
                output::complain(format_args!("error: {text}"));
            }
            error.exit_code()
        }
    }
}
