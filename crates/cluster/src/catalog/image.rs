//! The catalog as bytes: a checkpoint's body, and the pairs of a snapshot.
//!
//! Guarantees: decoding is total; equal states have equal bytes. Not here: files.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use outrigger_net::frame::MAX_COPIES;
use outrigger_replica::store::{Pair, StoreError};
use outrigger_wal::{ClusterId, ContentId, Lsn};

use super::rows;
use super::state::{Content, MAX_CONTENTS, State};
use super::tables::{Dbid, Up};
use crate::buckets::Buckets;
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
const HOST_KEY: u8 = b'h';
const INSTANCE_KEY: u8 = b'i';
const SETTING_KEY: u8 = b's';
const MAP_KEY: &[u8] = b"m";
const UP_KEY: &[u8] = b"u";
const HISTORY_KEY: u8 = b'y';

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

fn put_map(put: &mut Put, map: &Buckets, planned: u32) {
    put.u32(planned);
    map.put(put);
}

fn take_map(take: &mut Take<'_>) -> Result<(Arc<Buckets>, u32), CodecError> {
    let planned = take.u32()?;
    Ok((Arc::new(Buckets::take(take)?), planned))
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
    rows::put_hosts(&mut put, state.hosts.values());
    rows::put_instances(&mut put, &state.instances);
    rows::put_settings(&mut put, &state.settings);
    rows::put_up(&mut put, &state.up);
    put.u64(state.forgotten);
    rows::put_histories(&mut put, &state.history);
    put.flag(state.map.is_some());
    if let Some(map) = &state.map {
        put_map(&mut put, map, state.planned);
    }
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
    let hosts = rows::take_hosts(&mut take)?;
    let hosts = hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
    let instances = rows::take_instances(&mut take)?;
    let settings = rows::take_settings(&mut take)?;
    let up = rows::take_up(&mut take)?;
    let forgotten = take.u64()?;
    let history = rows::take_histories(&mut take)?;
    let (map, planned) = take.option(take_map)?.unzip();
    take.end()?;
    let state = State {
        cluster,
        contents: ascending(contents)?,
        hosts: ascending(hosts)?,
        instances: ascending(instances)?,
        settings: ascending(settings)?,
        up,
        forgotten,
        history: history.into(),
        map,
        planned: planned.unwrap_or_default(),
    };
    Ok((state, applied))
}

fn key(table: u8, name: &[u8]) -> Bytes {
    let mut key = vec![table];
    key.extend_from_slice(name);
    Bytes::from(key)
}

fn pair(key: Bytes, put: impl FnOnce(&mut Put)) -> Result<Pair, CodecError> {
    let mut value = Put::versioned(VERSION);
    put(&mut value);
    Ok((key, value.done()?))
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
    for (name, host) in &state.hosts {
        pairs.push(pair(key(HOST_KEY, name.as_bytes()), |put| rows::put_host(put, host))?);
    }
    for (dbid, row) in &state.instances {
        let key = key(INSTANCE_KEY, &dbid.0.to_be_bytes());
        pairs.push(pair(key, |put| rows::put_instance(put, row))?);
    }
    if let Some(map) = &state.map {
        let key = Bytes::from_static(MAP_KEY);
        pairs.push(pair(key, |put| put_map(put, map, state.planned))?);
    }
    for (name, value) in &state.settings {
        pairs.push(pair(key(SETTING_KEY, name.as_bytes()), |put| put.u64(*value))?);
    }
    if state.up != Up::default() {
        pairs.push(pair(Bytes::from_static(UP_KEY), |put| rows::put_up(put, &state.up))?);
    }
    for (row, number) in state.history.iter().zip(state.forgotten..) {
        let key = key(HISTORY_KEY, &number.to_be_bytes());
        pairs.push(pair(key, |put| rows::put_history(put, row))?);
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
        (_, MAP_KEY) => {
            let (map, planned) = take_map(&mut take).map_err(damaged)?;
            (state.map, state.planned) = (Some(map), planned);
        }
        (_, UP_KEY) => state.up = rows::take_up(&mut take).map_err(damaged)?,
        (Some((&HOST_KEY, name)), _) => {
            let host = rows::take_host(&mut take).map_err(damaged)?;
            if host.name.as_bytes() != name {
                return Err(damaged(CodecError::Malformed { what: "a host under another's name" }));
            }
            state.hosts.insert(host.name.clone(), host);
        }
        (Some((&INSTANCE_KEY, [high, low])), _) => {
            let row = rows::take_instance(&mut take).map_err(damaged)?;
            state.instances.insert(Dbid(u16::from_be_bytes([*high, *low])), row);
        }
        (Some((&SETTING_KEY, name)), _) => {
            let name = std::str::from_utf8(name);
            let malformed = CodecError::Malformed { what: "a setting's name is not UTF-8" };
            let name = name.map_err(|_| damaged(malformed))?.to_owned();
            state.settings.insert(name, take.u64().map_err(damaged)?);
        }
        (Some((&HISTORY_KEY, number)), _) if number.len() == 8 => {
            let number = number.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
            if state.history.is_empty() {
                state.forgotten = number;
            }
            state.history.push_back(rows::take_history(&mut take).map_err(damaged)?);
        }
        _ => return Err(StoreError::ForeignPair { first: key.first().copied() }),
    }
    take.end().map_err(damaged)
}
