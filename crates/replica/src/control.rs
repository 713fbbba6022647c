//! The control file of an instance: its identity, what it accepted, what it promised, and how far a
//! long operation has come.
//!
//! Two slots, written in turn, each with a generation and a checksum: a torn write leaves the other
//! one. Guarantees: what is answered to a peer was in here first; an unreadable pair is refused,
//! never made anew. Not here: the log's own bytes, and when to write (member).
//!
//! Layout, little-endian: magic 8, version u16 (1), body length u32, generation u64, checksum u32 (CRC-32
//! over generation and body), body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_net::config::Version;
use outrigger_wal::disk::{Blocking, FileId, IoFault};
use outrigger_wal::format::EpochEntry;
use outrigger_wal::recover::{Promise, Promises, RecoverOptions};
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

const MAGIC: [u8; 8] = *b"\x89ORC\r\n\x1a\n";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 26;
/// The largest control file, in bytes.
const MAX_BYTES: u32 = 1 << 20;
/// How many reigns are kept (fate answers from them).
pub const MAX_EPOCHS: usize = 4096;

/// Who an instance is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its content.
    pub content: ContentId,
    /// Itself.
    pub instance: InstanceId,
    /// Its content's log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
}

/// What must survive a crash besides the log and the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Control {
    /// Who this is.
    pub identity: Identity,
    /// The highest epoch accepted (S0).
    pub epoch: Epoch,
    /// The highest epoch of a coordinator accepted (S0).
    pub coordinator_epoch: u64,
    /// The highest version of the configuration accepted (S0).
    pub version: Version,
    /// What this copy has held durably (S6).
    pub durable: Promise,
    /// What it knew to be committed.
    pub commit: Promise,
    /// Whether commits wait for this copy, as it was told.
    pub in_sync: bool,
    /// A truncation that has begun: to where. It is finished before anything else.
    pub truncating: Option<Lsn>,
    /// What the copies still need: (instance, from where).
    pub slots: Vec<(InstanceId, Lsn)>,
    /// No copy needs log below this; the store here may.
    pub keep: Lsn,
    /// The reigns of the log, oldest first.
    pub epochs: Vec<EpochEntry>,
}

/// Why a control file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The disk refused.
    #[error("{0}")]
    Io(#[from] IoFault),
    /// Neither slot can be read.
    #[error(
        "the control file is damaged in both slots ({0}): this copy cannot tell what it promised; \
         rebuild it from another one"
    )]
    Damaged(&'static str),
    /// There is none.
    #[error("there is no control file: this is not an initialised instance (or its disk was lost)")]
    Missing,
    /// Written by a newer version.
    #[error("the control file has version {0}, this program reads 1: upgrade it")]
    Newer(u16),
}

impl Control {
    /// What recovery of the log must hold to.
    #[must_use]
    pub fn promises(&self) -> Promises {
        Promises {
            durable: Some(self.durable),
            commit: Some(self.commit),
            in_sync: self.in_sync,
            epochs: self.epochs.clone(),
        }
    }

    /// What recovery of the log is told, where the store holds everything below `checkpointed`.
    #[must_use]
    pub fn recover_options(&self, checkpointed: Lsn) -> RecoverOptions {
        RecoverOptions {
            log: Some(self.identity.log),
            content: Some(self.identity.content),
            segment_bytes: Some(self.identity.segment_bytes),
            instance: self.identity.instance,
            promises: self.promises(),
            cut: self.truncating,
            cut_hash: None,
            // The store is brought up to what the copies have from this very log.
            keep: self.keep.min(checkpointed),
        }
    }

    /// The bytes of a slot.
    #[must_use]
    pub fn encode(&self, generation: u64) -> Bytes {
        let mut body = BytesMut::with_capacity(256);
        let id = &self.identity;
        body.put_u128_le(id.cluster.0);
        body.put_i32_le(id.content.0);
        body.put_u128_le(id.instance.0);
        body.put_u128_le(id.log.0);
        body.put_u64_le(id.segment_bytes);
        body.put_u64_le(self.epoch.number);
        body.put_u128_le(self.epoch.nonce);
        body.put_u64_le(self.coordinator_epoch);
        body.put_u64_le(self.version.0);
        for promise in [self.durable, self.commit] {
            body.put_u64_le(promise.epoch);
            body.put_u64_le(promise.lsn.0);
        }
        body.put_u8(u8::from(self.in_sync));
        body.put_u8(u8::from(self.truncating.is_some()));
        body.put_u64_le(self.truncating.unwrap_or_default().0);
        body.put_u64_le(self.keep.0);
        body.put_u32_le(u32::try_from(self.slots.len()).unwrap_or(0));
        for (instance, lsn) in &self.slots {
            body.put_u128_le(instance.0);
            body.put_u64_le(lsn.0);
        }
        let skip = self.epochs.len().saturating_sub(MAX_EPOCHS);
        let kept = self.epochs.iter().skip(skip);
        body.put_u32_le(u32::try_from(kept.len()).unwrap_or(0));
        for entry in kept {
            entry.put(&mut body);
        }
        let mut slot = BytesMut::with_capacity(HEAD_BYTES.saturating_add(body.len()));
        slot.put_slice(&MAGIC);
        slot.put_u16_le(VERSION);
        slot.put_u32_le(u32::try_from(body.len()).unwrap_or(0));
        slot.put_u64_le(generation);
        slot.put_u32_le(checksum(generation, &body));
        slot.put_slice(&body);
        slot.freeze()
    }

    /// Reads a slot: its generation and content.
    ///
    /// # Errors
    /// [`ControlError::Damaged`] or [`ControlError::Newer`].
    pub fn decode(slot: &Bytes) -> Result<(u64, Self), ControlError> {
        let mut head = slot.clone();
        if head.remaining() < HEAD_BYTES {
            return Err(ControlError::Damaged("too short"));
        }
        let mut magic = [0; 8];
        head.copy_to_slice(&mut magic);
        if magic != MAGIC {
            return Err(ControlError::Damaged("not a control file"));
        }
        let version = head.get_u16_le();
        let length = usize::try_from(head.get_u32_le()).unwrap_or(usize::MAX);
        let generation = head.get_u64_le();
        let sum = head.get_u32_le();
        if head.remaining() < length {
            return Err(ControlError::Damaged("cut short"));
        }
        let body = head.split_to(length);
        if checksum(generation, &body) != sum {
            return Err(ControlError::Damaged("checksum"));
        }
        if version != VERSION {
            return Err(ControlError::Newer(version));
        }
        let control = Self::take(body).ok_or(ControlError::Damaged("body"))?;
        Ok((generation, control))
    }

    fn take(mut body: Bytes) -> Option<Self> {
        const FIXED: usize = 16 + 4 + 16 + 16 + 8 + 8 + 16 + 8 + 8 + 32 + 1 + 1 + 8 + 8;
        if body.remaining() < FIXED {
            return None;
        }
        let identity = Identity {
            cluster: ClusterId(body.get_u128_le()),
            content: ContentId(body.get_i32_le()),
            instance: InstanceId(body.get_u128_le()),
            log: LogId(body.get_u128_le()),
            segment_bytes: body.get_u64_le(),
        };
        let epoch = Epoch { number: body.get_u64_le(), nonce: body.get_u128_le() };
        let coordinator_epoch = body.get_u64_le();
        let version = Version(body.get_u64_le());
        let mut promise = || Promise { epoch: body.get_u64_le(), lsn: Lsn(body.get_u64_le()) };
        let (durable, commit) = (promise(), promise());
        let in_sync = body.get_u8() == 1;
        let begun = body.get_u8() == 1;
        let to = Lsn(body.get_u64_le());
        let keep = Lsn(body.get_u64_le());
        let mut slots = Vec::new();
        for _ in 0..body.try_get_u32_le().ok()? {
            let instance = InstanceId(body.try_get_u128_le().ok()?);
            slots.push((instance, Lsn(body.try_get_u64_le().ok()?)));
        }
        let mut epochs = Vec::new();
        for _ in 0..body.try_get_u32_le().ok()? {
            epochs.push(EpochEntry::take(&mut body)?);
        }
        Some(Self {
            identity,
            epoch,
            coordinator_epoch,
            version,
            durable,
            commit,
            in_sync,
            truncating: begun.then_some(to),
            slots,
            keep,
            epochs,
        })
    }

    /// Reads the newer of the two slots that is whole: (generation, content).
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn read(disk: &mut Blocking<'_>) -> Result<(u64, Self), ControlError> {
        let mut best: Option<(u64, Self)> = None;
        let mut fault = None;
        for slot in [FileId::Control(0), FileId::Control(1)] {
            let bytes = match disk.read(slot, 0, MAX_BYTES) {
                Ok(bytes) if !bytes.is_empty() => bytes,
                Ok(_) | Err(IoFault::NotFound { .. }) => continue,
                Err(other) => return Err(other.into()),
            };
            match Self::decode(&bytes) {
                Ok(found) => {
                    if best.as_ref().is_none_or(|(generation, _)| *generation < found.0) {
                        best = Some(found);
                    }
                }
                Err(error @ ControlError::Newer(_)) => return Err(error),
                Err(error) => fault = Some(error),
            }
        }
        best.ok_or_else(|| fault.unwrap_or(ControlError::Missing))
    }

    /// Makes the control file of a new instance: both slots, so that one can always be torn.
    ///
    /// # Errors
    /// [`ControlError::Io`].
    pub fn create(&self, disk: &mut Blocking<'_>) -> Result<(), ControlError> {
        for (generation, slot) in [(1, FileId::Control(0)), (2, FileId::Control(1))] {
            disk.replace(FileId::ControlNew, slot, self.encode(generation))?;
        }
        Ok(())
    }
}

/// The slot that holds `generation`.
pub(crate) const fn slot_of(generation: u64) -> FileId {
    FileId::Control(if generation % 2 == 1 { 0 } else { 1 })
}

fn checksum(generation: u64, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&generation.to_le_bytes());
    sum.update(body);
    sum.finalize()
}
