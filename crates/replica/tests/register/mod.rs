//! A register in the test's process: one for all replicas, which can stop recording.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicBool, Ordering};

use outrigger_net::config::{Config, Version};
use outrigger_replica::runtime::{Authority, Told};
use outrigger_wal::{Epoch, InstanceId, Lsn};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Register {
    pub(crate) config: Mutex<Option<Config>>,
    told: Mutex<Vec<Told>>,
    pub(crate) silent: AtomicBool,
    /// Who takes over when the reign is given up, and under which nonce.
    next: Mutex<Option<(InstanceId, u128)>>,
}

impl Register {
    pub(crate) fn push(&self) {
        let Some(config) = self.config.lock().clone() else { return };
        let told: Vec<Told> = self.told.lock().clone();
        told.iter().for_each(|told| told.recorded(config.clone(), 1));
    }

    /// When the reign of today is given up, this copy is recorded as primary.
    pub(crate) fn hand_to(&self, to: InstanceId, nonce: u128) {
        *self.next.lock() = Some((to, nonce));
    }

    /// Records a change of its own, as the next version.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Config)) {
        if let Some(config) = self.config.lock().as_mut() {
            change(config);
            config.version = config.version.next();
        }
        self.push();
    }
}

impl Authority for Register {
    fn attach(&self, told: Told) {
        self.told.lock().push(told);
        self.push();
    }

    fn read(&self) {
        self.push();
    }

    fn swap(&self, seen: Version, new: Config) {
        let mut config = self.config.lock();
        if !self.silent.load(Ordering::SeqCst)
            && config.as_ref().is_some_and(|config| config.version == seen)
        {
            *config = Some(new);
        }
        drop(config);
        self.push();
    }

    fn report(&self, _: Epoch, _: Lsn, _: Lsn, _: Lsn, _: Option<Lsn>) {}

    fn gave_up(&self, epoch: Epoch, _: Lsn) {
        let current = self.config.lock().as_ref().map(|config| config.epoch);
        if current == Some(epoch)
            && let Some((to, nonce)) = self.next.lock().take()
        {
            self.change(|config| {
                config.primary = to;
                config.epoch = Epoch { number: epoch.number + 1, nonce };
            });
        }
    }
}
