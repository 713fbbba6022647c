//! Making and opening an instance's folder.
//!
//! ORDER: the lock, the control file (written again), the log (a truncation that had begun is finished here), the clean mark
//! taken away, then everything else. Not here: what runs afterwards.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use outrigger_wal::disk::lock::DirLock;
use outrigger_wal::disk::plain::{PlainDisk, PlainOptions};
use outrigger_wal::disk::{Dir, DiskExt, FileId, IoFault};
use outrigger_wal::{CreateOptions, Micros, create};

use super::applying::Applier;
use super::authority::{Authority, Told};
use super::core::{Core, Shared};
use super::links::{Front, Links};
use super::{Accepted, ReplicaError, ReplicaOptions};
use crate::control::{Control, ControlError, Identity};
use crate::member::Member;
use crate::reading_back::read_back;
use crate::rules::Rules;
use crate::store::StateStore;

fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("wal")
}

fn disk(data_dir: &Path, threads: usize, create: bool) -> Result<PlainDisk, IoFault> {
    let mut options = PlainOptions::new(log_dir(data_dir));
    options.instance_dir = Some(data_dir.to_owned());
    options.threads = threads;
    options.create = create;
    PlainDisk::open(options)
}

fn at(data_dir: &Path) -> impl Fn(ControlError) -> ReplicaError + '_ {
    move |cause| ReplicaError::Control { folder: data_dir.display().to_string(), cause }
}

pub(super) fn init(data_dir: &Path, identity: Identity) -> Result<(), ReplicaError> {
    let mut disk = disk(data_dir, 1, true)?;
    let lock = DirLock::acquire(data_dir)?;
    let (files, _) = disk.blocking().list(Dir::Log)?;
    let exists = !files.is_empty() || disk.blocking().len(FileId::Control(0))?.is_some();
    if exists {
        return Err(ReplicaError::Exists { folder: data_dir.display().to_string() });
    }
    let Identity { log, content, segment_bytes, .. } = identity;
    create(&mut disk, &CreateOptions { log, content, segment_bytes })?;
    // ORDER: the control file last: with it, the instance exists.
    let control = Control { identity, ..Control::default() };
    control.create(&mut disk.blocking()).map_err(at(data_dir))?;
    disk.close();
    drop(lock);
    Ok(())
}

pub(super) fn identity(data_dir: &Path) -> Result<Identity, ReplicaError> {
    control(data_dir).map(|control| control.identity)
}

pub(super) fn accepted(data_dir: &Path) -> Result<Accepted, ReplicaError> {
    let Control { version, coordinator_epoch, .. } = control(data_dir)?;
    Ok(Accepted { version, coordinator_epoch })
}

pub(super) fn control(data_dir: &Path) -> Result<Control, ReplicaError> {
    if !data_dir.is_dir() {
        return Err(at(data_dir)(ControlError::Missing));
    }
    check_whole(data_dir)?;
    let Ok(mut disk) = disk(data_dir, 1, false) else {
        return Err(at(data_dir)(ControlError::Missing));
    };
    let (_, control) = Control::read(&mut disk.blocking()).map_err(at(data_dir))?;
    disk.close();
    Ok(control)
}

pub(super) fn lock(data_dir: &Path) -> Result<DirLock, ReplicaError> {
    if !data_dir.is_dir() {
        return Err(at(data_dir)(ControlError::Missing));
    }
    let lock = DirLock::acquire(data_dir)?;
    check_whole(data_dir)?;
    Ok(lock)
}

/// Refuses a copy whose rebuild is not done.
fn check_whole(data_dir: &Path) -> Result<(), ReplicaError> {
    match data_dir.join(FileId::Rebuild.name()).symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ReplicaError::System {
            doing: format!("looking for a rebuild in {}", data_dir.display()),
            cause: error.to_string(),
        }),
        Ok(_) => Err(ReplicaError::Rebuilding { folder: data_dir.display().to_string() }),
    }
}

pub(super) fn open(
    lock: DirLock,
    options: ReplicaOptions,
    store: Arc<dyn StateStore>,
    authority: Arc<dyn Authority>,
    front: Front,
) -> Result<Arc<Shared>, ReplicaError> {
    let data_dir = options.data_dir.clone();
    check_whole(&data_dir)?;
    let mut disk = disk(&data_dir, options.disk_threads, false)?;
    // ORDER: durable in both slots before anything is acted upon.
    let (generation, mut control) = Control::open(&mut disk.blocking()).map_err(at(&data_dir))?;
    let identity = control.identity;
    let applied = store.checkpointed();
    let progress = options.progress.as_ref();
    let recovered = read_back(&mut disk, &mut control, applied, Rules::all(), progress)?
        .ok_or_else(|| outrigger_wal::Error::NoLog {
            folder: log_dir(&data_dir).display().to_string(),
        })?;
    if applied > recovered.end {
        return Err(ReplicaError::StoreAhead { applied, end: recovered.end });
    }
    // ORDER: the mark of the last clean close is durably gone before anything is written.
    disk.blocking().remove(FileId::CleanMark)?;

    let born = Instant::now();
    let seed = getrandom::u64().map_err(|error| ReplicaError::System {
        doing: "drawing a random number".to_owned(),
        cause: error.to_string(),
    })?;
    tracing::info!(
        content = %identity.content, instance = %identity.instance, end = %recovered.end,
        applied = %applied, torn = recovered.torn.is_some(), "opened"
    );
    let member = Member::new(
        recovered,
        (generation, control),
        applied,
        seed,
        Rules::all(),
        options.member,
        Micros(0),
    );
    let home = Arc::new(OnceLock::new());
    let applier =
        Applier::start(store, options.checkpoint_bytes, Arc::clone(&home)).map_err(|error| {
            ReplicaError::System {
                doing: "starting the store's thread".to_owned(),
                cause: error.to_string(),
            }
        })?;
    let listen: Vec<String> = std::iter::once(options.listen).chain(options.listen_too).collect();
    let links = Links::start(&listen, options.net, identity, front, Arc::clone(&home))?;
    let told = Arc::clone(&authority);
    let shared = Arc::new(Shared::new(
        identity,
        Core::new(member, disk.clone()),
        born,
        authority,
        links,
        applier,
        lock,
        applied,
        Duration::from_millis(options.turn_millis.max(1)),
    ));
    let weak = Arc::downgrade(&shared);
    let hook = weak.clone();
    disk.set_on_done(Arc::new(move || {
        if let Some(shared) = hook.upgrade() {
            shared.drive();
        }
    }));
    home.set(weak.clone()).ok();
    shared.links.begin(weak.clone());
    told.attach(Told(weak));
    shared.drive();
    Ok(shared)
}
