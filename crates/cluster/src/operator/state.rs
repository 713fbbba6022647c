//! How a cluster stands, as its coordinator sees it, and as bytes.
//!
//! Guarantees: decoding is total; each value has one encoding. Not here: how it is put together.

use outrigger_net::config::Version;
use outrigger_net::frame::MAX_COPIES;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

use super::{CONTENTS, MAX_TEXT_BYTES, pairs};
use crate::agent::{Process, put_process, take_process};
use crate::catalog::rows::{self, HOST_BYTES, HOSTS, INSTANCE_BYTES, INSTANCES};
use crate::catalog::state::{MAX_CONTENTS, Standing};
use crate::catalog::tables::{Dbid, Host, Instance, MAX_HOSTS, MAX_INSTANCES, Up};
use crate::codec::{Put, Take};
use crate::error::CodecError;

const COPIES: &str = "the number of copies";
const WORDS: &str = "what is seen, in words";
const CONTENT_BYTES: usize = 82;
const COPY_BYTES: usize = 56;

/// A cluster as its coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterState {
    /// The cluster.
    pub cluster: ClusterId,
    /// The coordinator's reign.
    pub coordinator_epoch: u64,
    /// Whether it should be up.
    pub up: Up,
    /// Its contents, by id; the catalog's own (-1) first.
    pub contents: Vec<ContentState>,
    /// Its hosts.
    pub hosts: Vec<HostState>,
    /// Its instances.
    pub instances: Vec<InstanceState>,
    /// What was set, by name.
    pub settings: Vec<(String, u64)>,
    /// While buckets of rows move to other contents: how many have, and of how many.
    pub expanding: Option<(u32, u32)>,
}

/// A host as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostState {
    /// Its row.
    pub host: Host,
    /// Whether its agent is connected.
    pub agent_here: bool,
}

/// An instance as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceState {
    /// Its number.
    pub dbid: Dbid,
    /// Its row.
    pub row: Instance,
    /// What its content's configuration says of it; `None`: it is in none.
    pub standing: Option<Standing>,
    /// What its agent sees of its process; `None`: the agent has not said.
    pub process: Option<Process>,
    /// How it is seen, in words.
    pub seen: String,
}

/// A content as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentState {
    /// Which.
    pub content: ContentId,
    /// The identity of its log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
    /// The version of its configuration.
    pub version: Version,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its primary.
    pub primary: InstanceId,
    /// Its copies.
    pub copies: Vec<CopyState>,
    /// What is going on, in words: `ok`, a double fault, what is waited for.
    pub note: String,
}

/// What a copy is in its configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CopyRole {
    /// The primary.
    Primary,
    /// A mirror.
    Mirror,
}

/// A copy as the coordinator sees it: LSNs as last reported, at the latest a second ago while it
/// is in touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyState {
    /// Whose copy.
    pub instance: InstanceId,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// What it is.
    pub role: CopyRole,
    /// Whether commits wait for it.
    pub in_sync: bool,
    /// Whether it is out until it is recovered.
    pub held: bool,
    /// Whether it is connected and was heard of a short while ago.
    pub in_touch: bool,
    /// Durable.
    pub durable: Lsn,
    /// Commit; zero before the first report.
    pub commit: Lsn,
    /// Applied; zero before the first report.
    pub applied: Lsn,
    /// How much of the log its durable LSN lies behind the primary's, in bytes of log space.
    pub lag_bytes: u64,
}

pub(super) fn put_state(put: &mut Put, state: &ClusterState) {
    put.u128(state.cluster.0);
    put.u64(state.coordinator_epoch);
    rows::put_up(put, &state.up);
    put.list(CONTENTS, MAX_CONTENTS, &state.contents, put_content);
    put.list(HOSTS, MAX_HOSTS, &state.hosts, |put, host| {
        rows::put_host(put, &host.host);
        put.flag(host.agent_here);
    });
    put.list(INSTANCES, MAX_INSTANCES, &state.instances, put_instance);
    rows::put_settings(put, pairs(&state.settings));
    put.flag(state.expanding.is_some());
    if let Some((moved, planned)) = state.expanding {
        put.u32(moved);
        put.u32(planned);
    }
}

pub(super) fn take_state(take: &mut Take<'_>) -> Result<ClusterState, CodecError> {
    Ok(ClusterState {
        cluster: take.cluster()?,
        coordinator_epoch: take.u64()?,
        up: rows::take_up(take)?,
        contents: take.list(CONTENTS, MAX_CONTENTS, CONTENT_BYTES, take_content)?,
        hosts: take.list(HOSTS, MAX_HOSTS, HOST_BYTES, |take| {
            Ok(HostState { host: rows::take_host(take)?, agent_here: take.flag()? })
        })?,
        instances: take.list(INSTANCES, MAX_INSTANCES, INSTANCE_BYTES, take_instance)?,
        settings: rows::take_settings(take)?,
        expanding: take.option(|take| Ok((take.u32()?, take.u32()?)))?,
    })
}

fn put_instance(put: &mut Put, instance: &InstanceState) {
    put.u16(instance.dbid.0);
    rows::put_instance(put, &instance.row);
    put.flag(instance.standing.is_some());
    if let Some(standing) = instance.standing {
        put.flag(standing.role == 'p');
        put.flag(standing.mode == 's');
        put.flag(standing.status == 'u');
    }
    put.flag(instance.process.is_some());
    if let Some(process) = &instance.process {
        put_process(put, process);
    }
    put_words(put, &instance.seen);
}

fn take_instance(take: &mut Take<'_>) -> Result<InstanceState, CodecError> {
    Ok(InstanceState {
        dbid: Dbid(take.u16()?),
        row: rows::take_instance(take)?,
        standing: take.option(|take| {
            Ok(Standing {
                role: if take.flag()? { 'p' } else { 'm' },
                mode: if take.flag()? { 's' } else { 'n' },
                status: if take.flag()? { 'u' } else { 'd' },
            })
        })?,
        process: take.option(take_process)?,
        seen: take.text(WORDS, MAX_TEXT_BYTES)?,
    })
}

fn put_words(put: &mut Put, words: &str) {
    super::put_text(put, words);
}

pub(super) fn put_content(put: &mut Put, content: &ContentState) {
    put.i32(content.content.0);
    put.u128(content.log.0);
    put.u64(content.segment_bytes);
    put.u64(content.version.0);
    put.epoch(content.epoch);
    put.u128(content.primary.0);
    put.list(COPIES, MAX_COPIES, &content.copies, |put, copy| {
        put.u128(copy.instance.0);
        put.u8(match copy.role {
            CopyRole::Primary => 1,
            CopyRole::Mirror => 2,
        });
        put.flag(copy.in_sync);
        put.flag(copy.held);
        put.flag(copy.in_touch);
        put.u64(copy.durable.0);
        put.u64(copy.commit.0);
        put.u64(copy.applied.0);
        put.u64(copy.lag_bytes);
        put.addresses(&copy.addresses);
    });
    put_words(put, &content.note);
}

pub(super) fn take_content(take: &mut Take<'_>) -> Result<ContentState, CodecError> {
    Ok(ContentState {
        content: take.content()?,
        log: take.log()?,
        segment_bytes: take.u64()?,
        version: take.version()?,
        epoch: take.epoch()?,
        primary: take.instance()?,
        copies: take.list(COPIES, MAX_COPIES, COPY_BYTES, |take| {
            Ok(CopyState {
                instance: take.instance()?,
                role: match take.u8()? {
                    1 => CopyRole::Primary,
                    2 => CopyRole::Mirror,
                    _ => return Err(CodecError::Malformed { what: "an unknown role" }),
                },
                in_sync: take.flag()?,
                held: take.flag()?,
                in_touch: take.flag()?,
                durable: take.lsn()?,
                commit: take.lsn()?,
                applied: take.lsn()?,
                lag_bytes: take.u64()?,
                addresses: take.addresses()?,
            })
        })?,
        note: take.text(WORDS, MAX_TEXT_BYTES)?,
    })
}
