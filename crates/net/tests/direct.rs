//! Frames that go into a TCP socket by the thread that sends them, past the connection's task.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod peers;
mod samples;

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use outrigger_net::message::Message;
use outrigger_net::transport::{Outbox, Settings, Side, run_tcp};
use outrigger_wal::Lsn;
use peers::{Events, events, head, send, shake_hands};
use tokio::net::{TcpListener, TcpStream};

fn spawn(stream: TcpStream, side: Side) -> Events {
    let (on_event, events) = events();
    tokio::spawn(async move {
        run_tcp(stream, "peer".into(), side, &Settings::default(), &on_event).await;
    });
    events
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Number `n` of thread `thread`.
fn numbered(thread: u64, n: u64) -> Message {
    Message::Commit { commit: Lsn(n), keep: Lsn(thread) }
}

/// Frames of four threads go out while the task writes large ones: a small one must neither land within
/// a large one nor overtake one of its own thread.
#[tokio::test]
async fn frames_of_many_threads_arrive_whole_and_each_threads_in_order() {
    const THREADS: u64 = 4;
    const FRAMES: u64 = 400;
    let (dialled, accepted) = sockets().await;
    let (mut dialler, mut acceptor) =
        (spawn(dialled, Side::Dialled), spawn(accepted, Side::Accepted));
    let (outbox, _accepted) = shake_hands(&mut dialler, &mut acceptor).await;
    let (data, body) = samples::data(Lsn(0), &samples::blocks(Lsn(0), &[10, 60_000]));
    for thread in 0..THREADS {
        let (outbox, data, body) = (outbox.clone(), head(&data), body.clone());
        std::thread::spawn(move || {
            for n in 0..FRAMES {
                while outbox.try_send(head(&numbered(thread, n)), Vec::new()).is_err() {
                    std::thread::yield_now();
                }
                if n % 5 == 0 {
                    while outbox.try_send(data.clone(), body.clone()).is_err() {
                        std::thread::yield_now();
                    }
                }
            }
        });
    }
    let (mut next, mut large) = (BTreeMap::<u64, u64>::new(), 0);
    while large < THREADS * FRAMES / 5 || next.values().sum::<u64>() < THREADS * FRAMES {
        let (frame, _) = acceptor.frame().await;
        if let Message::Commit { commit, keep } = frame.message {
            let expected = next.entry(keep.0).or_default();
            assert_eq!(commit, Lsn(*expected), "of thread {}", keep.0);
            *expected += 1;
        } else {
            assert_eq!(frame.message, data);
            assert_eq!(frame.body, body.concat());
            large += 1;
        }
    }
}

/// The socket takes a part of a frame and no more: the rest must follow it, then what was queued.
#[tokio::test]
async fn a_frame_that_the_socket_took_in_part_is_finished_first() {
    let (dialled, accepted) = sockets().await;
    let mut events = spawn(accepted, Side::Accepted);
    let mut raw = dialled.into_std().unwrap();
    raw.set_nonblocking(false).unwrap();
    let outbox = events.connected().await;
    outbox.open(outrigger_net::frame::Limits::REQUESTS);
    let body = |n: u64| vec![Bytes::from(vec![u8::try_from(n % 251).unwrap(); 3_333])];
    let mut sent = 0;
    // The window is larger than what loopback's sockets hold, so that the last ones wait in the queue.
    while outbox.try_send(head(&numbered(0, sent)), body(sent)).is_ok() {
        sent += 1;
    }
    assert!(outbox.queued_bytes() > 0, "the sockets took everything");
    let reader = tokio::task::spawn_blocking(move || {
        let frame_bytes = head(&numbered(0, 0)).len() + 3_333;
        for n in 0..sent {
            let mut frame = vec![0; frame_bytes];
            raw.read_exact(&mut frame).unwrap();
            let expected: Vec<u8> = [&head(&numbered(0, n))[..], &body(n)[0][..]].concat();
            assert!(frame == expected, "frame {n} of {sent}");
        }
    });
    reader.await.unwrap();
}

/// Somebody keeps the outbox of a connection that is over: the socket must close all the same.
#[tokio::test]
async fn a_connection_closes_although_its_outbox_is_kept() {
    let (dialled, accepted) = sockets().await;
    let (mut dialler, mut acceptor) =
        (spawn(dialled, Side::Dialled), spawn(accepted, Side::Accepted));
    let (kept, also_kept): (Outbox, Outbox) = shake_hands(&mut dialler, &mut acceptor).await;
    kept.close();
    let (_, error) = acceptor.closed().await;
    assert!(error.is_none(), "{error:?}");
    drop(dialler.closed().await);
    send(&kept, &numbered(0, 0));
    send(&also_kept, &numbered(0, 0));
}
