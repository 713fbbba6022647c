//! `store dump`: the rows of a stopped copy, as of its latest checkpoint.
//!
//! Guarantees: all rows are of one LSN, which is printed first; a running instance is refused.
//! Not here: what lies in the log behind the checkpoint.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_replica::store::{StateStore, kv};
use outrigger_wal::disk::lock::DirLock;
use serde::Serialize;

use crate::error::{Error, Verdict};
use crate::output::Lines;

#[derive(Serialize)]
struct Head {
    applied_lsn: u64,
}

#[derive(Serialize)]
struct Row {
    key: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
}

/// Prints the rows of the store in the data directory `dir`.
///
/// # Errors
/// When there is none, it is in use, or it cannot be read.
pub(crate) fn dump(dir: &Path, json: bool) -> Result<Verdict, Error> {
    let folder = dir.join("store");
    if !folder.is_dir() {
        return Err(Error::Path {
            path: dir.to_owned(),
            cause: "is not a data directory: there is no store/ in it".to_owned(),
            advice: "give the data_dir of an instance",
        });
    }
    let _lock = DirLock::acquire(dir)?;
    let failed = |error| Error::Store { dir: folder.clone(), error };
    let store = LsmStore::open(&folder, LsmOptions::default()).map_err(failed)?;
    let rows = store.snapshot(&kv::rows()).map_err(failed)?;
    let mut lines = Lines::new();
    let head = Head { applied_lsn: rows.at().0 };
    if json {
        lines.json(&head)?;
    } else {
        lines.text(format_args!("applied LSN {} ({})", rows.at(), head.applied_lsn))?;
    }
    for pair in rows {
        let (key, value) = pair.map_err(failed)?;
        let key = key.get(1..).unwrap_or_default();
        if json {
            let (key, key_encoding) = readable(key);
            let (value, value_encoding) = readable(&value);
            lines.json(&Row { key, value, key_encoding, value_encoding })?;
        } else {
            lines.text(format_args!("{}\t{}", key.escape_ascii(), value.escape_ascii()))?;
        }
    }
    lines.finish()?;
    Ok(Verdict::Good)
}

/// Bytes as a JSON string; what is not UTF-8 in base64, and marked so.
fn readable(bytes: &[u8]) -> (String, Option<&'static str>) {
    std::str::from_utf8(bytes).map_or_else(
        |_| (BASE64_STANDARD.encode(bytes), Some("base64")),
        |text| (text.to_owned(), None),
    )
}
