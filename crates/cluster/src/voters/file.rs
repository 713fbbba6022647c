//! A voter and its file: saved first, answered then.
//!
//! Guarantees: what was answered is durable in both slots; a voter whose file is lost or damaged does
//! not vote; after a fault of the device nothing more is answered. Not here: decisions ([`Voter`]).

use outrigger_replica::rules::Rules;

use super::message::{Ask, Say};
use super::voter::Voter;
use crate::error::Error;
use crate::slots::{Kind, Saved, Slots};

/// The voter of an agent, in two slots of the agent's folder.
#[derive(Debug)]
pub struct VoterFile {
    voter: Voter,
    saved: Saved,
    rules: Rules,
}

impl VoterFile {
    /// Makes the file of a voter; only by `init`.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one, or the device's fault.
    ///
    /// # Durability
    /// Durable when this returns.
    pub fn create(slots: Box<dyn Slots>, voter: Voter, rules: Rules) -> Result<Self, Error> {
        let (mut saved, body) = Saved::open(slots, Kind::Voter)?;
        if body.is_some() {
            return Err(Error::Exists { place: saved.place() });
        }
        save(&mut saved, &voter)?;
        Ok(Self { voter, saved, rules })
    }

    /// Opens the file of a voter.
    ///
    /// # Errors
    /// [`Error::VoterLost`] when there is none, or that it cannot be read: this agent does not vote.
    pub fn open(slots: Box<dyn Slots>, rules: Rules) -> Result<Self, Error> {
        let (saved, body) = Saved::open(slots, Kind::Voter)?;
        let Some(body) = body else {
            return Err(Error::VoterLost { place: saved.place() });
        };
        let content = |cause| Error::Content { place: saved.place(), cause };
        let voter = Voter::decode(&body).map_err(content)?;
        Ok(Self { voter, saved, rules })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// The device's fault: nothing may be answered, and nothing will be until it is opened again.
    ///
    /// # Durability
    /// What the answer says is durable when this returns.
    pub fn answer(&mut self, ask: &Ask) -> Result<Say, Error> {
        let (next, say) = self.voter.step(ask, self.rules);
        // ORDER: durable before the answer; and what could not be saved is not known to be unsaved.
        match next {
            Some(next) => {
                save(&mut self.saved, &next)?;
                self.voter = next;
            }
            None => self.saved.usable()?,
        }
        Ok(say)
    }

    /// What it holds.
    #[must_use]
    pub const fn voter(&self) -> &Voter {
        &self.voter
    }
}

fn save(saved: &mut Saved, voter: &Voter) -> Result<(), Error> {
    let body = voter.encode().map_err(|cause| Error::Content { place: saved.place(), cause })?;
    saved.save(&body)
}
