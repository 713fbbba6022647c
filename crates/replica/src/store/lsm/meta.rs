//! What the store keeps about itself, in the tree, so that one flush makes it durable with the rows.
//!
//! Little-endian: version `u16` (1), restoring `u8`, applied LSN `u64`. A newer version is refused.

use std::path::Path;

use bytes::Buf;
use outrigger_wal::Lsn;

use super::tree::Tree;
use crate::store::StoreError;

/// The key of it; before all others.
pub(super) const META_KEY: &[u8] = b"m";

const META_END: &[u8] = b"n";
const VERSION: u16 = 1;

/// What the store keeps about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Meta {
    /// Everything before it is in the rows.
    pub(super) applied: Lsn,
    /// A restore has begun and is not done.
    pub(super) restoring: bool,
}

impl Meta {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        out.push(u8::from(self.restoring));
        out.extend_from_slice(&self.applied.0.to_le_bytes());
        out
    }

    /// The meta of an opened tree; the default of an empty one.
    pub(super) fn read(tree: &Tree, path: &Path) -> Result<Self, StoreError> {
        match tree.newest_range(META_KEY, META_END).next().transpose()? {
            Some((key, value)) if key == META_KEY => Self::decode(&value, path),
            None if tree.is_empty() => Ok(Self::default()),
            _ => Err(damaged(path, "it has rows, and no applied LSN")),
        }
    }

    fn decode(mut value: &[u8], path: &Path) -> Result<Self, StoreError> {
        let short = |_| damaged(path, "what it keeps about itself is too short");
        let found = value.try_get_u16_le().map_err(short)?;
        if found > VERSION {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let restoring = value.try_get_u8().map_err(short)? != 0;
        let applied = Lsn(value.try_get_u64_le().map_err(short)?);
        Ok(Self { applied, restoring })
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged {
        place: path.display().to_string(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_refused_and_a_short_one_is_damaged() {
        let meta = Meta {
            applied: Lsn(4711),
            restoring: true,
        };
        let bytes = meta.encode();
        let path = Path::new("store");
        assert_eq!(Meta::decode(&bytes, path), Ok(meta));
        for len in 0..bytes.len() {
            let cut = Meta::decode(&bytes[..len], path);
            assert!(
                matches!(cut, Err(StoreError::Damaged { .. })),
                "{len} bytes"
            );
        }
        let mut newer = bytes;
        newer[0] = 2;
        let newer = Meta::decode(&newer, path);
        assert!(matches!(newer, Err(StoreError::Newer { found: 2, .. })));
    }
}
