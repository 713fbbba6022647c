//! The catalog as bytes: a checkpoint's body, and the pairs of a snapshot.
//!
//! Guarantees: decoding is total; equal states have equal bytes. Not here: files.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_net::frame::MAX_COPIES;
use outrigger_replica::store::{Pair, StoreError};
use outrigger_wal::{ClusterId, ContentId, Lsn};

use super::state::{Content, MAX_CONTENTS, State};
use crate::codec::{Put, Take};
use crate::error::CodecError;
use crate::register::Register;

const VERSION: u8 = 1;
const CONTENT_BYTES: usize = 34;
const HEARD_BYTES: usize = 32;
const HEARD: &str = "the number of heard copies";
const CONTENTS: &str = "the number of contents";

const CLUSTER_KEY: &[u8] = b"a";
const CONTENT_KEY: u8 = b'c';

fn put_content(put: &mut Put, content: &Content) {
    put.u128(content.log.0);
    put.u64(content.segment_bytes);
    let register = &content.register;
    put.flag(register.config().is_some());
    if let Some(config) = register.config() {
        put.config(config);
    }
    put.flag(register.hold_out);
    let heard: Vec<_> = register.all_heard().iter().collect();
    put.list(HEARD, MAX_COPIES, &heard, |put, (instance, heard)| {
        put.u128(instance.0);
        put.promise(**heard);
    });
}

fn take_content(take: &mut Take<'_>) -> Result<Content, CodecError> {
    let log = take.log()?;
    let segment_bytes = take.u64()?;
    let config = take.option(Take::config)?;
    let hold_out = take.flag()?;
    let heard =
        take.list(HEARD, MAX_COPIES, HEARD_BYTES, |take| Ok((take.instance()?, take.promise()?)))?;
    let mut register = Register::from_parts(config, ascending(heard)?);
    register.hold_out = hold_out;
    Ok(Content { log, segment_bytes, register })
}

/// A map from what must come in strictly ascending order, so that each has one encoding.
fn ascending<K: Ord, V>(items: Vec<(K, V)>) -> Result<BTreeMap<K, V>, CodecError> {
    if !items.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(CodecError::Malformed { what: "a list is not in order" });
    }
    Ok(items.into_iter().collect())
}

/// The body of a checkpoint.
pub(super) fn encode(state: &State, applied: Lsn) -> Result<Bytes, CodecError> {
    let mut put = Put::versioned(VERSION);
    put.u64(applied.0);
    put.flag(state.cluster.is_some());
    if let Some(cluster) = state.cluster {
        put.u128(cluster.0);
    }
    let contents: Vec<_> = state.contents.iter().collect();
    put.list(CONTENTS, MAX_CONTENTS, &contents, |put, (id, content)| {
        put.i32(id.0);
        put_content(put, content);
    });
    put.done()
}

/// What a checkpoint's body says.
pub(super) fn decode(body: &[u8]) -> Result<(State, Lsn), CodecError> {
    let mut take = Take::versioned(body, VERSION)?;
    let applied = take.lsn()?;
    let cluster = take.option(Take::cluster)?;
    let contents = take.list(CONTENTS, MAX_CONTENTS, CONTENT_BYTES, |take| {
        Ok((take.content()?, take_content(take)?))
    })?;
    take.end()?;
    Ok((State { cluster, contents: ascending(contents)? }, applied))
}

/// Numbers that sort like the ids, the coordinator's own first.
fn content_key(content: ContentId) -> Bytes {
    let ordered = content.0.cast_unsigned() ^ (1 << 31);
    let mut key = vec![CONTENT_KEY];
    key.extend_from_slice(&ordered.to_be_bytes());
    Bytes::from(key)
}

/// The state as pairs in key order.
pub(super) fn pairs(state: &State) -> Result<Vec<Pair>, CodecError> {
    let mut pairs = Vec::new();
    if let Some(cluster) = state.cluster {
        let mut put = Put::versioned(VERSION);
        put.u128(cluster.0);
        pairs.push((Bytes::from_static(CLUSTER_KEY), put.done()?));
    }
    for (id, content) in &state.contents {
        let mut put = Put::versioned(VERSION);
        put_content(&mut put, content);
        pairs.push((content_key(*id), put.done()?));
    }
    Ok(pairs)
}

/// Takes one pair back into a state.
pub(super) fn restore(state: &mut State, (key, value): &Pair) -> Result<(), StoreError> {
    let damaged = |cause: CodecError| StoreError::Damaged {
        place: "a catalog being restored".to_owned(),
        what: cause.to_string(),
    };
    let mut take = Take::versioned(value, VERSION).map_err(damaged)?;
    match (key.as_ref().split_first(), key.as_ref()) {
        (_, CLUSTER_KEY) => {
            state.cluster = Some(ClusterId(take.u128().map_err(damaged)?));
        }
        (Some((&CONTENT_KEY, id)), _) if id.len() == 4 => {
            let ordered = id.iter().fold(0_u32, |id, byte| (id << 8) | u32::from(*byte));
            let id = ContentId((ordered ^ (1 << 31)).cast_signed());
            state.contents.insert(id, take_content(&mut take).map_err(damaged)?);
        }
        _ => return Err(StoreError::ForeignPair { first: key.first().copied() }),
    }
    take.end().map_err(damaged)
}
