//! Handing a reign over (S9): frozen, given up, said.
//!
//! The primary takes no more appends; when everything is committed and the mirror holds and has applied it, the
//! primary durably gives its epoch up, and only then says so. Until it begins to give up it can go on as if nothing
//! had been; after that the only way back is a new epoch. A mirror that is asked passes the request on.
//! Guarantees: after `GaveUp` nothing is sealed, committed or served in that epoch, whatever crashes.
//! Not here: the change of the configuration that follows (the authority).

use outrigger_net::config::Version;
use outrigger_net::message::Message;
use outrigger_net::sender::Stage;
use outrigger_wal::{Epoch, InstanceId, Lsn, Micros};

use super::Member;
use super::event::{Event, Out};
use super::phase::{Line, Peer, Phase};
use crate::rules::Rule;

/// LIMIT: the longest that writes wait, in microseconds, whatever is asked for.
pub(super) const MAX_FROZEN_MICROS: u64 = 60_000_000;

/// A hand-over as the authority asks for it (S9), or a reign that is to be given up for a copy that may lack
/// commits (S10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandOver {
    /// The copy that takes over: for a hand-over in sync, and not the primary.
    pub to: InstanceId,
    /// How long writes may wait for it, in milliseconds, a minute at most: without success by then the reign
    /// goes on.
    pub at_most_millis: u64,
    /// The reign that is to end; another one is not touched.
    pub epoch: Epoch,
    /// The version of the configuration that it was decided on; with another one it is refused.
    pub version: Version,
    /// The reign of the coordinator that asks.
    pub coordinator_epoch: u64,
}

/// Who asked, and is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Askers {
    authority: bool,
    mirror: bool,
}

/// A reign that is being handed over.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct HandingOver {
    to: InstanceId,
    at_most_micros: u64,
    askers: Askers,
    stage: Handing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Handing {
    /// Nothing is appended. It thaws then.
    Frozen(Micros),
    /// There is no way back: the control file that gives the epoch up is being written.
    GivingUp(u64),
    /// The epoch is given up. If nobody took over by then, a new one is asked for.
    GivenUp(Micros),
}

impl HandingOver {
    pub(super) const fn to(&self) -> InstanceId {
        self.to
    }

    /// Whether the epoch is given up, or may be durably so.
    pub(super) const fn is_given_up(&self) -> bool {
        !matches!(self.stage, Handing::Frozen(_))
    }
}

#[cfg(feature = "model")]
impl HandingOver {
    /// Its time is over; `false` when it waits for none, or knows.
    pub(super) fn run_out(&mut self) -> bool {
        match &mut self.stage {
            Handing::Frozen(until) | Handing::GivenUp(until) => {
                std::mem::replace(until, Micros(0)) > Micros(0)
            }
            Handing::GivingUp(_) => false,
        }
    }

    /// What decides what becomes of it.
    pub(super) fn fingerprint(&self, behind: impl Fn(u64) -> u64) -> (InstanceId, u8, u64) {
        let stage = match self.stage {
            Handing::Frozen(until) => u64::from(until > Micros(0)),
            Handing::GivingUp(generation) => behind(generation).saturating_add(4),
            Handing::GivenUp(until) => 2 | u64::from(until > Micros(0)),
        };
        let askers = u8::from(self.askers.authority) | u8::from(self.askers.mirror) << 1;
        (self.to, askers, stage)
    }
}

impl Member {
    /// The authority asks for a hand-over: of this reign, or of the one that this copy follows.
    pub(super) fn asked_to_hand_over(&mut self, asked: HandOver, out: &mut Vec<Out>) {
        let result = match &self.phase {
            Phase::Following(_) if asked.to == self.me() => self.pass_on(asked, out),
            _ => self.hand_over(asked, Askers { authority: true, mirror: false }, out),
        };
        if let Err(text) = result {
            out.push(Out::NotHandedOver { to: asked.to, text });
        }
    }

    /// The mirror passes a hand-over on.
    pub(super) fn mirror_asks(&mut self, asked: HandOver, out: &mut Vec<Out>) {
        let askers = Askers { authority: false, mirror: true };
        if let Err(text) = self.hand_over(asked, askers, out) {
            // A refusal would end the stream. Whoever asked the mirror has a deadline.
            out.push(Out::Event(Event::Refused { text }));
        }
    }

    /// A mirror that is asked to take over tells its primary.
    fn pass_on(&mut self, asked: HandOver, out: &mut Vec<Out>) -> Result<(), String> {
        self.fence(asked)?;
        self.is_current(asked)?;
        let epoch = self.control.epoch;
        let streaming = |stream: &&mut super::phase::Stream| {
            stream.receiver.stage() == outrigger_net::receiver::Stage::Streaming
                && stream.receiver.epoch() == epoch
        };
        let Some(stream) = self.stream().filter(streaming) else {
            return Err("its primary does not stream to this copy".to_owned());
        };
        let (link, session) = (stream.link, stream.receiver.session());
        let HandOver { to, at_most_millis, .. } = asked;
        self.send(link, session, Message::HandOver { to, at_most_millis }, out);
        Ok(())
    }

    /// S0: a coordinator that was deposed moves nobody.
    pub(super) fn fence(&mut self, asked: HandOver) -> Result<(), String> {
        let (theirs, ours) = (asked.coordinator_epoch, self.control.coordinator_epoch);
        if theirs < ours {
            self.counters.refusals = self.counters.refusals.saturating_add(1);
            return Err(format!("asked by the coordinator of epoch {theirs}, known is {ours}"));
        }
        if theirs > ours {
            self.control.coordinator_epoch = theirs;
            self.persist();
        }
        Ok(())
    }

    /// What was decided on another configuration than this copy's is not carried out.
    fn is_current(&self, asked: HandOver) -> Result<(), String> {
        let version = self.config.as_ref().map_or(Version(0), |config| config.version);
        if asked.epoch != self.control.epoch || asked.version != version {
            return Err(format!(
                "meant for epoch {} and configuration {}, current are {} and {}",
                asked.epoch, asked.version.0, self.control.epoch, version.0
            ));
        }
        Ok(())
    }

    fn hand_over(
        &mut self,
        asked: HandOver,
        askers: Askers,
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        self.fence(asked)?;
        if let Phase::Reigning(reign) = &mut self.phase
            && let Some(handing) = reign.handing.as_mut()
            && handing.to == asked.to
            && reign.epoch == asked.epoch
        {
            // Asked again: the pause does not grow by it.
            handing.askers.authority |= askers.authority;
            handing.askers.mirror |= askers.mirror;
            if matches!(handing.stage, Handing::GivenUp(_)) {
                self.say_given_up(askers, out);
            }
            return Ok(());
        }
        self.is_current(asked)?;
        if self.serving().is_none() {
            return Err("this copy does not serve".to_owned());
        }
        if self.closing {
            return Err("this copy is going down".to_owned());
        }
        self.can_take_over(asked.to)?;
        let at_most_micros = asked.at_most_millis.saturating_mul(1000).min(MAX_FROZEN_MICROS);
        let until = self.now.plus(at_most_micros);
        if let Phase::Reigning(reign) = &mut self.phase {
            if let Some(other) = &reign.handing {
                return Err(format!("it is being handed over to {} already", other.to));
            }
            let stage = Handing::Frozen(until);
            reign.handing = Some(HandingOver { to: asked.to, at_most_micros, askers, stage });
        }
        self.log.freeze();
        Ok(())
    }

    fn can_take_over(&self, to: InstanceId) -> Result<(), String> {
        if to == self.me() || !self.config.as_ref().is_some_and(|config| config.in_sync(to)) {
            return Err(format!("instance {to} is no mirror in sync"));
        }
        let peer = match &self.phase {
            Phase::Reigning(reign) => reign.peers.get(&to),
            _ => None,
        };
        let streams = |peer: &Peer| matches!(&peer.line, Line::Up(up) if up.sender.stage() == Stage::Streaming);
        if peer.is_some_and(streams) {
            Ok(())
        } else {
            Err(format!("instance {to} is not streamed to"))
        }
    }

    /// Goes on with a hand-over as far as it can.
    pub(super) fn settle_handing_over(&mut self, out: &mut Vec<Out>) {
        let Phase::Reigning(reign) = &self.phase else { return };
        let Some(HandingOver { to, stage, .. }) = reign.handing else { return };
        match stage {
            Handing::Frozen(until) => {
                if let Err(text) = self.can_take_over(to) {
                    self.thaw(text, out);
                } else if self.now >= until {
                    // First, so that one that stood still does not end what nobody waits for any more.
                    let text = format!("instance {to} did not have everything in time");
                    self.thaw(text, out);
                } else if self.is_handed(to) {
                    self.give_up(out);
                } else {
                    self.ask_applied(to, out);
                }
            }
            Handing::GivingUp(generation) if self.is_persisted(generation) => {
                self.given_up(out);
            }
            Handing::GivingUp(_) => {}
            Handing::GivenUp(until) if self.now >= until => {
                self.step_down("it gave its epoch up, and nobody took over", out);
                if let Some(config) =
                    self.config.clone().filter(|config| config.primary == self.me())
                {
                    self.elect(&config, out);
                }
            }
            Handing::GivenUp(_) => {}
        }
    }

    /// Whether everything that was appended is committed, and durable and applied at `to`.
    fn is_handed(&self, to: InstanceId) -> bool {
        let end = self.log.end();
        let peer = match &self.phase {
            Phase::Reigning(reign) => reign.peers.get(&to),
            _ => None,
        };
        let has_all = peer.is_some_and(|peer| {
            let applied = match &peer.line {
                Line::Up(up) => up.sender.applied(),
                _ => Lsn::ZERO,
            };
            peer.observed >= end && applied >= end
        });
        has_all && self.commit == end && self.log.appender().end() == end
    }

    /// A mirror tells what it has applied with its next acknowledgement only, so that it is asked for one.
    fn ask_applied(&mut self, to: InstanceId, out: &mut Vec<Out>) {
        let (now, commit, keep) = (self.now, self.commit, self.control.keep);
        let delay = self.options.tell_commit_micros;
        let Phase::Reigning(reign) = &mut self.phase else { return };
        let Some(up) = reign.peers.get_mut(&to).and_then(Peer::up) else { return };
        if let Some(message) = up.sender.tell_commit(now, commit, keep, delay, delay) {
            let (link, session) = (up.link, up.session);
            self.send(link, session, message, out);
        }
    }

    fn thaw(&mut self, text: String, out: &mut Vec<Out>) {
        let Phase::Reigning(reign) = &mut self.phase else { return };
        let Some(handing) = reign.handing.take() else { return };
        self.log.thaw();
        if handing.askers.authority {
            out.push(Out::NotHandedOver { to: handing.to, text });
        } else {
            out.push(Out::Event(Event::Refused { text }));
        }
    }

    fn give_up(&mut self, out: &mut Vec<Out>) {
        if !self.rules.hold(Rule::S9GiveUp) {
            // Seeded bug: it is only said.
            if let Phase::Reigning(reign) = &self.phase
                && let Some(askers) = reign.handing.as_ref().map(|handing| handing.askers)
            {
                self.say_given_up(askers, out);
            }
            self.thaw("it goes on serving".to_owned(), out);
            return;
        }
        // ORDER: nothing more is sealed before the epoch is given up, and that is durable before it is said.
        self.log.end_epoch();
        self.control.given_up = self.control.epoch;
        let generation = self.persist();
        if let Phase::Reigning(reign) = &mut self.phase
            && let Some(handing) = reign.handing.as_mut()
        {
            handing.stage = Handing::GivingUp(generation);
        }
    }

    fn given_up(&mut self, out: &mut Vec<Out>) {
        let now = self.now;
        let Phase::Reigning(reign) = &mut self.phase else { return };
        let Some(handing) = reign.handing.as_mut() else { return };
        handing.stage = Handing::GivenUp(now.plus(handing.at_most_micros.saturating_mul(2)));
        let (to, askers) = (handing.to, handing.askers);
        let (epoch, at) = (self.control.epoch, self.log.end());
        out.push(Out::Event(Event::GaveUp { epoch, at, to }));
        self.say_given_up(askers, out);
    }

    fn say_given_up(&mut self, askers: Askers, out: &mut Vec<Out>) {
        let (epoch, at) = (self.control.epoch, self.log.end());
        if askers.authority {
            out.push(Out::GaveUp { epoch, at });
        }
        let Phase::Reigning(reign) = &mut self.phase else { return };
        let Some(to) = reign.handing.as_ref().map(HandingOver::to) else { return };
        if let Some(up) = reign.peers.get_mut(&to).and_then(Peer::up).filter(|_| askers.mirror) {
            let (link, session) = (up.link, up.session);
            self.send(link, session, Message::GaveUp { epoch, at }, out);
        }
    }

    /// The copy that this reign is being handed over to.
    #[must_use]
    pub fn handing_over(&self) -> Option<InstanceId> {
        match &self.phase {
            Phase::Reigning(reign) => reign.handing.as_ref().map(HandingOver::to),
            _ => None,
        }
    }

    /// Whether this reign is given up, or may be durably so.
    pub(super) fn is_given_up(&self) -> bool {
        match &self.phase {
            Phase::Reigning(reign) => reign.handing.as_ref().is_some_and(HandingOver::is_given_up),
            _ => false,
        }
    }

    /// When a hand-over has something to do by itself.
    pub(super) fn handing_deadline(&self) -> Option<Micros> {
        let Phase::Reigning(reign) = &self.phase else { return None };
        let handing = reign.handing.as_ref()?;
        match handing.stage {
            Handing::Frozen(until) => {
                let asks = match reign.peers.get(&handing.to).map(|peer| &peer.line) {
                    Some(Line::Up(up)) => up.sender.said().plus(self.options.tell_commit_micros),
                    _ => until,
                };
                Some(asks.min(until))
            }
            Handing::GivingUp(_) => None,
            Handing::GivenUp(until) => Some(until),
        }
    }

    /// A hand-over, as it came over the line from the mirror.
    pub(super) fn as_asked(
        envelope: &outrigger_net::message::Envelope,
        to: InstanceId,
        at_most_millis: u64,
    ) -> HandOver {
        HandOver {
            to,
            at_most_millis,
            epoch: envelope.epoch,
            version: envelope.version,
            coordinator_epoch: envelope.coordinator_epoch,
        }
    }
}
