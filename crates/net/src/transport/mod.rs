//! Connections over tokio: listening, dialling, queues bounded in bytes, deadlines.
//!
//! A machine lives on whatever thread its owner likes. From here it gets [`PeerEvent`]s by a
//! callback, and what it sends goes into an [`Outbox`], which takes it from any thread:
//!
//! 1. `Connected` brings the outbox. The side that dialled sends its `Hello`.
//! 2. One frame is read under [`Limits::GREETING`](crate::frame::Limits::GREETING) and delivered;
//!    no more is read before the machine calls [`Outbox::open`] (or [`Outbox::close`]).
//! 3. From then on frames are delivered as they come, until `Closed`, which is always the last event.
//!
//! Guarantees: a peer that has not greeted holds less than 64 KiB and is dropped within
//! `handshake_millis`, whatever it sends; one that has greeted holds at most its windows and one
//! frame; nothing is retried on a connection. Not here: what messages mean.

mod backoff;
mod connection;
mod dial;
mod drive;
mod listener;
mod outbox;
mod reach;
mod tcp;

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

pub use backoff::backoff_micros;
pub use connection::{Connection, Reader, Writer};
pub use dial::{Dialer, dial};
pub use drive::{Side, run};
pub use listener::{Counters, Listener};
pub use outbox::{Full, Outbox};
pub use reach::{STAGGER, connect_to_any};
pub use tcp::run_tcp;

use crate::error::Error;
use crate::frame::Frame;

/// Names a connection within this process; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// Deadlines, windows and limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long whoever connects may take for its whole first frame. Default 5,000.
    pub handshake_millis: u64,
    /// How long a dialled peer may take to answer a `Hello`, and this side to open a connection
    /// that greeted: a copy drains its disk and persists the epoch before it answers. Default 30,000.
    pub answer_millis: u64,
    /// How long an open connection may bring no byte. Default 10,000.
    pub idle_millis: u64,
    /// How long an open connection may carry nothing before a keepalive goes out. Default 1,000.
    pub keepalive_millis: u64,
    /// How long a write may take no byte. Default 30,000.
    pub stall_millis: u64,
    /// How long connecting may take. Default 3,000.
    pub connect_millis: u64,
    /// How many bytes may wait in an outbox. Default 4 MiB.
    pub send_window_bytes: u64,
    /// How many bytes of delivered frames may be held by the machine before reading pauses.
    /// Default 8 MiB.
    pub receive_window_bytes: u32,
    /// How many connections may be open at a listener, those not greeted yet aside. Default 256.
    pub max_connections: usize,
    /// How many connections may be not greeted yet at a listener; the oldest makes room. Default 32.
    pub max_strangers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            handshake_millis: 5_000,
            answer_millis: 30_000,
            idle_millis: 10_000,
            keepalive_millis: 1_000,
            stall_millis: 30_000,
            connect_millis: 3_000,
            send_window_bytes: 4 * 1024 * 1024,
            receive_window_bytes: 8 * 1024 * 1024,
            max_connections: 256,
            max_strangers: 32,
        }
    }
}

/// What happens on a connection, in this order for each: `Connected`, then `Frame` and `Writable`
/// in any order, then `Closed`.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly all events are frames")]
pub enum PeerEvent {
    /// A connection was made.
    Connected {
        /// Its outgoing side; names it, too.
        outbox: Outbox,
        /// The address of the other end.
        remote: String,
        /// Who connected.
        side: Side,
    },
    /// A frame came.
    Frame {
        /// The connection.
        id: ConnectionId,
        /// The frame.
        frame: Frame,
        /// Its share of the receive window: keep it as long as the frame's bytes.
        held: Held,
    },
    /// An outbox that was full has room again.
    Writable {
        /// The connection.
        id: ConnectionId,
    },
    /// The connection is gone, with all that was in flight.
    Closed {
        /// The connection.
        id: ConnectionId,
        /// Why; `None` when either side closed it in order.
        error: Option<Error>,
    },
    /// Dialling failed; it is tried again.
    Unreachable {
        /// The address tried.
        address: String,
        /// Why it failed.
        error: Error,
    },
}

/// Takes events; called from tokio's threads. It must not block: hand the event over and return.
pub type OnEvent = Arc<dyn Fn(PeerEvent) + Send + Sync>;

/// A share of a receive window, given back when dropped.
#[derive(Default)]
pub struct Held {
    permit: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        write!(f, "Held({bytes} bytes)")
    }
}
