//! What comes of a connection after it is over: frames that its process reads when it has long dialled again.
//!
//! Guarantees: each direction comes in order and without a hole, once at most, never after a frame of it was
//! lost. It comes on its own connection, or mixed into the newest one of the two nodes. Not here: what
//! arrives while a connection is there (`network`).

use std::collections::VecDeque;

use outrigger_net::message::Message;
use outrigger_wal::Micros;

use super::network::{End, Network, Parcel};
use super::queue::{Queue, Wire};

/// One direction of a connection that is over: what was not read of it.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    parcels: VecDeque<Parcel>,
    fate: Fate,
    /// Read from the newest connection, not from its own.
    mixed: bool,
}

/// When the rest of a direction is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fate {
    /// The connection stands, or nothing was left.
    #[default]
    Open,
    /// Never.
    Lost,
    /// When the two nodes have connected again so many times.
    Waits(u64),
    /// An event is scheduled that reads on.
    Reads,
    /// It was read to its end; what follows is read at once.
    Dry,
}

impl Network {
    /// A frame does not arrive on its connection any more.
    pub(crate) fn keep(
        &mut self,
        now: Micros,
        conn: usize,
        side: usize,
        parcel: Parcel,
        queue: &mut Queue<impl From<Wire>>,
    ) {
        let mut rest = std::mem::take(&mut self.conns[conn].rests[side]);
        if rest.fate == Fate::Open {
            rest.mixed = self.rng.chance(300);
            rest.fate = if !self.rng.chance(self.weather.late_per_mille) {
                Fate::Lost
            } else if self.rng.chance(700) {
                self.waiting.push((conn, side));
                Fate::Waits(1 + u64::from(self.rng.chance(300)))
            } else {
                queue.push(now.plus(self.rng.range(1_000..2_500_000)), Wire::Late { conn, side });
                Fate::Reads
            };
        }
        // A second `Hello` on one connection would be another connection.
        if rest.fate != Fate::Lost && !matches!(parcel.message, Message::Hello { .. }) {
            rest.parcels.push_back(parcel);
            if rest.fate == Fate::Dry {
                rest.fate = Fate::Reads;
                queue.push(now.plus(self.delay()), Wire::Late { conn, side });
            }
        }
        self.conns[conn].rests[side] = rest;
    }

    /// Two nodes have connected: what waited for that is read soon.
    pub(crate) fn wake(
        &mut self,
        now: Micros,
        ends: &[End; 2],
        queue: &mut Queue<impl From<Wire>>,
    ) {
        let nodes = |ends: &[End; 2]| {
            let [a, b] = [ends[0].node, ends[1].node];
            (a.min(b), a.max(b))
        };
        for (conn, side) in std::mem::take(&mut self.waiting) {
            let same = nodes(&self.conns[conn].ends) == nodes(ends);
            let fate = self.conns[conn].rests[side].fate;
            self.conns[conn].rests[side].fate = match fate {
                Fate::Waits(1) if same => {
                    // Into the greeting, into the stream, or behind the return to the in-sync set.
                    let most = 1 << self.rng.range(7..20);
                    queue.push(now.plus(self.rng.below(most)), Wire::Late { conn, side });
                    Fate::Reads
                }
                Fate::Waits(times) => {
                    self.waiting.push((conn, side));
                    Fate::Waits(times - u64::from(same))
                }
                other => other,
            };
        }
    }

    /// The next late frame of a direction, and where it is read: nowhere when nothing connects the nodes.
    pub(crate) fn late(
        &mut self,
        now: Micros,
        conn: usize,
        side: usize,
        queue: &mut Queue<impl From<Wire>>,
    ) -> Option<(End, Parcel)> {
        let rest = &mut self.conns[conn].rests[side];
        let (parcel, mixed) = (rest.parcels.pop_front(), rest.mixed);
        rest.fate = if rest.parcels.is_empty() { Fate::Dry } else { Fate::Reads };
        if rest.fate == Fate::Reads {
            let delay = self.delay();
            queue.push(now.plus(delay), Wire::Late { conn, side });
        }
        let [from, to] = [self.conns[conn].ends[side], self.conns[conn].ends[1 - side]];
        let end = if mixed { self.newest(from.node, to.node) } else { Some(to) };
        Some((end?, parcel?))
    }
}
