//! A reign: who belongs to the in-sync set, and how a reign ends.
//!
//! S2 (a copy leaves only by a recorded configuration), S4 (a copy is waited for before it is asked for, and
//! until the answer). Not here: what is said to a copy (`lines`), what is committed (`serve`).

use outrigger_net::config::Config;
use outrigger_net::message::Message;
use outrigger_net::sender::Stage;
use outrigger_wal::{InstanceId, Lsn, Micros};

use super::event::{Event, Out};
use super::lines::may_call;
use super::phase::{Awaited, Earlier, Following, Line, Peer, Phase, Swap};
use super::restart::reaches_its_floor;
use super::{BTreeMap, Member, Reading};
use crate::rules::Rule;

impl Member {
    pub(super) fn peers(&mut self) -> Option<&mut BTreeMap<InstanceId, Peer>> {
        match &mut self.phase {
            Phase::Gathering(gathering) => Some(&mut gathering.peers),
            Phase::Rising(rising) => Some(&mut rising.peers),
            Phase::Reigning(reign) => Some(&mut reign.peers),
            _ => None,
        }
    }

    /// The durable LSN of a copy, observed in this epoch.
    pub(super) fn observed(&self, instance: InstanceId) -> Option<Lsn> {
        match &self.phase {
            Phase::Reigning(reign) => reign.peers.get(&instance).map(|peer| peer.observed),
            _ => None,
        }
    }

    /// Ends a reign, or the way to one: nothing more is sealed, counted or served.
    pub(super) fn step_down(&mut self, why: &'static str, out: &mut Vec<Out>) {
        let phase = match &mut self.phase {
            Phase::Electing(_) | Phase::Gathering(_) | Phase::Rising(_) | Phase::Reigning(_) => {
                std::mem::replace(&mut self.phase, Phase::Following(Following::default()))
            }
            _ => return,
        };
        let (reigned, peers) = match phase {
            Phase::Reigning(reign) => (Some(reign.epoch), reign.peers),
            Phase::Gathering(gathering) => (None, gathering.peers),
            Phase::Rising(rising) => (None, rising.peers),
            _ => (None, BTreeMap::new()),
        };
        for (instance, peer) in peers {
            if let Some(link) = peer.link() {
                out.push(Out::Hangup(link));
                self.forget_link(link, instance);
            }
        }
        self.log.end_epoch();
        self.reads.retain(|_, (reading, _)| matches!(reading, Reading::Apply(_)));
        if let Some(epoch) = reigned {
            out.push(Out::Event(Event::SteppedDown { epoch, sealed: self.log.end(), why }));
        }
    }

    /// Everything a reign does besides committing.
    pub(super) fn settle_reign(&mut self, out: &mut Vec<Out>) {
        if !matches!(self.phase, Phase::Reigning(_)) {
            return;
        }
        self.settle_lines(out);
        self.settle_streams(out);
        // S9: an epoch that is given up changes nothing any more.
        if !self.is_given_up() {
            self.settle_growing(out);
            self.settle_leaving(out);
        }
    }

    /// S4: first wait for the copy, from an LSN that is not below the commit LSN; when it is there,
    /// let it promise, and ask.
    fn settle_growing(&mut self, out: &mut Vec<Out>) {
        let Some(config) = self.config.clone() else { return };
        let (end, near) = (self.log.end(), self.options.near_bytes);
        let reach = self.rules.hold(Rule::S4Reach);
        let free = matches!(&self.phase, Phase::Reigning(reign) if reign.swap.is_none());
        let mut join = Vec::new();
        let mut ask = None;
        let Some(peers) = self.peers() else { return };
        for (instance, peer) in peers.iter_mut() {
            let member = may_call(&config, *instance) && !config.in_sync(*instance);
            let Line::Up(up) = &mut peer.line else { continue };
            if !member || up.sender.stage() != Stage::Streaming {
                continue;
            }
            match &mut peer.awaited {
                None if end.since(peer.observed) <= near => {
                    peer.awaited =
                        Some(Awaited { from: end, joining: false, joined: false, base: None });
                }
                Some(awaited) if !awaited.joining && (peer.observed >= awaited.from || !reach) => {
                    awaited.joining = true;
                    if !reach {
                        awaited.joined = true;
                    }
                    join.push((up.link, up.session));
                }
                Some(awaited) if awaited.joined && awaited.base.is_none() && free => {
                    ask = Some(*instance);
                }
                _ => {}
            }
        }
        for (link, session) in join {
            self.send(link, session, Message::Join, out);
        }
        if let Some(instance) = ask
            && let Some((base, new)) = self.changed(instance, true)
        {
            if let Some(peer) = self.peers().and_then(|peers| peers.get_mut(&instance))
                && let Some(awaited) = peer.awaited.as_mut()
            {
                awaited.base = Some(base);
            }
            self.swap(Swap { base, new, asked: self.now }, out);
        }
    }

    /// S2: a copy without a connection leaves by a recorded configuration, once the grace is over; and
    /// one that was asked for and is gone is given up in the same way (S4).
    pub(super) fn settle_leaving(&mut self, out: &mut Vec<Out>) {
        let Some(config) = self.config.clone() else { return };
        let now = self.now;
        let again = self.options.ask_again_millis.saturating_mul(1000);
        let grace = self.options.copy_grace_millis.saturating_mul(1000);
        // S3: the old primary leaves once the reign's first block is durable here.
        let begun = match &self.phase {
            Phase::Reigning(reign) => self.log.durable() >= reign.begin_end,
            _ => true,
        };
        let shrink = self.rules.hold(Rule::S2Shrink);
        let floors = self.rules.hold(Rule::S6Floor);
        let gathering = matches!(self.phase, Phase::Gathering(_));
        let mut gone = None;
        let Some(peers) = self.peers() else { return };
        for (instance, peer) in peers.iter_mut() {
            let in_sync = config.in_sync(*instance);
            let asked = peer.awaited.is_some_and(|awaited| awaited.base.is_some());
            let alive = match &peer.line {
                Line::Up(up) if gathering => {
                    // One whose log ends below its floor is not counted (S6).
                    let told = up.history.as_ref();
                    told.is_none_or(|told| !floors || reaches_its_floor(&config, *instance, told))
                }
                Line::Up(up) => up.sender.stage() != Stage::NeedsCopy,
                _ => false,
            };
            let unreachable = peer.deposed && (peer.silent || peer.attempts > 0);
            let patience = if unreachable { 0 } else { grace };
            let waits = !unreachable && now < peer.until;
            let over = !alive && !waits && now.since(peer.lost) >= patience;
            if !alive && in_sync && !shrink && over {
                // Seeded bug: no longer waited for before anything is recorded.
                peer.observed = Lsn(u64::MAX);
            }
            if over && (in_sync || asked) {
                gone = Some(*instance);
            }
        }
        let (Phase::Reigning(_) | Phase::Gathering(_)) = &self.phase else { return };
        let gone = gone.filter(|at| !gathering || !floors || self.reaches_a_floor(*at));
        let pending = self.pending_swap();
        if let Some(swap) = pending {
            // The answer may be lost: the same question again, or what overrides it.
            if now.since(swap.asked) < again {
                return;
            }
            let overrides = gone.filter(|at| swap.new.in_sync(*at) && begun);
            if overrides.is_none() {
                swap.asked = now;
                let (seen, new) = (swap.base, swap.new.clone());
                out.push(Out::Swap { seen, new });
                return;
            }
        }
        if let Some(instance) = gone.filter(|_| begun)
            && let Some((base, new)) = self.changed(instance, false)
        {
            self.swap(Swap { base, new, asked: now }, out);
        }
    }

    fn pending_swap(&mut self) -> Option<&mut Swap> {
        match &mut self.phase {
            Phase::Reigning(reign) => reign.swap.as_mut(),
            Phase::Gathering(gathering) => gathering.swap.as_mut(),
            _ => None,
        }
    }

    fn swap(&mut self, swap: Swap, out: &mut Vec<Out>) {
        out.push(Out::Swap { seen: swap.base, new: swap.new.clone() });
        match &mut self.phase {
            Phase::Reigning(reign) => reign.swap = Some(swap),
            Phase::Gathering(gathering) => gathering.swap = Some(swap),
            _ => {}
        }
    }

    /// The configuration moved on within this reign.
    pub(super) fn configuration_changed(
        &mut self,
        previous: Option<&Config>,
        config: &Config,
        out: &mut Vec<Out>,
    ) {
        if self.pending_swap().is_some_and(|swap| swap.base < config.version) {
            match &mut self.phase {
                Phase::Reigning(reign) => reign.swap = None,
                Phase::Gathering(gathering) => gathering.swap = None,
                _ => {}
            }
        }
        let now = self.now;
        let me = self.me();
        let (mut grown, mut shrunk) = (0u64, 0u64);
        let mut told_otherwise = Vec::new();
        let mut left = Vec::new();
        let Some(peers) = self.peers() else { return };
        for copy in config.copies.iter().filter(|copy| copy.instance != me) {
            let peer = peers.entry(copy.instance).or_insert_with(|| Peer::new(now, false));
            let before = previous.is_some_and(|previous| previous.in_sync(copy.instance));
            if peer.awaited.and_then(|awaited| awaited.base).is_some_and(|at| at < config.version) {
                peer.awaited = None;
                if !copy.in_sync {
                    told_otherwise.extend(peer.link());
                }
            }
            if copy.in_sync && !before {
                grown = grown.saturating_add(1);
                let link = peer.link();
                let earlier = std::mem::take(&mut peer.earlier);
                let (from, to, shipped_bytes) = peer.up().map_or((Lsn::ZERO, Lsn::ZERO, 0), |up| {
                    (up.sender.began(), up.sender.shipped_to(), up.sender.shipped_bytes())
                });
                let from = earlier.from.unwrap_or(from);
                let shipped_bytes = shipped_bytes.saturating_add(earlier.shipped_bytes);
                let copy = copy.instance;
                out.push(Out::Event(Event::Grown { copy, link, from, to, shipped_bytes }));
            } else if before && !copy.in_sync {
                shrunk = shrunk.saturating_add(1);
                peer.deposed = false;
                peer.awaited = None;
                peer.observed = Lsn::ZERO;
                told_otherwise.extend(peer.link());
                left.push(copy.instance);
                out.push(Out::Event(Event::Shrunk { copy: copy.instance }));
            }
        }
        // One that was removed, or is held out from now on, is not streamed to.
        let mut shut = Vec::new();
        for (instance, peer) in peers.iter_mut().filter(|(at, _)| !may_call(config, **at)) {
            shut.extend(peer.link().filter(|link| !told_otherwise.contains(link)));
            peer.awaited = None;
            if config.copy(*instance).is_none() {
                peer.observed = Lsn::ZERO;
            }
        }
        self.counters.grows = self.counters.grows.saturating_add(grown);
        self.counters.shrinks = self.counters.shrinks.saturating_add(shrunk);
        // Commits may pass a copy that left from here on, and it was told that they wait for it: it
        // would take the commit LSN in a block for a promise about its own disk. It hears otherwise,
        // and persists that, before it gets a block that was sealed later.
        for link in told_otherwise {
            self.drop_line(link, "it is not in sync any more", out);
        }
        for link in shut {
            self.drop_line(link, "it is held out, or removed", out);
        }
        // What it was sent while it was in sync is no part of its way back.
        let Some(peers) = self.peers() else { return };
        for copy in left {
            if let Some(peer) = peers.get_mut(&copy) {
                peer.earlier = Earlier::default();
            }
        }
    }

    /// When a line, a grace or a question is due.
    pub(super) fn reign_deadline(&self) -> Option<Micros> {
        let (peers, swap) = match &self.phase {
            Phase::Gathering(gathering) => (&gathering.peers, &gathering.swap),
            Phase::Reigning(reign) => (&reign.peers, &reign.swap),
            _ => return None,
        };
        let millis = |at: Micros, millis: u64| at.plus(millis.saturating_mul(1000));
        let swap = swap.as_ref().filter(|_| !self.is_given_up());
        let asked = swap.map(|swap| millis(swap.asked, self.options.ask_again_millis));
        let called = |at| self.config.as_ref().is_some_and(|config| may_call(config, at));
        let lines = peers.iter().flat_map(|(instance, peer)| {
            let due = match &peer.line {
                Line::Down(at) => Some(*at).filter(|_| called(*instance)),
                Line::Dialling(_) => None,
                Line::Up(up) => {
                    let silent = millis(up.sender.heard(), self.options.silence_millis);
                    let quiet = millis(self.now, self.options.quiet_millis);
                    let owed = up.sender.owed().map(|at| at.plus(self.options.tell_commit_micros));
                    [Some(silent), Some(quiet), owed].into_iter().flatten().min()
                }
            };
            let waited = self.config.as_ref().is_some_and(|config| config.in_sync(*instance))
                || peer.awaited.is_some();
            let up = matches!(&peer.line, Line::Up(_));
            let grace = (waited && !up && swap.is_none())
                .then(|| millis(peer.lost, self.options.copy_grace_millis).max(peer.until))
                .filter(|at| *at > self.now);
            [due, grace].into_iter().flatten()
        });
        lines.chain(asked).min()
    }
}
