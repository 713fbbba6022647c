//! What is set on a TCP socket before frames go over it.
//!
//! Guarantees: a socket that does not take a setting is used as it is. Not here: how it was made.

use std::os::fd::AsFd;

use tokio::net::TcpStream;

use super::drive::{Side, new_shared, run_watched};
use super::outbox::Shared;
use super::{OnEvent, Settings};

/// Carries one TCP connection from `Connected` to `Closed`, as [`super::run`] does; small frames go into
/// the socket by the thread that sends them.
///
/// # Cancel safety
/// When the future is dropped, `Closed` is delivered from the drop.
pub async fn run_tcp(
    stream: TcpStream,
    remote: String,
    side: Side,
    settings: &Settings,
    on_event: &OnEvent,
) {
    let shared = new_shared(settings);
    prepare(&stream, &shared);
    run_watched(stream, remote, side, settings, on_event, shared, &()).await;
}

/// Frames leave at once, and past the connection's task where they may.
pub(super) fn prepare(stream: &TcpStream, shared: &Shared) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    // A descriptor of the same socket: it does not block either.
    match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => shared.send_through(socket.into()),
        Err(error) => tracing::debug!(%error, "all frames go by the connection's task"),
    }
}
