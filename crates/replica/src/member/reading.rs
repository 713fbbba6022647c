//! What is read back from the log: for copies, and for the store.
//!
//! Guarantees: what a peer asked for and cannot be had, be it gone or at no block boundary, is refused to that peer
//! and does nothing else. Not here: what is in
//! memory (the log).

use bytes::Bytes;
use outrigger_wal::Lsn;
use outrigger_wal::disk::{FileId, Io, IoDone, IoFault};

use super::Member;
use super::event::{LinkId, Out};

/// What a read from the disk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// To be shipped on this connection, from here.
    Ship(LinkId, Lsn),
    /// To be lent to a restarted primary on this connection, from here.
    Lend(LinkId, Lsn),
    /// To be applied, from here.
    Apply(Lsn),
    /// The block at a fork, whose header has the running hash to say `Start` with.
    Start(LinkId, Lsn),
}

impl Reading {
    /// Whether it was for a copy, and what it wants is gone since.
    fn is_recycled(self, start: Lsn) -> bool {
        match self {
            Self::Ship(_, from) | Self::Lend(_, from) | Self::Start(_, from) => from < start,
            Self::Apply(_) => false,
        }
    }
}

impl Member {
    pub(super) fn read(
        &mut self,
        reading: Reading,
        file: FileId,
        at: u64,
        len: u32,
        out: &mut Vec<Out>,
    ) {
        let op = self.op();
        self.reads.insert(op, (reading, len));
        out.push(Out::Io(op, Io::Read { file, at, len }));
    }

    fn read_done(&mut self, reading: Reading, asked: u32, bytes: &Bytes, out: &mut Vec<Out>) {
        let (Reading::Ship(_, from)
        | Reading::Lend(_, from)
        | Reading::Apply(from)
        | Reading::Start(_, from)) = reading;
        let mut blocks = Vec::new();
        match self.log.decode(from, asked, bytes, &mut blocks) {
            Ok(Some(need)) => {
                let file = FileId::Segment(from.0 / self.log.segment_bytes());
                self.read(reading, file, from.0 % self.log.segment_bytes(), need, out);
                return;
            }
            Ok(None) => {}
            Err(error) => {
                match reading {
                    // Where it begins is a peer's claim: no block boundary here, as it seems.
                    Reading::Start(link, _) => self.cannot_start(link, &error, out),
                    Reading::Lend(link, _) => self.cannot_lend(link, &error, out),
                    Reading::Ship(..) | Reading::Apply(_) => self.fail(error.to_string(), out),
                }
                return;
            }
        }
        match reading {
            Reading::Ship(link, _) => self.ship(link, &blocks, out),
            Reading::Lend(link, from) => self.lend(link, from, blocks, out),
            Reading::Apply(from) => self.apply(from, blocks, out),
            Reading::Start(link, _) => {
                if let Some(block) = blocks.first() {
                    self.say_start_with(link, block, out);
                }
            }
        }
    }

    /// What was to be read for a copy is gone: its line ends, and the next session says so.
    fn unread(&mut self, reading: Reading, out: &mut Vec<Out>) {
        if let Reading::Ship(link, _) | Reading::Lend(link, _) | Reading::Start(link, _) = reading {
            out.push(Out::Hangup(link));
            self.closed(link);
        }
    }

    pub(super) fn read_ended(
        &mut self,
        reading: Reading,
        asked: u32,
        result: Result<IoDone, IoFault>,
        out: &mut Vec<Out>,
    ) {
        match result {
            Ok(IoDone::Bytes(bytes)) => self.read_done(reading, asked, &bytes, out),
            Ok(_) => {}
            // A copy that is behind what was kept for it was overtaken by recycling.
            Err(_) if reading.is_recycled(self.log.start()) => self.unread(reading, out),
            Err(fault) => self.fail(format!("the log cannot be read: {fault}"), out),
        }
    }
}
