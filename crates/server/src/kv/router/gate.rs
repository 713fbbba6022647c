//! The coordinator's port: clients go to the router, everybody else to whoever is behind it.
//!
//! Guarantees: a connection is sorted by its greeting, for good; a client is greeted only while this process serves
//! as the coordinator, so that it tries the next address otherwise. Not here: what clients ask.

use std::sync::Arc;

use outrigger_net::handshake::{Identity, check_hello};
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role};
use outrigger_net::transport::ConnectionId;
use outrigger_replica::runtime::{Visitor, Visits};
use outrigger_wal::{ClusterId, ContentId, LogId};

use super::Router;
use super::guest::Guest;

/// The content of the catalog, in whose name clients are greeted.
const CATALOG: ContentId = ContentId(-1);

/// Sorts connections.
pub(crate) struct Gate<V> {
    router: Arc<Router>,
    others: V,
}

impl<V: Visits> Gate<V> {
    /// Clients to the router, the others there.
    pub(crate) const fn new(router: Arc<Router>, others: V) -> Self {
        Self { router, others }
    }

    fn greet(&self, visitor: &Visitor, mut envelope: Envelope, hello: &Message) {
        let router = &self.router;
        let places = router.now();
        if envelope.cluster == ClusterId::default() {
            envelope.cluster = places.cluster;
        }
        let me = Identity {
            cluster: places.cluster,
            content: CATALOG,
            instance: places.me,
            log: LogId::default(),
            abilities: Abilities::OURS,
        };
        let judged = if places.serving {
            check_hello(&me, &envelope, hello)
        } else {
            Err((Reason::NotReady, "this coordinator does not serve".to_owned()))
        };
        let answer = Envelope { cluster: places.cluster, content: CATALOG, ..envelope };
        match judged {
            Ok(chosen) => {
                let guest = Guest::new(visitor.clone(), answer);
                router.guests.lock().insert(visitor.id(), guest);
                let welcome = Message::Welcome {
                    from: places.me,
                    protocol: chosen.protocol,
                    abilities: Abilities::OURS,
                    history: History::default(),
                };
                visitor.send(&answer, &welcome);
                visitor.keep_alive(&answer);
            }
            Err((reason, text)) => {
                tracing::info!(?reason, %text, "a client is refused");
                visitor.send(&answer, &Message::Refuse { reason, text });
                visitor.hang_up();
            }
        }
    }
}

impl<V: Visits> Visits for Gate<V> {
    fn message(&self, visitor: &Visitor, envelope: Envelope, message: Message) {
        let guest = self.router.guests.lock().get(&visitor.id()).cloned();
        match (guest, message) {
            (Some(_), Message::Keepalive) => {}
            (Some(guest), Message::Request { op, body }) => self.router.request(&guest, op, body),
            (Some(guest), _) => guest.hang_up(),
            (None, hello @ Message::Hello { role: Role::Client, .. }) => {
                self.greet(visitor, envelope, &hello);
            }
            (None, message) => self.others.message(visitor, envelope, message),
        }
    }

    fn left(&self, visitor: ConnectionId) {
        let guest = self.router.guests.lock().remove(&visitor);
        match guest {
            Some(guest) => guest.left(),
            None => self.others.left(visitor),
        }
    }
}
