//! What the catalog says: a function of its records.
//!
//! Guarantees: every change is decided here, when its record is applied, in log order; one that is
//! refused changes nothing but what its reports say. What a change does to an instance's role, mode or status is
//! written into the history with it. Not here: locks, files, LSNs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use outrigger_net::config::Config;
use outrigger_replica::rules::Rules;
use outrigger_wal::format::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

use super::record::Change;
use super::tables::{
    Dbid, History, Host, Instance, MAX_HISTORY, MAX_HOSTS, MAX_INSTANCES, Up, Wanted,
};
use crate::buckets::{Buckets, BucketsError};
use crate::coordinator::{PROVED, SETTLED, UNPROVED};
use crate::register::{Conflict, Register};

/// The most contents of a cluster.
pub const MAX_CONTENTS: usize = 1 << 16;

/// One content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// The identity of its log.
    pub log: LogId,
    /// The size of that log's segments, in bytes.
    pub segment_bytes: u64,
    /// Its configuration.
    pub register: Register,
}

/// Why a change was refused when it was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The configuration may not change so.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// There is no such content.
    #[error("there is no content {content}: initialise its first instance")]
    NoContent {
        /// Which.
        content: ContentId,
    },
    /// The content is there already, with another log.
    #[error("content {content} is there already")]
    ContentExists {
        /// Which.
        content: ContentId,
    },
    /// The catalog belongs to another cluster.
    #[error("this is the catalog of cluster {found}, not of {expected}")]
    WrongCluster {
        /// Whose catalog it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// A cluster has as many contents as it may have.
    #[error("a cluster has at most {MAX_CONTENTS} contents")]
    TooManyContents,
    /// A segment size that no log can have.
    #[error(
        "segments of {found} bytes: it must be a power of two from {MIN_SEGMENT_BYTES} to \
         {MAX_SEGMENT_BYTES}"
    )]
    SegmentBytes {
        /// The size.
        found: u64,
    },
    /// A cluster has as many hosts or instances as it may have.
    #[error("a cluster has at most {MAX_HOSTS} hosts and {MAX_INSTANCES} instances")]
    TooManyRows,
    /// An instance on a host that the catalog does not know.
    #[error("the instance's host is not in the catalog")]
    NoHost,
    /// A host that instances are on.
    #[error("instance {dbid} is on this host")]
    HostInUse {
        /// One of them.
        dbid: Dbid,
    },
    /// There is no such instance.
    #[error("there is no instance {dbid}")]
    NoInstance {
        /// Which.
        dbid: Dbid,
    },
    /// Two instances with one identity, or one place.
    #[error("instance {dbid} has that identity or place already")]
    Taken {
        /// Who has it.
        dbid: Dbid,
    },
    /// An instance that a configuration names.
    #[error("a configuration names instance {dbid}")]
    InstanceInUse {
        /// Which.
        dbid: Dbid,
    },
    /// A catalog that was made anew, where there is one.
    #[error("there is a catalog here already: one that was made anew is not put over it")]
    NotEmpty,
    /// Bytes that are no catalog.
    #[error("what was made anew cannot be read here; is it of another release?")]
    NoCatalog,
    /// An instance cannot become another.
    #[error("instance {dbid} is of another content, or has another identity")]
    OtherInstance {
        /// Which.
        dbid: Dbid,
    },
    /// Buckets cannot move so.
    #[error(transparent)]
    Buckets(#[from] BucketsError),
    /// No rows are there that could move.
    #[error("no content holds rows yet")]
    NoMap,
    /// An instance that has every commit would be made anew, or a primary removed.
    #[error("instance {dbid} is in the in-sync set or primary: its data is needed")]
    Needed {
        /// Which.
        dbid: Dbid,
    },
    /// An instance serves one content only.
    #[error("instance {instance} has a copy of content {content} already")]
    ServesAnother {
        /// Which instance.
        instance: InstanceId,
        /// What it serves.
        content: ContentId,
    },
}

/// What the catalog says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct State {
    /// The cluster, once it was founded.
    pub cluster: Option<ClusterId>,
    /// Its contents.
    pub contents: BTreeMap<ContentId, Content>,
    /// Its hosts, by name.
    pub hosts: BTreeMap<String, Host>,
    /// Its instances.
    pub instances: BTreeMap<Dbid, Instance>,
    /// What was set, by name.
    pub settings: BTreeMap<String, u64>,
    /// Whether it should be up.
    pub up: Up,
    /// What happened, oldest first.
    pub history: VecDeque<History>,
    /// How many rows of history are forgotten.
    pub forgotten: u64,
    /// Which content holds which rows; none before there is a content of data.
    pub map: Option<Arc<Buckets>>,
    /// How many buckets the expansion under way moves in all.
    pub planned: u32,
}

/// What an instance is: role, mode and status, as the tables call them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// `p` or `m`.
    pub role: char,
    /// `s` when the pair is in sync, else `n`.
    pub mode: char,
    /// `u`, or `d` when it is out until it is recovered.
    pub status: char,
}

impl Standing {
    /// What a configuration says of a copy. The acting primary is never down here: where it is lost, that is a
    /// double fault, and shown as such elsewhere.
    #[must_use]
    pub fn of(config: &Config, instance: InstanceId) -> Self {
        let primary = config.primary == instance;
        let synced = config.in_sync_set().count() > 1 && config.in_sync(instance);
        let up = primary || config.in_sync(instance);
        Self {
            role: if primary { 'p' } else { 'm' },
            mode: if synced { 's' } else { 'n' },
            status: if up { 'u' } else { 'd' },
        }
    }
}

impl State {
    /// The content of which `instance` has a copy.
    #[must_use]
    pub fn content_of(&self, instance: InstanceId) -> Option<ContentId> {
        let mut contents = self.contents.iter();
        contents.find_map(|(id, content)| {
            let config = content.register.config();
            config.and_then(|config| config.copy(instance)).map(|_| *id)
        })
    }

    /// The row of an instance.
    #[must_use]
    pub fn row_of(&self, instance: InstanceId) -> Option<(Dbid, &Instance)> {
        let mut rows = self.instances.iter();
        rows.find(|(_, row)| row.instance == instance).map(|(dbid, row)| (*dbid, row))
    }

    /// The lowest number that no instance has, and none had as far as rows tell.
    #[must_use]
    pub fn free_dbid(&self) -> Dbid {
        let last = self.instances.keys().next_back().map_or(0, |dbid| dbid.0);
        Dbid(last.saturating_add(1))
    }

    /// Applies one change that was appended `at` microseconds UTC.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn apply(&mut self, at: u64, change: &Change, rules: Rules) -> Result<(), Refused> {
        match change {
            Change::PutHost(host) => {
                if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host.name) {
                    return Err(Refused::TooManyRows);
                }
                self.hosts.insert(host.name.clone(), host.clone());
                Ok(())
            }
            Change::RemoveHost { name } => {
                match self.instances.iter().find(|(_, row)| row.host == *name) {
                    Some((dbid, _)) => Err(Refused::HostInUse { dbid: *dbid }),
                    None => {
                        self.hosts.remove(name);
                        Ok(())
                    }
                }
            }
            Change::PutInstance { dbid, row } => self.put_instance(at, *dbid, row),
            Change::RemoveInstance { dbid } => self.remove_instance(at, *dbid),
            Change::Set { key, value } => {
                self.settings.insert(key.clone(), *value);
                Ok(())
            }
            Change::SetUp(up) => {
                if self.up != *up {
                    self.note(at, Dbid(0), format!("the cluster is {}", up_in_words(up)));
                }
                self.up = up.clone();
                Ok(())
            }
            Change::Restore { body } => self.restore(at, body),
            Change::Spread { contents } => self.spread(contents),
            Change::Moves { step, floor, moves } => self.take_moves(at, (*step, *floor), moves),
            Change::Note { dbid, text } => {
                self.note(at, *dbid, text.clone());
                Ok(())
            }
            Change::Found { cluster } => match self.cluster.replace(*cluster) {
                Some(found) if found != *cluster => {
                    self.cluster = Some(found);
                    Err(Refused::WrongCluster { found, expected: *cluster })
                }
                _ => Ok(()),
            },
            Change::Create { content, log, segment_bytes, config } => {
                if self.contents.contains_key(content) {
                    return Err(Refused::ContentExists { content: *content });
                }
                if self.contents.len() >= MAX_CONTENTS {
                    return Err(Refused::TooManyContents);
                }
                let found = *segment_bytes;
                if !is_segment_size(found) {
                    return Err(Refused::SegmentBytes { found });
                }
                self.check_free(*content, config.copies.iter().map(|copy| copy.instance))?;
                let mut register = Register::default();
                register.create(config.clone())?;
                let created = Content { log: *log, segment_bytes: found, register };
                self.contents.insert(*content, created);
                self.spread_over_first();
                Ok(())
            }
            Change::Swap { content, seen, new, proposer, reports } => {
                let added = new.copies.iter().map(|copy| copy.instance);
                let free = self.check_free(*content, added);
                let Some(row) = self.contents.get_mut(content) else {
                    return Err(Refused::NoContent { content: *content });
                };
                for report in reports {
                    // One that is stale by now says nothing.
                    if let Err(refused) = row.register.report(report) {
                        tracing::debug!(%content, %refused, "a report is not counted");
                    }
                }
                free?;
                let before = row.register.config().cloned();
                // A copy that an agent runs stays out until somebody lets it come back.
                row.register.hold_out = self.instances.values().any(|row| row.content == *content);
                row.register.swap(*seen, new, *proposer, rules)?;
                let after = row.register.config().cloned();
                if let (Some(before), Some(after)) = (before, after) {
                    self.settle_loss(*content, &before, &after);
                    self.note_changes(at, *content, &before, &after);
                    self.settle_made(*content, &after);
                }
                Ok(())
            }
        }
    }

    /// Takes over a catalog that was made anew: all of it, or nothing.
    fn restore(&mut self, at: u64, body: &[u8]) -> Result<(), Refused> {
        let empty = self.contents.is_empty() && self.instances.is_empty() && self.hosts.is_empty();
        if !empty || self.up != Up::Founding {
            return Err(Refused::NotEmpty);
        }
        let (restored, _) = super::image::decode(body).map_err(|_| Refused::NoCatalog)?;
        match (self.cluster, restored.cluster) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(Refused::WrongCluster { found, expected });
            }
            _ => {}
        }
        let before = std::mem::replace(self, restored);
        self.cluster = before.cluster.or(self.cluster);
        let known = self.history.len();
        for row in self.history.iter_mut().take(known) {
            row.at = at;
        }
        Ok(())
    }

    fn put_instance(&mut self, at: u64, dbid: Dbid, row: &Instance) -> Result<(), Refused> {
        if !self.hosts.contains_key(&row.host) {
            return Err(Refused::NoHost);
        }
        let same_place = |other: &Instance| {
            other.host == row.host
                && (other.data_dir == row.data_dir || other.addresses == row.addresses)
        };
        let taken = self.instances.iter().find(|(id, other)| {
            **id != dbid && (other.instance == row.instance || same_place(other))
        });
        if let Some((dbid, _)) = taken {
            return Err(Refused::Taken { dbid: *dbid });
        }
        if self.is_needed(row) {
            return Err(Refused::Needed { dbid });
        }
        match self.instances.get(&dbid) {
            Some(old) if old.content != row.content || old.instance != row.instance => {
                return Err(Refused::OtherInstance { dbid });
            }
            None if self.instances.len() >= MAX_INSTANCES => return Err(Refused::TooManyRows),
            None => {
                let (content, host) = (row.content, &row.host);
                self.note(at, dbid, format!("added for contentid {content} on host {host}"));
            }
            Some(_) => {}
        }
        self.instances.insert(dbid, row.clone());
        Ok(())
    }

    /// Whether what is wanted of this row would destroy what commits count on. Judged here, in log order, since a
    /// copy may have come in sync, or become primary, since it was asked for.
    fn is_needed(&self, row: &Instance) -> bool {
        let content = self.contents.get(&row.content);
        let Some(config) = content.and_then(|content| content.register.config()) else {
            return false;
        };
        let primary = config.primary == row.instance;
        match row.wanted {
            Wanted::Rebuild(_) => primary || config.in_sync(row.instance),
            Wanted::Gone => primary,
            Wanted::Down | Wanted::New | Wanted::Up => false,
        }
    }

    /// A copy that was to be made, and is in sync, is made: from now on it only has to run.
    fn settle_made(&mut self, content: ContentId, config: &Config) {
        if config.epoch.number == 0 {
            return;
        }
        for row in self.instances.values_mut().filter(|row| row.content == content) {
            let made = matches!(row.wanted, Wanted::New | Wanted::Rebuild(_));
            if made && config.in_sync(row.instance) {
                row.wanted = Wanted::Up;
            }
        }
    }

    fn remove_instance(&mut self, at: u64, dbid: Dbid) -> Result<(), Refused> {
        let row = self.instances.get(&dbid).ok_or(Refused::NoInstance { dbid })?;
        if self.content_of(row.instance).is_some() {
            return Err(Refused::InstanceInUse { dbid });
        }
        let text = format!("removed, was for contentid {} on host {}", row.content, row.host);
        self.instances.remove(&dbid);
        self.note(at, dbid, text);
        Ok(())
    }

    /// S8, S10: a loss that is accepted for a content while it is unproved settles what copies may hold that never report.
    fn settle_loss(&mut self, content: ContentId, before: &Config, after: &Config) {
        if let Some(mark) = self.unproved().filter(|_| before.loss != after.loss) {
            self.settings.insert(format!("{SETTLED}{}", content.0), mark);
        }
    }

    /// Whether a loss was accepted for a content since the catalog was last known to lack something.
    #[must_use]
    pub fn is_settled(&self, content: ContentId) -> bool {
        let mark = self.unproved();
        mark.is_some() && self.settings.get(&format!("{SETTLED}{}", content.0)).copied() == mark
    }

    /// The reign that began with a catalog that may lack something, until it is proved (S8).
    #[must_use]
    pub fn unproved(&self) -> Option<u64> {
        let of = |key| self.settings.get(key).copied().unwrap_or_default();
        Some(of(UNPROVED)).filter(|mark| *mark > of(PROVED))
    }

    /// A row of history for each instance that is something else than before.
    fn note_changes(&mut self, at: u64, content: ContentId, before: &Config, after: &Config) {
        let mut changed = Vec::new();
        for (dbid, row) in self.instances.iter().filter(|(_, row)| row.content == content) {
            let known = before.copy(row.instance).map(|_| Standing::of(before, row.instance));
            if after.copy(row.instance).is_none() {
                continue;
            }
            let now = Standing::of(after, row.instance);
            if known != Some(now) {
                let Standing { role, mode, status } = now;
                let text = format!(
                    "FTS: update role, status, and mode for dbid {dbid} with contentid {content} to \
                     {role}, {status}, and {mode}"
                );
                changed.push((*dbid, text));
            }
        }
        for (dbid, text) in changed {
            self.note(at, dbid, text);
        }
    }

    pub(super) fn note(&mut self, at: u64, dbid: Dbid, description: String) {
        self.history.push_back(History { at, dbid, description });
        if self.history.len() > MAX_HISTORY {
            self.history.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    fn check_free(
        &self,
        content: ContentId,
        mut instances: impl Iterator<Item = InstanceId>,
    ) -> Result<(), Refused> {
        let taken = instances.find_map(|instance| {
            let other = self.content_of(instance).filter(|other| *other != content)?;
            Some(Refused::ServesAnother { instance, content: other })
        });
        taken.map_or(Ok(()), Err)
    }
}

fn up_in_words(up: &Up) -> String {
    match up {
        Up::Founding => "being made".to_owned(),
        Up::Running => "up".to_owned(),
        Up::Stopped => "stopped".to_owned(),
        Up::ShutDown { why } => format!("down: {why}"),
    }
}

/// Whether a log can have segments of this size.
#[must_use]
pub const fn is_segment_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES
}
