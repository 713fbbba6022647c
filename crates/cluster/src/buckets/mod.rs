//! Which content holds which row: 1,024 buckets by key hash, each held by one content.
//!
//! A map has a version; each change of it, of however many buckets, takes the next one. A bucket knows since
//! which version its owner holds it, and who held it before: a write may have been sent to any of
//! those, so all of them are asked what became of it. A move of a bucket is begun (its rows are copied while the
//! old owner serves), handed over (nobody serves it), and moved (the new owner does).
//!
//! Guarantees: pure; [`bucket_of`] never changes; an expansion moves the fewest buckets that give an even
//! result. Not here: moving rows, and who is told of a map.
//!
//! # Layout
//! - `plan`: who gets which bucket
//! - `codec`: the bytes of a map

mod codec;
mod plan;

use std::collections::BTreeMap;

use outrigger_wal::ContentId;

pub use codec::MAX_PAST;

/// How many buckets there are, in every cluster and for good.
pub const BUCKETS: usize = 1024;

/// One of the [`BUCKETS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of this number; none from [`BUCKETS`] on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < BUCKETS { Some(Self(number)) } else { None }
    }

    /// Its number, less than [`BUCKETS`].
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u16..).map_while(Self::new)
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The bucket of a row: the upper ten bits of the XXH3-64 (seed 0) of its key. This is stable for good.
#[must_use]
pub fn bucket_of(key: &[u8]) -> Bucket {
    Bucket(outrigger_replica::store::kv::bucket_of(key))
}

/// The version of a map; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MapVersion(pub u64);

impl MapVersion {
    /// Of the first map of a cluster.
    pub const FIRST: Self = Self(1);

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// How far a move has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MoveState {
    /// Rows are copied; the old owner serves.
    Copying,
    /// The old owner serves it no more, the new one not yet: requests wait.
    HandingOver,
    /// The new owner serves; the old one still has its copies of the rows.
    Moved,
}

/// A bucket on its way from one content to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Move {
    /// Which bucket.
    pub bucket: Bucket,
    /// Who held it.
    pub from: ContentId,
    /// Who gets it.
    pub to: ContentId,
}

/// Who holds a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The content whose primary serves it; in a hand-over, the one that did last.
    pub owner: ContentId,
    /// The version of the map by which the owner got it.
    pub since: MapVersion,
    /// Who held it before, each once; never the owner.
    pub past: Vec<ContentId>,
    /// The move under way: to whom (once it is moved: from whom), and how far it is.
    pub moving: Option<(ContentId, MoveState)>,
}

/// Why a map cannot be, or cannot change so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketsError {
    /// Nobody would hold the rows.
    #[error("rows need one content at least")]
    NoContents,
    /// Some content would hold no bucket, or it is no content of data.
    #[error("{found} contents: 1 to {BUCKETS} of them, none negative, can hold rows")]
    Contents {
        /// How many were given.
        found: usize,
    },
    /// A move is not finished.
    #[error("bucket {} is on its way already: let its move end first", bucket.number())]
    Moving {
        /// Which bucket.
        bucket: Bucket,
    },
    /// The move does not begin at the owner, goes nowhere, or is not so far.
    #[error("bucket {} cannot take this step from content {owner}", bucket.number())]
    Step {
        /// Which bucket.
        bucket: Bucket,
        /// Who holds it.
        owner: ContentId,
    },
    /// A bucket has moved too often.
    #[error("bucket {} was held by {MAX_PAST} contents before", bucket.number())]
    TooManyPast {
        /// Which bucket.
        bucket: Bucket,
    },
}

/// Which content holds which bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buckets {
    version: MapVersion,
    /// By the bucket's number: exactly [`BUCKETS`] of them.
    rows: Vec<Holder>,
}

impl Buckets {
    /// A first map: even, each content a run of neighbours, in the order of their numbers.
    ///
    /// # Errors
    /// When these contents cannot hold rows.
    pub fn even(contents: &[ContentId]) -> Result<Self, BucketsError> {
        let contents = plan::checked(contents)?;
        let count = contents.len();
        let rows = (0..count).zip(contents).flat_map(|(at, owner)| {
            let held = BUCKETS * (at + 1) / count - BUCKETS * at / count;
            let holder = Holder { owner, since: MapVersion::FIRST, past: Vec::new(), moving: None };
            std::iter::repeat_n(holder, held)
        });
        Ok(Self { version: MapVersion::FIRST, rows: rows.collect() })
    }

    /// The moves after which `contents`, and nobody else, hold all buckets, none of them more than one
    /// bucket more than another: as few moves as that takes. Nothing is changed.
    ///
    /// # Errors
    /// When these contents cannot hold rows, or a move is under way.
    pub fn expand(&self, contents: &[ContentId]) -> Result<Vec<Move>, BucketsError> {
        plan::expand(self, contents)
    }

    /// Begins moves: the rows of these buckets are being copied.
    ///
    /// # Errors
    /// When one cannot begin; nothing is changed then.
    pub fn begin(&mut self, moves: &[Move]) -> Result<(), BucketsError> {
        self.change(moves, |holder, step| match holder.moving {
            Some(_) => Err(BucketsError::Moving { bucket: step.bucket }),
            None if step.from != holder.owner || step.to == holder.owner || step.to.0 < 0 => {
                Err(out_of_step(holder, step))
            }
            None => {
                holder.moving = Some((step.to, MoveState::Copying));
                Ok(())
            }
        })
    }

    /// From now on nobody serves these buckets.
    ///
    /// # Errors
    /// When one is not being copied; nothing is changed then.
    pub fn hand_over(&mut self, moves: &[Move]) -> Result<(), BucketsError> {
        self.change(moves, |holder, step| {
            if holder.owner != step.from || holder.moving != Some((step.to, MoveState::Copying)) {
                return Err(out_of_step(holder, step));
            }
            holder.moving = Some((step.to, MoveState::HandingOver));
            Ok(())
        })
    }

    /// The new owners hold these buckets.
    ///
    /// # Errors
    /// When one is not being handed over, or was moved too often; nothing is changed then.
    pub fn moved(&mut self, moves: &[Move]) -> Result<(), BucketsError> {
        let version = self.version.next();
        self.change(moves, |holder, step| {
            let handing_over = Some((step.to, MoveState::HandingOver));
            if holder.owner != step.from || holder.moving != handing_over {
                return Err(out_of_step(holder, step));
            }
            holder.past.retain(|past| *past != step.to);
            if !holder.past.contains(&step.from) {
                holder.past.push(step.from);
            }
            if holder.past.len() > MAX_PAST {
                return Err(BucketsError::TooManyPast { bucket: step.bucket });
            }
            holder.owner = step.to;
            holder.since = version;
            holder.moving = Some((step.from, MoveState::Moved));
            Ok(())
        })
    }

    /// These moves are over: before they were handed over, which undoes them, or once the old owners
    /// have deleted their copies.
    ///
    /// # Errors
    /// When one is being handed over, or is no move; nothing is changed then.
    pub fn end(&mut self, moves: &[Move]) -> Result<(), BucketsError> {
        self.change(moves, |holder, step| {
            let over = match holder.moving {
                Some((to, MoveState::Copying)) => (holder.owner, to) == (step.from, step.to),
                Some((from, MoveState::Moved)) => (from, holder.owner) == (step.from, step.to),
                _ => false,
            };
            if !over {
                return Err(out_of_step(holder, step));
            }
            holder.moving = None;
            Ok(())
        })
    }

    /// Changes all of them under the next version, or none.
    fn change(
        &mut self,
        moves: &[Move],
        mut change: impl FnMut(&mut Holder, &Move) -> Result<(), BucketsError>,
    ) -> Result<(), BucketsError> {
        let mut rows = self.rows.clone();
        for step in moves {
            if let Some(holder) = rows.get_mut(step.bucket.index()) {
                change(holder, step)?;
            }
        }
        if rows != self.rows {
            self.rows = rows;
            self.version = self.version.next();
        }
        Ok(())
    }

    /// Its next change takes this version at least. Reigns of coordinators that name different ones never give
    /// one version to two maps.
    pub fn raise(&mut self, floor: MapVersion) {
        self.version = self.version.max(MapVersion(floor.0.saturating_sub(1)));
    }

    /// The moves that are under way.
    pub fn moves(&self) -> impl Iterator<Item = (Move, MoveState)> {
        self.iter().filter_map(|(bucket, holder)| {
            let (other, state) = holder.moving?;
            let (from, to) = match state {
                MoveState::Moved => (other, holder.owner),
                MoveState::Copying | MoveState::HandingOver => (holder.owner, other),
            };
            Some((Move { bucket, from, to }, state))
        })
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> MapVersion {
        self.version
    }

    /// Who holds a bucket.
    #[must_use]
    pub fn holder(&self, bucket: Bucket) -> &Holder {
        &self.rows[bucket.index()]
    }

    /// Who holds a row.
    #[must_use]
    pub fn content_of(&self, key: &[u8]) -> ContentId {
        self.holder(bucket_of(key)).owner
    }

    /// All buckets with their holders, by number.
    pub fn iter(&self) -> impl Iterator<Item = (Bucket, &Holder)> {
        Bucket::all().zip(&self.rows)
    }

    /// How many buckets each content holds; none with nothing.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<ContentId, usize> {
        let mut counts = BTreeMap::new();
        for holder in &self.rows {
            *counts.entry(holder.owner).or_insert(0) += 1;
        }
        counts
    }
}

const fn out_of_step(holder: &Holder, step: &Move) -> BucketsError {
    BucketsError::Step { bucket: step.bucket, owner: holder.owner }
}
