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
mod mend;
mod promise;
mod read;
mod tail;

use crate::disk::{Blocking, Dir, Disk, DiskExt, FileId, Io};
use crate::error::Error;
use crate::format::EpochEntry;
use crate::index::BlockIndex;
use crate::lsn::{ContentId, InstanceId, LogId, Lsn, RunningHash};

pub(crate) use chain::{Break, Chain, Identity, Step, read_block};
pub(crate) use folder::{Folder, Mark};
use mend::Mending;
pub(crate) use promise::cap;
use promise::{Counted, Ledger};
pub use promise::{Promise, Promises};
pub(crate) use read::{LogBytes, is_zero};
pub(crate) use tail::{Behind, Carried, CarriedByEpoch, carry, look_behind};

/// What the caller knows about the log: from its control file, or nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
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
    /// Prepared files that are whole and may be used.
    pub prepared: Vec<u32>,
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
/// [`Error::NotABoundary`], [`Error::Recycled`]: the cut cannot be, nothing was changed. The disk's:
/// recover again.
pub fn recover(disk: &mut dyn Disk, options: &RecoverOptions) -> Result<Option<Recovered>, Error> {
    let disk = &mut disk.blocking();
    let folder = Folder::look(disk)?;
    if !folder.foreign.is_empty() {
        tracing::warn!(names = ?folder.foreign, "files that are not ours are left alone");
    }
    if let Mark::Unreadable(cause) = &folder.mark {
        tracing::warn!(%cause, "the mark of a clean close is not whole and taken for absent");
    }
    let Some(identity) = identify(&folder, options)? else {
        return Ok(None);
    };
    let mut bytes = LogBytes::new(identity.segment_bytes, folder.segments.clone());
    let walk = Walk::along(disk, &mut bytes, identity, options.cut)?;
    let verdict = walk.judge(disk, &mut bytes, &folder, options)?;
    // Everything above only looked; from here on the folder is changed.
    // ORDER: half-made copies go before new ones are made: emptying one would empty the segment too
    // where a power cut left both names to one file.
    for number in &folder.fresh {
        disk.run(Io::Remove(FileId::Fresh(*number)))?;
    }
    let mending = plan(&verdict, &folder, &bytes);
    let saved = mending.carry_out(disk, &mut bytes)?;
    let was_clean = folder.mark.whole().is_some() && mending.is_nothing();
    let prepared = tidy(disk, &folder, identity.segment_bytes, was_clean)?;
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
        prepared,
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

/// The valid chain from the first segment's head.
struct Walk {
    chain: Chain,
    start: Lsn,
    why: Break,
    index: BlockIndex,
    carried: CarriedByEpoch,
    /// Whether the chain has a boundary at the cut, and the running hash there.
    at_cut: Option<RunningHash>,
}

/// What is to be kept.
struct Verdict {
    end: Lsn,
    hash: RunningHash,
    commit: Lsn,
    floor: Lsn,
    behind: Behind,
    is_cut: bool,
}

impl Walk {
    fn along(
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
        identity: Identity,
        cut: Option<Lsn>,
    ) -> Result<Self, Error> {
        let first = bytes.numbers().next().unwrap_or_default();
        let start = Lsn(first.saturating_mul(identity.segment_bytes));
        let mut chain = Chain::new(identity, start);
        let mut index = BlockIndex::default();
        let mut carried = CarriedByEpoch::new();
        let mut at_cut = None;
        let why = loop {
            if cut == Some(chain.at) {
                at_cut = Some(chain.hash.unwrap_or_default());
            }
            match chain.step(disk, bytes)? {
                Step::Block(block) => {
                    index.insert(block.lsn());
                    carry(&mut carried, block.header());
                }
                Step::Stop(why) => break why,
            }
        };
        Ok(Self { chain, start, why, index, carried, at_cut })
    }

    /// Decides what is kept, or refuses.
    fn judge(
        &self,
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
        folder: &Folder,
        options: &RecoverOptions,
    ) -> Result<Verdict, Error> {
        let reached = self.chain.at;
        let cut = options.cut.filter(|cut| *cut <= reached);
        let end = cut.unwrap_or(reached);
        let behind = look_behind(disk, bytes, end, self.chain.identity.log)?;
        let mark = folder.mark.whole();
        let ledger = Ledger {
            instance: options.instance,
            promises: &options.promises,
            chain: &self.chain.epochs,
            carried: &self.carried,
            behind: &behind,
            clean_end: mark.map(|mark| mark.end),
            cut: options.cut,
        };
        let floor = ledger.floor();
        if floor.lsn > end {
            return Err(self.damage(bytes, self.why.to_string(), floor));
        }
        if self.start > Lsn::ZERO && reached == self.start {
            let who = "what came before was recycled, which waits until this is durable";
            return Err(self.damage(bytes, self.why.to_string(), Counted { lsn: end, who }));
        }
        let hash = match cut {
            None => self.chain.hash.unwrap_or_default(),
            Some(cut) => self.may_cut(cut, ledger.uncuttable())?,
        };
        if cut.is_none() {
            self.no_hole(bytes, &behind)?;
            if let Some(mark) = mark {
                let went_on = behind.live.is_some() || mark.end < end;
                let cause = if went_on {
                    "the log goes on behind the mark of its clean close"
                } else {
                    "the running hash is not that of the mark of a clean close"
                };
                if went_on || mark.hash != hash {
                    let who = "the mark of a clean close";
                    let promise = Counted { lsn: mark.end, who };
                    return Err(self.damage(bytes, cause.to_owned(), promise));
                }
            }
        }
        Ok(Verdict {
            end,
            hash,
            commit: ledger.commit(),
            floor: floor.lsn.max(self.start),
            is_cut: cut.is_some(),
            behind,
        })
    }

    /// The running hash at the cut, when the log may be cut there.
    fn may_cut(&self, cut: Lsn, commit: Lsn) -> Result<RunningHash, Error> {
        if cut < commit {
            return Err(Error::BelowCommit { to: cut, commit });
        }
        // The first segment's head must stay: what came before it is known from nowhere else.
        if self.start > Lsn::ZERO && cut <= self.start {
            return Err(Error::Recycled { lsn: cut, start: self.start });
        }
        self.at_cut.ok_or(Error::NotABoundary { lsn: cut, what: "block" })
    }

    /// Refuses a segment that is missing before one that holds blocks: a segment's name is durable
    /// before its first block is written, and its last block is sealed before the next one's first.
    fn no_hole(&self, bytes: &LogBytes, behind: &Behind) -> Result<(), Error> {
        if behind.live.is_none() {
            return Ok(());
        }
        let missing = (bytes.segment(self.chain.at)..bytes.segment(behind.last_live))
            .find(|number| !bytes.numbers().any(|there| there == *number));
        missing.map_or(Ok(()), |number| {
            Err(Error::Damage {
                file: FileId::Segment(number),
                lsn: Lsn(number.saturating_mul(bytes.segment_bytes())),
                cause: Break::Missing.to_string(),
                promised: behind.last_live,
                promise: "a later segment holds blocks, which waits until this one is durable",
            })
        })
    }

    fn damage(&self, bytes: &LogBytes, cause: String, promise: Counted) -> Error {
        Error::Damage {
            file: bytes.file(self.chain.at),
            lsn: self.chain.at,
            cause,
            promised: promise.lsn,
            promise: promise.who,
        }
    }
}

/// What must be done to the files.
fn plan(verdict: &Verdict, folder: &Folder, bytes: &LogBytes) -> Mending {
    let size = bytes.segment_bytes();
    let end = verdict.end;
    let last = bytes.segment(end);
    let clean = folder.mark.whole().is_some() && !verdict.is_cut;
    // A clean log's end was checked; flipped bits in zeros behind it mean nothing.
    let torn = verdict.behind.torn_from.filter(|_| !clean);
    let is_short = |number: &u64| folder.segments.get(number).is_some_and(|len| *len != size);
    // Segments behind the end stay when they are prepared, and continue the others.
    let later: Vec<u64> = bytes.numbers().filter(|number| *number > last).collect();
    let continue_on = bytes
        .numbers()
        .filter(|number| *number >= last)
        .zip(last..)
        .all(|(number, expected)| number == expected);
    let holds =
        later.iter().any(|number| is_short(number) || verdict.behind.torn_to > Lsn(number * size));
    let remove = if continue_on && !(holds && torn.is_some()) && !later.iter().any(is_short) {
        Vec::new()
    } else {
        later
    };
    // Accepted bytes that no promise covers may be in the page cache alone.
    let unsure = verdict.floor.min(end);
    let rewrite = bytes
        .numbers()
        .filter(|number| *number <= last)
        .filter_map(|number| {
            let start = Lsn(number.saturating_mul(size));
            let keep = end.since(start).min(size);
            let unpromised = !clean && keep > 0 && start.saturating_add(keep) > unsure;
            let tail = torn.is_some_and(|from| number == last && from < start.saturating_add(size));
            (unpromised || tail || is_short(&number)).then_some((number, keep))
        })
        .collect();
    let mut mending = Mending {
        save: torn.map(|_| (end, verdict.behind.torn_to)),
        remove,
        rewrite,
        unmark: false,
    };
    mending.unmark = folder.mark != Mark::Absent && !mending.is_nothing();
    mending
}

/// Removes prepared files that are not whole; returns the prepared files that can be used.
fn tidy(
    disk: &mut Blocking<'_>,
    folder: &Folder,
    segment_bytes: u64,
    was_clean: bool,
) -> Result<Vec<u32>, Error> {
    let mut whole = Vec::new();
    for number in &folder.prepared {
        let file = FileId::Prepared(*number);
        // After any other end its zeros may be in the page cache alone: making it again is cheap.
        if was_clean && is_whole(disk, file, segment_bytes)? {
            whole.push(*number);
        } else {
            disk.run(Io::Remove(file))?;
        }
    }
    if !was_clean {
        // Names, too, may be known to the page cache alone.
        disk.run(Io::SyncDir(Dir::Log))?;
    }
    Ok(whole)
}

fn is_whole(disk: &mut Blocking<'_>, file: FileId, segment_bytes: u64) -> Result<bool, Error> {
    const CHUNK_BYTES: u32 = 256 << 10;
    if disk.len(file)? != Some(segment_bytes) {
        return Ok(false);
    }
    let mut at = 0;
    while at < segment_bytes {
        let chunk = disk.read(file, at, CHUNK_BYTES)?;
        if chunk.is_empty() || !is_zero(&chunk) {
            return Ok(false);
        }
        at = at.saturating_add(chunk.len() as u64);
    }
    disk.run(Io::Sync(file))?;
    Ok(true)
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
