//! What a copy in the making has of the state: chunks that were fetched, over the store that was there.
//!
//! Chunks of earlier sessions stay of use: a range is what the latest chunk that covers a key says, and where none does
//! what the old store says. Whether that is right is told by the hash of each range.
//!
//! Guarantees: pairs come in key order, each from one place. Not here: which chunks are fetched.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use outrigger_wal::disk::{Blocking, Dir, FileId, Io, IoFault};

use super::chunk::open;
use super::protocol::{Listed, put_bytes, put_range, take_bytes, take_range};
use crate::store::{KeyRange, Pair, Snapshot, StateHash, StateStore, StoreError};

const MAGIC: [u8; 8] = *b"\x89ORK\r\n\x1a\n";

/// Which chunk says what is in a range; where none does, the old store does.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// By the first key: (the key behind the last, chunk).
    pieces: BTreeMap<Bytes, (Option<Bytes>, u64)>,
    next: u64,
    pub(super) bytes: u64,
}

impl Overlay {
    /// What lies in the folder; what is not whole is no chunk.
    pub(super) fn load(disk: &mut Blocking<'_>) -> Result<Self, IoFault> {
        let mut overlay = Self::default();
        let (files, _) = disk.list(Dir::Instance)?;
        for file in files {
            let FileId::Chunk(number) = file else { continue };
            overlay.next = number.saturating_add(1);
            match read(disk, number)? {
                Some((listed, _)) => {
                    overlay.bytes = overlay.bytes.saturating_add(listed.bytes);
                    overlay.cover(&listed.range, number);
                }
                None => disk.remove(file)?,
            }
        }
        Ok(overlay)
    }

    /// Makes a chunk durable and puts it over what is there.
    pub(super) fn add(
        &mut self,
        disk: &mut Blocking<'_>,
        listed: &Listed,
        encoded: &Bytes,
    ) -> Result<(), IoFault> {
        let number = self.next;
        let file = FileId::Chunk(number);
        disk.run(Io::Create(file))?;
        let parts = vec![encode(listed, encoded)];
        // ORDER: the bytes, then the name; a chunk that is cut short is none.
        disk.run(Io::Write { file, at: 0, parts, dsync: false })?;
        disk.run(Io::Sync(file))?;
        disk.run(Io::SyncDir(Dir::Instance))?;
        self.next = number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(listed.bytes);
        self.cover(&listed.range, number);
        Ok(())
    }

    /// A range, in pieces that each lie in one place.
    fn segments(&self, range: &KeyRange) -> VecDeque<(KeyRange, Option<u64>)> {
        let mut found = VecDeque::new();
        let mut at = range.from.clone();
        let begins_before = self.pieces.range::<Bytes, _>(..=&at).next_back();
        let behind = self
            .pieces
            .range::<Bytes, _>((std::ops::Bound::Excluded(&at), std::ops::Bound::Unbounded));
        for (from, (to, chunk)) in begins_before.into_iter().chain(behind) {
            if range.to.as_ref().is_some_and(|end| from >= end) {
                break;
            }
            if to.as_ref().is_some_and(|to| *to <= at) {
                continue;
            }
            if *from > at {
                found.push_back((KeyRange { from: at, to: Some(from.clone()) }, None));
            }
            let begin = from.max(&range.from).clone();
            let end = earlier(to.as_ref(), range.to.as_ref());
            found.push_back((KeyRange { from: begin, to: end.clone() }, Some(*chunk)));
            match end {
                Some(end) => at = end,
                None => return found,
            }
        }
        if range.to.as_ref().is_none_or(|end| at < *end) {
            found.push_back((KeyRange { from: at, to: range.to.clone() }, None));
        }
        found
    }

    fn cover(&mut self, range: &KeyRange, chunk: u64) {
        let before = self.pieces.range::<Bytes, _>(..&range.from).next_back();
        let before = before.filter(|(_, (to, _))| to.as_ref().is_none_or(|to| *to > range.from));
        let behind = self
            .pieces
            .range::<Bytes, _>(&range.from..)
            .take_while(|(from, _)| range.to.as_ref().is_none_or(|end| *from < end));
        let hidden: Vec<_> = before
            .into_iter()
            .chain(behind)
            .map(|(from, (to, number))| (from.clone(), to.clone(), *number))
            .collect();
        for (from, to, number) in hidden {
            self.pieces.remove(&from);
            if from < range.from {
                self.pieces.insert(from, (Some(range.from.clone()), number));
            }
            if let Some(end) = &range.to
                && to.as_ref().is_none_or(|to| to > end)
            {
                self.pieces.insert(end.clone(), (to, number));
            }
        }
        self.pieces.insert(range.from.clone(), (range.to.clone(), chunk));
    }
}

fn earlier(a: Option<&Bytes>, b: Option<&Bytes>) -> Option<Bytes> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.or(b).cloned(),
    }
}

/// The pairs of a range as the copy in the making has them.
pub(super) struct View<'a, 'b> {
    disk: &'a mut Blocking<'b>,
    base: Option<&'a dyn StateStore>,
    segments: VecDeque<(KeyRange, Option<u64>)>,
    current: Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send>,
    /// A chunk that could not be read.
    pub(super) lost: Option<u64>,
}

impl<'a, 'b> View<'a, 'b> {
    pub(super) fn new(
        overlay: &Overlay,
        disk: &'a mut Blocking<'b>,
        base: Option<&'a dyn StateStore>,
        range: &KeyRange,
    ) -> Self {
        let (segments, current) = (overlay.segments(range), Box::new(std::iter::empty()));
        Self { disk, base, segments, current, lost: None }
    }

    /// The hash of the range.
    pub(super) fn hash(&mut self) -> Result<u128, StoreError> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for pair in self {
            let (key, value) = pair?;
            crate::store::absorb(&mut hash, &key, &value);
        }
        Ok(hash.digest128())
    }

    fn open(
        &mut self,
        range: KeyRange,
        chunk: Option<u64>,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send>, StoreError> {
        let Some(number) = chunk else {
            return Ok(match self.base {
                Some(base) => Box::new(base.snapshot(&range)?),
                None => Box::new(std::iter::empty()),
            });
        };
        let failed = |cause: String| StoreError::Source { cause };
        let found = read(self.disk, number).map_err(|fault| failed(fault.to_string()))?;
        let Some((_, pairs)) = found else {
            self.lost = Some(number);
            return Err(failed(format!("{} is damaged", FileId::Chunk(number))));
        };
        Ok(Box::new(pairs.into_iter().filter(move |(key, _)| range.contains(key)).map(Ok)))
    }
}

impl Iterator for View<'_, '_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.current.next() {
                return Some(pair);
            }
            let (range, chunk) = self.segments.pop_front()?;
            match self.open(range, chunk) {
                Ok(pairs) => self.current = pairs,
                Err(error) => {
                    self.segments.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Magic, length of the rest, CRC-32 of the rest; range, hash, pairs.
fn encode(listed: &Listed, encoded: &Bytes) -> Bytes {
    let mut body = BytesMut::with_capacity(encoded.len().saturating_add(256));
    put_range(&mut body, &listed.range);
    body.put_u128_le(listed.hash);
    put_bytes(&mut body, encoded);
    let mut out = BytesMut::with_capacity(body.len().saturating_add(16));
    out.put_slice(&MAGIC);
    out.put_u32_le(u32::try_from(body.len()).unwrap_or(0));
    out.put_u32_le(crc32fast::hash(&body));
    out.put_slice(&body);
    out.freeze()
}

/// A chunk's range and pairs, when it is whole.
fn read(disk: &mut Blocking<'_>, number: u64) -> Result<Option<(Listed, Vec<Pair>)>, IoFault> {
    let file = FileId::Chunk(number);
    let len = disk.len(file)?.unwrap_or_default();
    let bytes = disk.read(file, 0, u32::try_from(len).unwrap_or(u32::MAX))?;
    Ok(decode(bytes))
}

fn decode(mut bytes: Bytes) -> Option<(Listed, Vec<Pair>)> {
    let magic = (bytes.remaining() >= MAGIC.len()).then(|| bytes.split_to(MAGIC.len()))?;
    let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    let sum = bytes.try_get_u32_le().ok()?;
    if magic != MAGIC.as_slice() || bytes.remaining() < len {
        return None;
    }
    let mut body = bytes.split_to(len);
    if crc32fast::hash(&body) != sum {
        return None;
    }
    let range = take_range(&mut body)?;
    let hash = body.try_get_u128_le().ok()?;
    let encoded = take_bytes(&mut body)?;
    let listed = Listed { range, bytes: encoded.len() as u64, hash };
    let pairs = open(&listed, &encoded)?;
    Some((listed, pairs))
}

/// The hash of a store's whole state, and where it holds.
pub(super) fn whole(store: &dyn StateStore) -> Result<StateHash, StoreError> {
    let snapshot: Snapshot = store.snapshot(&KeyRange::all())?;
    snapshot.into_hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &'static str, to: &'static str) -> KeyRange {
        KeyRange { from: from.into(), to: (!to.is_empty()).then(|| to.into()) }
    }

    fn whose(overlay: &Overlay, of: &KeyRange) -> String {
        let name = |(range, chunk): (KeyRange, Option<u64>)| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let to = range.to.as_ref().map(text).unwrap_or_default();
            let chunk = chunk.map_or("-".to_owned(), |chunk| chunk.to_string());
            format!("{}..{to}:{chunk}", text(&range.from))
        };
        overlay.segments(of).into_iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_latest_chunk_that_covers_a_key_says_what_it_is() {
        let mut overlay = Overlay::default();
        let all = KeyRange::all();
        assert_eq!(whose(&overlay, &all), "..:-");
        overlay.cover(&range("d", "h"), 1);
        assert_eq!(whose(&overlay, &all), "..d:- d..h:1 h..:-");
        overlay.cover(&range("e", "f"), 2);
        assert_eq!(whose(&overlay, &all), "..d:- d..e:1 e..f:2 f..h:1 h..:-");
        overlay.cover(&range("a", "e"), 3);
        assert_eq!(whose(&overlay, &all), "..a:- a..e:3 e..f:2 f..h:1 h..:-");
        assert_eq!(whose(&overlay, &range("b", "g")), "b..e:3 e..f:2 f..g:1");
        assert_eq!(whose(&overlay, &range("h", "k")), "h..k:-");
        overlay.cover(&range("g", ""), 4);
        assert_eq!(whose(&overlay, &range("f", "")), "f..g:1 g..:4");
        overlay.cover(&all, 5);
        assert_eq!(whose(&overlay, &all), "..:5");
        assert_eq!(whose(&overlay, &range("b", "c")), "b..c:5");
    }

    #[test]
    fn a_chunk_file_that_is_cut_or_flipped_is_none() {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        crate::store::absorb(&mut hash, b"k", b"v");
        let mut encoded = BytesMut::new();
        put_bytes(&mut encoded, b"k");
        put_bytes(&mut encoded, b"v");
        let listed =
            Listed { range: range("a", "z"), bytes: encoded.len() as u64, hash: hash.digest128() };
        let bytes = encode(&listed, &encoded.freeze());
        assert!(decode(bytes.clone()).is_some());
        for at in 0..bytes.len() {
            assert!(decode(bytes.slice(..at)).is_none());
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 4;
            assert!(decode(flipped.into()).is_none(), "byte {at}");
        }
    }
}
