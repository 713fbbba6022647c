//! A world to test in: simulated time, chance and disks. One seed is one run.
//!
//! Nothing here is shipped: the crate plugs into the seams of the others, and none depends on it.
//!
//! # Layout
//! - [`rng`]: chance, from a seed
//! - [`clock`]: simulated time, with pauses and skew for each node
//! - [`disk`]: a disk with a page cache, a platter, crashes and faults
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod rng;

pub use clock::{NodeClock, Pause};
pub use disk::SimDisk;
pub use rng::Rng;
