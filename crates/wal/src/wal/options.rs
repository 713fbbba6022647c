//! How a log is opened. Not here: what opening does.

use crate::format::DEFAULT_SEGMENT_BYTES;
use crate::log::LogOptions;
use crate::lsn::{ContentId, InstanceId};

/// How a [`Wal`](crate::Wal) is opened.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Whether a log is made where there is none. Default no: an empty folder is an error, because
    /// a lost disk must not become an empty log.
    pub create: bool,
    /// The size of a new log's segments, in bytes: a power of two from 1 MiB to 1 GiB, default
    /// 64 MiB. A log that is there keeps its own.
    pub segment_bytes: u64,
    /// The content that the log is of. Default 0.
    pub content: ContentId,
    /// Who seals: promises count for their sealer alone, so a log keeps its instance. Default 0.
    pub instance: InstanceId,
    /// Disk threads. Default 3.
    pub threads: usize,
    /// How the running log behaves.
    pub log: LogOptions,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            create: false,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            content: ContentId(0),
            instance: InstanceId(0),
            threads: 3,
            log: LogOptions::default(),
        }
    }
}
