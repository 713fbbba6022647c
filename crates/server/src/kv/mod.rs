//! Rows over the wire: the protocol, the service in an instance, the router in front of all contents, the client
//! that follows failovers.
//!
//! # Layout
//! - [`protocol`]: requests and answers, and their bytes
//! - [`service`]: an instance answers
//! - [`moving`]: an instance gives rows away, and takes rows in
//! - [`places`]: where every content is, as the router is told
//! - [`router`]: sends each request on to the primary of its content
//! - [`line`]: one connection
//! - [`client`]: writes that take effect once, whoever is the primary
//! - [`finding`]: how a client comes to its connection
//! - [`operator`]: what is asked of the coordinator
//! - [`agents`]: what is asked of the agents

pub(crate) mod agents;
pub(crate) mod client;
pub(crate) mod finding;
pub(crate) mod line;
mod moving;
pub(crate) mod operator;
pub(crate) mod places;
pub(crate) mod protocol;
pub(crate) mod router;
pub(crate) mod service;
