//! How the streams of a primary to its copies stand: for whoever looks, decides nothing.

use outrigger_net::sender::Stage;
use outrigger_wal::{InstanceId, Lsn};

use super::Member;
use super::phase::{Line, Peer, Phase};

/// What a stream is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Streaming {
    /// There is no connection.
    Down,
    /// It is being greeted, or cuts what it must.
    Startup,
    /// It is sent what it missed; commits do not wait for it.
    Catchup,
    /// Commits wait for it.
    InSync,
    /// It cannot be continued: it has to be made anew.
    NeedsCopy,
}

/// The stream to one copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamStatus {
    /// Whose copy.
    pub copy: InstanceId,
    /// What it is doing.
    pub streaming: Streaming,
    /// Up to where it was sent.
    pub sent: Lsn,
    /// What it has received.
    pub received: Lsn,
    /// What is durable there.
    pub durable: Lsn,
    /// What it has applied.
    pub applied: Lsn,
    /// How often a connection to it ended or could not be made since one brought it further.
    pub attempts: u32,
}

impl Member {
    /// The streams of this copy to others, while it is their primary.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamStatus> {
        let Phase::Reigning(reign) = &self.phase else { return Vec::new() };
        let in_sync = |copy| self.config.as_ref().is_some_and(|config| config.in_sync(copy));
        reign.peers.iter().map(|(copy, peer)| stream(*copy, peer, in_sync(*copy))).collect()
    }
}

impl Member {
    /// The copy whose connections have most often ended in vain since one brought it further, and how often; while
    /// this copy reigns.
    #[must_use]
    pub fn flapping(&self) -> Option<(InstanceId, u32)> {
        let Phase::Reigning(reign) = &self.phase else { return None };
        let vain = reign.peers.iter().map(|(copy, peer)| (*copy, peer.vain));
        vain.filter(|(_, vain)| *vain > 0).max_by_key(|(_, vain)| *vain)
    }
}

fn stream(copy: InstanceId, peer: &Peer, in_sync: bool) -> StreamStatus {
    let attempts = peer.attempts;
    let Line::Up(up) = &peer.line else {
        let (sent, received) = (Lsn::ZERO, Lsn::ZERO);
        let (durable, applied) = (peer.observed, Lsn::ZERO);
        let streaming = Streaming::Down;
        return StreamStatus { copy, streaming, sent, received, durable, applied, attempts };
    };
    StreamStatus {
        copy,
        streaming: match up.sender.stage() {
            Stage::Probing | Stage::Starting => Streaming::Startup,
            Stage::Streaming if in_sync => Streaming::InSync,
            Stage::Streaming => Streaming::Catchup,
            Stage::NeedsCopy => Streaming::NeedsCopy,
        },
        sent: up.sender.shipped_to(),
        received: up.sender.received(),
        durable: up.sender.durable(),
        applied: up.sender.applied(),
        attempts,
    }
}
