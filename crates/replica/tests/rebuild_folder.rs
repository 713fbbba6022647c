//! A copy made anew in a real folder, with the store that is shipped: killed between any two renames, and never
//! opened half-done.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod rebuild_support;

use std::path::Path;
use std::sync::Arc;

use outrigger_replica::rebuild::{DataDir, Mode, Next, Plan, Step, Target};
use outrigger_replica::runtime::{Replica, ReplicaError};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::{KeyRange, StateStore, StoreError};
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::verify::{VerifyOptions, verify};
use rebuild_support::{COPY, Primary, Wire, identity, plan};

fn open_store(path: &Path) -> Result<Arc<dyn StateStore>, StoreError> {
    LsmStore::open(path, LsmOptions::default()).map(|store| Arc::new(store) as Arc<dyn StateStore>)
}

/// One process: it goes on until `ends` says so, or to the end.
fn live(
    dir: &Path,
    wire: &mut Wire,
    primary: &mut Primary,
    plan: &Plan,
    mut ends: impl FnMut(&Target) -> bool,
) -> bool {
    let mut ground = DataDir::new(dir, open_store).unwrap();
    let mut target = Target::open(&mut ground, plan.clone()).unwrap();
    loop {
        match target.next(wire.now, &mut ground).unwrap() {
            Next::Ready => return true,
            Next::Worked => {}
            Next::Wait(until) => wire.now = until,
            Next::Ask(body) => {
                let answer = wire.carry(primary, body);
                target.take(wire.now, &mut ground, answer).unwrap();
            }
        }
        if ends(&target) {
            return false;
        }
    }
}

fn check(dir: &Path, primary: &Primary) {
    assert_eq!(Replica::identity(dir).unwrap(), identity(COPY));
    for gone in ["rebuild", "rebuilding", "set-aside"] {
        assert!(!dir.join(gone).exists(), "{gone} is left");
    }
    let store = open_store(&dir.join("store")).unwrap();
    let found = store.hash(&KeyRange::all()).unwrap();
    assert_eq!(primary.states.get(&found.at), Some(&found.hash));
    let mut disk = PlainDisk::open(PlainOptions::new(dir.join("wal"))).unwrap();
    let report = verify(&mut disk, &VerifyOptions::default()).unwrap();
    assert!(report.is_sound() && report.end >= found.at, "{report:?}");
}

#[test]
fn a_copy_is_killed_between_any_two_renames_and_never_opens_half_done() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut primary = Primary::new(1);
    primary.fill(100);
    // First into an empty folder, then over what that made.
    for (round, mode) in [(1, Mode::Full), (2, Mode::Differential)] {
        primary.put("row-00001", format!("round {round}").as_bytes());
        let mut wire = Wire::new(100 * round);
        let placing = |target: &Target| target.progress().step >= Step::Placing;
        assert!(!live(dir, &mut wire, &mut primary, &plan(), placing));
        let mut lives = 0;
        loop {
            for refused in [Replica::lock(dir).map(drop), Replica::identity(dir).map(drop)] {
                assert!(matches!(refused, Err(ReplicaError::Rebuilding { .. })), "{refused:?}");
            }
            lives += 1;
            let ended = live(dir, &mut wire, &mut primary, &plan(), |target| {
                assert!(placing(target), "it began once more");
                target.progress().step < Step::Ready
            });
            if ended {
                break;
            }
        }
        assert!(lives >= 5, "{lives} renames");
        assert_eq!(wire.asked["open"], 1, "the rest needs no source");
        check(dir, &primary);
        let (chunks, differential) = (wire.asked["chunk"], mode == Mode::Differential);
        assert!(if differential { chunks <= 3 } else { chunks > 5 }, "{mode:?}: {chunks}");
    }
}

#[test]
fn a_copy_that_ends_after_each_step_of_its_way_comes_to_the_same_end() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let mut primary = Primary::new(1);
    primary.fill(30);
    let mut wire = Wire::new(1);
    for steps in 1.. {
        let mut left = steps;
        let ended = live(dir, &mut wire, &mut primary, &plan(), |_| {
            left -= 1;
            left == 0
        });
        if ended {
            break;
        }
        // What would start is whole.
        if Replica::identity(dir).is_ok() {
            break;
        }
        primary.put("row-00002", format!("after {steps} steps").as_bytes());
    }
    check(dir, &primary);
}
