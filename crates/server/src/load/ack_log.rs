//! The ack log: one JSON line a row, written only after its commit.
//!
//! Guarantees: the file holds whole lines only, whenever the process ends. Not here: who may say that a row is
//! committed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A row that is committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ack {
    /// The content it is on; -1 when that is not known.
    pub(crate) content: i32,
    /// The epoch it was committed in.
    pub(crate) epoch: u64,
    /// Where its record starts.
    pub(crate) lsn: u64,
    /// Behind its record's last byte.
    pub(crate) end: u64,
    /// Its key.
    pub(crate) key: String,
    /// CRC-32 (IEEE) of its value's bytes.
    pub(crate) value_crc32: u32,
}

/// A file of acks in the making.
#[derive(Debug)]
pub(crate) struct AckLog {
    path: PathBuf,
    file: File,
    held: Vec<u8>,
}

impl AckLog {
    /// Makes the file, or empties the one that is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let file =
            File::create(path).map_err(|cause| Error::file("cannot be made", path, cause))?;
        Ok(Self { path: path.to_owned(), file, held: Vec::new() })
    }

    /// Adds a row that is committed; held back until [`AckLog::flush`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn note(&mut self, ack: &Ack) -> Result<(), Error> {
        serde_json::to_writer(&mut self.held, ack)
            .map_err(|error| Error::file("cannot be written", &self.path, error.into()))?;
        self.held.push(b'\n');
        Ok(())
    }

    /// Writes what is held back, as whole lines.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_all(&self.held);
        self.held.clear();
        written.map_err(|cause| Error::file("cannot be written", &self.path, cause))
    }
}

/// Reads an ack log.
///
/// # Errors
/// When it cannot be read, or a line is none.
pub(crate) fn read(path: &Path) -> Result<Vec<Ack>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| Error::file("cannot be read", path, cause))?;
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| Error::Rows {
                input: path.display().to_string(),
                line: index + 1,
                cause: format!("is no line of an ack log: {error}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(lsn: u64) -> Ack {
        Ack { content: 0, epoch: 1, lsn, end: lsn + 10, key: format!("k\"{lsn}"), value_crc32: 7 }
    }

    #[test]
    fn what_is_noted_is_a_line_of_json_once_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        let mut log = AckLog::create(&path).unwrap();
        log.note(&ack(4096)).unwrap();
        log.note(&ack(8192)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        log.flush().unwrap();
        log.note(&ack(9000)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"content":0,"epoch":1,"lsn":4096,"end":4106,"key":"k\"4096","value_crc32":7}"#
        );
        log.flush().unwrap();
        assert_eq!(read(&path).unwrap(), [ack(4096), ack(8192), ack(9000)]);
    }

    #[test]
    fn a_line_that_is_none_is_told_with_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1: is no line"));
    }
}
