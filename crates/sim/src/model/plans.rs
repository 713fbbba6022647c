//! What is explored: with all rules, and with each one left out.
//!
//! Not here: what the bounds mean (`steps`), what came of it (docs/failover.md).

use outrigger_replica::rules::Rule;

use super::{Begin, Bounds};

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What it is about.
    pub name: &'static str,
    /// Where it begins.
    pub begin: Begin,
    /// How far it goes.
    pub bounds: Bounds,
    /// After so many steps it ends, exhausted or not.
    pub steps: usize,
}

const NONE: Bounds = Bounds {
    versions: 5,
    crashes: 0,
    failovers: 0,
    hand_overs: 0,
    writes: 1,
    cuts: 0,
    lates: 0,
    olds: 0,
    reports: 0,
    coordinators: 0,
    rollbacks: 0,
    holds: Some(0),
    slow: false,
};

const fn plan(name: &'static str, bounds: Bounds, steps: usize) -> Plan {
    Plan { name, begin: Begin::Serving, bounds, steps }
}

/// With all rules.
pub const PLANS: [Plan; 9] = [
    plan(
        "every order, to a depth",
        Bounds { holds: None, crashes: 1, failovers: 1, ..NONE },
        700_000,
    ),
    plan(
        "crash and failover",
        Bounds { holds: Some(1), versions: 6, crashes: 1, failovers: 1, ..NONE },
        800_000,
    ),
    plan(
        "two crashes, failover and back",
        Bounds { versions: 6, crashes: 2, failovers: 2, ..NONE },
        800_000,
    ),
    plan(
        "cut, shrunk, grown, failed over",
        Bounds { holds: Some(1), versions: 6, cuts: 1, failovers: 1, ..NONE },
        600_000,
    ),
    plan("hand-over", Bounds { hand_overs: 1, crashes: 1, failovers: 1, ..NONE }, 700_000),
    plan(
        "late, twice, and from the coordinator before",
        Bounds { cuts: 1, failovers: 1, lates: 1, olds: 1, coordinators: 1, ..NONE },
        600_000,
    ),
    plan(
        "a crash at every write of a control file",
        Bounds { slow: true, crashes: 1, failovers: 1, ..NONE },
        700_000,
    ),
    plan(
        "a disk that goes back",
        Bounds { crashes: 1, failovers: 1, reports: 1, rollbacks: 1, ..NONE },
        700_000,
    ),
    Plan {
        name: "from nothing",
        begin: Begin::Cold,
        bounds: Bounds { crashes: 1, failovers: 1, ..NONE },
        steps: 400_000,
    },
];

/// One of the 64 combinations of directed links, by the bits of those that are down.
#[must_use]
pub const fn links(down: u8) -> (u8, Plan) {
    let bounds = Bounds { versions: 4, failovers: 1, crashes: 1, ..NONE };
    (down, plan("links", bounds, 60_000))
}

/// Where the absence of a rule shows; `None` where no exploration found it yet (docs/failover.md says why).
#[must_use]
pub const fn without(rule: Rule) -> Option<Plan> {
    let steps = 2_500_000;
    let bounds = match rule {
        // In one order only their absence does not show.
        Rule::S0Epoch | Rule::S2Shrink => Bounds { holds: None, crashes: 1, failovers: 1, ..NONE },
        Rule::S5Epoch => Bounds { crashes: 1, failovers: 1, ..NONE },
        Rule::S1Session => Bounds { versions: 6, cuts: 1, failovers: 2, lates: 1, ..NONE },
        Rule::S1Durable => Bounds { holds: Some(1), crashes: 1, failovers: 1, ..NONE },
        Rule::S3Member => Bounds { versions: 6, cuts: 1, crashes: 1, failovers: 1, ..NONE },
        Rule::S4Wait | Rule::S4Reach => {
            Bounds { holds: Some(1), versions: 6, cuts: 1, failovers: 1, ..NONE }
        }
        Rule::S4GiveUp => Bounds { holds: Some(1), versions: 6, cuts: 2, failovers: 1, ..NONE },
        Rule::S5Drain => {
            Bounds { holds: Some(1), versions: 4, cuts: 1, crashes: 1, failovers: 1, ..NONE }
        }
        Rule::S6Floor => Bounds { crashes: 1, failovers: 1, reports: 1, rollbacks: 1, ..NONE },
        Rule::S9GiveUp => Bounds { hand_overs: 1, ..NONE },
        _ => return None,
    };
    Some(plan("without a rule", bounds, steps))
}
