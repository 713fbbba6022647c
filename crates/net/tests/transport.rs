//! Connections as machines see them: over pipes in memory, and with the clock stopped.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod peers;
mod samples;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::Error;
use outrigger_net::message::{Message, Reason};
use outrigger_net::transport::{Connection, Full, Outbox, PeerEvent, Settings, Side, run};
use outrigger_wal::Lsn;
use peers::{Events, events, head, open, send, shake_hands};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

fn spawn(io: DuplexStream, side: Side, settings: &Settings) -> (JoinHandle<()>, Events) {
    let (on_event, events) = events();
    let settings = settings.clone();
    let task = tokio::spawn(async move {
        run(io, "pipe".into(), side, &settings, &on_event).await;
    });
    (task, events)
}

/// Two connected machines, hands shaken.
async fn pair(settings: &Settings, pipe_bytes: usize) -> [(Outbox, Events); 2] {
    let (here, there) = duplex(pipe_bytes);
    let (_, mut dialler) = spawn(here, Side::Dialled, settings);
    let (_, mut acceptor) = spawn(there, Side::Accepted, settings);
    let (dialled, accepted) = shake_hands(&mut dialler, &mut acceptor).await;
    [(dialled, dialler), (accepted, acceptor)]
}

/// A machine and a raw pipe, after the machine has opened it.
async fn half(settings: &Settings, pipe_bytes: usize) -> (Outbox, Events, DuplexStream) {
    let (here, mut raw) = duplex(pipe_bytes);
    let (_, mut events) = spawn(here, Side::Accepted, settings);
    raw.write_all(&head(&samples::hello(1))).await.unwrap();
    let outbox = events.connected().await;
    let _greeting = events.frame().await;
    open(&outbox);
    (outbox, events, raw)
}

fn commit(pages: u64) -> Message {
    Message::Commit { commit: Lsn(pages * 4096), keep: Lsn(0) }
}

#[tokio::test]
async fn frames_arrive_in_order_with_their_blocks() {
    let [(dialled, _dialler), (accepted, mut acceptor)] = pair(&Settings::default(), 1000).await;
    let blocks = samples::blocks(Lsn(0), &[10, 200_000, 0]);
    let (data, body) = samples::data(Lsn(0), &blocks);
    for n in 0..3 {
        send(&dialled, &commit(n));
        dialled.try_send(head(&data), body.clone()).unwrap();
    }
    for n in 0..3 {
        assert_eq!(acceptor.frame().await.0.message, commit(n));
        let (frame, _) = acceptor.frame().await;
        assert_eq!(frame.message, data);
        assert_eq!(frame.body, body.concat());
    }
    assert_eq!(accepted.queued_bytes(), 0);
}

#[tokio::test]
async fn a_full_outbox_refuses_and_says_once_when_there_is_room() {
    let settings = Settings { send_window_bytes: 10_000, ..Settings::default() };
    let (outbox, mut events, mut raw) = half(&settings, 64).await;
    let body = || vec![Bytes::from(vec![7; 900])];
    let mut sent = 0;
    while outbox.try_send(head(&commit(1)), body()).is_ok() {
        sent += 1;
        assert!(outbox.queued_bytes() <= 10_000);
    }
    assert_eq!(sent, 9, "of 1016 bytes each");
    assert_eq!(outbox.try_send(head(&commit(1)), body()), Err(Full));
    assert!(events.happened().is_none());

    let mut drained = vec![0; sent * 1016];
    raw.read_exact(&mut drained).await.unwrap();
    assert!(matches!(events.next().await, PeerEvent::Writable { id } if id == outbox.id()));
    outbox.try_send(head(&commit(2)), body()).unwrap();
    raw.read_exact(&mut drained[..1016]).await.unwrap();
    assert!(events.happened().is_none(), "room is announced once");
}

#[tokio::test]
async fn a_frame_larger_than_the_window_goes_alone() {
    let settings = Settings { send_window_bytes: 1000, ..Settings::default() };
    let (outbox, mut events, mut raw) = half(&settings, 64).await;
    let large = || vec![Bytes::from(vec![7; 5000])];
    outbox.try_send(head(&commit(1)), large()).unwrap();
    assert_eq!(outbox.try_send(head(&commit(2)), large()), Err(Full));
    raw.read_exact(&mut vec![0; 5108]).await.unwrap();
    assert!(matches!(events.next().await, PeerEvent::Writable { .. }));
    outbox.try_send(head(&commit(2)), large()).unwrap();
}

#[tokio::test]
async fn an_outbox_takes_frames_from_threads_that_know_nothing_of_tokio() {
    let [(dialled, _dialler), (_accepted, mut acceptor)] = pair(&Settings::default(), 64).await;
    std::thread::spawn(move || send(&dialled, &commit(5))).join().unwrap();
    assert_eq!(acceptor.frame().await.0.message, commit(5));
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_before_closing_is_sent() {
    let (here, there) = duplex(16);
    let (_, mut dialler) = spawn(here, Side::Dialled, &Settings::default());
    let (_, mut acceptor) = spawn(there, Side::Accepted, &Settings::default());
    send(&dialler.connected().await, &samples::hello(1));
    let accepted = acceptor.connected().await;
    let _hello = acceptor.frame().await;
    let refuse = Message::Refuse { reason: Reason::NotAMember, text: "who are you?".into() };
    send(&accepted, &refuse);
    accepted.close();
    send(&accepted, &commit(1));
    assert_eq!(dialler.frame().await.0.message, refuse);
    drop(acceptor.closed().await);
}

#[tokio::test]
async fn a_refusal_is_heard_although_writing_fails_first() {
    let (outbox, mut events, mut raw) = half(&Settings::default(), 1024).await;
    let refuse = Message::Refuse { reason: Reason::StaleEpoch, text: "4 reigns".into() };
    raw.write_all(&head(&refuse)).await.unwrap();
    send(&outbox, &commit(1));
    drop(raw);
    assert_eq!(events.frame().await.0.message, refuse);
    drop(events.closed().await);
}

#[tokio::test]
async fn both_sides_see_an_orderly_end_as_such() {
    let [(dialled, mut dialler), (_accepted, mut acceptor)] = pair(&Settings::default(), 64).await;
    dialled.close();
    assert!(acceptor.closed().await.1.is_none());
    assert!(dialler.closed().await.1.is_none());
    send(&dialled, &commit(1));
    assert_eq!(dialled.queued_bytes(), 0, "nothing is kept for a closed connection");
}

#[tokio::test]
async fn closed_comes_last_and_once_even_when_the_task_is_aborted() {
    let (here, _raw) = duplex(64);
    let (task, mut events) = spawn(here, Side::Accepted, &Settings::default());
    let outbox = events.connected().await;
    task.abort();
    assert_eq!(events.closed().await.0, outbox.id());
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(events.happened().is_none());
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_an_error() {
    let (_outbox, mut events, mut raw) = half(&Settings::default(), 64).await;
    raw.write_all(&head(&commit(1))[..50]).await.unwrap();
    drop(raw);
    assert!(matches!(events.closed().await.1, Some(Error::Cut)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_between_the_greeting_and_the_verdict() {
    let (here, mut raw) = duplex(64);
    let (_, mut events) = spawn(here, Side::Accepted, &Settings::default());
    let mut stream = head(&samples::hello(1)).to_vec();
    // The first read may reach past the greeting, and no second one follows.
    stream.resize(stream.len() + 64 * 1024, 0xAA);
    let flood = tokio::spawn(async move { raw.write_all(&stream).await });
    let outbox = events.connected().await;
    let _hello = events.frame().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(!flood.is_finished());
    outbox.close();
    drop(events.closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_holds_less_than_64_kib_whatever_it_sends() {
    let longest = samples::on_wire(&samples::hello(256), &[]);
    let mut filled = longest.clone();
    filled[8..12].copy_from_slice(&(32 * 1024_u32 - 32).to_le_bytes());
    let crc = crc32fast::hash(&filled[..28]);
    filled[28..32].copy_from_slice(&crc.to_le_bytes());
    filled.resize(32 * 1024 - 1, 0);
    let mut flood = longest.clone();
    flood.resize(1024 * 1024, 0xAA);
    for stream in [longest, filled, flood, vec![0x16; 1024 * 1024], vec![0x8A]] {
        let (here, mut raw) = duplex(1024 * 1024);
        raw.write_all(&stream).await.unwrap();
        let wait = Duration::from_secs(5);
        let mut connection = Connection::new(here, wait, wait);
        match timeout(wait, connection.reader.next()).await {
            Ok(Ok(frame)) => assert!(frame.is_some()),
            Ok(Err(error)) => assert!(matches!(error, Error::NotAFrame { .. }), "{error}"),
            Err(_deadline) => {}
        }
        // With the greeting decoded from it: 256 epochs of 64 bytes, and small change.
        assert!(connection.reader.buffer_bytes() + 20 * 1024 < 64 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline_of_its_phase() {
    let settings = Settings::default();
    for (side, said, millis) in [
        (Side::Accepted, 0, settings.handshake_millis),
        (Side::Accepted, 100, settings.handshake_millis),
        (Side::Dialled, 0, settings.answer_millis),
    ] {
        let (here, mut raw) = duplex(1024);
        let (_, mut events) = spawn(here, side, &settings);
        raw.write_all(&head(&samples::hello(1))[..said]).await.unwrap();
        let began = Instant::now();
        let _outbox = events.connected().await;
        assert!(matches!(events.closed().await.1, Some(Error::TimedOut { .. })));
        assert_eq!(began.elapsed().as_millis(), u128::from(millis), "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_stretch_the_handshake() {
    let (here, mut raw) = duplex(1024);
    let (_, mut events) = spawn(here, Side::Accepted, &Settings::default());
    let began = Instant::now();
    tokio::spawn(async move {
        for byte in head(&samples::hello(1)) {
            if raw.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let _outbox = events.connected().await;
    assert!(matches!(events.closed().await.1, Some(Error::TimedOut { millis: 5000, .. })));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn keepalives_keep_an_idle_connection_and_without_them_it_ends() {
    let settings = Settings::default();
    let [(dialled, mut dialler), (accepted, mut acceptor)] = pair(&settings, 1024).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        for events in [&mut dialler, &mut acceptor] {
            assert_eq!(events.frame().await.0.message, Message::Keepalive);
        }
    }
    drop((dialled, accepted));

    let (_outbox, mut events, _raw) = half(&settings, 1024 * 1024).await;
    let began = Instant::now();
    assert!(matches!(events.closed().await.1, Some(Error::TimedOut { .. })));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_dropped() {
    let settings = Settings { idle_millis: 1_000_000, ..Settings::default() };
    let (outbox, mut events, _raw) = half(&settings, 64).await;
    let began = Instant::now();
    outbox.try_send(head(&commit(1)), vec![Bytes::from(vec![0; 1000])]).unwrap();
    assert!(matches!(events.closed().await.1, Some(Error::TimedOut { .. })));
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn frames_held_by_the_machine_pause_reading() {
    let settings = Settings { receive_window_bytes: 3000, ..Settings::default() };
    let (_outbox, mut events, mut raw) = half(&settings, 100_000).await;
    let request = Message::Request { op: 1, body: Bytes::from(vec![1; 744]) };
    for _ in 0..10 {
        raw.write_all(&head(&request)).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(events.frame().await);
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(events.happened().is_none(), "3 times 1000 bytes are the window");
    for _ in 3..10 {
        held.remove(0);
        held.push(events.frame().await);
    }
}

/// Takes `most` bytes a write, and remembers how many slices each brought.
#[derive(Clone)]
struct Scripted {
    most: usize,
    writes: Arc<Mutex<Vec<(usize, usize)>>>,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    fn new(most: usize) -> Self {
        Self { most, writes: Arc::default(), got: Arc::default() }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(self.most);
        self.writes.lock().unwrap().push((slices.len(), taken));
        self.got.lock().unwrap().extend_from_slice(&all[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn short_writes_lose_and_repeat_nothing() {
    let (data, body) = samples::data(Lsn(0), &samples::blocks(Lsn(0), &[10, 3000, 0, 1]));
    for most in [1, 2, 31, 100, 1000] {
        let io = Scripted::new(most);
        let wait = Duration::from_secs(5);
        let mut connection = Connection::new(io.clone(), wait, wait);
        connection.writer.send(head(&data), body.clone()).await.unwrap();
        assert_eq!(*io.got.lock().unwrap(), samples::on_wire(&data, &body));
    }
}

#[tokio::test(start_paused = true)]
async fn one_write_carries_all_that_is_queued_up_to_256_kib() {
    let io = Scripted::new(usize::MAX);
    let on_event = Arc::new(|event| {
        if let PeerEvent::Connected { outbox, .. } = event {
            for n in 0..10 {
                send(&outbox, &commit(n));
            }
            outbox.try_send(head(&commit(11)), vec![Bytes::from(vec![0; 300 * 1024])]).unwrap();
            outbox.close();
        }
    }) as outrigger_net::transport::OnEvent;
    run(io.clone(), "script".into(), Side::Dialled, &Settings::default(), &on_event).await;
    let writes = io.writes.lock().unwrap().clone();
    let sizes: Vec<_> = writes.iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(writes[0], (10, 1160));
    assert_eq!(sizes, [1160, 256 * 1024, 44 * 1024 + 116]);
}
