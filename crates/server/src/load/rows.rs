//! Rows of a CSV file: each a key, and a JSON object of all its columns.
//!
//! Guarantees: a file is read once as a whole before its first row is given out, so that a malformed
//! one stores nothing; rows come in the file's order, strings as they are in the file.
//! Not here: what happens to a row.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::kv::protocol::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Where rows come from.
#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Text(&'static str),
}

/// A file of rows that was found to be whole.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    source: Source,
    name: String,
    columns: Vec<String>,
    key: usize,
    /// How many rows there are.
    pub(crate) rows: u64,
    /// How many of them have a key that an earlier one has.
    pub(crate) duplicates: u64,
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Its key.
    pub(crate) key: Bytes,
    /// A JSON object of all its columns.
    pub(crate) value: Bytes,
}

impl Input {
    /// Reads a file to its end, and checks it.
    ///
    /// # Errors
    /// When it cannot be read, is malformed, empty, or has no such column.
    pub(crate) fn open(path: &Path, key: &str) -> Result<Self, Error> {
        Self::check(Source::File(path.to_owned()), path.display().to_string(), key)
    }

    /// Rows that are part of this program.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub(crate) fn embedded(name: &str, text: &'static str, key: &str) -> Result<Self, Error> {
        Self::check(Source::Text(text), name.to_owned(), key)
    }

    fn check(source: Source, name: String, key: &str) -> Result<Self, Error> {
        let mut input = Self { source, name, columns: Vec::new(), key: 0, rows: 0, duplicates: 0 };
        let mut reader = input.reader()?;
        let header = reader.headers().map_err(|error| input.malformed(&error))?;
        input.columns = header.iter().map(str::to_owned).collect();
        let wrong = |line, cause| Error::Rows { input: input.name.clone(), line, cause };
        if input.columns.iter().all(String::is_empty) {
            return Err(wrong(0, "is empty; its first line must name the columns".to_owned()));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = input.columns.iter().find(|column| !seen.insert(column.as_str())) {
            return Err(wrong(1, format!("two columns are called {twice:?}; rename one")));
        }
        let Some(index) = input.columns.iter().position(|column| column == key) else {
            let columns = input.columns.join(", ");
            return Err(wrong(
                1,
                format!("no column {key:?} for --key; the columns are {columns}"),
            ));
        };
        input.key = index;
        let (mut keys, mut rows) = (HashSet::new(), 0);
        for row in input.rows()? {
            keys.insert(row?.key);
            rows += 1;
        }
        input.rows = rows;
        input.duplicates = rows - keys.len() as u64;
        Ok(input)
    }

    /// The rows, from the first.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn rows(&self) -> Result<Rows<'_>, Error> {
        Ok(Rows { input: self, reader: self.reader()?, record: csv::StringRecord::new() })
    }

    fn reader(&self) -> Result<csv::Reader<Box<dyn Read + Send>>, Error> {
        let source: Box<dyn Read + Send> = match &self.source {
            Source::Text(text) => Box::new(text.as_bytes()),
            Source::File(path) => {
                let unreadable = |cause| Error::file("cannot be read", path, cause);
                let file = File::open(path).map_err(unreadable)?;
                if !file.metadata().map_err(unreadable)?.is_file() {
                    return Err(Error::Path {
                        path: path.clone(),
                        cause: "is not a regular file".to_owned(),
                        advice: "it is read twice: put the rows into a file",
                    });
                }
                Box::new(file)
            }
        };
        Ok(csv::Reader::from_reader(source))
    }

    fn malformed(&self, error: &csv::Error) -> Error {
        let line = error.position().map_or(0, |at| usize::try_from(at.line()).unwrap_or(0));
        let cause = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} fields, the first line {expected_len}; is a quote missing?")
            }
            csv::ErrorKind::Utf8 { .. } => "is not UTF-8; convert the file".to_owned(),
            csv::ErrorKind::Io(cause) => format!("cannot be read: {cause}"),
            _ => format!("{error}; is it a CSV file?"),
        };
        Error::Rows { input: self.name.clone(), line, cause }
    }
}

/// The rows of an [`Input`].
pub(crate) struct Rows<'a> {
    input: &'a Input,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::StringRecord,
}

impl Rows<'_> {
    fn row(&self) -> Result<Row, Error> {
        let line = self.record.position().map_or(0, |at| usize::try_from(at.line()).unwrap_or(0));
        let wrong = |cause| Error::Rows { input: self.input.name.clone(), line, cause };
        let key = self.record.get(self.input.key).unwrap_or_default();
        if key.len() > MAX_KEY_BYTES {
            let cause = format!("the key has {} bytes, {MAX_KEY_BYTES} at most", key.len());
            return Err(wrong(cause));
        }
        let object: Map<String, Value> = self
            .input
            .columns
            .iter()
            .zip(&self.record)
            .map(|(column, value)| (column.clone(), Value::from(value)))
            .collect();
        let value = Value::Object(object).to_string();
        if value.len() > MAX_VALUE_BYTES {
            let cause = format!("the row has {} bytes, {MAX_VALUE_BYTES} at most", value.len());
            return Err(wrong(cause));
        }
        Ok(Row { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into() })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.read_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => Some(self.row()),
            Err(error) => Some(Err(self.input.malformed(&error))),
        }
    }
}

/// The rows that ship with this program.
///
/// # Errors
/// None: they are tested.
pub(crate) fn airports() -> Result<Input, Error> {
    Input::embedded("airports.csv", include_str!("../../data/airports.csv"), "faa")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &[u8], key: &str) -> Result<Input, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        std::fs::write(&path, text).unwrap();
        let input = Input::open(&path, key).map_err(|error| error.to_string())?;
        // The rows are checked while the file is there.
        assert_eq!(input.rows().unwrap().count() as u64, input.rows);
        Ok(input)
    }

    #[test]
    fn a_row_is_a_json_object_of_strings_in_the_order_of_the_columns() {
        let text = "z,a\n1,\"x, \"\"y\"\"\"\n2,NA\n1,\n";
        let input = Input::embedded("rows", text, "z").unwrap();
        assert_eq!((input.rows, input.duplicates), (3, 1));
        let rows: Vec<_> = input.rows().unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].key, "1");
        assert_eq!(rows[0].value, r#"{"z":"1","a":"x, \"y\""}"#);
        assert_eq!(rows[2].value, r#"{"z":"1","a":""}"#);
    }

    #[test]
    fn duplicates_are_counted_wherever_they_stand() {
        let input = open(b"k,v\na,1\nb,2\na,3\na,4\n", "k").unwrap();
        assert_eq!((input.rows, input.duplicates), (4, 2));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_line() {
        for (text, expected) in [
            (&b""[..], "is empty"),
            (b"a,b\n1,2\n", "line 1: no column \"k\" for --key; the columns are a, b"),
            (b"k,k\n1,2\n", "line 1: two columns are called \"k\""),
            (b"k,v\n1,2\n3\n", "line 3: has 1 fields, the first line 2"),
            (b"k,v\n1,2\n3,\xFF\n", "line 3: is not UTF-8"),
        ] {
            let error = open(text, "k").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_missing_file_and_a_directory_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = Input::open(&dir.path().join("none.csv"), "k").unwrap_err().to_string();
        assert!(
            error.contains("none.csv: cannot be read") && error.contains("check the path"),
            "{error}"
        );
        let error = Input::open(dir.path(), "k").unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
    }

    #[test]
    fn the_rows_that_ship_with_the_program_have_unique_keys() {
        let input = airports().unwrap();
        assert_eq!((input.rows, input.duplicates), (1458, 0));
    }
}
