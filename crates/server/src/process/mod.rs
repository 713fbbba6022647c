//! The processes: a coordinator, an instance.
//!
//! # Layout
//! - [`coordinator`]: the catalog, and whoever asks it
//! - [`instance`]: one copy of one content, and its clients
//! - [`agent`]: a host's agent, and its child processes
//! - [`authority`]: how an instance asks the coordinator
//! - `beating`: how an instance answers heartbeats
//! - `pinging`: how a coordinator asks for them
//! - `disk_probe`: whether an instance's disk takes writes
//! - `datagram`: their sockets
//! - `places`: where every content is, for the router
//! - [`lending`]: an instance answers copies that are rebuilt from it
//! - [`rebuild`]: making an instance's copy anew from another one
//! - [`init`]: making a data directory
//! - `stop`: which signals end them
//!
//! Not here: what they decide (cluster, replica).

pub(crate) mod agent;
mod authority;
mod beating;
pub(crate) mod coordinator;
mod datagram;
mod disk_probe;
mod init;
pub(crate) mod instance;
mod lending;
mod pinging;
mod places;
pub(crate) mod rebuild;
pub(crate) mod stop;

pub(crate) use self::init::random;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use outrigger_replica::runtime::ReplicaError;

use crate::error::{Error, Verdict};
use crate::output;

/// What a process begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// Its data directory is made first (`--init`).
    New,
    /// With the one that is there.
    AsItIs,
}

/// Tells on standard output where a process listens, once it does.
fn announce(address: SocketAddr) {
    // Nobody has to read it.
    drop(output::say(format_args!("listening {address}")));
}

/// The addresses to listen on, with free ports in place of port 0; they can be listened on now.
fn free_ports(listen: &[String]) -> Result<Vec<String>, Error> {
    listen.iter().map(|address| free_port(address)).collect()
}

fn free_port(listen: &str) -> Result<String, Error> {
    let found = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    let failed = |cause: std::io::Error| Error::Peer {
        address: listen.to_owned(),
        what: "cannot be listened on",
        cause: cause.to_string(),
        advice: "stop what uses it, or give another address",
    };
    let address = found.map_err(failed)?;
    Ok(if listen.ends_with(":0") { address.to_string() } else { listen.to_owned() })
}

/// A replica's error in the words of a command.
fn replica(dir: &Path, error: ReplicaError) -> Error {
    let path = dir.to_owned();
    match error {
        ReplicaError::Exists { .. } => Error::Path {
            path,
            cause: "holds an instance already".to_owned(),
            advice: "leave --init away to start it",
        },
        ReplicaError::Control {
            cause: outrigger_replica::control::ControlError::Missing, ..
        } => Error::Path {
            path,
            cause: "holds no instance; a lost disk must not become an empty database".to_owned(),
            advice: "give --init to make a new one",
        },
        ReplicaError::Rebuilding { .. } => Error::Path {
            path,
            cause:
                "a rebuild of this copy has begun and is not done; a half-done copy does not start"
                    .to_owned(),
            advice: "finish it with `outrigger rebuild`",
        },
        error => Error::Replica { dir: path, error },
    }
}

/// A runtime on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|cause| {
        Error::System {
            what: "the network cannot be used",
            cause,
            advice: "check the limits of open files",
        }
    })
}

/// How a process ends that was told to: Ctrl-C is an interruption.
fn ended(stop: stop::Stop) -> Result<Verdict, Error> {
    match stop {
        stop::Stop::Terminated => Ok(Verdict::Good),
        stop::Stop::Interrupted => Err(Error::Interrupted { left: "closed in order".to_owned() }),
    }
}
