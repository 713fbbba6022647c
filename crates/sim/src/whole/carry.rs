//! Carries out what members ask for: disk, network, store, and whoever owns their configuration.
//!
//! Not here: the answers (`lines`, `seat`).

use outrigger_cluster::register::{Proposer, Report};
use outrigger_cluster::{coordinator, voters};
use outrigger_net::message::Message;
use outrigger_replica::member::{Event as Said, In, LinkId, Out, Role as MemberRole};
use outrigger_wal::disk::{FileId, Io};
use outrigger_wal::format::{Block, BlockHeader};
use outrigger_wal::{Epoch, Lsn, RunningHash};

use super::Whole;
use super::event::{Brought, Event, Seated};
use super::place::Doing;
use crate::cluster::network::{End, Parcel};
use crate::cluster::node::State;
use crate::cluster::queue::Life;

impl Whole {
    pub(super) fn carry(&mut self, at: usize, life: Life, out: Out) {
        let is_catalog = self.places[at].group == 0;
        match out {
            Out::Io(op, io) => {
                self.watch(at, &io);
                if let Some(doing) = kind(&io) {
                    let dies =
                        doing == Doing::Names && self.faults.chance(self.plan.kill_names_per_mille);
                    if dies {
                        let micros = self.faults.range(0..150);
                        self.at(micros, Event::Kill { at, life, row: None });
                    }
                    self.places[at].doing.insert(op, doing);
                }
                outrigger_wal::disk::Disk::submit(&mut self.places[at].node.disk, op, io);
            }
            Out::Dial { link, peer, .. } => {
                let Some(to) = self.place_of(peer) else { return };
                let delay = self.net.delay() + self.net.delay();
                self.at(delay, Event::Dialled { from: at, life, link, to });
            }
            Out::Hangup(link) => {
                if let Some((conn, side)) = self.net.find(at, life, link) {
                    self.net.hang_up(self.now, conn, side, &mut self.queue);
                }
            }
            Out::Send { link, envelope, message, body } => {
                let Some((conn, side)) = self.net.find(at, life, link) else { return };
                if matches!(message, Message::Welcome { .. }) {
                    let fenced = &mut self.places[at].node.shadow.fenced;
                    *fenced = envelope.epoch.number.max(*fenced);
                }
                let per_mille = self.net.weather.encode_per_mille;
                match Parcel::pack(envelope, message, &body, &mut self.net.rng, per_mille) {
                    Ok(parcel) => self.net.send(self.now, conn, side, parcel, &mut self.queue),
                    Err(text) => self.violate(text),
                }
            }
            Out::ReadConfig if is_catalog => self.seat(at, Seated::Council(voters::In::Read)),
            Out::ReadConfig => {
                let op = self.next_op(at);
                self.send_line(at, Epoch::NONE, Message::ReadConfig { op });
            }
            Out::Swap { seen, new } if is_catalog => {
                let by = Proposer::Instance(self.places[at].node.instance);
                self.seat(at, Seated::Council(voters::In::Swap { seen, new, by }));
            }
            Out::Swap { seen, new } => {
                self.sees_shrink(at, &new);
                let op = self.next_op(at);
                self.send_line(at, Epoch::NONE, Message::CompareAndSwap { op, seen, new });
            }
            Out::Report { epoch, durable, commit, applied, .. } if is_catalog => {
                let instance = self.places[at].node.instance;
                let report = Report { instance, epoch: epoch.number, durable };
                self.seat(at, Seated::Council(voters::In::Report(report)));
                let figures =
                    coordinator::In::Figures { instance, here: true, durable, commit, applied };
                self.seat(at, Seated::Coordinator(figures));
            }
            Out::Report { epoch, durable, commit, applied, cut, obeys } => {
                self.places[at].line.obeys = obeys;
                self.report(at, epoch, Message::Report { durable, commit, applied, cut });
            }
            Out::GaveUp { epoch, at: end } => {
                let (group, slot) = (self.places[at].group, self.places[at].slot);
                let verdict = self.groups[group].checker.gave_up(slot, epoch, end);
                self.verdict(group, verdict);
                self.send_line(at, epoch, Message::GaveUp { epoch, at: end });
            }
            Out::NotHandedOver { .. } => self.counts.count("hand-overs that did not come about"),
            Out::Apply(blocks) => self.apply(at, life, &blocks),
            Out::Reopen { cut, hash } => self.reopen(at, life, cut, hash),
            Out::Event(said) => self.said(at, said),
            Out::Closed => {
                self.places[at].node.disk.kill();
                self.end(at, "it ended in order", true);
            }
        }
    }

    /// A primary wants to go on without a copy while nobody can record that: its commits wait.
    fn sees_shrink(&mut self, at: usize, new: &outrigger_net::config::Config) {
        let config = self.groups[self.places[at].group].config.as_ref();
        let drops = config.is_some_and(|config| {
            config.in_sync_set().any(|copy| !new.in_sync(copy)) && new.epoch == config.epoch
        });
        if drops && !self.places[at].line.open {
            self.counts.row(46);
        }
    }

    /// Notes the boundaries of the blocks that are written.
    fn watch(&mut self, at: usize, io: &Io) {
        let Io::Write { file: FileId::Segment(_), parts, .. } = io else { return };
        let log = self.places[at].node.identity.log;
        for part in parts {
            if let Ok(header) = BlockHeader::decode(part, log) {
                self.places[at].node.shadow.bound(header.lsn, header.hash_before);
            }
        }
    }

    pub(super) fn dialled(&mut self, from: usize, life: Life, link: LinkId, to: usize) {
        if !self.is_open(from, life) {
            return;
        }
        let (here, there) = (self.places[from].host, self.places[to].host);
        let passes = self.passes(here, there) && self.passes(there, here);
        let other = self.places[to].node.life;
        let process = self.places[to].node.process.as_mut().filter(|_| passes);
        match process.map(crate::cluster::node::Process::incoming_link) {
            Some(incoming) => {
                let ends = [
                    End { node: from, life, link, closed: false },
                    End { node: to, life: other, link: incoming, closed: false },
                ];
                self.net.join(self.now, ends, &mut self.queue);
                self.bring(from, Brought::Member(In::Connected(link)));
            }
            None => self.bring(from, Brought::Member(In::Closed(link))),
        }
    }

    fn apply(&mut self, at: usize, life: Life, blocks: &[Block]) {
        let place = &self.places[at];
        let (group, slot, outcast) = (place.group, place.slot, place.node.shadow.outcast);
        let Some(process) = place.node.process.as_ref() else { return };
        let commit = process.member.commit();
        for block in blocks.iter().filter(|_| !outcast) {
            let verdict =
                self.groups[group].checker.applies(slot, block.end(), block.hash_after(), commit);
            self.verdict(group, verdict);
        }
        let Some(last) = blocks.last().map(Block::end) else { return };
        match self.places[at].node.store.take(blocks) {
            Ok(_) if outcast => {}
            Ok(records) => {
                let verdict = self.groups[group].checker.applied(slot, &records);
                self.verdict(group, verdict);
            }
            Err(text) => self.violate(format!("p{at}: {text}")),
        }
        let micros = self.rng.range(50..2_000);
        self.at(micros, Event::Applied { at, life, to: last });
        let Some(process) = self.places[at].node.process.as_mut() else { return };
        if !std::mem::replace(&mut process.checkpointing, true) {
            let micros = self.rng.range(10_000..1_500_000);
            self.at(micros, Event::Checkpoint { at, life });
        }
    }

    /// The store has applied everything up to `to`.
    pub(super) fn applied(&mut self, at: usize, to: Lsn) {
        let (group, slot) = (self.places[at].group, self.places[at].slot);
        let outcast = self.places[at].node.shadow.outcast;
        match self.places[at].node.store.apply(to) {
            Ok(decided) if !outcast => {
                let verdict = self.groups[group].checker.decided(slot, &decided);
                self.verdict(group, verdict);
            }
            Ok(_) => {}
            Err(text) => return self.violate(format!("p{at}: {text}")),
        }
        if group == 0 && !outcast {
            self.catalog_applied(at);
        }
        self.bring(at, Brought::Member(In::Applied(to)));
        if group == 0 {
            let applied = coordinator::In::Applied;
            self.bring(at, Brought::Seat(Seated::Coordinator(applied)));
        }
        if self.places[at].node.is_serving() {
            let applied = self.places[at].node.store.applied();
            self.groups[group].checker.shows(applied);
        }
        self.answer_writes(at);
    }

    pub(super) fn checkpointed(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) {
            return;
        }
        if let Some(process) = &mut self.places[at].node.process {
            process.checkpointing = false;
        }
        match self.places[at].node.store.make_durable() {
            Ok(to) => self.bring(at, Brought::Member(In::Checkpointed(to))),
            Err(text) => self.violate(format!("p{at}: {text}")),
        }
    }

    fn reopen(&mut self, at: usize, life: Life, cut: Lsn, hash: Option<RunningHash>) {
        let place = &self.places[at];
        let (group, slot) = (place.group, place.slot);
        let (commit, applied) = (place.node.shadow.commit, place.node.store.applied());
        let verdict = self.groups[group].checker.cuts(slot, cut, commit, applied);
        self.verdict(group, verdict);
        if self.faults.chance(self.plan.crash_cut_per_mille) && !self.healed {
            let after = self.faults.range(0..60);
            self.places[at].node.disk.crash_after(after);
        }
        let (result, kept, verdict) = self.places[at].node.reopen(cut, hash);
        self.verdict(group, verdict);
        if self.places[at].node.disk.is_crashed() {
            self.note(|| format!("p{at} crashes while it cuts its log"));
            self.counts.row(49);
            self.places[at].node.shadow.cut(cut);
            self.places[at].node.disk.kill();
            return self.end(at, "signal 9", false);
        }
        self.places[at].node.disk.crash_after(u64::MAX / 2);
        let micros = self.rng.range(100..30_000);
        self.at(micros, Event::Reopened { at, life, result: Box::new(result) });
        for (op, result) in kept {
            if self.is_open(at, life) {
                self.bring(at, Brought::Member(In::Io(op, result)));
            }
        }
    }

    fn said(&mut self, at: usize, said: Said) {
        let (group, slot) = (self.places[at].group, self.places[at].slot);
        match said {
            Said::SteppedDown { sealed, .. } => {
                self.doubt(at, sealed);
                self.seat_serves(at, None);
            }
            Said::GaveUp { epoch, at: end, to } => {
                self.counts.count("epochs given up");
                let gave_up = &mut self.places[at].node.shadow.gave_up;
                *gave_up = epoch.number.max(*gave_up);
                let Some(to) = self.place_of(to) else { return };
                let (from, to) = (&self.places[at].node.shadow, &self.places[to].node.shadow);
                let verdict = self.groups[group].checker.hands_over((epoch, end), from, to);
                self.verdict(group, verdict);
                self.seat_serves(at, None);
            }
            Said::Resigned { epoch, .. } => {
                self.counts.count("reigns given up for a copy that lacks commits");
                let gave_up = &mut self.places[at].node.shadow.gave_up;
                *gave_up = epoch.number.max(*gave_up);
            }
            Said::Serves { epoch } => {
                let applied = self.places[at].node.store.applied();
                let verdict = self.groups[group].checker.serves(slot, applied);
                self.verdict(group, verdict);
                self.seat_serves(at, Some(epoch));
            }
            Said::Cut(_) => {
                self.counts.count("logs cut");
                if group > 0 {
                    self.counts.row(48);
                }
            }
            Said::Grown { .. } => self.counts.count("copies that joined"),
            Said::Shrunk { .. } => self.counts.count("copies that left"),
            Said::NeedsCopy { text } => {
                self.counts.count("copies that cannot be continued");
                self.note(|| format!("p{at}: {text}"));
                // Its process ends with that, so that whoever recovers it knows; a primary says the same of its copies.
                let process = self.places[at].node.process.as_ref();
                let is_mirror = process.is_some_and(|it| it.member.role() == MemberRole::Mirror);
                if group > 0 && is_mirror {
                    self.places[at].node.disk.kill();
                    self.places[at].node.state = State::Down;
                    self.end(at, "exit status 2: it has to be made anew from its primary", false);
                }
            }
            Said::Failed { text } => {
                self.counts.count("disks that failed");
                self.note(|| format!("p{at} fails: {text}"));
                self.places[at].node.disk.kill();
                self.places[at].node.state = State::Down;
                self.end(at, "exit status 2: its disk failed", false);
            }
            Said::ForeignNonce { ours, theirs } => {
                self.violate(format!("p{at}: two reigns of one number, {ours:?} and {theirs:?}"));
            }
            _ => {}
        }
    }
}

/// What an operation does to the names of segments or to the control file.
const fn kind(io: &Io) -> Option<Doing> {
    match io {
        Io::Write { file: FileId::Control(_) | FileId::ControlNew, .. }
        | Io::Sync(FileId::Control(_) | FileId::ControlNew)
        | Io::Create(FileId::Control(_) | FileId::ControlNew)
        | Io::Rename(FileId::ControlNew, _) => Some(Doing::Control),
        Io::Create(_) | Io::Rename(_, _) | Io::Remove(_) | Io::Zero { .. } => Some(Doing::Names),
        _ => None,
    }
}
