//! An instance answers copies that are rebuilt from it, beside its clients.
//!
//! Guarantees: no disk is waited for on the network's thread; questions are answered one after the other by a
//! thread of its own, so that a rebuild takes one processor at most; one who does not take the answers is hung up on.
//! Not here: what is answered ([`outrigger_replica::rebuild`]), and requests of rows ([`Service`]).

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outrigger_replica::rebuild::protocol::{Ask, Say, is_ask};
use outrigger_replica::rebuild::{ReplicaLender, Source, SourceOptions};
use outrigger_replica::runtime::{Caller, Replica, Requests};
use outrigger_replica::store::StateStore;
use outrigger_wal::Micros;

use crate::error::Error;
use crate::kv::service::Service;

/// Questions that wait. Whoever is rebuilt has one at a time.
const MAX_WAITING: usize = 16;
/// A copy that has not taken so many bytes of answers is hung up on.
const MAX_UNREAD_BYTES: u64 = 4 << 20;
/// Between two looks at sessions that nobody asks for any more.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// Sorts requests: of rows, and of copies that are rebuilt.
pub(super) struct Desk {
    rows: Arc<Service>,
    questions: OnceLock<SyncSender<Question>>,
}

struct Question {
    caller: Caller,
    op: u64,
    body: Bytes,
}

impl Desk {
    /// A desk that hands requests of rows to `rows`; others are answered once there is a replica.
    pub(super) fn new(rows: Arc<Service>) -> Arc<Self> {
        Arc::new(Self { rows, questions: OnceLock::new() })
    }

    /// Begins to answer copies that are rebuilt from this replica.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn lend(
        &self,
        replica: &Replica,
        store: Arc<dyn StateStore>,
        dir: &Path,
    ) -> Result<(), Error> {
        let identity = replica.who();
        let lender =
            ReplicaLender::new(replica.clone(), store, dir).map_err(|fault| Error::System {
                what: "the log cannot be read",
                cause: std::io::Error::other(fault.to_string()),
                advice: "look at the device",
            })?;
        let seed = super::init::random()?;
        let seed = u64::try_from(seed >> 64).unwrap_or_default();
        let source = Source::new(identity, seed, SourceOptions::default());
        let (questions, queue) = sync_channel(MAX_WAITING);
        std::thread::Builder::new()
            .name("lending".to_owned())
            .spawn(move || answer(source, lender, &queue))
            .map_err(|cause| Error::System {
                what: "a thread cannot be started",
                cause,
                advice: "check the limits of processes",
            })?;
        // A second call changes nothing: there is one replica.
        drop(self.questions.set(questions));
        Ok(())
    }
}

impl Requests for Desk {
    fn request(&self, caller: &Caller, op: u64, body: Bytes) {
        if !is_ask(&body) {
            return self.rows.request(caller, op, body);
        }
        if caller.queued_bytes() > MAX_UNREAD_BYTES {
            return caller.hang_up();
        }
        let question = Question { caller: caller.clone(), op, body };
        let sent = match self.questions.get() {
            Some(questions) => questions.try_send(question),
            None => Err(TrySendError::Full(question)),
        };
        if sent.is_err() {
            let text = "it has enough to answer already".to_owned();
            respond(caller, op, &Say::Denied { passing: true, text });
        }
    }
}

/// Answers until nobody can ask any more.
fn answer(mut source: Source, mut lender: ReplicaLender, queue: &Receiver<Question>) {
    let born = Instant::now();
    let now = || Micros(u64::try_from(born.elapsed().as_micros()).unwrap_or(u64::MAX));
    loop {
        match queue.recv_timeout(LOOK_TIME) {
            Ok(Question { caller, op, body }) => {
                let say = match Ask::decode(body) {
                    Ok(ask) => source.answer(now(), &mut lender, ask),
                    Err(error) => Say::Denied { passing: false, text: error.to_string() },
                };
                respond(&caller, op, &say);
            }
            Err(RecvTimeoutError::Timeout) => source.expire(now(), &mut lender),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn respond(caller: &Caller, op: u64, say: &Say) {
    let too_long = |error: outrigger_replica::rebuild::protocol::ProtocolError| {
        Say::Denied { passing: false, text: error.to_string() }.encode()
    };
    if let Ok(body) = say.encode().or_else(too_long) {
        caller.respond(op, body);
    }
}
