//! The state as a stream of pairs: ranges, snapshots, hashes.
//!
//! Guarantees: a hash covers every byte of every pair and where each begins, in key order.
//! Not here: how a snapshot travels to another copy.

use std::fmt;

use bytes::Bytes;
use outrigger_wal::Lsn;
use xxhash_rust::xxh3::Xxh3;

use super::StoreError;

/// A key and a value of the exported state.
pub type Pair = (Bytes, Bytes);

/// A range of exported keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct KeyRange {
    /// The first key of the range.
    pub from: Bytes,
    /// The first key behind the range; `None`: it has no end.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Self { from: Bytes::new(), to: None }
    }

    /// The keys that begin with this byte.
    #[must_use]
    pub fn prefix(byte: u8) -> Self {
        let to = byte.checked_add(1).map(|next| Bytes::copy_from_slice(&[next]));
        Self { from: Bytes::copy_from_slice(&[byte]), to }
    }

    /// Whether the key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.from <= *key && self.to.as_ref().is_none_or(|to| *key < **to)
    }
}

/// The pairs of a range, in key order, all as of one LSN.
pub struct Snapshot {
    at: Lsn,
    pairs: Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send>,
}

impl Snapshot {
    /// A snapshot at `at`; `pairs` come in ascending key order.
    #[must_use]
    pub fn new(
        at: Lsn,
        pairs: impl Iterator<Item = Result<Pair, StoreError>> + Send + 'static,
    ) -> Self {
        Self { at, pairs: Box::new(pairs) }
    }

    /// The applied LSN that it shows.
    #[must_use]
    pub const fn at(&self) -> Lsn {
        self.at
    }

    /// Reads it to the end, for its hash.
    ///
    /// # Errors
    /// When a pair cannot be read.
    pub fn into_hash(self) -> Result<StateHash, StoreError> {
        let at = self.at;
        let mut hasher = Xxh3::new();
        for pair in self {
            let (key, value) = pair?;
            absorb(&mut hasher, &key, &value);
        }
        Ok(StateHash { at, hash: hasher.digest128() })
    }
}

/// Takes a pair into a hash.
pub(crate) fn absorb(hasher: &mut Xxh3, key: &[u8], value: &[u8]) {
    for bytes in [key, value] {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
}

impl Iterator for Snapshot {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pairs.next()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("at", &self.at).finish_non_exhaustive()
    }
}

/// The hash of a range of the state, and when it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateHash {
    /// The applied LSN at which it holds.
    pub at: Lsn,
    /// XXH3-128 over the pairs.
    pub hash: u128,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pairs: &[(&'static str, &'static str)]) -> u128 {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| {
                Ok((Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes())))
            })
            .collect();
        Snapshot::new(Lsn(1), pairs.into_iter()).into_hash().unwrap().hash
    }

    #[test]
    fn a_hash_tells_where_keys_and_values_begin() {
        assert_eq!(hash(&[("a", "b")]), hash(&[("a", "b")]));
        assert_ne!(hash(&[("a", "bc")]), hash(&[("ab", "c")]));
        assert_ne!(hash(&[("a", ""), ("b", "")]), hash(&[("a", "b")]));
        assert_ne!(hash(&[]), hash(&[("", "")]));
    }

    #[test]
    fn a_prefix_range_holds_what_begins_with_the_byte() {
        let range = KeyRange::prefix(b'r');
        assert!(range.contains(b"r") && range.contains(b"r\xFF\xFF") && !range.contains(b"s"));
        assert!(!range.contains(b"q\xFF") && KeyRange::prefix(255).contains(b"\xFF\xFF"));
        assert!(KeyRange::all().contains(b"") && KeyRange::all().contains(b"\xFF"));
    }
}
