//! Many contents: who owns their configurations, and how they change.
//!
//! # Layout
//! - [`register`]: one content's compare-and-swap register: every rule about a change is here
//! - [`catalog`]: the registers of all contents as a state store, driven by the coordinator's own log
//! - [`coordinator`]: the step function that serves instances and operators from the catalog
//! - [`agent`]: what runs on a host: instances started, stopped and watched as told
//! - [`detect`]: what heartbeats, connections and agents say of each instance
//! - [`failover`]: what follows from that for each content
//! - [`operator`]: what operators and clients ask, and the answers
//! - [`authority`]: registers without a log: of the catalog itself, and in memory for tests
//! - [`buckets`]: which content holds which row
//! - [`local`]: one content whose copies live in one process
//! - [`placement`]: which instance is on which host, and what the loss of hosts would do
//! - [`rebuilding`]: a lost catalog made anew out of what agents, instances and voters hold
//! - [`settings`]: what can be set, and its defaults
//! - [`voters`]: who owns the configuration of the catalog itself: one register an agent, and a majority
//! - [`slots`]: small files that change as a whole
//!
//! There is no clock, socket or random source in here but for [`local`]; files only behind [`slots::Slots`].
#![forbid(unsafe_code)]

pub mod agent;
pub mod authority;
pub mod buckets;
pub mod catalog;
mod codec;
pub mod coordinator;
pub mod detect;
mod error;
pub mod failover;
pub mod local;
pub mod mover;
pub mod operator;
pub mod placement;
pub mod rebuilding;
pub mod register;
pub mod settings;
pub mod slots;
pub mod voters;

pub use error::{CodecError, Error};
