//! What will happen when: events in order of time, and of scheduling where times are equal.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use outrigger_replica::member::{HandOver, LinkId};
use outrigger_wal::recover::Recovered;
use outrigger_wal::{Error, Lsn, Micros};

use super::authority::{Ask, Told};

/// Which process of a node: counts its starts. What was meant for an earlier one is dropped.
pub(crate) type Life = u64;

/// What happens on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    /// The next frame of one direction.
    Arrive { conn: usize, side: usize },
    /// One end learns that it is over.
    Closed { conn: usize, side: usize },
    /// The next frame of one direction of a connection that is over.
    Late { conn: usize, side: usize },
}

impl From<Wire> for Event {
    fn from(wire: Wire) -> Self {
        Self::Wire(wire)
    }
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A member's deadline.
    Kick { node: usize, life: Life },
    /// Operations on a node's disk are due.
    Disk { node: usize, life: Life },
    /// A process starts.
    Boot { node: usize },
    /// A paused node goes on.
    Resume { node: usize },
    /// The store has applied.
    Applied { node: usize, life: Life, to: Lsn },
    /// The store takes a checkpoint.
    Checkpoint { node: usize, life: Life },
    /// The checkpoint is durable.
    Checkpointed { node: usize, life: Life },
    /// The log was opened again.
    Reopened { node: usize, life: Life, result: Box<Result<Recovered, Error>> },
    /// A dialled connection is there, or is not.
    Dialled { from: usize, life: Life, link: LinkId, to: usize },
    /// Something on a connection.
    Wire(Wire),
    /// A message reaches the authority.
    Asked { from: usize, ask: Box<Ask> },
    /// A message of the authority reaches a node.
    Told { node: usize, told: Box<Told> },
    /// What a coordinator that was deposed decided alone reaches a node.
    ToldAlone { node: usize, told: Box<Told> },
    /// The oldest record of a coordinator's reign that waits is durable.
    Decide { reign: u64 },
    /// The coordinator starts again.
    Coordinate,
    /// The authority repeats what is recorded.
    Repeat,
    /// A client does its next thing.
    Client { client: usize },
    /// The next fault is drawn.
    Fault,
    /// The operator looks at the content.
    Operator,
    /// A hand-over is asked for at a node.
    HandOver { node: usize, asked: Box<HandOver> },
    /// A node is asked to give its reign up for a copy that may lack commits.
    GiveUp { node: usize, asked: Box<HandOver> },
    /// The two directions between two nodes work again.
    Mend { from: usize, to: usize },
}

#[derive(Debug)]
struct Entry<E> {
    at: Micros,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Events to come.
#[derive(Debug)]
pub(crate) struct Queue<E = Event> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    order: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }
}

impl<E> Queue<E> {
    pub(crate) fn push(&mut self, at: Micros, event: impl Into<E>) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order, event: event.into() }));
    }

    /// When the next event happens.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, E)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
