//! The bytes of a map: version `u8` (1), the map's version `u64`, then per bucket its owner `i32`, since when
//! `u64`, who held it before (count `u32`, `i32` each), and the move: 0, or 1 copying, 2 handing over, 3 moved, and
//! the other content `i32`. Little-endian.
//!
//! Guarantees: decoding is total and takes nothing that no sequence of changes could have made of one bucket.

use bytes::Bytes;

use super::{BUCKETS, Buckets, Holder, MapVersion, MoveState};
use crate::codec::{Put, Take};
use crate::error::CodecError;

/// The most contents that are remembered to have held a bucket before.
pub const MAX_PAST: usize = 64;

const VERSION: u8 = 1;
const PAST: &str = "the number of past owners";
const PAST_BYTES: usize = 4;

impl Buckets {
    /// Its bytes.
    ///
    /// # Errors
    /// None in a map that was made by its own methods.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        self.put(&mut put);
        put.done()
    }

    /// Puts it into something larger.
    pub(crate) fn put(&self, put: &mut Put) {
        put.u64(self.version.0);
        for holder in &self.rows {
            put.i32(holder.owner.0);
            put.u64(holder.since.0);
            put.list(PAST, MAX_PAST, &holder.past, |put, past| put.i32(past.0));
            match holder.moving {
                None => put.u8(0),
                Some((other, state)) => {
                    put.u8(match state {
                        MoveState::Copying => 1,
                        MoveState::HandingOver => 2,
                        MoveState::Moved => 3,
                    });
                    put.i32(other.0);
                }
            }
        }
    }

    /// The map in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let map = Self::take(&mut take)?;
        take.end()?;
        Ok(map)
    }

    /// Takes it out of something larger.
    pub(crate) fn take(take: &mut Take<'_>) -> Result<Self, CodecError> {
        let version = MapVersion(take.u64()?);
        let rows = (0..BUCKETS).map(|_| holder(take, version)).collect::<Result<_, _>>()?;
        Ok(Self { version, rows })
    }
}

fn holder(take: &mut Take<'_>, version: MapVersion) -> Result<Holder, CodecError> {
    let owner = take.content()?;
    let since = MapVersion(take.u64()?);
    let past = take.list(PAST, MAX_PAST, PAST_BYTES, Take::content)?;
    let moving = match take.u8()? {
        0 => None,
        1 => Some((take.content()?, MoveState::Copying)),
        2 => Some((take.content()?, MoveState::HandingOver)),
        3 => Some((take.content()?, MoveState::Moved)),
        _ => return Err(CodecError::Malformed { what: "an unknown state of a move" }),
    };
    if since < MapVersion::FIRST || since > version {
        return Err(CodecError::Malformed { what: "a bucket is held since no version of its map" });
    }
    let twice = past.iter().enumerate().any(|(at, found)| {
        *found == owner || found.0 < 0 || past.iter().take(at).any(|other| other == found)
    });
    let nowhere = moving.is_some_and(|(other, state)| {
        other == owner || other.0 < 0 || (state == MoveState::Moved && !past.contains(&other))
    });
    if owner.0 < 0 || twice || nowhere {
        return Err(CodecError::Malformed { what: "the owners of a bucket contradict each other" });
    }
    Ok(Holder { owner, since, past, moving })
}
