//! How a reign is taken up: after a restart (S5) or by promotion (S3).
//!
//! After a restart a new epoch is recorded first, the in-sync copies are asked for their ends, the
//! greatest end wins and is adopted; a copy that does not answer leaves by S2. Then, as after a promotion,
//! the disk is drained and an `EpochBegin` opens the reign. Not here: the reign itself.

use outrigger_net::config::Config;
use outrigger_net::handshake::{Verdict, compare};
use outrigger_net::message::{History, Message};
use outrigger_wal::Lsn;

use super::event::{Event, LinkId, Out};
use super::phase::{Adopting, Following, Line, Phase, Reign, Rising};
use super::{BTreeMap, InstanceId, Member};
use crate::control::Cut;
use crate::rules::Rule;

impl Member {
    pub(super) fn settle_restart(&mut self, out: &mut Vec<Out>) {
        let again = self.options.ask_again_millis.saturating_mul(1000);
        let due = self.asked_at.is_none_or(|at| self.now.since(at) >= again);
        match &self.phase {
            Phase::Waiting if due && self.accepting.is_empty() => {
                self.asked_at = Some(self.now);
                out.push(Out::ReadConfig);
            }
            Phase::Electing(proposed) if due && self.accepting.is_empty() => {
                // A retry repeats epoch and version: if the first one won, this one finds it.
                if let Some(config) = &self.config {
                    out.push(Out::Swap { seen: config.version, new: proposed.clone() });
                }
                self.asked_at = Some(self.now);
            }
            Phase::Gathering(gathering) if self.is_persisted(gathering.generation) => {
                self.settle_lines(out);
                self.settle_leaving(out);
                self.settle_gathering(out);
            }
            Phase::Rising(rising)
                if self.is_persisted(rising.generation) && self.log.is_drained() =>
            {
                self.rise(out);
            }
            _ => {}
        }
    }

    /// Whether every in-sync copy has told its end, and whose is the greatest.
    fn greatest(&mut self) -> Option<Option<InstanceId>> {
        let config = self.config.clone()?;
        let mine = (self.log.epoch().number, self.log.end());
        let floors = self.rules.hold(Rule::S6Floor);
        let Phase::Gathering(gathering) = &mut self.phase else { return None };
        let mut best = (mine, None);
        for (instance, peer) in &mut gathering.peers {
            if !config.in_sync(*instance) {
                continue;
            }
            let history = peer.up().and_then(|up| up.history.as_ref())?;
            if floors && !reaches_its_floor(&config, *instance, history) {
                // It is not counted; it leaves by S2 like one that does not answer.
                return None;
            }
            let last = history.epochs.last().map_or(0, |entry| entry.epoch.number);
            if (last, history.end) > best.0 {
                best = ((last, history.end), Some(*instance));
            }
        }
        Some(best.1)
    }

    fn own_floor(&self) -> Lsn {
        self.config.as_ref().map_or(Lsn::ZERO, |config| self.recorded_floor(config))
    }

    /// Whether a copy other than `gone` is known that holds everything committed: one that reaches its
    /// floor. Before that no copy may leave (S5, S6): it could be the only one.
    pub(super) fn reaches_a_floor(&self, gone: InstanceId) -> bool {
        if self.log.end() >= self.own_floor() {
            return true;
        }
        let (Phase::Gathering(gathering), Some(config)) = (&self.phase, &self.config) else {
            return true;
        };
        gathering.peers.iter().any(|(instance, peer)| {
            let told = match &peer.line {
                Line::Up(up) => up.history.as_ref(),
                _ => None,
            };
            *instance != gone
                && config.in_sync(*instance)
                && told.is_some_and(|told| reaches_its_floor(config, *instance, told))
        })
    }

    fn settle_gathering(&mut self, out: &mut Vec<Out>) {
        if self.adopt(out) {
            return;
        }
        let Some(greatest) = self.greatest() else { return };
        if let Some(from) = greatest {
            self.begin_adopting(from, out);
            return;
        }
        // Every copy that is counted holds all that is committed, and this one now all that they hold: what it
        // held itself may have been cut since. Its own floor decides where it is the only one.
        let me = self.me();
        let alone =
            self.config.as_ref().is_none_or(|config| config.in_sync_set().all(|at| at == me));
        let floor = self.own_floor();
        if self.rules.hold(Rule::S6Floor) && alone && self.log.end() < floor {
            out.push(Out::Event(Event::BelowFloor { end: self.log.end(), floor }));
            self.step_down("its log ends below its floor", out);
            return;
        }
        if let Phase::Gathering(gathering) =
            std::mem::replace(&mut self.phase, Phase::Following(Following::default()))
        {
            self.phase = Phase::Rising(Rising {
                epoch: gathering.epoch,
                generation: gathering.generation,
                peers: gathering.peers,
                promoted: false,
            });
            if self.log.is_drained() {
                self.rise(out);
            }
        }
    }

    /// Another copy holds more: its tail is taken over, our own is cut where they part.
    fn begin_adopting(&mut self, from: InstanceId, out: &mut Vec<Out>) {
        let mine = self.history();
        let Phase::Gathering(gathering) = &mut self.phase else { return };
        let Some(up) = gathering.peers.get_mut(&from).and_then(super::phase::Peer::up) else {
            return;
        };
        let link = up.link;
        let Some(theirs) = up.history.clone() else { return };
        let cut = match compare(&theirs, &mine) {
            Verdict::Continue { .. } => None,
            Verdict::Truncate { to } | Verdict::Behind { at: to } => Some(to),
            _ => {
                let text = "its own history cannot be continued from the greatest".to_owned();
                self.fail(text, out);
                return;
            }
        };
        if cut.is_some() && self.cut.epoch == self.control.epoch.number {
            // A log is cut once for an epoch: what was said of it since then in this one would be taken back,
            // and nobody could tell that from a report that comes late (S6).
            self.step_down("its log was cut for this epoch already", out);
            if let Some(config) = self.config.clone() {
                self.elect(&config, out);
            }
            return;
        }
        // The bytes up to the fork are common history; the first block that is lent proves it by
        // its running hash, and so no hash is asked for here.
        let cut = cut.map(|to| {
            self.control.truncating = Some(Cut { to, hash: None });
            (to, self.persist())
        });
        let adopting = Adopting { from, link, end: theirs.end, cut, asked: false };
        if let Phase::Gathering(gathering) = &mut self.phase {
            gathering.adopting = Some(adopting);
        }
        self.adopt(out);
    }

    /// Carries an adoption on; `false` when there is none.
    fn adopt(&mut self, out: &mut Vec<Out>) -> bool {
        let idle = self.log.is_idle() && self.persisting.writing.is_none();
        let (end, reading) = (self.log.end(), !self.reads.is_empty());
        let (drained, written) = (self.log.is_drained(), self.persisting.written);
        let reopening = self.is_reopening();
        let Phase::Gathering(gathering) = &mut self.phase else { return false };
        let Some(adopting) = gathering.adopting.as_mut() else { return false };
        if let Some((cut, generation)) = adopting.cut {
            if !reopening && written >= generation && idle && !reading {
                self.reopening = Some(gathering.epoch);
                out.push(Out::Reopen { cut, hash: None });
            }
            return true;
        }
        if end >= adopting.end {
            if drained {
                gathering.adopting = None;
                return false;
            }
            return true;
        }
        let (link, to, from) = (adopting.link, adopting.end, adopting.from);
        let session = match gathering.peers.get_mut(&from).and_then(super::phase::Peer::up) {
            Some(up) if up.link == link => up.session,
            _ => {
                // The line was lost: what came is kept, the rest is asked for again.
                gathering.adopting = None;
                return false;
            }
        };
        if !adopting.asked {
            adopting.asked = true;
            self.send(link, session, Message::Fetch { from: end, to }, out);
        }
        true
    }

    /// Blocks of another copy's tail.
    pub(super) fn adopted(
        &mut self,
        link: LinkId,
        start: Lsn,
        lens: &[(u32, u32)],
        body: &bytes::Bytes,
        out: &mut Vec<Out>,
    ) {
        let asked = matches!(&self.phase, Phase::Gathering(gathering)
            if gathering.adopting.is_some_and(|adopting| adopting.link == link && adopting.asked));
        if !asked {
            return;
        }
        let blocks = outrigger_net::frame::split_blocks(start, lens, body.clone(), self.log.id());
        let taken = blocks.map_err(|error| error.to_string()).and_then(|blocks| {
            blocks.into_iter().try_for_each(|block| {
                self.log.receive(self.now, block).map_err(|error| error.to_string())
            })
        });
        if let Err(text) = taken {
            out.push(Out::Event(Event::Refused { text }));
            out.push(Out::Hangup(link));
            self.closed(link);
        }
    }

    /// Opens the reign: everything held is adopted, an `EpochBegin` is sealed behind it.
    fn rise(&mut self, out: &mut Vec<Out>) {
        let Phase::Rising(rising) =
            std::mem::replace(&mut self.phase, Phase::Following(Following::default()))
        else {
            return;
        };
        let begun = match self.log.begin_epoch(rising.epoch, self.me()) {
            Ok(begun) => begun,
            Err(error) => {
                self.fail(error.to_string(), out);
                return;
            }
        };
        if rising.promoted {
            self.counters.promotions = self.counters.promotions.saturating_add(1);
        } else {
            self.counters.restarts = self.counters.restarts.saturating_add(1);
        }
        self.belongs_to(rising.epoch, out);
        self.control.in_sync = true;
        // What a copy was seen to hold in an earlier reign it may have cut since: all that is known of
        // every copy is the common floor.
        self.control.slots.clear();
        let generation = self.persist();
        let mut peers: BTreeMap<_, _> = rising.peers;
        for peer in peers.values_mut().filter(|_| rising.promoted) {
            peer.lost = self.now;
        }
        out.push(Out::Event(Event::Reigns { epoch: rising.epoch, from: begun }));
        self.phase = Phase::Reigning(Reign {
            epoch: rising.epoch,
            begin_end: begun.saturating_add(outrigger_wal::PAGE_BYTES),
            generation,
            peers,
            swap: None,
            served: false,
            handing: None,
        });
    }
}

/// Whether a copy that told its history holds what it has promised (S6): by its own word, and by what is
/// recorded of it, up to the start of the next epoch in its log and to where a loss of it was accepted (S10).
pub(super) fn reaches_its_floor(config: &Config, instance: InstanceId, told: &History) -> bool {
    let recorded = config.copy(instance).map_or(Lsn::ZERO, |copy| {
        let counts = copy.durable.counts(&told.epochs);
        config.accepted(instance, copy.durable.epoch).map_or(counts, |end| counts.min(end))
    });
    told.end >= recorded.max(told.floor)
}
