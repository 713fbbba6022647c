//! Which block continues a log: what a copy takes from its primary is what recovery takes from a disk.
#![expect(clippy::unwrap_used, reason = "helpers of a test, which may panic")]

mod support;

use outrigger_wal::disk::OpId;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::format::{Block, EpochBegin, Seal, SegmentHead};
use outrigger_wal::recover::{Promises, recover};
use outrigger_wal::{ContentId, Epoch, Error, InstanceId, Log, LogOptions, Lsn, Micros};
use support::*;

/// A log's blocks so far, the block that comes next, and whether it continues them.
type Case = (&'static str, Sealer, Block, bool);

fn head_of(log: &Sealer) -> SegmentHead {
    SegmentHead {
        log: LOG,
        content: CONTENT,
        segment_bytes: SEGMENT,
        start: log.at,
        predecessor_end: log.at,
        predecessor_hash: log.hash,
        epochs: log.epochs.clone(),
    }
}

/// A reign's first block behind `log`; the reign before it, as it says, is `previous`.
fn begin(log: &Sealer, number: u64, previous: u64) -> Block {
    let epoch = Epoch { number, nonce: 9 };
    let previous = Epoch { number: previous, nonce: 8 };
    let begin = EpochBegin { epoch, instance: THERE, from: log.at, previous };
    Block::epoch_begin(&begin, &Seal { epoch: number, ..log.seal() })
}

fn within_a_segment() -> Vec<Case> {
    let mut log = Sealer::begun_by(THERE);
    log.data(5_000);
    log.promise_all();
    let seal = log.seal();
    let beyond = log.at.saturating_add(4096);
    let watermark = |seal: Seal| Block::watermark(&seal);
    let other_hash = outrigger_wal::RunningHash(7);
    let crossing = u32::try_from(log.room() + 4096).unwrap();
    let cases = [
        ("the next block", watermark(seal), true),
        ("a block of another place", watermark(Seal { lsn: beyond, ..seal }), false),
        ("another history", watermark(Seal { hash_before: other_hash, ..seal }), false),
        ("another epoch", watermark(Seal { epoch: 2, ..seal }), false),
        ("a durable LSN behind its own", watermark(Seal { durable: beyond, ..seal }), false),
        ("a commit LSN behind its own", watermark(Seal { commit: beyond, ..seal }), false),
        ("a pad to the segment's end", Block::pad(crossing - 4096, &seal), true),
        ("a pad beyond it", Block::pad(crossing, &seal), false),
        ("a stray head", Block::segment_head(&head_of(&log), &seal), false),
        ("the next reign", begin(&log, 2, 1), true),
        ("a later reign", begin(&log, 5, 1), true),
        ("the same reign again", begin(&log, 1, 0), false),
        ("a reign behind one that is not here", begin(&log, 5, 4), false),
    ];
    cases.into_iter().map(|(name, block, fits)| (name, log.clone(), block, fits)).collect()
}

fn at_a_segments_start() -> Vec<Case> {
    let mut log = Sealer::begun_by(THERE);
    log.pad();
    let head = head_of(&log);
    let next = Epoch { number: 2, nonce: 9 };
    let entry = outrigger_wal::format::EpochEntry { epoch: next, start: log.at, instance: THERE };
    let begun = SegmentHead { epochs: [log.epochs.clone(), vec![entry]].concat(), ..head.clone() };
    let sealed =
        |head: SegmentHead, epoch| Block::segment_head(&head, &Seal { epoch, ..log.seal() });
    let other_start = SegmentHead { predecessor_end: Lsn(SEGMENT / 2), ..head.clone() };
    let other_hash =
        SegmentHead { predecessor_hash: outrigger_wal::RunningHash(7), ..head.clone() };
    let cases = [
        ("a segment's head", sealed(head.clone(), 1), true),
        ("no head", Block::watermark(&log.seal()), false),
        (
            "another content",
            sealed(SegmentHead { content: ContentId(9), ..head.clone() }, 1),
            false,
        ),
        (
            "another size",
            sealed(SegmentHead { segment_bytes: SEGMENT / 2, ..head.clone() }, 1),
            false,
        ),
        ("another end before it", sealed(other_start, 1), false),
        ("another hash before it", sealed(other_hash, 1), false),
        ("a head that begins a reign", sealed(begun.clone(), 2), true),
        ("a head of a reign that it does not begin", sealed(head, 2), false),
        ("a head that begins another reign than its own", sealed(begun.clone(), 3), false),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(name, block, fits)| (name, log.clone(), block, fits)).collect();

    // Behind a head that begins a reign: its EpochBegin, of the same reign and primary.
    let mut behind = log.clone();
    behind.epoch = next;
    behind.push(sealed(begun, 2));
    for (name, nonce, instance, fits) in [
        ("the reign that its head began", 9, THERE, true),
        ("another reign than its head began", 8, THERE, false),
        ("another primary than its head named", 9, HERE, false),
    ] {
        let epoch = Epoch { number: 2, nonce };
        let begin = EpochBegin { epoch, instance, from: log.at, previous: log.epoch };
        let block = Block::epoch_begin(&begin, &behind.seal());
        cases.push((name, behind.clone(), block, fits));
    }
    cases
}

#[test]
fn a_copy_takes_from_its_primary_what_recovery_takes_from_a_disk_and_nothing_else() {
    // A block that a copy takes and makes durable, and that recovery then refuses, would be damage on
    // that copy at its next start, for good: so there is one rule, and each case is put to both.
    for (name, log, block, fits) in within_a_segment().into_iter().chain(at_a_segments_start()) {
        let known = options(HERE, Promises::default());
        let mut disk = MemoryDisk::new();
        log.write(&mut disk);
        let recovered = recover(&mut disk, &known).unwrap().unwrap();
        assert_eq!(recovered.end, log.at, "{name}");
        let mut copy = Log::new(recovered, LogOptions::default(), OpId(0));
        let received = copy.receive(Micros(0), block.clone());
        assert_eq!(received.is_ok(), fits, "{name}: {received:?}");
        if let Err(error) = received {
            assert!(matches!(error, Error::OutOfOrder { .. }), "{name}: {error}");
            assert_eq!((copy.end(), copy.hash()), (log.at, log.hash), "{name}");
        }

        write_block(&mut disk, &block);
        let found = recover(&mut disk, &known).unwrap().unwrap();
        let end = if fits { block.end() } else { log.at };
        assert_eq!(found.end, end, "{name}, on a disk");
        if fits {
            assert_eq!((copy.end(), copy.hash()), (found.end, found.hash), "{name}");
            assert_eq!((copy.epochs(), copy.epoch().number), (&*found.epochs, block.epoch()));
        }
    }
}

#[test]
fn what_is_sealed_promises_nothing_behind_itself() {
    // A copy that was told of commits behind its own end, and is made primary all the same (an
    // accepted loss): its first block must not promise them, or it would be no block.
    let mut log = Sealer::begun_by(THERE);
    log.data(5_000);
    let mut disk = MemoryDisk::new();
    log.write(&mut disk);
    let mut control = log.control();
    control.commit = promise(1, log.at.saturating_add(100_000));
    let recovered = recover(&mut disk, &options(HERE, control)).unwrap().unwrap();
    assert!(recovered.commit > recovered.end);
    let mut copy = Log::new(recovered, LogOptions::default(), OpId(0));
    copy.begin_epoch(Epoch { number: 2, nonce: 2 }, InstanceId(1)).unwrap();
    let (mut sealed, mut out) = (Vec::new(), Vec::new());
    copy.pump(Micros(0), &mut sealed, &mut out);
    for block in &sealed {
        assert!(Block::open(block.stored().clone(), block.lsn(), LOG).is_ok());
        assert_eq!((block.durable(), block.commit()), (log.at, block.lsn()));
    }
    assert_eq!(sealed.len(), 1);
}
