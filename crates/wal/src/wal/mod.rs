//! A log in a folder, whole: append, wait until it is durable, read, cut, recycle, close.
//!
//! Guarantees: a record whose end the durable LSN has reached is read back after any end of the
//! process or the machine; records are read in the order of their LSNs, each once; a batch whole or not
//! at all. The handle is cheap to clone and used from any thread; there is no runtime in it.
//! Not here: copies of the log (`outrigger-replica` runs the same [`Log`](crate::Log)).

mod driver;
mod open;
mod options;
mod reader;
#[cfg(test)]
mod tests;
mod timer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::append::Appended;
use crate::error::Error;
use crate::lsn::{LogId, Lsn};
use crate::recover::{Recovered, recover};
use crate::watermark::{Subscription, Wait};
use driver::{Core, Shared};
use open::Opened;

pub use options::WalOptions;
pub use reader::Reader;

/// A log in a folder. Clones share it.
///
/// When the last clone and the last [`Reader`] are dropped without [`Wal::close`], the log ends as
/// by a kill: what was appended and not waited for may be lost, and the next opening recovers.
///
/// ```
/// use outrigger_wal::{Wal, WalOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let options = WalOptions { create: true, segment_bytes: 1 << 20, ..WalOptions::default() };
/// let wal = Wal::open(dir, &options)?;
/// let hello = wal.append(b"hello")?;
/// let world = wal.append(b"world")?;
/// wal.wait_durable(world.end).blocking()?;
///
/// let mut reader = wal.reader(hello.start)?;
/// assert_eq!(reader.next()?.map(|record| record.body), Some("hello".into()));
/// assert_eq!(reader.next()?.map(|record| record.body), Some("world".into()));
/// assert_eq!(reader.next()?, None);
/// wal.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Wal {
    handle: Arc<Handle>,
}

/// What the last clone ends when it goes.
struct Handle {
    shared: Arc<Shared>,
    dir: PathBuf,
    options: WalOptions,
    log: LogId,
    segment_bytes: u64,
    recovered: Recovered,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(core) = self.shared.take() {
            self.shared.end(core, Error::Closed);
        }
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.handle.dir)
            .field("log", &self.handle.log)
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log in this folder for append, and recovers it first if need be.
    ///
    /// # Errors
    /// [`Error::NoLog`], unless it may be made; [`Error::Locked`] while somebody has it open;
    /// [`Error::Damage`] where promised bytes are bad, and the other refusals of
    /// [`recover()`]: nothing was changed then. The disk's.
    ///
    /// # Durability
    /// What is read back is durable when this returns.
    pub fn open(dir: impl AsRef<Path>, options: &WalOptions) -> Result<Self, Error> {
        let dir = dir.as_ref();
        Self::start(dir, open::open(dir, options)?, options)
    }

    fn start(dir: &Path, opened: Opened, options: &WalOptions) -> Result<Self, Error> {
        let recovered = opened.recovered.clone();
        Ok(Self {
            handle: Arc::new(Handle {
                shared: open::start(opened, options)?,
                dir: dir.to_owned(),
                options: options.clone(),
                log: recovered.log,
                segment_bytes: recovered.segment_bytes,
                recovered,
            }),
        })
    }

    /// What was found when the log was opened: where it ended, and what a crash had left behind that.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.handle.recovered
    }

    /// The log's identity.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.handle.log
    }

    /// The largest record, in bytes. A batch may take as much as one framed record of that size.
    #[must_use]
    pub fn max_record_bytes(&self) -> u32 {
        self.shared().appender.max_record_bytes()
    }

    /// Appends one record, and returns its place at once; an empty record is legal. Blocks only while
    /// [`LogOptions::max_pending_bytes`](crate::LogOptions::max_pending_bytes) wait to be written.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] changes nothing; [`Error::Poisoned`] and [`Error::Closed`] are for
    /// good.
    ///
    /// # Durability
    /// None: wait for its end.
    pub fn append(&self, record: &[u8]) -> Result<Appended, Error> {
        self.append_batch(&[record])
    }

    /// Appends records that are read back all together or not at all.
    ///
    /// # Errors
    /// As [`Wal::append`]; the limit holds for the whole batch, and an empty one is refused.
    ///
    /// # Durability
    /// None: wait for its end.
    pub fn append_batch(&self, records: &[&[u8]]) -> Result<Appended, Error> {
        loop {
            let seen = self.durable();
            match self.try_append_batch(records) {
                Err(Error::Full { .. }) => {
                    self.shared().drive();
                    self.wait_durable(seen.saturating_add(1)).blocking()?;
                }
                result => return result,
            }
        }
    }

    /// As [`Wal::append`], and never blocks.
    ///
    /// # Errors
    /// As [`Wal::append`]; [`Error::Full`] when too much waits to be written.
    pub fn try_append(&self, record: &[u8]) -> Result<Appended, Error> {
        self.try_append_batch(&[record])
    }

    /// As [`Wal::append_batch`], and never blocks.
    ///
    /// # Errors
    /// As [`Wal::append_batch`]; [`Error::Full`] when too much waits to be written.
    pub fn try_append_batch(&self, records: &[&[u8]]) -> Result<Appended, Error> {
        let shared = self.shared();
        let appended = shared.appender.append_batch(records)?;
        shared.drive();
        Ok(appended)
    }

    /// Waits until everything below `end` is durable: give it [`Appended::end`]. A future, or
    /// [`Wait::blocking`].
    ///
    /// # Errors
    /// The wait's: [`Error::Poisoned`] or [`Error::Closed`] when that will never be.
    pub fn wait_durable(&self, end: Lsn) -> Wait {
        self.shared().durable.wait(end)
    }

    /// Up to where the log is durable: a block's boundary.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared().durable.reached()
    }

    /// How many durable writes, each of one block or more, were made since it was opened.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn writes(&self) -> Result<u64, Error> {
        self.shared().with_core(|core| Ok(core.ok_or(Error::Closed)?.log.writes()))
    }

    /// Follows the durable LSN.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.shared().durable.subscribe()
    }

    /// Behind everything that was appended.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.shared().appender.end()
    }

    /// Where the log begins; what lay before was deleted.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn start_lsn(&self) -> Result<Lsn, Error> {
        self.shared().with_core(|core| Ok(core.ok_or(Error::Closed)?.log.start()))
    }

    /// Reads from `from` on, and follows the tail: from the start of any record, or from a block's
    /// boundary ([`Wal::start_lsn`], a durable LSN).
    ///
    /// # Errors
    /// [`Error::Recycled`], [`Error::NotABoundary`], [`Error::Closed`]; the disk's, and
    /// [`Error::Damage`].
    pub fn reader(&self, from: Lsn) -> Result<Reader, Error> {
        Reader::new(self.clone(), from)
    }

    /// Says that everything below `commit` is decided: from now on [`Wal::truncate`] refuses to cut
    /// there, also after a crash once a later block is durable. A log whose tail is never cut need not
    /// say it.
    pub fn commit(&self, commit: Lsn) {
        self.shared().with_core(|core| {
            if let Some(Core { log, .. }) = core {
                log.commit_is(commit.min(log.durable()));
            }
        });
    }

    /// Cuts everything at and behind `to`, a block's boundary that is durable; what is cut is kept
    /// aside in `saved/`. This handle and its clones are closed, because positions that they gave
    /// out behind the cut mean nothing any more; go on with the one that is returned.
    ///
    /// # Errors
    /// [`Error::NotABoundary`], [`Error::Recycled`] at or below the log's start, [`Error::BelowCommit`]:
    /// nothing was changed. After any other error the log is closed; open it again: the cut was made
    /// whole, or in part from the end, or not at all.
    ///
    /// # Durability
    /// The cut is durable when this returns.
    pub fn truncate(&self, to: Lsn) -> Result<Self, Error> {
        self.may_cut(to)?;
        let Some(mut core) = self.shared().take() else { return Err(Error::Closed) };
        // Whoever waits for more than is durable by now waits for what is cut.
        self.shared().durable.fail(Error::Closed);
        let finished = core.finish(self.shared().timer());
        let cut = finished.and_then(|()| {
            recover(&mut core.disk, &open::recover_options(&self.handle.options, Some(to)))
        });
        match cut {
            Ok(Some(recovered)) => {
                let (disk, lock) = self.shared().release(core);
                Self::start(
                    &self.handle.dir,
                    Opened { disk, lock, recovered },
                    &self.handle.options,
                )
            }
            Ok(None) => {
                self.shared().end(core, Error::Closed);
                Err(Error::NoLog { folder: self.handle.dir.display().to_string() })
            }
            Err(error) => {
                self.shared().end(core, Error::Closed);
                Err(error)
            }
        }
    }

    fn may_cut(&self, to: Lsn) -> Result<(), Error> {
        let (start, commit, durable) = self.shared().with_core(|core| {
            let log = &core.ok_or(Error::Closed)?.log;
            Ok::<_, Error>((log.start(), log.commit(), log.durable()))
        })?;
        // A log's first block must stay: it says whose it is.
        if to <= start {
            return Err(Error::Recycled { lsn: to, start });
        }
        if to < commit {
            return Err(Error::BelowCommit { to, commit });
        }
        if to > durable || !Reader::new(self.clone(), to)?.is_at_boundary() {
            return Err(Error::NotABoundary { lsn: to, what: "block" });
        }
        Ok(())
    }

    /// Deletes the segments that lie below `floor` wholly; returns where the log begins now. What is
    /// not durable stays.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn delete_below(&self, floor: Lsn) -> Result<Lsn, Error> {
        self.shared().with_core(|core| core.ok_or(Error::Closed)?.delete_below(floor))
    }

    /// Closes the log for all handles: what was appended is written, then the mark of a clean close,
    /// so that the next opening has nothing to recover, and the folder is free.
    ///
    /// # Errors
    /// [`Error::Closed`] when it was closed already; [`Error::Poisoned`]; the disk's: also then it is
    /// closed, and the next opening recovers.
    pub fn close(&self) -> Result<(), Error> {
        let Some(mut core) = self.shared().take() else { return Err(Error::Closed) };
        let finished = core.finish(self.shared().timer());
        self.shared().durable.advance(core.log.durable());
        let closed = finished.and_then(|()| Ok(core.mark_clean()?));
        self.shared().end(core, closed.clone().err().unwrap_or(Error::Closed));
        closed
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}
