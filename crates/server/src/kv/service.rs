//! An instance answers clients of rows.
//!
//! Guarantees: writes of one connection enter the log in the order in which they came; a write is
//! `Committed` once it is committed, applied, and took effect under its name; reads are of what is
//! committed and applied on a primary that serves. A client that does not take its answers is told to
//! come back, and one that goes on asking all the same is hung up on, so that none makes this process
//! hold more than some 3 MiB. A row of a bucket that the content does not hold is neither written nor shown.
//! Not here: commits (replica), names and outcomes (store).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use outrigger_cluster::buckets::Bucket;
use outrigger_cluster::mover::is_ask;
use outrigger_replica::runtime::{
    Caller, Outcome as Ended, Pending, Replica, ReplicaError, Requests,
};
use outrigger_replica::store::kv::holdings::Mark;
use outrigger_replica::store::kv::{ClientId, Op, Outcome, Write};
use outrigger_replica::store::{Rows, StoreError};
use outrigger_wal::Lsn;
use outrigger_wal::format::record_frame_bytes;

use super::moving;
use super::protocol::{
    Answer, BucketSet, Change, Cut, Joined, MAX_BODY_BYTES, MAX_ROWS, PAGE_BYTES, Place,
    ProtocolError, Request, Status, behind,
};

/// A client that has not taken so many bytes of answers is told to come back.
const MAX_QUEUED_BYTES: u64 = 256 << 10;
/// One that has not taken so many is hung up on: the answer that went over the other limit, and many
/// words that it should come back. Small answers take some three times their bytes.
const MAX_UNREAD_BYTES: u64 = (512 << 10) + MAX_BODY_BYTES as u64;
/// Rows that are looked at together for those of some buckets.
const LOOK_ROWS: usize = 512;
/// The most requests that wait for an answer, of all clients.
const MAX_WAITING: usize = 8192;

/// Answers for one instance.
pub(crate) struct Service {
    me: Weak<Self>,
    replica: OnceLock<Replica>,
    rows: Arc<dyn Rows>,
    waiting: AtomicUsize,
}

impl Service {
    /// A service over these rows; it answers once it is given its replica.
    pub(crate) fn new(rows: Arc<dyn Rows>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            replica: OnceLock::new(),
            rows,
            waiting: AtomicUsize::new(0),
        })
    }

    /// The replica that it answers for.
    pub(crate) fn serve(&self, replica: &Replica) {
        // A second call changes nothing: there is one replica.
        drop(self.replica.set(replica.clone()));
    }

    #[expect(clippy::result_large_err, reason = "the other answer is the common one")]
    fn answer_now(&self, replica: &Replica, request: Request) -> Result<Later, Answer> {
        let status = replica.status();
        if status.serving.is_none() && !matches!(request, Request::Status { .. }) {
            let primary = status.config.as_ref().and_then(|config| config.copy(config.primary));
            let hint = primary.and_then(|copy| copy.addresses.first().cloned());
            return Err(Answer::NotPrimary { hint: hint.unwrap_or_default() });
        }
        let read = |read| Ok(Later::Read { at: status.commit, read });
        match request {
            Request::Status { .. } => Err(Answer::Status(stands(&status))),
            Request::Map => {
                let text = "an instance knows no map of rows: ask the coordinator".to_owned();
                Err(Answer::Failed { text })
            }
            Request::Get { key } => read(Read::Get(key)),
            Request::Scan { from, limit, of } => read(Read::Scan(from, limit, of)),
            Request::Count { of } => read(Read::Count(of)),
            Request::Outcome { client, sequence, .. } => {
                read(Read::Outcome(ClientId(client), sequence))
            }
            Request::Settle { client, sequence, .. } => {
                let client = ClientId(client);
                let settle = Write { client, sequence, op: Op::Settle };
                append(replica, &[settle], client, sequence).map(Appended::of_settlement)
            }
            Request::Write { client, sequence, map, changes } => {
                // Kept until it is in the log: what takes the bucket up again by a later map comes behind it there.
                let keys = changes.iter().map(Change::key);
                let Some((_steady, held)) = self.rows.holdings().may_write(keys, map) else {
                    return Err(Answer::Moved { map: 0 });
                };
                let first = changes.first().map(|change| change.key().clone());
                let client = ClientId(client);
                let writes: Vec<_> = changes
                    .into_iter()
                    .map(|change| Write { client, sequence, op: op(change) })
                    .collect();
                let appended = append(replica, &writes, client, sequence)?;
                Ok(appended.of_write(first.unwrap_or_default(), held))
            }
        }
    }

    async fn answer_later(&self, replica: &Replica, later: Later) -> Answer {
        match later {
            Later::Read { at, read } => match replica.applied(at).await {
                Ok(_) => self.read(replica, read),
                Err(error) => Answer::Failed { text: error.to_string() },
            },
            Later::Write { appended, held } => {
                let Appended { pending, client, sequence, last_bytes } = appended;
                let (epoch, end) = match pending.committed().await {
                    Ended::Committed { epoch, end } => (epoch, end),
                    Ended::InDoubt { epoch, end } => {
                        return Answer::InDoubt(place(replica, epoch.number, end, last_bytes));
                    }
                };
                let committed = place(replica, epoch.number, end, last_bytes);
                if replica.applied(end).await.is_err() {
                    return Answer::InDoubt(committed);
                }
                match self.rows.outcome(client, sequence) {
                    Outcome::Applied { end: of } if of == end => Answer::Committed(committed),
                    // Whether it came before its bucket was given up, nothing tells of a write without a name.
                    _ if client == ClientId::NONE => match held {
                        Some((_, mark)) if self.rows.holdings().still(mark) => {
                            Answer::Committed(committed)
                        }
                        Some((key, _)) if self.rows.holdings().may_read(&key).is_none() => {
                            Answer::InDoubt(committed)
                        }
                        _ => Answer::Committed(committed),
                    },
                    // Behind the record by which its bucket was given up: nothing was done.
                    Outcome::Unknown if held.is_some() => Answer::Moved { map: 0 },
                    // A settlement, or a write that came twice: the first one counts.
                    outcome => outcome_answer(replica, outcome),
                }
            }
        }
    }

    fn read(&self, replica: &Replica, read: Read) -> Answer {
        let mark = match &read {
            Read::Get(key) => self.rows.holdings().may_read(key),
            Read::Scan(_, _, of) | Read::Count(of) => self.rows.holdings().may_read_all(|bucket| {
                let bucket = Bucket::new(bucket);
                of.as_ref().zip(bucket).is_some_and(|(of, bucket)| of.contains(bucket))
            }),
            Read::Outcome(client, sequence) => {
                return outcome_answer(replica, self.rows.outcome(*client, *sequence));
            }
        };
        let Some(mark) = mark else { return Answer::Moved { map: 0 } };
        let answer = match read {
            Read::Get(key) => self.rows.get(&key).map(Answer::Value),
            Read::Count(None) => self.rows.count().map(Answer::Count),
            Read::Count(Some(of)) => self.count(&of).map(Answer::Count),
            Read::Scan(from, limit, of) => self.page(&from, limit, of.as_ref()).map(Answer::Rows),
            Read::Outcome(..) => Ok(Answer::Unknown),
        };
        if !self.rows.holdings().still(mark) {
            return Answer::Moved { map: 0 };
        }
        answer.unwrap_or_else(|error| Answer::Failed { text: error.to_string() })
    }

    /// Rows up to the size of an answer, at least one if there is one.
    fn page(
        &self,
        from: &[u8],
        limit: u32,
        of: Option<&BucketSet>,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(MAX_ROWS).min(MAX_ROWS);
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut from = Bytes::copy_from_slice(from);
        while page.len() < limit {
            let look = if of.is_some() { LOOK_ROWS } else { limit.saturating_sub(page.len()) };
            let rows = self.rows.scan(&from, look)?;
            let Some((last, _)) = rows.last() else { break };
            from = behind(last);
            for (key, value) in
                rows.into_iter().filter(|(key, _)| of.is_none_or(|of| of.holds(key)))
            {
                bytes += key.len() + value.len();
                if page.len() >= limit || (!page.is_empty() && bytes > PAGE_BYTES) {
                    return Ok(page);
                }
                page.push((key, value));
            }
        }
        Ok(page)
    }

    fn count(&self, of: &BucketSet) -> Result<u64, StoreError> {
        let (mut count, mut from) = (0_u64, Bytes::new());
        loop {
            let rows = self.rows.scan(&from, LOOK_ROWS)?;
            let Some((last, _)) = rows.last() else { return Ok(count) };
            from = behind(last);
            count += rows.iter().filter(|(key, _)| of.holds(key)).count() as u64;
        }
    }
}

impl Requests for Service {
    fn request(&self, caller: &Caller, op: u64, body: Bytes) {
        if caller.queued_bytes() > MAX_UNREAD_BYTES {
            return caller.hang_up();
        }
        let (Some(me), Some(replica)) = (self.me.upgrade(), self.replica.get()) else {
            return respond(caller, op, &Answer::NotPrimary { hint: String::new() });
        };
        if is_ask(&body) {
            return moving::answer(replica, &self.rows, caller, op, &body);
        }
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(error) => return respond(caller, op, &Answer::Failed { text: error.to_string() }),
        };
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING
            || caller.queued_bytes() > MAX_QUEUED_BYTES
        {
            return respond(caller, op, &Answer::Busy);
        }
        match self.answer_now(replica, request) {
            Err(answer) => respond(caller, op, &answer),
            Ok(later) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let (caller, asked) = (caller.clone(), replica.clone());
                replica.spawn(async move {
                    let answer = me.answer_later(&asked, later).await;
                    me.waiting.fetch_sub(1, Ordering::Relaxed);
                    // What only tells is asked for again; what became of a write is always told.
                    let tells = matches!(answer, Answer::Rows(_) | Answer::Value(_));
                    if tells && caller.queued_bytes() > MAX_QUEUED_BYTES {
                        respond(&caller, op, &Answer::Busy);
                    } else {
                        respond(&caller, op, &answer);
                    }
                });
            }
        }
    }
}

/// What is answered once the log or the store is so far.
enum Later {
    Read {
        at: Lsn,
        read: Read,
    },
    Write {
        appended: Appended,
        /// Of a write, no settlement: its first row, and that it was held.
        held: Option<(Bytes, Mark)>,
    },
}

/// What is in the log and not decided.
struct Appended {
    pending: Pending,
    client: ClientId,
    sequence: u64,
    /// The last record's frame.
    last_bytes: u64,
}

impl Appended {
    const fn of_settlement(self) -> Later {
        Later::Write { appended: self, held: None }
    }

    const fn of_write(self, first: Bytes, held: Mark) -> Later {
        Later::Write { appended: self, held: Some((first, held)) }
    }
}

enum Read {
    Get(Bytes),
    Scan(Bytes, u32, Option<BucketSet>),
    Count(Option<BucketSet>),
    Outcome(ClientId, u64),
}

fn stands(status: &outrigger_replica::runtime::Status) -> Status {
    Status {
        epoch: status.epoch.number,
        serving: status.serving.is_some(),
        commit: status.commit.0,
        applied: status.applied.0,
        durable: status.durable.0,
        end: status.end.0,
        cut: status.last_cut.map(|cut| Cut { from: cut.from.0, to: cut.to.0, bytes: cut.bytes }),
        joined: status.last_join.map(|join| Joined {
            instance: join.copy.0,
            from: join.from.0,
            to: join.to.0,
            stored_bytes: join.stored_bytes,
            wire_bytes: join.wire_bytes,
        }),
    }
}

fn op(change: Change) -> Op {
    match change {
        Change::Put { key, value } => Op::Put { key, value },
        Change::Delete { key } => Op::Delete { key },
    }
}

#[expect(clippy::result_large_err, reason = "the other answer is the common one")]
fn append(
    replica: &Replica,
    writes: &[Write],
    client: ClientId,
    sequence: u64,
) -> Result<Appended, Answer> {
    let refused = |text: String| Answer::Refused { text };
    let records: Vec<Bytes> = writes
        .iter()
        .map(Write::encode)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(error.to_string()))?;
    let last_bytes = records.last().map_or(0, |record| record_frame_bytes(record.len()));
    let records: Vec<&[u8]> = records.iter().map(Bytes::as_ref).collect();
    if records.is_empty() {
        return Err(refused("a write without a change".to_owned()));
    }
    match replica.append_batch(&records) {
        Ok(pending) => Ok(Appended { pending, client, sequence, last_bytes }),
        Err(ReplicaError::NotPrimary) => Err(Answer::NotPrimary { hint: String::new() }),
        Err(ReplicaError::Log(outrigger_wal::Error::Full { .. })) => Err(Answer::Busy),
        Err(ReplicaError::Log(error @ outrigger_wal::Error::RecordTooLarge { .. })) => {
            Err(refused(error.to_string()))
        }
        // The log has ended under it: another primary will know.
        Err(_) => Err(Answer::NotPrimary { hint: String::new() }),
    }
}

fn place(replica: &Replica, epoch: u64, end: Lsn, last_bytes: u64) -> Place {
    let lsn = end.0.saturating_sub(last_bytes);
    Place { content: replica.who().content.0, epoch, lsn, end: end.0 }
}

/// What became of a write; where its record starts is for its client to know.
fn outcome_answer(replica: &Replica, outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Unknown => Answer::Unknown,
        Outcome::TooOld => Answer::TooOld,
        Outcome::Refused { .. } => {
            Answer::Refused { text: "it was settled before it came".to_owned() }
        }
        Outcome::Applied { end } => {
            let epoch = replica.epoch_at(end).map_or(0, |epoch| epoch.number);
            Answer::Committed(place(replica, epoch, end, 0))
        }
    }
}

fn respond(caller: &Caller, op: u64, answer: &Answer) {
    let too_long = |error: ProtocolError| Answer::Failed { text: error.to_string() }.encode();
    if let Ok(body) = answer.encode().or_else(too_long) {
        caller.respond(op, body);
    }
}
