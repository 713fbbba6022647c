//! Heartbeats: datagrams that are lost, late and doubled; who answers them, and how.
//!
//! Not here: what is made of them (the shipped detector).

use outrigger_cluster::coordinator;
use outrigger_net::beat::{Beat, Figures, Flapping, Phase, Ping};
use outrigger_net::config::Version;
use outrigger_replica::member::Role;
use outrigger_wal::{InstanceId, Lsn};

use super::Whole;
use super::event::{Brought, Event, Seated};
use crate::cluster::queue::Life;

impl Whole {
    /// A coordinator asks an instance.
    pub(super) fn ping(&mut self, from: usize, address: &str, ping: Ping) {
        if self.places.iter().all(|place| place.address != address) {
            return;
        }
        let life = self.places[from].node.life;
        for micros in self.ways() {
            self.at(micros, Event::Ping { from, life, ping });
        }
    }

    pub(super) fn ping_arrives(&mut self, from: usize, life: Life, ping: Ping) {
        let Some(at) = self.place_of(ping.to) else { return };
        let (here, there) = (self.places[from].host, self.places[at].host);
        if !self.passes(here, there) {
            return;
        }
        let place = &self.places[at];
        if place.stuck.is_some() {
            return self.answer_ping(at, from, life, &ping);
        }
        if place.node.process.is_some() {
            return self.bring(at, Brought::Ping { from, life, ping });
        }
        if let Some(since) = place.starting {
            let read = self.now.since(since) / 10;
            let beat = Beat {
                phase: Phase::Recovering,
                recovering_at: Some(Lsn(read)),
                ..self.beat(at, &ping)
            };
            return self.send_beat(at, from, life, beat);
        }
        // Its host says that nobody is there.
        if self.passes(there, here) {
            let micros = self.net.delay();
            let instance = ping.to;
            self.at(micros, Event::Refused { to: from, life, instance });
        }
    }

    fn beat(&self, at: usize, ping: &Ping) -> Beat {
        let place = &self.places[at];
        Beat {
            cluster: place.node.identity.cluster,
            content: place.node.identity.content,
            instance: place.node.instance,
            counter: ping.counter,
            incarnation: place.incarnation,
            phase: Phase::Waiting,
            figures: None,
            oldest_write_micros: None,
            stream_age_micros: None,
            probe_age_micros: place.hangs.map_or(Some(1_000), |since| Some(self.now.since(since))),
            recovering_at: None,
            flapping: None,
            turns: place.turns(self.now),
        }
    }

    /// A process that is open answers.
    pub(super) fn answer_ping(&mut self, at: usize, from: usize, life: Life, ping: &Ping) {
        let now = self.places[at].node.clock.node_now(self.now);
        let Some(process) = &self.places[at].node.process else { return };
        let member = &process.member;
        let phase = match member.role() {
            Role::Mirror => Phase::Mirror,
            Role::Rising => Phase::Rising,
            Role::Primary => Phase::Primary,
            Role::Down => Phase::Down,
            _ => Phase::Waiting,
        };
        let figures = Figures {
            epoch: member.epoch(),
            version: member.config().map_or(Version(0), |config| config.version),
            durable: member.log().durable(),
            commit: member.commit(),
            applied: member.applied(),
        };
        let stream_age_micros = member.stream_heard().map(|heard| now.since(heard));
        let figures = Some(figures);
        let flapping = member.flapping().map(|(copy, attempts)| Flapping { copy, attempts });
        let beat = Beat { phase, figures, stream_age_micros, flapping, ..self.beat(at, ping) };
        if let Some(clone) = self.places[at].cloned
            && self.faults.chance(500)
        {
            self.counts.row(56);
            let beat = Beat { incarnation: clone, ..beat };
            return self.send_beat(at, from, life, beat);
        }
        self.send_beat(at, from, life, beat);
    }

    fn send_beat(&mut self, at: usize, to: usize, life: Life, beat: Beat) {
        let from = self.places[at].node.instance;
        if !self.passes(self.places[at].host, self.places[to].host) {
            return;
        }
        for micros in self.ways() {
            self.at(micros, Event::Beat { to, life, from, beat });
        }
    }

    pub(super) fn beat_arrives(&mut self, to: usize, life: Life, from: InstanceId, beat: Beat) {
        let Some(at) = self.place_of(from) else { return };
        if self.is_open(to, life) && self.passes(self.places[at].host, self.places[to].host) {
            let beat = coordinator::In::Beat { from, beat };
            self.bring(to, Brought::Seat(Seated::Coordinator(beat)));
        }
    }

    pub(super) fn refusal_arrives(&mut self, to: usize, life: Life, instance: InstanceId) {
        if self.is_open(to, life) {
            let refused = coordinator::In::Refused { instance };
            self.bring(to, Brought::Seat(Seated::Coordinator(refused)));
        }
    }
}
