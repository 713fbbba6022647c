//! A primary and its copies: lines, streams, and who belongs to the in-sync set.
//!
//! S1 (what an acknowledgement must be), S2 (a copy leaves only by a recorded configuration), S4 (a copy is
//! waited for before it is asked for, and until the answer). Not here: what is committed (`serve`).

use bytes::Bytes;
use outrigger_net::config::Config;
use outrigger_net::message::{Abilities, Envelope, Message, Reason, Role as Caller, Session};
use outrigger_net::sender::{Next, Sender, Stage};
use outrigger_net::transport::backoff_micros;
use outrigger_wal::format::Block;
use outrigger_wal::{Error, Fetch, InstanceId, Lsn, Micros};

use super::event::{Event, LinkId, Out};
use super::phase::{Awaited, Earlier, Following, Line, Peer, Phase, Swap, Up};
use super::restart::reaches_its_floor;
use super::{BTreeMap, Member, Reading};
use crate::rules::Rule;

/// Bytes shipped in one frame, about.
const SHIP_BYTES: u64 = 256 << 10;

impl Member {
    pub(super) fn peers(&mut self) -> Option<&mut BTreeMap<InstanceId, Peer>> {
        match &mut self.phase {
            Phase::Gathering(gathering) => Some(&mut gathering.peers),
            Phase::Rising(rising) => Some(&mut rising.peers),
            Phase::Reigning(reign) => Some(&mut reign.peers),
            _ => None,
        }
    }

    fn peer_of(&mut self, link: LinkId) -> Option<(InstanceId, &mut Peer)> {
        self.peers()?
            .iter_mut()
            .find(|(_, peer)| peer.link() == Some(link))
            .map(|(instance, peer)| (*instance, peer))
    }

    /// The durable LSN of a copy, observed in this epoch.
    pub(super) fn observed(&self, instance: InstanceId) -> Option<Lsn> {
        match &self.phase {
            Phase::Reigning(reign) => reign.peers.get(&instance).map(|peer| peer.observed),
            _ => None,
        }
    }

    /// A line that was dialled is there: hello.
    pub(super) fn connected(&mut self, link: LinkId, out: &mut Vec<Out>) {
        let session = Session(u64::try_from(self.draw() >> 64).unwrap_or(1));
        let (now, window) = (self.now, self.options.window_bytes);
        let Some((instance, peer)) = self.peer_of(link) else {
            out.push(Out::Hangup(link));
            return;
        };
        peer.line = Line::Up(Box::new(Up {
            link,
            session,
            sender: Sender::new(instance, session, window, now),
            history: None,
            started: false,
        }));
        let hello = Message::Hello {
            role: Caller::Primary,
            from: self.me(),
            to: instance,
            log: self.log.id(),
            abilities: Abilities::OURS,
            history: self.history(),
        };
        self.send(link, session, hello, out);
    }

    /// A line ended, of whichever side.
    pub(super) fn closed(&mut self, link: LinkId) {
        self.reads.retain(|_, (reading, _)| {
            !matches!(reading, Reading::Ship(at, _) | Reading::Lend(at, _) | Reading::Start(at, _) if *at == link)
        });
        let (now, roll) = (self.now, self.draw());
        let roll = u64::try_from(roll >> 64).unwrap_or(0);
        let config = self.config.clone();
        if let Some((instance, peer)) = self.peer_of(link) {
            if let Line::Up(up) = &peer.line
                && up.sender.stage() == Stage::Streaming
            {
                peer.attempts = 0;
                peer.lost = now;
                if config.is_some_and(|config| !config.in_sync(instance)) {
                    let earlier = &mut peer.earlier;
                    earlier.from.get_or_insert(up.sender.began());
                    let shipped_bytes = up.sender.shipped_bytes();
                    earlier.shipped_bytes = earlier.shipped_bytes.saturating_add(shipped_bytes);
                }
            }
            peer.attempts = peer.attempts.saturating_add(1);
            peer.line = Line::Down(now.plus(backoff_micros(peer.attempts, roll)));
            // S4: one that was not asked for yet is let go; one that was is waited for.
            if peer.awaited.is_some_and(|awaited| awaited.base.is_none()) {
                peer.awaited = None;
            }
            self.forget_link(link, instance);
            if !self.rules.hold(Rule::S4GiveUp)
                && let Some(peer) = self.peers().and_then(|peers| peers.get_mut(&instance))
            {
                peer.awaited = None;
            }
        } else if self.stream().is_some_and(|stream| stream.link == link) {
            self.lose_stream();
        }
    }

    /// A message on any line.
    pub(super) fn frame(
        &mut self,
        link: LinkId,
        envelope: Envelope,
        message: Message,
        body: &Bytes,
        out: &mut Vec<Out>,
    ) {
        let id = self.control.identity;
        if envelope.cluster != id.cluster || envelope.content != id.content {
            let reason = if envelope.cluster == id.cluster {
                Reason::WrongContent
            } else {
                Reason::WrongCluster
            };
            let text = format!(
                "meant for cluster {} content {}, this is {} content {}",
                envelope.cluster, envelope.content, id.cluster, id.content
            );
            self.refuse(link, envelope.session, reason, text, out);
            self.closed(link);
            return;
        }
        if matches!(message, Message::Hello { .. }) {
            self.hello(link, envelope, &message, out);
        } else if self.stream().is_some_and(|stream| stream.link == link) {
            self.followed(link, &envelope, message, body, out);
        } else if self.peer_of(link).is_some() {
            self.heard(link, &envelope, message, body, out);
        } else {
            self.late(link, message);
        }
    }

    /// A message of a session that is over: counted, and nothing released (S1).
    fn late(&mut self, link: LinkId, message: Message) {
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        if self.rules.hold(Rule::S1Session) {
            return;
        }
        let Message::Ack { durable, .. } = message else { return };
        let whose = self.old_links.iter().find(|(old, _)| *old == link).map(|(_, peer)| *peer);
        if let Some(whose) = whose
            && let Some(peer) = self.peers().and_then(|peers| peers.get_mut(&whose))
        {
            peer.observed = peer.observed.max(durable);
        }
    }

    /// A message of a copy.
    fn heard(
        &mut self,
        link: LinkId,
        envelope: &Envelope,
        message: Message,
        body: &Bytes,
        out: &mut Vec<Out>,
    ) {
        // S0: a higher epoch ends this reign, whatever the message says.
        if envelope.epoch.number > self.control.epoch.number && self.rules.hold(Rule::S0Epoch) {
            self.step_down("a copy has accepted a higher epoch", out);
            out.push(Out::ReadConfig);
            return;
        }
        let (now, mine) = (self.now, self.history());
        let checked = self.rules.hold(Rule::S1Session);
        let epoch = self.control.epoch;
        let config = self.config.clone();
        let Some((instance, peer)) = self.peer_of(link) else { return };
        let counted = config.is_some_and(|config| config.in_sync(instance));
        let (observed, waited) = (peer.observed, counted || peer.awaited.is_some());
        let Some(up) = peer.up() else { return };
        if checked && (envelope.session != up.session || envelope.epoch != epoch) {
            if matches!(message, Message::Refuse { .. }) {
                self.refused(link, message, out);
            } else {
                self.drop_line(link, "a message of another session or epoch", out);
            }
            return;
        }
        up.sender.hear(now);
        match message {
            Message::Welcome { from, history, .. } if from == instance => {
                let regressed = history.end < peer.observed && checked;
                if regressed && (counted || peer.awaited.is_some()) {
                    // It lost what it had acknowledged: it is not counted again before it left (S2).
                    let text = format!(
                        "copy {instance} held {} and ends at {} now",
                        peer.observed, history.end
                    );
                    self.bad_ack(link, text, out);
                    return;
                }
                if !counted && peer.awaited.is_none() {
                    peer.observed = Lsn::ZERO;
                }
                if let Some(up) = peer.up() {
                    up.history = Some(history);
                }
            }
            // S1: it was seen to hold more in this epoch, and its log was another one since.
            Message::Ready { at } if checked && waited && at < observed => {
                let text = format!("copy {instance} held {observed} and is cut to {at}");
                self.bad_ack(link, text, out);
            }
            Message::Ready { at } => match up.sender.ready(at) {
                Ok(()) => {
                    peer.observed = peer.observed.max(at);
                    // It can be reached again: if it is lost once more, it has the grace of any other copy.
                    peer.deposed = false;
                }
                Err(error) => self.bad_ack(link, error.to_string(), out),
            },
            Message::Ack { received, durable, hash, applied } => {
                match up.sender.ack(received, durable, hash, applied, checked) {
                    Ok(()) => peer.observed = peer.observed.max(durable),
                    Err(error) => self.bad_ack(link, error.to_string(), out),
                }
            }
            Message::Joined { durable } => {
                if let Some(awaited) = peer.awaited.as_mut() {
                    awaited.joined = durable >= awaited.from;
                    awaited.joining = awaited.joined;
                }
            }
            Message::Data { start, lens, .. } => self.adopted(link, start, &lens, body, out),
            Message::NeedsCopy { text } => {
                out.push(Out::Event(Event::NeedsCopy { text }));
                let Some((_, peer)) = self.peer_of(link) else { return };
                if let Some(up) = peer.up() {
                    up.sender.welcome(&mine, &outrigger_net::message::History::default());
                }
                self.drop_line(link, "it needs a copy", out);
            }
            Message::Refuse { .. } => self.refused(link, message, out),
            Message::Keepalive => {}
            _ => self.drop_line(link, "a message out of turn", out),
        }
    }

    fn refused(&mut self, link: LinkId, message: Message, out: &mut Vec<Out>) {
        let Message::Refuse { reason, text } = message else { return };
        out.push(Out::Event(Event::Refused { text: format!("{reason:?}: {text}") }));
        out.push(Out::Hangup(link));
        self.closed(link);
        if matches!(reason, Reason::StaleEpoch | Reason::StaleVersion | Reason::ForeignNonce) {
            // The refusal names the current one; what is recorded decides.
            out.push(Out::ReadConfig);
        }
    }

    fn bad_ack(&mut self, link: LinkId, text: String, out: &mut Vec<Out>) {
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        out.push(Out::Event(Event::BadAck { text }));
        out.push(Out::Hangup(link));
        self.closed(link);
    }

    fn drop_line(&mut self, link: LinkId, why: &str, out: &mut Vec<Out>) {
        out.push(Out::Event(Event::Refused { text: why.to_owned() }));
        out.push(Out::Hangup(link));
        self.closed(link);
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

    /// Dials, gives silent lines up, tells where to start.
    pub(super) fn settle_lines(&mut self, out: &mut Vec<Out>) {
        let (now, silence) = (self.now, self.options.silence_millis.saturating_mul(1000));
        let reigning = matches!(self.phase, Phase::Reigning(_));
        let Some(config) = self.config.clone() else { return };
        let mine = self.history();
        let mut dial = Vec::new();
        let mut silent = Vec::new();
        let mut start = Vec::new();
        let Some(peers) = self.peers() else { return };
        for (instance, peer) in peers.iter_mut() {
            match &mut peer.line {
                Line::Down(at) if now >= *at => dial.push(*instance),
                Line::Up(up) if now.since(up.sender.heard()) >= silence => silent.push(up.link),
                Line::Up(up) if reigning && !up.started => {
                    let Some(theirs) = up.history.as_ref() else { continue };
                    up.started = true;
                    match up.sender.welcome(&mine, theirs) {
                        Next::Start(at) => start.push((up.link, up.session, *instance, at)),
                        Next::NeedsCopy(text) => out.push(Out::Event(Event::NeedsCopy { text })),
                    }
                }
                _ => {}
            }
        }
        for instance in dial {
            let link = self.new_link();
            let addresses =
                config.copy(instance).map(|copy| copy.addresses.clone()).unwrap_or_default();
            if let Some(peer) = self.peers().and_then(|peers| peers.get_mut(&instance)) {
                peer.line = Line::Dialling(link);
                out.push(Out::Dial { link, peer: instance, addresses });
            }
        }
        for link in silent {
            self.drop_line(link, "it is silent", out);
        }
        for (link, session, instance, at) in start {
            let waited = self.is_waited_for(instance);
            self.say_start(link, session, at, waited, out);
        }
    }

    /// Whether commits wait for a copy by what is recorded, or by what was asked for and may be recorded
    /// already (S4): it must know, or rot of what it acknowledges would pass for a torn tail there.
    fn is_waited_for(&mut self, instance: InstanceId) -> bool {
        let recorded = self.config.as_ref().is_some_and(|config| config.in_sync(instance));
        let peer = self.peers().and_then(|peers| peers.get(&instance));
        recorded || peer.and_then(|peer| peer.awaited).is_some_and(|awaited| awaited.base.is_some())
    }

    fn say_start(
        &mut self,
        link: LinkId,
        session: Session,
        at: Lsn,
        in_sync: bool,
        out: &mut Vec<Out>,
    ) {
        // The copy verifies our running hash there before it cuts or continues.
        match self.log.hash_at(at) {
            Some(hash) => {
                self.send(link, session, Message::Start { from: at, hash, in_sync }, out);
            }
            None => match self.log.fetch(at, 1) {
                Ok(Fetch::Read { file, at: offset, len }) => {
                    self.read(Reading::Start(link, at), file, offset, len, out);
                }
                Ok(_) => self.drop_line(link, "its end is no block boundary here", out),
                Err(error) => self.cannot_start(link, &error, out),
            },
        }
    }

    /// A copy cannot be continued where our histories part.
    pub(super) fn cannot_start(&mut self, link: LinkId, error: &Error, out: &mut Vec<Out>) {
        let Some((instance, peer)) = self.peer_of(link) else { return };
        if let Some(up) = peer.up() {
            up.sender.give_up();
        }
        let text = format!("copy {instance} cannot be continued where its log ends: {error}");
        out.push(Out::Event(Event::NeedsCopy { text }));
    }

    /// The block at a fork was read: its header has the running hash.
    pub(super) fn say_start_with(&mut self, link: LinkId, block: &Block, out: &mut Vec<Out>) {
        let Some((instance, peer)) = self.peer_of(link) else { return };
        let Some(up) = peer.up() else { return };
        let session = up.session;
        let in_sync = self.is_waited_for(instance);
        let (from, hash) = (block.lsn(), block.hash_before());
        self.send(link, session, Message::Start { from, hash, in_sync }, out);
    }

    /// Everything a reign does besides committing.
    pub(super) fn settle_reign(&mut self, out: &mut Vec<Out>) {
        if !matches!(self.phase, Phase::Reigning(_)) {
            return;
        }
        self.settle_lines(out);
        self.settle_streams(out);
        self.settle_growing(out);
        self.settle_leaving(out);
    }

    fn settle_streams(&mut self, out: &mut Vec<Out>) {
        let end = self.log.end();
        let Some(peers) = self.peers() else { return };
        let wanting: Vec<_> = peers
            .values_mut()
            .filter_map(Peer::up)
            .filter(|up| up.sender.wants(end).is_some())
            .map(|up| up.link)
            .collect();
        for link in wanting {
            while let Some((from, room)) = self.wanted(link, end) {
                match self.log.fetch(from, room.min(SHIP_BYTES)) {
                    Ok(Fetch::Blocks(blocks)) => self.ship(link, &blocks, out),
                    Ok(Fetch::Read { file, at, len }) => {
                        if let Some((_, peer)) = self.peer_of(link)
                            && let Some(up) = peer.up()
                        {
                            up.sender.reading(true);
                        }
                        self.read(Reading::Ship(link, from), file, at, len, out);
                    }
                    Ok(Fetch::AtEnd) => break,
                    Err(error) => {
                        out.push(Out::Event(Event::NeedsCopy { text: error.to_string() }));
                        self.drop_line(link, "the log it needs was recycled", out);
                        break;
                    }
                }
            }
        }
    }

    fn wanted(&mut self, link: LinkId, end: Lsn) -> Option<(Lsn, u64)> {
        let (_, peer) = self.peer_of(link)?;
        peer.up()?.sender.wants(end)
    }

    pub(super) fn ship(&mut self, link: LinkId, blocks: &[Block], out: &mut Vec<Out>) {
        let (now, commit, keep) = (self.now, self.commit, self.control.keep);
        let Some((_, peer)) = self.peer_of(link) else { return };
        let Some(up) = peer.up() else { return };
        up.sender.reading(false);
        if blocks.is_empty() {
            return;
        }
        let message = up.sender.ship(now, blocks, commit, keep);
        let session = up.session;
        let envelope = self.envelope(session);
        let body = blocks.iter().map(|block| block.stored().clone()).collect();
        out.push(Out::Send { link, envelope, message, body });
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
            let member = config.copy(*instance).is_some() && !config.in_sync(*instance);
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
            let patience = if peer.deposed && peer.attempts > 0 { 0 } else { grace };
            let over = !alive && now.since(peer.lost) >= patience;
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
        self.counters.grows = self.counters.grows.saturating_add(grown);
        self.counters.shrinks = self.counters.shrinks.saturating_add(shrunk);
        // Commits may pass a copy that left from here on, and it was told that they wait for it: it
        // would take the commit LSN in a block for a promise about its own disk. It hears otherwise,
        // and persists that, before it gets a block that was sealed later.
        for link in told_otherwise {
            self.drop_line(link, "it is not in sync any more", out);
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
        let asked = swap.as_ref().map(|swap| millis(swap.asked, self.options.ask_again_millis));
        let lines = peers.iter().flat_map(|(instance, peer)| {
            let due = match &peer.line {
                Line::Down(at) => Some(*at),
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
                .then(|| millis(peer.lost, self.options.copy_grace_millis))
                .filter(|at| *at > self.now);
            [due, grace].into_iter().flatten()
        });
        lines.chain(asked).min()
    }
}
