//! `outrigger agent`, `outrigger coordinator` and `outrigger instance`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, AgentConfig, CoordinatorConfig, InstanceConfig};
use crate::error::{Error, Verdict};
use crate::output;
use crate::process::{self, Begin};

#[derive(Debug, Args)]
pub(super) struct Process {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Make the data directory first; it must be empty or missing
    #[arg(long)]
    init: bool,
    /// End when the process with this id, which started this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<u32>,
    /// Names this process in its heartbeats, for whoever started it and tells of its end
    #[arg(long, value_name = "NUMBER", hide = true)]
    incarnation: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Agent {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End, with all instances and however it comes, when the process with this id ends, which started this one
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<u32>,
}

impl Agent {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let config: AgentConfig = config::read(&self.config)?;
        self.die_with.map_or(Ok(()), process::stop::die_with)?;
        output::log_to_stderr(&config.log)?;
        process::agent::run(&config, self.die_with.is_some())
    }
}

impl Process {
    pub(super) fn coordinator(self) -> Result<Verdict, Error> {
        let config: CoordinatorConfig = config::read(&self.config)?;
        self.begin(&config.log)?;
        process::coordinator::run(&config, self.from())
    }

    pub(super) fn instance(self) -> Result<Verdict, Error> {
        let config: InstanceConfig = config::read(&self.config)?;
        self.begin(&config.log)?;
        process::instance::run((&config, &self.config), self.from(), self.incarnation)
    }

    const fn from(&self) -> Begin {
        if self.init { Begin::New } else { Begin::AsItIs }
    }

    fn begin(&self, log: &str) -> Result<(), Error> {
        self.die_with.map_or(Ok(()), process::stop::die_with)?;
        output::log_to_stderr(log)
    }
}
