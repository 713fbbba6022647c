//! How the cluster looks from here: for `outrigger state` and `outrigger recover`.

use outrigger_wal::{ContentId, InstanceId};

use outrigger_net::config::Config;

use super::{CATALOG, Coordinator};
use crate::agent::Process;
use crate::catalog::State;
use crate::catalog::state::Standing as Row;
use crate::catalog::tables::{Dbid, Instance};
use crate::detect::Standing;
use crate::failover::{Decision, UnderWay};
use crate::operator::{
    Answer, ClusterState, ContentState, CopyRole, CopyState, HostState, InstanceState,
};

impl Coordinator {
    /// Every content, host and instance, and what copies reported last.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        self.catalog.read(|state| {
            let own = self.own.as_ref().and_then(|_| self.content_state(state, CATALOG));
            let others = state.contents.keys().filter_map(|id| self.content_state(state, *id));
            let hosts = state.hosts.values().map(|host| HostState {
                host: host.clone(),
                agent_here: self.hosts.get(&host.name).is_some_and(|link| link.here),
            });
            let rows = state.instances.iter();
            ClusterState {
                cluster: self.identity.cluster,
                coordinator_epoch: self.serving().unwrap_or_default().number,
                up: state.up.clone(),
                contents: own.into_iter().chain(others).collect(),
                hosts: hosts.collect(),
                instances: rows.map(|(dbid, row)| self.instance_state(state, *dbid, row)).collect(),
                settings: state.settings.iter().map(|(key, at)| (key.clone(), *at)).collect(),
                expanding: state.expanding(),
            }
        })
    }

    fn instance_state(&self, state: &State, dbid: Dbid, row: &Instance) -> InstanceState {
        let config = self.config_in(state, row.content);
        let named = config.filter(|config| config.copy(row.instance).is_some());
        let process = self.process(dbid, row).map(|seen| seen.process.clone());
        InstanceState {
            dbid,
            row: row.clone(),
            standing: named.map(|config| Row::of(config, row.instance)),
            seen: self.seen(row.instance, process.as_ref()),
            process,
        }
    }

    /// How an instance is seen, in words.
    fn seen(&self, instance: InstanceId, process: Option<&Process>) -> String {
        if let Some(known) = self.detector.known(instance) {
            return match known.standing {
                Standing::Up => "up".to_owned(),
                Standing::Suspect { .. } => "suspect".to_owned(),
                Standing::Recovering { at: Some(at), advancing: true } => {
                    format!("recovering, at LSN {at}")
                }
                Standing::Recovering { advancing: true, .. } => "recovering".to_owned(),
                Standing::Recovering { .. } => "recovering, stands still".to_owned(),
                Standing::Dead { why, .. } => format!("dead: {}", why.as_str()),
            };
        }
        match process {
            Some(Process::Running { .. }) => "running".to_owned(),
            Some(Process::Starting) => "starting".to_owned(),
            Some(Process::Rebuilding { .. } | Process::Rebuilt) => "rebuilding".to_owned(),
            Some(Process::Ended { how }) => format!("down: {how}"),
            Some(Process::Stopped) => "stopped".to_owned(),
            Some(Process::Gone) => "removed".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// What is going on with a content, in words.
    fn note_of(&self, state: &State, content: ContentId, config: &Config) -> String {
        let name = |instance: InstanceId| {
            state.row_of(instance).map_or(instance.to_string(), |(dbid, _)| format!("dbid {dbid}"))
        };
        let mut words = Vec::new();
        if content != CATALOG && !self.is_proved(content) {
            let silent = self.unreported(content).into_iter().map(name).collect::<Vec<_>>();
            let have = if silent.len() == 1 { "has" } else { "have" };
            words.push(format!("unproved: {} {have} not reported", silent.join(", ")));
        }
        match self.decisions.get(&content) {
            None | Some(Decision::Nothing) => {
                if let Some(UnderWay::HandOver { to, .. }) = self.under_way(content, config.epoch) {
                    return format!("handing over to {}", name(to));
                }
            }
            Some(Decision::MirrorDown { mirrors }) => {
                let waited_for = mirrors.iter().filter(|mirror| config.in_sync(**mirror));
                words.extend(waited_for.map(|mirror| format!("{} down", name(*mirror))));
            }
            Some(Decision::Promote { to }) => return format!("promoting {}", name(*to)),
            Some(Decision::HandOverThrough { mirror }) => {
                return format!("handing over through {}", name(*mirror));
            }
            Some(Decision::WaitFor { copy }) => return format!("waiting for {}", name(*copy)),
            Some(Decision::DoubleFault { copies }) => {
                let said: Vec<_> = copies
                    .iter()
                    .map(|copy| {
                        let row = state.contents.get(&content);
                        let heard = row.map(|row| row.register.heard(copy.instance).lsn);
                        let durable = copy.durable.max(heard).unwrap_or_default();
                        let sync = if copy.in_sync { "in sync" } else { "not in sync" };
                        format!("{} {sync}, durable to {durable}", name(copy.instance))
                    })
                    .collect();
                return format!("double fault: {}", said.join("; "));
            }
            Some(other) => return other.as_str().to_owned(),
        }
        let waiting = config.copies.iter().filter(|copy| !copy.in_sync);
        words.extend(waiting.map(|copy| {
            let how = if copy.held { "out" } else { "catching up" };
            format!("{} {how}", name(copy.instance))
        }));
        // S10: shown until all copies have what was kept.
        if let Some(loss) = config.loss.filter(|_| !words.is_empty() && content != CATALOG) {
            words.push(format!(
                "a loss behind LSN {} was accepted in epoch {}",
                loss.end, loss.epoch
            ));
        }
        if words.is_empty() { "ok".to_owned() } else { words.join(", ") }
    }

    fn content_state(&self, state: &State, content: ContentId) -> Option<ContentState> {
        let config = self.config_in(state, content)?;
        let row = state.contents.get(&content);
        let figures_of = |instance| self.figures.get(&(content, instance)).copied();
        let durable_of = |instance| {
            figures_of(instance)
                .map(|figures| figures.durable)
                .or_else(|| row.map(|row| row.register.heard(instance).lsn))
                .unwrap_or_default()
        };
        let newest = durable_of(config.primary);
        let copies = config.copies.iter().map(|copy| {
            let instance = copy.instance;
            let figures = figures_of(instance).unwrap_or_default();
            let durable = durable_of(instance);
            CopyState {
                instance,
                addresses: copy.addresses.clone(),
                role: if instance == config.primary { CopyRole::Primary } else { CopyRole::Mirror },
                in_sync: copy.in_sync,
                held: copy.held,
                in_touch: self.in_touch(content, instance),
                durable,
                commit: figures.commit,
                applied: figures.applied,
                lag_bytes: newest.since(durable),
            }
        });
        Some(ContentState {
            content,
            log: row.map_or(self.identity.log, |row| row.log),
            segment_bytes: row.map_or(self.identity.segment_bytes, |row| row.segment_bytes),
            version: config.version,
            epoch: config.epoch,
            primary: config.primary,
            copies: copies.collect(),
            note: self.note_of(state, content, config),
        })
    }

    /// What keeps a content's copies from being in sync.
    pub(super) fn recovery(&self, content: ContentId) -> Option<Answer> {
        let state = self.catalog.read(|state| self.content_state(state, content))?;
        let done = state.copies.iter().all(|copy| copy.in_sync);
        let primary_here =
            state.copies.iter().any(|copy| copy.role == CopyRole::Primary && copy.in_touch);
        let mut lines = Vec::new();
        if !primary_here {
            let primary = state.primary;
            lines.push(format!("the primary {primary} is out of touch: start it, or promote"));
        }
        for copy in state.copies.iter().filter(|copy| !copy.in_sync) {
            let (instance, lag) = (copy.instance, copy.lag_bytes);
            lines.push(if copy.in_touch {
                format!("{instance} is brought in sync by its primary, {lag} bytes behind")
            } else {
                format!("{instance} is out of touch: start its instance")
            });
        }
        if done {
            lines.push("all copies are in sync".to_owned());
        }
        Some(Answer::Recovery { done, text: lines.join("; "), content: state })
    }
}
