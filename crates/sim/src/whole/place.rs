//! One copy: a disk and a store that stay, a process that comes and goes.
//!
//! Not here: what its member asks for (`carry`), who starts it (`agents`).

use std::collections::{BTreeMap, VecDeque};

use outrigger_cluster::catalog::tables::Dbid;
use outrigger_replica::member::{In, MemberOptions};
use outrigger_wal::disk::OpId;
use outrigger_wal::{Lsn, Micros};

use super::Whole;
use super::event::{Brought, Event};
use super::holding::Holding;
use super::lines::Line;
use super::seat::Seat;
use crate::cluster::node::{Node, Opened, State, member_options};
use crate::cluster::queue::Life;

/// One copy of one content, on one host.
pub(super) struct Place {
    pub(super) node: Node<Holding>,
    pub(super) group: usize,
    /// Its number in the group.
    pub(super) slot: usize,
    pub(super) host: usize,
    pub(super) dbid: Dbid,
    pub(super) address: String,
    /// Its log and control file were made.
    pub(super) made: bool,
    /// It is being made anew, or was left so.
    pub(super) half_made: bool,
    /// By which order it was made anew last.
    pub(super) remade: u64,
    /// Since when a process reads its log back.
    pub(super) starting: Option<Micros>,
    /// A process makes it anew.
    pub(super) remaking: bool,
    pub(super) incarnation: u64,
    pub(super) pid: u32,
    pub(super) inbox: VecDeque<Brought>,
    /// To the coordinator.
    pub(super) line: Line,
    /// What runs above the catalog's member.
    pub(super) seat: Option<Seat>,
    /// All its threads stand still but the one that answers heartbeats, with this number of turns.
    pub(super) stuck: Option<u64>,
    /// Since when its disk hangs.
    pub(super) hangs: Option<Micros>,
    /// A second process answers in its name.
    pub(super) cloned: Option<u64>,
    pub(super) was_cloned: bool,
    /// What kind of disk operations are on their way.
    pub(super) doing: BTreeMap<OpId, Doing>,
}

/// Kinds of disk operations whose crash has a row of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// A segment is made, named or removed.
    Names,
    /// The control file changes.
    Control,
}

impl Place {
    pub(super) const fn runs(&self) -> bool {
        self.node.process.is_some() || self.starting.is_some() || self.remaking
    }

    /// Its turns at this moment.
    pub(super) fn turns(&self, now: Micros) -> u64 {
        self.stuck.unwrap_or(now.0 / 100_000 + 1)
    }

    /// How its member behaves: nothing is recycled that a copy that was made anew may need.
    pub(super) fn options() -> MemberOptions {
        let mut options = member_options();
        options.retain_bytes = u64::MAX / 4;
        options
    }
}

/// How a refusal to open begins.
const REFUSES: &str = "recovery refuses";

impl Whole {
    /// A process was started, and has come to reading its log.
    pub(super) fn open(&mut self, at: usize, life: Life) {
        let place = &mut self.places[at];
        if place.node.life != life || place.starting.is_none() {
            return;
        }
        if self.faults.chance(self.plan.crash_open_per_mille) && !self.healed {
            let after = self.faults.range(0..60);
            self.places[at].node.disk.crash_after(after);
        }
        let seed = self.rng.next_u64();
        let (now, rules) = (self.now, self.plan.rules());
        let opened = self.places[at].node.open(now, seed, rules);
        if self.places[at].node.disk.is_crashed() {
            self.note(|| format!("p{at} crashes while it opens"));
            self.counts.count("crashes while a log is opened");
            self.places[at].node.disk.kill();
            self.end(at, "signal 9", false);
            return;
        }
        self.places[at].node.disk.crash_after(u64::MAX / 2);
        let (group, slot) = (self.places[at].group, self.places[at].slot);
        match opened {
            Opened::Member(member, torn) => {
                if torn {
                    self.counts.count("torn tails");
                }
                let (end, commit) = (member.log().end(), member.commit());
                self.note(|| format!("p{at} opens: end {end}, commit {commit}"));
                self.mix(2, at, end.0);
                let others = self.groups[group].members.iter();
                let alone =
                    others.filter(|other| **other != at).all(|other| !self.places[*other].runs());
                if alone && commit > Lsn::ZERO {
                    self.counts.row(55);
                }
                self.places[at].starting = None;
                self.places[at].node.start(*member);
                let verdict =
                    self.groups[group].checker.opened(slot, commit, &self.places[at].node.shadow);
                self.verdict(group, verdict);
                if group == 0 {
                    self.take_seat(at);
                }
                self.at(1_000, Event::Line { at, life });
                self.step(at, In::Kick);
            }
            Opened::Fault(text) => {
                self.note(|| format!("p{at} cannot open: {text}"));
                self.end(at, "exit status 2: its disk failed", false);
            }
            Opened::Damage(text) => {
                self.note(|| format!("p{at} refuses to open: {text}"));
                self.places[at].node.state = State::Down;
                self.end(at, "exit status 2: its log is damaged", false);
            }
            // A copy that is made anew here streams blocks that it sealed itself in an earlier life, and takes what they
            // say of its disk for a promise of this one. The shipped rebuild brings those durably before the copy
            // opens; this one is refused, and made anew once more. One that commits wait for is never refused.
            Opened::Violation(text) if text.starts_with(REFUSES) && self.may_begin_again(at) => {
                self.note(|| format!("p{at} refuses to open: {text}"));
                self.counts.count("half-streamed copies made anew again");
                self.end(at, "exit status 2: its log is damaged", false);
            }
            Opened::Violation(text) => self.violate(format!("p{at}: {text}")),
        }
    }

    fn may_begin_again(&self, at: usize) -> bool {
        let place = &self.places[at];
        let config = self.groups[place.group].config.as_ref();
        place.remade > 0 && config.is_some_and(|config| !config.in_sync(place.node.instance))
    }

    /// A process is gone; its disk was killed or lost power already. Its agent hears of it.
    pub(super) fn end(&mut self, at: usize, how: &str, good: bool) {
        if !self.places[at].runs() {
            return;
        }
        self.note(|| format!("p{at} ends: {how}"));
        self.mix(3, at, self.places[at].node.life);
        let busy = |doing: Doing| self.places[at].doing.values().any(|other| *other == doing);
        let (names, control) = (busy(Doing::Names), busy(Doing::Control));
        let checkpoints =
            self.places[at].node.process.as_ref().is_some_and(|process| process.checkpointing);
        if names {
            self.counts.row(51);
        }
        if control || checkpoints {
            self.counts.row(52);
        }
        if self.places[at].remaking {
            self.counts.row(50);
        }
        self.unanswered(at);
        let now = self.now;
        let place = &mut self.places[at];
        place.node.process = None;
        place.node.life += 1;
        place.starting = None;
        place.remaking = false;
        place.inbox.clear();
        place.doing.clear();
        place.seat = None;
        place.line = Line::default();
        place.node.state = State::Down;
        place.stuck = None;
        if place.node.clock.is_paused() {
            place.node.clock.resume(now);
        }
        match place.node.store.crash() {
            Ok(store) => place.node.store = store,
            Err(text) => return self.violate(format!("p{at}: {text}")),
        }
        for conn in self.net.of(at) {
            let read = self.net.cut(now, conn, 500..3_000, &mut self.queue);
            if let Err(text) = read {
                self.violate(text);
            }
        }
        let (host, dbid) = (self.places[at].host, self.places[at].dbid);
        if self.hosts[host].up {
            let micros = self.rng.range(100..3_000);
            self.at(micros, Event::Ended { host, dbid, how: how.to_owned(), good });
        }
    }

    pub(super) fn resume(&mut self, at: usize) {
        if !self.places[at].node.clock.is_paused() {
            return;
        }
        let now = self.now;
        self.places[at].node.clock.resume(now);
        self.places[at].stuck = None;
        self.note(|| format!("p{at} goes on"));
        let life = self.places[at].node.life;
        if let Some(process) = self.places[at].node.process.as_mut() {
            process.kick_at = None;
        }
        for brought in std::mem::take(&mut self.places[at].inbox) {
            if self.is_open(at, life) && !self.places[at].node.clock.is_paused() {
                self.bring(at, brought);
            }
        }
        if self.is_open(at, life) {
            self.step(at, In::Kick);
            self.seat_due(at, life);
        }
    }
}
