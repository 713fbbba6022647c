//! What lies behind the chain's end: every page up to the end of the last file is looked at.
//!
//! Guarantees: a block that is valid at its own LSN is found wherever it lies, its promises noted;
//! whole stale blocks are passed over; everything else that is not zero counts as torn.
//! Not here: whether torn bytes may go (the promises decide), and sending them away.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::header_at;
use super::read::{LogBytes, is_zero};
use crate::disk::Blocking;
use crate::error::Error;
use crate::format::{Block, BlockHeader};
use crate::lsn::{InstanceId, LogId, Lsn, PAGE_BYTES};

/// The highest watermarks that blocks of one epoch carry.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Carried {
    pub(crate) durable: Lsn,
    pub(crate) commit: Lsn,
}

/// What blocks carry, by the number of the epoch they were sealed in.
pub(crate) type CarriedByEpoch = BTreeMap<u64, Carried>;

/// Notes what a block carries.
pub(crate) fn carry(by_epoch: &mut CarriedByEpoch, header: &BlockHeader) {
    let carried = by_epoch.entry(header.epoch).or_default();
    carried.durable = carried.durable.max(header.durable);
    carried.commit = carried.commit.max(header.commit);
}

/// What lies behind the chain's end.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Behind {
    /// The first page that holds torn bytes.
    pub(crate) torn_from: Option<Lsn>,
    /// Behind the last torn byte.
    pub(crate) torn_to: Lsn,
    /// The first block that is valid at its own LSN.
    pub(crate) live: Option<Lsn>,
    /// The last such block.
    pub(crate) last_live: Lsn,
    /// What such blocks carry.
    pub(crate) carried: CarriedByEpoch,
    /// Who begins which epoch, by EpochBegin blocks that are whole.
    pub(crate) begins: BTreeSet<(u64, InstanceId)>,
}

/// Looks at every page from `end` on.
///
/// # Errors
/// The disk's, and a block that only a newer program can read.
pub(crate) fn look_behind(
    disk: &mut Blocking<'_>,
    bytes: &mut LogBytes,
    end: Lsn,
    log: LogId,
) -> Result<Behind, Error> {
    let mut behind = Behind::default();
    let numbers: Vec<u64> = bytes.numbers().filter(|n| *n >= bytes.segment(end)).collect();
    for number in numbers {
        let start = Lsn(number.saturating_mul(bytes.segment_bytes()));
        let mut at = start.max(end);
        let mut stale_to = at;
        loop {
            let page = bytes.page(disk, at)?;
            if page.is_empty() {
                break;
            }
            if !is_zero(&page) {
                stale_to = stale_to.max(behind.look_at(disk, bytes, at, log)?);
                if at >= stale_to {
                    behind.tear(at, &page);
                }
            }
            let Some(next) = at.checked_add(PAGE_BYTES) else {
                break;
            };
            if next >= bytes.segment_end(at) {
                break;
            }
            at = next;
        }
    }
    Ok(behind)
}

impl Behind {
    /// Judges the page at `at` by the header it begins with; returns how far the stale block that
    /// begins here goes, `at` when there is none.
    fn look_at(
        &mut self,
        disk: &mut Blocking<'_>,
        bytes: &mut LogBytes,
        at: Lsn,
        log: LogId,
    ) -> Result<Lsn, Error> {
        let page = bytes.page(disk, at)?;
        let Ok(header) = header_at(&page, at, log, bytes.file(at))? else {
            return Ok(at);
        };
        let end = at.saturating_add(header.extent()).min(bytes.segment_end(at));
        let stored = bytes.at(disk, at, u64::from(header.stored_len))?;
        let block = Block::open(stored, header.lsn, log);
        if header.lsn != at {
            return Ok(if block.is_ok() { end } else { at });
        }
        self.live.get_or_insert(at);
        self.last_live = at;
        // A promise was made when its header was sealed, whether or not its payload survived.
        carry(&mut self.carried, &header);
        if let Some(begin) = block.ok().and_then(|block| block.epoch_begin_entry()) {
            self.begins.insert((begin.epoch.number, begin.instance));
        }
        // A live page is torn, also in the middle of what a stale block once covered.
        self.tear(at, &page);
        Ok(at)
    }

    fn tear(&mut self, at: Lsn, page: &[u8]) {
        self.torn_from.get_or_insert(at);
        let used = page.iter().rposition(|byte| *byte != 0).map_or(0, |n| n + 1);
        self.torn_to = self.torn_to.max(at.saturating_add(used as u64));
    }
}
