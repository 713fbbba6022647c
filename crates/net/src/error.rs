//! What can go wrong between two peers.
//!
//! Guarantees: each variant says what happened, where known the likely cause, and what follows.
//! Text that a peer sent is printed escaped. Not here: refusals as messages ([`crate::message::Reason`]).

use std::io;

use outrigger_wal::Lsn;
use outrigger_wal::format::BlockError;

/// Anything that ends a connection, or that keeps one from being made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed.
    #[error("{doing} failed: {source}; the connection is dropped and dialled again")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The peer does not speak frames.
    #[error(
        "the peer does not speak frames: its first bytes are {found:02x?}{}; check the address and port",
        guess(found)
    )]
    NotAFrame {
        /// What it sent in place of the magic.
        found: Vec<u8>,
    },
    /// The head's checksum does not fit.
    #[error(
        "a frame's head does not match its checksum: damaged on the way, or the stream lost its place"
    )]
    HeadChecksum,
    /// A frame layout that is not known here.
    #[error(
        "frame version {found} is not known here (this side speaks {known}); upgrade this side first"
    )]
    FrameVersion {
        /// The version found.
        found: u16,
        /// The one known here.
        known: u16,
    },
    /// Flags or reserved bytes of the head are set that are not known here.
    #[error(
        "a frame's head carries flags that are not known here ({flags:#04x}); the peer is newer than it says"
    )]
    UnknownFlags {
        /// The flags.
        flags: u8,
    },
    /// A message kind that is not known here.
    #[error("message kind {kind} is not known here; the peer is newer than it says")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// Something is longer than its cap. Nothing was allocated for it.
    #[error("{what} of {len} exceeds the cap of {cap}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it says it is.
        len: u64,
        /// The most that is taken.
        cap: u64,
    },
    /// The meta part's checksum does not fit.
    #[error("a frame's meta part does not match its checksum: damaged on the way")]
    MetaChecksum,
    /// A checksummed meta part that makes no sense.
    #[error("a message is malformed: {what}; the peer has a defect, or another protocol version")]
    Malformed {
        /// What makes no sense.
        what: &'static str,
    },
    /// A body that is not what the message says.
    #[error("a frame's body of {found} bytes should have {expected}")]
    BodyLength {
        /// The bytes that the message's lengths add up to.
        expected: u64,
        /// The bytes there are.
        found: u64,
    },
    /// A block that does not stand up to its checks.
    #[error(
        "the block received for {at} is not sound: {source}; it is not written, the connection is dropped"
    )]
    Block {
        /// Where it was to go.
        at: Lsn,
        /// What is wrong with it.
        #[source]
        source: BlockError,
    },
    /// A block whose header says other lengths than the frame.
    #[error("the block received for {at} has other lengths than its frame says")]
    BlockLengths {
        /// Where it was to go.
        at: Lsn,
    },
    /// A message that does not fit the state of the connection.
    #[error("message kind {kind} does not belong {place}")]
    OutOfTurn {
        /// The kind.
        kind: u8,
        /// Where it came.
        place: &'static str,
    },
    /// The stream ended inside a frame.
    #[error(
        "the stream ended inside a frame: the peer was stopped, or the network cut the connection"
    )]
    Cut,
    /// A deadline passed.
    #[error("{what} took longer than {millis} ms")]
    TimedOut {
        /// What took too long.
        what: &'static str,
        /// The deadline.
        millis: u64,
    },
    /// Dropped to make room: too many peers had not said who they are.
    #[error("dropped to make room for newer connections before it had said who it is")]
    Evicted,
}

impl Error {
    /// Whether the peer broke the protocol (rather than the network or a clock).
    #[must_use]
    pub const fn is_hostile(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Cut | Self::TimedOut { .. } | Self::Evicted)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Io { doing: "the connection", source }
    }
}

fn guess(found: &[u8]) -> &'static str {
    match found {
        [0x16, 0x03, ..] => " (TLS, which this side does not expect here)",
        [b'G', b'E', b'T', ..]
        | [b'P', b'U' | b'O', ..]
        | [b'H', b'E', b'A', ..]
        | [b'H', b'T', b'T', ..] => " (HTTP)",
        [b'S', b'S', b'H', ..] => " (SSH)",
        [0, 0, 0, _, ..] => " (perhaps a PostgreSQL client)",
        _ => "",
    }
}
