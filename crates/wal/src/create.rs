//! Making the folder of a new, empty log.
//!
//! Guarantees: the log's first segment is there whole, or not at all; nothing that is there is
//! written over. Not here: what the first blocks say.

use crate::disk::{Dir, Disk, DiskExt, FileId, Io};
use crate::error::Error;
use crate::format::{Block, is_segment_bytes};
use crate::lsn::{ContentId, LogId};

/// What a new log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateOptions {
    /// Its identity: random, never used before.
    pub log: LogId,
    /// The content that it is the log of.
    pub content: ContentId,
    /// The size of its segments: a power of two from 1 MiB to 1 GiB.
    pub segment_bytes: u64,
}

/// Makes the folder of an empty log: one segment of zeros. The log's identity is in its first
/// block, and there is none yet: until then, only the caller's records (the control file) say
/// whose log this is.
///
/// # Durability
/// The segment and its name are durable when this returns.
///
/// # Errors
/// [`Error::Config`] for a segment size that a log cannot have; [`Error::Foreign`] when the folder
/// holds a log already; the disk's.
pub fn create(disk: &mut dyn Disk, options: &CreateOptions) -> Result<(), Error> {
    create_with(disk, options, &[])
}

/// As [`create`], with the log's first blocks in place before the segment has its name: so a log
/// that is there says whose it is.
pub(crate) fn create_with(
    disk: &mut dyn Disk,
    options: &CreateOptions,
    first: &[Block],
) -> Result<(), Error> {
    let CreateOptions { segment_bytes, .. } = *options;
    if !is_segment_bytes(segment_bytes) {
        return Err(Error::Config {
            setting: "segment_bytes",
            cause: format!("{segment_bytes} is not a power of two from 1 MiB to 1 GiB"),
        });
    }
    let mut disk = disk.blocking();
    let (ours, _) = disk.list(Dir::Log)?;
    for file in ours {
        match file {
            // Left over from a creation that was interrupted.
            FileId::Prepared(_) => {}
            file => {
                return Err(Error::Foreign {
                    name: file.name(),
                    cause: "the folder of a new log must be empty".to_owned(),
                });
            }
        }
    }
    let made = FileId::Prepared(0);
    disk.run(Io::Create(made))?;
    disk.run(Io::Zero { file: made, at: 0, len: segment_bytes })?;
    for block in first {
        let parts = vec![block.stored().clone()];
        disk.run(Io::Write { file: made, at: block.lsn().0, parts, dsync: false })?;
    }
    // ORDER: the zeros and their length are durable before the name says that this is a segment.
    disk.publish(made, FileId::Segment(0))?;
    tracing::info!(log = %options.log, content = %options.content, segment_bytes, "made a log");
    Ok(())
}
