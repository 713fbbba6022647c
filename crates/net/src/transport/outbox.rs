//! What waits to be sent on one connection: a queue bounded in bytes, filled from any thread.
//!
//! A small frame that finds nothing before it goes into the socket at once, by the thread that brings
//! it: waking the connection's task for it may take longer than a disk's flush does.
//!
//! Guarantees: frames leave in the order in which they were taken, whole; a frame that was refused as
//! [`Full`] is followed by one `Writable` event when there is room; a frame larger than the whole
//! window goes alone. Not here: the task that empties it ([`super::drive`]).

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::ConnectionId;
use super::connection::take_off;
use crate::frame::Limits;

/// What is sent by the thread that brings it, at most: copying more into the socket would hold that
/// thread up for longer than it takes to wake the task.
const DIRECT_BYTES: u64 = 16 * 1024;
/// Of how many pieces.
const DIRECT_SLICES: usize = 16;

/// The outbox has no room: `Writable` will follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the send window of the connection is full")]
pub struct Full;

/// The outgoing side of a connection, for the machine behind it.
#[derive(Clone)]
pub struct Outbox {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outbox").field(&self.id()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// The connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// Queues a frame: what [`crate::frame::encode`] made, and the blocks behind it. On a connection
    /// that is closed or closing it is forgotten, as is what is in flight: `Closed` says so.
    ///
    /// # Errors
    /// [`Full`] when the window has no room for it; nothing was queued.
    pub fn try_send(&self, head: Bytes, body: Vec<Bytes>) -> Result<(), Full> {
        let bytes = body.iter().fold(head.len(), |sum, piece| sum.saturating_add(piece.len()));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut state = self.shared.lock();
        if state.closing || state.gone {
            return Ok(());
        }
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.shared.window_bytes {
            state.starved = true;
            return Err(Full);
        }
        let mut frame = Outgoing { head, body, bytes };
        if state.bytes == 0 && !state.writing && state.send_at_once(&mut frame) {
            return Ok(());
        }
        state.bytes = state.bytes.saturating_add(frame.bytes);
        state.frames.push_back(frame);
        drop(state);
        self.shared.to_send.notify_one();
        Ok(())
    }

    /// The handshake is done: frames within `limits` are read from now on.
    pub fn open(&self, limits: Limits) {
        self.shared.lock().limits = Some(limits);
        self.shared.opened.notify_one();
    }

    /// Closes the connection when all that is queued has been sent.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.to_send.notify_one();
    }

    /// Sends `head` (an encoded `Keepalive`) whenever nothing else went out for a while. To be set
    /// when the connection is opened, and again when the envelope changes (a higher epoch): peers
    /// refuse the lower one. Without it an idle connection ends at the other side's deadline.
    pub fn set_keepalive(&self, head: Bytes) {
        self.shared.lock().keepalive = Some(head);
    }

    /// How many bytes wait, or are being written.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.shared.lock().bytes
    }
}

pub(super) struct Shared {
    pub(super) id: ConnectionId,
    window_bytes: u64,
    state: Mutex<State>,
    /// Something was queued, or the connection is to be closed.
    pub(super) to_send: Notify,
    /// `limits` was set.
    pub(super) opened: Notify,
    /// The connection has to make room for others.
    pub(super) evicted: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Outgoing>,
    /// Of all frames in the queue, and of those taken and not yet written.
    bytes: u64,
    starved: bool,
    limits: Option<Limits>,
    closing: bool,
    gone: bool,
    keepalive: Option<Bytes>,
    /// The task has taken frames, and is at the socket.
    writing: bool,
    /// The socket once more, where frames may go past the task.
    socket: Option<TcpStream>,
}

struct Outgoing {
    head: Bytes,
    body: Vec<Bytes>,
    bytes: u64,
}

impl State {
    /// Whether all of `frame` went into the socket; what did not stays in it. An error is left for
    /// the task, which meets it too.
    fn send_at_once(&self, frame: &mut Outgoing) -> bool {
        let Some(mut socket) = self.socket.as_ref() else { return false };
        if frame.bytes > DIRECT_BYTES || frame.body.len() >= DIRECT_SLICES {
            return false;
        }
        let mut slices = [IoSlice::new(&[]); DIRECT_SLICES];
        let pieces = std::iter::once(&frame.head).chain(&frame.body);
        let count =
            slices.iter_mut().zip(pieces).map(|(at, piece)| *at = IoSlice::new(piece)).count();
        let Ok(sent) = socket.write_vectored(slices.get(..count).unwrap_or_default()) else {
            return false;
        };
        let left = frame.bytes.saturating_sub(sent as u64);
        if left > 0 {
            let mut pieces: VecDeque<Bytes> = std::mem::take(&mut frame.body).into();
            pieces.push_front(std::mem::take(&mut frame.head));
            take_off(&mut pieces, sent);
            *frame = Outgoing { head: Bytes::new(), body: pieces.into(), bytes: left };
        }
        left == 0
    }
}

/// Frames taken together, as the pieces they consist of.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) bytes: u64,
}

impl Shared {
    pub(super) fn new(id: ConnectionId, window_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            window_bytes,
            state: Mutex::default(),
            to_send: Notify::new(),
            opened: Notify::new(),
            evicted: Notify::new(),
        })
    }

    /// No code panics while it holds this lock; the state is whole even if one did.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes frames up to `bytes`, one at least; the second answer is whether to close when there
    /// are none.
    pub(super) fn take(&self, bytes: u64) -> (Batch, bool) {
        let mut state = self.lock();
        let mut batch = Batch::default();
        while let Some(next) = state.frames.front() {
            if batch.bytes > 0 && batch.bytes.saturating_add(next.bytes) > bytes {
                break;
            }
            let Some(frame) = state.frames.pop_front() else {
                break;
            };
            batch.bytes = batch.bytes.saturating_add(frame.bytes);
            batch.pieces.push_back(frame.head);
            batch.pieces.extend(frame.body);
        }
        state.writing = batch.bytes > 0;
        (batch, state.closing)
    }

    /// The frame that shows a silent connection to be alive, to be written now, if nothing else is.
    pub(super) fn take_keepalive(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let head = state.frames.is_empty().then(|| state.keepalive.clone()).flatten();
        state.writing = head.is_some();
        head
    }

    /// Frames may go into `socket` past the task from now on: it is the connection's.
    pub(super) fn send_through(&self, socket: TcpStream) {
        let mut state = self.lock();
        if !state.gone {
            state.socket = Some(socket);
        }
    }

    /// `bytes` were written. True when somebody waits for room and there is some.
    pub(super) fn wrote(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        state.writing = false;
        state.bytes = state.bytes.saturating_sub(bytes);
        let wake = state.starved && state.bytes <= self.window_bytes / 2;
        if wake {
            state.starved = false;
        }
        wake
    }

    pub(super) fn limits(&self) -> Option<Limits> {
        self.lock().limits
    }

    /// Whether it has not greeted yet, as far as this side has judged.
    pub(super) fn is_stranger(&self) -> bool {
        let state = self.lock();
        state.limits.is_none() && !state.gone
    }

    pub(super) fn gone(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.frames.clear();
        state.keepalive = None;
        state.bytes = 0;
        // The connection closes with its last descriptor.
        state.socket = None;
    }
}
