//! Rows out of a CSV file, and the log of what was acknowledged.
//!
//! # Layout
//! - [`rows`]: a file checked whole, then its rows one by one
//! - [`run`]: rows go in, acknowledgements come out
//! - [`ack_log`]: one line a row, written only after its commit
//! - [`pace`]: no faster than told
//! - [`progress`]: a bar for whoever watches
//!
//! Not here: how a row is committed ([`crate::kv`]).

pub(crate) mod ack_log;
pub(crate) mod pace;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod run;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Verdict};
use crate::kv::client::Client;
use crate::output;
use crate::process::stop::Signals;
use ack_log::AckLog;
use pace::Pace;
use progress::Progress;
use rows::Input;

/// How a file is loaded.
#[derive(Clone, Debug)]
pub(crate) struct LoadOptions {
    /// Rows on their way at the same time.
    pub(crate) in_flight: usize,
    /// Rows a second, at most.
    pub(crate) rate: Option<f64>,
    /// Where acknowledgements go.
    pub(crate) ack_log: Option<PathBuf>,
}

/// Acknowledgements are held back for so long at most.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// `kv load`: stores a file, shows how far it is, and says what became of it.
///
/// # Errors
/// When it cannot be read, the ack log cannot be written, or it is interrupted.
pub(crate) async fn command(
    client: &Client,
    input: &Input,
    options: &LoadOptions,
) -> Result<Verdict, Error> {
    let mut signals = Signals::new()?;
    let acks = options.ack_log.as_deref().map(AckLog::create).transpose()?.map(RefCell::new);
    let progress = Progress::new(input.rows);
    let stopped = AtomicBool::new(false);
    let on_ack = |ack: ack_log::Ack, _| {
        progress.add(1);
        acks.as_ref().map_or(Ok(()), |acks| acks.borrow_mut().note(&ack))
    };
    let flush = || acks.as_ref().map_or(Ok(()), |acks| acks.borrow_mut().flush());
    let go = || if stopped.load(Ordering::Relaxed) { run::Go::End } else { run::Go::On };
    let began = Instant::now();
    let pace = Pace::new(options.rate);
    let loading = run::run(client, input.rows()?, options.in_flight, pace, go, on_ack);
    let mut loading = std::pin::pin!(loading);
    let mut ticks = tokio::time::interval(FLUSH_TIME);
    let loaded = loop {
        tokio::select! {
            loaded = &mut loading => break loaded,
            _ = ticks.tick() => flush()?,
            _ = signals.next() => stopped.store(true, Ordering::Relaxed),
        }
    };
    // What is acknowledged is in the ack log, however the load ended.
    let flushed = flush();
    progress.end();
    let loaded = loaded?;
    flushed?;
    let seconds = began.elapsed().as_secs_f64();
    output::say(format_args!(
        "{} of {} rows committed in {seconds:.1} s, {} with a key that an earlier row has, {} in doubt",
        loaded.acked, input.rows, input.duplicates, loaded.in_doubt
    ))?;
    if stopped.load(Ordering::Relaxed) {
        let left = "rows that were on their way are decided".to_owned();
        return Err(Error::Interrupted { left });
    }
    match loaded.failed {
        Some(why) => Err(Error::Partial(format!("the load ended early: {why}"))),
        None => Ok(Verdict::Good),
    }
}
