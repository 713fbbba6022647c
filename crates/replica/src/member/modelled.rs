//! What a model checker needs of a copy: one that shares nothing with it, its timers, its fingerprint.
//!
//! A model has no time: it steps a copy at one moment for ever, and lets one timer run out when it likes. It
//! draws numbers from what it chooses, so that two ways to one state come to the same numbers.
//!
//! Guarantees: two copies of one fingerprint behave alike from here on, as long as their disks, and the names of
//! their connections, do. Not here: anything that is shipped.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use outrigger_net::message::Session;
use outrigger_net::sender::Stage;
use outrigger_wal::{InstanceId, Micros};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Member;
use super::event::LinkId;
use super::handing_over::HandingOver;
use super::phase::{Line, Peer, Phase, Stream, Swap};

/// What a copy waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// To dial a copy again.
    Redial,
    /// To ask for a configuration without a copy that has no connection (S2).
    Grace,
    /// To ask the authority again.
    AskAgain,
    /// To make promises durable and report them.
    Promise,
    /// To go on with a reign that nobody took over, or to take a new one (S9).
    HandOver,
}

const PAST: Micros = Micros(0);

impl Member {
    /// Another copy in the same state.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut fork = self.clone();
        fork.log.part();
        fork
    }

    /// What is drawn next is [`Member::would_draw`] of these.
    pub const fn draw_from(&mut self, seed: u64, drawn: u64) {
        self.seed = seed;
        self.drawn = drawn;
    }

    /// What is drawn first after [`Member::draw_from`].
    #[must_use]
    pub fn would_draw(seed: u64, drawn: u64) -> u128 {
        xxh3_128_with_seed(&drawn.wrapping_add(1).to_le_bytes(), seed)
    }

    /// Forgets connections that are over, of which nothing comes any more.
    pub fn forget_old_links(&mut self) {
        self.old_links.clear();
    }

    /// Lets a timer run out; `false` when nothing waits for it.
    pub fn run_out(&mut self, timer: Timer) -> bool {
        let now = self.now;
        let config = self.config.clone();
        match timer {
            Timer::Redial => self.peers().is_some_and(|peers| {
                let mut any = false;
                for peer in peers.values_mut() {
                    if let Line::Down(at) = &mut peer.line
                        && *at > now
                    {
                        *at = PAST;
                        any = true;
                    }
                }
                any
            }),
            Timer::Grace => self.peers().is_some_and(|peers| {
                let mut any = false;
                for (instance, peer) in peers.iter_mut() {
                    let waited = peer.awaited.is_some()
                        || config.as_ref().is_some_and(|config| config.in_sync(*instance));
                    let up =
                        matches!(&peer.line, Line::Up(up) if up.sender.stage() != Stage::NeedsCopy);
                    if waited && !up && peer.lost > PAST {
                        peer.lost = PAST;
                        peer.until = PAST;
                        any = true;
                    }
                }
                any
            }),
            Timer::AskAgain => {
                let swap = match &mut self.phase {
                    Phase::Gathering(gathering) => gathering.swap.as_mut(),
                    Phase::Reigning(reign) => reign.swap.as_mut(),
                    _ => None,
                };
                if let Some(swap) = swap.filter(|swap| swap.asked > PAST) {
                    swap.asked = PAST;
                    return true;
                }
                let asks = matches!(self.phase, Phase::Waiting | Phase::Electing(_));
                let due = asks && self.asked_at > Some(PAST);
                if due {
                    self.asked_at = Some(PAST);
                }
                due
            }
            Timer::Promise => {
                self.reported.0 = PAST;
                true
            }
            Timer::HandOver => match &mut self.phase {
                Phase::Reigning(reign) => reign.handing.as_mut().is_some_and(HandingOver::run_out),
                _ => false,
            },
        }
    }

    /// The sessions that it knows.
    pub fn sessions(&self, into: &mut Vec<Session>) {
        let peers = match &self.phase {
            Phase::Gathering(gathering) => Some(&gathering.peers),
            Phase::Rising(rising) => Some(&rising.peers),
            Phase::Reigning(reign) => Some(&reign.peers),
            Phase::Following(following) => {
                into.extend(following.stream.iter().map(|stream| stream.receiver.session()));
                None
            }
            _ => None,
        };
        into.extend(peers.into_iter().flatten().filter_map(|(_, peer)| match &peer.line {
            Line::Up(up) => Some(up.session),
            _ => None,
        }));
    }

    /// What it takes this connection for: a line to a copy that is dialled or there, its primary's, none.
    #[must_use]
    pub fn knows(&self, link: LinkId) -> u8 {
        let lines = match &self.phase {
            Phase::Gathering(gathering) => &gathering.peers,
            Phase::Rising(rising) => &rising.peers,
            Phase::Reigning(reign) => &reign.peers,
            Phase::Following(following) => {
                let stream = following.stream.as_ref();
                return if stream.is_some_and(|stream| stream.link == link) { 3 } else { 0 };
            }
            _ => return 0,
        };
        let line = lines.values().find(|peer| peer.link() == Some(link)).map(|peer| &peer.line);
        match line {
            Some(Line::Dialling(_)) => 1,
            Some(Line::Up(_)) => 2,
            _ => 0,
        }
    }

    /// Whether this copy has just been deposed by a copy that it could not reach yet.
    #[must_use]
    pub fn tries_a_deposed_copy(&self) -> bool {
        match &self.phase {
            Phase::Rising(rising) => {
                rising.peers.values().any(|peer| peer.deposed && peer.attempts == 0)
            }
            Phase::Reigning(reign) => {
                reign.peers.values().any(|peer| peer.deposed && peer.attempts == 0)
            }
            _ => false,
        }
    }

    /// Everything that decides what it does.
    pub fn fingerprint<H: Hasher>(&self, into: &mut H) {
        self.control_fingerprint(into);
        (self.persisting.dirty, self.persisting.writing.is_some()).hash(into);
        self.persisting.writing.as_ref().map(super::persisting::Writing::is_second).hash(into);
        self.log.fingerprint(into);
        self.reopening.hash(into);
        (self.commit, self.told_commit, self.told_keep, self.checkpointed).hash(into);
        self.applying.reached().hash(into);
        self.config.hash(into);
        for (generation, config) in &self.accepting {
            (self.behind(*generation), config).hash(into);
        }
        (self.accepting.len(), self.asked_at > Some(PAST), self.reported.0 > PAST).hash(into);
        (self.history_epoch, self.cut, self.closing).hash(into);
        self.phase_fingerprint(into);
    }

    /// How many generations of the control file have to be written until this one is.
    const fn behind(&self, generation: u64) -> u64 {
        generation.saturating_sub(self.persisting.written)
    }

    /// Which log the copies still need is left out: a model recycles none.
    fn control_fingerprint<H: Hasher>(&self, into: &mut H) {
        let control = &self.control;
        (control.epoch, control.given_up, control.coordinator_epoch, control.version).hash(into);
        (control.durable, control.commit, control.in_sync).hash(into);
        control.truncating.map(|cut| (cut.to, cut.hash.map(|hash| hash.0))).hash(into);
        for entry in &control.epochs {
            (entry.epoch, entry.start).hash(into);
        }
    }

    fn phase_fingerprint<H: Hasher>(&self, into: &mut H) {
        std::mem::discriminant(&self.phase).hash(into);
        match &self.phase {
            Phase::Waiting | Phase::Failed | Phase::Closed => {}
            Phase::Following(following) => {
                if let Some(stream) = &following.stream {
                    self.stream_fingerprint(stream, into);
                }
            }
            Phase::Electing(config) => config.hash(into),
            Phase::Gathering(gathering) => {
                (gathering.epoch, self.behind(gathering.generation)).hash(into);
                peers_fingerprint(&gathering.peers, into);
                swap_fingerprint(gathering.swap.as_ref(), into);
                if let Some(adopting) = &gathering.adopting {
                    let cut = adopting.cut.map(|(to, generation)| (to, self.behind(generation)));
                    let peer = gathering.peers.get(&adopting.from).and_then(Peer::link);
                    (adopting.from, peer == Some(adopting.link), adopting.end, cut, adopting.asked)
                        .hash(into);
                }
            }
            Phase::Rising(rising) => {
                (rising.epoch, self.behind(rising.generation), rising.promoted).hash(into);
                peers_fingerprint(&rising.peers, into);
            }
            Phase::Reigning(reign) => {
                (reign.epoch, reign.begin_end, self.behind(reign.generation)).hash(into);
                peers_fingerprint(&reign.peers, into);
                swap_fingerprint(reign.swap.as_ref(), into);
                let handing = reign.handing.as_ref();
                handing.map(|one| one.fingerprint(|at| self.behind(at))).hash(into);
            }
        }
    }

    fn stream_fingerprint<H: Hasher>(&self, stream: &Stream, into: &mut H) {
        stream.receiver.fingerprint(into);
        self.behind(stream.generation).hash(into);
        stream.start.map(|start| (start.from, start.hash.0)).hash(into);
        (stream.joining, stream.asked, stream.lending).hash(into);
    }
}

fn swap_fingerprint<H: Hasher>(swap: Option<&Swap>, into: &mut H) {
    swap.map(|swap| (swap.base, &swap.new, swap.asked > PAST)).hash(into);
}

fn peers_fingerprint<H: Hasher>(peers: &BTreeMap<InstanceId, Peer>, into: &mut H) {
    for (instance, peer) in peers {
        (
            instance,
            peer.lost > PAST,
            peer.until > PAST,
            peer.attempts > 0,
            peer.observed,
            peer.deposed,
        )
            .hash(into);
        (peer.observed < peer.owes).hash(into);
        let awaited = peer.awaited;
        awaited.map(|one| (one.from, one.joining, one.joined, one.base)).hash(into);
        match &peer.line {
            Line::Down(at) => (0u8, *at > PAST).hash(into),
            Line::Dialling(_) => 1u8.hash(into),
            Line::Up(up) => {
                (2u8, up.session, up.started).hash(into);
                up.sender.fingerprint(into);
                if let Some(told) = up.history.as_ref().filter(|_| !up.started) {
                    (told.start, told.end, told.hash.0, told.commit, told.floor).hash(into);
                    for entry in &told.epochs {
                        (entry.epoch, entry.start).hash(into);
                    }
                }
            }
        }
    }
}
