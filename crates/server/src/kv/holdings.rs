//! Which buckets the content of this instance holds, and since which map.
//!
//! An instance that was told of no map holds whatever it is asked for. What it was told is the fence: a router with
//! an old map cannot put a row where nobody will look for it.
//!
//! Guarantees: once [`Holdings::give_up`] has returned, no write of that bucket will be appended here, and those
//! that were are in the log before whatever is appended next. Not here: keeping this over a restart, which the
//! content's own log does (whoever moves buckets appends what it tells us).

use std::collections::BTreeMap;

use outrigger_cluster::buckets::{Bucket, MapVersion, bucket_of};
use parking_lot::{RwLock, RwLockReadGuard};

use super::protocol::{BucketSet, Change};

/// What is known of a bucket; nothing: it is held since always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Since(MapVersion),
    No,
}

#[derive(Debug, Default)]
struct Table {
    buckets: BTreeMap<Bucket, Held>,
    /// Counts the changes.
    changes: u64,
}

/// The buckets of one content, as its instance knows.
#[derive(Debug, Default)]
pub(crate) struct Holdings(RwLock<Table>);

/// What is held does not change while this is.
pub(crate) struct Steady<'a> {
    _table: RwLockReadGuard<'a, Table>,
}

/// Rows that are read are held for as long as this counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark(u64);

impl Holdings {
    /// From now on a bucket is held, by the map of this version.
    #[cfg_attr(not(test), expect(dead_code, reason = "whoever moves buckets calls it"))]
    pub(crate) fn take_up(&self, bucket: Bucket, since: MapVersion) {
        self.set(bucket, Held::Since(since));
    }

    /// From now on a bucket is not held.
    #[cfg_attr(not(test), expect(dead_code, reason = "whoever moves buckets calls it"))]
    pub(crate) fn give_up(&self, bucket: Bucket) {
        self.set(bucket, Held::No);
    }

    fn set(&self, bucket: Bucket, held: Held) {
        let mut table = self.0.write();
        table.buckets.insert(bucket, held);
        table.changes = table.changes.wrapping_add(1);
    }

    /// Whether all of these rows may be written under a map; nothing changes while the answer is kept. Version 0:
    /// its client chose the content.
    pub(crate) fn may_write(&self, changes: &[Change], map: u64) -> Option<Steady<'_>> {
        let table = self.0.read();
        let may = table.buckets.is_empty()
            || changes.iter().all(|change| match table.buckets.get(&bucket_of(change.key())) {
                None => true,
                Some(Held::Since(since)) => map == 0 || since.0 <= map,
                Some(Held::No) => false,
            });
        may.then_some(Steady { _table: table })
    }

    /// Whether the row at `key` may be read.
    pub(crate) fn may_read(&self, key: &[u8]) -> Option<Mark> {
        let table = self.0.read();
        let held = table.buckets.get(&bucket_of(key)) != Some(&Held::No);
        held.then_some(Mark(table.changes))
    }

    /// Whether rows of all of these may be read.
    pub(crate) fn may_read_all(&self, of: &BucketSet) -> Option<Mark> {
        let table = self.0.read();
        let gone = |(bucket, held): (&Bucket, &Held)| *held == Held::No && of.contains(*bucket);
        (!table.buckets.iter().any(gone)).then_some(Mark(table.changes))
    }

    /// Whether what was read since then was held all the while.
    pub(crate) fn still(&self, mark: Mark) -> bool {
        self.0.read().changes == mark.0
    }
}
