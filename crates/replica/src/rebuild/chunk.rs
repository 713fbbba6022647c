//! A state in parts: ranges of keys that follow each other without a gap, each with the hash of its pairs.
//!
//! Guarantees: the ranges of a snapshot cover every key there could be; a chunk that is decoded has its
//! hash, its pairs ascend and lie in its range. Not here: where chunks travel and lie.

use bytes::{Buf, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::protocol::{Listed, put_bytes, take_bytes};
use crate::store::{KeyRange, Pair, Snapshot, StoreError, absorb};

/// The pairs of a range.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) listed: Listed,
    /// Keys and values, each behind its length.
    pub(super) encoded: Bytes,
}

/// Cuts a snapshot into chunks.
pub(super) struct Cutter {
    pairs: Snapshot,
    /// The first pair of the next chunk.
    next: Option<Pair>,
    from: Bytes,
    whole: Xxh3,
    begun: bool,
    ended: bool,
}

impl Cutter {
    pub(super) fn new(pairs: Snapshot) -> Self {
        let (next, from, whole) = (None, Bytes::new(), Xxh3::new());
        Self { pairs, next, from, whole, begun: false, ended: false }
    }

    /// The hash of everything, once the last chunk is out.
    pub(super) fn whole(&self) -> Option<u128> {
        self.ended.then(|| self.whole.digest128())
    }

    /// The next chunk of about so many bytes: more only where a single pair is larger.
    pub(super) fn next(&mut self, chunk_bytes: usize) -> Result<Option<Chunk>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.next = self.pairs.next().transpose()?;
        }
        let mut encoded = BytesMut::new();
        let mut hash = Xxh3::new();
        while let Some((key, value)) = &self.next {
            let bytes = key.len().saturating_add(value.len()).saturating_add(8);
            if !encoded.is_empty() && encoded.len().saturating_add(bytes) > chunk_bytes {
                break;
            }
            put_bytes(&mut encoded, key);
            put_bytes(&mut encoded, value);
            absorb(&mut hash, key, value);
            absorb(&mut self.whole, key, value);
            self.next = self.pairs.next().transpose()?;
        }
        let to = self.next.as_ref().map(|(key, _)| key.clone());
        self.ended = to.is_none();
        let from = std::mem::replace(&mut self.from, to.clone().unwrap_or_default());
        let bytes = u64::try_from(encoded.len()).unwrap_or(u64::MAX);
        let listed = Listed { range: KeyRange { from, to }, bytes, hash: hash.digest128() };
        Ok(Some(Chunk { listed, encoded: encoded.freeze() }))
    }
}

/// The pairs of an encoded chunk that has this hash; `None`: it is not what was listed.
pub(super) fn open(listed: &Listed, encoded: &Bytes) -> Option<Vec<Pair>> {
    let mut rest = encoded.clone();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut hash = Xxh3::new();
    while rest.has_remaining() {
        let (key, value) = (take_bytes(&mut rest)?, take_bytes(&mut rest)?);
        let ascends = pairs.last().is_none_or(|(before, _)| *before < key);
        if !ascends || !listed.range.contains(&key) {
            return None;
        }
        absorb(&mut hash, &key, &value);
        pairs.push((key, value));
    }
    (hash.digest128() == listed.hash).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use outrigger_wal::Lsn;

    use super::*;

    fn snapshot(keys: &[&'static str]) -> Snapshot {
        let pair = |key: &&'static str| Ok((Bytes::from_static(key.as_bytes()), "value".into()));
        Snapshot::new(Lsn(1), keys.iter().map(pair).collect::<Vec<_>>().into_iter())
    }

    fn cut(keys: &[&'static str], chunk_bytes: usize) -> (Vec<Chunk>, u128) {
        let mut cutter = Cutter::new(snapshot(keys));
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next(chunk_bytes).unwrap() {
            chunks.push(chunk);
        }
        (chunks, cutter.whole().unwrap())
    }

    #[test]
    fn the_ranges_of_a_snapshot_cover_every_key_without_a_gap() {
        for keys in [&[][..], &["a"], &["a", "b", "c", "d", "e"]] {
            for chunk_bytes in [0, 20, 40, 1000] {
                let (chunks, whole) = cut(keys, chunk_bytes);
                assert_eq!(whole, snapshot(keys).into_hash().unwrap().hash);
                assert_eq!(chunks[0].listed.range.from, "");
                assert_eq!(chunks.last().unwrap().listed.range.to, None);
                for pair in chunks.windows(2) {
                    assert_eq!(pair[0].listed.range.to.as_ref(), Some(&pair[1].listed.range.from));
                }
                let pairs: Vec<Pair> = chunks
                    .iter()
                    .flat_map(|chunk| open(&chunk.listed, &chunk.encoded).unwrap())
                    .collect();
                assert_eq!(pairs.len(), keys.len());
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_chunk_is_refused() {
        let (chunks, _) = cut(&["a", "b", "c"], 1000);
        for at in 0..chunks[0].encoded.len() {
            for bit in 0..8 {
                let mut bytes = chunks[0].encoded.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(open(&chunks[0].listed, &bytes.into()).is_none(), "byte {at}, bit {bit}");
            }
        }
    }
}
