//! Who votes: a fixed list with a version.
//!
//! Guarantees: any two majorities of one list have a voter in common. Not here: how a list is changed.

use crate::codec::{Put, Take};
use crate::error::CodecError;

/// The most voters of a list.
pub const MAX_VOTERS: usize = 64;
const VOTERS: &str = "the number of voters";
/// The bytes of a voter without addresses.
const VOTER_BYTES: usize = 4;

/// A voter's place in the list, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seat(pub u8);

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The voters of a cluster: one agent a host.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct VoterList {
    /// Names this list for good.
    pub version: u64,
    /// Where each voter listens, in order of preference: `host:port`.
    pub addresses: Vec<Vec<String>>,
}

impl VoterList {
    /// How many voters there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether nobody votes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many voters must say the same: more than half.
    #[must_use]
    pub const fn majority(&self) -> usize {
        self.addresses.len() / 2 + 1
    }

    /// Every seat.
    pub fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0..u8::try_from(self.addresses.len()).unwrap_or(u8::MAX)).map(Seat)
    }

    pub(super) fn put(&self, put: &mut Put) {
        put.u64(self.version);
        put.list(VOTERS, MAX_VOTERS, &self.addresses, |put, at| put.addresses(at));
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<Self, CodecError> {
        let version = take.u64()?;
        let addresses = take.list(VOTERS, MAX_VOTERS, VOTER_BYTES, Take::addresses)?;
        Ok(Self { version, addresses })
    }
}
