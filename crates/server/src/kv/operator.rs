//! What is asked of the coordinator.
//!
//! Guarantees: bounded waits. Not here: what the coordinator decides (cluster).

use std::time::Duration;

use outrigger_cluster::operator::{Answer, Place, Request};
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use tokio::time::timeout;

use super::line::{Broken, Line, Whom};
use crate::error::Error;

/// The content of the catalog.
const CATALOG: ContentId = ContentId(-1);

/// Asks the coordinator at `address` once.
///
/// # Errors
/// [`Broken`]: there is no answer, and why.
pub(crate) async fn ask_once(
    address: &str,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Broken> {
    let whom = Whom {
        addresses: vec![address.to_owned()],
        cluster: ClusterId::default(),
        content: CATALOG,
        instance: InstanceId::default(),
        role: Role::Operator,
    };
    let body = request.encode().map_err(|error| Broken(error.to_string()))?;
    let asking = async {
        let line = Line::open(&whom).await?;
        line.ask(body)?.answer().await
    };
    let answer = timeout(patience, asking)
        .await
        .map_err(|_| Broken(format!("no answer within {} ms", patience.as_millis())))??;
    Answer::decode(&answer).map_err(|error| Broken(error.to_string()))
}

/// Asks the coordinator: the first of these addresses, with commas between them, that serves.
///
/// A standby answers that it does not: then the next one is asked, and the first refusal stands when none of them does.
///
/// # Errors
/// [`Error::Peer`]: it cannot be reached, or did not answer.
pub(crate) async fn ask(
    address: &str,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Error> {
    let mut why = Broken("no address is given".to_owned());
    let mut refused = None;
    for one in address.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        match ask_once(one, request, patience).await {
            Ok(answer @ Answer::Denied { .. }) => {
                refused.get_or_insert(answer);
            }
            Ok(answer) => return Ok(answer),
            Err(cause) => why = cause,
        }
    }
    if let Some(answer) = refused {
        return Ok(answer);
    }
    let Broken(cause) = why;
    Err(Error::Peer {
        address: address.to_owned(),
        what: "the coordinator cannot be asked",
        cause,
        advice: "check that it runs, and that this is its address",
    })
}

/// Where a content is.
///
/// # Errors
/// [`Broken`]: the coordinator cannot be asked, or does not know.
pub(crate) async fn look_up(
    address: &str,
    content: ContentId,
    patience: Duration,
) -> Result<Place, Broken> {
    match ask_once(address, &Request::LookUp { content }, patience).await? {
        Answer::Found(place) => Ok(place),
        Answer::Denied { text } => Err(Broken(text)),
        _ => Err(Broken("the coordinator answered something else".to_owned())),
    }
}
