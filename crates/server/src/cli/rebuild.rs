//! `outrigger rebuild`: a copy made anew from another one, as an agent does it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use outrigger_replica::control::Identity;
use outrigger_replica::rebuild::Mode;
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

use super::Patience;
use crate::config::{self, InstanceConfig};
use crate::error::{Error, Verdict};
use crate::output;
use crate::process::rebuild::{Options, Tell, run};

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// The configuration of the instance, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The addresses of the acting primary of the content: the first that answers is used
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    from: Vec<String>,
    /// Where the rows come from
    #[arg(long, value_enum, default_value_t = How::Auto)]
    mode: How,
    /// At most so many bytes a second, 32 KiB or more
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(32_768..))]
    max_rate: Option<u64>,
    /// How progress is told
    #[arg(long, value_enum, default_value_t = Shown::Text)]
    progress: Shown,
    /// Keep what was there in `set-aside/`
    #[arg(long)]
    keep_old: bool,
    /// Whose copy, where the data directory does not say so
    #[arg(long, value_name = "ID", requires = "cluster", requires = "log")]
    instance: Option<InstanceId>,
    /// Its cluster
    #[arg(long, value_name = "ID", requires = "instance")]
    cluster: Option<ClusterId>,
    /// Its content's log
    #[arg(long, value_name = "ID", requires = "instance")]
    log: Option<LogId>,
    #[command(flatten)]
    patience: Patience,
    /// End when the process with this id, which started this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Differential where there is a store, else full
    Auto,
    /// Fetch what differs
    Differential,
    /// Fetch all
    Full,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shown {
    None,
    Text,
    Json,
}

impl Rebuild {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let config: InstanceConfig = config::read(&self.config)?;
        self.die_with.map_or(Ok(()), crate::process::stop::die_with)?;
        output::log_to_stderr(&config.log)?;
        let identity = match (self.cluster, self.instance, self.log) {
            (Some(cluster), Some(instance), Some(log)) => {
                let content = ContentId(i32::from(config.content));
                Some(Identity { cluster, content, instance, log, segment_bytes: 0 })
            }
            _ => config.identity.map(|told| Identity {
                cluster: told.cluster,
                content: ContentId(told.content),
                instance: told.instance,
                log: told.log,
                segment_bytes: 0,
            }),
        };
        let options = Options {
            from: self.from,
            mode: match self.mode {
                How::Auto => None,
                How::Differential => Some(Mode::Differential),
                How::Full => Some(Mode::Full),
            },
            bytes_per_second: self.max_rate,
            identity,
            keep_old: self.keep_old,
            patience: self.patience.time(),
            tell: match self.progress {
                Shown::None => Tell::Nothing,
                Shown::Text => Tell::Text,
                Shown::Json => Tell::Json,
            },
        };
        run(&config, &options)
    }
}
