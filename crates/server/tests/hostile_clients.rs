//! Clients that send the most they may and never read an answer: what an instance or the coordinator holds for all of
//! them, and for a mirror that stands still, stays below 256 MiB with default settings.
//!
//! `cargo test -p outrigger-server --test hostile_clients -- --ignored --nocapture` is the long run, and
//! prints the peaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic; the long run tells its figures"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::config::Version;
use outrigger_net::frame::encode;
use outrigger_net::message::{Abilities, Envelope, History, Message, Role, Session};
use outrigger_replica::control::Identity;
use outrigger_replica::runtime::Replica;
use outrigger_wal::{ContentId, Epoch, InstanceId, LogId};
use support::{Cluster, Process, until};

/// What a process may hold: anonymous and shared memory.
const LIMIT: u64 = 256 << 20;
/// The default of `max_connections`, but for those that are needed to look at what happens.
const CONNECTIONS: usize = 32 - 4;
/// The largest value.
const VALUE_BYTES: usize = 960 * 1024;
/// A process that takes nothing for so long does not read: a bound of this test, not of what it tests.
const STUCK: Duration = Duration::from_millis(500);

/// The most memory that processes were seen to hold, until this is dropped.
struct Peaks {
    seen: Arc<Vec<(u32, AtomicU64)>>,
    stop: Arc<AtomicBool>,
}

impl Peaks {
    fn of(processes: &[&Process]) -> Self {
        let seen: Vec<_> =
            processes.iter().map(|process| (process.id(), AtomicU64::new(0))).collect();
        let (seen, stop) = (Arc::new(seen), Arc::new(AtomicBool::new(false)));
        let (look, done) = (Arc::clone(&seen), Arc::clone(&stop));
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for (id, peak) in &*look {
                    peak.fetch_max(held(*id), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { seen, stop }
    }

    fn bytes(&self) -> Vec<u64> {
        self.seen.iter().map(|(_, peak)| peak.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Peaks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Anonymous and shared memory of a process, in bytes.
fn held(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    };
    (kib("RssAnon:") + kib("RssShmem:")) << 10
}

/// What a client sends without end.
#[derive(Clone, Copy)]
enum Flood {
    /// Questions whose answers are the largest.
    Gets,
    /// Rows of the largest size.
    Puts,
    /// Requests that mean nothing, each answered by a few bytes.
    Nonsense,
}

/// A client that greets, and reads no more from then on.
struct Hostile {
    stream: TcpStream,
    envelope: Envelope,
    op: u64,
}

impl Hostile {
    /// One that is let in, if it is.
    fn greet(address: &str, who: &Identity, content: ContentId) -> Option<Self> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_write_timeout(Some(STUCK)).ok()?;
        let envelope = Envelope {
            cluster: who.cluster,
            content,
            epoch: Epoch::NONE,
            coordinator_epoch: 0,
            version: Version(0),
            session: Session(1),
        };
        let hello = Message::Hello {
            role: Role::Client,
            from: InstanceId::default(),
            to: InstanceId::default(),
            log: LogId::default(),
            abilities: Abilities::OURS,
            history: History::default(),
        };
        stream.write_all(&encode(&envelope, &hello).unwrap()).ok()?;
        // A welcome, or a part of it.
        let welcomed = stream.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0);
        welcomed.then_some(Self { stream, envelope, op: 0 })
    }

    fn request(&mut self, body: &Bytes) -> Bytes {
        self.op += 1;
        encode(&self.envelope, &Message::Request { op: self.op, body: body.clone() }).unwrap()
    }

    /// Sends until so many bytes are sent, or the instance takes no more of them.
    fn flood(&mut self, flood: Flood, bytes: usize) {
        let body = match flood {
            Flood::Gets => get("large"),
            Flood::Puts => put(self.op, "large"),
            Flood::Nonsense => Bytes::from_static(b"\x01\xff"),
        };
        let mut sent = 0;
        while sent < bytes {
            let request = self.request(&body);
            if self.stream.write_all(&request).is_err() {
                return;
            }
            sent += request.len();
        }
        // The largest frame, but for its last byte: its room is held until it comes.
        let request = self.request(&put(self.op, "half"));
        let sent = self.stream.write_all(&request[..request.len() - 1]);
        // One that is full, or that hung up, has been given what it takes.
        drop(sent);
    }
}

fn get(key: &str) -> Bytes {
    let mut body = vec![1, 2];
    body.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
    body.extend_from_slice(key.as_bytes());
    body.into()
}

/// A write of one row of the largest size, by a client without a name.
fn put(sequence: u64, key: &str) -> Bytes {
    let mut body = vec![2, 1];
    body.extend_from_slice(&0_u128.to_le_bytes());
    body.extend_from_slice(&sequence.to_le_bytes());
    // By the first map.
    body.extend_from_slice(&1_u64.to_le_bytes());
    body.extend_from_slice(&1_u16.to_le_bytes());
    body.push(1);
    body.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
    body.extend_from_slice(key.as_bytes());
    body.extend_from_slice(&u32::try_from(VALUE_BYTES).unwrap().to_le_bytes());
    body.resize(body.len() + VALUE_BYTES, b'x');
    body.into()
}

/// All of them at once, each with one kind of flood after the other.
fn attack(cluster: &Cluster, kinds: &[Flood], bytes: usize) -> Vec<Hostile> {
    let who = Replica::identity(&cluster.home.path().join("one")).unwrap();
    flood(&cluster.primary.address, &who, (who.content, CONNECTIONS), kinds, bytes)
}

fn flood(
    address: &str,
    who: &Identity,
    (content, count): (ContentId, usize),
    kinds: &[Flood],
    bytes: usize,
) -> Vec<Hostile> {
    // Those of an earlier round may still be on their way out.
    let mut clients = Vec::new();
    until(|| {
        clients.extend(Hostile::greet(address, who, content));
        clients.len() == count
    });
    thread::scope(|scope| {
        for (client, kind) in clients.iter_mut().zip(kinds.iter().cycle()) {
            scope.spawn(move || client.flood(*kind, bytes));
        }
    });
    clients
}

fn cluster() -> Cluster {
    let cluster = Cluster::start_with("");
    let file = cluster.path("rows.csv");
    // The row that is asked for: as large as a row may be.
    let pad = "x".repeat(VALUE_BYTES - 64);
    std::fs::write(&file, format!("id,pad\nlarge,{pad}\n")).unwrap();
    cluster.ask(&["kv", "load", &file, "--key", "id"]).ok();
    cluster
}

fn told(peaks: &Peaks, what: &str) {
    let mib: Vec<_> = peaks.bytes().iter().map(|bytes| bytes >> 20).collect();
    println!("{what}: primary {} MiB, mirror {} MiB", mib[0], mib[1]);
    assert!(peaks.bytes().iter().all(|bytes| *bytes < LIMIT), "{what}: {mib:?} MiB");
}

#[test]
fn clients_that_never_read_do_not_make_an_instance_hold_much() {
    // As many as may be there, a third each of questions, rows and nonsense.
    let cluster = cluster();
    let peaks = Peaks::of(&[&cluster.primary, &cluster.mirror]);
    let clients = attack(&cluster, &[Flood::Gets, Flood::Puts, Flood::Nonsense], 4 << 20);
    told(&peaks, "all kinds");
    // Others are served all the while.
    assert!(!cluster.ask(&["kv", "get", "large"]).ok().is_empty());
    drop(clients);
}

#[test]
fn clients_that_never_read_do_not_make_the_coordinator_hold_much() {
    // The same through the router: it holds their requests, and the answers that they do not take.
    let cluster = cluster();
    let peaks = Peaks::of(&[&cluster.coordinator, &cluster.primary]);
    let who = Replica::identity(&cluster.home.path().join("one")).unwrap();
    let kinds = [Flood::Gets, Flood::Puts, Flood::Nonsense];
    let clients = flood(&cluster.coordinator.address, &who, (ContentId(-1), 64), &kinds, 4 << 20);
    let mib: Vec<_> = peaks.bytes().iter().map(|bytes| bytes >> 20).collect();
    println!("coordinator {} MiB, primary {} MiB", mib[0], mib[1]);
    assert!(peaks.bytes().iter().all(|bytes| *bytes < LIMIT), "{mib:?} MiB");
    // Others are served all the while.
    assert!(cluster.ask(&["kv", "put", "other", "row"]).ok().starts_with("committed"));
    assert_eq!(cluster.ask(&["kv", "get", "other"]).ok(), "row\n");
    drop(clients);
}

#[test]
#[ignore = "takes minutes; .ci/soak runs it"]
fn whatever_clients_and_a_mirror_do_an_instance_holds_less_than_its_limit() {
    for kinds in [
        &[Flood::Gets][..],
        &[Flood::Puts],
        &[Flood::Nonsense],
        &[Flood::Gets, Flood::Puts, Flood::Nonsense],
    ] {
        for frozen in [false, true] {
            let cluster = cluster();
            let peaks = Peaks::of(&[&cluster.primary, &cluster.mirror]);
            if frozen {
                cluster.mirror.freeze();
            }
            for _ in 0..3 {
                drop(attack(&cluster, kinds, 48 << 20));
            }
            let names: Vec<_> = kinds
                .iter()
                .map(|kind| match kind {
                    Flood::Gets => "questions",
                    Flood::Puts => "rows",
                    Flood::Nonsense => "nonsense",
                })
                .collect();
            told(&peaks, &format!("{}, mirror frozen: {frozen}", names.join(" and ")));
        }
    }
}
