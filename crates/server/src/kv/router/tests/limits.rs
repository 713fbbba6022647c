//! Many clients that ask for the most and read nothing: what is held for all of them is bounded, and others
//! are served all the while.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use outrigger_net::frame::encode;
use outrigger_net::message::{Envelope, Message, Role};
use outrigger_wal::{ContentId, InstanceId};

use super::super::super::line::{Whom, hello};
use super::super::super::protocol::{Answer, Request};
use super::super::RouterOptions;
use super::world::{CLUSTER, World, put};
use super::write;

const CLIENTS: usize = 64;

struct Hostile {
    stream: TcpStream,
    envelope: Envelope,
}

impl Hostile {
    fn greet(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        // A router that takes nothing for so long has stopped reading: a bound of this test.
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let whom = Whom {
            addresses: Vec::new(),
            cluster: CLUSTER,
            content: ContentId(-1),
            instance: InstanceId::default(),
            role: Role::Client,
        };
        let (envelope, hello) = hello(&whom).unwrap();
        stream.write_all(&encode(&envelope, &hello).unwrap()).unwrap();
        assert!(stream.read(&mut [0; 16]).unwrap() > 0, "it is welcomed");
        Self { stream, envelope }
    }

    /// Sends until it was hung up on, nothing more is taken, or so many are sent.
    fn flood(&mut self, body: &Bytes, most: u64) {
        for op in 1..=most {
            let request = Message::Request { op, body: body.clone() };
            if self.stream.write_all(&encode(&self.envelope, &request).unwrap()).is_err() {
                return;
            }
        }
    }
}

#[test]
fn sixty_four_clients_that_never_read_make_the_router_hold_a_bounded_amount() {
    let options = RouterOptions {
        // What waits is there as long as the test is.
        patience: Duration::from_secs(120),
        bytes_in_all: 8 << 20,
        bytes_per_client: 2 << 20,
        unread_in_all: 4 << 20,
        ..RouterOptions::default()
    };
    let world = World::new(2, 1, options);
    let line = world.line(&world.port.address);
    let (small, large, gone) = (world.key_on(0, 0), world.key_on(0, 1), world.key_on(1, 0));
    let value = "x".repeat(200 << 10);
    assert!(matches!(world.ask(&line, &write(1, 1, &large, &value)), Answer::Committed(_)));
    assert!(matches!(world.ask(&line, &write(1, 2, &small, "small")), Answer::Committed(_)));
    // Content 1 does not serve: what is written to it is held.
    let mut places = world.places();
    places.contents.get_mut(&ContentId(1)).unwrap().acting = false;
    world.tell(places);
    let gets = Request::Get { key: large }.encode().unwrap();
    let waits =
        Request::Write { client: 9, sequence: 1, map: 1, changes: vec![put(&gone, &value)] };
    let waits = waits.encode().unwrap();
    let nonsense = Bytes::from_static(b"\x02\xff");
    let floods = [(gets, 2_000), (waits, 40), (nonsense, 20_000)];
    let mut hostile: Vec<_> = (0..CLIENTS).map(|_| Hostile::greet(&world.port.address)).collect();
    let router = std::sync::Arc::clone(&world.port.router);
    let (held, unread) = std::thread::scope(|scope| {
        let clients = hostile.iter_mut().zip(floods.iter().cycle());
        let sending: Vec<_> = clients
            .map(|(client, (body, most))| scope.spawn(move || client.flood(body, *most)))
            .collect();
        let mut peak = (0, 0);
        // Until all is sent that is taken, and what waits has come in.
        while !sending.iter().all(std::thread::ScopedJoinHandle::is_finished)
            || peak.0 < options.bytes_in_all / 2
        {
            peak.0 = peak.0.max(router.held_bytes.load(Ordering::SeqCst));
            peak.1 = peak.1.max(router.unread_bytes());
            // Others are served.
            let get = world.ask(&line, &Request::Get { key: small.clone() });
            assert!(matches!(get, Answer::Value(Some(_)) | Answer::Busy), "{get:?}");
        }
        peak
    });
    let most_held = options.bytes_in_all / 4 * 5;
    assert!(held <= most_held + (1 << 20), "{held} bytes of requests");
    // Rows up to the limit and one answer over it, and what each may leave of small answers.
    let most_unread = options.unread_in_all + (1 << 20) + (CLIENTS as u64) * (512 << 10);
    assert!(unread <= most_unread, "{unread} bytes of answers");
    // One that behaves is served while they are all there, if it comes back when it is told to; and what was
    // held is given back.
    let get = Request::Get { key: small };
    let mut served = std::iter::repeat_with(|| world.ask(&line, &get));
    let served = served.find(|answer| *answer != Answer::Busy);
    assert_eq!(served, Some(Answer::Value(Some("small".into()))));
    drop(hostile);
    world.tell(world.places());
    let router = &world.port.router;
    while router.held_bytes.load(Ordering::SeqCst) > 0 || router.guests.lock().len() > 1 {
        std::thread::yield_now();
    }
}
