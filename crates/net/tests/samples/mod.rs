//! One frame of each kind, with every field set to something else.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use outrigger_net::config::{Config, Copy, Loss, Rule, Version};
use outrigger_net::frame::encode;
use outrigger_net::message::{Abilities, Envelope, History, Message, Reason, Role, Session};
use outrigger_wal::format::{Block, BlockBuilder, EpochEntry, RecordFlag, Seal};
use outrigger_wal::recover::Promise;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, PAGE_BYTES, RunningHash};

pub(crate) const LOG: LogId = LogId(0x0123_4567_89AB_CDEF);
pub(crate) const MAX_BLOCK_BYTES: u32 = 1024 * 1024;

pub(crate) fn envelope() -> Envelope {
    Envelope {
        cluster: ClusterId(0xC1),
        content: ContentId(-1),
        epoch: Epoch { number: 3, nonce: u128::MAX - 1 },
        coordinator_epoch: 9,
        version: Version(12),
        session: Session(0x5E55),
    }
}

pub(crate) fn abilities() -> Abilities {
    Abilities {
        protocols: (1, 2),
        required_features: 1,
        optional_features: 6,
        block_formats: (1, 1),
        max_block_bytes: MAX_BLOCK_BYTES,
    }
}

pub(crate) fn history(epochs: u64) -> History {
    let entry = |n: u64| EpochEntry {
        epoch: Epoch { number: n, nonce: u128::from(n) << 64 },
        start: Lsn(n * PAGE_BYTES),
        instance: InstanceId(u128::from(n % 3)),
    };
    History {
        epochs: (1..=epochs).map(entry).collect(),
        start: Lsn(4096),
        end: Lsn((epochs + 1) * PAGE_BYTES),
        hash: RunningHash(77),
        commit: Lsn(8192),
        floor: Lsn(8192),
    }
}

pub(crate) fn hello(epochs: u64) -> Message {
    Message::Hello {
        role: Role::Primary,
        from: InstanceId(1),
        to: InstanceId(2),
        log: LOG,
        abilities: abilities(),
        history: history(epochs),
    }
}

pub(crate) fn config() -> Config {
    let copy = |n: u8| Copy {
        instance: InstanceId(n.into()),
        addresses: vec![format!("host{n}:7000"), String::new()],
        in_sync: n == 1,
        held: n == 2,
        durable: Promise { epoch: 2, lsn: Lsn(4096 * u64::from(n)) },
    };
    Config {
        version: Version(12),
        epoch: Epoch { number: 3, nonce: 5 },
        primary: InstanceId(1),
        copies: vec![copy(1), copy(2)],
        rule: Rule::All,
        loss: Some(Loss { instance: InstanceId(1), epoch: 3, end: Lsn(20480) }),
    }
}

/// Sealed blocks, one behind the other from `start`.
pub(crate) fn blocks(start: Lsn, sizes: &[usize]) -> Vec<Block> {
    let mut seal = Seal {
        log: LOG,
        lsn: start,
        epoch: 3,
        hash_before: RunningHash(1),
        durable: Lsn::ZERO,
        commit: Lsn::ZERO,
        sealed_micros: 0,
    };
    let mut blocks = Vec::new();
    for size in sizes {
        let mut open = BlockBuilder::new();
        open.push(&vec![b'r'; *size], RecordFlag::Record);
        let block = open.seal(&seal);
        (seal.lsn, seal.hash_before) = (block.end(), block.hash_after());
        blocks.push(block);
    }
    blocks
}

pub(crate) fn data(start: Lsn, blocks: &[Block]) -> (Message, Vec<Bytes>) {
    let lens = blocks.iter().map(|b| (b.header().true_len, b.header().stored_len)).collect();
    let body = blocks.iter().map(|b| b.stored().clone()).collect();
    (Message::Data { start, commit: Lsn(4096), keep: Lsn(8), lens }, body)
}

/// Each kind by name, with the blocks behind it.
pub(crate) fn all() -> Vec<(&'static str, Message, Vec<Bytes>)> {
    let (data, body) = data(Lsn(8192), &blocks(Lsn(8192), &[10, 5000, 0]));
    let plain = |name, message| (name, message, Vec::new());
    vec![
        plain("hello", hello(3)),
        plain(
            "welcome",
            Message::Welcome {
                from: InstanceId(2),
                protocol: 2,
                abilities: abilities(),
                history: History::default(),
            },
        ),
        plain("refuse", Message::Refuse { reason: Reason::Damaged, text: "caf\u{e9}".into() }),
        plain("refuse_other", Message::Refuse { reason: Reason::Other(200), text: String::new() }),
        plain(
            "start",
            Message::Start { from: Lsn(4096), hash: RunningHash(u128::MAX), in_sync: true },
        ),
        plain("ready", Message::Ready { at: Lsn(4096) }),
        plain("needs_copy", Message::NeedsCopy { text: "too old".into() }),
        plain("fetch", Message::Fetch { from: Lsn(4096), to: Lsn(u64::MAX) }),
        ("data", data, body),
        plain(
            "data_none",
            Message::Data { start: Lsn(0), commit: Lsn(0), keep: Lsn(0), lens: Vec::new() },
        ),
        plain("commit", Message::Commit { commit: Lsn(12288), keep: Lsn(0) }),
        plain(
            "ack",
            Message::Ack {
                received: Lsn(12288),
                durable: Lsn(8192),
                hash: RunningHash(2),
                applied: Lsn(4096),
            },
        ),
        plain("keepalive", Message::Keepalive),
        plain("read_config", Message::ReadConfig { op: 1 }),
        plain("config_is", Message::ConfigIs { op: 0, config: Some(config()) }),
        plain("config_unknown", Message::ConfigIs { op: 1, config: None }),
        plain(
            "compare_and_swap",
            Message::CompareAndSwap { op: 2, seen: Version(11), new: config() },
        ),
        plain("swapped", Message::Swapped { op: 2, won: true, current: config() }),
        plain(
            "report",
            Message::Report { durable: Lsn(1), commit: Lsn(2), applied: Lsn(3), cut: None },
        ),
        plain(
            "report_cut",
            Message::Report { durable: Lsn(1), commit: Lsn(2), applied: Lsn(3), cut: Some(Lsn(4)) },
        ),
        plain("join", Message::Join),
        plain("joined", Message::Joined { durable: Lsn(8192) }),
        plain("hand_over", Message::HandOver { to: InstanceId(2), at_most_millis: 1_000 }),
        plain("gave_up", Message::GaveUp { epoch: Epoch { number: 3, nonce: 5 }, at: Lsn(20480) }),
        plain("give_up", Message::GiveUp { to: InstanceId(2), at_most_millis: 1_000 }),
        plain("request", Message::Request { op: 5, body: Bytes::from_static(b"get k") }),
        plain("response", Message::Response { op: 5, body: Bytes::new() }),
    ]
}

/// A frame as it travels.
pub(crate) fn on_wire(message: &Message, body: &[Bytes]) -> Vec<u8> {
    let mut bytes = encode(&envelope(), message).unwrap().to_vec();
    body.iter().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}
