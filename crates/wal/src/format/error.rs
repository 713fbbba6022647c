//! Why bytes are not a block. What that means (a torn tail, damage, a foreign file) is not decided
//! here: recovery and the receiver add the file or peer, the LSN, and what to do.

use crate::lsn::Lsn;

/// Why bytes at a place are not a block of this log, in the order in which it is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Fewer bytes are there than the block has.
    #[error("the block needs {need} bytes and fewer are there")]
    TooShort {
        /// The bytes needed, as far as known: a header, or the whole block.
        need: u64,
    },
    /// The header's place holds zeros: nothing was ever written here.
    #[error("zeros, no block")]
    Zeros,
    /// The magic is missing: other bytes, or a torn or damaged first sector.
    #[error("no block starts here: the magic is missing")]
    NotABlock,
    /// The header does not match its checksum: torn, damaged, or of another log.
    #[error("the header does not match its checksum (torn, damaged, or of another log)")]
    HeaderChecksum,
    /// A valid header of another format version.
    #[error("format version {found}; this program reads version {}", super::VERSION)]
    Version {
        /// The version found.
        found: u16,
    },
    /// A valid header that asks for what this program does not know: a flag that must not be
    /// skipped, a kind, a checksum algorithm, or a reserved byte that is set.
    #[error("a kind, flag or algorithm that this program does not know (a newer version's block?)")]
    UnknownFlags,
    /// A compression this program does not know, or a payload that does not decompress to exactly
    /// the length its header states.
    #[error("the payload does not decompress to the length that the header states")]
    Compression,
    /// A valid header whose lengths or LSN cannot be: whoever sealed it was wrong.
    #[error("the header's lengths contradict each other or the limits of the format")]
    Lengths,
    /// A valid header whose durable or commit LSN lies behind its own: whoever sealed it was wrong.
    #[error("the header promises more than what lies before it")]
    Promises,
    /// A valid block whose LSN is another place: left over from before a recycling or a cut.
    #[error("a stale block, sealed for LSN {found}")]
    Stale {
        /// The LSN in its header.
        found: Lsn,
    },
    /// The payload does not match its checksum: torn or damaged.
    #[error("the payload does not match its checksum (torn or damaged)")]
    PayloadChecksum,
    /// A control block whose payload is malformed, although its checksum is right: whoever sealed
    /// it was wrong.
    #[error("the payload of a control block is malformed")]
    Payload,
}
