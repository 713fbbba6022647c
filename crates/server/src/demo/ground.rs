//! Where a demo's hosts are: addresses on loopback that nobody else uses.
//!
//! Guarantees: two demos at once have different addresses, because each holds a socket for its own as long as it lives;
//! every port that an instance will have was free when it was looked at. Not here: which instance gets which.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use crate::error::Error;

/// The agents' port.
pub(super) const AGENT_PORT: u16 = 6900;
/// The coordinator's and the standby's.
pub(super) const COORDINATOR_PORT: u16 = 5432;
/// The first of the primaries.
pub(super) const PRIMARY_PORTS: u16 = 6000;
/// The first of the mirrors.
pub(super) const MIRROR_PORTS: u16 = 7000;
/// The host number and port of the socket that a demo holds.
const CLAIM: (u8, u16) = (254, 6899);
/// The networks `127.0.N.0` that are tried.
const NETWORKS: std::ops::Range<u8> = 32..232;

/// A network of loopback addresses, one a host.
#[derive(Debug)]
pub(super) struct Ground {
    network: u8,
    /// Whoever holds this has the network.
    _claim: TcpListener,
}

impl Ground {
    /// Finds a free network for so many hosts, with so many primaries and mirrors on each.
    pub(super) fn claim(hosts: u8, slots: u16) -> Result<Self, Error> {
        let count = u32::from(NETWORKS.end - NETWORKS.start);
        // Demos that begin together begin at different places.
        let first = std::process::id() % count;
        let mut cause = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for at in 0..count {
            let offset = u8::try_from((first + at) % count).unwrap_or_default();
            let network = NETWORKS.start + offset;
            match claim(network, hosts, slots) {
                Ok(claim) => return Ok(Self { network, _claim: claim }),
                Err(error) => cause = error,
            }
        }
        Err(Error::System {
            what: "no loopback addresses 127.0.32.0 to 127.0.231.0 are free",
            cause,
            advice: "stop what uses them, or look for other demos",
        })
    }

    /// The address of a host, counted from 0.
    pub(super) fn address(&self, host: u8) -> String {
        address(self.network, host).to_string()
    }
}

const fn address(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, network, host.saturating_add(1))
}

fn claim(network: u8, hosts: u8, slots: u16) -> std::io::Result<TcpListener> {
    let (host, port) = CLAIM;
    let claim = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::new(127, 0, network, host), port))?;
    for host in 0..hosts {
        let instances = (0..slots).flat_map(|slot| [PRIMARY_PORTS + slot, MIRROR_PORTS + slot]);
        for port in [AGENT_PORT, COORDINATOR_PORT].into_iter().chain(instances) {
            let at = SocketAddrV4::new(address(network, host), port);
            drop((TcpListener::bind(at)?, UdpSocket::bind(at)?));
        }
    }
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_demos_at_once_have_different_addresses() {
        let (one, other) = (Ground::claim(2, 1).unwrap(), Ground::claim(2, 1).unwrap());
        assert_ne!(one.address(0), other.address(0));
    }

    #[test]
    fn a_network_with_a_taken_port_is_left_alone() {
        let free = Ground::claim(2, 1).unwrap();
        let network = free.network;
        drop(free);
        let _taken = UdpSocket::bind((address(network, 1), MIRROR_PORTS)).unwrap();
        assert_ne!(Ground::claim(2, 1).unwrap().network, network);
    }
}
