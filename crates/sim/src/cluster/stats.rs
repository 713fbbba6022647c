//! What happened in a run, counted.

/// What happened in a run, counted.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Writes that were acknowledged as committed.
    pub commits: u64,
    /// Writes whose fate was left open.
    pub in_doubt: u64,
    /// Writes of which nothing was sealed.
    pub refused: u64,
    /// Writes that were sent again under their name.
    pub resent: u64,
    /// Writes whose name a client asked to be settled.
    pub settled: u64,
    /// Processes killed.
    pub kills: u64,
    /// Machines that lost power.
    pub power_cuts: u64,
    /// Starts at which a torn tail was sent away.
    pub torn_tails: u64,
    /// Reigns taken up by promotion.
    pub promotions: u64,
    /// Reigns taken up after a restart.
    pub restarts: u64,
    /// Times the coordinator died and started again.
    pub coordinator_restarts: u64,
    /// Configurations that a deposed coordinator decided alone, told to copies that know its successor.
    pub deposed_words: u64,
    /// Hand-overs that were asked for.
    pub hand_overs_asked: u64,
    /// Epochs that were given up.
    pub given_up: u64,
    /// Hand-overs that the authority carried out.
    pub handed_over: u64,
    /// Hand-overs that were answered with a refusal.
    pub not_handed_over: u64,
    /// Reigns that were given up for a copy that may lack commits.
    pub resigned: u64,
    /// Losses that were accepted and recorded.
    pub losses: u64,
    /// Copies that an operator held out.
    pub held: u64,
    /// Logs cut at a fork.
    pub truncations: u64,
    /// Copies that joined an in-sync set.
    pub grows: u64,
    /// Copies that left one.
    pub shrinks: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Partitions.
    pub partitions: u64,
    /// Directions of connections that stalled.
    pub stalls: u64,
    /// Frames that were read after their connection was over.
    pub late: u64,
    /// Pauses.
    pub pauses: u64,
    /// Disk errors that stopped a copy.
    pub failures: u64,
    /// Bits of promised blocks that flipped.
    pub flips: u64,
    /// Copies that found damage and refused.
    pub damaged: u64,
    /// Disks rolled back.
    pub rollbacks: u64,
    /// Slots of control files that rotted.
    pub rotten_slots: u64,
    /// Frames, acknowledgements and configurations that were refused.
    pub refusals: u64,
    /// Events.
    pub events: u64,
}

impl Stats {
    /// Adds another run's.
    pub const fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.in_doubt += other.in_doubt;
        self.refused += other.refused;
        self.resent += other.resent;
        self.settled += other.settled;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.torn_tails += other.torn_tails;
        self.promotions += other.promotions;
        self.restarts += other.restarts;
        self.coordinator_restarts += other.coordinator_restarts;
        self.deposed_words += other.deposed_words;
        self.hand_overs_asked += other.hand_overs_asked;
        self.given_up += other.given_up;
        self.handed_over += other.handed_over;
        self.not_handed_over += other.not_handed_over;
        self.resigned += other.resigned;
        self.losses += other.losses;
        self.held += other.held;
        self.truncations += other.truncations;
        self.grows += other.grows;
        self.shrinks += other.shrinks;
        self.cuts += other.cuts;
        self.partitions += other.partitions;
        self.stalls += other.stalls;
        self.late += other.late;
        self.pauses += other.pauses;
        self.failures += other.failures;
        self.flips += other.flips;
        self.damaged += other.damaged;
        self.rollbacks += other.rollbacks;
        self.rotten_slots += other.rotten_slots;
        self.refusals += other.refusals;
        self.events += other.events;
    }
}
