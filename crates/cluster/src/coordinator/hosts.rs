//! The hosts' agents: what they are told, what they see.
//!
//! Guarantees: what is wanted is told again until it is confirmed, and after each new connection; an agent that
//! has heard a higher coordinator is an alarm: this one commands nothing. Cluster-wide stops go in order: primaries,
//! then mirrors, then the standby. Not here: what is wanted of an instance ([`crate::catalog`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_replica::store::StateStore;
use outrigger_wal::{ContentId, Micros};

use super::event::{Event, Out};
use super::{CATALOG, Coordinator};
use crate::agent::{Ask, Order, Process, Say, Seen};
use crate::catalog::tables::{Dbid, Instance, Up, Wanted};
use crate::catalog::{Keepsake, State};
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
    /// What it was told last.
    told: Option<Told>,
    /// What it refused last, in words: said once.
    denied: Option<String>,
}

/// What an agent was told.
#[derive(Debug)]
struct Told {
    /// The number of it: a confirmation names what it confirms.
    number: u64,
    orders: Vec<(Dbid, Order)>,
    /// What it is to keep of the catalog.
    kept: Bytes,
    /// When it was said last.
    at: Option<Micros>,
    confirmed: bool,
}

impl Coordinator {
    /// The connection to an agent was made, or ended.
    pub(super) fn agent_is(&mut self, host: &str, here: bool, out: &mut Vec<Out>) {
        let link = self.hosts.entry(host.to_owned()).or_default();
        link.here = here;
        link.told = None;
        link.denied = None;
        let rows: Vec<_> = link.seen.values().map(|seen| seen.instance).collect();
        self.orders_of = None;
        if here || self.serving.is_none() {
            return;
        }
        for instance in rows {
            self.detect(detect::In::AgentLost { instance }, out);
        }
        self.unchecked(host, out);
    }

    pub(super) fn agent_said(&mut self, host: &str, say: Say, out: &mut Vec<Out>) {
        match say {
            Say::Taken { number } => {
                let told = self.hosts.get_mut(host).and_then(|link| link.told.as_mut());
                // A late word confirms what was told before, and nothing else.
                if let Some(told) = told.filter(|told| told.number == number) {
                    told.confirmed = true;
                }
            }
            Say::Denied { text } => {
                let link = self.hosts.entry(host.to_owned()).or_default();
                if link.denied.as_ref() != Some(&text) {
                    link.denied = Some(text.clone());
                    let text = format!("the agent of {host}: {text}");
                    out.push(Out::Event(Event::Alarm { text }));
                }
            }
            Say::Status { instances, .. } => self.agent_sees(host, instances, out),
            Say::Checked { bad } => self.checked(host, bad, out),
            // Its voter is asked by the council; what it holds, by whoever makes a catalog anew.
            Say::Voted { .. } | Say::Holds { .. } => {}
        }
    }

    fn agent_sees(&mut self, host: &str, instances: Vec<Seen>, out: &mut Vec<Out>) {
        let link = self.hosts.entry(host.to_owned()).or_default();
        let before = std::mem::take(&mut link.seen);
        link.seen = instances.iter().map(|seen| (seen.dbid, seen.clone())).collect();
        self.orders_of = None;
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
        let now = self.now;
        // Orders follow from the catalog, its own configuration and what agents see: most steps change none of
        // these.
        let source = (self.catalog.applied(), self.own.as_ref().map(|own| own.version));
        if self.orders_of != Some(source) {
            self.orders_of = Some(source);
            let (wanted, reach, kept) = self.catalog.read(|state| {
                (self.orders(state), reach(state), Keepsake::of(state, &self.voters).encode())
            });
            // LIMIT: rows of more than a keepsake holds are left with nobody, and told so.
            let kept = kept.unwrap_or_else(|error| {
                out.push(Out::Event(Event::Refused { text: format!("nothing is kept: {error}") }));
                Bytes::new()
            });
            if reach != self.reached {
                self.reached.clone_from(&reach);
                out.push(Out::Reach { agents: reach });
            }
            for (host, orders) in wanted {
                let link = self.hosts.get_mut(&host).filter(|link| link.here);
                let Some(link) = link else { continue };
                let same = |told: &Told| told.orders == orders && told.kept == kept;
                if link.told.as_ref().is_some_and(same) {
                    continue;
                }
                self.wants = self.wants.saturating_add(1);
                let number = self.wants;
                let kept = kept.clone();
                link.told = Some(Told { number, orders, kept, at: None, confirmed: false });
            }
        }
        let cluster = self.identity.cluster;
        for (host, link) in self.hosts.iter_mut().filter(|(_, link)| link.here) {
            let Some(told) = &mut link.told else { continue };
            let waits = told.at.is_some_and(|at| now.since(at) < AGAIN_MICROS);
            if told.confirmed || waits {
                continue;
            }
            told.at = Some(now);
            let (number, orders, kept) = (told.number, told.orders.clone(), told.kept.clone());
            let coordinator_epoch = serving.epoch.number;
            let ask = Ask::Want { number, cluster, coordinator_epoch, orders, kept };
            out.push(Out::Agent { host: host.clone(), ask });
        }
    }

    /// When something is to be said again.
    pub(super) fn hosts_deadline(&self) -> Option<Micros> {
        let told =
            self.hosts.values().filter(|link| link.here).filter_map(|link| link.told.as_ref());
        told.filter(|told| !told.confirmed)
            .filter_map(|told| Some(told.at?.plus(AGAIN_MICROS)))
            .min()
    }

    /// What each host's agent is to do.
    fn orders(&self, state: &State) -> Vec<(String, Vec<(Dbid, Order)>)> {
        let stage = self.stage(state);
        let mut orders: BTreeMap<&String, Vec<_>> =
            state.hosts.keys().map(|host| (host, Vec::new())).collect();
        for (dbid, row) in &state.instances {
            let order = self.order(state, stage, *dbid, row);
            if let (Some(order), Some(orders)) = (order, orders.get_mut(&row.host)) {
                orders.push((*dbid, order));
            }
        }
        orders.into_iter().map(|(host, orders)| (host.clone(), orders)).collect()
    }

    /// An instance that is not named in it is left as it is.
    fn order(&self, state: &State, stage: Stage, dbid: Dbid, row: &Instance) -> Option<Order> {
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
        let (wanted, run) = self.wanted(state, stage, dbid, row)?;
        let own = self.own.as_ref().filter(|_| is_catalog && wanted.runs());
        if own.is_some_and(|own| own.copy(row.instance).is_none()) {
            // ORDER: the voters name it first; before that it would find that it is no copy of the catalog, and end.
            return None;
        }
        Some(Order {
            content: row.content,
            instance: row.instance,
            log,
            segment_bytes,
            addresses: row.addresses.clone(),
            data_dir: row.data_dir.clone(),
            wanted,
            run,
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
        rows.into_iter().flat_map(|row| row.addresses.iter().cloned()).collect()
    }

    /// Whether an instance's process is there, as its agent tells; whoever cannot be told cannot be waited for.
    fn runs(&self, dbid: Dbid, row: &Instance) -> bool {
        let here = self.hosts.get(&row.host).is_some_and(|link| link.here);
        let seen = self.process(dbid, row).filter(|_| here);
        seen.is_some_and(|seen| {
            matches!(
                seen.process,
                Process::Running { .. } | Process::Starting | Process::Rebuilding { .. }
            )
        })
    }

    /// Whether a process of any instance of data is there.
    pub(super) fn data_runs(&self, state: &State) -> bool {
        let mut data = state.instances.iter().filter(|(_, row)| row.content != CATALOG);
        data.any(|(dbid, row)| self.runs(*dbid, row))
    }

    /// How far the whole cluster is on its way down.
    fn stage(&self, state: &State) -> Stage {
        if matches!(state.up, Up::Founding | Up::Running) {
            return Stage::Up;
        }
        let (mut primaries, mut data, mut standby) = (false, false, false);
        for (_, row) in state.instances.iter().filter(|(dbid, row)| self.runs(**dbid, row)) {
            let primary = self.config_in(state, row.content).map(|config| config.primary);
            let primary = primary == Some(row.instance);
            data |= row.content != CATALOG;
            primaries |= row.content != CATALOG && primary;
            standby |= row.content == CATALOG && row.instance != self.identity.instance;
        }
        let all = state.up == Up::Stopped && self.brings_down;
        match (primaries, data, standby) {
            (true, _, _) => Stage::Primaries,
            (false, true, _) => Stage::Mirrors,
            (false, false, _) if !all => Stage::Mirrors,
            (false, false, true) => Stage::Standby,
            (false, false, false) => Stage::Coordinator,
        }
    }

    /// What is wanted of an instance now, and under which number.
    fn wanted(
        &self,
        state: &State,
        stage: Stage,
        dbid: Dbid,
        row: &Instance,
    ) -> Option<(Wanted, u64)> {
        let config = self.config_in(state, row.content);
        let primary = config.is_some_and(|config| config.primary == row.instance);
        let named = config.is_some_and(|config| config.copy(row.instance).is_some());
        let needed = primary || config.is_some_and(|config| config.in_sync(row.instance));
        let seen_run = self.process(dbid, row).map_or(0, |seen| seen.run);
        // An administrator may have started or stopped a coordinator at its agent since.
        let run = if row.content == CATALOG { row.run.max(seen_run) } else { row.run };
        let wanted = match row.wanted {
            // ORDER: first it leaves the in-sync set, then the configuration, then its data is removed: that is an
            // order with a higher number than the one that stops it.
            Wanted::Gone if named && !primary => {
                let before = row.run.saturating_sub(1);
                let catalog = row.content == CATALOG;
                return Some((Wanted::Down, if catalog { before.max(seen_run) } else { before }));
            }
            Wanted::Gone if primary => Wanted::Up,
            // It has come in sync since: what is wanted is there.
            Wanted::Rebuild(_) if needed => Wanted::Up,
            wanted => wanted,
        };
        if stage == Stage::Up || wanted == Wanted::Gone {
            return Some((wanted, run));
        }
        if row.content == CATALOG {
            let mine = row.instance == self.identity.instance;
            let down = if mine { stage == Stage::Coordinator } else { stage >= Stage::Standby };
            // While others go down, coordinator and standby are left as administrators want them.
            return down.then_some((Wanted::Down, run));
        }
        let down = primary || stage >= Stage::Mirrors;
        if !down {
            return Some((wanted, run));
        }
        // A number that was not carried out yet is kept for what it asks for: a start is recorded before the cluster
        // is up, and a stop must not use it up.
        let seen = self.process(dbid, row)?;
        Some((Wanted::Down, run.min(seen.run)))
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

/// How far a cluster is on its way down: who goes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// It is up.
    Up,
    /// Primaries.
    Primaries,
    /// Mirrors too.
    Mirrors,
    /// The standby too.
    Standby,
    /// And the coordinator.
    Coordinator,
}

fn reach(state: &State) -> Vec<(String, Vec<String>)> {
    state.hosts.values().map(|host| (host.name.clone(), host.agent.clone())).collect()
}
