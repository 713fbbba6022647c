//! What can go wrong here: with bytes, and with the small files.

/// Why bytes are no record, request, answer or checkpoint of ours, or why something cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// They end too early.
    #[error("it ends before its last field")]
    Short,
    /// Bytes behind the last field.
    #[error("bytes follow its last field")]
    Trailing,
    /// They were written by a newer release.
    #[error("its version {found} is newer than this release reads ({known}): upgrade this process")]
    Newer {
        /// The version found.
        found: u8,
        /// The highest that is read.
        known: u8,
    },
    /// The kind means nothing.
    #[error("its kind {found} means nothing to this release")]
    Kind {
        /// The kind found.
        found: u8,
    },
    /// A field makes no sense.
    #[error("malformed: {what}")]
    Malformed {
        /// Which, and how.
        what: &'static str,
    },
    /// Something is longer, or there is more of it, than allowed.
    #[error("{what}: {found} is more than {cap}")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long, or how many.
        found: usize,
        /// The most.
        cap: usize,
    },
}

/// What went wrong with a small file of the coordinator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device or file system refused.
    #[error("{place}: {operation} failed: {cause}; nothing more is written to it: reopen")]
    Files {
        /// The file or folder.
        place: String,
        /// What was tried.
        operation: &'static str,
        /// The operating system's words.
        cause: String,
    },
    /// Neither of the two can be read.
    #[error("{place}: both slots are damaged ({what}); restore them from a backup")]
    Damaged {
        /// The files.
        place: String,
        /// How.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error("{place}: version {found} is newer than this release reads: upgrade this process")]
    Newer {
        /// The file.
        place: String,
        /// The version found.
        found: u16,
    },
    /// The content of an intact file makes no sense.
    #[error("{place}: its content cannot be read: {cause}; restore it from a backup")]
    Content {
        /// The files.
        place: String,
        /// Why.
        cause: CodecError,
    },
    /// There is none.
    #[error("{place}: not found: this coordinator was not initialised, or its disk was lost")]
    Missing {
        /// The files.
        place: String,
    },
    /// A voter's file is gone: what it promised is not known, so that it may not vote.
    #[error(
        "{place}: not found: this host's voter was not initialised, or its file was lost; a voter that lost its \
         file does not vote, the others go on without it"
    )]
    VoterLost {
        /// The files.
        place: String,
    },
    /// There is one already.
    #[error("{place}: is there already: this coordinator was initialised before")]
    Exists {
        /// The files.
        place: String,
    },
    /// The change of the coordinator's own configuration was refused.
    #[error("the coordinator's own configuration: {0}")]
    Conflict(#[from] crate::register::Conflict),
}
