//! Whether a log is sound, told from its folder alone; and its blocks one by one, for a dump.
//!
//! Guarantees: nothing is written. In a cleanly closed log a flipped bit in any stored byte, in the
//! zeros up to its page's end, or in the mark of the close itself is a finding, every time.
//! Not here: what only the control file knows (this instance's promises, a pending cut): see
//! [`recover`](crate::recover::recover).

mod blocks;
mod check;

use crate::disk::{Disk, DiskExt, FileId};
use crate::error::Error;
use crate::format::EpochEntry;
use crate::lsn::{ContentId, LogId, Lsn, RunningHash};
use crate::recover::{Folder, LogBytes, Mark};

pub use blocks::{Blocks, blocks};

/// How a log is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyOptions {
    /// After so many findings no more are listed.
    pub max_findings: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { max_findings: 1000 }
    }
}

/// Something that is wrong with a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub file: FileId,
    /// Where in the log.
    pub lsn: Lsn,
    /// What is wrong.
    pub cause: String,
}

/// What lies behind the end of a log that was not closed cleanly: a tail that recovery will send
/// away, unless its instance's control file promises it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The end of the log.
    pub from: Lsn,
    /// Behind the last byte of the tail.
    pub to: Lsn,
    /// Why the log does not go on.
    pub cause: String,
    /// Why it could be damage after all.
    pub suspicion: Option<String>,
}

/// What a log holds, and what is wrong with it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// The log; `None` when nothing in the folder says so (a log without any block).
    pub log: Option<LogId>,
    /// Its content; `None` when nothing in the folder says so.
    pub content: Option<ContentId>,
    /// The numbers of its segment files.
    pub segments: Vec<u64>,
    /// Its blocks.
    pub blocks: u64,
    /// Their records, voids included.
    pub records: u64,
    /// The bytes that are stored.
    pub bytes: u64,
    /// Where it starts.
    pub start: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Its running hash there.
    pub hash: RunningHash,
    /// Its epochs, oldest first.
    pub epochs: Vec<EpochEntry>,
    /// Whether the mark of a clean close is there and whole.
    pub clean: bool,
    /// What lies behind its end, when it was not closed cleanly.
    pub tail: Option<Tail>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Names in the folder that are not ours.
    pub foreign: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: FileId, lsn: Lsn, cause: impl ToString) {
        self.findings.push(Finding { file, lsn, cause: cause.to_string() });
    }
}

/// Reads a whole log and checks every stored byte of it.
///
/// # Errors
/// [`Error::NoLog`]: there is no segment and no mark. [`Error::NewerFormat`] and
/// [`Error::UnknownFeature`]: only a newer program can read it. The disk's.
pub fn verify(disk: &mut dyn Disk, options: &VerifyOptions) -> Result<Report, Error> {
    let mut disk = disk.blocking();
    let folder = Folder::look(&mut disk)?;
    let mut report = Report {
        segments: folder.segments.keys().copied().collect(),
        foreign: folder.foreign.clone(),
        clean: folder.mark.whole().is_some(),
        ..Report::default()
    };
    if folder.segments.is_empty() && folder.mark == Mark::Absent {
        return Err(Error::NoLog { folder: "the folder".to_owned() });
    }
    if let Mark::Unreadable(cause) = &folder.mark {
        report.find(FileId::CleanMark, Lsn::ZERO, cause);
    }
    if folder.segments.is_empty() {
        report.find(FileId::Segment(0), Lsn::ZERO, "every segment is missing");
        return Ok(report);
    }
    let known = folder.identity();
    report.content = known.map(|identity| identity.content);
    if let Some(identity) = known.or_else(|| folder.guess()) {
        report.log = Some(identity.log);
        check::files(&mut report, &folder, identity);
        let mut bytes = LogBytes::new(identity.segment_bytes, folder.segments.clone());
        check::chain(&mut disk, &mut bytes, &folder, identity, &mut report)?;
    } else {
        check::unknown(&mut disk, &folder, &mut report)?;
    }
    report.findings.truncate(options.max_findings);
    Ok(report)
}
