//! A round trip over loopback: a record there, an acknowledgement back.
//!
//! Between two processors it is what two processes, or hosts, have at least: each end sleeps until it is
//! woken there. On one processor, where the ends only take turns, it is more than ten times
//! faster; that figure is taken too, and no replica can have it. Not here: the sum it goes into.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::figures::Measured;
use crate::error::Error;

/// What goes with a record: frame head, envelope, block header.
const HEAD_BYTES: usize = 256;
/// About what an acknowledgement has.
const ACK_BYTES: usize = 192;

/// Where the ends are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    /// On two processors, if there are two.
    Apart,
    /// On one.
    Together,
}

/// A connection whose other end answers.
#[derive(Debug)]
pub(super) struct Ping {
    stream: TcpStream,
    there: Vec<u8>,
    back: [u8; ACK_BYTES],
    here: CpuSet,
}

impl Ping {
    /// Connects; the other end lives as long as this.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(record_bytes: usize, ends: Ends) -> Result<Self, Error> {
        let (here, far) = processors(ends)?;
        let bytes = record_bytes + HEAD_BYTES;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let stream = TcpStream::connect(listener.local_addr().map_err(failed)?).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (mut other, _) = listener.accept().map_err(failed)?;
        other.set_nodelay(true).map_err(failed)?;
        let echo = move || {
            let (mut got, ack) = (vec![0; bytes], [0; ACK_BYTES]);
            let placed = sched_setaffinity(None, &far).is_ok();
            while placed && other.read_exact(&mut got).is_ok() && other.write_all(&ack).is_ok() {}
        };
        std::thread::Builder::new().name("echo".to_owned()).spawn(echo).map_err(failed)?;
        Ok(Self { stream, there: vec![b'p'; bytes], back: [0; ACK_BYTES], here })
    }

    /// Goes back and forth for so long.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn run(&mut self, time: Duration, into: &mut Measured) -> Result<(), Error> {
        let before = sched_getaffinity(None).map_err(|error| failed(error.into()))?;
        sched_setaffinity(None, &self.here).map_err(|error| failed(error.into()))?;
        let result = self.go(time, into);
        sched_setaffinity(None, &before).map_err(|error| failed(error.into()))?;
        result
    }

    fn go(&mut self, time: Duration, into: &mut Measured) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < time {
            let at = Instant::now();
            self.stream.write_all(&self.there).map_err(failed)?;
            self.stream.read_exact(&mut self.back).map_err(failed)?;
            into.note(at.elapsed());
        }
        into.took(began.elapsed());
        Ok(())
    }
}

/// One processor for each end, of those this process may use.
fn processors(ends: Ends) -> Result<(CpuSet, CpuSet), Error> {
    let all = sched_getaffinity(None).map_err(|error| failed(error.into()))?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    let first = usable.next().unwrap_or(0);
    let second = usable.next().filter(|_| ends == Ends::Apart).unwrap_or(first);
    let only = |cpu| {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    };
    Ok((only(first), only(second)))
}

fn failed(cause: std::io::Error) -> Error {
    Error::System { what: "loopback cannot be measured", cause, advice: "check the network" }
}
