//! One answer out of those of several contents.
//!
//! Guarantees: pure. A write that took effect anywhere took effect; it is refused only when every content that could
//! have got it says so. Rows come in key order, none is left out between the first and the last.

use std::collections::VecDeque;

use bytes::Bytes;
use outrigger_cluster::buckets::{MoveState, bucket_of};
use outrigger_wal::ContentId;

use super::super::places::Places;
use super::super::protocol::{Answer, PAGE_BYTES};

/// The content that serves a row; `None` while nobody does.
pub(super) fn holder(places: &Places, key: &[u8]) -> Option<ContentId> {
    let holder = places.buckets.as_ref()?.holder(bucket_of(key));
    let handing_over = holder.moving.is_some_and(|(_, state)| state == MoveState::HandingOver);
    (!handing_over).then_some(holder.owner)
}

/// Every content that holds a row or ever did.
pub(super) fn holders(places: &Places, key: &[u8]) -> Vec<ContentId> {
    let Some(buckets) = &places.buckets else { return Vec::new() };
    let holder = buckets.holder(bucket_of(key));
    std::iter::once(holder.owner).chain(holder.past.iter().copied()).collect()
}

/// Where a write goes that named a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// To this content.
    To(ContentId),
    /// Nowhere yet.
    Wait,
    /// Nowhere: answered so.
    Answer(Answer),
}

/// Where the rows of a write are, by the map that it named.
pub(super) fn way(places: &Places, keys: &[Bytes], map: u64) -> Way {
    let Some(buckets) = &places.buckets else { return Way::Wait };
    let version = buckets.version().0;
    if map > version {
        return Way::Wait;
    }
    let holders = || keys.iter().map(|key| buckets.holder(bucket_of(key)));
    let Some(first) = holders().next() else {
        return Way::Answer(Answer::Refused { text: "a write without a change".to_owned() });
    };
    // ORDER: before anything is sent: what its client settles by this map must not go elsewhere.
    if holders().any(|holder| holder.since.0 > map) {
        return Way::Answer(Answer::Moved { map: version });
    }
    if let Some(other) = holders().find(|holder| holder.owner != first.owner) {
        let text = format!(
            "the batch spans contents {} and {}: what changes together must lie on one content; \
             write these rows one by one",
            first.owner, other.owner
        );
        return Way::Answer(Answer::Refused { text });
    }
    let handing_over = Some(MoveState::HandingOver);
    if holders().any(|holder| holder.moving.map(|(_, state)| state) == handing_over) {
        return Way::Wait;
    }
    Way::To(first.owner)
}

/// By which map rows are found.
pub(super) fn map(places: &Places) -> Answer {
    let contents = places.buckets.as_ref().map_or(0, |buckets| buckets.counts().len());
    Answer::Map { version: places.map(), contents: u16::try_from(contents).unwrap_or(u16::MAX) }
}

/// What became of a write, from everyone who may have got it.
pub(super) fn outcome(answers: Vec<Answer>) -> Answer {
    // From what decides alone to what all must say.
    let weight = |answer: &Answer| match answer {
        Answer::Committed(_) => 0,
        Answer::TooOld => 2,
        Answer::Unknown => 3,
        Answer::Refused { .. } => 4,
        // Whoever could not answer may know better.
        _ => 1,
    };
    answers.into_iter().min_by_key(weight).unwrap_or(Answer::TooOld)
}

/// How many rows there are in all.
pub(super) fn count(answers: Vec<Answer>) -> Answer {
    let mut sum = 0_u64;
    for answer in answers {
        match answer {
            Answer::Count(count) => sum = sum.saturating_add(count),
            other => return other,
        }
    }
    Answer::Count(sum)
}

/// The first rows of all pages, in key order.
pub(super) fn rows(answers: Vec<Answer>, most: usize) -> Answer {
    let mut pages: Vec<VecDeque<(Bytes, Bytes)>> = Vec::new();
    for answer in answers {
        match answer {
            // Who has none has none behind them either.
            Answer::Rows(rows) if rows.is_empty() => {}
            Answer::Rows(rows) => pages.push(rows.into()),
            other => return other,
        }
    }
    let (mut merged, mut bytes) = (Vec::new(), 0_usize);
    while merged.len() < most {
        // A page that has come to its end may go on behind it: nothing is known from there.
        if pages.iter().any(VecDeque::is_empty) {
            break;
        }
        let first = pages.iter_mut().min_by(|a, b| a.front().map(key).cmp(&b.front().map(key)));
        let Some(row) = first.and_then(VecDeque::pop_front) else { break };
        bytes = bytes.saturating_add(row.0.len()).saturating_add(row.1.len());
        if !merged.is_empty() && bytes > PAGE_BYTES {
            break;
        }
        merged.push(row);
    }
    Answer::Rows(merged)
}

/// The bytes of rows in an answer.
pub(super) fn row_bytes(answer: &Answer) -> u64 {
    let bytes = match answer {
        Answer::Value(Some(value)) => value.len().max(1),
        Answer::Rows(rows) => rows.iter().map(|(key, value)| key.len() + value.len() + 1).sum(),
        _ => 0,
    };
    bytes as u64
}

const fn key(row: &(Bytes, Bytes)) -> &Bytes {
    &row.0
}

#[cfg(test)]
mod tests {
    use super::super::super::protocol::Place;
    use super::*;

    fn page(keys: &[&'static str]) -> Answer {
        let row = |key: &&'static str| (Bytes::from_static(key.as_bytes()), Bytes::new());
        Answer::Rows(keys.iter().map(row).collect())
    }

    #[test]
    fn rows_are_merged_in_key_order_up_to_where_all_pages_are_known() {
        let merged = rows(vec![page(&["a", "d", "e"]), page(&["b", "c"]), page(&[])], 10);
        assert_eq!(merged, page(&["a", "b", "c"]), "the second page may go on with d");
        assert_eq!(rows(vec![page(&["a", "d"]), page(&["b"])], 1), page(&["a"]));
        assert_eq!(rows(vec![page(&[]), page(&[])], 10), page(&[]));
        assert_eq!(rows(vec![page(&["a"]), Answer::Busy], 10), Answer::Busy);
    }

    #[test]
    fn committed_anywhere_wins_and_refused_needs_all() {
        let committed = Answer::Committed(Place::default());
        let refused = || Answer::Refused { text: String::new() };
        let late = || Answer::NotPrimary { hint: String::new() };
        assert_eq!(outcome(vec![refused(), late(), committed.clone()]), committed);
        assert_eq!(outcome(vec![refused(), late(), Answer::Unknown]), late());
        assert_eq!(outcome(vec![refused(), Answer::TooOld]), Answer::TooOld);
        assert_eq!(outcome(vec![refused(), Answer::Unknown]), Answer::Unknown);
        assert_eq!(outcome(vec![refused(), refused()]), refused());
        assert_eq!(outcome(vec![]), Answer::TooOld);
    }

    #[test]
    fn counts_add_up_or_there_is_none() {
        assert_eq!(count(vec![Answer::Count(2), Answer::Count(3)]), Answer::Count(5));
        assert_eq!(count(vec![Answer::Count(2), Answer::Busy]), Answer::Busy);
    }
}
