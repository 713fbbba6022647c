//! The connections between the two copies of the model, and what is on its way on them.
//!
//! Not here: what a copy makes of a message (`world`), which message is next (`steps`).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use outrigger_net::frame::encode;
use outrigger_net::message::{Envelope, Message};
use outrigger_replica::member::{In, LinkId};

use super::world::World;

/// A message, with its fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) envelope: Envelope,
    pub(super) message: Message,
    pub(super) body: Bytes,
    pub(super) print: u64,
}

/// What a direction of a connection holds.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Frame(Arc<Parcel>),
    Closed,
}

/// One side of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) node: usize,
    pub(super) link: LinkId,
    pub(super) open: bool,
}

/// A connection: `ways[side]` leads from `ends[side]` to the other end.
#[derive(Clone, Debug)]
pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) ways: [VecDeque<Item>; 2],
    pub(super) cut: bool,
}

/// A message that outlived its connection.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) parcel: Arc<Parcel>,
}

impl World {
    fn find(&self, node: usize, link: LinkId) -> Option<(usize, usize)> {
        self.conns.iter().enumerate().find_map(|(at, conn)| {
            let is = |end: &End| end.node == node && end.link == link && end.open;
            conn.ends.iter().position(is).map(|side| (at, side))
        })
    }

    pub(super) fn send(
        &mut self,
        node: usize,
        link: LinkId,
        envelope: Envelope,
        message: Message,
        body: &[Bytes],
    ) {
        let Some((at, side)) = self.find(node, link) else { return };
        let mut hasher = DefaultHasher::new();
        match encode(&envelope, &message) {
            Ok(bytes) => bytes.hash(&mut hasher),
            Err(error) => self.violate(error.to_string()),
        }
        let body: Bytes = match body {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        };
        body.hash(&mut hasher);
        let print = hasher.finish();
        let parcel = Arc::new(Parcel { envelope, message, body, print });
        let conn = &mut self.conns[at];
        if conn.cut || !conn.ends[1 - side].open {
            self.drop_parcel(node, &parcel);
            return;
        }
        // Said twice in a row it says nothing more.
        if matches!(parcel.message, Message::Commit { .. })
            && let Some(Item::Frame(last)) = conn.ways[side].back()
            && last.print == parcel.print
        {
            return;
        }
        conn.ways[side].push_back(Item::Frame(parcel));
    }

    /// A message that does not arrive: an acknowledgement may come late.
    pub(super) fn drop_parcel(&mut self, from: usize, parcel: &Arc<Parcel>) {
        if matches!(parcel.message, Message::Ack { .. }) {
            self.late = Some(Late { from, to: 1 - from, parcel: Arc::clone(parcel) });
        }
    }

    pub(super) fn hang_up(&mut self, node: usize, link: LinkId) {
        let Some((at, side)) = self.find(node, link) else { return };
        self.end(at, side);
    }

    /// One side of a connection is gone: what it said still arrives, then the other side hears of it.
    pub(super) fn end(&mut self, at: usize, side: usize) {
        let conn = &mut self.conns[at];
        conn.ends[side].open = false;
        let from = conn.ends[1 - side].node;
        let lost = std::mem::take(&mut conn.ways[1 - side]);
        let other_is_open = conn.ends[1 - side].open;
        if other_is_open && !conn.cut {
            conn.ways[side].push_back(Item::Closed);
        }
        if !other_is_open {
            self.conns.remove(at);
        }
        for item in lost {
            if let Item::Frame(parcel) = item {
                self.drop_parcel(from, &parcel);
            }
        }
    }

    /// Both sides will hear that a connection is over; what is on its way from a side in `lose` does not arrive.
    pub(super) fn cut(&mut self, at: usize, lose: [bool; 2]) {
        for (side, lose) in lose.into_iter().enumerate() {
            let conn = &mut self.conns[at];
            conn.cut = true;
            let from = conn.ends[side].node;
            let lost = if lose { std::mem::take(&mut conn.ways[side]) } else { VecDeque::new() };
            conn.ways[side].push_back(Item::Closed);
            for item in lost {
                if let Item::Frame(parcel) = item {
                    self.drop_parcel(from, &parcel);
                }
            }
        }
    }

    /// What comes next in a direction arrives.
    pub(super) fn deliver(&mut self, at: usize, side: usize, keep: bool) {
        let conn = &mut self.conns[at];
        let to = conn.ends[1 - side];
        let from = conn.ends[side].node;
        match conn.ways[side].pop_front() {
            Some(Item::Frame(parcel)) => {
                if keep {
                    self.late = Some(Late { from, to: to.node, parcel: Arc::clone(&parcel) });
                }
                if to.open {
                    self.give(to, &parcel);
                }
            }
            Some(Item::Closed) => {
                conn.ends[1 - side].open = false;
                if !conn.ends[side].open {
                    self.conns.remove(at);
                }
                if to.open {
                    self.step(to.node, In::Closed(to.link));
                }
            }
            None => {}
        }
    }

    pub(super) fn give(&mut self, to: End, parcel: &Parcel) {
        let Parcel { envelope, message, body, .. } = parcel.clone();
        self.step(to.node, In::Frame { link: to.link, envelope, message, body });
    }
}
