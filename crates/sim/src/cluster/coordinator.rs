//! The coordinator as a node of its own: what it is asked and tells, how it dies and starts again.
//!
//! Without restarts in the plan it decides at once; with them a record takes a while to be durable, and what was
//! not by then is asked for again. One that was deposed may go on and tell what it decided alone, to copies that
//! know its successor: they must refuse it (S0). Not here: the decisions (`authority`).

use outrigger_wal::Lsn;

use super::authority::Told;
use super::node::instance;
use super::queue::Event;
use super::{Ask, Cluster, brief_config};

impl Cluster {
    /// Sends a message to the authority, if it gets there; sometimes twice.
    pub(super) fn ask(&mut self, from: usize, ask: Ask) {
        let times = if self.net.rng.chance(self.plan.authority_loss_per_mille) {
            if self.net.rng.chance(500) { 0 } else { 2 }
        } else {
            1
        };
        for _ in 0..times {
            let micros = self.net.rng.range(self.plan.authority_delay_micros.clone());
            self.at(micros, Event::Asked { from, ask: Box::new(ask.clone()) });
        }
    }

    pub(super) fn asked(&mut self, from: usize, ask: Ask) {
        let authority = self.nodes.len();
        if self.net.is_blocked(from, authority) || self.coordinator_down {
            return;
        }
        match ask {
            Ask::Read => self.send_config(from, None),
            Ask::Swap { seen, new } => match self.authority.swap(instance(from), seen, new) {
                Ok(false) => self.decide_soon(),
                Ok(true) => self.send_config(from, None),
                Err(text) => self.violate(text),
            },
            Ask::GaveUp { epoch } => self.gave_up(epoch),
            Ask::Report { epoch, durable, cut } => {
                let once = self.authority.report(instance(from), epoch, durable, cut);
                // A disk that was rolled back has forgotten the first.
                if !once && self.nodes[from].shadow.forgiven == Lsn::ZERO {
                    self.violate(format!("node {from} was cut twice for epoch {epoch}"));
                }
            }
        }
    }

    /// What waits is decided: at once, or when it is durable.
    pub(super) fn decide_soon(&mut self) {
        if self.plan.faults.coordinator == 0 {
            while self.authority.is_busy() {
                self.decide();
            }
        } else if self.authority.is_busy() && !std::mem::replace(&mut self.deciding, true) {
            let micros = self.net.rng.range(200..30_000);
            self.at(micros, Event::Decide { reign: self.authority.epoch() });
            // Most of the time it has nothing to lose.
            if self.faults.chance(50) && !self.healed {
                self.kill_coordinator();
            }
        }
    }

    /// A record is durable, if the coordinator still lives.
    pub(super) fn durable_decision(&mut self, reign: u64) {
        if reign == self.authority.epoch() && !self.coordinator_down {
            self.deciding = false;
            self.decide();
            self.decide_soon();
        }
    }

    fn decide(&mut self) {
        match self.authority.decide() {
            Ok(false) => {}
            Ok(true) => self.recorded(),
            Err(text) => self.violate(format!("the authority: {text}")),
        }
    }

    /// Something new is recorded: it is counted and pushed.
    fn recorded(&mut self) {
        let config = self.authority.config();
        let (version, line) = (config.version.0, brief_config(config));
        self.note(|| format!("authority records {line}"));
        self.mix(3, 0, version);
        if let [.., (_, before), (_, after)] = self.authority.past() {
            for copy in &after.copies {
                match (before.in_sync(copy.instance), copy.in_sync) {
                    (false, true) => self.stats.grows += 1,
                    (true, false) => self.stats.shrinks += 1,
                    _ => {}
                }
            }
            if let Some(loss) = after.loss.filter(|_| after.loss != before.loss) {
                self.lose(loss);
            }
        }
        self.push_config();
    }

    pub(super) fn push_config(&mut self) {
        for node in 0..self.nodes.len() {
            self.send_config(node, None);
        }
    }

    /// Tells a node what is recorded, or something older, if the message gets there.
    pub(super) fn send_config(&mut self, node: usize, older: Option<Told>) {
        let authority = self.nodes.len();
        let lost = self.net.rng.chance(self.plan.authority_loss_per_mille / 2);
        if self.net.is_blocked(authority, node) || lost || self.coordinator_down {
            return;
        }
        let told =
            older.unwrap_or_else(|| (self.authority.epoch(), self.authority.config().clone()));
        let micros = self.net.rng.range(self.plan.authority_delay_micros.clone());
        self.at(micros, Event::Told { node, told: Box::new(told) });
    }

    /// What befalls the coordinator in a tick of faults.
    pub(super) fn trouble_coordinator(&mut self, node: usize) {
        if self.faults.chance(self.plan.faults.coordinator) {
            self.kill_coordinator();
        }
        if self.faults.chance(50) {
            self.checkpoint_coordinator();
        }
        if self.faults.chance(200) {
            self.tell_alone(node);
        }
    }

    /// The coordinator dies; it starts again a while later.
    pub(super) fn kill_coordinator(&mut self) {
        if std::mem::replace(&mut self.coordinator_down, true) {
            return;
        }
        self.note(|| "the coordinator dies".to_owned());
        self.stats.coordinator_restarts += 1;
        let micros = self.faults.range(5_000..900_000);
        self.at(micros, Event::Coordinate);
    }

    pub(super) fn start_coordinator(&mut self) {
        let durable = usize::try_from(self.faults.below(3)).unwrap_or(0);
        let before = self.authority.config().version;
        let restarted = self.authority.restart(durable);
        self.verdict(restarted);
        self.coordinator_down = false;
        self.deciding = false;
        self.wanted = None;
        self.losing = None;
        let epoch = self.authority.epoch();
        self.note(|| format!("the coordinator starts in epoch {epoch}"));
        self.mix(7, 0, epoch);
        if self.authority.config().version > before {
            self.recorded();
        } else {
            self.push_config();
        }
    }

    /// The coordinator dies, and starts again at once, in a higher reign.
    pub fn restart_coordinator(&mut self) {
        self.stats.coordinator_restarts += 1;
        self.start_coordinator();
    }

    /// A checkpoint of the coordinator's catalog.
    pub fn checkpoint_coordinator(&mut self) {
        let done = self.authority.checkpoint();
        self.verdict(done);
    }

    /// A coordinator that was deposed goes on, and tells a copy what it decided alone.
    pub(super) fn tell_alone(&mut self, node: usize) {
        let lost = self.authority.lost();
        let newest = lost.len().saturating_sub(2);
        let Some(told) = self.faults.pick(&lost[newest..]).cloned() else { return };
        let micros = self.faults.range(0..20_000);
        self.at(micros, Event::ToldAlone { node, told: Box::new(told) });
    }

    /// It comes to nothing that is told before it is committed: of those who do not know the successor nobody asks
    /// this deposed coordinator.
    pub(super) fn told_alone(&mut self, node: usize, told: Told) {
        let known = self.nodes[node].process.as_ref();
        let known = known.map(|process| process.member.control().coordinator_epoch);
        if known > Some(told.0) {
            self.stats.deposed_words += 1;
            self.told(node, told);
        }
    }
}
