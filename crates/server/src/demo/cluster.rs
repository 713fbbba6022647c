//! The demo's cluster: a coordinator, a primary and a mirror as processes on loopback.
//!
//! Not here: what they are put through.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outrigger_cluster::operator::{Answer, ContentState, Loss, Request as Asked};
use outrigger_net::message::Role;
use outrigger_wal::{ContentId, InstanceId};

use super::child::Process;
use super::memory::Sampler;
use crate::error::Error;
use crate::kv::line::{Broken, Line, Whom};
use crate::kv::operator::{ask, look_up};
use crate::kv::protocol::{Answer as Told, Request, Status};

const CONTENT: ContentId = ContentId(0);
const NAMES: [&str; 2] = ["first", "second"];
/// Pause between two questions.
const LOOK: Duration = Duration::from_millis(10);
/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);

/// How the old primary came back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rejoin {
    pub(super) cut_bytes: u64,
    /// The fork.
    pub(super) from: u64,
    /// The LSN up to which it had been sent when it was in sync.
    pub(super) to: u64,
    pub(super) wire_bytes: u64,
}

/// The processes.
#[derive(Debug)]
pub(super) struct Cluster {
    home: PathBuf,
    address: String,
    ports: [u16; 2],
    coordinator: Process,
    copies: [Process; 2],
    sampler: Sampler,
}

impl Cluster {
    /// Makes and starts them; the first copy is the primary.
    pub(super) async fn start(home: &Path) -> Result<Self, Error> {
        let [coordinator, first, second] = free_ports()?;
        let address = format!("127.0.0.1:{coordinator}");
        let text = format!(
            "data_dir = {:?}\nlisten = {address:?}\nlog = \"info\"\n",
            home.join("coordinator").display().to_string()
        );
        write(&home.join("coordinator.toml"), &text)?;
        let sampler = Sampler::start();
        let config = home.join("coordinator.toml");
        let coordinator = start(home, "coordinator", "coordinator", &config, &["--init"]).await?;
        sampler.watch("coordinator", coordinator.id());
        for (name, port) in NAMES.iter().zip([first, second]) {
            let text = format!(
                "data_dir = {:?}\nlisten = \"127.0.0.1:{port}\"\ncoordinator = {address:?}\ncontent = 0\n\
                 segment_bytes = {}\nlog = \"info\"\n",
                home.join(name).display().to_string(),
                8 << 20
            );
            write(&home.join(format!("{name}.toml")), &text)?;
        }
        let [one, two] = NAMES;
        let primary = start(home, "instance", one, &home.join("first.toml"), &["--init"]).await?;
        sampler.watch("primary", primary.id());
        let mirror = start(home, "instance", two, &home.join("second.toml"), &["--init"]).await?;
        sampler.watch("mirror", mirror.id());
        let (home, ports) = (home.to_owned(), [first, second]);
        Ok(Self { home, address, ports, coordinator, copies: [primary, mirror], sampler })
    }

    /// The coordinator's address.
    pub(super) fn coordinator(&self) -> &str {
        &self.address
    }

    /// The folder of a copy.
    pub(super) fn data_dir(&self, copy: usize) -> PathBuf {
        self.home.join(NAMES.get(copy).copied().unwrap_or("first"))
    }

    /// The copy that was the primary at first.
    pub(super) fn primary(&mut self) -> &mut Process {
        let [primary, _] = &mut self.copies;
        primary
    }

    /// The copy that was the mirror at first.
    pub(super) fn mirror(&self) -> &Process {
        let [_, mirror] = &self.copies;
        mirror
    }

    /// Waits until both copies are in sync.
    pub(super) async fn wait_in_sync(&self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let state = self.state().await;
            let synced = state.as_ref().is_ok_and(|content| {
                content.copies.len() == 2 && content.copies.iter().all(|copy| copy.in_sync)
            });
            if synced {
                return Ok(());
            }
            late(began, patience, "the copies are not in sync")?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for the mirror's promotion until the coordinator agrees that the primary is gone.
    pub(super) async fn promote(&self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let promote = Asked::Promote { content: CONTENT, loss: Loss::None };
            match ask(&self.address, &promote, ASK).await? {
                Answer::Promoted { .. } => return Ok(()),
                Answer::Denied { text } => late(began, patience, &text)?,
                _ => late(began, patience, "the coordinator answers something else")?,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many bytes of log that are not committed are durable on the primary.
    pub(super) async fn wait_tail(&self, bytes: u64, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let [primary, _] = self.ports;
        loop {
            let status = self.status(primary).await?;
            if status.durable.saturating_sub(status.commit) >= bytes {
                return Ok(());
            }
            late(began, patience, "the primary's log does not go on without its mirror")?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts the old primary again, with its old configuration.
    pub(super) async fn restart_old_primary(&mut self) -> Result<(), Error> {
        let config = self.home.join("first.toml");
        let again = start(&self.home, "instance", "first", &config, &[]).await?;
        self.sampler.watch("primary", again.id());
        *self.primary() = again;
        Ok(())
    }

    /// Waits until the old primary is in sync again: how it came back.
    pub(super) async fn wait_rejoined(&self, patience: Duration) -> Result<Rejoin, Error> {
        self.wait_in_sync(patience).await?;
        let began = Instant::now();
        let [old, new] = self.ports;
        loop {
            let cut = self.status(old).await?.cut;
            let joined = self.status(new).await?.joined;
            if let Some(joined) = joined {
                return Ok(Rejoin {
                    cut_bytes: cut.map_or(0, |cut| cut.bytes),
                    from: joined.from,
                    to: joined.to,
                    wire_bytes: joined.wire_bytes,
                });
            }
            late(began, patience, "the new primary does not tell how the old one joined")?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until both stores hold everything that is committed: what is stopped tells no more.
    async fn wait_applied(&self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let [old, new] = self.ports;
        loop {
            let (old, new) = (self.status(old).await?, self.status(new).await?);
            let all = old.commit.max(new.commit);
            if old.applied == all && new.applied == all {
                return Ok(());
            }
            late(began, patience, "a store does not come to the last commit")?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops all in order, once both copies hold the same; answers the peak memory of each.
    pub(super) async fn stop(
        &mut self,
        patience: Duration,
    ) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.wait_applied(patience).await?;
        for copy in &mut self.copies {
            copy.stop().await?;
        }
        self.coordinator.stop().await?;
        Ok(self.sampler.peaks())
    }

    async fn state(&self) -> Result<ContentState, Error> {
        match ask(&self.address, &Asked::State, ASK).await? {
            Answer::State(state) => state
                .contents
                .into_iter()
                .find(|content| content.content == CONTENT)
                .ok_or_else(|| wrong("the coordinator does not know the content")),
            _ => Err(wrong("the coordinator answers something else")),
        }
    }

    async fn status(&self, port: u16) -> Result<Status, Error> {
        let unheard = |cause: String| wrong(&format!("a copy cannot be asked: {cause}"));
        let asking = async {
            let place = look_up(&self.address, CONTENT, ASK).await?;
            let whom = Whom {
                address: format!("127.0.0.1:{port}"),
                cluster: place.cluster,
                content: CONTENT,
                instance: InstanceId::default(),
                role: Role::Client,
            };
            let body = Request::Status { content: None }
                .encode()
                .map_err(|error| Broken(error.to_string()))?;
            Line::open(&whom).await?.ask(body)?.answer().await
        };
        let body = tokio::time::timeout(ASK, asking)
            .await
            .map_err(|_| unheard("it does not answer".to_owned()))?
            .map_err(|Broken(cause)| unheard(cause))?;
        match Told::decode(body).map_err(|error| unheard(error.to_string()))? {
            Told::Status(status) => Ok(status),
            _ => Err(unheard("it answers something else".to_owned())),
        }
    }
}

/// Starts a process, and waits until it listens.
async fn start(
    home: &Path,
    verb: &'static str,
    name: &'static str,
    config: &Path,
    more: &[&str],
) -> Result<Process, Error> {
    let config = config.display().to_string();
    let arguments = [&[verb, "--config", &config], more].concat();
    let mut process = Process::start(name, &arguments, &home.join(format!("{name}.log")))?;
    process.ready().await?;
    Ok(process)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|cause| Error::file("cannot be written", path, cause))
}

/// Ports that nobody listens on now.
fn free_ports() -> Result<[u16; 3], Error> {
    let failed = |cause| Error::System {
        what: "no free port can be had on loopback",
        cause,
        advice: "check the limits of the system",
    };
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(failed);
    // All held at once, so that they differ.
    let held = [bind()?, bind()?, bind()?];
    let port = |socket: &TcpListener| socket.local_addr().map(|at| at.port()).map_err(failed);
    let [a, b, c] = &held;
    Ok([port(a)?, port(b)?, port(c)?])
}

fn late(began: Instant, patience: Duration, what: &str) -> Result<(), Error> {
    if began.elapsed() > patience {
        return Err(wrong(&format!("{what}, after {} s", patience.as_secs())));
    }
    Ok(())
}

fn wrong(cause: &str) -> Error {
    Error::System {
        what: "the demo's cluster does not come on",
        cause: std::io::Error::other(cause.to_owned()),
        advice: "run it again with --keep and look into the logs",
    }
}
