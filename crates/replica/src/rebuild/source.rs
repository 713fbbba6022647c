//! The side that lends: sessions, each with one snapshot and log that is kept for it.
//!
//! Guarantees: all that a session answers is of one LSN; its log is kept from before its snapshot was taken until it
//! ends or expires; sessions, and what each holds in memory, are bounded; a session that nobody asks for any more
//! expires. An instance has one session: a later one ends the one before.
//! Not here: how questions come (a server's business), and what is read ([`Lender`]).

use std::collections::BTreeMap;

use outrigger_wal::disk::{FileId, IoFault};
use outrigger_wal::format::{BlockError, BlockHeader};
use outrigger_wal::{InstanceId, Lsn, Micros, PAGE_BYTES};

use super::chunk::{Chunk, Cutter};
use super::protocol::{Ask, BlockPart, MAX_RANGES, Opened, Opening, Say};
use crate::control::Identity;
use crate::member::{LendError, Lent};
use crate::store::{Snapshot, StoreError};

/// Bytes of pairs or blocks in one answer.
const PIECE_BYTES: usize = 256 << 10;
/// Parts of blocks in one answer.
const MAX_PARTS: usize = 256;
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = 4096..=4 << 20;

/// The copy that lends.
pub trait Lender {
    /// Whether it lends to this instance, and what it says.
    ///
    /// # Errors
    /// [`LendError`].
    fn lend(&mut self, to: InstanceId) -> Result<Lent, LendError>;

    /// Its state as it is now.
    ///
    /// # Errors
    /// The store's.
    fn snapshot(&mut self) -> Result<Snapshot, StoreError>;

    /// How large that is, about.
    fn about_bytes(&self) -> Option<u64>;

    /// Holds the log from `from` on for what bears this name, or no longer. Answers where the log begins
    /// from then on.
    fn hold(&mut self, name: u64, from: Option<Lsn>) -> Lsn;

    /// Reads a segment.
    ///
    /// # Errors
    /// The disk's.
    fn read(&mut self, file: FileId, at: u64, len: u32) -> Result<bytes::Bytes, IoFault>;
}

/// How a source behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceOptions {
    /// Snapshots that are held at once. Default 2.
    pub max_sessions: usize,
    /// A session that nobody asked for so long is over. Default 60,000.
    pub idle_millis: u64,
    /// Behind the last question for its snapshot, the log is kept for so long. Default 1,800,000.
    pub linger_millis: u64,
    /// Pairs that a session holds in memory, in bytes, about. Default 4 MiB.
    pub window_bytes: u64,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            max_sessions: 2,
            idle_millis: 60_000,
            linger_millis: 1_800_000,
            window_bytes: 4 << 20,
        }
    }
}

/// The side that lends.
#[derive(Debug)]
pub struct Source {
    identity: Identity,
    options: SourceOptions,
    sessions: BTreeMap<u64, Session>,
    next: u64,
}

struct Session {
    target: InstanceId,
    /// `None`: the snapshot is needed no more.
    cutter: Option<Cutter>,
    chunk_bytes: usize,
    window: u32,
    chunks: Vec<Chunk>,
    from: Lsn,
    to: Lsn,
    heard: Micros,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, window, from, to, .. } = self;
        write!(f, "Session {{ target: {target}, window: {window}, log: {from}..{to} }}")
    }
}

impl Source {
    /// A source of the instance `identity`. `seed`: random, so that a session of a process that ended is never taken for
    /// one of this one.
    #[must_use]
    pub const fn new(identity: Identity, seed: u64, options: SourceOptions) -> Self {
        Self { identity, options, sessions: BTreeMap::new(), next: seed }
    }

    /// Answers a question.
    pub fn answer(&mut self, now: Micros, lender: &mut dyn Lender, ask: Ask) -> Say {
        self.expire(now, lender);
        let said = match ask {
            Ask::Open(opening) => self.open(now, lender, opening),
            Ask::List { session, window } => self.list(now, session, window),
            Ask::Chunk { session, window, index, offset } => {
                self.chunk(now, session, (window, index), offset)
            }
            Ask::Log { session, from, skip } => self.log(now, lender, session, from, skip),
            Ask::Keep { session } => self.keep(now, session),
        };
        said.unwrap_or_else(|said| said)
    }

    /// Ends the sessions that nobody asks for any more.
    pub fn expire(&mut self, now: Micros, lender: &mut dyn Lender) {
        let (idle, linger) = (self.options.idle_millis, self.options.linger_millis);
        self.sessions.retain(|name, session| {
            let lives = now < session.expires(idle, linger);
            if !lives {
                tracing::info!(?session, "the session of a rebuild is over");
                lender.hold(*name, None);
            }
            lives
        });
    }

    /// When [`Source::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let (idle, linger) = (self.options.idle_millis, self.options.linger_millis);
        self.sessions.values().map(|session| session.expires(idle, linger)).min()
    }

    fn open(&mut self, now: Micros, lender: &mut dyn Lender, opening: Opening) -> Result<Say, Say> {
        let Identity { cluster, content, log, segment_bytes, .. } = self.identity;
        if (opening.cluster, opening.content, opening.log) != (cluster, content, log) {
            let text = format!(
                "this is log {log} of content {content} in cluster {cluster}, and not what the copy is of"
            );
            return Err(Say::Denied { passing: false, text });
        }
        let before = self.sessions.iter().filter(|(_, at)| at.target == opening.target);
        for name in before.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.sessions.remove(&name);
            lender.hold(name, None);
        }
        let lent = |error: LendError| Say::Denied {
            passing: error != LendError::Itself,
            text: error.to_string(),
        };
        lender.lend(opening.target).map_err(lent)?;
        let open = self.sessions.values().filter(|session| session.cutter.is_some()).count();
        if open >= self.options.max_sessions {
            let text = format!("{open} copies are rebuilt from here already");
            return Err(Say::Denied { passing: true, text });
        }
        let name = self.next;
        self.next = self.next.wrapping_add(1);
        // ORDER: all log there is is held before the snapshot is taken, so that none of what belongs to
        // it goes meanwhile.
        let start = lender.hold(name, Some(Lsn::ZERO));
        let opened = self.snapshot(lender, name, start, segment_bytes, &opening, now);
        if opened.is_err() {
            lender.hold(name, None);
        }
        opened
    }

    fn snapshot(
        &mut self,
        lender: &mut dyn Lender,
        name: u64,
        start: Lsn,
        segment_bytes: u64,
        opening: &Opening,
        now: Micros,
    ) -> Result<Say, Say> {
        let failed = |error: StoreError| Say::Denied { passing: false, text: error.to_string() };
        let snapshot = lender.snapshot().map_err(failed)?;
        let at = snapshot.at();
        // ORDER: behind the snapshot, so that what is committed covers it; and once more who is in sync.
        let lent = lender
            .lend(opening.target)
            .map_err(|error| Say::Denied { passing: true, text: error.to_string() })?;
        let segment = at.0.saturating_sub(1).checked_div(segment_bytes).unwrap_or_default();
        let from = Lsn(segment.saturating_mul(segment_bytes));
        if from < start || lent.commit < at {
            let text = format!(
                "the log here begins at {start} and is committed up to {}, the state is of {at}",
                lent.commit
            );
            return Err(Say::Denied { passing: true, text });
        }
        lender.hold(name, Some(from));
        let chunk_bytes = usize::try_from(opening.chunk_bytes).unwrap_or(usize::MAX);
        let session = Session {
            target: opening.target,
            cutter: Some(Cutter::new(snapshot)),
            chunk_bytes: chunk_bytes.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()),
            window: 0,
            chunks: Vec::new(),
            from,
            to: lent.commit,
            heard: now,
        };
        tracing::info!(?session, %at, "a copy is rebuilt from here");
        self.sessions.insert(name, session);
        Ok(Say::Opened(Box::new(Opened {
            session: name,
            at,
            from,
            to: lent.commit,
            segment_bytes,
            epoch: lent.epoch,
            version: lent.version,
            coordinator_epoch: lent.coordinator_epoch,
            epochs: lent.epochs,
            about_bytes: lender.about_bytes().unwrap_or_default(),
        })))
    }

    fn session(&mut self, now: Micros, name: u64) -> Result<&mut Session, Say> {
        let gone = || Say::Gone { text: "there is no such session (any more)".to_owned() };
        let session = self.sessions.get_mut(&name).ok_or_else(gone)?;
        session.heard = now;
        Ok(session)
    }

    fn list(&mut self, now: Micros, name: u64, window: u32) -> Result<Say, Say> {
        let limit = self.options.window_bytes;
        let session = self.session(now, name)?;
        let gone = |text: String| Say::Gone { text };
        let Some(cutter) = session.cutter.as_mut() else {
            return Err(gone("the snapshot was given back".to_owned()));
        };
        if session.window.checked_add(1) == Some(window) {
            let mut bytes = 0_u64;
            let mut listed = 0_usize;
            session.chunks.clear();
            while bytes < limit && session.chunks.len() < MAX_RANGES && listed < PIECE_BYTES {
                match cutter.next(session.chunk_bytes) {
                    Ok(None) => break,
                    Ok(Some(chunk)) => {
                        bytes = bytes.saturating_add(chunk.listed.bytes);
                        let range = &chunk.listed.range;
                        let keys =
                            range.from.len() + range.to.as_ref().map_or(0, bytes::Bytes::len);
                        listed = listed.saturating_add(keys);
                        session.chunks.push(chunk);
                    }
                    Err(error) => {
                        // Nothing can follow it: its iterator is at its end.
                        session.cutter = None;
                        return Err(Say::Denied { passing: false, text: error.to_string() });
                    }
                }
            }
            session.window = window;
        } else if session.window != window || window == 0 {
            return Err(gone(format!("window {window} is not at hand")));
        }
        let ranges = session.chunks.iter().map(|chunk| chunk.listed.clone()).collect();
        let whole = session.cutter.as_ref().and_then(Cutter::whole);
        Ok(Say::Ranges { window, ranges, whole })
    }

    fn chunk(
        &mut self,
        now: Micros,
        name: u64,
        (window, index): (u32, u16),
        offset: u64,
    ) -> Result<Say, Say> {
        let session = self.session(now, name)?;
        let chunk = session.chunks.get(usize::from(index));
        let (true, Some(chunk)) = (session.window == window, chunk) else {
            let text = format!("range {index} of window {window} is not at hand");
            return Err(Say::Gone { text });
        };
        let len = chunk.encoded.len();
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(len);
        let end = begin.saturating_add(PIECE_BYTES).min(len);
        Ok(Say::Piece { window, index, offset, bytes: chunk.encoded.slice(begin..end) })
    }

    fn log(
        &mut self,
        now: Micros,
        lender: &mut dyn Lender,
        name: u64,
        from: Lsn,
        skip: u32,
    ) -> Result<Say, Say> {
        let identity = self.identity;
        let session = self.session(now, name)?;
        if from < session.from || from >= session.to {
            let text = format!("{from} is not in the log of this session");
            return Err(Say::Denied { passing: false, text });
        }
        let to = session.to;
        let (mut at, mut skip) = (from, skip);
        let (mut parts, mut bytes) = (Vec::new(), 0_usize);
        while at < to && bytes < PIECE_BYTES && parts.len() < MAX_PARTS {
            let room = PIECE_BYTES.saturating_sub(bytes);
            let (header, part) = read_part(lender, &identity, at, skip, room)?;
            skip = skip.saturating_add(u32::try_from(part.bytes.len()).unwrap_or(u32::MAX));
            bytes = bytes.saturating_add(part.bytes.len());
            parts.push(part);
            if skip >= header.stored_len {
                (at, skip) = (header.end(), 0);
            }
        }
        Ok(Say::Blocks { parts })
    }

    fn keep(&mut self, now: Micros, name: u64) -> Result<Say, Say> {
        let session = self.session(now, name)?;
        session.cutter = None;
        session.chunks.clear();
        Ok(Say::Kept)
    }
}

impl Session {
    fn expires(&self, idle_millis: u64, linger_millis: u64) -> Micros {
        let millis = if self.cutter.is_some() { idle_millis } else { linger_millis };
        self.heard.plus(millis.saturating_mul(1000))
    }
}

/// Stored bytes of the block at `at`, from byte `skip` of it on.
fn read_part(
    lender: &mut dyn Lender,
    identity: &Identity,
    at: Lsn,
    skip: u32,
    room: usize,
) -> Result<(BlockHeader, BlockPart), Say> {
    let failed = |text: String| Say::Denied { passing: false, text };
    let fault = |fault: IoFault| match fault {
        // It was let go: the log went on too far.
        IoFault::NotFound { .. } => Say::Gone { text: format!("the log at {at} was recycled") },
        fault => failed(fault.to_string()),
    };
    let segment_bytes = identity.segment_bytes;
    let file = FileId::Segment(at.0.checked_div(segment_bytes).unwrap_or_default());
    let offset = at.0.checked_rem(segment_bytes).unwrap_or_default();
    let page = u32::try_from(PAGE_BYTES).unwrap_or(4096);
    let head = lender.read(file, offset, page).map_err(fault)?;
    let wrong = |error: BlockError| failed(format!("the block at {at}: {error}"));
    let header = BlockHeader::decode(&head, identity.log).map_err(wrong)?;
    if header.lsn != at {
        return Err(failed(format!("no block begins at {at} here")));
    }
    let len = header.stored_len.saturating_sub(skip);
    let len = len.min(u32::try_from(room).unwrap_or(u32::MAX));
    let begin = offset.saturating_add(u64::from(skip));
    let bytes = lender.read(file, begin, len).map_err(fault)?;
    if bytes.len() != usize::try_from(len).unwrap_or(usize::MAX) || bytes.is_empty() {
        return Err(failed(format!(
            "the block at {at} is cut short, or was asked for behind its end"
        )));
    }
    Ok((header, BlockPart { from: at, skip, bytes }))
}
