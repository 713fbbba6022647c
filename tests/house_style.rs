//! The house style, as far as a machine can tell: CONTRIBUTING.md says it, this reads the tree.
//!
//! Not here: what clippy and rustfmt know (the lints in Cargo.toml), and taste.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// No file is longer.
const MAX_LINES: usize = 800;
/// At least half of the files that are shipped are shorter.
const MEDIAN_LINES: usize = 200;

/// Which of our crates each may build on: the arrows of ARCHITECTURE.md.
const ARROWS: [(&str, &[&str]); 8] = [
    ("crates/wal", &[]),
    ("crates/net", &["wal"]),
    ("crates/replica", &["net", "wal"]),
    ("crates/cluster", &["replica", "net", "wal"]),
    (".", &["cluster", "replica", "net", "wal"]),
    ("crates/server", &["outrigger", "cluster", "replica", "net", "wal"]),
    ("crates/sim", &["cluster", "replica", "net", "wal"]),
    ("benches", &["wal"]),
];

/// What an embedder should not have to build, by the crate that must do without it.
const HEAVY: [(&str, &[&str]); 5] = [
    ("crates/wal", &["tokio", "tokio-util"]),
    ("crates/net", &[]),
    ("crates/replica", &[]),
    ("crates/cluster", &[]),
    (".", &[]),
];
const HEAVY_FOR_ALL: [&str; 14] = [
    "axum",
    "base64",
    "clap",
    "comfy-table",
    "csv",
    "hdrhistogram",
    "indicatif",
    "rcgen",
    "serde",
    "serde_json",
    "strsim",
    "toml",
    "tracing-subscriber",
    "uuid",
];

/// Test files that may sleep, and why.
const SLEEPS: [(&str, &str); 3] = [
    ("crates/net/tests/transport.rs", "its clock stands still: the runtime moves it on at once"),
    ("crates/server/tests/hostile_clients.rs", "a sampler's pace: nothing waits for it"),
    ("crates/server/tests/support/mod.rs", "waits for real processes, between two looks"),
];

/// Where files may get names, because nothing else syncs the folder behind that, and why.
const RENAMES: [(&str, &str); 4] = [
    ("crates/wal/src/disk/", "the helper, and the disks below it"),
    ("crates/wal/src/log/segments.rs", "steps that cannot wait: the next one is the folder's sync"),
    ("crates/cluster/src/slots.rs", "files that lie in no instance's folders"),
    ("crates/sim/", "a disk, and its tests"),
];

struct Source {
    /// From the root of the tree, with slashes.
    name: String,
    text: String,
}

impl Source {
    fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Whether it holds tests alone.
    fn is_test(&self) -> bool {
        let name = &self.name;
        name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs")
    }

    /// The crate's folder, if this is what the crate is made of, not its tests.
    fn shipped_in(&self) -> Option<&str> {
        if self.name.starts_with("src/") {
            return Some(".");
        }
        let (folder, rest) =
            self.name.match_indices('/').nth(1).map(|(at, _)| self.name.split_at(at))?;
        (folder.starts_with("crates/") && rest.starts_with("/src/")).then_some(folder)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with this ending that belongs to the tree.
fn files(ending: &str) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if name != "target"
                    && name != "artifacts"
                    && (!name.starts_with('.') || name == ".ci")
                {
                    folders.push(entry.path());
                }
            } else if name.ends_with(ending) {
                let path = entry.path();
                let name =
                    path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.push(Source { name, text: fs::read_to_string(&path)? });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no {ending} in {}", root().display());
    Ok(found)
}

/// Fails with all that was found, not with the first.
fn none(found: &[String]) {
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
}

/// The lines of code, numbered from 1: comments aside.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let numbered = source.text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start()));
    numbered.filter(|(_, line)| !line.starts_with("//"))
}

/// Where any of these words stands, in any line or in code alone.
fn places<'a>(
    source: &'a Source,
    lines: impl Iterator<Item = (usize, &'a str)>,
    words: &[&str],
) -> Vec<String> {
    lines
        .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
        .map(|(at, line)| format!("{}:{at}: {}", source.name, line.trim()))
        .collect()
}

/// The names under `[dependencies]` and what is for one target alone; those for tests aside.
fn dependencies(folder: &str) -> io::Result<BTreeSet<String>> {
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
    let mut names = BTreeSet::new();
    let mut listing = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ours = !section.starts_with("workspace") && !section.contains("dev-dependencies");
            listing = ours && section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.").filter(|_| ours) {
                names.insert(name.to_owned());
            }
        } else if listing && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

#[test]
fn every_file_says_first_what_it_is() -> io::Result<()> {
    let silent = files(".rs")?.into_iter().filter(|file| !file.text.starts_with("//! "));
    none(&silent.map(|file| file.name).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn no_file_is_too_long_to_be_read() -> io::Result<()> {
    let long = files(".rs")?.into_iter().filter(|file| file.lines() > MAX_LINES);
    none(&long.map(|file| format!("{}: {} lines", file.name, file.lines())).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn half_of_the_files_are_short() -> io::Result<()> {
    let mut lines: Vec<_> =
        files(".rs")?.iter().filter(|f| f.shipped_in().is_some()).map(Source::lines).collect();
    lines.sort_unstable();
    let median = lines.get(lines.len() / 2).copied().unwrap_or_default();
    assert!(median < MEDIAN_LINES, "the median is {median} lines of {} files", lines.len());
    Ok(())
}

#[test]
fn sources_are_ascii() -> io::Result<()> {
    let mut found = Vec::new();
    for file in files(".rs")? {
        let other = file.text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
        found.extend(other.map(|(at, line)| format!("{}:{}: {line}", file.name, at + 1)));
    }
    none(&found);
    Ok(())
}

#[test]
fn nothing_is_left_for_later() -> io::Result<()> {
    // In pieces, or this file would find itself.
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    let mut found = Vec::new();
    for file in files(".rs")? {
        let all = file.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        found.extend(places(&file, all, &words));
    }
    none(&found);
    Ok(())
}

#[test]
fn lints_are_expected_with_a_reason_not_allowed() -> io::Result<()> {
    let mut found = Vec::new();
    for file in files(".rs")?.iter().filter(|file| file.shipped_in().is_some()) {
        found.extend(places(file, code(file), &[concat!("[", "allow(")]));
    }
    none(&found);
    Ok(())
}

#[test]
fn libraries_do_not_print() -> io::Result<()> {
    let macros = [concat!("print", "!("), concat!("println", "!("), concat!("dbg", "!(")];
    let mut found = Vec::new();
    for file in files(".rs")? {
        let library = file.shipped_in().is_some_and(|f| f != "crates/server" && f != "crates/sim");
        if library {
            found.extend(places(&file, code(&file), &macros));
        }
    }
    none(&found);
    Ok(())
}

/// The words of a name: of `SlotHelper` and of `slot_helper`, `slot` and `helper`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for letter in name.chars() {
        let is_next = letter.is_uppercase() && !before.is_uppercase();
        if letter == '_' || (is_next && before != '_') {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| letter != '_') {
            part.extend(letter.to_lowercase());
        }
        before = letter;
    }
    parts
}

/// The names that a line of code gives, of functions, types and modules, each with what it is.
fn named(line: &str) -> Vec<(&'static str, &str)> {
    let kinds = ["fn", "struct", "enum", "trait", "type", "mod"];
    let words: Vec<_> = line.split(' ').collect();
    let pairs = words.windows(2).filter_map(|pair| match pair {
        [kind, name] => kinds.iter().find(|known| *known == kind).map(|kind| (*kind, *name)),
        _ => None,
    });
    let ends = |c: char| !c.is_alphanumeric() && c != '_';
    pairs.map(|(kind, name)| (kind, name.split(ends).next().unwrap_or_default())).collect()
}

#[test]
fn names_say_what_a_thing_is_or_does() -> io::Result<()> {
    // What could stand for anything: no name of a type or a module.
    let empty = ["manager", "helper", "helpers", "util", "utils", "misc"];
    let mut found = Vec::new();
    for file in files(".rs")? {
        for (at, line) in code(&file) {
            for (kind, name) in named(line) {
                let parts = parts(name);
                let is_bad = if kind == "fn" {
                    name.starts_with("get_")
                } else {
                    parts.iter().any(|part| empty.contains(&part.as_str()))
                };
                if is_bad {
                    found.push(format!("{}:{at}: {kind} {name}", file.name));
                }
            }
        }
    }
    none(&found);
    Ok(())
}

#[test]
fn tests_do_not_sleep() -> io::Result<()> {
    let words = [concat!("sleep", "("), concat!("sleep", "_until("), concat!("park", "_timeout(")];
    let mut found = Vec::new();
    for file in files(".rs")? {
        let may = SLEEPS.iter().any(|(name, _)| *name == file.name);
        if !file.is_test() || may {
            continue;
        }
        // A word that merely ends so is another one.
        let whole = |line: &str, word: &str| {
            line.match_indices(word)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        for (at, line) in code(&file) {
            if words.iter().any(|word| whole(line, word)) {
                found.push(format!("{}:{at}: {}", file.name, line.trim()));
            }
        }
    }
    none(&found);
    Ok(())
}

#[test]
fn files_get_their_names_through_one_helper() -> io::Result<()> {
    let words =
        [concat!("Io::", "Rename("), concat!("fs::", "rename("), concat!("fs::", "hard_link(")];
    let mut found = Vec::new();
    for file in files(".rs")?.iter().filter(|file| !file.is_test()) {
        let may = RENAMES.iter().any(|(name, _)| file.name.starts_with(name));
        if !may {
            found.extend(places(file, code(file), &words));
        }
    }
    none(&found);
    Ok(())
}

#[test]
fn arrows_between_crates_run_one_way() -> io::Result<()> {
    let mut found = Vec::new();
    for (folder, may) in ARROWS {
        for name in dependencies(folder)? {
            let ours =
                name.strip_prefix("outrigger-").or_else(|| (name == "outrigger").then_some(&*name));
            if ours.is_some_and(|short| !may.contains(&short)) {
                found.push(format!("{folder} depends on {name}"));
            }
        }
    }
    none(&found);
    Ok(())
}

#[test]
fn every_crate_has_its_place_among_the_arrows() -> io::Result<()> {
    let known: BTreeSet<_> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = format!("crates/{}", entry?.file_name().to_string_lossy());
        if !known.contains(folder.as_str()) {
            found.push(folder);
        }
    }
    none(&found);
    Ok(())
}

#[test]
fn the_engine_stays_light() -> io::Result<()> {
    let mut found = Vec::new();
    for (folder, heavy) in HEAVY {
        let names = dependencies(folder)?;
        let heavy = heavy.iter().chain(&HEAVY_FOR_ALL).filter(|name| names.contains(**name));
        found.extend(heavy.map(|name| format!("{folder} depends on {name}")));
    }
    none(&found);
    Ok(())
}

#[test]
fn everything_is_in_the_lints_of_the_workspace() -> io::Result<()> {
    let manifests = files("Cargo.toml")?.into_iter().filter(|file| !file.name.starts_with("fuzz/"));
    let lax = manifests.filter(|file| !file.text.contains("[lints]\nworkspace = true"));
    none(&lax.map(|file| file.name).collect::<Vec<_>>());
    Ok(())
}

/// Paths in backquotes and targets of links, of one page: where they should be in the tree.
fn named_paths(page: &Source) -> Vec<String> {
    let folder = Path::new(&page.name).parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    for quoted in page.text.split('`').skip(1).step_by(2) {
        let top = ["crates/", "docs/", "tests/", "fuzz/", "benches/", "examples/", ".ci/", "src/"];
        let plain = !quoted.contains(|c: char| c.is_whitespace() || "*{}<>,:".contains(c));
        if plain && top.iter().any(|top| quoted.starts_with(top)) {
            paths.push(quoted.to_owned());
        }
    }
    for link in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = link.split('#').next().unwrap_or_default();
        if !file.is_empty() && !file.contains("://") && !file.contains(char::is_whitespace) {
            paths.push(folder.join(file).to_string_lossy().into_owned());
        }
    }
    paths
}

#[test]
fn pages_name_only_what_is_there() -> io::Result<()> {
    let mut found = BTreeSet::new();
    for page in files(".md")? {
        for path in named_paths(&page) {
            if !root().join(&path).exists() {
                found.insert(format!("{}: {path}", page.name));
            }
        }
    }
    none(&found.into_iter().collect::<Vec<_>>());
    Ok(())
}
