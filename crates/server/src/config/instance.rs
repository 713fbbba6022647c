//! An instance's configuration.

use std::path::PathBuf;

use outrigger_wal::format::{DEFAULT_SEGMENT_BYTES, is_segment_bytes};
use serde::Deserialize;

use super::identity::one_or_more;
use super::{IdentityConfig, Key, Keyed, Wrong};

/// What an instance is started with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstanceConfig {
    /// Its data directory: `wal/`, `store/` and the control file.
    pub(crate) data_dir: PathBuf,
    /// The addresses, `host:port`, on which other copies and clients are answered.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) listen: Vec<String>,
    /// The addresses that others are told; empty: `listen`.
    #[serde(default)]
    pub(crate) advertise: Vec<String>,
    /// The coordinator's address, `host:port`, and the standby's.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) coordinator: Vec<String>,
    /// Who it is, where its agent says it.
    #[serde(default)]
    pub(crate) identity: Option<IdentityConfig>,
    /// The content that it serves; used by `--init` only.
    #[serde(default)]
    pub(crate) content: u16,
    /// The size of a segment in bytes; used by `--init` of a content's first instance only.
    #[serde(default = "segment_bytes")]
    pub(crate) segment_bytes: u64,
    /// How long a primary goes on without a connection to a copy before it asks to go on without it,
    /// in milliseconds.
    #[serde(default = "copy_grace_ms")]
    pub(crate) copy_grace_ms: u64,
    /// The pause between two probes of the disk, in milliseconds.
    #[serde(default = "disk_probe_interval_ms")]
    pub(crate) disk_probe_interval_ms: u64,
    /// How many connections may be open at once: copies, clients, operators.
    #[serde(default = "max_connections")]
    pub(crate) max_connections: usize,
    /// Log that nobody needs is kept for so many bytes of log space behind the log's end.
    #[serde(default = "retain_bytes")]
    pub(crate) retain_bytes: u64,
    /// The store's memtable is flushed when it has grown to this many bytes.
    #[serde(default = "memtable_bytes")]
    pub(crate) memtable_bytes: u64,
    /// The store keeps so many bytes of its tables in memory.
    #[serde(default = "cache_bytes")]
    pub(crate) cache_bytes: u64,
    /// Which log lines are written to standard error.
    #[serde(default = "log")]
    pub(crate) log: String,
}

const fn segment_bytes() -> u64 {
    DEFAULT_SEGMENT_BYTES
}

const fn copy_grace_ms() -> u64 {
    200
}

const fn disk_probe_interval_ms() -> u64 {
    500
}

const fn max_connections() -> usize {
    32
}

const fn retain_bytes() -> u64 {
    1 << 30
}

const fn memtable_bytes() -> u64 {
    12 << 20
}

const fn cache_bytes() -> u64 {
    8 << 20
}

pub(super) fn log() -> String {
    "info".to_owned()
}

impl Keyed for InstanceConfig {
    const KEYS: &'static [Key] = &[
        Key {
            name: "data_dir",
            unit: "path",
            default: "",
            meaning: "holds `wal/`, `store/` and the control file; one process at a time",
        },
        Key {
            name: "listen",
            unit: "host:port, or a list",
            default: "",
            meaning: "where other copies and clients are answered; port 0 takes a free one",
        },
        Key {
            name: "advertise",
            unit: "list of host:port",
            default: "[]",
            meaning: "the addresses that others are told, in order of preference; none: `listen`",
        },
        Key {
            name: "coordinator",
            unit: "host:port, or a list",
            default: "",
            meaning: "where the coordinator listens, and its standby: whichever serves is asked",
        },
        Key {
            name: "identity",
            unit: "table",
            default: "none",
            meaning: "cluster, content, instance and log, given by its agent; without it `--init` asks the \
                      coordinator for a place",
        },
        Key {
            name: "content",
            unit: "number",
            default: "0",
            meaning: "the content it serves; used by `--init` only",
        },
        Key {
            name: "segment_bytes",
            unit: "bytes",
            default: "67108864",
            meaning: "the size of a log segment, a power of two from 1 MiB to 1 GiB; used by `--init` \
                      of a content's first instance only, the others take what the log has",
        },
        Key {
            name: "copy_grace_ms",
            unit: "milliseconds",
            default: "200",
            meaning: "how long a primary waits for a copy it has no connection to, before it asks to \
                      go on without it; for one that it has not met since it was started itself, until \
                      3 s behind its start",
        },
        Key {
            name: "disk_probe_interval_ms",
            unit: "milliseconds",
            default: "500",
            meaning: "the pause between two probes of the disk: 4 KiB are written past the page cache and \
                      synced in the data directory and in its `wal/`; how long ago that last worked is \
                      told with each heartbeat",
        },
        Key {
            name: "max_connections",
            unit: "number",
            default: "32",
            meaning: "how many connections may be open at once; each may hold some 3 MiB of memory",
        },
        Key {
            name: "retain_bytes",
            unit: "bytes",
            default: "1073741824",
            meaning: "log that no copy and no checkpoint needs is kept until the log's end is so far \
                      ahead, in bytes of log space",
        },
        Key {
            name: "memtable_bytes",
            unit: "bytes",
            default: "12582912",
            meaning: "the store's memtable is flushed at this size; up to three of them are in memory",
        },
        Key {
            name: "cache_bytes",
            unit: "bytes",
            default: "8388608",
            meaning: "how much of the store's tables is kept in memory",
        },
        Key {
            name: "log",
            unit: "level",
            default: "\"info\"",
            meaning: "log lines on standard error: error, warn, info, debug, trace, or directives of tracing",
        },
    ];

    fn check(&self) -> Result<(), Wrong> {
        check_addresses("listen", &self.listen)?;
        check_addresses("coordinator", &self.coordinator)?;
        self.advertise.iter().try_for_each(|address| check_address("advertise", address))?;
        if !is_segment_bytes(self.segment_bytes) {
            let cause = format!("{} is not a power of two from 1 MiB to 1 GiB", self.segment_bytes);
            return Err(("segment_bytes", cause).into());
        }
        if self.content > i16::MAX.unsigned_abs() {
            return Err(("content", format!("{} is too large", self.content)).into());
        }
        check_range("copy_grace_ms", self.copy_grace_ms, 10, 3_600_000)?;
        check_range("disk_probe_interval_ms", self.disk_probe_interval_ms, 10, 60_000)?;
        check_range("max_connections", self.max_connections as u64, 2, 65_536)?;
        check_range("memtable_bytes", self.memtable_bytes, 1 << 20, 256 << 20)?;
        Ok(check_range("cache_bytes", self.cache_bytes, 1 << 20, 64 << 30)?)
    }
}

/// Refuses what is not `host:port`.
pub(super) fn check_address(
    key: &'static str,
    address: &str,
) -> Result<(), (&'static str, String)> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(()),
        _ => Err((key, format!("{address:?} is not host:port, as in \"127.0.0.1:7001\""))),
    }
}

/// Refuses a list that is empty, or holds something else.
pub(super) fn check_addresses(
    key: &'static str,
    addresses: &[String],
) -> Result<(), (&'static str, String)> {
    if addresses.is_empty() {
        return Err((key, "no address is given".to_owned()));
    }
    addresses.iter().try_for_each(|address| check_address(key, address))
}

/// Refuses what is out of range.
pub(super) fn check_range(
    key: &'static str,
    found: u64,
    least: u64,
    most: u64,
) -> Result<(), (&'static str, String)> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err((key, format!("{found} is not between {least} and {most}")))
    }
}
