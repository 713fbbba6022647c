//! Promotions that lose something, on an administrator's word (S10).
//!
//! Guarantees: refused while a copy of the in-sync set is up, since nothing need be lost then; the old primary has
//! answered that it gave its reign up, or an administrator vouches for it; what is lost at most is said and
//! written into the history. Not here: promotions without a loss ([`super::failing`], [`super::commands`]).

use std::collections::BTreeMap;

use outrigger_net::config::Config;
use outrigger_net::message::{Message, Role};
use outrigger_replica::member::LinkId;
use outrigger_wal::recover::Promise;
use outrigger_wal::{ContentId, Epoch, InstanceId, Lsn, Micros};

use super::event::Out;
use super::{Coordinator, Pending};
use crate::catalog::Change;
use crate::operator::Loss;
use crate::register::{Proposer, Register};
use crate::settings;

/// Promotions that wait for the old primary to give its reign up.
#[derive(Debug, Default)]
pub(super) struct Losing(BTreeMap<ContentId, Asked>);

#[derive(Debug)]
struct Asked {
    asker: (LinkId, u64),
    primary: InstanceId,
    epoch: Epoch,
    /// It gave that epoch up, durably, and had committed up to here.
    gave_up: Option<Lsn>,
    until: Micros,
}

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
        let primary = config.primary;
        if !self.is_proved(content) {
            return self.settle_with_loss((link, op), (content, loss), &register, out);
        }
        let copies: Vec<_> = config.copies.iter().map(|copy| copy.instance).collect();
        let whole: Vec<_> = config.in_sync_set().collect();
        if let Some(whole) =
            whole.into_iter().find(|at| self.may_serve(content, *at, register.heard(*at)))
        {
            return Err(format!(
                "{whole} is in sync and up: nothing need be lost; promote without accepting a loss, or wait"
            ));
        }
        let answers = |at: InstanceId| {
            let known = self.detector.known(at);
            self.in_touch(content, at) && known.is_none_or(|known| !known.standing.is_dead())
        };
        let others = copies.iter().copied().filter(|at| *at != primary && answers(*at));
        let best = others.max_by_key(|at| (self.reach(content, *at), std::cmp::Reverse(*at)));
        let Some(to) = best else {
            return Err(format!("no other copy of content {content} is up: start one"));
        };
        self.ends_at(content, to)?;
        let given_up = self.losing.given_up(content, config.epoch);
        if loss == Loss::Accepted && given_up.is_none() {
            return self.ask_to_give_up((link, op), (content, config, to), out);
        }
        self.lose((link, op), (content, to, given_up), &register, out)
    }

    /// S8: copies that never report may hold commits of a configuration that nobody else knows of. Of those that have
    /// reported one goes on, whatever that is, once an administrator vouches that the others never serve again.
    fn settle_with_loss(
        &mut self,
        asker: (LinkId, u64),
        (content, loss): (ContentId, Loss),
        register: &Register,
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        let config = register.config().ok_or_else(|| super::commands::no_content(content))?;
        let missing = self.unreported(content);
        let named: Vec<_> = missing.iter().map(ToString::to_string).collect();
        if loss != Loss::AcceptedAndFenced {
            return Err(format!(
                "the catalog may lack what was recorded last for content {content}: of its copies, {} have not reported. \
                 Start them; or, knowing that they never serve again, say --old-primary-is-fenced",
                named.join(", ")
            ));
        }
        let here = |at: &InstanceId| !missing.contains(at) && self.in_touch(content, *at);
        let whole = config.in_sync_set().filter(here);
        let best = whole.max_by_key(|at| (self.reach(content, *at), *at == config.primary));
        match best {
            Some(to) => self.lose(asker, (content, to, None), register, out),
            None => Err(format!("no copy of content {content} that was in sync is up: start one")),
        }
    }

    /// In which epoch a copy ends, and where, by its own word on this connection.
    fn reach(&self, content: ContentId, at: InstanceId) -> Option<(u64, Lsn)> {
        self.said.get(&(content, at)).map(|said| (said.epoch, said.durable))
    }

    /// S10: where the log of a copy ends *now*. What was heard of it earlier does not count: it may be made anew, and would
    /// be held to an end that it does not have.
    fn ends_at(&self, content: ContentId, at: InstanceId) -> Result<super::Figures, String> {
        let said = self.said.get(&(content, at)).copied();
        said.ok_or_else(|| {
            format!("{at} has not said yet where its log of content {content} ends: ask again")
        })
    }

    /// Has the configuration recorded that makes `to` the primary, whatever it may lack.
    fn lose(
        &mut self,
        (link, op): (LinkId, u64),
        (content, to, given_up): (ContentId, InstanceId, Option<Lsn>),
        register: &Register,
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        let config = register.config().ok_or_else(|| super::commands::no_content(content))?;
        let super::Figures { epoch: of, durable: end, .. } = self.ends_at(content, to)?;
        let heard = config.copies.iter().map(|copy| register.heard(copy.instance).lsn).max();
        let what = what_is_lost((of, end), config.epoch, (given_up, heard.unwrap_or_default()));
        let seen = config.version;
        let nonce = self.draw();
        let new = register.accept_loss(to, nonce, end).map_err(|conflict| conflict.to_string())?;
        register
            .decide(seen, &new, Proposer::Operator, self.catalog.rules())
            .map_err(|conflict| conflict.to_string())?;
        let dbid = self.catalog.read(|state| state.row_of(to).map(|(dbid, _)| dbid));
        let text = format!("a loss is accepted for contentid {content}: {what}");
        self.note(dbid.unwrap_or_default(), text, out);
        let reports = self.take_reports(content);
        let change = Change::Swap { content, seen, new, proposer: Proposer::Operator, reports };
        if self.append(change, Pending::Promote { link, op, content, to }, out) {
            Ok(())
        } else {
            Err("too many changes wait already; ask again".to_owned())
        }
    }

    /// Whether an instance may serve, now or soon, without a loss: it shows a sign of life, and its log is whole.
    fn may_serve(&mut self, content: ContentId, at: InstanceId, floor: Promise) -> bool {
        let lives = match self.detector.known(at) {
            Some(known) => !known.standing.is_dead(),
            None => self.in_touch(content, at),
        };
        lives && !self.is_below((content, at), floor) && !self.is_idle(content, at)
    }

    /// The old primary is asked first, when it can be reached: once it has given its reign up it commits nothing
    /// that would be lost.
    fn ask_to_give_up(
        &mut self,
        asker: (LinkId, u64),
        (content, config, to): (ContentId, &Config, InstanceId),
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        if self.losing.0.contains_key(&content) {
            return Err(format!("content {content} is about to be promoted already"));
        }
        let (primary, epoch) = (config.primary, config.epoch);
        let link = self.links.iter().find(|(_, link)| {
            link.role == Role::Instance && (link.content, link.instance) == (content, primary)
        });
        let link = link.map(|(id, _)| *id).filter(|_| self.in_touch(content, primary));
        let Some(link) = link else { return Err(not_given_up(primary)) };
        let at_most_millis = self.catalog.read(|state| settings::value(state, "hand_over_ms"));
        let until = self.now.plus(at_most_millis.saturating_mul(2000));
        self.losing.0.insert(content, Asked { asker, primary, epoch, gave_up: None, until });
        self.send(link, Message::GiveUp { to, at_most_millis }, out);
        Ok(())
    }

    /// An instance says that it gave an epoch up: durably, and for good.
    pub(super) fn resigned(
        &mut self,
        content: ContentId,
        instance: InstanceId,
        (epoch, at): (Epoch, Lsn),
    ) {
        if let Some(asked) = self.losing.0.get_mut(&content)
            && (asked.primary, asked.epoch) == (instance, epoch)
        {
            asked.gave_up = Some(at);
        }
    }

    /// Goes on with those whose old primary has answered, and ends those whose has not in its time.
    pub(super) fn settle_losing(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() || self.losing.0.is_empty() {
            return;
        }
        let contents: Vec<_> = self.losing.0.keys().copied().collect();
        for content in contents {
            let epoch = self.config(content).map(|config| config.epoch);
            let Some(asked) = self.losing.0.get(&content) else { continue };
            let (link, op) = asked.asker;
            let result = if epoch != Some(asked.epoch) {
                Err(not_given_up(asked.primary))
            } else if asked.gave_up.is_some() {
                self.promote_with_loss(link, op, (content, Loss::Accepted), out)
            } else if self.now < asked.until {
                continue;
            } else {
                Err(not_given_up(asked.primary))
            };
            self.losing.0.remove(&content);
            if let Err(text) = result {
                self.deny(link, op, text, out);
            }
        }
    }

    /// When a primary has had its time to give up.
    pub(super) fn losing_deadline(&self) -> Option<Micros> {
        self.losing.0.values().map(|asked| asked.until).min()
    }
}

impl Losing {
    /// Up to where the primary had committed when it gave this epoch up.
    fn given_up(&self, content: ContentId, epoch: Epoch) -> Option<Lsn> {
        self.0.get(&content).filter(|asked| asked.epoch == epoch)?.gave_up
    }
}

/// What is lost at most where a log ends, which belongs to the history of the reign number `of`: exactly, where
/// the old primary has said what it had committed.
fn what_is_lost(
    (of, end): (u64, Lsn),
    recorded: Epoch,
    (given_up, heard): (Option<Lsn>, Lsn),
) -> String {
    let until = match given_up {
        Some(at) => format!("up to LSN {at}, where the old primary gave its reign up"),
        None => {
            format!("up to LSN {heard}, as far as the authority has heard, and whatever it has not")
        }
    };
    let most = given_up.unwrap_or(heard);
    if of < recorded.number {
        // LSNs of two histories cannot be compared: it may hold what a later reign has cut.
        return format!(
            "the copy holds what epoch {of} had to LSN {end}; lost is what was committed behind the start of the next \
             epoch, or behind that LSN, {until}"
        );
    }
    let bytes = most.since(end);
    format!("lost are at most {bytes} bytes of log, what was committed behind LSN {end} {until}")
}

fn not_given_up(primary: InstanceId) -> String {
    format!(
        "the old primary {primary} has not answered that it gave its reign up: commits that it makes from now on \
         would be lost too; stop it, and say --old-primary-is-fenced"
    )
}
