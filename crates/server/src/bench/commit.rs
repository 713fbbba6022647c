//! `bench commit`: callers of a primary, each waiting until its record is committed.
//!
//! The primary lives in this process, with its store, as an embedder's does; its mirror is another process
//! with files of its own, the coordinator a third.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outrigger_replica::runtime::Replica;
use outrigger_replica::store::kv::{ClientId, Op, Write};

use super::append::together;
use super::figures::Measured;
use super::report::{Ours, Report};
use super::slices::Raw;
use super::{Interrupts, Options, Scratch};
use crate::config::{self, InstanceConfig};
use crate::demo::child::Process;
use crate::demo::memory::Sampler;
use crate::error::{Error, Verdict};
use crate::process;

/// What a record of a row has beside its value: head and key.
const ROW_BYTES: usize = 28 + 12;
/// How long the copies may take to be in sync.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures, and prints.
///
/// # Errors
/// The disk's; a process does not start.
pub(crate) fn commit(options: &Options) -> Result<Verdict, Error> {
    let interrupts = Interrupts::new()?;
    let scratch = Scratch::new(&options.dir)?;
    let home = scratch.path();
    let mut raw = Raw::new(home, options.record_bytes)?;
    write(home, "coordinator", "listen = \"127.0.0.1:0\"\nlog = \"warn\"\n")?;
    let runtime = process::runtime()?;
    let (mut coordinator, address) = runtime.block_on(child(home, "coordinator", "coordinator"))?;
    let config = instance(home, "primary", &address)?;
    let primary = process::instance::Hosted::start(&runtime, &config)?;
    instance(home, "mirror", &address)?;
    let (mut mirror, _) = runtime.block_on(child(home, "instance", "mirror"))?;
    let replica = primary.replica();
    let both = |status: &outrigger_replica::runtime::Status| {
        status.serving.is_some()
            && status.config.as_ref().is_some_and(|config| config.in_sync_set().count() == 2)
    };
    // The connection to the coordinator lives on the runtime of this thread.
    let synced = runtime.block_on(async {
        let until = Instant::now() + PATIENCE;
        while !both(&replica.status()) && Instant::now() < until {
            interrupts.check()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Error>(both(&replica.status()))
    })?;
    if !synced {
        return Err(Error::Partial("the mirror was not in sync within 20 s".to_owned()));
    }
    let sampler = Sampler::start();
    sampler.watch("primary", std::process::id());
    sampler.watch("mirror", mirror.id());
    let before = replica.status().writes;
    let measured = measure(&runtime, replica, (options, &interrupts), &mut raw)?;
    let syncs = replica.status().writes - before;
    let peaks = sampler.peaks();
    drop(sampler);
    if !both(&replica.status()) {
        return Err(Error::Partial("the mirror left while it was measured".to_owned()));
    }
    primary.close()?;
    runtime.block_on(async {
        mirror.stop().await?;
        coordinator.stop().await
    })?;
    let ours = Ours { bench: "commit", measured, syncs, peaks, replicated: true };
    Report::new(options, &ours, &raw.measured())?.say(options.json)?;
    Ok(Verdict::Good)
}

/// Ours and the raw figures in turns, on a thread beside the runtime.
fn measure(
    runtime: &tokio::runtime::Runtime,
    replica: &Replica,
    options: (&Options, &Interrupts),
    raw: &mut Raw,
) -> Result<Measured, Error> {
    std::thread::scope(|scope| {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let turns = scope.spawn(move || {
            let result = turns(replica, options, raw);
            // The runtime waits for the end of the channel.
            drop(tell);
            result
        });
        drop(runtime.block_on(told));
        let panicked = |_| Error::Partial("the benchmark panicked".to_owned());
        turns.join().map_err(panicked)?
    })
}

fn turns(
    replica: &Replica,
    (options, interrupts): (&Options, &Interrupts),
    raw: &mut Raw,
) -> Result<Measured, Error> {
    let mut measured = Measured::new()?;
    let number = AtomicU64::new(0);
    for _ in 0..options.rounds() {
        interrupts.check()?;
        raw.turn(options.slice())?;
        let work = || one(replica, options, &number);
        measured.add(&together(options.writers, work)?)?;
    }
    Ok(measured)
}

/// One caller, for a turn.
fn one(replica: &Replica, options: &Options, number: &AtomicU64) -> Result<Vec<Duration>, Error> {
    let value = vec![b'v'; options.record_bytes.saturating_sub(ROW_BYTES)];
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < options.slice() {
        let key = format!("{:012}", number.fetch_add(1, Ordering::Relaxed) % 100_000);
        let op = Op::Put { key: key.into(), value: value.clone().into() };
        let record = Write { client: ClientId::NONE, sequence: 0, op }.encode();
        let record = record.map_err(|error| Error::Partial(error.to_string()))?;
        let at = Instant::now();
        let pending = match replica.append(&record) {
            Ok(pending) => pending,
            Err(error) => return Err(Error::Partial(format!("the primary: {error}"))),
        };
        if !pending.blocking().is_committed() {
            return Err(Error::Partial("a commit ended in doubt".to_owned()));
        }
        latencies.push(at.elapsed());
    }
    Ok(latencies)
}

fn instance(home: &Path, name: &str, coordinator: &str) -> Result<InstanceConfig, Error> {
    let text =
        format!("listen = \"127.0.0.1:0\"\ncoordinator = \"{coordinator}\"\nlog = \"warn\"\n");
    write(home, name, &text)?;
    config::read(&home.join(format!("{name}.toml")))
}

fn write(home: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = home.join(format!("{name}.toml"));
    let data_dir = toml::Value::String(home.join(name).display().to_string());
    std::fs::write(&path, format!("data_dir = {data_dir}\n{text}"))
        .map_err(|cause| Error::file("cannot be written", &path, cause))
}

async fn child(home: &Path, verb: &str, name: &'static str) -> Result<(Process, String), Error> {
    let config = home.join(format!("{name}.toml")).display().to_string();
    let log = home.join(format!("{name}.log"));
    let mut process = Process::start(name, &[verb, "--config", &config, "--init"], &log)?;
    let address = process.ready().await?;
    Ok((process, address))
}
