//! Reading the log by LSN through the files that hold it.
//!
//! Guarantees: nothing is read past a segment's end, a missing file reads as empty, and a block is
//! one slice of one buffer. Not here: what the bytes mean.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::{Blocking, FileId, IoFault};
use crate::lsn::{Lsn, PAGE_BYTES};

/// How much is read at once, unless a block is larger.
const WINDOW_BYTES: u64 = 256 << 10;

/// The segments of a log, read one window at a time.
pub(crate) struct LogBytes {
    segment_bytes: u64,
    /// Number and length of each segment file.
    files: BTreeMap<u64, u64>,
    at: Lsn,
    window: Bytes,
}

impl LogBytes {
    pub(crate) const fn new(segment_bytes: u64, files: BTreeMap<u64, u64>) -> Self {
        Self { segment_bytes, files, at: Lsn::ZERO, window: Bytes::new() }
    }

    pub(crate) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The number of the segment that holds `lsn`.
    pub(crate) const fn segment(&self, lsn: Lsn) -> u64 {
        lsn.0 / self.segment_bytes
    }

    /// The file that holds `lsn`.
    pub(crate) const fn file(&self, lsn: Lsn) -> FileId {
        FileId::Segment(self.segment(lsn))
    }

    /// Where the segment that holds `lsn` ends.
    pub(crate) const fn segment_end(&self, lsn: Lsn) -> Lsn {
        Lsn((self.segment(lsn) + 1).saturating_mul(self.segment_bytes))
    }

    /// The length of the file that holds `lsn`, when there is one.
    pub(crate) fn file_len(&self, lsn: Lsn) -> Option<u64> {
        self.files.get(&self.segment(lsn)).copied()
    }

    /// The numbers of the files, ascending.
    pub(crate) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.files.keys().copied()
    }

    /// Up to `len` bytes from `lsn`: fewer where the file or the segment ends.
    pub(crate) fn at(
        &mut self,
        disk: &mut Blocking<'_>,
        lsn: Lsn,
        len: u64,
    ) -> Result<Bytes, IoFault> {
        let Some(file_len) = self.file_len(lsn) else {
            return Ok(Bytes::new());
        };
        let offset = lsn.0 % self.segment_bytes;
        let there = file_len.min(self.segment_bytes).saturating_sub(offset);
        let len = len.min(there);
        if let Some(found) = self.in_window(lsn, len) {
            return Ok(found);
        }
        let ask = len.max(WINDOW_BYTES).min(there);
        let ask = u32::try_from(ask).unwrap_or(u32::MAX);
        self.window = disk.read(self.file(lsn), offset, ask)?;
        self.at = lsn;
        let whole = self.window.len() as u64;
        Ok(self.in_window(lsn, len.min(whole)).unwrap_or_default())
    }

    /// The page at `lsn`.
    pub(crate) fn page(&mut self, disk: &mut Blocking<'_>, lsn: Lsn) -> Result<Bytes, IoFault> {
        self.at(disk, lsn, PAGE_BYTES)
    }

    fn in_window(&self, lsn: Lsn, len: u64) -> Option<Bytes> {
        // A window never reaches beyond its segment, so LSNs suffice to tell where it lies.
        let from = usize::try_from(lsn.0.checked_sub(self.at.0)?).ok()?;
        let to = from.checked_add(usize::try_from(len).ok()?)?;
        (to <= self.window.len()).then(|| self.window.slice(from..to))
    }
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.get(..chunk.len()) == Some(chunk))
}
