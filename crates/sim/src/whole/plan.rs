//! What one run of the whole cluster is: hosts, faults and how often they come. Drawn from the seed.
//!
//! Each kind of fault is in some runs and not in others, as in [`crate::cluster::Plan`].

use std::ops::Range;

use outrigger_replica::rules::Rules;

use crate::cluster::network::Weather;
use crate::rng::Rng;

/// A defect that only a whole cluster shows; a run with one must go wrong for some seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A content fails over after a forced activation before every copy of it has reported.
    FailoverUnproved,
    /// An agent obeys a coordinator of a lower epoch than it has heard.
    ObeyLower,
    /// An agent starts an instance that ended, by itself.
    RunAgain,
    /// That a coordinator was activated by force is known to its process alone, until its catalog has recorded it.
    ForgetForce,
    /// An instance that starts again does not tell a coordinator which version it has accepted.
    ForgetVersion,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FailoverUnproved,
        Self::ObeyLower,
        Self::RunAgain,
        Self::ForgetForce,
        Self::ForgetVersion,
    ];
}

/// How often faults come, in a thousand, at each tick of some 100 ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeFaults {
    /// A process of data is killed.
    pub kill: u32,
    /// The coordinator's or standby's process is killed.
    pub kill_catalog: u32,
    /// An agent is killed.
    pub kill_agent: u32,
    /// A host loses power.
    pub power: u32,
    /// Both copies of a content die.
    pub both: u32,
    /// A process stands still.
    pub pause: u32,
    /// An agent stands still.
    pub pause_agent: u32,
    /// Nothing passes between two hosts, in one direction or both.
    pub partition: u32,
    /// A host is cut off from all others.
    pub isolate: u32,
    /// A partition flaps, or a mirror is killed again and again.
    pub flap: u32,
    /// A connection is cut.
    pub cut: u32,
    /// Connections are not read for a while.
    pub stall: u32,
    /// A disk is slow, or hangs.
    pub disk_slow: u32,
    /// A disk fails operations.
    pub disk_error: u32,
    /// A clock runs wrong or jumps.
    pub clock: u32,
    /// An agent loses its voter's file, once in a run.
    pub lose_voter: u32,
    /// A second process answers in an instance's name.
    pub clone: u32,
    /// What the operator does besides repairing: rebalances, promotes, stops hosts, asks nonsense.
    pub meddle: u32,
    /// The operator activates the standby although nothing is wrong.
    pub activate: u32,
    /// The operator forces an activation that is refused.
    pub force: u32,
    /// The operator accepts a loss, where a copy that has everything is away (S10).
    pub lose: u32,
}

/// One run.
#[derive(Clone, Debug)]
pub struct WholePlan {
    /// Decides everything.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// How long faults go on, in simulated microseconds.
    pub fault_micros: u64,
    /// What goes wrong.
    pub faults: WholeFaults,
    /// How often a crash hits a log that is being opened or cut, in a thousand.
    pub crash_open_per_mille: u32,
    /// How often a datagram, or a question to a voter, is lost.
    pub datagram_loss_per_mille: u32,
    /// How often one comes again, late.
    pub datagram_double_per_mille: u32,
    /// How often a command to an agent comes again, late.
    pub late_command_per_mille: u32,
    /// How often whoever takes part in a promotion is killed within it.
    pub kill_promotion_per_mille: u32,
    /// How often a crash hits a log while it is cut.
    pub crash_cut_per_mille: u32,
    /// How often a process dies while it makes a copy anew.
    pub kill_remake_per_mille: u32,
    /// How often a process dies while a segment is made, named or removed.
    pub kill_names_per_mille: u32,
    /// How often an agent dies behind a save, before it acts on it.
    pub kill_agent_saving_per_mille: u32,
    /// Clients of each content.
    pub clients: usize,
    /// How long a client waits between writes.
    pub think_micros: Range<u64>,
    /// Copies that are out come back by themselves after so long; `None`: the operator recovers them.
    pub auto_rejoin_millis: Option<u64>,
    /// When the standby is cut off, and later the coordinator lost, so that an activation must be forced (S8).
    pub forced_at: Option<u64>,
    /// The defect that is seeded.
    pub bug: Option<Bug>,
    pub(crate) weather: Weather,
}

impl WholePlan {
    /// A run without faults.
    #[must_use]
    pub const fn quiet(seed: u64) -> Self {
        let faults = WholeFaults {
            kill: 0,
            kill_catalog: 0,
            kill_agent: 0,
            power: 0,
            both: 0,
            pause: 0,
            pause_agent: 0,
            partition: 0,
            isolate: 0,
            flap: 0,
            cut: 0,
            stall: 0,
            disk_slow: 0,
            disk_error: 0,
            clock: 0,
            lose_voter: 0,
            clone: 0,
            meddle: 0,
            activate: 0,
            force: 0,
            lose: 0,
        };
        Self {
            seed,
            hosts: 3,
            fault_micros: 3_000_000,
            faults,
            crash_open_per_mille: 0,
            datagram_loss_per_mille: 0,
            datagram_double_per_mille: 0,
            late_command_per_mille: 0,
            kill_promotion_per_mille: 0,
            crash_cut_per_mille: 0,
            kill_remake_per_mille: 0,
            kill_names_per_mille: 0,
            kill_agent_saving_per_mille: 0,
            clients: 1,
            think_micros: 5_000..30_000,
            auto_rejoin_millis: None,
            forced_at: None,
            bug: None,
            weather: Weather {
                delay_micros: 50..500,
                slow_per_mille: 0,
                slow_micros: 0..1,
                late_per_mille: 0,
                encode_per_mille: 20,
            },
        }
    }

    /// The run of a seed.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let rng = &mut Rng::new(seed).fork("whole");
        let mut plan = Self::quiet(seed);
        plan.hosts = if rng.chance(500) { 3 } else { 4 };
        plan.fault_micros = rng.range(8_000_000..22_000_000);
        plan.clients = usize::try_from(rng.range(1..3)).unwrap_or(1);
        plan.think_micros = 2_000..rng.range(15_000..90_000);
        let mut some = |per_mille: u32, range: Range<u64>| {
            let drawn = u32::try_from(rng.range(range)).unwrap_or(0);
            if rng.chance(per_mille) { drawn } else { 0 }
        };
        plan.faults = WholeFaults {
            kill: some(700, 5..50),
            kill_catalog: some(550, 5..40),
            kill_agent: some(400, 5..40),
            power: some(450, 3..20),
            both: some(300, 3..15),
            pause: some(450, 5..40),
            pause_agent: some(250, 5..30),
            partition: some(500, 5..40),
            isolate: some(400, 4..25),
            flap: some(300, 4..20),
            cut: some(350, 10..90),
            stall: some(350, 5..40),
            disk_slow: some(350, 5..40),
            disk_error: some(120, 3..10),
            clock: some(250, 5..30),
            lose_voter: some(120, 5..30),
            clone: some(200, 5..20),
            meddle: some(600, 10..60),
            activate: some(400, 3..20),
            force: some(300, 200..900),
            lose: 0,
        };
        plan.crash_open_per_mille = some(350, 20..200);
        plan.datagram_loss_per_mille = some(500, 10..200);
        plan.datagram_double_per_mille = some(500, 5..80);
        plan.late_command_per_mille = some(500, 20..300);
        plan.kill_promotion_per_mille = some(400, 100..500);
        plan.kill_agent_saving_per_mille = some(250, 5..40);
        plan.crash_cut_per_mille = some(500, 200..800);
        plan.kill_remake_per_mille = some(600, 200..800);
        plan.kill_names_per_mille = some(300, 10..100);
        plan.weather.slow_per_mille = some(500, 5..60);
        plan.weather.slow_micros = 1_000..60_000;
        plan.weather.late_per_mille = some(500, 50..500);
        if rng.chance(70) {
            // In runs of their own: other faults would end the story early.
            plan.faults = WholeFaults { force: 1_000, meddle: 30, ..WholeFaults::default() };
            plan.forced_at = Some(rng.range(3_000_000..5_000_000));
            plan.fault_micros = 24_000_000;
            plan.crash_open_per_mille = 0;
            return plan;
        }
        if rng.chance(400) {
            plan.auto_rejoin_millis = Some(rng.range(100..3_000));
        }
        if rng.chance(400) {
            plan.faults.lose = u32::try_from(rng.range(100..700)).unwrap_or(0);
        }
        plan
    }

    /// The rules that hold in it.
    pub(super) fn rules(&self) -> Rules {
        #[cfg(feature = "seeded-bugs")]
        if self.bug == Some(Bug::FailoverUnproved) {
            return Rules::without(outrigger_replica::rules::Rule::S8Proof);
        }
        Rules::all()
    }
}
