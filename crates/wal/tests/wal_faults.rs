//! What the running log does when the disk fails, is full, or has nothing to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod wal_support;

use outrigger_sim::disk::OpKind;
use outrigger_wal::disk::{FileId, IoFault};
use outrigger_wal::format::Kind;
use outrigger_wal::verify::blocks;
use outrigger_wal::{Error, Lsn};
use wal_support::{SEGMENT, Story};

impl Story {
    fn settle(&mut self) {
        self.step(100);
        while !self.log.is_idle() || self.log.deadline().is_some_and(|at| at <= self.now) {
            self.step(100);
        }
    }

    fn put(&mut self, len: usize) -> Result<Lsn, Error> {
        let at = self.log.appender().append(&vec![7; len])?;
        self.known.push_back(wal_support::Known { at, body: vec![7; len], batch: at.start });
        Ok(at.end)
    }
}

#[test]
fn a_failed_write_poisons_the_log_for_good() {
    for nth in 1..4 {
        let mut story = Story::new(nth);
        // The first segments are made: what fails is a write of blocks.
        story.settle();
        story.disk.fail_nth(OpKind::Write, nth);
        let durable = loop {
            let durable = story.log.durable();
            if story.put(5000).is_err() {
                break durable;
            }
            story.step(300);
        };
        let fault = story.log.poison().cloned().expect("the write failed");
        assert!(matches!(fault, IoFault::Failed { .. }), "{fault}");
        for _ in 0..50 {
            // The disk is sound again; nothing is tried again.
            story.step(1000);
            assert_eq!(story.put(10), Err(Error::Poisoned { cause: fault.clone() }));
        }
        assert!(story.log.durable() >= durable && story.log.durable() < story.log.end());
        assert_eq!(story.log.deadline(), None);
        assert_eq!(story.log.reopen(wal_support::HERE), Err(Error::Poisoned { cause: fault }));
        story.crash();
        story.fill(Lsn(100_000));
    }
}

/// The log is poisoned: nothing more is asked of the disk, and everybody is told the first error.
fn stays_poisoned(mut story: Story, of: &str) {
    let fault = story.log.poison().cloned().unwrap_or_else(|| panic!("{of}: it failed"));
    assert!(matches!(fault, IoFault::Failed { .. }), "{of}: {fault}");
    let (durable, operations) = (story.log.durable(), story.disk.operations());
    for _ in 0..50 {
        story.step(100_000);
        assert_eq!(story.put(10), Err(Error::Poisoned { cause: fault.clone() }), "{of}");
        story.delete_below(durable);
    }
    assert_eq!(story.disk.operations(), operations, "{of}: something was tried again");
    assert_eq!(story.log.deadline(), None);
    story.crash();
    story.fill(durable.saturating_add(100_000));
}

#[test]
fn an_error_while_the_next_segment_is_made_poisons_the_log_and_is_not_tried_again() {
    // The creation, the rename; the sync of the file, of the folder. A sync that has failed once says
    // nothing the next time: the second "done" would be no promise, and blocks would be written behind it.
    for (kind, nth) in [(OpKind::Name, 1), (OpKind::Name, 2), (OpKind::Sync, 1), (OpKind::Sync, 2)]
    {
        let mut story = Story::new(nth);
        story.settle();
        story.disk.fail_nth(kind, nth);
        while story.log.poison().is_none() && story.log.durable() < Lsn(4 * SEGMENT) {
            story.put(100_000).expect("nothing has failed yet");
            story.settle();
        }
        stays_poisoned(story, &format!("{kind:?} {nth}"));
    }
}

#[test]
fn an_error_while_an_old_segment_goes_poisons_the_log_and_is_not_tried_again() {
    // The removal, the sync of the folder.
    for kind in [OpKind::Name, OpKind::Sync] {
        let mut story = Story::new(7);
        story.fill(Lsn(3 * SEGMENT));
        story.settle();
        story.disk.fail_nth(kind, 1);
        story.delete_below(Lsn(2 * SEGMENT));
        while story.log.is_busy() {
            story.step(100);
        }
        stays_poisoned(story, &format!("{kind:?}"));
    }
}

#[test]
fn a_full_disk_shows_between_segments_and_writing_resumes_when_there_is_room() {
    let mut story = Story::new(1);
    story.settle();
    // Two segments are there, and there is no room for a third.
    story.disk.set_capacity(Some(story.disk.used_bytes() + SEGMENT / 2));
    let mut waiting = Lsn::ZERO;
    while waiting < Lsn(2 * SEGMENT + SEGMENT / 4) {
        waiting = story.put(50_000).expect("appends go on until too much waits");
        story.step(200);
    }
    for _ in 0..30 {
        story.step(100_000);
    }
    assert!(matches!(story.log.space_fault(), Some(IoFault::NoSpace { .. })));
    assert_eq!(story.log.poison(), None);
    // What was made of the next one takes no room from others: the store may need it to let log go.
    while story.log.is_busy() {
        story.step(100);
    }
    assert!(!story.disk.files().contains(&FileId::Prepared(0)));
    assert!(story.log.durable() <= Lsn(2 * SEGMENT) && story.log.durable() > Lsn(SEGMENT));
    // What is there can be read meanwhile.
    assert!(story.log.fetch(Lsn::ZERO, 100_000).is_ok());

    story.disk.set_capacity(None);
    story.step(1_000_000);
    story.settle();
    assert!(story.log.durable() >= waiting);
    assert_eq!(story.log.space_fault(), None);
    story.crash();
}

#[test]
fn appends_are_refused_when_too_much_waits_and_go_on_later() {
    let mut story = Story::new(3);
    story.settle();
    let full = loop {
        match story.put(60_000) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { pending, limit } if pending > limit), "{full}");
    assert!(full.is_retryable());
    story.settle();
    story.put(60_000).expect("what waited is durable");
    story.settle();
    story.crash();
}

#[test]
fn a_record_of_the_limit_fits_and_one_byte_more_is_refused() {
    let mut story = Story::new(4);
    let limit = story.log.appender().max_record_bytes();
    assert_eq!(u64::from(limit), SEGMENT / 4);
    let len = usize::try_from(limit).unwrap();
    // At each place in a segment, also where a Pad must come first.
    for _ in 0..20 {
        story.put(len).expect("the limit is allowed");
        let end = story.put(0).expect("an empty record is legal");
        let refused = story.put(len + 1).unwrap_err();
        assert_eq!(
            refused,
            Error::RecordTooLarge { found: u64::from(limit) + 1, limit: u64::from(limit) }
        );
        assert!(refused.to_string().contains("262144"), "{refused}");
        let half = vec![1; len / 2];
        let batch: [&[u8]; 3] = [&half, &half, b""];
        // The bodies alone would fit: it is said what was counted.
        let refused = story.log.appender().append_batch(&batch).unwrap_err();
        let Error::RecordTooLarge { found, limit: most } = refused else {
            panic!("expected a refusal, not: {refused}");
        };
        assert_eq!((found, most), (u64::from(limit) + 4 + 4 + 2, u64::from(limit) + 4));
        assert!(refused.to_string().contains("with its framing"), "{refused}");
        assert!(story.log.appender().append_batch(&[]).is_err());
        assert_eq!(story.log.appender().end(), end);
        story.settle();
    }
    story.crash();
    assert_eq!(story.known.len(), 40);
}

#[test]
fn a_pad_fills_a_segment_whose_rest_is_too_small() {
    let mut story = Story::new(5);
    story.fill(Lsn(3 * SEGMENT));
    story.settle();
    let found: Vec<_> = blocks(&mut story.handle, Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    let pads: Vec<_> = found.iter().filter(|block| block.kind() == Kind::Pad).collect();
    assert!(pads.len() >= 2);
    assert!(pads.iter().all(|pad| pad.end().0.is_multiple_of(SEGMENT)));
    assert!(found.iter().all(|block| {
        block.lsn().0.is_multiple_of(SEGMENT) == (block.kind() == Kind::SegmentHead)
    }));
}

/// Quiet for as long as it likes, the log seals one watermark and no more; the promise in it covers
/// the last record that was acknowledged.
#[test]
fn the_last_acknowledged_block_is_promised_once_the_log_is_quiet() {
    let mut story = Story::new(6);
    let acked = story.put(100).unwrap();
    for _ in 0..100 {
        story.step(1000);
    }
    let quiet = story.log.end();
    assert_eq!(story.log.deadline(), None);
    for _ in 0..100 {
        story.step(1000);
    }
    assert_eq!(story.log.end(), quiet, "one watermark a quiet period");
    let last = blocks(&mut story.handle, Lsn::ZERO).unwrap().last().unwrap().unwrap();
    assert_eq!(last.kind(), Kind::Watermark);
    assert!(last.durable() >= acked);

    // So a flipped bit in that record is damage, and is not cut as a torn tail.
    story.disk.kill();
    assert!(story.disk.flip_bit(FileId::Segment(0), acked.0 - 1, 3));
    let options = wal_support::recover_options(None);
    let refused = outrigger_wal::recover::recover(&mut story.disk.reopen(), &options).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
}
