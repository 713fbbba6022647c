//! One client of the router: its connection, and what it makes us hold.
//!
//! Guarantees: a client that does not take its answers is told to come back, and hung up on when it goes on asking;
//! what is held for it is counted, and given back with the last use. Not here: what it asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use outrigger_net::message::{Envelope, Message};
use outrigger_replica::runtime::Visitor;
use outrigger_wal::ContentId;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::super::protocol::Answer;
use super::Router;
use super::lane::Job;

/// A client that has not taken so many bytes of answers is told to come back.
const MAX_UNREAD_BYTES: u64 = 256 << 10;
/// How often, before it is hung up on.
const MAX_WORDS: usize = 1024;
/// A client of which so much is held, or less, is served before those that have more.
pub(super) const LITTLE_BYTES: u64 = 64 << 10;

/// A client.
pub(super) struct Guest {
    visitor: Visitor,
    envelope: Envelope,
    requests: AtomicUsize,
    bytes: AtomicU64,
    /// How often it was told to come back since it last took its answers.
    words: AtomicUsize,
    gone: AtomicBool,
    pub(super) lanes: Mutex<BTreeMap<ContentId, UnboundedSender<Job>>>,
}

impl Guest {
    pub(super) fn new(visitor: Visitor, envelope: Envelope) -> Arc<Self> {
        Arc::new(Self {
            visitor,
            envelope,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            words: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            lanes: Mutex::default(),
        })
    }

    /// Whether it takes its answers, or has not been told often enough that it should.
    pub(super) fn may_ask(&self) -> bool {
        if !self.is_behind() {
            self.words.store(0, Ordering::Relaxed);
            return true;
        }
        if self.words.fetch_add(1, Ordering::Relaxed) < MAX_WORDS {
            return true;
        }
        self.hang_up();
        false
    }

    /// Counts a request; `None` when it must come back with it.
    pub(super) fn hold(self: &Arc<Self>, router: &Arc<Router>, bytes: u64) -> Option<Held> {
        let options = &router.options;
        if self.is_behind() || self.requests.load(Ordering::SeqCst) >= options.requests_per_client {
            return None;
        }
        let mine = self.bytes.load(Ordering::SeqCst);
        let little = mine.saturating_add(bytes) <= LITTLE_BYTES;
        let in_all =
            options.bytes_in_all.saturating_add(if little { options.bytes_in_all / 4 } else { 0 });
        let all = router.held_bytes.load(Ordering::SeqCst);
        if mine >= options.bytes_per_client || all.saturating_add(bytes) > in_all {
            return None;
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        router.held_bytes.fetch_add(bytes, Ordering::SeqCst);
        Some(Held { router: Arc::clone(router), guest: Arc::clone(self), bytes })
    }

    pub(super) fn answer(&self, op: u64, answer: &Answer) {
        let too_long = |error: super::super::protocol::ProtocolError| {
            Answer::Failed { text: error.to_string() }.encode()
        };
        if let Ok(body) = answer.encode().or_else(too_long) {
            self.visitor.send(&self.envelope, &Message::Response { op, body });
        }
    }

    pub(super) fn hang_up(&self) {
        self.left();
        self.visitor.hang_up();
    }

    /// It is gone: what it asked for and was not sent on is forgotten.
    pub(super) fn left(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.lanes.lock().clear();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    pub(super) fn unread_bytes(&self) -> u64 {
        self.visitor.queued_bytes()
    }

    pub(super) fn is_behind(&self) -> bool {
        self.unread_bytes() > MAX_UNREAD_BYTES
    }
}

/// A request that is held, until this is dropped.
pub(super) struct Held {
    router: Arc<Router>,
    guest: Arc<Guest>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.router.held_bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.guest.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.guest.requests.fetch_sub(1, Ordering::SeqCst);
    }
}
