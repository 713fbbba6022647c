//! The coordinator's configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::identity::{each_one_or_more, one_or_more};
use super::{IdentityConfig, Key, Keyed, Wrong, instance};

/// What a coordinator is started with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorConfig {
    /// Where the catalog is kept: its log and its register.
    pub(crate) data_dir: PathBuf,
    /// The addresses, `host:port`, on which instances, clients and operators are answered.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) listen: Vec<String>,
    /// The addresses that others are told; empty: `listen`.
    #[serde(default)]
    pub(crate) advertise: Vec<String>,
    /// Who it is, where its agent says it.
    #[serde(default)]
    pub(crate) identity: Option<IdentityConfig>,
    /// The agents that vote on who coordinates, each at its addresses; none: it stands alone.
    #[serde(default, deserialize_with = "each_one_or_more")]
    pub(crate) voters: Vec<Vec<String>>,
    /// Where coordinators are: its own address and its standby's.
    #[serde(default)]
    pub(crate) coordinators: Vec<String>,
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
            unit: "host:port, or a list",
            default: "",
            meaning: "where instances, clients and operators are answered; port 0 takes a free one",
        },
        Key {
            name: "advertise",
            unit: "list of host:port",
            default: "[]",
            meaning: "the addresses that others are told, in order of preference; none: `listen`",
        },
        Key {
            name: "identity",
            unit: "table",
            default: "none",
            meaning: "cluster, content, instance and log, given by its agent; without it `--init` founds a cluster \
                      of its own, without agents",
        },
        Key {
            name: "voters",
            unit: "list, each host:port or a list",
            default: "[]",
            meaning: "the agents that vote on who coordinates, in their fixed order, each at one address or several; \
                      none: it stands alone",
        },
        Key {
            name: "coordinators",
            unit: "list of host:port",
            default: "[]",
            meaning: "where coordinators are: its own address and its standby's",
        },
        Key {
            name: "log",
            unit: "level",
            default: "\"info\"",
            meaning: "log lines on standard error: error, warn, info, debug, trace, or directives of tracing",
        },
    ];

    fn check(&self) -> Result<(), Wrong> {
        instance::check_addresses("listen", &self.listen)?;
        for voter in &self.voters {
            instance::check_addresses("voters", voter)?;
        }
        let lists = [("advertise", &self.advertise), ("coordinators", &self.coordinators)];
        for (key, list) in lists {
            list.iter().try_for_each(|address| instance::check_address(key, address))?;
        }
        Ok(())
    }
}
