//! The coordinator: the catalog as a replica of content -1, and whoever asks it.
//!
//! One task steps the machine; the network's thread and the replica put events into its queue.
//! Guarantees: what the catalog has applied is told, nothing else; SIGTERM and Ctrl-C end it in order. With voters
//! it acts only while they have it as primary of the catalog; else it is the standby, and follows. Without voters it
//! stands alone. Not here: decisions (cluster).
//!
//! # Layout
//! - `desk`: the step function's queue
//! - `voting`, `own`: who owns the catalog's own configuration
//! - `agents`: the connections to the hosts; `carrying`: to primaries whose rows move

mod agents;
mod carrying;
mod desk;
mod own;
mod voting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrigger_cluster::authority::SelfAuthority;
use outrigger_cluster::catalog::Catalog;
use outrigger_cluster::coordinator::{
    CATALOG, Coordinator, CoordinatorOptions, Identity as Whose, In,
};
use outrigger_cluster::slots::FileSlots;
use outrigger_replica::control::Identity;
use outrigger_replica::member::Event;
use outrigger_replica::rules::Rules;
use outrigger_replica::runtime::{Authority, Front, Replica, ReplicaOptions};
use outrigger_replica::store::StateStore;
use outrigger_wal::format::MIN_SEGMENT_BYTES;
use outrigger_wal::{ClusterId, ContentId, LogId, Micros};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::agents::Agents;
use self::carrying::Carrying;
use self::desk::{Desk, Door, Heard};
use self::own::Own;
use self::voting::Voting;
use super::pinging::Pinging;
use super::stop::{Signals, Stop};
use super::{Begin, announce, ended, free_ports, init, places, replica};
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
    let listen = free_ports(&config.listen)?;
    if begin == Begin::New {
        new(config)?;
    }
    let (events, queue) = unbounded_channel();
    let Opened { replica: copy, catalog, whose, board, voting } = open(config, listen, &events)?;
    announce(copy.local_addr());
    let mut options = CoordinatorOptions::default();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    options.utc_micros = u64::try_from(since.as_micros()).unwrap_or_default();
    let born = Instant::now();
    let machine =
        Coordinator::new(whose, Arc::clone(&catalog), init::random()?, options, Micros(0))
            .with_voters(config.voters.clone());
    let tell = events.clone();
    // From its own address where it has but one; else from whichever leads there.
    let source = (config.listen.len() == 1).then(|| copy.local_addr().ip());
    let pinging = Pinging::start(source, move |event| {
        // Without a queue the process is ending.
        drop(tell.send(Heard::Machine(event)));
    })?;
    let mut desk = Desk {
        machine,
        replica: copy.clone(),
        born,
        visitors: BTreeMap::new(),
        waiting: BTreeSet::new(),
        agents: Agents::new(whose.cluster, events.clone()),
        carrying: Carrying::default(),
        events,
        catalog,
        whose,
        board,
        voting,
        pinging,
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
    let told = config.identity;
    let Some(instance) = init::begin(dir, told.map(|told| told.instance))? else { return Ok(()) };
    init::make(&dir.join(STORE))?;
    if let Some(told) = told {
        let identity = Identity {
            cluster: told.cluster,
            content: ContentId(told.content),
            instance,
            log: told.log,
            segment_bytes: MIN_SEGMENT_BYTES,
        };
        return Replica::init(dir, identity).map_err(|error| replica(dir, error));
    }
    let identity = Identity {
        cluster: ClusterId(init::random()?),
        content: CATALOG,
        instance,
        log: LogId(init::random()?),
        segment_bytes: MIN_SEGMENT_BYTES,
    };
    let slots = Box::new(FileSlots::new(dir.join(STORE), "register"));
    let addresses = config.listen.clone();
    SelfAuthority::create(slots, identity.instance, addresses, Rules::all())
        .map_err(|error| Error::Catalog { dir: dir.clone(), error })?;
    // The control file last: with it, the coordinator exists.
    Replica::init(dir, identity).map_err(|error| replica(dir, error))
}

struct Opened {
    replica: Replica,
    catalog: Arc<Catalog>,
    whose: Whose,
    board: Board,
    voting: Option<Arc<Voting>>,
}

fn open(
    config: &CoordinatorConfig,
    listen: Vec<String>,
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
    let (authority, voting): (Arc<dyn Authority>, _) = if config.voters.is_empty() {
        let register = SelfAuthority::open(slots("register"), identity.instance, Rules::all());
        (Own::start(register.map_err(failed)?)?, None)
    } else {
        let voting =
            Voting::start(identity, config.voters.clone(), init::random()?, events.clone());
        (Arc::clone(&voting) as Arc<dyn Authority>, Some(voting))
    };
    let Identity { cluster, instance, log, segment_bytes, .. } = identity;
    let whose = Whose { cluster, instance, log, segment_bytes };
    let board = Board::new(places::look(&catalog, whose, false));
    let router = Router::new(RouterOptions::default(), board.watch());
    let door = Gate::new(Arc::clone(&router), Door { events: events.clone() });
    let mut listen = listen.into_iter();
    let mut options = ReplicaOptions::new(dir, listen.next().unwrap_or_default());
    options.listen_too = listen.collect();
    // A standby that is let go of comes back by itself, and failovers wait for the catalog's commits.
    options.member.first_copy_grace_millis = 0;
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
    Ok(Opened { replica: copy, catalog, whose, board, voting })
}
