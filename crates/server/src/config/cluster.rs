//! A cluster's file: what `outrigger init` makes one from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use outrigger_cluster::placement::{
    Directories, Host, Mirroring, Ports, Refusal, Seat, Shape, plan,
};
use outrigger_net::frame::MAX_ADDRESSES;
use outrigger_wal::format::{DEFAULT_SEGMENT_BYTES, is_segment_bytes};
use serde::Deserialize;

use super::identity::one_or_more;
use super::instance::{check_addresses, check_range};
use super::{Key, Keyed, Wrong};

/// What a cluster is made from.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// What it is called.
    pub(crate) name: String,
    /// How mirrors are placed.
    #[serde(default)]
    mirroring: MirroringName,
    /// How many hosts a block has.
    #[serde(default = "block_hosts")]
    block_hosts: usize,
    /// Primaries on each host that carries segments.
    segments_per_host: u16,
    /// Where the coordinator is.
    coordinator: CoordinatorSeat,
    /// Where the standby is.
    #[serde(default)]
    standby: Option<StandbySeat>,
    /// The first port of primaries.
    #[serde(default = "port_base")]
    port_base: u16,
    /// The first port of mirrors.
    #[serde(default = "mirror_port_base")]
    mirror_port_base: u16,
    /// Folders for primaries.
    data_dirs: Vec<String>,
    /// Folders for mirrors.
    #[serde(default)]
    mirror_data_dirs: Vec<String>,
    /// Passed on to each instance.
    #[serde(default = "segment_bytes")]
    pub(crate) segment_bytes: u64,
    /// When a failed copy comes back.
    #[serde(default)]
    pub(crate) auto_rejoin: AutoRejoin,
    /// How often each instance is probed.
    #[serde(default = "fts_probe_interval_ms")]
    pub(crate) fts_probe_interval_ms: u64,
    /// How long an instance may be silent.
    #[serde(default = "fts_probe_timeout_ms")]
    pub(crate) fts_probe_timeout_ms: u64,
    /// Further refusals before a process counts as dead.
    #[serde(default = "fts_probe_retries")]
    pub(crate) fts_probe_retries: u32,
    /// How long a mirror may hear nothing from its primary.
    #[serde(default = "fts_mark_mirror_down_grace_period_ms")]
    pub(crate) fts_mark_mirror_down_grace_period_ms: u64,
    /// How often a mirror may connect in vain.
    #[serde(default = "fts_replication_attempt_count")]
    pub(crate) fts_replication_attempt_count: u32,
    /// How long a write and sync may take.
    #[serde(default = "disk_probe_timeout_ms")]
    pub(crate) disk_probe_timeout_ms: u64,
    /// The hosts, in the order in which they are placed on.
    #[serde(rename = "host")]
    pub(crate) hosts: Vec<HostConfig>,
}

/// One `[[host]]`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostConfig {
    name: String,
    addresses: Vec<String>,
    /// Where its agent is called, `host:port`, in order of preference.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) agent: Vec<String>,
    #[serde(default)]
    rack: Option<String>,
    #[serde(default)]
    storage: Option<String>,
    #[serde(default = "segments")]
    segments: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CoordinatorSeat {
    host: String,
    #[serde(default = "coordinator_port")]
    port: u16,
    data_dir: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandbySeat {
    host: String,
    data_dir: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MirroringName {
    #[default]
    Group,
    Spread,
    Block,
    Rack,
    None,
}

impl HostConfig {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// When a copy that failed comes back by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum AutoRejoin {
    /// Never: an operator says so.
    #[default]
    Manual,
    /// As soon as it can.
    Immediate,
    /// When it has been able to for so long.
    After(Duration),
}

impl TryFrom<String> for AutoRejoin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = match text.as_str() {
            "manual" => Some(Self::Manual),
            "immediate" => Some(Self::Immediate),
            other => other.strip_prefix("after ").and_then(duration).map(Self::After),
        };
        let advice = "give \"manual\", \"immediate\" or \"after 30s\" (ms, s, m or h, up to 24h)";
        parsed.ok_or_else(|| format!("{text:?} is no policy; {advice}"))
    }
}

/// A whole number and its unit, up to a day.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let found = number.parse::<u64>().ok()?.checked_mul(millis)?;
    (found <= 86_400_000).then(|| Duration::from_millis(found))
}

const fn block_hosts() -> usize {
    4
}

const fn port_base() -> u16 {
    6000
}

const fn mirror_port_base() -> u16 {
    8000
}

const fn coordinator_port() -> u16 {
    7000
}

const fn segment_bytes() -> u64 {
    DEFAULT_SEGMENT_BYTES
}

const fn fts_probe_interval_ms() -> u64 {
    100
}

const fn fts_probe_timeout_ms() -> u64 {
    500
}

const fn fts_probe_retries() -> u32 {
    1
}

const fn fts_mark_mirror_down_grace_period_ms() -> u64 {
    200
}

const fn fts_replication_attempt_count() -> u32 {
    10
}

const fn disk_probe_timeout_ms() -> u64 {
    2000
}

const fn segments() -> bool {
    true
}

impl ClusterConfig {
    /// What the catalog remembers of it, by name.
    pub(crate) fn settings(&self) -> Vec<(String, u64)> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let auto_rejoin = match self.auto_rejoin {
            AutoRejoin::Manual => outrigger_cluster::settings::MANUAL,
            AutoRejoin::Immediate => 0,
            AutoRejoin::After(time) => millis(time),
        };
        let grace = self.fts_mark_mirror_down_grace_period_ms;
        let mirroring = self.shape().mirroring;
        let block = matches!(mirroring, Mirroring::Block { .. });
        let block = block.then_some(("block_hosts", self.block_hosts as u64));
        [
            ("auto_rejoin_ms", auto_rejoin),
            ("copy_grace_ms", grace),
            ("disk_probe_timeout_ms", self.disk_probe_timeout_ms),
            // It is named as down no sooner than anybody else who is silent.
            ("fts_mark_mirror_down_grace_period_ms", grace.max(self.fts_probe_timeout_ms)),
            ("fts_probe_interval_ms", self.fts_probe_interval_ms),
            ("fts_probe_retries", u64::from(self.fts_probe_retries)),
            ("fts_probe_timeout_ms", self.fts_probe_timeout_ms),
            ("fts_replication_attempt_count", u64::from(self.fts_replication_attempt_count)),
            ("mirror_port_base", u64::from(self.mirror_port_base)),
            ("mirroring", outrigger_cluster::settings::of_mirroring(mirroring)),
            ("port_base", u64::from(self.port_base)),
        ]
        .into_iter()
        .chain(block)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// What the planner is asked for.
    pub(crate) fn shape(&self) -> Shape {
        let host = |host: &HostConfig| Host {
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            // The same on all of them, as checked.
            agent_port: host.agent.first().and_then(|agent| port_of(agent)),
            rack: host.rack.clone(),
            storage: host.storage.clone(),
            segments: host.segments,
        };
        let CoordinatorSeat { host: name, port, data_dir } = self.coordinator.clone();
        Shape {
            hosts: self.hosts.iter().map(host).collect(),
            primaries_per_host: usize::from(self.segments_per_host),
            mirroring: match self.mirroring {
                MirroringName::Group => Mirroring::Group,
                MirroringName::Spread => Mirroring::Spread,
                MirroringName::Block => Mirroring::Block { hosts: self.block_hosts },
                MirroringName::Rack => Mirroring::Rack,
                MirroringName::None => Mirroring::None,
            },
            coordinator: Seat { host: name, data_dir },
            standby: self
                .standby
                .clone()
                .map(|StandbySeat { host, data_dir }| Seat { host, data_dir }),
            coordinator_port: port,
            ports: Ports { primaries: self.port_base, mirrors: self.mirror_port_base },
            directories: Directories {
                primaries: self.data_dirs.clone(),
                mirrors: self.mirror_data_dirs.clone(),
            },
        }
    }

    fn check_hosts(&self) -> Result<(), Wrong> {
        let mut agents = BTreeMap::new();
        for (at, host) in self.hosts.iter().enumerate() {
            let wrong = |key: &str, cause| Wrong::from((format!("host[{at}].{key}"), cause));
            check_addresses("agent", &host.agent).map_err(|(key, cause)| wrong(key, cause))?;
            if host.agent.len() > MAX_ADDRESSES {
                let cause = format!("{} addresses: give {MAX_ADDRESSES} at most", host.agent.len());
                return Err(wrong("agent", cause));
            }
            for agent in &host.agent {
                if let Some(other) = agents.insert(agent, &host.name) {
                    let cause = format!("{agent} is the agent of host {other} already");
                    return Err(wrong("agent", cause));
                }
            }
            if host.agent.windows(2).any(|two| port_of(&two[0]) != port_of(&two[1])) {
                let cause = "an agent has one port, on all of its addresses".to_owned();
                return Err(wrong("agent", cause));
            }
            for address in &host.addresses {
                check_name(address).map_err(|cause| wrong("addresses", cause))?;
            }
            for (key, label) in [("rack", &host.rack), ("storage", &host.storage)] {
                if label.as_ref().is_some_and(String::is_empty) {
                    return Err(wrong(key, "is empty: name it, or leave the key out".to_owned()));
                }
            }
        }
        let known = |name: &str| self.hosts.iter().any(|host| host.name == name);
        let unknown = |key: &str, name: &str| {
            Wrong::from((
                key,
                format!("{name:?} is the name of no [[host]]: add it, or correct it"),
            ))
        };
        if !known(&self.coordinator.host) {
            return Err(unknown("coordinator.host", &self.coordinator.host));
        }
        match &self.standby {
            Some(standby) if !known(&standby.host) => Err(unknown("standby.host", &standby.host)),
            _ => Ok(()),
        }
    }

    /// The key of a host that a refusal is about; most are about how things add up, and no key is wrong.
    fn to_blame(&self, refusal: &Refusal) -> Option<Wrong> {
        let (name, key) = match refusal {
            Refusal::HostName { name } | Refusal::HostTwice { name } => (name, "name"),
            Refusal::NoAddress { host } => (host, "addresses"),
            Refusal::AddressTwice { second, .. } => (second, "addresses"),
            Refusal::NoRack { host } => (host, "name"),
            _ => return None,
        };
        // Of two with one name the later one is too many.
        let at = self.hosts.iter().rposition(|host| host.name == *name)?;
        Some((format!("host[{at}].{key}"), refusal.to_string()).into())
    }

    fn check_folders(&self) -> Result<(), Wrong> {
        let slots = usize::from(self.segments_per_host);
        let count = |key: &'static str, found: usize| {
            let cause = format!("{found} folders: give one for all, or {slots}, one for each slot");
            if found == 1 || found == slots { Ok(()) } else { Err(Wrong::from((key, cause))) }
        };
        count("data_dirs", self.data_dirs.len())?;
        match self.mirror_data_dirs.len() {
            0 if self.mirroring == MirroringName::None => Ok(()),
            found => count("mirror_data_dirs", found),
        }
    }
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// Refuses what is neither an IP address nor the name of a machine.
fn check_name(address: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_name = !address.is_empty() && address.chars().all(is_plain);
    if is_name || address.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("{address:?} is no address: give a name or an IP address, without a port"))
    }
}

impl Keyed for ClusterConfig {
    const KEYS: &'static [Key] = &KEYS;

    fn check(&self) -> Result<(), Wrong> {
        check_name(&self.name)
            .map_err(|_| ("name", "use letters, digits, '.', '_' and '-'".to_owned()))?;
        check_range("segments_per_host", u64::from(self.segments_per_host), 1, 128)?;
        if self.mirroring == MirroringName::Block {
            check_range("block_hosts", self.block_hosts as u64, 2, 1000)?;
        }
        if !is_segment_bytes(self.segment_bytes) {
            let cause = format!("{} is not a power of two from 1 MiB to 1 GiB", self.segment_bytes);
            return Err(("segment_bytes", cause).into());
        }
        for (key, millis) in [
            ("fts_probe_interval_ms", self.fts_probe_interval_ms),
            ("fts_probe_timeout_ms", self.fts_probe_timeout_ms),
            ("disk_probe_timeout_ms", self.disk_probe_timeout_ms),
        ] {
            check_range(key, millis, 10, 3_600_000)?;
        }
        let grace = self.fts_mark_mirror_down_grace_period_ms;
        check_range("fts_mark_mirror_down_grace_period_ms", grace, 0, 3_600_000)?;
        check_range("fts_probe_retries", u64::from(self.fts_probe_retries), 0, 100)?;
        let attempts = u64::from(self.fts_replication_attempt_count);
        check_range("fts_replication_attempt_count", attempts, 0, 100)?;
        self.check_folders()?;
        self.check_hosts()?;
        match plan(&self.shape()) {
            Err(refusal) => self.to_blame(&refusal).map_or(Ok(()), Err),
            Ok(_) => Ok(()),
        }
    }
}

const fn key(
    name: &'static str,
    unit: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, unit, default, meaning }
}

const KEYS: [Key; 27] = [
    key("name", "name", "", "what the cluster is called"),
    key(
        "mirroring",
        "`\"group\"`, `\"spread\"`, `\"block\"`, `\"rack\"` or `\"none\"`",
        "\"group\"",
        "where mirrors are placed",
    ),
    key("block_hosts", "number", "4", "hosts in a block; used by `\"block\"` only"),
    key("segments_per_host", "number", "", "primaries on each host; each gets as many mirrors"),
    key("coordinator.host", "host's name", "", "where the coordinator runs"),
    key(
        "coordinator.port",
        "port",
        "7000",
        "where coordinator and standby listen, each on its host's address",
    ),
    key("coordinator.data_dir", "path", "", "the coordinator's data directory"),
    key("standby.host", "host's name", "none", "where the standby runs; without it there is none"),
    key(
        "standby.data_dir",
        "path",
        "none",
        "the standby's data directory; goes with `standby.host`",
    ),
    key("port_base", "port", "6000", "the first primary of each host; further ones count up"),
    key("mirror_port_base", "port", "8000", "the first mirror of each host; further ones count up"),
    key(
        "data_dirs",
        "list of paths",
        "",
        "folders for primaries: one for all, or one for each primary of a host; a data directory in it \
         is `gpseg<content>`; `{host}` in it stands for the host's name",
    ),
    key(
        "mirror_data_dirs",
        "list of paths",
        "[]",
        "the same for mirrors; needed unless `mirroring` is `\"none\"`",
    ),
    key(
        "segment_bytes",
        "bytes",
        "67108864",
        "the size of a log segment, a power of two from 1 MiB to 1 GiB",
    ),
    key(
        "auto_rejoin",
        "`\"manual\"`, `\"immediate\"` or `\"after 30s\"`",
        "\"manual\"",
        "when a copy that failed comes back: at `outrigger recover`, by itself, or by itself after \
         that time (ms, s, m, h)",
    ),
    key("fts_probe_interval_ms", "milliseconds", "100", "how often each instance is probed"),
    key(
        "fts_probe_timeout_ms",
        "milliseconds",
        "500",
        "how long an instance may be silent before it counts as \
         failed",
    ),
    key(
        "fts_probe_retries",
        "number",
        "1",
        "how many more refusals, each asked for at once, it takes after the first \
         before a process counts as dead",
    ),
    key(
        "fts_mark_mirror_down_grace_period_ms",
        "milliseconds",
        "200",
        "how long commits wait for a mirror whose connection is lost; the state names it as \
         down no sooner than `fts_probe_timeout_ms`",
    ),
    key(
        "fts_replication_attempt_count",
        "number",
        "10",
        "how often a mirror may connect without ever catching up before it is \
         dropped",
    ),
    key(
        "disk_probe_timeout_ms",
        "milliseconds",
        "2000",
        "how long a probe's write and sync in the data directory may take before the \
         disk counts as failed",
    ),
    key(
        "host.name",
        "name",
        "",
        "letters, digits, `.`, `_`, `-`; hosts are placed on in the file's order",
    ),
    key(
        "host.addresses",
        "list of addresses",
        "",
        "one a network, in the same order of networks on each host; primary and mirror of a content \
         use different ones",
    ),
    key(
        "host.agent",
        "host:port, or a list",
        "",
        "where the host's agent is called, one address a network: the first that answers is used",
    ),
    key("host.rack", "name", "none", "the rack it stands in; needed by `\"rack\"`"),
    key(
        "host.storage",
        "name",
        "none",
        "the storage system it shares with others; two copies of a content never share one",
    ),
    key(
        "host.segments",
        "boolean",
        "true",
        "whether it carries primaries and mirrors; if not, it is for coordinator, standby or a vote",
    ),
];
