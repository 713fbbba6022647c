//! A coordinator's connections to the agents of its hosts: kept up, watched, asked.
//!
//! Guarantees: one connection at a time to each, at the first of its addresses that answers; what an agent sees is told as soon as it changes; the
//! end of a connection is told at once. Not here: what they are told (cluster).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outrigger_cluster::agent::{Ask, Say};
use outrigger_cluster::coordinator::In;
use outrigger_wal::ClusterId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::desk::Heard;
use crate::kv::agents;
use crate::kv::line::{Broken, Line};

/// Before an agent that cannot be reached is tried again.
const RETRY_TIME: Duration = Duration::from_millis(100);
/// An agent answers a watcher every second: one that does not is gone.
const WATCH_TIME: Duration = Duration::from_secs(3);

/// Connections to agents; they end when this is dropped.
pub(super) struct Agents {
    cluster: ClusterId,
    events: UnboundedSender<Heard>,
    kept: BTreeMap<String, Kept>,
}

struct Kept {
    addresses: Vec<String>,
    asks: UnboundedSender<Bytes>,
    task: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agents {
    pub(super) const fn new(cluster: ClusterId, events: UnboundedSender<Heard>) -> Self {
        Self { cluster, events, kept: BTreeMap::new() }
    }

    /// Keeps connections to these and no others.
    pub(super) fn reach(&mut self, agents: Vec<(String, Vec<String>)>) {
        self.kept.retain(|host, kept| {
            agents.iter().any(|(name, addresses)| name == host && *addresses == kept.addresses)
        });
        for (host, addresses) in agents {
            if self.kept.contains_key(&host) {
                continue;
            }
            let (asks, queue) = unbounded_channel();
            let keeper = Keeper {
                host: host.clone(),
                addresses: addresses.clone(),
                cluster: self.cluster,
                events: self.events.clone(),
            };
            let task = tokio::spawn(keeper.run(queue)).abort_handle();
            self.kept.insert(host, Kept { addresses, asks, task });
        }
    }

    /// Ends all of them.
    pub(super) fn forget_all(&mut self) {
        self.kept.clear();
    }

    /// Asks an agent; without a connection nothing is asked.
    pub(super) fn ask(&self, host: &str, ask: &Ask) {
        let Some(kept) = self.kept.get(host) else { return };
        match ask.encode() {
            Ok(body) => drop(kept.asks.send(body)),
            Err(error) => tracing::error!(%error, %host, "an order does not fit a message"),
        }
    }
}

struct Keeper {
    host: String,
    addresses: Vec<String>,
    cluster: ClusterId,
    events: UnboundedSender<Heard>,
}

impl Keeper {
    async fn run(self, mut asks: UnboundedReceiver<Bytes>) {
        loop {
            match agents::open(&self.addresses, self.cluster).await {
                Ok(line) => {
                    // What was asked of an earlier connection is said again by the machine.
                    while asks.try_recv().is_ok() {}
                    self.tell(In::Agent { host: self.host.clone(), here: true });
                    let Broken(why) = self.talk(&line, &mut asks).await;
                    tracing::info!(host = %self.host, %why, "the connection to an agent ended");
                    self.tell(In::Agent { host: self.host.clone(), here: false });
                }
                Err(Broken(why)) => {
                    tracing::debug!(host = %self.host, %why, "an agent cannot be reached");
                }
            }
            sleep(RETRY_TIME).await;
        }
    }

    fn tell(&self, event: In) {
        // Without a queue the process is ending.
        drop(self.events.send(Heard::Machine(event)));
    }

    /// Watches and asks until the connection ends.
    async fn talk(&self, line: &Line, asks: &mut UnboundedReceiver<Bytes>) -> Broken {
        let watching = async {
            let mut seen = 0;
            loop {
                let body = match (Ask::Watch { seen }).encode() {
                    Ok(body) => body,
                    Err(error) => return Broken(error.to_string()),
                };
                let asked = match line.ask(body) {
                    Ok(asked) => asked,
                    Err(broken) => return broken,
                };
                match timeout(WATCH_TIME, asked.answer()).await {
                    Ok(Ok(body)) => match Say::decode(&body) {
                        Ok(say) => {
                            if let Say::Status { generation, .. } = &say {
                                seen = *generation;
                            }
                            self.tell(In::AgentSaid { host: self.host.clone(), say });
                        }
                        Err(error) => return Broken(error.to_string()),
                    },
                    Ok(Err(broken)) => return broken,
                    Err(_) => return Broken("it does not answer".to_owned()),
                }
            }
        };
        let asking = async {
            while let Some(body) = asks.recv().await {
                let asked = match line.ask(body) {
                    Ok(asked) => asked,
                    Err(broken) => return broken,
                };
                match timeout(WATCH_TIME, asked.answer()).await {
                    Ok(Ok(body)) => match Say::decode(&body) {
                        Ok(say) => self.tell(In::AgentSaid { host: self.host.clone(), say }),
                        Err(error) => return Broken(error.to_string()),
                    },
                    Ok(Err(broken)) => return broken,
                    Err(_) => return Broken("it does not answer".to_owned()),
                }
            }
            Broken("nobody asks any more".to_owned())
        };
        tokio::select! {
            broken = watching => broken,
            broken = asking => broken,
        }
    }
}
