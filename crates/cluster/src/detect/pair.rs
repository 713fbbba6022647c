//! The coordinator and one instance: what it was asked, what was heard, what that means.
//!
//! Moments in here are of the coordinator's waking time: what it slept through is taken out.
//! Guarantees: a beat that is late (by the timeout, or behind a newer one), doubled, forged by a replaced process or in another's name moves
//! nothing. Not here: when to wake up ([`super::Detector`]).

use std::collections::VecDeque;

use outrigger_net::beat::{Beat, Figures, Phase};
use outrigger_wal::{ContentId, Lsn, Micros};

use super::options::DetectOptions;
use super::standing::{Standing, Why};

/// Questions that may be open at once: those of a timeout, unless it is asked for very many.
const MAX_OPEN: usize = 1_024;

/// A reason to doubt that the instance lives, until it answers a question of at least this name.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    counter: u64,
    since: Micros,
}

/// A recovery under way.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// The furthest it ever got, in whichever process.
    best: Option<Lsn>,
    moved: Micros,
}

/// An open instance that does not reign, and whose figures stand still.
#[derive(Clone, Copy, Debug)]
struct Idle {
    /// Who said it, and what.
    said: (u64, Phase, Option<Figures>),
    /// The question to which it said that first.
    since: Micros,
}

/// An open instance that answers. Its answers are compared with each other: what was not heard says nothing.
#[derive(Clone, Copy, Debug)]
struct Turning {
    /// Which process, and its turns.
    said: (u64, u64),
    /// The question to which it said that first.
    since: Micros,
    /// The last one to which it said so.
    upto: Micros,
}

/// What became of a beat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// It counts.
    Counted,
    /// It counts, and comes from a process that has replaced another.
    Restarted,
    /// It came late or twice.
    Late,
    /// It is not this instance's, or of a process that was replaced and still answers.
    Stranger,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) content: ContentId,
    watched: Micros,
    /// The last question.
    sent: u64,
    pinged: Option<Micros>,
    /// Questions behind the last one that was answered whose answers would still count, with their moments.
    open: VecDeque<(u64, Micros)>,
    pub(super) heard: Option<Micros>,
    pub(super) beat: Option<Beat>,
    /// The process that was replaced, or ended: it counts no more.
    past: Option<u64>,
    refusals: u32,
    refused: Option<Doubt>,
    line_lost: Option<Doubt>,
    exited: Option<Doubt>,
    recovery: Option<Recovery>,
    idle: Option<Idle>,
    turning: Option<Turning>,
    pub(super) agent_here: Option<bool>,
    /// Whether a stranger was reported since it was last heard itself.
    pub(super) alarmed: bool,
    pub(super) standing: Standing,
    /// Since when it stands so.
    pub(super) stands_since: Micros,
}

impl Pair {
    /// A pair that is asked nothing yet; `counter` names the last question to anybody: what answers it, or
    /// one before, is not for this watch.
    pub(super) const fn new(content: ContentId, counter: u64, now: Micros) -> Self {
        Self {
            content,
            watched: now,
            sent: counter,
            pinged: None,
            open: VecDeque::new(),
            heard: None,
            beat: None,
            past: None,
            refusals: 0,
            refused: None,
            line_lost: None,
            exited: None,
            recovery: None,
            idle: None,
            turning: None,
            agent_here: None,
            alarmed: false,
            standing: Standing::Suspect { since: now },
            stands_since: now,
        }
    }

    pub(super) fn ping(&mut self, counter: u64, now: Micros, options: &DetectOptions) {
        self.sent = counter;
        self.pinged = Some(now);
        let is_old = |(_, at): &(u64, Micros)| now.since(*at) >= options.timeout();
        while self.open.len() >= MAX_OPEN || self.open.front().is_some_and(is_old) {
            self.open.pop_front();
        }
        self.open.push_back((counter, now));
    }

    /// Takes a beat that is this instance's by name.
    pub(super) fn beat(&mut self, beat: &Beat, now: Micros, options: &DetectOptions) -> Heard {
        // A question that was never asked has no answer.
        if beat.counter > self.sent {
            return Heard::Stranger;
        }
        // It proves life at the moment of its question, and not later: a network that kept answers back
        // must not keep the dead alive.
        let asked = self.open.iter().find(|(counter, _)| *counter == beat.counter);
        let Some(asked) = asked.map(|(_, at)| *at) else { return Heard::Late };
        let before = self.beat.map(|beat| beat.incarnation);
        if self.past == Some(beat.incarnation) {
            // Where another process has answered since, two live under one name.
            let other = before.is_some_and(|before| Some(before) != self.past);
            return if other { Heard::Stranger } else { Heard::Late };
        }
        let restarted = before.is_some_and(|before| before != beat.incarnation);
        if restarted {
            self.past = before;
            self.exited = None;
        }
        self.open.retain(|(counter, _)| *counter > beat.counter);
        self.heard = Some(asked);
        self.beat = Some(*beat);
        self.alarmed = false;
        let answers = |doubt: Option<Doubt>| doubt.filter(|doubt| beat.counter < doubt.counter);
        self.line_lost = answers(self.line_lost);
        self.exited = answers(self.exited);
        self.refused = answers(self.refused);
        if self.refused.is_none() {
            self.refusals = 0;
        }
        self.follow_recovery(beat, now);
        self.follow_idleness(beat, asked);
        self.follow_turns(beat, asked, options);
        if restarted { Heard::Restarted } else { Heard::Counted }
    }

    fn follow_recovery(&mut self, beat: &Beat, now: Micros) {
        if beat.phase != Phase::Recovering {
            self.recovery = None;
            return;
        }
        // The furthest counts, over all processes: one that dies and begins again does not advance.
        let recovery = self.recovery.get_or_insert(Recovery { best: None, moved: now });
        if beat.recovering_at > recovery.best {
            *recovery = Recovery { best: beat.recovering_at, moved: now };
        }
    }

    /// Time is counted between its own answers: what was not heard says nothing.
    fn follow_idleness(&mut self, beat: &Beat, asked: Micros) {
        if matches!(beat.phase, Phase::Recovering | Phase::Primary | Phase::Down) {
            self.idle = None;
            return;
        }
        let said = (beat.incarnation, beat.phase, beat.figures);
        if self.idle.is_none_or(|idle| idle.said != said) {
            self.idle = Some(Idle { said, since: asked });
        }
    }

    /// A process that stood still whole, and goes on, answers at once: between answers that lie far apart all of it
    /// may have stood still, and nothing is counted.
    fn follow_turns(&mut self, beat: &Beat, asked: Micros, options: &DetectOptions) {
        if beat.figures.is_none() || beat.turns == 0 {
            self.turning = None;
            return;
        }
        let said = (beat.incarnation, beat.turns);
        let before = self.turning.filter(|turning| turning.said == said);
        let near = before.filter(|turning| asked.since(turning.upto) < options.stuck() / 2);
        let since = near.map_or(asked, |turning| turning.since);
        self.turning = Some(Turning { said, since, upto: asked });
    }

    /// Since when it is open, answers, does not reign, and gets no further; with its last answer.
    pub(super) fn idle(&self) -> Option<(Micros, Micros)> {
        self.idle.map(|idle| idle.since).zip(self.heard)
    }

    /// Nobody listens there. Whether to ask again at once.
    pub(super) fn refuse(&mut self, now: Micros, options: &DetectOptions) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        let since = self.refused.map_or(now, |doubt| doubt.since);
        self.refused = Some(Doubt { counter: self.sent, since });
        self.heard.is_some() && !self.is_refused(options) && !self.standing.is_dead()
    }

    pub(super) const fn line_opened(&mut self) {
        self.line_lost = None;
    }

    pub(super) const fn line_closed(&mut self, now: Micros) {
        // What was asked before may have been answered before, too.
        self.line_lost = Some(Doubt { counter: self.sent.saturating_add(1), since: now });
    }

    /// Its process ended. A word about an earlier one is late.
    pub(super) fn exit(&mut self, incarnation: Option<u64>, now: Micros) {
        let live = self.beat.map(|beat| beat.incarnation);
        if let (Some(gone), Some(live)) = (incarnation, live)
            && gone != live
        {
            return;
        }
        if incarnation.is_some() {
            self.past = incarnation;
        }
        self.exited = Some(Doubt { counter: self.sent.saturating_add(1), since: now });
    }

    fn is_refused(&self, options: &DetectOptions) -> bool {
        let needed = match self.line_lost {
            Some(_) => 1,
            None => options.fts_probe_retries.saturating_add(1),
        };
        self.refusals >= needed
    }

    /// How it stands at this moment.
    pub(super) fn judge(&self, now: Micros, options: &DetectOptions) -> Standing {
        let dead = |why, since| Standing::Dead { why, since };
        if let Some(Doubt { since, .. }) = self.exited {
            return dead(Why::Exited, since);
        }
        let refused = self.refused.filter(|_| self.is_refused(options));
        let Some(heard) = self.heard else {
            return match refused {
                _ if now.since(self.watched) < options.first_beat() => {
                    Standing::Suspect { since: self.watched }
                }
                Some(Doubt { since, .. }) => dead(Why::Refused, since),
                None => dead(Why::Silent, self.watched),
            };
        };
        if let Some(Doubt { since, .. }) = refused {
            return dead(Why::Refused, since);
        }
        let silence = now.since(heard);
        if silence >= options.timeout() {
            return dead(Why::Silent, heard);
        }
        if let Some(failed) = self.failed(now, heard, options) {
            return failed;
        }
        let doubted = self.refused.is_some() || self.line_lost.is_some();
        if doubted || silence >= options.timeout() / 2 {
            return Standing::Suspect { since: heard };
        }
        match self.recovery {
            Some(Recovery { best, moved }) => {
                let at = self.beat.and_then(|beat| beat.recovering_at).or(best);
                let advancing = now.since(moved) < options.stall() / 2;
                Standing::Recovering { at, advancing }
            }
            None => Standing::Up,
        }
    }

    /// It answers, and what it says is bad.
    fn failed(&self, now: Micros, heard: Micros, options: &DetectOptions) -> Option<Standing> {
        let beat = self.beat.as_ref()?;
        let dead = |why, since| Some(Standing::Dead { why, since });
        if beat.phase == Phase::Down {
            return dead(Why::Failed, heard);
        }
        let slowest = beat.probe_age_micros.max(beat.oldest_write_micros);
        if let Some(age) = slowest.filter(|age| *age >= options.disk_timeout()) {
            return dead(Why::Disk, Micros(heard.0.saturating_sub(age)));
        }
        let stuck = |turning: &Turning| turning.upto.since(turning.since) >= options.stuck();
        if let Some(turning) = self.turning.filter(stuck) {
            return dead(Why::Stuck, turning.since);
        }
        let stalled = self.recovery.filter(|it| now.since(it.moved) >= options.stall())?;
        dead(Why::Stalled, stalled.moved)
    }

    pub(super) fn recovered_to(&self) -> Option<Lsn> {
        self.recovery.and_then(|recovery| recovery.best)
    }

    /// When it is to be asked again.
    pub(super) fn next_ping(&self, options: &DetectOptions) -> Micros {
        self.pinged.map_or(self.watched, |pinged| pinged.plus(options.interval()))
    }

    /// When it may stand in another way though nothing happens.
    pub(super) fn next_change(&self, now: Micros, options: &DetectOptions) -> Option<Micros> {
        let silent = self.heard.map_or_else(
            || [self.watched.plus(options.first_beat()); 2],
            |heard| [heard.plus(options.timeout() / 2), heard.plus(options.timeout())],
        );
        let stalled = self.recovery.map(|recovery| {
            [recovery.moved.plus(options.stall() / 2), recovery.moved.plus(options.stall())]
        });
        let all = silent.into_iter().chain(stalled.into_iter().flatten());
        all.filter(|at| *at > now).min()
    }
}
