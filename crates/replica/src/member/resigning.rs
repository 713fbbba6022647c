//! Giving a reign up for a copy that may lack commits, on an administrator's word (S10).
//!
//! Unlike a hand-over (S9) nothing is waited for: the primary ends its reign at once, durably gives its epoch up, and
//! says so with the LSN up to which it had committed, so that what is lost can be named. Guarantees: after that
//! nothing is sealed, committed or served in that epoch, whatever crashes; the only way back is a new epoch,
//! taken by itself when nobody else reigns after a while. Not here: the loss that is recorded (the authority).

use outrigger_wal::{Epoch, Lsn, Micros};

use super::Member;
use super::event::{Event, Out};
use super::handing_over::{HandOver, MAX_FROZEN_MICROS};
use super::phase::Phase;
use crate::rules::Rule;

/// A reign that was given up, and nobody has followed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resigned {
    /// The reign that ended.
    epoch: Epoch,
    /// What was committed in it at most.
    at: Lsn,
    /// The control file that gives it up.
    generation: u64,
    /// Whether that was said once.
    said: bool,
    /// If nobody took over by then, a new epoch is asked for.
    until: Micros,
}

impl Member {
    /// The authority asks this copy to give its reign up, whatever its successor lacks.
    pub(super) fn asked_to_give_up(&mut self, asked: HandOver, out: &mut Vec<Out>) {
        if let Err(text) = self.resign(asked, out) {
            out.push(Out::NotHandedOver { to: asked.to, text });
        }
    }

    fn resign(&mut self, asked: HandOver, out: &mut Vec<Out>) -> Result<(), String> {
        self.fence(asked)?;
        if let Phase::Following(following) = &mut self.phase
            && let Some(resigned) = following.resigned.as_mut()
            && resigned.epoch == asked.epoch
        {
            // Asked again: it is said again, where it is durable already.
            resigned.said = false;
            return Ok(());
        }
        self.may_resign(asked)?;
        if !self.rules.hold(Rule::S9GiveUp) {
            // Seeded bug: it is only said.
            out.push(Out::GaveUp { epoch: asked.epoch, at: self.commit });
            return Ok(());
        }
        // ORDER: nothing more is sealed or committed before the epoch is given up, and that is durable before it is
        // said.
        self.step_down("an administrator has another copy promoted", out);
        self.control.epoch = asked.epoch;
        self.control.given_up = asked.epoch;
        let generation = self.persist();
        let micros = asked.at_most_millis.saturating_mul(1000).min(MAX_FROZEN_MICROS);
        let until = self.now.plus(micros.saturating_mul(2));
        if let Phase::Following(following) = &mut self.phase {
            let (epoch, at) = (asked.epoch, self.commit);
            following.resigned = Some(Resigned { epoch, at, generation, said: false, until });
        }
        Ok(())
    }

    /// The recorded primary alone gives up, the recorded epoch alone, and only when it can say so for good.
    fn may_resign(&self, asked: HandOver) -> Result<(), String> {
        let Some(config) = self.config.as_ref().filter(|config| config.primary == self.me()) else {
            return Err("this copy is not the primary".to_owned());
        };
        if (asked.epoch, asked.version) != (config.epoch, config.version) {
            return Err(format!(
                "meant for epoch {} and configuration {}, current are {} and {}",
                asked.epoch, asked.version.0, config.epoch, config.version.0
            ));
        }
        // It never took up the recorded reign where its own epoch is lower.
        let known = self.control.epoch;
        if known != asked.epoch && known.number >= asked.epoch.number {
            return Err(format!("epoch {known} is accepted here"));
        }
        if !self.accepting.is_empty() {
            return Err("another configuration is being accepted".to_owned());
        }
        if self.closing || matches!(self.phase, Phase::Failed | Phase::Closed) {
            return Err("this copy is down, and can give nothing up durably".to_owned());
        }
        if self.is_reopening() || self.control.truncating.is_some() {
            return Err("its log is being cut".to_owned());
        }
        match self.phase {
            // What it proposed may be recorded already.
            Phase::Waiting | Phase::Electing(_) => {
                Err("it is about to take a new epoch".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Says what is durable, and takes a new epoch where nobody followed.
    pub(super) fn settle_resigned(&mut self, out: &mut Vec<Out>) {
        let (written, now, known) = (self.persisting.written, self.now, self.control.epoch);
        let Phase::Following(following) = &mut self.phase else { return };
        let Some(resigned) = following.resigned.as_mut() else { return };
        if resigned.epoch != known || following.stream.is_some() {
            // Somebody reigns.
            following.resigned = None;
            return;
        }
        if written < resigned.generation {
            return;
        }
        let (epoch, at, is_over) = (resigned.epoch, resigned.at, now >= resigned.until);
        if !std::mem::replace(&mut resigned.said, true) {
            out.push(Out::Event(Event::Resigned { epoch, at }));
            out.push(Out::GaveUp { epoch, at });
        }
        if is_over && self.accepting.is_empty() && !self.closing {
            following.resigned = None;
            if let Some(config) = self.config.clone().filter(|config| config.primary == self.me()) {
                self.elect(&config, out);
            }
        }
    }

    /// When a reign that was given up is to be taken up anew.
    pub(super) fn resigned_deadline(&self) -> Option<Micros> {
        match &self.phase {
            Phase::Following(following) => following.resigned.map(|resigned| resigned.until),
            _ => None,
        }
    }
}
