//! Whoever has several addresses is connected to at the first that answers.
//!
//! Guarantees: an address that swallows packets costs [`STAGGER`], not a deadline; of several connections one is kept.
//! Not here: when to dial again.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The next address is tried too when those before it have not answered for so long.
pub const STAGGER: Duration = Duration::from_millis(50);

/// Connects to the first of these addresses (`host:port`, in order of preference) that answers within `deadline`.
///
/// # Errors
/// What was said of the last one that failed.
///
/// # Cancel safety
/// Nothing is left when the future is dropped.
pub async fn connect_to_any(
    addresses: &[String],
    deadline: Duration,
) -> io::Result<(TcpStream, String)> {
    let mut tries = JoinSet::new();
    let mut left = addresses.iter().cloned();
    let mut why = io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no address");
    let connecting = async {
        loop {
            let more = match left.next() {
                Some(address) => {
                    tries.spawn(async move { (TcpStream::connect(&address).await, address) });
                    true
                }
                None => false,
            };
            tokio::select! {
                biased;
                ended = tries.join_next() => match ended {
                    Some(Ok((Ok(stream), address))) => return Ok((stream, address)),
                    Some(Ok((Err(error), _))) => why = error,
                    Some(Err(_)) => {}
                    // Each was tried, and refused.
                    None => return Err(why),
                },
                () = sleep(STAGGER), if more => {}
            }
        }
    };
    timeout(deadline, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A listener whose queue is full: the kernel answers nobody who asks for more.
    async fn deaf() -> (std::net::TcpListener, Vec<TcpStream>, String) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap().into_std().unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let mut held = Vec::new();
        while let Ok(Ok(one)) = timeout(Duration::from_millis(50), TcpStream::connect(&at)).await {
            held.push(one);
        }
        (listener, held, at)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_does_not_keep_the_next_one_waiting() {
        let (_listener, _held, deaf) = deaf().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = good.local_addr().unwrap().to_string();
        let (_, found) = connect_to_any(&[deaf, at.clone()], DEADLINE).await.unwrap();
        assert_eq!(found, at);
    }

    #[tokio::test]
    async fn when_all_refuse_that_is_said_at_once() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let all = [gone.to_string(), gone.to_string()];
        let why = connect_to_any(&all, DEADLINE).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_to_any(&[], DEADLINE).await.is_err());
    }
}
