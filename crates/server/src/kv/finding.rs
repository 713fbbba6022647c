//! How a client comes to its connection: to the router at the coordinator's port, or straight to a primary.
//!
//! Guarantees: one that does not serve is left for the next address; every wait is bounded; a map that was
//! once heard of is never forgotten for an older one. Not here: what is asked ([`super::client`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use outrigger_cluster::operator::Place;
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::line::{Broken, Line, Whom};
use super::operator::look_up;
use super::protocol::{Answer, Request};

/// The content of the catalog, in whose name requests are routed.
const CATALOG: ContentId = ContentId(-1);
/// How long one address may take.
const ADDRESS_TIME: Duration = Duration::from_secs(2);

/// How long a copy may take that is asked because another one does not answer.
const OTHER_TIME: Duration = Duration::from_millis(300);

/// Which way requests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// Through the coordinator, each to the content that holds its row.
    ByKey,
    /// Straight to the primary of one content, also while no coordinator is there.
    Direct {
        /// The content.
        content: ContentId,
        /// Where its copies are; none: the coordinator is asked, and what it said last is remembered.
        addresses: Vec<String>,
    },
}

/// Finds connections.
#[derive(Debug)]
pub(super) struct Finding {
    /// The addresses of the coordinator and its standby.
    coordinators: Vec<String>,
    route: Route,
    /// The first address to try.
    next: AtomicUsize,
    /// The newest map that was heard of.
    map: AtomicU64,
    /// What the coordinator said last of the content.
    place: Mutex<Option<Place>>,
}

impl Finding {
    pub(super) fn new(coordinators: Vec<String>, route: Route) -> Self {
        Self {
            coordinators,
            route,
            next: AtomicUsize::new(0),
            map: AtomicU64::new(0),
            place: Mutex::default(),
        }
    }

    /// The map that a write names; 0 when it goes straight to its content.
    pub(super) fn map(&self) -> u64 {
        self.map.load(Ordering::SeqCst)
    }

    /// There is a newer map.
    pub(super) fn heard_of(&self, map: u64) {
        if self.is_by_key() {
            self.map.fetch_max(map, Ordering::SeqCst);
        }
    }

    pub(super) const fn is_by_key(&self) -> bool {
        matches!(self.route, Route::ByKey)
    }

    /// Whoever was found last does not serve.
    pub(super) fn try_next(&self) {
        self.next.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection to someone who serves.
    pub(super) async fn find(&self) -> Result<Arc<Line>, Broken> {
        match &self.route {
            Route::ByKey => self.first_of(&self.coordinators, CATALOG, "the coordinator").await,
            Route::Direct { content, addresses } if !addresses.is_empty() => {
                self.first_of(addresses, *content, "the copy").await
            }
            Route::Direct { content, .. } => self.look_up(*content).await,
        }
    }

    /// Whether copies are known beside the one that was found.
    pub(super) const fn has_others(&self) -> bool {
        matches!(&self.route, Route::Direct { addresses, .. } if addresses.len() > 1)
    }

    /// A connection to a copy that serves, other than the one that was found last.
    pub(super) async fn elsewhere(&self) -> Option<Arc<Line>> {
        let Route::Direct { content, addresses } = &self.route else { return None };
        let here = self.next.load(Ordering::SeqCst);
        for step in 1..addresses.len() {
            let at = here.wrapping_add(step) % addresses.len();
            let whom = Self::whom(addresses.get(at)?, *content);
            if let Ok(Ok(line)) = timeout(OTHER_TIME, self.open(&whom)).await {
                self.next.store(at, Ordering::SeqCst);
                return Some(line);
            }
        }
        None
    }

    fn whom(address: &str, content: ContentId) -> Whom {
        Whom {
            addresses: vec![address.to_owned()],
            cluster: ClusterId::default(),
            content,
            instance: InstanceId::default(),
            role: Role::Client,
        }
    }

    async fn first_of(
        &self,
        addresses: &[String],
        content: ContentId,
        who: &str,
    ) -> Result<Arc<Line>, Broken> {
        let mut why = Broken("no address is given".to_owned());
        let first = self.next.load(Ordering::SeqCst);
        for at in 0..addresses.len() {
            let at = first.wrapping_add(at) % addresses.len();
            let Some(address) = addresses.get(at) else { break };
            let whom = Self::whom(address, content);
            match self.open(&whom).await {
                Ok(line) => {
                    self.next.store(at, Ordering::SeqCst);
                    return Ok(line);
                }
                Err(Broken(cause)) => why = Broken(format!("{who} at {address}: {cause}")),
            }
        }
        Err(why)
    }

    /// Opens a connection, to one who serves.
    async fn open(&self, whom: &Whom) -> Result<Arc<Line>, Broken> {
        let question = match self.route {
            Route::ByKey => Request::Map,
            Route::Direct { .. } => Request::Status { content: None },
        };
        let body = question.encode().map_err(|error| Broken(error.to_string()))?;
        let asking = async {
            let line = Line::open(whom).await?;
            let answer = line.ask(body)?.answer().await?;
            Ok::<_, Broken>((line, answer))
        };
        let asked = timeout(ADDRESS_TIME, asking).await;
        let (line, answer) = asked.map_err(|_| Broken("it does not answer".to_owned()))??;
        match Answer::decode(answer) {
            Ok(Answer::Map { version, .. }) => {
                self.heard_of(version);
                Ok(Arc::new(line))
            }
            Ok(Answer::Status(status)) if status.serving => Ok(Arc::new(line)),
            Ok(Answer::Status(_)) => Err(Broken("it does not serve".to_owned())),
            Ok(_) => Err(Broken("it answered something else".to_owned())),
            Err(error) => Err(Broken(error.to_string())),
        }
    }

    /// The primary as the coordinator names it; any copy that serves when there is no coordinator.
    async fn look_up(&self, content: ContentId) -> Result<Arc<Line>, Broken> {
        let mut why = Broken("no coordinator is given".to_owned());
        for coordinator in &self.coordinators {
            match look_up(coordinator, content, ADDRESS_TIME).await {
                Ok(place) => {
                    *self.place.lock() = Some(place);
                    break;
                }
                Err(Broken(cause)) => {
                    why = Broken(format!("the coordinator at {coordinator}: {cause}"));
                }
            }
        }
        let Some(place) = self.place.lock().clone() else { return Err(why) };
        let mut copies = place.config.copies;
        copies.sort_by_key(|copy| copy.instance != place.config.primary);
        for copy in copies {
            for address in copy.addresses {
                let whom = Whom {
                    addresses: vec![address.clone()],
                    cluster: place.cluster,
                    content,
                    instance: copy.instance,
                    role: Role::Client,
                };
                match self.open(&whom).await {
                    Ok(line) => return Ok(line),
                    Err(Broken(cause)) => why = Broken(format!("the copy at {address}: {cause}")),
                }
            }
        }
        Err(why)
    }
}
