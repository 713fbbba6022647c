//! The file of `outrigger recover -i`: which instances come back, how, and where.
//!
//! A line is `[I|D|F|][HOST|]ADDRESS|PORT|DATADIR`, then, behind a blank, where it is to be instead, without the letter:
//! I incremental, D differential, F full. Without a letter the way is found. The same place twice is full, in place.
//! Empty lines and `#` comments are skipped.
//!
//! Guarantees: a line that is wrong is named; an instance or a target that is named twice is refused with both
//! lines. Not here: whether there is such an instance.

use outrigger_cluster::operator::RecoverMode;
use outrigger_cluster::placement::Place;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct Entry {
    /// Counted from 1.
    pub(in crate::cli) line: usize,
    pub(in crate::cli) mode: RecoverMode,
    pub(in crate::cli) failed: Spot,
    pub(in crate::cli) target: Option<Spot>,
}

/// A place as a line names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cli) struct Spot {
    pub(in crate::cli) host: Option<String>,
    pub(in crate::cli) address: String,
    pub(in crate::cli) port: u16,
    pub(in crate::cli) data_dir: String,
}

impl Spot {
    /// Whether it is this place; an address may be the host's name.
    pub(in crate::cli) fn is(&self, place: &Place) -> bool {
        let host = self.host.as_ref().is_none_or(|host| *host == place.host);
        let address = self.address == place.address || self.address == place.host;
        host && address && (self.port, &self.data_dir) == (place.port, &place.data_dir)
    }
}

/// What the file says.
///
/// # Errors
/// The line, and what is wrong with it.
pub(in crate::cli) fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let mut entries: Vec<Entry> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let entry = entry(number, line).map_err(|cause| (number, cause))?;
        for other in &entries {
            if other.failed == entry.failed {
                let cause = format!("names the same instance as line {}", other.line);
                return Err((number, cause));
            }
            let taken = entry.target.as_ref().is_some_and(|target| {
                other.target.as_ref() == Some(target) || other.failed == *target
            });
            let target = other.target.as_ref() == Some(&entry.failed);
            if taken || target {
                return Err((number, format!("names the same place as line {}", other.line)));
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(line: usize, text: &str) -> Result<Entry, String> {
    let mut parts = text.split_whitespace();
    let (Some(first), second, None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("has more than two places: a path must not hold blanks".to_owned());
    };
    let (mode, first) = match first.split_once('|') {
        Some(("I" | "i", rest)) => (RecoverMode::Auto, rest),
        Some(("D" | "d", rest)) => (RecoverMode::Differential, rest),
        Some(("F" | "f", rest)) => (RecoverMode::Full, rest),
        _ => (RecoverMode::Auto, first),
    };
    let failed = spot(first)?;
    let target = second.map(spot).transpose()?;
    match target {
        // As there: the same place twice is full, in place.
        Some(target) if target == failed => {
            Ok(Entry { line, mode: RecoverMode::Full, failed, target: None })
        }
        Some(_) if mode == RecoverMode::Differential => {
            Err("is differential to another place: a new place takes everything".to_owned())
        }
        target => Ok(Entry { line, mode, failed, target }),
    }
}

fn spot(text: &str) -> Result<Spot, String> {
    let parts: Vec<_> = text.split('|').collect();
    let (host, address, port, data_dir) = match parts[..] {
        [address, port, data_dir] => (None, address, port, data_dir),
        [host, address, port, data_dir] => (Some(host.to_owned()), address, port, data_dir),
        _ => return Err(format!("{text:?}: give [HOST|]ADDRESS|PORT|DATADIR")),
    };
    let port = port.parse().map_err(|_| format!("{text:?}: {port:?} is no port"))?;
    if address.is_empty() || !data_dir.starts_with('/') {
        return Err(format!(
            "{text:?}: give an address, and a data directory that begins with '/'"
        ));
    }
    Ok(Spot { host, address: address.to_owned(), port, data_dir: data_dir.to_owned() })
}

/// A place as a line's.
pub(in crate::cli) fn written(place: &Place) -> String {
    format!("{}|{}|{}|{}", place.host, place.address, place.port, place.data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Entry {
        parse(line).unwrap().remove(0)
    }

    #[test]
    fn a_line_names_an_instance_the_way_and_the_target() {
        let plain = one("sdw1|6000|/d/gpseg0");
        assert_eq!((plain.mode, &plain.target), (RecoverMode::Auto, &None));
        assert_eq!(one("i|sdw1|6000|/d/gpseg0").failed, plain.failed);
        assert_eq!(one("D|sdw1|6000|/d/gpseg0").mode, RecoverMode::Differential);
        let moved = one("F|h|10.0.0.1|6000|/d/gpseg0 h2|10.0.0.2|6001|/e/gpseg0 # away");
        assert_eq!(moved.mode, RecoverMode::Full);
        assert_eq!(moved.target.unwrap().host.as_deref(), Some("h2"));
    }

    #[test]
    fn the_same_place_twice_is_full_in_place() {
        let entry = one("sdw1|6000|/d/gpseg0 sdw1|6000|/d/gpseg0");
        assert_eq!((entry.mode, entry.target), (RecoverMode::Full, None));
    }

    #[test]
    fn what_is_named_twice_is_refused_with_both_lines() {
        let twice = parse("a|1|/x\n\n# two\na|1|/x\n").unwrap_err();
        assert_eq!(twice, (4, "names the same instance as line 1".to_owned()));
        let target = parse("a|1|/x c|1|/x\nb|1|/x c|1|/x\n").unwrap_err();
        assert_eq!(target, (2, "names the same place as line 1".to_owned()));
        let reused = parse("a|1|/x b|1|/x\nb|1|/x\n").unwrap_err();
        assert_eq!(reused, (2, "names the same place as line 1".to_owned()));
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for wrong in ["a|b", "a|x|/d", "a|1|d", "|1|/d", "a|1|/d b|1|/d c|1|/d", "D|a|1|/d b|1|/d"]
        {
            assert_eq!(parse(&format!("\n{wrong}")).unwrap_err().0, 2, "{wrong}");
        }
    }

    #[test]
    fn an_empty_file_names_nothing() {
        assert_eq!(parse("# nothing\n\n"), Ok(Vec::new()));
    }
}
