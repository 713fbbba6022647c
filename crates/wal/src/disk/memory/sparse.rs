//! The bytes of a file in memory, as pages that exist only where something was written: a
//! zero-filled segment costs nothing.
//!
//! Guarantees: what was never written reads as zeros; a clone shares its pages until either side
//! writes. Not here: names, durability.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::lsn::PAGE_BYTES;

const PAGE_USIZE: usize = 4096;

/// The content of one page.
pub type Page = Arc<[u8; PAGE_USIZE]>;

/// A file's bytes, page by page; an absent page holds zeros.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct SparseBytes {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl SparseBytes {
    /// The length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the length is zero.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the length. What lies behind a shorter one is gone; a longer one shows zeros, or
    /// pages that [`Self::set_page`] put there.
    pub fn set_len(&mut self, len: u64) {
        let keep = len.div_ceil(PAGE_BYTES);
        drop(self.pages.split_off(&keep));
        let inside = offset_in_page(len);
        if inside > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES))
        {
            Arc::make_mut(page)[inside..].fill(0);
        }
        self.len = len;
    }

    /// Writes `bytes` from byte `at`; grows when they end behind the end.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let inside = offset_in_page(at);
            let (piece, later) = rest.split_at(rest.len().min(PAGE_USIZE - inside));
            let page =
                self.pages.entry(at / PAGE_BYTES).or_insert_with(|| Arc::new([0; PAGE_USIZE]));
            Arc::make_mut(page)[inside..inside + piece.len()].copy_from_slice(piece);
            at = at.saturating_add(piece.len() as u64);
            rest = later;
        }
        self.len = self.len.max(at);
    }

    /// Writes `len` zeros from byte `at`; grows when they end behind the end.
    pub fn zero(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let touched: Vec<u64> =
            self.pages.range(at / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(|(n, _)| *n).collect();
        for number in touched {
            let start = number.saturating_mul(PAGE_BYTES);
            if at <= start && start.saturating_add(PAGE_BYTES) <= end {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                let from = offset_in_page(at.max(start));
                let to = usize::try_from(end - start).unwrap_or(PAGE_USIZE).min(PAGE_USIZE);
                Arc::make_mut(page)[from..to].fill(0);
            }
        }
        self.len = self.len.max(end);
    }

    /// Up to `len` bytes from byte `at`; fewer at the end.
    #[must_use]
    pub fn read(&self, at: u64, len: u64) -> Bytes {
        let end = at.saturating_add(len).min(self.len);
        let mut got = BytesMut::new();
        let mut at = at;
        while at < end {
            let inside = offset_in_page(at);
            let piece = usize::try_from(end - at).unwrap_or(PAGE_USIZE).min(PAGE_USIZE - inside);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => got.extend_from_slice(&page[inside..inside + piece]),
                None => got.resize(got.len() + piece, 0),
            }
            at += piece as u64;
        }
        got.freeze()
    }

    /// The page with this number, `None` when it holds zeros.
    #[must_use]
    pub fn page(&self, number: u64) -> Option<&Page> {
        self.pages.get(&number)
    }

    /// Puts a page in place, whatever the length is; `None` is a page of zeros.
    pub fn set_page(&mut self, number: u64, page: Option<Page>) {
        match page {
            Some(page) => drop(self.pages.insert(number, page)),
            None => drop(self.pages.remove(&number)),
        }
    }
}

fn offset_in_page(at: u64) -> usize {
    usize::try_from(at % PAGE_BYTES).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vector_of_bytes() {
        let mut sparse = SparseBytes::default();
        let mut plain: Vec<u8> = Vec::new();
        let mut state = 7_u64;
        for round in 0..400_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
            let at = usize::try_from((state >> 33) % 20_000).unwrap();
            let len = usize::try_from((state >> 17) % 9_000).unwrap();
            match state >> 61 {
                0 => {
                    sparse.set_len(at as u64);
                    plain.resize(at, 0);
                }
                1..=3 => {
                    sparse.zero(at as u64, len as u64);
                    plain.resize(plain.len().max(at + len), 0);
                    plain[at..at + len].fill(0);
                }
                _ => {
                    let bytes = vec![state.to_le_bytes()[1] | 1; len];
                    sparse.write(at as u64, &bytes);
                    if len > 0 {
                        plain.resize(plain.len().max(at + len), 0);
                        plain[at..at + len].copy_from_slice(&bytes);
                    }
                }
            }
            assert_eq!(sparse.len(), plain.len() as u64);
            assert_eq!(sparse.read(0, u64::MAX), plain);
            let middle = plain.get(at..(at + len).min(plain.len())).unwrap_or_default();
            assert_eq!(sparse.read(at as u64, len as u64), middle);
        }
    }

    #[test]
    fn zeros_take_no_memory_and_clones_do_not_see_later_writes() {
        let mut sparse = SparseBytes::default();
        sparse.zero(0, 1 << 40);
        assert_eq!(sparse.pages.len(), 0);
        sparse.write(1 << 30, b"here");
        let before = sparse.clone();
        sparse.write(1 << 30, b"gone");
        assert_eq!(before.read(1 << 30, 4), "here");
        assert_eq!(sparse.read(1 << 30, 4), "gone");
    }
}
