//! The wire: what instances of one cluster say to each other, and how it gets there.
//!
//! # Layout
//! - [`message`], [`config`]: the words
//! - [`frame`]: their layout in bytes, and blocks behind them verbatim
//! - [`beat`]: heartbeats, which are datagrams
//! - [`handshake`]: who may talk, and where two histories part
//! - [`sender`], [`receiver`]: the stream to one copy, the stream from the primary
//! - [`transport`]: TCP by tokio: listening, dialling, queues, deadlines
//!
//! # Guarantees
//! Decoding is total: no bytes from a peer panic, and none make this side allocate what was not
//! checked and capped. Everything but [`transport`] is free of clocks, sockets and randomness.
#![forbid(unsafe_code)]

pub mod beat;
pub mod config;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod receiver;
pub mod sender;
pub mod transport;

pub use error::Error;
