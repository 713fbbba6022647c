//! Rows over the wire: the protocol, the service in an instance, the client that follows failovers.
//!
//! # Layout
//! - [`protocol`]: requests and answers, and their bytes
//! - [`service`]: an instance answers
//! - [`line`]: one connection
//! - [`client`]: writes that take effect once, whoever is the primary
//! - [`operator`]: what is asked of the coordinator

pub(crate) mod client;
pub(crate) mod line;
pub(crate) mod operator;
pub(crate) mod protocol;
pub(crate) mod service;
