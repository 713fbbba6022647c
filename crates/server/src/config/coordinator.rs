//! The coordinator's configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Key, Keyed, Wrong, instance};

/// What a coordinator is started with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorConfig {
    /// Where the catalog is kept: its log and its register.
    pub(crate) data_dir: PathBuf,
    /// The address, `host:port`, on which instances, clients and operators are answered.
    pub(crate) listen: String,
    /// Which log lines are written to standard error.
    #[serde(default = "instance::log")]
    pub(crate) log: String,
}

impl Keyed for CoordinatorConfig {
    const KEYS: &'static [Key] = &[
        Key {
            name: "data_dir",
            unit: "path",
            default: "",
            meaning: "where the catalog is kept; one process at a time",
        },
        Key {
            name: "listen",
            unit: "host:port",
            default: "",
            meaning: "where instances, clients and operators are answered; port 0 takes a free one",
        },
        Key {
            name: "log",
            unit: "level",
            default: "\"info\"",
            meaning: "log lines on standard error: error, warn, info, debug, trace, or directives of tracing",
        },
    ];

    fn check(&self) -> Result<(), Wrong> {
        Ok(instance::check_address("listen", &self.listen)?)
    }
}
