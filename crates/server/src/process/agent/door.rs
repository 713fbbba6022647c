//! Whoever asks an agent: greeted, heard, answered.
//!
//! Guarantees: bounded, like every listener; a question's answer goes to the connection it came on, or nowhere.
//! Not here: what is asked and answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outrigger_cluster::agent::{Ask, In, Say};
use outrigger_net::frame::{Limits, encode};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role};
use outrigger_net::transport::{ConnectionId, Listener, Outbox, PeerEvent, Settings};
use outrigger_wal::InstanceId;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::Heard;
use crate::error::Error;

/// Who does not take so many bytes of answers is dropped.
const SEND_WINDOW_BYTES: u64 = 4 << 20;
/// How many may be connected at once.
const MAX_CONNECTIONS: usize = 64;

/// A listening agent.
pub(super) struct Door {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    events: UnboundedSender<Heard>,
    links: Mutex<BTreeMap<ConnectionId, Link>>,
    /// Who waits for which answer: (connection, its number for the question).
    owed: Mutex<BTreeMap<u64, (ConnectionId, u64)>>,
    last_op: AtomicU64,
}

struct Link {
    outbox: Outbox,
    greeted: Option<Envelope>,
}

impl Door {
    /// Listens on all of these addresses.
    pub(super) async fn open(
        addresses: &[String],
        events: UnboundedSender<Heard>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            events,
            links: Mutex::default(),
            owed: Mutex::default(),
            last_op: AtomicU64::new(0),
        });
        let settings = Settings {
            send_window_bytes: SEND_WINDOW_BYTES,
            max_connections: MAX_CONNECTIONS,
            ..Settings::default()
        };
        let to = Arc::clone(&shared);
        let listener =
            Listener::bind_all(addresses, settings, Arc::new(move |event| to.heard(event)));
        let listener = listener.await.map_err(|error| Error::Peer {
            address: addresses.join(", "),
            what: "cannot be listened on",
            cause: error.to_string(),
            advice: "stop what uses it, or give another address",
        })?;
        Ok(Self { listener, shared })
    }

    /// Where it listens.
    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Answers a question.
    pub(super) fn answer(&self, op: u64, say: &Say) {
        let Some((id, asked)) = self.shared.owed.lock().remove(&op) else { return };
        match say.encode() {
            Ok(body) => self.shared.send(id, &Message::Response { op: asked, body }),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be sent");
                self.shared.hang_up(id);
            }
        }
    }
}

impl Shared {
    fn heard(&self, event: PeerEvent) {
        match event {
            PeerEvent::Connected { outbox, .. } => {
                self.links.lock().insert(outbox.id(), Link { outbox, greeted: None });
            }
            PeerEvent::Frame { id, frame, .. } => {
                self.message(id, frame.envelope, frame.message);
            }
            PeerEvent::Closed { id, .. } => {
                self.links.lock().remove(&id);
                self.owed.lock().retain(|_, (of, _)| *of != id);
            }
            _ => {}
        }
    }

    fn message(&self, id: ConnectionId, envelope: Envelope, message: Message) {
        let greeted = self.links.lock().get(&id).is_some_and(|link| link.greeted.is_some());
        match message {
            Message::Hello { role: Role::Operator, .. } if !greeted => {
                if let Some(link) = self.links.lock().get_mut(&id) {
                    link.greeted = Some(envelope);
                    link.outbox.open(Limits::REQUESTS);
                }
                let welcome = Message::Welcome {
                    from: InstanceId::default(),
                    protocol: 1,
                    abilities: Abilities::OURS,
                    history: History::default(),
                };
                self.send(id, &welcome);
            }
            Message::Request { op, body } if greeted => match Ask::decode(&body) {
                Ok(ask) => {
                    // Relaxed: a number that differs from all others, nothing is ordered by it.
                    let number = self.last_op.fetch_add(1, Ordering::Relaxed);
                    self.owed.lock().insert(number, (id, op));
                    // Without a queue the process is ending.
                    drop(self.events.send(Heard::Machine(In::Ask { op: number, ask })));
                }
                Err(error) => {
                    let text = format!("the request cannot be read: {error}");
                    let body = Say::Denied { text }.encode().unwrap_or_default();
                    self.send(id, &Message::Response { op, body });
                }
            },
            Message::Keepalive if greeted => {}
            _ => {
                let text = "an agent takes an administrator's questions, behind a Hello".to_owned();
                self.send(id, &Message::Refuse { reason: Reason::OutOfTurn, text });
                self.hang_up(id);
            }
        }
    }

    fn send(&self, id: ConnectionId, message: &Message) {
        let links = self.links.lock();
        let Some(link) = links.get(&id) else { return };
        let envelope = link.greeted.unwrap_or_default();
        match encode(&envelope, message) {
            Ok(head) => {
                if link.outbox.try_send(head, Vec::new()).is_err() {
                    // It does not read its answers.
                    link.outbox.close();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an answer does not fit a frame");
                link.outbox.close();
            }
        }
    }

    fn hang_up(&self, id: ConnectionId) {
        if let Some(link) = self.links.lock().get(&id) {
            link.outbox.close();
        }
    }
}
