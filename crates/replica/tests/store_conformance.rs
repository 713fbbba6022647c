//! Both stores pass the whole conformance suite; the one on disk also with so small a memtable that
//! it makes checkpoints by itself, in the middle of runs, and compacts all the time.

mod store_support;

use outrigger_replica::conformance::{self, Factory};
use outrigger_replica::store::lsm::LsmOptions;
use store_support::{Lsm, Memory};

fn passes(factory: &mut dyn Factory) {
    let report = conformance::run(factory);
    assert!(report.is_conformant(), "{report}");
    assert!(report.skipped.is_empty(), "{report}");
    assert_eq!(report.passed.len(), conformance::checks().len());
}

#[test]
fn the_store_in_memory_conforms() {
    passes(&mut Memory::default());
}

#[test]
fn the_store_on_disk_conforms() {
    passes(&mut Lsm::new(LsmOptions::default()));
}

#[test]
fn the_store_on_disk_conforms_when_it_flushes_all_the_time() {
    passes(&mut Lsm::new(LsmOptions {
        memtable_bytes: 6000,
        ..LsmOptions::default()
    }));
}
