//! Where a copy is made: the instance's folder, and the one beside it in which the new copy grows.
//!
//! | in the data directory | what |
//! |---|---|
//! | `rebuild` | how far it has come; while it is there, the instance does not start |
//! | `rebuilding/` | chunks that were fetched, then `wal/`, `store/` and the control file of the new copy |
//! | `set-aside/` | `wal/`, `store/` and the control file that were there |
//!
//! Guarantees: what was there is moved aside, not written to, until the new copy is whole and verified. Not here: when.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_wal::disk::plain::{PlainDisk, PlainOptions, make_dir, move_to, remove_all};
use outrigger_wal::disk::{Disk, DiskExt, IoFault};

use super::state::{Record, Step};
use crate::store::{StateStore, StoreError};

/// What takes the place of what was there, in this order.
const PARTS: [&str; 4] = ["control-0", "control-1", "wal", "store"];
const MADE: &str = "rebuilding";
const ASIDE: &str = "set-aside";
const STORE: &str = "store";

/// Where a copy is made. Each call either does what it says or may be made again, after a kill too.
pub trait Ground {
    /// The instance's folder.
    fn home(&mut self) -> &mut dyn Disk;

    /// The folder of the copy in the making.
    fn made(&mut self) -> &mut dyn Disk;

    /// Empties the folder of the copy in the making, and forgets what was set aside by an earlier one.
    ///
    /// # Errors
    /// The disk's.
    fn begin(&mut self) -> Result<(), IoFault>;

    /// The store that is there, as it is; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn base(&mut self) -> Result<Option<Arc<dyn StateStore>>, StoreError>;

    /// An empty store in the folder of the copy in the making.
    ///
    /// # Errors
    /// The disk's, the store's.
    fn fresh_store(&mut self) -> Result<Arc<dyn StateStore>, StoreError>;

    /// Moves one part of what was there aside, or one part of the new copy to its place; `false`: all are there.
    ///
    /// # Errors
    /// The disk's.
    fn place(&mut self) -> Result<bool, IoFault>;

    /// Takes away what was fetched, and what was set aside unless that is to stay.
    ///
    /// # Errors
    /// The disk's.
    fn clear(&mut self, keep_old: bool) -> Result<(), IoFault>;
}

type OpenStore = Box<dyn Fn(&Path) -> Result<Arc<dyn StateStore>, StoreError> + Send>;

/// A data directory of plain files. Whoever makes one holds the directory's lock.
pub struct DataDir {
    dir: PathBuf,
    home: PlainDisk,
    made: PlainDisk,
    open_store: OpenStore,
}

impl std::fmt::Debug for DataDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataDir").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl DataDir {
    /// The data directory `dir`, whose store is opened, or made, by `open_store`.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(
        dir: &Path,
        open_store: impl Fn(&Path) -> Result<Arc<dyn StateStore>, StoreError> + Send + 'static,
    ) -> Result<Self, IoFault> {
        make_dir(dir)?;
        // The old log is not looked into, and may be missing.
        let mut home = disk(dir, dir, false)?;
        let step = Record::read(&mut home.blocking()).ok().flatten().map(|record| record.step);
        let made = match step {
            Some(step) if step < Step::Placing => {
                let made = dir.join(MADE);
                make_dir(&made)?;
                disk(&made, &made.join("wal"), true)?
            }
            // Nothing is there, or what is there is on its way to its place: a folder made for it now
            // would be taken for a part of the new copy.
            _ => home.clone(),
        };
        Ok(Self { dir: dir.to_owned(), home, made, open_store: Box::new(open_store) })
    }
}

fn disk(dir: &Path, log: &Path, create: bool) -> Result<PlainDisk, IoFault> {
    let mut options = PlainOptions::new(log);
    options.instance_dir = Some(dir.to_owned());
    options.threads = 1;
    options.create = create;
    PlainDisk::open(options)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn stored(path: &Path) -> impl Fn(IoFault) -> StoreError + '_ {
    move |fault| StoreError::Files {
        path: path.to_owned(),
        operation: "making the folder",
        cause: fault.to_string(),
    }
}

impl Ground for DataDir {
    fn home(&mut self) -> &mut dyn Disk {
        &mut self.home
    }

    fn made(&mut self) -> &mut dyn Disk {
        &mut self.made
    }

    fn begin(&mut self) -> Result<(), IoFault> {
        let made = self.dir.join(MADE);
        remove_all(&made)?;
        remove_all(&self.dir.join(ASIDE))?;
        make_dir(&made)?;
        self.made = disk(&made, &made.join("wal"), true)?;
        Ok(())
    }

    fn base(&mut self) -> Result<Option<Arc<dyn StateStore>>, StoreError> {
        let path = self.dir.join(STORE);
        if path.is_dir() { (self.open_store)(&path).map(Some) } else { Ok(None) }
    }

    fn fresh_store(&mut self) -> Result<Arc<dyn StateStore>, StoreError> {
        let path = self.dir.join(MADE).join(STORE);
        remove_all(&path).map_err(stored(&path))?;
        make_dir(&path).map_err(stored(&path))?;
        (self.open_store)(&path)
    }

    fn place(&mut self) -> Result<bool, IoFault> {
        let (made, aside) = (self.dir.join(MADE), self.dir.join(ASIDE));
        make_dir(&aside)?;
        for part in PARTS {
            let (new, old, place) = (made.join(part), aside.join(part), self.dir.join(part));
            if !is_there(&new) {
                continue;
            }
            // ORDER: what is there goes aside first; nothing is ever written over.
            if is_there(&place) {
                move_to(&place, &old)?;
            } else {
                move_to(&new, &place)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn clear(&mut self, keep_old: bool) -> Result<(), IoFault> {
        remove_all(&self.dir.join(MADE))?;
        if keep_old { Ok(()) } else { remove_all(&self.dir.join(ASIDE)) }
    }
}
