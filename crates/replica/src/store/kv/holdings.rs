//! Which buckets of rows a content holds: state of its log, like its rows.
//!
//! A content that was told nothing about a bucket holds it. What it is told are records of its own log
//! ([`Hold`]), so that every copy knows it, and a copy that is promoted, rebuilt or restarted knows it before
//! it serves. Each telling names a version of the cluster's map of buckets, or a token, and one that comes late
//! changes nothing: versions and tokens only grow.
//!
//! Guarantees: a write behind the record that gave its bucket up has no effect, and leaves no outcome; rows that are
//! moved in or swept have an effect only while the bucket is not held, and under the token that was told last.
//! Not here: who moves rows, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_wal::Lsn;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use xxhash_rust::xxh3::xxh3_64;

use super::HOLDING_PREFIX;

/// How many buckets there are, in every cluster and for good.
pub const BUCKETS: u16 = 1024;
/// Changed keys that are remembered for whoever copies rows, at most; with more the copy begins anew.
const MAX_TRACKED: usize = 1 << 16;
/// Their bytes, at most.
const MAX_TRACKED_BYTES: usize = 8 << 20;

const VERSION: u8 = 1;
const HELD: u8 = 1;
const NOT_HELD: u8 = 2;

/// The bucket of a row: the upper ten bits of the XXH3-64 (seed 0) of its key. This is stable for good.
#[must_use]
pub fn bucket_of(key: &[u8]) -> u16 {
    // Ten bits are left: always less than [`BUCKETS`].
    u16::try_from(xxh3_64(key) >> 54).unwrap_or_default()
}

/// One try to move buckets; a later one has a greater token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Token {
    /// The number of the coordinator's reign.
    pub epoch: u64,
    /// Counts within it.
    pub number: u64,
}

/// What a content is told about a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hold {
    /// It holds the bucket no more, by the map of version `at`; and only `token` sweeps its rows.
    GiveUp {
        /// The version.
        at: u64,
        /// Whose rows.
        token: Token,
    },
    /// It does not hold the bucket yet; only `token` moves rows in. An owner takes no notice.
    Receive {
        /// Whose rows.
        token: Token,
    },
    /// It holds the bucket, by the map of version `since`.
    TakeUp {
        /// The version.
        since: u64,
    },
}

/// How a content stands to a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Held {
    /// It holds it since this version of the map.
    Since(u64),
    /// It does not.
    No {
        /// By which version of the map; 0: it never did.
        at: u64,
        /// Whose rows are moved in, or swept.
        token: Token,
    },
}

impl Held {
    /// What is known after a telling.
    fn told(known: Option<Self>, hold: Hold) -> Option<Self> {
        match (known, hold) {
            (None, Hold::GiveUp { at, token }) => Some(Self::No { at, token }),
            (Some(Self::Since(since)), Hold::GiveUp { at, token }) if since < at => {
                Some(Self::No { at, token })
            }
            (Some(Self::No { at: before, token: had }), Hold::GiveUp { at, token }) => {
                Some(Self::No { at: before.max(at), token: had.max(token) })
            }
            (None, Hold::Receive { token }) => Some(Self::No { at: 0, token }),
            (Some(Self::No { at, token: had }), Hold::Receive { token }) => {
                Some(Self::No { at, token: had.max(token) })
            }
            (None, Hold::TakeUp { since }) => Some(Self::Since(since)),
            (Some(Self::No { at, .. }), Hold::TakeUp { since }) if since > at => {
                Some(Self::Since(since))
            }
            (known, _) => known,
        }
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(26);
        out.put_u8(VERSION);
        match self {
            Self::Since(since) => {
                out.put_u8(HELD);
                out.put_u64_le(since);
            }
            Self::No { at, token } => {
                out.put_u8(NOT_HELD);
                out.put_u64_le(at);
                out.put_u64_le(token.epoch);
                out.put_u64_le(token.number);
            }
        }
        out.freeze()
    }

    fn decode(mut value: &[u8]) -> Result<Self, HoldingsError> {
        let short = |_| HoldingsError::Malformed;
        let found = value.try_get_u8().map_err(short)?;
        if found > VERSION {
            return Err(HoldingsError::Newer { found });
        }
        let kind = value.try_get_u8().map_err(short)?;
        let first = value.try_get_u64_le().map_err(short)?;
        let held = match (found, kind) {
            (VERSION, HELD) => Self::Since(first),
            (VERSION, NOT_HELD) => {
                let epoch = value.try_get_u64_le().map_err(short)?;
                let number = value.try_get_u64_le().map_err(short)?;
                Self::No { at: first, token: Token { epoch, number } }
            }
            _ => return Err(HoldingsError::Malformed),
        };
        if value.is_empty() { Ok(held) } else { Err(HoldingsError::Malformed) }
    }
}

/// Why a pair says nothing about a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldingsError {
    /// It is not what an export makes.
    #[error("what is known of a bucket is malformed")]
    Malformed,
    /// It was written by a newer release.
    #[error("what is known of a bucket has version {found}, newer than this release ({VERSION})")]
    Newer {
        /// The version found.
        found: u8,
    },
}

#[derive(Clone, Debug, Default)]
struct Table {
    buckets: BTreeMap<u16, Held>,
    /// Counts the changes.
    changes: u64,
    /// Changed since they were drained.
    changed: BTreeSet<u16>,
}

/// Keys that changed while rows are copied, and the record that changed each last.
#[derive(Debug)]
struct Track {
    token: Token,
    buckets: BTreeSet<u16>,
    keys: BTreeMap<Bytes, Lsn>,
    bytes: usize,
}

/// The buckets of one content, as far as its log is applied.
#[derive(Debug, Default)]
pub struct Holdings {
    table: RwLock<Table>,
    /// Only where rows are copied from here: not state, and gone with the process.
    track: Mutex<Option<Track>>,
    tracks: AtomicBool,
}

/// What is held does not change while this is.
#[must_use = "it holds as long as it is kept"]
#[derive(Debug)]
pub struct Steady<'a> {
    _table: RwLockReadGuard<'a, Table>,
}

/// What was read is of rows that are held for as long as this counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

/// The tracking of changed keys is over: they are not all known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("changed rows are not known under this token: the copy begins anew")]
pub struct NotTracked;

impl Clone for Holdings {
    /// What is known; nothing is tracked in the copy.
    fn clone(&self) -> Self {
        Self { table: RwLock::new(self.table.read().clone()), ..Self::default() }
    }
}

impl Table {
    fn set(&mut self, bucket: u16, held: Option<Held>) {
        let Some(held) = held else { return };
        if self.buckets.insert(bucket, held) != Some(held) {
            self.changes = self.changes.wrapping_add(1);
            self.changed.insert(bucket);
        }
    }

    fn holds(&self, bucket: u16) -> bool {
        !matches!(self.buckets.get(&bucket), Some(Held::No { .. }))
    }
}

impl Holdings {
    /// How the content stands to a bucket; `None`: it was told nothing, and holds it.
    #[must_use]
    pub fn held(&self, bucket: u16) -> Option<Held> {
        self.table.read().buckets.get(&bucket).copied()
    }

    /// Whether all of these rows may be written under a map of this version; nothing changes while the answer is
    /// kept. Version 0: its client chose the content.
    pub fn may_write<'k>(
        &self,
        mut keys: impl Iterator<Item = &'k Bytes>,
        map: u64,
    ) -> Option<(Steady<'_>, Mark)> {
        let table = self.table.read();
        let may = table.buckets.is_empty()
            || keys.all(|key| match table.buckets.get(&bucket_of(key)) {
                None => true,
                Some(Held::Since(since)) => map == 0 || *since <= map,
                Some(Held::No { .. }) => false,
            });
        let mark = Mark(table.changes);
        may.then_some((Steady { _table: table }, mark))
    }

    /// Whether the row at `key` may be read.
    #[must_use]
    pub fn may_read(&self, key: &[u8]) -> Option<Mark> {
        let table = self.table.read();
        table.holds(bucket_of(key)).then_some(Mark(table.changes))
    }

    /// Whether rows of all buckets that `wanted` names may be read.
    #[must_use]
    pub fn may_read_all(&self, wanted: impl Fn(u16) -> bool) -> Option<Mark> {
        let table = self.table.read();
        let mut told = table.buckets.keys();
        let all = told.all(|bucket| !wanted(*bucket) || table.holds(*bucket));
        all.then_some(Mark(table.changes))
    }

    /// Whether what was read since then was held all the while.
    #[must_use]
    pub fn still(&self, mark: Mark) -> bool {
        self.table.read().changes == mark.0
    }

    /// Whether writes of all these rows have an effect.
    pub(super) fn all_held<'k>(&self, mut keys: impl Iterator<Item = &'k Bytes>) -> bool {
        let table = self.table.read();
        table.buckets.is_empty() || keys.all(|key| table.holds(bucket_of(key)))
    }

    /// Whether rows of a key's bucket are moved in, or swept, under this token.
    #[must_use]
    pub fn takes(&self, key: &[u8], token: Token) -> bool {
        let found = self.held(bucket_of(key));
        matches!(found, Some(Held::No { token: had, .. }) if had == token)
    }

    /// A record of the log tells something.
    pub(super) fn tell(&self, bucket: u16, hold: Hold) {
        let mut table = self.table.write();
        let known = table.buckets.get(&bucket).copied();
        table.set(bucket, Held::told(known, hold));
    }

    /// From now on the keys of these buckets that change are remembered, instead of any before.
    pub fn track(&self, token: Token, buckets: BTreeSet<u16>) {
        let mut track = self.track.lock();
        *track = Some(Track { token, buckets, keys: BTreeMap::new(), bytes: 0 });
        self.tracks.store(true, Ordering::Release);
    }

    /// A row changes.
    pub(super) fn changes(&self, key: &Bytes, at: Lsn) {
        if !self.tracks.load(Ordering::Acquire) {
            return;
        }
        let mut track = self.track.lock();
        let Some(open) = track.as_mut().filter(|open| open.buckets.contains(&bucket_of(key)))
        else {
            return;
        };
        // Copied: a slice would keep the whole block in memory.
        if open.keys.insert(Bytes::copy_from_slice(key), at).is_none() {
            open.bytes = open.bytes.saturating_add(key.len());
        }
        if open.keys.len() > MAX_TRACKED || open.bytes > MAX_TRACKED_BYTES {
            *track = None;
            self.tracks.store(false, Ordering::Release);
        }
    }

    /// Takes out up to `most` keys that have changed, in records before `shown`; what they are now is for the caller to
    /// read. With it: how many are left.
    ///
    /// # Errors
    /// [`NotTracked`]: nothing is tracked under this token any more.
    pub fn take_changed(
        &self,
        token: Token,
        shown: Lsn,
        most: usize,
    ) -> Result<(Vec<Bytes>, usize), NotTracked> {
        let mut track = self.track.lock();
        let open = track.as_mut().filter(|open| open.token == token).ok_or(NotTracked)?;
        // ORDER: one whose change no reader is shown yet stays: its row would be read as it was.
        let due = open.keys.iter().filter(|(_, at)| **at < shown).take(most);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in &due {
            open.keys.remove(key);
            open.bytes = open.bytes.saturating_sub(key.len());
        }
        Ok((due, open.keys.len()))
    }

    /// Keys that were taken out and not read after all are changed still.
    pub fn put_back(&self, token: Token, keys: Vec<Bytes>) {
        let mut track = self.track.lock();
        let Some(open) = track.as_mut().filter(|open| open.token == token) else { return };
        for key in keys {
            let bytes = key.len();
            if let std::collections::btree_map::Entry::Vacant(free) = open.keys.entry(key) {
                free.insert(Lsn::ZERO);
                open.bytes = open.bytes.saturating_add(bytes);
            }
        }
    }

    /// The exported pairs, in key order.
    #[must_use]
    pub fn export(&self) -> Vec<(Bytes, Bytes)> {
        let table = self.table.read();
        table.buckets.iter().map(|(bucket, held)| (export_key(*bucket), held.encode())).collect()
    }

    /// The exported pairs that changed since the last call.
    pub fn drain_changed(&self) -> Vec<(Bytes, Bytes)> {
        if self.table.read().changed.is_empty() {
            return Vec::new();
        }
        let mut table = self.table.write();
        let changed = std::mem::take(&mut table.changed);
        let told = changed.into_iter().filter_map(|bucket| {
            let held = table.buckets.get(&bucket)?;
            Some((export_key(bucket), held.encode()))
        });
        told.collect()
    }

    /// Takes in one exported pair.
    ///
    /// # Errors
    /// When it is malformed, or of a newer release.
    pub fn import(&self, key: &[u8], value: &[u8]) -> Result<(), HoldingsError> {
        let (&[prefix, high, low], held) = (
            <&[u8; 3]>::try_from(key).map_err(|_| HoldingsError::Malformed)?,
            Held::decode(value)?,
        );
        let bucket = u16::from_be_bytes([high, low]);
        if prefix != HOLDING_PREFIX || bucket >= BUCKETS {
            return Err(HoldingsError::Malformed);
        }
        self.table.write().set(bucket, Some(held));
        Ok(())
    }

    /// Forgets everything.
    pub(in crate::store) fn clear(&self) {
        let mut table = self.table.write();
        let changes = table.changes.wrapping_add(1);
        *table = Table { changes, ..Table::default() };
    }

    /// Says what another says.
    pub(in crate::store) fn become_like(&self, other: &Self) {
        let other = other.table.read().clone();
        let mut table = self.table.write();
        let changes = table.changes.wrapping_add(1);
        *table = Table { changes, ..other };
    }
}

fn export_key(bucket: u16) -> Bytes {
    let mut key = BytesMut::with_capacity(3);
    key.put_u8(HOLDING_PREFIX);
    key.put_u16(bucket);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(number: u64) -> Token {
        Token { epoch: 1, number }
    }

    fn told(holds: &[Hold]) -> Option<Held> {
        holds.iter().fold(None, |known, hold| Held::told(known, *hold))
    }

    #[test]
    fn a_word_that_comes_late_changes_nothing() {
        let give_up = |at, number| Hold::GiveUp { at, token: token(number) };
        let take_up = |since| Hold::TakeUp { since };
        let receive = |number| Hold::Receive { token: token(number) };
        let no = |at, number| Some(Held::No { at, token: token(number) });
        // Given up, and taken up again by a later map.
        assert_eq!(told(&[give_up(3, 1), take_up(5)]), Some(Held::Since(5)));
        assert_eq!(told(&[give_up(3, 1), take_up(5), give_up(3, 1)]), Some(Held::Since(5)));
        assert_eq!(told(&[give_up(3, 1), take_up(5), receive(9)]), Some(Held::Since(5)));
        // And given up once more: the first taking up is over.
        let twice = [give_up(3, 1), take_up(5), give_up(7, 2)];
        assert_eq!(told(&twice), no(7, 2));
        assert_eq!(told(&[&twice[..], &[take_up(5)]].concat()), no(7, 2));
        assert_eq!(told(&[&twice[..], &[receive(1)]].concat()), no(7, 2));
        assert_eq!(told(&[&twice[..], &[give_up(3, 1)]].concat()), no(7, 2));
        assert_eq!(told(&[&twice[..], &[receive(4)]].concat()), no(7, 4));
    }

    #[test]
    fn a_write_by_a_map_from_before_a_bucket_came_back_is_not_taken() {
        let (holdings, key) = (Holdings::default(), Bytes::from_static(b"key"));
        let may = |map| holdings.may_write([&key].into_iter(), map).is_some();
        assert!(may(1));
        holdings.tell(bucket_of(&key), Hold::GiveUp { at: 3, token: token(1) });
        assert!(!may(1) && !may(9) && holdings.may_read(&key).is_none());
        holdings.tell(bucket_of(&key), Hold::TakeUp { since: 5 });
        assert!(!may(4) && may(5) && may(0));
    }

    #[test]
    fn what_is_exported_is_imported_and_what_is_malformed_is_refused() {
        let holdings = Holdings::default();
        holdings.tell(7, Hold::GiveUp { at: 3, token: token(1) });
        holdings.tell(1023, Hold::TakeUp { since: 5 });
        let (pairs, copy) = (holdings.export(), Holdings::default());
        assert!(pairs.is_sorted());
        for (key, value) in &pairs {
            copy.import(key, value).unwrap();
            assert_eq!(copy.import(&key[..2], value), Err(HoldingsError::Malformed));
            for len in 0..value.len() {
                assert!(copy.import(key, &value[..len]).is_err());
            }
        }
        assert_eq!(copy.export(), pairs);
        assert_eq!(copy.drain_changed(), pairs);
        assert!(copy.drain_changed().is_empty());
    }

    #[test]
    fn a_write_behind_the_record_that_gave_its_bucket_up_has_no_effect_and_no_outcome() {
        use super::super::{ClientId, Op, Outcome, Outcomes, Write, decide};
        use outrigger_wal::format::{Record, RecordFlag};
        let (holdings, mut outcomes, mut changes) =
            (Holdings::default(), Outcomes::default(), Vec::new());
        let key = Bytes::from_static(b"key");
        let put = Op::Put { key: key.clone(), value: Bytes::new() };
        let write = Write { client: ClientId(1), sequence: 1, op: put };
        let hold = Hold::GiveUp { at: 3, token: token(1) };
        let give_up = Write::of_move(Op::Hold { bucket: bucket_of(&key), hold });
        for (lsn, write) in [(10, give_up), (20, write)] {
            let body = write.encode().unwrap();
            let (lsn, end) = (Lsn(lsn), Lsn(lsn + 10));
            let record = Record { lsn, end, flag: RecordFlag::Record, body };
            decide(&mut outcomes, &holdings, &[record], &mut changes).unwrap();
        }
        assert!(changes.is_empty());
        assert_eq!(outcomes.outcome(ClientId(1), 1), Outcome::Unknown);
    }
}
