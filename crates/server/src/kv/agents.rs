//! Connections to agents, and what is asked of them.
//!
//! Guarantees: bounded waits. Not here: what it does.

use std::time::Duration;

use outrigger_cluster::agent::{Ask, Say};
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tokio::time::timeout;

use super::line::{Broken, Line, Whom};
use crate::error::Error;

/// A connection to an agent that listens at these addresses: the first that answers. A `cluster` of nil is any.
///
/// # Errors
/// As [`Line::open`].
pub(crate) async fn open(addresses: &[String], cluster: ClusterId) -> Result<Line, Broken> {
    let whom = Whom {
        addresses: addresses.to_vec(),
        cluster,
        content: ContentId(-1),
        instance: InstanceId::default(),
        role: Role::Operator,
    };
    Line::open(&whom).await
}

/// Asks the agent that listens at these addresses.
///
/// # Errors
/// [`Error::Peer`]: it cannot be reached, or did not answer.
pub(crate) async fn ask_agent(
    addresses: &[String],
    ask: &Ask,
    patience: Duration,
) -> Result<Say, Error> {
    let asking = async {
        let body = ask.encode().map_err(|error| Broken(error.to_string()))?;
        let line = open(addresses, ClusterId::default()).await?;
        let answer = line.ask(body)?.answer().await?;
        Say::decode(&answer).map_err(|error| Broken(error.to_string()))
    };
    let answered = match timeout(patience, asking).await {
        Ok(answered) => answered,
        Err(_) => Err(Broken(format!("no answer within {} ms", patience.as_millis()))),
    };
    answered.map_err(|Broken(cause)| Error::Peer {
        address: addresses.join(", "),
        what: "the agent cannot be asked",
        cause,
        advice: "start it with `outrigger agent`, and check its address",
    })
}
