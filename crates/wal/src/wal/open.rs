//! Opening a log: locked, recovered or made, and ready for appends.
//!
//! Guarantees: the mark of a clean close is gone, durably, before anything is written; a log that is
//! there has a durable head, so it always says whose it is. Not here: recovery itself.

use std::path::Path;
use std::sync::{Arc, Weak};

use super::WalOptions;
use super::driver::{Core, Shared};
use super::timer::Timer;
use crate::create::{CreateOptions, create_with};
use crate::disk::lock::{DirLock, LockError};
use crate::disk::plain::{PlainDisk, PlainOptions};
use crate::disk::{Disk, DiskExt, FileId, IoFault, OpId};
use crate::error::Error;
use crate::format::{Block, EpochBegin, EpochEntry, Seal, SegmentHead};
use crate::index::BlockIndex;
use crate::log::{Log, LogOptions};
use crate::lsn::{Epoch, LogId, Lsn, PAGE_BYTES, RunningHash};
use crate::recover::{RecoverOptions, Recovered, recover};

/// The lone log's folder, taken and open.
pub(super) struct Opened {
    pub(super) disk: PlainDisk,
    pub(super) lock: DirLock,
    pub(super) recovered: Recovered,
}

/// Takes the folder and recovers the log in it, or makes one.
pub(super) fn open(dir: &Path, options: &WalOptions) -> Result<Opened, Error> {
    let plain =
        PlainOptions { threads: options.threads, create: options.create, ..PlainOptions::new(dir) };
    let mut disk = match PlainDisk::open(plain) {
        Err(IoFault::NotFound { .. }) => {
            return Err(Error::NoLog { folder: dir.display().to_string() });
        }
        opened => opened?,
    };
    let lock = DirLock::acquire(dir).map_err(locked)?;
    let recovered = match recover(&mut disk, &recover_options(options, None))? {
        Some(recovered) => recovered,
        None if options.create => found(&mut disk, options)?,
        None => return Err(Error::NoLog { folder: dir.display().to_string() }),
    };
    Ok(Opened { disk, lock, recovered })
}

pub(super) fn recover_options(options: &WalOptions, cut: Option<Lsn>) -> RecoverOptions {
    RecoverOptions {
        content: Some(options.content),
        instance: options.instance,
        cut,
        ..RecoverOptions::default()
    }
}

/// Opens what was recovered for append: with an `Open` behind its end.
pub(super) fn start(opened: Opened, options: &WalOptions) -> Result<Arc<Shared>, Error> {
    let Opened { mut disk, lock, recovered } = opened;
    // ORDER: the mark says where the log ends; it goes before the first byte behind that is written.
    disk.blocking().remove(FileId::CleanMark)?;
    let options_alone = LogOptions { alone: true, ..options.log.clone() };
    let mut log = Log::new(recovered, options_alone, OpId(0));
    log.reopen(options.instance)?;
    let timer = Timer::new();
    let hooked = disk.clone();
    let shared = Arc::new(Shared::new(Core::new(log, disk, lock), Arc::clone(&timer)));
    let weak = Arc::downgrade(&shared);
    let on_done = Weak::clone(&weak);
    hooked.set_on_done(Arc::new(move || {
        if let Some(shared) = on_done.upgrade() {
            shared.drive();
        }
    }));
    timer.start(move || match weak.upgrade() {
        Some(shared) => {
            shared.drive();
            true
        }
        None => false,
    })?;
    shared.drive();
    Ok(shared)
}

/// Makes a log whose first segment says, as soon as it has its name, whose it is.
fn found(disk: &mut dyn Disk, options: &WalOptions) -> Result<Recovered, Error> {
    let log = LogId(random()?);
    let epoch = Epoch { number: 1, nonce: random()? };
    let entry = EpochEntry { epoch, start: Lsn::ZERO, instance: options.instance };
    let (content, segment_bytes) = (options.content, options.segment_bytes);
    let seal = |lsn, hash_before| Seal {
        log,
        lsn,
        epoch: epoch.number,
        hash_before,
        durable: Lsn::ZERO,
        commit: Lsn::ZERO,
        sealed_micros: 0,
    };
    let head = SegmentHead {
        log,
        content,
        segment_bytes,
        start: Lsn::ZERO,
        predecessor_end: Lsn::ZERO,
        predecessor_hash: RunningHash::default(),
        epochs: vec![entry],
    };
    let begin =
        EpochBegin { epoch, instance: options.instance, from: Lsn::ZERO, previous: Epoch::NONE };
    let head = Block::segment_head(&head, &seal(Lsn::ZERO, RunningHash::default()));
    let begin = Block::epoch_begin(&begin, &seal(Lsn(PAGE_BYTES), head.hash_after()));
    let (end, hash) = (begin.end(), begin.hash_after());
    create_with(disk, &CreateOptions { log, content, segment_bytes }, &[head, begin])?;
    let mut index = BlockIndex::default();
    index.insert(Lsn::ZERO);
    Ok(Recovered {
        log,
        content,
        segment_bytes,
        start: Lsn::ZERO,
        end,
        hash,
        epochs: vec![entry],
        commit: Lsn::ZERO,
        floor: end,
        segments: vec![0],
        index,
        torn: None,
        cut: None,
        was_clean: true,
    })
}

fn random() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| IoFault::Failed {
        file: "the system's randomness".to_owned(),
        operation: "read",
        cause: error.to_string(),
    })?;
    Ok(u128::from_le_bytes(bytes))
}

fn locked(error: LockError) -> Error {
    match error {
        LockError::Held { dir, holder } => Error::Locked {
            folder: dir,
            holder: holder.map_or_else(String::new, |pid| format!(" ({pid})")),
        },
        LockError::Failed { dir, cause } => {
            IoFault::Failed { file: dir, operation: "lock", cause: cause.to_string() }.into()
        }
    }
}
