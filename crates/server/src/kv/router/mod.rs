//! The router: takes the requests of clients at the coordinator's port, and sends each on to the acting primary of
//! the content that holds its row.
//!
//! Guarantees: it knows nothing about any write: one whose connection to a primary broke is answered in doubt, and its
//! client settles it by its name; one that nobody took is answered so. While a content has no primary
//! its requests wait, for a bounded time, and go on as soon as there is one. Writes of one connection to one content
//! are sent in the order in which they came, and those that were not taken go again in that order.
//! What it holds is bounded, for each client and in all. Not here: what a primary does ([`super::service`]).
//!
//! # Layout
//! - `gate`: who comes in at the port
//! - `guest`: one client, and what it may make us hold
//! - `lane`: the writes of one client to one content
//! - `asking`: one question to one content
//! - `pool`: connections to primaries
//! - `combine`: one answer from those of several contents

mod asking;
mod combine;
mod gate;
mod guest;
mod lane;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::transport::ConnectionId;
use outrigger_wal::ContentId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::places::Places;
use super::protocol::{Answer, Change, Request};
pub(crate) use gate::Gate;
use guest::{Guest, LITTLE_BYTES};
use lane::Job;
use pool::Pool;

/// How many contents' pages may be held for scans at once, in all.
const MAX_PAGES: usize = 64;

/// How a router behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterOptions {
    /// How long a request waits for a primary that serves.
    pub(crate) patience: Duration,
    /// Requests of one client that are not answered yet, at most.
    pub(crate) requests_per_client: usize,
    /// Their bytes, at most; one more than that is always taken.
    pub(crate) bytes_per_client: u64,
    /// Bytes of all clients' requests, at most; a client with little of its own may go over it by a quarter.
    pub(crate) bytes_in_all: u64,
    /// Bytes of answers that clients have not taken, of all of them, at most; over that, no more than a few rows are
    /// told.
    pub(crate) unread_in_all: u64,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            requests_per_client: 256,
            bytes_per_client: 8 << 20,
            bytes_in_all: 64 << 20,
            unread_in_all: 32 << 20,
        }
    }
}

/// Sends requests on. See the module's documentation.
pub(crate) struct Router {
    options: RouterOptions,
    places: watch::Receiver<Arc<Places>>,
    guests: Mutex<BTreeMap<ConnectionId, Arc<Guest>>>,
    /// Bytes of requests that are not answered yet.
    held_bytes: AtomicU64,
    pages: Semaphore,
    pool: Pool,
}

impl Router {
    /// A router by these places.
    pub(crate) fn new(options: RouterOptions, places: watch::Receiver<Arc<Places>>) -> Arc<Self> {
        Arc::new(Self {
            options,
            places,
            guests: Mutex::default(),
            held_bytes: AtomicU64::new(0),
            pages: Semaphore::new(MAX_PAGES),
            pool: Pool::default(),
        })
    }

    /// Ends connections to primaries that are none any more, and sends clients away when this process is no
    /// coordinator any more; ends when nobody tells places any more.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut places = self.places.clone();
        loop {
            let now = Arc::clone(&places.borrow_and_update());
            self.pool.prune(&now);
            if !now.serving {
                let guests = std::mem::take(&mut *self.guests.lock());
                guests.into_values().for_each(|guest| guest.hang_up());
            }
            if places.changed().await.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> Arc<Places> {
        Arc::clone(&self.places.borrow())
    }

    /// Takes a request. Called on the network's thread, in the order in which they came.
    fn request(self: &Arc<Self>, guest: &Arc<Guest>, op: u64, body: Bytes) {
        if !guest.may_ask() {
            return;
        }
        let request = match Request::decode(body.clone()) {
            Ok(request) => request,
            Err(error) => return guest.answer(op, &Answer::Failed { text: error.to_string() }),
        };
        if request == Request::Map {
            return guest.answer(op, &combine::map(&self.now()));
        }
        let Some(held) = guest.hold(self, body.len() as u64) else {
            return guest.answer(op, &Answer::Busy);
        };
        let deadline = Instant::now() + self.options.patience;
        let job = Job { op, body, map: 0, keys: Vec::new(), deadline, held };
        match request {
            Request::Write { map, changes, .. } => {
                let keys = changes.iter().map(Change::key).cloned().collect();
                lane::put(self, guest, Job { map, keys, ..job });
            }
            request => {
                let (router, guest) = (Arc::clone(self), Arc::clone(guest));
                tokio::spawn(async move {
                    let answer = router.answer(request, job.body.clone(), deadline).await;
                    router.tell(&guest, job, &answer);
                });
            }
        }
    }

    /// Answers what is no write.
    async fn answer(&self, request: Request, body: Bytes, deadline: Instant) -> Answer {
        match request {
            Request::Get { key } => {
                let whose = |places: &Places| combine::holder(places, &key);
                self.ask_holder(whose, body, deadline).await
            }
            Request::Scan { from, limit, .. } => self.scan(&from, limit, deadline).await,
            Request::Count { .. } => self.count(deadline).await,
            Request::Status { content: Some(content) } => {
                let whose = |_: &Places| Some(ContentId(content));
                self.ask_holder(whose, body, deadline).await
            }
            Request::Outcome { map, key: Some(key), .. }
            | Request::Settle { map, key: Some(key), .. } => {
                self.ask_all_holders(map, &key, body, deadline).await
            }
            Request::Outcome { key: None, .. } | Request::Settle { key: None, .. } => {
                let text = "without its key it is not known where the write went".to_owned();
                Answer::Failed { text }
            }
            Request::Status { content: None } => {
                Answer::Failed { text: "name the content whose primary is meant".to_owned() }
            }
            Request::Write { .. } | Request::Map => {
                Answer::Failed { text: "this is not asked here".to_owned() }
            }
        }
    }

    /// Answers a client, if it takes answers.
    fn tell(&self, guest: &Guest, job: Job, answer: &Answer) {
        // LIMIT: who has little to take is told little even then, so that those who never read do not
        // keep others from reading.
        let bytes = combine::row_bytes(answer);
        let much = bytes > LITTLE_BYTES || guest.unread_bytes() > LITTLE_BYTES;
        let full = || much && self.unread_bytes() > self.options.unread_in_all;
        if bytes > 0 && (guest.is_behind() || full()) {
            // What only tells is asked for again; what became of a write is always told.
            guest.answer(job.op, &Answer::Busy);
        } else {
            guest.answer(job.op, answer);
        }
        drop(job);
    }

    /// Of all clients.
    fn unread_bytes(&self) -> u64 {
        self.guests.lock().values().map(|guest| guest.unread_bytes()).sum()
    }
}
