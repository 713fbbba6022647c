//! What can only be tried from inside: a disk that fails under a handle.

use crate::disk::{Io, IoFault};
use crate::{Error, Lsn, Wal, WalOptions};

#[test]
fn a_poisoned_log_fails_every_waiter_and_every_later_caller() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
    let wal = Wal::open(dir.path(), &options).expect("a new log");
    let (mut reader, mut durable) = (wal.reader(Lsn::ZERO).expect("a reader"), wal.subscribe());
    let cause =
        IoFault::Failed { file: "it".to_owned(), operation: "write", cause: "broken".to_owned() };
    let poisoned = Error::Poisoned { cause: cause.clone() };

    let end = {
        let mut core = wal.shared().core.lock();
        let log = &mut core.as_mut().expect("it is open").log;
        let end = log.appender().append(b"lost").expect("it is sound").end;
        let (now, mut sealed, mut out) = (crate::Micros(0), Vec::new(), Vec::new());
        while log.end() < end {
            // The writes go nowhere, and this one fails.
            log.pump(now, &mut sealed, &mut out);
            let (op, _) = out.iter().rfind(|(_, io)| matches!(io, Io::Write { .. })).expect("one");
            let _is_ours = log.done(now, *op, &Err(cause.clone()), &mut Vec::new());
        }
        end
    };
    let waiting = wal.wait_durable(end);
    wal.shared().drive();
    assert_eq!(waiting.blocking(), Err(poisoned.clone()));
    assert_eq!(wal.append(b"more"), Err(poisoned.clone()));
    assert_eq!(reader.next_blocking().map(|record| record.lsn), Err(poisoned.clone()));
    while let Ok(at) = durable.next_blocking() {
        assert!(at < end);
    }
    assert_eq!(wal.close(), Err(poisoned));
    assert_eq!(
        wal.append(b"more").map_err(|error| matches!(error, Error::Poisoned { .. })),
        Err(true)
    );
    assert!(!dir.path().join("clean").exists());
}
