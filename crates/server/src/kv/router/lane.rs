//! The writes of one client to one content, in their order.
//!
//! Guarantees: they are sent in the order in which they came; when some are not taken, no more are sent until all
//! that are out are decided, and then those go again first, in order. A write that was sent is never sent again
//! unless the answer says that nothing was done; without an answer it is in doubt. A write that did not go out in time
//! is answered so, and one whose client is gone does not go out. Not here: what becomes of doubts (the client).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use outrigger_wal::ContentId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::line::Asked;
use super::super::protocol::{Answer, Place};
use super::Router;
use super::asking::{MAX_OPEN, Waiting};
use super::combine::{self, Way};
use super::guest::{Guest, Held};
use super::pool::Use;

/// A request under way.
pub(super) struct Job {
    pub(super) op: u64,
    pub(super) body: Bytes,
    /// The map that a write named.
    pub(super) map: u64,
    /// Of the rows that it changes.
    pub(super) keys: Vec<Bytes>,
    pub(super) deadline: Instant,
    /// What it holds of its client's share.
    #[expect(dead_code, reason = "given back when it is dropped")]
    pub(super) held: Held,
}

/// Puts a write into its lane: that of its first row, if its rows are on one content.
pub(super) fn put(router: &Arc<Router>, guest: &Arc<Guest>, job: Job) {
    let places = router.now();
    let first = job.keys.first().and_then(|key| combine::holders(&places, key).first().copied());
    let content = match combine::way(&places, &job.keys, job.map) {
        Way::Answer(answer) => return guest.answer(job.op, &answer),
        Way::To(content) => content,
        // It waits in the lane of whoever is known to hold it now.
        Way::Wait => first.unwrap_or_default(),
    };
    let mut lanes = guest.lanes.lock();
    if guest.is_gone() {
        return;
    }
    let lane = lanes.entry(content).or_insert_with(|| {
        let (lane, queue) = unbounded_channel();
        tokio::spawn(run(Arc::clone(router), Arc::clone(guest), queue));
        lane
    });
    // The lane's end would be the runtime's.
    drop(lane.send(job));
}

/// What became of a write that was sent.
enum Sent {
    /// Its client was told.
    Told,
    /// Nobody took it.
    NotTaken(u64, Job),
}

async fn run(router: Arc<Router>, guest: Arc<Guest>, mut queue: UnboundedReceiver<Job>) {
    let mut out: JoinSet<Sent> = JoinSet::new();
    let mut again: Vec<(u64, Job)> = Vec::new();
    let mut number = 0_u64;
    loop {
        if !again.is_empty() && out.is_empty() {
            again.sort_unstable_by_key(|(number, _)| *number);
            let mut due: VecDeque<_> = std::mem::take(&mut again).into();
            // Whoever did not take them is not asked at once.
            let mut pause = true;
            while let Some((number, job)) = due.pop_front() {
                send(&router, &guest, number, job, pause, &mut out).await;
                pause = false;
            }
        }
        tokio::select! {
            biased;
            Some(sent) = out.join_next() => {
                if let Ok(Sent::NotTaken(number, job)) = sent {
                    again.push((number, job));
                }
            }
            job = queue.recv(), if again.is_empty() => match job {
                Some(job) => {
                    number = number.saturating_add(1);
                    send(&router, &guest, number, job, false, &mut out).await;
                }
                None => break,
            },
        }
    }
    // The client is gone; what is out is decided by its primary, and told nobody.
}

/// Sends a write as soon as its content serves.
async fn send(
    router: &Arc<Router>,
    guest: &Arc<Guest>,
    number: u64,
    job: Job,
    pause: bool,
    out: &mut JoinSet<Sent>,
) {
    let mut waiting = Waiting::new(router, job.deadline);
    if pause && !waiting.again().await {
        return guest.answer(job.op, &waiting.late());
    }
    loop {
        if guest.is_gone() {
            return;
        }
        let places = waiting.look();
        match combine::way(&places, &job.keys, job.map) {
            Way::Answer(answer) => return guest.answer(job.op, &answer),
            Way::Wait => waiting.why = "its rows are on their way".to_owned(),
            Way::To(content) => {
                let line = router.reach(&mut waiting, &places, content, Use::Writing).await;
                if line.as_ref().is_some_and(|line| line.waiting() >= MAX_OPEN) {
                    return guest.answer(job.op, &Answer::Busy);
                }
                // Nothing was sent when the connection has ended meanwhile.
                if let Some(line) = line
                    && let Ok(asked) = line.ask(job.body.clone())
                {
                    let guest = Arc::clone(guest);
                    out.spawn(hear(guest, asked, content, number, job));
                    return;
                }
            }
        }
        if !waiting.again().await {
            return guest.answer(job.op, &waiting.late());
        }
    }
}

/// Waits for the answer to a write, and tells its client.
async fn hear(guest: Arc<Guest>, asked: Asked, content: ContentId, number: u64, job: Job) -> Sent {
    let answer = match timeout_at(job.deadline, asked.answer()).await {
        Ok(Ok(body)) => Answer::decode(body),
        _ => Ok(Answer::InDoubt(Place { content: content.0, ..Place::default() })),
    };
    match answer {
        Ok(Answer::NotPrimary { .. } | Answer::Moved { .. }) => Sent::NotTaken(number, job),
        Ok(answer) => {
            guest.answer(job.op, &answer);
            Sent::Told
        }
        Err(_) => {
            guest.answer(job.op, &Answer::InDoubt(Place::default()));
            Sent::Told
        }
    }
}
