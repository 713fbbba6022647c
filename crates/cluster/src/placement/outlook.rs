//! What the loss of hosts would do to a layout, as planned or as it is now.
//!
//! Guarantees: counts what is in the layout: leave out the instances that could not take over (down,
//! or not in sync), and it says what is to be expected today.
//! Not here: chances. Which hosts die together is not known here.

use std::collections::BTreeMap;

use outrigger_wal::ContentId;

use super::layout::{CATALOG, Layout, Role};

/// What the loss of any one host, and of any two, does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// Each host that holds copies of data, and what its loss does, in the order of hosts.
    pub losses: Vec<HostLoss>,
    /// Hosts whose loss alone takes every copy of a content.
    pub fatal_hosts: Vec<Fatal<String>>,
    /// Pairs of hosts whose loss together, and of neither alone, takes every copy of a content.
    pub fatal_pairs: Vec<Fatal<(String, String)>>,
    /// The most primaries that one host serves, now or after the loss of one other.
    pub most_acting_primaries: usize,
}

/// What the loss of one host does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostLoss {
    /// The host.
    pub host: String,
    /// The primaries that each survivor serves then, in the order of hosts: of data, not of the
    /// catalog.
    pub load: Vec<Load>,
}

/// The primaries of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// The host.
    pub host: String,
    /// How many it serves now.
    pub before: usize,
    /// How many it serves after the loss.
    pub after: usize,
}

/// Hosts, and the contents that are lost with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fatal<H> {
    /// Which.
    pub hosts: H,
    /// What has no copy left; -1 is the catalog.
    pub contents: Vec<ContentId>,
}

/// Looks at what the loss of hosts would do.
#[must_use]
pub fn outlook(layout: &Layout) -> Outlook {
    let place: BTreeMap<&str, usize> =
        layout.hosts.iter().enumerate().map(|(at, host)| (host.name.as_str(), at)).collect();
    let at = |host: &str| place.get(host).copied().unwrap_or(usize::MAX);
    // The copies of each content, as places in the order of hosts: the acting primary's first.
    let mut copies: BTreeMap<ContentId, Vec<usize>> = BTreeMap::new();
    for role in [Role::Primary, Role::Mirror] {
        for placed in layout.instances.iter().filter(|placed| placed.role == role) {
            copies.entry(placed.content).or_default().push(at(&placed.place.host));
        }
    }
    let losses = losses(layout, &copies);
    let (alone, pairs) = fatal(&copies);
    let name = |at: usize| layout.hosts.get(at).map_or_else(String::new, |host| host.name.clone());
    Outlook {
        most_acting_primaries: losses
            .iter()
            .flat_map(|loss| loss.load.iter().map(|load| load.after.max(load.before)))
            .max()
            // The only host has nobody to outlive.
            .unwrap_or_else(|| copies.keys().filter(|content| **content != CATALOG).count()),
        losses,
        fatal_hosts: alone
            .into_iter()
            .map(|(host, contents)| Fatal { hosts: name(host), contents })
            .collect(),
        fatal_pairs: pairs
            .into_iter()
            .map(|((one, other), contents)| Fatal { hosts: (name(one), name(other)), contents })
            .collect(),
    }
}

fn losses(layout: &Layout, copies: &BTreeMap<ContentId, Vec<usize>>) -> Vec<HostLoss> {
    let data = || copies.iter().filter(|(content, _)| **content != CATALOG).map(|(_, at)| at);
    let mut before = vec![0_usize; layout.hosts.len()];
    let mut holds = vec![false; layout.hosts.len()];
    // By the host that is lost: who serves more then.
    let mut heirs: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); layout.hosts.len()];
    for hosts in data() {
        for host in hosts {
            if let Some(holds) = holds.get_mut(*host) {
                *holds = true;
            }
        }
        if let Some(count) = hosts.first().and_then(|primary| before.get_mut(*primary)) {
            *count += 1;
        }
        if let [primary, mirror, ..] = hosts.as_slice()
            && primary != mirror
            && let Some(heirs) = heirs.get_mut(*primary)
        {
            *heirs.entry(*mirror).or_default() += 1;
        }
    }
    let involved = || (0..layout.hosts.len()).filter(|at| holds[*at]);
    involved()
        .map(|lost| HostLoss {
            host: layout.hosts[lost].name.clone(),
            load: involved()
                .filter(|survivor| *survivor != lost)
                .map(|survivor| Load {
                    host: layout.hosts[survivor].name.clone(),
                    before: before[survivor],
                    after: before[survivor] + heirs[lost].get(&survivor).copied().unwrap_or(0),
                })
                .collect(),
        })
        .collect()
}

type Alone = BTreeMap<usize, Vec<ContentId>>;
type Pairs = BTreeMap<(usize, usize), Vec<ContentId>>;

fn fatal(copies: &BTreeMap<ContentId, Vec<usize>>) -> (Alone, Pairs) {
    let (mut alone, mut pairs) = (Alone::new(), Pairs::new());
    for (content, hosts) in copies {
        let mut hosts = hosts.clone();
        hosts.sort_unstable();
        hosts.dedup();
        match hosts.as_slice() {
            [host] => alone.entry(*host).or_default().push(*content),
            [one, other] => pairs.entry((*one, *other)).or_default().push(*content),
            _ => {}
        }
    }
    pairs.retain(|(one, other), _| !alone.contains_key(one) && !alone.contains_key(other));
    (alone, pairs)
}
