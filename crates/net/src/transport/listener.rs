//! Takes connections in.
//!
//! Guarantees: whoever has not greeted is dropped at its deadline or, when there are too many, the
//! oldest first, so that silent ones cannot shut out those that greet at once; running out of
//! descriptors pauses, and ends nothing. Not here: who is let in (the machine decides by
//! [`super::Outbox::open`]).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::drive::{Side, Watch, new_shared, run_watched};
use super::outbox::Shared;
use super::tcp::prepare;
use super::{ConnectionId, OnEvent, Settings};
use crate::error::Error;

/// How long to wait when accepting fails (descriptors, memory): it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener has seen since it began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Connections taken in.
    pub accepted: u64,
    /// Dropped at once: too many are open.
    pub over_limit: u64,
    /// Dropped to make room for newer ones before they had greeted.
    pub evicted: u64,
    /// Dropped for breaking the protocol.
    pub hostile: u64,
    /// Dropped at a deadline.
    pub timed_out: u64,
    /// Handshakes done.
    pub opened: u64,
    /// Connections ended, for whatever reason.
    pub closed: u64,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    over_limit: AtomicU64,
    evicted: AtomicU64,
    hostile: AtomicU64,
    timed_out: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    // Relaxed: numbers to look at, nothing is ordered by them.
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Watch for Counts {
    fn opened(&self) {
        count(&self.opened);
    }

    fn ended(&self, error: Option<&Error>) {
        count(&self.closed);
        match error {
            Some(Error::Evicted) => count(&self.evicted),
            Some(Error::TimedOut { .. }) => count(&self.timed_out),
            Some(error) if error.is_hostile() => count(&self.hostile),
            _ => {}
        }
    }
}

/// Listening sockets and their connections; all end when it is dropped.
pub struct Listener {
    local: SocketAddr,
    counts: Arc<Counts>,
    task: AbortHandle,
}

impl Listener {
    /// Listens on `address` (`host:port`; port 0 picks a free one). To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`Error::Io`] when the address cannot be used.
    pub async fn bind(address: &str, settings: Settings, on_event: OnEvent) -> Result<Self, Error> {
        Self::bind_all(&[address], settings, on_event).await
    }

    /// Listens on each of these addresses, as on one: the limits hold for all of them together.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none, or one of them cannot be used.
    pub async fn bind_all(
        addresses: &[impl AsRef<str>],
        settings: Settings,
        on_event: OnEvent,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io { doing: "listening", source };
        let mut sockets = Vec::new();
        for address in addresses {
            sockets.push(TcpListener::bind(address.as_ref()).await.map_err(failed)?);
        }
        let none = || failed(io::Error::other("there is no address"));
        let local = sockets.first().ok_or_else(none)?.local_addr().map_err(failed)?;
        let counts = Arc::new(Counts::default());
        let accept = Accept { settings, on_event, counts: Arc::clone(&counts) };
        let task = tokio::spawn(accept.run(sockets)).abort_handle();
        Ok(Self { local, counts, task })
    }

    /// Where it listens: the first of its addresses.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it has seen.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            accepted: read(&self.counts.accepted),
            over_limit: read(&self.counts.over_limit),
            evicted: read(&self.counts.evicted),
            hostile: read(&self.counts.hostile),
            timed_out: read(&self.counts.timed_out),
            opened: read(&self.counts.opened),
            closed: read(&self.counts.closed),
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.local).finish()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The connections' tasks belong to the accepting one, and end with it.
        self.task.abort();
    }
}

/// The next connection on any of these sockets, and on which; they are looked at in turn, from `first` on.
async fn any(sockets: &[TcpListener], first: usize) -> io::Result<(usize, TcpStream, SocketAddr)> {
    poll_fn(|context| {
        for step in 0..sockets.len() {
            let at = first.wrapping_add(step) % sockets.len();
            let Some(socket) = sockets.get(at) else { continue };
            if let Poll::Ready(accepted) = socket.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, remote)| (at, stream, remote)));
            }
        }
        Poll::Pending
    })
    .await
}

struct Accept {
    settings: Settings,
    on_event: OnEvent,
    counts: Arc<Counts>,
}

impl Accept {
    async fn run(self, sockets: Vec<TcpListener>) {
        let mut tasks = JoinSet::new();
        let mut strangers = BTreeMap::new();
        let mut first = 0;
        loop {
            tokio::select! {
                accepted = any(&sockets, first) => match accepted {
                    Ok((at, stream, remote)) => {
                        // One address that many connect to must not shut out the others.
                        first = at.wrapping_add(1);
                        self.admit(stream, remote, &mut tasks, &mut strangers);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed; trying again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        tasks: &mut JoinSet<()>,
        strangers: &mut BTreeMap<ConnectionId, Arc<Shared>>,
    ) {
        strangers.retain(|_, shared| shared.is_stranger());
        if tasks.len().saturating_sub(strangers.len()) >= self.settings.max_connections {
            count(&self.counts.over_limit);
            tracing::warn!(%remote, "too many connections; a new one is dropped");
            return;
        }
        while strangers.len() >= self.settings.max_strangers.max(1) {
            let Some((_, oldest)) = strangers.pop_first() else {
                break;
            };
            oldest.evicted.notify_one();
        }
        count(&self.counts.accepted);
        let shared = new_shared(&self.settings);
        strangers.insert(shared.id, Arc::clone(&shared));
        let settings = self.settings.clone();
        let on_event = Arc::clone(&self.on_event);
        let counts = Arc::clone(&self.counts);
        tasks.spawn(async move {
            prepare(&stream, &shared);
            let remote = remote.to_string();
            run_watched(stream, remote, Side::Accepted, &settings, &on_event, shared, &*counts)
                .await;
        });
    }
}
