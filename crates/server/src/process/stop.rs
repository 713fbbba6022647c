//! Signals that end a process in order.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// Which signal came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// SIGTERM.
    Terminated,
    /// SIGINT: Ctrl-C.
    Interrupted,
}

/// SIGTERM and SIGINT, which from now on end nothing by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|cause| Error::System {
                what: "signals cannot be listened for",
                cause,
                advice: "check the limits of open files",
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminated,
            _ = self.interrupt.recv() => Stop::Interrupted,
        }
    }
}

/// Ends this process when the one that started it ends, however that ends.
///
/// # Errors
/// When the system refuses, or the parent is gone already.
pub(crate) fn die_with(parent: u32) -> Result<(), Error> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let failed = |cause| Error::System {
        what: "the end of the parent process cannot be followed",
        cause,
        advice: "start this process without that option",
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    // It may have ended before the line above.
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    if alive { Ok(()) } else { Err(failed(std::io::Error::other("it has ended"))) }
}
