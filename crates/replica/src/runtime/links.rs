//! Connections: the network's thread, the listener, the lines that a member dials.
//!
//! A connection that comes in is sorted by its `Hello`: a primary's goes to the member, all others to
//! the [`Front`]. Guarantees: nothing here waits for the member; a peer that does not read is dropped when its
//! window is full. Not here: what messages mean.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_net::frame::{Frame, Limits, encode};
use outrigger_net::handshake::{Identity as Door, check_hello};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role};
use outrigger_net::transport::{
    ConnectionId, Listener, OnEvent, Outbox, PeerEvent, Settings, Side, connect_to_any, run_tcp,
};
use outrigger_wal::{ClusterId, InstanceId};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::ReplicaError;
use super::core::Shared;
use crate::control::Identity;
use crate::member::{In, LinkId};

/// Answers what clients ask. Called on the network's thread; must not block: answer later from a
/// future ([`super::Replica::spawn`]) where it takes time.
pub trait Requests: Send + Sync {
    /// A client's request; answer with [`Caller::respond`].
    fn request(&self, caller: &Caller, op: u64, body: Bytes);
}

/// A client that asked something.
#[derive(Clone, Debug)]
pub struct Caller {
    outbox: Outbox,
    envelope: Envelope,
}

impl Caller {
    /// How many bytes of answers it has not taken yet.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.outbox.queued_bytes()
    }

    /// Ends its connection, after the answers that it still takes.
    pub fn hang_up(&self) {
        self.outbox.close();
    }

    /// Answers the request `op`. A client that is gone hears nothing.
    pub fn respond(&self, op: u64, body: Bytes) {
        match encode(&self.envelope, &Message::Response { op, body }) {
            Ok(head) => {
                if self.outbox.try_send(head, Vec::new()).is_err() {
                    // It does not read its answers.
                    self.outbox.close();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an answer does not fit a frame");
                self.outbox.close();
            }
        }
    }
}

/// Takes whole connections, greeting included; for a service that judges its peers itself, as the
/// coordinator does. Called on the network's thread; must not block.
pub trait Visits: Send + Sync {
    /// A message; the first one of a connection is its greeting.
    fn message(&self, visitor: &Visitor, envelope: Envelope, message: Message);

    /// A connection that brought a message has ended.
    fn left(&self, visitor: ConnectionId);
}

/// A connection that [`Visits`] serves.
#[derive(Clone, Debug)]
pub struct Visitor {
    outbox: Outbox,
}

impl Visitor {
    /// The connection; never used again.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.outbox.id()
    }

    /// Sends a message; a `Welcome` opens the connection. One that does not read is dropped.
    pub fn send(&self, envelope: &Envelope, message: &Message) {
        match encode(envelope, message) {
            Ok(head) => {
                if matches!(message, Message::Welcome { .. }) {
                    self.outbox.open(Limits::REQUESTS);
                }
                if self.outbox.try_send(head, Vec::new()).is_err() {
                    self.outbox.close();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a message does not fit a frame");
                self.outbox.close();
            }
        }
    }

    /// Shows a silent connection to be alive from now on, in this envelope.
    pub fn keep_alive(&self, envelope: &Envelope) {
        if let Ok(head) = encode(envelope, &Message::Keepalive) {
            self.outbox.set_keepalive(head);
        }
    }

    /// How many bytes of answers it has not taken yet.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.outbox.queued_bytes()
    }

    /// Ends the connection, after what was sent.
    pub fn hang_up(&self) {
        self.outbox.close();
    }
}

/// Who answers connections that are not a primary's.
#[derive(Clone, Default)]
pub enum Front {
    /// Nobody: they are refused.
    #[default]
    Nobody,
    /// Clients and operators are greeted here, and their requests answered.
    Requests(Arc<dyn Requests>),
    /// Whole connections are handed on.
    Visits(Arc<dyn Visits>),
}

impl From<Option<Arc<dyn Requests>>> for Front {
    fn from(requests: Option<Arc<dyn Requests>>) -> Self {
        requests.map_or(Self::Nobody, Self::Requests)
    }
}

/// What a connection turned out to be.
enum Kind {
    /// It has not said hello.
    Stranger,
    /// It is a line of the member's.
    Member(LinkId),
    Client(Caller),
    Visitor(Visitor),
}

struct Link {
    outbox: Outbox,
    kind: Kind,
}

#[derive(Default)]
struct Table {
    links: BTreeMap<ConnectionId, Link>,
    lines: BTreeMap<LinkId, ConnectionId>,
    /// Whom each line was dialled to.
    peers: BTreeMap<LinkId, InstanceId>,
    /// Bytes sent to each copy since [`Links::take_sent_bytes`], on all lines, heads included.
    sent_bytes: BTreeMap<InstanceId, u64>,
}

/// The connections of a replica.
pub(super) struct Links {
    handle: Handle,
    stop: Arc<Notify>,
    /// Tells the timer whose time it keeps.
    begin: Mutex<Option<oneshot::Sender<Weak<Shared>>>>,
    local: SocketAddr,
    settings: Settings,
    identity: Identity,
    table: Mutex<Table>,
    front: Front,
}

impl Links {
    /// Starts the network's thread and listens.
    pub(super) fn start(
        listen: &[String],
        settings: Settings,
        identity: Identity,
        front: Front,
        home: Arc<OnceLock<Weak<Shared>>>,
    ) -> Result<Self, ReplicaError> {
        let failed =
            |doing: &str, cause: String| ReplicaError::System { doing: doing.to_owned(), cause };
        let stop = Arc::new(Notify::new());
        let (tell, told) = channel();
        let (addresses, asked) = (listen.to_vec(), settings.clone());
        let (halt, at_home) = (Arc::clone(&stop), home);
        let (begin, begun) = oneshot::channel();
        let work = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tell.send(Err(error.to_string())).ok();
                    return;
                }
            };
            let handle = runtime.handle().clone();
            runtime.block_on(async move {
                let on_event: OnEvent = Arc::new(move |event| {
                    if let Some(shared) = at_home.get().and_then(Weak::upgrade) {
                        shared.links.heard(&shared, None, event);
                    }
                });
                let listener = match Listener::bind_all(&addresses, asked, on_event).await {
                    Ok(listener) => listener,
                    Err(error) => {
                        tell.send(Err(error.to_string())).ok();
                        return;
                    }
                };
                tell.send(Ok((handle, listener.local_addr()))).ok();
                tokio::select! {
                    () = halt.notified() => {}
                    () = keep_time(begun) => {}
                }
            });
            // What still runs ends with the runtime.
            runtime.shutdown_timeout(Duration::from_millis(200));
        };
        std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(work)
            .map_err(|error| failed("starting the network's thread", error.to_string()))?;
        let (handle, local) = told
            .recv()
            .map_err(|error| failed("starting the network", error.to_string()))?
            .map_err(|cause| failed(&format!("listening on {}", listen.join(", ")), cause))?;
        let (table, begin) = (Mutex::default(), Mutex::new(Some(begin)));
        Ok(Self { handle, stop, begin, local, settings, identity, table, front })
    }

    /// The replica is put together: its time is kept from now on.
    pub(super) fn begin(&self, shared: Weak<Shared>) {
        if let Some(begin) = self.begin.lock().take() {
            // Nobody listens where the thread has ended already.
            begin.send(shared).ok();
        }
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }

    pub(super) fn close(&self) {
        self.stop.notify_one();
    }

    /// Tries the addresses once each; the first that answers is used.
    pub(super) fn dial(
        &self,
        shared: &Arc<Shared>,
        (link, peer): (LinkId, InstanceId),
        addresses: Vec<String>,
    ) {
        self.table.lock().peers.insert(link, peer);
        let (home, settings) = (Arc::downgrade(shared), self.settings.clone());
        self.handle.spawn(async move {
            let patience = Duration::from_millis(settings.connect_millis);
            if let Ok((stream, address)) = connect_to_any(&addresses, patience).await {
                let heard = Weak::clone(&home);
                let on_event: OnEvent = Arc::new(move |event| {
                    if let Some(shared) = heard.upgrade() {
                        shared.links.heard(&shared, Some(link), event);
                    }
                });
                run_tcp(stream, address, Side::Dialled, &settings, &on_event).await;
                return;
            }
            if let Some(shared) = home.upgrade() {
                shared.links.table.lock().peers.remove(&link);
                shared.push(In::Closed(link));
            }
        });
    }

    /// Bytes sent to a copy since this was asked last, on however many lines, heads included.
    pub(super) fn take_sent_bytes(&self, peer: InstanceId) -> u64 {
        self.table.lock().sent_bytes.remove(&peer).unwrap_or(0)
    }

    /// A new reign: nobody was sent anything yet.
    pub(super) fn forget_sent_bytes(&self) {
        self.table.lock().sent_bytes.clear();
    }

    pub(super) fn hangup(&self, link: LinkId) {
        let mut table = self.table.lock();
        table.peers.remove(&link);
        if let Some(id) = table.lines.remove(&link)
            && let Some(gone) = table.links.remove(&id)
        {
            gone.outbox.close();
        }
    }

    pub(super) fn send(
        &self,
        link: LinkId,
        envelope: &Envelope,
        message: &Message,
        body: Vec<Bytes>,
    ) {
        let head = match encode(envelope, message) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(%error, "a message does not fit a frame");
                self.hangup(link);
                return;
            }
        };
        let mut table = self.table.lock();
        let bytes = body.iter().map(Bytes::len).fold(head.len(), usize::saturating_add);
        if let Some(peer) = table.peers.get(&link).copied() {
            let sent = table.sent_bytes.entry(peer).or_default();
            *sent = sent.saturating_add(bytes as u64);
        }
        let outbox = table
            .lines
            .get(&link)
            .and_then(|id| table.links.get(id))
            .map(|found| found.outbox.clone());
        drop(table);
        let Some(outbox) = outbox else { return };
        if matches!(message, Message::Welcome { .. }) {
            outbox.open(Limits::open(Abilities::OURS.max_block_bytes));
        }
        if outbox.try_send(head, body).is_err() {
            tracing::warn!(?link, "a peer takes less than its window: dropped");
            outbox.close();
        }
    }

    /// An event of a connection; `dialled` names the line, when the member dialled it.
    fn heard(&self, shared: &Arc<Shared>, dialled: Option<LinkId>, event: PeerEvent) {
        match event {
            PeerEvent::Connected { outbox, .. } => {
                let id = outbox.id();
                let kind = dialled.map_or(Kind::Stranger, Kind::Member);
                let mut table = self.table.lock();
                table.links.insert(id, Link { outbox, kind });
                if let Some(link) = dialled {
                    table.lines.insert(link, id);
                }
                drop(table);
                if let Some(link) = dialled {
                    shared.push(In::Connected(link));
                }
            }
            PeerEvent::Frame { id, frame, held } => {
                self.frame(shared, id, frame);
                drop(held);
            }
            PeerEvent::Closed { id, error } => {
                if let Some(error) = error {
                    tracing::debug!(%error, "a connection ended");
                }
                let mut table = self.table.lock();
                let gone = table.links.remove(&id);
                if let Some(Link { kind: Kind::Member(link), .. }) = &gone {
                    table.lines.remove(link);
                    table.peers.remove(link);
                }
                drop(table);
                match gone.map(|gone| gone.kind) {
                    Some(Kind::Member(link)) => shared.push(In::Closed(link)),
                    Some(Kind::Visitor(_)) => {
                        if let Front::Visits(visits) = &self.front {
                            visits.left(id);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn frame(&self, shared: &Arc<Shared>, id: ConnectionId, frame: Frame) {
        let Frame { envelope, message, body } = frame;
        let mut table = self.table.lock();
        let Some(link) = table.links.get_mut(&id) else { return };
        match &link.kind {
            Kind::Client(caller) => {
                let caller = caller.clone();
                drop(table);
                self.request(&caller, message);
            }
            Kind::Visitor(visitor) => {
                let visitor = visitor.clone();
                drop(table);
                if let Front::Visits(visits) = &self.front {
                    visits.message(&visitor, envelope, message);
                }
            }
            Kind::Member(line) => {
                let line = *line;
                if matches!(message, Message::Welcome { .. }) {
                    link.outbox.open(Limits::open(Abilities::OURS.max_block_bytes));
                }
                drop(table);
                shared.push(In::Frame { link: line, envelope, message, body });
            }
            Kind::Stranger => {
                let primary = matches!(&message, Message::Hello { role: Role::Primary, .. });
                if let (Front::Visits(visits), false) = (&self.front, primary) {
                    let visitor = Visitor { outbox: link.outbox.clone() };
                    link.kind = Kind::Visitor(visitor.clone());
                    drop(table);
                    visits.message(&visitor, envelope, message);
                    return;
                }
                if let Message::Hello { role: Role::Client | Role::Operator, .. } = &message {
                    let outbox = link.outbox.clone();
                    match self.greet(&outbox, &envelope, &message) {
                        Some(caller) => link.kind = Kind::Client(caller),
                        None => outbox.close(),
                    }
                    return;
                }
                // Even: it came in.
                let line = LinkId(id.0.wrapping_mul(2));
                link.kind = Kind::Member(line);
                table.lines.insert(line, id);
                drop(table);
                shared.push(In::Frame { link: line, envelope, message, body });
            }
        }
    }

    /// Judges a client's hello.
    fn greet(&self, outbox: &Outbox, envelope: &Envelope, hello: &Message) -> Option<Caller> {
        let door = Door {
            cluster: self.identity.cluster,
            content: self.identity.content,
            instance: self.identity.instance,
            log: self.identity.log,
            abilities: Abilities::OURS,
        };
        let answer = Envelope {
            cluster: self.identity.cluster,
            content: self.identity.content,
            version: Version(0),
            ..*envelope
        };
        let judged = if matches!(self.front, Front::Requests(_)) {
            let mut asked = *envelope;
            // A client may not know the cluster: while no coordinator is there, nobody tells.
            if asked.cluster == ClusterId::default() {
                asked.cluster = self.identity.cluster;
            }
            check_hello(&door, &asked, hello)
        } else {
            Err((Reason::NotReady, "no clients are served here".to_owned()))
        };
        let message = match judged {
            Ok(chosen) => Message::Welcome {
                from: self.identity.instance,
                protocol: chosen.protocol,
                abilities: Abilities::OURS,
                history: History::default(),
            },
            Err((reason, text)) => {
                tracing::info!(?reason, %text, "a client is refused");
                let refusal = encode(&answer, &Message::Refuse { reason, text });
                if let Ok(head) = refusal {
                    outbox.try_send(head, Vec::new()).ok();
                }
                return None;
            }
        };
        let head = encode(&answer, &message).ok()?;
        outbox.open(Limits::REQUESTS);
        outbox.try_send(head, Vec::new()).ok()?;
        if let Ok(keepalive) = encode(&answer, &Message::Keepalive) {
            outbox.set_keepalive(keepalive);
        }
        Some(Caller { outbox: outbox.clone(), envelope: answer })
    }

    fn request(&self, caller: &Caller, message: Message) {
        match message {
            Message::Request { op, body } => {
                if let Front::Requests(requests) = &self.front {
                    requests.request(caller, op, body);
                }
            }
            Message::Keepalive => {}
            _ => caller.outbox.close(),
        }
    }
}

/// Kicks the member whenever it has something to do by itself, and at each turn.
async fn keep_time(begun: oneshot::Receiver<Weak<Shared>>) {
    let Ok(home) = begun.await else { return };
    let mut seen = 0;
    while let Some(shared) = home.upgrade() {
        shared.come_round(&mut seen);
        let wait = shared.next_deadline().unwrap_or(shared.turn).min(shared.turn);
        let timer = Arc::clone(&shared.timer);
        // Nothing is kept alive by its own timer.
        drop(shared);
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                if let Some(shared) = home.upgrade() {
                    shared.push(In::Kick);
                }
            }
            () = timer.notified() => {}
        }
    }
}
