//! Positions, reigns and identities: the newtypes that every crate shares.
//!
//! Guarantees: an [`Lsn`] never wraps (its arithmetic is checked), an [`Epoch`] is equal only when
//! number *and* nonce are equal. Not here: how they are laid out on disk ([`crate::format`]).

use std::fmt;

/// The alignment of every block's start, a constant of the format: 4096 bytes.
pub const PAGE_BYTES: u64 = 4096;

/// A byte position in the endless log of one content.
///
/// ```
/// use outrigger_wal::Lsn;
/// assert_eq!(Lsn(4097).page_up(), Some(Lsn(8192)));
/// assert_eq!(Lsn(255).to_string(), "0/FF");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The start of every log.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` further on, or `None` past the end of the address space.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(at) => Some(Self(at)),
            None => None,
        }
    }

    /// The position `bytes` further on; stays at the last one when there is none.
    #[must_use]
    pub const fn saturating_add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// How many bytes this position lies behind `earlier`; 0 when it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The first page boundary at or behind this position.
    #[must_use]
    pub const fn page_up(self) -> Option<Self> {
        match self.0.checked_next_multiple_of(PAGE_BYTES) {
            Some(at) => Some(Self(at)),
            None => None,
        }
    }

    /// Whether a block may start here.
    #[must_use]
    pub const fn is_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_BYTES)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One primary's reign: a number that strictly increases, and a random nonce, because two
/// primaries that were made without each other's knowledge may choose the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// Strictly increases along a log; 0 is a log before its first reign.
    pub number: u64,
    /// Random; equal numbers with other nonces are other reigns.
    pub nonce: u128,
}

impl Epoch {
    /// Before any reign.
    pub const NONE: Self = Self {
        number: 0,
        nonce: 0,
    };
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.nonce >> 96)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u128::from_str_radix(text, 16).map(Self)
            }
        }
    };
}

id128!(
    /// The random identity of one content's log; equal on all copies, never reused.
    LogId
);
id128!(
    /// The identity of one instance: one process serving one copy of one content.
    InstanceId
);
id128!(
    /// The identity of one cluster.
    ClusterId
);

/// The running hash of a log before a block: it covers every byte of history that matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RunningHash(pub u128);

impl fmt::Display for RunningHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RunningHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One shard of the cluster's data: 0, 1, ...; -1 is the coordinator's catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentId(pub i32);

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A moment on whatever clock drives a machine, in microseconds. Only differences mean anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Micros(pub u64);

impl Micros {
    /// The moment `micros` later.
    #[must_use]
    pub const fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The microseconds since `earlier`; 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
