//! The demo's load: the rows, and a writer for each content beside them.
//!
//! Guarantees: a row is in the ack log only after its commit. Contents whose copies are missing are written to with larger
//! values, so that what their copies miss is soon worth recovering. Not here: what is proved of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use outrigger_cluster::buckets::Buckets;
use outrigger_wal::ContentId;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::stalls::Mark;
use crate::error::Error;
use crate::kv::client::{Client, ClientOptions};
use crate::kv::finding::Route;
use crate::load::ack_log::{Ack, AckLog};
use crate::load::pace::Pace;
use crate::load::rows::{Input, Row};
use crate::load::run::{Go, Loaded, run};

const ROWS_IN_FLIGHT: usize = 32;
const BESIDE_IN_FLIGHT: usize = 8;
/// Rows a second where they repeat.
const REPEATED_RATE: f64 = 400.0;
/// Rows a second beside them, on each content and at most on all.
const BESIDE_RATE: f64 = 100.0;
const BESIDE_RATE_OF_ALL: f64 = 1200.0;
/// What a row beside holds, and what while a copy of its content is missing.
const VALUE_BYTES: usize = 512;
const LARGE_VALUE_BYTES: usize = 8 << 10;
/// The longest latency that is told apart from longer ones: an hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// How it is written.
#[derive(Debug)]
pub(super) struct Load<'a> {
    /// The coordinator and its standby.
    pub(super) coordinators: Vec<String>,
    /// The contents of data.
    pub(super) contents: Vec<ContentId>,
    pub(super) input: &'a Input,
    /// Rows a second; `None`: over and over, under new keys.
    pub(super) rate: Option<f64>,
    /// Tells this load's keys from those of an earlier one.
    pub(super) name: &'static str,
    /// How long a request may take.
    pub(super) patience: Duration,
    /// Where acknowledgements go.
    pub(super) log: AckLog,
}

#[derive(Debug)]
struct Tally {
    log: AckLog,
    latency: Histogram<u64>,
    marks: Vec<Mark>,
    /// When the last acknowledgement of each content came.
    last: BTreeMap<ContentId, Duration>,
    /// Bytes of records acknowledged while its copies are missing.
    missing_bytes: u64,
}

/// Contents of which a copy is missing.
type Missing = Arc<Mutex<BTreeSet<ContentId>>>;

/// The writers under way.
pub(super) struct Writers {
    born: Instant,
    tally: Arc<Mutex<Tally>>,
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    missing: Missing,
    rows: JoinHandle<Result<Loaded, Error>>,
    beside: Vec<JoinHandle<Result<Loaded, Error>>>,
}

/// What was written.
pub(super) struct Written {
    pub(super) log: AckLog,
    pub(super) latency: Histogram<u64>,
    pub(super) marks: Vec<Mark>,
    pub(super) in_doubt: u64,
    /// Requests that did not end with a commit.
    pub(super) failed: u64,
    /// The first of them, in words.
    pub(super) first_failure: Option<String>,
}

impl Writers {
    /// Starts them.
    pub(super) fn start(load: Load<'_>) -> Result<Self, Error> {
        let latency =
            Histogram::new_with_bounds(1, MAX_MICROS, 3).map_err(|error| Error::System {
                what: "a histogram cannot be made",
                cause: std::io::Error::other(error.to_string()),
                advice: "this is an error in this program; please report it",
            })?;
        let Load { coordinators, contents, input, rate, name, patience, log } = load;
        let tally =
            Tally { log, latency, marks: Vec::new(), last: BTreeMap::new(), missing_bytes: 0 };
        let born = Instant::now();
        let (tally, missing) = (Arc::new(Mutex::new(tally)), Missing::default());
        let (acked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let options = ClientOptions { coordinators, route: Route::ByKey, patience };
        let start = |rows: Rows, in_flight, rate: f64| {
            let client = Client::new(options.clone())?;
            let (tally, acked) = (Arc::clone(&tally), Arc::clone(&acked));
            let (stop, missing) = (Arc::clone(&stop), Arc::clone(&missing));
            Ok::<_, Error>(tokio::spawn(async move {
                let go = || if stop.load(Ordering::SeqCst) { Go::End } else { Go::On };
                let on_ack = |ack: Ack, took| {
                    acked.fetch_add(1, Ordering::SeqCst);
                    let missing = missing.lock().contains(&ContentId(ack.content));
                    tally.lock().note(&ack, born.elapsed(), took, missing)
                };
                run(&client, rows, in_flight, Pace::new(Some(rate)), go, on_ack).await
            }))
        };
        let held: Vec<Row> = input.rows()?.collect::<Result<_, _>>()?;
        let repeats = rate.is_none();
        let rounds = if repeats { u64::MAX } else { 1 };
        let rows = (0..rounds).flat_map(move |round| {
            let rows: Vec<_> = held.iter().map(|row| Ok(renamed(row, name, round))).collect();
            rows
        });
        let rows = start(Box::new(rows), ROWS_IN_FLIGHT, rate.unwrap_or(REPEATED_RATE))?;
        let buckets = Buckets::even(&contents);
        let buckets = buckets.map_err(|error| super::cluster::wrong(&error.to_string()))?;
        let buckets = Arc::new(buckets);
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = BESIDE_RATE.min(BESIDE_RATE_OF_ALL / contents.len() as f64);
        let mut beside = Vec::new();
        for content in contents {
            let (buckets, missing) = (Arc::clone(&buckets), Arc::clone(&missing));
            let rows = (0_u64..).filter_map(move |n| {
                let key = format!("beside/{name}{content}/{n}");
                (buckets.content_of(key.as_bytes()) == content).then(|| {
                    let large = missing.lock().contains(&content);
                    let bytes = if large { LARGE_VALUE_BYTES } else { VALUE_BYTES };
                    Ok(Row { key: key.into(), value: vec![b'a'; bytes].into() })
                })
            });
            beside.push(start(Box::new(rows), BESIDE_IN_FLIGHT, rate)?);
        }
        Ok(Self { born, tally, acked, stop, missing, rows, beside })
    }

    /// Since the load began.
    pub(super) fn now(&self) -> Duration {
        self.born.elapsed()
    }

    /// How many rows are acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// Waits until so many rows are acknowledged, some on each content, and so much time is over; gives up waiting
    /// for the number of rows, not for the rest, when patience ends.
    pub(super) async fn wait_acked(
        &self,
        rows: u64,
        time: Duration,
        patience: Duration,
    ) -> Result<(), Error> {
        let all = self.beside.len();
        self.wait("the first rows are not acknowledged", patience * 2, || {
            self.tally.lock().last.len() == all
                && self.now() >= time
                && (self.acked() >= rows || self.now() >= patience)
        })
        .await
    }

    /// Copies of these contents are missing from now on.
    pub(super) fn miss(&self, contents: &BTreeSet<ContentId>) {
        self.missing.lock().clone_from(contents);
    }

    /// Waits until each of these contents has committed again since then.
    pub(super) async fn wait_committed(
        &self,
        contents: &BTreeSet<ContentId>,
        since: Duration,
        patience: Duration,
    ) -> Result<(), Error> {
        self.wait("nothing is committed after the kill", patience, || {
            let tally = self.tally.lock();
            contents.iter().all(|content| tally.last.get(content).is_some_and(|at| *at > since))
        })
        .await
    }

    /// Waits until records of so many bytes are acknowledged of which a copy is missing.
    pub(super) async fn wait_missed(&self, bytes: u64, patience: Duration) -> Result<(), Error> {
        self.wait("too little is committed while copies are missing", patience, || {
            self.tally.lock().missing_bytes >= bytes
        })
        .await
    }

    /// Waits until the rows are through.
    pub(super) async fn wait_rows_done(&self, patience: Duration) -> Result<(), Error> {
        self.wait("the rows are not through", patience, || self.rows.is_finished()).await
    }

    /// Begins no more, waits for what was begun.
    pub(super) async fn finish(self, patience: Duration) -> Result<Written, Error> {
        self.stop.store(true, Ordering::SeqCst);
        let (mut in_doubt, mut failed, mut first_failure) = (0_u64, 0_u64, None);
        for writer in std::iter::once(self.rows).chain(self.beside) {
            let ended = tokio::time::timeout(patience, writer).await;
            let report = match ended {
                Ok(Ok(report)) => report?,
                Ok(Err(error)) => return Err(late(&format!("a writer ended early: {error}"))),
                Err(_) => return Err(late("a writer does not end")),
            };
            in_doubt = in_doubt.saturating_add(report.in_doubt);
            failed = failed.saturating_add(report.failures);
            first_failure = first_failure.or(report.failed);
        }
        let tally = Arc::into_inner(self.tally).ok_or_else(|| late("a writer still writes"))?;
        let Tally { log, latency, marks, .. } = tally.into_inner();
        Ok(Written { log, latency, marks, in_doubt, failed, first_failure })
    }

    async fn wait(
        &self,
        what: &str,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let began = Instant::now();
        while !done() {
            if began.elapsed() > patience {
                return Err(late(&format!("{what} within {} s", patience.as_secs())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Where rows come from.
type Rows = Box<dyn Iterator<Item = Result<Row, Error>> + Send>;

impl Tally {
    fn note(
        &mut self,
        ack: &Ack,
        at: Duration,
        took: Duration,
        missing: bool,
    ) -> Result<(), Error> {
        self.log.note(ack)?;
        self.log.flush()?;
        let content = ContentId(ack.content);
        self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.marks.push(Mark { content, at, took });
        self.last.insert(content, at);
        if missing {
            let bytes = ack.end.saturating_sub(ack.lsn);
            self.missing_bytes = self.missing_bytes.saturating_add(bytes);
        }
        Ok(())
    }
}

fn renamed(row: &Row, name: &str, round: u64) -> Row {
    let mut key = row.key.to_vec();
    if round > 0 || !name.is_empty() {
        key.extend_from_slice(format!("#{name}{round}").as_bytes());
    }
    Row { key: key.into(), value: row.value.clone() }
}

fn late(cause: &str) -> Error {
    Error::System {
        what: "the demo does not come on",
        cause: std::io::Error::other(cause.to_owned()),
        advice: "is the machine very busy? run it again with --keep and look into the logs",
    }
}
