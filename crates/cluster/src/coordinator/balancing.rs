//! Planned changes of primaries (S9): back to the preferred ones, or away from a host that is to be stopped.
//!
//! Guarantees: one pair at a time; a pair that is not in sync, or whose copies are not both up, is left alone, and
//! the history says why; the next pair's turn comes when the last one is in sync again, so redundancy is never
//! given up for it. Not here: how a primary hands over (replica).

use std::collections::VecDeque;

use outrigger_net::config::Config;
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, InstanceId, Micros};

use super::Coordinator;
use super::event::Out;
use super::lifecycle::again;
use crate::catalog::Change;
use crate::catalog::tables::{Preferred, Wanted};
use crate::failover::UnderWay;

/// How long one pair may take until both copies are in sync again.
const PAIR_MICROS: u64 = 20_000_000;
/// How often a primary that does not answer is asked.
const AGAIN_MICROS: u64 = 100_000;

/// What is to be handed over.
#[derive(Debug, Default)]
pub(super) struct Balancing {
    queue: VecDeque<ContentId>,
    /// The pair whose turn it is: to whom, since when, how often it was asked.
    turn: Option<Turn>,
    /// A host that is stopped when nothing is primary on it any more, and who asked.
    host: Option<(String, (LinkId, u64))>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    content: ContentId,
    to: InstanceId,
    since: Micros,
    asked: Micros,
}

impl Balancing {
    /// Hands a content over to another copy, in its turn.
    pub(super) fn want(&mut self, content: ContentId) {
        if !self.queue.contains(&content) {
            self.queue.push_back(content);
        }
    }

    /// Stops a host at the end.
    pub(super) fn empty_host(&mut self, host: String, asker: (LinkId, u64)) {
        self.host = Some((host, asker));
    }

    /// Whether anything is left.
    pub(super) fn is_busy(&self) -> bool {
        self.turn.is_some() || !self.queue.is_empty() || self.host.is_some()
    }
}

impl Coordinator {
    pub(super) fn rebalance(&mut self, (link, op): (LinkId, u64), out: &mut Vec<Out>) {
        let unbalanced: Vec<(ContentId, Result<InstanceId, String>)> = self.catalog.read(|state| {
            let mut found = Vec::new();
            for (content, row) in &state.contents {
                let Some(config) = row.register.config() else { continue };
                let mut rows = state.instances.values().filter(|row| row.content == *content);
                let preferred = rows.find(|row| row.preferred == Preferred::Primary);
                let Some(preferred) = preferred else { continue };
                if preferred.instance != config.primary {
                    found.push((*content, self.can_take(config, preferred.instance)));
                }
            }
            found
        });
        let mut refused = Vec::new();
        let mut wanted = 0_usize;
        for (content, can) in unbalanced {
            match can {
                Ok(_) => {
                    self.balancing.want(content);
                    wanted = wanted.saturating_add(1);
                }
                Err(why) => refused.push(format!("content {content}: {why}")),
            }
        }
        if wanted == 0 && !refused.is_empty() {
            return self.deny(link, op, refused.join("; "), out);
        }
        let mut text = match wanted {
            0 => "every instance has its preferred role".to_owned(),
            _ => format!("{wanted} pairs are handed over, one after the other"),
        };
        if !refused.is_empty() {
            text = format!("{text}; left alone: {}", refused.join("; "));
        }
        self.done(link, op, text, out);
        self.settle_balancing(out);
    }

    /// Whether a copy can be handed to, or why not.
    fn can_take(&self, config: &Config, to: InstanceId) -> Result<InstanceId, String> {
        let up = |instance| self.detector.known(instance).is_some_and(|at| at.standing.is_up());
        if !config.in_sync(to) || !config.in_sync(config.primary) {
            return Err("the pair is not in sync: recover it first".to_owned());
        }
        if !up(to) || !up(config.primary) {
            return Err("not both copies are up".to_owned());
        }
        Ok(to)
    }

    pub(super) fn settle_balancing(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() || !self.balancing.is_busy() {
            return;
        }
        if let Some(turn) = self.balancing.turn {
            self.take_turn(turn, out);
        }
        while self.balancing.turn.is_none()
            && let Some(content) = self.balancing.queue.pop_front()
        {
            let Some(config) = self.config(content) else { continue };
            let Some(to) = self.target(content, &config) else { continue };
            match self.can_take(&config, to) {
                Ok(to) => {
                    let now = self.now;
                    self.balancing.turn = Some(Turn { content, to, since: now, asked: now });
                    self.ask_to_hand_over(content, to, config.primary, out);
                }
                Err(why) => {
                    let dbid = self.catalog.read(|state| state.row_of(to).map(|(dbid, _)| dbid));
                    let text = format!("not handed over: contentid {content}: {why}");
                    self.note(dbid.unwrap_or_default(), text, out);
                }
            }
        }
        self.settle_host(out);
    }

    /// Whom a content is handed to: the preferred primary, or whoever is not on the host that is to be stopped.
    fn target(&self, content: ContentId, config: &Config) -> Option<InstanceId> {
        self.catalog.read(|state| {
            if let Some((host, _)) = &self.balancing.host {
                let others = config.in_sync_set().filter(|at| *at != config.primary);
                let mut elsewhere =
                    others.filter(|at| state.row_of(*at).is_some_and(|(_, row)| row.host != *host));
                return elsewhere.next();
            }
            let mut rows = state.instances.values().filter(|row| row.content == content);
            let preferred = rows.find(|row| row.preferred == Preferred::Primary)?;
            (preferred.instance != config.primary).then_some(preferred.instance)
        })
    }

    fn take_turn(&mut self, turn: Turn, out: &mut Vec<Out>) {
        let Turn { content, to, since, asked } = turn;
        let Some(config) = self.config(content) else {
            self.balancing.turn = None;
            return;
        };
        let reigns = config.primary == to;
        let late = self.now.since(since) >= PAIR_MICROS;
        if reigns {
            let whole = config.copies.iter().all(|copy| copy.in_sync);
            let serves = self
                .figures
                .get(&(content, to))
                .is_some_and(|figures| figures.epoch == config.epoch.number);
            if (whole && serves) || late {
                self.balancing.turn = None;
            }
            return;
        }
        if late || !config.in_sync(to) {
            let text = format!("not handed over: contentid {content}: it took too long");
            let dbid = self.catalog.read(|state| state.row_of(to).map(|(dbid, _)| dbid));
            self.note(dbid.unwrap_or_default(), text, out);
            self.balancing.turn = None;
            return;
        }
        let waits = matches!(self.under_way.get(&content), Some(UnderWay::HandOver { .. }));
        if !waits && self.now.since(asked) >= AGAIN_MICROS {
            self.balancing.turn = Some(Turn { asked: self.now, ..turn });
            self.ask_to_hand_over(content, to, config.primary, out);
        }
    }

    /// The host that was to be emptied is stopped.
    fn settle_host(&mut self, out: &mut Vec<Out>) {
        if self.balancing.turn.is_some() || !self.balancing.queue.is_empty() {
            return;
        }
        let Some((host, (link, op))) = self.balancing.host.take() else { return };
        let (primaries, changes) = self.catalog.read(|state| {
            let rows: Vec<_> = state.instances.iter().filter(|(_, row)| row.host == host).collect();
            let primaries: Vec<_> = rows
                .iter()
                .filter(|(_, row)| {
                    let config = self.config_in(state, row.content);
                    config.is_some_and(|config| config.primary == row.instance)
                })
                .map(|(_, row)| row.content.to_string())
                .collect();
            let changes: Vec<Change> =
                rows.iter().map(|(dbid, row)| again(**dbid, row, Wanted::Down)).collect();
            (primaries, changes)
        });
        if primaries.is_empty() {
            let text = format!("the instances of host {host} are being stopped");
            self.work(changes, Some((link, op)), text, out);
        } else {
            let text = format!(
                "host {host} is not stopped: content {} could not be handed over; look at \
                 `outrigger state -e`",
                primaries.join(", ")
            );
            self.deny(link, op, text, out);
        }
    }
}
