//! One content whose copies live in this process, with its register in memory: for embedders who
//! promote by themselves, for examples and tests.
//!
//! Guarantees: the same decisions as the coordinator's ([`Register`]); what it recorded is gone with
//! the process, and with it who may be promoted: the copies' files stay. Not here: detection, several
//! contents.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_net::config::{Config, Copy, Version};
use outrigger_replica::control::Identity;
use outrigger_replica::rules::Rules;
use outrigger_replica::runtime::{Authority, Front, Replica, ReplicaError, ReplicaOptions, Told};
use outrigger_replica::store::StateStore;
use outrigger_wal::format::DEFAULT_SEGMENT_BYTES;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};
use parking_lot::Mutex;

use crate::authority::first_config;
use crate::register::{Conflict, Proposer, Register, Report};

/// How long a copy may take to get into the in-sync set.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Inner {
    register: Register,
    told: Vec<Told>,
}

struct Shared {
    cluster: ClusterId,
    content: ContentId,
    segment_bytes: u64,
    log: LogId,
    inner: Mutex<Inner>,
}

/// A cluster of one content within this process. Clones are handles to the same one.
#[derive(Clone)]
pub struct LocalCluster {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCluster").field("config", &self.config()).finish()
    }
}

impl LocalCluster {
    /// A cluster without copies.
    ///
    /// # Errors
    /// [`ReplicaError::System`] when the system gives no random numbers.
    pub fn new() -> Result<Self, ReplicaError> {
        Self::of(ClusterId(random()?), ContentId(0), DEFAULT_SEGMENT_BYTES)
    }

    /// One content of a cluster, without copies, with log segments of this size.
    ///
    /// # Errors
    /// As [`LocalCluster::new`].
    pub fn of(
        cluster: ClusterId,
        content: ContentId,
        segment_bytes: u64,
    ) -> Result<Self, ReplicaError> {
        let (log, inner) = (LogId(random()?), Mutex::new(Inner::default()));
        let shared = Shared { cluster, content, segment_bytes, log, inner };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a copy in `dir`, makes it first if the folder holds none. The first copy is the
    /// primary; a later one becomes its mirror. Listens on a free loopback port.
    ///
    /// # Errors
    /// As [`Replica::open`], and [`ReplicaError::Down`] when the cluster refuses the copy.
    pub fn open(&self, dir: &Path, store: Arc<dyn StateStore>) -> Result<Replica, ReplicaError> {
        self.open_with(dir, store, Front::Nobody)
    }

    /// Opens a copy whose clients are answered by `front`. See [`LocalCluster::open`].
    ///
    /// # Errors
    /// As [`LocalCluster::open`].
    pub fn open_with(
        &self,
        dir: &Path,
        store: Arc<dyn StateStore>,
        front: Front,
    ) -> Result<Replica, ReplicaError> {
        if !dir.join("control-0").exists() {
            let identity = Identity {
                cluster: self.shared.cluster,
                content: self.shared.content,
                instance: InstanceId(random()?),
                log: self.shared.log,
                segment_bytes: self.shared.segment_bytes,
            };
            Replica::init(dir, identity)?;
        }
        let instance = Replica::identity(dir)?.instance;
        let authority = Arc::new(One { shared: Arc::clone(&self.shared), instance });
        let options = ReplicaOptions::new(dir, "127.0.0.1:0");
        let replica = Replica::open(options, store, authority, front)?;
        self.admit(instance, replica.local_addr().to_string())
            .map_err(|conflict| ReplicaError::Down(conflict.to_string()))?;
        Ok(replica)
    }

    /// What is recorded.
    #[must_use]
    pub fn config(&self) -> Option<Config> {
        self.shared.inner.lock().register.config().cloned()
    }

    /// Makes another in-sync copy the primary (S3). The caller knows that it should: nothing is
    /// detected here, and it is safe whether or not the old primary lives.
    ///
    /// # Errors
    /// [`ReplicaError::Down`] with the conflict: it is no in-sync copy, or is the primary already.
    pub fn promote(&self, to: InstanceId) -> Result<(), ReplicaError> {
        let refused = |conflict: Conflict| ReplicaError::Down(conflict.to_string());
        let nonce = random()?;
        let mut inner = self.shared.inner.lock();
        let new = inner.register.promotion(to, nonce).map_err(refused)?;
        let seen = inner.register.config().map_or(Version(0), |config| config.version);
        inner.register.swap(seen, &new, Proposer::Coordinator, Rules::all()).map_err(refused)?;
        drop(inner);
        self.shared.tell();
        Ok(())
    }

    /// Blocks until so many copies are in sync, as `replica` sees it; 30 s at most.
    #[must_use]
    pub fn wait_in_sync(&self, replica: &Replica, copies: usize) -> bool {
        replica.wait_until(PATIENCE, |status| {
            let config = status.config.as_ref();
            config.is_some_and(|config| config.in_sync_set().count() >= copies)
        })
    }

    fn admit(&self, instance: InstanceId, address: String) -> Result<(), Conflict> {
        let mut inner = self.shared.inner.lock();
        match inner.register.config().cloned() {
            None => inner.register.create(first_config(instance, vec![address]))?,
            Some(config) => {
                let mut new = Config { version: config.version.next(), ..config.clone() };
                match new.copies.iter_mut().find(|copy| copy.instance == instance) {
                    Some(copy) => copy.addresses = vec![address],
                    None => new.copies.push(Copy {
                        instance,
                        addresses: vec![address],
                        in_sync: false,
                        held: false,
                        durable: Promise::NONE,
                    }),
                }
                inner.register.swap(config.version, &new, Proposer::Operator, Rules::all())?;
            }
        }
        drop(inner);
        self.shared.tell();
        Ok(())
    }
}

impl Shared {
    fn tell(&self) {
        let inner = self.inner.lock();
        let Some(config) = inner.register.config().cloned() else { return };
        let told: Vec<_> = inner.told.iter().filter(|told| told.is_alive()).cloned().collect();
        drop(inner);
        for told in told {
            told.recorded(config.clone(), 1);
        }
    }
}

/// The register as one replica asks it.
struct One {
    shared: Arc<Shared>,
    instance: InstanceId,
}

impl Authority for One {
    fn attach(&self, told: Told) {
        self.shared.inner.lock().told.push(told);
        self.shared.tell();
    }

    fn read(&self) {
        self.shared.tell();
    }

    fn swap(&self, seen: Version, new: Config) {
        let proposer = Proposer::Instance(self.instance);
        let decided = self.shared.inner.lock().register.swap(seen, &new, proposer, Rules::all());
        if let Err(conflict) = decided {
            tracing::debug!(%conflict, "a change of the configuration is refused");
        }
        self.shared.tell();
    }

    fn report(&self, epoch: Epoch, durable: Lsn, _commit: Lsn, _applied: Lsn, _cut: Option<Lsn>) {
        let report = Report { instance: self.instance, epoch: epoch.number, durable };
        if let Err(refused) = self.shared.inner.lock().register.report(&report) {
            tracing::debug!(%refused, "a report is refused");
        }
    }
}

fn random() -> Result<u128, ReplicaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ReplicaError::System {
        doing: "drawing a random number".to_owned(),
        cause: error.to_string(),
    })?;
    Ok(u128::from_le_bytes(bytes))
}
