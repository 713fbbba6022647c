//! The hot tail: the newest blocks, kept in memory for senders, appliers and tailing readers.
//!
//! Guarantees: holds every block that is not durable yet, and behind that as many as the budget
//! takes; blocks lie one behind the other without a gap.
//! Not here: older blocks (plain reads).

use std::collections::VecDeque;

use crate::format::Block;
use crate::lsn::Lsn;

#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(crate) struct Tail {
    blocks: VecDeque<Block>,
    bytes: u64,
    max_bytes: u64,
}

impl Tail {
    pub(crate) const fn new(max_bytes: u64) -> Self {
        Self { blocks: VecDeque::new(), bytes: 0, max_bytes }
    }

    pub(crate) fn push(&mut self, block: Block) {
        self.bytes = self.bytes.saturating_add(block.stored().len() as u64);
        self.blocks.push_back(block);
    }

    /// Forgets old blocks beyond the budget, none that ends behind `durable`.
    pub(crate) fn evict(&mut self, durable: Lsn) {
        while self.bytes > self.max_bytes {
            let Some(first) = self.blocks.front() else { return };
            if first.end() > durable {
                return;
            }
            self.bytes = self.bytes.saturating_sub(first.stored().len() as u64);
            self.blocks.pop_front();
        }
    }

    /// The block that holds `lsn`, if it is in memory.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<&Block> {
        self.blocks.get(self.position(lsn)?)
    }

    /// Blocks from the one that starts at `from`, up to about `max_bytes` of stored bytes.
    pub(crate) fn from(&self, from: Lsn, max_bytes: u64, out: &mut Vec<Block>) {
        let Some(at) = self.position(from) else { return };
        let mut bytes = 0u64;
        for block in self.blocks.iter().skip(at) {
            if out.is_empty() && block.lsn() != from {
                return;
            }
            bytes = bytes.saturating_add(block.stored().len() as u64);
            out.push(block.clone());
            if bytes >= max_bytes {
                return;
            }
        }
    }

    fn position(&self, lsn: Lsn) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.end() <= lsn);
        self.blocks.get(at).is_some_and(|block| block.lsn() <= lsn).then_some(at)
    }
}
