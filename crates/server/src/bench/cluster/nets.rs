//! Where the hosts of a measurement are: loopback addresses, or a network namespace each, on one bridge or two.
//!
//! Guarantees: names and addresses follow from this process's number: two runs do not meet. A cut drops packets on
//! the bridge, so that both ends see silence and no error. Not here: the processes.

use std::path::Path;
use std::process::{Command, Stdio};

use super::hosts::system;
use crate::error::Error;

/// The networks of a cluster's hosts.
#[derive(Debug)]
pub(in crate::bench) enum Net {
    /// Hosts are addresses on loopback: they cannot be cut off.
    Loopback,
    /// Hosts are namespaces on so many bridges (root, with `ip` and `nft`).
    Namespaces {
        /// One or two.
        bridges: u8,
    },
}

/// Who can be cut off from whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bench) enum End {
    /// A host, by its place.
    Host(usize),
    /// Everybody else, whoever measures included.
    Others,
}

/// A number of this process's own.
fn own() -> u32 {
    std::process::id()
}

impl Net {
    /// Whether namespaces can be made here; why not, otherwise.
    pub(in crate::bench) fn possible() -> Result<(), String> {
        if !rustix::process::getuid().is_root() {
            return Err("only root makes network namespaces".to_owned());
        }
        for tool in ["ip", "nft"] {
            let mut command = Command::new(tool);
            command.arg("-V").stdout(Stdio::null()).stderr(Stdio::null());
            if !command.status().is_ok_and(|status| status.success()) {
                return Err(format!("{tool} is not installed"));
            }
        }
        let name = format!("or{}t", own());
        let made = sh(&format!("ip netns add {name} && ip netns del {name}"));
        let bridged = made.and_then(|()| {
            sh(&format!(
                "nft add table bridge {name} && nft add chain bridge {name} c \
                 '{{ type filter hook forward priority 0; }}'; e=$?; nft delete table bridge {name}; exit $e"
            ))
        });
        bridged.map_err(|error| error.to_string())
    }

    /// The addresses of a host, from 1 on.
    pub(super) fn addresses(&self, number: u8) -> Vec<String> {
        let own = own();
        match self {
            Self::Loopback => {
                vec![format!("127.{}.{}.{number}", 64 + own / 250 % 128, 1 + own % 250)]
            }
            Self::Namespaces { bridges } => (0..*bridges).map(|at| address(at, number)).collect(),
        }
    }

    /// What removes it.
    pub(super) fn clear(&self) -> String {
        match self {
            Self::Loopback => String::new(),
            Self::Namespaces { bridges } => {
                let own = own();
                let mut text = format!("nft delete table bridge or{own};");
                for at in 0..*bridges {
                    text.push_str(&format!("ip link del or{own}b{at};"));
                }
                // No more than there can be hosts; the rest are not there.
                for number in 1..=8 {
                    text.push_str(&format!("ip netns del or{own}h{number};"));
                }
                text
            }
        }
    }

    /// Makes it for so many hosts.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn make(&self, hosts: u8) -> Result<(), Error> {
        let Self::Namespaces { bridges } = self else { return Ok(()) };
        let own = own();
        let mut text = String::from("set -e\n");
        for at in 0..*bridges {
            let bridge = format!("or{own}b{at}");
            text.push_str(&format!(
                "ip link add {bridge} type bridge\nip addr add {}/24 dev {bridge}\nip link set {bridge} up\n",
                address(at, 254)
            ));
        }
        for number in 1..=hosts {
            let space = format!("or{own}h{number}");
            text.push_str(&format!("ip netns add {space}\nip -n {space} link set lo up\n"));
            for at in 0..*bridges {
                let outer = format!("o{own}n{at}h{number}");
                text.push_str(&format!(
                    "ip link add {outer} type veth peer name e{at} netns {space}\n\
                     ip link set {outer} master or{own}b{at}\nip link set {outer} up\n\
                     ip -n {space} addr add {}/24 dev e{at}\nip -n {space} link set e{at} up\n",
                    address(at, number)
                ));
            }
        }
        text.push_str(&format!("nft add table bridge or{own}\n"));
        for hook in ["forward", "input", "output"] {
            text.push_str(&format!(
                "nft add chain bridge or{own} {hook} '{{ type filter hook {hook} priority 0; }}'\n"
            ));
        }
        sh(&text)
    }

    /// A command on a host.
    pub(super) fn on(&self, at: usize, program: &Path) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Namespaces { .. } => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &format!("or{}h{}", own(), at.saturating_add(1))]);
                command.arg(program);
                command
            }
        }
    }

    /// Packets from one end to the other are dropped from now on, on this network or (`None`) on all.
    ///
    /// # Errors
    /// On loopback, or what the system says.
    pub(in crate::bench) fn cut(
        &self,
        from: End,
        to: End,
        network: Option<u8>,
    ) -> Result<(), Error> {
        let Self::Namespaces { bridges } = self else {
            let cause = std::io::Error::other("hosts on loopback cannot be cut off");
            return Err(system("no network namespaces", cause));
        };
        let networks = (0..*bridges).filter(|at| network.is_none_or(|only| only == *at));
        let mut text = String::new();
        for at in networks {
            let end = |end: End, word: &str| match end {
                End::Host(host) => {
                    let number = u8::try_from(host).unwrap_or(u8::MAX).saturating_add(1);
                    format!("ip {word} {}", address(at, number))
                }
                End::Others => String::new(),
            };
            let rule = format!("{} {} drop", end(from, "saddr"), end(to, "daddr"));
            for hook in ["forward", "input", "output"] {
                text.push_str(&format!("add rule bridge or{} {hook} {rule}\n", own()));
            }
        }
        sh(&format!("nft -f - <<'END'\n{text}END"))
    }

    /// One network is lost: nothing passes on it any more.
    ///
    /// # Errors
    /// As [`Net::cut`].
    pub(in crate::bench) fn lose(&self, network: u8) -> Result<(), Error> {
        let subnet = address(network, 0);
        let rules = ["forward", "input", "output"]
            .map(|hook| format!("add rule bridge or{} {hook} ip daddr {subnet}/24 drop\n", own()));
        sh(&format!("nft -f - <<'END'\n{}END", rules.concat()))
    }

    /// Whether an address is on this network.
    pub(in crate::bench) fn is_on(network: u8, host_and_port: &str) -> bool {
        let subnet = address(network, 0);
        host_and_port.starts_with(subnet.trim_end_matches('0'))
    }

    /// Cuts a host off from everybody, both ways.
    ///
    /// # Errors
    /// As [`Net::cut`].
    pub(in crate::bench) fn cut_off(&self, host: usize) -> Result<(), Error> {
        self.cut(End::Host(host), End::Others, None)?;
        self.cut(End::Others, End::Host(host), None)
    }

    /// Every packet passes again.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::bench) fn mend(&self) -> Result<(), Error> {
        match self {
            Self::Loopback => Ok(()),
            Self::Namespaces { .. } => sh(&format!("nft flush table bridge or{}", own())),
        }
    }
}

fn address(network: u8, number: u8) -> String {
    let own = own();
    format!("10.{}.{}.{number}", 128 + own / 100 % 100, own % 100 * 2 + u32::from(network))
}

fn sh(text: &str) -> Result<(), Error> {
    let done = Command::new("sh")
        .args(["-c", text])
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| system("no shell", cause))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(system("the network cannot be set up", std::io::Error::other(said)))
}
