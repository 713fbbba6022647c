//! Where a replica asks who reigns: the seam to whatever owns configurations.
//!
//! Questions are asked without waiting; whatever is recorded is told through [`Told`], as an answer or as
//! a push, in any order and any number of times. Not here: any authority (the cluster's catalog).

use std::sync::Weak;

use outrigger_net::config::{Config, Version};
use outrigger_wal::{Epoch, InstanceId, Lsn};

use super::core::Shared;
use crate::member::{HandOver, In};

/// An authority as a replica sees it. Calls must not block; they may answer within the call.
pub trait Authority: Send + Sync {
    /// From now on, what is recorded for this replica's content is told here.
    fn attach(&self, told: Told);

    /// Asks what is recorded.
    fn read(&self);

    /// Asks to replace the configuration at version `seen`; whatever is recorded then is told.
    fn swap(&self, seen: Version, new: Config);

    /// The highest epoch of a coordinator that the copy has accepted durably: said before each report. By default nobody
    /// asks.
    fn obeys(&self, coordinator_epoch: u64) {
        tracing::trace!(coordinator_epoch, "accepted durably");
    }

    /// How far the copy is, of which reign's history; `cut`: it was just cut there.
    fn report(&self, epoch: Epoch, durable: Lsn, commit: Lsn, applied: Lsn, cut: Option<Lsn>);

    /// The primary durably gave this epoch up, and nothing behind `at` was committed in it. After a hand-over (S9) its
    /// log ends there, durable and applied at the copy that was to take over: told by the primary, or by that
    /// mirror. It may come more than once. By default nobody waits for it.
    fn gave_up(&self, epoch: Epoch, at: Lsn) {
        tracing::debug!(%epoch, %at, "an epoch is given up, and nobody asked for it");
    }

    /// A hand-over to `to` that was asked for did not come about; the reign goes on. By default nobody waits for it.
    fn not_handed_over(&self, to: InstanceId, why: &str) {
        tracing::debug!(%to, %why, "not handed over");
    }
}

/// Where an authority tells a replica what is recorded.
#[derive(Clone)]
pub struct Told(pub(super) Weak<Shared>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Told {
    /// `config` is recorded, says the coordinator of this epoch.
    pub fn recorded(&self, config: Config, coordinator_epoch: u64) {
        if let Some(shared) = self.0.upgrade() {
            shared.push(In::Config { config, coordinator_epoch });
        }
    }

    /// The authority asks for a hand-over (S9): of the primary, or of the mirror that takes over. It is answered by
    /// [`Authority::gave_up`] or [`Authority::not_handed_over`]; asking again does no harm.
    pub fn hand_over(&self, asked: HandOver) {
        if let Some(shared) = self.0.upgrade() {
            shared.push(In::HandOver(asked));
        }
    }

    /// The authority asks the primary to give its reign up for a copy that may lack commits (S10). It is answered
    /// as a hand-over is.
    pub fn give_up(&self, asked: HandOver) {
        if let Some(shared) = self.0.upgrade() {
            shared.push(In::GiveUp(asked));
        }
    }

    /// Whether the replica is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}
