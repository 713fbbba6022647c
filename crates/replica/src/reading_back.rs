//! The log of an instance, read back as its control file says.
//!
//! Guarantees: a cut that was marked is finished, with the same check of the running hash that the running
//! process makes; one that cannot be is let go with the log unchanged, since its primary compares
//! histories anew. Not here: the log's own recovery ([`outrigger_wal::recover`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use outrigger_wal::disk::Disk;
use outrigger_wal::recover::{RecoverOptions, Recovered, recover};
use outrigger_wal::{Error, Lsn};

use crate::control::Control;
use crate::rules::Rules;

/// Recovers the log behind `control`, whose store holds everything below `checkpointed`. A mark that cannot
/// be acted upon is taken out of `control`. `rules`: those that hold. `progress`: told how far the log is read.
///
/// # Errors
/// Those of [`recover()`].
pub fn read_back(
    disk: &mut dyn Disk,
    control: &mut Control,
    checkpointed: Lsn,
    rules: Rules,
    progress: Option<&Arc<AtomicU64>>,
) -> Result<Option<Recovered>, Error> {
    let options = |control: &Control| RecoverOptions {
        progress: progress.cloned(),
        judging: rules.judging(),
        ..control.recover_options(checkpointed)
    };
    let read = recover(disk, &options(control));
    match read {
        Err(error) if control.truncating.is_some() && is_unchanged(&error) => {
            tracing::warn!(%error, "a cut that was marked cannot be made: the log stays as it is");
            control.truncating = None;
            recover(disk, &options(control))
        }
        other => other,
    }
}

/// Whether a cut was refused before anything was changed.
pub(crate) const fn is_unchanged(error: &Error) -> bool {
    matches!(
        error,
        Error::BelowCommit { .. }
            | Error::NotABoundary { .. }
            | Error::OtherHistory { .. }
            | Error::Recycled { .. }
    )
}
