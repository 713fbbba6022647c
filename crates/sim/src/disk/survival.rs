//! What a power cut leaves of the pages that were not synced.
//!
//! Guarantees: every subset of sectors is possible; those that real systems leave are likely: all,
//! none, a beginning, an end without its beginning, whole folios of up to 2 MiB. Not here:
//! names and lengths.

use super::file::any_sectors;
use crate::rng::Rng;

/// What a crash did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CrashReport {
    /// Operations that were in flight; their completions are lost.
    pub in_flight: u64,
    /// Pages that were not synced and reached the platter.
    pub pages_kept: u64,
    /// Pages that were not synced and are as before.
    pub pages_lost: u64,
    /// Pages of which some sectors reached the platter.
    pub pages_torn: u64,
    /// Creations, renames and removals that were not synced and survived.
    pub names_kept: u64,
    /// Those that did not.
    pub names_lost: u64,
}

/// One way in which a file's dirty pages survive.
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Each page by itself.
    Pages(u32),
    /// Each sector by itself.
    Sectors,
    /// Aligned groups of so many pages, each as a whole.
    Folios(u64, u64, u32),
    /// What lies before the page.
    Beginning(u64),
    /// What lies behind the page.
    End(u64),
}

/// How often a page is torn where pages survive as wholes.
const TORN_PER_MILLE: u32 = 60;

impl Survival {
    pub(super) fn draw(dirty: &[u64], rng: &mut Rng) -> Self {
        let somewhere = rng.pick(dirty).copied().unwrap_or(0);
        let per_mille = u32::try_from(rng.range(50..950)).unwrap_or(500);
        match rng.below(9) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Sectors,
            3 => Self::Beginning(somewhere),
            4 | 5 => Self::End(somewhere),
            6 => Self::Folios(4 << rng.below(8), rng.next_u64(), per_mille),
            _ => Self::Pages(per_mille),
        }
    }

    /// The sectors of a page that survive; bit 0 is the first one.
    pub(super) fn sectors(&self, page: u64, rng: &mut Rng) -> u8 {
        let whole = match *self {
            Self::Nothing => return 0,
            Self::Everything => return 0xFF,
            Self::Sectors => return any_sectors(rng),
            Self::Pages(per_mille) => rng.chance(per_mille),
            // The same answer for each page of the folio.
            Self::Folios(pages, salt, per_mille) => {
                Rng::new(salt ^ (page / pages)).chance(per_mille)
            }
            Self::Beginning(end) => page < end,
            Self::End(start) => page >= start,
        };
        match whole {
            _ if rng.chance(TORN_PER_MILLE) => any_sectors(rng),
            true => 0xFF,
            false => 0,
        }
    }
}
