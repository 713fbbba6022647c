//! What the catalog says: a function of its records.
//!
//! Guarantees: every change is decided here, when its record is applied, in log order; one that is
//! refused changes nothing but what its reports say. Not here: locks, files, LSNs.

use std::collections::BTreeMap;

use outrigger_replica::rules::Rules;
use outrigger_wal::format::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use outrigger_wal::{ClusterId, ContentId, InstanceId, LogId};

use super::record::Change;
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

    /// Applies one change.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn apply(&mut self, change: &Change, rules: Rules) -> Result<(), Refused> {
        match change {
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
                Ok(row.register.swap(*seen, new, *proposer, rules)?)
            }
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

/// Whether a log can have segments of this size.
#[must_use]
pub const fn is_segment_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES
}
