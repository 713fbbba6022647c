//! A log's blocks, one by one, as they are on disk.
//!
//! Guarantees: nothing is written; each block was checked, and continues the one before it. Not here:
//! how a block is printed.

use std::iter::FusedIterator;

use crate::disk::{Blocking, Disk, DiskExt};
use crate::error::Error;
use crate::format::Block;
use crate::lsn::Lsn;
use crate::recover::{Chain, Folder, LogBytes, Step};

/// The blocks of a log, ascending; made by [`blocks`].
pub struct Blocks<'a> {
    disk: Blocking<'a>,
    /// `None`: the log has no blocks, or the walk is over.
    walk: Option<(LogBytes, Chain)>,
    from: Lsn,
    /// Where the log was closed cleanly.
    closed_at: Option<Lsn>,
    stopped: Option<(Lsn, String)>,
}

/// The blocks of a log, from the one that holds `from` on.
///
/// # Errors
/// [`Error::Recycled`]: the log starts behind `from`. The disk's, and what only a newer program can
/// read.
pub fn blocks(disk: &mut dyn Disk, from: Lsn) -> Result<Blocks<'_>, Error> {
    let mut disk = disk.blocking();
    let folder = Folder::look(&mut disk)?;
    let mut walk = None;
    if let Some(identity) = folder.identity().or_else(|| folder.guess()) {
        let bytes = LogBytes::new(identity.segment_bytes, folder.segments.clone());
        let first = folder.segments.keys().next().copied().unwrap_or_default();
        let start = Lsn(first.saturating_mul(identity.segment_bytes));
        if from < start {
            return Err(Error::Recycled { lsn: from, start });
        }
        // A segment's head says what came before it, so the walk may begin at any of them.
        let head = Lsn(bytes.segment(from).saturating_mul(identity.segment_bytes));
        walk = Some((bytes, Chain::new(identity, head)));
    }
    Ok(Blocks {
        disk,
        walk,
        from,
        closed_at: folder.mark.whole().map(|mark| mark.end),
        stopped: None,
    })
}

impl Blocks<'_> {
    /// Where the chain of blocks ended and why, once the iterator is at its end. A log that was
    /// not closed cleanly may end at torn bytes.
    #[must_use]
    pub fn stopped(&self) -> Option<(Lsn, &str)> {
        self.stopped.as_ref().map(|(lsn, why)| (*lsn, why.as_str()))
    }

    fn step(&mut self) -> Result<Option<Block>, Error> {
        let Some((bytes, chain)) = &mut self.walk else {
            return Ok(None);
        };
        loop {
            match chain.step(&mut self.disk, bytes)? {
                Step::Block(block) if block.end() <= self.from => {}
                Step::Block(block) => return Ok(Some(block)),
                Step::Stop(why) => {
                    let at = chain.at;
                    self.stopped = Some((at, why.to_string()));
                    let closed_at = self.closed_at.filter(|closed| at < *closed);
                    return closed_at.map_or(Ok(None), |promised| {
                        Err(Error::Damage {
                            file: bytes.file(at),
                            lsn: at,
                            cause: why.to_string(),
                            promised,
                            promise: "the mark of a clean close",
                        })
                    });
                }
            }
        }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.walk = None;
        }
        step.transpose()
    }
}

impl FusedIterator for Blocks<'_> {}
