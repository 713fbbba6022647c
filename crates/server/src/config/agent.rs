//! The agent's configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::identity::one_or_more;
use super::{Key, Keyed, Wrong, instance};

/// What an agent is started with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentConfig {
    /// Where it keeps what it was told, its vote, and the files of its instances.
    pub(crate) data_dir: PathBuf,
    /// The addresses, `host:port`, on which coordinators and administrators are answered.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) listen: Vec<String>,
    /// How long an instance may take to end in order before it is killed, in milliseconds.
    #[serde(default = "stop_timeout_ms")]
    pub(crate) stop_timeout_ms: u64,
    /// Which log lines are written to standard error, by its instances too.
    #[serde(default = "instance::log")]
    pub(crate) log: String,
}

const fn stop_timeout_ms() -> u64 {
    30_000
}

impl Keyed for AgentConfig {
    const KEYS: &'static [Key] = &[
        Key {
            name: "data_dir",
            unit: "path",
            default: "",
            meaning: "holds what the agent was told, its vote, and configurations and logs of its instances",
        },
        Key {
            name: "listen",
            unit: "host:port, or a list",
            default: "",
            meaning: "where the coordinator and administrators are answered",
        },
        Key {
            name: "stop_timeout_ms",
            unit: "milliseconds",
            default: "30000",
            meaning: "how long an instance may take to end in order before it is killed",
        },
        Key {
            name: "log",
            unit: "level",
            default: "\"info\"",
            meaning: "log lines on standard error: error, warn, info, debug, trace, or directives of tracing; \
                      its instances take the same",
        },
    ];

    fn check(&self) -> Result<(), Wrong> {
        instance::check_addresses("listen", &self.listen)?;
        Ok(instance::check_range("stop_timeout_ms", self.stop_timeout_ms, 100, 3_600_000)?)
    }
}
