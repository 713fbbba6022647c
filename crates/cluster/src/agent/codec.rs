//! Orders, questions, answers and memory of an agent as bytes.
//!
//! Guarantees: decoding is total; each value has one encoding; texts that are too long are cut. Layout: version
//! `u8` (2; in version 1 each voter had one address), then fields, in little-endian.

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_replica::control::Identity;

use super::Memory;
use super::message::{Accepted, Ask, Data, Holding, Kept, Order, Process, Say, Seen};
use crate::catalog::rows::{put_wanted, take_wanted};
use crate::catalog::tables::{Dbid, MAX_INSTANCES, MAX_ROW_TEXT_BYTES};
use crate::codec::{Put, Take};
use crate::error::CodecError;

const VERSION: u8 = 2;
/// The last one in which a voter was one address.
const SINGLE_ADDRESS_VERSION: u8 = 1;
const VOTERS: &str = "the number of voters";
const ORDERS: &str = "the number of orders";
const SETTINGS: &str = "the number of settings";
const MAX_SETTINGS: usize = 64;
const NAME: &str = "a name";
const PATH: &str = "a path";
const BODY: &str = "a message within a message";
const MAX_BODY_BYTES: usize = 512 << 10;
const HOW: &str = "how a process ended";
/// The bytes of the smallest order, setting and instance.
const ORDER_BYTES: usize = 77;
const SETTING_BYTES: usize = 10;
const SEEN_BYTES: usize = 31;

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_ROW_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

fn put_text(put: &mut Put, what: &'static str, text: &str) {
    put.text(what, MAX_ROW_TEXT_BYTES, text);
}

fn take_text(take: &mut Take<'_>, what: &'static str) -> Result<String, CodecError> {
    take.text(what, MAX_ROW_TEXT_BYTES)
}

fn put_body(put: &mut Put, body: &Bytes) {
    put.body(BODY, MAX_BODY_BYTES, body);
}

fn take_body(take: &mut Take<'_>) -> Result<Bytes, CodecError> {
    take.body(BODY, MAX_BODY_BYTES).map(Bytes::copy_from_slice)
}

fn put_order(put: &mut Put, dbid: Dbid, order: &Order) {
    put.u16(dbid.0);
    put.i32(order.content.0);
    put.u128(order.instance.0);
    put.u128(order.log.0);
    put.u64(order.segment_bytes);
    put.addresses(&order.addresses);
    put_text(put, PATH, &order.data_dir);
    put_wanted(put, order.wanted);
    put.u64(order.run);
    put.addresses(&order.coordinators);
    put.list(VOTERS, MAX_INSTANCES, &order.voters, |put, voter| put.addresses(voter));
    put.addresses(&order.source);
    put.u64(order.max_rate_bytes);
    put.list(SETTINGS, MAX_SETTINGS, &order.settings, |put, (name, value)| {
        put_text(put, NAME, name);
        put.u64(*value);
    });
}

fn take_voters(take: &mut Take<'_>) -> Result<Vec<Vec<String>>, CodecError> {
    if take.layout() <= SINGLE_ADDRESS_VERSION {
        return take.list(VOTERS, MAX_INSTANCES, 2, |take| Ok(vec![take_text(take, NAME)?]));
    }
    take.list(VOTERS, MAX_INSTANCES, 4, Take::addresses)
}

fn take_order(take: &mut Take<'_>) -> Result<(Dbid, Order), CodecError> {
    let dbid = Dbid(take.u16()?);
    let order = Order {
        content: take.content()?,
        instance: take.instance()?,
        log: take.log()?,
        segment_bytes: take.u64()?,
        addresses: take.addresses()?,
        data_dir: take_text(take, PATH)?,
        wanted: take_wanted(take)?,
        run: take.u64()?,
        coordinators: take.addresses()?,
        voters: take_voters(take)?,
        source: take.addresses()?,
        max_rate_bytes: take.u64()?,
        settings: take.list(SETTINGS, MAX_SETTINGS, SETTING_BYTES, |take| {
            Ok((take_text(take, NAME)?, take.u64()?))
        })?,
    };
    Ok((dbid, order))
}

pub(super) fn encode_ask(ask: &Ask) -> Result<Bytes, CodecError> {
    let mut put = Put::versioned(VERSION);
    match ask {
        Ask::Claim { cluster, host } => {
            put.u8(1);
            put.u128(cluster.0);
            put_text(&mut put, NAME, host);
        }
        Ask::Want { number, cluster, coordinator_epoch, orders, kept } => {
            put.u8(2);
            put.u64(*number);
            put.u128(cluster.0);
            put.u64(*coordinator_epoch);
            put.list(ORDERS, MAX_INSTANCES, orders, |put, (dbid, order)| {
                put_order(put, *dbid, order);
            });
            put_body(&mut put, kept);
        }
        Ask::Run { dbid, up } => {
            put.u8(3);
            put.u16(dbid.0);
            put.flag(*up);
        }
        Ask::Watch { seen } => {
            put.u8(4);
            put.u64(*seen);
        }
        Ask::Check => put.u8(5),
        Ask::MakeVoter { body } => {
            put.u8(6);
            put_body(&mut put, body);
        }
        Ask::Vote { body } => {
            put.u8(7);
            put_body(&mut put, body);
        }
        Ask::Inspect => put.u8(8),
        Ask::Forget { cluster, coordinator_epoch, dbid } => {
            put.u8(9);
            put.u128(cluster.0);
            put.u64(*coordinator_epoch);
            put.u16(dbid.0);
        }
    }
    put.done()
}

pub(super) fn decode_ask(bytes: &[u8]) -> Result<Ask, CodecError> {
    let mut take = Take::versioned(bytes, VERSION)?;
    let ask = match take.u8()? {
        1 => Ask::Claim { cluster: take.cluster()?, host: take_text(&mut take, NAME)? },
        2 => Ask::Want {
            number: take.u64()?,
            cluster: take.cluster()?,
            coordinator_epoch: take.u64()?,
            orders: take.list(ORDERS, MAX_INSTANCES, ORDER_BYTES, take_order)?,
            kept: take_body(&mut take)?,
        },
        3 => Ask::Run { dbid: Dbid(take.u16()?), up: take.flag()? },
        4 => Ask::Watch { seen: take.u64()? },
        5 => Ask::Check,
        6 => Ask::MakeVoter { body: take_body(&mut take)? },
        7 => Ask::Vote { body: take_body(&mut take)? },
        8 => Ask::Inspect,
        9 => Ask::Forget {
            cluster: take.cluster()?,
            coordinator_epoch: take.u64()?,
            dbid: Dbid(take.u16()?),
        },
        found => return Err(CodecError::Kind { found }),
    };
    take.end()?;
    Ok(ask)
}

pub(crate) fn put_process(put: &mut Put, process: &Process) {
    match process {
        Process::Stopped => put.u8(1),
        Process::Starting => put.u8(2),
        Process::Running { pid } => {
            put.u8(3);
            put.u32(*pid);
        }
        Process::Rebuilding { done_bytes, total_bytes } => {
            put.u8(4);
            put.u64(*done_bytes);
            put.u64(*total_bytes);
        }
        Process::Rebuilt => put.u8(5),
        Process::Ended { how } => {
            put.u8(6);
            put_text(put, HOW, cut(how));
        }
        Process::Gone => put.u8(7),
    }
}

pub(crate) fn take_process(take: &mut Take<'_>) -> Result<Process, CodecError> {
    Ok(match take.u8()? {
        1 => Process::Stopped,
        2 => Process::Starting,
        3 => Process::Running { pid: take.u32()? },
        4 => Process::Rebuilding { done_bytes: take.u64()?, total_bytes: take.u64()? },
        5 => Process::Rebuilt,
        6 => Process::Ended { how: take_text(take, HOW)? },
        7 => Process::Gone,
        _ => return Err(CodecError::Malformed { what: "an unknown state of a process" }),
    })
}

fn put_kept(put: &mut Put, kept: &Kept) {
    put.u64(kept.coordinator_epoch);
    put.u64(kept.number);
    put_body(put, &kept.body);
}

fn take_kept(take: &mut Take<'_>) -> Result<Kept, CodecError> {
    Ok(Kept { coordinator_epoch: take.u64()?, number: take.u64()?, body: take_body(take)? })
}

fn put_holding(put: &mut Put, holding: &Holding) {
    put_order(put, holding.dbid, &holding.order);
    put_process(put, &holding.process);
    match &holding.data {
        Data::Nothing => put.u8(1),
        Data::Unreadable { why } => {
            put.u8(2);
            put_text(put, HOW, cut(why));
        }
        Data::Copy(accepted) => {
            put.u8(3);
            let id = &accepted.identity;
            put.u128(id.cluster.0);
            put.i32(id.content.0);
            put.u128(id.instance.0);
            put.u128(id.log.0);
            put.u64(id.segment_bytes);
            put.epoch(accepted.epoch);
            put.u64(accepted.version.0);
            put.u64(accepted.coordinator_epoch);
            put.promise(accepted.durable);
            put.promise(accepted.commit);
            put.flag(accepted.config.is_some());
            if let Some(config) = &accepted.config {
                put.config(config);
            }
        }
    }
}

fn take_holding(take: &mut Take<'_>) -> Result<Holding, CodecError> {
    let (dbid, order) = take_order(take)?;
    let process = take_process(take)?;
    let data = match take.u8()? {
        1 => Data::Nothing,
        2 => Data::Unreadable { why: take_text(take, HOW)? },
        3 => Data::Copy(Box::new(Accepted {
            identity: Identity {
                cluster: take.cluster()?,
                content: take.content()?,
                instance: take.instance()?,
                log: take.log()?,
                segment_bytes: take.u64()?,
            },
            epoch: take.epoch()?,
            version: take.version()?,
            coordinator_epoch: take.u64()?,
            durable: take.promise()?,
            commit: take.promise()?,
            config: take.option(Take::config)?,
        })),
        _ => return Err(CodecError::Malformed { what: "an unknown state of a data directory" }),
    };
    Ok(Holding { dbid, order, process, data })
}

pub(super) fn encode_say(say: &Say) -> Result<Bytes, CodecError> {
    let mut put = Put::versioned(VERSION);
    match say {
        Say::Denied { text } => {
            put.u8(1);
            put_text(&mut put, HOW, cut(text));
        }
        Say::Taken { number } => {
            put.u8(2);
            put.u64(*number);
        }
        Say::Status { generation, cluster, host, coordinator_epoch, instances } => {
            put.u8(3);
            put.u64(*generation);
            put.u128(cluster.0);
            put_text(&mut put, NAME, host);
            put.u64(*coordinator_epoch);
            put.list(ORDERS, MAX_INSTANCES, instances, |put, seen| {
                put.u16(seen.dbid.0);
                put.i32(seen.content.0);
                put.u128(seen.instance.0);
                put.u64(seen.run);
                put_process(put, &seen.process);
            });
        }
        Say::Voted { body } => {
            put.u8(5);
            put_body(&mut put, body);
        }
        Say::Checked { bad } => {
            put.u8(4);
            put.list(ORDERS, MAX_INSTANCES, bad, |put, (dbid, why)| {
                put.u16(dbid.0);
                put_text(put, HOW, cut(why));
            });
        }
        Say::Holds { cluster, host, coordinator_epoch, kept, instances } => {
            put.u8(6);
            put.u128(cluster.0);
            put_text(&mut put, NAME, host);
            put.u64(*coordinator_epoch);
            put_kept(&mut put, kept);
            put.list(ORDERS, MAX_INSTANCES, instances, put_holding);
        }
    }
    put.done()
}

pub(super) fn decode_say(bytes: &[u8]) -> Result<Say, CodecError> {
    let mut take = Take::versioned(bytes, VERSION)?;
    let say = match take.u8()? {
        1 => Say::Denied { text: take_text(&mut take, HOW)? },
        2 => Say::Taken { number: take.u64()? },
        3 => Say::Status {
            generation: take.u64()?,
            cluster: take.cluster()?,
            host: take_text(&mut take, NAME)?,
            coordinator_epoch: take.u64()?,
            instances: take.list(ORDERS, MAX_INSTANCES, SEEN_BYTES, |take| {
                Ok(Seen {
                    dbid: Dbid(take.u16()?),
                    content: take.content()?,
                    instance: take.instance()?,
                    run: take.u64()?,
                    process: take_process(take)?,
                })
            })?,
        },
        5 => Say::Voted { body: take_body(&mut take)? },
        4 => Say::Checked {
            bad: take.list(ORDERS, MAX_INSTANCES, 4, |take| {
                Ok((Dbid(take.u16()?), take_text(take, HOW)?))
            })?,
        },
        6 => Say::Holds {
            cluster: take.cluster()?,
            host: take_text(&mut take, NAME)?,
            coordinator_epoch: take.u64()?,
            kept: take_kept(&mut take)?,
            instances: take.list(ORDERS, MAX_INSTANCES, ORDER_BYTES, take_holding)?,
        },
        found => return Err(CodecError::Kind { found }),
    };
    take.end()?;
    Ok(say)
}

pub(super) fn encode_memory(memory: &Memory) -> Result<Bytes, CodecError> {
    let mut put = Put::versioned(VERSION);
    put.u128(memory.cluster.0);
    put_text(&mut put, NAME, &memory.host);
    put.u64(memory.coordinator_epoch);
    let orders: Vec<_> = memory.orders.iter().collect();
    put.list(ORDERS, MAX_INSTANCES, &orders, |put, (dbid, order)| put_order(put, **dbid, order));
    let done: Vec<_> = memory.done.iter().collect();
    put.list(ORDERS, MAX_INSTANCES, &done, |put, (dbid, run)| {
        put.u16(dbid.0);
        put.u64(**run);
    });
    put_kept(&mut put, &memory.kept);
    put.done()
}

pub(super) fn decode_memory(bytes: &[u8]) -> Result<Memory, CodecError> {
    let mut take = Take::versioned(bytes, VERSION)?;
    let cluster = take.cluster()?;
    let host = take_text(&mut take, NAME)?;
    let coordinator_epoch = take.u64()?;
    let orders = take.list(ORDERS, MAX_INSTANCES, ORDER_BYTES, take_order)?;
    let done = take
        .list(ORDERS, MAX_INSTANCES, SETTING_BYTES, |take| Ok((Dbid(take.u16()?), take.u64()?)))?;
    let kept = if take.layout() <= SINGLE_ADDRESS_VERSION {
        Kept::default()
    } else {
        take_kept(&mut take)?
    };
    take.end()?;
    let (orders, done): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (orders.into_iter().collect(), done.into_iter().collect());
    Ok(Memory { cluster, host, coordinator_epoch, orders, done, kept })
}

#[cfg(test)]
mod tests {
    use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

    use super::*;
    use crate::catalog::tables::Wanted;

    fn remembered(voters: Vec<Vec<String>>) -> Memory {
        let order = Order {
            content: ContentId(-1),
            instance: InstanceId(7),
            log: LogId(8),
            segment_bytes: 1 << 20,
            addresses: vec!["a:1".to_owned(), "b:1".to_owned()],
            data_dir: "/d".to_owned(),
            wanted: Wanted::Up,
            run: 3,
            coordinators: vec!["a:1".to_owned()],
            voters,
            source: Vec::new(),
            max_rate_bytes: 0,
            settings: Vec::new(),
        };
        let orders = BTreeMap::from([(Dbid(1), order)]);
        Memory { cluster: ClusterId(9), host: "h1".to_owned(), orders, ..Memory::default() }
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn voters_are_remembered_with_all_of_their_addresses() {
        let memory =
            remembered(vec![vec![text("a:2"), text("b:2")], vec![text("c:2")], Vec::new()]);
        assert_eq!(decode_memory(&encode_memory(&memory).unwrap()).unwrap(), memory);
    }

    #[test]
    fn an_agent_of_the_earlier_release_had_one_address_for_each_voter() {
        // One voter at two addresses is written like a list of one, which the earlier layout did not have.
        let bytes = encode_memory(&remembered(vec![vec![text("a:2"), text("b:2")]])).unwrap();
        let list = [&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0][..], b"a:2"].concat();
        let at = bytes.windows(list.len()).position(|part| part == list).unwrap();
        // Nor did it keep anything: an epoch, a number, no bytes.
        let mut old = [&bytes[..at], &bytes[at + 4..bytes.len() - 20]].concat();
        old[0] = SINGLE_ADDRESS_VERSION;
        let expected = remembered(vec![vec![text("a:2")], vec![text("b:2")]]);
        assert_eq!(decode_memory(&old).unwrap(), expected);
        for len in 0..old.len() {
            assert!(decode_memory(&old[..len]).is_err(), "{len} bytes of it");
        }
    }
}
