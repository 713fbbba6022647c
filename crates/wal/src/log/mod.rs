//! The log as a state machine: blocks in, disk operations out, a durable LSN that advances over
//! the contiguous prefix.
//!
//! Steps, no clock, no thread, no I/O: whoever owns a [`Log`] carries its operations out and brings
//! the completions back. Production, simulator and tests step the same code.
//!
//! Guarantees: the durable LSN covers completed durable writes alone; the first error of a write, a sync
//! or a name poisons the log for good, missing room for the next segment apart; a block is written only
//! into a segment that is durably there.
//! Not here: recovery ([`crate::recover`](mod@crate::recover)), producers ([`Appender`]), waiting.
//!
//! # Layout
//! - `writing`: blocks are sealed, and go to the disk
//! - `reading`: where blocks are to be had again
//! - `segments`: the files, made before they are needed
//! - `tail`: the last blocks, in memory

#[cfg(feature = "model")]
mod modelled;
mod reading;
mod segments;
mod tail;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::append::{Appender, Claimed, Control};
use crate::disk::{Io, IoDone, IoFault, OpId};
use crate::error::Error;
use crate::follow::{End, Identity};
use crate::format::{Block, EpochBegin, EpochEntry, Open, max_record_bytes};
use crate::index::BlockIndex;
use crate::lsn::{ContentId, Epoch, InstanceId, LogId, Lsn, Micros, RunningHash};
use crate::recover::Recovered;
pub use reading::Fetch;
pub(crate) use reading::decode_run;
use segments::Segments;
use tail::Tail;

/// How a log behaves; nothing here changes what its bytes mean.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOptions {
    /// Durable writes in flight at once. Default 2.
    pub max_writes_in_flight: usize,
    /// The largest single write, in bytes. Default 1 MiB.
    pub max_write_bytes: u64,
    /// The size at which a block is closed, in bytes. Default 256 KiB.
    pub target_block_bytes: u32,
    /// Log space that may wait to become durable before appends are refused, in bytes. Default 16 MiB.
    pub max_pending_bytes: u64,
    /// Blocks kept in memory for readers of the tail, in bytes. Default 8 MiB.
    pub tail_bytes: u64,
    /// Quiet time after which the primary seals a watermark, in microseconds. Default 50,000.
    pub idle_micros: u64,
    /// Whether the log has no copies: then it is quiet when all is durable, and nobody has to tell
    /// it what is committed. Default no.
    pub alone: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_writes_in_flight: 2,
            max_write_bytes: 1 << 20,
            target_block_bytes: 256 << 10,
            max_pending_bytes: 16 << 20,
            tail_bytes: 8 << 20,
            idle_micros: 50_000,
            alone: false,
        }
    }
}

#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Flight {
    op: OpId,
    end: Lsn,
    hash: RunningHash,
    /// Stored bytes of its blocks.
    stored_bytes: u64,
    done: bool,
}

/// One copy of a content's log, running.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Log {
    id: LogId,
    content: ContentId,
    segment_bytes: u64,
    options: LogOptions,
    appender: Arc<Appender>,
    /// Whether blocks are sealed here (a primary) or received.
    sealing: bool,
    /// The reign whose first block is claimed and not yet sealed.
    beginning: Option<EpochEntry>,
    epoch: Epoch,
    epochs: Vec<EpochEntry>,
    start: Lsn,
    end: Lsn,
    hash: RunningHash,
    durable: Lsn,
    durable_hash: RunningHash,
    commit: Lsn,
    waiting: VecDeque<Block>,
    /// Stored bytes of what waits and of what is in flight.
    unwritten_bytes: u64,
    flights: VecDeque<Flight>,
    writes: u64,
    segments: Segments,
    tail: Tail,
    index: BlockIndex,
    poison: Option<IoFault>,
    next_op: u64,
    /// When the log last sealed or received something but a watermark; `None` once quiet.
    busy_since: Option<Micros>,
    wall_micros: u64,
    claimed: Vec<Claimed>,
}

impl Log {
    /// Continues a recovered log. `ops` is the first of the operation ids it may use: it counts up
    /// from there.
    #[must_use]
    pub fn new(recovered: Recovered, options: LogOptions, ops: OpId) -> Self {
        let epoch = recovered.epochs.last().map_or(Epoch::NONE, |entry| entry.epoch);
        let appender = Appender::new(
            recovered.segment_bytes,
            max_record_bytes(recovered.segment_bytes),
            options.target_block_bytes,
            options.max_pending_bytes,
        );
        appender.durable_is(recovered.end);
        Self {
            id: recovered.log,
            content: recovered.content,
            segment_bytes: recovered.segment_bytes,
            appender: Arc::new(appender),
            sealing: false,
            beginning: None,
            epoch,
            epochs: recovered.epochs,
            start: recovered.start,
            end: recovered.end,
            hash: recovered.hash,
            durable: recovered.end,
            durable_hash: recovered.hash,
            commit: recovered.commit,
            waiting: VecDeque::new(),
            unwritten_bytes: 0,
            flights: VecDeque::new(),
            writes: 0,
            segments: Segments::new(recovered.segment_bytes, recovered.segments),
            tail: Tail::new(options.tail_bytes),
            index: recovered.index,
            poison: None,
            next_op: ops.0,
            busy_since: None,
            wall_micros: 0,
            claimed: Vec::new(),
            options,
        }
    }

    /// Where producers append.
    #[must_use]
    pub const fn appender(&self) -> &Arc<Appender> {
        &self.appender
    }

    /// The log's identity.
    #[must_use]
    pub const fn id(&self) -> LogId {
        self.id
    }

    /// The content it belongs to.
    #[must_use]
    pub const fn content(&self) -> ContentId {
        self.content
    }

    const fn identity(&self) -> Identity {
        Identity { log: self.id, content: self.content, segment_bytes: self.segment_bytes }
    }

    /// The size of its segments, in bytes.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Where it begins; what lay before was recycled.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        self.start
    }

    /// The end of what is sealed or received.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// The running hash at [`Log::end`].
    #[must_use]
    pub const fn hash(&self) -> RunningHash {
        self.hash
    }

    /// What is durable here.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// How many durable writes of blocks were asked for: each is one sync.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// The running hash at [`Log::durable`].
    #[must_use]
    pub const fn durable_hash(&self) -> RunningHash {
        self.durable_hash
    }

    /// The reign of the last block.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The reigns that the log holds, oldest first.
    #[must_use]
    pub fn epochs(&self) -> &[EpochEntry] {
        &self.epochs
    }

    /// The first error of the disk, if there was one: the log is at its end.
    #[must_use]
    pub const fn poison(&self) -> Option<&IoFault> {
        self.poison.as_ref()
    }

    /// The missing room that the next segment is late for, if it is: it is tried again.
    #[must_use]
    pub const fn space_fault(&self) -> Option<&IoFault> {
        self.segments.fault()
    }

    /// Whether nothing is in flight to the disk and nothing waits for it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.waiting.is_empty() && self.segments.is_idle()
    }

    /// Whether an operation is in flight to the disk.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.flights.is_empty() || !self.segments.is_idle()
    }

    /// Whether every byte up to the end is durable and no write is in flight.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.flights.is_empty() && self.waiting.is_empty()
    }

    /// Stored bytes that are received or sealed and not yet durable: so much is held in memory for the disk,
    /// however much log space it takes.
    #[must_use]
    pub const fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    /// What is known to be committed.
    #[must_use]
    pub const fn commit(&self) -> Lsn {
        self.commit
    }

    /// The commit LSN that the next sealed header carries; never moves back.
    pub fn commit_is(&mut self, commit: Lsn) {
        self.commit = self.commit.max(commit);
    }

    /// The wall clock, for the headers' information.
    pub const fn wall_clock_is(&mut self, micros: u64) {
        self.wall_micros = micros;
    }

    /// Begins a reign: seals an `EpochBegin` and takes appends behind it. Returns its LSN.
    ///
    /// # Errors
    /// [`Error::Poisoned`]; [`Error::OutOfOrder`] when the epoch does not rise.
    pub fn begin_epoch(&mut self, epoch: Epoch, instance: InstanceId) -> Result<Lsn, Error> {
        self.check()?;
        if epoch.number <= self.epoch.number {
            return Err(Error::OutOfOrder {
                lsn: self.end,
                end: self.end,
                epoch: self.epoch,
                cause: "a reign's number must rise".to_owned(),
            });
        }
        self.appender.open_at(self.end);
        self.sealing = true;
        let begin = EpochBegin { epoch, instance, from: self.end, previous: self.epoch };
        // An epoch that begins with a segment begins with its head: else two heads at one place, of
        // two reigns, would lie before the fork.
        self.beginning = Some(EpochEntry { epoch, start: self.end, instance });
        Ok(self.appender.claim(Control::EpochBegin(begin)))
    }

    /// Opens a log that knows no reigns but its first for append: seals an `Open`.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn reopen(&mut self, instance: InstanceId) -> Result<Lsn, Error> {
        self.check()?;
        self.appender.open_at(self.end);
        self.sealing = true;
        Ok(self.appender.claim(Control::Open(Open { epoch: self.epoch, instance })))
    }

    /// Takes no appends for now; those that were taken are sealed.
    pub fn freeze(&self) {
        self.appender.freeze();
    }

    /// Takes appends again, after [`Log::freeze`] and in the same reign.
    pub fn thaw(&self) {
        self.appender.thaw();
    }

    /// Ends a reign: nothing more is sealed, what is claimed is forgotten. What was sealed still
    /// goes to the disk.
    pub fn end_epoch(&mut self) {
        self.appender.shut();
        self.sealing = false;
        self.beginning = None;
        self.busy_since = None;
    }

    /// Takes a block from the primary. It must continue the log exactly.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`], and nothing is changed; [`Error::Poisoned`].
    pub fn receive(&mut self, now: Micros, block: Block) -> Result<(), Error> {
        self.check()?;
        let refuse =
            |cause| Error::OutOfOrder { lsn: block.lsn(), end: self.end, epoch: self.epoch, cause };
        if self.sealing {
            return Err(refuse("this copy reigns".to_owned()));
        }
        let end = End {
            identity: self.identity(),
            at: self.end,
            hash: self.hash,
            epoch: self.epoch.number,
            latest: self.epochs.last(),
        };
        end.follow(&block).map_err(|misfit| refuse(misfit.to_string()))?;
        self.accept(now, block);
        Ok(())
    }

    /// Seals what is pending while there is room for a write, and starts writes. `sealed` gets the
    /// blocks, for the senders, in the same step as the disk.
    pub fn pump(&mut self, now: Micros, sealed: &mut Vec<Block>, out: &mut Vec<(OpId, Io)>) {
        if self.poison.is_some() {
            return;
        }
        self.idle(now);
        if self.sealing && self.has_slot() && self.waiting.is_empty() {
            let mut claimed = std::mem::take(&mut self.claimed);
            self.appender.take(self.options.max_write_bytes, &mut claimed);
            for claim in claimed.drain(..) {
                let block = self.seal(claim);
                sealed.push(block.clone());
                self.accept(now, block);
            }
            self.claimed = claimed;
        }
        self.write(out);
        let last = self.end.0 / self.segment_bytes;
        let first = self.waiting.front().map_or(last, |block| block.lsn().0 / self.segment_bytes);
        let next_op = &mut self.next_op;
        self.segments.prepare(now, first, last, || bump(next_op), out);
    }

    /// Takes the completion of an operation; `false` when it is none of this log's.
    pub fn done(
        &mut self,
        now: Micros,
        op: OpId,
        result: &Result<IoDone, IoFault>,
        out: &mut Vec<(OpId, Io)>,
    ) -> bool {
        if self.poison.is_some() && self.segments.abandon(op) {
            return true;
        }
        let next_op = &mut self.next_op;
        match self.segments.done(now, op, result, || bump(next_op), out) {
            Some(Ok(())) => return true,
            Some(Err(fault)) => {
                self.fail(fault);
                return true;
            }
            None => {}
        }
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.op == op) else {
            return false;
        };
        if let Err(fault) = result {
            self.flights.retain(|flight| flight.op != op);
            self.fail(fault.clone());
            return true;
        }
        flight.done = true;
        if self.poison.is_some() {
            self.flights.retain(|flight| !flight.done);
            return true;
        }
        while let Some(first) = self.flights.front().filter(|flight| flight.done) {
            self.durable = first.end;
            self.durable_hash = first.hash;
            self.unwritten_bytes = self.unwritten_bytes.saturating_sub(first.stored_bytes);
            self.flights.pop_front();
        }
        self.appender.durable_is(self.durable);
        self.tail.evict(self.durable);
        true
    }

    /// The next moment at which [`Log::pump`] has something to do by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        if self.poison.is_some() {
            return None;
        }
        let settled = self.is_settled();
        let idle =
            self.busy_since.filter(|_| settled).map(|since| since.plus(self.options.idle_micros));
        match (idle, self.segments.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Forgets whole segments below `floor` and removes their files. Returns the new start. A poisoned
    /// log stays as it is.
    pub fn drop_below(&mut self, floor: Lsn, out: &mut Vec<(OpId, Io)>) -> Lsn {
        // The segment of the last block below the floor stays, also where a segment ends there: a log
        // may be cut at its floor, and without any block nothing says what came before.
        let first = floor.min(self.durable).0.saturating_sub(1) / self.segment_bytes;
        if self.poison.is_none() && self.segments.first().is_some_and(|oldest| oldest < first) {
            let start = Lsn(first.saturating_mul(self.segment_bytes));
            let next_op = &mut self.next_op;
            self.segments.drop_below(first, || bump(next_op), out);
            self.start = self.start.max(start);
            self.index.drop_below(self.start);
        }
        self.start
    }

    fn check(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn has_slot(&self) -> bool {
        self.flights.len() < self.options.max_writes_in_flight.max(1)
    }

    fn fail(&mut self, fault: IoFault) {
        tracing::error!(%fault, end = %self.end, durable = %self.durable, "the log is poisoned");
        self.appender.poison(&fault);
        self.poison = Some(fault);
        self.waiting.clear();
        self.busy_since = None;
    }

    /// One watermark a quiet period, so that a later promise covers the last acknowledged block.
    fn idle(&mut self, now: Micros) {
        let Some(since) = self.busy_since else { return };
        let quiet = now.since(since) >= self.options.idle_micros && self.is_settled();
        if quiet && !self.appender.has_pending() {
            self.appender.claim(Control::Watermark);
        }
    }

    /// Whether all there is is durable and committed: nothing is left to be told but that.
    fn is_settled(&self) -> bool {
        self.sealing && self.is_drained() && (self.options.alone || self.commit >= self.end)
    }
}

const fn bump(next: &mut u64) -> OpId {
    let op = OpId(*next);
    *next = next.wrapping_add(1);
    op
}
