//! An LSN that only advances, and those who wait for it.
//!
//! Guarantees: a waiter is released by `reached >= its LSN` or by the error that ended the log, by
//! nothing else; only those whose LSN is reached are woken, in LSN order; nothing is polled.
//! Not here: what advances it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use parking_lot::Mutex;

use crate::error::Error;
use crate::lsn::Lsn;

#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<(Lsn, u64), Waker>,
    next: u64,
    failed: Option<Error>,
}

/// An advancing LSN that can be waited for from tasks and from threads.
///
/// ```
/// use std::sync::Arc;
/// use outrigger_wal::{Lsn, Watermark};
///
/// let mark = Arc::new(Watermark::new(Lsn(0)));
/// mark.advance(Lsn(4096));
/// assert!(mark.wait(Lsn(100)).blocking().is_ok());
/// ```
#[derive(Debug, Default)]
pub struct Watermark {
    reached: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Watermark {
    /// A watermark that stands at `at`.
    #[must_use]
    pub fn new(at: Lsn) -> Self {
        Self { reached: AtomicU64::new(at.0), waiting: Mutex::default() }
    }

    /// Where it stands.
    #[must_use]
    pub fn reached(&self) -> Lsn {
        Lsn(self.reached.load(Ordering::Acquire))
    }

    /// Whether anybody would be released if it reached `lsn`.
    #[must_use]
    pub fn is_awaited(&self, lsn: Lsn) -> bool {
        self.waiting.lock().wakers.first_key_value().is_some_and(|((first, _), _)| *first <= lsn)
    }

    /// Moves it forward, never back, and wakes whoever waited for that, in LSN order.
    pub fn advance(&self, to: Lsn) {
        if self.reached.fetch_max(to.0, Ordering::AcqRel) >= to.0 {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.wakers.first_key_value().is_none_or(|((lsn, _), _)| *lsn > to) {
            return;
        }
        let later = waiting.wakers.split_off(&(to.saturating_add(1), 0));
        let woken = std::mem::replace(&mut waiting.wakers, later);
        drop(waiting);
        woken.into_values().for_each(Waker::wake);
    }

    /// Ends it: whoever waits for more, now or later, gets `error`. The first error stays.
    pub fn fail(&self, error: Error) {
        let mut waiting = self.waiting.lock();
        waiting.failed.get_or_insert(error);
        let woken = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        woken.into_values().for_each(Waker::wake);
    }

    /// Waits until it has reached `lsn`.
    ///
    /// # Cancel safety
    /// Dropping the wait forgets it; nothing is undone.
    pub fn wait(self: &Arc<Self>, lsn: Lsn) -> Wait {
        Wait { mark: Arc::clone(self), lsn, key: None }
    }

    /// Follows it from where it stands.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        Subscription { mark: Arc::clone(self), seen: self.reached() }
    }
}

/// A wait for an LSN: a future, or blocking.
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait {
    mark: Arc<Watermark>,
    lsn: Lsn,
    key: Option<(Lsn, u64)>,
}

impl Wait {
    /// Blocks the calling thread until the LSN is reached.
    ///
    /// # Errors
    /// The error that ended the log before the LSN was reached.
    pub fn blocking(mut self) -> Result<Lsn, Error> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        if self.mark.reached() >= self.lsn {
            return Ok(self.mark.reached());
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self).poll(&mut context) {
                return result;
            }
            std::thread::park();
        }
    }
}

impl Future for Wait {
    /// The LSN that it stands at when the wait ends.
    type Output = Result<Lsn, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mark = Arc::clone(&self.mark);
        if mark.reached() >= self.lsn {
            return Poll::Ready(Ok(mark.reached()));
        }
        let mut waiting = mark.waiting.lock();
        // ORDER: looked at again under the lock, which whoever advances takes after advancing.
        if mark.reached() >= self.lsn {
            return Poll::Ready(Ok(mark.reached()));
        }
        if let Some(error) = &waiting.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let lsn = self.lsn;
        let key = *self.key.get_or_insert_with(|| {
            waiting.next = waiting.next.wrapping_add(1);
            (lsn, waiting.next)
        });
        waiting.wakers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.mark.waiting.lock().wakers.remove(&key);
        }
    }
}

/// Follows a watermark: each answer is further on than the last.
#[derive(Debug)]
pub struct Subscription {
    mark: Arc<Watermark>,
    seen: Lsn,
}

impl Subscription {
    /// Waits until it has moved past what was seen last.
    ///
    /// # Errors
    /// The error that ended the log.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call answers at once if it has moved.
    pub async fn next(&mut self) -> Result<Lsn, Error> {
        self.seen = self.mark.wait(self.seen.saturating_add(1)).await?;
        Ok(self.seen)
    }

    /// [`Subscription::next`] for threads.
    ///
    /// # Errors
    /// The error that ended the log.
    pub fn next_blocking(&mut self) -> Result<Lsn, Error> {
        self.seen = self.mark.wait(self.seen.saturating_add(1)).blocking()?;
        Ok(self.seen)
    }
}
