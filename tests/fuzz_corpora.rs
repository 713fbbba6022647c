//! What the fuzzer starts from, and every input that ever broke something, is tried on stable too.

use std::path::Path;
use std::{fs, io};

#[path = "../fuzz/bodies/block.rs"]
mod block;

/// Runs a target's body on each input of its corpus.
fn replay(target: &str, run: fn(&[u8])) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder)? {
        run(&fs::read(entry?.path())?);
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
    Ok(())
}

#[test]
fn no_block_of_the_corpus_breaks_the_decoder() -> io::Result<()> {
    replay("block", block::run)
}
