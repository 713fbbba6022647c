//! What one run is: how many copies, how long, which faults and how often. Drawn from the seed.
//!
//! Each kind of fault is in some runs and not in others (a swarm): a mix of everything hides what one
//! kind alone would show.

use std::ops::Range;

use outrigger_replica::rules::Rules;

use super::network::Weather;
use crate::rng::Rng;

/// How often faults come, in a thousand, at each tick of some 50 ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// One process is killed.
    pub kill: u32,
    /// One machine loses power.
    pub power: u32,
    /// All machines lose power.
    pub power_all: u32,
    /// A node stands still.
    pub pause: u32,
    /// Nothing passes between two nodes, in one direction or in both.
    pub partition: u32,
    /// One connection is cut.
    pub cut: u32,
    /// Some directions of connections are not read for a while.
    pub stall: u32,
    /// Disk operations fail.
    pub disk_error: u32,
    /// A disk is full.
    pub disk_full: u32,
    /// A disk is slow.
    pub disk_slow: u32,
    /// A clock runs wrong or jumps.
    pub clock: u32,
    /// The coordinator dies, and starts again; where it can, its decisions take time to be durable.
    pub coordinator: u32,
    /// The authority's messages: an old configuration comes again.
    pub old_config: u32,
    /// The operator promotes a copy although the primary is alive.
    pub promote_alive: u32,
    /// The operator promotes a copy because a connection of the primary stalls: at each look.
    pub promote_stalled: u32,
    /// The operator hands the reign over, at the primary or through the mirror.
    pub hand_over: u32,
    /// The operator holds a copy out, or lets it come back.
    pub hold: u32,
    /// The operator has the primary give its reign up for a copy that is not in sync, and, once in a run, accepts
    /// what is lost.
    pub give_up: u32,
    /// A bit of a promised block flips, once in a run.
    pub flip: u32,
    /// A disk comes back older than it was, once in a run.
    pub rollback: u32,
    /// How often, in a thousand crashes, a bit of one slot of the control file flips while the copy is down.
    pub rot: u32,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// How many copies.
    pub copies: usize,
    /// How long faults go on, in simulated microseconds.
    pub fault_micros: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// How often a crash hits a log that is being opened, in a thousand.
    pub crash_open_per_mille: u32,
    /// How often a message from or to the authority is lost; as often one is doubled.
    pub authority_loss_per_mille: u32,
    /// How long one takes.
    pub authority_delay_micros: Range<u64>,
    /// How often a process that died starts again soon and not late.
    pub quick_restart_per_mille: u32,
    /// How many clients.
    pub clients: usize,
    /// How long a client waits between writes.
    pub think_micros: Range<u64>,
    /// How often the operator promotes a copy when the primary seems gone.
    pub promote_per_mille: u32,
    /// Which rules hold.
    pub rules: Rules,
    pub(crate) weather: Weather,
}

impl Plan {
    /// A run without faults and without clients, for tests that say themselves what happens.
    #[must_use]
    pub fn quiet(seed: u64, copies: usize) -> Self {
        Self {
            seed,
            copies,
            fault_micros: 0,
            faults: Faults::default(),
            crash_open_per_mille: 0,
            authority_loss_per_mille: 0,
            authority_delay_micros: 200..1_000,
            quick_restart_per_mille: 500,
            clients: 0,
            think_micros: 1_000..10_000,
            promote_per_mille: 0,
            rules: Rules::all(),
            weather: Weather {
                delay_micros: 50..500,
                slow_per_mille: 0,
                slow_micros: 0..1,
                late_per_mille: 0,
                encode_per_mille: 50,
            },
        }
    }

    /// The run of a seed.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let rng = &mut Rng::new(seed).fork("plan");
        let copies = if rng.chance(600) { 2 } else { 3 };
        let mut plan = Self::quiet(seed, copies);
        plan.fault_micros = rng.range(4_000_000..12_000_000);
        plan.clients = usize::try_from(rng.range(1..5)).unwrap_or(1);
        plan.think_micros = 500..rng.range(4_000..60_000);
        plan.promote_per_mille = 700;
        let mut some = |per_mille: u32, range: Range<u64>| {
            let drawn = u32::try_from(rng.range(range)).unwrap_or(0);
            if rng.chance(per_mille) { drawn } else { 0 }
        };
        plan.faults = Faults {
            kill: some(650, 5..60),
            power: some(650, 5..80),
            power_all: some(400, 2..25),
            pause: some(300, 5..40),
            partition: some(500, 5..50),
            cut: some(500, 10..120),
            stall: some(400, 5..60),
            disk_error: some(200, 2..12),
            disk_full: some(150, 2..12),
            disk_slow: some(350, 10..80),
            clock: some(200, 5..30),
            coordinator: 0,
            old_config: some(500, 10..100),
            promote_alive: some(400, 3..25),
            promote_stalled: 0,
            hand_over: 0,
            hold: 0,
            give_up: 0,
            flip: some(260, 5..40),
            rollback: some(150, 5..30),
            rot: 0,
        };
        plan.crash_open_per_mille = some(300, 20..200);
        plan.authority_loss_per_mille = some(500, 10..200);
        plan.weather.slow_per_mille = some(500, 5..60);
        plan.weather.slow_micros = 1_000..60_000;
        plan.weather.late_per_mille = some(600, 50..600);
        plan.quick_restart_per_mille = 200 + some(700, 0..800);
        if rng.chance(300) {
            plan.authority_delay_micros = 500..rng.range(5_000..400_000);
        }
        // In runs of their own: a reign that other faults end, or a copy that they shut out, would hide it.
        if rng.chance(80) {
            plan.stalls(rng);
        }
        if rng.chance(400) {
            plan.faults.rot = u32::try_from(rng.range(100..700)).unwrap_or(0);
        }
        if rng.chance(250) {
            plan.faults.coordinator = u32::try_from(rng.range(10..80)).unwrap_or(0);
        }
        // From a stream of their own, so that everything else of a seed stays what it was.
        let rng = &mut Rng::new(seed).fork("operator");
        if rng.chance(450) {
            plan.faults.hand_over = u32::try_from(rng.range(5..90)).unwrap_or(0);
        }
        if rng.chance(300) {
            plan.faults.hold = u32::try_from(rng.range(5..60)).unwrap_or(0);
        }
        if rng.chance(750) {
            plan.faults.give_up = u32::try_from(rng.range(20..160)).unwrap_or(0);
        }
        plan
    }

    /// Lines stall, and the operator promotes because of it, back and forth: a copy acknowledges what the next
    /// reign cuts, the word of it comes in a later one, and little is written meanwhile. Some do not hear that
    /// they are deposed.
    fn stalls(&mut self, rng: &mut Rng) {
        let mut rate = |range: Range<u64>| u32::try_from(rng.range(range)).unwrap_or(0);
        self.copies = 3;
        self.clients = 4;
        self.weather.late_per_mille = rate(600..1001);
        self.faults = Faults {
            stall: rate(150..300),
            promote_stalled: rate(700..1001),
            disk_slow: rate(10..80),
            partition: rate(0..30),
            pause: rate(0..10),
            ..Faults::default()
        };
        self.think_micros = 500..rng.range(60_000..300_000);
    }

    /// The run of a seed, with kills as its only faults.
    #[must_use]
    pub fn kills(seed: u64) -> Self {
        let mut plan = Self::swarm(seed);
        let kill = plan.faults.kill;
        plan.faults = Faults { kill, ..Faults::default() };
        plan.crash_open_per_mille = 0;
        plan.authority_loss_per_mille = 0;
        plan.weather = Self::quiet(seed, 2).weather;
        plan
    }
}
