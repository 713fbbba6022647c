//! What a running log says it holds in memory for the disk.

use outrigger_wal::disk::memory::MemoryDisk;
use outrigger_wal::disk::{Disk, FileId, Io, OpId};
use outrigger_wal::recover::{RecoverOptions, recover};
use outrigger_wal::{
    ContentId, CreateOptions, Epoch, InstanceId, Log, LogId, LogOptions, Micros, create,
};

/// A disk that is slow, and records of which the last one does not fit before the segment's end: the log
/// space between is padded, and takes no memory. What is held is what is stored, and it is nothing once all
/// is durable.
#[test]
fn what_waits_for_the_disk_is_counted_in_stored_bytes() {
    let mut disk = MemoryDisk::new();
    let (log, content, segment_bytes) = (LogId(7), ContentId(0), 1 << 20);
    create(&mut disk, &CreateOptions { log, content, segment_bytes }).unwrap();
    let options = RecoverOptions {
        log: Some(log),
        content: Some(content),
        segment_bytes: Some(segment_bytes),
        ..RecoverOptions::default()
    };
    let recovered = recover(&mut disk, &options).unwrap().unwrap();
    let mut log = Log::new(recovered, LogOptions::default(), OpId(0));
    let (mut blocks, mut ios, mut held) = (Vec::new(), Vec::new(), Vec::new());
    log.begin_epoch(Epoch { number: 1, nonce: 1 }, InstanceId(1)).unwrap();
    for _ in 0..5 {
        assert!(log.appender().append_batch(&[&[7; 230_000]]).is_ok());
    }
    let (mut stored, mut padded) = (0, false);
    for now in 0..200 {
        log.pump(Micros(now), &mut blocks, &mut ios);
        stored += blocks.drain(..).map(|block| block.stored().len() as u64).sum::<u64>();
        assert_eq!(log.unwritten_bytes(), stored);
        padded |= log.end().since(log.durable()) > stored + 100_000;
        for (op, io) in ios.drain(..) {
            // Everything but the blocks themselves: the next segment is made.
            if matches!(io, Io::Write { file: FileId::Segment(_), .. }) {
                held.push((op, io));
            } else {
                disk.submit(op, io);
            }
        }
        let mut done = Vec::new();
        disk.reap(None, &mut done);
        for (op, result) in done.drain(..) {
            log.done(Micros(now), op, &result, &mut ios);
        }
        // Block by block, with two writes in flight: let one go now and then.
        if now > 100 && !held.is_empty() {
            let (op, io) = held.remove(0);
            disk.submit(op, io);
            disk.reap(None, &mut done);
            let before = log.unwritten_bytes();
            for (op, result) in done.drain(..) {
                log.done(Micros(now), op, &result, &mut ios);
            }
            stored -= before - log.unwritten_bytes();
        }
    }
    assert!(padded, "log space and stored bytes never differed");
    assert_eq!((log.durable(), log.unwritten_bytes()), (log.end(), 0));
}
