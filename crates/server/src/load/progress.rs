//! A progress bar on standard error, for whoever watches.
//!
//! Guarantees: nothing is printed where standard error is not a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// How far a load is; gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Nothing of `rows` yet.
    pub(crate) fn new(rows: u64) -> Self {
        let watched = output::is_watched();
        let target =
            if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(rows), target);
        let style = "{bar:30} {pos}/{len} rows  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// `rows` more are committed.
    pub(crate) fn add(&self, rows: u64) {
        self.0.inc(rows);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
