//! A segment's file that is lost, or cut short behind a copy's back.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test, which may panic")]

use outrigger_replica::control::{Control, Identity};
use outrigger_replica::member::{Event, In, Member, MemberOptions, Out};
use outrigger_replica::rules::Rules;
use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Dir, DiskExt, FileId, Io, IoDone, OpId};
use outrigger_wal::recover::{Promise, recover};
use outrigger_wal::{
    ContentId, CreateOptions, Epoch, Error, InstanceId, Log, LogId, LogOptions, Lsn, Micros, create,
};

const SEGMENT: u64 = 1 << 20;
const CONTROL: Identity = Identity {
    cluster: outrigger_wal::ClusterId(1),
    content: ContentId(2),
    instance: InstanceId(3),
    log: LogId(4),
    segment_bytes: SEGMENT,
};

/// A log that reaches into its sixth segment, and the control file of a copy that holds all of it.
fn six_segments() -> (MemoryDisk, Control) {
    let mut disk = MemoryDisk::new();
    let made = CreateOptions { log: CONTROL.log, content: CONTROL.content, segment_bytes: SEGMENT };
    create(&mut disk, &made).unwrap();
    let mut control = Control { identity: CONTROL, ..Control::default() };
    let recovered = recover(&mut disk, &control.recover_options(Lsn::ZERO)).unwrap();
    let mut log = Log::new(recovered.expect("it was made"), LogOptions::default(), OpId(0));
    log.begin_epoch(Epoch { number: 1, nonce: 5 }, CONTROL.instance).unwrap();
    let (mut sealed, mut out) = (Vec::new(), Vec::new());
    while log.durable() < Lsn(5 * SEGMENT + 100_000) {
        assert!(log.appender().append(&[7; 200_000]).is_ok());
        log.pump(Micros(0), &mut sealed, &mut out);
        while !out.is_empty() {
            for (op, io) in std::mem::take(&mut out) {
                let result = disk.blocking().run(io);
                assert!(log.done(Micros(0), op, &result, &mut out));
            }
            log.pump(Micros(0), &mut sealed, &mut out);
        }
    }
    control.durable = Promise { epoch: 1, lsn: log.durable() };
    control.epochs = log.epochs().to_vec();
    (disk, control)
}

#[test]
fn a_segment_that_the_store_still_needs_is_never_taken_for_a_recycled_one() {
    // The copies have everything below segment 5; the store's last checkpoint lies in segment 1. The
    // file of segment 3 is lost. What the copies have says nothing about what may be missing here.
    let (mut disk, mut control) = six_segments();
    control.keep = Lsn(5 * SEGMENT);
    disk.blocking().run(Io::Remove(FileId::Segment(3))).unwrap();
    let before = disk.blocking().list(Dir::Log).unwrap();

    let told = control.recover_options(Lsn(SEGMENT + 8192));
    let refused = recover(&mut disk, &told).unwrap_err();
    let Error::Damage { lsn, .. } = refused else { panic!("expected damage, not: {refused}") };
    assert_eq!(lsn, Lsn(3 * SEGMENT));
    assert_eq!(disk.blocking().list(Dir::Log).unwrap(), before, "a refusal took something away");

    // With a checkpoint behind it, nobody misses segment 3: it was recycled, and so were 0 to 2.
    let told = control.recover_options(Lsn(4 * SEGMENT));
    let recovered = recover(&mut disk, &told).unwrap().expect("the log is there");
    assert_eq!(recovered.start, Lsn(4 * SEGMENT));
}

/// A copy whose store holds nothing yet, while all of its log is committed: it reads it.
fn behind_its_log() -> (MemoryDisk, Member) {
    let (mut disk, mut control) = six_segments();
    control.commit = control.durable;
    control.create(&mut disk.blocking()).unwrap();
    let recovered = recover(&mut disk, &control.recover_options(Lsn::ZERO)).unwrap();
    let (recovered, options) = (recovered.expect("the log is there"), MemberOptions::default());
    let now = Micros(0);
    (disk, Member::new(recovered, (2, control), Lsn::ZERO, 7, Rules::all(), options, now))
}

#[test]
fn a_file_that_ends_within_the_log_fails_the_copy_and_is_not_read_for_ever() {
    // Somebody cut the first segment's file short while the copy runs: everything in it is durable,
    // so what is not there is damage. Cut to nothing, to a header, within a block, behind one.
    for len in [0, 96, 8192 + 50, 8192 + 5_000, 8192] {
        let (mut disk, mut member) = behind_its_log();
        let whole = disk.blocking().read(FileId::Segment(0), 0, len).unwrap();
        disk.blocking().run(Io::Create(FileId::Segment(0))).unwrap();
        let write = Io::Write { file: FileId::Segment(0), at: 0, parts: vec![whole], dsync: false };
        disk.blocking().run(write).unwrap();

        let mut out = Vec::new();
        member.step(Micros(1), In::Kick, &mut out);
        let mut reads = 0;
        let failed = loop {
            let asked = std::mem::take(&mut out);
            assert!(!asked.is_empty(), "{len}: the copy neither reads nor says why");
            let failed = asked.iter().find_map(|action| match action {
                Out::Event(Event::Failed { text }) => Some(text.clone()),
                _ => None,
            });
            if let Some(text) = failed {
                break text;
            }
            for action in asked {
                let Out::Io(op, io) = action else { continue };
                reads += u32::from(matches!(io, Io::Read { .. }));
                assert!(reads < 10, "{len}: the same bytes are read again and again");
                let result: Result<IoDone, _> = disk.blocking().run(io);
                member.step(Micros(1), In::Io(op, result), &mut out);
            }
        };
        assert!(failed.contains("0000000000000000.seg is damaged"), "{len}: {failed}");
        assert!(failed.contains("the file ends before the block"), "{len}: {failed}");
    }
}
