//! The end of a rebuild: store, control file and log of the new copy, put together and checked.
//!
//! Guarantees: nothing of the old copy is touched before all three are whole, verified and durable. Not here: what
//! was fetched (target), and the renames (ground).

use outrigger_wal::Lsn;
use outrigger_wal::disk::{DiskExt, FileId};
use outrigger_wal::recover::Promise;

use super::RebuildError;
use super::ground::Ground;
use super::overlay::{Overlay, View, whole};
use super::plan::{Mode, Next};
use super::protocol::Opened;
use super::state::Step;
use super::taking::Taking;
use super::target::{Phase, Target};
use crate::control::{Control, Identity};
use crate::reading_back::read_back;
use crate::rules::Rules;
use crate::store::{KeyRange, StoreError};

impl Target {
    /// Puts the new store together, and checks it and the log before anything of the old copy is touched.
    pub(super) fn verify(&mut self, ground: &mut dyn Ground) -> Result<Next, RebuildError> {
        self.step_to(Step::Verifying, ground)?;
        let Some(session) = &self.session else {
            self.phase = Phase::Open;
            return Ok(Next::Worked);
        };
        let (opened, hash) = (session.opened.clone(), session.whole);
        if !self.restore(ground, opened.at, hash)? {
            self.phase = Phase::Open;
            return Ok(Next::Worked);
        }
        let mut control = self.control(&opened);
        control.create(&mut ground.made().blocking())?;
        let found = read_back(ground.made(), &mut control, opened.at, Rules::all(), None)?;
        if found.as_ref().is_none_or(|log| log.start != opened.from || log.end != opened.to) {
            self.mismatch("the log that was fetched")?;
            Taking::wipe(ground.made())?;
            self.phase = Phase::Open;
            return Ok(Next::Worked);
        }
        // ORDER: the copy is whole, verified and durable before the old one moves.
        self.step_to(Step::Placing, ground)?;
        self.phase = Phase::Keep { verified: true };
        Ok(Next::Worked)
    }

    /// `false`: what is here is not what was listed, and is fetched again.
    fn restore(
        &mut self,
        ground: &mut dyn Ground,
        at: Lsn,
        hash: Option<u128>,
    ) -> Result<bool, RebuildError> {
        let store = ground.fresh_store()?;
        let mut disk = ground.made().blocking();
        let base = self.base.as_deref();
        let mut view = View::new(&self.overlay, &mut disk, base, &KeyRange::all());
        let restored = store.restore(at, &mut view);
        let lost = view.lost;
        match restored {
            Ok(()) => {}
            Err(error @ (StoreError::Source { .. } | StoreError::PairOrder)) => {
                self.mismatch(&error.to_string())?;
                if let Some(number) = lost {
                    disk.remove(FileId::Chunk(number))?;
                    self.overlay = Overlay::load(&mut disk)?;
                }
                return Ok(false);
            }
            Err(error) if self.base.is_some() => {
                // It may be the old store that cannot be read: without it all is fetched.
                tracing::warn!(%error, "the new store could not be put together: all is fetched");
                self.mismatch(&error.to_string())?;
                self.base = None;
                self.record.mode = Mode::Full;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let found = whole(&*store)?;
        if (found.at, Some(found.hash)) != (at, hash) {
            self.mismatch("the state that was put together")?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The control file of the new copy: it has the log up to its end, and commits do not wait for it.
    fn control(&self, opened: &Opened) -> Control {
        let old = self.old.as_ref();
        let epochs: Vec<_> =
            opened.epochs.iter().filter(|entry| entry.start < opened.to).copied().collect();
        // Promised is what is held, in the reign whose history it is (S6).
        let reign = epochs.last().map_or(0, |entry| entry.epoch.number);
        let promise = Promise { epoch: reign, lsn: opened.to };
        Control {
            given_up: outrigger_wal::Epoch::NONE,
            identity: Identity { segment_bytes: opened.segment_bytes, ..self.plan.identity },
            epoch: opened.epoch,
            coordinator_epoch: old
                .map_or(0, |old| old.coordinator_epoch)
                .max(opened.coordinator_epoch),
            version: opened.version,
            durable: promise,
            commit: promise,
            in_sync: false,
            truncating: None,
            slots: Vec::new(),
            keep: opened.from,
            epochs,
            config: old.and_then(|old| old.config.clone()),
        }
    }
}
