//! Keys by name: which there are, which line they stand on, which one was meant.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// How far from a known key a name may be to be taken for a slip, 0 to 1.
const SIMILAR: f64 = 0.7;

/// A key of a configuration file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name; behind that of its table, if it stands in one: `host.addresses`.
    pub(crate) name: &'static str,
    /// What its value is: a type or a unit.
    pub(crate) unit: &'static str,
    /// Its default; empty when it must be given, `none` when it may be left out.
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

/// A key as it stands in a file.
pub(super) struct Found {
    /// Its name behind those of the tables that hold it: `host.addresses`.
    pub(super) name: String,
    /// The same, with the number of the entry in each list of tables, from 0: `host[2].addresses`.
    pub(super) place: String,
    /// The line, counted from 1.
    pub(super) line: usize,
    /// Where its value is, in bytes of the file.
    value: Range<usize>,
}

/// The keys of the file, in its order; those in tables only where tables are known.
pub(super) fn found(text: &str, known: &[Key]) -> Result<Vec<Found>, toml::de::Error> {
    let mut all = Vec::new();
    collect(DeTable::parse(text)?.get_ref(), ("", ""), (text, known), &mut all);
    all.sort_by_key(|found| found.line);
    Ok(all)
}

fn collect(
    table: &DeTable<'_>,
    (names, places): (&str, &str),
    context: (&str, &[Key]),
    all: &mut Vec<Found>,
) {
    for (key, value) in table {
        let name = format!("{names}{}", key.get_ref());
        let place = format!("{places}{}", key.get_ref());
        let (text, known) = context;
        let line = line_of(text, key.span().start);
        let below = format!("{name}.");
        if known.iter().any(|key| key.name.starts_with(&below)) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    collect(table, (&below, &format!("{place}.")), context, all);
                }
                DeValue::Array(entries) => {
                    for (at, entry) in entries.iter().enumerate() {
                        if let DeValue::Table(table) = entry.get_ref() {
                            collect(table, (&below, &format!("{place}[{at}].")), context, all);
                        }
                    }
                }
                _ => {}
            }
        }
        all.push(Found { name, place, line, value: value.span() });
    }
}

/// The innermost key whose value holds the byte at `at`.
pub(super) fn holding(found: &[Found], at: usize) -> Option<&Found> {
    let holding = found.iter().filter(|found| found.value.contains(&at));
    holding.min_by_key(|found| found.value.len())
}

/// The line, counted from 1, that holds the byte at `at`.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Refuses the first unknown key.
pub(super) fn check(found: &[Found], known: &[Key]) -> Result<(), (usize, String)> {
    let is_known = |name: &str| {
        let rest = |key: &Key| key.name.strip_prefix(name);
        known.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let Some(unknown) = found.iter().find(|found| !is_known(&found.name)) else { return Ok(()) };
    let (table, name) = split(&unknown.name);
    // The names that could stand there: keys, and tables by their first part.
    let mut names: Vec<&str> = known
        .iter()
        .filter_map(|key| key.name.strip_prefix(table))
        .map(|rest| rest.split_once('.').map_or(rest, |(first, _)| first))
        .collect();
    names.dedup();
    let hint = match closest(name, names.iter().copied()) {
        Some(closest) => format!("did you mean {table}{closest}?"),
        None => format!("the keys are {}", names.join(", ")),
    };
    Err((unknown.line, format!("unknown key {}; {hint}", unknown.name)))
}

/// The name that somebody may have meant.
pub(crate) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|known| (strsim::jaro_winkler(name, known), known));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(similarity, _)| *similarity >= SIMILAR).map(|(_, known)| known)
}

/// A name's tables, with the dot behind them, and its last part.
fn split(name: &str) -> (&str, &str) {
    name.rfind('.').map_or(("", name), |dot| name.split_at(dot + 1))
}
