//! What is asked of a host's agent.
//!
//! Guarantees: bounded waits. Not here: what the agent does (cluster).

use std::time::Duration;

use outrigger_cluster::agent::{Ask, Say};
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tokio::time::timeout;

use super::line::{Broken, Line, Whom};

/// The content of the catalog.
const CATALOG: ContentId = ContentId(-1);

/// Asks an agent at the first of `addresses` that answers.
///
/// # Errors
/// [`Broken`]: there is no answer, and why.
pub(crate) async fn ask_agent(
    addresses: &[String],
    ask: &Ask,
    patience: Duration,
) -> Result<Say, Broken> {
    let mut why = Broken("it has no address".to_owned());
    for address in addresses {
        match ask_at(address, ask, patience).await {
            Ok(say) => return Ok(say),
            Err(Broken(cause)) => why = Broken(format!("{address}: {cause}")),
        }
    }
    Err(why)
}

async fn ask_at(address: &str, ask: &Ask, patience: Duration) -> Result<Say, Broken> {
    let whom = Whom {
        address: address.to_owned(),
        cluster: ClusterId::default(),
        content: CATALOG,
        instance: InstanceId::default(),
        role: Role::Operator,
    };
    let body = ask.encode().map_err(|error| Broken(error.to_string()))?;
    let asking = async {
        let line = Line::open(&whom).await?;
        line.ask(body)?.answer().await
    };
    let say = timeout(patience, asking)
        .await
        .map_err(|_| Broken(format!("no answer within {} ms", patience.as_millis())))??;
    Say::decode(&say).map_err(|error| Broken(error.to_string()))
}
