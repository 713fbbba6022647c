//! What a candidate asks a voter, and what the voter says: bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response) between a coordinator or standby and an agent.
//!
//! Guarantees: decoding is total, nothing is allocated from an unverified length, each value has
//! one encoding. Layout: version `u8` (1), kind `u8`, fields, in little-endian.

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_wal::{ClusterId, Epoch, InstanceId};

use super::list::Seat;
use crate::codec::{Put, Take};
use crate::error::CodecError;

/// The version that is written.
pub const VERSION: u8 = 1;
/// The longest text of an answer, in bytes; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 1024;
const TEXT: &str = "a text";

/// What a candidate asks one voter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ask {
    /// The candidate's cluster.
    pub cluster: ClusterId,
    /// The version of the list of voters it goes by.
    pub list: u64,
    /// Which voter is meant.
    pub seat: Seat,
    /// The candidate.
    pub from: InstanceId,
    /// Repeated by the answer; a question that is sent again keeps it.
    pub op: u64,
    /// The question.
    pub question: Question,
}

/// The question.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Question {
    /// What the voter holds; changes nothing.
    Read,
    /// To refuse everything below this epoch from now on.
    Promise {
        /// Above every number that the candidate has seen.
        epoch: Epoch,
    },
    /// To hold this value; its epoch and version name it.
    Accept {
        /// The value.
        config: Config,
    },
}

/// What a voter says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Say {
    /// The voter's cluster.
    pub cluster: ClusterId,
    /// Which voter.
    pub seat: Seat,
    /// The question's.
    pub op: u64,
    /// The answer.
    pub reply: Reply,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// What it holds, to [`Question::Read`].
    Holds {
        /// What it promised.
        promised: Epoch,
        /// The newest value it accepted.
        newest: Config,
    },
    /// It refuses everything below from now on.
    Promised {
        /// The epoch it was asked for.
        epoch: Epoch,
        /// The newest value it accepted.
        newest: Config,
    },
    /// It holds the value durably.
    Accepted {
        /// The value's.
        epoch: Epoch,
        /// The value's.
        version: Version,
    },
    /// It does not; nothing has changed.
    Refused {
        /// Why.
        why: Refusal,
        /// What it promised.
        promised: Epoch,
        /// The newest value it accepted.
        newest: Config,
    },
    /// The question is for another cluster, list or voter; nothing has changed.
    Denied {
        /// Why, in words.
        text: String,
    },
}

/// Why a voter refuses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It promised a higher epoch.
    #[error("a higher epoch is promised")]
    LowerEpoch,
    /// It promised this number to another reign.
    #[error("the epoch's number is promised with another nonce")]
    ForeignNonce,
    /// It holds a later version of this epoch.
    #[error("a later version of this epoch is held")]
    LowerVersion,
    /// It holds another value of this name: (epoch, version) names one for good.
    #[error("another value of this epoch and version is held")]
    OtherValue,
}

impl Refusal {
    const ALL: [Self; 4] =
        [Self::LowerEpoch, Self::ForeignNonce, Self::LowerVersion, Self::OtherValue];

    const fn code(self) -> u8 {
        match self {
            Self::LowerEpoch => 1,
            Self::ForeignNonce => 2,
            Self::LowerVersion => 3,
            Self::OtherValue => 4,
        }
    }
}

impl Ask {
    /// The bytes of it.
    ///
    /// # Errors
    /// When the value has more copies or addresses, or longer ones, than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        put.u8(match &self.question {
            Question::Read => 1,
            Question::Promise { .. } => 2,
            Question::Accept { .. } => 3,
        });
        put.u128(self.cluster.0);
        put.u64(self.list);
        put.u8(self.seat.0);
        put.u128(self.from.0);
        put.u64(self.op);
        match &self.question {
            Question::Read => {}
            Question::Promise { epoch } => put.epoch(*epoch),
            Question::Accept { config } => put.config(config),
        }
        put.done()
    }

    /// The question in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let kind = take.u8()?;
        let cluster = take.cluster()?;
        let list = take.u64()?;
        let seat = Seat(take.u8()?);
        let from = take.instance()?;
        let op = take.u64()?;
        let question = match kind {
            1 => Question::Read,
            2 => Question::Promise { epoch: take.epoch()? },
            3 => Question::Accept { config: take.config()? },
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(Self { cluster, list, seat, from, op, question })
    }
}

impl Say {
    /// The bytes of it.
    ///
    /// # Errors
    /// When the value has more copies or addresses, or longer ones, than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        put.u8(match &self.reply {
            Reply::Holds { .. } => 1,
            Reply::Promised { .. } => 2,
            Reply::Accepted { .. } => 3,
            Reply::Refused { .. } => 4,
            Reply::Denied { .. } => 5,
        });
        put.u128(self.cluster.0);
        put.u8(self.seat.0);
        put.u64(self.op);
        match &self.reply {
            Reply::Holds { promised: epoch, newest } | Reply::Promised { epoch, newest } => {
                put.epoch(*epoch);
                put.config(newest);
            }
            Reply::Accepted { epoch, version } => {
                put.epoch(*epoch);
                put.u64(version.0);
            }
            Reply::Refused { why, promised, newest } => {
                put.u8(why.code());
                put.epoch(*promised);
                put.config(newest);
            }
            Reply::Denied { text } => {
                let mut end = text.len().min(MAX_TEXT_BYTES);
                while !text.is_char_boundary(end) {
                    end = end.saturating_sub(1);
                }
                put.text(TEXT, MAX_TEXT_BYTES, text.get(..end).unwrap_or_default());
            }
        }
        put.done()
    }

    /// The answer in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let kind = take.u8()?;
        let cluster = take.cluster()?;
        let seat = Seat(take.u8()?);
        let op = take.u64()?;
        let reply = match kind {
            1 => Reply::Holds { promised: take.epoch()?, newest: take.config()? },
            2 => Reply::Promised { epoch: take.epoch()?, newest: take.config()? },
            3 => Reply::Accepted { epoch: take.epoch()?, version: take.version()? },
            4 => Reply::Refused {
                why: take_refusal(&mut take)?,
                promised: take.epoch()?,
                newest: take.config()?,
            },
            5 => Reply::Denied { text: take.text(TEXT, MAX_TEXT_BYTES)? },
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(Self { cluster, seat, op, reply })
    }
}

fn take_refusal(take: &mut Take<'_>) -> Result<Refusal, CodecError> {
    let code = take.u8()?;
    let found = Refusal::ALL.into_iter().find(|why| why.code() == code);
    found.ok_or(CodecError::Malformed { what: "an unknown refusal" })
}
