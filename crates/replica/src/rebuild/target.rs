//! The side that is rebuilt, step by step: it says what to ask and when, takes the answers, and works on
//! the ground it is given. No clock, no thread, no socket.
//!
//! Guarantees: those of the module above. A session that ended is replaced by another one, of another LSN: what was
//! fetched is compared by hash, and only what differs is fetched again. Not here: the bytes of messages
//! ([`super::protocol`]), and who carries them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use outrigger_wal::disk::DiskExt;
use outrigger_wal::{Lsn, Micros};

use super::RebuildError;
use super::checks::{check_identity, check_opened, old, stale};
use super::chunk::open;
use super::ground::Ground;
use super::overlay::{Overlay, View};
use super::plan::{Mode, Next, Plan, Progress};
use super::protocol::{Ask, Listed, Opened, Opening, Say};
use super::state::{Record, Step};
use super::taking::Taking;
use crate::control::{Control, Identity};
use crate::store::StateStore;

/// Before a source that refused for now, or a connection that broke, is tried again.
const AGAIN: u64 = 300_000;
/// How often in a row something may be not what was announced.
const MAX_MISMATCHES: u32 = 5;

/// A copy in the making.
pub struct Target {
    pub(super) plan: Plan,
    pub(super) record: Record,
    pub(super) old: Option<Control>,
    has_begun: bool,
    pub(super) base: Option<Arc<dyn StateStore>>,
    pub(super) overlay: Overlay,
    pub(super) phase: Phase,
    pub(super) session: Option<Session>,
    moved_bytes: u64,
    not_before: Micros,
    mismatches: u32,
    waits_for: Option<String>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) opened: Opened,
    pub(super) whole: Option<u128>,
    listed_bytes: u64,
    settled_bytes: u64,
}

#[derive(Debug)]
pub(super) enum Phase {
    Open,
    List(u32),
    Fetch {
        window: u32,
        todo: VecDeque<(u16, Listed)>,
        part: BytesMut,
        last: bool,
    },
    Log(Box<Taking>),
    /// Tells the source that only its log is needed, before the store is put together, or behind that.
    Keep {
        verified: bool,
    },
    Verify,
    Place,
    Clear,
    Ready,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("record", &self.record).field("phase", &self.phase).finish()
    }
}

impl Target {
    /// Begins, or goes on with what was begun in this folder.
    ///
    /// # Errors
    /// [`RebuildError`]: another one's folder, a store that cannot be opened where it is asked for, the disk's.
    pub fn open(ground: &mut dyn Ground, plan: Plan) -> Result<Self, RebuildError> {
        let begun = Record::read(&mut ground.home().blocking())?;
        let identity = plan.identity;
        let phase = match begun.map(|record| record.step) {
            Some(Step::Placing) => Phase::Place,
            Some(Step::Clearing | Step::Ready) => Phase::Clear,
            _ => Phase::Open,
        };
        let mut target = Self {
            record: begun.unwrap_or(Record {
                step: Step::Planned,
                mode: plan.mode.unwrap_or(Mode::Differential),
                identity,
                at: Lsn::ZERO,
                done_bytes: 0,
                total_bytes: 0,
            }),
            plan,
            old: None,
            has_begun: false,
            base: None,
            overlay: Overlay::default(),
            phase,
            session: None,
            moved_bytes: 0,
            not_before: Micros(0),
            mismatches: 0,
            waits_for: None,
        };
        check_identity(&target.record.identity, &identity)?;
        if matches!(target.phase, Phase::Open) {
            target.old = old(ground)?;
            if let Some(old) = &target.old {
                check_identity(&old.identity, &identity)?;
            }
            // What is only planned has nothing to go on with.
            if begun.is_some_and(|record| record.step > Step::Planned) {
                target.begun(ground)?;
            }
        }
        Ok(target)
    }

    /// Whose copy the folder says it is: by a rebuild that has begun, or by its control file.
    ///
    /// # Errors
    /// [`RebuildError`]: a file that cannot be read, but for a control file that is damaged.
    pub fn whose(ground: &mut dyn Ground) -> Result<Option<Identity>, RebuildError> {
        if let Some(record) = Record::read(&mut ground.home().blocking())? {
            return Ok(Some(record.identity));
        }
        Ok(old(ground)?.map(|control| control.identity))
    }

    /// A source lends: what is fetched has its place from now on. Before that nothing here was touched, so
    /// that a copy whose rebuild is refused still starts.
    fn begin(&mut self, ground: &mut dyn Ground) -> Result<(), RebuildError> {
        if self.has_begun {
            return Ok(());
        }
        // A store that was asked for and cannot be opened ends it here.
        self.open_base(ground)?;
        self.record.step = Step::Planned;
        // ORDER: from here on the instance does not start; before that nothing of an earlier rebuild goes.
        self.record.write(&mut ground.home().blocking())?;
        ground.begin()?;
        self.begun(ground)
    }

    fn begun(&mut self, ground: &mut dyn Ground) -> Result<(), RebuildError> {
        self.open_base(ground)?;
        self.overlay = Overlay::load(&mut ground.made().blocking())?;
        self.has_begun = true;
        Ok(())
    }

    fn open_base(&mut self, ground: &mut dyn Ground) -> Result<(), RebuildError> {
        if self.base.is_some() {
            return Ok(());
        }
        self.base = match self.plan.mode {
            Some(Mode::Full) => None,
            Some(Mode::Differential) => ground.base()?,
            None => ground.base().unwrap_or_else(|error| {
                tracing::warn!(%error, "the store that is there cannot be used: all is fetched");
                None
            }),
        };
        self.record.mode = match (&self.base, self.plan.mode) {
            (None, None) | (_, Some(Mode::Full)) => Mode::Full,
            _ => Mode::Differential,
        };
        Ok(())
    }

    /// What comes next. Works on the ground where that is what comes next.
    ///
    /// # Errors
    /// [`RebuildError`]: it ends here; opened again it goes on.
    pub fn next(&mut self, now: Micros, ground: &mut dyn Ground) -> Result<Next, RebuildError> {
        let session = self.session.as_ref().map_or(0, |session| session.opened.session);
        let ask = match &self.phase {
            Phase::Open => {
                let Identity { cluster, content, log, instance, .. } = self.plan.identity;
                let chunk_bytes = self.plan.chunk_bytes;
                Ask::Open(Opening { target: instance, cluster, content, log, chunk_bytes })
            }
            Phase::List(window) => Ask::List { session, window: *window },
            Phase::Fetch { window, todo, part, .. } => {
                let index = todo.front().map_or(0, |(index, _)| *index);
                Ask::Chunk { session, window: *window, index, offset: part.len() as u64 }
            }
            Phase::Log(taking) => match taking.next() {
                Some((from, skip)) => Ask::Log { session, from, skip },
                None => {
                    taking.finish(ground.made())?;
                    self.phase = Phase::Keep { verified: false };
                    return Ok(Next::Worked);
                }
            },
            Phase::Keep { .. } => Ask::Keep { session },
            Phase::Verify => return self.verify(ground),
            Phase::Place => {
                // The old store lets go of its files before they move.
                self.base = None;
                if !ground.place()? {
                    self.step_to(Step::Clearing, ground)?;
                    self.phase = Phase::Clear;
                }
                return Ok(Next::Worked);
            }
            Phase::Clear => {
                ground.clear(self.plan.keep_old)?;
                // ORDER: last of all; from here on the copy starts.
                ground.home().blocking().remove(outrigger_wal::disk::FileId::Rebuild)?;
                self.record.step = Step::Ready;
                self.phase = Phase::Ready;
                return Ok(Next::Worked);
            }
            Phase::Ready => return Ok(Next::Ready),
        };
        if now < self.not_before {
            return Ok(Next::Wait(self.not_before));
        }
        Ok(Next::Ask(ask.encode()))
    }

    /// Takes the answer to what was asked last.
    ///
    /// # Errors
    /// [`RebuildError`]: it ends here; opened again it goes on.
    pub fn take(
        &mut self,
        now: Micros,
        ground: &mut dyn Ground,
        body: Bytes,
    ) -> Result<(), RebuildError> {
        let bytes = body.len() as u64;
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        if let Some(rate) = self.plan.bytes_per_second {
            let micros = u128::from(bytes).saturating_mul(1_000_000) / u128::from(rate.max(1));
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            self.not_before = self.not_before.max(now).plus(micros);
        }
        match (Say::decode(body)?, &mut self.phase) {
            (Say::Denied { passing: false, text }, _) => Err(RebuildError::Denied(text)),
            (Say::Denied { text, .. }, Phase::Open) => {
                self.again(now, text);
                Ok(())
            }
            (Say::Gone { text } | Say::Denied { text, .. }, Phase::Keep { .. }) => {
                // All is here; at worst the copy is rebuilt once more.
                tracing::warn!(%text, "the source keeps no log for this copy any more");
                self.kept();
                Ok(())
            }
            (Say::Gone { text } | Say::Denied { text, .. }, _) => {
                self.again(now, text);
                self.phase = Phase::Open;
                Ok(())
            }
            (Say::Opened(opened), Phase::Open) => self.opened(now, ground, *opened),
            (Say::Ranges { window, ranges, whole }, Phase::List(asked)) if window == *asked => {
                self.listed(ground, window, ranges, whole)
            }
            (Say::Piece { window, index, offset, bytes }, Phase::Fetch { .. }) => {
                self.piece(ground, (window, index), offset, &bytes)
            }
            (Say::Blocks { parts }, Phase::Log(taking)) => {
                let fits = taking.take(ground.made(), parts)?;
                self.record.done_bytes = self.done_bytes();
                if fits {
                    self.mismatches = 0;
                    return Ok(());
                }
                // What is there may be of a log that was cut since: it is fetched from its start.
                self.mismatch("blocks of the log")?;
                Taking::wipe(ground.made())?;
                self.log(ground)
            }
            (Say::Kept, Phase::Keep { .. }) => {
                self.kept();
                Ok(())
            }
            (say, phase) => Err(RebuildError::Nonsense(format!("{say:?} in {phase:?}"))),
        }
    }

    /// The connection broke: what was asked last is asked again, on another one. What is not worth waiting for is
    /// gone without.
    pub fn lost(&mut self, now: Micros) {
        self.kept();
        self.not_before = self.not_before.max(now.plus(AGAIN));
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            mode: self.record.mode,
            step: self.record.step,
            done_bytes: self.record.done_bytes,
            total_bytes: self.record.total_bytes.max(self.record.done_bytes),
            moved_bytes: self.moved_bytes,
            at: self.record.at,
        }
    }

    /// What a source that refuses for now waits for.
    #[must_use]
    pub fn waits_for(&self) -> Option<&str> {
        self.waits_for.as_deref()
    }

    fn kept(&mut self) {
        if let Phase::Keep { verified } = self.phase {
            self.phase = if verified { Phase::Place } else { Phase::Verify };
        }
    }

    fn again(&mut self, now: Micros, text: String) {
        self.not_before = self.not_before.max(now.plus(AGAIN));
        self.waits_for = Some(text);
    }

    fn opened(
        &mut self,
        now: Micros,
        ground: &mut dyn Ground,
        opened: Opened,
    ) -> Result<(), RebuildError> {
        check_opened(&opened, &self.plan.identity)?;
        let stale = self.old.as_ref().map_or(Ok(None), |old| stale(old, &opened))?;
        if let Some(text) = stale {
            self.again(now, text);
            return Ok(());
        }
        self.waits_for = None;
        self.begin(ground)?;
        let log_bytes = opened.to.0.saturating_sub(opened.from.0);
        self.record.identity.segment_bytes = opened.segment_bytes;
        self.record.at = opened.at;
        self.record.done_bytes = 0;
        self.record.total_bytes = opened.about_bytes.saturating_add(log_bytes);
        let whole = None;
        self.session = Some(Session { opened, whole, listed_bytes: 0, settled_bytes: 0 });
        self.phase = Phase::List(1);
        self.step_to(Step::Fetching, ground)
    }

    fn listed(
        &mut self,
        ground: &mut dyn Ground,
        window: u32,
        ranges: Vec<Listed>,
        whole: Option<u128>,
    ) -> Result<(), RebuildError> {
        if ranges.is_empty() && whole.is_none() {
            return Err(RebuildError::Nonsense("a window without a range".to_owned()));
        }
        let mut todo = VecDeque::new();
        for (index, listed) in ranges.into_iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let has = self.has(ground, &listed);
            if let Some(session) = &mut self.session {
                session.listed_bytes = session.listed_bytes.saturating_add(listed.bytes);
                if has {
                    session.settled_bytes = session.settled_bytes.saturating_add(listed.bytes);
                }
            }
            if !has {
                todo.push_back((index, listed));
            }
        }
        if let Some(session) = &mut self.session {
            session.whole = whole;
        }
        self.phase = Phase::Fetch { window, todo, part: BytesMut::new(), last: whole.is_some() };
        self.fetched(ground)
    }

    /// Whether what is here has the hash of the range; what cannot be read has not.
    fn has(&self, ground: &mut dyn Ground, listed: &Listed) -> bool {
        let mut disk = ground.made().blocking();
        let base = self.base.as_deref();
        let found = View::new(&self.overlay, &mut disk, base, &listed.range).hash();
        match found {
            Ok(hash) => hash == listed.hash,
            Err(error) => {
                tracing::warn!(%error, "a range that is here cannot be read: it is fetched");
                false
            }
        }
    }

    fn piece(
        &mut self,
        ground: &mut dyn Ground,
        asked: (u32, u16),
        offset: u64,
        bytes: &Bytes,
    ) -> Result<(), RebuildError> {
        let Phase::Fetch { window, todo, part, .. } = &mut self.phase else { return Ok(()) };
        let Some((index, listed)) = todo.front().cloned() else { return Ok(()) };
        if asked != (*window, index) || offset != part.len() as u64 {
            return Err(RebuildError::Nonsense("a piece that was not asked for".to_owned()));
        }
        let whole = offset.saturating_add(bytes.len() as u64);
        if whole > listed.bytes || bytes.is_empty() && whole < listed.bytes {
            part.clear();
            return self.mismatch("the length of a range");
        }
        part.extend_from_slice(bytes);
        if whole < listed.bytes {
            return Ok(());
        }
        let encoded = part.split().freeze();
        // What does not have the hash that was announced is never kept.
        if open(&listed, &encoded).is_none() {
            return self.mismatch("the pairs of a range");
        }
        todo.pop_front();
        self.mismatches = 0;
        self.overlay.add(&mut ground.made().blocking(), &listed, &encoded)?;
        if let Some(session) = &mut self.session {
            session.settled_bytes = session.settled_bytes.saturating_add(listed.bytes);
        }
        self.fetched(ground)
    }

    /// Goes on to the next window, or to the log, when a window is all here.
    fn fetched(&mut self, ground: &mut dyn Ground) -> Result<(), RebuildError> {
        self.record.done_bytes = self.done_bytes();
        let Phase::Fetch { window, todo, last, .. } = &self.phase else { return Ok(()) };
        if !todo.is_empty() {
            return Ok(());
        }
        if !*last {
            self.phase = Phase::List(window.saturating_add(1));
            // How far it is, for whoever looks at the folder.
            return self.step_to(Step::Fetching, ground);
        }
        if let Some(session) = &self.session {
            let log_bytes = session.opened.to.0.saturating_sub(session.opened.from.0);
            self.record.total_bytes = session.listed_bytes.saturating_add(log_bytes);
        }
        self.step_to(Step::Logging, ground)?;
        self.log(ground)
    }

    fn log(&mut self, ground: &mut dyn Ground) -> Result<(), RebuildError> {
        let Some(session) = &self.session else { return Ok(()) };
        let Opened { from, to, .. } = session.opened;
        let taking = Taking::begin(ground.made(), &self.record.identity, from, to)?;
        self.phase = Phase::Log(Box::new(taking));
        self.record.done_bytes = self.done_bytes();
        Ok(())
    }

    fn done_bytes(&self) -> u64 {
        let settled = self.session.as_ref().map_or(0, |session| session.settled_bytes);
        match &self.phase {
            Phase::Log(taking) => settled.saturating_add(taking.done_bytes()),
            _ => settled,
        }
    }

    pub(super) fn mismatch(&mut self, what: &str) -> Result<(), RebuildError> {
        self.mismatches = self.mismatches.saturating_add(1);
        tracing::warn!(%what, times = self.mismatches, "not what was announced: fetched again");
        if self.mismatches >= MAX_MISMATCHES {
            return Err(RebuildError::Corrupt(what.to_owned()));
        }
        Ok(())
    }

    pub(super) fn step_to(
        &mut self,
        step: Step,
        ground: &mut dyn Ground,
    ) -> Result<(), RebuildError> {
        self.record.step = step;
        self.record.write(&mut ground.home().blocking())
    }
}
