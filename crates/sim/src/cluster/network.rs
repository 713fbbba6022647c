//! Connections between nodes: delay, cuts in the middle of a frame, one-way partitions, stalls.
//!
//! Guarantees: a direction of a connection is in order and without a hole until it is cut; what lies behind
//! the cut comes late or never. Not here: when faults happen (`faults`), how late it comes (`late`).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use outrigger_net::frame::{Frame, FrameDecoder, Limits, encode};
use outrigger_net::message::{Envelope, Message};
use outrigger_replica::member::LinkId;
use outrigger_wal::Micros;
use tokio_util::codec::Decoder as _;

use super::late::Rest;
use super::queue::{Life, Queue, Wire};
use crate::rng::Rng;

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) envelope: Envelope,
    pub(crate) message: Message,
    pub(crate) body: Bytes,
}

impl Parcel {
    /// What a member sends; now and then it really becomes bytes and is read back from pieces.
    pub(crate) fn pack(
        envelope: Envelope,
        message: Message,
        body: &[Bytes],
        rng: &mut Rng,
        per_mille: u32,
    ) -> Result<Self, String> {
        let joined = match body {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        };
        if !rng.chance(per_mille) {
            return Ok(Self { envelope, message, body: joined });
        }
        let head = encode(&envelope, &message).map_err(|error| error.to_string())?;
        let stream = [head, joined].concat();
        let mut decoder = FrameDecoder::new(Limits::open(1 << 20));
        let mut buffer = BytesMut::new();
        let mut rest = stream.as_slice();
        loop {
            let frame = decoder.decode(&mut buffer).map_err(|error| error.to_string())?;
            if let Some(Frame { envelope: e, message: m, body: b }) = frame {
                if (e, &m, &b[..]) != (envelope, &message, &stream[stream.len() - b.len()..]) {
                    return Err(format!("{message:?} came back from its bytes as {m:?}"));
                }
                return Ok(Self { envelope: e, message: m, body: b });
            }
            if rest.is_empty() {
                return Err(format!("{message:?} does not come back from its bytes"));
            }
            let len = usize::try_from(rng.range(1..70_000)).unwrap_or(1).min(rest.len());
            let (piece, others) = rest.split_at(len);
            buffer.extend_from_slice(piece);
            rest = others;
        }
    }
}

/// The beginning of a frame, up to any byte: nothing comes of it.
fn cut_short(parcel: &Parcel, rng: &mut Rng) -> Result<(), String> {
    let mut stream =
        encode(&parcel.envelope, &parcel.message).map_err(|error| error.to_string())?.to_vec();
    // Near its ends as often as in between.
    stream.extend_from_slice(&parcel.body);
    let len = stream.len() as u64;
    let read = if rng.chance(500) { rng.below(len) } else { len - 1 - rng.below(len.min(64)) };
    stream.truncate(usize::try_from(read).unwrap_or(0));
    let mut decoder = FrameDecoder::new(Limits::open(1 << 20));
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(60_000) {
        buffer.extend_from_slice(piece);
        match decoder.decode(&mut buffer) {
            Ok(None) => {}
            Ok(Some(_)) => {
                return Err(format!("{read} of {len} bytes are read as {:?}", parcel.message));
            }
            Err(error) => return Err(format!("{read} of {len} bytes are refused: {error}")),
        }
    }
    Ok(())
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) life: Life,
    pub(crate) link: LinkId,
    /// Nothing more is brought here.
    pub(crate) closed: bool,
}

/// A connection; side 0 dialled.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// What is on its way from each side.
    ways: [VecDeque<Parcel>; 2],
    /// When the last frame from each side arrives.
    last: [Micros; 2],
    /// Until when nothing of each side is read.
    stalled: [Micros; 2],
    cut: bool,
    /// What was not read of each side when it was over.
    pub(crate) rests: [Rest; 2],
}

/// How the network behaves.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// How long a frame takes.
    pub(crate) delay_micros: Range<u64>,
    /// How often, in a thousand, a frame takes longer, and how much.
    pub(crate) slow_per_mille: u32,
    /// See `slow_per_mille`.
    pub(crate) slow_micros: Range<u64>,
    /// How often what was not read of a connection that is over comes late.
    pub(crate) late_per_mille: u32,
    /// How often a message becomes bytes.
    pub(crate) encode_per_mille: u32,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) conns: Vec<Conn>,
    /// Directions in which nothing passes; the authority is the node behind the last.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) weather: Weather,
    pub(crate) rng: Rng,
    /// Directions that are over and come late, once their nodes have connected again.
    pub(crate) waiting: Vec<(usize, usize)>,
}

impl Network {
    pub(crate) const fn new(weather: Weather, rng: Rng) -> Self {
        Self { conns: Vec::new(), blocked: BTreeSet::new(), weather, rng, waiting: Vec::new() }
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let micros = self.rng.range(self.weather.delay_micros.clone());
        if self.rng.chance(self.weather.slow_per_mille) {
            return micros + self.rng.range(self.weather.slow_micros.clone());
        }
        micros
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(crate) fn join(&mut self, now: Micros, ends: [End; 2], queue: &mut Queue<impl From<Wire>>) {
        self.wake(now, &ends, queue);
        self.conns.push(Conn {
            ends,
            ways: Default::default(),
            last: [now; 2],
            stalled: [now; 2],
            cut: false,
            rests: Default::default(),
        });
    }

    /// Which connection and side a process means by `link`.
    pub(crate) fn find(&self, node: usize, life: Life, link: LinkId) -> Option<(usize, usize)> {
        let is = |end: &End| (end.node, end.life, end.link) == (node, life, link);
        let found = self
            .conns
            .iter()
            .enumerate()
            .rev()
            .find_map(|(conn, c)| c.ends.iter().position(is).map(|side| (conn, side)));
        found.filter(|(conn, side)| !self.conns[*conn].ends[*side].closed)
    }

    pub(crate) fn send(
        &mut self,
        now: Micros,
        conn: usize,
        side: usize,
        parcel: Parcel,
        queue: &mut Queue<impl From<Wire>>,
    ) {
        let delay = self.delay();
        let conn_ref = &mut self.conns[conn];
        if conn_ref.cut {
            self.keep(now, conn, side, parcel, queue);
            return;
        }
        let at = conn_ref.last[side].max(now.plus(delay));
        conn_ref.last[side] = at;
        conn_ref.ways[side].push_back(parcel);
        queue.push(at, Wire::Arrive { conn, side });
    }

    /// The next frame from `side`, to be brought to the other end.
    pub(crate) fn arrive(
        &mut self,
        now: Micros,
        conn: usize,
        side: usize,
        queue: &mut Queue<impl From<Wire>>,
    ) -> Option<(End, Parcel)> {
        let [a, b] = self.conns[conn].ends;
        let (from, to) = if side == 0 { (a, b) } else { (b, a) };
        if self.is_blocked(from.node, to.node) && !self.conns[conn].cut {
            // It waits, as in TCP, until the path is mended or the connection given up.
            let again = now.plus(self.rng.range(5_000..30_000));
            self.conns[conn].last[side] = self.conns[conn].last[side].max(again);
            queue.push(again, Wire::Arrive { conn, side });
            return None;
        }
        let until = self.conns[conn].stalled[side];
        if now < until && !self.conns[conn].cut {
            self.conns[conn].last[side] = self.conns[conn].last[side].max(until);
            queue.push(until, Wire::Arrive { conn, side });
            return None;
        }
        let parcel = self.conns[conn].ways[side].pop_front()?;
        if to.closed {
            self.keep(now, conn, side, parcel, queue);
            return None;
        }
        Some((to, parcel))
    }

    /// Whether something that a node says or is told is not read.
    pub(crate) fn is_stalled(&self, node: usize, now: Micros) -> bool {
        let stalls = |conn: &usize| self.conns[*conn].stalled.iter().any(|until| now < *until);
        self.of(node).iter().any(stalls)
    }

    /// Nothing of one side is read until then.
    pub(crate) fn stall(&mut self, conn: usize, side: usize, until: Micros) {
        self.conns[conn].stalled[side] = until;
    }

    /// Where a late frame surfaces: the newest open connection between the two nodes.
    pub(crate) fn newest(&self, from: usize, to: usize) -> Option<End> {
        self.conns.iter().rev().filter(|conn| !conn.cut).find_map(|conn| {
            let [a, b] = conn.ends;
            let found = [(a, b), (b, a)].into_iter().find(|(x, y)| (x.node, y.node) == (from, to));
            found.map(|(_, end)| end).filter(|end| !end.closed)
        })
    }

    /// Breaks a connection: behind a point in each direction nothing arrives; both ends learn of it
    /// later, each at its time.
    /// Of the first frame behind that point the beginning comes, up to any byte.
    pub(crate) fn cut(
        &mut self,
        now: Micros,
        conn: usize,
        notice: Range<u64>,
        queue: &mut Queue<impl From<Wire>>,
    ) -> Result<(), String> {
        if std::mem::replace(&mut self.conns[conn].cut, true) {
            return Ok(());
        }
        let mut read = Ok(());
        for side in 0..2 {
            let way = std::mem::take(&mut self.conns[conn].ways[side]);
            let stalled = now < self.conns[conn].stalled[side];
            let whole = if stalled { 0 } else { self.rng.below(way.len() as u64 + 1) };
            for (n, parcel) in way.into_iter().enumerate() {
                if (n as u64) < whole {
                    self.conns[conn].ways[side].push_back(parcel);
                } else {
                    if n as u64 == whole {
                        read = read.and(cut_short(&parcel, &mut self.rng));
                    }
                    self.keep(now, conn, side, parcel, queue);
                }
            }
            let seen = if stalled { now } else { self.conns[conn].last[side].max(now) };
            let at = seen.plus(self.rng.range(notice.clone()));
            queue.push(at, Wire::Closed { conn, side: 1 - side });
        }
        read
    }

    /// One end hangs up: what it said still arrives, then the other end learns of it.
    pub(crate) fn hang_up(
        &mut self,
        now: Micros,
        conn: usize,
        side: usize,
        queue: &mut Queue<impl From<Wire>>,
    ) {
        self.conns[conn].ends[side].closed = true;
        for parcel in std::mem::take(&mut self.conns[conn].ways[1 - side]) {
            self.keep(now, conn, 1 - side, parcel, queue);
        }
        if !std::mem::replace(&mut self.conns[conn].cut, true) {
            let at = self.conns[conn].last[side].max(now).plus(self.delay());
            queue.push(at, Wire::Closed { conn, side: 1 - side });
        }
    }

    /// The open connections of a node.
    pub(crate) fn of(&self, node: usize) -> Vec<usize> {
        let touches = |conn: &Conn| !conn.cut && conn.ends.iter().any(|end| end.node == node);
        let all = self.conns.iter().enumerate();
        all.filter(|(_, conn)| touches(conn)).map(|(at, _)| at).collect()
    }

    pub(crate) fn open(&self) -> Vec<usize> {
        (0..self.conns.len()).filter(|at| !self.conns[*at].cut).collect()
    }
}
