//! Carries out what members ask for: disk, network, store.
//!
//! Not here: the authority (`coordinator`).

use bytes::Bytes;
use outrigger_net::message::{Envelope, Message};
use outrigger_replica::member::{Event as Said, In, LinkId, Out};
use outrigger_wal::disk::{FileId, Io};
use outrigger_wal::format::{Block, BlockHeader};
use outrigger_wal::{Lsn, RunningHash};

use super::network::{End, Parcel};
use super::node;
use super::queue::{Event, Life};
use super::{Ask, Cluster, brief_out};

impl Cluster {
    pub(super) fn carry(&mut self, node: usize, life: Life, out: Out) {
        self.note(|| format!("n{node} -> {}", brief_out(&out)));
        match out {
            Out::Io(op, io) => {
                self.watch(node, &io);
                outrigger_wal::disk::Disk::submit(&mut self.nodes[node].disk, op, io);
            }
            Out::Dial { link, peer, .. } => {
                let Some(to) = self.nodes.iter().position(|n| n.instance == peer) else { return };
                let delay = self.net.delay() + self.net.delay();
                self.at(delay, Event::Dialled { from: node, life, link, to });
            }
            Out::Hangup(link) => {
                if let Some((conn, side)) = self.net.find(node, life, link) {
                    self.net.hang_up(self.now, conn, side, &mut self.queue);
                }
            }
            Out::Send { link, envelope, message, body } => {
                self.send(node, life, link, envelope, message, &body);
            }
            Out::ReadConfig => self.ask(node, Ask::Read),
            Out::Swap { seen, new } => self.ask(node, Ask::Swap { seen, new }),
            Out::Report { epoch, durable, cut, .. } => {
                self.ask(node, Ask::Report { epoch, durable, cut });
            }
            Out::GaveUp { epoch, at } => {
                let verdict = self.checker.gave_up(node, epoch, at);
                self.verdict(verdict);
                self.ask(node, Ask::GaveUp { epoch });
            }
            Out::NotHandedOver { .. } => self.stats.not_handed_over += 1,
            Out::Apply(blocks) => self.apply(node, life, &blocks),
            Out::Reopen { cut, hash } => self.reopen(node, life, cut, hash),
            Out::Event(said) => self.said(node, said),
            Out::Closed => self.end_process(node),
        }
    }

    fn send(
        &mut self,
        node: usize,
        life: Life,
        link: LinkId,
        envelope: Envelope,
        message: Message,
        body: &[Bytes],
    ) {
        let Some((conn, side)) = self.net.find(node, life, link) else { return };
        if matches!(message, Message::Welcome { .. }) {
            let fenced = &mut self.nodes[node].shadow.fenced;
            *fenced = envelope.epoch.number.max(*fenced);
        }
        let per_mille = self.net.weather.encode_per_mille;
        let parcel = Parcel::pack(envelope, message, body, &mut self.net.rng, per_mille);
        match parcel {
            Ok(parcel) => {
                if self.plan_is_scripted() && matches!(parcel.message, Message::Ack { .. }) {
                    let to = self.net.conns[conn].ends[1 - side].node;
                    self.acks.insert((node, to), parcel.clone());
                }
                self.net.send(self.now, conn, side, parcel, &mut self.queue);
            }
            Err(text) => self.violate(text),
        }
    }

    /// Notes the boundaries of the blocks that are written.
    fn watch(&mut self, node: usize, io: &Io) {
        let Io::Write { file: FileId::Segment(_), parts, .. } = io else { return };
        for part in parts {
            if let Ok(header) = BlockHeader::decode(part, node::LOG) {
                self.nodes[node].shadow.bound(header.lsn, header.hash_before);
            }
        }
    }

    pub(super) fn dialled(&mut self, from: usize, life: Life, link: LinkId, to: usize) {
        if !self.is_alive(from, life) {
            return;
        }
        let passes = !self.net.is_blocked(from, to) && !self.net.is_blocked(to, from);
        let other = self.nodes[to].life;
        let incoming =
            self.nodes[to].process.as_mut().filter(|_| passes).map(|p| p.incoming_link());
        match incoming {
            Some(incoming) => {
                let ends = [
                    End { node: from, life, link, closed: false },
                    End { node: to, life: other, link: incoming, closed: false },
                ];
                self.net.join(self.now, ends, &mut self.queue);
                self.give(from, In::Connected(link));
            }
            None => self.give(from, In::Closed(link)),
        }
    }

    fn apply(&mut self, node: usize, life: Life, blocks: &[Block]) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let commit = process.member.commit();
        let outcast = self.nodes[node].shadow.outcast;
        for block in blocks.iter().filter(|_| !outcast) {
            let verdict = self.checker.applies(node, block.end(), block.hash_after(), commit);
            self.verdict(verdict);
        }
        let Some(last) = blocks.last().map(Block::end) else { return };
        match self.nodes[node].store.take(blocks) {
            Ok(_) if outcast => {}
            Ok(records) => {
                let verdict = self.checker.applied(node, &records);
                self.verdict(verdict);
            }
            Err(text) => self.violate(format!("node {node}: {text}")),
        }
        let micros = self.rng.range(50..2_000);
        self.at(micros, Event::Applied { node, life, to: last });
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if !std::mem::replace(&mut process.checkpointing, true) {
            let micros = self.rng.range(10_000..1_500_000);
            self.at(micros, Event::Checkpoint { node, life });
        }
    }

    /// The store has applied everything up to `to`.
    pub(super) fn applied(&mut self, node: usize, to: Lsn) {
        let decided = self.nodes[node].store.apply(to);
        let outcast = self.nodes[node].shadow.outcast;
        let verdict =
            decided.and_then(
                |decided| {
                    if outcast { Ok(()) } else { self.checker.decided(node, &decided) }
                },
            );
        self.verdict(verdict.map_err(|text| format!("node {node}: {text}")));
        self.give(node, In::Applied(to));
        if self.nodes[node].is_serving() {
            self.checker.shows(self.nodes[node].store.applied());
        }
        self.answer_writes(node);
    }

    pub(super) fn checkpoint(&mut self, node: usize, life: Life) {
        if self.is_alive(node, life) {
            let micros = self.rng.range(1_000..20_000);
            self.at(micros, Event::Checkpointed { node, life });
        }
    }

    pub(super) fn checkpointed(&mut self, node: usize, life: Life) {
        if !self.is_alive(node, life) {
            return;
        }
        if let Some(process) = &mut self.nodes[node].process {
            process.checkpointing = false;
        }
        match self.nodes[node].store.make_durable() {
            Ok(to) => self.give(node, In::Checkpointed(to)),
            Err(text) => self.violate(format!("node {node}: {text}")),
        }
    }

    fn reopen(&mut self, node: usize, life: Life, cut: Lsn, hash: Option<RunningHash>) {
        let (commit, applied) = (self.nodes[node].shadow.commit, self.nodes[node].store.applied());
        let verdict = self.checker.cuts(node, cut, commit, applied);
        self.verdict(verdict);
        if self.faults.chance(self.plan.crash_open_per_mille) && !self.healed {
            let after = self.faults.range(0..60);
            self.nodes[node].disk.crash_after(after);
        }
        let (result, kept, verdict) = self.nodes[node].reopen(cut, hash);
        self.verdict(verdict.map_err(|text| format!("node {node}: {text}")));
        if self.nodes[node].disk.is_crashed() {
            self.note(|| format!("n{node} crashes while it cuts its log"));
            // The mark is in the control file: what was durable counts up to the cut alone.
            self.nodes[node].shadow.cut(cut);
            self.end_process(node);
            return;
        }
        self.nodes[node].disk.crash_after(u64::MAX / 2);
        let micros = self.rng.range(100..30_000);
        let result = Box::new(result);
        self.at(micros, Event::Reopened { node, life, result });
        for (op, result) in kept {
            if self.is_alive(node, life) {
                self.give(node, In::Io(op, result));
            }
        }
    }

    fn said(&mut self, node: usize, said: Said) {
        match said {
            Said::SteppedDown { sealed, .. } => self.doubt(node, sealed),
            Said::GaveUp { epoch, at, to } => {
                self.stats.given_up += 1;
                let gave_up = &mut self.nodes[node].shadow.gave_up;
                *gave_up = epoch.number.max(*gave_up);
                let Some(to) = self.node_of(to) else { return };
                let (shadow, other) = (&self.nodes[node].shadow, &self.nodes[to].shadow);
                let verdict = self.checker.hands_over((epoch, at), shadow, other);
                self.verdict(verdict);
            }
            Said::Resigned { epoch, .. } => {
                self.stats.resigned += 1;
                let gave_up = &mut self.nodes[node].shadow.gave_up;
                *gave_up = epoch.number.max(*gave_up);
            }
            Said::Serves { .. } => {
                let verdict = self.checker.serves(node, self.nodes[node].store.applied());
                self.verdict(verdict);
            }
            Said::Failed { text } => {
                self.stats.failures += 1;
                self.end_process(node);
                // A disk that failed may have lost a segment's name: what the store needs is gone.
                if self.nodes[node].shadow.flaky && text.starts_with("the store needs log") {
                    self.stats.damaged += 1;
                    self.nodes[node].state = node::State::Damaged;
                }
            }
            Said::ForeignNonce { ours, theirs } => {
                self.violate(format!(
                    "node {node}: two reigns of one number, {ours:?} and {theirs:?}"
                ));
            }
            _ => {}
        }
    }
}
