//! The safety rules by name, so that code can say which one it holds to, and so that one
//! test-only build can leave any one of them out.
//!
//! Guarantees: without the feature `seeded-bugs` every rule holds and [`Rules`] takes no room. With it,
//! [`Rules::without`] leaves one out, chosen at run time; the simulator must then find a loss.
//! Not here: the rules themselves (docs/failover.md).

use outrigger_wal::recover::Judging;

/// One clause of the safety rules.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// S0: a lower epoch is refused.
    S0Epoch,
    /// S0: a lower version of the configuration is refused.
    S0Version,
    /// S1: an acknowledgement of another session, or that lies, releases nothing.
    S1Session,
    /// S1: commit waits for durable, not for received.
    S1Durable,
    /// S2: the primary waits for a copy until a configuration without it is recorded.
    S2Shrink,
    /// S3: only a member of the in-sync set is promoted.
    S3Member,
    /// S4: commits wait for a copy from before it is asked for.
    S4Wait,
    /// S4: a copy is asked for only when it has reached x.
    S4Reach,
    /// S4: giving up needs a higher version recorded without the copy.
    S4GiveUp,
    /// S5: a restarted primary takes a new epoch first.
    S5Epoch,
    /// S5: a copy drains what is in flight before it reports its end.
    S5Drain,
    /// S6: a copy that ends below its floor is not promoted and does not reign.
    S6Floor,
    /// S7: what lies behind the fork is cut before anything is attached.
    S7Truncate,
    /// S8: what counts, counts at a majority of the voters.
    S8Majority,
    /// S8: the value found is accepted again by a majority before anybody acts on it.
    S8Again,
    /// S8: the newest value must contain whoever starts or is activated.
    S8Start,
    /// S8: one change is open at a time, and (epoch, version) names one value.
    S8OneOpen,
    /// S8: a voter refuses what is below the epoch it promised.
    S8OldEpoch,
    /// S8: after a forced activation a content fails over only when every copy of it has reported.
    S8Proof,
    /// Log rule 5: promises decide what of a log with bad bytes is kept; a bad checksum decides nothing.
    L5Judge,
    /// Log rule 10: nothing that the store holds only in memory is recycled: its last synced checkpoint bounds it.
    L10Recycle,
    /// S9: an epoch is durably given up before that is said, and nothing is served in it from then on.
    S9GiveUp,
}

impl Rule {
    /// Those of one content, which the simulator leaves out one by one.
    pub const ALL: [Self; 16] = [
        Self::S0Epoch,
        Self::S0Version,
        Self::S1Session,
        Self::S1Durable,
        Self::S2Shrink,
        Self::S3Member,
        Self::S4Wait,
        Self::S4Reach,
        Self::S4GiveUp,
        Self::S5Epoch,
        Self::S5Drain,
        Self::S6Floor,
        Self::S7Truncate,
        Self::S9GiveUp,
        Self::L5Judge,
        Self::L10Recycle,
    ];

    /// Those of the voters, which the model check of the cluster leaves out one by one.
    pub const VOTERS: [Self; 5] =
        [Self::S8Majority, Self::S8Again, Self::S8Start, Self::S8OneOpen, Self::S8OldEpoch];

    /// That of the coordinator, which the simulator of the whole cluster leaves out.
    pub const COORDINATOR: [Self; 1] = [Self::S8Proof];
}

/// Which rules hold: all of them, but in the test-only build.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Rules {
    #[cfg(feature = "seeded-bugs")]
    off: Option<Rule>,
}

impl Rules {
    /// All rules.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// All rules but one.
    #[cfg(feature = "seeded-bugs")]
    #[must_use]
    pub const fn without(rule: Rule) -> Self {
        Self { off: Some(rule) }
    }

    /// What decides about bad bytes when a log is opened.
    pub(crate) fn judging(self) -> Judging {
        #[cfg(feature = "seeded-bugs")]
        if !self.hold(Rule::L5Judge) {
            return Judging::first_bad_ends();
        }
        Judging::default()
    }

    /// Whether `rule` holds.
    #[must_use]
    #[cfg_attr(
        not(feature = "seeded-bugs"),
        expect(clippy::unused_self, reason = "see the feature")
    )]
    pub fn hold(self, rule: Rule) -> bool {
        #[cfg(feature = "seeded-bugs")]
        {
            self.off != Some(rule)
        }
        #[cfg(not(feature = "seeded-bugs"))]
        {
            let _: Rule = rule;
            true
        }
    }
}
