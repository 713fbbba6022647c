//! Heartbeats: one datagram each way, [`Ping`] and [`Beat`], beside the streams and never on them.
//!
//! Both have the same fixed length, so that a forged question makes nobody send more than it cost. A
//! beat says how far an instance has come, not merely that it is there; what it does not know it says it
//! does not know. Neither of them commands anything.
//!
//! Guarantees: decoding is total and allocates nothing; damaged and foreign datagrams are told apart.
//! Not here: sockets, and what is made of a beat (`detect` of the cluster).

use bytes::{BufMut, BytesMut};
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, Lsn};

use crate::config::Version;
use crate::error::Error;
use crate::frame::fields::{Take, put_epoch};

/// The length of every heartbeat datagram.
pub const DATAGRAM_BYTES: usize = 192;
/// A heartbeat's first bytes; the first is no ASCII.
pub const MAGIC: [u8; 4] = [0x8A, b'O', b'G', b'B'];
/// The layout of both datagrams.
pub const BEAT_VERSION: u16 = 1;

const PING: u8 = 1;
const BEAT: u8 = 2;
const CRC_BYTES: usize = 4;
/// Stands on the wire for what is not known.
const UNKNOWN: u64 = u64::MAX;

/// A coordinator's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping {
    /// The coordinator's cluster.
    pub cluster: ClusterId,
    /// The content of the instance that is asked.
    pub content: ContentId,
    /// The coordinator's instance.
    pub from: InstanceId,
    /// Who is asked.
    pub to: InstanceId,
    /// Names this question; counts up.
    pub counter: u64,
    /// The epoch in which the coordinator serves.
    pub coordinator_epoch: u64,
}

/// What an instance is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// It reads its log back; nothing is served yet.
    Recovering,
    /// It is open, and does not know its place yet.
    Waiting,
    /// It follows a primary.
    Mirror,
    /// It is about to reign.
    Rising,
    /// It reigns.
    Primary,
    /// It failed, or is being closed.
    Down,
}

/// How far an open instance has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// The highest epoch it accepted.
    pub epoch: Epoch,
    /// The version of the configuration it acts under; 0 before the first.
    pub version: Version,
    /// What is durable there.
    pub durable: Lsn,
    /// What it knows to be committed.
    pub commit: Lsn,
    /// What its store has applied.
    pub applied: Lsn,
}

/// A copy that connects to its primary again and again, and is never brought further by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flapping {
    /// Whose copy.
    pub copy: InstanceId,
    /// How many connections to it ended, since one brought it further, that had begun to stream. Above 0.
    pub attempts: u32,
}

/// An instance's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its content.
    pub content: ContentId,
    /// Who it is.
    pub instance: InstanceId,
    /// The counter of the [`Ping`] that this answers.
    pub counter: u64,
    /// Random, new with each start of its process.
    pub incarnation: u64,
    /// What it is doing.
    pub phase: Phase,
    /// How far it has come; `None` before it is open.
    pub figures: Option<Figures>,
    /// The age of its oldest disk write that is not done, in microseconds, 0 for none; `None`: not known.
    pub oldest_write_micros: Option<u64>,
    /// On a mirror: how long nothing has come from its primary, in microseconds; `None`: there is no stream, or it
    /// is not known.
    pub stream_age_micros: Option<u64>,
    /// How long ago its disk probe last succeeded, in microseconds; `None`: it has none.
    pub probe_age_micros: Option<u64>,
    /// How far its recovery has read the log; `None`: not recovering, or not known.
    pub recovering_at: Option<Lsn>,
    /// On a primary: the copy that has tried most often in vain; `None`: none has.
    pub flapping: Option<Flapping>,
    /// Rises, ten times a second and more, as long as the threads that serve get on, whatever there is to do;
    /// 0: not counted.
    pub turns: u64,
}

/// Why a datagram is no heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// It does not begin as one.
    #[error("the datagram is no heartbeat; something else uses this port or the one it came from")]
    Foreign,
    /// Its checksum does not fit, or it was cut.
    #[error("a heartbeat does not match its checksum: damaged on the way")]
    Checksum,
    /// A layout that is not known here.
    #[error("heartbeat version {found} is not known here (this side speaks {known})")]
    Version {
        /// The version found.
        found: u16,
        /// The one known here.
        known: u16,
    },
    /// It is sound, and makes no sense.
    #[error("a heartbeat is malformed: {what}; the peer has a defect")]
    Malformed {
        /// What makes no sense.
        what: &'static str,
    },
}

impl Ping {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; DATAGRAM_BYTES] {
        sealed(PING, |out| {
            out.put_u128_le(self.cluster.0);
            out.put_i32_le(self.content.0);
            out.put_u128_le(self.from.0);
            out.put_u128_le(self.to.0);
            out.put_u64_le(self.counter);
            out.put_u64_le(self.coordinator_epoch);
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BeatError`] for anything that [`Ping::encode`] does not make.
    pub fn decode(datagram: &[u8]) -> Result<Self, BeatError> {
        let mut take = opened(PING, datagram)?;
        let ping = Self {
            cluster: ClusterId(take.u128()?),
            content: ContentId(take.i32()?),
            from: take.instance()?,
            to: take.instance()?,
            counter: take.u64()?,
            coordinator_epoch: take.u64()?,
        };
        rest_is_zero(take)?;
        Ok(ping)
    }
}

impl Phase {
    const fn code(self) -> u8 {
        match self {
            Self::Recovering => 1,
            Self::Waiting => 2,
            Self::Mirror => 3,
            Self::Rising => 4,
            Self::Primary => 5,
            Self::Down => 6,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Recovering,
            2 => Self::Waiting,
            3 => Self::Mirror,
            4 => Self::Rising,
            5 => Self::Primary,
            6 => Self::Down,
            _ => return None,
        })
    }
}

impl Beat {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; DATAGRAM_BYTES] {
        sealed(BEAT, |out| {
            out.put_u128_le(self.cluster.0);
            out.put_i32_le(self.content.0);
            out.put_u128_le(self.instance.0);
            out.put_u64_le(self.counter);
            out.put_u64_le(self.incarnation);
            out.put_u8(self.phase.code());
            out.put_u8(u8::from(self.figures.is_some()));
            let figures = self.figures.unwrap_or_default();
            put_epoch(out, figures.epoch);
            out.put_u64_le(figures.version.0);
            out.put_u64_le(figures.durable.0);
            out.put_u64_le(figures.commit.0);
            out.put_u64_le(figures.applied.0);
            put_known(out, self.oldest_write_micros);
            put_known(out, self.stream_age_micros);
            put_known(out, self.probe_age_micros);
            put_known(out, self.recovering_at.map(|at| at.0));
            let flapping = self.flapping.unwrap_or(Flapping { copy: InstanceId(0), attempts: 0 });
            out.put_u128_le(flapping.copy.0);
            out.put_u64_le(u64::from(flapping.attempts));
            out.put_u64_le(self.turns);
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BeatError`] for anything that [`Beat::encode`] does not make.
    pub fn decode(datagram: &[u8]) -> Result<Self, BeatError> {
        let mut take = opened(BEAT, datagram)?;
        let cluster = ClusterId(take.u128()?);
        let content = ContentId(take.i32()?);
        let instance = take.instance()?;
        let (counter, incarnation) = (take.u64()?, take.u64()?);
        let unknown = BeatError::Malformed { what: "its phase is not known here" };
        let phase = Phase::of(take.u8()?).ok_or(unknown)?;
        let has_figures = take.flag()?;
        let figures = Figures {
            epoch: take.epoch()?,
            version: Version(take.u64()?),
            durable: take.lsn()?,
            commit: take.lsn()?,
            applied: take.lsn()?,
        };
        if !has_figures && figures != Figures::default() {
            return Err(BeatError::Malformed { what: "it has figures, and says it has none" });
        }
        let beat = Self {
            cluster,
            content,
            instance,
            counter,
            incarnation,
            phase,
            figures: has_figures.then_some(figures),
            oldest_write_micros: known(&mut take)?,
            stream_age_micros: known(&mut take)?,
            probe_age_micros: known(&mut take)?,
            recovering_at: known(&mut take)?.map(Lsn),
            flapping: flapping(&mut take)?,
            turns: take.u64()?,
        };
        rest_is_zero(take)?;
        Ok(beat)
    }
}

impl From<Error> for BeatError {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed { what } => Self::Malformed { what },
            _ => Self::Malformed { what: "a field cannot be read" },
        }
    }
}

/// A datagram around fields that are shorter than it.
fn sealed(kind: u8, fields: impl FnOnce(&mut BytesMut)) -> [u8; DATAGRAM_BYTES] {
    let mut out = BytesMut::with_capacity(DATAGRAM_BYTES);
    out.put_slice(&MAGIC);
    out.put_u16_le(BEAT_VERSION);
    out.put_u8(kind);
    out.put_u8(0);
    fields(&mut out);
    out.resize(DATAGRAM_BYTES.saturating_sub(CRC_BYTES), 0);
    out.put_u32_le(crc32fast::hash(&out));
    let mut datagram = [0; DATAGRAM_BYTES];
    for (to, from) in datagram.iter_mut().zip(&out) {
        *to = *from;
    }
    datagram
}

/// The fields of a datagram of this kind, checked.
fn opened(kind: u8, datagram: &[u8]) -> Result<Take<'_>, BeatError> {
    let (fields, crc) = datagram.split_last_chunk::<CRC_BYTES>().ok_or(BeatError::Foreign)?;
    let rest = fields.strip_prefix(&MAGIC).ok_or(BeatError::Foreign)?;
    // The checksum comes before the version: it stands last in every version.
    if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
        return Err(BeatError::Checksum);
    }
    let mut take = Take::new(rest);
    let found = take.u16()?;
    if found != BEAT_VERSION {
        return Err(BeatError::Version { found, known: BEAT_VERSION });
    }
    if datagram.len() != DATAGRAM_BYTES {
        return Err(BeatError::Malformed { what: "it has another length than its version" });
    }
    if take.u8()? != kind {
        return Err(BeatError::Malformed { what: "it is of the other kind" });
    }
    if take.u8()? != 0 {
        return Err(BeatError::Malformed { what: "it has flags that are not known here" });
    }
    Ok(take)
}

fn flapping(take: &mut Take<'_>) -> Result<Option<Flapping>, BeatError> {
    let malformed = BeatError::Malformed { what: "a copy that flaps without having tried" };
    let (copy, attempts) = (take.instance()?, take.u64()?);
    match u32::try_from(attempts) {
        Ok(0) if copy == InstanceId(0) => Ok(None),
        Ok(0) | Err(_) => Err(malformed),
        Ok(attempts) => Ok(Some(Flapping { copy, attempts })),
    }
}

fn rest_is_zero(mut take: Take<'_>) -> Result<(), BeatError> {
    while let Ok(byte) = take.u8() {
        if byte != 0 {
            return Err(BeatError::Malformed { what: "bytes follow its last field" });
        }
    }
    Ok(())
}

fn put_known(out: &mut BytesMut, value: Option<u64>) {
    out.put_u64_le(value.map_or(UNKNOWN, |value| value.min(UNKNOWN.saturating_sub(1))));
}

fn known(take: &mut Take<'_>) -> Result<Option<u64>, BeatError> {
    let value = take.u64()?;
    Ok((value != UNKNOWN).then_some(value))
}
