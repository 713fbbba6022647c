//! Questions about rows that move, carried to the acting primaries.
//!
//! Guarantees: each is asked once, at the primary that the catalog names, on a connection of its own content, and is answered once: by
//! the primary, or that there is no answer. Not here: what is asked (cluster), what a primary does
//! ([`crate::kv`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_cluster::coordinator::In;
use outrigger_cluster::mover::{Ask, Reply};
use outrigger_net::message::Role;
use outrigger_wal::{ContentId, InstanceId};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::desk::Heard;
use crate::kv::line::{Broken, Line, Whom};
use crate::kv::places::Places;

/// How long one question may take.
const ASK_TIME: Duration = Duration::from_secs(10);

type Lines = Arc<Mutex<BTreeMap<ContentId, (InstanceId, Arc<Line>)>>>;

/// Carries questions.
#[derive(Default)]
pub(super) struct Carrying {
    lines: Lines,
    task: Option<AbortHandle>,
}

impl Carrying {
    /// Asks; the answer is put into the queue.
    pub(super) fn carry(
        &mut self,
        places: &Places,
        events: UnboundedSender<Heard>,
        (id, content, ask): (u64, ContentId, Ask),
    ) {
        let whom = places.contents.get(&content).map(|seat| {
            let whom = Whom {
                addresses: seat.addresses.clone(),
                cluster: places.cluster,
                content,
                instance: seat.primary,
                role: Role::Client,
            };
            (seat.primary, whom)
        });
        let lines = Arc::clone(&self.lines);
        let task = tokio::spawn(async move {
            let asking = asked(&lines, content, whom, &ask);
            let reply = match timeout(ASK_TIME, asking).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(Broken(text))) => Reply::Failed { text },
                Err(_) => Reply::Failed { text: "no answer in time".to_owned() },
            };
            if matches!(reply, Reply::Failed { .. }) {
                // Whatever is still under way on it is not waited for.
                lines.lock().remove(&content);
            }
            drop(events.send(Heard::Machine(In::Carried { id, reply })));
        });
        self.task = Some(task.abort_handle());
    }

    /// Ends all connections; what was asked is not answered.
    pub(super) fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.lines.lock().clear();
    }
}

async fn asked(
    lines: &Lines,
    content: ContentId,
    whom: Option<(InstanceId, Whom)>,
    ask: &Ask,
) -> Result<Reply, Broken> {
    let Some((primary, whom)) = whom else {
        return Err(Broken(format!("content {content} has no primary")));
    };
    let body = ask.encode().map_err(|error| Broken(error.to_string()))?;
    let known = lines.lock().get(&content).map(|(to, line)| (*to, Arc::clone(line)));
    let line = match known {
        Some((to, line)) if to == primary && !line.is_broken() => line,
        _ => {
            let line = Arc::new(open(content, &whom).await?);
            lines.lock().insert(content, (primary, Arc::clone(&line)));
            line
        }
    };
    let answer = line.ask(body)?.answer().await?;
    Reply::decode(&answer)
        .map_err(|error| Broken(format!("the primary of content {content}: {error}")))
}

async fn open(content: ContentId, whom: &Whom) -> Result<Line, Broken> {
    Line::open(whom).await.map_err(|Broken(cause)| {
        let at = whom.addresses.join(", ");
        Broken(format!("the primary of content {content} at {at}: {cause}"))
    })
}
