//! What is asked of an agent.
//!
//! Guarantees: bounded waits. Not here: what it does.

use std::time::Duration;

use outrigger_cluster::agent::{Ask, Say};
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tokio::time::timeout;

use super::line::{Broken, Line, Whom};
use crate::error::Error;

/// Asks the agent at `address`.
///
/// # Errors
/// [`Error::Peer`]: it cannot be reached, or did not answer.
pub(crate) async fn ask_agent(address: &str, ask: &Ask, patience: Duration) -> Result<Say, Error> {
    let whom = Whom {
        address: address.to_owned(),
        cluster: ClusterId::default(),
        content: ContentId(-1),
        instance: InstanceId::default(),
        role: Role::Operator,
    };
    let asking = async {
        let body = ask.encode().map_err(|error| Broken(error.to_string()))?;
        let line = Line::open(&whom).await?;
        let answer = line.ask(body)?.answer().await?;
        Say::decode(&answer).map_err(|error| Broken(error.to_string()))
    };
    let answered = match timeout(patience, asking).await {
        Ok(answered) => answered,
        Err(_) => Err(Broken(format!("no answer within {} ms", patience.as_millis()))),
    };
    answered.map_err(|Broken(cause)| Error::Peer {
        address: address.to_owned(),
        what: "the agent cannot be asked",
        cause,
        advice: "start it with `outrigger agent`, and check its address",
    })
}
