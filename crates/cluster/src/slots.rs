//! Small files that change as a whole: two slots with generation and checksum.
//!
//! Both slots are replaced, one after the other, before a change is reported. So a crash between
//! them leaves the new content in one and the old in the other (the newer counts, and is put into
//! both when read), and one slot that rots later takes nothing back.
//!
//! Layout, little-endian: magic 8, version `u16` (1), body length `u32`, generation `u64`, checksum `u32` (CRC-32
//! over generation and body), body. Not here: what a body says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use crate::error::{CodecError, Error};

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 26;
/// The largest file that is read, in bytes: 64 MiB.
pub const MAX_BYTES: usize = 64 << 20;

/// What the file is for: its first eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A checkpoint of the catalog.
    Catalog,
    /// The coordinator's own register.
    Register,
    /// What an agent must not forget.
    Agent,
    /// What a voter promised and accepted.
    Voter,
}

impl Kind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Catalog => *b"\x89ORK\r\n\x1a\n",
            Self::Register => *b"\x89ORR\r\n\x1a\n",
            Self::Agent => *b"\x89ORA\r\n\x1a\n",
            Self::Voter => *b"\x89ORV\r\n\x1a\n",
        }
    }
}

/// Where two slots lie.
pub trait Slots: Send {
    /// The bytes of slot 0 or 1, `None` when it is not there.
    ///
    /// # Errors
    /// The device's fault.
    fn read(&mut self, slot: u8) -> Result<Option<Bytes>, Error>;

    /// Replaces slot 0 or 1 as a whole: after a crash at any moment it holds the old bytes or these.
    ///
    /// # Errors
    /// The device's fault.
    ///
    /// # Durability
    /// The bytes and their name are durable when this returns.
    fn replace(&mut self, slot: u8, bytes: &Bytes) -> Result<(), Error>;

    /// Where this is, for messages.
    fn place(&self) -> String;
}

/// Two slots as one value.
pub struct Saved {
    slots: Box<dyn Slots>,
    kind: Kind,
    generation: u64,
    failed: Option<Error>,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.slots.place();
        f.debug_struct("Saved").field("place", &place).finish_non_exhaustive()
    }
}

impl Saved {
    /// Reads the value: the body of the newer slot, `None` when there is neither. What is returned
    /// is in both slots.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Newer`] or the device's fault.
    pub fn open(slots: Box<dyn Slots>, kind: Kind) -> Result<(Self, Option<Bytes>), Error> {
        let mut saved = Self { slots, kind, generation: 0, failed: None };
        let mut best: Option<(u64, Bytes)> = None;
        let mut damage = None;
        let mut found = [None, None];
        for (slot, found) in [0, 1].into_iter().zip(&mut found) {
            let Some(bytes) = saved.slots.read(slot)? else { continue };
            match decode(&bytes, kind) {
                Ok((generation, body)) => {
                    *found = Some(generation);
                    if best.as_ref().is_none_or(|(newest, _)| *newest < generation) {
                        best = Some((generation, body));
                    }
                }
                Err(Fault::Newer(found)) => {
                    return Err(Error::Newer { place: saved.slots.place(), found });
                }
                Err(Fault::Damaged(what)) => damage = Some(what),
            }
        }
        let Some((generation, body)) = best else {
            return match damage {
                Some(what) => Err(Error::Damaged { place: saved.slots.place(), what }),
                None => Ok((saved, None)),
            };
        };
        saved.generation = generation;
        // ORDER: what is read is in both slots before anybody acts on it, or rot in one could take it back.
        if found != [Some(generation); 2] {
            saved.save(&body)?;
        }
        Ok((saved, Some(body)))
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// The device's fault, which stays: whether the value is the old or the new one is known only
    /// after it was opened again.
    ///
    /// # Durability
    /// Durable in both slots when this returns.
    pub fn save(&mut self, body: &Bytes) -> Result<(), Error> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let (found, cap) = (body.len(), MAX_BYTES - HEAD_BYTES);
        if found > cap {
            let cause = CodecError::TooLong { what: "the content", found, cap };
            return Err(Error::Content { place: self.place(), cause });
        }
        self.generation = self.generation.saturating_add(1);
        let bytes = encode(body, self.generation, self.kind);
        for slot in [0, 1] {
            if let Err(error) = self.slots.replace(slot, &bytes) {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether values can still be saved.
    ///
    /// # Errors
    /// The device's fault that ended it.
    pub fn usable(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.slots.place()
    }
}

enum Fault {
    Damaged(&'static str),
    Newer(u16),
}

fn encode(body: &Bytes, generation: u64, kind: Kind) -> Bytes {
    let mut slot = BytesMut::with_capacity(HEAD_BYTES.saturating_add(body.len()));
    slot.put_slice(&kind.magic());
    slot.put_u16_le(VERSION);
    slot.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    slot.put_u64_le(generation);
    slot.put_u32_le(checksum(generation, body));
    slot.put_slice(body);
    slot.freeze()
}

fn decode(slot: &Bytes, kind: Kind) -> Result<(u64, Bytes), Fault> {
    let mut rest = slot.clone();
    if rest.remaining() < HEAD_BYTES {
        return Err(Fault::Damaged("too short"));
    }
    let mut magic = [0; 8];
    rest.copy_to_slice(&mut magic);
    if magic != kind.magic() {
        return Err(Fault::Damaged("another kind of file"));
    }
    let version = rest.get_u16_le();
    let length = usize::try_from(rest.get_u32_le()).unwrap_or(usize::MAX);
    let generation = rest.get_u64_le();
    let sum = rest.get_u32_le();
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    if version != VERSION || rest.remaining() != length {
        return Err(Fault::Damaged("a wrong length or version"));
    }
    if checksum(generation, &rest) != sum {
        return Err(Fault::Damaged("checksum"));
    }
    Ok((generation, rest))
}

fn checksum(generation: u64, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&generation.to_le_bytes());
    sum.update(body);
    sum.finalize()
}

/// Slots that are files: `{stem}-0` and `{stem}-1` of one folder, mode 0600.
#[derive(Clone, Debug)]
pub struct FileSlots {
    dir: PathBuf,
    stem: &'static str,
}

impl FileSlots {
    /// The slots named `stem` in `dir`, which must exist.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, stem: &'static str) -> Self {
        Self { dir: dir.into(), stem }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}-{name}", self.stem))
    }
}

fn failed(path: &std::path::Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    let place = path.display().to_string();
    move |cause| Error::Files { place: place.clone(), operation, cause: cause.to_string() }
}

impl Slots for FileSlots {
    fn read(&mut self, slot: u8) -> Result<Option<Bytes>, Error> {
        let path = self.path(&slot.to_string());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(&path, "opening")(cause)),
        };
        let mut bytes = Vec::new();
        let cap = (MAX_BYTES as u64).saturating_add(1);
        file.take(cap).read_to_end(&mut bytes).map_err(failed(&path, "reading"))?;
        Ok(Some(Bytes::from(bytes)))
    }

    fn replace(&mut self, slot: u8, bytes: &Bytes) -> Result<(), Error> {
        let (new, path) = (self.path("new"), self.path(&slot.to_string()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(failed(&new, "creating"))?;
        file.write_all(bytes).map_err(failed(&new, "writing"))?;
        // ORDER: the bytes are durable before the name points at them, the name before we return.
        file.sync_all().map_err(failed(&new, "syncing"))?;
        fs::rename(&new, &path).map_err(failed(&path, "renaming"))?;
        let dir = File::open(&self.dir).map_err(failed(&self.dir, "opening"))?;
        dir.sync_all().map_err(failed(&self.dir, "syncing"))
    }

    fn place(&self) -> String {
        self.path("{0,1}").display().to_string()
    }
}

/// Slots in memory, shared by clones: what is replaced survives as if on a disk. For tests.
#[derive(Clone, Debug, Default)]
pub struct MemorySlots {
    inner: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    slots: [Option<Bytes>; 2],
    left: Option<u32>,
}

impl MemorySlots {
    /// Lets `left` more replacements succeed and fails those behind; `None`: all succeed.
    pub fn fail_after(&self, left: Option<u32>) {
        self.inner.lock().left = left;
    }

    /// Puts these bytes where slot 0 or 1 was.
    pub fn set(&self, slot: u8, bytes: Option<Bytes>) {
        if let Some(at) = self.inner.lock().slots.get_mut(usize::from(slot)) {
            *at = bytes;
        }
    }
}

impl Slots for MemorySlots {
    fn read(&mut self, slot: u8) -> Result<Option<Bytes>, Error> {
        Ok(self.inner.lock().slots.get(usize::from(slot)).cloned().flatten())
    }

    fn replace(&mut self, slot: u8, bytes: &Bytes) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        match &mut inner.left {
            Some(0) => {
                let cause = "no room".to_owned();
                return Err(Error::Files { place: self.place(), operation: "writing", cause });
            }
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        }
        if let Some(at) = inner.slots.get_mut(usize::from(slot)) {
            *at = Some(bytes.clone());
        }
        Ok(())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}
