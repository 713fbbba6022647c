//! Making an instance's copy anew from another one, while the instance is down.
//!
//! Guarantees: the data directory is locked throughout; interrupted at any moment and begun again it goes on; it ends
//! well only when the copy can be started. A source that refuses for now, or cannot be reached, is waited
//! for, bounded. Not here: what is asked and kept ([`outrigger_replica::rebuild`]).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_net::message::Role;
use outrigger_replica::control::Identity;
use outrigger_replica::rebuild::{
    DataDir, Ground, Mode, Next, Plan, Progress, RebuildError, Step, Target,
};
use outrigger_replica::store::StateStore;
use outrigger_replica::store::lsm::{LsmOptions, LsmStore};
use outrigger_wal::disk::lock::DirLock;
use outrigger_wal::{InstanceId, Micros};
use serde::Serialize;

use super::init;
use super::stop::Signals;
use crate::config::InstanceConfig;
use crate::error::{Error, Verdict};
use crate::kv::line::{Line, Whom};
use crate::output::{say, say_json};

/// Between two lines about progress.
const PROGRESS_TIME: Duration = Duration::from_millis(500);
/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// How a copy is rebuilt.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where the source, the acting primary of the content, listens, in order of preference.
    pub(crate) from: Vec<String>,
    /// `None`: differential where there is a store, else full.
    pub(crate) mode: Option<Mode>,
    /// At most so many bytes a second.
    pub(crate) bytes_per_second: Option<u64>,
    /// Whose copy it is, for a directory that does not say so.
    pub(crate) identity: Option<Identity>,
    /// Whether what was there stays in `set-aside/`.
    pub(crate) keep_old: bool,
    /// How long a source may refuse or be away.
    pub(crate) patience: Duration,
    /// How progress is told.
    pub(crate) tell: Tell,
}

/// How progress is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tell {
    /// Not at all.
    Nothing,
    /// In words, on standard output.
    Text,
    /// As JSON, one object a line.
    Json,
}

#[derive(Serialize)]
struct Said<'a> {
    step: &'static str,
    mode: &'static str,
    done_bytes: u64,
    total_bytes: u64,
    moved_bytes: u64,
    at_lsn: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'a str>,
}

/// Rebuilds the copy in the data directory of `config`, and returns when it can be started.
///
/// # Errors
/// Why it could not be done; what was fetched stays, and the next try goes on from there.
pub(crate) fn run(config: &InstanceConfig, options: &Options) -> Result<Verdict, Error> {
    let runtime = super::runtime()?;
    let _within = runtime.enter();
    let mut signals = Signals::new()?;
    let dir = &config.data_dir;
    init::make(dir)?;
    let _lock = DirLock::acquire(dir)?;
    runtime.block_on(async {
        tokio::select! {
            done = rebuild(config, options) => done.map(|()| Verdict::Good),
            _ = signals.next() => Err(Error::Interrupted {
                left: "what was fetched stays; give the same command to go on".to_owned(),
            }),
        }
    })
}

async fn rebuild(config: &InstanceConfig, options: &Options) -> Result<(), Error> {
    let dir = &config.data_dir;
    let failed = |error: RebuildError| wrong(dir, &error);
    let mut ground = ground(config).map_err(failed)?;
    let identity = identity(&mut ground, config, options)?;
    let mut plan = Plan::new(identity);
    plan.mode = options.mode;
    plan.bytes_per_second = options.bytes_per_second;
    plan.keep_old = options.keep_old;
    let mut target = Target::open(&mut ground, plan).map_err(failed)?;
    let mut source = Asking { options, identity, line: None, away: None };
    let mut told = Told::new(options.tell);
    let born = Instant::now();
    let now = || Micros(u64::try_from(born.elapsed().as_micros()).unwrap_or(u64::MAX));
    loop {
        told.tell(&target)?;
        match target.next(now(), &mut ground).map_err(failed)? {
            Next::Ready => return told.last(&target),
            Next::Worked => tokio::task::yield_now().await,
            Next::Wait(until) => {
                source.check(target.waits_for())?;
                tokio::time::sleep(Duration::from_micros(until.since(now()))).await;
            }
            Next::Ask(body) => match source.ask(body).await {
                Some(answer) => {
                    target.take(now(), &mut ground, answer).map_err(failed)?;
                    source.heard(target.waits_for());
                }
                None => target.lost(now()),
            },
        }
    }
}

fn ground(config: &InstanceConfig) -> Result<DataDir, RebuildError> {
    let options = LsmOptions {
        memtable_bytes: config.memtable_bytes,
        cache_bytes: config.cache_bytes,
        ..LsmOptions::default()
    };
    let open = move |path: &Path| {
        LsmStore::open(path, options).map(|store| Arc::new(store) as Arc<dyn StateStore>)
    };
    Ok(DataDir::new(&config.data_dir, open)?)
}

/// Whose copy it is: as the directory says, or as was given.
fn identity(
    ground: &mut dyn Ground,
    config: &InstanceConfig,
    options: &Options,
) -> Result<Identity, Error> {
    let dir = &config.data_dir;
    let found = Target::whose(ground).map_err(|error| wrong(dir, &error))?;
    // What is given and does not fit is refused when the target is opened.
    options.identity.or(found).ok_or_else(|| Error::Path {
        path: dir.clone(),
        cause: "does not say whose copy it is".to_owned(),
        advice: "give --instance, --cluster and --log (`outrigger state --json` has them)",
    })
}

/// The connection to the source.
struct Asking<'a> {
    options: &'a Options,
    identity: Identity,
    line: Option<Line>,
    /// Since when nothing comes of it, and why.
    away: Option<(Instant, String)>,
}

impl Asking<'_> {
    async fn ask(&mut self, body: bytes::Bytes) -> Option<bytes::Bytes> {
        let answer = async {
            let line = match self.line.take() {
                Some(line) => line,
                None => {
                    let whom = Whom {
                        addresses: self.options.from.clone(),
                        cluster: self.identity.cluster,
                        content: self.identity.content,
                        instance: InstanceId::default(),
                        role: Role::Operator,
                    };
                    Line::open(&whom).await.map_err(|broken| broken.0)?
                }
            };
            let asked = line.ask(body).map_err(|broken| broken.0)?;
            let answer = tokio::time::timeout(ANSWER_TIME, asked.answer()).await;
            let answer = answer.map_err(|_| "no answer in time".to_owned())?;
            Ok((line, answer.map_err(|broken| broken.0)?))
        };
        let answer: Result<_, String> = answer.await;
        match answer {
            Ok((line, answer)) => {
                self.line = Some(line);
                Some(answer)
            }
            Err(why) => {
                tracing::warn!(%why, "the source cannot be asked");
                self.away.get_or_insert_with(|| (Instant::now(), why));
                None
            }
        }
    }

    fn heard(&mut self, waits_for: Option<&str>) {
        match waits_for {
            None => self.away = None,
            Some(text) => {
                self.away.get_or_insert_with(|| (Instant::now(), text.to_owned()));
            }
        }
    }

    /// Gives up on a source that is of no use for too long.
    fn check(&self, waits_for: Option<&str>) -> Result<(), Error> {
        let Some((since, why)) = &self.away else { return Ok(()) };
        if since.elapsed() < self.options.patience {
            return Ok(());
        }
        Err(Error::Peer {
            address: self.options.from.join(", "),
            what: "the source does not lend",
            cause: waits_for.unwrap_or(why).to_owned(),
            advice: "name the acting primary; what was fetched stays, give the same command to go on",
        })
    }
}

/// What was told of progress.
struct Told {
    how: Tell,
    last: Option<(Instant, Step)>,
}

impl Told {
    const fn new(how: Tell) -> Self {
        Self { how, last: None }
    }

    fn tell(&mut self, target: &Target) -> Result<(), Error> {
        let step = target.progress().step;
        let due = self.last.is_none_or(|(at, told)| at.elapsed() >= PROGRESS_TIME || told != step);
        if due && step != Step::Ready {
            self.last = Some((Instant::now(), step));
            return self.line(target);
        }
        Ok(())
    }

    fn last(&self, target: &Target) -> Result<(), Error> {
        self.line(target)
    }

    fn line(&self, target: &Target) -> Result<(), Error> {
        let Progress { mode, step, done_bytes, total_bytes, moved_bytes, at, .. } =
            target.progress();
        let waits_for = target.waits_for();
        match self.how {
            Tell::Nothing => Ok(()),
            Tell::Json => say_json(&Said {
                step: step.as_str(),
                mode: mode.as_str(),
                done_bytes,
                total_bytes,
                moved_bytes,
                at_lsn: at.0,
                waits_for,
            }),
            Tell::Text => {
                let waits = waits_for.map_or_else(String::new, |text| format!("; waits: {text}"));
                say(format_args!(
                    "{} ({}): {done_bytes} of {total_bytes} bytes, {moved_bytes} moved{waits}",
                    step.as_str(),
                    mode.as_str(),
                ))
            }
        }
    }
}

fn wrong(dir: &Path, error: &RebuildError) -> Error {
    Error::Path {
        path: dir.to_owned(),
        cause: error.to_string(),
        advice: "the old copy is where it was, or in set-aside/; begin again to go on",
    }
}
