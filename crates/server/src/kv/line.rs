//! One connection of a client: a greeting, then questions and answers in any order.
//!
//! Guarantees: a question that was asked on a connection which ends is told so, once; answers that come
//! later go nowhere. Questions go out in the order in which they were asked.
//! Not here: whom to ask, and what to do when a connection ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_net::frame::{Limits, encode};
use outrigger_net::message::{Abilities, Envelope, History, Message, Role, Session};
use outrigger_net::transport::{Connection, Reader, Writer, connect_to_any};
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId};
use parking_lot::Mutex;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long connecting and greeting may take.
const GREETING_TIME: Duration = Duration::from_secs(3);
/// How long an open connection may bring nothing before it counts as gone.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// How often something is said on a quiet one.
const KEEPALIVE_TIME: Duration = Duration::from_secs(1);

/// The connection ended before an answer came; why, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// Whom to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Whom {
    /// Where it listens, in order of preference: the first that answers is used.
    pub(crate) addresses: Vec<String>,
    /// The cluster; nil where it is not known yet.
    pub(crate) cluster: ClusterId,
    /// The content.
    pub(crate) content: ContentId,
    /// The instance; nil where any will do.
    pub(crate) instance: InstanceId,
    /// As what.
    pub(crate) role: Role,
}

/// A connection that was greeted.
#[derive(Debug)]
pub(crate) struct Line {
    shared: Arc<Shared>,
    reading: AbortHandle,
    writing: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    envelope: Envelope,
    table: Mutex<Table>,
    outgoing: mpsc::UnboundedSender<Bytes>,
}

#[derive(Debug, Default)]
struct Table {
    asked: BTreeMap<u64, oneshot::Sender<Bytes>>,
    last_op: u64,
    /// Why the connection ended.
    broken: Option<String>,
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Bytes>,
}

impl Line {
    /// Connects and greets.
    ///
    /// # Errors
    /// Why there is no connection: the socket, a deadline, a refusal.
    pub(crate) async fn open(whom: &Whom) -> Result<Self, Broken> {
        Self::open_for(whom, IDLE_TIME).await
    }

    /// As [`Line::open`]; the connection may bring nothing for so long before it counts as gone.
    ///
    /// # Errors
    /// As [`Line::open`].
    pub(crate) async fn open_for(whom: &Whom, idle: Duration) -> Result<Self, Broken> {
        let broken = |error: &dyn std::fmt::Display| Broken(error.to_string());
        let greeting = async {
            let found = connect_to_any(&whom.addresses, GREETING_TIME).await;
            let (stream, _) = found.map_err(|error| broken(&error))?;
            stream.set_nodelay(true).map_err(|error| broken(&error))?;
            let mut connection = Connection::new(stream, idle, idle);
            let (envelope, hello) = hello(whom)?;
            let head = encode(&envelope, &hello).map_err(|error| broken(&error))?;
            connection.writer.send(head, Vec::new()).await.map_err(|error| broken(&error))?;
            let frame = connection.reader.next().await.map_err(|error| broken(&error))?;
            match frame.map(|frame| (frame.envelope, frame.message)) {
                Some((theirs, Message::Welcome { .. })) => {
                    Ok((connection, theirs, envelope.session))
                }
                Some((_, Message::Refuse { text, .. })) => Err(Broken(format!("refused: {text}"))),
                Some(_) => Err(Broken("it answered something else than a greeting".to_owned())),
                None => Err(Broken("it hung up without an answer".to_owned())),
            }
        };
        let (mut connection, theirs, session) = timeout(GREETING_TIME, greeting)
            .await
            .map_err(|_| Broken("no greeting within 3 s".to_owned()))??;
        connection.reader.open(Limits::REQUESTS);
        let envelope = Envelope { session, ..theirs };
        let (outgoing, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { envelope, table: Mutex::default(), outgoing });
        let keepalive = encode(&envelope, &Message::Keepalive).map_err(|error| broken(&error))?;
        let reading = tokio::spawn(read(Arc::clone(&shared), connection.reader)).abort_handle();
        let writing = tokio::spawn(write(Arc::clone(&shared), connection.writer, queue, keepalive))
            .abort_handle();
        Ok(Self { shared, reading, writing })
    }

    /// Asks; it is on its way, behind everything asked before, when this returns.
    ///
    /// # Errors
    /// [`Broken`]: the connection has ended, and nothing was sent.
    pub(crate) fn ask(&self, body: Bytes) -> Result<Asked, Broken> {
        let mut table = self.shared.table.lock();
        if let Some(why) = &table.broken {
            return Err(Broken(why.clone()));
        }
        table.last_op += 1;
        let op = table.last_op;
        let head = encode(&self.shared.envelope, &Message::Request { op, body })
            .map_err(|error| Broken(error.to_string()))?;
        let (tell, answer) = oneshot::channel();
        table.asked.insert(op, tell);
        // Under the lock, so that the order of numbers is the order of sending.
        drop(self.shared.outgoing.send(head));
        drop(table);
        Ok(Asked { shared: Arc::clone(&self.shared), answer })
    }

    /// Ends it: whoever waits for an answer is told so.
    pub(crate) fn end(&self, why: &str) {
        self.shared.end(why);
        self.reading.abort();
        self.writing.abort();
    }

    /// How many questions wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.table.lock().asked.len()
    }

    /// Whether it has ended.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.table.lock().broken.is_some()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end("the connection was given up");
    }
}

impl Asked {
    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Broken`]: the connection ended first; whether the question was heard is not known.
    pub(crate) async fn answer(self) -> Result<Bytes, Broken> {
        self.answer.await.map_err(|_| {
            let why = self.shared.table.lock().broken.clone();
            Broken(why.unwrap_or_else(|| "the connection ended".to_owned()))
        })
    }
}

impl Shared {
    fn end(&self, why: &str) {
        let mut table = self.table.lock();
        table.broken.get_or_insert_with(|| why.to_owned());
        // Whoever waits is told by the end of the channel.
        table.asked.clear();
    }
}

/// The first message of a client, and the envelope that all others are in.
pub(super) fn hello(whom: &Whom) -> Result<(Envelope, Message), Broken> {
    let session = getrandom::u64().map_err(|error| Broken(error.to_string()))?;
    let envelope = Envelope {
        cluster: whom.cluster,
        content: whom.content,
        epoch: Epoch::NONE,
        coordinator_epoch: 0,
        version: Version(0),
        session: Session(session),
    };
    let hello = Message::Hello {
        role: whom.role,
        from: InstanceId::default(),
        to: whom.instance,
        log: LogId::default(),
        abilities: Abilities::OURS,
        history: History::default(),
    };
    Ok((envelope, hello))
}

async fn read(shared: Arc<Shared>, mut reader: Reader<ReadHalf<TcpStream>>) {
    let why = loop {
        match reader.next().await {
            Ok(Some(frame)) => match frame.message {
                Message::Response { op, body } => {
                    let waiting = shared.table.lock().asked.remove(&op);
                    // Who asked may have given up.
                    waiting.map(|tell| tell.send(body).ok());
                }
                Message::Refuse { text, .. } => break format!("refused: {text}"),
                _ => {}
            },
            Ok(None) => break "it hung up".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    shared.end(&why);
}

async fn write(
    shared: Arc<Shared>,
    mut writer: Writer<WriteHalf<TcpStream>>,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    keepalive: Bytes,
) {
    loop {
        let head = match timeout(KEEPALIVE_TIME, queue.recv()).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(_) => keepalive.clone(),
        };
        if let Err(error) = writer.send(head, Vec::new()).await {
            return shared.end(&error.to_string());
        }
    }
}
