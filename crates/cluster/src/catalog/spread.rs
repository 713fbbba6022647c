//! The map of rows: which content holds which bucket, and the moves under way.
//!
//! Guarantees: a map, once there, changes by moves alone, so that no content that comes later hides a row;
//! its version grows with each, and is above whatever an earlier reign of a coordinator can have given.
//! Not here: who moves rows ([`crate::mover`]).

use std::sync::Arc;

use outrigger_wal::ContentId;

use super::record::MoveStep;
use super::state::{Refused, State};
use super::tables::Dbid;
use crate::buckets::{Buckets, MapVersion, Move, MoveState};

impl State {
    /// Spreads rows over contents, where no map is there.
    pub(super) fn spread(&mut self, contents: &[ContentId]) -> Result<(), Refused> {
        if self.map.is_none() {
            self.map = Some(Arc::new(Buckets::even(contents)?));
        }
        Ok(())
    }

    /// The first content of data holds all rows, unless it was said otherwise before.
    pub(super) fn spread_over_first(&mut self) {
        let held: Vec<_> = self.contents.keys().copied().filter(|content| content.0 >= 0).collect();
        if self.map.is_none() && !held.is_empty() {
            self.map = Buckets::even(&held).ok().map(Arc::new);
        }
    }

    pub(super) fn take_moves(
        &mut self,
        at: u64,
        (step, floor): (MoveStep, MapVersion),
        moves: &[Move],
    ) -> Result<(), Refused> {
        let mut map = self.map.as_deref().cloned().ok_or(Refused::NoMap)?;
        if let Some(one) = moves.iter().find(|one| !self.contents.contains_key(&one.to)) {
            return Err(Refused::NoContent { content: one.to });
        }
        map.raise(floor);
        match step {
            MoveStep::Begin => map.begin(moves)?,
            MoveStep::HandOver => map.hand_over(moves)?,
            MoveStep::Moved => map.moved(moves)?,
            MoveStep::End => map.end(moves)?,
        }
        let left = map.moves().count();
        self.map = Some(Arc::new(map));
        if step == MoveStep::Begin {
            self.planned = u32::try_from(left).unwrap_or(u32::MAX);
            self.note(at, Dbid(0), format!("expansion begun: {left} buckets of rows are to move"));
        }
        if step == MoveStep::End && left == 0 {
            let planned = std::mem::take(&mut self.planned);
            self.note(
                at,
                Dbid(0),
                format!("expansion ended: {planned} buckets of rows have moved"),
            );
        }
        Ok(())
    }

    /// How many buckets of the expansion under way have moved, and of how many.
    #[must_use]
    pub fn expanding(&self) -> Option<(u32, u32)> {
        let map = self.map.as_ref()?;
        map.moves().next()?;
        let left = map.moves().filter(|(_, state)| *state != MoveState::Moved).count();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        Some((self.planned.saturating_sub(left), self.planned))
    }
}
