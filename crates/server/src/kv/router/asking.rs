//! Questions to contents: to one, to all, to all that ever held a row.
//!
//! Guarantees: what changes nothing, or settles, is asked again until there is an answer or the time is over; an
//! answer that several contents had to give is of one map. Not here: writes ([`super::lane`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_wal::ContentId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::line::{Broken, Line};
use super::super::places::Places;
use super::super::protocol::{Answer, MAX_ROWS, Request};
use super::pool::Use;
use super::{MAX_PAGES, Router, combine};

/// A primary with so many questions open is not asked more: it would have to hold the answers.
pub(super) const MAX_OPEN: usize = 2048;
/// Before a primary is asked again that did not answer; doubled each time, up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A request that waits for its content to serve.
pub(super) struct Waiting {
    places: watch::Receiver<Arc<Places>>,
    deadline: Instant,
    pause: Duration,
    /// What it waits for, in words.
    pub(super) why: String,
}

impl Waiting {
    pub(super) fn new(router: &Router, deadline: Instant) -> Self {
        let why = "no content holds the row yet".to_owned();
        let mut places = router.places.clone();
        places.mark_unchanged();
        Self { places, deadline, pause: FIRST_PAUSE, why }
    }

    /// What is told now.
    pub(super) fn look(&mut self) -> Arc<Places> {
        Arc::clone(&self.places.borrow_and_update())
    }

    /// Waits for a change since the last look, but not for long; `false`: the time is over.
    pub(super) async fn again(&mut self) -> bool {
        let until = self.deadline.min(Instant::now() + self.pause);
        self.pause = LONGEST_PAUSE.min(self.pause + self.pause / 4);
        match timeout_at(until, self.places.changed()).await {
            Ok(Ok(())) => self.pause = FIRST_PAUSE,
            // Nobody tells any more: the process is ending.
            Ok(Err(_)) => sleep(LONGEST_PAUSE).await,
            Err(_) => {}
        }
        Instant::now() < self.deadline
    }

    /// The time is over, and nothing was done.
    pub(super) fn late(&self) -> Answer {
        Answer::NotPrimary { hint: self.why.clone() }
    }
}

impl Router {
    /// A connection to the acting primary of a content; `None`, and why, while there is none.
    pub(super) async fn reach(
        &self,
        waiting: &mut Waiting,
        places: &Places,
        content: ContentId,
        what: Use,
    ) -> Option<Arc<Line>> {
        let Some(seat) = places.contents.get(&content).filter(|_| places.serving) else {
            waiting.why = format!("there is no content {content}");
            return None;
        };
        if !seat.acting {
            waiting.why = format!("content {content} has no primary that serves");
            return None;
        }
        // A change of the places counts for more than a primary that does not answer.
        let mut changes = waiting.places.clone();
        let opening = self.pool.line(places.cluster, content, seat, what);
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            _ = changes.changed() => Err(Broken("its place has changed".to_owned())),
            () = tokio::time::sleep_until(waiting.deadline) => Err(Broken("it does not answer".to_owned())),
        };
        opened.map_err(|Broken(why)| waiting.why = why).ok()
    }

    /// Asks whoever holds something, until it answers; a bucket that is on its way is waited for.
    pub(super) async fn ask_holder(
        &self,
        whose: impl Fn(&Places) -> Option<ContentId>,
        body: Bytes,
        deadline: Instant,
    ) -> Answer {
        let mut waiting = Waiting::new(self, deadline);
        loop {
            let places = waiting.look();
            if let Some(content) = whose(&places)
                && let Some(line) = self.reach(&mut waiting, &places, content, Use::Reading).await
            {
                match self.ask_line(&line, body.clone(), &mut waiting).await {
                    Some(Answer::Moved { .. }) => {
                        waiting.why = "its rows are on their way".to_owned()
                    }
                    Some(answer) => return answer,
                    None => {}
                }
            }
            if !waiting.again().await {
                return waiting.late();
            }
        }
    }

    /// One question on one connection; `None`, and why, when it has to be asked again.
    async fn ask_line(&self, line: &Line, body: Bytes, waiting: &mut Waiting) -> Option<Answer> {
        if line.waiting() >= MAX_OPEN {
            return Some(Answer::Busy);
        }
        let asked = line.ask(body).map_err(|Broken(why)| waiting.why = why).ok()?;
        match timeout_at(waiting.deadline, asked.answer()).await {
            Ok(Ok(body)) => match Answer::decode(body) {
                Ok(Answer::NotPrimary { .. }) => {
                    waiting.why = "the primary does not serve yet".to_owned();
                    None
                }
                Ok(answer) => Some(answer),
                Err(error) => Some(Answer::Failed { text: error.to_string() }),
            },
            Ok(Err(Broken(why))) => {
                waiting.why = why;
                None
            }
            Err(_) => {
                waiting.why = "the primary did not answer in time".to_owned();
                None
            }
        }
    }

    /// Asks contents at the same time, each its own question.
    async fn ask_each(&self, asked: Vec<(ContentId, Bytes)>, deadline: Instant) -> Vec<Answer> {
        let mut asking: Vec<_> = asked
            .into_iter()
            .map(|(content, body)| Box::pin(self.ask_one(content, body, deadline)))
            .collect();
        let mut answers: Vec<Option<Answer>> = asking.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (asking, answer) in asking.iter_mut().zip(&mut answers) {
                if answer.is_none()
                    && let std::task::Poll::Ready(found) = asking.as_mut().poll(context)
                {
                    *answer = Some(found);
                }
            }
            if answers.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        answers.into_iter().flatten().collect()
    }

    /// Asks one content until it answers; that its rows have moved is an answer.
    async fn ask_one(&self, content: ContentId, body: Bytes, deadline: Instant) -> Answer {
        let mut waiting = Waiting::new(self, deadline);
        loop {
            let places = waiting.look();
            if let Some(line) = self.reach(&mut waiting, &places, content, Use::Reading).await
                && let Some(answer) = self.ask_line(&line, body.clone(), &mut waiting).await
            {
                return answer;
            }
            if !waiting.again().await {
                return waiting.late();
            }
        }
    }

    /// Asks every content for the rows that it holds by one map, until none of them has moved.
    async fn ask_shares(
        &self,
        deadline: Instant,
        question: impl Fn(super::super::protocol::BucketSet) -> Request,
    ) -> Result<Vec<Answer>, Answer> {
        let mut waiting = Waiting::new(self, deadline);
        loop {
            let shares = waiting.look().shares();
            let asked =
                shares.into_iter().map(|(content, of)| Ok((content, question(of).encode()?)));
            let asked = asked
                .collect::<Result<Vec<_>, super::super::protocol::ProtocolError>>()
                .map_err(|error| Answer::Failed { text: error.to_string() })?;
            if !asked.is_empty() {
                let answers = self.ask_each(asked, deadline).await;
                if !answers.iter().any(|answer| matches!(answer, Answer::Moved { .. })) {
                    return Ok(answers);
                }
                waiting.why = "rows are on their way".to_owned();
            }
            if !waiting.again().await {
                return Err(waiting.late());
            }
        }
    }

    /// Rows of all contents in key order.
    pub(super) async fn scan(&self, from: &Bytes, limit: u32, deadline: Instant) -> Answer {
        let contents = self.now().contents.len().clamp(1, MAX_PAGES);
        let permits = u32::try_from(contents).unwrap_or(1);
        let Ok(Ok(_pages)) = timeout_at(deadline, self.pages.acquire_many(permits)).await else {
            return Answer::Busy;
        };
        let question = |of| Request::Scan { from: from.clone(), limit, of: Some(of) };
        let most = usize::try_from(limit).unwrap_or(MAX_ROWS).min(MAX_ROWS);
        match self.ask_shares(deadline, question).await {
            Ok(answers) => combine::rows(answers, most),
            Err(late) => late,
        }
    }

    /// How many rows all contents have.
    pub(super) async fn count(&self, deadline: Instant) -> Answer {
        match self.ask_shares(deadline, |of| Request::Count { of: Some(of) }).await {
            Ok(answers) => combine::count(answers),
            Err(late) => late,
        }
    }

    /// Asks everyone who ever held a row what became of a write that named this map, or to settle it.
    pub(super) async fn ask_all_holders(
        &self,
        map: u64,
        key: &[u8],
        body: Bytes,
        deadline: Instant,
    ) -> Answer {
        let mut waiting = Waiting::new(self, deadline);
        loop {
            let places = waiting.look();
            // ORDER: who may have got the write is known only by the map that it named, or a later one.
            if places.serving && places.map() >= map.max(1) {
                let holders = combine::holders(&places, key);
                if holders.iter().any(|content| !places.contents.contains_key(content)) {
                    // One of them is there no more: nobody can tell.
                    return Answer::TooOld;
                }
                let asked = holders.into_iter().map(|content| (content, body.clone())).collect();
                return combine::outcome(self.ask_each(asked, deadline).await);
            }
            waiting.why = "this coordinator does not know the map that the write named".to_owned();
            if !waiting.again().await {
                return waiting.late();
            }
        }
    }
}
