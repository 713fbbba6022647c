//! The demo's load: the rows, a writer beside them, and a burst at the worst moment.
//!
//! Guarantees: a row is in the ack log only after its commit. Not here: what is proved of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::brake::Brake;
use crate::error::Error;
use crate::kv::client::{Client, ClientOptions};
use crate::kv::finding::Route;
use crate::load::ack_log::{Ack, AckLog};
use crate::load::pace::Pace;
use crate::load::rows::{Input, Row};
use crate::load::run::{Go, Loaded, run};

/// The ack log's name in the demo's folder.
pub(super) const ACK_LOG: &str = "acks.jsonl";
const ROWS_IN_FLIGHT: usize = 32;
const BESIDE_IN_FLIGHT: usize = 4;
/// More than may be on its way to a copy at once, so that a tail stays behind.
const BURST_ROWS: u64 = 60;
const BURST_IN_FLIGHT: usize = 60;
const BURST_VALUE_BYTES: usize = 128 << 10;
/// What the burst puts into the log at least.
pub(super) const BURST_BYTES: u64 = BURST_ROWS * (BURST_VALUE_BYTES as u64);
/// What the smallest block takes in the log: rows that come one by one take that each.
const BLOCK_BYTES: u64 = 4096;
/// What a row's record and its block have beside key and value, at most.
const ROW_HEAD_BYTES: u64 = 256;
/// The longest latency that is told apart from longer ones: an hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct Tally {
    /// The highest epoch of an acknowledgement.
    epoch: u64,
    log: AckLog,
    latency: Histogram<u64>,
    brake: Brake,
    killed: Option<(Instant, u64)>,
    /// Bytes of records that the new primary acknowledged.
    bytes_after: u64,
    first_after: Option<Duration>,
}

/// Where rows come from.
type Rows = Box<dyn Iterator<Item = Result<Row, Error>> + Send>;

/// The writers under way.
pub(super) struct Writers {
    tally: Arc<Mutex<Tally>>,
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    to_come: ToCome,
    rows: JoinHandle<Result<Loaded, Error>>,
    beside: JoinHandle<Result<Loaded, Error>>,
    burst: Mutex<Option<JoinHandle<Result<Loaded, Error>>>>,
    client: ClientOptions,
}

/// What rows that do not repeat will take in the log.
#[derive(Clone, Debug, Default)]
struct ToCome {
    all: u64,
    bytes: u64,
    begun: Arc<AtomicU64>,
}

impl ToCome {
    fn of(rows: &[Row]) -> Self {
        let bytes = |row: &Row| {
            let bytes = (row.key.len() + row.value.len()) as u64 + ROW_HEAD_BYTES;
            bytes.next_multiple_of(BLOCK_BYTES)
        };
        Self { all: rows.len() as u64, bytes: rows.iter().map(bytes).sum(), begun: Arc::default() }
    }

    /// At most, if the rows are of about one size.
    fn bytes(&self) -> u64 {
        let left = self.all.saturating_sub(self.begun.load(Ordering::SeqCst));
        self.bytes.checked_div(self.all).unwrap_or(0).saturating_mul(left)
    }
}

/// What was written.
pub(super) struct Written {
    pub(super) latency: Histogram<u64>,
    pub(super) in_doubt: u64,
}

impl Writers {
    /// Starts the rows (so many a second, or over and over under new keys) and the writer beside them.
    pub(super) fn start(
        coordinator: &str,
        input: &Input,
        pace: Option<f64>,
        home: &Path,
    ) -> Result<Self, Error> {
        let latency =
            Histogram::new_with_bounds(1, MAX_MICROS, 3).map_err(|error| Error::System {
                what: "a histogram cannot be made",
                cause: std::io::Error::other(error.to_string()),
                advice: "this is an error in this program; please report it",
            })?;
        let tally = Tally {
            epoch: 0,
            log: AckLog::create(&home.join(ACK_LOG))?,
            latency,
            brake: Brake::default(),
            killed: None,
            bytes_after: 0,
            first_after: None,
        };
        let tally = Arc::new(Mutex::new(tally));
        let (acked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let client = ClientOptions {
            coordinators: vec![coordinator.to_owned()],
            route: Route::ByKey,
            patience: Duration::from_secs(15),
        };
        let held: Vec<Row> = input.rows()?.collect::<Result<_, _>>()?;
        // Rows that do not repeat must all go in; who repeats is held back behind the kill.
        let to_come = if pace.is_some() { ToCome::of(&held) } else { ToCome::default() };
        let start = |rows: Rows, in_flight, pace: Option<f64>| {
            let client = Client::new(client.clone())?;
            let (tally, acked, stop) = (Arc::clone(&tally), Arc::clone(&acked), Arc::clone(&stop));
            let to_come = to_come.clone();
            Ok::<_, Error>(tokio::spawn(async move {
                let go = || match pace {
                    _ if stop.load(Ordering::SeqCst) => Go::End,
                    None if tally.lock().must_wait(to_come.bytes()) => Go::Wait,
                    _ => Go::On,
                };
                let on_ack = |ack, took| note(&tally, &acked, ack, took);
                run(&client, rows, in_flight, Pace::new(pace), go, on_ack).await
            }))
        };
        let rows: Rows = if pace.is_none() {
            Box::new((0_u64..).flat_map(move |round| {
                let held: Vec<_> = held.iter().map(|row| Ok(renamed(row, round))).collect();
                held
            }))
        } else {
            let begun = Arc::clone(&to_come.begun);
            Box::new(held.into_iter().map(move |row| {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(row)
            }))
        };
        let beside = (0_u64..).map(|n| {
            let (key, value) = (format!("beside/{n}"), format!("{{\"n\":{n}}}"));
            Ok(Row { key: key.into(), value: value.into() })
        });
        let rows = start(rows, ROWS_IN_FLIGHT, pace)?;
        let beside = start(Box::new(beside), BESIDE_IN_FLIGHT, None)?;
        Ok(Self { tally, acked, stop, to_come, rows, beside, burst: Mutex::new(None), client })
    }

    /// Writes much at once, by a client of its own.
    pub(super) fn burst(&self) {
        let Ok(client) = Client::new(self.client.clone()) else { return };
        let rows = (0..BURST_ROWS).map(|n| {
            let value = Bytes::from(vec![b'a'; BURST_VALUE_BYTES]);
            Ok(Row { key: format!("burst/{n}").into(), value })
        });
        let (tally, acked) = (Arc::clone(&self.tally), Arc::clone(&self.acked));
        let burst = tokio::spawn(async move {
            let on_ack = |ack, took| note(&tally, &acked, ack, took);
            run(&client, rows, BURST_IN_FLIGHT, Pace::new(None), || Go::On, on_ack).await
        });
        *self.burst.lock() = Some(burst);
    }

    /// How many rows are acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// Waits until so many rows are acknowledged, so much time is over, and the log is so long that what
    /// comes will be less.
    pub(super) async fn wait_acked(
        &self,
        rows: u64,
        time: Duration,
        patience: Duration,
    ) -> Result<(), Error> {
        let began = Instant::now();
        self.wait("the first rows are not acknowledged", patience, || {
            self.acked() >= rows
                && began.elapsed() >= time
                && self.tally.lock().brake.may_kill(self.to_come.bytes())
        })
        .await
    }

    /// The primary was killed then: what is committed in a later epoch is the new one's.
    pub(super) fn killed(&self, at: Instant) {
        let mut tally = self.tally.lock();
        tally.killed = Some((at, tally.epoch));
        tally.brake.killed(self.to_come.bytes());
    }

    /// Waits until the new primary has acknowledged records of so many bytes.
    pub(super) async fn wait_missed(&self, bytes: u64, patience: Duration) -> Result<(), Error> {
        self.wait("the new primary commits too little", patience, || {
            self.tally.lock().bytes_after >= bytes
        })
        .await
    }

    /// Waits for the first commit after the kill: how long that took.
    pub(super) async fn wait_first_commit(&self, patience: Duration) -> Result<Duration, Error> {
        self.wait("nothing was committed after the failover", patience, || {
            self.tally.lock().first_after.is_some()
        })
        .await?;
        Ok(self.tally.lock().first_after.unwrap_or_default())
    }

    /// Waits until the rows are through.
    pub(super) async fn wait_rows_done(&self, patience: Duration) -> Result<(), Error> {
        self.wait("the rows are not through", patience, || self.rows.is_finished()).await
    }

    /// Begins no more, waits for what was begun.
    pub(super) async fn finish(self, patience: Duration) -> Result<Written, Error> {
        self.stop.store(true, Ordering::SeqCst);
        let mut in_doubt = 0_u64;
        let burst = self.burst.lock().take();
        for writer in [Some(self.rows), Some(self.beside), burst].into_iter().flatten() {
            let ended = tokio::time::timeout(patience, writer).await;
            let report = match ended {
                Ok(Ok(report)) => report?,
                Ok(Err(error)) => return Err(late(&format!("a writer ended early: {error}"))),
                Err(_) => return Err(late("a writer does not end")),
            };
            in_doubt = in_doubt.saturating_add(report.in_doubt);
            if let Some(text) = report.failed.filter(|_| report.in_doubt == 0) {
                return Err(late(&format!("a writer was refused: {text}")));
            }
        }
        let mut tally = self.tally.lock();
        tally.log.flush()?;
        Ok(Written { latency: tally.latency.clone(), in_doubt })
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

impl Tally {
    fn must_wait(&self, rows_bytes: u64) -> bool {
        self.killed.is_some_and(|(at, _)| self.brake.must_wait(at.elapsed(), rows_bytes))
    }
}

fn note(tally: &Mutex<Tally>, acked: &AtomicU64, ack: Ack, took: Duration) -> Result<(), Error> {
    let mut tally = tally.lock();
    tally.log.note(&ack)?;
    tally.log.flush()?;
    let epoch = ack.epoch;
    tally.epoch = tally.epoch.max(epoch);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tally.latency.saturating_record(micros);
    tally.brake.note(ack.end);
    if let Some((killed, before)) = tally.killed
        && epoch > before
    {
        tally.bytes_after = tally.bytes_after.saturating_add(ack.end.saturating_sub(ack.lsn));
        tally.first_after.get_or_insert_with(|| killed.elapsed());
    }
    acked.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn renamed(row: &Row, round: u64) -> Row {
    let mut key = row.key.to_vec();
    if round > 0 {
        key.extend_from_slice(format!("#{round}").as_bytes());
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
