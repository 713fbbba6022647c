//! The hosts' agents: what they are told, what they see.
//!
//! Guarantees: what is wanted is told again until it is confirmed, and after each new connection; an agent that
//! has heard a higher coordinator is an alarm: this one commands nothing. Cluster-wide stops go in order: primaries,
//! then mirrors, then the standby. Not here: what is wanted of an instance ([`crate::catalog`]).

use std::collections::BTreeMap;

use outrigger_wal::{ContentId, Micros};

use super::event::{Event, Out};
use super::{CATALOG, Coordinator};
use crate::agent::{Ask, Order, Process, Say, Seen};
use crate::catalog::State;
use crate::catalog::tables::{Dbid, Instance, Up, Wanted};
use crate::detect;
use crate::settings::is_of_instances;

/// What was not confirmed for so long is said again.
const AGAIN_MICROS: u64 = 1_000_000;

/// What is known of a host's agent.
#[derive(Debug, Default)]
pub(super) struct HostLink {
    /// It is connected.
    pub(super) here: bool,
    /// What it sees.
    pub(super) seen: BTreeMap<Dbid, Seen>,
    /// What it was told last, and when.
    told: Option<(Vec<(Dbid, Order)>, Micros)>,
    /// It has confirmed that.
    confirmed: bool,
}

impl HostLink {
    /// In another reign nothing was told yet, and nothing seen.
    pub(super) fn begin_again(&mut self) {
        *self = Self { here: self.here, ..Self::default() };
    }
}

impl Coordinator {
    /// The connection to an agent was made, or ended.
    pub(super) fn agent_is(&mut self, host: &str, here: bool, out: &mut Vec<Out>) {
        let link = self.hosts.entry(host.to_owned()).or_default();
        link.here = here;
        link.told = None;
        link.confirmed = false;
        let rows: Vec<_> = link.seen.values().map(|seen| seen.instance).collect();
        if !here {
            for instance in rows {
                self.detect(detect::In::AgentLost { instance }, out);
            }
        }
    }

    pub(super) fn agent_said(&mut self, host: &str, say: Say, out: &mut Vec<Out>) {
        match say {
            Say::Taken => {
                if let Some(link) = self.hosts.get_mut(host) {
                    link.confirmed = true;
                }
            }
            Say::Denied { text } => {
                out.push(Out::Event(Event::Alarm { text: format!("the agent of {host}: {text}") }));
            }
            Say::Status { instances, .. } => self.agent_sees(host, instances, out),
            Say::Checked { bad } => self.checked(host, bad, out),
        }
    }

    fn agent_sees(&mut self, host: &str, instances: Vec<Seen>, out: &mut Vec<Out>) {
        let link = self.hosts.entry(host.to_owned()).or_default();
        let before = std::mem::take(&mut link.seen);
        link.seen = instances.iter().map(|seen| (seen.dbid, seen.clone())).collect();
        for seen in instances {
            let instance = seen.instance;
            let known = before.get(&seen.dbid).map(|seen| &seen.process);
            match &seen.process {
                Process::Running { .. } => self.detect(detect::In::AgentBack { instance }, out),
                Process::Ended { .. } | Process::Stopped if known != Some(&seen.process) => {
                    self.detect(detect::In::Exited { instance, incarnation: None }, out);
                }
                _ => {}
            }
        }
    }

    /// What an agent sees of an instance's process.
    pub(super) fn process(&self, dbid: Dbid, row: &Instance) -> Option<&Seen> {
        self.hosts.get(&row.host)?.seen.get(&dbid)
    }

    pub(super) fn settle_hosts(&mut self, out: &mut Vec<Out>) {
        let Some(serving) = self.serving else { return };
        let (wanted, reach) = self.catalog.read(|state| {
            let wanted: Vec<_> =
                state.hosts.keys().map(|host| (host.clone(), self.orders(state, host))).collect();
            let hosts = state.hosts.values();
            let reach: Vec<_> = hosts.map(|host| (host.name.clone(), host.agent.clone())).collect();
            (wanted, reach)
        });
        if reach != self.reached {
            self.reached.clone_from(&reach);
            out.push(Out::Reach { agents: reach });
        }
        let (cluster, now) = (self.identity.cluster, self.now);
        for (host, orders) in wanted {
            let Some(link) = self.hosts.get_mut(&host).filter(|link| link.here) else { continue };
            let same = link.told.as_ref().is_some_and(|(told, _)| *told == orders);
            let waits = link.told.as_ref().is_some_and(|(_, at)| now.since(*at) < AGAIN_MICROS);
            if same && (link.confirmed || waits) {
                continue;
            }
            link.told = Some((orders.clone(), now));
            link.confirmed = false;
            let coordinator_epoch = serving.epoch.number;
            let ask = Ask::Want { cluster, coordinator_epoch, orders };
            out.push(Out::Agent { host, ask });
        }
    }

    /// When something is to be said again.
    pub(super) fn hosts_deadline(&self) -> Option<Micros> {
        let waiting = self.hosts.values().filter(|link| link.here && !link.confirmed);
        waiting.filter_map(|link| Some(link.told.as_ref()?.1.plus(AGAIN_MICROS))).min()
    }

    /// What a host's agent is to do.
    fn orders(&self, state: &State, host: &str) -> Vec<(Dbid, Order)> {
        let rows = state.instances.iter().filter(|(_, row)| row.host == host);
        rows.filter_map(|(dbid, row)| Some((*dbid, self.order(state, *dbid, row)?))).collect()
    }

    fn order(&self, state: &State, dbid: Dbid, row: &Instance) -> Option<Order> {
        let is_catalog = row.content == CATALOG;
        let (log, segment_bytes) = if is_catalog {
            (self.identity.log, self.identity.segment_bytes)
        } else {
            let content = state.contents.get(&row.content)?;
            (content.log, content.segment_bytes)
        };
        let config = self.config_in(state, row.content);
        let source = config.and_then(|config| config.copy(config.primary));
        let voters = if is_catalog { self.voters.clone() } else { Vec::new() };
        let settings = if is_catalog {
            Vec::new()
        } else {
            let set = state.settings.iter().filter(|(name, _)| is_of_instances(name));
            set.map(|(name, value)| (name.clone(), *value)).collect()
        };
        let seen_run = self.process(dbid, row).map_or(0, |seen| seen.run);
        Some(Order {
            content: row.content,
            instance: row.instance,
            log,
            segment_bytes,
            addresses: row.addresses.clone(),
            data_dir: row.data_dir.clone(),
            wanted: self.wanted(state, row),
            // An administrator may have started or stopped a coordinator at its agent since.
            run: if is_catalog { row.run.max(seen_run) } else { row.run },
            coordinators: self.coordinators(state),
            voters,
            source: source.map(|copy| copy.addresses.clone()).unwrap_or_default(),
            max_rate_bytes: row.max_rate_bytes,
            settings,
        })
    }

    /// Where coordinators are: the acting one first.
    fn coordinators(&self, state: &State) -> Vec<String> {
        let mine = self.identity.instance;
        let mut rows: Vec<_> =
            state.instances.values().filter(|row| row.content == CATALOG).collect();
        rows.sort_by_key(|row| row.instance != mine);
        rows.iter().filter_map(|row| row.addresses.first().cloned()).collect()
    }

    /// What is wanted of an instance while the whole cluster goes down, or is down.
    fn wanted(&self, state: &State, row: &Instance) -> Wanted {
        let stopping = match state.up {
            Up::Founding | Up::Running => return row.wanted,
            Up::Stopped => true,
            Up::ShutDown { .. } => false,
        };
        if row.wanted == Wanted::Gone {
            return Wanted::Gone;
        }
        let still_run = |test: &dyn Fn(&Instance, bool) -> bool| {
            state.instances.iter().any(|(dbid, row)| {
                let primary = self.config_in(state, row.content).map(|config| config.primary);
                let runs = self.process(*dbid, row).is_some_and(|seen| {
                    matches!(seen.process, Process::Running { .. } | Process::Starting)
                });
                runs && test(row, primary == Some(row.instance))
            })
        };
        let is_primary =
            self.config_in(state, row.content).map(|config| config.primary) == Some(row.instance);
        if row.content != CATALOG {
            let primaries_run = still_run(&|row, primary| row.content != CATALOG && primary);
            return if is_primary || !primaries_run { Wanted::Down } else { row.wanted };
        }
        let data_runs = still_run(&|row, _| row.content != CATALOG);
        let standby_runs = still_run(&|row, primary| row.content == CATALOG && !primary);
        let mine = row.instance == self.identity.instance;
        if stopping && !data_runs && (!mine || !standby_runs) { Wanted::Down } else { row.wanted }
    }

    /// What is recorded for a content, the catalog's own included.
    pub(super) fn config_in<'a>(
        &'a self,
        state: &'a State,
        content: ContentId,
    ) -> Option<&'a outrigger_net::config::Config> {
        if content == CATALOG {
            return self.own.as_ref();
        }
        state.contents.get(&content)?.register.config()
    }
}
