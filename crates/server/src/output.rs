//! The one place that prints.
//!
//! Guarantees: a reader that closes its end is no panic: it is [`Error::OutputClosed`] where the output
//! is the command's purpose, and nothing where it is not. Lines are whole.
//! Not here: logs (tracing, standard error), progress bars.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::error::Error;

/// Many lines on standard output, written in large pieces.
pub(crate) struct Lines(BufWriter<Stdout>);

impl Lines {
    /// Nothing printed yet.
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, io::stdout()))
    }

    /// One line of text.
    pub(crate) fn text(&mut self, line: fmt::Arguments<'_>) -> Result<(), Error> {
        writeln!(self.0, "{line}").map_err(closed)
    }

    /// One line that is a JSON value.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| closed(error.into()))?;
        self.0.write_all(b"\n").map_err(closed)
    }

    /// Prints what is still held back.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.0.flush().map_err(closed)
    }
}

/// One line on standard output, at once.
pub(crate) fn say(line: fmt::Arguments<'_>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(closed)
}

/// One JSON value as a line on standard output, at once.
pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Error> {
    let mut lines = Lines::new();
    lines.json(value)?;
    lines.finish()
}

/// Asks an administrator, who answers y or n.
///
/// # Errors
/// There is nobody to ask.
pub(crate) fn confirm(question: &str) -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Option {
            option: "-a",
            cause: "there is no terminal to ask on; -a goes on without a question".to_owned(),
        });
    }
    say(format_args!("{question} y|n (default n):"))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Bytes as they are on standard output.
pub(crate) fn say_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(closed)
}

/// One line on standard error; when nobody reads it there is nobody to tell.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Sends log lines to standard error from now on; `filter` is a level, or tracing's directives, and
/// the variable `RUST_LOG` wins over it.
pub(crate) fn log_to_stderr(filter: &str) -> Result<(), Error> {
    let filter = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| Error::Option {
        option: "log",
        cause: format!("{error}; give error, warn, info, debug or trace"),
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Only a second call fails, and then the first one's choice stays.
    drop(logs.with_ansi(io::stderr().is_terminal()).try_init());
    Ok(())
}

fn closed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::OutputClosed
    } else {
        Error::Output(error)
    }
}
