//! Recovery: what a log holds after any end, and making that durable before anybody is told.
//!
//! Guarantees (`docs/recovery.md` has the table of cases): bytes that somebody was promised are
//! never cut, bad ones among them are [`Error::Damage`] and nothing is changed; everything else that
//! does not belong to the chain of blocks is saved aside and sent away, so that it never comes back;
//! what is accepted is durable when [`recover`] returns, whatever the page cache showed. Running it
//! again, or after a kill at any step, comes to the same end.
//!
//! Not here: repairing damage, and writing the first block behind the end.

mod chain;
mod folder;
mod judge;
mod judging;
mod mend;
mod plan;
mod promise;
mod read;
mod tail;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::disk::{Blocking, Dir, Disk, DiskExt, FileId, Io};
use crate::error::Error;
use crate::follow::Identity;
use crate::format::EpochEntry;
use crate::index::BlockIndex;
use crate::lsn::{ContentId, InstanceId, LogId, Lsn, RunningHash};

pub(crate) use chain::{Break, Chain, Step, read_block};
pub(crate) use folder::{Folder, Mark};
use judge::{Verdict, Walk};
pub use judging::Judging;
use promise::Ledger;
pub(crate) use promise::cap;
pub use promise::{Promise, Promises};
pub(crate) use read::{LogBytes, is_zero};
pub(crate) use tail::{Behind, Carried, CarriedByEpoch, carry, look_behind};

/// What the caller knows about the log: from its control file, or nothing.
#[derive(Clone, Default, Debug)]
pub struct RecoverOptions {
    /// The log that this must be.
    pub log: Option<LogId>,
    /// The content that it must be of.
    pub content: Option<ContentId>,
    /// The size of its segments. Together with `log` and `content` it lets a log be recovered that
    /// holds no block yet.
    pub segment_bytes: Option<u64>,
    /// The instance that recovers.
    pub instance: InstanceId,
    /// What was promised.
    pub promises: Promises,
    /// Where the log is to be cut, or was being cut when it was interrupted. Behind the log's end:
    /// nothing is left to do.
    pub cut: Option<Lsn>,
    /// The running hash that must stand at the cut, where it is known; with another one nothing is
    /// cut.
    pub cut_hash: Option<RunningHash>,
    /// Nobody needs log below this, neither a copy nor the store of this one: where whole segments are
    /// missing below it, those before them are what is left of recycling, when the folder lost a
    /// removal, and go. A segment that is missing at it or behind it is damage.
    pub keep: Lsn,
    /// Where to tell how far the log is read, as an LSN that only rises.
    pub progress: Option<Arc<AtomicU64>>,
    /// What decides about bad bytes: promises, but in the test-only build.
    pub judging: Judging,
}

/// Bytes that were kept aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Saved {
    /// Where they began in the log.
    pub from: Lsn,
    /// Where they ended: behind the last byte that is not zero.
    pub to: Lsn,
    /// How many that are.
    pub bytes: u64,
    /// Where they are now.
    pub file: FileId,
}

/// A log as it was recovered: all of it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Which log it is.
    pub log: LogId,
    /// The content that it is of.
    pub content: ContentId,
    /// The size of its segments.
    pub segment_bytes: u64,
    /// Where its first segment starts; what was before has been recycled. A missing file in front
    /// looks the same: the caller compares this with what it still needs.
    pub start: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Its running hash there.
    pub hash: RunningHash,
    /// Its epochs, oldest first.
    pub epochs: Vec<EpochEntry>,
    /// What is known to be committed; may lie behind `end` on a copy that was not in sync.
    pub commit: Lsn,
    /// The highest promise that counted: never behind `end`.
    pub floor: Lsn,
    /// The numbers of its segment files, without a hole; those behind `end` are prepared.
    pub segments: Vec<u64>,
    /// Where blocks start.
    pub index: BlockIndex,
    /// A torn tail that was sent away.
    pub torn: Option<Saved>,
    /// What the cut took away; `None` also when nothing was left to take.
    pub cut: Option<Saved>,
    /// Whether the log was closed cleanly and nothing had to be done.
    pub was_clean: bool,
}

/// Recovers a log. `None`: the folder holds none. A log without a clean-close mark is read whole
/// and its last segments are written anew: allow for the time of copying what was written since the
/// last promise, and for the room of one segment.
///
/// # Durability
/// What is reported is durable, and what was sent away is gone durably, when this returns.
///
/// # Errors
/// [`Error::Damage`]: promised bytes are bad, nothing was changed. [`Error::WrongLog`],
/// [`Error::WrongContent`], [`Error::Foreign`], [`Error::NewerFormat`], [`Error::UnknownFeature`]:
/// what is there is not ours to read, nothing was changed. [`Error::BelowCommit`],
/// [`Error::NotABoundary`], [`Error::OtherHistory`], [`Error::Recycled`]: the cut cannot be, nothing was changed. The disk's:
/// recover again.
pub fn recover(disk: &mut dyn Disk, options: &RecoverOptions) -> Result<Option<Recovered>, Error> {
    let disk = &mut disk.blocking();
    let mut folder = Folder::look(disk)?;
    if !folder.foreign.is_empty() {
        tracing::warn!(names = ?folder.foreign, "files that are not ours are left alone");
    }
    if let Mark::Unreadable(cause) = &folder.mark {
        tracing::warn!(%cause, "the mark of a clean close is not whole and taken for absent");
    }
    let Some(identity) = identify(&folder, options)? else {
        return Ok(None);
    };
    let leftover = folder.leave_recycled(options.keep.0 / identity.segment_bytes);
    let mut bytes = LogBytes::new(identity.segment_bytes, folder.segments.clone());
    let walk = Walk::along(disk, &mut bytes, identity, options)?;
    let verdict = walk.judge(disk, &mut bytes, &folder, options)?;
    // Everything above only looked; from here on the folder is changed.
    // ORDER: half-made copies go before new ones are made: emptying one would empty the segment too
    // where a power cut left both names to one file.
    for number in &folder.fresh {
        disk.run(Io::Remove(FileId::Fresh(*number)))?;
    }
    for number in leftover {
        disk.remove(FileId::Segment(number))?;
    }
    let mending = plan::plan(&verdict, &folder, &bytes);
    let saved = mending.carry_out(disk, &mut bytes)?;
    let was_clean = folder.mark.whole().is_some() && mending.is_nothing();
    tidy(disk, &folder, was_clean)?;
    report(&saved, &verdict);
    let Verdict { end, hash, .. } = verdict;
    let mut index = walk.index;
    index.truncate(end);
    Ok(Some(Recovered {
        log: identity.log,
        content: identity.content,
        segment_bytes: identity.segment_bytes,
        start: walk.start,
        end,
        hash,
        epochs: promise::below(&walk.chain.epochs, end),
        commit: verdict.commit,
        floor: verdict.floor,
        segments: bytes.numbers().filter(|number| !mending.remove.contains(number)).collect(),
        index,
        torn: saved.filter(|_| !verdict.is_cut),
        cut: saved.filter(|_| verdict.is_cut),
        was_clean,
    }))
}

/// Whose log it is, or `None` when there is no log.
fn identify(folder: &Folder, options: &RecoverOptions) -> Result<Option<Identity>, Error> {
    if folder.segments.is_empty() {
        return lost(folder, options).map_or(Ok(None), Err);
    }
    let known = folder.identity();
    let told = match (options.log, options.content, options.segment_bytes) {
        (Some(log), Some(content), Some(segment_bytes)) => {
            Some(Identity { log, content, segment_bytes })
        }
        _ => None,
    };
    let Some(identity) = known.or(told) else {
        return Err(Error::Config {
            setting: "log",
            cause:
                "no segment here says which log it belongs to, so log, content and segment size \
                    must be given (the control file has them)"
                    .to_owned(),
        });
    };
    let log = options.log.unwrap_or(identity.log);
    let marked = folder.mark.whole().map(|mark| (FileId::CleanMark, mark.log));
    let other = folder.other_log(log);
    if let Some((file, found)) = other.or(marked.filter(|(_, found)| *found != log)) {
        return Err(Error::WrongLog { file, expected: log, found });
    }
    if let Some(expected) = options.content.filter(|id| *id != identity.content) {
        return Err(Error::WrongContent { expected, found: identity.content });
    }
    let size = identity.segment_bytes;
    if let Some(expected) = options.segment_bytes.filter(|bytes| *bytes != size) {
        return Err(Error::Config {
            setting: "segment_bytes",
            cause: format!("the log has segments of {size} bytes, not of {expected}"),
        });
    }
    if let Some((file, cause)) = folder.impossible(size) {
        return Err(Error::Foreign { name: file.name(), cause });
    }
    Ok(Some(identity))
}

/// The damage that a folder without any segment is, where something was promised.
fn lost(folder: &Folder, options: &RecoverOptions) -> Option<Error> {
    let ledger = Ledger {
        instance: options.instance,
        promises: &options.promises,
        chain: &[],
        carried: &CarriedByEpoch::new(),
        behind: &Behind::default(),
        clean_end: folder.mark.whole().map(|mark| mark.end),
        cut: None,
    };
    let floor = ledger.floor();
    (floor.lsn > Lsn::ZERO).then(|| Error::Damage {
        file: FileId::Segment(0),
        lsn: Lsn::ZERO,
        cause: "every segment is missing".to_owned(),
        promised: floor.lsn,
        promise: floor.who,
    })
}

/// Removes what was prepared: its zeros, or whether it has its size, may be known to the page cache
/// alone, and making it again is cheap.
fn tidy(disk: &mut Blocking<'_>, folder: &Folder, was_clean: bool) -> Result<(), Error> {
    for number in &folder.prepared {
        disk.run(Io::Remove(FileId::Prepared(*number)))?;
    }
    if !was_clean {
        // Names, too, may be known to the page cache alone.
        disk.run(Io::SyncDir(Dir::Log))?;
    }
    Ok(())
}

fn report(saved: &Option<Saved>, verdict: &Verdict) {
    let Some(Saved { from, to, file, .. }) = saved else {
        return;
    };
    if verdict.is_cut {
        tracing::info!(%from, %to, %file, "the log was cut; what was behind is kept aside");
    } else {
        tracing::warn!(%from, %to, %file, "a torn tail was sent away; its bytes are kept aside");
    }
}
