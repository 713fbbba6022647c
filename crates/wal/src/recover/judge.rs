//! The verdict: where the log ends, and whether what lies behind that is torn or damage.
//!
//! Guarantees: decided before anything is changed, by the chain, what lies behind it, and the
//! promises that count (`docs/recovery.md` has the table). Not here: what is done about it.

use std::sync::atomic::Ordering;

use super::RecoverOptions;
use super::chain::{Break, Chain, Step};
use super::folder::Folder;
use super::promise::{Counted, Ledger};
use super::read::LogBytes;
use super::tail::{Behind, CarriedByEpoch, carry, look_behind};
use crate::disk::{Blocking, FileId};
use crate::error::Error;
use crate::follow::Identity;
use crate::index::BlockIndex;
use crate::lsn::{Lsn, RunningHash};

/// The valid chain from the first segment's head.
pub(super) struct Walk {
    pub(super) chain: Chain,
    pub(super) start: Lsn,
    why: Break,
    pub(super) index: BlockIndex,
    carried: CarriedByEpoch,
    /// Whether the chain has a boundary at the cut, and the running hash there.
    at_cut: Option<RunningHash>,
}

/// What is to be kept.
pub(super) struct Verdict {
    pub(super) end: Lsn,
    pub(super) hash: RunningHash,
    pub(super) commit: Lsn,
    pub(super) floor: Lsn,
    pub(super) behind: Behind,
    pub(super) is_cut: bool,
}

impl Walk {
    pub(super) fn along(
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
        identity: Identity,
        options: &RecoverOptions,
    ) -> Result<Self, Error> {
        let cut = options.cut;
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
                    if let Some(progress) = &options.progress {
                        progress.fetch_max(block.end().0, Ordering::Relaxed);
                    }
                }
                Step::Stop(why) => break why,
            }
        };
        Ok(Self { chain, start, why, index, carried, at_cut })
    }

    /// Decides what is kept, or refuses.
    pub(super) fn judge(
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
        if !options.judging.by_promises() {
            return Ok(Verdict {
                end,
                hash: self.at_cut.filter(|_| cut.is_some()).or(self.chain.hash).unwrap_or_default(),
                commit: ledger.commit(),
                floor: floor.lsn.min(end),
                is_cut: cut.is_some(),
                behind,
            });
        }
        if floor.lsn > end {
            return Err(self.damage(bytes, self.why.to_string(), floor));
        }
        if self.start > Lsn::ZERO && reached == self.start {
            let who = "what came before was recycled, which waits until this is durable";
            return Err(self.damage(bytes, self.why.to_string(), Counted { lsn: end, who }));
        }
        let hash = match cut {
            None => self.chain.hash.unwrap_or_default(),
            Some(cut) => self.may_cut(cut, options.cut_hash, ledger.uncuttable())?,
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
    fn may_cut(
        &self,
        cut: Lsn,
        expected: Option<RunningHash>,
        commit: Lsn,
    ) -> Result<RunningHash, Error> {
        if cut < commit {
            return Err(Error::BelowCommit { to: cut, commit });
        }
        // The first segment's head must stay: what came before it is known from nowhere else.
        if self.start > Lsn::ZERO && cut <= self.start {
            return Err(Error::Recycled { lsn: cut, start: self.start });
        }
        let found = self.at_cut.ok_or(Error::NotABoundary { lsn: cut, what: "block" })?;
        match expected.filter(|expected| *expected != found) {
            Some(expected) => Err(Error::OtherHistory { lsn: cut, found, expected }),
            None => Ok(found),
        }
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
