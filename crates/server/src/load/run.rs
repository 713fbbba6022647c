//! A load: rows go in, acknowledgements come out.
//!
//! Guarantees: never two writes of one key on their way, so that rows with one key are stored in the file's
//! order, across failovers too; an ack is given only after its row's commit; the first row that is in
//! doubt, refused or unavailable ends the load, once the rows on their way are decided.
//! Not here: names and failovers ([`crate::kv::client`]).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ack_log::Ack;
use super::pace::Pace;
use super::rows::Row;
use crate::error::Error;
use crate::kv::client::{Client, ClientError};
use crate::kv::protocol::{Change, Place};

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    /// Rows that are committed.
    pub(crate) acked: u64,
    /// Rows of which it is not known.
    pub(crate) in_doubt: u64,
    /// Requests that did not end with a commit, those in doubt among them.
    pub(crate) failures: u64,
    /// Why it ended early, if it did.
    pub(crate) failed: Option<String>,
}

/// Whether a load goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Go {
    /// With its next row.
    On,
    /// No more: it ends in order.
    End,
}

/// A row on its way.
struct Decided {
    key: Bytes,
    crc32: u32,
    latency: Duration,
    result: Result<Place, ClientError>,
}

/// Stores rows until there are none, one fails, or `go` says so. `on_ack` gets each
/// acknowledgement with the time the commit took.
///
/// # Errors
/// When the rows cannot be read any more, once those on their way are decided; when `on_ack` fails: those on
/// their way are forgotten then.
pub(crate) async fn run(
    client: &Client,
    rows: impl Iterator<Item = Result<Row, Error>>,
    in_flight: usize,
    mut pace: Pace,
    go: impl Fn() -> Go,
    mut on_ack: impl FnMut(Ack, Duration) -> Result<(), Error>,
) -> Result<Loaded, Error> {
    let (tell, mut told) = unbounded_channel();
    let mut busy: BTreeSet<Bytes> = BTreeSet::new();
    let mut loaded = Loaded::default();
    let began = Instant::now();
    let mut unreadable = None;
    for row in rows {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                unreadable = Some(error);
                break;
            }
        };
        while busy.len() >= in_flight || busy.contains(&row.key) {
            next(&mut told, &mut busy, &mut loaded, &mut on_ack).await?;
        }
        let wait = pace.next(began.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        while let Ok(decided) = told.try_recv() {
            take(decided, &mut busy, &mut loaded, &mut on_ack)?;
        }
        if loaded.failed.is_some() || go() == Go::End {
            break;
        }
        busy.insert(row.key.clone());
        send(client, row, &tell).await;
    }
    while !busy.is_empty() {
        next(&mut told, &mut busy, &mut loaded, &mut on_ack).await?;
    }
    unreadable.map_or(Ok(loaded), Err)
}

async fn send(client: &Client, row: Row, tell: &UnboundedSender<Decided>) {
    let crc32 = crc32fast::hash(&row.value);
    let Row { key, value } = row;
    let put = Change::Put { key: key.clone(), value };
    let asked = Instant::now();
    let begun = client.begin(vec![put]).await;
    let tell = tell.clone();
    tokio::spawn(async move {
        let result = begun.end().await;
        let latency = asked.elapsed();
        // The load may have ended.
        drop(tell.send(Decided { key, crc32, latency, result }));
    });
}

async fn next(
    told: &mut UnboundedReceiver<Decided>,
    busy: &mut BTreeSet<Bytes>,
    loaded: &mut Loaded,
    on_ack: &mut impl FnMut(Ack, Duration) -> Result<(), Error>,
) -> Result<(), Error> {
    match told.recv().await {
        Some(decided) => take(decided, busy, loaded, on_ack),
        None => Ok(()),
    }
}

fn take(
    decided: Decided,
    busy: &mut BTreeSet<Bytes>,
    loaded: &mut Loaded,
    on_ack: &mut impl FnMut(Ack, Duration) -> Result<(), Error>,
) -> Result<(), Error> {
    let Decided { key, crc32, latency, result } = decided;
    busy.remove(&key);
    match result {
        Ok(place) => {
            loaded.acked += 1;
            let key = String::from_utf8_lossy(&key).into_owned();
            let Place { content, epoch, lsn, end } = place;
            let ack = Ack { content, epoch, lsn, end, key, value_crc32: crc32 };
            on_ack(ack, latency)?;
        }
        Err(error) => {
            loaded.in_doubt += u64::from(matches!(error, ClientError::InDoubt(_)));
            loaded.failures += 1;
            loaded.failed.get_or_insert_with(|| error.to_string());
        }
    }
    Ok(())
}
