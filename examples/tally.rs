//! A state machine of one's own on a primary and its mirror, in one process: a commit, a promotion,
//! a commit on the new primary, and the old one following it.
//!
//! `cargo run --example tally`
#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use outrigger::{Fold, LocalCluster, Replayed};

const PATIENCE: Duration = Duration::from_secs(30);

/// How often each word was committed.
#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Fold for Tally {
    fn fold(&mut self, word: &[u8]) {
        *self.0.entry(String::from_utf8_lossy(word).into_owned()).or_default() += 1;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let cluster = LocalCluster::new()?;
    let tallies = [(); 2].map(|()| Arc::new(Replayed::new(Tally::default())));
    let [first, second] = &tallies;
    let primary = cluster.open(&dir.path().join("first"), first.clone())?;
    let mirror = cluster.open(&dir.path().join("second"), second.clone())?;
    if !primary.wait_serving(PATIENCE) || !cluster.wait_in_sync(&primary, 2) {
        return Err("the copies are not in sync".into());
    }
    for word in ["wal", "mirror", "wal"] {
        println!("{word}: {:?}", primary.append(word.as_bytes())?.blocking());
    }

    cluster.promote(mirror.instance())?;
    if !mirror.wait_serving(PATIENCE) {
        return Err("the mirror does not serve".into());
    }
    let last = mirror.append(b"wal")?;
    println!("after the promotion: {:?}", last.blocking());
    for replica in [&primary, &mirror] {
        if !replica.wait_until(PATIENCE, |status| status.applied >= last.end()) {
            return Err("a copy does not follow".into());
        }
    }
    for (name, tally) in ["first", "second"].iter().zip(&tallies) {
        println!("{name}: {:?}", tally.read(|tally| tally.0.clone()));
    }
    mirror.close()?;
    primary.close()?;
    Ok(())
}
