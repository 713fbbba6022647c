//! Who an instance is, where an agent says it; and lists that may be one value.

use outrigger_wal::{ClusterId, InstanceId, LogId};
use serde::{Deserialize, Deserializer};

/// Identity of an instance that an agent starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// The cluster.
    #[serde(deserialize_with = "id")]
    pub(crate) cluster: ClusterId,
    /// The content; -1 for a coordinator.
    pub(crate) content: i32,
    /// The instance.
    #[serde(deserialize_with = "id")]
    pub(crate) instance: InstanceId,
    /// Its content's log.
    #[serde(deserialize_with = "id")]
    pub(crate) log: LogId,
}

fn id<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// One value, or a list of them.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    OneOrMore::deserialize(deserializer).map(|found| match found {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}
