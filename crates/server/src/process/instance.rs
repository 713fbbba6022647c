//! An instance: one copy of one content, and its clients.
//!
//! Guarantees: nothing in the data directory is opened before its lock is held; SIGTERM and Ctrl-C end
//! it in order; it ends by itself when its copy fails; it answers heartbeats from before its log is read
//! back until it is closed. Not here: the copy (replica).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use outrigger_cluster::operator::{Answer, Place, Registration, Request};
use outrigger_net::transport::Dialer;
use outrigger_replica::control::Identity;
use outrigger_replica::member::{Event, Role};
use outrigger_replica::runtime::{Authority, Front, Replica, ReplicaOptions, Requests};
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::{Rows, StateStore};
use outrigger_wal::{ContentId, InstanceId, Lsn};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::authority::Remote;
use super::beating::Beating;
use super::disk_probe::DiskProbe;
use super::lending::Desk;
use super::stop::{Signals, Stop};
use super::{Begin, announce, ended, free_ports, init, replica};
use crate::config::InstanceConfig;
use crate::error::{Error, Verdict};
use crate::kv::operator;
use crate::kv::service::Service;

/// How long `--init` waits for the coordinator.
const INIT_PATIENCE: Duration = Duration::from_secs(15);
/// How often an instance without a coordinator looks where it should be.
const LOOK_TIME: Duration = Duration::from_millis(250);
/// How long one question to the coordinator may take.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// Runs an instance until it is told to stop. `incarnation` names this process to whoever watches it;
/// without one it is drawn.
///
/// # Errors
/// Why it could not start, or failed.
pub(crate) fn run(
    (config, source): (&InstanceConfig, &Path),
    begin: Begin,
    incarnation: Option<u64>,
) -> Result<Verdict, Error> {
    let runtime = super::runtime()?;
    let _within = runtime.enter();
    let mut signals = Signals::new()?;
    let dir = &config.data_dir;
    // A taken port is found before anything is made.
    let listen = free_ports(&config.listen)?;
    if begin == Begin::New {
        runtime.block_on(async {
            tokio::select! {
                made = new(config, &listen) => made,
                stop = signals.next() => Err(interrupted(stop)),
            }
        })?;
    }
    let copy = open(config, &listen, incarnation)?;
    announce(copy.replica.local_addr());
    let ended_by = runtime.block_on(async {
        tokio::select! {
            () = keep_connected(config, source, &copy.authority) => Ok(Stop::Terminated),
            () = keep_registered(config, &copy) => Ok(Stop::Terminated),
            failed = watch(dir, &copy.replica) => Err(failed),
            needs = copy.needs_copy.wait(config, &copy.replica) => Err(needs),
            stop = signals.next() => Ok(stop),
        }
    });
    let closed = copy.replica.close().map_err(|error| replica(dir, error));
    let stop = ended_by?;
    closed?;
    ended(stop)
}

struct Running {
    replica: Replica,
    /// Where it listens.
    listen: Vec<String>,
    authority: Arc<Remote>,
    identity: Identity,
    needs_copy: NeedsCopy,
    /// Ends with it.
    _beating: Beating,
    _probe: DiskProbe,
}

/// The word of a primary that this copy cannot go on from its data.
struct NeedsCopy {
    told: Arc<Notify>,
    why: Arc<Mutex<String>>,
}

impl NeedsCopy {
    /// Ends with the reason, where an agent is there to have the copy made anew.
    async fn wait(&self, config: &InstanceConfig, replica: &Replica) -> Error {
        loop {
            self.told.notified().await;
            // A primary says the same of its copies.
            if config.identity.is_some() && replica.status().role == Role::Mirror {
                return Error::Path {
                    path: config.data_dir.clone(),
                    cause: self.why.lock().clone(),
                    advice: "this copy has to be made anew from its primary: `outrigger recover`",
                };
            }
        }
    }
}

/// An instance within another command's process, made anew.
pub(crate) struct Hosted {
    dir: PathBuf,
    copy: Running,
    dialer: Dialer,
}

impl Hosted {
    /// Makes its directory and opens it; its connection to the coordinator lives on `runtime`.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) fn start(runtime: &Runtime, config: &InstanceConfig) -> Result<Self, Error> {
        let listen = free_ports(&config.listen)?;
        runtime.block_on(new(config, &listen))?;
        let copy = open(config, &listen, None)?;
        let _within = runtime.enter();
        let dialer = copy.authority.connect(config.coordinator.clone());
        Ok(Self { dir: config.data_dir.clone(), copy, dialer })
    }

    /// Its copy.
    pub(crate) const fn replica(&self) -> &Replica {
        &self.copy.replica
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// What could not be written.
    pub(crate) fn close(self) -> Result<(), Error> {
        drop(self.dialer);
        self.copy.replica.close().map_err(|error| replica(&self.dir, error))
    }
}

fn open(
    config: &InstanceConfig,
    listen: &[String],
    incarnation: Option<u64>,
) -> Result<Running, Error> {
    let dir = &config.data_dir;
    let failed = |error| replica(dir, error);
    let identity = Replica::identity(dir).map_err(failed)?;
    let lock = Replica::lock(dir).map_err(failed)?;
    init::born(dir)?;
    let incarnation = match incarnation {
        Some(incarnation) => incarnation,
        None => u64::try_from(init::random()? >> 64).unwrap_or_default(),
    };
    let interval = Duration::from_millis(config.disk_probe_interval_ms);
    let probe = DiskProbe::start(vec![dir.clone(), dir.join("wal")], interval)?;
    // ORDER: it answers before the log is read back, which may take long.
    let progress = Arc::new(AtomicU64::new(0));
    let (first, others) =
        listen.split_first().map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
    let beating =
        Beating::start(listen, identity, incarnation, Some(probe.age()), Arc::clone(&progress))?;
    let options = LsmOptions {
        memtable_bytes: config.memtable_bytes,
        cache_bytes: config.cache_bytes,
        ..LsmOptions::default()
    };
    let folder = dir.join("store");
    let store = LsmStore::open(&folder, options)
        .map(Arc::new)
        .map_err(|error| Error::Store { dir: folder, error })?;
    let authority = Remote::new(identity, Replica::accepted(dir).map_err(failed)?);
    let service = Service::new(Arc::clone(&store) as Arc<dyn Rows>);
    let mut options = ReplicaOptions::new(dir, first);
    options.listen_too = others.to_vec();
    options.member.copy_grace_millis = config.copy_grace_ms;
    options.net.max_connections = config.max_connections;
    options.member.retain_bytes = config.retain_bytes;
    options.progress = Some(progress);
    let desk = Desk::new(Arc::clone(&service));
    let store = store as Arc<dyn StateStore>;
    let replica = Replica::open_locked(
        lock,
        options,
        Arc::clone(&store),
        Arc::clone(&authority) as Arc<dyn Authority>,
        Front::Requests(Arc::clone(&desk) as Arc<dyn Requests>),
    )
    .map_err(failed)?;
    service.serve(&replica);
    beating.opened(&replica);
    let needs_copy = Arc::new(Notify::new());
    let why = Arc::new(Mutex::new(String::new()));
    let (tell, said) = (Arc::clone(&needs_copy), Arc::clone(&why));
    replica.on_event(move |event| {
        if let Event::NeedsCopy { text } = event {
            said.lock().clone_from(text);
            tell.notify_one();
        }
        true
    });
    desk.lend(&replica, store, dir)?;
    let needs_copy = NeedsCopy { told: needs_copy, why };
    Ok(Running {
        replica,
        listen: listen.to_vec(),
        authority,
        identity,
        needs_copy,
        _beating: beating,
        _probe: probe,
    })
}

/// Makes the data directory: a place at the coordinator, then identity and log.
async fn new(config: &InstanceConfig, listen: &[String]) -> Result<(), Error> {
    let dir = &config.data_dir;
    let told = config.identity;
    let Some(instance) = init::begin(dir, told.map(|told| told.instance))? else { return Ok(()) };
    if let Some(told) = told {
        let identity = Identity {
            cluster: told.cluster,
            content: ContentId(told.content),
            instance,
            log: told.log,
            segment_bytes: config.segment_bytes,
        };
        return Replica::init(dir, identity).map_err(|error| replica(dir, error));
    }
    let registration = Registration {
        content: ContentId(i32::from(config.content)),
        instance,
        addresses: addresses(config, listen),
        segment_bytes: config.segment_bytes,
    };
    let place = register(config, registration).await?;
    let identity = Identity {
        cluster: place.cluster,
        content: place.content,
        instance,
        log: place.log,
        segment_bytes: place.segment_bytes,
    };
    Replica::init(dir, identity).map_err(|error| replica(dir, error))
}

async fn register(config: &InstanceConfig, mut wanted: Registration) -> Result<Place, Error> {
    let until = Instant::now() + INIT_PATIENCE;
    // The first instance of a content chooses; the others take what there is.
    let mut coordinators = config.coordinator.iter().cycle();
    let mut next = || coordinators.next().map(String::as_str).unwrap_or_default();
    if let Ok(place) = operator::look_up(next(), wanted.content, ASK_PATIENCE).await {
        wanted.segment_bytes = place.segment_bytes;
    }
    let content = wanted.content;
    let request = Request::Register(wanted);
    loop {
        match operator::ask(next(), &request, ASK_PATIENCE).await {
            Ok(Answer::Registered(place)) => return Ok(place),
            Ok(Answer::Denied { text }) => return Err(Error::Refused { content, text }),
            Ok(_) => {
                let text = "the coordinator answered something else".to_owned();
                return Err(Error::Refused { content, text });
            }
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Keeps the connection to the coordinator up, wherever the configuration in `source` says that it is; never ends.
async fn keep_connected(config: &InstanceConfig, source: &Path, authority: &Arc<Remote>) {
    let mut coordinators = config.coordinator.clone();
    let mut dialer = authority.connect(coordinators.clone());
    loop {
        sleep(LOOK_TIME).await;
        if authority.is_connected() {
            continue;
        }
        // A standby may have been added, or a coordinator moved, since it was read.
        match crate::config::read::<InstanceConfig>(source) {
            Ok(now) if now.coordinator != coordinators => {
                coordinators = now.coordinator;
                drop(std::mem::replace(&mut dialer, authority.connect(coordinators.clone())));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the configuration cannot be read again"),
        }
    }
}

/// Tells the coordinator where this instance is now, until it knows; never ends. An agent's instance is where
/// the coordinator told the agent to start it.
async fn keep_registered(config: &InstanceConfig, copy: &Running) {
    if config.identity.is_some() {
        return std::future::pending().await;
    }
    let request = Request::Register(Registration {
        content: copy.identity.content,
        instance: copy.identity.instance,
        addresses: addresses(config, &copy.listen),
        segment_bytes: copy.identity.segment_bytes,
    });
    for coordinator in config.coordinator.iter().cycle() {
        match operator::ask_once(coordinator, &request, ASK_PATIENCE).await {
            Ok(Answer::Registered(_)) => break,
            Ok(Answer::Denied { text }) => {
                tracing::warn!(%text, "the coordinator does not take this instance's address");
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the coordinator cannot be told the address"),
        }
        sleep(Duration::from_millis(500)).await;
    }
    std::future::pending().await
}

/// Ends with the reason when the copy fails.
async fn watch(dir: &Path, replica: &Replica) -> Error {
    // Nothing is ever applied up to there: the wait ends with the copy.
    let ended = replica.applied(Lsn(u64::MAX)).await;
    let told = replica.status().failed;
    Error::Path {
        path: dir.to_owned(),
        cause: told.or_else(|| ended.err().map(|error| error.to_string())).unwrap_or_default(),
        advice: "look at the device, then start the instance again",
    }
}

/// What others are told.
fn addresses(config: &InstanceConfig, listen: &[String]) -> Vec<String> {
    if config.advertise.is_empty() { listen.to_vec() } else { config.advertise.clone() }
}

fn interrupted(_: Stop) -> Error {
    let left = "start it with --init again to go on".to_owned();
    Error::Interrupted { left }
}

/// Names an instance for people: the first eight digits.
pub(crate) fn short(instance: InstanceId) -> String {
    instance.to_string().chars().take(8).collect()
}
