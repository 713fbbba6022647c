//! What decides about bad bytes, so that one test-only build can have it decided wrongly.
//!
//! Guarantees: without the feature `seeded-bugs` promises decide, always, and [`Judging`] takes no room.
//! Not here: the verdict (`judge`).

/// What decides where a log ends that has bad bytes in it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Judging {
    #[cfg(feature = "seeded-bugs")]
    first_bad_ends: bool,
}

impl Judging {
    /// Seeded bug: the log ends at the first block whose checksum does not fit, whatever was promised.
    #[cfg(feature = "seeded-bugs")]
    #[must_use]
    pub const fn first_bad_ends() -> Self {
        Self { first_bad_ends: true }
    }

    /// Whether promises decide.
    #[cfg_attr(
        not(feature = "seeded-bugs"),
        expect(clippy::unused_self, reason = "see the feature")
    )]
    pub(super) const fn by_promises(self) -> bool {
        #[cfg(feature = "seeded-bugs")]
        {
            !self.first_bad_ends
        }
        #[cfg(not(feature = "seeded-bugs"))]
        {
            true
        }
    }
}
