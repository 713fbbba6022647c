//! Many contents: who owns their configurations, and how they change.
//!
//! # Layout
//! - [`register`]: one content's compare-and-swap register: every rule about a change is here
//! - [`catalog`]: the registers of all contents as a state store, driven by the coordinator's own log
//! - [`coordinator`]: the step function that serves instances and operators from the catalog
//! - [`operator`]: what operators and clients ask, and the answers
//! - [`authority`]: registers without a log: of the catalog itself, and in memory for tests
//! - [`local`]: one content whose copies live in one process
//! - [`voters`]: who owns the configuration of the catalog itself: one register an agent, and a majority
//! - [`slots`]: small files that change as a whole
//!
//! There is no clock, socket or random source in here but for [`local`]; files only behind [`slots::Slots`].
#![forbid(unsafe_code)]

pub mod authority;
pub mod catalog;
mod codec;
pub mod coordinator;
mod error;
pub mod local;
pub mod operator;
pub mod register;
pub mod slots;
pub mod voters;

pub use error::{CodecError, Error};
