//! The TOML files that a cluster is planned from, and a coordinator and an instance are started with.
//!
//! Guarantees: an unknown key is an error that names its line and the closest known key; the tables of
//! keys ([`ClusterConfig::KEYS`], [`InstanceConfig::KEYS`], [`CoordinatorConfig::KEYS`]) are what `docs/operations.md` shows (a test
//! compares them). Units are the last part of a name: `_ms`, `_bytes`.
//! Not here: what only one command needs, which are its options.

mod agent;
mod cluster;
mod coordinator;
mod identity;
mod instance;
mod keys;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::Error;

pub(crate) use agent::AgentConfig;
pub(crate) use cluster::ClusterConfig;
pub(crate) use coordinator::CoordinatorConfig;
pub(crate) use identity::IdentityConfig;
pub(crate) use instance::InstanceConfig;
pub(crate) use keys::{Key, closest, key_help};

/// A configuration that can be read from a file.
pub(crate) trait Keyed: DeserializeOwned {
    /// Its keys, all of them.
    const KEYS: &'static [Key];

    /// What no type can say.
    fn check(&self) -> Result<(), Wrong>;
}

/// A value that makes no sense.
pub(crate) struct Wrong {
    /// Its key; in a list of tables with the entry's number, from 0: `host[2].addresses`.
    key: String,
    /// What is wrong, and what would be right.
    cause: String,
}

impl<K: Into<String>> From<(K, String)> for Wrong {
    fn from((key, cause): (K, String)) -> Self {
        Self { key: key.into(), cause }
    }
}

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration.
///
/// # Errors
/// When the file cannot be read, or does not say what is needed.
pub(crate) fn read<C: Keyed>(path: &Path) -> Result<C, Error> {
    let unreadable = |cause| Error::file("cannot be read", path, cause);
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Path {
            path: path.to_owned(),
            cause: "is larger than 1 MiB".to_owned(),
            advice: "is it a configuration file?",
        });
    }
    parse(path, &text)
}

fn parse<C: Keyed>(path: &Path, text: &str) -> Result<C, Error> {
    let wrong = |line, cause| Error::Config { path: path.to_owned(), line, cause };
    let line_of =
        |error: &toml::de::Error| error.span().map_or(0, |span| keys::line_of(text, span.start));
    let found = keys::found(text, C::KEYS)
        .map_err(|error| wrong(line_of(&error), error.message().to_owned()))?;
    keys::check(&found, C::KEYS).map_err(|(line, cause)| wrong(line, cause))?;
    let config: C = toml::from_str(text).map_err(|error| {
        let holding = error.span().and_then(|span| keys::holding(&found, span.start));
        let key = holding.map_or_else(String::new, |key| format!("{}: ", key.name));
        wrong(line_of(&error), format!("{key}{}", error.message()))
    })?;
    config.check().map_err(|Wrong { key, cause }| {
        let place = found.iter().find(|found| found.place == key);
        let (line, name) = place.map_or((0, &key), |found| (found.line, &found.name));
        wrong(line, format!("{name}: {cause}"))
    })?;
    Ok(config)
}
