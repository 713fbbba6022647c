//! Writers of rows while something happens to a cluster: what was acknowledged, when and by which reign.
//!
//! They run on a thread of their own, so that whoever does things to the cluster does not slow them.
//!
//! Guarantees: a row is noted only behind its acknowledgement; each key is written once, with a value that follows from
//! it. Not here: what is made of the notes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outrigger_cluster::buckets::Buckets;
use outrigger_wal::ContentId;
use parking_lot::Mutex;

use crate::error::Error;
use crate::kv::client::{Client, ClientError, ClientOptions};
use crate::kv::finding::Route;
use crate::kv::protocol::Change;
use crate::process;

/// Which way a row went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Through the coordinator.
    Routed,
    /// Straight to the primary.
    Direct,
    /// To one copy, primary or not: which writer's.
    Copy(u32),
}

/// An acknowledged row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    /// Of which content.
    pub(super) content: ContentId,
    /// Which way.
    pub(super) way: Way,
    /// Its writer.
    pub(super) writer: u32,
    /// Its number.
    pub(super) number: u64,
    /// The number of the epoch it was appended in; 0: that was forgotten.
    pub(super) epoch: u64,
    /// When it was begun, in microseconds since the load began.
    pub(super) begun: u64,
    /// When it was acknowledged.
    pub(super) at: u64,
}

/// A writer of rows of one content.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// The content.
    pub(super) content: ContentId,
    /// Which way.
    pub(super) way: Way,
    /// Where its rows go.
    pub(super) client: ClientOptions,
}

/// How it goes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    acked: Mutex<Vec<Acked>>,
    refused: AtomicU64,
    in_doubt: AtomicU64,
    /// What failed last.
    why: Mutex<String>,
    stop: AtomicBool,
}

/// The writers under way.
#[derive(Debug)]
pub(super) struct Load {
    began: Instant,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

/// How writers write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Between an acknowledgement and the next row.
    pub(super) pause: Duration,
    /// The size of a value, about.
    pub(super) value_bytes: usize,
}

impl Load {
    /// Begins; `contents` are all that hold rows.
    ///
    /// # Errors
    /// No thread or no network can be had.
    pub(super) fn start(
        writers: Vec<Writer>,
        contents: &[ContentId],
        manner: Manner,
    ) -> Result<Self, Error> {
        let tally = Arc::new(Tally::default());
        let began = Instant::now();
        let buckets = Buckets::even(contents).map(Arc::new);
        let buckets = buckets.map_err(|error| Error::Partial(error.to_string()))?;
        let runtime = process::runtime()?;
        let told = Arc::clone(&tally);
        let work = move || {
            runtime.block_on(async {
                let mut all = tokio::task::JoinSet::new();
                for (number, writer) in (0..).zip(writers) {
                    let (told, buckets) = (Arc::clone(&told), Arc::clone(&buckets));
                    all.spawn(write(number, writer, manner, began, told, buckets));
                }
                while all.join_next().await.is_some() {}
            });
        };
        let thread = std::thread::Builder::new().name("writers".to_owned()).spawn(work);
        let thread = thread.map_err(|cause| Error::System {
            what: "writers cannot be started",
            cause,
            advice: "check the limits of threads",
        })?;
        Ok(Self { began, tally, thread: Some(thread) })
    }

    /// Microseconds since it began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// When it began.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// How many rows are acknowledged.
    pub(super) fn acked(&self) -> usize {
        self.tally.acked.lock().len()
    }

    /// Takes out what was acknowledged so far.
    pub(super) fn take(&self) -> Vec<Acked> {
        std::mem::take(&mut *self.tally.acked.lock())
    }

    /// What was acknowledged from the `from`th row on.
    pub(super) fn since(&self, from: usize) -> Vec<Acked> {
        self.tally.acked.lock().get(from..).unwrap_or_default().to_vec()
    }

    /// Requests that were refused, and that stayed in doubt.
    pub(super) fn failed(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (of(&self.tally.refused), of(&self.tally.in_doubt))
    }

    /// What failed last, in words.
    pub(super) fn why(&self) -> String {
        self.tally.why.lock().clone()
    }

    /// Begins nothing further, and waits until what was begun is decided.
    pub(super) fn end(&mut self) {
        self.tally.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::SeqCst);
    }
}

/// The key of a row, of this content.
pub(super) fn key(buckets: &Buckets, content: ContentId, writer: u32, number: u64) -> Bytes {
    let mut salt = 0_u32;
    loop {
        let key = format!("w{writer}-{number}-{salt}");
        if buckets.content_of(key.as_bytes()) == content {
            return Bytes::from(key);
        }
        salt = salt.wrapping_add(1);
    }
}

/// The value of a key: as long as told, now shorter, now longer.
pub(super) fn value(key: &[u8], bytes: usize) -> Bytes {
    let word = xxhash_rust::xxh3::xxh3_64(key);
    let long = usize::try_from(word % 16).unwrap_or(0) * bytes / 8;
    let line = format!("{word:016x}");
    Bytes::from(line.repeat(1 + long / 16))
}

async fn write(
    number: u32,
    writer: Writer,
    manner: Manner,
    began: Instant,
    tally: Arc<Tally>,
    buckets: Arc<Buckets>,
) {
    let now = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let failed = |why: &dyn std::fmt::Display| *tally.why.lock() = why.to_string();
    let client = match Client::new(writer.client) {
        Ok(client) => client,
        Err(error) => return failed(&error),
    };
    let mut row = 0;
    while !tally.stop.load(Ordering::SeqCst) {
        row += 1;
        let key = key(&buckets, writer.content, number, row);
        let value = value(&key, manner.value_bytes);
        let begun = now();
        match client.write(vec![Change::Put { key, value }]).await {
            Ok(place) => {
                let acked = Acked {
                    content: writer.content,
                    way: writer.way,
                    writer: number,
                    number: row,
                    epoch: place.epoch,
                    begun,
                    at: now(),
                };
                tally.acked.lock().push(acked);
            }
            Err(error) => {
                let which = match &error {
                    ClientError::Refused(_) => &tally.refused,
                    _ => &tally.in_doubt,
                };
                which.fetch_add(1, Ordering::SeqCst);
                failed(&error);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if !manner.pause.is_zero() {
            tokio::time::sleep(manner.pause).await;
        }
    }
}

/// A writer through the coordinator's port.
pub(super) fn routed(content: ContentId, coordinators: &[String], patience: Duration) -> Writer {
    let client =
        ClientOptions { coordinators: coordinators.to_vec(), route: Route::ByKey, patience };
    Writer { content, way: Way::Routed, client }
}

/// A writer straight to whichever of these copies is the primary.
pub(super) fn direct(content: ContentId, addresses: Vec<String>, patience: Duration) -> Writer {
    let route = Route::Direct { content, addresses };
    Writer {
        content,
        way: Way::Direct,
        client: ClientOptions { coordinators: Vec::new(), route, patience },
    }
}
