//! What the coordinator appends to its own log.
//!
//! Guarantees: decoding is total, nothing is allocated from an unverified length, each record has
//! one encoding. Layout: version `u8` (1), kind `u8`, ticket, fields, in little-endian.

use bytes::Bytes;
use outrigger_net::config::{Config, Version};
use outrigger_net::frame::MAX_COPIES;
use outrigger_wal::{ClusterId, ContentId, LogId};

use super::rows;
use super::tables::{Dbid, Host, Instance, MAX_ROW_TEXT_BYTES, Up};
use crate::buckets::{BUCKETS, Bucket, MapVersion, Move};
use crate::codec::{Put, Take};
use crate::error::CodecError;
use crate::register::{Proposer, Report};

/// The version of records that is written.
pub const VERSION: u8 = 1;
/// The bytes of a report.
const REPORT_BYTES: usize = 32;
const REPORTS: &str = "the number of reports";

/// Names a record, so that whoever had it appended finds out what became of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ticket {
    /// The number of the coordinator's reign that appended it.
    pub epoch: u64,
    /// Counts within that reign.
    pub number: u64,
}

/// A record of the catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its name.
    pub ticket: Ticket,
    /// When it was appended, in microseconds UTC: history tells it, and nothing depends on it.
    pub at: u64,
    /// What it changes.
    pub change: Change,
}

/// What a record changes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// The cluster begins.
    Found {
        /// Its identity.
        cluster: ClusterId,
    },
    /// A content begins.
    Create {
        /// Which.
        content: ContentId,
        /// The identity of its log.
        log: LogId,
        /// The size of that log's segments.
        segment_bytes: u64,
        /// Its first configuration.
        config: Config,
    },
    /// A compare-and-swap of a content's configuration: decided when this is applied.
    Swap {
        /// Which content.
        content: ContentId,
        /// The version it replaces.
        seen: Version,
        /// What is proposed.
        new: Config,
        /// By whom.
        proposer: Proposer,
        /// What copies reported since the last such record (S6): counted first, even when the
        /// swap loses.
        reports: Vec<Report>,
    },
    /// A host is there, or is another than before.
    PutHost(Host),
    /// A host that no instance is on is forgotten.
    RemoveHost {
        /// Its name.
        name: String,
    },
    /// An instance is there, or something else is wanted of it.
    PutInstance {
        /// Which.
        dbid: Dbid,
        /// All of its row.
        row: Instance,
    },
    /// An instance that no configuration names is forgotten.
    RemoveInstance {
        /// Which.
        dbid: Dbid,
    },
    /// A setting has a value.
    Set {
        /// Its name.
        key: String,
        /// The value.
        value: u64,
    },
    /// The cluster is up or down.
    SetUp(Up),
    /// Rows are spread evenly over these contents, where no map of them is there yet.
    Spread {
        /// Which.
        contents: Vec<ContentId>,
    },
    /// Buckets take a step on their way to other contents.
    Moves {
        /// Which step.
        step: MoveStep,
        /// The map has this version then, or a later one.
        floor: MapVersion,
        /// Which buckets.
        moves: Vec<Move>,
    },
    /// Something that an administrator should find in the history.
    Note {
        /// Which instance; 0 for the cluster.
        dbid: Dbid,
        /// What, in words.
        text: String,
    },
}

/// A step of moves, as [`Buckets`](crate::buckets::Buckets) knows them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MoveStep {
    /// Rows are copied from now on.
    Begin,
    /// Nobody serves them from now on.
    HandOver,
    /// The new owners hold them.
    Moved,
    /// They are over.
    End,
}

const MOVES: &str = "the number of moves";
const MOVE_BYTES: usize = 10;
const CONTENTS: &str = "the number of contents";
const NAME: &str = "the name of a host";
const TEXT: &str = "a text of the history";

impl Record {
    /// The bytes of it.
    ///
    /// # Errors
    /// When it has more copies, addresses or bytes in them than a configuration may have.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut put = Put::versioned(VERSION);
        put.u8(match self.change {
            Change::Found { .. } => 1,
            Change::Create { .. } => 2,
            Change::Swap { .. } => 3,
            Change::PutHost(_) => 4,
            Change::RemoveHost { .. } => 5,
            Change::PutInstance { .. } => 6,
            Change::RemoveInstance { .. } => 7,
            Change::Set { .. } => 8,
            Change::SetUp(_) => 9,
            Change::Note { .. } => 10,
            Change::Spread { .. } => 11,
            Change::Moves { .. } => 12,
        });
        put.u64(self.ticket.epoch);
        put.u64(self.ticket.number);
        put.u64(self.at);
        match &self.change {
            Change::Found { cluster } => put.u128(cluster.0),
            Change::Create { content, log, segment_bytes, config } => {
                put.i32(content.0);
                put.u128(log.0);
                put.u64(*segment_bytes);
                put.config(config);
            }
            Change::Swap { content, seen, new, proposer, reports } => {
                put.i32(content.0);
                put.u64(seen.0);
                put.config(new);
                match proposer {
                    Proposer::Instance(instance) => {
                        put.u8(1);
                        put.u128(instance.0);
                    }
                    Proposer::Coordinator => put.u8(2),
                    Proposer::Operator => put.u8(3),
                }
                put.list(REPORTS, MAX_COPIES, reports, |put, report| {
                    put.u128(report.instance.0);
                    put.u64(report.epoch);
                    put.u64(report.durable.0);
                });
            }
            Change::PutHost(host) => rows::put_host(&mut put, host),
            Change::RemoveHost { name } => put.text(NAME, MAX_ROW_TEXT_BYTES, name),
            Change::PutInstance { dbid, row } => {
                put.u16(dbid.0);
                rows::put_instance(&mut put, row);
            }
            Change::RemoveInstance { dbid } => put.u16(dbid.0),
            Change::Set { key, value } => rows::put_setting(&mut put, key, *value),
            Change::SetUp(up) => rows::put_up(&mut put, up),
            Change::Spread { contents } => {
                put.list(CONTENTS, BUCKETS, contents, |put, content| put.i32(content.0));
            }
            Change::Moves { step, floor, moves } => {
                put.u8(match step {
                    MoveStep::Begin => 1,
                    MoveStep::HandOver => 2,
                    MoveStep::Moved => 3,
                    MoveStep::End => 4,
                });
                put.u64(floor.0);
                put.list(MOVES, BUCKETS, moves, |put, one| {
                    put.u16(one.bucket.number());
                    put.i32(one.from.0);
                    put.i32(one.to.0);
                });
            }
            Change::Note { dbid, text } => {
                put.u16(dbid.0);
                put.text(TEXT, MAX_ROW_TEXT_BYTES, text);
            }
        }
        put.done()
    }

    /// The record in these bytes.
    ///
    /// # Errors
    /// When they are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut take = Take::versioned(bytes, VERSION)?;
        let kind = take.u8()?;
        let ticket = Ticket { epoch: take.u64()?, number: take.u64()? };
        let at = take.u64()?;
        let change = match kind {
            1 => Change::Found { cluster: take.cluster()? },
            2 => Change::Create {
                content: take.content()?,
                log: take.log()?,
                segment_bytes: take.u64()?,
                config: take.config()?,
            },
            3 => Change::Swap {
                content: take.content()?,
                seen: take.version()?,
                new: take.config()?,
                proposer: match take.u8()? {
                    1 => Proposer::Instance(take.instance()?),
                    2 => Proposer::Coordinator,
                    3 => Proposer::Operator,
                    _ => return Err(CodecError::Malformed { what: "an unknown proposer" }),
                },
                reports: take.list(REPORTS, MAX_COPIES, REPORT_BYTES, |take| {
                    Ok(Report {
                        instance: take.instance()?,
                        epoch: take.u64()?,
                        durable: take.lsn()?,
                    })
                })?,
            },
            4 => Change::PutHost(rows::take_host(&mut take)?),
            5 => Change::RemoveHost { name: take.text(NAME, MAX_ROW_TEXT_BYTES)? },
            6 => Change::PutInstance {
                dbid: Dbid(take.u16()?),
                row: rows::take_instance(&mut take)?,
            },
            7 => Change::RemoveInstance { dbid: Dbid(take.u16()?) },
            8 => {
                let (key, value) = rows::take_setting(&mut take)?;
                Change::Set { key, value }
            }
            9 => Change::SetUp(rows::take_up(&mut take)?),
            10 => {
                Change::Note { dbid: Dbid(take.u16()?), text: take.text(TEXT, MAX_ROW_TEXT_BYTES)? }
            }
            11 => Change::Spread { contents: take.list(CONTENTS, BUCKETS, 4, Take::content)? },
            12 => Change::Moves {
                step: match take.u8()? {
                    1 => MoveStep::Begin,
                    2 => MoveStep::HandOver,
                    3 => MoveStep::Moved,
                    4 => MoveStep::End,
                    _ => return Err(CodecError::Malformed { what: "an unknown step of a move" }),
                },
                floor: MapVersion(take.u64()?),
                moves: take.list(MOVES, BUCKETS, MOVE_BYTES, |take| {
                    let unknown = CodecError::Malformed { what: "there is no such bucket" };
                    let bucket = Bucket::new(take.u16()?).ok_or(unknown)?;
                    Ok(Move { bucket, from: take.content()?, to: take.content()? })
                })?,
            },
            found => return Err(CodecError::Kind { found }),
        };
        take.end()?;
        Ok(Self { ticket, at, change })
    }
}
