//! What instances ask and tell: swaps and reports.
//!
//! Guarantees: a swap is answered from what is applied: at once when it cannot win any more, else when
//! the catalog has decided it. Reports are not logged each: they are kept until a record carries
//! them, and what is recorded counts (S6).

use outrigger_net::config::{Config, Version};
use outrigger_net::message::Message;
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, InstanceId};

use super::event::Out;
use super::{Coordinator, Figures, Pending};
use crate::catalog::Change;
use crate::register::{Proposer, Register, Report};

impl Coordinator {
    pub(super) fn swap(
        &mut self,
        link: LinkId,
        op: u64,
        (content, instance): (ContentId, InstanceId),
        seen: Version,
        new: Config,
        out: &mut Vec<Out>,
    ) {
        if content == super::CATALOG {
            // The catalog's own configuration is its voters'.
            return;
        }
        let proposer = Proposer::Instance(instance);
        let rules = self.catalog.rules();
        let settled = self.catalog.read(|state| {
            let register = state.contents.get(&content).map(|row| &row.register)?;
            if register.is_recorded(&new) {
                return Some(true);
            }
            // The applied version only moves on: what cannot win now cannot win later.
            register.decide(seen, &new, proposer, rules).err().map(|conflict| {
                tracing::debug!(%content, %instance, %conflict, "a swap cannot win");
                false
            })
        });
        if let Some(won) = settled {
            if !won {
                self.counters.lost = self.counters.lost.saturating_add(1);
            }
            self.swapped(link, op, content, won, out);
            return;
        }
        if !self.is_proved(content) {
            // S8: another copy may act under a configuration that was lost: this one must not go on without it.
            // It stays unanswered, and is asked for again.
            return;
        }
        // A retry repeats the question: it is in the log already, only the answer goes elsewhere.
        let same = self.pending.values_mut().find_map(|pending| match pending {
            Pending::Swap { link, op, content: of, new: asked }
                if *of == content && *asked == new =>
            {
                Some((link, op))
            }
            _ => None,
        });
        if let Some((waiting, waiting_op)) = same {
            (*waiting, *waiting_op) = (link, op);
            return;
        }
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new: new.clone(), proposer, reports };
        // When it cannot be appended it stays unanswered, and is asked for again.
        self.append(change, Pending::Swap { link, op, content, new }, out);
    }

    pub(super) fn swapped(
        &mut self,
        link: LinkId,
        op: u64,
        content: ContentId,
        won: bool,
        out: &mut Vec<Out>,
    ) {
        if let Some(current) = self.config(content) {
            if let Some(link) = self.links.get_mut(&link) {
                link.told = link.told.max(Some(current.version));
            }
            self.send(link, Message::Swapped { op, won, current }, out);
        }
    }

    pub(super) fn report(
        &mut self,
        content: ContentId,
        instance: InstanceId,
        epoch: u64,
        figures: Figures,
    ) {
        if content == super::CATALOG {
            self.figures.insert((content, instance), figures);
            return;
        }
        self.said.insert((content, instance), figures);
        let report = Report { instance, epoch, durable: figures.durable };
        let Some(mut register) = self.register(content) else { return };
        if let Err(refused) = register.report(&report) {
            tracing::debug!(%content, %instance, %refused, "a report is not counted");
            self.counters.stale_reports = self.counters.stale_reports.saturating_add(1);
            return;
        }
        self.figures.insert((content, instance), figures);
        let kept = self.reports.entry((content, instance)).or_insert(report);
        *kept = kept.then(report);
    }

    /// A content's register, with the reports that no record carries yet.
    pub(super) fn register(&self, content: ContentId) -> Option<Register> {
        let find = |state: &crate::catalog::State| {
            state.contents.get(&content).map(|row| row.register.clone())
        };
        let mut register = self.catalog.read(find)?;
        for ((of, _), report) in &self.reports {
            if *of == content && register.report(report).is_err() {
                // It was overtaken by what is recorded.
                continue;
            }
        }
        Some(register)
    }

    pub(super) fn take_reports(&mut self, content: ContentId) -> Vec<Report> {
        let (first, last) = ((content, InstanceId(0)), (content, InstanceId(u128::MAX)));
        let keys: Vec<_> = self.reports.range(first..=last).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.reports.remove(key)).collect()
    }
}
