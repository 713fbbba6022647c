//! A process dies between the mark of a cut in its control file and the cut.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test, which may panic")]

use outrigger_replica::control::{Control, Cut, Identity};
use outrigger_replica::reading_back::read_back;
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{DiskExt, OpId};
use outrigger_wal::recover::{Promise, Recovered, recover};
use outrigger_wal::{
    ClusterId, ContentId, CreateOptions, Epoch, InstanceId, Log, LogId, LogOptions, Lsn, Micros,
    RunningHash, create,
};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(1),
    content: ContentId(2),
    instance: InstanceId(3),
    log: LogId(4),
    segment_bytes: 1 << 20,
};

/// A log of some blocks: its disk and control file, and (end, running hash) of each block.
fn some_blocks() -> (MemoryDisk, Control, Vec<(Lsn, RunningHash)>) {
    let mut disk = MemoryDisk::new();
    let Identity { log, content, segment_bytes, .. } = IDENTITY;
    create(&mut disk, &CreateOptions { log, content, segment_bytes }).unwrap();
    let mut control = Control { identity: IDENTITY, ..Control::default() };
    let recovered = recover(&mut disk, &control.recover_options(Lsn::ZERO)).unwrap();
    let mut log = Log::new(recovered.expect("it was made"), LogOptions::default(), OpId(0));
    log.begin_epoch(Epoch { number: 1, nonce: 5 }, IDENTITY.instance).unwrap();
    let (mut bounds, mut sealed, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..6 {
        assert!(log.appender().append(&[7; 10_000]).is_ok());
        log.pump(Micros(0), &mut sealed, &mut out);
        while !out.is_empty() {
            for (op, io) in std::mem::take(&mut out) {
                let result = disk.blocking().run(io);
                assert!(log.done(Micros(0), op, &result, &mut out));
            }
        }
        bounds.push((log.durable(), log.durable_hash()));
    }
    control.durable = Promise { epoch: 1, lsn: log.durable() };
    control.epochs = log.epochs().to_vec();
    (disk, control, bounds)
}

/// Reads the log back with a cut marked, as the write of the mark left it.
fn marked(cut: Cut, commit: Lsn) -> (Recovered, Control, Lsn) {
    let (mut disk, mut control, bounds) = some_blocks();
    let (end, _) = *bounds.last().expect("there are blocks");
    control.truncating = Some(cut);
    control.durable.lsn = control.durable.lsn.min(cut.to);
    control.commit = Promise { epoch: 1, lsn: commit };
    let recovered = read_back(&mut disk, &mut control, Lsn::ZERO, Rules::all(), None).unwrap();
    (recovered.expect("the log is there"), control, end)
}

#[test]
fn a_marked_cut_is_finished() {
    let (_, _, bounds) = some_blocks();
    let (to, hash) = bounds[2];
    for hash in [Some(hash), None] {
        let (recovered, control, _) = marked(Cut { to, hash }, Lsn::ZERO);
        assert_eq!(recovered.end, to);
        assert!(recovered.cut.is_some() && control.truncating.is_some());
    }
}

#[test]
fn a_marked_cut_where_the_histories_differ_takes_nothing_away() {
    // The primary said where to go on, and its running hash there. The process died before it could see
    // that its own hash is another one: what lies behind is not what that primary spoke of.
    let (_, _, bounds) = some_blocks();
    let (to, hash) = bounds[2];
    let other = Some(RunningHash(hash.0 ^ 1));
    let (recovered, control, end) = marked(Cut { to, hash: other }, Lsn::ZERO);
    assert_eq!(recovered.end, end);
    assert!(recovered.cut.is_none() && control.truncating.is_none());
}

#[test]
fn a_marked_cut_that_cannot_be_made_does_not_keep_the_copy_from_starting() {
    // No block ends there; what is committed would go.
    let (_, _, bounds) = some_blocks();
    let inside = bounds[2].0.saturating_add(4096);
    for (to, commit) in [(inside, Lsn::ZERO), (bounds[1].0, bounds[3].0)] {
        let (recovered, control, end) = marked(Cut { to, hash: None }, commit);
        assert_eq!(recovered.end, end, "cut to {to}");
        assert!(control.truncating.is_none());
    }
}
