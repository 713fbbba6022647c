//! A coordinator's heartbeats on the wire: one connected socket for each instance that is asked.
//!
//! All of them run on one thread of their own, each with a task of its own: a name that does not resolve delays
//! nobody else. Of several addresses the first that answers is used.
//!
//! Guarantees: a host's word that nobody listens is told only when all addresses of an instance say so.
//! Not here: whom to ask and when, and what a beat means (the coordinator).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use outrigger_cluster::coordinator::In;
use outrigger_net::beat::{Beat, DATAGRAM_BYTES, Ping};
use outrigger_wal::InstanceId;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};

use super::datagram;
use crate::error::Error;

/// Questions that wait for one instance's socket; a further one is dropped, as the network may do.
const WAITING: usize = 4;
/// Unanswered questions after which the next address is tried, or the same one looked up again.
const PATIENCE: u32 = 3;
/// Where there are several addresses: they have to be tried within the time in which an instance may be silent.
const SHORT_PATIENCE: u32 = 2;

/// What answers are told to.
type Tell = Arc<dyn Fn(In) + Send + Sync>;

/// A thread that asks; it ends when this is dropped. Nothing in here blocks.
#[derive(Debug)]
pub(crate) struct Pinging {
    questions: UnboundedSender<Question>,
}

struct Question {
    addresses: Vec<String>,
    ping: Ping,
}

/// An instance's socket, from the asking side.
struct Line {
    addresses: Vec<String>,
    questions: Sender<[u8; DATAGRAM_BYTES]>,
}

impl Pinging {
    /// Asks nobody yet; from this address, or from any where it is none or unspecified. `tell` gets beats and refusals, on a thread of its own: it must not block.
    ///
    /// # Errors
    /// No thread or no network can be had.
    pub(crate) fn start(
        source: Option<IpAddr>,
        tell: impl Fn(In) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let runtime = super::runtime()?;
        let (questions, queue) = unbounded_channel();
        let source = source.filter(|source| !source.is_unspecified());
        let asking = Asking { source, tell: Arc::new(tell), lines: BTreeMap::new() };
        thread::Builder::new()
            .name("ping".to_owned())
            .spawn(move || {
                runtime.block_on(asking.run(queue));
                // A name that is being looked up must not keep the thread.
                runtime.shutdown_background();
            })
            .map_err(|cause| Error::System {
                what: "the thread that asks instances cannot be started",
                cause,
                advice: "check the limits of processes",
            })?;
        Ok(Self { questions })
    }

    /// Asks an instance at these addresses, `host:port`, in order of preference.
    pub(crate) fn ask(&self, addresses: Vec<String>, ping: &Ping) {
        if self.questions.send(Question { addresses, ping: *ping }).is_err() {
            tracing::error!("nobody asks the instances any more");
        }
    }
}

struct Asking {
    source: Option<IpAddr>,
    tell: Tell,
    lines: BTreeMap<InstanceId, Line>,
}

impl Asking {
    async fn run(mut self, mut queue: UnboundedReceiver<Question>) {
        while let Some(Question { addresses, ping }) = queue.recv().await {
            let line = self.line(ping.to, addresses);
            if line.questions.try_send(ping.encode()).is_err() {
                tracing::debug!(to = %ping.to, "a question is left out: those before it still wait");
            }
        }
    }

    fn line(&mut self, instance: InstanceId, addresses: Vec<String>) -> &Line {
        let same = self.lines.get(&instance).is_some_and(|line| line.addresses == addresses);
        if !same {
            self.lines.remove(&instance);
        }
        let (source, tell) = (self.source, Arc::clone(&self.tell));
        self.lines.entry(instance).or_insert_with(|| {
            let (questions, queue) = channel(WAITING);
            // The task ends with its queue, which the line owns.
            let talk = Talk {
                instance,
                addresses: addresses.clone(),
                source,
                tell,
                at: 0,
                unanswered: 0,
                refused: 0,
                socket: None,
            };
            tokio::spawn(talk.run(queue));
            Line { addresses, questions }
        })
    }
}

/// The conversation with one instance.
struct Talk {
    instance: InstanceId,
    addresses: Vec<String>,
    source: Option<IpAddr>,
    tell: Tell,
    /// Which address.
    at: usize,
    unanswered: u32,
    /// Addresses that refused, one behind the other.
    refused: usize,
    socket: Option<UdpSocket>,
}

impl Talk {
    async fn run(mut self, mut questions: Receiver<[u8; DATAGRAM_BYTES]>) {
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.ask(&question).await,
                    None => return,
                },
                got = receive(self.socket.as_ref(), &mut buffer) => match got {
                    Ok(len) => self.answered(buffer.get(..len).unwrap_or_default()),
                    Err(error) => self.failed(&error),
                },
            }
        }
    }

    async fn ask(&mut self, question: &[u8]) {
        let patience = if self.addresses.len() > 1 { SHORT_PATIENCE } else { PATIENCE };
        if self.unanswered >= patience {
            self.next_address();
        }
        self.unanswered = self.unanswered.saturating_add(1);
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => match self.connect().await {
                Ok(socket) => socket,
                Err(error) => return self.failed(&error),
            },
        };
        let mut sent = socket.send(question).await;
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            // That was said of the question before; this one was not sent.
            self.tell_refused();
            sent = socket.send(question).await;
        }
        self.socket = Some(socket);
        if let Err(error) = sent {
            self.failed(&error);
        }
    }

    fn answered(&mut self, datagram: &[u8]) {
        match Beat::decode(datagram) {
            Ok(beat) => {
                (self.unanswered, self.refused) = (0, 0);
                (self.tell)(In::Beat { from: self.instance, beat });
            }
            Err(error) => tracing::debug!(instance = %self.instance, %error, "no heartbeat"),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.tell_refused();
        } else {
            // A route or a name that is missing proves nothing about the instance: it is silent.
            tracing::debug!(instance = %self.instance, %error, "cannot be asked");
            self.next_address();
        }
    }

    fn tell_refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
        if self.refused >= self.addresses.len() {
            self.refused = 0;
            (self.tell)(In::Refused { instance: self.instance });
        }
        if self.addresses.len() > 1 {
            self.next_address();
        }
    }

    /// Where there is one address only, it is looked up again.
    fn next_address(&mut self) {
        self.socket = None;
        self.unanswered = 0;
        self.at = self.at.wrapping_add(1);
    }

    async fn connect(&self) -> io::Result<UdpSocket> {
        let at = self.at.checked_rem(self.addresses.len()).unwrap_or_default();
        let address =
            self.addresses.get(at).ok_or_else(|| io::Error::other("it has no address"))?;
        let to = lookup_host(address).await?.next();
        let to = to.ok_or_else(|| io::Error::other("its name has no address"))?;
        let any = if to.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        };
        let source = self.source.filter(|source| source.is_ipv4() == to.is_ipv4());
        let socket = datagram::bound(SocketAddr::new(source.unwrap_or(any), 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        UdpSocket::from_std(socket)
    }
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Plain;
    use std::sync::mpsc;

    use outrigger_replica::control::Identity;
    use outrigger_wal::{ClusterId, ContentId, LogId};

    use super::super::beating::Beating;
    use super::*;

    const A: InstanceId = InstanceId(3);
    const CONTENT: ContentId = ContentId(2);
    const CLUSTER: ClusterId = ClusterId(1);

    fn identity(cluster: ClusterId) -> Identity {
        Identity { cluster, content: CONTENT, instance: A, log: LogId(4), segment_bytes: 1 << 20 }
    }

    fn start() -> (Pinging, mpsc::Receiver<In>) {
        let (told, heard) = mpsc::channel();
        let told = parking_lot::Mutex::new(told);
        let tell = move |event| {
            told.lock().send(event).ok();
        };
        (Pinging::start(Some(IpAddr::from(Ipv4Addr::LOCALHOST)), tell).unwrap(), heard)
    }

    fn ping(counter: u64) -> Ping {
        let (cluster, content) = (CLUSTER, CONTENT);
        Ping { cluster, content, from: InstanceId(9), to: A, counter, coordinator_epoch: 1 }
    }

    /// An address on which nobody listens.
    fn free() -> String {
        Plain::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    #[test]
    fn a_process_that_ends_is_found_by_its_port() {
        let at = free();
        let beating = Beating::start(&[&at], identity(CLUSTER), 7, None, Arc::default()).unwrap();
        let (pinging, heard) = start();
        pinging.ask(vec![at.clone()], &ping(1));
        let In::Beat { from, beat } = heard.recv().unwrap() else { panic!() };
        assert_eq!((from, beat.incarnation, beat.counter), (A, 7, 1));
        drop(beating);
        pinging.ask(vec![at], &ping(2));
        assert!(matches!(heard.recv().unwrap(), In::Refused { instance: A }));
    }

    #[test]
    fn the_first_address_that_answers_is_used() {
        let at = free();
        let _beating = Beating::start(&[&at], identity(CLUSTER), 7, None, Arc::default()).unwrap();
        let (pinging, heard) = start();
        // One refuses, one does not resolve.
        let addresses = vec![free(), "no.such.host.invalid:1".to_owned(), at];
        let mut counter = 0;
        let beat = loop {
            counter += 1;
            pinging.ask(addresses.clone(), &ping(counter));
            if let Ok(In::Beat { beat, .. }) =
                heard.recv_timeout(std::time::Duration::from_millis(50))
            {
                break beat;
            }
        };
        assert_eq!(beat.incarnation, 7);
    }
}
