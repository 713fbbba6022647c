//! A primary's lines to its copies: dialled, greeted, streamed to, acknowledged.
//!
//! S0 (a higher epoch ends the reign), S1 (what an acknowledgement must be). A copy that is held out is not dialled.
//! Not here: who belongs to the in-sync set (`reign`), what is committed (`serve`).

use bytes::Bytes;
use outrigger_net::config::Config;
use outrigger_net::message::{Abilities, Envelope, Message, Reason, Role as Caller, Session};
use outrigger_net::sender::{Next, Sender, Stage};
use outrigger_net::transport::backoff_micros;
use outrigger_wal::format::Block;
use outrigger_wal::{Error, Fetch, InstanceId, Lsn, Micros};

use super::event::{Event, LinkId, Out};
use super::phase::{Line, Peer, Up};
use super::{Member, Reading};
use crate::rules::Rule;

/// Bytes shipped in one frame, about.
const SHIP_BYTES: u64 = 256 << 10;

impl Member {
    pub(super) fn peer_of(&mut self, link: LinkId) -> Option<(InstanceId, &mut Peer)> {
        self.peers()?
            .iter_mut()
            .find(|(_, peer)| peer.link() == Some(link))
            .map(|(instance, peer)| (*instance, peer))
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
            moved: now,
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
        let (config, end) = (self.config.clone(), self.log.end());
        if let Some((instance, peer)) = self.peer_of(link) {
            if let Line::Up(up) = &peer.line
                && up.sender.stage() == Stage::Streaming
            {
                let caught_up = peer.observed >= peer.owes;
                if caught_up || up.sender.durable() > up.sender.began() {
                    (peer.attempts, peer.vain) = (0, 0);
                } else {
                    peer.vain = peer.vain.saturating_add(1);
                }
                // A line that comes and goes, and never brings the copy what was there when the first one broke, does
                // not begin the grace anew: commits would wait for it without end.
                if caught_up {
                    peer.lost = now;
                    peer.owes = end;
                }
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
                    peer.until = Micros(0);
                }
                Err(error) => self.bad_ack(link, error.to_string(), out),
            },
            Message::Ack { received, durable, hash, applied } => {
                match up.sender.ack(received, durable, hash, applied, checked) {
                    Ok(()) => {
                        if durable > observed {
                            up.moved = now;
                        }
                        peer.observed = peer.observed.max(durable);
                    }
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
            Message::HandOver { to, at_most_millis } if to == instance => {
                self.mirror_asks(Self::as_asked(envelope, to, at_most_millis), out);
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

    pub(super) fn drop_line(&mut self, link: LinkId, why: &str, out: &mut Vec<Out>) {
        out.push(Out::Event(Event::Refused { text: why.to_owned() }));
        out.push(Out::Hangup(link));
        self.closed(link);
    }

    /// Dials, gives silent lines up, tells where to start.
    pub(super) fn settle_lines(&mut self, out: &mut Vec<Out>) {
        let (now, silence) = (self.now, self.options.silence_millis.saturating_mul(1000));
        let (end, stall) = (self.log.end(), self.options.copy_stall_millis.saturating_mul(1000));
        let reigning = matches!(self.phase, super::Phase::Reigning(_));
        let Some(config) = self.config.clone() else { return };
        let mine = self.history();
        let mut dial = Vec::new();
        let mut needing = Vec::new();
        let mut silent = Vec::new();
        let mut stalled = Vec::new();
        let mut start = Vec::new();
        let Some(peers) = self.peers() else { return };
        for (instance, peer) in peers.iter_mut() {
            let waited = config.in_sync(*instance) || peer.awaited.is_some();
            let observed = peer.observed;
            if let Line::Up(up) = &mut peer.line {
                let owes = waited && reigning && observed < end;
                if !owes || up.sender.stage() != Stage::Streaming {
                    up.moved = now;
                } else if now.since(up.moved) >= stall {
                    stalled.push(up.link);
                    continue;
                }
            }
            match &mut peer.line {
                Line::Down(at) if now >= *at && may_call(&config, *instance) => {
                    dial.push(*instance)
                }
                Line::Up(up) if now.since(up.sender.heard()) >= silence => silent.push(up.link),
                Line::Up(up) if reigning && !up.started => {
                    let Some(theirs) = up.history.as_ref() else { continue };
                    up.started = true;
                    match up.sender.welcome(&mine, theirs) {
                        Next::Start(at) => start.push((up.link, up.session, *instance, at)),
                        Next::NeedsCopy(text) => needing.push((up.link, up.session, text)),
                    }
                }
                _ => {}
            }
        }
        for (link, session, text) in needing {
            self.tell_needs_copy(link, session, text, out);
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
        for link in stalled {
            // It says that it lives, and takes nothing: a disk that hangs. Commits wait for it.
            self.drop_line(link, "it does not get on", out);
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
        let Some(up) = peer.up() else { return };
        up.sender.give_up();
        let session = up.session;
        let text = format!("copy {instance} cannot be continued where its log ends: {error}");
        self.tell_needs_copy(link, session, text, out);
    }

    /// A copy that cannot be continued is told so: it has to be made anew.
    fn tell_needs_copy(&self, link: LinkId, session: Session, text: String, out: &mut Vec<Out>) {
        out.push(Out::Event(Event::NeedsCopy { text: text.clone() }));
        self.send(link, session, Message::NeedsCopy { text }, out);
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

    pub(super) fn settle_streams(&mut self, out: &mut Vec<Out>) {
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
                        let session = self.peer_of(link).and_then(|(_, peer)| peer.up());
                        let session = session.map(|up| up.session).unwrap_or_default();
                        self.tell_needs_copy(link, session, error.to_string(), out);
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
}

/// Whether a copy is called: nobody has removed it or holds it out.
pub(super) fn may_call(config: &Config, instance: InstanceId) -> bool {
    config.copy(instance).is_some_and(|copy| !copy.held)
}
