//! Planned changes of primaries (S9): back to the preferred ones, or away from a host that is to be stopped.
//!
//! Guarantees: one pair at a time; a pair that is not in sync, or whose copies are not both up in time, is left
//! alone, and the history says why; the next pair's turn comes when the last one is in sync again, so redundancy is
//! never given up for it. Not here: how a primary hands over (replica).

use std::collections::VecDeque;

use outrigger_net::config::Config;
use outrigger_replica::member::LinkId;
use outrigger_wal::{ContentId, InstanceId, Micros};

use super::Coordinator;
use super::event::Out;
use super::lifecycle::again;
use crate::catalog::tables::{Instance, Preferred, Wanted};
use crate::catalog::{Change, State};
use crate::failover::UnderWay;

/// How long one pair may take until both copies are in sync again.
const PAIR_MICROS: u64 = 20_000_000;
/// How long a pair in sync is waited for until both copies are up: one that has just come back may be in sync before
/// its first heartbeat is heard.
const UP_MICROS: u64 = 2_000_000;
/// How often a primary that does not answer is asked.
const AGAIN_MICROS: u64 = 100_000;

/// What is to be handed over.
#[derive(Debug, Default)]
pub(super) struct Balancing {
    queue: VecDeque<(ContentId, Goal)>,
    /// The pair whose turn it is.
    turn: Option<Turn>,
    /// A host that is stopped when nothing is primary on it any more, and who asked.
    host: Option<(String, (LinkId, u64))>,
}

/// Whom a content is handed to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Goal {
    /// Its preferred primary.
    Preferred,
    /// A copy that is not on this host.
    Off(String),
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    content: ContentId,
    to: InstanceId,
    since: Micros,
    /// When the primary was last asked; `None`: not both copies are up yet.
    asked: Option<Micros>,
}

impl Balancing {
    /// Hands a content over to its preferred primary, in its turn.
    fn want(&mut self, content: ContentId) {
        let waits = self.queue.iter().any(|(of, _)| *of == content);
        if !waits && self.turn.is_none_or(|turn| turn.content != content) {
            self.queue.push_back((content, Goal::Preferred));
        }
    }

    /// Hands these contents over to copies that are not on this host, then stops it.
    pub(super) fn empty_host(
        &mut self,
        host: String,
        asker: (LinkId, u64),
        primaries: Vec<ContentId>,
    ) {
        let goals = primaries.into_iter().map(|content| (content, Goal::Off(host.clone())));
        self.queue.extend(goals);
        self.host = Some((host, asker));
    }

    /// Whether anything is left, in words.
    pub(super) fn busy(&self) -> Option<String> {
        if let Some((host, _)) = &self.host {
            return Some(format!("host {host} is being stopped: ask again when it is down"));
        }
        let left = self.queue.len().saturating_add(usize::from(self.turn.is_some()));
        (left > 0).then(|| format!("{left} pairs are being handed over: ask again then"))
    }
}

/// Who should be primary of a content; one that is to be removed, and may wait long for that, is not.
fn preferred_primary(state: &State, content: ContentId) -> Option<&Instance> {
    let mut rows = state.instances.values().filter(|row| row.content == content);
    rows.find(|row| row.preferred == Preferred::Primary && row.wanted != Wanted::Gone)
}

impl Coordinator {
    pub(super) fn rebalance(&mut self, (link, op): (LinkId, u64), out: &mut Vec<Out>) {
        if let Some((host, _)) = &self.balancing.host {
            let text = format!("host {host} is being stopped: ask again when it is down");
            return self.deny(link, op, text, out);
        }
        if !self.catalog.read(|state| state.up.is_running()) {
            return self.deny(link, op, "the cluster is not up".to_owned(), out);
        }
        let unbalanced: Vec<(ContentId, Result<(), String>)> = self.catalog.read(|state| {
            let mut found = Vec::new();
            for (content, row) in &state.contents {
                let Some(config) = row.register.config() else { continue };
                let Some(preferred) = preferred_primary(state, *content) else { continue };
                if preferred.instance != config.primary {
                    found.push((*content, can_take(config, preferred.instance)));
                }
            }
            found
        });
        let mut refused = Vec::new();
        let mut wanted = 0_usize;
        for (content, can) in unbalanced {
            match can {
                Ok(()) => {
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

    pub(super) fn settle_balancing(&mut self, out: &mut Vec<Out>) {
        if self.serving.is_none() || self.balancing.busy().is_none() {
            return;
        }
        if let Some(turn) = self.balancing.turn {
            self.take_turn(turn, out);
        }
        while self.balancing.turn.is_none()
            && let Some((content, goal)) = self.balancing.queue.pop_front()
        {
            let Some(config) = self.config(content) else { continue };
            let Some(to) = self.target(content, &config, &goal) else { continue };
            self.begin_turn(Turn { content, to, since: self.now, asked: None }, &config, out);
        }
        self.settle_host(out);
    }

    /// Asks the primary as soon as both copies are up.
    fn begin_turn(&mut self, turn: Turn, config: &Config, out: &mut Vec<Out>) {
        let Turn { content, to, since, .. } = turn;
        let up = |instance| self.detector.known(instance).is_some_and(|at| at.standing.is_up());
        let can = if self.is_proved(content) {
            can_take(config, to)
        } else {
            Err("not every copy has reported since a standby was activated by force".to_owned())
        };
        let why = match can {
            Ok(()) if up(to) && up(config.primary) => {
                let now = self.now;
                self.balancing.turn = Some(Turn { since: now, asked: Some(now), ..turn });
                self.ask_to_hand_over(content, to, config.primary, out);
                return;
            }
            Ok(()) if self.now.since(since) < UP_MICROS => {
                self.balancing.turn = Some(turn);
                return;
            }
            Ok(()) => "not both copies are up".to_owned(),
            Err(why) => why,
        };
        self.end_turn(turn, &why, out);
    }

    /// The pair is left as it is, and the history says why.
    fn end_turn(&mut self, turn: Turn, why: &str, out: &mut Vec<Out>) {
        let dbid = self.catalog.read(|state| state.row_of(turn.to).map(|(dbid, _)| dbid));
        let text = format!("not handed over: contentid {}: {why}", turn.content);
        self.note(dbid.unwrap_or_default(), text, out);
        self.balancing.turn = None;
    }

    fn target(&self, content: ContentId, config: &Config, goal: &Goal) -> Option<InstanceId> {
        self.catalog.read(|state| match goal {
            Goal::Off(host) => {
                let on_it = |at: InstanceId| {
                    state.row_of(at).is_none_or(|(_, row)| row.host == *host || !row.wanted.runs())
                };
                let mut others = config.in_sync_set().filter(|at| !on_it(*at));
                if on_it(config.primary) { others.next() } else { None }
            }
            Goal::Preferred => {
                let preferred = preferred_primary(state, content)?;
                (preferred.instance != config.primary).then_some(preferred.instance)
            }
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
            // The set stays as it was while the primary changes: each copy has to be heard in the new reign.
            let whole = config.copies.iter().all(|copy| {
                let figures = self.figures.get(&(content, copy.instance));
                copy.in_sync && figures.is_some_and(|at| at.epoch == config.epoch.number)
            });
            if whole {
                self.balancing.turn = None;
            } else if late {
                self.balancing.turn = None;
                let left = std::mem::take(&mut self.balancing.queue);
                if !left.is_empty() {
                    let text = format!(
                        "contentid {content} is not in sync again: {} pairs are not handed over",
                        left.len()
                    );
                    self.note(self.dbid_of(content), text, out);
                }
            }
            return;
        }
        let Some(asked) = asked else { return self.begin_turn(turn, &config, out) };
        if late || !config.in_sync(to) {
            let why = if late { "it took too long" } else { "the pair is not in sync any more" };
            return self.end_turn(turn, why, out);
        }
        let waits =
            matches!(self.under_way(content, config.epoch), Some(UnderWay::HandOver { .. }));
        if !waits && self.now.since(asked) >= AGAIN_MICROS {
            self.balancing.turn = Some(Turn { asked: Some(self.now), ..turn });
            self.ask_to_hand_over(content, to, config.primary, out);
        }
    }

    /// The host that was to be emptied is stopped.
    fn settle_host(&mut self, out: &mut Vec<Out>) {
        if self.balancing.turn.is_some() || !self.balancing.queue.is_empty() {
            return;
        }
        let Some((host, (link, op))) = self.balancing.host.take() else { return };
        // Whatever has happened since it was asked for counts too.
        let (can, changes) = self.catalog.read(|state| {
            let rows = state.instances.iter().filter(|(_, row)| row.host == host);
            let runs = rows.filter(|(_, row)| row.wanted.runs());
            let changes: Vec<Change> =
                runs.map(|(dbid, row)| again(*dbid, row, Wanted::Down)).collect();
            (self.can_stop(state, &host), changes)
        });
        let left = match can {
            Ok(primaries) if primaries.is_empty() => {
                let text = format!("the instances of host {host} are being stopped");
                return self.work(changes, Some((link, op)), text, out);
            }
            Ok(primaries) => {
                let primaries: Vec<_> = primaries.iter().map(ToString::to_string).collect();
                format!("content {} could not be handed over", primaries.join(", "))
            }
            Err(text) => text,
        };
        let text = format!("host {host} is not stopped: {left}; look at `outrigger state -e`");
        self.deny(link, op, text, out);
    }

    /// When the pair whose turn it is has to be looked at again.
    pub(super) fn balancing_deadline(&self) -> Option<Micros> {
        let turn = self.balancing.turn?;
        let again = turn.asked.unwrap_or(turn.since).plus(AGAIN_MICROS);
        let late = turn.since.plus(PAIR_MICROS);
        Some(if again > self.now { again.min(late) } else { self.now.plus(AGAIN_MICROS) })
    }
}

/// Whether a copy can be handed to as soon as both are up, or why not.
fn can_take(config: &Config, to: InstanceId) -> Result<(), String> {
    if config.in_sync(to) && config.in_sync(config.primary) {
        return Ok(());
    }
    Err("the pair is not in sync: recover it first".to_owned())
}
