//! An instance carries out what a coordinator asks about rows that move.
//!
//! Guarantees: what it calls done is committed and applied here, and was looked at again after that; rows and changes are
//! of what is applied on a primary that serves. No answer is larger than a message. Not here: what is asked when
//! (`outrigger_cluster::mover`), which of it has an effect (store).

use std::sync::Arc;

use bytes::Bytes;
use outrigger_cluster::buckets::Bucket;
use outrigger_cluster::mover::{Ask, Changes, Reply};
use outrigger_replica::runtime::{Caller, Pending, Replica};
use outrigger_replica::store::Rows;
use outrigger_replica::store::kv::{Held, Hold, Holdings, Op, Token, Write};
use outrigger_wal::Lsn;

use super::protocol::{BucketSet, PAGE_BYTES, behind};

/// Rows that are looked at together.
const LOOK_ROWS: usize = 256;
/// How often, for one answer.
const LOOKS: usize = 16;
/// Rows of one answer, at most.
const MAX_ROWS: usize = 1024;
/// Changed keys that are taken out together.
const MAX_CHANGED: usize = 256;

/// Rows, and from which key to go on.
type Page = (Vec<(Bytes, Bytes)>, Option<Bytes>);

/// Why it cannot be done now.
struct Unable(String);

/// Carries it out, and answers.
pub(super) fn answer(
    replica: &Replica,
    rows: &Arc<dyn Rows>,
    caller: &Caller,
    op: u64,
    body: &Bytes,
) {
    let ask = match Ask::decode(body) {
        Ok(ask) => ask,
        Err(error) => return respond(caller, op, &Reply::Failed { text: error.to_string() }),
    };
    let (moving, caller) =
        (Moving { replica: replica.clone(), rows: Arc::clone(rows) }, caller.clone());
    replica.spawn(async move {
        let reply = moving.carry_out(ask).await;
        respond(&caller, op, &reply.unwrap_or_else(|Unable(text)| Reply::Failed { text }));
    });
}

fn respond(caller: &Caller, op: u64, reply: &Reply) {
    let too_long =
        |error: outrigger_cluster::CodecError| Reply::Failed { text: error.to_string() }.encode();
    if let Ok(body) = reply.encode().or_else(too_long) {
        caller.respond(op, body);
    }
}

struct Moving {
    replica: Replica,
    rows: Arc<dyn Rows>,
}

fn unable(error: impl std::fmt::Display) -> Unable {
    Unable(error.to_string())
}

impl Moving {
    fn holdings(&self) -> &Holdings {
        self.rows.holdings()
    }

    async fn carry_out(&self, ask: Ask) -> Result<Reply, Unable> {
        if self.replica.status().serving.is_none() {
            return Err(Unable("this copy does not serve".to_owned()));
        }
        match ask {
            Ask::Tell { buckets, hold } => self.tell(&buckets, hold).await,
            Ask::Sweep { buckets, token, from } => self.sweep(&buckets, token, &from).await,
            Ask::Track { buckets, token } => self.track(&buckets, token).await,
            Ask::Look { buckets, from } => {
                self.shown().await?;
                let (rows, next) = self.look(&set(&buckets), &from)?;
                Ok(Reply::Page { rows, next })
            }
            Ask::Changed { token } => self.changed(token).await,
            Ask::Fill { token, rows } => {
                self.fill(token, rows).await?;
                Ok(Reply::Done)
            }
        }
    }

    /// Everything that is committed is shown; up to where.
    async fn shown(&self) -> Result<Lsn, Unable> {
        self.replica.applied(self.replica.status().commit).await.map_err(unable)
    }

    /// Waits until all of these are committed and applied.
    async fn done(&self, appended: Vec<Pending>) -> Result<(), Unable> {
        let mut end = Lsn::ZERO;
        // Each by itself: one may have been lost with a reign that ended, and a later one not.
        for pending in appended {
            end = end.max(pending.end());
            if !pending.committed().await.is_committed() {
                return Err(Unable("the reign has ended".to_owned()));
            }
        }
        self.replica.applied(end).await.map_err(unable)?;
        Ok(())
    }

    async fn tell(&self, buckets: &[Bucket], hold: Hold) -> Result<Reply, Unable> {
        let records = buckets.iter().map(|bucket| {
            Write::of_move(Op::Hold { bucket: bucket.number(), hold }).encode().map_err(unable)
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let records: Vec<&[u8]> = records.iter().map(Bytes::as_ref).collect();
        if !records.is_empty() {
            self.done(vec![self.replica.append_batch(&records).map_err(unable)?]).await?;
        }
        // What was told before, or by a later try, counts.
        let is_so = |bucket: &Bucket| match (self.holdings().held(bucket.number()), hold) {
            (
                Some(Held::No { token: had, .. }),
                Hold::GiveUp { token, .. } | Hold::Receive { token },
            ) => had == token,
            (Some(Held::Since(_)), Hold::TakeUp { .. }) => true,
            _ => false,
        };
        match buckets.iter().find(|bucket| !is_so(bucket)) {
            None => Ok(Reply::Done),
            Some(bucket) => Err(Unable(format!(
                "bucket {} stands otherwise here: {:?}",
                bucket.number(),
                self.holdings().held(bucket.number())
            ))),
        }
    }

    async fn track(&self, buckets: &[Bucket], token: Token) -> Result<Reply, Unable> {
        self.holdings().track(token, buckets.iter().map(|bucket| bucket.number()).collect());
        // ORDER: what was being applied meanwhile is not tracked, and is shown before any row is read: a record
        // behind it is applied. This content is no target under this token, so it has no effect.
        let mark = Op::Fill { token, key: Bytes::new(), value: None };
        let record = Write::of_move(mark).encode().map_err(unable)?;
        self.done(vec![self.replica.append(&record).map_err(unable)?]).await?;
        Ok(Reply::Done)
    }

    /// Some rows of these buckets, and where to go on.
    fn look(&self, of: &BucketSet, from: &[u8]) -> Result<Page, Unable> {
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        let mut from = Bytes::copy_from_slice(from);
        for _ in 0..LOOKS {
            let rows = self.rows.scan(&from, LOOK_ROWS).map_err(unable)?;
            if rows.is_empty() {
                return Ok((page, None));
            }
            for (key, value) in rows {
                let next = behind(&key);
                if of.holds(&key) {
                    bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                    if page.len() >= MAX_ROWS || (!page.is_empty() && bytes > PAGE_BYTES) {
                        return Ok((page, Some(from)));
                    }
                    page.push((key, value));
                }
                from = next;
            }
        }
        Ok((page, Some(from)))
    }

    async fn changed(&self, token: Token) -> Result<Reply, Unable> {
        let shown = self.shown().await?;
        let (keys, left) =
            self.holdings().take_changed(token, shown, MAX_CHANGED).map_err(unable)?;
        let mut rows: Changes = Vec::new();
        let (mut bytes, mut back) = (0_usize, Vec::new());
        for key in keys {
            if !rows.is_empty() && bytes > PAGE_BYTES {
                back.push(key);
                continue;
            }
            let value = self.rows.get(&key).map_err(unable)?;
            let size = key.len().saturating_add(value.as_ref().map_or(0, Bytes::len));
            if !rows.is_empty() && bytes.saturating_add(size) > PAGE_BYTES {
                bytes = usize::MAX;
                back.push(key);
                continue;
            }
            bytes = bytes.saturating_add(size);
            rows.push((key, value));
        }
        let left = left.saturating_add(back.len());
        self.holdings().put_back(token, back);
        Ok(Reply::Changed { rows, left: u32::try_from(left).unwrap_or(u32::MAX) })
    }

    async fn sweep(&self, buckets: &[Bucket], token: Token, from: &[u8]) -> Result<Reply, Unable> {
        let (rows, next) = self.look(&set(buckets), from)?;
        self.fill(token, rows.into_iter().map(|(key, _)| (key, None)).collect()).await?;
        Ok(Reply::Swept { next })
    }

    async fn fill(&self, token: Token, rows: Changes) -> Result<(), Unable> {
        let mut appended = Vec::with_capacity(rows.len());
        let mut keys = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            keys.push(key.clone());
            let record = Write::of_move(Op::Fill { token, key, value }).encode().map_err(unable)?;
            appended.push(self.replica.append(&record).map_err(unable)?);
        }
        self.done(appended).await?;
        // A token that counts still has counted all the while.
        match keys.iter().find(|key| !self.holdings().takes(key, token)) {
            None => Ok(()),
            Some(_) => Err(Unable("another try has begun, or the rows are held here".to_owned())),
        }
    }
}

fn set(buckets: &[Bucket]) -> BucketSet {
    let mut set = BucketSet::EMPTY;
    buckets.iter().for_each(|bucket| set.insert(*bucket));
    set
}
