//! Clients that append records and learn what became of them.

use outrigger_wal::{Epoch, Lsn};

use crate::rng::Rng;

/// A write whose fate is not known yet.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) client: usize,
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    pub(super) epoch: Epoch,
    /// Digests of its records.
    pub(super) digests: Vec<u64>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u64,
    sequence: u64,
    pub(super) in_flight: usize,
    /// Where it thinks the primary is.
    pub(super) target: usize,
    pub(super) rng: Rng,
}

impl Client {
    pub(super) const fn new(number: u64, rng: Rng) -> Self {
        Self { number, sequence: 0, in_flight: 0, target: 0, rng }
    }

    /// The records of its next write: one, or a batch.
    pub(super) fn records(&mut self) -> Vec<Vec<u8>> {
        let many = if self.rng.chance(100) { self.rng.range(2..6) } else { 1 };
        (0..many).map(|_| self.record()).collect()
    }

    pub(super) fn record(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let padding = match self.rng.below(1000) {
            0..5 => self.rng.range(64 << 10..200 << 10),
            5..50 => self.rng.range(2 << 10..64 << 10),
            50..100 => 0,
            _ => self.rng.range(0..2 << 10),
        };
        let padding = usize::try_from(padding).unwrap_or(0);
        let mut body = Vec::with_capacity(16 + padding);
        body.extend_from_slice(&self.number.to_le_bytes());
        body.extend_from_slice(&self.sequence.to_le_bytes());
        let fill = self.rng.next_u64().to_le_bytes();
        body.extend(fill.iter().cycle().take(padding));
        body
    }
}
