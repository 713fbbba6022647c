//! What an embedder adds: the engine's crates under one name.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use outrigger_cluster as cluster;
pub use outrigger_net as net;
pub use outrigger_replica as replica;
pub use outrigger_replica::conformance;
pub use outrigger_wal as wal;

pub use outrigger_cluster::local::LocalCluster;
pub use outrigger_replica::runtime::{Outcome, Pending, Replica, ReplicaError, ReplicaOptions};
pub use outrigger_replica::store::{Fold, Replayed, StateStore};
