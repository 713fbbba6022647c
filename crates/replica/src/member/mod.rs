//! One copy of one content, as a state machine: primary or mirror, restart, promotion, rejoin.
//!
//! Events go in, actions come out; there is no clock, socket, thread or random source in here. Every step
//! ends by settling: whatever has become possible is done, whatever has become due is asked for.
//! So nothing hangs on the order in which answers come.
//!
//! Guarantees: the rules S0 to S7 (docs/failover.md), each named where it is enforced. Not here: applying
//! records (a store), the authority that owns configurations, sockets and files (drivers).
//!
//! # Layout
//! - `event`: what goes in and comes out
//! - `phase`: what a copy can be
//! - `configured`: what the authority records, accepted and acted on
//! - `following`: a copy and its primary
//! - `restart`: how a reign is taken up
//! - `reign`: who belongs to the in-sync set
//! - `lines`: a primary and its copies
//! - `handing_over`: a reign given up for another (S9); `resigning`: for one that may lack commits (S10)
//! - `serve`: commit, apply, keep; `streams`: how its streams stand
//! - `lending`: what a primary lends to a copy that is rebuilt
//! - `modelled`: what the model checker needs, in a test-only build
//! - `persisting`, `reading`: the control file's writes, the log's reads

mod configured;
mod event;
mod following;
mod handing_over;
mod lending;
mod lines;
#[cfg(feature = "model")]
mod modelled;
mod persisting;
mod phase;
mod reading;
mod reign;
mod resigning;
mod restart;
mod serve;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use outrigger_net::config::Config;
use outrigger_net::message::{Envelope, History, Message, Reason, Session};
use outrigger_wal::disk::{IoDone, IoFault, OpId};
use outrigger_wal::format::Block;
use outrigger_wal::recover::{Promise, Recovered};
use outrigger_wal::{Appender, Epoch, InstanceId, Log, LogOptions, Lsn, Micros};
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub use event::{Event, In, LinkId, Out};
pub use handing_over::HandOver;
pub use lending::{LendError, Lent};
#[cfg(feature = "model")]
pub use modelled::Timer;
pub use phase::Role;
pub use streams::{StreamStatus, Streaming};

use crate::control::Control;
use crate::epochs::joined;
use crate::rules::Rules;
use lending::Held;
use persisting::Persisting;
use phase::Phase;
use reading::Reading;
use serve::Applying;

/// The first operation id of the member's own; the log's lie below.
const OWN_OPS: u64 = 1 << 62;
/// The distance between the operation ids of one opening of the log and the next.
const LOG_OPS: u64 = 1 << 40;
/// How many reigns a `Hello` tells.
const TOLD_EPOCHS: usize = 256;

/// How a member behaves. Times in milliseconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberOptions {
    /// The log's options.
    pub log: LogOptions,
    /// How long a primary waits for a copy without a connection before it asks for a configuration
    /// without it (S2). Default 200.
    pub copy_grace_millis: u64,
    /// How long after its own start a primary that starts again waits at least for a copy that it has not met since: both may
    /// have been started together. Default 3,000.
    pub first_copy_grace_millis: u64,
    /// How long a connection may be silent before it counts as gone. Default 500.
    pub silence_millis: u64,
    /// How long a copy that commits wait for may acknowledge nothing new while its connection lives: then the
    /// connection is ended, and the copy leaves unless it catches up. Default 5,000.
    pub copy_stall_millis: u64,
    /// How often something is said on a quiet connection. Default 100.
    pub quiet_millis: u64,
    /// How long a copy may not know of a higher commit LSN when no block brings it. Default 1,000 us.
    pub tell_commit_micros: u64,
    /// How long to wait for the authority before asking again. Default 200.
    pub ask_again_millis: u64,
    /// How often promises are made durable and reported without another cause. Default 1,000.
    pub promise_millis: u64,
    /// How near a copy's durable LSN must be before commits wait for it (S4), in bytes of log space. Default 1 MiB.
    pub near_bytes: u64,
    /// Stored bytes on their way to one copy at once. Default 4 MiB.
    pub window_bytes: u64,
    /// Log that is kept though nobody needs it any more, in bytes of log space. Default 1 GiB.
    pub retain_bytes: u64,
    /// Log that is held for a copy that is rebuilt is let go when it lies further behind the end, in bytes of
    /// log space: the copy begins once more. Default 64 GiB.
    pub max_held_bytes: u64,
    /// Stored bytes on their way to the store at once. Default 2 MiB.
    pub apply_bytes: u64,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            copy_grace_millis: 200,
            first_copy_grace_millis: 3_000,
            silence_millis: 500,
            copy_stall_millis: 5_000,
            quiet_millis: 100,
            tell_commit_micros: 1_000,
            ask_again_millis: 200,
            promise_millis: 1_000,
            near_bytes: 1 << 20,
            window_bytes: 4 << 20,
            retain_bytes: 1 << 30,
            max_held_bytes: 64 << 30,
            apply_bytes: 2 << 20,
        }
    }
}

/// One copy of one content. See the module's documentation for its shape.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub struct Member {
    options: MemberOptions,
    rules: Rules,
    seed: u64,
    drawn: u64,
    now: Micros,
    born: Micros,
    wall_micros: u64,

    control: Control,
    persisting: Persisting,

    log: Log,
    openings: u64,
    /// The log is being opened again, for a primary of this epoch: until it is, nothing may touch
    /// its files, whatever becomes of the connection meanwhile.
    reopening: Option<Epoch>,
    /// What is committed, as far as this copy knows and holds it.
    commit: Lsn,
    /// What the primary that is followed said is committed; may lie beyond what is held here.
    told_commit: Lsn,
    /// No copy needs log below this, as far as this copy was told.
    told_keep: Lsn,
    checkpointed: Lsn,
    held: Held,
    applying: Applying,

    phase: Phase,
    config: Option<Config>,
    /// A configuration that waits until it is accepted durably: the generation that holds it.
    accepting: VecDeque<(u64, Config)>,
    asked_at: Option<Micros>,
    reported: (Micros, Lsn, Lsn),
    /// The reign that the log's history belongs to, as reported to the authority.
    history_epoch: Epoch,
    /// The last cut since the log was opened: the number of the epoch it was made for, and the fork.
    cut: Promise,

    next_link: u64,
    next_op: u64,
    /// What is read, for what, and how many bytes were asked for.
    reads: BTreeMap<OpId, (Reading, u32)>,
    /// Connections that ended a short while ago, and whose they were.
    old_links: VecDeque<(LinkId, InstanceId)>,
    sealed: Vec<Block>,
    closing: bool,
    counters: Counters,
}

/// What a member has done since it was opened.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Reigns taken up by promotion.
    pub promotions: u64,
    /// Reigns taken up after a restart.
    pub restarts: u64,
    /// Truncations that cut something.
    pub truncations: u64,
    /// Copies that joined the in-sync set here.
    pub grows: u64,
    /// Copies that left it here.
    pub shrinks: u64,
    /// Refused frames and acknowledgements.
    pub refusals: u64,
}

impl Member {
    /// A copy whose log and control file were just read. `applied`: what its store holds durably.
    /// `seed`: random, from which nonces are drawn.
    #[must_use]
    pub fn new(
        recovered: Recovered,
        control: (u64, Control),
        applied: Lsn,
        seed: u64,
        rules: Rules,
        options: MemberOptions,
        now: Micros,
    ) -> Self {
        let (generation, mut control) = control;
        let mut recovered = recovered;
        let commit = recovered.commit.min(recovered.end).max(applied);
        recovered.epochs = joined(&control.epochs, &recovered.epochs);
        control.epochs.clone_from(&recovered.epochs);
        // What a cut left is history of the epoch that called for it, and the authority is told so (S6), also
        // where recovery finished the cut, or the first report of it was lost.
        let last = recovered.epochs.last().map_or(Epoch::NONE, |entry| entry.epoch);
        let was_cut = control.truncating.is_some() || control.durable.epoch == control.epoch.number;
        let history_epoch =
            if was_cut && control.epoch.number > last.number { control.epoch } else { last };
        // What was promised before that counts up to there, also while nobody was told of the cut.
        let cut = if history_epoch.number > last.number {
            Promise { epoch: history_epoch.number, lsn: recovered.end }
        } else {
            Promise::NONE
        };
        let log = Log::new(recovered, options.log.clone(), OpId(0));
        let mut member = Self {
            rules,
            seed,
            drawn: 0,
            now,
            born: now,
            wall_micros: 0,
            persisting: Persisting::new(generation, control.coordinator_epoch),
            openings: 0,
            reopening: None,
            commit,
            told_commit: commit,
            told_keep: control.keep,
            checkpointed: applied,
            held: Held::default(),
            // Where the log no longer reaches back to the store, reading it there says so.
            applying: Applying::from(log.boundary_before(applied).unwrap_or(applied), applied),
            phase: Phase::Waiting,
            config: None,
            accepting: VecDeque::new(),
            asked_at: None,
            reported: (now, Lsn::ZERO, Lsn::ZERO),
            history_epoch,
            cut,
            next_link: 1,
            next_op: OWN_OPS,
            reads: BTreeMap::new(),
            old_links: VecDeque::new(),
            sealed: Vec::new(),
            closing: false,
            counters: Counters::default(),
            control,
            log,
            options,
        };
        // The mark of that truncation goes with the next write.
        member.control.truncating = None;
        member
    }

    /// Takes one event, and asks for whatever follows from it.
    pub fn step(&mut self, now: Micros, event: In, out: &mut Vec<Out>) {
        self.now = self.now.max(now);
        match event {
            In::Io(op, result) => self.io_done(op, result, out),
            In::Kick => {}
            In::Connected(link) => self.connected(link, out),
            In::Frame { link, envelope, message, body } => {
                self.frame(link, envelope, message, &body, out);
            }
            In::Closed(link) => self.closed(link),
            In::Config { config, coordinator_epoch } => {
                self.recorded(config, coordinator_epoch, out);
            }
            In::HandOver(asked) => self.asked_to_hand_over(asked, out),
            In::GiveUp(asked) => self.asked_to_give_up(asked, out),
            In::Applied(to) => self.applying.applied(to),
            In::Checkpointed(to) => self.checkpointed = self.checkpointed.max(to),
            In::StoreFailed(text) => self.fail(text, out),
            In::Reopened(result) => self.reopened(*result, out),
            In::Close => self.close(out),
        }
        self.settle(out);
    }

    /// When [`Member::step`] has something to do by itself (with [`In::Kick`]).
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        if matches!(self.phase, Phase::Failed | Phase::Closed) {
            return None;
        }
        let promise = self.reported.0.plus(self.options.promise_millis.saturating_mul(1000));
        // While the log is being cut nothing is promised, and nothing is asked of it; a moment that is past
        // would come again and again.
        let promise = (!self.is_reopening()).then_some(promise);
        let log = self.log.deadline().filter(|_| !self.is_reopening());
        let ask = match self.phase {
            Phase::Waiting | Phase::Electing(_) => {
                self.asked_at.map(|at| at.plus(self.options.ask_again_millis.saturating_mul(1000)))
            }
            _ => None,
        };
        let handing = self.handing_deadline().or_else(|| self.resigned_deadline());
        [promise, ask, log, self.reign_deadline(), handing].into_iter().flatten().min()
    }

    /// Where producers append; refused while this copy does not reign.
    #[must_use]
    pub const fn appender(&self) -> &Arc<Appender> {
        self.log.appender()
    }

    /// The wall clock, for the information in block headers.
    pub const fn wall_clock_is(&mut self, micros: u64) {
        self.wall_micros = micros;
        self.log.wall_clock_is(micros);
    }

    /// What this copy is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.phase.role()
    }

    /// The reign in which this copy serves commits: set once its first block is committed and
    /// applied, until it gives it up.
    #[must_use]
    pub fn serving(&self) -> Option<Epoch> {
        self.commits_in().filter(|_| !self.is_given_up())
    }

    /// The reign whose commits are told to those who wait for them: also while it is being given up, since all
    /// of them are committed by then.
    #[must_use]
    pub fn commits_in(&self) -> Option<Epoch> {
        match &self.phase {
            Phase::Reigning(reign)
                if self.commit >= reign.begin_end
                    && self.applying.reached() >= reign.begin_end
                    && self.is_persisted(reign.generation) =>
            {
                Some(reign.epoch)
            }
            _ => None,
        }
    }

    /// The highest epoch accepted.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.control.epoch
    }

    /// What is committed, as far as this copy knows and holds it.
    #[must_use]
    pub const fn commit(&self) -> Lsn {
        self.commit
    }

    /// What its store has applied.
    #[must_use]
    pub const fn applied(&self) -> Lsn {
        self.applying.reached()
    }

    /// What its store holds durably.
    #[must_use]
    pub const fn checkpointed(&self) -> Lsn {
        self.checkpointed
    }

    /// Its log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Its control file's content.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// The configuration it acts under.
    #[must_use]
    pub const fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// What it has done.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    const fn me(&self) -> InstanceId {
        self.control.identity.instance
    }

    fn draw(&mut self) -> u128 {
        self.drawn = self.drawn.wrapping_add(1);
        xxh3_128_with_seed(&self.drawn.to_le_bytes(), self.seed)
    }

    fn op(&mut self) -> OpId {
        let op = OpId(self.next_op);
        self.next_op = self.next_op.wrapping_add(1);
        op
    }

    fn envelope(&self, session: Session) -> Envelope {
        Envelope {
            cluster: self.control.identity.cluster,
            content: self.control.identity.content,
            epoch: self.control.epoch,
            coordinator_epoch: self.control.coordinator_epoch,
            version: self.config.as_ref().map_or(self.control.version, |config| config.version),
            session,
        }
    }

    fn history(&self) -> History {
        let skip = self.log.epochs().len().saturating_sub(TOLD_EPOCHS);
        History {
            epochs: self.log.epochs().iter().skip(skip).copied().collect(),
            start: self.log.start(),
            end: self.log.end(),
            hash: self.log.hash(),
            commit: self.commit,
            floor: self.floor(),
        }
    }

    /// What this copy has promised to hold (S6), as far as it knows itself.
    fn floor(&self) -> Lsn {
        let end = self.log.end();
        self.commit.max(self.control.durable.lsn.min(end))
    }

    /// Up to where a promise of this copy's that was made elsewhere counts (S6): at most up to the start of
    /// the next epoch here, and up to the fork where the log was cut for a later one that has no block here yet.
    fn counts(&self, promise: Promise) -> Lsn {
        let counts = promise.counts(self.log.epochs());
        if promise.epoch < self.cut.epoch { counts.min(self.cut.lsn) } else { counts }
    }

    /// What the recorded configuration says that this copy has held (S6), as far as no loss of it was
    /// accepted (S10).
    fn recorded_floor(&self, config: &Config) -> Lsn {
        config.copy(self.me()).map_or(Lsn::ZERO, |copy| {
            let counts = self.counts(copy.durable);
            let accepted = config.accepted(copy.instance, copy.durable.epoch);
            accepted.map_or(counts, |end| counts.min(end))
        })
    }

    /// When something came from the primary last, while it streams to this copy.
    #[must_use]
    pub fn stream_heard(&self) -> Option<Micros> {
        match &self.phase {
            Phase::Following(following) => following.stream.as_ref().map(|stream| stream.heard),
            _ => None,
        }
    }

    fn send(&self, link: LinkId, session: Session, message: Message, out: &mut Vec<Out>) {
        let envelope = self.envelope(session);
        out.push(Out::Send { link, envelope, message, body: Vec::new() });
    }

    fn refuse(
        &mut self,
        link: LinkId,
        session: Session,
        reason: Reason,
        text: String,
        out: &mut Vec<Out>,
    ) {
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        out.push(Out::Event(Event::Refused { text: text.clone() }));
        self.send(link, session, Message::Refuse { reason, text }, out);
        out.push(Out::Hangup(link));
    }

    fn fail(&mut self, text: String, out: &mut Vec<Out>) {
        if !matches!(self.phase, Phase::Failed) {
            self.step_down("the copy failed", out);
            self.drop_stream(out);
            self.phase = Phase::Failed;
            out.push(Out::Event(Event::Failed { text }));
        }
    }

    fn io_done(&mut self, op: OpId, result: Result<IoDone, IoFault>, out: &mut Vec<Out>) {
        if self.persisting.is_writing(op) {
            self.slot_written(result, out);
            return;
        }
        if let Some((reading, asked)) = self.reads.remove(&op) {
            self.read_ended(reading, asked, result, out);
            return;
        }
        let mut io = Vec::new();
        // A completion of an earlier opening of the log belongs to nobody.
        let ours = self.log.done(self.now, op, &result, &mut io);
        out.extend(io.into_iter().map(|(op, io)| Out::Io(op, io)));
        if ours && let Some(fault) = self.log.poison() {
            let text = format!("the log is poisoned: {fault}");
            self.fail(text, out);
        }
    }

    fn close(&mut self, out: &mut Vec<Out>) {
        // The copies hear of the last commit while there is somebody to tell them.
        self.tell_commit(0, out);
        self.step_down("it is going down", out);
        // What goes on arriving would keep the disk busy.
        self.drop_stream(out);
        self.closing = true;
    }

    /// Does what has become possible, asks for what has become due.
    fn settle(&mut self, out: &mut Vec<Out>) {
        if matches!(self.phase, Phase::Failed | Phase::Closed) {
            return;
        }
        if !self.closing {
            self.act_on_config(out);
        }
        self.settle_following(out);
        if !self.closing {
            self.settle_restart(out);
        }
        if self.is_reopening() {
            // The log is being cut: nothing is asked of the disk until that is over.
            return;
        }

        let mut io = Vec::new();
        if !self.is_reopening() {
            let mut sealed = std::mem::take(&mut self.sealed);
            self.log.pump(self.now, &mut sealed, &mut io);
            sealed.clear();
            self.sealed = sealed;
            out.extend(io.drain(..).map(|(op, io)| Out::Io(op, io)));
        }

        self.settle_reign(out);
        self.advance_commit(out);
        self.settle_applying(out);
        self.acknowledge(out);
        self.settle_handing_over(out);
        self.settle_resigned(out);
        self.settle_keep(&mut io);
        out.extend(io.drain(..).map(|(op, io)| Out::Io(op, io)));
        self.settle_promise(out);
        self.write_control(out);
        self.settle_close(out);
    }

    /// Promises are made durable and told every so often.
    fn settle_promise(&mut self, out: &mut Vec<Out>) {
        let every = self.options.promise_millis.saturating_mul(1000);
        if self.now.since(self.reported.0) < every {
            return;
        }
        if self.control.durable.lsn != self.log.durable() || self.control.commit.lsn != self.commit
        {
            self.persist();
        }
        self.report(None, out);
        if matches!(self.phase, Phase::Following(_)) {
            // A push may have been lost.
            out.push(Out::ReadConfig);
        }
    }

    fn report(&mut self, cut: Option<Lsn>, out: &mut Vec<Out>) {
        self.reported = (self.now, self.log.durable(), self.commit);
        out.push(Out::Report {
            epoch: self.history_epoch,
            durable: self.log.durable(),
            commit: self.commit,
            applied: self.applying.reached(),
            cut,
            obeys: self.persisting.obeyed,
        });
    }

    /// The log's history belongs to this reign from now on. The authority hears it at once: whoever hands over one
    /// pair after the other waits for it.
    fn belongs_to(&mut self, epoch: Epoch, out: &mut Vec<Out>) {
        if self.history_epoch != epoch {
            self.history_epoch = epoch;
            self.report(None, out);
        }
    }

    fn settle_close(&mut self, out: &mut Vec<Out>) {
        if !self.closing || !self.log.is_idle() || !self.reads.is_empty() {
            return;
        }
        let fresh = self.control.durable.lsn == self.log.durable()
            && self.control.commit.lsn == self.commit
            && !self.persisting.dirty;
        if !fresh {
            self.persist();
            self.write_control(out);
        } else if self.persisting.writing.is_none() {
            self.phase = Phase::Closed;
            out.push(Out::Closed);
        }
    }

    fn new_link(&mut self) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(2);
        link
    }

    fn forget_link(&mut self, link: LinkId, peer: InstanceId) {
        self.old_links.push_back((link, peer));
        if self.old_links.len() > 16 {
            self.old_links.pop_front();
        }
    }
}
