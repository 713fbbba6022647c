//! A round trip over loopback: a record there, an acknowledgement back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::figures::Measured;
use crate::error::Error;

/// What goes with a record: frame head, envelope, block header.
const HEAD_BYTES: usize = 256;
/// About what an acknowledgement has.
const ACK_BYTES: usize = 192;

/// A connection whose other end answers.
#[derive(Debug)]
pub(super) struct Ping {
    stream: TcpStream,
    there: Vec<u8>,
    back: [u8; ACK_BYTES],
}

impl Ping {
    /// Connects; the other end lives as long as this.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(record_bytes: usize) -> Result<Self, Error> {
        let bytes = record_bytes + HEAD_BYTES;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let stream = TcpStream::connect(listener.local_addr().map_err(failed)?).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (mut other, _) = listener.accept().map_err(failed)?;
        other.set_nodelay(true).map_err(failed)?;
        let echo = move || {
            let (mut got, ack) = (vec![0; bytes], [0; ACK_BYTES]);
            while other.read_exact(&mut got).is_ok() && other.write_all(&ack).is_ok() {}
        };
        std::thread::Builder::new().name("echo".to_owned()).spawn(echo).map_err(failed)?;
        Ok(Self { stream, there: vec![b'p'; bytes], back: [0; ACK_BYTES] })
    }

    /// Goes back and forth for so long.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn run(&mut self, time: Duration, into: &mut Measured) -> Result<(), Error> {
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

fn failed(cause: std::io::Error) -> Error {
    Error::System { what: "loopback cannot be measured", cause, advice: "check the network" }
}
