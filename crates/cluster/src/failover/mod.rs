//! What follows for one content from how its copies stand: one pure function, [`decide`].
//!
//! Guarantees: only a member of the recorded in-sync set is ever named for promotion (S3), never one below
//! its floor (S6), and none while the catalog is unproved (S8); nothing is promoted while the primary
//! answers, unless it gave its epoch up (S9) or does not come to reign. A decision is a wish: the register judges it again, and
//! epochs fence it. Asked again in the same state it gives the same answer, so a lost answer costs a
//! repetition. Not here: who carries it out, and for the catalog itself (the voters).
//!
//! # Layout
//! - `sight`: what goes in
//! - `decision`: what comes out

mod decision;
mod sight;

use std::cmp::Reverse;

use outrigger_wal::{InstanceId, Micros};

pub use decision::{Decision, Fault};
pub use sight::{CopySight, HandOverAnswer, Mirrors, Proof, Sight, UnderWay};

use crate::detect::{DetectOptions, Standing, Why};

/// What is to be done about a content now.
#[must_use]
pub fn decide(sight: &Sight<'_>, options: &DetectOptions) -> Decision {
    if let Some(decided) = handed_over(sight) {
        return decided;
    }
    let primary = sight.config.primary;
    // A primary that is not watched yet is one that was not heard yet.
    let Some(seen) = sight.copy(primary) else { return Decision::Nothing };
    match seen.standing {
        Standing::Up if is_idle(sight, seen, options) => {
            let since = Micros(sight.now.0.saturating_sub(seen.idle_micros));
            without_primary(sight, (Why::Idle, since), options)
        }
        Standing::Up => mirrors(sight, options),
        Standing::Suspect { .. } => Decision::Nothing,
        Standing::Recovering { .. } => Decision::WaitFor { copy: primary },
        Standing::Dead { why, since } => without_primary(sight, (why, since), options),
    }
}

/// A primary that answers, and does not come to reign. Where it is the only copy of its content nothing is won by
/// calling it dead.
fn is_idle(sight: &Sight<'_>, seen: &CopySight, options: &DetectOptions) -> bool {
    seen.idle_micros >= options.serve_within() && sight.mirrors == Mirrors::Configured
}

/// The primary has given its epoch up: whoever it did that for reigns next, while he can.
fn handed_over(sight: &Sight<'_>) -> Option<Decision> {
    let Some(UnderWay::HandOver { to, answer: HandOverAnswer::GaveUp, .. }) = sight.under_way
    else {
        return None;
    };
    let next = sight.candidates().into_iter().find(|copy| copy.instance == to)?;
    Some(sight.promote(next.instance))
}

fn without_primary(
    sight: &Sight<'_>,
    (why, since): (Why, Micros),
    options: &DetectOptions,
) -> Decision {
    let primary = sight.config.primary;
    let silence = sight.now.since(since);
    let is_short = silence < options.timeout().saturating_mul(2);
    if sight.mirrors == Mirrors::Absent {
        // A shutdown costs more than a pause: nothing is won by haste.
        return match why {
            Why::Silent if is_short => Decision::WaitFor { copy: primary },
            _ => Decision::Shutdown { instance: primary, why },
        };
    }
    let candidates = sight.candidates();
    let Some(best) = candidates.first() else { return nobody(sight) };
    if sight.proof == Proof::Missing {
        let candidates = candidates.iter().map(|copy| copy.instance).collect();
        return Decision::Unproved { candidates };
    }
    // One question may be lost, or be on its way.
    let margin = options.interval().saturating_add(options.interval() / 2);
    // Silence accuses whoever is cut off, and that may be this coordinator: only who is heard all the
    // while makes it the primary's.
    let is_steady = best.standing.is_up() && sight.now.since(best.stands_since) > margin;
    if why == Why::Silent && !is_steady {
        return Decision::WaitFor { copy: best.instance };
    }
    // What a mirror heard behind the last thing that was heard here, it heard of a primary that lives.
    let hears = |copy: &&&CopySight| copy.primary_heard.is_some_and(|at| at.since(since) > margin);
    if why == Why::Silent
        && is_short
        && let Some(mirror) = candidates.iter().find(hears)
    {
        return sight.hand_over(mirror.instance, options);
    }
    if let Some(UnderWay::Promotion { to, since }) = sight.under_way
        && sight.now.since(since) < options.timeout()
        && candidates.iter().any(|copy| copy.instance == to)
    {
        return Decision::Nothing;
    }
    sight.promote(best.instance)
}

/// No copy that has every commit is up.
fn nobody(sight: &Sight<'_>) -> Decision {
    let on_its_way = sight.others().find(|copy| {
        let is_coming = match copy.standing {
            Standing::Recovering { .. } => true,
            Standing::Suspect { .. } => !copy.heard,
            _ => false,
        };
        is_coming && sight.config.in_sync(copy.instance) && !copy.below_floor
    });
    if let Some(copy) = on_its_way {
        return Decision::WaitFor { copy: copy.instance };
    }
    let copies = sight.config.copies.iter().map(|copy| {
        let seen = sight.copy(copy.instance);
        Fault {
            instance: copy.instance,
            in_sync: copy.in_sync,
            standing: seen.map(|seen| seen.standing),
            durable: seen.and_then(|seen| seen.durable),
            below_floor: seen.is_some_and(|seen| seen.below_floor),
        }
    });
    Decision::DoubleFault { copies: copies.collect() }
}

/// The primary answers: its mirrors are its own affair, but for those it cannot get rid of.
fn mirrors(sight: &Sight<'_>, options: &DetectOptions) -> Decision {
    let flapping =
        sight.others().find(|copy| copy.attempts > options.fts_replication_attempt_count);
    if let Some(copy) = flapping {
        return Decision::DropMirror { mirror: copy.instance, attempts: copy.attempts };
    }
    let grace = options.mirror_grace();
    let is_down = |copy: &&CopySight| match copy.standing {
        Standing::Dead { .. } => true,
        Standing::Up => copy.primary_heard.is_some_and(|at| sight.now.since(at) >= grace),
        Standing::Suspect { .. } | Standing::Recovering { .. } => false,
    };
    let mirrors: Vec<InstanceId> =
        sight.others().filter(is_down).map(|copy| copy.instance).collect();
    if mirrors.is_empty() { Decision::Nothing } else { Decision::MirrorDown { mirrors } }
}

impl Sight<'_> {
    fn copy(&self, instance: InstanceId) -> Option<&CopySight> {
        self.copies.iter().find(|copy| copy.instance == instance)
    }

    /// All copies in the configuration but the primary.
    fn others(&self) -> impl Iterator<Item = &CopySight> {
        let config = self.config;
        self.copies.iter().filter(move |copy| {
            copy.instance != config.primary && config.copy(copy.instance).is_some()
        })
    }

    /// Who could be promoted without a loss, best first: who answers before who is overdue, then who holds
    /// more, then by name.
    fn candidates(&self) -> Vec<&CopySight> {
        let can = |copy: &&CopySight| {
            let answers = match copy.standing {
                Standing::Up => true,
                Standing::Suspect { .. } => copy.heard,
                Standing::Recovering { .. } | Standing::Dead { .. } => false,
            };
            answers && self.config.in_sync(copy.instance) && !copy.below_floor
        };
        let mut found: Vec<&CopySight> = self.others().filter(can).collect();
        found.sort_by_key(|copy| (!copy.standing.is_up(), Reverse(copy.durable), copy.instance));
        found
    }

    fn promote(&self, to: InstanceId) -> Decision {
        match self.proof {
            Proof::Whole => Decision::Promote { to },
            Proof::Missing => Decision::Unproved { candidates: vec![to] },
        }
    }

    fn hand_over(&self, mirror: InstanceId, options: &DetectOptions) -> Decision {
        match self.under_way {
            // It was asked a moment ago.
            Some(UnderWay::HandOver { to, since, .. })
                if to == mirror && self.now.since(since) < options.interval() =>
            {
                Decision::Nothing
            }
            _ => Decision::HandOverThrough { mirror },
        }
    }
}
