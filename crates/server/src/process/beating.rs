//! An instance's heartbeat: a thread for each of its addresses that answers whoever asks, from before its log is
//! read back.
//!
//! Guarantees: it waits for nothing but the socket and a lock that nobody holds for long; what is not
//! known is told as unknown; one answer a question, never longer than it; who asks the wrong instance
//! learns who is here. Not here: what is made of the answers (the coordinator's detector).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use outrigger_net::beat::{Beat, DATAGRAM_BYTES, Figures, Flapping, Phase, Ping};
use outrigger_net::config::Version;
use outrigger_replica::control::Identity;
use outrigger_replica::member::Role;
use outrigger_replica::runtime::{Replica, Status};
use outrigger_wal::Lsn;

use super::datagram;
use super::disk_probe::ProbeAge;
use crate::error::Error;

/// It looks this often whether it is to end, should the word that says so be lost.
const LOOK: Duration = Duration::from_millis(500);

/// Threads that answer; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Beating {
    heart: Arc<Heart>,
    ears: Vec<Ear>,
}

/// What hears on one address.
#[derive(Debug)]
struct Ear {
    wake: SocketAddr,
    thread: JoinHandle<()>,
}

/// What answers are made of.
struct Heart {
    identity: Identity,
    incarnation: u64,
    probe: Option<ProbeAge>,
    replica: OnceLock<Replica>,
    /// How far the log is read back, as long as there is no replica.
    progress: Arc<AtomicU64>,
    ends: AtomicBool,
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

impl Beating {
    /// Answers at `listen`, the addresses of the instance's port. `incarnation`: random, new with each
    /// start of the process.
    ///
    /// # Errors
    /// An address cannot be listened on, or no thread can be had.
    pub(crate) fn start(
        listen: &[impl AsRef<str>],
        identity: Identity,
        incarnation: u64,
        probe: Option<ProbeAge>,
        progress: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let ends = AtomicBool::new(false);
        let heart = Arc::new(Heart {
            identity,
            incarnation,
            probe,
            replica: OnceLock::new(),
            progress,
            ends,
        });
        let mut beating = Self { heart, ears: Vec::new() };
        for address in listen {
            let ear = Ear::open(address.as_ref(), &beating.heart);
            beating.ears.push(ear.map_err(|cause| Error::Peer {
                address: address.as_ref().to_owned(),
                what: "cannot be listened on for heartbeats (UDP)",
                cause: cause.to_string(),
                advice: "stop what uses it, or give another address",
            })?);
        }
        Ok(beating)
    }

    /// From now on it tells how this replica stands.
    pub(crate) fn opened(&self, replica: &Replica) {
        // There is one replica a process.
        self.heart.replica.set(replica.clone()).ok();
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.heart.ends.store(true, Ordering::SeqCst);
        for ear in &self.ears {
            let word = datagram::bound(SocketAddr::new(ear.wake.ip(), 0));
            // Lost: it looks by itself.
            word.and_then(|socket| socket.send_to(&[], ear.wake)).ok();
        }
        for ear in self.ears.drain(..) {
            if ear.thread.join().is_err() {
                tracing::error!("the heartbeat's thread ended badly");
            }
        }
    }
}

impl Ear {
    fn open(listen: &str, heart: &Arc<Heart>) -> std::io::Result<Self> {
        let socket = bind(listen)?;
        let mut wake = socket.local_addr()?;
        if wake.ip().is_unspecified() {
            wake.set_ip(Ipv4Addr::LOCALHOST.into());
            tracing::warn!(
                listen,
                "heartbeats are answered from the address that the system prefers: give one address"
            );
        }
        socket.set_read_timeout(Some(LOOK))?;
        let heart = Arc::clone(heart);
        let thread = thread::Builder::new();
        let thread = thread.name("beat".to_owned()).spawn(move || heart.answer(&socket))?;
        Ok(Self { wake, thread })
    }
}

impl Heart {
    fn answer(&self, socket: &UdpSocket) {
        // One byte more than a question has: a longer datagram shows.
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        while !self.ends.load(Ordering::SeqCst) {
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let asked = buffer.get(..len).unwrap_or_default();
                    if let Some(beat) = self.reply(asked)
                        && let Err(cause) = socket.send_to(&beat.encode(), from)
                    {
                        tracing::debug!(%from, %cause, "a heartbeat could not be sent");
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    // Of an earlier answer, whose asker has gone.
                    ErrorKind::ConnectionRefused => {}
                    _ => {
                        tracing::warn!(%error, "heartbeats cannot be received");
                        thread::park_timeout(LOOK);
                    }
                },
            }
        }
    }

    /// The answer; none to what is no question. Whoever asks for another instance, or in another cluster,
    /// is told who is here: it counts that as a stranger's.
    fn reply(&self, asked: &[u8]) -> Option<Beat> {
        let ping = match Ping::decode(asked) {
            Ok(ping) => ping,
            Err(error) => {
                tracing::debug!(%error, "a datagram is not answered");
                return None;
            }
        };
        let status = self.replica.get().map(Replica::status);
        Some(self.beat(ping.counter, status.as_ref()))
    }

    fn beat(&self, counter: u64, status: Option<&Status>) -> Beat {
        let Identity { cluster, content, instance, .. } = self.identity;
        Beat {
            cluster,
            content,
            instance,
            counter,
            incarnation: self.incarnation,
            phase: status.map_or(Phase::Recovering, phase),
            figures: status.map(figures),
            oldest_write_micros: status.map(|status| {
                status
                    .undurable_since_micros
                    .map_or(0, |since| status.at_micros.saturating_sub(since))
            }),
            stream_age_micros: status.and_then(|status| {
                let heard = status.stream_heard_micros?;
                Some(status.at_micros.saturating_sub(heard))
            }),
            recovering_at: match status {
                // Relaxed: a number to look at, nothing is ordered by it.
                None => Some(Lsn(self.progress.load(Ordering::Relaxed))),
                Some(_) => None,
            },
            probe_age_micros: self.probe.as_ref().map(ProbeAge::micros),
            flapping: status
                .and_then(|status| status.flapping)
                .map(|(copy, attempts)| Flapping { copy, attempts }),
            turns: status.map_or(0, |status| status.turns),
        }
    }
}

fn bind(listen: &str) -> std::io::Result<UdpSocket> {
    let mut last = std::io::Error::other("the name has no address");
    for address in listen.to_socket_addrs()? {
        match datagram::bound(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

const fn phase(status: &Status) -> Phase {
    if status.failed.is_some() {
        return Phase::Down;
    }
    match status.role {
        Role::Mirror => Phase::Mirror,
        Role::Rising => Phase::Rising,
        Role::Primary => Phase::Primary,
        Role::Down => Phase::Down,
        // It has no place yet, or one that this side has no word for.
        _ => Phase::Waiting,
    }
}

fn figures(status: &Status) -> Figures {
    Figures {
        epoch: status.epoch,
        version: status.config.as_ref().map_or(Version(0), |config| config.version),
        durable: status.durable,
        commit: status.commit,
        applied: status.applied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

    const IDENTITY: Identity = Identity {
        cluster: ClusterId(1),
        content: ContentId(2),
        instance: InstanceId(3),
        log: LogId(4),
        segment_bytes: 1 << 20,
    };

    fn asked(counter: u64) -> Ping {
        Ping {
            cluster: ClusterId(1),
            content: ContentId(2),
            from: InstanceId(9),
            to: InstanceId(3),
            counter,
            coordinator_epoch: 1,
        }
    }

    fn asker(to: SocketAddr) -> UdpSocket {
        let socket = datagram::bound("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.connect(to).unwrap();
        socket
    }

    #[test]
    fn an_instance_answers_before_its_log_is_read_back() {
        let beating = Beating::start(&["127.0.0.1:0"], IDENTITY, 7, None, Arc::default()).unwrap();
        let socket = asker(beating.ears[0].wake);
        let mut buffer = [0; 300];
        for counter in [1, 2, 3] {
            // What is no question gets no answer, and keeps nobody from getting one.
            socket.send(b"hello").unwrap();
            socket.send(&asked(counter).encode()).unwrap();
            let len = socket.recv(&mut buffer).unwrap();
            let beat = Beat::decode(&buffer[..len]).unwrap();
            assert_eq!((beat.counter, beat.incarnation), (counter, 7));
            assert_eq!((beat.phase, beat.figures), (Phase::Recovering, None));
            assert_eq!((beat.probe_age_micros, beat.recovering_at), (None, Some(Lsn(0))));
        }
    }

    #[test]
    fn an_instance_answers_on_each_of_its_networks() {
        let networks = ["127.0.0.1:0", "127.0.1.1:0"];
        let beating = Beating::start(&networks, IDENTITY, 7, None, Arc::default()).unwrap();
        for (ear, network) in beating.ears.iter().zip(networks) {
            assert!(network.starts_with(&ear.wake.ip().to_string()));
            let socket = asker(ear.wake);
            socket.send(&asked(5).encode()).unwrap();
            let mut buffer = [0; 300];
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(Beat::decode(&buffer[..len]).unwrap().counter, 5);
        }
        let all: Vec<_> = beating.ears.iter().map(|ear| asker(ear.wake)).collect();
        drop(beating);
        for socket in all {
            socket.send(&asked(6).encode()).unwrap();
            let refused = socket.recv(&mut [0; 300]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn who_asks_the_wrong_instance_learns_who_is_here() {
        let beating = Beating::start(&["127.0.0.1:0"], IDENTITY, 7, None, Arc::default()).unwrap();
        let socket = asker(beating.ears[0].wake);
        let wrong = Ping { to: InstanceId(77), cluster: ClusterId(66), ..asked(1) };
        socket.send(&wrong.encode()).unwrap();
        let mut buffer = [0; 300];
        let len = socket.recv(&mut buffer).unwrap();
        let beat = Beat::decode(&buffer[..len]).unwrap();
        assert_eq!((beat.cluster, beat.instance), (ClusterId(1), InstanceId(3)));
    }

    #[test]
    fn a_heart_that_stopped_leaves_its_port_and_askers_are_refused() {
        let beating = Beating::start(&["127.0.0.1:0"], IDENTITY, 7, None, Arc::default()).unwrap();
        let socket = asker(beating.ears[0].wake);
        drop(beating);
        socket.send(&asked(1).encode()).unwrap();
        let refused = socket.recv(&mut [0; 300]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_asker_that_drew_the_port_of_an_instance_does_not_keep_it_from_starting() {
        let other = Beating::start(&["127.0.0.1:0"], IDENTITY, 7, None, Arc::default()).unwrap();
        let taken = asker(other.ears[0].wake);
        let port = taken.local_addr().unwrap().to_string();
        let beating = Beating::start(&[&port], IDENTITY, 8, None, Arc::default()).unwrap();
        let socket = asker(beating.ears[0].wake);
        socket.send(&asked(1).encode()).unwrap();
        let mut buffer = [0; 300];
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(Beat::decode(&buffer[..len]).unwrap().incarnation, 8);
    }
}
