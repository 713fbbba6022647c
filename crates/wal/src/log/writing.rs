//! How a log grows: what was claimed is sealed, becomes the log's end, and is written.
//!
//! Guarantees: a write holds whole blocks that lie one behind the other in one segment, which is durably there.
//! Not here: when ([`Log::pump`]), completions ([`Log::done`]).

use bytes::Bytes;

use super::{Flight, Log, bump};
use crate::append::Claimed;
use crate::disk::{FileId, Io, OpId};
use crate::format::{Block, EpochEntry, Kind, Seal, SegmentHead};
use crate::lsn::{Micros, PAGE_BYTES, RunningHash};

static ZERO_PAGE: [u8; 4096] = [0; 4096];
const _: () = assert!(ZERO_PAGE.len() as u64 == PAGE_BYTES);

impl Log {
    pub(super) fn seal(&mut self, claimed: Claimed) -> Block {
        let seal = |log: &Self, lsn| Seal {
            log: log.id,
            lsn,
            epoch: log.epoch.number,
            hash_before: log.hash,
            durable: log.durable,
            // A copy that was told of commits which it never held promises no more than it has.
            commit: log.commit.min(lsn),
            sealed_micros: log.wall_micros,
        };
        if let Some(entry) = self.beginning.take() {
            self.epoch = entry.epoch;
            self.epochs.push(entry);
        }
        match claimed {
            Claimed::Data { lsn, body } => body.seal(&seal(self, lsn)),
            Claimed::Pad { lsn, extent } => Block::pad(extent, &seal(self, lsn)),
            Claimed::SegmentHead { lsn } => {
                let head = SegmentHead {
                    log: self.id,
                    content: self.content,
                    segment_bytes: self.segment_bytes,
                    start: lsn,
                    predecessor_end: self.end,
                    predecessor_hash: self.hash,
                    epochs: self.recent_epochs(),
                };
                Block::segment_head(&head, &seal(self, lsn))
            }
            Claimed::EpochBegin { lsn, begin } => Block::epoch_begin(&begin, &seal(self, lsn)),
            Claimed::Open { lsn, open } => Block::open_mark(&open, &seal(self, lsn)),
            Claimed::Watermark { lsn } => Block::watermark(&seal(self, lsn)),
        }
    }

    fn recent_epochs(&self) -> Vec<EpochEntry> {
        let skip = self.epochs.len().saturating_sub(64);
        self.epochs.iter().skip(skip).copied().collect()
    }

    /// Makes a block the log's last one.
    pub(super) fn accept(&mut self, now: Micros, block: Block) {
        let begins = match block.kind() {
            Kind::SegmentHead => block.segment_head_entry().and_then(|head| head.begins().copied()),
            Kind::EpochBegin => block.epoch_begin_entry().map(|begin| EpochEntry {
                epoch: begin.epoch,
                start: begin.from,
                instance: begin.instance,
            }),
            _ => None,
        };
        if let Some(entry) = begins.filter(|entry| self.epochs.last() != Some(entry)) {
            self.epoch = entry.epoch;
            self.epochs.push(entry);
        }
        self.busy_since = (self.sealing && block.kind() != Kind::Watermark).then_some(now);
        self.end = block.end();
        self.hash = block.hash_after();
        self.index.insert(block.lsn());
        self.tail.push(block.clone());
        self.unwritten_bytes = self.unwritten_bytes.saturating_add(block.stored().len() as u64);
        self.waiting.push_back(block);
    }

    /// Starts writes while there are slots: each a run of blocks that lie one behind the other.
    pub(super) fn write(&mut self, out: &mut Vec<(OpId, Io)>) {
        while self.has_slot() {
            let Some(first) = self.waiting.front() else { return };
            let segment = first.lsn().0 / self.segment_bytes;
            if !self.segments.is_ready(segment) {
                return;
            }
            let at = first.lsn().0 % self.segment_bytes;
            let mut parts = Vec::new();
            let mut bytes = 0u64;
            let mut stored_bytes = 0u64;
            let mut end = first.lsn();
            let mut hash = RunningHash::default();
            while let Some(block) = self.waiting.front() {
                let length = (block.stored().len() as u64).next_multiple_of(PAGE_BYTES);
                let fits = parts.is_empty()
                    || (block.lsn().0 / self.segment_bytes == segment
                        && bytes.saturating_add(length) <= self.options.max_write_bytes);
                if !fits {
                    break;
                }
                // What a compressed block or a pad stores ends before its extent: a gap follows.
                let gap = block.end().since(block.lsn()) > length;
                parts.push(block.stored().clone());
                if block.padding_bytes() > 0 {
                    parts.push(Bytes::from_static(&ZERO_PAGE).slice(..block.padding_bytes()));
                }
                bytes = bytes.saturating_add(length);
                stored_bytes = stored_bytes.saturating_add(block.stored().len() as u64);
                end = block.end();
                hash = block.hash_after();
                self.waiting.pop_front();
                if gap {
                    break;
                }
            }
            let op = bump(&mut self.next_op);
            self.flights.push_back(Flight { op, end, hash, stored_bytes, done: false });
            self.writes = self.writes.saturating_add(1);
            out.push((op, Io::Write { file: FileId::Segment(segment), at, parts, dsync: true }));
        }
    }
}
