//! Connections to primaries: two to each content, one for writes and one for everything else, so that no ack waits
//! behind rows that are read.
//!
//! Guarantees: a connection is to whoever the places named when it was asked for; one to a primary that is none
//! any more is ended at once, and whoever waits on it is told. Not here: when to try again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::super::line::{Broken, Line, Whom};
use super::super::places::{Places, Seat};

/// How long one of several addresses may take, and the only one.
const ADDRESS_TIME: Duration = Duration::from_millis(300);
const ONLY_ADDRESS_TIME: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Use {
    Writing,
    Reading,
}

#[derive(Default)]
struct Slot {
    open: Mutex<Option<(InstanceId, Arc<Line>)>>,
    /// Held while one is opened: one at a time.
    opening: tokio::sync::Mutex<()>,
}

impl Slot {
    fn current(&self, primary: InstanceId) -> Option<Arc<Line>> {
        let open = self.open.lock();
        let (to, line) = open.as_ref()?;
        (*to == primary && !line.is_broken()).then(|| Arc::clone(line))
    }
}

/// The connections.
#[derive(Default)]
pub(super) struct Pool {
    slots: Mutex<BTreeMap<(ContentId, Use), Arc<Slot>>>,
}

impl Pool {
    /// A connection to the primary of a content.
    pub(super) async fn line(
        &self,
        cluster: ClusterId,
        content: ContentId,
        seat: &Seat,
        what: Use,
    ) -> Result<Arc<Line>, Broken> {
        let slot = Arc::clone(self.slots.lock().entry((content, what)).or_default());
        if let Some(line) = slot.current(seat.primary) {
            return Ok(line);
        }
        let _one = slot.opening.lock().await;
        if let Some(line) = slot.current(seat.primary) {
            return Ok(line);
        }
        let mut why = Broken(format!("the primary of content {content} has no address"));
        for address in &seat.addresses {
            let whom = Whom {
                addresses: vec![address.clone()],
                cluster,
                content,
                instance: seat.primary,
                role: Role::Client,
            };
            // Where there are more, one that swallows packets must not take all of a request's time.
            let alone = seat.addresses.len() < 2;
            let patience = if alone { ONLY_ADDRESS_TIME } else { ADDRESS_TIME };
            let opening = timeout(patience, Line::open(&whom)).await;
            match opening.unwrap_or_else(|_| Err(Broken("it does not answer".to_owned()))) {
                Ok(line) => {
                    let line = Arc::new(line);
                    *slot.open.lock() = Some((seat.primary, Arc::clone(&line)));
                    return Ok(line);
                }
                Err(Broken(cause)) => why = Broken(format!("the primary at {address}: {cause}")),
            }
        }
        Err(why)
    }

    /// How many writes to a content wait for their answers.
    #[cfg(test)]
    pub(super) fn waiting(&self, content: ContentId) -> usize {
        let slot = self.slots.lock().get(&(content, Use::Writing)).cloned();
        let line =
            slot.and_then(|slot| slot.open.lock().as_ref().map(|(_, line)| Arc::clone(line)));
        line.map_or(0, |line| line.waiting())
    }

    /// Ends those to primaries that are none any more.
    pub(super) fn prune(&self, places: &Places) {
        let slots: Vec<_> =
            self.slots.lock().iter().map(|(at, slot)| (*at, Arc::clone(slot))).collect();
        for ((content, _), slot) in slots {
            let primary = places.contents.get(&content).map(|seat| seat.primary);
            let mut open = slot.open.lock();
            let gone = open.as_ref().is_some_and(|(to, _)| !places.serving || Some(*to) != primary);
            if gone && let Some((_, line)) = open.take() {
                line.end("another instance is the primary now");
            }
        }
    }
}
