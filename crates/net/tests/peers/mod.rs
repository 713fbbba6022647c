//! The machine's end of connections, driven by hand.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use bytes::Bytes;
use outrigger_net::Error;
use outrigger_net::frame::{Frame, Limits, encode};
use outrigger_net::message::{History, Message};
use outrigger_net::transport::{ConnectionId, Held, OnEvent, Outbox, PeerEvent};
use outrigger_wal::InstanceId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::samples::{MAX_BLOCK_BYTES, abilities, envelope, hello};

pub(crate) struct Events(UnboundedReceiver<PeerEvent>);

pub(crate) fn events() -> (OnEvent, Events) {
    let (send, receive) = unbounded_channel();
    let on_event: OnEvent = Arc::new(move |event| drop(send.send(event)));
    (on_event, Events(receive))
}

impl Events {
    pub(crate) async fn next(&mut self) -> PeerEvent {
        self.0.recv().await.expect("the callback lives as long as its connections")
    }

    /// What has happened already, if anything.
    pub(crate) fn happened(&mut self) -> Option<PeerEvent> {
        self.0.try_recv().ok()
    }

    pub(crate) async fn connected(&mut self) -> Outbox {
        match self.next().await {
            PeerEvent::Connected { outbox, .. } => outbox,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn frame(&mut self) -> (Frame, Held) {
        match self.next().await {
            PeerEvent::Frame { frame, held, .. } => (frame, held),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn closed(&mut self) -> (ConnectionId, Option<Error>) {
        match self.next().await {
            PeerEvent::Closed { id, error } => (id, error),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn head(message: &Message) -> Bytes {
    encode(&envelope(), message).unwrap()
}

pub(crate) fn send(outbox: &Outbox, message: &Message) {
    outbox.try_send(head(message), Vec::new()).unwrap();
}

pub(crate) fn welcome() -> Message {
    Message::Welcome {
        from: InstanceId(2),
        protocol: 2,
        abilities: abilities(),
        history: History::default(),
    }
}

pub(crate) fn open(outbox: &Outbox) {
    outbox.set_keepalive(head(&Message::Keepalive));
    outbox.open(Limits::open(MAX_BLOCK_BYTES));
}

/// Greets from `dialled` to `accepted`, whose events are `theirs` and `ours`.
pub(crate) async fn shake_hands(dialler: &mut Events, acceptor: &mut Events) -> (Outbox, Outbox) {
    let dialled = dialler.connected().await;
    send(&dialled, &hello(2));
    let accepted = acceptor.connected().await;
    let (frame, _) = acceptor.frame().await;
    assert_eq!(frame.message, hello(2));
    send(&accepted, &welcome());
    open(&accepted);
    let (frame, _) = dialler.frame().await;
    assert_eq!(frame.message, welcome());
    open(&dialled);
    (dialled, accepted)
}
