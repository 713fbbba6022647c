//! Reading a log from any record on, and following its tail.
//!
//! Guarantees: only durable records are yielded, in LSN order, each once, voids left out; the hot
//! tail comes from memory, the rest by plain reads through a file handle of the reader's own, and
//! the log never waits for them. Not here: finding a record by what is in it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use super::Wal;
use crate::disk::{FileId, IoFault};
use crate::error::Error;
use crate::format::{Block, Record, RecordFlag, Records};
use crate::log::{Fetch, decode_run};
use crate::lsn::Lsn;

/// How much is fetched at once, unless a block is larger.
const FETCH_BYTES: u64 = 256 << 10;

/// Reads records one by one. It keeps its log open.
pub struct Reader {
    wal: Wal,
    /// Where to begin, until that was found.
    seek: Option<Lsn>,
    /// The record that was found there.
    found: Option<Record>,
    /// What is left of the block before `at`.
    records: Option<Records>,
    /// Where the next block starts.
    at: Lsn,
    /// Blocks from `at` on; the last ones may not be durable yet.
    blocks: VecDeque<Block>,
    file: Option<(FileId, File)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("wal", &self.wal)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(wal: Wal, from: Lsn) -> Result<Self, Error> {
        let durable = wal.durable();
        let at = wal.shared().with_core(|core| {
            let log = &core.ok_or(Error::Closed)?.log;
            if from < log.start() {
                return Err(Error::Recycled { lsn: from, start: log.start() });
            }
            // What is not durable may not even be sealed: it is looked for when it is.
            let known = from.min(durable);
            let known = if known == durable { Some(durable) } else { log.boundary_before(known) };
            Ok(known.unwrap_or(log.start()))
        })?;
        let mut reader = Self {
            wal,
            seek: Some(from),
            found: None,
            records: None,
            at,
            blocks: VecDeque::new(),
            file: None,
        };
        reader.seek(durable)?;
        Ok(reader)
    }

    /// The next record, or `None` when there is no durable one yet. Reads from the disk when the
    /// record is not in memory any more.
    ///
    /// # Errors
    /// [`Error::Recycled`] when the place was deleted meanwhile; [`Error::NotABoundary`] when the
    /// reader was made for a place that was not durable yet and turned out to be no record's start;
    /// [`Error::Closed`]; the disk's, and [`Error::Damage`].
    #[expect(clippy::should_implement_trait, reason = "no iterator: `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Record>, Error> {
        let durable = self.wal.durable();
        if !self.seek(durable)? {
            return Ok(None);
        }
        loop {
            let record = match self.found.take() {
                Some(record) => Some(record),
                None => self.next_of_block()?,
            };
            match record {
                Some(record) if record.flag == RecordFlag::Void => {}
                Some(record) => return Ok(Some(record)),
                None => match self.next_block(durable)? {
                    Some(block) => self.records = Some(self.records_of(&block)?),
                    None => return Ok(None),
                },
            }
        }
    }

    /// The next record; waits until there is a durable one.
    ///
    /// # Errors
    /// As [`Reader::next`]; [`Error::Poisoned`] and [`Error::Closed`] when there will be none.
    ///
    /// # Cancel safety
    /// No record is lost.
    pub async fn next_durable(&mut self) -> Result<Record, Error> {
        loop {
            if let Some(record) = self.next()? {
                return Ok(record);
            }
            self.wal.wait_durable(self.waits_for()).await?;
        }
    }

    /// [`Reader::next_durable`] for threads.
    ///
    /// # Errors
    /// As [`Reader::next_durable`].
    pub fn next_blocking(&mut self) -> Result<Record, Error> {
        loop {
            if let Some(record) = self.next()? {
                return Ok(record);
            }
            self.wal.wait_durable(self.waits_for()).blocking()?;
        }
    }

    /// Whether the reader was made for a block's start, and nothing was read yet.
    pub(super) const fn is_at_boundary(&self) -> bool {
        self.seek.is_none() && self.found.is_none() && self.records.is_none()
    }

    fn waits_for(&self) -> Lsn {
        self.seek.map_or(self.at, |from| from.max(self.at)).saturating_add(1)
    }

    /// Goes to the place that the reader was made for; `false` while that is not durable yet.
    fn seek(&mut self, durable: Lsn) -> Result<bool, Error> {
        let Some(from) = self.seek else { return Ok(true) };
        let none = Err(Error::NotABoundary { lsn: from, what: "record" });
        while self.at < from {
            let Some(block) = self.next_block(durable)? else { return Ok(false) };
            if block.end() <= from {
                continue;
            }
            self.records = Some(self.records_of(&block)?);
            while let Some(record) = self.next_of_block()? {
                if record.lsn == from {
                    self.found = Some(record);
                    self.seek = None;
                    return Ok(true);
                }
            }
            return none;
        }
        if self.at > from {
            return none;
        }
        self.seek = None;
        Ok(true)
    }

    fn next_of_block(&mut self) -> Result<Option<Record>, Error> {
        let Some(next) = self.records.as_mut().and_then(Iterator::next) else { return Ok(None) };
        next.map(Some).map_err(|error| self.damage(self.at, error.to_string()))
    }

    fn records_of(&self, block: &Block) -> Result<Records, Error> {
        block.records().map_err(|error| self.damage(block.lsn(), error.to_string()))
    }

    /// The next block, if it is durable.
    fn next_block(&mut self, durable: Lsn) -> Result<Option<Block>, Error> {
        self.records = None;
        if self.at >= durable {
            return Ok(None);
        }
        if self.blocks.is_empty() {
            self.fetch(durable)?;
        }
        match self.blocks.pop_front() {
            Some(block) if block.end() <= durable => {
                self.at = block.end();
                Ok(Some(block))
            }
            Some(block) => {
                self.blocks.push_front(block);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn fetch(&mut self, durable: Lsn) -> Result<(), Error> {
        let fetch = self
            .wal
            .shared()
            .with_core(|core| core.ok_or(Error::Closed)?.log.fetch(self.at, FETCH_BYTES))?;
        let mut blocks = Vec::new();
        match fetch {
            Fetch::Blocks(found) => blocks = found,
            Fetch::AtEnd => {}
            Fetch::Read { file, at, len } => {
                let bytes = self.read(file, at, len)?;
                if let Some(need) = self.decode(durable, len, &bytes, &mut blocks)? {
                    let bytes = self.read(file, at, need)?;
                    self.decode(durable, need, &bytes, &mut blocks)?;
                }
            }
        }
        self.blocks.extend(blocks);
        Ok(())
    }

    fn decode(
        &self,
        durable: Lsn,
        asked: u32,
        bytes: &Bytes,
        blocks: &mut Vec<Block>,
    ) -> Result<Option<u32>, Error> {
        let handle = &self.wal.handle;
        decode_run(handle.log, handle.segment_bytes, self.at, durable, asked, bytes, blocks)
    }

    fn read(&mut self, file: FileId, at: u64, len: u32) -> Result<Bytes, Error> {
        let read = match self.file.take().filter(|(open, _)| *open == file) {
            Some((_, open)) => read_at(open, at, len),
            None => File::open(self.wal.handle.dir.join(file.name()))
                .and_then(|open| read_at(open, at, len)),
        };
        match read {
            Ok((open, bytes)) => {
                self.file = Some((file, open));
                Ok(bytes)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let start = self.wal.start_lsn()?;
                if self.at < start {
                    return Err(Error::Recycled { lsn: self.at, start });
                }
                Err(IoFault::NotFound { file: file.name() }.into())
            }
            Err(error) => {
                let (file, cause) = (file.name(), error.to_string());
                Err(IoFault::Failed { file, operation: "read", cause }.into())
            }
        }
    }

    fn damage(&self, lsn: Lsn, cause: String) -> Error {
        let number = lsn.0.checked_div(self.wal.handle.segment_bytes).unwrap_or_default();
        Error::Damage {
            file: FileId::Segment(number),
            lsn,
            cause,
            promised: self.wal.durable(),
            promise: "it was checked when it was written",
        }
    }
}

/// Up to `len` bytes; fewer at the file's end.
fn read_at(file: File, at: u64, len: u32) -> io::Result<(File, Bytes)> {
    // Bounded by the log: what it asks for lies within a segment, or was verified in a header.
    let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or_default());
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((file, bytes.freeze()))
}
