//! The coordinator's watch over all instances: the detector, and one connected socket for each.
//!
//! All of it runs on one thread of its own, the detector too: where that thread is starved, the detector
//! sees that it was woken late, and condemns nobody for it. Each instance has a task of its own: a name
//! that does not resolve delays nobody else. Of several addresses the first that answers is used.
//!
//! Guarantees: a host's word that nobody listens is told only when all addresses of an instance say so.
//! Not here: what a beat means (`detect`), what follows from it (`failover`).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_cluster::detect::{DetectOptions, Detector, In, Known, Out};
use outrigger_cluster::failover::CopySight;
use outrigger_net::beat::{Beat, DATAGRAM_BYTES, Ping};
use outrigger_net::config::Config;
use outrigger_wal::{ClusterId, ContentId, InstanceId, Micros};
use parking_lot::Mutex;
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

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The coordinator's instance.
    pub(crate) instance: InstanceId,
    /// The address to ask from; `None`: as the system prefers.
    pub(crate) source: Option<IpAddr>,
}

/// A thread that watches; it ends when this is dropped. Nothing in here blocks.
#[derive(Debug)]
pub(crate) struct Pinging {
    orders: UnboundedSender<Order>,
    detector: Arc<Mutex<Detector>>,
    epoch: Arc<AtomicU64>,
    born: Instant,
}

enum Order {
    Watch { instance: InstanceId, content: ContentId, addresses: Vec<String> },
    Tell(In),
}

/// An instance's socket, from the detector's side.
struct Line {
    addresses: Vec<String>,
    questions: Sender<[u8; DATAGRAM_BYTES]>,
}

impl Pinging {
    /// Watches nobody yet. `told` gets each change of a standing, and each stranger, on this thread: it
    /// must not block.
    ///
    /// # Errors
    /// No thread or no network can be had.
    pub(crate) fn start(
        asker: Asker,
        options: DetectOptions,
        told: impl Fn(Out) + Send + 'static,
    ) -> Result<Self, Error> {
        let runtime = super::runtime()?;
        let (orders, queue) = unbounded_channel();
        let (born, epoch) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let detector = Arc::new(Mutex::new(Detector::new(asker.cluster, options, Micros(0))));
        let watch = Watch {
            asker,
            told: Box::new(told),
            detector: Arc::clone(&detector),
            epoch: Arc::clone(&epoch),
            born,
            lines: BTreeMap::new(),
            orders: orders.downgrade(),
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                runtime.block_on(watch.run(queue));
                // A name that is being looked up must not keep the thread.
                runtime.shutdown_background();
            })
            .map_err(|cause| Error::System {
                what: "the thread that watches instances cannot be started",
                cause,
                advice: "check the limits of processes",
            })?;
        Ok(Self { orders, detector, epoch, born })
    }

    /// Watches an instance at these addresses, `host:port`, in order of preference. Repeating it, also with
    /// other addresses, is harmless.
    pub(crate) fn watch(&self, instance: InstanceId, content: ContentId, addresses: Vec<String>) {
        self.order(Order::Watch { instance, content, addresses });
    }

    /// Tells the detector what agents and connections say, and whom to forget.
    pub(crate) fn tell(&self, event: In) {
        self.order(Order::Tell(event));
    }

    /// The coordinator serves in this epoch.
    pub(crate) fn serve(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// All that is known of an instance.
    pub(crate) fn known(&self, instance: InstanceId) -> Option<Known> {
        self.detector.lock().known(instance)
    }

    /// What is known of a content's copies, for a decision at [`Pinging::now`].
    pub(crate) fn sights(&self, config: &Config) -> Vec<CopySight> {
        self.detector.lock().sights(config)
    }

    /// The clock of everything that is told.
    pub(crate) fn now(&self) -> Micros {
        since(self.born)
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("nobody watches the instances any more");
        }
    }
}

fn since(born: Instant) -> Micros {
    Micros(u64::try_from(born.elapsed().as_micros()).unwrap_or(u64::MAX))
}

struct Watch {
    asker: Asker,
    told: Box<dyn Fn(Out) + Send>,
    detector: Arc<Mutex<Detector>>,
    epoch: Arc<AtomicU64>,
    born: Instant,
    lines: BTreeMap<InstanceId, Line>,
    /// For the tasks, which must not keep the queue open.
    orders: tokio::sync::mpsc::WeakUnboundedSender<Order>,
}

impl Watch {
    async fn run(mut self, mut queue: UnboundedReceiver<Order>) {
        loop {
            let due = self.detector.lock().deadline();
            let wait = due.map(|due| Duration::from_micros(due.since(since(self.born))));
            let order = tokio::select! {
                order = queue.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => Order::Tell(In::Tick),
            };
            match order {
                Order::Watch { instance, content, addresses } => {
                    self.connect(instance, addresses);
                    self.step(In::Watch { instance, content });
                }
                Order::Tell(event) => {
                    self.step(event);
                    if let In::Forget { instance } = event {
                        self.lines.remove(&instance);
                    }
                }
            }
        }
    }

    fn step(&mut self, event: In) {
        let mut out = Vec::new();
        self.detector.lock().step(since(self.born), event, &mut out);
        for out in out {
            match out {
                Out::Ping { instance, content, counter } => self.ask(instance, content, counter),
                other => (self.told)(other),
            }
        }
    }

    fn ask(&self, instance: InstanceId, content: ContentId, counter: u64) {
        let Some(line) = self.lines.get(&instance) else { return };
        let ping = Ping {
            cluster: self.asker.cluster,
            content,
            from: self.asker.instance,
            to: instance,
            counter,
            coordinator_epoch: self.epoch.load(Ordering::Relaxed),
        };
        if line.questions.try_send(ping.encode()).is_err() {
            tracing::debug!(%instance, "a question is left out: those before it still wait");
        }
    }

    fn connect(&mut self, instance: InstanceId, addresses: Vec<String>) {
        if self.lines.get(&instance).is_some_and(|line| line.addresses == addresses) {
            return;
        }
        let (questions, queue) = channel(WAITING);
        let Some(answers) = self.orders.upgrade() else { return };
        // The task ends with its queue, which the line owns.
        let talk = Talk {
            instance,
            addresses: addresses.clone(),
            source: self.asker.source,
            answers: answers.downgrade(),
            at: 0,
            unanswered: 0,
            refused: 0,
            socket: None,
        };
        tokio::spawn(talk.run(queue));
        self.lines.insert(instance, Line { addresses, questions });
    }
}

/// The conversation with one instance.
struct Talk {
    instance: InstanceId,
    addresses: Vec<String>,
    source: Option<IpAddr>,
    answers: tokio::sync::mpsc::WeakUnboundedSender<Order>,
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
        if self.unanswered >= PATIENCE {
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
                self.tell(In::Beat { from: self.instance, beat });
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
            self.tell(In::Refused { instance: self.instance });
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

    fn tell(&self, event: In) {
        if let Some(answers) = self.answers.upgrade()
            && answers.send(Order::Tell(event)).is_err()
        {
            tracing::debug!("an answer comes behind the end");
        }
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

    use outrigger_cluster::detect::{Standing, Why};
    use outrigger_replica::control::Identity;
    use outrigger_wal::LogId;

    use super::super::beating::Beating;
    use super::*;

    const A: InstanceId = InstanceId(3);
    const CONTENT: ContentId = ContentId(2);
    const CLUSTER: ClusterId = ClusterId(1);

    fn identity(cluster: ClusterId) -> Identity {
        Identity { cluster, content: CONTENT, instance: A, log: LogId(4), segment_bytes: 1 << 20 }
    }

    fn options() -> DetectOptions {
        // The instances here are never open, and stay so: they must not count as stalled meanwhile.
        let mut options = DetectOptions::default();
        options.recovery_stall_millis = 3_600_000;
        options
    }

    fn watch() -> (Pinging, mpsc::Receiver<Out>) {
        let (told, heard) = mpsc::channel();
        let asker = Asker { cluster: CLUSTER, instance: InstanceId(9), source: None };
        let told = move |out| {
            told.send(out).ok();
        };
        let pinging = Pinging::start(asker, options(), told).unwrap();
        pinging.serve(1);
        (pinging, heard)
    }

    fn standing(heard: &mpsc::Receiver<Out>) -> Standing {
        loop {
            if let Out::StandingChanged { standing, .. } = heard.recv().unwrap() {
                return standing;
            }
        }
    }

    /// An address on which nobody listens.
    fn free() -> String {
        Plain::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    #[test]
    fn a_process_that_ends_is_found_by_its_port() {
        let at = free();
        let beating = Beating::start(&at, identity(CLUSTER), 7, None).unwrap();
        let (pinging, heard) = watch();
        pinging.watch(A, CONTENT, vec![at.clone()]);
        assert!(matches!(standing(&heard), Standing::Recovering { .. }));
        assert_eq!(pinging.known(A).unwrap().beat.unwrap().incarnation, 7);
        drop(beating);
        let found = loop {
            match standing(&heard) {
                Standing::Dead { why, .. } => break why,
                Standing::Suspect { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(found, Why::Refused);
        // A decision sees the same, on the same clock.
        let config = outrigger_cluster::authority::first_config(A, vec![at.clone()]);
        let sights = pinging.sights(&config);
        let Standing::Dead { since, .. } = sights[0].standing else { panic!("{sights:?}") };
        assert!(sights[0].heard && since <= pinging.now());
        // It starts again at the same address.
        let _beating = Beating::start(&at, identity(CLUSTER), 8, None).unwrap();
        assert!(matches!(standing(&heard), Standing::Recovering { .. }));
        assert_eq!(pinging.known(A).unwrap().beat.unwrap().incarnation, 8);
    }

    #[test]
    fn the_first_address_that_answers_is_used() {
        let at = free();
        let _beating = Beating::start(&at, identity(CLUSTER), 7, None).unwrap();
        let (pinging, heard) = watch();
        // One refuses, one does not resolve.
        let addresses = vec![free(), "no.such.host.invalid:1".to_owned(), at];
        pinging.watch(A, CONTENT, addresses);
        assert!(matches!(standing(&heard), Standing::Recovering { .. }));
    }

    #[test]
    fn another_clusters_instance_at_the_address_is_a_stranger() {
        let at = free();
        let _beating = Beating::start(&at, identity(ClusterId(66)), 7, None).unwrap();
        let (pinging, heard) = watch();
        pinging.watch(A, CONTENT, vec![at]);
        let Out::Stranger { instance, found } = heard.recv().unwrap() else { panic!() };
        assert_eq!((instance, found.cluster), (A, ClusterId(66)));
        assert!(!pinging.known(A).unwrap().standing.is_up());
    }

    #[test]
    fn who_is_forgotten_is_asked_no_more_and_the_thread_ends_with_its_owner() {
        let listener = Plain::bind("127.0.0.1:0").unwrap();
        let (pinging, heard) = watch();
        pinging.watch(A, CONTENT, vec![listener.local_addr().unwrap().to_string()]);
        let mut buffer = [0; 300];
        let len = listener.recv(&mut buffer).unwrap();
        let ping = Ping::decode(&buffer[..len]).unwrap();
        assert_eq!((ping.cluster, ping.to, ping.coordinator_epoch), (CLUSTER, A, 1));
        pinging.tell(In::Forget { instance: A });
        drop(pinging);
        // The thread held the other end.
        assert!(heard.iter().all(|out| matches!(out, Out::StandingChanged { .. })));
    }
}
