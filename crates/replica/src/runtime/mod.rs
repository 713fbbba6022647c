//! A member over real files, sockets and threads: what a server embeds.
//!
//! One lock holds the member; whoever has an event (a producer, a disk thread, the network thread, the store's
//! thread) puts it into the inbox and steps the member if nobody else is at it. Threads: the disk's
//! (3), one for the network, one that applies; none waits for another.
//!
//! Guarantees: those of [`crate::member`]. A commit is [`Outcome::Committed`] only by the commit LSN of the
//! reign in which it was appended; a reign that ends leaves what waits [`Outcome::InDoubt`].
//! Not here: the authority ([`Authority`]), what records mean ([`StateStore`]).

mod alarm;
mod applying;
mod authority;
mod commit;
mod core;
mod error;
mod links;
mod open;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use outrigger_net::config::{Config, Version};
use outrigger_net::transport::Settings;
use outrigger_wal::disk::lock::DirLock;
use outrigger_wal::recover::Saved;
use outrigger_wal::{Appended, Epoch, InstanceId, Lsn};

pub use self::authority::{Authority, Told};
pub use self::commit::{Outcome, Pending};
pub use self::error::ReplicaError;
pub use self::links::{Caller, Front, Requests, Visitor, Visits};
use crate::control::{Control, Identity};
use crate::member::{Counters, Event, LendError, Lent, MemberOptions, Role};
pub use crate::member::{HandOver, StreamStatus, Streaming};
use crate::store::StateStore;
use core::Shared;

/// How a replica is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicaOptions {
    /// The instance's folder: `wal/`, `store/`, the control file.
    pub data_dir: PathBuf,
    /// Where peers and clients reach it: `host:port`, port 0 for a free one.
    pub listen: String,
    /// Further addresses on which it is reached, `host:port`. Default none.
    pub listen_too: Vec<String>,
    /// The member's options.
    pub member: MemberOptions,
    /// The network's deadlines and windows.
    pub net: Settings,
    /// Threads that carry disk operations out. Default 3.
    pub disk_threads: usize,
    /// Log space after which the store writes a checkpoint, in bytes. Default 64 MiB.
    pub checkpoint_bytes: u64,
    /// How often, in milliseconds, the member is stepped at the least, and the status' `turns` rise. Default 100.
    pub turn_millis: u64,
    /// Where to tell how far the log is read back while the replica is opened, as an LSN. Default: nowhere.
    pub progress: Option<Arc<AtomicU64>>,
}

impl ReplicaOptions {
    /// The defaults, for an instance in `data_dir` that listens on `listen`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, listen: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: listen.into(),
            listen_too: Vec::new(),
            member: MemberOptions::default(),
            // Room for the stream's window and the largest block behind it.
            net: Settings { send_window_bytes: 24 << 20, ..Settings::default() },
            disk_threads: 3,
            checkpoint_bytes: 64 << 20,
            turn_millis: 100,
            progress: None,
        }
    }
}

/// How a replica stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The highest epoch it accepted.
    pub epoch: Epoch,
    /// The reign in which it serves, if it does.
    pub serving: Option<Epoch>,
    /// What is committed, as far as it knows and holds it.
    pub commit: Lsn,
    /// What its store has applied.
    pub applied: Lsn,
    /// What is durable here.
    pub durable: Lsn,
    /// The end of its log.
    pub end: Lsn,
    /// Durable writes to its log, each of one block or more, since it was opened or last cut.
    pub writes: u64,
    /// When this was asked, in microseconds since the replica was opened.
    pub at_micros: u64,
    /// Rises, ten times a second and more, as long as its network's thread comes round and its member is stepped.
    pub turns: u64,
    /// Since when something of its log is on its way to the disk, on that clock; `None`: all of it is durable.
    pub undurable_since_micros: Option<u64>,
    /// A mirror: when something came from its primary last, on that clock; `None`: nothing streams to it.
    pub stream_heard_micros: Option<u64>,
    /// A primary: the copy that has connected most often in vain since a connection brought it further, and how often.
    pub flapping: Option<(InstanceId, u32)>,
    /// The copy that its reign is being handed over to (S9).
    pub handing_over: Option<InstanceId>,
    /// The configuration it acts under.
    pub config: Option<Config>,
    /// What it has done since it was opened.
    pub counters: Counters,
    /// The last copy that joined the in-sync set here.
    pub last_join: Option<Join>,
    /// What was last cut off its log since it was opened.
    pub last_cut: Option<Saved>,
    /// Why it is down, if it failed.
    pub failed: Option<String>,
}

/// The highest that an instance has accepted of its authority.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Accepted {
    /// The version of its content's configuration.
    pub version: Version,
    /// The reign of a coordinator.
    pub coordinator_epoch: u64,
}

/// How a copy got into the in-sync set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join {
    /// Whose copy.
    pub copy: InstanceId,
    /// Where streaming to it began, on the first of its lines: the fork, or the end it had.
    pub from: Lsn,
    /// Up to where it had been sent.
    pub to: Lsn,
    /// Stored bytes it was sent, on all lines since it was last in sync.
    pub stored_bytes: u64,
    /// Bytes on the wire in that time, everything counted.
    pub wire_bytes: u64,
}

/// One copy of one content, running. Clones are handles to the same one.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Replica {
    /// Makes the folder of a new instance: control file, log, store's folder.
    ///
    /// # Errors
    /// [`ReplicaError::Exists`] when there is an instance already; the disk's faults.
    pub fn init(data_dir: &Path, identity: Identity) -> Result<(), ReplicaError> {
        open::init(data_dir, identity)
    }

    /// Who the instance in a folder is.
    ///
    /// # Errors
    /// [`ReplicaError::Control`] when the folder holds none: a lost disk must not become an empty
    /// database.
    pub fn identity(data_dir: &Path) -> Result<Identity, ReplicaError> {
        open::identity(data_dir)
    }

    /// What the instance in a folder has accepted of its authority (S0): an authority that knows less has lost
    /// something, and is to be told so before anything else.
    ///
    /// # Errors
    /// As [`Replica::identity`].
    pub fn accepted(data_dir: &Path) -> Result<Accepted, ReplicaError> {
        open::accepted(data_dir)
    }

    /// What the control file of the instance in a folder says, whether the instance runs or not. Nothing is locked, and
    /// nothing is written.
    ///
    /// # Errors
    /// As [`Replica::identity`]; while the instance writes it, that it is damaged: look again.
    pub fn control(data_dir: &Path) -> Result<Control, ReplicaError> {
        open::control(data_dir)
    }

    /// Opens an instance: recovers its log, listens, follows or takes up a reign as `authority` says.
    /// `front` answers clients, where there are any.
    ///
    /// # Errors
    /// [`ReplicaError`]: a locked folder, damage, a port that is taken.
    pub fn open(
        options: ReplicaOptions,
        store: Arc<dyn StateStore>,
        authority: Arc<dyn Authority>,
        front: impl Into<Front>,
    ) -> Result<Self, ReplicaError> {
        let lock = open::lock(&options.data_dir)?;
        Self::open_locked(lock, options, store, authority, front)
    }

    /// As [`Replica::open`], for a caller that holds the folder already: a store in it must not be
    /// opened by two processes.
    ///
    /// # Errors
    /// As [`Replica::open`].
    pub fn open_locked(
        lock: DirLock,
        options: ReplicaOptions,
        store: Arc<dyn StateStore>,
        authority: Arc<dyn Authority>,
        front: impl Into<Front>,
    ) -> Result<Self, ReplicaError> {
        Ok(Self { shared: open::open(lock, options, store, authority, front.into())? })
    }

    /// Takes the folder of an instance for this process.
    ///
    /// # Errors
    /// [`ReplicaError::Locked`] when somebody has it, [`ReplicaError::Control`] when it is not there.
    pub fn lock(data_dir: &Path) -> Result<DirLock, ReplicaError> {
        open::lock(data_dir)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr()
    }

    /// Itself.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.shared.identity.instance
    }

    /// Who it is.
    #[must_use]
    pub fn who(&self) -> Identity {
        self.shared.identity
    }

    /// Appends a record on the primary; returns its place at once.
    ///
    /// # Errors
    /// [`ReplicaError::NotPrimary`] while it does not serve, [`ReplicaError::Log`] for a record that is too large or
    /// a log that is full or failed. Nothing was appended.
    ///
    /// # Durability
    /// None: wait for [`Pending::committed`].
    pub fn append(&self, record: &[u8]) -> Result<Pending, ReplicaError> {
        self.append_batch(&[record])
    }

    /// Appends records that take effect all together or not at all.
    ///
    /// # Errors
    /// As [`Replica::append`].
    pub fn append_batch(&self, records: &[&[u8]]) -> Result<Pending, ReplicaError> {
        let reign = self.shared.serving_reign().ok_or(ReplicaError::NotPrimary)?;
        let at: Appended =
            reign.appender.append_batch_in(reign.opening, records).map_err(not_taken)?;
        self.shared.drive();
        Ok(Pending::new(reign, at))
    }

    /// Asks this copy, the primary, to hand its reign over to the mirror `to` (S9), or this copy, the mirror `to`,
    /// to pass that on. The authority is told what came of it: [`Authority::gave_up`] or
    /// [`Authority::not_handed_over`]; it then records `to` as primary. Writes are refused meanwhile
    /// ([`ReplicaError::NotPrimary`]), for `at_most` at the longest where it does not come about.
    ///
    /// # Errors
    /// [`ReplicaError::NotPrimary`] when it knows of no configuration.
    pub fn hand_over(&self, to: InstanceId, at_most: Duration) -> Result<(), ReplicaError> {
        self.shared.hand_over(to, at_most)
    }

    /// Waits until the store has applied everything up to `lsn`.
    ///
    /// # Errors
    /// [`ReplicaError::Down`] when the replica fails or is closed first.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the wait.
    pub async fn applied(&self, lsn: Lsn) -> Result<Lsn, ReplicaError> {
        self.shared.hurry();
        self.shared.applied.wait(lsn).await.map_err(|error| ReplicaError::Down(error.to_string()))
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Its streams to other copies, while it is their primary.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamStatus> {
        self.shared.streams()
    }

    /// What became of a commit that ended in doubt.
    #[must_use]
    pub fn fate(&self, epoch: Epoch, end: Lsn) -> crate::fate::Fate {
        self.shared.fate(epoch, end)
    }

    /// The reign in which the byte before `end` was appended, as far as the epoch table goes back.
    #[must_use]
    pub fn epoch_at(&self, end: Lsn) -> Option<Epoch> {
        self.shared.epoch_at(end)
    }

    /// Events as they happen, from now on, for as long as `on_event` returns `true`. It must not block.
    pub fn on_event(&self, on_event: impl Fn(&Event) -> bool + Send + 'static) {
        self.shared.listeners.lock().push(Box::new(on_event));
    }

    /// Blocks until it serves, fails, or so much time is over.
    #[must_use]
    pub fn wait_serving(&self, patience: Duration) -> bool {
        self.shared.wait_until(patience, |status| status.serving.is_some())
    }

    /// Blocks until `done` holds of its status, or so much time is over.
    #[must_use]
    pub fn wait_until(&self, patience: Duration, done: impl Fn(&Status) -> bool) -> bool {
        self.shared.wait_until(patience, done)
    }

    /// What is said to a copy that is rebuilt from this one.
    ///
    /// # Errors
    /// [`LendError`]: it does not serve, or commits wait for that copy.
    pub fn lend(&self, to: InstanceId) -> Result<Lent, LendError> {
        self.shared.lend(to)
    }

    /// Holds the log for what bears this name, from `from` on or no longer; answers where the log begins
    /// now: from there on it is held when this returns.
    pub fn hold(&self, name: u64, from: Option<Lsn>) -> Lsn {
        self.shared.hold(name, from)
    }

    /// Runs a future on the network's thread; for services of [`Requests`].
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.shared.spawn(future);
    }

    /// Goes down in order: what is pending is written, the store makes a checkpoint, the log is
    /// marked as cleanly closed.
    ///
    /// # Errors
    /// What could not be written; the copy then recovers at its next opening.
    pub fn close(&self) -> Result<(), ReplicaError> {
        self.shared.close()
    }
}

/// Why a record was not taken: an appender that is shut or frozen says that this copy does not serve.
fn not_taken(error: outrigger_wal::Error) -> ReplicaError {
    match error {
        outrigger_wal::Error::NotPrimary => ReplicaError::NotPrimary,
        other => ReplicaError::Log(other),
    }
}
