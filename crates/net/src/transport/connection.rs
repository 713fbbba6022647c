//! One connection as a stream of frames each way, over anything that reads and writes.
//!
//! Guarantees: reading never holds more than the decoder's limits allow and one read ahead; writing
//! copies nothing in user space. Not here: queues and events ([`super::run`]).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use crate::error::Error;
use crate::frame::{Frame, FrameDecoder, Limits};

/// What is read at once while no length is known and the peer is a stranger.
const GREETING_READ_BYTES: usize = 4 * 1024;
/// The same, once it is known. Bodies are read in one piece, into room of just their size.
const READ_BYTES: usize = 64 * 1024;
/// The most bytes of one vectored write: what stays in the processor's cache on its way.
const WRITE_BYTES: usize = 256 * 1024;
const WRITE_SLICES: usize = 64;

/// Both halves of a connection.
#[derive(Debug)]
pub struct Connection<S> {
    /// Frames that come.
    pub reader: Reader<ReadHalf<S>>,
    /// Frames that go.
    pub writer: Writer<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// A connection before its handshake. `idle` bounds each wait for a byte once it is open (the
    /// greeting is for the caller to bound, as a whole), `stall` each wait for a byte to be taken.
    pub fn new(io: S, idle: Duration, stall: Duration) -> Self {
        let (read, write) = tokio::io::split(io);
        Self { reader: Reader::new(read, idle), writer: Writer { io: write, stall } }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    idle: Duration,
    buffer: BytesMut,
    decoder: FrameDecoder,
    opened: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(io: R, idle: Duration) -> Self {
        Self {
            io,
            idle,
            buffer: BytesMut::with_capacity(GREETING_READ_BYTES),
            decoder: FrameDecoder::new(Limits::GREETING),
            opened: false,
        }
    }

    /// The handshake is done: takes other limits, and reads ahead.
    pub fn open(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
        self.opened = true;
    }

    /// The memory of the read buffer, in bytes.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next frame; `None` when the peer closed between two.
    ///
    /// # Errors
    /// Whatever ends the connection: the socket, a deadline, a peer that breaks the protocol.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            // Inside a frame the decoder has made room for just what is missing.
            let ahead = if self.opened { READ_BYTES } else { GREETING_READ_BYTES };
            if self.decoder.is_between_frames() && self.spare() < ahead / 4 {
                self.buffer.reserve(ahead);
            }
            let idle = if self.opened { self.idle } else { Duration::MAX };
            let read = timeout(idle, self.io.read_buf(&mut self.buffer)).await;
            match read.map_err(|_| timed_out("waiting for the peer", idle))? {
                Ok(0) => return self.decoder.decode_eof(&mut self.buffer),
                Ok(_) => {}
                Err(source) => {
                    return Err(Error::Io { doing: "reading", source });
                }
            }
        }
    }

    fn spare(&self) -> usize {
        self.buffer.capacity().saturating_sub(self.buffer.len())
    }

    /// Reads what still comes and forgets it, up to `bytes`: closing a socket with unread bytes
    /// would reset it, and take back what was sent last.
    pub(super) async fn drain(&mut self, mut bytes: usize) {
        let mut scrap = [0; 4096];
        while let Ok(read @ 1..) = self.io.read(&mut scrap).await {
            match bytes.checked_sub(read) {
                Some(left) => bytes = left,
                None => return,
            }
        }
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    stall: Duration,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Sends one frame: its head, and the blocks behind it.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::TimedOut`] when the peer takes nothing.
    pub async fn send(&mut self, head: Bytes, body: Vec<Bytes>) -> Result<(), Error> {
        let mut pieces = VecDeque::with_capacity(1 + body.len());
        pieces.push_back(head);
        pieces.extend(body);
        self.send_pieces(&mut pieces).await
    }

    /// Sends `pieces` one behind the other, taking off what was sent.
    pub(super) async fn send_pieces(&mut self, pieces: &mut VecDeque<Bytes>) -> Result<(), Error> {
        loop {
            while pieces.front().is_some_and(Bytes::is_empty) {
                pieces.pop_front();
            }
            if pieces.is_empty() {
                return self.flush().await;
            }
            let sent = self.write_some(pieces).await?;
            take_off(pieces, sent);
        }
    }

    async fn write_some(&mut self, pieces: &VecDeque<Bytes>) -> Result<usize, Error> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let mut count = 0;
        let mut room = WRITE_BYTES;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            let part = piece.get(..piece.len().min(room)).unwrap_or_default();
            *slice = IoSlice::new(part);
            room -= part.len();
            count += 1;
            if room == 0 {
                break;
            }
        }
        let slices = slices.get(..count).unwrap_or_default();
        let written = timeout(self.stall, self.io.write_vectored(slices)).await;
        match written.map_err(|_| timed_out("waiting for the peer to take a byte", self.stall))? {
            Ok(0) => Err(write_failed(io::ErrorKind::WriteZero.into())),
            Ok(sent) => Ok(sent),
            Err(source) => Err(write_failed(source)),
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let flushed = timeout(self.stall, self.io.flush()).await;
        flushed
            .map_err(|_| timed_out("waiting for the peer to take a byte", self.stall))?
            .map_err(write_failed)
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        let closed = timeout(self.stall, self.io.shutdown()).await;
        closed.map_err(|_| timed_out("closing", self.stall))?.map_err(write_failed)
    }
}

/// Takes what was sent off the front.
pub(super) fn take_off(pieces: &mut VecDeque<Bytes>, mut sent: usize) {
    while let Some(front) = pieces.front_mut() {
        if sent < front.len() {
            front.advance(sent);
            return;
        }
        sent -= front.len();
        pieces.pop_front();
    }
}

fn write_failed(source: io::Error) -> Error {
    Error::Io { doing: "writing", source }
}

pub(super) fn timed_out(what: &'static str, deadline: Duration) -> Error {
    Error::TimedOut { what, millis: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) }
}
