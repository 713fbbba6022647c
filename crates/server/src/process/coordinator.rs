//! The coordinator: the catalog as a replica of content -1, and whoever asks it.
//!
//! One task steps the machine; the network's thread and the replica put events into its queue.
//! Guarantees: what the catalog has applied is told, nothing else; SIGTERM and Ctrl-C end it in order.
//! Not here: decisions (cluster), voters (it stands alone).

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use outrigger_cluster::authority::SelfAuthority;
use outrigger_cluster::catalog::Catalog;
use outrigger_cluster::coordinator::{
    CATALOG, Coordinator, CoordinatorOptions, Event as Happened, Identity as Whose, In, Out,
};
use outrigger_cluster::slots::FileSlots;
use outrigger_net::config::{Config, Version};
use outrigger_net::message::{Envelope, Message};
use outrigger_net::transport::ConnectionId;
use outrigger_replica::control::Identity;
use outrigger_replica::member::{Event, LinkId};
use outrigger_replica::rules::Rules;
use outrigger_replica::runtime::{
    Authority, Front, Replica, ReplicaOptions, Told, Visitor, Visits,
};
use outrigger_replica::store::StateStore;
use outrigger_wal::format::MIN_SEGMENT_BYTES;
use outrigger_wal::{ClusterId, Epoch, LogId, Lsn, Micros};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::stop::{Signals, Stop};
use super::{Begin, announce, ended, free_port, init, places, replica};
use crate::config::CoordinatorConfig;
use crate::error::{Error, Verdict};
use crate::kv::places::Board;
use crate::kv::router::{Gate, Router, RouterOptions};

/// Where the catalog's checkpoints and the register lie, below the data directory.
const STORE: &str = "store";

/// Who does not take so many bytes of answers is dropped: more than the router lets wait.
const SEND_WINDOW_BYTES: u64 = 2 << 20;

/// Runs a coordinator until it is told to stop.
///
/// # Errors
/// Why it could not start, or failed.
pub(crate) fn run(config: &CoordinatorConfig, begin: Begin) -> Result<Verdict, Error> {
    let runtime = super::runtime()?;
    let _within = runtime.enter();
    let mut signals = Signals::new()?;
    let dir = &config.data_dir;
    // A taken port is found before anything is made.
    let listen = free_port(&config.listen)?;
    if begin == Begin::New {
        new(config)?;
    }
    let (events, queue) = unbounded_channel();
    let (copy, catalog, whose, board) = open(config, listen, &events)?;
    announce(copy.local_addr());
    let machine = Coordinator::new(
        whose,
        Arc::clone(&catalog),
        init::random()?,
        CoordinatorOptions::default(),
        Micros(0),
    );
    let mut desk = Desk {
        machine,
        replica: copy.clone(),
        born: Instant::now(),
        visitors: BTreeMap::new(),
        events,
        catalog,
        whose,
        board,
    };
    let ended_by = runtime.block_on(async {
        tokio::select! {
            failed = desk.work(queue) => Err(Error::Path {
                path: dir.clone(),
                cause: failed,
                advice: "look at the device, then start the coordinator again",
            }),
            stop = signals.next() => Ok(stop),
        }
    });
    let closed = copy.close().map_err(|error| replica(dir, error));
    let stop: Stop = ended_by?;
    closed?;
    ended(stop)
}

/// Makes the data directory.
fn new(config: &CoordinatorConfig) -> Result<(), Error> {
    let dir = &config.data_dir;
    let Some(instance) = init::begin(dir, None)? else { return Ok(()) };
    init::make(&dir.join(STORE))?;
    let identity = Identity {
        cluster: ClusterId(init::random()?),
        content: CATALOG,
        instance,
        log: LogId(init::random()?),
        segment_bytes: MIN_SEGMENT_BYTES,
    };
    let slots = Box::new(FileSlots::new(dir.join(STORE), "register"));
    let addresses = vec![config.listen.clone()];
    SelfAuthority::create(slots, identity.instance, addresses, Rules::all())
        .map_err(|error| Error::Catalog { dir: dir.clone(), error })?;
    // The control file last: with it, the coordinator exists.
    Replica::init(dir, identity).map_err(|error| replica(dir, error))
}

type Opened = (Replica, Arc<Catalog>, Whose, Board);

fn open(
    config: &CoordinatorConfig,
    listen: String,
    events: &UnboundedSender<Heard>,
) -> Result<Opened, Error> {
    let dir = &config.data_dir;
    let identity = Replica::identity(dir).map_err(|error| replica(dir, error))?;
    if identity.content != CATALOG {
        return Err(Error::Path {
            path: dir.clone(),
            cause: format!("belongs to an instance of content {}", identity.content),
            advice: "a coordinator needs a directory of its own",
        });
    }
    let lock = Replica::lock(dir).map_err(|error| replica(dir, error))?;
    init::born(dir)?;
    let failed = |error| Error::Catalog { dir: dir.clone(), error };
    let slots = |stem| Box::new(FileSlots::new(dir.join(STORE), stem));
    let catalog = Arc::new(Catalog::open(slots("catalog"), Rules::all()).map_err(failed)?);
    let register =
        SelfAuthority::open(slots("register"), identity.instance, Rules::all()).map_err(failed)?;
    let authority = Own::start(register)?;
    let Identity { cluster, instance, log, segment_bytes, .. } = identity;
    let whose = Whose { cluster, instance, log, segment_bytes };
    let board = Board::new(places::look(&catalog, whose, false, None));
    let router = Router::new(RouterOptions::default(), board.watch());
    let door = Gate::new(Arc::clone(&router), Door { events: events.clone() });
    let mut options = ReplicaOptions::new(dir, listen);
    // Nothing is streamed: answers alone wait to be taken.
    options.net.send_window_bytes = SEND_WINDOW_BYTES;
    let copy = Replica::open_locked(
        lock,
        options,
        Arc::clone(&catalog) as Arc<dyn StateStore>,
        authority,
        Front::Visits(Arc::new(door)),
    )
    .map_err(|error| replica(dir, error))?;
    let tell = events.clone();
    copy.on_event(move |event| {
        let serving = match event {
            Event::Serves { epoch } => Some(Some(*epoch)),
            Event::SteppedDown { .. } => Some(None),
            _ => None,
        };
        serving.is_none_or(|epoch| tell.send(Heard::Machine(In::Serving(epoch))).is_ok())
    });
    // It may have begun to serve before anybody listened.
    if let Some(epoch) = copy.status().serving {
        drop(events.send(Heard::Machine(In::Serving(Some(epoch)))));
    }
    copy.spawn(router.watch());
    Ok((copy, catalog, whose, board))
}

/// What the machine's queue holds.
enum Heard {
    Machine(In),
    Message(Visitor, Envelope, Message),
    Left(ConnectionId),
}

/// Puts what the network brings into the queue.
struct Door {
    events: UnboundedSender<Heard>,
}

impl Visits for Door {
    fn message(&self, visitor: &Visitor, envelope: Envelope, message: Message) {
        // Without a queue the process is ending.
        drop(self.events.send(Heard::Message(visitor.clone(), envelope, message)));
    }

    fn left(&self, visitor: ConnectionId) {
        drop(self.events.send(Heard::Left(visitor)));
    }
}

/// Steps the machine, and carries out what it asks for.
struct Desk {
    machine: Coordinator,
    replica: Replica,
    born: Instant,
    visitors: BTreeMap<LinkId, Visitor>,
    events: UnboundedSender<Heard>,
    catalog: Arc<Catalog>,
    whose: Whose,
    /// Where the router reads the places of the contents.
    board: Board,
}

impl Desk {
    /// Works until the replica has failed; returns why.
    async fn work(&mut self, mut queue: UnboundedReceiver<Heard>) -> String {
        loop {
            let now = self.now();
            let due = self.machine.deadline().map_or(250_000, |at| at.since(now).min(250_000));
            let event = tokio::select! {
                biased;
                heard = queue.recv() => heard,
                () = tokio::time::sleep(std::time::Duration::from_micros(due)) => {
                    if let Some(why) = self.replica.status().failed {
                        return why;
                    }
                    Some(Heard::Machine(In::Tick))
                }
            };
            match event {
                Some(event) => self.step(event),
                None => return "its queue is gone".to_owned(),
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn step(&mut self, heard: Heard) {
        let event = match heard {
            Heard::Machine(event) => event,
            Heard::Message(visitor, envelope, message) => {
                let link = LinkId(visitor.id().0);
                self.visitors.entry(link).or_insert(visitor);
                In::Frame { link, envelope, message }
            }
            Heard::Left(id) => {
                let link = LinkId(id.0);
                self.visitors.remove(&link);
                In::Closed(link)
            }
        };
        let mut out = Vec::new();
        self.machine.step(self.now(), event, &mut out);
        for action in out {
            self.perform(action);
        }
        let serving = self.machine.serving().is_some();
        let told = self.board.now();
        self.board.tell(places::look(&self.catalog, self.whose, serving, Some(&told)));
    }

    fn perform(&self, action: Out) {
        match action {
            Out::Send { link, envelope, message } => {
                if let Some(visitor) = self.visitors.get(&link) {
                    visitor.send(&envelope, &message);
                }
            }
            Out::Hangup(link) => {
                if let Some(visitor) = self.visitors.get(&link) {
                    visitor.hang_up();
                }
            }
            Out::Event(event) => log(&event),
            // It has no agents.
            Out::Reach { .. } | Out::Agent { .. } | Out::Ping { .. } | Out::SwapOwn { .. } => {}
            Out::Append { ticket, record } => {
                let events = self.events.clone();
                match self.replica.append(&record) {
                    Ok(pending) => {
                        let replica = self.replica.clone();
                        tokio::spawn(async move {
                            // In doubt: the machine hears of the reign's end.
                            let end = pending.end();
                            if pending.committed().await.is_committed()
                                && replica.applied(end).await.is_ok()
                            {
                                drop(events.send(Heard::Machine(In::Applied)));
                            }
                        });
                    }
                    Err(error) => {
                        let text = error.to_string();
                        drop(events.send(Heard::Machine(In::NotAppended { ticket, text })));
                    }
                }
            }
        }
    }
}

fn log(event: &Happened) {
    match event {
        Happened::Alarm { text } => tracing::error!(%text, "alarm"),
        Happened::Refused { text } => tracing::info!(%text, "refused"),
        Happened::Recorded { content, version, epoch, primary } => {
            tracing::info!(%content, version = version.0, %epoch, %primary, "recorded");
        }
        event => tracing::info!(?event, "coordinator"),
    }
}

/// The coordinator's own register, as its member's authority: on a thread of its own, because it waits for
/// the disk.
struct Own {
    asked: Mutex<mpsc::Sender<Asked>>,
}

enum Asked {
    Attach(Told),
    Read,
    Swap(Version, Config),
}

impl Own {
    fn start(register: SelfAuthority) -> Result<Arc<Self>, Error> {
        let (asked, queue) = mpsc::channel();
        let work = move || serve(register, &queue);
        std::thread::Builder::new().name("register".to_owned()).spawn(work).map_err(|cause| {
            Error::System {
                what: "the register's thread cannot be started",
                cause,
                advice: "check the limits of threads",
            }
        })?;
        Ok(Arc::new(Self { asked: Mutex::new(asked) }))
    }

    fn ask(&self, asked: Asked) {
        // After an error of the register's disk nothing is answered, and nothing is served.
        drop(self.asked.lock().send(asked));
    }
}

fn serve(mut register: SelfAuthority, queue: &mpsc::Receiver<Asked>) {
    let mut told: Option<Told> = None;
    for asked in queue {
        match asked {
            Asked::Attach(to) => told = Some(to),
            Asked::Read => {}
            Asked::Swap(seen, new) => match register.compare_and_swap(seen, &new) {
                Ok(_) => {}
                Err(outrigger_cluster::Error::Conflict(conflict)) => {
                    tracing::info!(%conflict, "a change of the coordinator's own configuration lost");
                }
                Err(error) => {
                    // It is not known whether it was recorded: nothing may be told any more.
                    tracing::error!(%error, "the coordinator's register failed; start it again");
                    return;
                }
            },
        }
        if let (Some(told), Some(config)) = (&told, register.config()) {
            told.recorded(config.clone(), config.epoch.number);
        }
    }
}

impl Authority for Own {
    fn attach(&self, told: Told) {
        self.ask(Asked::Attach(told));
    }

    fn read(&self) {
        self.ask(Asked::Read);
    }

    fn swap(&self, seen: Version, new: Config) {
        self.ask(Asked::Swap(seen, new));
    }

    fn report(&self, _: Epoch, _: Lsn, _: Lsn, _: Lsn, _: Option<Lsn>) {
        // It stands alone: what it holds is what there is.
    }
}
