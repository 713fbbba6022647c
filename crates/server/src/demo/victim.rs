//! Who is killed, and which contents feel it.
//!
//! Guarantees: pure. A host that is killed has neither coordinator nor standby; whoever else is killed is on such
//! a host too, where there is one. Not here: how.

use std::collections::BTreeSet;

use clap::ValueEnum;
use outrigger_cluster::placement::{CATALOG, Layout, Placed, Role};
use outrigger_wal::ContentId;

use crate::error::Error;

/// What is killed under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kill {
    /// The process of one primary
    Primary,
    /// A host: its agent, and all that runs on it
    Host,
    /// The process of one mirror
    Mirror,
    /// The coordinator's process; the standby is activated then
    Coordinator,
    /// The standby's process
    Standby,
}

impl Kill {
    /// As on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Host => "host",
            Self::Mirror => "mirror",
            Self::Coordinator => "coordinator",
            Self::Standby => "standby",
        }
    }

    /// Whether copies of data go missing.
    pub(super) const fn takes_data(self) -> bool {
        matches!(self, Self::Primary | Self::Host | Self::Mirror)
    }
}

/// Who is killed.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) kill: Kill,
    /// Its host's name.
    pub(super) host: String,
    /// The instances that die, in the roles that they were made with.
    pub(super) dying: Vec<Placed>,
}

impl Victim {
    /// Chooses.
    ///
    /// # Errors
    /// When the cluster has no such victim.
    pub(super) fn choose(kill: Kill, layout: &Layout) -> Result<Self, Error> {
        let has_catalog = |host: &str| {
            layout.instances.iter().any(|at| at.content == CATALOG && at.place.host == host)
        };
        let free = layout.hosts.iter().find(|host| !has_catalog(&host.name));
        let refused = |cause: &str| Error::Option { option: "--kill", cause: cause.to_owned() };
        let any = || layout.hosts.last().map(|host| host.name.clone()).unwrap_or_default();
        let host = free.map(|host| host.name.clone());
        let on = |host: &str, role: Role| {
            let mut there = layout
                .instances
                .iter()
                .filter(|at| at.place.host == host && at.role == role && at.content != CATALOG);
            there.next().cloned()
        };
        let dying = match kill {
            Kill::Host => {
                let host = host.ok_or_else(|| {
                    refused("a host without coordinator and standby takes --hosts 3 or more")
                })?;
                layout.instances.iter().filter(|at| at.place.host == host).cloned().collect()
            }
            Kill::Primary => {
                on(&host.unwrap_or_else(any), Role::Primary).into_iter().collect::<Vec<_>>()
            }
            Kill::Mirror => on(&host.unwrap_or_else(any), Role::Mirror).into_iter().collect(),
            Kill::Coordinator => layout.copy(CATALOG, Role::Primary).cloned().into_iter().collect(),
            Kill::Standby => layout.copy(CATALOG, Role::Mirror).cloned().into_iter().collect(),
        };
        let host = dying.first().map(|at| at.place.host.clone());
        let host = host.ok_or_else(|| refused("this cluster has none"))?;
        Ok(Self { kill, host, dying })
    }

    /// In words.
    pub(super) fn title(&self) -> String {
        match (self.kill, self.dying.first()) {
            (Kill::Host, _) => format!("host {}", self.host),
            (_, Some(placed)) => format!("{} on host {}", placed.title(), self.host),
            (_, None) => "nobody".to_owned(),
        }
    }

    /// The contents of data whose copy dies in this role.
    pub(super) fn contents(&self, role: Role) -> BTreeSet<ContentId> {
        let dying = self.dying.iter().filter(|at| at.content != CATALOG && at.role == role);
        dying.map(|at| at.content).collect()
    }

    /// The contents whose commits may stall: all, when nobody of them dies.
    pub(super) fn affected(&self, layout: &Layout) -> BTreeSet<ContentId> {
        if self.kill.takes_data() {
            let (mut lost, mirrors) = (self.contents(Role::Primary), self.contents(Role::Mirror));
            lost.extend(mirrors);
            return lost;
        }
        layout.segments(Role::Primary).iter().map(|placed| placed.content).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::{Hosts, layout_of};
    use super::*;
    use crate::demo::Mirrors;

    fn choose(hosts: u8, mirroring: Mirrors, kill: Kill) -> Result<Victim, Error> {
        let hosts = Hosts { hosts, segments_per_host: 2, mirroring };
        Victim::choose(kill, &layout_of(&hosts).unwrap())
    }

    #[test]
    fn a_killed_host_has_neither_coordinator_nor_standby() {
        let victim = choose(4, Mirrors::Group, Kill::Host).unwrap();
        assert_eq!(victim.host, "h3");
        assert_eq!(victim.dying.len(), 4);
        assert_eq!(victim.contents(Role::Primary).len(), 2);
        assert_eq!(victim.contents(Role::Mirror).len(), 2);
        let refused = choose(2, Mirrors::Group, Kill::Host).unwrap_err().to_string();
        assert!(refused.contains("--hosts 3 or more"), "{refused}");
    }

    #[test]
    fn one_process_is_killed_where_no_catalog_is_if_there_is_such_a_host() {
        for kill in [Kill::Primary, Kill::Mirror] {
            let victim = choose(4, Mirrors::Spread, kill).unwrap();
            assert_eq!((victim.host.as_str(), victim.dying.len()), ("h3", 1), "{kill:?}");
        }
        assert_eq!(choose(2, Mirrors::Group, Kill::Primary).unwrap().host, "h2");
        let refused = choose(4, Mirrors::None, Kill::Mirror).unwrap_err().to_string();
        assert!(refused.contains("has none"), "{refused}");
    }

    #[test]
    fn a_coordinator_that_dies_touches_every_content_and_takes_none() {
        let hosts = Hosts { hosts: 4, segments_per_host: 2, mirroring: Mirrors::Group };
        let layout = layout_of(&hosts).unwrap();
        let victim = Victim::choose(Kill::Coordinator, &layout).unwrap();
        assert_eq!(victim.host, "h1");
        assert!(victim.contents(Role::Primary).is_empty());
        assert_eq!(victim.affected(&layout).len(), 8);
        assert_eq!(Victim::choose(Kill::Standby, &layout).unwrap().host, "h2");
    }
}
