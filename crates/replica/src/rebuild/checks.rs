//! Whose folder it is, and whether a source may be taken.
//!
//! Guarantees: a source that may be deposed is not taken, nor one whose log cannot be gone on from.

use outrigger_wal::disk::DiskExt;
use outrigger_wal::format::is_segment_bytes;

use super::RebuildError;
use super::ground::Ground;
use super::protocol::Opened;
use crate::control::{Control, ControlError, Identity};

/// Why a source that is behind what this copy knows cannot be taken (S0, S7): it may be a deposed primary.
pub(super) fn stale(old: &Control, opened: &Opened) -> Result<Option<String>, RebuildError> {
    if old.epoch.number == opened.epoch.number && old.epoch.nonce != opened.epoch.nonce {
        let (ours, theirs) = (old.epoch, opened.epoch);
        return Err(RebuildError::ForeignNonce { ours, theirs });
    }
    let (ours, theirs) = (
        (old.coordinator_epoch, old.epoch.number, old.version),
        (opened.coordinator_epoch, opened.epoch.number, opened.version),
    );
    if theirs.0 < ours.0 || theirs.1 < ours.1 || theirs.2 < ours.2 {
        return Ok(Some(format!(
            "the source acts under (coordinator's epoch, epoch, version) {theirs:?}, this copy has accepted {ours:?}"
        )));
    }
    let committed = old.commit.counts(&opened.epochs);
    Ok((committed > opened.to).then(|| {
        format!("the source's log is committed up to {}, this copy's up to {committed}", opened.to)
    }))
}

/// The control file that is there; one that is damaged or missing tells nothing.
pub(super) fn old(ground: &mut dyn Ground) -> Result<Option<Control>, RebuildError> {
    match Control::read(&mut ground.home().blocking()) {
        Ok((_, control)) => Ok(Some(control)),
        Err(error @ (ControlError::Io(_) | ControlError::Newer(_))) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the control file that is there tells nothing");
            Ok(None)
        }
    }
}

/// Refuses a folder of somebody else.
pub(super) fn check_identity(found: &Identity, expected: &Identity) -> Result<(), RebuildError> {
    let same = Identity { segment_bytes: expected.segment_bytes, ..*found } == *expected;
    let sizes = [found.segment_bytes, expected.segment_bytes];
    if same && (sizes.contains(&0) || found.segment_bytes == expected.segment_bytes) {
        return Ok(());
    }
    let (found, expected) = (Box::new(*found), Box::new(*expected));
    Err(RebuildError::OtherIdentity { found, expected })
}

/// Refuses a snapshot that no log can have.
pub(super) fn check_opened(opened: &Opened, identity: &Identity) -> Result<(), RebuildError> {
    let Opened { at, from, to, segment_bytes, ref epochs, .. } = *opened;
    let size = is_segment_bytes(segment_bytes)
        && (identity.segment_bytes == 0 || identity.segment_bytes == segment_bytes);
    let grows = epochs.windows(2).all(|pair| match pair {
        [a, b] => a.epoch.number < b.epoch.number && a.start <= b.start,
        _ => true,
    });
    // All that this instance ever sealed lies before the source's reign: its promises are in what comes, and none
    // of them will be read behind the end of a log that lost what it promised.
    let reigns = epochs.last().is_some_and(|last| last.epoch == opened.epoch && last.start < to);
    let aligned = from.0.checked_rem(segment_bytes) == Some(0);
    if size && grows && reigns && aligned && from <= at && at <= to {
        return Ok(());
    }
    Err(RebuildError::Nonsense(format!(
        "a state of {at}, with the log from {from} to {to} in segments of {segment_bytes} bytes"
    )))
}
