//! The raw figures, in turns with ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::figures::Measured;
use super::ping::{Ends, Ping};
use super::raw::{Both, Loop, Method};
use crate::error::Error;

/// Everything raw that is measured beside ours.
#[derive(Debug)]
pub(super) struct Raw {
    loops: BTreeMap<Method, (Loop, Measured)>,
    both: Option<(Both, Measured)>,
    ping: (Ping, Measured),
    ping_one_cpu: (Ping, Measured),
}

/// What was measured.
#[derive(Debug)]
pub(super) struct RawMeasured {
    /// Each method that works here.
    pub(super) loops: BTreeMap<Method, Measured>,
    /// Two files at once, by the method that works everywhere.
    pub(super) both: Option<Measured>,
    /// The round trip.
    pub(super) ping: Measured,
    /// The same with both ends on one processor.
    pub(super) ping_one_cpu: Measured,
}

impl Raw {
    /// Makes files and connections.
    ///
    /// # Errors
    /// The disk's, the system's.
    pub(super) fn new(dir: &Path, record_bytes: usize) -> Result<Self, Error> {
        let mut loops = BTreeMap::new();
        for method in Method::ALL {
            if let Some(made) = Loop::new(dir, method.name(), method, record_bytes)? {
                loops.insert(method, (made, Measured::new()?));
            }
        }
        let both = match Both::new(dir, Method::Dsync, record_bytes)? {
            Some(both) => Some(both),
            None => Both::new(dir, Method::Fdatasync, record_bytes)?,
        };
        let both = both.map(|both| Measured::new().map(|measured| (both, measured))).transpose()?;
        let ping = |ends| Ok::<_, Error>((Ping::new(record_bytes, ends)?, Measured::new()?));
        let (ping, ping_one_cpu) = (ping(Ends::Apart)?, ping(Ends::Together)?);
        Ok(Self { loops, both, ping, ping_one_cpu })
    }

    /// One turn: as long as one of ours in all.
    ///
    /// # Errors
    /// The disk's, the system's.
    pub(super) fn turn(&mut self, slice: Duration) -> Result<(), Error> {
        for (made, measured) in self.loops.values_mut() {
            made.run(slice / 5, measured)?;
        }
        if let Some((both, measured)) = &mut self.both {
            both.run(slice / 5, measured)?;
        }
        for (ping, measured) in [&mut self.ping, &mut self.ping_one_cpu] {
            ping.run(slice / 5, measured)?;
        }
        Ok(())
    }

    /// What was measured.
    pub(super) fn measured(self) -> RawMeasured {
        RawMeasured {
            loops: self
                .loops
                .into_iter()
                .map(|(method, (_, measured))| (method, measured))
                .collect(),
            both: self.both.map(|(_, measured)| measured),
            ping: self.ping.1,
            ping_one_cpu: self.ping_one_cpu.1,
        }
    }
}
