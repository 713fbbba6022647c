//! The catalog: a state store whose log is the coordinator's own (content -1).
//!
//! Guarantees: [`StateStore`]'s whole contract; a compare-and-swap is decided when its record is
//! applied, in log order. So two that were appended against one version have one winner, on every
//! replay the same. A checkpoint is the whole catalog, in two slots.
//!
//! # Layout
//! - [`record`]: what is appended
//! - [`state`]: what it means; `spread`: of the map of rows
//! - [`tables`]: hosts, instances, settings, history; `rows`: as bytes
//! - `image`: the whole of it as bytes; [`Keepsake`]: what agents keep of it
//!
//! Not here: who may ask for what, and who is told ([`crate::coordinator`]).

mod image;
mod keepsake;
pub mod record;
pub(crate) mod rows;
mod spread;
pub mod state;
pub mod tables;

use std::collections::VecDeque;

use outrigger_replica::rules::Rules;
use outrigger_replica::store::{KeyRange, Pair, Partition, Snapshot, StateStore, StoreError, run};
use outrigger_wal::format::Record as LogRecord;
use outrigger_wal::{ContentId, Lsn};
use parking_lot::{Mutex, RwLock};

use crate::error::Error;
use crate::slots::{Kind, Saved, Slots};
pub(crate) use image::encode as encode_image;
pub use keepsake::{Keepsake, MAX_KEPT_BYTES};
pub use record::{Change, MoveStep, Record, Ticket};
pub use state::{Content, Refused, State};

/// What became of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Which record.
    pub ticket: Ticket,
    /// The content it concerns.
    pub content: Option<ContentId>,
    /// Whether it changed what it should.
    pub result: Result<(), Refused>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    applied: Lsn,
    checkpointed: Lsn,
    failed: Option<StoreError>,
    /// The reign whose outcomes are kept for it.
    listening: Option<u64>,
    outcomes: VecDeque<Outcome>,
}

/// The catalog of a cluster.
#[derive(Debug)]
pub struct Catalog {
    rules: Rules,
    // Held over a whole checkpoint; taken before `inner`.
    saved: Mutex<Saved>,
    inner: RwLock<Inner>,
}

impl Catalog {
    /// The catalog at its latest checkpoint; an empty one where there is none.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn open(slots: Box<dyn Slots>, rules: Rules) -> Result<Self, Error> {
        let (saved, body) = Saved::open(slots, Kind::Catalog)?;
        let mut inner = Inner::default();
        if let Some(body) = body {
            let (state, applied) = image::decode(&body)
                .map_err(|cause| Error::Content { place: saved.place(), cause })?;
            inner = Inner { state, applied, checkpointed: applied, ..inner };
        }
        Ok(Self { rules, saved: Mutex::new(saved), inner: RwLock::new(inner) })
    }

    /// Looks at what is applied.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.read().state)
    }

    /// From now on the outcomes of records with this epoch in their ticket are kept until they are
    /// taken; `None`: of none. Those kept so far are dropped.
    pub fn listen(&self, epoch: Option<u64>) {
        let mut inner = self.inner.write();
        inner.listening = epoch;
        inner.outcomes.clear();
    }

    /// Takes the outcomes that have come since.
    pub fn take_outcomes(&self) -> Vec<Outcome> {
        if self.inner.read().outcomes.is_empty() {
            return Vec::new();
        }
        self.inner.write().outcomes.drain(..).collect()
    }

    /// The rules that its decisions hold to.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.rules
    }
}

impl Inner {
    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        self.failed.get_or_insert(error).clone()
    }

    fn apply_record(&mut self, record: &Record, rules: Rules) {
        let result = self.state.apply(record.at, &record.change, rules);
        if self.listening == Some(record.ticket.epoch) {
            let content = match record.change {
                Change::Create { content, .. } | Change::Swap { content, .. } => Some(content),
                _ => None,
            };
            self.outcomes.push_back(Outcome { ticket: record.ticket, content, result });
        }
    }
}

fn decode(record: &LogRecord) -> Result<Record, StoreError> {
    Record::decode(&record.body).map_err(|cause| StoreError::Other {
        cause: format!("the catalog's record at {} cannot be applied: {cause}", record.lsn),
    })
}

fn other(error: impl std::fmt::Display) -> StoreError {
    StoreError::Other { cause: error.to_string() }
}

impl StateStore for Catalog {
    fn partition(&self, _record: &LogRecord) -> Partition {
        Partition::Barrier
    }

    fn apply(&self, run: &[LogRecord]) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        inner.check()?;
        for batch in run::batches(run, inner.applied)? {
            let decoded: Result<Vec<_>, _> = batch.iter().map(decode).collect();
            let decoded = decoded.map_err(|error| inner.fail(error))?;
            decoded.iter().for_each(|record| inner.apply_record(record, self.rules));
            if let Some(last) = batch.last() {
                inner.applied = last.end;
            }
        }
        Ok(())
    }

    fn applied(&self) -> Lsn {
        self.inner.read().applied
    }

    fn advance(&self, to: Lsn) {
        let mut inner = self.inner.write();
        inner.applied = inner.applied.max(to);
    }

    fn checkpoint(&self) -> Result<Lsn, StoreError> {
        let mut saved = self.saved.lock();
        let (body, at) = {
            let inner = self.inner.read();
            inner.check()?;
            (image::encode(&inner.state, inner.applied), inner.applied)
        };
        let result = body.map_err(other).and_then(|body| saved.save(&body).map_err(other));
        let mut inner = self.inner.write();
        result.map_err(|error| inner.fail(error))?;
        inner.checkpointed = at;
        Ok(at)
    }

    fn checkpointed(&self) -> Lsn {
        self.inner.read().checkpointed
    }

    fn snapshot(&self, range: &KeyRange) -> Result<Snapshot, StoreError> {
        let inner = self.inner.read();
        let mut pairs = image::pairs(&inner.state).map_err(other)?;
        pairs.retain(|(key, _)| range.contains(key));
        Ok(Snapshot::new(inner.applied, pairs.into_iter().map(Ok)))
    }

    fn restore(
        &self,
        at: Lsn,
        pairs: &mut dyn Iterator<Item = Result<Pair, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut saved = self.saved.lock();
        let mut inner = self.inner.write();
        inner.check()?;
        if inner.applied != Lsn::ZERO || inner.state != State::default() {
            return Err(StoreError::NotEmpty { applied: inner.applied });
        }
        let mut state = State::default();
        let mut behind = None;
        for pair in pairs {
            let pair = pair?;
            if behind.as_ref().is_some_and(|last| *last >= pair.0) {
                return Err(StoreError::PairOrder);
            }
            image::restore(&mut state, &pair)?;
            behind = Some(pair.0);
        }
        let body = image::encode(&state, at).map_err(other)?;
        // ORDER: durable as a whole before anybody sees it; a crash before that leaves it empty.
        saved.save(&body).map_err(|error| inner.fail(other(error)))?;
        inner.state = state;
        inner.applied = at;
        inner.checkpointed = at;
        Ok(())
    }
}
