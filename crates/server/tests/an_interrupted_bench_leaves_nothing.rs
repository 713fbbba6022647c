//! Ctrl-C during a benchmark: its files and its processes are gone, and the exit code says so.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::{begin, until};

#[test]
fn an_interrupted_bench_leaves_neither_files_nor_processes() {
    for (what, made) in [("append", "wal"), ("commit", "mirror")] {
        // It is under way once it has a log.
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("bench");
        let path = dir.display().to_string();
        let bench = begin(&["bench", what, "--dir", &path, "--seconds", "600"], home.path());
        let scratch = || std::fs::read_dir(&dir).ok()?.next()?.ok().map(|entry| entry.path());
        until(|| scratch().is_some_and(|scratch| scratch.join(made).exists()));
        let children = bench.children();
        bench.interrupt();
        let ran = bench.end();
        assert_eq!(ran.code, Some(130), "{what}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("interrupted; "), "{what}: {}", ran.err);
        assert!(scratch().is_none(), "{what}: its folder is still there");
        until(|| children.iter().all(|id| !std::path::Path::new(&format!("/proc/{id}")).exists()));
    }
}
