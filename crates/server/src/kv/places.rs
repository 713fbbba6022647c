//! Where every content is: what the router is told whenever the catalog changes.
//!
//! Guarantees: whoever looks sees one moment's picture; whoever waits is woken by each change.
//! Not here: who decides it (cluster).

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_cluster::buckets::{Bucket, Buckets};
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tokio::sync::watch;

use super::protocol::BucketSet;

/// The primary of a content, as it is recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seat {
    /// Who.
    pub(crate) primary: InstanceId,
    /// Where, in order of preference.
    pub(crate) addresses: Vec<String>,
    /// The number of its epoch.
    pub(crate) epoch: u64,
    /// The version of the configuration that says so.
    pub(crate) version: u64,
    /// Whether it is worth asking: not while it is known to be gone.
    pub(crate) acting: bool,
}

/// One moment's picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Places {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The instance of the catalog's content in this process.
    pub(crate) me: InstanceId,
    /// Whether it serves as the coordinator: it routes nothing otherwise.
    pub(crate) serving: bool,
    /// The contents.
    pub(crate) contents: BTreeMap<ContentId, Seat>,
    /// Who holds which rows; `None` while nobody does.
    pub(crate) buckets: Option<Arc<Buckets>>,
}

impl Places {
    /// Of a coordinator that does not serve.
    pub(crate) const fn nowhere(cluster: ClusterId, me: InstanceId) -> Self {
        Self { cluster, me, serving: false, contents: BTreeMap::new(), buckets: None }
    }

    /// The version of the map; 0 while there is none.
    pub(crate) fn map(&self) -> u64 {
        self.buckets.as_ref().map_or(0, |buckets| buckets.version().0)
    }

    /// Which content holds what.
    pub(crate) fn shares(&self) -> BTreeMap<ContentId, BucketSet> {
        let mut shares = BTreeMap::new();
        for (bucket, holder) in self.buckets.iter().flat_map(|buckets| buckets.iter()) {
            let bucket: Bucket = bucket;
            shares.entry(holder.owner).or_insert(BucketSet::EMPTY).insert(bucket);
        }
        shares
    }
}

/// Told by whoever knows, watched by routers.
#[derive(Debug)]
pub(crate) struct Board(watch::Sender<Arc<Places>>);

impl Board {
    /// A board that says so much.
    pub(crate) fn new(places: Places) -> Self {
        Self(watch::Sender::new(Arc::new(places)))
    }

    /// Says something else from now on; whoever waits is woken when it differs.
    pub(crate) fn tell(&self, places: Places) {
        self.0.send_if_modified(|told| {
            let changed = **told != places;
            if changed {
                *told = Arc::new(places);
            }
            changed
        });
    }

    /// What it says.
    pub(crate) fn now(&self) -> Arc<Places> {
        Arc::clone(&self.0.borrow())
    }

    /// To look at it.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Places>> {
        self.0.subscribe()
    }
}
