//! What lies in a log's folder: which files, how long, whose, and whether it was closed cleanly.
//!
//! Guarantees: nothing is changed. Not here: what the blocks in the files say.

use std::collections::BTreeMap;

use crate::disk::{Blocking, Dir, FileId};
use crate::error::Error;
use crate::follow::Identity;
use crate::format::{
    CLEAN_MARK_BYTES, CleanMark, CleanMarkError, SegmentHead, VERSION, is_segment_bytes,
};
use crate::lsn::{ContentId, LogId, Lsn};

/// A head lies within its segment's first page.
const HEAD_BYTES: u32 = 4096;
/// One byte more than a mark has, so that a longer file shows.
const MARK_BYTES: u32 = 65;
const _: () = assert!(MARK_BYTES as usize == CLEAN_MARK_BYTES + 1);

/// The mark of a clean close, as far as it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Absent,
    /// There, but not whole: as good as none, and reported.
    Unreadable(String),
    Whole(CleanMark),
}

impl Mark {
    pub(crate) const fn whole(&self) -> Option<&CleanMark> {
        match self {
            Self::Whole(mark) => Some(mark),
            _ => None,
        }
    }
}

/// The files of a log.
pub(crate) struct Folder {
    /// Number and length of each segment file.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Files that were to become segments.
    pub(crate) prepared: Vec<u32>,
    /// Half-made copies of segments.
    pub(crate) fresh: Vec<u64>,
    pub(crate) mark: Mark,
    /// Names that are not ours.
    pub(crate) foreign: Vec<String>,
    /// The head that each segment begins with, where it can be read.
    pub(crate) heads: BTreeMap<u64, SegmentHead>,
}

impl Folder {
    /// Looks at the folder.
    ///
    /// # Errors
    /// The disk's, and a mark that only a newer program can read.
    pub(crate) fn look(disk: &mut Blocking<'_>) -> Result<Self, Error> {
        let (ours, foreign) = disk.list(Dir::Log)?;
        let mut folder = Self {
            segments: BTreeMap::new(),
            prepared: Vec::new(),
            fresh: Vec::new(),
            mark: Mark::Absent,
            foreign,
            heads: BTreeMap::new(),
        };
        for file in ours {
            match file {
                FileId::Segment(number) => {
                    let len = disk.len(file)?.unwrap_or_default();
                    folder.segments.insert(number, len);
                    let page = disk.read(file, 0, HEAD_BYTES)?;
                    if let Ok(head) = SegmentHead::peek(&page) {
                        folder.heads.insert(number, head);
                    }
                }
                FileId::Prepared(number) => folder.prepared.push(number),
                FileId::Fresh(number) => folder.fresh.push(number),
                FileId::CleanMark => folder.mark = read_mark(disk)?,
                _ => {}
            }
        }
        Ok(folder)
    }

    /// Whose log it is, by the first segment that says so; `None` when none does.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.heads.values().next().map(|head| Identity {
            log: head.log,
            content: head.content,
            segment_bytes: head.segment_bytes,
        })
    }

    /// Leaves aside the segments that stand before a hole which lies wholly below `keep` (a segment's
    /// number): they were recycled, lowest first, and a removal was lost with the folder's sync.
    /// Returns them. A hole that reaches into what is needed is none of recycling's: it stays, and
    /// is damage.
    pub(crate) fn leave_recycled(&mut self, keep: u64) -> Vec<u64> {
        let numbers: Vec<u64> = self.segments.keys().copied().collect();
        let hole = numbers.windows(2).rposition(|pair| match pair {
            [before, behind] => *behind <= keep && before.checked_add(1) != Some(*behind),
            _ => false,
        });
        let Some(last) = hole.and_then(|at| numbers.get(at).copied()) else { return Vec::new() };
        let later = self.segments.split_off(&last.saturating_add(1));
        std::mem::replace(&mut self.segments, later).into_keys().collect()
    }

    /// The identity of a log whose segments do not say it, from the mark and the files' length.
    pub(crate) fn guess(&self) -> Option<Identity> {
        let mark = self.mark.whole()?;
        let longest = self.segments.values().copied().max()?;
        is_segment_bytes(longest).then_some(Identity {
            log: mark.log,
            content: ContentId::default(),
            segment_bytes: longest,
        })
    }

    /// A segment whose head is whole, and names another log.
    pub(crate) fn other_log(&self, log: LogId) -> Option<(FileId, LogId)> {
        self.heads
            .iter()
            .find(|(_, head)| head.log != log)
            .map(|(number, head)| (FileId::Segment(*number), head.log))
    }

    /// A segment that cannot be one of this log, and why.
    pub(crate) fn impossible(&self, segment_bytes: u64) -> Option<(FileId, String)> {
        self.segments.iter().find_map(|(number, len)| {
            let cause = if number
                .checked_add(2)
                .and_then(|beyond| beyond.checked_mul(segment_bytes))
                .is_none()
            {
                "its number lies behind the last LSN there can be".to_owned()
            } else if *len > segment_bytes {
                format!("it has {len} bytes, a segment of this log has {segment_bytes}")
            } else {
                return None;
            };
            Some((FileId::Segment(*number), cause))
        })
    }
}

fn read_mark(disk: &mut Blocking<'_>) -> Result<Mark, Error> {
    let file = FileId::CleanMark;
    let bytes = disk.read(file, 0, MARK_BYTES)?;
    match CleanMark::decode(&bytes) {
        Ok(mark) => Ok(Mark::Whole(mark)),
        Err(CleanMarkError::Version { found }) => {
            Err(Error::NewerFormat { file, lsn: Lsn::ZERO, found, known: VERSION })
        }
        Err(cause) => Ok(Mark::Unreadable(cause.to_string())),
    }
}
