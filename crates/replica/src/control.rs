//! The control file of an instance: its identity, what it accepted, what it promised, and how far a
//! long operation has come.
//!
//! Two slots, each with a generation and a checksum, written one after the other with the same
//! generation; a change counts, and is acted upon, only when it is durable in both. So a torn write leaves
//! the other slot, and one slot that rots takes nothing back: the other says the same, or something newer
//! that nobody has acted upon. Whoever opens it writes both again first: bytes that are read back after a kill
//! may be in the page cache alone.
//!
//! Guarantees: what is answered to a peer was in both slots first; an unreadable pair is refused,
//! never made anew. Not here: the log's own bytes, and when to write (member).
//!
//! Layout, little-endian: magic 8, version u16 (1), body length u32, generation u64, checksum u32 (CRC-32
//! over everything before it and the body), body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use outrigger_net::config::{Config, Version};
use outrigger_net::frame::{decode_config, encode_config};
use outrigger_wal::disk::{Blocking, FileId, Io, IoFault};
use outrigger_wal::format::EpochEntry;
use outrigger_wal::recover::{Judging, Promise, Promises, RecoverOptions};
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn, RunningHash};

const MAGIC: [u8; 8] = *b"\x89ORC\r\n\x1a\n";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 26;
/// The bytes before the checksum.
const CHECKED_BYTES: usize = 22;
/// The largest control file, in bytes.
const MAX_BYTES: u32 = 1 << 20;
/// The two slots, in the order in which a change is written.
pub(crate) const SLOTS: [FileId; 2] = [FileId::Control(0), FileId::Control(1)];
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
    /// The last epoch of its own that it gave up (S9): it never serves in it again.
    pub given_up: Epoch,
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
    /// A truncation that has begun. It is finished before anything else.
    pub truncating: Option<Cut>,
    /// What the copies still need: (instance, from where).
    pub slots: Vec<(InstanceId, Lsn)>,
    /// No copy needs log below this; the store here may.
    pub keep: Lsn,
    /// The reigns of the log, oldest first.
    pub epochs: Vec<EpochEntry>,
    /// The newest configuration that its authority has told it, which may be older than `version`: a primary's word
    /// names a version too. Nothing is decided by it here; an authority that lost its own is made anew from it.
    pub config: Option<Config>,
}

/// A truncation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// To where.
    pub to: Lsn,
    /// The running hash there, where whoever called for it told one: with another one nothing is cut.
    pub hash: Option<RunningHash>,
}

/// The slot that is taken.
struct Chosen {
    generation: u64,
    content: Control,
    slot: FileId,
    /// Which slots there are.
    present: [bool; 2],
}

/// Why a control file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The disk refused.
    #[error("{0}")]
    Io(#[from] IoFault),
    /// A slot that holds no whole content.
    #[error("not a whole slot: {0}")]
    Damaged(&'static str),
    /// Neither slot can be read.
    #[error(
        "the control file is damaged in both slots ({}: {first}; {}: {second}): this copy cannot tell what it \
         promised; rebuild it from another one",
        SLOTS[0], SLOTS[1]
    )]
    BothDamaged {
        /// What is wrong with the first.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
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
            cut: self.truncating.map(|cut| cut.to),
            cut_hash: self.truncating.and_then(|cut| cut.hash),
            // The store is brought up to what the copies have from this very log.
            keep: self.keep.min(checkpointed),
            progress: None,
            judging: Judging::default(),
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
        body.put_u64_le(self.given_up.number);
        body.put_u128_le(self.given_up.nonce);
        body.put_u64_le(self.coordinator_epoch);
        body.put_u64_le(self.version.0);
        for promise in [self.durable, self.commit] {
            body.put_u64_le(promise.epoch);
            body.put_u64_le(promise.lsn.0);
        }
        body.put_u8(u8::from(self.in_sync));
        let hash = self.truncating.and_then(|cut| cut.hash);
        body.put_u8(u8::from(self.truncating.is_some()) | u8::from(hash.is_some()) << 1);
        body.put_u64_le(self.truncating.map_or(0, |cut| cut.to.0));
        body.put_u128_le(hash.unwrap_or_default().0);
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
        // Last, and not there where there is none: a program that does not know of it reads the rest.
        if let Some(Ok(config)) = self.config.as_ref().map(encode_config) {
            body.put_u32_le(u32::try_from(config.len()).unwrap_or(0));
            body.put_slice(&config);
        }
        let mut slot = BytesMut::with_capacity(HEAD_BYTES.saturating_add(body.len()));
        slot.put_slice(&MAGIC);
        slot.put_u16_le(VERSION);
        slot.put_u32_le(u32::try_from(body.len()).unwrap_or(0));
        slot.put_u64_le(generation);
        slot.put_u32_le(checksum(&slot, &body));
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
        let checked = slot.slice(..CHECKED_BYTES);
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
        if checksum(&checked, &body) != sum {
            return Err(ControlError::Damaged("checksum"));
        }
        if version != VERSION {
            return Err(ControlError::Newer(version));
        }
        let control = Self::take(body).ok_or(ControlError::Damaged("body"))?;
        Ok((generation, control))
    }

    fn take(mut body: Bytes) -> Option<Self> {
        const FIXED: usize = 16 + 4 + 16 + 16 + 8 + 24 + 24 + 8 + 8 + 32 + 1 + 1 + 8 + 16 + 8;
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
        let given_up = Epoch { number: body.get_u64_le(), nonce: body.get_u128_le() };
        let coordinator_epoch = body.get_u64_le();
        let version = Version(body.get_u64_le());
        let mut promise = || Promise { epoch: body.get_u64_le(), lsn: Lsn(body.get_u64_le()) };
        let (durable, commit) = (promise(), promise());
        let in_sync = body.get_u8() == 1;
        let begun = body.get_u8();
        let (to, hash) = (Lsn(body.get_u64_le()), RunningHash(body.get_u128_le()));
        let cut = Cut { to, hash: (begun & 2 != 0).then_some(hash) };
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
        let config = if body.has_remaining() {
            let length = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
            let bytes = (body.remaining() == length).then_some(body)?;
            Some(decode_config(&bytes).ok()?)
        } else {
            None
        };
        Some(Self {
            identity,
            epoch,
            given_up,
            coordinator_epoch,
            version,
            durable,
            commit,
            in_sync,
            truncating: (begun & 1 != 0).then_some(cut),
            slots,
            keep,
            epochs,
            config,
        })
    }

    /// Reads the newer of the two slots that is whole: (generation, content).
    ///
    /// # Errors
    /// [`ControlError`]; a single slot that is bad, unreadable or gone is none.
    pub fn read(disk: &mut Blocking<'_>) -> Result<(u64, Self), ControlError> {
        Self::choose(disk).map(|chosen| (chosen.generation, chosen.content))
    }

    /// Reads it for a process that will act upon it: both slots hold the content durably when this returns.
    ///
    /// # Errors
    /// [`ControlError`]; nothing may be acted upon then.
    pub fn open(disk: &mut Blocking<'_>) -> Result<(u64, Self), ControlError> {
        let Chosen { generation, content, slot, present } = Self::choose(disk)?;
        let bytes = content.encode(generation);
        // ORDER: the slot it was read from first, with the bytes that it holds: a crash in between tears
        // nothing there that is durable already, and where it is not, the other slot is still the older
        // one that counted until now. The other slot follows only when this one is durable.
        let mut order = [(SLOTS[0], present[0]), (SLOTS[1], present[1])];
        if slot == SLOTS[1] {
            order.reverse();
        }
        for (file, present) in order {
            if present {
                disk.run(write_of(file, bytes.clone()))?;
            } else {
                disk.replace(FileId::ControlNew, file, bytes.clone())?;
            }
        }
        Ok((generation, content))
    }

    fn choose(disk: &mut Blocking<'_>) -> Result<Chosen, ControlError> {
        let mut best: Option<Chosen> = None;
        let mut present = [true; 2];
        let mut faults = [None, None];
        for ((slot, present), fault) in SLOTS.into_iter().zip(&mut present).zip(&mut faults) {
            let error = match disk.read(slot, 0, MAX_BYTES) {
                Ok(bytes) => match Self::decode(&bytes) {
                    Ok((generation, content)) => {
                        if best.as_ref().is_none_or(|best| best.generation < generation) {
                            best = Some(Chosen { generation, content, slot, present: [true; 2] });
                        }
                        continue;
                    }
                    // Also where the other one is older: it would take back what this one says.
                    Err(error @ ControlError::Newer(_)) => return Err(error),
                    Err(error) => error,
                },
                Err(IoFault::NotFound { .. }) => {
                    *present = false;
                    ControlError::Missing
                }
                Err(fault @ IoFault::Closed) => return Err(fault.into()),
                // A slot that the device cannot read is as bad as one that rotted.
                Err(fault) => fault.into(),
            };
            *fault = Some(error);
        }
        if let Some(best) = best {
            if let Some(error) = faults.iter().flatten().next() {
                tracing::warn!(%error, "one slot of the control file is bad: the other one is taken");
            }
            return Ok(Chosen { present, ..best });
        }
        match faults {
            [Some(ControlError::Missing), Some(ControlError::Missing)] => {
                Err(ControlError::Missing)
            }
            [Some(ControlError::Io(fault)), _] | [_, Some(ControlError::Io(fault))] => {
                Err(fault.into())
            }
            [first, second] => {
                let said = |fault: Option<ControlError>| match fault {
                    Some(ControlError::Damaged(what)) => what.to_owned(),
                    Some(ControlError::Missing) => "it is not there".to_owned(),
                    other => other.map_or_else(String::new, |fault| fault.to_string()),
                };
                Err(ControlError::BothDamaged { first: said(first), second: said(second) })
            }
        }
    }

    /// Makes the control file of a new instance.
    ///
    /// # Errors
    /// [`ControlError::Io`].
    pub fn create(&self, disk: &mut Blocking<'_>) -> Result<(), ControlError> {
        for slot in SLOTS {
            disk.replace(FileId::ControlNew, slot, self.encode(1))?;
        }
        Ok(())
    }
}

/// The durable write of a slot.
pub(crate) fn write_of(slot: FileId, bytes: Bytes) -> Io {
    Io::Write { file: slot, at: 0, parts: vec![bytes], dsync: true }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(head);
    sum.update(body);
    sum.finalize()
}
