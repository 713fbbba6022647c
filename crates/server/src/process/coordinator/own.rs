//! A coordinator that stands alone: its own register is its member's authority.
//!
//! On a thread of its own, because it waits for the disk. Guarantees: recorded before anyone is told. Not here:
//! voters ([`super::voting`]).

use std::sync::{Arc, mpsc};

use outrigger_cluster::authority::SelfAuthority;
use outrigger_net::config::{Config, Version};
use outrigger_replica::runtime::{Authority, Told};
use outrigger_wal::{Epoch, Lsn};
use parking_lot::Mutex;

use crate::error::Error;

/// The coordinator's own register, as its member's authority.
pub(super) struct Own {
    asked: Mutex<mpsc::Sender<Asked>>,
}

enum Asked {
    Attach(Told),
    Read,
    Swap(Version, Config),
}

impl Own {
    pub(super) fn start(register: SelfAuthority) -> Result<Arc<Self>, Error> {
        let (asked, queue) = mpsc::channel();
        let work = move || serve(register, &queue);
        std::thread::Builder::new().name("register".to_owned()).spawn(work).map_err(|cause| {
            Error::System {
                what: "the register's thread cannot be started",
                cause,
                advice: "check the limits of threads",
            }
        })?;
        Ok(Arc::new(Self { asked: Mutex::new(asked) }))
    }

    fn ask(&self, asked: Asked) {
        // After an error of the register's disk nothing is answered, and nothing is served.
        drop(self.asked.lock().send(asked));
    }
}

fn serve(mut register: SelfAuthority, queue: &mpsc::Receiver<Asked>) {
    let mut told: Option<Told> = None;
    for asked in queue {
        match asked {
            Asked::Attach(to) => told = Some(to),
            Asked::Read => {}
            Asked::Swap(seen, new) => match register.compare_and_swap(seen, &new) {
                Ok(_) => {}
                Err(outrigger_cluster::Error::Conflict(conflict)) => {
                    tracing::info!(%conflict, "a change of the coordinator's own configuration lost");
                }
                Err(error) => {
                    // It is not known whether it was recorded: nothing may be told any more.
                    tracing::error!(%error, "the coordinator's register failed; start it again");
                    return;
                }
            },
        }
        if let (Some(told), Some(config)) = (&told, register.config()) {
            told.recorded(config.clone(), config.epoch.number);
        }
    }
}

impl Authority for Own {
    fn attach(&self, told: Told) {
        self.ask(Asked::Attach(told));
    }

    fn read(&self) {
        self.ask(Asked::Read);
    }

    fn swap(&self, seen: Version, new: Config) {
        self.ask(Asked::Swap(seen, new));
    }

    fn report(&self, _: Epoch, _: Lsn, _: Lsn, _: Lsn, _: Option<Lsn>) {
        // It stands alone: what it holds is what there is.
    }
}
