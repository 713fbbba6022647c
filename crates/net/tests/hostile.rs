//! Hostile, broken and silent peers on real sockets: dropped by their deadline, counted, and nobody
//! else notices.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod peers;
mod samples;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_net::Error;
use outrigger_net::message::Message;
use outrigger_net::transport::{Dialer, Listener, PeerEvent, Settings, dial};
use outrigger_wal::Lsn;
use peers::{Events, events, head, open, send, shake_hands};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

async fn listen(settings: &Settings) -> (Listener, Events) {
    let (on_event, events) = events();
    (Listener::bind("127.0.0.1:0", settings.clone(), on_event).await.unwrap(), events)
}

fn dial_one(to: SocketAddr, settings: &Settings) -> (Dialer, Events) {
    let (on_event, events) = events();
    (dial(vec![to.to_string()], settings.clone(), on_event), events)
}

/// Reads until the other side closes or resets; what it sent.
async fn until_dropped(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match stream.read_to_end(&mut got).await {
        Ok(_) => got,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            got
        }
    }
}

fn claims(meta_len: u32, body_len: u32) -> Vec<u8> {
    let mut wire = head(&samples::hello(1)).to_vec();
    wire[8..12].copy_from_slice(&meta_len.to_le_bytes());
    wire[12..16].copy_from_slice(&body_len.to_le_bytes());
    let crc = crc32fast::hash(&wire[..28]);
    wire[28..32].copy_from_slice(&crc.to_le_bytes());
    wire
}

#[tokio::test]
async fn whoever_speaks_no_frames_is_dropped_at_once_and_counted() {
    let (listener, mut events) = listen(&Settings::default()).await;
    let mut flipped = head(&samples::hello(1)).to_vec();
    flipped[60] ^= 1;
    let hostile = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec(),
        vec![0; 4096],
        (0..1024_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).wrapping_add(1).to_be_bytes())
            .collect(),
        claims(u32::MAX, 0),
        claims(100, u32::MAX),
        head(&Message::Commit { commit: Lsn(1), keep: Lsn(0) }).to_vec(),
        flipped,
    ];
    let count = hostile.len() as u64;
    for bytes in hostile {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert!(until_dropped(&mut stream).await.is_empty(), "no answer");
        let outbox = events.connected().await;
        let (id, error) = events.closed().await;
        assert_eq!(id, outbox.id());
        assert!(error.is_some_and(|error| error.is_hostile()));
    }
    let seen = listener.counters();
    assert_eq!((seen.accepted, seen.hostile, seen.closed), (count, count, count));
    assert_eq!((seen.opened, seen.timed_out, seen.evicted, seen.over_limit), (0, 0, 0, 0));
}

#[tokio::test]
async fn silent_and_slow_peers_are_dropped_at_the_deadline_and_disturb_nobody() {
    let settings = Settings::default();
    let (listener, mut acceptor) = listen(&settings).await;
    let mut silent = Vec::new();
    for said in [0, 1, 31, 32, 100] {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        stream.write_all(&head(&samples::hello(1))[..said]).await.unwrap();
        drop(acceptor.connected().await);
        silent.push(stream);
    }
    let (_dialer, mut dialler) = dial_one(listener.local_addr(), &settings);
    let (dialled, _accepted) = shake_hands(&mut dialler, &mut acceptor).await;

    tokio::time::pause();
    let began = Instant::now();
    for stream in &mut silent {
        assert!(until_dropped(stream).await.is_empty());
    }
    // Timers are rounded up to a millisecond.
    assert!(began.elapsed() <= Duration::from_millis(settings.handshake_millis + 1));
    tokio::time::resume();

    send(&dialled, &Message::Commit { commit: Lsn(7), keep: Lsn(0) });
    let mut dropped = 0;
    loop {
        match acceptor.next().await {
            PeerEvent::Closed { error: Some(Error::TimedOut { .. }), .. } => dropped += 1,
            PeerEvent::Frame { frame, .. } if frame.message == Message::Keepalive => {}
            PeerEvent::Frame { frame, .. } => {
                assert_eq!(frame.message, Message::Commit { commit: Lsn(7), keep: Lsn(0) });
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(dropped, silent.len());
    assert_eq!(listener.counters().timed_out, silent.len() as u64);
    assert_eq!(listener.counters().opened, 1);
}

#[tokio::test]
async fn silent_peers_cannot_shut_out_those_who_greet() {
    let settings = Settings { max_strangers: 4, ..Settings::default() };
    let (listener, mut acceptor) = listen(&settings).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(listener.local_addr()).await.unwrap());
    }
    let mut evicted = 0;
    let mut connected = 0;
    while evicted < 16 || connected < 20 {
        match acceptor.next().await {
            PeerEvent::Closed { error, .. } => {
                assert!(matches!(error, Some(Error::Evicted)));
                evicted += 1;
            }
            PeerEvent::Connected { .. } => connected += 1,
            other => panic!("{other:?}"),
        }
    }
    let (_dialer, mut dialler) = dial_one(listener.local_addr(), &settings);
    let dialled = dialler.connected().await;
    send(&dialled, &samples::hello(1));
    let (mut accepted, mut evicted) = (None, false);
    let accepted = loop {
        match acceptor.next().await {
            PeerEvent::Connected { outbox, .. } => accepted = Some(outbox),
            PeerEvent::Closed { error: Some(Error::Evicted), .. } => evicted = true,
            PeerEvent::Frame { frame, .. } => {
                assert_eq!(frame.message, samples::hello(1));
                break accepted.unwrap();
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(evicted, "one more made room");
    open(&accepted);
    assert_eq!(listener.counters().evicted, 17);
}

#[tokio::test]
async fn no_more_connections_are_open_than_allowed() {
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let (listener, mut acceptor) = listen(&settings).await;
    let (_dialer, mut dialler) = dial_one(listener.local_addr(), &settings);
    let (_dialled, _accepted) = shake_hands(&mut dialler, &mut acceptor).await;
    let mut second = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert!(until_dropped(&mut second).await.is_empty());
    assert_eq!(listener.counters().over_limit, 1);
}

#[tokio::test]
async fn a_listener_ends_with_its_connections_and_frees_its_port() {
    let settings = Settings::default();
    let (listener, mut acceptor) = listen(&settings).await;
    let address = listener.local_addr();
    let (_dialer, mut dialler) = dial_one(address, &settings);
    let (_dialled, accepted) = shake_hands(&mut dialler, &mut acceptor).await;
    drop(listener);
    assert_eq!(acceptor.closed().await.0, accepted.id());
    drop(dialler.closed().await);

    // The dialer comes back by itself, as soon as somebody listens there again.
    let (on_event, mut acceptor) = events();
    let _listener = Listener::bind(&address.to_string(), settings, on_event).await.unwrap();
    loop {
        match dialler.next().await {
            PeerEvent::Unreachable { .. } => {}
            PeerEvent::Connected { outbox, .. } => {
                send(&outbox, &samples::hello(3));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let _outbox = acceptor.connected().await;
    assert_eq!(acceptor.frame().await.0.message, samples::hello(3));
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let (listener, _events) = listen(&Settings::default()).await;
    let (on_event, _) = events();
    let address = listener.local_addr().to_string();
    let second = Listener::bind(&address, Settings::default(), on_event).await;
    assert!(matches!(second, Err(Error::Io { doing: "listening", .. })));
}

#[tokio::test]
async fn a_listener_on_two_networks_serves_both_within_one_limit() {
    // Whoever holds this port has it on the other addresses too.
    let held = std::net::TcpListener::bind("127.0.13.3:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let networks = [format!("127.0.13.1:{port}"), format!("127.0.13.2:{port}")];
    let settings = Settings { max_connections: 2, ..Settings::default() };
    let (on_event, mut acceptor) = events();
    let listener = Listener::bind_all(&networks, settings.clone(), on_event).await.unwrap();
    assert_eq!(listener.local_addr().to_string(), networks[0]);
    let mut open = Vec::new();
    for network in &networks {
        let (dialer, mut dialler) = dial_one(network.parse().unwrap(), &settings);
        open.push((shake_hands(&mut dialler, &mut acceptor).await, dialer, dialler));
    }
    for network in &networks {
        let mut third = TcpStream::connect(network).await.unwrap();
        assert!(until_dropped(&mut third).await.is_empty());
    }
    let seen = listener.counters();
    assert_eq!((seen.accepted, seen.opened, seen.over_limit), (2, 2, 2));

    let (on_event, _) = events();
    let free = format!("127.0.13.4:{port}");
    let taken = [free.as_str(), networks[1].as_str()];
    assert!(Listener::bind_all(&taken, settings.clone(), Arc::clone(&on_event)).await.is_err());
    assert!(Listener::bind_all(&[""; 0], settings, on_event).await.is_err());
    assert!(TcpStream::connect(&free).await.is_err(), "nothing is left of it");
}

#[tokio::test(start_paused = true)]
async fn dialling_in_vain_slows_down_to_a_second() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_dialer, mut events) = dial_one(free, &Settings::default());
    let mut at = Instant::now();
    for attempt in 0..12_u32 {
        let event = events.next().await;
        assert!(matches!(event, PeerEvent::Unreachable { .. }), "{event:?}");
        if attempt > 0 {
            let full = (10 << attempt.min(7)).min(1000);
            let waited = u64::try_from(at.elapsed().as_millis()).unwrap();
            assert!((full / 2..=full + 2).contains(&waited), "{attempt}: {waited} ms");
        }
        at = Instant::now();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_is_not_hammered() {
    let settings = Settings::default();
    let (listener, mut acceptor) = listen(&settings).await;
    let (_dialer, mut dialler) = dial_one(listener.local_addr(), &settings);
    let began = Instant::now();
    for _ in 0..10 {
        let outbox = dialler.connected().await;
        let refuser = acceptor.connected().await;
        refuser.close();
        drop(acceptor.closed().await);
        assert_eq!(dialler.closed().await.0, outbox.id());
    }
    // 10 + 20 + ... + 640 + 1000 + 1000 ms, half of it at least.
    assert!(began.elapsed() >= Duration::from_millis(1600), "{:?}", began.elapsed());
}
