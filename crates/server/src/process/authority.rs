//! How an instance asks the coordinator: one connection, kept up.
//!
//! Guarantees: no call waits; what cannot be sent is forgotten, because the member asks again. A cut that
//! was reported is reported again on each new connection for as long as its epoch reigns, since the coordinator
//! keeps reports in memory until a change carries them. Not here: what is asked, and when (member).

use std::sync::{Arc, Weak};

use outrigger_net::config::{Config, Version};
use outrigger_net::frame::{Limits, encode};
use outrigger_net::handshake::{Identity as Side, check_welcome};
use outrigger_net::message::{Abilities, Envelope, History, Message, Role, Session};
use outrigger_net::transport::{Dialer, Outbox, PeerEvent, Settings, dial};
use outrigger_replica::control::Identity;
use outrigger_replica::runtime::{Accepted, Authority, HandOver, Told};
use outrigger_wal::{Epoch, InstanceId, Lsn};
use parking_lot::Mutex;

/// A line to a coordinator that brings nothing for so long is left; a quiet one brings something each second.
const LINE_IDLE_MILLIS: u64 = 3_000;
/// One of a coordinator's addresses, or its standby's, may take so long.
const CONNECT_MILLIS: u64 = 500;

/// The coordinator, as an instance's authority.
pub(super) struct Remote {
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Told>,
    line: Option<Line>,
    last_op: u64,
    version: Version,
    coordinator_epoch: u64,
    /// The same, durably: what a report names.
    obeys: u64,
    cut: Option<(Epoch, Message)>,
}

struct Line {
    outbox: Outbox,
    greeting: (Envelope, Message),
    open: bool,
}

impl Remote {
    /// An authority that is not connected yet, of an instance that has accepted so much of it before: a
    /// coordinator whose catalog has less must not take this copy for one that agrees (S8).
    pub(super) fn new(identity: Identity, accepted: Accepted) -> Arc<Self> {
        let Accepted { version, coordinator_epoch } = accepted;
        let obeys = coordinator_epoch;
        let state = State { version, coordinator_epoch, obeys, ..State::default() };
        Arc::new(Self { identity, state: Mutex::new(state) })
    }

    /// Keeps up a connection to the coordinator until the dialer is dropped. Within a tokio runtime.
    pub(super) fn connect(self: &Arc<Self>, coordinators: Vec<String>) -> Dialer {
        let me = Arc::downgrade(self);
        let on_event = Arc::new(move |event| {
            if let Some(me) = Weak::upgrade(&me) {
                me.heard(event);
            }
        });
        // A coordinator that is cut off is left long before its connection would notice: what comes back
        // has to hear of it.
        let settings = Settings {
            idle_millis: LINE_IDLE_MILLIS,
            connect_millis: CONNECT_MILLIS,
            ..Settings::default()
        };
        dial(coordinators, settings, on_event)
    }

    /// Whether the coordinator has greeted it.
    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().line.as_ref().is_some_and(|line| line.open)
    }

    fn heard(&self, event: PeerEvent) {
        match event {
            PeerEvent::Connected { outbox, .. } => self.greet(outbox),
            PeerEvent::Frame { frame, .. } => self.message(&frame.envelope, frame.message),
            PeerEvent::Closed { error, .. } => {
                let why = error.map_or_else(|| "it hung up".to_owned(), |error| error.to_string());
                tracing::info!(%why, "the connection to the coordinator ended");
                self.state.lock().line = None;
            }
            PeerEvent::Unreachable { address, error } => {
                tracing::debug!(%address, %error, "the coordinator cannot be reached");
            }
            _ => {}
        }
    }

    fn greet(&self, outbox: Outbox) {
        let state = &mut *self.state.lock();
        let session = Session(outbox.id().0 ^ getrandom::u64().unwrap_or(0));
        let envelope = Envelope {
            cluster: self.identity.cluster,
            content: self.identity.content,
            epoch: Epoch::NONE,
            coordinator_epoch: state.coordinator_epoch,
            version: state.version,
            session,
        };
        let hello = Message::Hello {
            role: Role::Instance,
            from: self.identity.instance,
            to: InstanceId::default(),
            log: self.identity.log,
            abilities: Abilities::OURS,
            history: History::default(),
        };
        let line = Line { outbox, greeting: (envelope, hello.clone()), open: false };
        send(&line, &envelope, &hello);
        state.line = Some(line);
    }

    fn message(&self, envelope: &Envelope, message: Message) {
        match message {
            Message::Welcome { .. } => self.welcome(envelope, &message),
            Message::ConfigIs { config: Some(config), .. }
            | Message::Swapped { current: config, .. } => {
                self.recorded(envelope, config);
            }
            Message::HandOver { to, at_most_millis } => {
                let asked = asked(envelope, to, at_most_millis);
                if let Some(told) = self.told(envelope) {
                    told.hand_over(asked);
                }
            }
            Message::GiveUp { to, at_most_millis } => {
                let asked = asked(envelope, to, at_most_millis);
                if let Some(told) = self.told(envelope) {
                    told.give_up(asked);
                }
            }
            Message::Refuse { reason, text } => {
                tracing::warn!(?reason, %text, "the coordinator refuses this instance");
                self.hang_up();
            }
            _ => {}
        }
    }

    /// Where what the coordinator asks for is brought, if it is ours.
    fn told(&self, envelope: &Envelope) -> Option<Told> {
        let told = self.state.lock().told.clone();
        told.filter(|_| self.is_ours(envelope))
    }

    fn welcome(&self, envelope: &Envelope, welcome: &Message) {
        let state = &mut *self.state.lock();
        let Some(line) = &mut state.line else { return };
        let me = Side {
            cluster: self.identity.cluster,
            content: self.identity.content,
            instance: self.identity.instance,
            log: self.identity.log,
            abilities: Abilities::OURS,
        };
        let (sent, hello) = &line.greeting;
        if let Err((reason, text)) = check_welcome(&me, sent, hello, envelope, welcome) {
            tracing::warn!(?reason, %text, "this is not our coordinator");
            line.outbox.close();
            return;
        }
        line.open = true;
        line.outbox.open(Limits::REQUESTS);
        let sent = Envelope { epoch: Epoch::NONE, ..*sent };
        if let Ok(keepalive) = encode(&sent, &Message::Keepalive) {
            line.outbox.set_keepalive(keepalive);
        }
        tracing::info!("connected to the coordinator");
        let cut = state.cut.clone();
        self.send(state, Epoch::NONE, |op| Message::ReadConfig { op });
        if let Some((epoch, report)) = cut {
            self.send_report(state, epoch, report);
        }
    }

    fn recorded(&self, envelope: &Envelope, config: Config) {
        if !self.is_ours(envelope) {
            return;
        }
        let told = {
            let mut state = self.state.lock();
            state.version = state.version.max(config.version);
            state.coordinator_epoch = state.coordinator_epoch.max(envelope.coordinator_epoch);
            if state.cut.as_ref().is_some_and(|(epoch, _)| epoch.number < config.epoch.number) {
                state.cut = None;
            }
            state.told.clone()
        };
        if let Some(told) = told {
            told.recorded(config, envelope.coordinator_epoch);
        }
    }

    /// Whether a message is for this instance, and of the connection that is there.
    fn is_ours(&self, envelope: &Envelope) -> bool {
        let state = self.state.lock();
        let session = state.line.as_ref().map(|line| line.greeting.0.session);
        (envelope.cluster, envelope.content) == (self.identity.cluster, self.identity.content)
            && session == Some(envelope.session)
    }

    fn hang_up(&self) {
        if let Some(line) = &self.state.lock().line {
            line.outbox.close();
        }
    }

    /// A report proves that this copy obeys a coordinator (S8): it names what is accepted durably, not what came in.
    fn send_report(&self, state: &State, epoch: Epoch, report: Message) {
        let Some(line) = state.line.as_ref().filter(|line| line.open) else { return };
        let (version, coordinator_epoch) = (state.version, state.obeys);
        let envelope = Envelope { epoch, version, coordinator_epoch, ..line.greeting.0 };
        send(line, &envelope, &report);
    }

    fn send(&self, state: &mut State, epoch: Epoch, message: impl FnOnce(u64) -> Message) {
        state.last_op += 1;
        let op = state.last_op;
        let Some(line) = state.line.as_ref().filter(|line| line.open) else { return };
        let (version, coordinator_epoch) = (state.version, state.coordinator_epoch);
        let envelope = Envelope { epoch, version, coordinator_epoch, ..line.greeting.0 };
        send(line, &envelope, &message(op));
    }
}

/// Sends, or forgets: a coordinator that does not read is not worth a queue.
const fn asked(envelope: &Envelope, to: InstanceId, at_most_millis: u64) -> HandOver {
    HandOver {
        to,
        at_most_millis,
        epoch: envelope.epoch,
        version: envelope.version,
        coordinator_epoch: envelope.coordinator_epoch,
    }
}

fn send(line: &Line, envelope: &Envelope, message: &Message) {
    match encode(envelope, message) {
        Ok(head) => {
            if line.outbox.try_send(head, Vec::new()).is_err() {
                tracing::debug!("the coordinator does not read what it is sent");
            }
        }
        Err(error) => tracing::error!(%error, "a message does not fit a frame"),
    }
}

impl Authority for Remote {
    fn attach(&self, told: Told) {
        let mut state = self.state.lock();
        state.told = Some(told);
        self.send(&mut state, Epoch::NONE, |op| Message::ReadConfig { op });
    }

    fn read(&self) {
        self.send(&mut self.state.lock(), Epoch::NONE, |op| Message::ReadConfig { op });
    }

    fn swap(&self, seen: Version, new: Config) {
        // The envelope names what is accepted, not what is asked for.
        let swap = |op| Message::CompareAndSwap { op, seen, new };
        self.send(&mut self.state.lock(), Epoch::NONE, swap);
    }

    fn obeys(&self, coordinator_epoch: u64) {
        self.state.lock().obeys = coordinator_epoch;
    }

    fn report(&self, epoch: Epoch, durable: Lsn, commit: Lsn, applied: Lsn, cut: Option<Lsn>) {
        let report = Message::Report { durable, commit, applied, cut };
        let mut state = self.state.lock();
        if cut.is_some() {
            state.cut = Some((epoch, report.clone()));
        }
        self.send_report(&state, epoch, report);
    }

    fn gave_up(&self, epoch: Epoch, at: Lsn) {
        self.send(&mut self.state.lock(), epoch, |_| Message::GaveUp { epoch, at });
    }

    fn not_handed_over(&self, to: InstanceId, why: &str) {
        tracing::info!(%to, %why, "not handed over");
    }
}
