//! Contents with real replicas and services on loopback, and a router in front of them; who is where is told
//! by the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_cluster::buckets::{Bucket, Buckets, Move, bucket_of};
use outrigger_cluster::local::LocalCluster;
use outrigger_cluster::mover::{Ask, Reply};
use outrigger_net::message::{Envelope, Message, Role};
use outrigger_net::transport::ConnectionId;
use outrigger_replica::runtime::{Caller, Front, Replica, Requests, Visitor, Visits};
use outrigger_replica::store::kv::{Hold, Token};
use outrigger_replica::store::memory::MemoryStore;
use outrigger_replica::store::{Rows, StateStore};
use outrigger_wal::format::MIN_SEGMENT_BYTES;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tempfile::TempDir;

use super::super::super::client::{Client, ClientOptions};
use super::super::super::finding::Route;
use super::super::super::line::{Asked, Line, Whom};
use super::super::super::places::{Board, Places, Seat};
use super::super::super::protocol::{Answer, Change, Request};
use super::super::super::service::Service;
use super::super::{Gate, Router, RouterOptions};

pub(super) const CLUSTER: ClusterId = ClusterId(7);
/// Longer than anything takes that comes to an end.
const LONG: Duration = Duration::from_secs(60);

/// One copy of one content.
pub(super) struct Copy {
    pub(super) replica: Replica,
    pub(super) rows: Arc<MemoryStore>,
}

pub(super) struct Content {
    local: LocalCluster,
    pub(super) copies: Vec<Copy>,
}

/// A port with a router behind it.
pub(super) struct Port {
    pub(super) router: Arc<Router>,
    pub(super) board: Board,
    replica: Replica,
    pub(super) address: String,
}

pub(super) struct World {
    home: TempDir,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) contents: Vec<Content>,
    pub(super) buckets: Buckets,
    pub(super) port: Port,
    ports: usize,
}

/// Whoever is no client is sent away.
struct Nobody;

impl Visits for Nobody {
    fn message(&self, visitor: &Visitor, _: Envelope, _: Message) {
        visitor.hang_up();
    }

    fn left(&self, _: ConnectionId) {}
}

/// Hears every request, and answers none.
struct Mute;

impl Requests for Mute {
    fn request(&self, _: &Caller, _: u64, _: Bytes) {}
}

impl World {
    pub(super) fn new(contents: usize, copies: usize, options: RouterOptions) -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let numbers: Vec<_> = (0_i32..).take(contents).map(ContentId).collect();
        let buckets = Buckets::even(&numbers).unwrap();
        let opened = numbers.iter().map(|number| {
            let local = LocalCluster::of(CLUSTER, *number, MIN_SEGMENT_BYTES).unwrap();
            let copies = (0..copies).map(|at| {
                let dir = home.path().join(format!("{number}-{at}"));
                let rows = Arc::new(MemoryStore::default());
                let service = Service::new(Arc::clone(&rows) as Arc<dyn Rows>);
                let front = Front::Requests(Arc::clone(&service) as Arc<dyn Requests>);
                let store = Arc::clone(&rows) as Arc<dyn StateStore>;
                let replica = local.open_with(&dir, store, front).unwrap();
                service.serve(&replica);
                Copy { replica, rows }
            });
            let copies: Vec<_> = copies.collect();
            assert!(copies[0].replica.wait_serving(LONG));
            assert!(local.wait_in_sync(&copies[0].replica, copies.len()));
            Content { local, copies }
        });
        let opened: Vec<_> = opened.collect();
        let port = open_port(&home, 0, options);
        let world = Self { home, runtime, contents: opened, buckets, port, ports: 1 };
        world.tell(world.places());
        world
    }

    /// Another port, which is told nothing by itself.
    pub(super) fn open_port(&mut self, options: RouterOptions) -> Port {
        self.ports += 1;
        open_port(&self.home, self.ports, options)
    }

    /// A primary of a content that hears everything and answers nothing.
    pub(super) fn mute(&self, content: i32) -> (Replica, Seat) {
        let local = LocalCluster::of(CLUSTER, ContentId(content), MIN_SEGMENT_BYTES).unwrap();
        let (dir, store) = (self.home.path().join("mute"), Arc::new(MemoryStore::default()));
        let replica = local.open_with(&dir, store, Front::Requests(Arc::new(Mute))).unwrap();
        let seat = seat(&replica, 1);
        (replica, seat)
    }

    /// As it is.
    pub(super) fn places(&self) -> Places {
        let seats = (0_i32..).map(ContentId).zip(&self.contents).map(|(number, content)| {
            let config = content.local.config().unwrap();
            let copies = content.copies.iter();
            let primary = copies
                .map(|copy| &copy.replica)
                .find(|replica| replica.instance() == config.primary)
                .unwrap();
            (number, seat(primary, config.epoch.number))
        });
        Places {
            cluster: CLUSTER,
            me: self.port.replica.instance(),
            serving: true,
            contents: seats.collect(),
            buckets: Some(Arc::new(self.buckets.clone())),
        }
    }

    pub(super) fn tell(&self, places: Places) {
        self.port.board.tell(places);
    }

    /// The primary of a content is gone.
    pub(super) fn close_primary(&self, content: usize) {
        let local = &self.contents[content].local;
        let primary = local.config().unwrap().primary;
        let copies = self.contents[content].copies.iter();
        for copy in copies.filter(|copy| copy.replica.instance() == primary) {
            copy.replica.close().unwrap();
        }
    }

    /// Makes the other copy of a content its primary.
    pub(super) fn promote(&self, content: usize) {
        let local = &self.contents[content].local;
        let primary = local.config().unwrap().primary;
        let copies = self.contents[content].copies.iter();
        let other = copies.map(|copy| &copy.replica).find(|copy| copy.instance() != primary);
        local.promote(other.unwrap().instance()).unwrap();
    }

    /// Moves a bucket as whoever moves rows would, and tells nobody.
    pub(super) fn move_bucket(&mut self, bucket: Bucket, to: i32) {
        let from = self.buckets.holder(bucket).owner;
        let step = [Move { bucket, from, to: ContentId(to) }];
        self.buckets.begin(&step).unwrap();
        self.buckets.hand_over(&step).unwrap();
        let at = self.buckets.version().0;
        self.tell_holding(from.0, bucket, Hold::GiveUp { at, token: Token::default() });
        self.buckets.moved(&step).unwrap();
        let since = self.buckets.holder(bucket).since.0;
        self.tell_holding(to, bucket, Hold::TakeUp { since });
        self.buckets.end(&step).unwrap();
    }

    /// Has a content's log say something about a bucket.
    fn tell_holding(&self, content: i32, bucket: Bucket, hold: Hold) {
        let ask = Ask::Tell { buckets: vec![bucket], hold };
        assert_eq!(self.ask_to_move(content, &ask), Reply::Done);
    }

    /// Asks the first copy of a content as whoever moves rows does.
    pub(super) fn ask_to_move(&self, content: i32, ask: &Ask) -> Reply {
        let line = self.direct(content);
        let asked = line.ask(ask.encode().unwrap()).unwrap();
        Reply::decode(&self.runtime.block_on(asked.answer()).unwrap()).unwrap()
    }

    pub(super) fn client(&self, ports: &[&str]) -> Client {
        let coordinators = ports.iter().map(|port| (*port).to_owned()).collect();
        Client::new(ClientOptions { coordinators, route: Route::ByKey, patience: LONG }).unwrap()
    }

    /// A connection to a port.
    pub(super) fn line(&self, address: &str) -> Line {
        self.connect(address, -1)
    }

    /// A connection to the first copy of a content.
    pub(super) fn direct(&self, content: i32) -> Line {
        let copy = &self.contents[usize::try_from(content).unwrap()].copies[0];
        self.connect(&copy.replica.local_addr().to_string(), content)
    }

    fn connect(&self, address: &str, content: i32) -> Line {
        let whom = Whom {
            addresses: vec![address.to_owned()],
            cluster: ClusterId::default(),
            content: ContentId(content),
            instance: InstanceId::default(),
            role: Role::Client,
        };
        self.runtime.block_on(Line::open(&whom)).unwrap()
    }

    pub(super) fn ask(&self, line: &Line, request: &Request) -> Answer {
        self.hear(begin(line, request))
    }

    pub(super) fn hear(&self, asked: Asked) -> Answer {
        Answer::decode(self.runtime.block_on(asked.answer()).unwrap()).unwrap()
    }

    /// A key of a content, the `n`th that is found.
    pub(super) fn key_on(&self, content: i32, n: usize) -> Bytes {
        let keys = (0_u64..).map(|at| Bytes::from(format!("key/{at}")));
        let mut on = keys.filter(|key| self.buckets.content_of(key) == ContentId(content));
        on.nth(n).unwrap()
    }

    /// What every content's first copy holds.
    pub(super) fn stored(&self) -> Vec<BTreeMap<Bytes, Bytes>> {
        let rows = |content: &Content| {
            let rows = content.copies[0].rows.scan(b"", 1 << 20).unwrap();
            rows.into_iter().collect()
        };
        self.contents.iter().map(rows).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let copies = self.contents.iter().flat_map(|content| &content.copies);
        for replica in copies.map(|copy| &copy.replica).chain([&self.port.replica]) {
            replica.close().ok();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.replica.close().ok();
    }
}

pub(super) fn begin(line: &Line, request: &Request) -> Asked {
    line.ask(request.encode().unwrap()).unwrap()
}

pub(super) fn put(key: &Bytes, value: &str) -> Change {
    Change::Put { key: key.clone(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

pub(super) fn bucket(key: &Bytes) -> Bucket {
    bucket_of(key)
}

fn seat(replica: &Replica, epoch: u64) -> Seat {
    Seat {
        primary: replica.instance(),
        addresses: vec![replica.local_addr().to_string()],
        epoch,
        version: 1,
        acting: true,
    }
}

fn open_port(home: &TempDir, number: usize, options: RouterOptions) -> Port {
    let board = Board::new(Places::nowhere(CLUSTER, InstanceId::default()));
    let router = Router::new(options, board.watch());
    let local = LocalCluster::of(CLUSTER, ContentId(-1), MIN_SEGMENT_BYTES).unwrap();
    let front = Front::Visits(Arc::new(Gate::new(Arc::clone(&router), Nobody)));
    let dir = home.path().join(format!("port-{number}"));
    let replica = local.open_with(&dir, Arc::new(MemoryStore::default()), front).unwrap();
    replica.spawn(Arc::clone(&router).watch());
    let address = replica.local_addr().to_string();
    Port { router, board, replica, address }
}
