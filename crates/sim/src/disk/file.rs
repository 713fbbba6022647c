//! One file: the page cache that a running system sees, and the platter that survives.
//!
//! Guarantees: only what a sync or a durable write covered is certain to be on the platter; sectors
//! of 512 bytes are atomic, nothing larger is. Not here: names, time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use outrigger_wal::PAGE_BYTES;
use outrigger_wal::disk::memory::{Page, SparseBytes};

use super::survival::{CrashReport, Survival};
use crate::rng::Rng;

/// What a disk writes in one piece.
pub(super) const SECTOR_BYTES: u64 = 512;
const SECTOR_USIZE: usize = 512;

/// A file's two sides.
#[derive(Clone, Default)]
pub(super) struct SimFile {
    cache: SparseBytes,
    platter: SparseBytes,
    /// Pages that the cache would still write, with the stamp of their last change.
    dirty: BTreeMap<u64, u64>,
    /// The platter from before it was emptied, while that is not durable.
    emptied: Option<SparseBytes>,
    /// Sectors that cannot be read until they are written again.
    bad: BTreeSet<u64>,
}

/// What a sync that was asked for at one moment must make durable.
#[derive(Clone)]
pub(super) struct Snapshot {
    pages: Vec<(u64, u64, Option<Page>)>,
    len: u64,
}

impl SimFile {
    /// A file with this content, all of it durable.
    pub(super) fn durable(content: &[u8]) -> Self {
        let mut file = Self::default();
        file.cache.write(0, content);
        file.platter = file.cache.clone();
        file
    }

    pub(super) const fn cache(&self) -> &SparseBytes {
        &self.cache
    }

    pub(super) const fn platter(&self) -> &SparseBytes {
        &self.platter
    }

    /// `None`: a sector in the range cannot be read.
    pub(super) fn read(&self, at: u64, len: u64) -> Option<Bytes> {
        let end = at.saturating_add(len).min(self.cache.len());
        let sectors = at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if !sectors.is_empty() && self.bad.range(sectors).next().is_some() {
            return None;
        }
        Some(self.cache.read(at, len))
    }

    /// Writes into the cache.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8], stamp: u64) {
        self.cache.write(at, bytes);
        self.touch(at, bytes.len() as u64, stamp);
    }

    /// Writes zeros into the cache.
    pub(super) fn zero(&mut self, at: u64, len: u64, stamp: u64) {
        self.cache.zero(at, len);
        self.touch(at, len, stamp);
    }

    fn touch(&mut self, at: u64, len: u64, stamp: u64) {
        for page in pages(at, len) {
            self.dirty.insert(page, stamp);
        }
        for sector in at / SECTOR_BYTES..at.saturating_add(len).div_ceil(SECTOR_BYTES) {
            if self.bad.is_empty() {
                break;
            }
            self.bad.remove(&sector);
        }
    }

    /// Writes through to the platter: these bytes and the length they need, nothing else.
    pub(super) fn write_durably(&mut self, at: u64, bytes: &[u8], stamp: u64) {
        let end = at.saturating_add(bytes.len() as u64);
        let before: BTreeSet<u64> = pages(at, bytes.len() as u64)
            .filter(|page| self.dirty.contains_key(page) && !covers(at, end, *page))
            .collect();
        self.write(at, bytes, stamp);
        for page in pages(at, bytes.len() as u64) {
            self.copy_sectors(page, sectors_within(at, end, page));
            if !before.contains(&page) {
                self.dirty.remove(&page);
            }
        }
        self.emptied = None;
        if self.platter.len() < end {
            self.platter.set_len(end);
        }
    }

    /// What a sync that is asked for now must cover.
    pub(super) fn snapshot(&self) -> Snapshot {
        let pages = self
            .dirty
            .iter()
            .map(|(page, stamp)| (*page, *stamp, self.cache.page(*page).cloned()))
            .collect();
        Snapshot { pages, len: self.cache.len() }
    }

    /// The sync is done: what it covers is on the platter. A page that was written again since
    /// is there as it was then.
    pub(super) fn synced(&mut self, snapshot: Snapshot) {
        self.emptied = None;
        for (page, stamp, content) in snapshot.pages {
            let Some(now) = self.dirty.get(&page) else {
                continue;
            };
            if *now == stamp {
                self.dirty.remove(&page);
            }
            self.platter.set_page(page, content);
        }
        if self.platter.len() < snapshot.len {
            self.platter.set_len(snapshot.len);
        }
    }

    /// A sync of these pages failed: some were written, one at least was not, and none is dirty
    /// any more. They can be read for as long as the cache lives, and no later sync writes them.
    pub(super) fn fail_sync(&mut self, range: Range<u64>, rng: &mut Rng) {
        let failing: Vec<u64> = self.dirty.range(range).map(|(page, _)| *page).collect();
        let lost = rng.pick(&failing).copied();
        for page in failing {
            if Some(page) != lost && rng.chance(500) {
                self.copy_sectors(page, 0xFF);
            }
            self.dirty.remove(&page);
        }
    }

    /// The operating system writes some dirty sectors of the range by itself.
    pub(super) fn write_back(&mut self, range: Range<u64>, per_mille: u32, rng: &mut Rng) {
        let dirty: Vec<u64> = self.dirty.range(range).map(|(page, _)| *page).collect();
        for page in dirty {
            if rng.chance(per_mille) {
                let sectors = if rng.chance(700) { 0xFF } else { any_sectors(rng) };
                self.copy_sectors(page, sectors);
            }
        }
    }

    /// Empties the file; until that is durable, the old content may come back.
    pub(super) fn empty(&mut self) {
        let old = std::mem::take(&mut self.platter);
        self.emptied.get_or_insert(old);
        self.cache = SparseBytes::default();
        self.dirty.clear();
        self.bad.clear();
    }

    /// The cache gives up its clean pages: what it shows then comes from the platter.
    pub(super) fn drop_clean_pages(&mut self) {
        let dirty: Vec<(u64, Option<Page>)> =
            self.dirty.keys().map(|page| (*page, self.cache.page(*page).cloned())).collect();
        let len = self.cache.len();
        self.cache = self.platter.clone();
        self.cache.set_len(len);
        for (page, content) in dirty {
            self.cache.set_page(page, content);
        }
    }

    /// The cache is gone; of what was dirty, any part may have reached the platter.
    pub(super) fn power_cut(&mut self, rng: &mut Rng, report: &mut CrashReport) {
        match self.emptied.take() {
            Some(old) if rng.chance(500) => {
                self.platter = old;
                report.pages_lost += self.dirty.len() as u64;
            }
            _ => self.lose_dirty_pages(rng, report),
        }
        self.dirty.clear();
        self.cache = self.platter.clone();
    }

    fn lose_dirty_pages(&mut self, rng: &mut Rng, report: &mut CrashReport) {
        let dirty: Vec<u64> = self.dirty.keys().copied().collect();
        let survival = Survival::draw(&dirty, rng);
        for page in dirty {
            let sectors = survival.sectors(page, rng);
            match sectors {
                0 => report.pages_lost += 1,
                0xFF => report.pages_kept += 1,
                _ => report.pages_torn += 1,
            }
            self.copy_sectors(page, sectors);
        }
        let (durable, seen) = (self.platter.len(), self.cache.len());
        let len = match rng.below(4) {
            0 => durable,
            1 => rng.range(durable..seen) / SECTOR_BYTES * SECTOR_BYTES,
            _ => seen,
        };
        self.platter.set_len(len.max(durable));
    }

    /// Turns a bit over, in the cache and on the platter; whether there is such a byte.
    pub(super) fn flip_bit(&mut self, at: u64, bit: u8) -> bool {
        if at >= self.cache.len() {
            return false;
        }
        for side in [&mut self.cache, &mut self.platter] {
            let there = side.read(at, 1).first().copied();
            if let Some(byte) = there {
                side.write(at, &[byte ^ 1 << (bit % 8)]);
            }
        }
        true
    }

    /// Makes the sector at this byte unreadable until it is written again.
    pub(super) fn break_sector(&mut self, at: u64) {
        self.bad.insert(at / SECTOR_BYTES);
    }

    /// Brings sectors of a page from the cache to the platter; bit 0 is the first one.
    fn copy_sectors(&mut self, page: u64, sectors: u8) {
        let from = self.cache.page(page);
        match sectors {
            0 => {}
            0xFF => self.platter.set_page(page, from.cloned()),
            _ => {
                let mut merged =
                    self.platter.page(page).cloned().unwrap_or_else(|| Arc::new([0; 4096]));
                let whole = Arc::make_mut(&mut merged);
                for (index, into) in whole.chunks_exact_mut(SECTOR_USIZE).enumerate() {
                    if sectors & 1 << index == 0 {
                        continue;
                    }
                    match from.and_then(|page| page.chunks_exact(SECTOR_USIZE).nth(index)) {
                        Some(bytes) => into.copy_from_slice(bytes),
                        None => into.fill(0),
                    }
                }
                self.platter.set_page(page, Some(merged));
            }
        }
    }
}

/// Any sectors of a page.
pub(super) fn any_sectors(rng: &mut Rng) -> u8 {
    rng.next_u64().to_le_bytes()[0]
}

/// The pages that a range of bytes touches.
pub(super) fn pages(at: u64, len: u64) -> Range<u64> {
    if len == 0 {
        return 0..0;
    }
    at / PAGE_BYTES..at.saturating_add(len).div_ceil(PAGE_BYTES)
}

fn covers(at: u64, end: u64, page: u64) -> bool {
    sectors_within(at, end, page) == 0xFF
        && at <= page * PAGE_BYTES
        && end >= (page + 1).saturating_mul(PAGE_BYTES)
}

/// The sectors of a page that a range of bytes touches.
fn sectors_within(at: u64, end: u64, page: u64) -> u8 {
    let start = page * PAGE_BYTES;
    (0..8_u64).fold(0, |mask, sector| {
        let from = start + sector * SECTOR_BYTES;
        let touched = at < from + SECTOR_BYTES && from < end;
        mask | u8::from(touched) << sector
    })
}
