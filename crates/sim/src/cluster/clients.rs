//! Clients: they name their writes, learn what became of them, and send again what is in doubt.
//!
//! Not here: what they do next, and at which node (`writes`).

use std::collections::VecDeque;

use bytes::Bytes;
use outrigger_replica::store::kv::{self, ClientId, Op};
use outrigger_wal::{Epoch, Lsn};

use super::store::Name;
use crate::rng::Rng;

/// How many rows they write to.
const ROWS: u64 = 40;

/// One record of a client.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: Name,
    pub(crate) body: Bytes,
}

/// What a client asks to be appended as one batch.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What it wants to take effect.
    pub(crate) records: Vec<Named>,
    /// It was sent before: it may be in the log already, or lie before what is remembered.
    pub(crate) again: bool,
    /// It gives up: the names are settled, and take no effect from then on if they had none before.
    pub(crate) settles: bool,
}

impl Request {
    /// The bytes to append.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        let settle = |record: &Named| {
            let (client, sequence) = record.name;
            let client = ClientId(u128::from(client));
            kv::Write { client, sequence, op: Op::Settle }.encode().unwrap_or_default()
        };
        let body = |record: &Named| if self.settles { settle(record) } else { record.body.clone() };
        self.records.iter().map(body).collect()
    }
}

/// A request that was appended and is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) client: usize,
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
    pub(crate) epoch: Epoch,
    /// A digest of its first record.
    pub(crate) digest: u64,
    pub(crate) request: Request,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    number: u64,
    sequence: u64,
    pub(crate) in_flight: usize,
    /// Where it thinks the primary is.
    pub(crate) target: usize,
    pub(crate) rng: Rng,
    /// What it does not know the fate of.
    pub(crate) doubts: VecDeque<Request>,
}

impl Client {
    pub(crate) const fn new(number: u64, rng: Rng) -> Self {
        Self { number, sequence: 0, in_flight: 0, target: 0, rng, doubts: VecDeque::new() }
    }

    /// Its next write: one record, or a batch.
    pub(crate) fn request(&mut self) -> Request {
        let many = if self.rng.chance(100) { self.rng.range(2..6) } else { 1 };
        let records = (0..many).map(|_| self.record()).collect();
        Request { records, again: false, settles: false }
    }

    /// A write of one record with a value of so many bytes.
    pub(crate) fn sized(&mut self, bytes: usize) -> Request {
        Request { records: vec![self.put(bytes)], again: false, settles: false }
    }

    fn record(&mut self) -> Named {
        let bytes = match self.rng.below(1000) {
            0..5 => self.rng.range(64 << 10..200 << 10),
            5..50 => self.rng.range(2 << 10..64 << 10),
            50..100 => 0,
            _ => self.rng.range(0..2 << 10),
        };
        self.put(usize::try_from(bytes).unwrap_or(0))
    }

    fn put(&mut self, bytes: usize) -> Named {
        self.sequence += 1;
        let (client, sequence) = (self.number, self.sequence);
        let key = Bytes::copy_from_slice(&self.rng.below(ROWS).to_be_bytes());
        let fill = self.rng.next_u64().to_le_bytes();
        // A value belongs to one write.
        let mut value = [client.to_le_bytes(), sequence.to_le_bytes()].concat();
        value.extend(fill.iter().cycle().take(bytes));
        let op = Op::Put { key, value: value.into() };
        let write = kv::Write { client: ClientId(u128::from(client)), sequence, op };
        Named { name: (client, sequence), body: write.encode().unwrap_or_default() }
    }
}
