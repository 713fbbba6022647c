//! What operators, clients and new instances ask the coordinator, and its answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Whoever asks says `Hello` first, as [`Role::Operator`](outrigger_net::message::Role::Operator) or `Client`, for
//! content -1; both may leave the cluster's id nil, since they learn it from the answer.
//!
//! Guarantees: decoding is total, nothing is allocated from an unverified length, each value has
//! one encoding. Layout: version `u8` (1), kind `u8`, fields, in little-endian.

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_net::frame::MAX_COPIES;
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId, Lsn};

use crate::catalog::state::MAX_CONTENTS;
use crate::codec::{Put, Take};
use crate::error::CodecError;

/// The version that is written.
pub const VERSION: u8 = 1;
/// The longest text of an answer, in bytes; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 4096;
const TEXT: &str = "a text";
const CONTENTS: &str = "the number of contents";
const COPIES: &str = "the number of copies";
const CONTENT_BYTES: usize = 80;
const COPY_BYTES: usize = 55;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Request {
    /// Make another copy the primary of a content whose primary is gone.
    Promote {
        /// Which content.
        content: ContentId,
    },
    /// What keeps the copies of a content from being in sync. A copy that has come back is brought
    /// in sync by its primary, without being told to.
    Recover {
        /// Which content.
        content: ContentId,
    },
    /// Everything about every content.
    State,
    /// Who is the primary of a content, and where.
    LookUp {
        /// Which content.
        content: ContentId,
    },
    /// A new instance takes its place, or one that moved tells where it is now. The first one of a
    /// content becomes its primary. Asking again changes nothing.
    Register(Registration),
}

/// A new instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The content it will serve.
    pub content: ContentId,
    /// Its identity, chosen by itself, random.
    pub instance: InstanceId,
    /// Where it will listen, in order of preference: `host:port`.
    pub addresses: Vec<String>,
    /// The segment size it wants; 0 leaves it to what the content has, or the default.
    pub segment_bytes: u64,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// It is refused, or did not come about; nothing was changed by it.
    Denied {
        /// Why, in words.
        text: String,
    },
    /// The promotion is recorded.
    Promoted {
        /// Of which content.
        content: ContentId,
        /// The new primary.
        primary: InstanceId,
        /// Its epoch.
        epoch: Epoch,
        /// The configuration that says so.
        version: Version,
    },
    /// How far the copies of a content are.
    Recovery {
        /// Whether all of them are in sync.
        done: bool,
        /// What is waited for, in words.
        text: String,
        /// The content.
        content: ContentState,
    },
    /// Everything about every content.
    State(ClusterState),
    /// Where a content is.
    Found(Place),
    /// The instance has its place.
    Registered(Place),
}

/// Where a content is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterId,
    /// The content.
    pub content: ContentId,
    /// The identity of its log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
    /// The reign of the coordinator that says so.
    pub coordinator_epoch: u64,
    /// Primary, copies, addresses.
    pub config: Config,
}

/// A cluster as its coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterState {
    /// The cluster.
    pub cluster: ClusterId,
    /// The coordinator's reign.
    pub coordinator_epoch: u64,
    /// Its contents, by id.
    pub contents: Vec<ContentState>,
}

/// A content as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentState {
    /// Which.
    pub content: ContentId,
    /// The identity of its log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
    /// The version of its configuration.
    pub version: Version,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its primary.
    pub primary: InstanceId,
    /// Its copies.
    pub copies: Vec<CopyState>,
}

/// What a copy is in its configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CopyRole {
    /// The primary.
    Primary,
    /// A mirror.
    Mirror,
}

/// A copy as the coordinator sees it: LSNs as last reported, at the latest a second ago while it
/// is in touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyState {
    /// Whose copy.
    pub instance: InstanceId,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// What it is.
    pub role: CopyRole,
    /// Whether commits wait for it.
    pub in_sync: bool,
    /// Whether it is connected and was heard of a short while ago.
    pub in_touch: bool,
    /// Durable.
    pub durable: Lsn,
    /// Commit; zero before the first report.
    pub commit: Lsn,
    /// Applied; zero before the first report.
    pub applied: Lsn,
    /// How much of the log its durable LSN lies behind the primary's, in bytes of log space.
    pub lag_bytes: u64,
}

impl Request {
    /// The bytes of it.
    ///
    /// # Errors
    /// When there are more addresses, or longer ones, than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        match self {
            Self::Promote { content } => {
                put.u8(1);
                put.i32(content.0);
            }
            Self::Recover { content } => {
                put.u8(2);
                put.i32(content.0);
            }
            Self::State => put.u8(3),
            Self::LookUp { content } => {
                put.u8(4);
                put.i32(content.0);
            }
            Self::Register(registration) => {
                put.u8(5);
                put.i32(registration.content.0);
                put.u128(registration.instance.0);
                put.u64(registration.segment_bytes);
                put.addresses(&registration.addresses);
            }
        }
        put.done()
    }

    /// The request in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let request = match take.u8()? {
            1 => Self::Promote { content: take.content()? },
            2 => Self::Recover { content: take.content()? },
            3 => Self::State,
            4 => Self::LookUp { content: take.content()? },
            5 => Self::Register(Registration {
                content: take.content()?,
                instance: take.instance()?,
                segment_bytes: take.u64()?,
                addresses: take.addresses()?,
            }),
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(request)
    }
}

impl Answer {
    /// The bytes of it.
    ///
    /// # Errors
    /// When there is more of anything than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        match self {
            Self::Denied { text } => {
                put.u8(1);
                put_text(&mut put, text);
            }
            Self::Promoted { content, primary, epoch, version } => {
                put.u8(2);
                put.i32(content.0);
                put.u128(primary.0);
                put.epoch(*epoch);
                put.u64(version.0);
            }
            Self::Recovery { done, text, content } => {
                put.u8(3);
                put.flag(*done);
                put_text(&mut put, text);
                put_content(&mut put, content);
            }
            Self::State(state) => {
                put.u8(4);
                put.u128(state.cluster.0);
                put.u64(state.coordinator_epoch);
                put.list(CONTENTS, MAX_CONTENTS, &state.contents, put_content);
            }
            Self::Found(place) => {
                put.u8(5);
                put_place(&mut put, place);
            }
            Self::Registered(place) => {
                put.u8(6);
                put_place(&mut put, place);
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
        let answer = match take.u8()? {
            1 => Self::Denied { text: take.text(TEXT, MAX_TEXT_BYTES)? },
            2 => Self::Promoted {
                content: take.content()?,
                primary: take.instance()?,
                epoch: take.epoch()?,
                version: take.version()?,
            },
            3 => Self::Recovery {
                done: take.flag()?,
                text: take.text(TEXT, MAX_TEXT_BYTES)?,
                content: take_content(&mut take)?,
            },
            4 => Self::State(ClusterState {
                cluster: take.cluster()?,
                coordinator_epoch: take.u64()?,
                contents: take.list(CONTENTS, MAX_CONTENTS, CONTENT_BYTES, take_content)?,
            }),
            5 => Self::Found(take_place(&mut take)?),
            6 => Self::Registered(take_place(&mut take)?),
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(answer)
    }
}

fn put_text(put: &mut Put, text: &str) {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    put.text(TEXT, MAX_TEXT_BYTES, text.get(..end).unwrap_or_default());
}

fn put_place(put: &mut Put, place: &Place) {
    put.u128(place.cluster.0);
    put.i32(place.content.0);
    put.u128(place.log.0);
    put.u64(place.segment_bytes);
    put.u64(place.coordinator_epoch);
    put.config(&place.config);
}

fn take_place(take: &mut Take<'_>) -> Result<Place, CodecError> {
    Ok(Place {
        cluster: take.cluster()?,
        content: take.content()?,
        log: take.log()?,
        segment_bytes: take.u64()?,
        coordinator_epoch: take.u64()?,
        config: take.config()?,
    })
}

fn put_content(put: &mut Put, content: &ContentState) {
    put.i32(content.content.0);
    put.u128(content.log.0);
    put.u64(content.segment_bytes);
    put.u64(content.version.0);
    put.epoch(content.epoch);
    put.u128(content.primary.0);
    put.list(COPIES, MAX_COPIES, &content.copies, |put, copy| {
        put.u128(copy.instance.0);
        put.u8(match copy.role {
            CopyRole::Primary => 1,
            CopyRole::Mirror => 2,
        });
        put.flag(copy.in_sync);
        put.flag(copy.in_touch);
        put.u64(copy.durable.0);
        put.u64(copy.commit.0);
        put.u64(copy.applied.0);
        put.u64(copy.lag_bytes);
        put.addresses(&copy.addresses);
    });
}

fn take_content(take: &mut Take<'_>) -> Result<ContentState, CodecError> {
    Ok(ContentState {
        content: take.content()?,
        log: take.log()?,
        segment_bytes: take.u64()?,
        version: take.version()?,
        epoch: take.epoch()?,
        primary: take.instance()?,
        copies: take.list(COPIES, MAX_COPIES, COPY_BYTES, |take| {
            Ok(CopyState {
                instance: take.instance()?,
                role: match take.u8()? {
                    1 => CopyRole::Primary,
                    2 => CopyRole::Mirror,
                    _ => return Err(CodecError::Malformed { what: "an unknown role" }),
                },
                in_sync: take.flag()?,
                in_touch: take.flag()?,
                durable: take.lsn()?,
                commit: take.lsn()?,
                applied: take.lsn()?,
                lag_bytes: take.u64()?,
                addresses: take.addresses()?,
            })
        })?,
    })
}
