//! The log of a copy in the making: blocks that come in parts, checked and written where they belong.
//!
//! Guarantees: a block is written when it is whole, its checksums hold, and it follows the one before by the running
//! hash; what was written in an earlier try is read back and gone on from. Not here: the last word, which is
//! recovery's, with the control file of the new copy.

use bytes::{Bytes, BytesMut};
use outrigger_wal::disk::{Disk, DiskExt, FileId, Io};
use outrigger_wal::format::{Block, BlockHeader, HEADER_BYTES};
use outrigger_wal::recover::{RecoverOptions, recover};
use outrigger_wal::{LogId, Lsn, RunningHash};

use super::RebuildError;
use super::protocol::BlockPart;
use crate::control::Identity;

static ZERO_PAGE: [u8; 4096] = [0; 4096];

/// Blocks on their way into the new log.
#[derive(Debug)]
pub(super) struct Taking {
    log: LogId,
    segment_bytes: u64,
    from: Lsn,
    to: Lsn,
    /// Where the next block starts.
    at: Lsn,
    hash: Option<RunningHash>,
    /// The stored bytes of that block that are there.
    part: BytesMut,
    /// The segment that is written, made by this one.
    segment: Option<u64>,
}

impl Taking {
    /// Goes on with what is in the folder, if it is of use; else from the start of the segment at `from`.
    pub(super) fn begin(
        disk: &mut dyn Disk,
        identity: &Identity,
        from: Lsn,
        to: Lsn,
    ) -> Result<Self, RebuildError> {
        let Identity { log, content, segment_bytes, .. } = *identity;
        let mut taking = Self {
            log,
            segment_bytes,
            from,
            to,
            at: from,
            hash: None,
            part: BytesMut::new(),
            segment: None,
        };
        let options = RecoverOptions {
            log: Some(log),
            content: Some(content),
            segment_bytes: Some(segment_bytes),
            ..RecoverOptions::default()
        };
        match recover(disk, &options) {
            Ok(Some(found)) if found.start == from && from < found.end && found.end <= to => {
                taking.at = found.end;
                taking.hash = Some(found.hash);
                let reached = found.end.0.saturating_sub(1).checked_div(segment_bytes);
                taking.segment = reached;
            }
            Ok(None) => {}
            _ => Self::wipe(disk)?,
        }
        if taking.segment.is_none() {
            taking.make(disk, from.0.checked_div(segment_bytes).unwrap_or_default())?;
        }
        Ok(taking)
    }

    /// Takes everything in the log's folder away.
    pub(super) fn wipe(disk: &mut dyn Disk) -> Result<(), RebuildError> {
        let mut disk = disk.blocking();
        let (files, _) = disk.list(outrigger_wal::disk::Dir::Log)?;
        for file in files {
            disk.remove(file)?;
        }
        Ok(())
    }

    /// What to ask for next: a block, and how many of its bytes are there. `None`: all is there.
    pub(super) fn next(&self) -> Option<(Lsn, u32)> {
        let skip = u32::try_from(self.part.len()).unwrap_or(u32::MAX);
        (self.at < self.to).then_some((self.at, skip))
    }

    /// Log space that is there, in bytes.
    pub(super) const fn done_bytes(&self) -> u64 {
        self.at.0.saturating_sub(self.from.0)
    }

    /// Takes parts; `Ok(false)`: they are not what follows, and nothing of them was kept.
    pub(super) fn take(
        &mut self,
        disk: &mut dyn Disk,
        parts: Vec<BlockPart>,
    ) -> Result<bool, RebuildError> {
        for BlockPart { from, skip, bytes } in parts {
            let there = u32::try_from(self.part.len()).unwrap_or(u32::MAX);
            if from != self.at || skip != there || bytes.is_empty() || self.at >= self.to {
                return Ok(false);
            }
            self.part.extend_from_slice(&bytes);
            let Some(stored_len) = self.stored_len() else {
                self.part.clear();
                return Ok(false);
            };
            if stored_len.is_none_or(|len| self.part.len() < len) {
                continue;
            }
            let stored = self.part.split().freeze();
            if !self.block(disk, stored)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How long the block is whose first bytes are there; inner `None`: not known yet. Outer `None`: it is no
    /// block of this place.
    fn stored_len(&self) -> Option<Option<usize>> {
        if self.part.len() < HEADER_BYTES {
            return Some(None);
        }
        let header = BlockHeader::decode(&self.part, self.log).ok()?;
        // Checked by the header's own checksum: bounded by the largest block.
        let len = usize::try_from(header.stored_len).ok()?;
        (header.lsn == self.at && header.end() <= self.to && self.part.len() <= len)
            .then_some(Some(len))
    }

    fn block(&mut self, disk: &mut dyn Disk, stored: Bytes) -> Result<bool, RebuildError> {
        let Ok(block) = Block::open(stored, self.at, self.log) else { return Ok(false) };
        let begins = self.hash.is_none();
        let head = block.segment_head_entry();
        if begins && head.is_none() || self.hash.is_some_and(|hash| hash != block.hash_before()) {
            return Ok(false);
        }
        let (number, at) = self.place(self.at);
        if self.place(Lsn(block.end().0.saturating_sub(1))).0 != number {
            return Ok(false);
        }
        if self.segment != Some(number) {
            self.finish(disk)?;
            self.make(disk, number)?;
        }
        let mut parts = vec![block.stored().clone()];
        if block.padding_bytes() > 0 {
            parts.push(Bytes::from_static(&ZERO_PAGE).slice(..block.padding_bytes()));
        }
        let write = Io::Write { file: FileId::Segment(number), at, parts, dsync: false };
        disk.blocking().run(write)?;
        self.at = block.end();
        self.hash = Some(block.hash_after());
        Ok(true)
    }

    fn place(&self, at: Lsn) -> (u64, u64) {
        let number = at.0.checked_div(self.segment_bytes).unwrap_or_default();
        (number, at.0.checked_rem(self.segment_bytes).unwrap_or_default())
    }

    /// Makes a segment of zeros; it has its name only when they are durable.
    fn make(&mut self, disk: &mut dyn Disk, number: u64) -> Result<(), RebuildError> {
        let mut disk = disk.blocking();
        let made = FileId::Prepared(0);
        disk.run(Io::Create(made))?;
        disk.run(Io::Zero { file: made, at: 0, len: self.segment_bytes })?;
        disk.publish(made, FileId::Segment(number))?;
        self.segment = Some(number);
        Ok(())
    }

    /// Makes the segment that is written durable.
    pub(super) fn finish(&self, disk: &mut dyn Disk) -> Result<(), RebuildError> {
        if let Some(number) = self.segment {
            disk.blocking().run(Io::Sync(FileId::Segment(number)))?;
        }
        Ok(())
    }
}
