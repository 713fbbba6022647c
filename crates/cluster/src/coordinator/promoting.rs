//! Promotions that lose something, on an administrator's word (S10).
//!
//! Guarantees: refused while a copy of the in-sync set is up, since nothing need be lost then; the old primary has
//! answered that it gave its reign up, or an administrator vouches for it; what is lost at most is said and
//! written into the history. Not here: promotions without a loss ([`super::failing`], [`super::commands`]).

use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, InstanceId};

use super::event::Out;
use super::{Coordinator, Pending};
use crate::catalog::Change;
use crate::failover::{HandOverAnswer, UnderWay};
use crate::operator::Loss;
use crate::register::Proposer;

impl Coordinator {
    pub(super) fn promote_with_loss(
        &mut self,
        link: LinkId,
        op: u64,
        (content, loss): (ContentId, Loss),
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        let register =
            self.register(content).ok_or_else(|| super::commands::no_content(content))?;
        let config = register.config().ok_or_else(|| super::commands::no_content(content))?;
        let up = |at: InstanceId| {
            self.in_touch(content, at)
                && self.detector.known(at).is_none_or(|known| known.standing.is_up())
        };
        if let Some(whole) = config.in_sync_set().find(|at| up(*at)) {
            return Err(format!(
                "{whole} is in sync and up: nothing need be lost; promote without accepting a loss, or wait"
            ));
        }
        let gave_up = matches!(
            self.under_way.get(&content),
            Some(UnderWay::HandOver { answer: HandOverAnswer::GaveUp, .. })
        );
        if loss == Loss::Accepted && !gave_up {
            return Err(format!(
                "the old primary {} has not answered that it gave its reign up: commits that it makes \
                 from now on would be lost too; stop it, and say --old-primary-is-fenced",
                config.primary
            ));
        }
        let others = config.copies.iter().map(|copy| copy.instance);
        let best = others
            .filter(|at| *at != config.primary && up(*at))
            .max_by_key(|at| (register.heard(*at), std::cmp::Reverse(*at)));
        let Some(to) = best else {
            return Err(format!("no other copy of content {content} is up: start one"));
        };
        let figures = self.figures.get(&(content, to)).copied();
        let end = figures.map_or_else(|| register.heard(to).lsn, |figures| figures.durable);
        let most = config.copies.iter().map(|copy| register.heard(copy.instance).lsn).max();
        let lost = most.unwrap_or_default().since(end);
        let seen = config.version;
        let nonce = self.draw();
        let new = register.accept_loss(to, nonce, end).map_err(|conflict| conflict.to_string())?;
        register
            .decide(seen, &new, Proposer::Operator, self.catalog.rules())
            .map_err(|conflict| conflict.to_string())?;
        let dbid = self.catalog.read(|state| state.row_of(to).map(|(dbid, _)| dbid));
        let text = format!(
            "a loss is accepted for contentid {content}: at most {lost} bytes of log behind LSN {end} that \
             the authority has heard of, and whatever it has not"
        );
        self.note(dbid.unwrap_or_default(), text, out);
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new, proposer: Proposer::Operator, reports };
        if self.append(change, Pending::Promote { link, op, content, to }, out) {
            Ok(())
        } else {
            Err("too many changes wait already; ask again".to_owned())
        }
    }
}
