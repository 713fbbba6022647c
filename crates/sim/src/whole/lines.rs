//! Connections between instances and whoever coordinates, driven as the server's `process::authority`.
//!
//! An instance tries the coordinators in turn until one welcomes it. Guarantees: only what the connection that
//! stands brings is heard; a cut that was reported is reported again on each new one for as long as its epoch
//! reigns. Not here: what is asked, and when (the member), and the answers (the coordinator).

use outrigger_net::config::Config;
use outrigger_net::handshake::{Identity as Side, check_welcome};
use outrigger_net::message::{Abilities, Envelope, History, Message, Role, Session};
use outrigger_replica::member::{HandOver, In, LinkId};
use outrigger_wal::{Epoch, InstanceId};

use super::Whole;
use super::event::{Brought, Event, Seated};
use super::plan::Bug;
use crate::cluster::network::{End, Parcel};
use crate::cluster::queue::Life;

/// Links of these connections are numbered from here: odd at the instance, even at the coordinator.
const FIRST: u64 = 1 << 40;
/// How long an answer to `Hello` may take, in microseconds.
const PATIENCE_MICROS: u64 = 1_000_000;
/// How long a connection may be silent: the coordinator says something every 500 ms.
const SILENCE_MICROS: u64 = 2_000_000;

/// An instance's connection to the coordinator.
#[derive(Debug, Default)]
pub(super) struct Line {
    link: Option<LinkId>,
    greeting: Option<(Envelope, Message)>,
    pub(super) open: bool,
    since: u64,
    heard: u64,
    /// Whom it tries next.
    turn: usize,
    version: outrigger_net::config::Version,
    coordinator_epoch: u64,
    /// The same, durably.
    pub(super) obeys: u64,
    op: u64,
    cut: Option<(Epoch, Message)>,
}

pub(super) const fn is_line(link: LinkId) -> bool {
    link.0 >= FIRST
}

impl Whole {
    /// An instance without a connection tries the next coordinator; one that hears nothing gives up.
    pub(super) fn look_after_line(&mut self, at: usize, life: Life) {
        if !self.is_open(at, life) || self.places[at].group == 0 {
            return;
        }
        let micros = self.rng.range(20_000..60_000);
        self.at(micros, Event::Line { at, life });
        if self.places[at].node.clock.is_paused() {
            return;
        }
        let now = self.now.0;
        let line = &self.places[at].line;
        if let Some(link) = line.link {
            let late = !line.open && now.saturating_sub(line.since) > PATIENCE_MICROS;
            let silent = line.open && now.saturating_sub(line.heard) > SILENCE_MICROS;
            if late || silent {
                self.hang_up_line(at, link);
            } else if line.open && now.saturating_sub(line.since) > 500_000 {
                self.places[at].line.since = now;
                self.send_line(at, Epoch::NONE, Message::Keepalive);
            }
            return;
        }
        let coordinators = self.groups[0].members.clone();
        let turn = self.places[at].line.turn;
        self.places[at].line.turn += 1;
        let Some(to) = coordinators.get(turn % coordinators.len()).copied() else { return };
        let (here, there) = (self.places[at].host, self.places[to].host);
        if self.places[to].node.process.is_none()
            || !self.passes(here, there)
            || !self.passes(there, here)
        {
            return;
        }
        let name = FIRST + 2 * self.name();
        let other = self.places[to].node.life;
        let (link, theirs) = (LinkId(name + 1), LinkId(name));
        let ends = [
            End { node: at, life, link, closed: false },
            End { node: to, life: other, link: theirs, closed: false },
        ];
        self.net.join(self.now, ends, &mut self.queue);
        let identity = self.places[at].node.identity;
        let session = Session(self.rng.next_u64());
        // What it has accepted before it started again counts: a coordinator that knows less is told.
        let accepted = self.places[at].node.process.as_ref().map(|process| {
            let control = process.member.control();
            (control.version, control.coordinator_epoch)
        });
        let forgets = self.plan.bug == Some(Bug::ForgetVersion);
        let line = &mut self.places[at].line;
        if let Some((version, coordinator_epoch)) = accepted.filter(|_| !forgets) {
            line.version = line.version.max(version);
            line.coordinator_epoch = line.coordinator_epoch.max(coordinator_epoch);
        }
        let envelope = Envelope {
            cluster: identity.cluster,
            content: identity.content,
            epoch: Epoch::NONE,
            coordinator_epoch: line.coordinator_epoch,
            version: line.version,
            session,
        };
        let hello = Message::Hello {
            role: Role::Instance,
            from: identity.instance,
            to: InstanceId::default(),
            log: identity.log,
            abilities: Abilities::OURS,
            history: History::default(),
        };
        line.link = Some(link);
        line.greeting = Some((envelope, hello.clone()));
        line.open = false;
        line.since = now;
        line.heard = now;
        self.put_on_wire(at, link, envelope, hello);
    }

    pub(super) fn put_on_wire(
        &mut self,
        at: usize,
        link: LinkId,
        envelope: Envelope,
        message: Message,
    ) {
        let life = self.places[at].node.life;
        let Some((conn, side)) = self.net.find(at, life, link) else { return };
        let per_mille = self.net.weather.encode_per_mille;
        match Parcel::pack(envelope, message, &[], &mut self.net.rng, per_mille) {
            Ok(parcel) => self.net.send(self.now, conn, side, parcel, &mut self.queue),
            Err(text) => self.violate(text),
        }
    }

    /// Says something to the coordinator, or forgets it: the member asks again.
    pub(super) fn send_line(&mut self, at: usize, epoch: Epoch, message: Message) {
        let line = &self.places[at].line;
        let (Some(link), Some((greeting, _)), true) = (line.link, &line.greeting, line.open) else {
            return;
        };
        // A report names what is accepted durably.
        let is_report = matches!(message, Message::Report { .. });
        let coordinator_epoch = if is_report { line.obeys } else { line.coordinator_epoch };
        let envelope = Envelope { epoch, version: line.version, coordinator_epoch, ..*greeting };
        self.put_on_wire(at, link, envelope, message);
    }

    pub(super) fn next_op(&mut self, at: usize) -> u64 {
        self.places[at].line.op += 1;
        self.places[at].line.op
    }

    /// A report of the member; one of a cut is kept.
    pub(super) fn report(&mut self, at: usize, epoch: Epoch, message: Message) {
        if matches!(message, Message::Report { cut: Some(_), .. }) {
            self.places[at].line.cut = Some((epoch, message.clone()));
        }
        self.send_line(at, epoch, message);
    }

    pub(super) fn hang_up_line(&mut self, at: usize, link: LinkId) {
        let life = self.places[at].node.life;
        if let Some((conn, side)) = self.net.find(at, life, link) {
            self.net.hang_up(self.now, conn, side, &mut self.queue);
        }
        self.line_gone(at, link);
    }

    fn line_gone(&mut self, at: usize, link: LinkId) {
        let line = &mut self.places[at].line;
        if line.link == Some(link) {
            line.link = None;
            line.open = false;
        }
    }

    pub(super) fn line_closed(&mut self, at: usize, link: LinkId) {
        if link.0 % 2 == 1 {
            self.line_gone(at, link);
        } else {
            self.seat(at, Seated::Coordinator(outrigger_cluster::coordinator::In::Closed(link)));
        }
    }

    /// A message on such a connection: of an instance at the coordinator, or the other way.
    pub(super) fn line_frame(&mut self, at: usize, link: LinkId, parcel: Parcel) {
        let Parcel { envelope, message, .. } = parcel;
        if link.0.is_multiple_of(2) {
            let frame = outrigger_cluster::coordinator::In::Frame { link, envelope, message };
            return self.seat(at, Seated::Coordinator(frame));
        }
        let now = self.now.0;
        let line = &mut self.places[at].line;
        let session = line.greeting.as_ref().map(|(sent, _)| sent.session);
        let ours = line.link == Some(link) && session == Some(envelope.session);
        if !ours {
            return;
        }
        line.heard = now;
        let hands_over = matches!(message, Message::HandOver { .. });
        match message {
            Message::Welcome { .. } => self.welcomed(at, link, &envelope, &message),
            Message::ConfigIs { config: Some(config), .. }
            | Message::Swapped { current: config, .. } => self.told(at, &envelope, config),
            Message::HandOver { to, at_most_millis } | Message::GiveUp { to, at_most_millis } => {
                let asked = HandOver {
                    to,
                    at_most_millis,
                    epoch: envelope.epoch,
                    version: envelope.version,
                    coordinator_epoch: envelope.coordinator_epoch,
                };
                let (command, again) = if hands_over {
                    (In::HandOver(asked), Event::HandOver { at, asked })
                } else {
                    (In::GiveUp(asked), Event::GiveUp { at, asked })
                };
                if self.faults.chance(300) && !self.healed {
                    self.counts.count("late commands to instances");
                    let micros = self.faults.range(1_000..4_000_000);
                    self.at(micros, again);
                }
                self.step(at, command);
            }
            Message::Refuse { reason, text } => {
                self.note(|| format!("p{at} is refused by the coordinator: {reason:?}: {text}"));
                self.hang_up_line(at, link);
            }
            _ => {}
        }
    }

    fn welcomed(&mut self, at: usize, link: LinkId, envelope: &Envelope, welcome: &Message) {
        let identity = self.places[at].node.identity;
        let me = Side {
            cluster: identity.cluster,
            content: identity.content,
            instance: identity.instance,
            log: identity.log,
            abilities: Abilities::OURS,
        };
        let line = &mut self.places[at].line;
        let Some((sent, hello)) = &line.greeting else { return };
        if check_welcome(&me, sent, hello, envelope, welcome).is_err() {
            return self.hang_up_line(at, link);
        }
        line.open = true;
        let cut = line.cut.clone();
        let op = self.next_op(at);
        self.send_line(at, Epoch::NONE, Message::ReadConfig { op });
        if let Some((epoch, report)) = cut {
            self.send_line(at, epoch, report);
        }
    }

    fn told(&mut self, at: usize, envelope: &Envelope, config: Config) {
        let line = &mut self.places[at].line;
        line.version = line.version.max(config.version);
        line.coordinator_epoch = line.coordinator_epoch.max(envelope.coordinator_epoch);
        if line.cut.as_ref().is_some_and(|(epoch, _)| epoch.number < config.epoch.number) {
            line.cut = None;
        }
        let (group, instance) = (self.places[at].group, self.places[at].node.instance);
        let recorded = self.groups[group].config.as_ref();
        if config.primary == instance
            && recorded.is_some_and(|recorded| recorded.epoch.number > config.epoch.number)
        {
            self.counts.row(43);
        }
        let coordinator_epoch = envelope.coordinator_epoch;
        self.step(at, In::Config { config, coordinator_epoch });
    }

    /// A message arrives at a process.
    pub(super) fn arrives(&mut self, at: usize, link: LinkId, parcel: Parcel) {
        if is_line(link) {
            return self.bring(at, Brought::Line(link, parcel));
        }
        let Parcel { envelope, message, body } = parcel;
        self.bring(at, Brought::Member(In::Frame { link, envelope, message, body }));
    }
}
