//! `outrigger kv`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use outrigger_wal::ContentId;

use super::{Patience, Where};
use crate::error::{Error, Verdict};
use crate::kv::client::{Client, ClientError, ClientOptions};
use crate::kv::finding::Route;
use crate::kv::protocol::{Answer, Change, MAX_ROWS, Request};
use crate::load::{self, LoadOptions};
use crate::output::{Lines, say, say_bytes};
use crate::process::{self, stop::Signals};

#[derive(Debug, Args)]
pub(super) struct Kv {
    #[command(subcommand)]
    verb: Verb,
    /// Ask the primary of one content straight, not through the coordinator
    ///
    /// For when the coordinator is down: give the addresses of the content's copies then.
    #[arg(long, global = true, requires = "content")]
    direct: bool,
    /// The content that is asked straight
    #[arg(long, value_name = "N", global = true, requires = "direct", value_parser = clap::value_parser!(i32).range(0..))]
    content: Option<i32>,
    /// Where copies of that content listen; without it the coordinator is asked
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        requires = "direct",
        value_delimiter = ','
    )]
    at: Vec<String>,
    #[command(flatten)]
    whom: Where,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give a row a value; prints epoch and LSN of the commit
    Put {
        /// The row's key
        key: String,
        /// The row's value
        value: String,
    },
    /// Print the value of a row; exit code 1 when there is none
    Get {
        /// The row's key
        key: String,
    },
    /// Take a row away; prints epoch and LSN of the commit
    Delete {
        /// The row's key
        key: String,
    },
    /// Print rows in key order: key, tab, value
    Scan {
        /// The first key
        #[arg(long, default_value = "")]
        from: String,
        /// At most so many rows
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Print how many rows there are
    Count,
    /// Store each row of a CSV file as JSON under its key
    ///
    /// Rows with one key are stored in the file's order. Exit code 1 when some row could not be stored
    /// or is in doubt.
    Load {
        /// The file; its first line names the columns
        file: PathBuf,
        /// The column that is the key
        #[arg(long, value_name = "COLUMN")]
        key: String,
        /// Rows on their way at the same time
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64))]
        in_flight: u16,
        /// No faster than so many rows a second
        #[arg(long, value_name = "ROWS_PER_S", value_parser = rate)]
        rate: Option<f64>,
        /// Write a line for each row once it is committed: a JSON object with content, epoch, lsn, end, key, value_crc32
        #[arg(long, value_name = "FILE")]
        ack_log: Option<PathBuf>,
    },
}

fn rate(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.parse().ok();
    found.filter(|found| (0.001..=1e9).contains(found)).ok_or_else(|| "0.001 to 1e9".to_owned())
}

impl Kv {
    pub(super) fn run(self) -> Result<Verdict, Error> {
        let route = match self.content {
            Some(content) if self.direct => {
                Route::Direct { content: ContentId(content), addresses: self.at }
            }
            _ => Route::ByKey,
        };
        let coordinators = self.whom.coordinator.split(',').map(str::to_owned).collect();
        let client =
            Client::new(ClientOptions { coordinators, route, patience: self.patience.time() })?;
        let runtime = process::runtime()?;
        let read = |request| runtime.block_on(client.read(&request)).map_err(failed);
        let write = |change| {
            let place = runtime.block_on(async {
                let mut signals = Signals::new()?;
                tokio::select! {
                    biased;
                    _ = signals.next() => Err(Error::Interrupted {
                        left: "the write is in doubt: look at the row, or write it again".to_owned(),
                    }),
                    place = client.write(vec![change]) => place.map_err(failed),
                }
            })?;
            say(format_args!("committed: epoch {}, LSN {}", place.epoch, place.lsn))?;
            Ok(Verdict::Good)
        };
        match self.verb {
            Verb::Put { key, value } => write(Change::Put { key: key.into(), value: value.into() }),
            Verb::Delete { key } => write(Change::Delete { key: key.into() }),
            Verb::Get { key } => match read(Request::Get { key: key.into() })? {
                Answer::Value(Some(value)) => {
                    say_bytes(&[&value, &b"\n"[..]].concat())?;
                    Ok(Verdict::Good)
                }
                _ => Ok(Verdict::Wrong),
            },
            Verb::Count => {
                if let Answer::Count(count) = read(Request::Count { of: None })? {
                    say(format_args!("{count}"))?;
                }
                Ok(Verdict::Good)
            }
            Verb::Scan { from, limit } => scan(read, from.into(), limit.unwrap_or(u64::MAX)),
            Verb::Load { file, key, in_flight, rate, ack_log } => {
                let input = load::rows::Input::open(&file, &key)?;
                let options = LoadOptions { in_flight: usize::from(in_flight), rate, ack_log };
                runtime.block_on(load::command(&client, &input, &options))
            }
        }
    }
}

fn scan(
    read: impl Fn(Request) -> Result<Answer, Error>,
    mut from: Bytes,
    mut left: u64,
) -> Result<Verdict, Error> {
    let mut lines = Lines::new();
    while left > 0 {
        let limit = u32::try_from(left.min(MAX_ROWS as u64)).unwrap_or(1);
        let Answer::Rows(rows) = read(Request::Scan { from: from.clone(), limit, of: None })?
        else {
            break;
        };
        let Some((last, _)) = rows.last() else { break };
        from = [last, &b"\0"[..]].concat().into();
        left = left.saturating_sub(rows.len() as u64);
        for (key, value) in &rows {
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            lines.text(format_args!("{key}\t{value}"))?;
        }
    }
    lines.finish()?;
    Ok(Verdict::Good)
}

fn failed(error: ClientError) -> Error {
    match error {
        ClientError::Refused(text) => Error::Denied { text },
        ClientError::InDoubt(text) => Error::Partial(format!(
            "the write is in doubt: {text}; look at the row, or write it again"
        )),
        ClientError::Unavailable(text) => Error::Unavailable { text },
    }
}
