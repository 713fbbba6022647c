//! Keys by name: which there are, which line they stand on, which one was meant.

use std::collections::BTreeMap;

use toml::de::DeTable;

/// How far from a known key a name may be to be taken for a slip, 0 to 1.
const SIMILAR: f64 = 0.7;

/// A key of a configuration file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its value is: a type or a unit.
    pub(crate) unit: &'static str,
    /// Its default; empty when it must be given.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

/// The keys as a command's help lists them.
pub(crate) fn key_help(keys: &[Key]) -> String {
    let lines = keys.iter().map(|Key { name, unit, default, meaning }| {
        let default = if default.is_empty() {
            "must be given".to_owned()
        } else {
            format!("default {default}")
        };
        format!("  {name} ({unit}; {default})\n      {meaning}\n")
    });
    format!("Keys of the configuration, in TOML:\n{}", lines.collect::<String>())
}

/// The line on which each key of the file stands.
pub(super) fn lines(text: &str) -> Result<BTreeMap<String, usize>, toml::de::Error> {
    let table = DeTable::parse(text)?;
    Ok(table
        .get_ref()
        .keys()
        .map(|key| (key.get_ref().to_string(), line_of(text, key.span().start)))
        .collect())
}

/// The line, counted from 1, that holds the byte at `at`.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Refuses the first unknown key.
pub(super) fn check(found: &BTreeMap<String, usize>, known: &[Key]) -> Result<(), (usize, String)> {
    let is_known = |name: &str| known.iter().any(|key| key.name == name);
    let unknown = found.iter().filter(|(name, _)| !is_known(name)).min_by_key(|(_, line)| **line);
    let Some((name, line)) = unknown else { return Ok(()) };
    let closest = known
        .iter()
        .map(|key| (strsim::jaro_winkler(name, key.name), key.name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let hint = match closest {
        Some((similarity, closest)) if similarity >= SIMILAR => format!("did you mean {closest}?"),
        _ => {
            let names: Vec<_> = known.iter().map(|key| key.name).collect();
            format!("the keys are {}", names.join(", "))
        }
    };
    Err((*line, format!("unknown key {name}; {hint}")))
}
