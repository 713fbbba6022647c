//! `docs/failover.md` names the test of each row: the tests are there, and each row of the decision has one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The names of the tests in the files below a folder.
fn tests_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut tests_below(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let marked = text.split("#[test]").skip(1);
            let named = marked.filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next());
            found.extend(named.map(str::to_owned));
        }
    }
    found
}

/// Each path of a test file that the page names.
fn paths(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('/') && name.ends_with(".rs")).map(str::to_owned).collect()
}

/// The section of the page under this heading.
fn section(page: &str, heading: &str) -> String {
    let rest = page.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// What stands in backquotes and looks like a test's name.
fn names(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && !name.starts_with("fts_")
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    quoted.filter(is_test).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = read("docs/failover.md");
    let mut named = names(&section(&page, "Event, what happens, how long"));
    named.append(&mut names(&section(&page, "WarehousePG's cases")));
    let there = tests_below(&root().join("crates"));
    assert!(named.len() > 40, "{} names", named.len());
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let crates = root().join("crates");
    let paths = paths(&section(&page, "WarehousePG's cases"));
    let lost: Vec<_> = paths
        .iter()
        .filter(|path| !root().join(path).is_file() && !crates.join(path).is_file())
        .collect();
    assert!(paths.len() > 5 && lost.is_empty(), "{lost:?}");
}

#[test]
fn every_row_of_the_decision_is_on_the_page() {
    let page = read("docs/failover.md");
    let named = names(&page);
    let text = read("crates/cluster/tests/failover_decisions.rs");
    let tests = text.split("#[test]").skip(1).filter_map(|rest| {
        rest.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).map(str::to_owned)
    });
    let missing: Vec<_> = tests.filter(|name| !named.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
