//! What the coordinator knows of a content when it decides.

use outrigger_net::config::Config;
use outrigger_wal::{InstanceId, Lsn, Micros};

use crate::detect::{Known, Standing};

/// One content, as it looks from here. Moments are of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What is recorded, applied.
    pub config: &'a Config,
    /// Its copies, as far as they are watched.
    pub copies: &'a [CopySight],
    /// What was begun and is not recorded yet.
    pub under_way: Option<UnderWay>,
    /// Whether the cluster has mirrors: two copies or more are configured.
    pub mirrors: Mirrors,
    /// Whether the catalog can be believed.
    pub proof: Proof,
    /// Now.
    pub now: Micros,
}

/// Whether a cluster has mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mirrors {
    /// Each content has, or will have, more copies than one.
    Configured,
    /// Each content has one copy.
    Absent,
}

/// Whether the recorded configuration is known to be the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// It is.
    Whole,
    /// A standby was activated by force, and not every copy in this row has reported epoch and version since.
    Missing,
}

/// One copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopySight {
    /// Whose.
    pub instance: InstanceId,
    /// How it stands.
    pub standing: Standing,
    /// Since when it stands so.
    pub stands_since: Micros,
    /// Whether this coordinator ever heard it.
    pub heard: bool,
    /// When it last heard its primary; `None`: it has no stream, or that is not known.
    pub primary_heard: Option<Micros>,
    /// What is durable there, if it said so.
    pub durable: Option<Lsn>,
    /// How often it has connected to its primary since it was last in step with it, as the primary counts.
    pub attempts: u32,
    /// Whether its log ends below its floor (S6): the register says so.
    pub below_floor: bool,
    /// For how long, in microseconds, it has answered, open, without reigning and without getting on since it is recorded
    /// as primary; 0 of any other.
    pub idle_micros: u64,
}

/// What was begun for a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnderWay {
    /// A configuration that promotes was asked for; the authority has not decided.
    Promotion {
        /// Whom.
        to: InstanceId,
        /// When it was last asked for.
        since: Micros,
    },
    /// The primary was asked to hand over (S9), by itself or through the mirror.
    HandOver {
        /// To whom.
        to: InstanceId,
        /// When it was last asked to.
        since: Micros,
        /// Whether it has answered that it gave its epoch up.
        answer: HandOverAnswer,
    },
}

/// What a primary has answered to being asked to hand over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOverAnswer {
    /// Nothing yet.
    Awaited,
    /// It has given its epoch up, durably: only a new one leads back.
    GaveUp,
}

impl CopySight {
    /// From what the detector knows; what beats do not tell is as in a copy that does well.
    #[must_use]
    pub fn of(instance: InstanceId, known: &Known) -> Self {
        Self {
            instance,
            standing: known.standing,
            stands_since: known.stands_since,
            heard: known.heard.is_some(),
            primary_heard: known.primary_heard,
            durable: known.beat.and_then(|beat| beat.figures).map(|figures| figures.durable),
            attempts: 0,
            below_floor: false,
            idle_micros: 0,
        }
    }
}
