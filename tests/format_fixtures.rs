//! Logs written when Format 1 was frozen are read to the byte, for ever; and what is written now is
//! what was written then.
//!
//! `v1/*.txt` says what each log holds, one line a block and one a record. A fixture that is missing
//! is written by `OUTRIGGER_WRITE_FIXTURES=1 cargo test --test format_fixtures`; one that is there
//! is never changed.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read fails the test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use outrigger_wal::format::{Block, BlockError, CleanMark, Record, RecordFlag, SegmentHead};
use outrigger_wal::{Epoch, LogId, Lsn, RunningHash};

#[path = "fixtures/encoder.rs"]
mod encoder;

type Files = BTreeMap<String, Vec<u8>>;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

/// The fixture's bytes; where it is missing and may be written, those of `make`.
fn fixture(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = path(name);
    if !path.exists() && std::env::var_os("OUTRIGGER_WRITE_FIXTURES").is_some() {
        fs::write(&path, make()).unwrap();
    }
    fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

fn small_now() -> Files {
    let payload = fixture("compressed.zst", || {
        let body = encoder::compressed_body();
        let mut plain = vec![0x80 | u8::try_from(body.len() & 0x7F).unwrap()];
        plain.push(u8::try_from(body.len() >> 7).unwrap());
        plain.push(RecordFlag::Record as u8);
        plain.extend(body);
        zstd::bulk::compress(&plain, 3).unwrap()
    });
    encoder::small(&payload)
}

fn small() -> Files {
    let name = |file: &str| format!("small/{file}");
    small_now()
        .into_iter()
        .map(|(file, now)| (file.clone(), fixture(&name(&file), || now)))
        .collect()
}

/// A log's files; its segments are stored compressed.
fn packed(folder: &str, now: Files) -> Files {
    let mut files = Files::new();
    for (file, now) in now {
        let bytes = if file == "clean" {
            fixture(&format!("{folder}/clean"), || now)
        } else {
            let name = format!("{folder}/{file}.zst");
            let packed = fixture(&name, || zstd::bulk::compress(&now, 19).unwrap());
            zstd::bulk::decompress(&packed, 64 << 20).unwrap()
        };
        files.insert(file, bytes);
    }
    files
}

fn large() -> Files {
    packed("large", encoder::large())
}

/// The two histories of the forked log.
fn fork() -> [Files; 2] {
    let [one, other] = encoder::fork();
    [packed("fork", one), packed("fork_other", other)]
}

/// The log's blocks from its start, each verified, and why there is none behind the last.
fn blocks(files: &Files, log: LogId) -> (Vec<Block>, BlockError) {
    let mut all = Vec::new();
    let (mut at, mut hash) = (Lsn::ZERO, RunningHash::default());
    for (number, bytes) in files.values().filter(|bytes| bytes.len() > 64).enumerate() {
        let bytes = Bytes::from(bytes.clone());
        let head = SegmentHead::peek(&bytes[..4096]).unwrap();
        assert_eq!((head.log, head.start), (log, at));
        assert_eq!((head.predecessor_end, head.predecessor_hash), (at, hash));
        assert_eq!(head.segment_bytes, bytes.len() as u64);
        let start = number as u64 * head.segment_bytes;
        while at.since(Lsn(start)) < head.segment_bytes {
            let from = usize::try_from(at.since(Lsn(start))).unwrap();
            let block = match Block::open(bytes.slice(from..), at, log) {
                Ok(block) => block,
                Err(why) => return (all, why),
            };
            assert_eq!(block.hash_before(), hash, "LSN {at}");
            let stored_end = from + block.stored().len();
            let padding = &bytes[stored_end..stored_end + block.padding_bytes()];
            assert!(padding.iter().all(|byte| *byte == 0), "LSN {at}");
            (at, hash) = (block.end(), block.hash_after());
            all.push(block);
        }
    }
    panic!("the log has no end");
}

fn records(blocks: &[Block]) -> Vec<Record> {
    let of = |block: &Block| block.records().unwrap().map(|record| record.unwrap());
    blocks.iter().flat_map(of).collect()
}

fn reign(epoch: Epoch) -> String {
    format!("{}-{:032x}", epoch.number, epoch.nonce)
}

/// What a control block says, as text.
fn told_control(text: &mut String, block: &Block) {
    if let Some(head) = block.segment_head_entry() {
        let (size, start, before) = (head.segment_bytes, head.start.0, head.predecessor_end.0);
        write!(text, "  log {} content {} segments {size}", head.log, head.content).unwrap();
        writeln!(text, " start {start} behind {before} {}", head.predecessor_hash).unwrap();
        for entry in head.epochs {
            let (epoch, start) = (reign(entry.epoch), entry.start.0);
            writeln!(text, "  epoch {epoch} start {start} of {}", entry.instance).unwrap();
        }
    }
    if let Some(begin) = block.epoch_begin_entry() {
        let (epoch, previous) = (reign(begin.epoch), reign(begin.previous));
        write!(text, "  epoch {epoch} of {} from {}", begin.instance, begin.from.0).unwrap();
        writeln!(text, " previous {previous}").unwrap();
    }
    if let Some(open) = block.open_entry() {
        writeln!(text, "  epoch {} of {}", reign(open.epoch), open.instance).unwrap();
    }
}

/// All that a log holds, as text.
fn told(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        let header = block.header();
        let (lsn, end, kind) = (block.lsn().0, block.end().0, block.kind());
        write!(text, "{lsn} to {end} epoch {} {kind}", block.epoch()).unwrap();
        write!(text, " true {} stored {}", header.true_len, header.stored_len).unwrap();
        write!(text, " durable {} commit {}", block.durable().0, block.commit().0).unwrap();
        write!(text, " micros {} crc {:08x}", header.sealed_micros, header.payload_crc).unwrap();
        writeln!(text, " hash {} to {}", block.hash_before(), block.hash_after()).unwrap();
        told_control(&mut text, block);
        for record in records(std::slice::from_ref(block)) {
            let (lsn, end, flag) = (record.lsn.0, record.end.0, record.flag);
            write!(text, "  {lsn} to {end} {flag:?} {} bytes", record.body.len()).unwrap();
            writeln!(text, " crc {:08x}", crc32fast::hash(&record.body)).unwrap();
        }
    }
    text
}

fn holds_what_it_held(name: &str, blocks: &[Block]) {
    let now = told(blocks);
    let then = fixture(name, || now.clone().into_bytes());
    let then = String::from_utf8(then).unwrap();
    for (number, (now, then)) in now.lines().zip(then.lines()).enumerate() {
        assert_eq!(now, then, "{name} line {}", number + 1);
    }
    assert_eq!(now.lines().count(), then.lines().count(), "{name}");
}

fn ends_as_marked(files: &Files, blocks: &[Block], log: LogId) {
    let mark = CleanMark::decode(&files["clean"]).unwrap();
    let last = blocks.last().unwrap();
    assert_eq!(mark, CleanMark { log, end: last.end(), hash: last.hash_after() });
}

#[test]
fn the_small_log_reads_as_it_was_written() {
    let files = small();
    let (blocks, end) = blocks(&files, encoder::SMALL);
    assert_eq!(end, BlockError::Stale { found: Lsn(12_288) });
    ends_as_marked(&files, &blocks, encoder::SMALL);
    holds_what_it_held("small.txt", &blocks);

    let kinds: Vec<_> = blocks.iter().map(|block| block.kind().as_str()).collect();
    let expected = "segment_head epoch_begin open data data data watermark epoch_begin data pad \
                    segment_head open data data";
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(blocks[5].header().compression, 1);
    assert_eq!(blocks[9].end(), Lsn(1 << 20));
    let epochs = blocks[10].segment_head_entry().unwrap().epochs;
    assert_eq!(epochs.iter().map(|entry| entry.epoch.number).collect::<Vec<_>>(), [1, 7]);

    let records = records(&blocks);
    let bodies: Vec<&[u8]> = records.iter().map(|record| &record.body[..]).collect();
    let pages: Vec<u8> = (0..10_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let compressed = encoder::compressed_body();
    assert_eq!(compressed.len(), 6_419);
    assert_eq!(
        bodies,
        [
            b"the first record".as_slice(),
            b"",
            &[0xDD; 200],
            b"last",
            b"one",
            b"",
            b"three",
            &compressed,
            &pages,
            b"behind a page",
            &[b'L'; 262_144],
            b"the end",
        ]
    );
    use RecordFlag::{BatchContinues, Record, Void};
    let flags: Vec<_> = records.iter().take(7).map(|record| record.flag).collect();
    assert_eq!(flags, [Record, Record, Void, Record, BatchContinues, BatchContinues, Record]);
}

#[test]
fn the_large_log_reads_as_it_was_written() {
    let files = large();
    let (blocks, end) = blocks(&files, encoder::LARGE);
    assert_eq!(end, BlockError::Zeros);
    ends_as_marked(&files, &blocks, encoder::LARGE);
    holds_what_it_held("large.txt", &blocks);

    let records = records(&blocks);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].lsn, Lsn(8192 + 96));
    assert_eq!(records[0].body.len(), 16 << 20);
    assert!(records[0].body.iter().all(|byte| *byte == 0x5A));
    assert_eq!(&records[1].body[..], b"behind 16 MiB");
}

#[test]
fn reigns_that_part_at_a_segments_start_read_as_they_were_written() {
    // Two primaries, neither of whom knew of the other, went on from the end of a full segment, and
    // took the same number. Each begins with its segment's head, which names its own reign: so the
    // histories are equal up to the fork, and no block behind it is in both.
    let fork_at = Lsn(1 << 20);
    let mut told = Vec::new();
    for (number, name) in ["fork.txt", "fork_other.txt"].into_iter().enumerate() {
        let files = &fork()[number];
        let (blocks, end) = blocks(files, encoder::FORK);
        assert_eq!(end, BlockError::Zeros);
        ends_as_marked(files, &blocks, encoder::FORK);
        holds_what_it_held(name, &blocks);

        let kinds: Vec<_> = blocks.iter().map(|block| block.kind().as_str()).collect();
        assert_eq!(
            kinds.join(" "),
            "segment_head epoch_begin data pad segment_head epoch_begin data"
        );
        let (epoch, instance) = encoder::FORKED[number];
        let head = &blocks[4];
        let begun = *head.segment_head_entry().unwrap().begins().unwrap();
        assert_eq!((begun.epoch, begun.start, begun.instance), (epoch, fork_at, instance));
        assert_eq!((head.lsn(), head.epoch()), (fork_at, epoch.number));
        let begin = blocks[5].epoch_begin_entry().unwrap();
        assert_eq!((begin.epoch, begin.from, begin.instance), (epoch, fork_at, instance));
        assert_eq!(begin.previous.number, 1);
        told.push(blocks);
    }
    for (one, other) in told[0].iter().zip(&told[1]) {
        let is_before = one.lsn() < fork_at;
        assert_eq!(one.stored() == other.stored(), is_before, "LSN {}", one.lsn());
        assert_eq!(one.hash_before() == other.hash_before(), one.lsn() <= fork_at);
    }
}

#[test]
fn what_is_written_now_is_what_was_written_then() {
    let mut logs = vec![(small_now(), small()), (encoder::large(), large())];
    logs.extend(encoder::fork().into_iter().zip(fork()));
    for (now, then) in logs {
        assert_eq!(now.len(), then.len());
        for (file, bytes) in now {
            let differs = bytes.iter().zip(&then[&file]).position(|(now, then)| now != then);
            assert_eq!(differs, None, "{file}: first byte that differs");
            assert_eq!(bytes.len(), then[&file].len(), "{file}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_fixture_block_is_detected() {
    let (blocks, _) = blocks(&small(), encoder::SMALL);
    for block in blocks.iter().filter(|block| block.stored().len() < 4096) {
        let mut bytes = block.stored().to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Block::open(Bytes::copy_from_slice(&bytes), block.lsn(), encoder::SMALL);
            assert!(read.is_err(), "LSN {} bit {bit}", block.lsn());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
