//! Changes of the catalog that belong together, and who is told when they are made.
//!
//! Guarantees: they are appended in order, as many at once as may wait, or one by one where a later one must not be
//! made without an earlier; that the cluster is up comes behind all others; the asker is told once, when all are decided,
//! or that one was refused, and which; those behind a refused one are not appended any more.
//! Not here: what is changed.

use std::collections::VecDeque;

use outrigger_replica::member::LinkId;

use super::event::Out;
use super::{Coordinator, Pending};
use crate::catalog::{Change, Refused};

/// Changes on their way.
#[derive(Debug)]
pub(super) struct Work {
    left: VecDeque<Change>,
    /// Appended and not decided.
    open: usize,
    asker: Option<(LinkId, u64)>,
    /// What the asker is told at the end.
    text: String,
    failed: Option<String>,
    pace: Pace,
}

/// How many changes wait to be decided at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// As many as may: each stands for itself.
    AtOnce,
    /// One: what follows must not be made where one is refused.
    OneByOne,
}

impl Work {
    /// Whether those that were appended must be decided first.
    fn waits(&self) -> bool {
        let alone = matches!(self.left.front(), Some(Change::SetUp(_)));
        self.open > 0 && (alone || self.pace == Pace::OneByOne)
    }
}

impl Coordinator {
    /// Makes changes; `asker` is told `text` when all are made.
    pub(super) fn work(
        &mut self,
        changes: Vec<Change>,
        asker: Option<(LinkId, u64)>,
        text: String,
        out: &mut Vec<Out>,
    ) {
        self.work_at(Pace::AtOnce, changes, asker, text, out);
    }

    /// The same, at this pace.
    pub(super) fn work_at(
        &mut self,
        pace: Pace,
        changes: Vec<Change>,
        asker: Option<(LinkId, u64)>,
        text: String,
        out: &mut Vec<Out>,
    ) {
        self.last_work = self.last_work.wrapping_add(1);
        let work = Work { left: changes.into(), open: 0, asker, text, failed: None, pace };
        self.works.insert(self.last_work, work);
        self.go_on(self.last_work, out);
    }

    /// A change was decided.
    pub(super) fn worked(&mut self, id: u64, result: Result<(), Refused>, out: &mut Vec<Out>) {
        if let Some(work) = self.works.get_mut(&id) {
            work.open = work.open.saturating_sub(1);
            if let Err(refused) = result {
                work.failed.get_or_insert_with(|| refused.to_string());
            }
        }
        self.go_on(id, out);
    }

    /// A change cannot be appended.
    pub(super) fn not_worked(&mut self, id: u64, why: &str, out: &mut Vec<Out>) {
        if let Some(work) = self.works.get_mut(&id) {
            work.open = work.open.saturating_sub(1);
            work.failed.get_or_insert_with(|| why.to_owned());
        }
        self.go_on(id, out);
    }

    fn go_on(&mut self, id: u64, out: &mut Vec<Out>) {
        while let Some(work) = self.works.get_mut(&id)
            && work.failed.is_none()
            && !work.waits()
            && let Some(change) = work.left.pop_front()
        {
            if self.append(change.clone(), Pending::Work { id }, out) {
                if let Some(work) = self.works.get_mut(&id) {
                    work.open = work.open.saturating_add(1);
                }
            } else if let Some(work) = self.works.get_mut(&id) {
                if work.open > 0 {
                    // As soon as one of those that wait is decided.
                    work.left.push_front(change);
                } else {
                    work.failed = Some("the catalog takes nothing now; ask again".to_owned());
                }
                break;
            }
        }
        let is_over =
            |work: &Work| work.open == 0 && (work.left.is_empty() || work.failed.is_some());
        if !self.works.get(&id).is_some_and(is_over) {
            return;
        }
        let Some(Work { asker, text, failed, .. }) = self.works.remove(&id) else { return };
        let Some((link, op)) = asker else { return };
        match failed {
            None => self.done(link, op, text, out),
            Some(why) => {
                self.deny(link, op, format!("not all of it could be recorded: {why}"), out);
            }
        }
    }
}
