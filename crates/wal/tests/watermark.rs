//! Who waits for a watermark.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use outrigger_wal::{Lsn, Watermark};

/// Whoever moves the mark may put off what nobody waits for, and must not put off the rest.
#[test]
fn a_waiter_is_seen_by_whoever_would_release_it_and_by_nobody_else() {
    let mark = Arc::new(Watermark::new(Lsn(10)));
    assert!(!mark.is_awaited(Lsn(u64::MAX)));
    let mut far = pin!(mark.wait(Lsn(u64::MAX)));
    let mut near = Box::pin(mark.wait(Lsn(20)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(far.as_mut().poll(&mut context).is_pending());
    assert!(near.as_mut().poll(&mut context).is_pending());
    assert!(!mark.is_awaited(Lsn(19)));
    assert!(mark.is_awaited(Lsn(20)));
    drop(near);
    assert!(!mark.is_awaited(Lsn(20)), "it was given up");
    assert!(mark.is_awaited(Lsn(u64::MAX)));
}
