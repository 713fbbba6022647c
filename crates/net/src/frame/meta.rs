//! The meta part of a frame: the envelope, then the message's fields, in the order of their
//! declaration (`docs/replication.md` has the tables).
//!
//! Guarantees: decoding is total; each message has one encoding; bytes behind the last field are
//! refused, except in `Hello`, `Welcome` and `Refuse`, which a newer peer may have lengthened before
//! it knows our version. Not here: the head and its checksums ([`super::head`]).

use bytes::{BufMut, Bytes, BytesMut};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Lsn};

use super::fields::{MAX_TEXT_BYTES, Take, put_bytes, put_count, put_epoch, put_exact, put_text};
use crate::config::{Config, Copy, Loss, Rule, Version};
use crate::error::Error;
use crate::message::{Abilities, Envelope, History, Message, Reason, Role, Session};

/// The most entries of an epoch table that are told; older ones are left out.
pub const MAX_EPOCHS: usize = 256;
/// The most copies in a configuration.
pub const MAX_COPIES: usize = 64;
/// The most addresses of one copy.
pub const MAX_ADDRESSES: usize = 16;
/// The longest address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 255;
/// The most blocks in one `Data` frame.
pub const MAX_BLOCKS: usize = 65_536;

const EPOCH_ENTRY_BYTES: usize = 48;

macro_rules! codes {
    ($name:ident: $type:ty { $($code:literal = $variant:ident,)* }) => {
        mod $name {
            use super::*;
            pub(super) const fn code(value: $type) -> Option<u8> {
                match value { $(<$type>::$variant => Some($code),)* _ => None }
            }
            pub(super) const fn value(code: u8) -> Option<$type> {
                match code { $($code => Some(<$type>::$variant),)* _ => None }
            }
        }
    };
}

codes!(reasons: Reason {
    1 = WrongCluster, 2 = WrongContent, 3 = WrongInstance, 4 = WrongLog, 5 = NotAMember,
    6 = NoCommonVersion, 7 = UnknownFeature, 8 = NoCommonFormat, 9 = BlocksTooLarge,
    10 = StaleEpoch, 11 = ForeignNonce, 12 = StaleVersion, 13 = StaleCoordinator,
    14 = OutOfTurn, 15 = Damaged, 16 = NotReady, 17 = Denied,
});

const fn role_code(role: Role) -> u8 {
    match role {
        Role::Primary => 1,
        Role::Instance => 2,
        Role::Client => 3,
        Role::Operator => 4,
    }
}

fn take_role(take: &mut Take<'_>) -> Result<Role, Error> {
    match take.u8()? {
        1 => Ok(Role::Primary),
        2 => Ok(Role::Instance),
        3 => Ok(Role::Client),
        4 => Ok(Role::Operator),
        _ => Err(Error::Malformed { what: "an unknown role" }),
    }
}

/// The kind byte of a message.
pub(crate) const fn kind(message: &Message) -> u8 {
    match message {
        Message::Hello { .. } => HELLO,
        Message::Welcome { .. } => WELCOME,
        Message::Refuse { .. } => REFUSE,
        Message::Start { .. } => 4,
        Message::Ready { .. } => 5,
        Message::NeedsCopy { .. } => 6,
        Message::Fetch { .. } => 7,
        Message::Data { .. } => DATA,
        Message::Commit { .. } => 9,
        Message::Ack { .. } => 10,
        Message::Keepalive => 11,
        Message::ReadConfig { .. } => 12,
        Message::ConfigIs { .. } => 13,
        Message::CompareAndSwap { .. } => 14,
        Message::Swapped { .. } => 15,
        Message::Report { .. } => 16,
        Message::Request { .. } => 17,
        Message::Response { .. } => 18,
        Message::Join => 19,
        Message::Joined { .. } => 20,
        Message::HandOver { .. } => 21,
        Message::GaveUp { .. } => 22,
        Message::GiveUp { .. } => 23,
    }
}

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const DATA: u8 = 8;
/// The highest kind that is known.
pub(crate) const LAST_KIND: u8 = 23;

pub(crate) fn put_envelope(out: &mut BytesMut, envelope: &Envelope) {
    out.put_u128_le(envelope.cluster.0);
    out.put_i32_le(envelope.content.0);
    put_epoch(out, envelope.epoch);
    out.put_u64_le(envelope.coordinator_epoch);
    out.put_u64_le(envelope.version.0);
    out.put_u64_le(envelope.session.0);
}

fn take_envelope(take: &mut Take<'_>) -> Result<Envelope, Error> {
    Ok(Envelope {
        cluster: ClusterId(take.u128()?),
        content: ContentId(take.i32()?),
        epoch: take.epoch()?,
        coordinator_epoch: take.u64()?,
        version: Version(take.u64()?),
        session: Session(take.u64()?),
    })
}

pub(crate) fn put_message(out: &mut BytesMut, message: &Message) -> Result<(), Error> {
    match message {
        Message::Hello { role, from, to, log, abilities, history } => {
            out.put_u8(role_code(*role));
            out.put_u128_le(from.0);
            out.put_u128_le(to.0);
            out.put_u128_le(log.0);
            put_abilities(out, abilities);
            put_history(out, history)?;
        }
        Message::Welcome { from, protocol, abilities, history } => {
            out.put_u128_le(from.0);
            out.put_u16_le(*protocol);
            put_abilities(out, abilities);
            put_history(out, history)?;
        }
        Message::Refuse { reason, text } => {
            out.put_u8(match reason {
                Reason::Other(code) => *code,
                known => reasons::code(*known).unwrap_or(0),
            });
            put_text(out, text)?;
        }
        Message::Start { from, hash, in_sync } => {
            out.put_u64_le(from.0);
            out.put_u128_le(hash.0);
            out.put_u8(u8::from(*in_sync));
        }
        Message::Ready { at } => out.put_u64_le(at.0),
        Message::NeedsCopy { text } => put_text(out, text)?,
        Message::Fetch { from, to } => {
            out.put_u64_le(from.0);
            out.put_u64_le(to.0);
        }
        Message::Data { start, commit, keep, lens } => {
            put_data(out, *start, (*commit, *keep), lens)?
        }
        Message::Commit { commit, keep } => {
            out.put_u64_le(commit.0);
            out.put_u64_le(keep.0);
        }
        Message::Join => {}
        Message::Joined { durable } => out.put_u64_le(durable.0),
        Message::Ack { received, durable, hash, applied } => {
            out.put_u64_le(received.0);
            out.put_u64_le(durable.0);
            out.put_u128_le(hash.0);
            out.put_u64_le(applied.0);
        }
        Message::Keepalive => {}
        Message::ReadConfig { op } => out.put_u64_le(*op),
        Message::ConfigIs { op, config } => {
            out.put_u64_le(*op);
            out.put_u8(u8::from(config.is_some()));
            if let Some(config) = config {
                put_config(out, config)?;
            }
        }
        Message::CompareAndSwap { op, seen, new } => {
            out.put_u64_le(*op);
            out.put_u64_le(seen.0);
            put_config(out, new)?;
        }
        Message::Swapped { op, won, current } => {
            out.put_u64_le(*op);
            out.put_u8(u8::from(*won));
            put_config(out, current)?;
        }
        Message::Report { durable, commit, applied, cut } => {
            out.put_u64_le(durable.0);
            out.put_u64_le(commit.0);
            out.put_u64_le(applied.0);
            out.put_u8(u8::from(cut.is_some()));
            if let Some(cut) = cut {
                out.put_u64_le(cut.0);
            }
        }
        Message::HandOver { to, at_most_millis } | Message::GiveUp { to, at_most_millis } => {
            out.put_u128_le(to.0);
            out.put_u64_le(*at_most_millis);
        }
        Message::GaveUp { epoch, at } => {
            put_epoch(out, *epoch);
            out.put_u64_le(at.0);
        }
        Message::Request { op, body } | Message::Response { op, body } => {
            out.put_u64_le(*op);
            put_bytes(out, "a request or response", body)?;
        }
    }
    Ok(())
}

/// Decodes a checksummed meta part. `body_len` is the body that the head announces.
pub(crate) fn take_meta(kind: u8, meta: &[u8]) -> Result<(Envelope, Message), Error> {
    let mut take = Take::new(meta);
    let envelope = take_envelope(&mut take)?;
    let message = take_message(kind, &mut take)?;
    if kind > REFUSE {
        take.end()?;
    }
    Ok((envelope, message))
}

fn take_message(kind: u8, take: &mut Take<'_>) -> Result<Message, Error> {
    Ok(match kind {
        HELLO => Message::Hello {
            role: take_role(take)?,
            from: take.instance()?,
            to: take.instance()?,
            log: take.log()?,
            abilities: take_abilities(take)?,
            history: take_history(take)?,
        },
        WELCOME => Message::Welcome {
            from: take.instance()?,
            protocol: take.u16()?,
            abilities: take_abilities(take)?,
            history: take_history(take)?,
        },
        REFUSE => {
            let code = take.u8()?;
            Message::Refuse {
                reason: reasons::value(code).unwrap_or(Reason::Other(code)),
                text: take.text("a text", MAX_TEXT_BYTES)?,
            }
        }
        4 => Message::Start { from: take.lsn()?, hash: take.hash()?, in_sync: take.flag()? },
        5 => Message::Ready { at: take.lsn()? },
        6 => Message::NeedsCopy { text: take.text("a text", MAX_TEXT_BYTES)? },
        7 => Message::Fetch { from: take.lsn()?, to: take.lsn()? },
        DATA => take_data(take)?,
        9 => Message::Commit { commit: take.lsn()?, keep: take.lsn()? },
        10 => Message::Ack {
            received: take.lsn()?,
            durable: take.lsn()?,
            hash: take.hash()?,
            applied: take.lsn()?,
        },
        11 => Message::Keepalive,
        12 => Message::ReadConfig { op: take.u64()? },
        13 => Message::ConfigIs {
            op: take.u64()?,
            config: if take.flag()? { Some(take_config(take)?) } else { None },
        },
        14 => Message::CompareAndSwap {
            op: take.u64()?,
            seen: Version(take.u64()?),
            new: take_config(take)?,
        },
        15 => Message::Swapped { op: take.u64()?, won: take.flag()?, current: take_config(take)? },
        16 => Message::Report {
            durable: take.lsn()?,
            commit: take.lsn()?,
            applied: take.lsn()?,
            cut: if take.flag()? { Some(take.lsn()?) } else { None },
        },
        17 => Message::Request { op: take.u64()?, body: take.bytes()? },
        18 => Message::Response { op: take.u64()?, body: take.bytes()? },
        19 => Message::Join,
        20 => Message::Joined { durable: take.lsn()? },
        21 => Message::HandOver { to: take.instance()?, at_most_millis: take.u64()? },
        22 => Message::GaveUp { epoch: take.epoch()?, at: take.lsn()? },
        23 => Message::GiveUp { to: take.instance()?, at_most_millis: take.u64()? },
        kind => return Err(Error::UnknownKind { kind }),
    })
}

fn put_data(
    out: &mut BytesMut,
    start: Lsn,
    (commit, keep): (Lsn, Lsn),
    lens: &[(u32, u32)],
) -> Result<(), Error> {
    out.put_u64_le(start.0);
    out.put_u64_le(commit.0);
    out.put_u64_le(keep.0);
    let too_long = || Error::TooLong {
        what: "the number of blocks in a frame",
        len: super::fields::wide(lens.len()),
        cap: super::fields::wide(MAX_BLOCKS),
    };
    if lens.len() > MAX_BLOCKS {
        return Err(too_long());
    }
    out.put_u32_le(u32::try_from(lens.len()).map_err(|_| too_long())?);
    for (true_len, stored_len) in lens {
        out.put_u32_le(*true_len);
        out.put_u32_le(*stored_len);
    }
    Ok(())
}

fn take_data(take: &mut Take<'_>) -> Result<Message, Error> {
    let start = take.lsn()?;
    let commit = take.lsn()?;
    let keep = take.lsn()?;
    let count = usize::try_from(take.u32()?).unwrap_or(usize::MAX);
    let count = take.count("the number of blocks in a frame", count, MAX_BLOCKS, 8)?;
    let mut lens = Vec::with_capacity(count);
    for _ in 0..count {
        lens.push((take.u32()?, take.u32()?));
    }
    Ok(Message::Data { start, commit, keep, lens })
}

fn put_abilities(out: &mut BytesMut, abilities: &Abilities) {
    out.put_u16_le(abilities.protocols.0);
    out.put_u16_le(abilities.protocols.1);
    out.put_u64_le(abilities.required_features);
    out.put_u64_le(abilities.optional_features);
    out.put_u16_le(abilities.block_formats.0);
    out.put_u16_le(abilities.block_formats.1);
    out.put_u32_le(abilities.max_block_bytes);
}

fn take_abilities(take: &mut Take<'_>) -> Result<Abilities, Error> {
    Ok(Abilities {
        protocols: (take.u16()?, take.u16()?),
        required_features: take.u64()?,
        optional_features: take.u64()?,
        block_formats: (take.u16()?, take.u16()?),
        max_block_bytes: take.u32()?,
    })
}

fn put_history(out: &mut BytesMut, history: &History) -> Result<(), Error> {
    out.put_u64_le(history.start.0);
    out.put_u64_le(history.end.0);
    out.put_u128_le(history.hash.0);
    out.put_u64_le(history.commit.0);
    out.put_u64_le(history.floor.0);
    let newest = history.epochs.len().saturating_sub(MAX_EPOCHS);
    let epochs = history.epochs.get(newest..).unwrap_or_default();
    put_count(out, "an epoch table", epochs.len(), MAX_EPOCHS)?;
    for entry in epochs {
        entry.put(out);
    }
    Ok(())
}

fn take_history(take: &mut Take<'_>) -> Result<History, Error> {
    let mut history = History {
        epochs: Vec::new(),
        start: take.lsn()?,
        end: take.lsn()?,
        hash: take.hash()?,
        commit: take.lsn()?,
        floor: take.lsn()?,
    };
    let count = usize::from(take.u16()?);
    let count = take.count("an epoch table", count, MAX_EPOCHS, EPOCH_ENTRY_BYTES)?;
    history.epochs.reserve_exact(count);
    for _ in 0..count {
        history.epochs.push(take.epoch_entry()?);
    }
    Ok(history)
}

/// The bytes of a configuration, as they are in messages: for whoever keeps one.
///
/// # Errors
/// [`Error::TooLong`] when it has more copies or addresses than a message may.
pub fn encode_config(config: &Config) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(256);
    put_config(&mut out, config)?;
    Ok(out.freeze())
}

/// The configuration in these bytes.
///
/// # Errors
/// [`Error::Malformed`] when they are none.
pub fn decode_config(bytes: &[u8]) -> Result<Config, Error> {
    let mut take = Take::new(bytes);
    let config = take_config(&mut take)?;
    take.end()?;
    Ok(config)
}

fn put_config(out: &mut BytesMut, config: &Config) -> Result<(), Error> {
    out.put_u64_le(config.version.0);
    put_epoch(out, config.epoch);
    out.put_u128_le(config.primary.0);
    out.put_u8(match config.rule {
        Rule::All => 1,
    });
    out.put_u8(u8::from(config.loss.is_some()));
    if let Some(loss) = config.loss {
        out.put_u128_le(loss.instance.0);
        out.put_u64_le(loss.epoch);
        out.put_u64_le(loss.end.0);
    }
    put_count(out, "the number of copies", config.copies.len(), MAX_COPIES)?;
    for copy in &config.copies {
        out.put_u128_le(copy.instance.0);
        out.put_u8(u8::from(copy.in_sync));
        out.put_u8(u8::from(copy.held));
        out.put_u64_le(copy.durable.epoch);
        out.put_u64_le(copy.durable.lsn.0);
        put_count(out, "the number of addresses", copy.addresses.len(), MAX_ADDRESSES)?;
        for address in &copy.addresses {
            put_exact(out, "an address", address, MAX_ADDRESS_BYTES)?;
        }
    }
    Ok(())
}

fn take_config(take: &mut Take<'_>) -> Result<Config, Error> {
    let version = Version(take.u64()?);
    let epoch = take.epoch()?;
    let primary = take.instance()?;
    if take.u8()? != 1 {
        return Err(Error::Malformed { what: "an unknown rule" });
    }
    let loss = if take.flag()? {
        Some(Loss { instance: take.instance()?, epoch: take.u64()?, end: take.lsn()? })
    } else {
        None
    };
    let count = usize::from(take.u16()?);
    let count = take.count("the number of copies", count, MAX_COPIES, 36)?;
    let mut copies = Vec::with_capacity(count);
    for _ in 0..count {
        let instance = take.instance()?;
        let in_sync = take.flag()?;
        let held = take.flag()?;
        let durable = Promise { epoch: take.u64()?, lsn: take.lsn()? };
        let count = usize::from(take.u16()?);
        let count = take.count("the number of addresses", count, MAX_ADDRESSES, 2)?;
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            addresses.push(take.text("an address", MAX_ADDRESS_BYTES)?);
        }
        copies.push(Copy { instance, addresses, in_sync, held, durable });
    }
    Ok(Config { version, epoch, primary, copies, rule: Rule::All, loss })
}
