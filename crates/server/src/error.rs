//! What goes wrong on the command line, in one line each: what happened, where, the likely cause,
//! what to do.
//!
//! Guarantees: an exit code is 0, 1 (wrong or partial), 2 (error) or 130 (interrupted).
//! Not here: the usage errors of the command line itself, which clap words (exit code 2).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outrigger_wal::disk::lock::LockError;
use outrigger_wal::{ContentId, Lsn};

/// How a command that could be carried out ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// All is well.
    Good,
    /// What was looked for is not there, or what was looked at is not sound.
    Wrong,
}

impl Verdict {
    /// The process's exit code.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Good => ExitCode::SUCCESS,
            Self::Wrong => ExitCode::from(1),
        }
    }

    /// Good when this holds.
    pub(crate) const fn good_if(holds: bool) -> Self {
        if holds { Self::Good } else { Self::Wrong }
    }
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Whoever read our output has had enough; no message.
    #[error("the output was closed")]
    OutputClosed,
    /// The output cannot be written.
    #[error("standard output: cannot be written: {0}; is the disk it goes to full?")]
    Output(io::Error),
    /// Ctrl-C, or a signal that ends us.
    #[error("interrupted; {left}")]
    Interrupted {
        /// What is left behind, and what that means.
        left: String,
    },
    /// A file or directory could not be used.
    #[error("{}: {what}: {cause}; {advice}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A path is not what the command needs.
    #[error("{}: {cause}; {advice}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// A configuration file is wrong.
    #[error("{}{}: {cause}", path.display(), At(*line))]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 when no line is to blame.
        line: usize,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// A file of rows is wrong.
    #[error("{input}{}: {cause}", At(*line))]
    Rows {
        /// The file.
        input: String,
        /// The line, counted from 1; 0 when no line is to blame.
        line: usize,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// An option's value makes no sense.
    #[error("{option}: {cause}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong, and what would be right.
        cause: String,
    },
    /// The log begins behind the place asked for.
    #[error(
        "{}: LSN {lsn} ({}) lies before the log's start; what was there has been recycled, \
         the log begins at {start} ({})",
        dir.display(), lsn.0, start.0
    )]
    BelowStart {
        /// The log's folder.
        dir: PathBuf,
        /// The place asked for.
        lsn: Lsn,
        /// Where the log begins.
        start: Lsn,
    },
    /// A log could not be read or written.
    #[error("{}: {error}", dir.display())]
    Log {
        /// The log's folder.
        dir: PathBuf,
        /// What happened.
        error: outrigger_wal::Error,
    },
    /// A store could not be read.
    #[error("{}: {error}", dir.display())]
    Store {
        /// The store's folder.
        dir: PathBuf,
        /// What happened.
        error: outrigger_replica::store::StoreError,
    },
    /// A copy could not be started, or failed.
    #[error("{}: {error}", dir.display())]
    Replica {
        /// Its data directory.
        dir: PathBuf,
        /// What happened.
        error: outrigger_replica::runtime::ReplicaError,
    },
    /// A catalog could not be made or read.
    #[error("{}: {error}", dir.display())]
    Catalog {
        /// Its data directory.
        dir: PathBuf,
        /// What happened.
        error: outrigger_cluster::Error,
    },
    /// A cluster cannot be laid out as its file asks.
    #[error("{}: refused: {refusal}", path.display())]
    Plan {
        /// The cluster's file.
        path: PathBuf,
        /// Why.
        refusal: Box<outrigger_cluster::placement::Refusal>,
    },
    /// A data directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A peer could not be reached, or did not answer.
    #[error("{address}: {what}: {cause}; {advice}")]
    Peer {
        /// Whom we asked.
        address: String,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// The coordinator, or a primary, refused.
    #[error("content {content}: refused: {text}")]
    Refused {
        /// Which content.
        content: ContentId,
        /// Why, in the words of who refused.
        text: String,
    },
    /// A request of rows was refused.
    #[error("refused: {text}")]
    Denied {
        /// Why, in the words of who refused.
        text: String,
    },
    /// Nobody answered a request of rows in time.
    #[error("no primary answered: {text}; see `outrigger state`")]
    Unavailable {
        /// Why.
        text: String,
    },
    /// A command ended with less than was asked for.
    #[error("{0}")]
    Partial(String),
    /// The operating system refused something that has no file.
    #[error("{what}: {cause}; {advice}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The operating system's words.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// `: line N`, or nothing.
struct At(usize);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, ": line {}", self.0) }
    }
}

impl Error {
    /// For a file that could not be used.
    pub(crate) fn file(what: &'static str, path: &Path, cause: io::Error) -> Self {
        let advice = match cause.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "check its permissions, and whose it is",
            io::ErrorKind::StorageFull => "make room",
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => "check the path",
            _ => "check the path and the disk",
        };
        Self::File { what, path: path.to_owned(), cause, advice }
    }

    /// For a log in `dir`.
    pub(crate) fn log(dir: &Path, error: outrigger_wal::Error) -> Self {
        use outrigger_wal::Error as Wal;
        let dir = dir.to_owned();
        match error {
            Wal::Recycled { lsn, start } => Self::BelowStart { dir, lsn, start },
            Wal::NoLog { .. } => Self::Path {
                path: dir,
                cause: "holds no log".to_owned(),
                advice: "give a data directory, or the folder wal/ of one",
            },
            error => Self::Log { dir, error },
        }
    }

    /// What is printed; `None` when there is nobody to read it.
    pub(crate) fn message(&self) -> Option<String> {
        // One line, whatever a cause may hold.
        (!matches!(self, Self::OutputClosed)).then(|| {
            let text = self.to_string();
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("; ")
        })
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Interrupted { .. } => ExitCode::from(130),
            Self::Partial(_) => ExitCode::from(1),
            Self::Log { error, .. } if error.is_damage() => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_its_cause_holds() {
        let error =
            Error::Config { path: "a.toml".into(), line: 3, cause: "bad\n  |\n3 | x\n".to_owned() };
        assert_eq!(error.message().unwrap(), "a.toml: line 3: bad; |; 3 | x");
        assert!(Error::OutputClosed.message().is_none());
    }
}
