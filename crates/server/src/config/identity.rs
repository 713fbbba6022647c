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

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Vec<String> {
    fn from(found: OneOrMore) -> Self {
        match found {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// One value, or a list of them.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    OneOrMore::deserialize(deserializer).map(Vec::from)
}

/// A list, each of one value or a list of them.
pub(super) fn each_one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Vec<String>>, D::Error> {
    let found = Vec::<OneOrMore>::deserialize(deserializer)?;
    Ok(found.into_iter().map(Vec::from).collect())
}
