//! A client of each copy, primary or not, that stays connected while its process stands still.
//!
//! Guarantees: it notes what its copy acknowledged, however late the word came. Not here: whether the copy was
//! allowed to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outrigger_cluster::buckets::Buckets;
use outrigger_net::message::Role;
use outrigger_wal::{ClusterId, ContentId, InstanceId};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::load::{Acked, Way, key, value};
use crate::error::Error;
use crate::kv::line::{Line, Whom};
use crate::kv::protocol::{Answer, Change, Request};

/// How long a copy may stand still.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);
/// Writers of the load have lower numbers.
const FIRST: u32 = 1_000;

/// The clients under way.
pub(super) struct Probes {
    acked: Arc<Mutex<Vec<Acked>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

struct Probe {
    content: ContentId,
    address: String,
    number: u32,
    began: Instant,
    value_bytes: usize,
    buckets: Arc<Buckets>,
    acked: Arc<Mutex<Vec<Acked>>>,
    stop: Arc<AtomicBool>,
}

impl Probes {
    /// Begins, with the addresses of each content's copies.
    ///
    /// # Errors
    /// When there are no contents.
    pub(super) fn start(
        copies: &BTreeMap<ContentId, Vec<String>>,
        began: Instant,
        value_bytes: usize,
    ) -> Result<Self, Error> {
        let contents: Vec<ContentId> = copies.keys().copied().collect();
        let buckets = Buckets::even(&contents).map(Arc::new);
        let buckets = buckets.map_err(|error| Error::Partial(error.to_string()))?;
        let (acked, stop) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        let all =
            copies.iter().flat_map(|(content, all)| all.iter().map(|at| (*content, at.clone())));
        for (number, (content, address)) in (FIRST..).zip(all) {
            let probe = Probe {
                content,
                address,
                number,
                began,
                value_bytes,
                buckets: Arc::clone(&buckets),
                acked: Arc::clone(&acked),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(probe.run());
        }
        Ok(Self { acked, stop, tasks })
    }

    /// Ends them; what was acknowledged.
    pub(super) async fn end(mut self) -> Vec<Acked> {
        self.stop.store(true, Ordering::SeqCst);
        drop(
            timeout(Duration::from_secs(5), async {
                while self.tasks.join_next().await.is_some() {}
            })
            .await,
        );
        self.tasks.abort_all();
        std::mem::take(&mut *self.acked.lock())
    }
}

impl Probe {
    async fn run(self) {
        let mut row = 0;
        let Ok(client) = crate::process::random() else { return };
        while !self.stop.load(Ordering::SeqCst) {
            if let Ok(line) = self.open().await {
                while !self.stop.load(Ordering::SeqCst) && !line.is_broken() {
                    row += 1;
                    self.ask(&line, client, row).await;
                    sleep(PAUSE).await;
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn open(&self) -> Result<Line, crate::kv::line::Broken> {
        let whom = Whom {
            addresses: vec![self.address.clone()],
            cluster: ClusterId::default(),
            content: self.content,
            instance: InstanceId::default(),
            role: Role::Client,
        };
        Line::open_for(&whom, PATIENCE).await
    }

    async fn ask(&self, line: &Line, client: u128, row: u64) {
        let now = || u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let key = key(&self.buckets, self.content, self.number, row);
        let value = value(&key, self.value_bytes);
        let changes = vec![Change::Put { key, value }];
        let request = Request::Write { client, sequence: row, map: 0, changes };
        let Ok(body) = request.encode() else { return };
        let begun = now();
        let Ok(asked) = line.ask(body) else { return };
        let Ok(Ok(answer)) = timeout(PATIENCE, asked.answer()).await else { return };
        if let Ok(Answer::Committed(place)) = Answer::decode(answer) {
            let acked = Acked {
                content: self.content,
                way: Way::Copy(self.number),
                writer: self.number,
                number: row,
                epoch: place.epoch,
                begun,
                at: now(),
            };
            self.acked.lock().push(acked);
        }
    }
}
