//! Sockets for heartbeats.
//!
//! Ports of datagrams are drawn from the same range in which instances may listen: without sharing, an
//! instance could find its port taken by whoever asks others. A connected socket hears its peer alone,
//! so sharing takes nothing away.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// A socket at this address.
///
/// # Errors
/// The operating system's.
pub(super) fn bound(at: SocketAddr) -> io::Result<UdpSocket> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    Ok(UdpSocket::from(socket))
}
