//! A client of rows: asks through the coordinator's port, or one primary straight, and follows failovers.
//!
//! Guarantees: a write that ends [`Committed`](Place) took effect exactly once; one that ends refused has no
//! effect, ever. A write whose connection broke is asked for by its name on whoever is the primary then:
//! when it is unknown there, it is settled, and sent again under a new name. Writes enter the log in the order in which
//! they were begun, on each content, but for those that have to be sent again: who needs the order of two
//! writes waits for the first. Every wait is bounded.
//!
//! # Names
//! One count of writes goes over all contents (see [`super::protocol`] for why a name must mean one write
//! everywhere), and [`MAX_OPEN`] bounds how far the newest is from the oldest that is not decided. On any one content
//! there are no more between them, so no window drops a name that may still be asked for. The price: while one content
//! fails over, a client goes on with the others for that many writes only.
//!
//! Not here: the bytes ([`super::protocol`]), connections ([`super::finding`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_replica::store::kv::{ClientId, Op, Write};
use outrigger_wal::format::record_frame_bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::finding::{Finding, Route};
use super::line::{Asked, Broken, Line};
use super::protocol::{Answer, Change, Place, Request};

/// How many names of writes may be open, from the oldest undecided one on: what the store remembers.
pub(crate) const MAX_OPEN: u64 = 64;
/// Before the primary is looked for again: at first, and at most.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LONGEST_RETRY: Duration = Duration::from_millis(20);

/// An answer that takes longer may never come: whether another copy serves is asked meanwhile.
const DOUBT_TIME: Duration = Duration::from_millis(200);

/// Waits between tries, each a quarter longer than the one before: what is over soon is found soon, and what takes
/// long is not hammered.
#[derive(Debug)]
struct Retry(Duration);

impl Retry {
    const fn new() -> Self {
        Self(FIRST_RETRY)
    }

    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = LONGEST_RETRY.min(self.0 + self.0 / 4);
    }
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub(crate) struct ClientOptions {
    /// The addresses of the coordinator and its standby; the one that serves is found.
    pub(crate) coordinators: Vec<String>,
    /// Which way requests go.
    pub(crate) route: Route,
    /// How long one request may take, failovers included.
    pub(crate) patience: Duration,
}

/// Why a request did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// It has no effect, now and later.
    #[error("refused: {0}")]
    Refused(String),
    /// It may have taken effect, or may still; where it was, as far as that is known.
    #[error("in doubt: {0}")]
    InDoubt(String),
    /// It was not carried out: no primary answered in time.
    #[error("{0}")]
    Unavailable(String),
}

/// A client of rows. Clones are the same client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    patience: Duration,
    finding_out: Finding,
    id: ClientId,
    names: Mutex<Names>,
    /// A name was given back.
    freed: Notify,
    line: Mutex<Option<Arc<Line>>>,
    /// Held while the primary is looked for: one at a time.
    finding: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Names {
    last: u64,
    open: BTreeSet<u64>,
}

/// A write's number, open until this is dropped.
#[derive(Debug)]
struct Name {
    shared: Arc<Shared>,
    sequence: u64,
}

impl Name {
    /// It is decided, and no longer open.
    fn close(&self) {
        self.shared.names.lock().open.remove(&self.sequence);
        self.shared.freed.notify_waiters();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.close();
    }
}

/// A write that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    shared: Arc<Shared>,
    changes: Vec<Change>,
    name: Name,
    /// The map that was named last.
    map: u64,
    deadline: Instant,
    /// The connection and the answer on its way; `None`: it could not be sent.
    asked: Option<(Arc<Line>, Asked)>,
    /// Why it can never be sent.
    unsendable: Option<String>,
}

impl Client {
    /// A new client, with a name of its own.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new(options: ClientOptions) -> Result<Self, crate::error::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| crate::error::Error::System {
            what: "a name for this client cannot be drawn",
            cause: std::io::Error::other(error.to_string()),
            advice: "check the system's random source",
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                patience: options.patience,
                finding_out: Finding::new(options.coordinators, options.route),
                id: ClientId(u128::from_le_bytes(id)),
                names: Mutex::default(),
                freed: Notify::new(),
                line: Mutex::default(),
                finding: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// Begins a write: it is on its way, behind those begun before, when this returns. Waits while
    /// too many names are open.
    pub(crate) async fn begin(&self, changes: Vec<Change>) -> Begun {
        let shared = &self.shared;
        let name = shared.name().await;
        let deadline = Instant::now() + shared.patience;
        let line = shared.current_line();
        let line = match line {
            Some(line) => Some(line),
            None => shared.line(deadline).await.ok(),
        };
        // Behind the connection: making it tells the map.
        let map = shared.finding_out.map();
        let request = Request::Write {
            client: shared.id.0,
            sequence: name.sequence,
            map,
            changes: changes.clone(),
        };
        let (body, unsendable) = match request.encode() {
            Ok(body) => (Some(body), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let asked = line.zip(body).and_then(|(line, body)| {
            let asked = line.ask(body).ok()?;
            Some((line, asked))
        });
        Begun { shared: Arc::clone(shared), changes, name, map, deadline, asked, unsendable }
    }

    /// Carries a write out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<Place, ClientError> {
        self.begin(changes).await.end().await
    }

    /// Asks a question that changes nothing.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], or [`ClientError::Refused`] when it cannot be answered.
    pub(crate) async fn read(&self, request: &Request) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.shared.patience;
        let body = request.encode().map_err(|error| ClientError::Refused(error.to_string()))?;
        let mut retry = Retry::new();
        loop {
            match self.shared.ask(body.clone(), deadline).await {
                Ok(Answer::Failed { text }) => return Err(ClientError::Refused(text)),
                Ok(Answer::NotPrimary { .. } | Answer::Busy) => retry.wait().await,
                Ok(Answer::Moved { .. }) => return Err(ClientError::Refused(moved())),
                Ok(answer) => return Ok(answer),
                Err(Ended::Late(text)) => return Err(ClientError::Unavailable(text)),
                Err(Ended::Broken) => {}
            }
        }
    }
}

fn moved() -> String {
    "the content does not hold this row; ask without --direct".to_owned()
}

/// Why a question has no answer.
enum Ended {
    /// The connection broke; the question may have been heard.
    Broken,
    /// Time is over.
    Late(String),
}

impl Begun {
    /// Waits until the write is decided.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn end(mut self) -> Result<Place, ClientError> {
        if let Some(text) = self.unsendable.take() {
            return Err(ClientError::Refused(text));
        }
        let mut answer = match self.asked.take() {
            None => Err(Ended::Broken),
            Some((line, asked)) => self.shared.hear(&line, asked, self.deadline).await,
        };
        let mut retry = Retry::new();
        loop {
            // A write that was never heard of is settled like one that is in doubt.
            match answer {
                Ok(Answer::Committed(place)) => return Ok(self.placed(place)),
                Ok(Answer::Refused { text }) => return Err(ClientError::Refused(text)),
                Ok(Answer::Failed { text }) => return Err(ClientError::Refused(text)),
                Ok(Answer::Moved { .. }) if !self.shared.finding_out.is_by_key() => {
                    return Err(ClientError::Refused(moved()));
                }
                // It was not appended; the same name goes by the newer map.
                Ok(Answer::Moved { map }) => {
                    if map <= self.map {
                        retry.wait().await;
                    }
                    self.shared.finding_out.heard_of(map);
                    answer = self.send_again().await;
                    continue;
                }
                // It was not appended; the same name goes to the next one.
                Ok(Answer::NotPrimary { .. } | Answer::Busy) => {
                    retry.wait().await;
                    answer = self.send_again().await;
                    continue;
                }
                Ok(_) | Err(Ended::Broken) => {}
                Err(Ended::Late(text)) => return Err(ClientError::InDoubt(text)),
            }
            match self.settle().await? {
                Some(place) => return Ok(self.placed(place)),
                None => {
                    // Refused for good: it may go again, under a new name. The old one is given
                    // back first: new names are held to a distance from the oldest open one.
                    self.name.close();
                    self.name = self.shared.name().await;
                    answer = self.send_again().await;
                }
            }
        }
    }

    /// Decides the write on whoever is the primary: its place, or `None` when it has no effect and
    /// never will.
    async fn settle(&self) -> Result<Option<Place>, ClientError> {
        let (client, sequence) = (self.shared.id.0, self.name.sequence);
        let encode = |request: Request| {
            request.encode().map_err(|error| ClientError::InDoubt(error.to_string()))
        };
        // Everyone who may have got it by the map that it named is asked.
        let map = self.map;
        let by_key = self.shared.finding_out.is_by_key();
        let key = || self.changes.first().filter(|_| by_key).map(|change| change.key().clone());
        let outcome = encode(Request::Outcome { client, sequence, map, key: key() })?;
        let settle = encode(Request::Settle { client, sequence, map, key: key() })?;
        let mut body = &outcome;
        let mut retry = Retry::new();
        loop {
            match self.shared.ask(body.clone(), self.deadline).await {
                Ok(Answer::Committed(place)) => return Ok(Some(place)),
                Ok(Answer::Refused { .. }) => return Ok(None),
                Ok(Answer::Unknown) => body = &settle,
                Ok(Answer::TooOld) => {
                    let text = "the primary does not remember so far back";
                    return Err(ClientError::InDoubt(text.to_owned()));
                }
                Ok(Answer::Failed { text }) => return Err(ClientError::InDoubt(text)),
                Ok(_) => retry.wait().await,
                Err(Ended::Broken) => body = &outcome,
                Err(Ended::Late(text)) => return Err(ClientError::InDoubt(text)),
            }
        }
    }

    async fn send_again(&mut self) -> Result<Answer, Ended> {
        // ORDER: the connection first, because a new one may tell a newer map.
        self.shared.line(self.deadline).await?;
        self.map = self.map.max(self.shared.finding_out.map());
        let request = Request::Write {
            client: self.shared.id.0,
            sequence: self.name.sequence,
            map: self.map,
            changes: self.changes.clone(),
        };
        let body = request.encode().map_err(|error| Ended::Late(error.to_string()))?;
        self.shared.ask(body, self.deadline).await
    }

    /// Where the last record starts, which an outcome does not tell.
    fn placed(&self, place: Place) -> Place {
        let bytes = self.changes.last().and_then(|change| self.record_bytes(change));
        Place { lsn: place.end.saturating_sub(bytes.unwrap_or(0)), ..place }
    }

    fn record_bytes(&self, change: &Change) -> Option<u64> {
        let op = match change.clone() {
            Change::Put { key, value } => Op::Put { key, value },
            Change::Delete { key } => Op::Delete { key },
        };
        let write = Write { client: self.shared.id, sequence: self.name.sequence, op };
        Some(record_frame_bytes(write.encode().ok()?.len()))
    }
}

impl Shared {
    /// The next name, as soon as it is not too far from the oldest open one.
    async fn name(self: &Arc<Self>) -> Name {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no call is missed.
            freed.as_mut().enable();
            {
                let mut names = self.names.lock();
                let next = names.last + 1;
                if names.open.first().is_none_or(|oldest| next - oldest < MAX_OPEN) {
                    names.last = next;
                    names.open.insert(next);
                    return Name { shared: Arc::clone(self), sequence: next };
                }
            }
            freed.await;
        }
    }

    async fn ask(&self, body: Bytes, deadline: Instant) -> Result<Answer, Ended> {
        let line = self.line(deadline).await?;
        let asked = line.ask(body).map_err(|_| Ended::Broken)?;
        self.hear(&line, asked, deadline).await
    }

    /// Waits for an answer; a copy that does not serve is not asked again.
    async fn hear(
        &self,
        line: &Arc<Line>,
        asked: Asked,
        deadline: Instant,
    ) -> Result<Answer, Ended> {
        let answered = tokio::select! {
            biased;
            answered = timeout_at(deadline, asked.answer()) => answered,
            found = self.doubt() => {
                *self.line.lock() = Some(found);
                line.end("another copy serves");
                return Err(Ended::Broken);
            }
        };
        let answer = match answered {
            Ok(Ok(body)) => Answer::decode(body).map_err(|error| Ended::Late(error.to_string()))?,
            Ok(Err(_)) => return Err(Ended::Broken),
            Err(_) => return Err(Ended::Late("the primary did not answer in time".to_owned())),
        };
        if matches!(answer, Answer::NotPrimary { .. }) {
            let mut current = self.line.lock();
            self.finding_out.try_next();
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, line)) {
                *current = None;
            }
        }
        Ok(answer)
    }

    /// A connection to another copy that serves, once there is one: who is cut off says nothing. Never ends where the
    /// coordinator's port is asked, which waits for a primary itself.
    async fn doubt(&self) -> Arc<Line> {
        if !self.finding_out.has_others() {
            return std::future::pending().await;
        }
        loop {
            sleep(DOUBT_TIME).await;
            // One asks for all who wait.
            let Ok(_one) = self.finding.try_lock() else { continue };
            if let Some(line) = self.finding_out.elsewhere().await {
                return line;
            }
        }
    }

    fn current_line(&self) -> Option<Arc<Line>> {
        self.line.lock().clone().filter(|line| !line.is_broken())
    }

    /// The connection to the primary, as soon as there is one.
    async fn line(&self, deadline: Instant) -> Result<Arc<Line>, Ended> {
        let mut why = "no connection to the primary yet".to_owned();
        let mut retry = Retry::new();
        loop {
            if let Some(line) = self.current_line() {
                return Ok(line);
            }
            let finding = timeout_at(deadline, async {
                let _one = self.finding.lock().await;
                match self.current_line() {
                    Some(line) => Ok(line),
                    None => self.find().await,
                }
            });
            match finding.await {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(Broken(cause))) => why = cause,
                Err(_) => return Err(self.late(&why)),
            }
            if Instant::now() + retry.0 >= deadline {
                return Err(self.late(&why));
            }
            retry.wait().await;
        }
    }

    async fn find(&self) -> Result<Arc<Line>, Broken> {
        let line = self.finding_out.find().await?;
        *self.line.lock() = Some(Arc::clone(&line));
        Ok(line)
    }

    fn late(&self, why: &str) -> Ended {
        Ended::Late(format!("nothing within {} ms: {why}", self.patience.as_millis()))
    }
}
