//! The task behind one connection: frames from the socket to the callback, from the outbox to the
//! socket, and all deadlines.
//!
//! Guarantees: `Connected` first, `Closed` last and once, also when the task is aborted; what was
//! queued before [`super::Outbox::close`] is sent. Not here: where connections come from.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::{Connection, Reader, Writer, timed_out};
use super::outbox::{Outbox, Shared};
use super::{ConnectionId, Held, OnEvent, PeerEvent, Settings};
use crate::error::Error;
use crate::frame::Frame;

/// How much of the queue goes into one batch of writes.
const BATCH_BYTES: u64 = 256 * 1024;
/// How long, and for how many bytes, a closed connection is still read from.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// Who connected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The peer did; its `Hello` has `handshake_millis`.
    Accepted,
    /// This side did, and greets first; the answer has `answer_millis`.
    Dialled,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Whether the handshake had been done.
    pub(super) opened: bool,
}

/// What the owner of many connections wants to know of each.
pub(super) trait Watch {
    fn opened(&self) {}
    fn ended(&self, _error: Option<&Error>) {}
}

impl Watch for () {}

/// Carries one connection over `io` from `Connected` to `Closed`.
///
/// # Cancel safety
/// When the future is dropped, `Closed` is delivered from the drop.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    remote: String,
    side: Side,
    settings: &Settings,
    on_event: &OnEvent,
) {
    let shared = new_shared(settings);
    run_watched(io, remote, side, settings, on_event, shared, &()).await;
}

pub(super) fn new_shared(settings: &Settings) -> Arc<Shared> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only uniqueness matters.
    Shared::new(ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed)), settings.send_window_bytes)
}

pub(super) async fn run_watched<S: AsyncRead + AsyncWrite + Unpin, W: Watch>(
    io: S,
    remote: String,
    side: Side,
    settings: &Settings,
    on_event: &OnEvent,
    shared: Arc<Shared>,
    watch: &W,
) -> Ended {
    let mut closing = Closing { shared: &shared, on_event, error: None };
    on_event(PeerEvent::Connected { outbox: Outbox { shared: Arc::clone(&shared) }, remote, side });
    let idle = Duration::from_millis(settings.idle_millis);
    let stall = Duration::from_millis(settings.stall_millis);
    let Connection { mut reader, mut writer } = Connection::new(io, idle, stall);
    let task = Task { side, settings, on_event, shared: &shared, watch };
    let ended = {
        let mut reading = pin!(task.read(&mut reader));
        let mut writing = pin!(task.write(&mut writer));
        tokio::select! {
            ended = &mut reading => ended.map(|()| End::ByPeer),
            ended = &mut writing => match ended {
                Ok(()) => Ok(End::ByUs),
                Err(Error::TimedOut { what, millis }) => Err(Error::TimedOut { what, millis }),
                Err(error) => {
                    // What the peer said last (a refusal) explains more than the broken pipe.
                    timeout(LINGER, reading).await.ok();
                    Err(error)
                }
            },
            () = shared.evicted.notified() => Err(Error::Evicted),
        }
    };
    if matches!(ended, Ok(End::ByUs)) {
        // Past the deadline it is closed as it is; the peer finds out by itself.
        timeout(LINGER, reader.drain(LINGER_BYTES)).await.unwrap_or_default();
    }
    let opened = shared.limits().is_some();
    if let Err(error) = ended {
        closing.error = Some(error);
    }
    watch.ended(closing.error.as_ref());
    Ended { opened }
}

enum End {
    ByPeer,
    ByUs,
}

/// Delivers `Closed` when it is dropped: the task may be aborted at any await.
struct Closing<'a> {
    shared: &'a Shared,
    on_event: &'a OnEvent,
    error: Option<Error>,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.shared.gone();
        (self.on_event)(PeerEvent::Closed { id: self.shared.id, error: self.error.take() });
    }
}

struct Task<'a, W> {
    side: Side,
    settings: &'a Settings,
    on_event: &'a OnEvent,
    shared: &'a Shared,
    watch: &'a W,
}

impl<W: Watch> Task<'_, W> {
    async fn read<R: AsyncRead + Unpin>(&self, reader: &mut Reader<R>) -> Result<(), Error> {
        let window = Arc::new(Semaphore::new(self.window_permits()));
        let (what, millis) = match self.side {
            Side::Accepted => ("the peer's greeting", self.settings.handshake_millis),
            Side::Dialled => ("the peer's answer to our greeting", self.settings.answer_millis),
        };
        let deadline = Duration::from_millis(millis);
        let greeting = timeout(deadline, reader.next()).await;
        let Some(frame) = greeting.map_err(|_| timed_out(what, deadline))?? else {
            return Ok(());
        };
        self.deliver(frame, &window).await;

        // Nothing more is read before the greeting is judged.
        let deadline = Duration::from_millis(self.settings.answer_millis);
        let limits = timeout(deadline, async {
            loop {
                if let Some(limits) = self.shared.limits() {
                    return limits;
                }
                self.shared.opened.notified().await;
            }
        });
        let limits = limits.await.map_err(|_| timed_out("this side's answer", deadline))?;
        reader.open(limits);
        self.watch.opened();
        while let Some(frame) = reader.next().await? {
            self.deliver(frame, &window).await;
        }
        Ok(())
    }

    fn window_permits(&self) -> usize {
        usize::try_from(self.settings.receive_window_bytes).unwrap_or(usize::MAX)
    }

    /// Waits for room in the receive window; a frame larger than the window takes all of it.
    async fn deliver(&self, frame: Frame, window: &Arc<Semaphore>) {
        let cap = self.settings.receive_window_bytes;
        let bytes = u32::try_from(frame.held_bytes()).unwrap_or(u32::MAX).min(cap);
        // The semaphore is never closed, so that this cannot fail.
        let permit = Arc::clone(window).acquire_many_owned(bytes).await.ok();
        (self.on_event)(PeerEvent::Frame { id: self.shared.id, frame, held: Held { permit } });
    }

    async fn write<Io: AsyncWrite + Unpin>(&self, writer: &mut Writer<Io>) -> Result<(), Error> {
        let keepalive = Duration::from_millis(self.settings.keepalive_millis);
        loop {
            let (mut batch, closing) = self.shared.take(BATCH_BYTES);
            if batch.pieces.is_empty() {
                if closing {
                    return writer.shutdown().await;
                }
                let quiet = timeout(keepalive, self.shared.to_send.notified()).await.is_err();
                if quiet {
                    batch.pieces.extend(self.shared.take_keepalive());
                }
            }
            writer.send_pieces(&mut batch.pieces).await?;
            if self.shared.wrote(batch.bytes) {
                (self.on_event)(PeerEvent::Writable { id: self.shared.id });
            }
        }
    }
}
