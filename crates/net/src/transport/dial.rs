//! Keeps one connection up by dialling again whenever it ends.
//!
//! Guarantees: one connection at a time; the wait between attempts grows until a handshake is done,
//! so that a peer that refuses is not hammered. Not here: the greeting itself (the machine sends it
//! at `Connected`).

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::connection::timed_out;
use super::drive::{Side, new_shared, run_watched};
use super::tcp::prepare;
use super::{OnEvent, PeerEvent, Settings, backoff_micros};
use crate::error::Error;

/// Dials until it is dropped; the connection ends with it.
#[derive(Debug)]
pub struct Dialer {
    task: AbortHandle,
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Dials `addresses` (`host:port`) in turn, and again when the connection ends. To be called within
/// a tokio runtime.
#[must_use]
pub fn dial(addresses: Vec<String>, settings: Settings, on_event: OnEvent) -> Dialer {
    Dialer { task: tokio::spawn(keep_up(addresses, settings, on_event)).abort_handle() }
}

async fn keep_up(addresses: Vec<String>, settings: Settings, on_event: OnEvent) {
    let mut attempt = 0;
    for address in addresses.iter().cycle() {
        match connect(address, &settings).await {
            Ok(stream) => {
                let shared = new_shared(&settings);
                prepare(&stream, &shared);
                let remote = address.clone();
                let ended =
                    run_watched(stream, remote, Side::Dialled, &settings, &on_event, shared, &())
                        .await;
                attempt = if ended.opened { 0 } else { attempt + 1 };
            }
            Err(error) => {
                on_event(PeerEvent::Unreachable { address: address.clone(), error });
                attempt += 1;
            }
        }
        // Without randomness the wait is the shortest one.
        let random = getrandom::u64().unwrap_or(0);
        let micros = backoff_micros(attempt, random);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

async fn connect(address: &str, settings: &Settings) -> Result<TcpStream, Error> {
    let failed = |source| Error::Io { doing: "connecting", source };
    let deadline = Duration::from_millis(settings.connect_millis);
    timeout(deadline, TcpStream::connect(address))
        .await
        .map_err(|_| timed_out("connecting", deadline))?
        .map_err(failed)
}
