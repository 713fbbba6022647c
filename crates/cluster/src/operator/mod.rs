//! What operators, clients and new instances ask the coordinator, and its answers: the bodies of
//! [`Request`](outrigger_net::message::Message::Request) and
//! [`Response`](outrigger_net::message::Message::Response).
//!
//! Whoever asks says `Hello` first, as [`Role::Operator`](outrigger_net::message::Role::Operator) or `Client`, for
//! content -1; both may leave the cluster's id nil, since they learn it from the answer.
//!
//! Guarantees: decoding is total, nothing is allocated from an unverified length, each value has
//! one encoding. Layout: version `u8` (1), kind `u8`, fields, in little-endian.
//!
//! # Layout
//! - `state`: how the cluster stands

mod state;

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_wal::{ClusterId, ContentId, Epoch, InstanceId, LogId};

use crate::catalog::rows;
use crate::catalog::state::MAX_CONTENTS;
use crate::catalog::tables::{Dbid, History, Host, Instance, MAX_INSTANCES, MAX_ROW_TEXT_BYTES};
use crate::codec::{Put, Take};
use crate::error::CodecError;
pub use state::{ClusterState, ContentState, CopyRole, CopyState, HostState, InstanceState};
use state::{put_content, put_state, take_content, take_state};

/// The version that is written.
pub const VERSION: u8 = 1;
/// The longest text of an answer, in bytes; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 4096;
const TEXT: &str = "a text";
const CONTENTS: &str = "the number of contents";
const NAME: &str = "the name of a host";

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Request {
    /// Make another copy the primary of a content whose primary is gone.
    Promote {
        /// Which content.
        content: ContentId,
        /// Whether a loss is accepted (S10), and what is known of the old primary.
        loss: Loss,
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
    /// A cluster is made: its hosts, instances and settings. Asking again changes nothing.
    Found(Founding),
    /// Let copies that are out come back: all of these contents, or of every content where none is named.
    BringBack {
        /// Which contents.
        contents: Vec<ContentId>,
        /// How.
        mode: RecoverMode,
        /// Bytes a second that a copy may take; 0 is no limit.
        max_rate_bytes: u64,
    },
    /// Give every instance its preferred role again (S9), one pair after the other.
    Rebalance,
    /// Bring the cluster up.
    Start,
    /// Bring it down in order; or all instances of one host, whose primaries are handed over first.
    Stop {
        /// Which host; `None`: everything.
        host: Option<String>,
    },
    /// Add copies of contents: mirrors, or a standby. They are made anew from their primaries.
    AddCopies {
        /// Hosts that the catalog may not know yet.
        hosts: Vec<Host>,
        /// The copies.
        rows: Vec<(Dbid, Instance)>,
    },
    /// Remove copies that are not primary, their data too, once nothing waits for them any more.
    DropCopies {
        /// Which.
        dbids: Vec<Dbid>,
    },
    /// What happened, the newest last.
    History {
        /// How many rows at most.
        limit: u32,
    },
    /// A setting gets a value.
    Set {
        /// Its name.
        key: String,
        /// The value.
        value: u64,
    },
    /// Add contents on new hosts, and move rows to them.
    Expand(Founding),
    /// Asked of a standby: become the coordinator (S8).
    Activate {
        /// Although it cannot be shown that the standby was in sync.
        force: bool,
    },
}

/// Whether a promotion may lose something.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Loss {
    /// It may not.
    #[default]
    None,
    /// It may, once the old primary has answered that it gave its reign up.
    Accepted,
    /// It may: an administrator has made sure that the old primary takes no writes any more.
    AcceptedAndFenced,
}

/// How a copy comes back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RecoverMode {
    /// By what it missed; where that cannot be, by what differs; where that cannot be, by everything.
    #[default]
    Auto,
    /// By what differs, found by hashes of key ranges.
    Differential,
    /// By everything.
    Full,
}

/// A cluster, or a part of one, to be made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Founding {
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Its instances; the coordinator's own among them.
    pub rows: Vec<(Dbid, Instance)>,
    /// The size of a log's segments in bytes; 0 is the default.
    pub segment_bytes: u64,
    /// Settings, by name.
    pub settings: Vec<(String, u64)>,
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
    /// It is done, or begun; `outrigger state` shows how it goes on.
    Done {
        /// What, in words.
        text: String,
    },
    /// What happened, the newest last.
    History(Vec<History>),
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

impl Request {
    /// The bytes of it.
    ///
    /// # Errors
    /// When there are more addresses, or longer ones, than allowed.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        match self {
            Self::Promote { content, loss } => {
                put.u8(1);
                put.i32(content.0);
                put.u8(match loss {
                    Loss::None => 1,
                    Loss::Accepted => 2,
                    Loss::AcceptedAndFenced => 3,
                });
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
            Self::Found(founding) => {
                put.u8(6);
                put_founding(&mut put, founding);
            }
            Self::BringBack { contents, mode, max_rate_bytes } => {
                put.u8(7);
                put.list(CONTENTS, MAX_CONTENTS, contents, |put, content| put.i32(content.0));
                put.u8(match mode {
                    RecoverMode::Auto => 1,
                    RecoverMode::Differential => 2,
                    RecoverMode::Full => 3,
                });
                put.u64(*max_rate_bytes);
            }
            Self::Rebalance => put.u8(8),
            Self::Start => put.u8(9),
            Self::Stop { host } => {
                put.u8(10);
                put.flag(host.is_some());
                if let Some(host) = host {
                    put.text(NAME, MAX_ROW_TEXT_BYTES, host);
                }
            }
            Self::AddCopies { hosts, rows } => {
                put.u8(11);
                rows::put_hosts(&mut put, hosts);
                rows::put_instances(&mut put, pairs(rows));
            }
            Self::DropCopies { dbids } => {
                put.u8(12);
                put.list(rows::INSTANCES, MAX_INSTANCES, dbids, |put, dbid| put.u16(dbid.0));
            }
            Self::History { limit } => {
                put.u8(13);
                put.u32(*limit);
            }
            Self::Set { key, value } => {
                put.u8(14);
                rows::put_setting(&mut put, key, *value);
            }
            Self::Expand(founding) => {
                put.u8(15);
                put_founding(&mut put, founding);
            }
            Self::Activate { force } => {
                put.u8(16);
                put.flag(*force);
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
            1 => Self::Promote {
                content: take.content()?,
                loss: match take.u8()? {
                    1 => Loss::None,
                    2 => Loss::Accepted,
                    3 => Loss::AcceptedAndFenced,
                    _ => return Err(CodecError::Malformed { what: "an unknown kind of loss" }),
                },
            },
            2 => Self::Recover { content: take.content()? },
            3 => Self::State,
            4 => Self::LookUp { content: take.content()? },
            5 => Self::Register(Registration {
                content: take.content()?,
                instance: take.instance()?,
                segment_bytes: take.u64()?,
                addresses: take.addresses()?,
            }),
            6 => Self::Found(take_founding(&mut take)?),
            7 => Self::BringBack {
                contents: take.list(CONTENTS, MAX_CONTENTS, 4, Take::content)?,
                mode: match take.u8()? {
                    1 => RecoverMode::Auto,
                    2 => RecoverMode::Differential,
                    3 => RecoverMode::Full,
                    _ => return Err(CodecError::Malformed { what: "an unknown recovery mode" }),
                },
                max_rate_bytes: take.u64()?,
            },
            8 => Self::Rebalance,
            9 => Self::Start,
            10 => Self::Stop { host: take.option(|take| take.text(NAME, MAX_ROW_TEXT_BYTES))? },
            11 => Self::AddCopies {
                hosts: rows::take_hosts(&mut take)?,
                rows: rows::take_instances(&mut take)?,
            },
            12 => Self::DropCopies {
                dbids: take.list(rows::INSTANCES, MAX_INSTANCES, 2, |take| take.u16().map(Dbid))?,
            },
            13 => Self::History { limit: take.u32()? },
            14 => {
                let (key, value) = rows::take_setting(&mut take)?;
                Self::Set { key, value }
            }
            15 => Self::Expand(take_founding(&mut take)?),
            16 => Self::Activate { force: take.flag()? },
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
                put_state(&mut put, state);
            }
            Self::Found(place) => {
                put.u8(5);
                put_place(&mut put, place);
            }
            Self::Registered(place) => {
                put.u8(6);
                put_place(&mut put, place);
            }
            Self::Done { text } => {
                put.u8(7);
                put_text(&mut put, text);
            }
            Self::History(rows) => {
                put.u8(8);
                rows::put_histories(&mut put, rows);
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
            4 => Self::State(take_state(&mut take)?),
            5 => Self::Found(take_place(&mut take)?),
            6 => Self::Registered(take_place(&mut take)?),
            7 => Self::Done { text: take.text(TEXT, MAX_TEXT_BYTES)? },
            8 => Self::History(rows::take_histories(&mut take)?),
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

fn pairs<A, B>(list: &[(A, B)]) -> impl Iterator<Item = (&A, &B)> {
    list.iter().map(|(a, b)| (a, b))
}

fn put_founding(put: &mut Put, founding: &Founding) {
    rows::put_hosts(put, &founding.hosts);
    rows::put_instances(put, pairs(&founding.rows));
    put.u64(founding.segment_bytes);
    rows::put_settings(put, pairs(&founding.settings));
}

fn take_founding(take: &mut Take<'_>) -> Result<Founding, CodecError> {
    Ok(Founding {
        hosts: rows::take_hosts(take)?,
        rows: rows::take_instances(take)?,
        segment_bytes: take.u64()?,
        settings: rows::take_settings(take)?,
    })
}
