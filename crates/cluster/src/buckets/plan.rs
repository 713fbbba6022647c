//! Who gets which bucket: even, and with the fewest moves.
//!
//! Guarantees: deterministic. Not here: what becomes of a plan.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_wal::ContentId;

use super::{BUCKETS, Buckets, BucketsError, Move};

/// Contents that can hold rows, in order, each once.
pub(super) fn checked(contents: &[ContentId]) -> Result<BTreeSet<ContentId>, BucketsError> {
    let set: BTreeSet<_> = contents.iter().copied().collect();
    if set.is_empty() {
        return Err(BucketsError::NoContents);
    }
    if set.len() > BUCKETS || set.first().is_some_and(|first| first.0 < 0) {
        return Err(BucketsError::Contents { found: set.len() });
    }
    Ok(set)
}

pub(super) fn expand(map: &Buckets, contents: &[ContentId]) -> Result<Vec<Move>, BucketsError> {
    let contents = checked(contents)?;
    if let Some((bucket, _)) = map.iter().find(|(_, holder)| holder.moving.is_some()) {
        return Err(BucketsError::Moving { bucket });
    }
    let mut left = shares(&map.counts(), &contents);
    // Each keeps the first of its buckets, up to its share; the others go to whoever lacks some.
    let mut over = Vec::new();
    for (bucket, holder) in map.iter() {
        match left.get_mut(&holder.owner) {
            Some(share) if *share > 0 => *share -= 1,
            _ => over.push((bucket, holder.owner)),
        }
    }
    let takers = left.iter().flat_map(|(to, lacking)| std::iter::repeat_n(*to, *lacking));
    Ok(over.into_iter().zip(takers).map(|((bucket, from), to)| Move { bucket, from, to }).collect())
}

/// How many buckets each gets: those that hold most now get what does not divide evenly, so that
/// the fewest have to move.
fn shares(
    held: &BTreeMap<ContentId, usize>,
    contents: &BTreeSet<ContentId>,
) -> BTreeMap<ContentId, usize> {
    let (each, more) = (BUCKETS / contents.len(), BUCKETS % contents.len());
    let mut order: Vec<_> = contents.iter().copied().collect();
    // Stable: by number among equals.
    order.sort_by_key(|content| std::cmp::Reverse(held.get(content).copied().unwrap_or(0)));
    let shares = order.into_iter().enumerate();
    shares.map(|(at, content)| (content, each + usize::from(at < more))).collect()
}
