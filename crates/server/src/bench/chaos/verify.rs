//! What is looked at when a cluster has been hurt enough.
//!
//! Guarantees: every acknowledged row is looked for at the primaries, with its value; copies that were closed in order
//! are compared by all of their rows; all logs are read. Not here: repair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use outrigger_cluster::buckets::Buckets;
use outrigger_cluster::operator::Request as Operator;
use outrigger_cluster::placement::Role;
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::{StateStore, kv};
use outrigger_wal::{ContentId, Lsn};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::Xxh3;

use super::super::cluster::Cluster;
use super::super::load::{Acked, Way, key, value};
use crate::error::Error;
use crate::kv::client::{Client, ClientOptions};
use crate::kv::finding::Route;
use crate::kv::protocol::{Answer, Request};
use crate::output::complain;

/// How long everything may take to end in order.
const STOP_TIME: Duration = Duration::from_secs(60);
const PAGE_ROWS: u32 = 4_096;
/// So many that are lost are named.
const NAMED: usize = 10;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    /// Rows acknowledged.
    pub(super) acked: usize,
    /// Of those, by a copy to a client that stays with it.
    acked_by_copies: usize,
    /// Acknowledged, and not there, or with another value.
    pub(super) lost: usize,
    /// Acknowledged by a reign though a later one had acknowledged before they were begun; or by two copies in one reign.
    pub(super) out_of_turn: usize,
    /// Reigns that acknowledged something.
    reigns: usize,
    /// Pairs of copies, closed in order.
    pub(super) compared: usize,
    /// Of those, with the same rows at the same LSN.
    pub(super) equal: usize,
    /// Logs that were read.
    pub(super) logs: usize,
    /// Of those, sound.
    pub(super) sound: usize,
}

impl Found {
    /// Whether nothing is wrong.
    pub(super) const fn holds(&self) -> bool {
        self.acked > 0
            && self.lost == 0
            && self.out_of_turn == 0
            && self.compared > 0
            && self.equal == self.compared
            && self.sound == self.logs
    }
}

/// Looks at everything; the cluster is stopped in order for it.
///
/// # Errors
/// What could not be looked at.
pub(super) async fn verify(
    cluster: &Cluster,
    contents: &[ContentId],
    acked: &[Acked],
    value_bytes: usize,
) -> Result<Found, Error> {
    let mut found = Found { acked: acked.len(), ..Found::default() };
    found.acked_by_copies = acked.iter().filter(|ack| matches!(ack.way, Way::Copy(_))).count();
    found.reigns = acked.iter().map(|ack| (ack.content, ack.epoch)).collect::<BTreeSet<_>>().len();
    found.out_of_turn = out_of_turn(acked);
    let buckets = Buckets::even(contents).map_err(|error| Error::Partial(error.to_string()))?;
    let rows = rows(cluster).await?;
    for ack in acked {
        let key = key(&buckets, ack.content, ack.writer, ack.number);
        if rows.get(&key) != Some(&value(&key, value_bytes)) {
            found.lost += 1;
            if found.lost <= NAMED {
                complain(format_args!("LOST {:?}: {ack:?}", key));
            }
        }
    }
    stop(cluster).await?;
    for content in contents {
        let mut copies = Vec::new();
        for role in [Role::Primary, Role::Mirror] {
            let placed = cluster.layout.instances.iter();
            let placed = placed.filter(|placed| placed.content == *content && placed.role == role);
            for placed in placed {
                let dir = Path::new(&placed.place.data_dir);
                found.logs += 1;
                found.sound += usize::from(is_sound(dir));
                copies.push(all_of(dir)?);
            }
        }
        found.compared += 1;
        let same = copies.windows(2).all(|two| two.first() == two.last());
        found.equal += usize::from(same);
        if !same {
            complain(format_args!("content {content}: its copies differ: {copies:?}"));
        }
    }
    Ok(found)
}

/// How many were acknowledged by a reign that was over.
fn out_of_turn(acked: &[Acked]) -> usize {
    let mut wrong = 0;
    let mut named = |text: String| {
        wrong += 1;
        if wrong <= NAMED {
            complain(format_args!("OUT OF TURN {text}"));
        }
    };
    let mut contents: BTreeMap<ContentId, Vec<&Acked>> = BTreeMap::new();
    for ack in acked.iter().filter(|ack| ack.epoch > 0) {
        contents.entry(ack.content).or_default().push(ack);
    }
    for (content, mut acks) in contents {
        acks.sort_by_key(|ack| ack.at);
        let mut highest = Vec::with_capacity(acks.len());
        let mut reign = 0;
        for ack in &acks {
            reign = reign.max(ack.epoch);
            highest.push(reign);
        }
        for ack in &acks {
            let before = acks.partition_point(|other| other.at < ack.begun);
            let over = before.checked_sub(1).and_then(|at| highest.get(at));
            if over.is_some_and(|over| *over > ack.epoch) {
                named(format!("{ack:?}: epoch {over:?} had acknowledged"));
            }
        }
        let mut reigns: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for ack in &acks {
            if let Way::Copy(copy) = ack.way {
                reigns.entry(ack.epoch).or_default().insert(copy);
            }
        }
        for (epoch, copies) in reigns.iter().filter(|(_, copies)| copies.len() > 1) {
            named(format!("content {content}, epoch {epoch}: copies {copies:?} acknowledged"));
        }
    }
    wrong
}

/// Every row, from the primaries.
async fn rows(cluster: &Cluster) -> Result<HashMap<Bytes, Bytes>, Error> {
    let client = Client::new(ClientOptions {
        coordinators: cluster.coordinators.clone(),
        route: Route::ByKey,
        patience: STOP_TIME,
    })?;
    let mut rows = HashMap::new();
    let mut from = Bytes::new();
    loop {
        let request = Request::Scan { from: from.clone(), limit: PAGE_ROWS, of: None };
        let answer = client.read(&request).await;
        let Answer::Rows(page) = answer.map_err(|error| Error::Partial(error.to_string()))? else {
            return Err(Error::Partial("rows were asked for, and something else came".to_owned()));
        };
        let Some((last, _)) = page.last() else { return Ok(rows) };
        let mut next = last.to_vec();
        next.push(0);
        from = Bytes::from(next);
        rows.extend(page);
    }
}

/// Stops everything but the coordinators, in order.
async fn stop(cluster: &Cluster) -> Result<(), Error> {
    cluster.ask(&Operator::Stop { host: None }).await?;
    let until = Instant::now() + STOP_TIME;
    let runs = || {
        let data = cluster.layout.instances.iter().filter(|placed| placed.content.0 >= 0);
        data.flat_map(|placed| cluster.hosts.instance(&placed.place.host, placed.dbid)).count()
    };
    while runs() > 0 {
        if Instant::now() >= until {
            return Err(Error::Partial(format!("{} instances do not end", runs())));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The LSN of a closed copy's rows, their number, and a hash of them.
fn all_of(dir: &Path) -> Result<(Lsn, usize, u128), Error> {
    let folder = dir.join("store");
    let failed = |error| Error::Store { dir: folder.clone(), error };
    let store = LsmStore::open(&folder, LsmOptions::default()).map_err(failed)?;
    let rows = store.snapshot(&kv::rows()).map_err(failed)?;
    let at = rows.at();
    let (mut count, mut hash) = (0, Xxh3::new());
    for pair in rows {
        let (key, value) = pair.map_err(failed)?;
        count += 1;
        for part in [&key, &value] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok((at, count, hash.digest128()))
}

fn is_sound(dir: &Path) -> bool {
    let Ok(me) = std::env::current_exe() else { return false };
    let mut command = Command::new(me);
    command.args(["wal", "verify"]).arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
    let sound = command.status().is_ok_and(|status| status.success());
    if !sound {
        complain(format_args!("{}: its log is not sound", dir.display()));
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(way: Way, epoch: u64, begun: u64, at: u64) -> Acked {
        Acked { content: ContentId(0), way, writer: 0, number: 0, epoch, begun, at }
    }

    #[test]
    fn a_reign_that_acknowledges_behind_a_later_one_is_out_of_turn() {
        let old = Way::Copy(1);
        // Begun before the later reign acknowledged anything: it may have been decided before, too.
        let fine = [ack(old, 1, 10, 50), ack(Way::Routed, 2, 20, 30)];
        assert_eq!(out_of_turn(&fine), 0);
        let late = [ack(old, 1, 31, 50), ack(Way::Routed, 2, 20, 30)];
        assert_eq!(out_of_turn(&late), 1);
        // Settled so late that its epoch was forgotten: that says nothing.
        assert_eq!(out_of_turn(&[ack(old, 0, 31, 50), ack(Way::Routed, 2, 20, 30)]), 0);
    }

    #[test]
    fn two_copies_that_acknowledge_in_one_reign_are_found() {
        let both = [ack(Way::Copy(1), 1, 1, 2), ack(Way::Copy(2), 1, 3, 4)];
        assert_eq!(out_of_turn(&both), 1);
    }
}
