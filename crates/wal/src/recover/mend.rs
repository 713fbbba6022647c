//! Sending away what must not stay, and making durable what was accepted.
//!
//! Guarantees: no byte of a segment file is changed in place. A segment is written anew beside the
//! old one, synced, and renamed over it, so each step leaves the old state or the new one, and
//! doing it again after a kill at any step comes to the same end. Why not in place: where a sync
//! fails, the page cache goes on showing zeros that the device does not have, and the next recovery
//! would believe them. Not here: deciding what goes.

use bytes::Bytes;

use super::Saved;
use super::read::{LogBytes, is_zero};
use crate::disk::{Blocking, Dir, FileId, Io, IoFault};
use crate::lsn::Lsn;

const CHUNK_BYTES: u64 = 256 << 10;

/// What is to be done to the files of a log.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Mending {
    /// The bytes of this range are kept aside.
    pub(super) save: Option<(Lsn, Lsn)>,
    /// Segments that go, whole, ascending.
    pub(super) remove: Vec<u64>,
    /// Segments that are written anew, ascending, each up to so many of its bytes and then zeros.
    pub(super) rewrite: Vec<(u64, u64)>,
    /// Whether a clean-close mark is there that must go before anything is changed.
    pub(super) unmark: bool,
}

impl Mending {
    pub(super) const fn is_nothing(&self) -> bool {
        self.save.is_none() && self.remove.is_empty() && self.rewrite.is_empty()
    }

    /// Does it all.
    ///
    /// # Errors
    /// The disk's; the log is then as sound as before, and the same is done again at the next time.
    pub(super) fn carry_out(
        &self,
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
    ) -> Result<Option<Saved>, IoFault> {
        // ORDER: the mark of a clean close goes before the log that it describes is changed.
        if self.unmark {
            disk.remove(FileId::CleanMark)?;
        }
        // ORDER: what goes is durable aside before it goes.
        let saved = match self.save {
            Some((from, to)) => Some(save(disk, bytes, from, to)?),
            None => None,
        };
        // ORDER: from the last one down, each durably, so that a crash never leaves a hole.
        for number in self.remove.iter().rev() {
            disk.remove(FileId::Segment(*number))?;
        }
        for (number, keep) in self.rewrite.iter().rev() {
            rewrite(disk, bytes, *number, *keep)?;
        }
        Ok(saved)
    }
}

/// Keeps the bytes from `from` to `to` aside, in a file of their own.
fn save(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    from: Lsn,
    to: Lsn,
) -> Result<Saved, IoFault> {
    let (ours, _) = disk.list(Dir::Saved)?;
    let taken = ours.iter().filter_map(|file| match file {
        FileId::Saved(at, serial) if *at == from => Some(*serial),
        _ => None,
    });
    let serial = taken.max().map_or(0, |last| last.saturating_add(1));
    let file = FileId::Saved(from, serial);
    if let Err(fault) = fill(disk, bytes, file, from, to) {
        // Half of it helps nobody; where there is no room it would be in the way.
        if let Err(left) = disk.run(Io::Remove(file)) {
            tracing::warn!(%file, %left, "a half-made file of saved bytes stays behind");
        }
        return Err(fault);
    }
    Ok(Saved { from, to, bytes: to.since(from), file })
}

fn fill(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    file: FileId,
    from: Lsn,
    to: Lsn,
) -> Result<(), IoFault> {
    disk.run(Io::Create(file))?;
    let mut at = from;
    while at < to {
        let next = at.saturating_add(CHUNK_BYTES).min(to).min(bytes.segment_end(at));
        let chunk = bytes.at(disk, at, next.since(at))?;
        // The file's last byte is not zero, so leaving zeros out keeps its length.
        if !is_zero(&chunk) {
            write(disk, file, at.since(from), chunk)?;
        }
        at = next;
    }
    disk.run(Io::Sync(file))?;
    disk.run(Io::SyncDir(Dir::Saved))?;
    Ok(())
}

/// Writes a segment anew: its first `keep` bytes, and zeros.
fn rewrite(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    number: u64,
    keep: u64,
) -> Result<(), IoFault> {
    let size = bytes.segment_bytes();
    let start = Lsn(number.saturating_mul(size));
    let fresh = FileId::Fresh(number);
    disk.run(Io::Create(fresh))?;
    let mut done = 0;
    while done < keep {
        let ask = CHUNK_BYTES.min(keep - done);
        let chunk = bytes.at(disk, start.saturating_add(done), ask)?;
        let got = chunk.len() as u64;
        // Only a file that ends within what means nothing (behind a Pad's header) is shorter.
        if got == 0 {
            break;
        }
        write(disk, fresh, done, chunk)?;
        done += got;
    }
    disk.run(Io::Zero { file: fresh, at: done, len: size - done })?;
    disk.publish(fresh, FileId::Segment(number))
}

fn write(disk: &mut Blocking<'_>, file: FileId, at: u64, part: Bytes) -> Result<(), IoFault> {
    disk.run(Io::Write { file, at, parts: vec![part], dsync: false })?;
    Ok(())
}
