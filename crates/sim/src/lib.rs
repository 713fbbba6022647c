//! A world to test in: simulated time, chance, disks, a network, a cluster. One seed is one run.
//!
//! Nothing here is shipped: the crate plugs into the seams of the others, and none depends on it.
//!
//! # Layout
//! - [`rng`]: chance, from a seed
//! - [`clock`]: simulated time, with pauses and skew for each node
//! - [`disk`]: a disk with a page cache, a platter, crashes and faults
//! - [`cluster`]: the copies of one content and everything around them
//! - `checker`: what must hold in every run
//! - [`whole`]: the whole cluster: coordinator, standby, agents that vote, several contents
//! - [`suite`]: many seeds
#![forbid(unsafe_code)]

mod checker;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod rng;
pub mod suite;
pub mod whole;

pub use clock::{NodeClock, Pause};
pub use disk::SimDisk;
pub use rng::Rng;
