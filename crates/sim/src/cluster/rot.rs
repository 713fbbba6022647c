//! Bits that flip: in a promised block of a log, and in one slot of a control file.
//!
//! Guarantees: no more is hit than the rules can bear: one block in a run, and never the only good slot.
//! Not here: what recovery may make of it (the checker).

use bytes::Bytes;
use outrigger_replica::control::Control;
use outrigger_wal::Lsn;
use outrigger_wal::disk::FileId;
use outrigger_wal::format::BlockHeader;

use super::Cluster;
use super::node::{LOG, Node, SEGMENT_BYTES};
use crate::checker::Damage;

impl Cluster {
    /// Flips a bit of a block that both slots of the control file durably promise, on one node in a run; often
    /// the copy is killed soon, and must find it.
    pub fn flip(&mut self, node: usize) {
        if self.flipped {
            return;
        }
        let blocks = promised_blocks(&self.nodes[node]);
        let Some((damage, stored)) = self.faults.pick(&blocks).copied() else { return };
        let at = damage.start.0 + self.faults.below(stored);
        let bit = u8::try_from(self.faults.below(8)).unwrap_or(0);
        let file = FileId::Segment(at / SEGMENT_BYTES);
        self.note(|| format!("a bit flips on n{node} at {}, in {damage:?}", Lsn(at)));
        if self.nodes[node].disk.flip_bit(file, at % SEGMENT_BYTES, bit) {
            self.flipped = true;
            self.stats.flips += 1;
            self.nodes[node].shadow.damage = Some(damage);
            if self.faults.chance(700) {
                self.kill(node);
            }
        }
    }

    /// Flips a bit in one slot of the control file of a copy that is down; `false` when the other slot
    /// alone would not be enough: one that was torn or is not durable is a fault of its own.
    pub fn rot_control(&mut self, node: usize, slot: u8) -> bool {
        let disk = &self.nodes[node].disk;
        let other = FileId::Control(1 - slot.min(1));
        let (other, seen) = (disk.durable_bytes(other), disk.file_bytes(other));
        let whole =
            |bytes: Option<&Bytes>| bytes.is_some_and(|bytes| Control::decode(bytes).is_ok());
        let file = FileId::Control(slot);
        let (Some(bytes), true) =
            (disk.file_bytes(file), whole(other.as_ref()) && whole(seen.as_ref()))
        else {
            return false;
        };
        if self.nodes[node].process.is_some() || !whole(Some(&bytes)) {
            return false;
        }
        let at = self.faults.below(bytes.len() as u64);
        let bit = u8::try_from(self.faults.below(8)).unwrap_or(0);
        self.note(|| format!("a bit flips in slot {slot} of the control file of n{node} at {at}"));
        self.stats.rotten_slots += 1;
        self.nodes[node].disk.flip_bit(file, at, bit)
    }
}

/// The whole blocks of a log that its control file durably promises, and how many bytes of each are stored.
fn promised_blocks(node: &Node) -> Vec<(Damage, u64)> {
    let slot = |slot| {
        let bytes = node.disk.durable_bytes(FileId::Control(slot))?;
        let (_, control) = Control::decode(&bytes).ok()?;
        // Behind a cut that is pending nothing is promised.
        let promised = control.durable.counts(&control.epochs);
        Some(control.truncating.map_or(promised, |cut| cut.to.min(promised)))
    };
    let (Some(one), Some(other)) = (slot(0), slot(1)) else { return Vec::new() };
    let promised = one.min(other);
    let mut blocks = Vec::new();
    for file in node.disk.files() {
        let FileId::Segment(number) = file else { continue };
        let start = number * SEGMENT_BYTES;
        if start >= promised.0 {
            continue;
        }
        let bytes = node.disk.file_bytes(file).unwrap_or_default();
        let mut at = start;
        while let Some(page) = usize::try_from(at - start).ok().and_then(|from| bytes.get(from..)) {
            let Ok(header) = BlockHeader::decode(page, LOG) else { break };
            if header.lsn != Lsn(at) || header.end() > promised {
                break;
            }
            blocks.push((
                Damage { start: header.lsn, end: header.end() },
                u64::from(header.stored_len),
            ));
            at = header.end().0;
        }
    }
    blocks
}
