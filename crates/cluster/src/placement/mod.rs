//! Placement: which instance of which content is on which host.
//!
//! One planner makes every layout: the first one ([`plan`]), and those after [`add_mirrors`],
//! [`expand`], [`move_mirrors`] and [`recovery_target`]. [`outlook`] says what the loss of hosts would do.
//!
//! # The order of hosts
//! There is one: the order in which hosts are listed. An expansion appends its hosts, and is a ring of
//! its own: existing mirrors are never moved. With N hosts that carry segments and K primaries on each,
//! content i * K + k is the k-th primary of host i, and its mirror is
//! - group: on host (i + 1) mod N;
//! - spread: on host (i + 1 + k) mod N, which is never i, since N > K;
//! - block of B: as spread within its block of B hosts, k counted mod (B - 1);
//! - rack: as group, on the first host behind i that stands in another rack.
//!
//! Where that host shares its storage system with i, or has its K mirrors already, the next one in the
//! ring is taken, and others change theirs if need be. Every host ends with K mirrors. If that can be
//! done it is done, else it is refused with the reason ([`Refusal`]).
//!
//! # Addresses and ports
//! The k-th primary of a host has its k-th address, counted round; its mirror has the one behind that
//! on its own host, so that with two networks a pair uses both. Ports count up on each host, by
//! content: primaries from one base, mirrors from another.
//!
//! Guarantees: pure functions; the same input gives the same layout.
//! Not here: making directories and processes, and the catalog.

mod change;
mod layout;
mod matching;
mod mirrors;
mod outlook;
mod plan;
mod refusal;
mod rules;

pub use change::{Move, Moved, add_mirrors, expand, move_mirrors, recovery_target};
pub use layout::{
    CATALOG, Dbid, Directories, HOST_IN_PATH, Host, Layout, Mirroring, Place, Placed, Ports, Role,
};
pub use outlook::{Fatal, HostLoss, Load, Outlook, outlook};
pub use plan::{Seat, Shape, plan};
pub use refusal::Refusal;
pub use rules::{LEAST_PORT, MAX_HOSTS, MAX_INSTANCES};
