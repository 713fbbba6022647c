//! The demo: a mirrored log that loses its primary and nothing else.
//!
//! Real processes on loopback, real rows, SIGKILL under load, promotion, rejoin, and then the proof: each
//! acknowledged row is looked up in both logs and both stores.
//!
//! # Layout
//! - [`stage`]: the directory, the processes
//! - [`book`]: what was acknowledged, and how long it took
//! - [`story`]: what happens, in order
//! - [`check`]: the proof
//! - [`report`]: what is printed at the end
//!
//! Guarantees: however it ends, no process is left, and no directory but with `--keep`.

mod book;
mod check;
mod report;
mod stage;
mod story;

use std::path::PathBuf;

use crate::error::{Error, Verdict};
use crate::load::rows::{Input, airports};
use crate::process::stop::Signals;
use crate::{output, process};
use stage::Stage;

/// What the demo is told.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    /// A CSV file and its key column; `None`: the rows that ship with this program, over and over.
    pub(crate) input: Option<(PathBuf, String)>,
    /// Where data goes; `None`: below the system's directory for temporary files.
    pub(crate) dir: Option<PathBuf>,
    /// The directory stays.
    pub(crate) keep: bool,
    /// One JSON object as the last line.
    pub(crate) json: bool,
}

/// Runs the demo.
///
/// # Errors
/// What it could not do; a lost row is no error but [`Verdict::Wrong`].
pub(crate) fn run(options: &DemoOptions) -> Result<Verdict, Error> {
    let input = match &options.input {
        Some((path, key)) => Input::open(path, key)?,
        None => airports()?,
    };
    let repeat = options.input.is_none();
    let runtime = process::runtime()?;
    let stage = Stage::new(options.dir.as_deref(), options.keep)?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            ended = act(&stage, &input, repeat, options.json) => ended,
            _ = signals.next() => {
                let left = if options.keep {
                    format!("the processes are gone, {} stays", stage.dir().display())
                } else {
                    "nothing is left behind".to_owned()
                };
                Err(Error::Interrupted { left })
            }
        }
    })
}

async fn act(stage: &Stage, input: &Input, repeat: bool, json: bool) -> Result<Verdict, Error> {
    let told = story::tell(stage, input, repeat).await?;
    stage.say(format_args!(
        "looking up {} acknowledged rows in both logs and both stores",
        told.acks.len()
    ))?;
    let proof = check::prove(stage, &told)?;
    let report = report::Report::new(&told, &proof);
    report.say()?;
    if json {
        output::say_json(&report)?;
    }
    Ok(Verdict::good_if(report.is_good()))
}
